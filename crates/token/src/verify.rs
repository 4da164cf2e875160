//! Checking a token that Countersign itself signed.
//!
//! In two steps, so that the first may be remembered: `check_signature` costs a signature check and depends on the bytes
//! alone; `SignedToken::check` is cheap, depends on `now` and on the keys' standing, and must be asked at each use.
//!
//! Declines to know revoked `jti`s, re-created roles and the revision a replica has reached: each use asks for those elsewhere.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::claims::{Claims, Confirmation};
use crate::dpop::ProvenKey;
use crate::ecdsa::{SIGNATURE_BYTES, is_low_s};
use crate::json::{self, JsonFault};
use crate::keyset::{KeyRecord, KeySet};
use crate::mint::{ALG, TYP, lifetime_is_valid};
use crate::{MAX_LEEWAY_SECONDS, MAX_TOKEN_BYTES};

mod error;

pub use error::{Part, TokenError};

/// What a token must say to be accepted here.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    /// Our issuer, compared byte by byte.
    pub issuer: &'a str,
    /// The asking service's own name, compared byte by byte.
    pub audience: &'a str,
    /// How far ahead of `now` a token's `iat` may lie, in seconds: 0 to 5, anything else is read as the nearer of the two.
    /// An `exp` has no leeway.
    pub leeway: i64,
}

/// What the one who shows a token has proven to hold, beside the token.
#[derive(Debug, Clone, Copy, Default)]
pub struct Shown<'a> {
    /// By a DPoP proof that was made for this very token.
    pub key: Option<&'a ProvenKey>,
    /// The SHA-256 of its TLS client certificate, base64url without padding, where the TLS session has shown one.
    pub certificate: Option<&'a str>,
}

/// A token whose signature holds, and whose claims are ours in form. Nothing is said of now: only `check` yields its claims.
#[derive(Debug, Clone)]
pub struct SignedToken {
    kid: Arc<str>,
    claims: Arc<Claims>,
}

/// A token that was good at the moment it was asked about. Only `SignedToken::check` makes one; it is not to be kept.
#[derive(Debug)]
pub struct VerifiedToken {
    kid: Arc<str>,
    claims: Arc<Claims>,
}

impl VerifiedToken {
    pub fn claims(&self) -> &Claims {
        &self.claims
    }

    /// The thumbprint of the key that signed.
    pub fn kid(&self) -> &str {
        &self.kid
    }
}

/// Both steps: `check_signature`, then `SignedToken::check`. `now` is in seconds since 1970.
///
/// # Errors
/// `TokenError`, the first reason found.
pub fn verify(
    token: &str,
    keyset: &KeySet,
    expected: &Expected<'_>,
    now: i64,
) -> Result<VerifiedToken, TokenError> {
    check_signature(token, keyset)?.check(now, expected, keyset)
}

/// Checks form, header, signature and the claims' form (RFC 9068 section 4, RFC 8725). Cheap refusals come first.
///
/// # Errors
/// `TokenError`, the first reason found.
pub fn check_signature(token: &str, keyset: &KeySet) -> Result<SignedToken, TokenError> {
    if token.len() > MAX_TOKEN_BYTES {
        return Err(TokenError::TooLarge { bytes: token.len() });
    }
    let [header, payload, signature] = three_parts(token)?;
    let signing_input = token.get(..header.len() + 1 + payload.len()).unwrap_or_default();
    let header_text = decode(Part::Header, header)?;
    let kid = match minted_kid(&header_text) {
        Some(kid) => kid.to_owned(),
        None => kid_of_header(object(Part::Header, &header_text)?)?,
    };
    let record = usable(keyset, &kid)?;
    let payload_text = decode(Part::Payload, payload)?;
    let payload = object(Part::Payload, &payload_text)?;
    let signature = decode(Part::Signature, signature)?;
    check_spelling(&signature)?;
    if !record.public.verifies(signing_input.as_bytes(), &signature) {
        return Err(TokenError::InvalidSignature);
    }
    check_registered(&payload)?;
    let claims = typed_claims(payload, &payload_text)?;
    Ok(SignedToken { kid: kid.into(), claims: Arc::new(claims) })
}

impl SignedToken {
    /// Checks what may change between two uses: the key's standing, issuer, audience, and the times at `now` (seconds since
    /// 1970). A token that is bound to a key is refused: whoever shows it has proven nothing.
    ///
    /// # Errors
    /// `TokenError`, the first reason found.
    pub fn check(
        &self,
        now: i64,
        expected: &Expected<'_>,
        keyset: &KeySet,
    ) -> Result<VerifiedToken, TokenError> {
        self.check_shown(now, expected, keyset, &Shown::default())
    }

