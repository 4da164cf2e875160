//! DPoP (RFC 9449): proof that whoever sends a request holds a private key.
//!
//! Knows all that section 4.3 wants checked of one proof. Declines to know which proofs were seen before: whoever accepts a
//! [`ProvenKey`] takes it out of its own [`SeenProofs`] first. It gives no nonces, so that this memory, and a window of a minute, are what
//! stands against replay. A client's side is [`ClientKey`].

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use crate::MAX_LEEWAY_SECONDS;
use crate::canonical::sha256_base64url;
use crate::ecdsa::SIGNATURE_BYTES;
use crate::json;
use crate::key::PublicKey;

mod client;
mod seen;

pub use client::{ClientKey, ClientKeyError};
pub use seen::SeenProofs;

/// The longest proof that is read, in bytes.
pub const MAX_PROOF_BYTES: usize = 4096;
/// How old a proof may be, in seconds.
pub const MAX_AGE_SECONDS: i64 = 60;
/// The one algorithm: a proof that names another is refused.
pub const ALGORITHM: &str = "ES256";
const TYP: &str = "dpop+jwt";
/// A JWK's members that only a private key, or a symmetric one, has (RFC 7518 section 6).
const PRIVATE: [&str; 9] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k", "seed"];

/// What a proof must have been made for.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The HTTP method; of a gRPC call, `POST`.
    pub method: &'a str,
    /// The URI that was called; its query and fragment do not count. Of a gRPC call, `https://authority/package.Service/Method`.
    pub uri: &'a str,
    /// The access token that it came with, if it came with one.
    pub access_token: Option<&'a str>,
}

/// Why a proof is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DpopError {
    #[error("the DPoP proof is longer than {MAX_PROOF_BYTES} bytes")]
    TooLarge,
    #[error("the DPoP proof is no JWT: three parts of base64url, two of them JSON objects")]
    Malformed,
    #[error("the DPoP proof's `typ` is not `dpop+jwt`")]
    WrongType,
    #[error("the DPoP proof's `alg` is not `ES256`")]
    WrongAlgorithm,
    #[error("the DPoP proof's header has the member `{name}`, which is not implemented")]
    UnknownHeaderMember { name: String },
    #[error("the DPoP proof's `jwk` holds a private key, which is now known to others")]
    PrivateKey,
    #[error("the DPoP proof's `jwk` is no public P-256 key")]
    InvalidKey,
    #[error("the DPoP proof's signature does not hold")]
    InvalidSignature,
    #[error("the DPoP proof's claim `{name}` is missing, or of the wrong kind")]
    MissingClaim { name: &'static str },
    #[error("the DPoP proof was made for another method (`htm`)")]
    WrongMethod,
    #[error("the DPoP proof was made for another URI (`htu`)")]
    WrongUri,
    #[error("the DPoP proof was made at `{iat}`, more than {MAX_AGE_SECONDS} seconds ago")]
    TooOld { iat: i64 },
    #[error("the DPoP proof was made in the future, at `{iat}`")]
    InTheFuture { iat: i64 },
    #[error("the DPoP proof's own time (`exp`, `nbf`) is over, or has not come")]
    OutOfTime,
    #[error("the DPoP proof was made for another access token (`ath`)")]
    WrongToken,
    #[error("the DPoP proof was used before; make a new one for each request")]
    Replayed,
    #[error("too many DPoP proofs at once; try again")]
    Busy,
}

impl DpopError {
    /// The reason's name, for `ErrorInfo.reason` and for metrics: a small closed set.
    pub fn code(&self) -> &'static str {
        match self {
            DpopError::Replayed => "DpopProofReplayed",
            DpopError::Busy => "Throttling",
            DpopError::TooLarge
            | DpopError::Malformed
            | DpopError::WrongType
            | DpopError::WrongAlgorithm
            | DpopError::UnknownHeaderMember { .. }
            | DpopError::PrivateKey
            | DpopError::InvalidKey
            | DpopError::InvalidSignature
            | DpopError::MissingClaim { .. }
            | DpopError::WrongMethod
            | DpopError::WrongUri
            | DpopError::TooOld { .. }
            | DpopError::InTheFuture { .. }
            | DpopError::OutOfTime
            | DpopError::WrongToken => "InvalidDpopProof",
        }
    }
}

/// A key whose holder made this request. Only [`check`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProvenKey {
    thumbprint: String,
    replay_key: String,
    until: i64,
}

impl ProvenKey {
    /// The key's RFC 7638 thumbprint.
    pub fn thumbprint(&self) -> &str {
        &self.thumbprint
    }

    /// What the proof is remembered by: the key and its `jti`, so that nobody can use up another's (RFC 9449 section 11.1).
    pub fn replay_key(&self) -> &str {
        &self.replay_key
    }

    /// Until when it must be remembered, in seconds since 1970: it is too old after that.
    pub fn until(&self) -> i64 {
        self.until
    }
}

