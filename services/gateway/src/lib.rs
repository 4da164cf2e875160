//! The token gateway: something AWS signed in, a scoped token out.
//!
//! It speaks gRPC (`countersign.token.v1`) on one port; on the other, HTTP, the same as OAuth, its public keys, and AWS's STS as far as
//! GetCallerIdentity. It holds no policy: the decision service says who may assume what and which tokens stand, the policy store what
//! was spent, and its Watch here carries signing keys alone. (Access keys' owners come with a memory of derived keys; until then an
//! access key's standing is asked for at each use.)
//!
//! It is run by `countersign up`, and by `main.rs` as a process of its own.

pub mod answered;
pub mod audit;
pub mod authn;
pub mod aws;
pub mod beside;
pub mod challenge;
mod clock;
pub mod config;
pub mod convert;
pub mod demand;
pub mod endpoints;
pub mod error;
pub mod exchange;
pub mod grpc;
pub mod http;
pub mod keys;
pub mod life;
pub mod limits;
mod narrow;
pub mod oauth;
pub mod proof;
pub mod replay;
mod rotate;
pub mod session;
pub mod settings;
pub mod upstream;
pub mod uses;

use std::{sync::Arc, time::Instant};

use countersign_proto::{
    FILE_DESCRIPTOR_SET,
    decision::v1::decision_service_client::DecisionServiceClient,
    policy::v1::{RecordKind, policy_store_service_client::PolicyStoreServiceClient},
    token::v1::token_exchange_service_server::TokenExchangeServiceServer,
};
use countersign_replica::Replica;
use countersign_serve::{
    ServiceCredential, Shutdown, authn::Authenticated, grpc::GrpcServer, listener::Listener,
    tls::Part,
};
use countersign_token::dpop::SeenProofs;
use tokio::{sync::Semaphore, task::JoinSet};
use tonic::{service::interceptor::InterceptedService, transport::Channel};

use audit::Audit;
use authn::Door;
use aws::sigv4_auth::SigV4Auth;
use challenge::Challenges;
use exchange::Exchange;
use grpc::Grpc;
use keys::Keys;
use limits::Limits;
use proof::{jwt::JwtVerifier, sts::StsVerifier};
use replay::Claims;
use upstream::Upstream;
use uses::Uses;

pub use config::{Config, ConfigError};
pub use countersign_proto::token::v1::token_exchange_service_server::SERVICE_NAME;
pub use demand::rotate_on_signal;
pub use endpoints::{StsEndpoint, StsEndpointError};
pub use error::Error;
pub use keys::Rotation;
pub use limits::{Rate, RateError, RateLimits, Rates};
pub use proof::{
    instance::{Instances, InstancesError},
    jwt::{IssuersError, JwtIssuers},
};

/// The policy store's client, as the gateway uses it.
pub type StoreClient = PolicyStoreServiceClient<InterceptedService<Channel, ServiceCredential>>;

/// A request is a proof of at most 16 KiB, and some names.
const MAX_REQUEST_BYTES: usize = 64 * 1024;
/// Proofs in hand at once; each is forgotten some 70 seconds after its date.
const MAX_CLAIMS: usize = 100_000;

/// The gateway's sockets, bound before anything else starts.
pub struct Listeners {
    /// For gRPC.
    pub grpc: Listener,
    /// For HTTP.
    pub http: Listener,
}