    /// The same, of somebody who has proven to hold what is `shown`.
    ///
    /// # Errors
    /// `TokenError`, the first reason found.
    pub fn check_shown(
        &self,
        now: i64,
        expected: &Expected<'_>,
        keyset: &KeySet,
        shown: &Shown<'_>,
    ) -> Result<VerifiedToken, TokenError> {
        self.look_at(now, expected, keyset)?;
        check_possession(self.claims.cnf.as_ref(), shown)?;
        Ok(VerifiedToken { kid: Arc::clone(&self.kid), claims: Arc::clone(&self.claims) })
    }

    /// Its claims, if it is good, for whoever asks about a token that somebody else holds, and does nothing in its name: whether it is
    /// bound to a key does not matter.
    ///
    /// # Errors
    /// `TokenError`, the first reason found.
    pub fn look_at(
        &self,
        now: i64,
        expected: &Expected<'_>,
        keyset: &KeySet,
    ) -> Result<&Claims, TokenError> {
        let record = usable(keyset, &self.kid)?;
        if now >= record.accept_until {
            return Err(TokenError::RetiredKey { kid: self.kid.to_string() });
        }
        let claims = &self.claims;
        if claims.iss != expected.issuer {
            return Err(TokenError::WrongIssuer);
        }
        if claims.aud != expected.audience {
            return Err(TokenError::WrongAudience);
        }
        check_times(claims, now, expected.leeway.clamp(0, MAX_LEEWAY_SECONDS))?;
        Ok(claims)
    }

    /// The thumbprint of the key that signed.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The token's own name: what revocation and replay are keyed by, since a token's bytes may have a twin. A memory of
    /// checked signatures is the opposite: keyed by all the token's bytes (or their hash), or it vouches for a forgery.
    pub fn jti(&self) -> &str {
        &self.claims.jti
    }

    /// Who it says it is for; to be compared, or to be looked up.
    pub fn audience(&self) -> &str {
        &self.claims.aud
    }

    /// Whether it may be exchanged by `actor`, or, without one, by whoever holds it; see [`Claims::may_be_exchanged_by`].
    pub fn may_be_exchanged_by(&self, actor: Option<&SignedToken>) -> bool {
        self.claims.may_be_exchanged_by(actor.map(|actor| actor.claims.as_ref()))
    }

    /// What it is bound to.
    pub fn confirmation(&self) -> Option<&Confirmation> {
        self.claims.cnf.as_ref()
    }

    /// Whether it is bound to a key.
    pub fn is_bound(&self) -> bool {
        self.claims.cnf.is_some()
    }

    /// The names whose revocation ends this token: its own, and those of the tokens that it was exchanged for.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let claims = &self.claims;
        std::iter::once(&claims.jti).chain(&claims.session.parents).map(String::as_str)
    }

    /// When there is no more use in remembering it, in seconds since 1970.
    pub fn expires_at(&self) -> i64 {
        self.claims.exp
    }
}

fn three_parts(token: &str) -> Result<[&str; 3], TokenError> {
    let mut parts = token.split('.');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(header), Some(payload), Some(signature), None) => Ok([header, payload, signature]),
        (_, _, _, _) => Err(TokenError::NotThreeParts),
    }
}

fn decode(part: Part, text: &str) -> Result<Vec<u8>, TokenError> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| TokenError::Malformed { part })
}

fn object(part: Part, text: &[u8]) -> Result<Map<String, Value>, TokenError> {
    json::object(text).map_err(|fault| match fault {
        JsonFault::Syntax | JsonFault::NotAnObject => TokenError::Malformed { part },
        JsonFault::DuplicateMember(name) => {
            TokenError::DuplicateMember { part, name: error::shown(&name) }
        }
        JsonFault::TooDeep => TokenError::TooDeep { part },
    })
}

