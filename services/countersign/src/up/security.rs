//! How the services of one process know each other, and what their ports speak: secrets that live as long as the process, in clear; or
//! certificates of an authority in the data folder, made anew each day.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use countersign_serve::{
    ServiceCredential, ServiceIdentities, ServiceName, ServiceSecret, Tls,
    dial::{self, DialError, Trust},
    identity::NoRandomness,
    tls::{ClientCertificates, NoTrustDomain, Part, TlsError, TlsFiles, TlsSettings, trusting},
};
use tokio::task::JoinSet;
use tonic::transport::Channel;

use crate::certificates::{CertificatesError, make_all};

/// Nobody outside the data folder's own authority is in it.
const TRUST_DOMAIN: &str = "countersign.local";
/// They are good for 90 days.
const MADE_ANEW: Duration = Duration::from_secs(24 * 3600);

/// Why the services cannot know each other.
#[derive(Debug, thiserror::Error)]
pub enum SecurityError {
    /// No secrets.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
    /// No certificates.
    #[error(transparent)]
    Certificates(#[from] CertificatesError),
    /// Certificates that are not good.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The trust domain is a constant, so this does not happen.
    #[error(transparent)]
    TrustDomain(#[from] NoTrustDomain),
}

/// How the services know each other.
#[derive(Debug)]
pub enum Security {
    /// By secrets, in clear.
    Secrets {
        /// The decision service's.
        decision: ServiceSecret,
        /// The gateway's.
        gateway: ServiceSecret,
    },
    /// By certificates.
    Certificates(Box<Certificates>),
}

/// Each service's own.
#[derive(Debug)]
pub struct Certificates {
    policy_store: Tls,
    decision: Tls,
    gateway: Tls,
    /// For clients.
    ca: PathBuf,
    /// Ends when this is dropped.
    _renewal: JoinSet<()>,
}

impl Security {
    /// By secrets of this very start.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn by_secrets() -> Result<Self, SecurityError> {
        Ok(Self::Secrets {
            decision: ServiceSecret::generate()?,
            gateway: ServiceSecret::generate()?,
        })
    }

    /// By certificates in `folder`, for callers that use `names`, or reach what listens on `listen`.
    ///
    /// # Errors
    /// When they cannot be made.
    pub fn by_certificates(
        folder: &Path,
        listen: IpAddr,
        names: &[String],
    ) -> Result<Self, SecurityError> {
        let names = all_names(listen, names);
        make_all(folder, TRUST_DOMAIN.parse()?, &names)?;
        let load = |part: Part| -> Result<Tls, SecurityError> {
            let own = folder.join(part.to_string());
            let tls = Tls::load(TlsSettings {
                files: TlsFiles {
                    certificate: own.join("tls.crt"),
                    key: own.join("tls.key"),
                    ca: Some(own.join("ca.crt")),
                },
                identity: Some((TRUST_DOMAIN.parse()?, part)),
                names: names.clone(),
                clients: ClientCertificates::Optional,
            })?;
            tls.keep_fresh();
            Ok(tls)
        };
        let mut renewal = JoinSet::new();
        let certificates = Certificates {
            policy_store: load(Part::PolicyStore)?,
            decision: load(Part::Decision)?,
            gateway: load(Part::Gateway)?,
            ca: folder.join("ca.crt"),
            _renewal: {
                renewal.spawn(keep_renewed(folder.to_owned(), names));
                renewal
            },
        };
        Ok(Self::Certificates(Box::new(certificates)))
    }

    /// What the ports of a service speak.
    #[must_use]
    pub fn tls(&self, part: Part) -> Option<Tls> {
        let Self::Certificates(certificates) = self else { return None };
        Some(match part {
            Part::PolicyStore => certificates.policy_store.clone(),
            Part::Decision => certificates.decision.clone(),
            Part::Gateway => certificates.gateway.clone(),
        })
    }

    /// `names`, as others know them.
    ///
    /// # Errors
    /// Never: the trust domain is a constant.
    pub fn identities(&self, names: &[ServiceName]) -> Result<ServiceIdentities, SecurityError> {
        let mut identities = ServiceIdentities::default();
        for name in names {
            identities = match (self, name) {
                (Self::Certificates(_), name) => {
                    identities.accept_certificate(*name, &TRUST_DOMAIN.parse()?)
                }
                (Self::Secrets { decision, .. }, ServiceName::Decision) => {
                    identities.accept(*name, decision.clone())
                }
                (Self::Secrets { gateway, .. }, ServiceName::Gateway) => {
                    identities.accept(*name, gateway.clone())
                }
            };
        }
        Ok(identities)
    }

    /// What a service shows to others.
    #[must_use]
    pub fn credential(&self, name: ServiceName) -> ServiceCredential {
        match (self, name) {
            (Self::Certificates(all), ServiceName::Decision) => {
                ServiceCredential::certificate(all.decision.clone())
            }
            (Self::Certificates(all), ServiceName::Gateway) => {
                ServiceCredential::certificate(all.gateway.clone())
            }
            (Self::Secrets { decision, .. }, ServiceName::Decision) => {
                ServiceCredential::new(decision)
            }
            (Self::Secrets { gateway, .. }, ServiceName::Gateway) => {
                ServiceCredential::new(gateway)
            }
        }
    }

    /// A channel as clients have it: with the authority, without a certificate.
    ///
    /// # Errors
    /// When `origin` is no address.
    pub fn channel(&self, origin: &str) -> Result<Channel, ClientError> {
        let trust = match self {
            Self::Secrets { .. } => Trust::Nobody,
            Self::Certificates(certificates) => Trust::Name(Arc::new(trusting(&certificates.ca)?)),
        };
        Ok(dial::channel(origin, trust)?)
    }

    /// The authority that clients believe, where there is one.
    #[must_use]
    pub fn ca(&self) -> Option<&Path> {
        match self {
            Self::Secrets { .. } => None,
            Self::Certificates(certificates) => Some(&certificates.ca),
        }
    }
}

/// Why there is no channel.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The authority.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

fn all_names(listen: IpAddr, names: &[String]) -> Vec<String> {
    let mut all: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).into();
    if !listen.is_unspecified() {
        all.push(listen.to_string());
    }
    all.extend(names.iter().cloned());
    all.sort();
    all.dedup();
    all
}

async fn keep_renewed(folder: PathBuf, names: Vec<String>) {
    loop {
        tokio::time::sleep(MADE_ANEW).await;
        let made = TRUST_DOMAIN
            .parse()
            .map_err(SecurityError::from)
            .and_then(|domain| Ok(make_all(&folder, domain, &names)?));
        if let Err(error) = made {
            tracing::error!(%error, "the certificates are not renewed; trying again tomorrow");
        }
    }
}
