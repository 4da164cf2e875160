//! Signing keys and public keys: ECDSA on P-256, named by their RFC 7638 thumbprint.
//!
//! Declines to know how to read or write a private key: a signing key is made in the process that signs, and dies with it.

use std::fmt;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair,
    ParsedPublicKey,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::Value;

use crate::ecdsa::{SIGNATURE_BYTES, to_low_s};
use crate::json;
use crate::thumbprint::p256_thumbprint;

/// The longest text that is read as one JWK, in bytes. A P-256 key needs about 200.
const MAX_JWK_BYTES: usize = 1024;

/// Why a key could not be made or read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("the cryptographic library could not make a key")]
    Generate,
    #[error("the key is not a JSON object with distinct members, of at most 1024 bytes")]
    NotAnObject,
    #[error("the key does not have the members of a public P-256 signing key: {reason}")]
    Members { reason: String },
    #[error("the key's `{member}` must be `{expected}`")]
    WrongMember { member: &'static str, expected: &'static str },
    #[error("the key's coordinate `{member}` is not 32 bytes in base64url without padding")]
    Coordinate { member: &'static str },
    #[error("the key's coordinates are not a point of P-256")]
    NotOnCurve,
    #[error("the key's `kid` is not its RFC 7638 thumbprint `{thumbprint}`")]
    WrongKeyId { thumbprint: String },
}

/// A private key that signs tokens, and its public half.
///
/// It cannot be cloned, printed, read or written. AWS-LC clears the memory of the private half when the key is dropped
/// (its `OPENSSL_free` overwrites what it frees).
pub struct SigningKey {
    pair: EcdsaKeyPair,
    public: PublicKey,
}

impl SigningKey {
    /// A new key, from AWS-LC's random generator.
    ///
    /// # Errors
    /// `KeyError::Generate` if the library has no randomness to give.
    pub fn generate() -> Result<SigningKey, KeyError> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)
            .map_err(|_| KeyError::Generate)?;
        let public = PublicKey::from_point(pair.public_key().as_ref())?;
        Ok(SigningKey { pair, public })
    }

    /// The RFC 7638 thumbprint of the public half: 43 base64url characters.
    pub fn kid(&self) -> &str {
        self.public.kid()
    }

    pub fn public(&self) -> PublicKey {
        self.public.clone()
    }

    /// r and a low s, or None if the library fails.
    pub(crate) fn sign(&self, message: &[u8]) -> Option<[u8; SIGNATURE_BYTES]> {
        let signature = self.pair.sign(&SystemRandom::new(), message).ok()?;
        to_low_s(signature.as_ref())
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("SigningKey")
            .field("kid", &self.kid())
            .field("private", &"[redacted]")
            .finish()
    }
}

/// A public key: a valid point of P-256 under the name of its thumbprint.
#[derive(Debug, Clone)]
pub struct PublicKey {
    kid: String,
    x: String,
    y: String,
    // INVARIANT: the uncompressed point (SEC 1 section 2.3.3: 04, x, y), checked to lie on the curve.
    point: Vec<u8>,
    /// The same, ready to verify.
    parsed: ParsedPublicKey,
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.point == other.point
    }
}

impl Eq for PublicKey {}

impl PublicKey {
    /// From a JWK (RFC 7517) with exactly the members `kty` (EC), `crv` (P-256), `x`, `y`, `kid`, `alg` (ES256) and `use` (sig).
    ///
    /// # Errors
    /// `KeyError` if a member is missing, unknown, named twice or wrong, if the point is not on the curve, or if `kid` is not
    /// the thumbprint.
    pub fn from_jwk(text: &str) -> Result<PublicKey, KeyError> {
        if text.len() > MAX_JWK_BYTES {
            return Err(KeyError::NotAnObject);
        }
        let members = json::object(text.as_bytes()).map_err(|_| KeyError::NotAnObject)?;
        let jwk: Jwk = serde_json::from_value(Value::Object(members))
            .map_err(|error| KeyError::Members { reason: error.to_string() })?;
        require("kty", &jwk.kty, KTY)?;
        require("crv", &jwk.crv, CRV)?;
        require("alg", &jwk.alg, ALG)?;
        require("use", &jwk.usage, USE)?;
        let public = PublicKey::from_coordinates(&jwk.x, &jwk.y)?;
        if public.kid == jwk.kid {
            Ok(public)
        } else {
            Err(KeyError::WrongKeyId { thumbprint: public.kid })
        }
    }

    /// From the two coordinates, each 32 bytes big-endian in base64url without padding.
    ///
    /// # Errors
    /// `KeyError::Coordinate` for another spelling, `KeyError::NotOnCurve` if they are no point of P-256.
    pub fn from_coordinates(x: &str, y: &str) -> Result<PublicKey, KeyError> {
        let mut point = vec![UNCOMPRESSED];
        point.extend(coordinate("x", x)?);
        point.extend(coordinate("y", y)?);
        PublicKey::from_point(&point)
    }

    /// The RFC 7638 thumbprint: 43 base64url characters.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The x coordinate, base64url without padding.
    pub fn x(&self) -> &str {
        &self.x
    }

    /// The y coordinate, base64url without padding.
    pub fn y(&self) -> &str {
        &self.y
    }

    /// The JWK that `from_jwk` reads.
    pub fn to_jwk(&self) -> String {
        self.jwk_members().to_string()
    }

    #[cfg(test)]
    pub(crate) fn point(&self) -> &[u8] {
        &self.point
    }

