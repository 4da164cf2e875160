//! What the decision service is told when it starts.

use std::{sync::Arc, time::Duration};

use countersign_serve::{ServiceCredential, ServiceIdentities};

use crate::envoy::Mapping;

/// How long a question waits for a revision that has not arrived, unless told otherwise.
pub const DEFAULT_PATIENCE: Duration = Duration::from_secs(2);

/// The configuration. Secrets in it show nothing in `Debug`.
#[derive(Clone, Debug)]
pub struct Config {
    /// The issuer of our tokens, a URL without a slash at the end; compared byte by byte.
    pub issuer: String,
    /// The policy store's origin, such as `http://127.0.0.1:7401`.
    pub policy_store: String,
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
            credential,
            identities,
            patience: DEFAULT_PATIENCE,
            envoy: None,
            anonymous_callers: false,
        }
    }
}
