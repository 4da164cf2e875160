//! The policy store: users, roles, managed policies, access keys, signing keys, and who may change them.
//!
//! It knows IAM's operations and invariants (`iam`), what gateways need (`keys`), accounts (`account`), how replicas follow it
//! (`watch`), and how a whole store is carried to another place (`transfer`). It does not decide for other services: the decision
//! service does, from what Watch carries. Its own callers are judged here, by the same evaluator (`authz`).

mod account;
pub mod audit;
mod authn;
mod authz;
mod config;
mod convert;
mod digest;
mod error;
mod form;
mod grpc;
mod iam;
mod keys;
mod layout;
mod ledger;
mod managed;
mod numbers;
mod place;
mod request;
mod reseal;
mod rpc;
mod seal;
mod seed;
pub mod settings;
mod simulate;
mod space;
pub mod transfer;
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
    limit::Limit,
    listener::Listener,
};
use countersign_store::{Store, StoreError};
use countersign_token::dpop::SeenProofs;
use prost_types::Timestamp;
use tower::Layer;

pub use account::ADMINISTRATOR;
use audit::trail::{self, Trail};
pub use config::{Config, Seeding};
pub use form::LaterForm;
pub use iam::quota::{NoQuota, QuotaSetting, Quotas};
pub use place::{EtcdPlace, Place, PlaceError};
pub use reseal::SealedError;
pub use seal::{NoSealingKey, SealingKey, SealingKeyError, SealingKeys, write_private};
pub use seed::SeedError;

/// The name under which health knows the service.
pub const SERVICE_NAME: &str = "countersign.policy.v1.PolicyStoreService";

/// The name under which health knows whether there is room for writes. Reads go on without.
pub const WRITES: &str = "countersign.policy.v1.PolicyStoreService/writes";

