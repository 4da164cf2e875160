//! Service identities: how the parts of one Countersign know each other. They are never Countersign tokens, so nothing is circular.
//!
//! In one process (`up`) an identity is a secret made at random at each start, and sent as metadata over loopback. Between
//! machines it is the SPIFFE id of a client certificate.

use std::fmt;

use aws_lc_rs::rand;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::HeaderMap;
use subtle::ConstantTimeEq;
use tonic::{Request, Status, metadata::MetadataValue, service::Interceptor, transport::Channel};
use zeroize::Zeroizing;

use crate::{
    dial::{self, DialError, Trust},
    incoming::Peer,
    telemetry,
    tls::{Part, Tls, TrustDomain},
};

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
        self.part().fmt(f)
    }
}

impl ServiceName {
    fn part(self) -> Part {
        match self {
            Self::Decision => Part::Decision,
            Self::Gateway => Part::Gateway,
        }
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
pub struct ServiceIdentities {
    secrets: Vec<(ServiceName, ServiceSecret)>,
    certificates: Vec<(ServiceName, String)>,
}

impl ServiceIdentities {
    /// Accepts `secret` as `name`.
    #[must_use]
    pub fn accept(mut self, name: ServiceName, secret: ServiceSecret) -> Self {
        self.secrets.push((name, secret));
        self
    }

    /// Accepts the certificate of `name` in `trust_domain`.
    #[must_use]
    pub fn accept_certificate(mut self, name: ServiceName, trust_domain: &TrustDomain) -> Self {
        self.certificates.push((name, trust_domain.id_of(name.part())));
        self
    }

    /// Which service these headers, or the certificate of `peer`, show. `Ok(None)` when they claim none.
    ///
    /// # Errors
    /// When they carry a secret that is nobody's, or more than one identity.
    pub fn identify(
        &self,
        headers: &HeaderMap,
        peer: Option<&Peer>,
    ) -> Result<Option<ServiceName>, UnknownService> {
        let certified = peer.and_then(Peer::spiffe_id).and_then(|id| self.certified(id));
        let mut values = headers.get_all(METADATA_KEY).iter();
        let Some(value) = values.next() else {
            return Ok(certified);
        };
        // Of two identities one would have to be ignored.
        if values.next().is_some() || certified.is_some() {
            return Err(UnknownService);
        }
        self.secrets
            .iter()
            .find(|(_, secret)| secret.matches(value.as_bytes()))
            .map(|(name, _)| Some(*name))
            .ok_or(UnknownService)
    }

    fn certified(&self, id: &str) -> Option<ServiceName> {
        self.certificates.iter().find(|(_, accepted)| accepted == id).map(|(name, _)| *name)
    }
}

/// A service secret that is nobody's.
#[derive(Debug, thiserror::Error)]
#[error("`{METADATA_KEY}` is no service's secret, or one of two identities in one call")]
pub struct UnknownService;

/// Who we are, towards another part: a secret that is sent with every call, or the certificate that every connection shows.
#[derive(Clone)]
pub struct ServiceCredential(Credential);

#[derive(Clone)]
enum Credential {
    Secret(MetadataValue<tonic::metadata::Ascii>),
    Certificate(Tls),
}

impl ServiceCredential {
    /// Speaks with `secret`.
    #[must_use]
    pub fn new(secret: &ServiceSecret) -> Self {
        // base64url is always a valid metadata value; an impossible failure leaves a credential that nobody accepts.
        let mut value = MetadataValue::try_from(secret.0.as_str())
            .unwrap_or_else(|_| MetadataValue::from_static(""));
        value.set_sensitive(true);
        Self(Credential::Secret(value))
    }

    /// Shows the certificate of `tls`.
    #[must_use]
    pub fn certificate(tls: Tls) -> Self {
        Self(Credential::Certificate(tls))
    }

    /// The certificate, where it is one.
    #[must_use]
    pub fn tls(&self) -> Option<&Tls> {
        match &self.0 {
            Credential::Secret(_) => None,
            Credential::Certificate(tls) => Some(tls),
        }
    }

    /// A channel to `part`, at one of its addresses, which stand with commas between them. It must show that it is that part, unless it
    /// is on loopback, in clear.
    ///
    /// # Errors
    /// See [`DialError`].
    pub fn channel(&self, part: Part, origins: &str) -> Result<Channel, DialError> {
        dial::channel(origins, self.trust(part))
    }

    /// Whether there could be a channel to `part` at `origins`; nothing is made.
    ///
    /// # Errors
    /// See [`DialError`].
    pub fn channel_is_good(&self, part: Part, origins: &str) -> Result<(), DialError> {
        dial::check(origins, &self.trust(part))
    }

    fn trust(&self, part: Part) -> Trust {
        match self.tls() {
            Some(tls) => Trust::Part(part, tls.clone()),
            None => Trust::Nobody,
        }
    }
}

impl fmt::Debug for ServiceCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServiceCredential(redacted)")
    }
}

impl Interceptor for ServiceCredential {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        match &self.0 {
            Credential::Secret(value) => {
                request.metadata_mut().insert(METADATA_KEY, value.clone());
            }
            // The connection has shown it.
            Credential::Certificate(_) => {}
        }
        telemetry::pass_on(request.metadata_mut());
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
        let identify = |values: &[&str]| identities.identify(&headers(values), None).ok();
        assert_eq!(identify(&[]), Some(None));
        assert_eq!(identify(&[&gateway.0]), Some(Some(ServiceName::Gateway)));
        assert_eq!(identify(&[&decision.0]), Some(Some(ServiceName::Decision)));
        assert_eq!(identify(&[&stranger.0]), None);
        assert_eq!(identify(&[""]), None);
        assert_eq!(identify(&[&gateway.0, &gateway.0]), None);
    }

    #[test]
    fn a_service_is_known_by_its_certificate() {
        let domain: TrustDomain = "example.org".parse().unwrap();
        let secret = ServiceSecret::generate().unwrap();
        let identities = ServiceIdentities::default()
            .accept(ServiceName::Decision, secret.clone())
            .accept_certificate(ServiceName::Gateway, &domain);
        let check = |id: &str, values: &[&str], expected: Option<Option<ServiceName>>| {
            let peer = Peer::with_spiffe_id(id);
            let found = identities.identify(&headers(values), Some(&peer)).ok();
            assert_eq!(found, expected, "{id} {values:?}");
        };
        let gateway = "spiffe://example.org/countersign/gateway";
        check(gateway, &[], Some(Some(ServiceName::Gateway)));
        check(gateway, &[&secret.0], None);
        check("spiffe://example.org/countersign/decision", &[], Some(None));
        check("spiffe://example.com/countersign/gateway", &[], Some(None));
        check("spiffe://example.org/countersign/gateway/", &[], Some(None));
        check("spiffe://example.org/ns/web/sa/envoy", &[], Some(None));
        check(
            "spiffe://example.org/ns/web/sa/envoy",
            &[&secret.0],
            Some(Some(ServiceName::Decision)),
        );
    }

    #[test]
    fn debug_shows_no_secret() {
        let secret = ServiceSecret::generate().unwrap();
        let shown = format!("{secret:?} {:?}", ServiceCredential::new(&secret));
        assert!(!shown.contains(secret.0.as_str()), "{shown}");
    }
}
