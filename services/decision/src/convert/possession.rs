//! What came beside a token: proof that its sender holds the key that it is bound to.

use std::fmt;

use countersign_proto::decision::v1::ProofOfPossession;
use countersign_serve::{
    authn::{Credential, called},
    incoming::Peer,
};
use countersign_token::dpop::{self, DpopError, MAX_PROOF_BYTES, ProvenKey};

use http::Uri;

use super::question::short;
use crate::error::Refusal;

/// A method is a short word.
const MAX_METHOD_BYTES: usize = 32;
const MAX_URI_BYTES: usize = 8192;
/// A SHA-256 in base64url without padding.
const THUMBPRINT_BYTES: usize = 43;

/// What came beside a token, not looked at yet.
#[derive(Clone, Default)]
pub struct Possession {
    dpop: Option<Dpop>,
    certificate: Option<String>,
}

/// A DPoP proof, and the request that it must have been made for.
#[derive(Clone)]
struct Dpop {
    proof: String,
    method: String,
    uri: String,
}

impl fmt::Debug for Possession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { dpop, certificate } = self;
        let dpop = dpop.as_ref().map(|Dpop { proof: _, method, uri }| format!("{method} {uri}"));
        f.debug_struct("Possession").field("dpop", &dpop).field("certificate", certificate).finish()
    }
}

impl Possession {
    /// Reads the message.
    pub fn parse(message: Option<ProofOfPossession>) -> Result<Self, Refusal> {
        let Some(message) = message else { return Ok(Self::default()) };
        let ProofOfPossession { dpop_proof, method, uri, client_certificate_thumbprint } = message;
        let field = |name: &str| format!("proof_of_possession.{name}");
        short(&field("dpop_proof"), &dpop_proof, MAX_PROOF_BYTES)?;
        short(&field("method"), &method, MAX_METHOD_BYTES)?;
        short(&field("uri"), &uri, MAX_URI_BYTES)?;
        let parts = [("dpop_proof", &dpop_proof), ("method", &method), ("uri", &uri)];
        let dpop = match parts.iter().find(|(_, part)| part.is_empty()) {
            None => Some(Dpop { proof: dpop_proof, method, uri }),
            Some(_) if parts.iter().all(|(_, part)| part.is_empty()) => None,
            Some((name, _)) => {
                let message =
                    "missing; a DPoP proof comes with the method and the URI of its request";
                return Err(Refusal::invalid(field(name), message));
            }
        };
        let certificate = match client_certificate_thumbprint {
            none if none.is_empty() => None,
            one if one.len() == THUMBPRINT_BYTES => Some(one),
            _ => {
                let message =
                    format!("expected a SHA-256 in base64url, {THUMBPRINT_BYTES} characters");
                return Err(Refusal::invalid(field("client_certificate_thumbprint"), message));
            }
        };
        Ok(Self { dpop, certificate })
    }

    /// What a caller shows beside its own token, in a call of `uri` (RFC 9449 section 7.1, RFC 8705 section 3).
    pub fn of_caller(shown: Credential<'_>, uri: &Uri, peer: Option<&Peer>) -> Self {
        let dpop = shown.dpop.map(|proof| Dpop {
            proof: proof.to_owned(),
            method: "POST".to_owned(),
            uri: called(uri),
        });
        let certificate = peer.and_then(Peer::certificate).map(|it| it.as_ref().to_owned());
        Self { dpop, certificate }
    }

    /// The key that is proven at `now`, by a proof made for this access token, if it had to be; none when there is no proof.
    pub fn key(
        &self,
        access_token: Option<&str>,
        now: i64,
    ) -> Result<Option<ProvenKey>, DpopError> {
        let Some(Dpop { proof, method, uri }) = &self.dpop else { return Ok(None) };
        let request = dpop::Request { method, uri, access_token };
        dpop::check(proof, &request, now).map(Some)
    }

    /// The thumbprint of the client certificate.
    pub fn certificate(&self) -> Option<&str> {
        self.certificate.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages() {
        fn check(change: impl FnOnce(&mut ProofOfPossession), refused: Option<&str>) {
            let mut message = ProofOfPossession::default();
            change(&mut message);
            let found = Possession::parse(Some(message)).err().map(|refusal| refusal.to_string());
            let found = found.as_deref().map(|said| said.split(':').next().unwrap());
            let expected = refused.map(|field| format!("proof_of_possession.{field}"));
            assert_eq!(found, expected.as_deref());
        }
        fn all(message: &mut ProofOfPossession) {
            message.dpop_proof = "a.b.c".into();
            message.method = "GET".into();
            message.uri = "https://orders.example.com/".into();
        }
        check(|_| {}, None);
        check(all, None);
        check(|m| m.client_certificate_thumbprint = "a".repeat(43), None);
        for short in ["a", &"a".repeat(44)] {
            check(
                |m| m.client_certificate_thumbprint = short.into(),
                Some("client_certificate_thumbprint"),
            );
        }
        for name in ["dpop_proof", "method", "uri"] {
            let clear = |m: &mut ProofOfPossession, long: bool| {
                all(m);
                let text = if long { "x".repeat(8193) } else { String::new() };
                match name {
                    "dpop_proof" => m.dpop_proof = text,
                    "method" => m.method = text,
                    _ => m.uri = text,
                }
            };
            check(|m| clear(m, false), Some(name));
            check(|m| clear(m, true), Some(name));
        }
    }

    #[test]
    fn debug_shows_no_proof() {
        let message = ProofOfPossession {
            dpop_proof: "the-secret".into(),
            method: "GET".into(),
            uri: "https://orders.example.com/".into(),
            ..Default::default()
        };
        let shown = format!("{:?}", Possession::parse(Some(message)).unwrap());
        assert!(shown.contains("orders.example.com") && !shown.contains("the-secret"), "{shown}");
    }
}
