//! A client's side of DPoP: a key that it keeps, and proofs of it.

use std::fmt;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::json;
use zeroize::Zeroizing;

use super::{ALGORITHM, Request, TYP};
use crate::canonical::sha256_base64url;
use crate::claims::jti;
use crate::key::{KeyError, PublicKey};

const BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const END: &str = "-----END PRIVATE KEY-----";

/// A P-256 key whose holder can prove that it holds it.
pub struct ClientKey {
    pair: EcdsaKeyPair,
    public: PublicKey,
}

/// Why there is no key, or no proof.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClientKeyError {
    #[error("is no private key of P-256 in PEM (PKCS #8, `-----BEGIN PRIVATE KEY-----`)")]
    Malformed,
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error("the cryptographic library could not sign")]
    Sign,
}

impl ClientKey {
    /// A new key.
    ///
    /// # Errors
    /// When the library has no randomness to give.
    pub fn generate() -> Result<Self, ClientKeyError> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)
            .map_err(|_| KeyError::Generate)?;
        Self::of(pair)
    }

    /// From PEM, as `openssl genpkey` writes it too.
    ///
    /// # Errors
    /// When it is no P-256 key of PKCS #8.
    pub fn from_pem(text: &str) -> Result<Self, ClientKeyError> {
        let body = text
            .split_once(BEGIN)
            .and_then(|(_, rest)| rest.split_once(END))
            .map(|(body, _)| body)
            .ok_or(ClientKeyError::Malformed)?;
        let body: Zeroizing<String> =
            Zeroizing::new(body.chars().filter(|c| !c.is_ascii_whitespace()).collect());
        let der = Zeroizing::new(STANDARD.decode(&*body).map_err(|_| ClientKeyError::Malformed)?);
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &der)
            .map_err(|_| ClientKeyError::Malformed)?;
        Self::of(pair)
    }

    /// To be kept where its owner alone can read it.
    ///
    /// # Errors
    /// When the library cannot write it.
    pub fn to_pem(&self) -> Result<Zeroizing<String>, ClientKeyError> {
        // AWS-LC's document clears its memory when it is dropped.
        let der = self.pair.to_pkcs8v1().map_err(|_| ClientKeyError::Sign)?;
        let body = Zeroizing::new(STANDARD.encode(der.as_ref()));
        Ok(Zeroizing::new(format!("{BEGIN}\n{}\n{END}\n", &*body)))
    }

    fn of(pair: EcdsaKeyPair) -> Result<Self, ClientKeyError> {
        let public = PublicKey::from_point(pair.public_key().as_ref())?;
        Ok(Self { pair, public })
    }

    /// The key's RFC 7638 thumbprint.
    pub fn thumbprint(&self) -> &str {
        self.public.kid()
    }

    /// A proof for `request`, made at `now` (seconds since 1970). RFC 9449 section 4.2.
    ///
    /// # Errors
    /// When the library has no randomness, or cannot sign.
    pub fn prove(&self, request: &Request<'_>, now: i64) -> Result<String, ClientKeyError> {
        let (x, y) = (self.public.x(), self.public.y());
        let jwk = json!({"kty": "EC", "crv": "P-256", "x": x, "y": y});
        let header = json!({"typ": TYP, "alg": ALGORITHM, "jwk": jwk});
        let jti = jti().map_err(|_| KeyError::Generate)?;
        let mut claims = json!({
            "jti": jti, "htm": request.method, "htu": request.uri, "iat": now,
        });
        if let (Some(token), Some(claims)) = (request.access_token, claims.as_object_mut()) {
            claims.insert("ath".to_owned(), sha256_base64url(token.as_bytes()).into());
        }
        let encode = |part: String| URL_SAFE_NO_PAD.encode(part);
        let input = format!("{}.{}", encode(header.to_string()), encode(claims.to_string()));
        let signature = self
            .pair
            .sign(&SystemRandom::new(), input.as_bytes())
            .map_err(|_| ClientKeyError::Sign)?;
        Ok(format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

impl fmt::Debug for ClientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientKey({}, redacted)", self.thumbprint())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dpop;

    const NOW: i64 = 1_795_537_020;

    #[test]
    fn what_it_proves_is_believed() {
        let key = ClientKey::generate().unwrap();
        let again = ClientKey::from_pem(&key.to_pem().unwrap()).unwrap();
        assert_eq!(again.thumbprint(), key.thumbprint());
        let uri = "https://tokens.example.com/oauth2/token";
        for access_token in [None, Some("a.b.c")] {
            let request = Request { method: "POST", uri, access_token };
            for key in [&key, &again] {
                let proof = key.prove(&request, NOW).unwrap();
                let proven = dpop::check(&proof, &request, NOW).unwrap();
                assert_eq!(proven.thumbprint(), key.thumbprint());
                let other = Request { method: "GET", ..request };
                assert!(dpop::check(&proof, &other, NOW).is_err());
            }
        }
    }

    #[test]
    fn keys_that_are_none() {
        let pem = ClientKey::generate().unwrap().to_pem().unwrap().to_string();
        let check = |text: &str| {
            let found = ClientKey::from_pem(text).map(|key| key.thumbprint().to_owned());
            assert_eq!(found, Err(ClientKeyError::Malformed), "{text}");
        };
        check("");
        check(&pem.replace("PRIVATE", "PUBLIC"));
        check(&pem.replace("\nM", "\n!"));
        check(&pem.replace("\nMI", "\nMA"));
        check(&format!("{BEGIN}\n{END}"));
    }

    #[test]
    fn debug_shows_no_secret() {
        let key = ClientKey::generate().unwrap();
        let pem = key.to_pem().unwrap();
        let shown = format!("{key:?}");
        assert!(pem.lines().all(|line| !shown.contains(line)), "{shown}");
    }
}
