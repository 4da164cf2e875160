//! The decision service: may this principal do that, and why.
//!
//! It follows the policy store, holds all of it in memory at one revision, and answers each question from one revision. It keeps
//! nothing, issues nothing, and asks nobody while it decides.
//!
//! A call reads downward: `authn` (who calls) → `grpc` → `convert` → `check` or `assume_role` → `convert` → `grpc`; `error` makes
//! the Status.
//!
//! It is run by `countersign up`. A process of its own needs mutual TLS towards the store, which is not there yet: hence no
//! `main.rs`.

use countersign_proto::{
    FILE_DESCRIPTOR_SET, decision::v1::decision_service_server::DecisionServiceServer,
    envoy::v3::authorization_server::AuthorizationServer,
};
use countersign_replica::Replica;
use countersign_serve::{
    Shutdown,
    authn::Authenticated,
    grpc::{self as kit, GrpcServer, ServeError},
};
use tokio::net::TcpListener;

mod assume_role;
mod authn;
mod check;
mod config;
mod convert;
mod decider;
mod effort;
mod envoy;
mod error;
mod grpc;
mod sentence;
mod session;
mod signatures;
mod status;
mod stream;

#[cfg(test)]
mod samples;

pub use config::{Config, DEFAULT_PATIENCE};
pub use envoy::{Mapping, MappingError};

/// The name that health knows the service by.
pub const SERVICE_NAME: &str = "countersign.decision.v1.DecisionService";

/// The name that Envoy's protocol has on the same port.
pub const ENVOY_SERVICE_NAME: &str = "envoy.service.auth.v3.Authorization";

/// Why the service ended before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The policy store's origin is no URI.
    #[error("the policy store's origin `{origin}` is no URI: {source}")]
    Origin {
        /// What was given.
        origin: String,
        /// What is wrong with it.
        source: tonic::transport::Error,
    },
    /// The server failed.
    #[error(transparent)]
    Serve(#[from] ServeError),
}

/// Serves until `shutdown`. NOT_SERVING until the first snapshot has arrived.
///
/// # Errors
/// When the store's origin is no URI, or the transport fails. A store that is away is no error: the service waits for it, and once it
/// holds a snapshot goes on without it.
pub async fn serve(config: Config, listener: TcpListener, shutdown: Shutdown) -> Result<(), Error> {
    let channel = kit::channel(&config.policy_store)
        .map_err(|source| Error::Origin { origin: config.policy_store.clone(), source })?;
    // No kinds: every kind.
    let (replica, follower) = Replica::new("decision", &[]);
    let mut server =
        GrpcServer::new(FILE_DESCRIPTOR_SET, &[SERVICE_NAME, ENVOY_SERVICE_NAME]).await?;

    let decider = decider::Decider::new(replica.clone(), &config);
    let door = authn::Door::new(decider.clone(), config.identities, config.anonymous_callers);
    let envoy = AuthorizationServer::new(envoy::Envoy::new(decider.clone(), config.envoy));
    let service = DecisionServiceServer::new(grpc::Decisions::new(decider));
    server.routes().add_service(Authenticated::new(service, door.clone()));
    server.routes().add_service(Authenticated::new(envoy, door));

    let health = server.health();
    let watching = async move {
        replica.ready().await;
        health.serving(&[SERVICE_NAME, ENVOY_SERVICE_NAME]).await;
        // A snapshot is never given back: without the store, decisions go on at the last revision, and say how old it is.
        std::future::pending::<()>().await;
    };
    tokio::select! {
        ended = server.serve(listener, shutdown) => Ok(ended?),
        () = follower.run(channel, config.credential) => Ok(()),
        () = watching => Ok(()),
    }
}
