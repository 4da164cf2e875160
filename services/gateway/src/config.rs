//! What a gateway is told when it starts. All of it is checked before anything is served.

use std::{fmt, path::PathBuf};

use countersign_serve::{ServiceCredential, ServiceIdentities, telemetry::Metrics};
use countersign_sigv4::{Url, fields::is_region};

use crate::{
    endpoints::{AllowList, EndpointsError, StsEndpoint},
    keys::Rotation,
    limits::RateLimits,
    proof::{instance::Instances, jwt::JwtIssuers},
};

/// A gateway's configuration.
#[derive(Clone)]
pub struct Config {
    /// The gateway's own name: `iss` of its tokens, and the audience that proofs must be made for. An http(s) origin without a
    /// slash at the end; Countersign's own STS answers there.
    pub issuer: String,
    /// The region of Countersign's own STS.
    pub region: String,
    /// The one AWS partition that is spoken to, and that roles are of.
    pub partition: String,
    /// The policy store's origin.
    pub policy_store: String,
    /// The decision service's origin.
    pub decision: String,
    /// Who we are towards both.
    pub credential: ServiceCredential,
    /// The services that may call us.
    pub identities: ServiceIdentities,
    /// STS endpoints besides AWS's own and Countersign's.
    pub sts_endpoints: Vec<StsEndpoint>,
    /// Whose JWTs are believed.
    pub jwt_issuers: JwtIssuers,
    /// Whose EC2 instances are believed.
    pub instances: Instances,
    /// How often anybody may ask.
    pub limits: RateLimits,
    /// When signing keys take turns.
    pub rotation: Rotation,
    /// The first account, whose sessions may ask for another signing key if their policies let them; `None` lets nobody.
    pub operator_account: Option<String>,
    /// Where each exchange is written down before it is answered; `None` keeps no such trail.
    pub audit_dir: Option<PathBuf>,
    /// A name for the store's logs.
    pub name: String,
    /// Where it counts.
    pub metrics: Metrics,
}

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The issuer is no origin.
    #[error(
        "the issuer `{issuer}` must be an http or https origin without a slash at the end, such as `http://127.0.0.1:7400`"
    )]
    Issuer {
        /// What was given.
        issuer: String,
    },
    /// The region is none.
    #[error("`{region}` is no region; a region looks like `us-east-1`")]
    Region {
        /// What was given.
        region: String,
    },
    /// The endpoints contradict each other.
    #[error(transparent)]
    Endpoints(#[from] EndpointsError),
}

impl Config {
    /// The STS endpoints that proofs may be for, once everything has been checked.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn allow_list(&self) -> Result<AllowList, ConfigError> {
        let is_origin = Url::parse(&self.issuer).is_ok_and(|url| url.origin() == self.issuer);
        if !is_origin {
            return Err(ConfigError::Issuer { issuer: self.issuer.clone() });
        }
        if !is_region(&self.region) {
            return Err(ConfigError::Region { region: self.region.clone() });
        }
        Ok(AllowList::new(&self.issuer, &self.region, &self.partition, &self.sts_endpoints)?)
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            issuer,
            region,
            partition,
            policy_store,
            decision,
            credential: _,
            identities: _,
            sts_endpoints,
            jwt_issuers,
            instances,
            limits,
            rotation,
            operator_account,
            audit_dir,
            name,
            metrics: _,
        } = self;
        f.debug_struct("Config")
            .field("issuer", issuer)
            .field("region", region)
            .field("partition", partition)
            .field("policy_store", policy_store)
            .field("decision", decision)
            .field("sts_endpoints", sts_endpoints)
            .field("limits", limits)
            .field("rotation", rotation)
            .field("operator_account", operator_account)
            .field("audit_dir", audit_dir)
            .field("jwt_issuers", &jwt_issuers.len())
            .field("instances", instances)
            .field("name", name)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use countersign_serve::{ServiceName, ServiceSecret};

    use super::*;

    fn config(issuer: &str, region: &str) -> Config {
        let secret = ServiceSecret::generate().unwrap();
        Config {
            issuer: issuer.to_owned(),
            region: region.to_owned(),
            partition: "aws".to_owned(),
            policy_store: "http://127.0.0.1:7401".to_owned(),
            decision: "http://127.0.0.1:7402".to_owned(),
            credential: ServiceCredential::new(&secret),
            identities: ServiceIdentities::default().accept(ServiceName::Decision, secret),
            sts_endpoints: Vec::new(),
            jwt_issuers: JwtIssuers::default(),
            instances: Instances::default(),
            limits: RateLimits::default(),
            rotation: Rotation::default(),
            operator_account: None,
            audit_dir: None,
            name: "gateway".to_owned(),
            metrics: Metrics::default(),
        }
    }

    #[test]
    fn issuers_and_regions() {
        let check = |issuer: &str, region: &str, good: bool| {
            assert_eq!(config(issuer, region).allow_list().is_ok(), good, "{issuer} {region}");
        };
        check("http://127.0.0.1:7400", "us-east-1", true);
        check("https://tokens.example.com", "us-east-1", true);
        check("http://127.0.0.1:7400/", "us-east-1", false);
        check("http://127.0.0.1:7400/path", "us-east-1", false);
        check("http://127.0.0.1:7400?x", "us-east-1", false);
        check("https://tokens.example.com:443", "us-east-1", false);
        check("https://me@tokens.example.com", "us-east-1", false);
        check("tokens.example.com", "us-east-1", false);
        check("", "us-east-1", false);
        check("http://127.0.0.1:7400", "", false);
        check("http://127.0.0.1:7400", "evil.com/x", false);
    }

    #[test]
    fn debug_shows_no_secret() {
        let shown = format!("{:?}", config("http://127.0.0.1:7400", "us-east-1"));
        assert!(!shown.contains("redacted") && !shown.contains("credential"), "{shown}");
    }
}
