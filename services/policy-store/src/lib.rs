//! The policy store: users, roles, managed policies, access keys, signing keys, and who may change them.
//!
//! It knows IAM's operations and invariants (`iam`), what gateways need (`keys`), accounts (`account`), and how replicas follow it
//! (`watch`). It does not decide for other services: the decision service does, from what Watch carries. Its own callers are
//! judged here, by the same evaluator (`authz`).

mod account;
mod authn;
mod authz;
mod config;
mod convert;
mod error;
mod grpc;
mod iam;
mod keys;
mod layout;
mod managed;
mod rpc;
mod seal;
mod seed;
mod view;
mod watch;

use std::{fs, os::unix::fs::DirBuilderExt, path::PathBuf, sync::Arc, time::Duration};

use countersign_proto::{
    FILE_DESCRIPTOR_SET, policy::v1::policy_store_service_server::PolicyStoreServiceServer,
};
use countersign_serve::{
    Shutdown,
    authn::Authenticated,
    grpc::{GrpcServer, ServeError},
};
use countersign_store::{SledOptions, SledStore, Store, StoreError};
use prost_types::Timestamp;
use tokio::net::TcpListener;

pub use account::ADMINISTRATOR;
pub use config::Config;
pub use iam::quota::{NoQuota, QuotaSetting, Quotas};
pub use seal::{SealingKeyError, write_private};
pub use seed::SeedError;

/// The name under which health knows the service.
pub const SERVICE_NAME: &str = "countersign.policy.v1.PolicyStoreService";

/// Spent proofs are looked through so often.
const SWEEP: Duration = Duration::from_secs(300);

/// Why the policy store did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The data folder cannot be made.
    #[error("cannot make the data folder `{}`: {error}", path.display())]
    DataDir {
        /// The folder.
        path: PathBuf,
        /// The system's word.
        error: std::io::Error,
    },
    /// The embedded store cannot be opened.
    #[error("cannot open the store: {0}")]
    Open(#[from] StoreError),
    /// There is no sealing key.
    #[error(transparent)]
    SealingKey(#[from] SealingKeyError),
    /// The first account cannot be made.
    #[error(transparent)]
    Seed(#[from] SeedError),
    /// The server failed.
    #[error(transparent)]
    Serve(#[from] ServeError),
}

/// Serves the policy store on `listener` until `shutdown`, with everything under the data folder of `config`.
///
/// # Errors
/// See [`Error`].
pub async fn serve(config: Config, listener: TcpListener, shutdown: Shutdown) -> Result<(), Error> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&config.data_dir)
        .map_err(|error| Error::DataDir { path: config.data_dir.clone(), error })?;
    let folder = config.store_folder();
    // A store without its key would be full of secrets that nobody can open: a key is made with a new store alone.
    let sealer = Arc::new(seal::Sealer::from_file(&config.sealing_key(), !folder.exists())?);
    let store: Arc<dyn Store> = Arc::new(SledStore::open(&folder, SledOptions::default())?);
    seed::seed(&store, &sealer, config.account, &config.root_credentials()).await?;

    let mut server = GrpcServer::new(FILE_DESCRIPTOR_SET, &[SERVICE_NAME]).await?;
    let policy_store = rpc::PolicyStore {
        store: store.clone(),
        sealer,
        followers: watch::Followers::default(),
        region: config.region.as_str().into(),
        quotas: config.quotas,
        shutdown: shutdown.clone(),
    };
    let authenticator = authn::Authenticator {
        identities: config.identities,
        issuer: config.issuer.as_str().into(),
        store: store.clone(),
    };
    let service = PolicyStoreServiceServer::new(policy_store);
    server.routes().add_service(Authenticated::new(service, authenticator));
    server.health().serving(&[SERVICE_NAME]).await;

    let sweeping = tokio::spawn(sweep(store, shutdown.clone()));
    let served = server.serve(listener, shutdown).await;
    sweeping.abort();
    Ok(served?)
}

/// Drops spent proofs that would be refused for their age anyway.
async fn sweep(store: Arc<dyn Store>, shutdown: Shutdown) {
    loop {
        tokio::select! {
            () = shutdown.wait() => return,
            () = tokio::time::sleep(SWEEP) => {}
        }
        match keys::sweep::sweep(store.as_ref(), now().seconds).await {
            Ok(0) => {}
            Ok(dropped) => tracing::debug!(dropped, "spent proofs dropped"),
            Err(error) => tracing::warn!(%error, "spent proofs cannot be dropped"),
        }
    }
}

/// The one clock of this service, in UTC.
fn now() -> Timestamp {
    std::time::SystemTime::now().into()
}
