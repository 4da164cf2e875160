//! SPIFFE ids: the names that parts of Countersign have in their certificates.
//!
//! Source: <https://github.com/spiffe/spiffe/blob/main/standards/SPIFFE-ID.md> and X509-SVID.md beside it.

use std::{fmt, str::FromStr, sync::Arc};

use rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;

/// A part of Countersign, as a certificate names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The policy store.
    PolicyStore,
    /// The decision service.
    Decision,
    /// The token gateway.
    Gateway,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PolicyStore => "policy-store",
            Self::Decision => "decision",
            Self::Gateway => "gateway",
        })
    }
}

/// A trust domain: lower-case letters, digits, `.`, `-` and `_`, at most 255 of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustDomain(Arc<str>);

/// A text that is no trust domain.
#[derive(Debug, thiserror::Error)]
#[error(
    "`{0}` is no trust domain: give lower-case letters, digits, `.`, `-` and `_` alone, such as `countersign.example.org`"
)]
pub struct NoTrustDomain(String);

impl FromStr for TrustDomain {
    type Err = NoTrustDomain;

    fn from_str(text: &str) -> Result<Self, NoTrustDomain> {
        let is_allowed =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-_".contains(&byte);
        if (1..=255).contains(&text.len()) && text.bytes().all(is_allowed) {
            return Ok(Self(text.into()));
        }
        Err(NoTrustDomain(text.to_owned()))
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TrustDomain {
    /// `spiffe://<trust domain>/countersign/<part>`.
    #[must_use]
    pub fn id_of(&self, part: Part) -> String {
        format!("spiffe://{self}/countersign/{part}")
    }
}

/// The SPIFFE id of a certificate; none when it has no URI, or several. It says nothing of who signed the certificate.
#[must_use]
pub fn id_in(certificate: &CertificateDer<'_>) -> Option<Arc<str>> {
    let certificate = EndEntityCert::try_from(certificate).ok()?;
    let mut uris = certificate.valid_uri_names();
    // "An X.509 SVID MUST contain exactly one URI SAN" (X509-SVID, section 2).
    match (uris.next(), uris.next()) {
        (Some(id), None) if id.starts_with("spiffe://") => Some(id.into()),
        (Some(_) | None, _) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trust_domains() {
        let check = |text: &str, good: bool| {
            assert_eq!(text.parse::<TrustDomain>().is_ok(), good, "{text}");
        };
        check("example.org", true);
        check("a-b_c.1", true);
        check("", false);
        check("Example.org", false);
        check("example.org/x", false);
        check("spiffe://example.org", false);
        check(&"a".repeat(256), false);
        let domain: TrustDomain = "example.org".parse().unwrap();
        assert_eq!(
            domain.id_of(Part::PolicyStore),
            "spiffe://example.org/countersign/policy-store"
        );
    }
}
