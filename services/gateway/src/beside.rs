//! What came beside an exchange: proof that the client holds a key, and its certificate. It says which key the new token is bound to, and
//! lets a bound token in.

use std::{fmt, sync::Arc};

use countersign_proto::decision::v1::ProofOfPossession;
use countersign_serve::authn::DPOP;
use countersign_token::{
    Confirmation, DpopError, Expected, KeySet, ProvenKey, Shown, TokenError, VerifiedToken,
    check_signature,
    dpop::{self, SeenProofs},
};
use http::HeaderMap;

use crate::error::Refusal;

/// In `client_key_thumbprint`: the certificate of this connection.
const OWN_CERTIFICATE: &str = "x5t#S256";

/// What came beside a request.
#[derive(Clone, Default)]
pub struct Beside {
    dpop: Option<Dpop>,
    /// Of the TLS session (RFC 8705).
    certificate: Option<Arc<str>>,
}

/// A DPoP proof, and the request that it came with.
#[derive(Clone)]
struct Dpop {
    proof: String,
    method: &'static str,
    uri: String,
}

impl fmt::Debug for Beside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dpop = self.dpop.as_ref().map(|Dpop { proof: _, method, uri }| (method, uri));
        f.debug_struct("Beside").field("dpop", &dpop).finish_non_exhaustive()
    }
}

impl Beside {
    /// What the headers of a `POST` of `uri` bring, and the connection's client certificate.
    ///
    /// # Errors
    /// When there are two proofs, or one is no text (RFC 9449 section 4.3, 1).
    pub fn of(
        headers: &HeaderMap,
        uri: impl FnOnce() -> String,
        certificate: Option<Arc<str>>,
    ) -> Result<Self, Refusal> {
        let mut proofs = headers.get_all(DPOP).iter();
        let proof = match (proofs.next(), proofs.next()) {
            (None, _) => return Ok(Self { dpop: None, certificate }),
            (Some(proof), None) => proof.to_str().map_err(|_| DpopError::Malformed)?.to_owned(),
            (Some(_), Some(_)) => return Err(DpopError::Malformed.into()),
        };
        Ok(Self { dpop: Some(Dpop { proof, method: "POST", uri: uri() }), certificate })
    }

    /// Whether there is no proof, where there may not be one.
    ///
    /// # Errors
    /// When there is a proof: of one that is passed over nobody would know that it did nothing.
    pub fn no_proof(&self) -> Result<(), Refusal> {
        match &self.dpop {
            None => Ok(()),
            Some(_) => {
                let message =
                    "not with a challenge: send `client_key_thumbprint`, which the proof signs"
                        .to_owned();
                Err(Refusal::Invalid { field: "dpop", message })
            }
        }
    }

    /// Who holds the proof's key, at `now`.
    ///
    /// # Errors
    /// When the proof is none.
    pub fn key(&self, now: i64) -> Result<Option<ProvenKey>, Refusal> {
        let Some(Dpop { proof, method, uri }) = &self.dpop else { return Ok(None) };
        // The token that comes out is not there yet, and the one that goes in is no access to this (RFC 9449 section 5).
        let request = dpop::Request { method, uri, access_token: None };
        Ok(Some(dpop::check(proof, &request, now)?))
    }

    /// The proof's key as the one that the new token is bound to, unless the request names one: so that the binding of an STS proof covers
    /// the key also where only a header says it. In the same way the connection's certificate, where the request asks for it; a certificate
    /// binds nothing by itself, since whoever uses TLS has not asked for that.
    ///
    /// # Errors
    /// When the request names another, or the proof is none.
    pub fn name_in(&self, client_key_thumbprint: &mut String, now: i64) -> Result<(), Refusal> {
        let Some(key) = self.key(now)? else { return self.name_certificate(client_key_thumbprint) };
        if client_key_thumbprint.is_empty() {
            key.thumbprint().clone_into(client_key_thumbprint);
        }
        if client_key_thumbprint != key.thumbprint() {
            let message = "is not that of the key of the DPoP proof".to_owned();
            return Err(Refusal::Invalid { field: "client_key_thumbprint", message });
        }
        Ok(())
    }

