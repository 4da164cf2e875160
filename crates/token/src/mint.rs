//! Making a token: claims in, compact JWS out.
//!
//! Declines to know whether the session was granted: the caller brings claims that a decision allowed.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;

use crate::claims::Claims;
use crate::key::SigningKey;
use crate::{MAX_LIFETIME_SECONDS, MAX_TOKEN_BYTES};

/// Why no token was made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MintError {
    /// STS's name for a session whose policies and tags do not fit.
    #[error(
        "the token would be {bytes} bytes long; session policies and tags must leave it at most {MAX_TOKEN_BYTES}"
    )]
    PackedPolicyTooLarge { bytes: usize },
    #[error(
        "a token from `{iat}` to `{exp}` must last between 1 and {MAX_LIFETIME_SECONDS} seconds"
    )]
    Lifetime { iat: i64, exp: i64 },
    #[error("the claim `{name}` is empty, malformed, or contradicts another")]
    InvalidClaim { name: &'static str },
    #[error("the claims could not be written")]
    Serialize,
    #[error("the cryptographic library could not sign")]
    Sign,
    #[error("the cryptographic library has no randomness to give")]
    Random,
}

/// The compact form of a token with these claims: `typ` `at+jwt` (RFC 9068), ES256, low s.
///
/// # Errors
/// `MintError` for what `verify` would refuse whenever it was asked: claims that contradict each other, a life outside
/// 1 to 43200 seconds, or more than 4096 bytes; and if the library fails.
pub fn mint(claims: &Claims, key: &SigningKey) -> Result<String, MintError> {
    if !lifetime_is_valid(claims.iat, claims.exp) {
        return Err(MintError::Lifetime { iat: claims.iat, exp: claims.exp });
    }
    if let Some(name) = claims.contradiction() {
        return Err(MintError::InvalidClaim { name });
    }
    let header = Header { typ: TYP, alg: ALG, kid: key.kid() };
    let mut token = encode(&header)?;
    token.push('.');
    token.push_str(&encode(claims)?);
    let signature = key.sign(token.as_bytes()).ok_or(MintError::Sign)?;
    token.push('.');
    token.push_str(&URL_SAFE_NO_PAD.encode(signature));
    if token.len() > MAX_TOKEN_BYTES {
        return Err(MintError::PackedPolicyTooLarge { bytes: token.len() });
    }
    Ok(token)
}

pub(crate) const TYP: &str = "at+jwt";
pub(crate) const ALG: &str = "ES256";

/// Whether a token with these times lasts at least a second and at most 12 hours.
pub(crate) fn lifetime_is_valid(iat: i64, exp: i64) -> bool {
    // Saturating is safe: a difference that does not fit is far over the limit, or far below zero.
    (1..=MAX_LIFETIME_SECONDS).contains(&exp.saturating_sub(iat))
}

#[derive(Serialize)]
struct Header<'a> {
    typ: &'a str,
    alg: &'a str,
    kid: &'a str,
}

fn encode(part: &impl Serialize) -> Result<String, MintError> {
    let text = serde_json::to_vec(part).map_err(|_| MintError::Serialize)?;
    Ok(URL_SAFE_NO_PAD.encode(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ecdsa::is_low_s;
    use crate::samples::{self, NOW};
    use crate::verify::verify;

    #[test]
    fn what_is_minted_is_verified() {
        let key = SigningKey::generate().unwrap();
        let claims = samples::claims();
        let token = mint(&claims, &key).unwrap();
        let verified = verify(&token, &samples::keyset(&key), &samples::expected(), NOW).unwrap();
        assert_eq!(verified.claims(), &claims);
        assert_eq!(verified.kid(), key.kid());
        assert_eq!(
            verified.claims().sub,
            "arn:aws:sts::111122223333:assumed-role/Reader/alice@example.com"
        );
        assert_eq!(verified.claims().client_id, "AROAEXAMPLE:alice@example.com");
    }

    #[test]
    fn lifetimes() {
        let key = SigningKey::generate().unwrap();
        let check = |iat: i64, exp: i64, valid: bool| {
            let claims = Claims { iat, exp, ..samples::claims() };
            let expected = if valid { None } else { Some(MintError::Lifetime { iat, exp }) };
            assert_eq!(mint(&claims, &key).err(), expected);
        };
        check(NOW, NOW + 1, true);
        check(NOW, NOW + 43_200, true);
        check(NOW, NOW + 43_201, false);
        check(NOW, NOW, false);
        check(NOW, NOW - 1, false);
        check(i64::MIN, i64::MAX, false);
        check(i64::MAX, i64::MIN, false);
    }

    #[test]
    fn the_largest_token_is_minted_and_verified() {
        let key = SigningKey::generate().unwrap();
        let mut claims = samples::claims();
        let mut longest = None;
        let error = loop {
            match mint(&claims, &key) {
                Ok(token) => longest = Some(token),
                Err(error) => break error,
            }
            claims.session.session_policies.push("p".repeat(17));
        };
        assert!(
            matches!(error, MintError::PackedPolicyTooLarge { bytes } if bytes > MAX_TOKEN_BYTES),
            "{error:?}"
        );
        let longest = longest.unwrap();
        assert!(longest.len() > MAX_TOKEN_BYTES - 40, "{}", longest.len());
        assert!(verify(&longest, &samples::keyset(&key), &samples::expected(), NOW).is_ok());
    }

    #[test]
    fn claims_that_contradict_each_other_are_not_minted() {
        let key = SigningKey::generate().unwrap();
        let claims = Claims { sub: "arn:aws:iam::111122223333:root".into(), ..samples::claims() };
        assert_eq!(mint(&claims, &key), Err(MintError::InvalidClaim { name: "sub" }));
    }

    #[test]
    fn every_signature_is_low_s() {
        let key = SigningKey::generate().unwrap();
        for number in 0..200 {
            let claims = Claims { jti: number.to_string(), ..samples::claims() };
            let token = mint(&claims, &key).unwrap();
            let signature = URL_SAFE_NO_PAD.decode(token.rsplit('.').next().unwrap()).unwrap();
            assert!(is_low_s(&signature));
        }
    }
}
