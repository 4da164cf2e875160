//! Whom we call: a server is believed by its authority and by the one SPIFFE id that is expected there, whatever its address; or, where
//! no id is expected, by its host's name.

use std::{fmt, sync::Arc};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, RootCertStore,
    SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor, verify_server_name,
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
    sign::{CertifiedKey, SingleCertAndKey},
};

use super::{Tls, material::provider, spiffe};

/// What a server must show.
#[derive(Clone, Debug)]
pub enum Expected {
    /// This SPIFFE id.
    Id(Arc<str>),
    /// The name that was connected to.
    HostName,
}

/// A server that is something else.
#[derive(thiserror::Error)]
#[error("expected the server `{expected}`, and its certificate names {}", found.as_deref().unwrap_or("no SPIFFE id"))]
struct OtherServer {
    expected: Arc<str>,
    found: Option<Arc<str>>,
}

impl fmt::Debug for OtherServer {
    // The library shows what its errors hold this way alone.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a client is configured with for one connection.
pub fn client(
    roots: Roots,
    expected: Expected,
    shown: Option<Arc<CertifiedKey>>,
) -> Result<ClientConfig, Error> {
    let provider = provider();
    let verifier = Verifier { roots, expected, provider: provider.clone() };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    Ok(match shown {
        Some(shown) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(shown))),
        None => builder.with_no_client_auth(),
    })
}

/// Whom to believe.
#[derive(Clone)]
pub enum Roots {
    /// These.
    Fixed(Arc<RootCertStore>),
    /// These, and whoever is in the files at the time.
    Reloading(Arc<RootCertStore>, Tls),
}

struct Verifier {
    roots: Roots,
    expected: Expected,
    provider: Arc<CryptoProvider>,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").field("expected", &self.expected).finish_non_exhaustive()
    }
}

impl Verifier {
    fn check_chain(
        &self,
        leaf: &ParsedCertificate<'_>,
        more: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let algorithms = self.provider.signature_verification_algorithms.all;
        let check = |roots: &RootCertStore| {
            verify_server_cert_signed_by_trust_anchor(leaf, roots, more, now, algorithms)
        };
        match &self.roots {
            Roots::Fixed(roots) => check(roots),
            Roots::Reloading(roots, tls) => check(roots).or_else(|_| check(&tls.current().roots)),
        }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        more: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let parsed = ParsedCertificate::try_from(leaf)?;
        self.check_chain(&parsed, more, now)?;
        match &self.expected {
            Expected::HostName => verify_server_name(&parsed, server_name)?,
            Expected::Id(expected) => {
                let found = spiffe::id_in(leaf);
                if found.as_ref() != Some(expected) {
                    let other = OtherServer { expected: expected.clone(), found };
                    return Err(CertificateError::Other(OtherError(Arc::new(other))).into());
                }
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
