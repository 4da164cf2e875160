//! An issuer's public keys (RFC 7517), each with the one algorithm that it is for.
//!
//! A set may hold keys for other purposes, which are passed over; two keys of one name are refused, since either could be meant.

use std::collections::BTreeMap;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
    RsaPublicKeyComponents,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::error::shown;
use super::{JwtAlgorithm, KeySetError};
use crate::json;

/// The longest set that is read, in bytes.
pub const MAX_JWKS_BYTES: usize = 64 * 1024;
pub(super) const MAX_KEYS: usize = 64;

/// Keys by name.
#[derive(Debug, Clone, Default)]
pub struct Jwks(BTreeMap<String, Key>);

/// A public key, for one algorithm.
#[derive(Debug, Clone)]
pub(super) enum Key {
    Rsa { n: Vec<u8>, e: Vec<u8> },
    Ec { algorithm: JwtAlgorithm, key: ParsedPublicKey },
}

impl Jwks {
    /// Reads a set, and keeps the keys that sign with one of `algorithms`.
    ///
    /// # Errors
    /// [`KeySetError`], also when no key is left: such a set is a mistake, and better said at once.
    pub fn parse(text: &[u8], algorithms: &[JwtAlgorithm]) -> Result<Jwks, KeySetError> {
        if text.len() > MAX_JWKS_BYTES {
            return Err(KeySetError::TooLarge);
        }
        let members = json::object(text).map_err(|_| KeySetError::Malformed)?;
        let listed = members.get("keys").and_then(Value::as_array).ok_or(KeySetError::Malformed)?;
        if listed.len() > MAX_KEYS {
            return Err(KeySetError::TooMany);
        }
        let mut keys = BTreeMap::new();
        for members in listed.iter().filter_map(Value::as_object) {
            let Some((kid, key)) = usable(members, algorithms) else { continue };
            if keys.insert(kid.to_owned(), key).is_some() {
                return Err(KeySetError::DuplicateKey { kid: shown(kid) });
            }
        }
        if keys.is_empty() {
            let names: Vec<_> = algorithms.iter().map(|algorithm| algorithm.as_str()).collect();
            return Err(KeySetError::NoUsableKey { algorithms: names.join(" or ") });
        }
        Ok(Jwks(keys))
    }

    /// Whether there is a key of that name.
    pub fn contains(&self, kid: &str) -> bool {
        self.0.contains_key(kid)
    }

    #[cfg(test)]
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    pub(super) fn lookup(&self, kid: &str) -> Option<&Key> {
        self.0.get(kid)
    }
}

impl Key {
    pub(super) fn algorithm(&self) -> JwtAlgorithm {
        match self {
            Key::Rsa { .. } => JwtAlgorithm::Rs256,
            Key::Ec { algorithm, .. } => *algorithm,
        }
    }

    /// AWS-LC refuses RSA keys under 2048 bits, and even or tiny exponents. An ECDSA signature has two spellings, and both are taken
    /// of a foreign issuer: so nothing may be remembered by a token's bytes.
    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Key::Rsa { n, e } => RsaPublicKeyComponents { n, e }
                .verify(&RSA_PKCS1_2048_8192_SHA256, message, signature)
                .is_ok(),
            Key::Ec { key, .. } => key.verify_sig(message, signature).is_ok(),
        }
    }
}

/// A key for signatures, of a kind that we know, for one of `algorithms`.
fn usable<'k>(
    members: &'k Map<String, Value>,
    algorithms: &[JwtAlgorithm],
) -> Option<(&'k str, Key)> {
    let text = |name: &str| members.get(name).and_then(Value::as_str);
    let kid = text("kid")?;
    if members.contains_key("use") && text("use") != Some("sig") {
        return None;
    }
    if let Some(operations) = members.get("key_ops") {
        let verify = Value::from("verify");
        operations.as_array()?.iter().find(|operation| **operation == verify)?;
    }
    let algorithm = match (text("kty")?, text("crv")) {
        ("RSA", None) => JwtAlgorithm::Rs256,
        ("EC", Some("P-256")) => JwtAlgorithm::Es256,
        ("EC", Some("P-384")) => JwtAlgorithm::Es384,
        // Symmetric keys among them (ATTACKS 58), and curves that we do not know.
        (_, _) => return None,
    };
    // What the key says that it is for wins over what its kind could do: an RSA key for PS256 verifies no RS256.
    if members.contains_key("alg") && text("alg") != Some(algorithm.as_str()) {
        return None;
    }
    if !algorithms.contains(&algorithm) {
        return None;
    }
    let key = match algorithm {
        JwtAlgorithm::Rs256 => Key::Rsa { n: integer(text("n")?)?, e: integer(text("e")?)? },
        JwtAlgorithm::Es256 | JwtAlgorithm::Es384 => {
            Key::Ec { algorithm, key: point(algorithm, text("x")?, text("y")?)? }
        }
    };
    Some((kid, key))
}

/// RFC 7518 section 2, Base64urlUInt. AWS-LC wants no leading zero, which some issuers write all the same.
fn integer(text: &str) -> Option<Vec<u8>> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    let start = bytes.iter().position(|byte| *byte != 0)?;
    bytes.get(start..).map(<[u8]>::to_vec)
}

fn point(algorithm: JwtAlgorithm, x: &str, y: &str) -> Option<ParsedPublicKey> {
    const UNCOMPRESSED: u8 = 4;
    let (length, verification) = match algorithm {
        JwtAlgorithm::Es256 => (32, &ECDSA_P256_SHA256_FIXED),
        JwtAlgorithm::Es384 => (48, &ECDSA_P384_SHA384_FIXED),
        JwtAlgorithm::Rs256 => return None,
    };
    let mut point = vec![UNCOMPRESSED];
    for coordinate in [x, y] {
        let bytes = URL_SAFE_NO_PAD.decode(coordinate).ok()?;
        (bytes.len() == length).then(|| point.extend(bytes))?;
    }
    ParsedPublicKey::new(verification, &point).ok()
}