/// Runs a gateway until `shutdown`, then drains it. It says SERVING once its signing key is known to those who verify.
///
/// # Errors
/// When the configuration contradicts itself, the store refuses the signing key, or a socket fails.
pub async fn serve(config: Config, listeners: Listeners, shutdown: Shutdown) -> Result<(), Error> {
    let endpoints = config.allow_list()?;
    let audit = match &config.audit_dir {
        Some(folder) => Audit::open(folder)
            .map_err(|error| Error::Audit { folder: folder.display().to_string(), error })?,
        None => Audit::default(),
    };
    let upstream = Upstream::unconnected(config.credential.tls())?;
    let store_channel = config.credential.channel(Part::PolicyStore, &config.policy_store)?;
    let store: StoreClient = PolicyStoreServiceClient::with_interceptor(
        store_channel.clone(),
        config.credential.clone(),
    );
    let decision = DecisionServiceClient::with_interceptor(
        config.credential.channel(Part::Decision, &config.decision)?,
        config.credential.clone(),
    );

    let (replica, follower) = Replica::new(&config.name, &[RecordKind::SigningKey]);
    let keys = Arc::new(Keys::new(replica, config.rotation.clone()));
    let uses = Arc::new(Uses::default());
    let exchange = Arc::new(Exchange {
        issuer: config.issuer.clone(),
        partition: config.partition.clone(),
        operator_account: config.operator_account.clone(),
        sts: StsVerifier::new(config.issuer.clone(), endpoints, upstream),
        jwts: JwtVerifier::new(
            config.jwt_issuers.clone(),
            &config.issuer,
            Upstream::unconnected(config.credential.tls())?,
        ),
        instances: config.instances.clone(),
        claims: Claims::new(MAX_CLAIMS),
        audit,
        counts: exchange::Counts::new(&config.metrics),
        limits: Limits::new(config.limits.exchanges, Instant::now()),
        room: Arc::new(Semaphore::new(config.limits.in_flight.max(1))),
        decision,
        store: store.clone(),
        keys: keys.clone(),
        // Apart from the callers' of the door: who may call much must not keep out who exchanges.
        seen_proofs: Arc::new(SeenProofs::new(MAX_CLAIMS)),
        uses: uses.clone(),
    });

    let grpc = GrpcServer::new(FILE_DESCRIPTOR_SET, &[SERVICE_NAME]).await?;
    let mut grpc = grpc.counted_in(&config.metrics);
    let health = grpc.health();
    let seen_proofs = Arc::new(SeenProofs::new(MAX_CLAIMS));
    let door = Door::new(&config.issuer, config.identities.clone(), keys.clone(), seen_proofs);
    let service = TokenExchangeServiceServer::new(Grpc {
        challenges: Challenges::new(exchange.clone()),
        exchange: exchange.clone(),
        keys: keys.clone(),
    })
    .max_decoding_message_size(MAX_REQUEST_BYTES);
    grpc.routes().add_service(Authenticated::new(service, door.clone()));

    let sigv4_auth = Arc::new(SigV4Auth::new(config.region.clone(), store.clone(), uses.clone()));
    let face = oauth::Face { exchange, keys: keys.clone(), door };
    let http = oauth::router(face).merge(aws::router::router(sigv4_auth));
    let http_limits = Arc::new(Limits::new(config.limits.http, Instant::now()));
    let http = http::limited(http, http_limits);

    // All end with this function: a set aborts its tasks when it is dropped.
    let mut following = JoinSet::new();
    following.spawn(follower.run(store_channel, config.credential.clone()));
    let telling = uses.clone();
    let told = store.clone();
    following.spawn(async move { telling.run(told).await });
    let last = store.clone();
    let mut signing = JoinSet::new();
    signing.spawn(keys.run(store, health, SERVICE_NAME));
    let no_key = async {
        match signing.join_next().await {
            Some(Ok(no_key)) => Error::from(no_key),
            Some(Err(_)) | None => Error::KeyTask,
        }
    };

    let serving = async {
        let grpc =
            async { grpc.serve(listeners.grpc, shutdown.clone()).await.map_err(Error::from) };
        let http = async {
            http::serve(http, listeners.http, shutdown.clone()).await.map_err(Error::Http)
        };
        tokio::try_join!(grpc, http)
    };
    let served = tokio::select! {
        served = serving => served.map(|_| ()),
        error = no_key => Err(error),
    };
    uses.tell_last(last).await;
    served
}
