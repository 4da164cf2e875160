//! Service identities: how the parts of one Countersign know each other. They are never Countersign tokens, so nothing is circular.
//!
//! In one process (`up`) an identity is a secret made at random at each start, and sent as metadata over loopback. Between
//! machines it will be a client certificate; until then nothing listens beyond loopback.

use std::fmt;

use aws_lc_rs::rand;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::HeaderMap;
use subtle::ConstantTimeEq;
use tonic::{Request, Status, metadata::MetadataValue, service::Interceptor};
use zeroize::Zeroizing;

/// The metadata key that carries a service's secret.
pub const METADATA_KEY: &str = "x-countersign-service";

/// Which part of Countersign is calling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceName {
    /// The decision service.
    Decision,
    /// The token gateway.
    Gateway,
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Decision => "decision",
            Self::Gateway => "gateway",
        })
    }
}

/// A service's secret: 32 random bytes, as base64url text.
#[derive(Clone)]
pub struct ServiceSecret(Zeroizing<String>);

impl ServiceSecret {
    /// A new one.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn generate() -> Result<Self, NoRandomness> {
        let mut bytes = Zeroizing::new([0_u8; 32]);
        rand::fill(bytes.as_mut()).map_err(|_| NoRandomness)?;
        Ok(Self(Zeroizing::new(URL_SAFE_NO_PAD.encode(bytes.as_ref()))))
    }

    /// Whether `text` is this secret, in constant time.
    fn matches(&self, text: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(text).into()
    }
}

impl fmt::Debug for ServiceSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServiceSecret(redacted)")
    }
}

/// The system's random generator failed.
#[derive(Debug, thiserror::Error)]
#[error("the system's random generator failed")]
pub struct NoRandomness;

/// The identities that a service accepts.
#[derive(Clone, Debug, Default)]
pub struct ServiceIdentities(Vec<(ServiceName, ServiceSecret)>);

impl ServiceIdentities {
    /// Accepts `secret` as `name`.
    #[must_use]
    pub fn accept(mut self, name: ServiceName, secret: ServiceSecret) -> Self {
        self.0.push((name, secret));
        self
    }

    /// Which service these headers show. `Ok(None)` when they claim none.
    ///
    /// # Errors
    /// When they carry a secret that is nobody's, or more than one.
    pub fn identify(&self, headers: &HeaderMap) -> Result<Option<ServiceName>, UnknownService> {
        let mut values = headers.get_all(METADATA_KEY).iter();
        let Some(value) = values.next() else {
            return Ok(None);
        };
        if values.next().is_some() {
            return Err(UnknownService);
        }
        self.0
            .iter()
            .find(|(_, secret)| secret.matches(value.as_bytes()))
            .map(|(name, _)| Some(*name))
            .ok_or(UnknownService)
    }
}

/// A service secret that is nobody's.
#[derive(Debug, thiserror::Error)]
#[error("`{METADATA_KEY}` is no service's secret")]
pub struct UnknownService;

/// Sends a service's secret with every call.
#[derive(Clone)]
pub struct ServiceCredential(MetadataValue<tonic::metadata::Ascii>);

impl ServiceCredential {
    /// Speaks with `secret`.
    #[must_use]
    pub fn new(secret: &ServiceSecret) -> Self {
        // base64url is always a valid metadata value; an impossible failure leaves a credential that nobody accepts.
        let mut value = MetadataValue::try_from(secret.0.as_str())
            .unwrap_or_else(|_| MetadataValue::from_static(""));
        value.set_sensitive(true);
        Self(value)
    }
}

impl fmt::Debug for ServiceCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServiceCredential(redacted)")
    }
}

impl Interceptor for ServiceCredential {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert(METADATA_KEY, self.0.clone());
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(METADATA_KEY, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn a_service_is_known_by_its_secret_alone() {
        let gateway = ServiceSecret::generate().unwrap();
        let decision = ServiceSecret::generate().unwrap();
        let stranger = ServiceSecret::generate().unwrap();
        let identities = ServiceIdentities::default()
            .accept(ServiceName::Gateway, gateway.clone())
            .accept(ServiceName::Decision, decision.clone());
        let identify = |values: &[&str]| identities.identify(&headers(values)).ok();
        assert_eq!(identify(&[]), Some(None));
        assert_eq!(identify(&[&gateway.0]), Some(Some(ServiceName::Gateway)));
        assert_eq!(identify(&[&decision.0]), Some(Some(ServiceName::Decision)));
        assert_eq!(identify(&[&stranger.0]), None);
        assert_eq!(identify(&[""]), None);
        assert_eq!(identify(&[&gateway.0, &gateway.0]), None);
    }

    #[test]
    fn debug_shows_no_secret() {
        let secret = ServiceSecret::generate().unwrap();
        let shown = format!("{secret:?} {:?}", ServiceCredential::new(&secret));
        assert!(!shown.contains(secret.0.as_str()), "{shown}");
    }
}
