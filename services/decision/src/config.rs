//! What the decision service is told when it starts.

use std::{num::NonZeroUsize, path::PathBuf, sync::Arc, time::Duration};

use countersign_serve::{ServiceCredential, ServiceIdentities, cores, telemetry::Metrics};

use crate::{envoy::Mapping, log::LogConfig};

/// How long a question waits for a revision that has not arrived, unless told otherwise.
pub const DEFAULT_PATIENCE: Duration = Duration::from_secs(2);

/// The configuration. Secrets in it show nothing in `Debug`.
#[derive(Clone, Debug)]
pub struct Config {
    /// The issuer of our tokens, a URL without a slash at the end; compared byte by byte.
    pub issuer: String,
    /// The policy store's origin, such as `http://127.0.0.1:7401`.
    pub policy_store: String,
    /// Other addresses of the same store, tried in turn when it is not heard at one.
    pub more_policy_stores: Vec<String>,
    /// Who we are, towards the store.
    pub credential: ServiceCredential,
    /// Who may call us as a service.
    pub identities: ServiceIdentities,
    /// How long a question waits for a revision that has not arrived. A caller's own deadline shortens it.
    pub patience: Duration,
    /// Which action on which resource a request is that Envoy asks about.
    pub envoy: Option<Arc<Mapping>>,
    /// Whether callers without credentials may ask about the bearers of tokens: for a closed network.
    pub anonymous_callers: bool,
    /// Where a snapshot is kept, for a start while the store is away. A folder of this service alone.
    pub snapshot_dir: Option<PathBuf>,
    /// How long ago the store may have been heard for an answer to be given; without it, however long.
    pub max_staleness: Option<Duration>,
    /// Where decisions are logged.
    pub decision_log: Option<LogConfig>,
    /// Where it counts.
    pub metrics: Metrics,
    /// How many cores answer. All that the process may use, unless told otherwise.
    pub cores: NonZeroUsize,
}

impl Config {
    /// With the default patience.
    #[must_use]
    pub fn new(
        issuer: impl Into<String>,
        policy_store: impl Into<String>,
        credential: ServiceCredential,
        identities: ServiceIdentities,
    ) -> Self {
        Self {
            issuer: issuer.into(),
            policy_store: policy_store.into(),
            more_policy_stores: Vec::new(),
            credential,
            identities,
            patience: DEFAULT_PATIENCE,
            envoy: None,
            anonymous_callers: false,
            snapshot_dir: None,
            max_staleness: None,
            decision_log: None,
            metrics: Metrics::default(),
            cores: cores::all(),
        }
    }
}