    /// Whether `signature` is r and s of `message`, in either of their two spellings.
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.parsed.verify_sig(message, signature).is_ok()
    }

    pub(crate) fn from_point(point: &[u8]) -> Result<PublicKey, KeyError> {
        let (x, y) = match point.split_first() {
            Some((&UNCOMPRESSED, coordinates)) if coordinates.len() == 64 => {
                coordinates.split_at(32)
            }
            Some(_) | None => return Err(KeyError::NotOnCurve),
        };
        let parsed = ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
            .map_err(|_| KeyError::NotOnCurve)?;
        let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
        Ok(PublicKey { kid: p256_thumbprint(&x, &y), x, y, point: point.to_vec(), parsed })
    }

    fn jwk_members(&self) -> Value {
        serde_json::json!({
            "kty": KTY, "crv": CRV, "x": self.x, "y": self.y, "kid": self.kid, "alg": ALG, "use": USE,
        })
    }
}

/// A JWK set (RFC 7517 section 5) of these keys, in their order.
pub fn jwks(keys: &[PublicKey]) -> String {
    let members: Vec<Value> = keys.iter().map(PublicKey::jwk_members).collect();
    serde_json::json!({ "keys": members }).to_string()
}

const KTY: &str = "EC";
const CRV: &str = "P-256";
const ALG: &str = "ES256";
const USE: &str = "sig";
const UNCOMPRESSED: u8 = 4;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Jwk {
    kty: String,
    crv: String,
    x: String,
    y: String,
    kid: String,
    alg: String,
    #[serde(rename = "use")]
    usage: String,
}

fn require(member: &'static str, value: &str, expected: &'static str) -> Result<(), KeyError> {
    if value == expected { Ok(()) } else { Err(KeyError::WrongMember { member, expected }) }
}

fn coordinate(member: &'static str, text: &str) -> Result<Vec<u8>, KeyError> {
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| KeyError::Coordinate { member })?;
    if bytes.len() == 32 { Ok(bytes) } else { Err(KeyError::Coordinate { member }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const X: &str = "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU";
    const Y: &str = "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0";

    #[test]
    fn a_jwk_survives_the_journey() {
        for key in
            [SigningKey::generate().unwrap().public(), PublicKey::from_coordinates(X, Y).unwrap()]
        {
            assert_eq!(PublicKey::from_jwk(&key.to_jwk()), Ok(key.clone()));
            assert_eq!(key.kid().len(), 43);
            let set: Value = serde_json::from_str(&jwks(&[key.clone(), key.clone()])).unwrap();
            assert_eq!(set["keys"][1]["kid"], key.kid());
            assert_eq!(set["keys"].as_array().map(Vec::len), Some(2));
            assert_eq!(set["keys"][0].get("d"), None);
        }
        assert_eq!(jwks(&[]), r#"{"keys":[]}"#);
    }

    #[test]
    fn jwks_that_are_refused() {
        fn check(
            change: impl Fn(&mut serde_json::Map<String, Value>),
            expected: fn(&KeyError) -> bool,
        ) {
            let key = PublicKey::from_coordinates(X, Y).unwrap();
            let mut members = json::object(key.to_jwk().as_bytes()).unwrap();
            change(&mut members);
            let error = PublicKey::from_jwk(&Value::Object(members).to_string()).unwrap_err();
            assert!(expected(&error), "{error:?}");
        }
        let set = |name: &'static str, value: &'static str| {
            move |members: &mut serde_json::Map<String, Value>| {
                members.insert(name.to_owned(), Value::from(value));
            }
        };
        check(set("kty", "RSA"), |e| matches!(e, KeyError::WrongMember { member: "kty", .. }));
        check(set("crv", "P-384"), |e| matches!(e, KeyError::WrongMember { member: "crv", .. }));
        check(set("alg", "HS256"), |e| matches!(e, KeyError::WrongMember { member: "alg", .. }));
        check(set("use", "enc"), |e| matches!(e, KeyError::WrongMember { member: "use", .. }));
        check(set("kid", "another"), |e| matches!(e, KeyError::WrongKeyId { .. }));
        check(
            set("d", "AA"),
            |e| matches!(e, KeyError::Members { reason } if reason.contains("`d`")),
        );
        check(set("x", Y), |e| *e == KeyError::NotOnCurve);
        check(set("x", "AA"), |e| *e == KeyError::Coordinate { member: "x" });
        check(set("y", "x/FEzRu9m36HLN/tue659LNpXW6pCyStikYjKIWI5a0"), |e| {
            *e == KeyError::Coordinate { member: "y" }
        });
        check(set("y", "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a1"), |e| {
            *e == KeyError::Coordinate { member: "y" }
        });
        check(|members| drop(members.remove("use")), |e| matches!(e, KeyError::Members { .. }));
        check(
            |members| drop(members.insert("kid".into(), Value::from(1))),
            |e| matches!(e, KeyError::Members { .. }),
        );
        for text in ["", "[]", "null", r#"{"kty":"EC","kty":"EC"}"#, &" ".repeat(2000)] {
            assert_eq!(PublicKey::from_jwk(text), Err(KeyError::NotAnObject), "{text}");
        }
    }

    #[test]
    fn the_private_half_is_never_printed() {
        let key = SigningKey::generate().unwrap();
        let printed = format!("{key:?}");
        assert_eq!(
            printed,
            format!("SigningKey {{ kid: {:?}, private: \"[redacted]\" }}", key.kid())
        );
    }

    #[test]
    fn signatures_are_low_s() {
        let key = SigningKey::generate().unwrap();
        for number in 0..200_u32 {
            let message = number.to_be_bytes();
            let signature = key.sign(&message).unwrap();
            assert!(crate::ecdsa::is_low_s(&signature));
            let public =
                ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key.public.point()).unwrap();
            assert!(public.verify_sig(&message, &signature).is_ok());
        }
    }
}
