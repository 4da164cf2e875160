//! The decision service: may this principal do that, and why.
//!
//! It follows the policy store, holds all of it in memory at one revision, and answers each question from one revision. It keeps
//! nothing, issues nothing, and asks nobody while it decides.
//!
//! A call reads downward: `authn` (who calls) → `grpc` → `convert` → `check` or `assume_role` → `convert` → `grpc`; `error` makes
//! the Status. Before all of it stands `direct`, which answers plain questions in the same way, by what it remembers.
//!
//! It is run by `countersign up`, and by `main.rs` as a process of its own.

use std::time::Duration;

use countersign_proto::{
    FILE_DESCRIPTOR_SET, decision::v1::decision_service_server::DecisionServiceServer,
    envoy::v3::authorization_server::AuthorizationServer,
};
use countersign_replica::Replica;
use countersign_serve::{
    Shutdown,
    authn::Authenticated,
    dial::DialError,
    grpc::{GrpcServer, Health, ServeError},
    listener::Listener,
    tls::Part,
};

use direct::ShortWay;
use log::DecisionLog;

mod assume_role;
mod authn;
mod check;
mod config;
mod convert;
mod decider;
mod direct;
mod effort;
mod envoy;
mod error;
mod exchange;
mod grpc;
mod log;
mod numbers;
mod sentence;
mod session;
pub mod settings;
mod signatures;
mod status;
mod stream;
mod who_can;

#[cfg(test)]
mod fuzzed;
#[cfg(test)]
mod samples;

pub use config::{Config, DEFAULT_PATIENCE};
pub use envoy::{Mapping, MappingError};
pub use log::{LogConfig, LogError};

/// The name that health knows the service by.
pub const SERVICE_NAME: &str = "countersign.decision.v1.DecisionService";

/// The name that Envoy's protocol has on the same port.
pub const ENVOY_SERVICE_NAME: &str = "envoy.service.auth.v3.Authorization";

/// Why the service ended before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The policy store cannot be called.
    #[error("the policy store cannot be called: {0}")]
    Dial(#[from] DialError),
    /// The decision log cannot be opened.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The server failed.
    #[error(transparent)]
    Serve(#[from] ServeError),
}

/// Serves until `shutdown`. NOT_SERVING until the first snapshot has arrived.
///
/// # Errors
/// When the store's address is none, or the transport fails. A store that is away is no error: the service waits for it, and once it
/// holds a snapshot goes on without it.
pub async fn serve(
    config: Config,
    listener: impl Into<Listener>,
    shutdown: Shutdown,
) -> Result<(), Error> {
    let channel = |origin: &String| config.credential.channel(Part::PolicyStore, origin);
    let store = channel(&config.policy_store)?;
    let more: Vec<_> = config.more_policy_stores.iter().map(channel).collect::<Result<_, _>>()?;
    let log = config.decision_log.as_ref().map(DecisionLog::open).transpose()?.unwrap_or_default();
    // No kinds: every kind.
    let (replica, follower) = Replica::new("decision", &[]);
    let replica = replica.with_max_staleness(config.max_staleness);
    let follower = match &config.snapshot_dir {
        Some(folder) => follower.keep_in(folder),
        None => follower,
    };
    let server = GrpcServer::new(FILE_DESCRIPTOR_SET, &[SERVICE_NAME, ENVOY_SERVICE_NAME]).await?;
    let mut server = server.counted_in(&config.metrics);

    numbers::read(&config.metrics, &replica, &log);
    let decider = decider::Decider::new(replica.clone(), &config).with_log(log.clone());
    let door = authn::Door::new(decider.clone(), config.identities, config.anonymous_callers);
    let envoy = AuthorizationServer::new(envoy::Envoy::new(decider.clone(), config.envoy));
    let service = DecisionServiceServer::new(grpc::Decisions::new(decider.clone()));
    server.routes().add_service(Authenticated::new(service, door.clone()));
    server.routes().add_service(Authenticated::new(envoy, door));

    let health = server.health();
    let ended = tokio::select! {
        ended = server.serve_on_cores(listener, shutdown, config.cores, || ShortWay::new(decider.clone(), &config.metrics)) => {
            ended.map_err(Error::from)
        }
        () = follower.run_any(store, more, config.credential) => Ok(()),
        () = watch(&replica, &health, config.max_staleness) => Ok(()),
    };
    log.end().await;
    ended
}

/// Tells health whether anything can be answered. A snapshot is never given back: without the store, decisions go on at the last
/// revision, and say how old it is; unless there is a limit to that.
async fn watch(replica: &Replica, health: &Health, max_staleness: Option<Duration>) {
    const NAMES: [&str; 2] = [SERVICE_NAME, ENVOY_SERVICE_NAME];
    replica.ready().await;
    if max_staleness.is_none() {
        health.serving(&NAMES).await;
        std::future::pending::<()>().await;
    }
    let mut was_young = None;
    loop {
        let is_young = replica.now().is_ok();
        if was_young != Some(is_young) {
            if is_young { health.serving(&NAMES).await } else { health.not_serving(&NAMES).await }
        }
        was_young = Some(is_young);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