/// The `kid` of a header that is, byte by byte, as `mint` writes it, which is cheap to see. No character that a `kid` may have means
/// anything else in JSON, so this is what reading it would say.
fn minted_kid(header: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(header).ok()?;
    let kid = text.strip_prefix(r#"{"typ":"at+jwt","alg":"ES256","kid":""#)?.strip_suffix("\"}")?;
    is_key_id(kid).then_some(kid)
}

/// RFC 8725 section 3.11 (explicit typing) and 3.1 (one algorithm). `crit`, `jwk`, `jku`, `x5u`, `x5c`, `zip`, `b64` and all
/// else is refused: a header member that asks for something this reader does not do must not be passed over.
fn kid_of_header(header: Map<String, Value>) -> Result<String, TokenError> {
    let (mut typ, mut alg, mut kid) = (None, None, None);
    for (name, value) in header {
        match name.as_str() {
            "typ" => typ = Some(value),
            "alg" => alg = Some(value),
            "kid" => kid = Some(value),
            _ => {
                return Err(TokenError::UnknownHeaderMember { name: error::shown(&name) });
            }
        }
    }
    if typ != Some(Value::from(TYP)) {
        return Err(TokenError::WrongType);
    }
    if alg != Some(Value::from(ALG)) {
        return Err(TokenError::WrongAlgorithm);
    }
    match kid {
        Some(Value::String(kid)) if is_key_id(&kid) => Ok(kid),
        Some(_) | None => Err(TokenError::InvalidKeyId),
    }
}

fn is_key_id(kid: &str) -> bool {
    (1..=128).contains(&kid.len())
        && kid.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

fn usable<'k>(keyset: &'k KeySet, kid: &str) -> Result<&'k KeyRecord, TokenError> {
    let record =
        keyset.lookup(kid).ok_or_else(|| TokenError::UnknownKey { kid: kid.to_owned() })?;
    if record.revoked {
        return Err(TokenError::RevokedKey { kid: kid.to_owned() });
    }
    Ok(record)
}

/// The twin (r, n − s) would verify too, and would be the same token in other bytes.
fn check_spelling(signature: &[u8]) -> Result<(), TokenError> {
    if signature.len() != SIGNATURE_BYTES {
        return Err(TokenError::Malformed { part: Part::Signature });
    }
    if !is_low_s(signature) {
        return Err(TokenError::HighSignature);
    }
    Ok(())
}

/// That the registered claims are there (RFC 9068 section 2.2), before all of them are read.
fn check_registered(payload: &Map<String, Value>) -> Result<(), TokenError> {
    let is_there = |name: &str| match (name, payload.get(name)) {
        ("exp" | "iat", Some(value)) => value.is_i64(),
        (_, Some(value)) => value.is_string(),
        (_, None) => false,
    };
    match ["exp", "aud", "iss", "sub", "iat", "jti"].into_iter().find(|name| !is_there(name)) {
        Some(name) => Err(TokenError::MissingClaim { name: name.to_owned() }),
        None => Ok(()),
    }
}

/// The claims, all of them understood: written again they must be what was read, so that nothing was passed over and no
/// absence has two spellings.
fn typed_claims(payload: Map<String, Value>, text: &[u8]) -> Result<Claims, TokenError> {
    let unread = |failure: serde_json::Error| TokenError::InvalidClaims {
        reason: error::shown(&failure.to_string()),
    };
    let payload = Value::Object(payload);
    let claims = Claims::deserialize(&payload).map_err(unread)?;
    // As `mint` writes it, byte by byte, which is cheap to see; or the same in another order.
    let as_minted = serde_json::to_vec(&claims).map_err(unread)? == text;
    if !as_minted && serde_json::to_value(&claims).map_err(unread)? != payload {
        return Err(TokenError::InvalidClaims {
            reason: "not in the form that the issuer writes".to_owned(),
        });
    }
    match claims.contradiction() {
        Some(name) => Err(TokenError::ContradictoryClaim { name }),
        None => Ok(claims),
    }
}

/// RFC 9449 section 7.1, RFC 8705 section 3.
fn check_possession(cnf: Option<&Confirmation>, shown: &Shown<'_>) -> Result<(), TokenError> {
    match (cnf, shown.key, shown.certificate) {
        // A certificate says who made the connection; that the token is bound to it, nobody has said.
        (None, None, _) => Ok(()),
        (Some(Confirmation::Key(jkt)), Some(key), _) if *jkt == key.thumbprint() => Ok(()),
        (Some(Confirmation::Key(_)), Some(_), _) => Err(TokenError::WrongKey),
        (None | Some(Confirmation::Certificate(_)), Some(_), _) => Err(TokenError::NotBound),
        (Some(Confirmation::Certificate(own)), None, Some(shown)) if *own == shown => Ok(()),
        (Some(Confirmation::Certificate(_)), None, Some(_)) => Err(TokenError::WrongKey),
        (Some(Confirmation::Key(_)), None, _)
        | (Some(Confirmation::Certificate(_)), None, None) => Err(TokenError::NoProofOfPossession),
    }
}

fn check_times(claims: &Claims, now: i64, leeway: i64) -> Result<(), TokenError> {
    let Claims { iat, exp, .. } = *claims;
    if !lifetime_is_valid(iat, exp) {
        return Err(TokenError::Lifetime { iat, exp });
    }
    if iat > now.saturating_add(leeway) {
        return Err(TokenError::IssuedInTheFuture { iat });
    }
    // RFC 7519 section 4.1.4: not accepted on or after the expiration time.
    if now >= exp {
        return Err(TokenError::Expired { exp });
    }
    Ok(())
}