/// Checks `proof` for `request` at `now` (seconds since 1970), all that RFC 9449 section 4.3 wants but the replay.
///
/// # Errors
/// `DpopError`, the first reason found.
pub fn check(proof: &str, request: &Request<'_>, now: i64) -> Result<ProvenKey, DpopError> {
    if proof.len() > MAX_PROOF_BYTES {
        return Err(DpopError::TooLarge);
    }
    let mut parts = proof.split('.');
    let (Some(header), Some(payload), Some(signature), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(DpopError::Malformed);
    };
    let key = key_of_header(object(header)?)?;
    let claims = object(payload)?;
    let decoded = URL_SAFE_NO_PAD.decode(signature).map_err(|_| DpopError::Malformed)?;
    if decoded.len() != SIGNATURE_BYTES {
        return Err(DpopError::InvalidSignature);
    }
    let input = proof.get(..header.len() + 1 + payload.len()).ok_or(DpopError::Malformed)?;
    if !key.verifies(input.as_bytes(), &decoded) {
        return Err(DpopError::InvalidSignature);
    }
    let jti = check_claims(&claims, request, now)?;
    let iat = integer(&claims, "iat")?;
    Ok(ProvenKey {
        thumbprint: key.kid().to_owned(),
        replay_key: format!("dpop:{}:{}", key.kid(), sha256_base64url(jti.as_bytes())),
        until: iat.saturating_add(MAX_AGE_SECONDS),
    })
}

fn object(part: &str) -> Result<Map<String, Value>, DpopError> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| DpopError::Malformed)?;
    json::object(&bytes).map_err(|_| DpopError::Malformed)
}

fn key_of_header(header: Map<String, Value>) -> Result<PublicKey, DpopError> {
    let (mut typ, mut alg, mut jwk) = (None, None, None);
    for (name, value) in header {
        match name.as_str() {
            "typ" => typ = Some(value),
            "alg" => alg = Some(value),
            "jwk" => jwk = Some(value),
            // `crit`, `jku`, `x5c` and all else: what this reader does not do must not be passed over.
            _ => {
                let name = name.escape_debug().take(64).collect();
                return Err(DpopError::UnknownHeaderMember { name });
            }
        }
    }
    if typ != Some(Value::from(TYP)) {
        return Err(DpopError::WrongType);
    }
    if alg != Some(Value::from(ALGORITHM)) {
        return Err(DpopError::WrongAlgorithm);
    }
    match jwk {
        Some(Value::Object(members)) => public_key(&members),
        Some(_) | None => Err(DpopError::InvalidKey),
    }
}

fn public_key(members: &Map<String, Value>) -> Result<PublicKey, DpopError> {
    if PRIVATE.iter().any(|name| members.contains_key(*name)) {
        return Err(DpopError::PrivateKey);
    }
    let text = |name: &str| members.get(name).and_then(Value::as_str);
    match (text("kty"), text("crv"), text("x"), text("y")) {
        (Some("EC"), Some("P-256"), Some(x), Some(y)) => {
            PublicKey::from_coordinates(x, y).map_err(|_| DpopError::InvalidKey)
        }
        (_, _, _, _) => Err(DpopError::InvalidKey),
    }
}

fn check_claims<'c>(
    claims: &'c Map<String, Value>,
    request: &Request<'_>,
    now: i64,
) -> Result<&'c str, DpopError> {
    let jti = text(claims, "jti")?;
    if !(1..=256).contains(&jti.len()) {
        return Err(DpopError::MissingClaim { name: "jti" });
    }
    if text(claims, "htm")? != request.method {
        return Err(DpopError::WrongMethod);
    }
    let made_for = normal(text(claims, "htu")?).ok_or(DpopError::WrongUri)?;
    if normal(request.uri).as_ref() != Some(&made_for) {
        return Err(DpopError::WrongUri);
    }
    let iat = integer(claims, "iat")?;
    if iat > now.saturating_add(MAX_LEEWAY_SECONDS) {
        return Err(DpopError::InTheFuture { iat });
    }
    if iat < now.saturating_sub(MAX_AGE_SECONDS) {
        return Err(DpopError::TooOld { iat });
    }
    // A maker that says less time than we would give is taken at its word.
    let is_over = claims.contains_key("exp") && integer(claims, "exp")? <= now;
    let is_early = claims.contains_key("nbf")
        && integer(claims, "nbf")? > now.saturating_add(MAX_LEEWAY_SECONDS);
    if is_over || is_early {
        return Err(DpopError::OutOfTime);
    }
    match request.access_token {
        Some(token) if text(claims, "ath")? != sha256_base64url(token.as_bytes()) => {
            Err(DpopError::WrongToken)
        }
        Some(_) | None => Ok(jti),
    }
}

fn text<'c>(claims: &'c Map<String, Value>, name: &'static str) -> Result<&'c str, DpopError> {
    claims.get(name).and_then(Value::as_str).ok_or(DpopError::MissingClaim { name })
}

fn integer(claims: &Map<String, Value>, name: &'static str) -> Result<i64, DpopError> {
    claims.get(name).and_then(Value::as_i64).ok_or(DpopError::MissingClaim { name })
}

/// Scheme, authority and path, in the one spelling that is compared (RFC 3986 sections 6.2.2 and 6.2.3): case of scheme and host, default
/// ports and an empty path do not count. Percent-encodings are left as they are. None for what is no http(s) URI.
fn normal(uri: &str) -> Option<(String, String, String)> {
    let (scheme, rest) = uri.split_once("://")?;
    let scheme = scheme.to_ascii_lowercase();
    let default_port = match scheme.as_str() {
        "https" => ":443",
        "http" => ":80",
        _ => return None,
    };
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let (authority, path) = match rest.find('/') {
        Some(at) => rest.split_at_checked(at)?,
        None => (rest, "/"),
    };
    let authority = authority.to_ascii_lowercase();
    if authority.is_empty() || authority.contains('@') {
        return None;
    }
    let authority = authority.strip_suffix(default_port).unwrap_or(&authority).to_owned();
    Some((scheme, authority, path.to_owned()))
}

#[cfg(test)]
mod tests;