/// Calls that are under way at once; what comes on top is told so. A disk or a cluster takes some thousand writes a second, so none of these
/// waits for long.
const CALLS: usize = 1_024;
/// Spent proofs are looked through so often.
const SWEEP: Duration = Duration::from_secs(300);
/// The trail is looked after at least so often.
const TRAIL_RETRY: Duration = Duration::from_secs(5);
/// Between two syncs of the trail.
const TRAIL_PAUSE: Duration = Duration::from_millis(100);
/// Old events are dropped so often, in seconds.
const TRAIL_PRUNE: i64 = 3_600;

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
    /// The audit trail cannot be written.
    #[error("cannot write the audit trail to `{}`: {error}", path.display())]
    Audit {
        /// The folder.
        path: PathBuf,
        /// Why not.
        error: std::io::Error,
    },
    /// The store cannot be opened.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// The store cannot be read.
    #[error("cannot read the store: {0}")]
    Store(#[from] StoreError),
    /// The store cannot be used: an import into it is not done.
    #[error("cannot open the store: {0}")]
    Transfer(#[from] transfer::TransferError),
    /// A later version wrote it.
    #[error(transparent)]
    Later(#[from] LaterForm),
    /// There is no sealing key.
    #[error(transparent)]
    SealingKey(#[from] SealingKeyError),
    /// The sealing key is not the one of the store's secrets.
    #[error(transparent)]
    Sealed(#[from] SealedError),
    /// The first account cannot be made.
    #[error(transparent)]
    Seed(#[from] SeedError),
    /// The server failed.
    #[error(transparent)]
    Serve(#[from] ServeError),
}

impl Error {
    /// Whether it is that a later version of Countersign wrote the store.
    #[must_use]
    pub fn is_of_a_later_version(&self) -> bool {
        matches!(
            self,
            Self::Later(_)
                | Self::Store(StoreError::Later { .. })
                | Self::Place(PlaceError::Open(StoreError::Later { .. }))
        )
    }
}

/// A store that was opened and can be served: the one that was asked for, with its sealing key, and of a version that this one reads.
pub struct Opened {
    config: Config,
    store: Arc<dyn Store>,
    sealer: Arc<seal::Sealer>,
}

/// Opens the store of `config`, and makes its first account if that is made here. Nothing listens yet.
///
/// # Errors
/// See [`Error`].
pub async fn open(config: Config) -> Result<Opened, Error> {
    let (store, sealer) = open_checked(&config).await?;
    if config.seeding == Seeding::Here {
        seed_here(&config, &store, &sealer).await?;
    }
    Ok(Opened { config, store, sealer })
}

/// Serves the policy store on `listener` until `shutdown`, with everything under the data folder of `config`.
///
/// # Errors
/// See [`Error`].
pub async fn serve(
    config: Config,
    listener: impl Into<Listener>,
    shutdown: Shutdown,
) -> Result<(), Error> {
    serve_opened(open(config).await?, listener, shutdown).await
}

/// The same of a store that was opened before.
///
/// # Errors
/// See [`Error`].
pub async fn serve_opened(
    Opened { config, store, sealer }: Opened,
    listener: impl Into<Listener>,
    shutdown: Shutdown,
) -> Result<(), Error> {
    match config.seeding {
        Seeding::Here => {}
        Seeding::Elsewhere => {
            tokio::select! {
                seeded = seed::wait(store.as_ref(), config.account) => seeded?,
                () = shutdown.wait() => return Ok(()),
            }
            // The secrets of the first account were sealed meanwhile, perhaps.
            reseal::check(store.as_ref(), &sealer).await?;
        }
    }

    let process = process_name(&config)?;
    let trail = Trail::open(&config.audit_folder(), process.clone())
        .map_err(|error| Error::Audit { path: config.audit_folder(), error })?;

    let server = GrpcServer::new(FILE_DESCRIPTOR_SET, &[SERVICE_NAME]).await?;
    let mut server = server.counted_in(&config.metrics);
    let policy_store = rpc::PolicyStore {
        store: store.clone(),
        sealer: sealer.clone(),
        limits: Arc::default(),
        followers: watch::Followers::default(),
        region: config.region.as_str().into(),
        quotas: config.quotas,
        process: process.clone(),
        shutdown: shutdown.clone(),
        refusals: Arc::default(),
        space: Arc::default(),
    };
    let (refusals, space) = (policy_store.refusals.clone(), policy_store.space.clone());
    let revision = Arc::default();
    numbers::read(&config.metrics, &policy_store.followers, &space, &revision);
    let authenticator = authn::Authenticator {
        identities: config.identities,
        issuer: config.issuer.as_str().into(),
        store: store.clone(),
        seen_proofs: Arc::new(SeenProofs::new(authn::MAX_SEEN_PROOFS)),
    };
    let service = PolicyStoreServiceServer::new(policy_store);
    let door = Authenticated::new(service, authenticator);
    server.routes().add_service(Limit::new(CALLS).layer(door));
    server.health().serving(&[SERVICE_NAME]).await;

    let resealing = tokio::spawn(reseal_all(store.clone(), sealer));
    let sweeping = tokio::spawn(sweep(store.clone(), shutdown.clone()));
    let health = server.health();
    let watching = space.clone().watch(store.clone(), health, WRITES, shutdown.clone());
    let watching = tokio::spawn(watching);
    let counting = tokio::spawn(numbers::follow(store.clone(), revision, shutdown.clone()));
    let refusing = tokio::spawn(refusals.run(store.clone(), shutdown.clone()));
    let tracing = tokio::spawn(write_trail(store, trail, process, space, shutdown.clone()));
    let served = server.serve(listener, shutdown).await;
    sweeping.abort();
    resealing.abort();
    watching.abort();
    counting.abort();
    let _ = refusing.await;
    // It writes what the last commits left, and ends by itself.
    let _ = tracing.await;
    Ok(served?)
}

/// Makes the sealing key, the first account, and the file with its root's access key, where they are not there yet, and serves nothing. Of
/// several that begin on one store at once, one succeeds, and the others say which file they lack.
///
/// # Errors
/// See [`Error`].
pub async fn init(mut config: Config) -> Result<(), Error> {
    config.seeding = Seeding::Here;
    open(config).await.map(drop)
}

async fn open_checked(config: &Config) -> Result<(Arc<dyn Store>, Arc<seal::Sealer>), Error> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&config.data_dir)
        .map_err(|error| Error::DataDir { path: config.data_dir.clone(), error })?;
    let (store, sealer) = open_place(config).await?;
    form::check(store.as_ref()).await??;
    transfer::refuse_half_done(store.as_ref()).await?;
    reseal::check(store.as_ref(), &sealer).await?;
    Ok((store, sealer))
}

async fn seed_here(
    config: &Config,
    store: &Arc<dyn Store>,
    sealer: &seal::Sealer,
) -> Result<(), Error> {
    let credentials = config.root_credentials();
    if config.place.shared() {
        seed::seed_shared(store, sealer, config.account, &credentials).await?;
    } else {
        seed::seed(store, sealer, config.account, &credentials).await?;
    }
    Ok(())
}

/// Writes the audit trail on as commits come. While the disk under it is full, what has an event is refused, and tried again is the
/// file; the events of what was written before are in the store until the files have them.
async fn write_trail(
    store: Arc<dyn Store>,
    mut trail: Trail,
    process: Arc<str>,
    space: Arc<space::Space>,
    shutdown: Shutdown,
) {
    let mut retry = TRAIL_RETRY;
    let mut head = store.watch_head();
    let mut pruned = 0;
    loop {
        let is_over = tokio::select! {
            () = shutdown.wait() => true,
            changed = head.changed() => changed.is_err(),
            () = tokio::time::sleep(retry) => false,
        };
        let now = now().seconds;
        let caught_up = trail.catch_up(store.as_ref(), now).await;
        let is_full = matches!(&caught_up, Err(error) if error.is_full());
        space.trail(is_full);
        retry = if is_full { TRAIL_PAUSE } else { TRAIL_RETRY };
        if let Err(error) = caught_up {
            tracing::error!(%error, "the audit trail cannot be written to its file; the store keeps it");
        }
        if now - pruned >= TRAIL_PRUNE {
            pruned = now;
            let written = trail.reached();
            if let Err(error) = trail::prune(store.as_ref(), &process, written, now).await {
                tracing::warn!(%error, "old audit events cannot be dropped from the store");
            }
        }
        if is_over {
            return;
        }
        // Several commits go into one sync.
        tokio::time::sleep(TRAIL_PAUSE).await;
    }
}

/// The store and its sealing key. A store without its key would be full of secrets that nobody can open: a key is made with a new store
/// alone.
async fn open_place(config: &Config) -> Result<(Arc<dyn Store>, Arc<seal::Sealer>), Error> {
    let seeds = config.seeding == Seeding::Here;
    if let Some(folder) = config.place.folder(&config.data_dir) {
        let sealer = sealer(config, seeds && !folder.exists())?;
        return Ok((config.place.open(&config.data_dir).await?, Arc::new(sealer)));
    }
    let store = config.place.open(&config.data_dir).await?;
    let new = seeds && store.head().await? == 0;
    Ok((store, Arc::new(sealer(config, new)?)))
}

/// The key that was given; or the one of the secrets' folder, made there with a new store.
fn sealer(config: &Config, new: bool) -> Result<seal::Sealer, SealingKeyError> {
    match &config.sealing {
        SealingKeys::Given { current, previous } => seal::Sealer::given(current, previous.as_ref()),
        SealingKeys::DataFolder => seal::Sealer::from_file(&config.sealing_key(), new)?
            .with_previous(&config.previous_sealing_key()),
    }
}

/// Seals again what another key sealed, and says when that is done.
async fn reseal_all(store: Arc<dyn Store>, sealer: Arc<seal::Sealer>) {
    if !sealer.has_previous() {
        return;
    }
    match reseal::reseal(store.as_ref(), &sealer).await {
        Ok(done) => tracing::info!(
            resealed = done.resealed,
            current = done.current,
            unreadable = done.unreadable,
            "the access keys' secrets are sealed under the present key; a day from now nothing needs the previous one"
        ),
        Err(error) => {
            tracing::error!(%error, "not all secrets were sealed again; keep both keys, and start again")
        }
    }
}

/// What the audit trail calls this process. Each process on a shared store has its own name, kept in its data folder: it writes, and
/// drops, its own events alone.
fn process_name(config: &Config) -> Result<Arc<str>, Error> {
    if !config.place.shared() {
        return Ok(config.process.as_str().into());
    }
    let path = config.data_dir.join("process.name");
    let failed = |error| Error::DataDir { path: path.clone(), error };
    if !path.exists() {
        let mut random = [0_u8; 8];
        aws_lc_rs::rand::fill(&mut random).map_err(|_| SealingKeyError::NoRandomness)?;
        let name = format!("{}-{:016x}", config.process, u64::from_be_bytes(random));
        write_private(&path, name.as_bytes()).map_err(failed)?;
    }
    Ok(fs::read_to_string(&path).map_err(failed)?.into())
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