    /// RFC 8705 section 3: a token that is asked for over mutual TLS is bound to the certificate of that connection, and to no other.
    fn name_certificate(&self, client_key_thumbprint: &mut String) -> Result<(), Refusal> {
        let invalid = |message: &str| {
            let message = message.to_owned();
            Err(Refusal::Invalid { field: "client_key_thumbprint", message })
        };
        let named = client_key_thumbprint.strip_prefix(OWN_CERTIFICATE);
        match (named, &self.certificate) {
            (None, _) => Ok(()),
            (Some(""), Some(own)) => {
                *client_key_thumbprint = format!("{OWN_CERTIFICATE}:{own}");
                Ok(())
            }
            (Some(""), None) => invalid(
                "`x5t#S256` alone stands for the connection's client certificate, and this connection has shown none",
            ),
            (Some(named), Some(own)) if named.strip_prefix(':') != Some(own.as_ref()) => {
                invalid("is not that of the connection's client certificate")
            }
            (Some(_), Some(_) | None) => Ok(()),
        }
    }

    /// Takes the proof, once.
    ///
    /// # Errors
    /// When it was taken before, or is none.
    pub fn take(&self, seen: &SeenProofs, now: i64) -> Result<(), Refusal> {
        match self.key(now)? {
            Some(key) => Ok(seen.take(&key, key.thumbprint(), now)?),
            None => Ok(()),
        }
    }

    /// For the decision service, which looks again; of tokens that are bound to nothing there is nothing to see.
    #[must_use]
    pub fn of_tokens<'a>(
        &self,
        tokens: impl IntoIterator<Item = &'a VerifiedToken>,
    ) -> Option<ProofOfPossession> {
        let mut possession = None::<ProofOfPossession>;
        for bound_to in tokens.into_iter().filter_map(|token| token.claims().cnf.as_ref()) {
            let shown = possession.get_or_insert_default();
            match (bound_to, &self.dpop, &self.certificate) {
                (Confirmation::Key(_), Some(Dpop { proof, method, uri }), _) => {
                    proof.clone_into(&mut shown.dpop_proof);
                    (*method).clone_into(&mut shown.method);
                    uri.clone_into(&mut shown.uri);
                }
                (Confirmation::Certificate(_), _, Some(own)) => {
                    own.as_ref().clone_into(&mut shown.client_certificate_thumbprint);
                }
                // Cannot be, of a token that was verified with this; the decision service refuses it.
                (Confirmation::Key(_), None, _) | (Confirmation::Certificate(_), _, None) => {}
            }
        }
        possession
    }
}

/// Verifies a token that comes in to be exchanged, with what came beside it (ATTACKS 74). For `audience`, or for whichever it says.
///
/// # Errors
/// The first reason found.
pub fn verify(
    token: &str,
    beside: &Beside,
    issuer: &str,
    audience: Option<&str>,
    keys: &KeySet,
    now: i64,
) -> Result<VerifiedToken, Refusal> {
    let signed = check_signature(token, keys).map_err(Refusal::SubjectToken)?;
    let audience = audience.unwrap_or(signed.audience());
    let expected = Expected { issuer, audience, leeway: crate::authn::LEEWAY };
    // Beside a token that is bound to no key, a proof is for the new token alone.
    let key = match signed.confirmation() {
        Some(Confirmation::Key(_)) => beside.key(now)?,
        Some(Confirmation::Certificate(_)) | None => None,
    };
    let shown = Shown { key: key.as_ref(), certificate: beside.certificate.as_deref() };
    signed.check_shown(now, &expected, keys, &shown).map_err(Refusal::SubjectToken)
}

/// What the new token is bound to: what the old one is bound to, or what was asked for.
///
/// # Errors
/// When it would be another key than the old one's: whoever holds that one has not agreed.
pub fn confirmation(
    asked: Option<&Confirmation>,
    parent: Option<&VerifiedToken>,
) -> Result<Option<Confirmation>, Refusal> {
    let own = parent.and_then(|parent| parent.claims().cnf.as_ref());
    match (own, asked) {
        (Some(own), Some(asked)) if own != asked => {
            Err(Refusal::SubjectToken(TokenError::WrongKey))
        }
        (Some(own), Some(_) | None) => Ok(Some(own.clone())),
        (None, asked) => Ok(asked.cloned()),
    }
}

/// The names that end a token which `parent` was exchanged for.
///
/// # Errors
/// When it was exchanged on too often (ATTACKS 73).
pub fn parents(parent: &VerifiedToken) -> Result<Vec<String>, Refusal> {
    let claims = parent.claims();
    let mut parents = claims.session.parents.clone();
    parents.push(claims.jti.clone());
    if parents.len() > countersign_token::claims::MAX_PARENTS {
        let message = format!(
            "was exchanged on {} times already; begin anew with a proof",
            countersign_token::claims::MAX_PARENTS
        );
        return Err(Refusal::Invalid { field: "subject_token", message });
    }
    Ok(parents)
}
