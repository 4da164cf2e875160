//! A client's own key, and DPoP proofs of it.

use aws_lc_rs::{
    digest::{SHA256, digest},
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::system::now;

pub struct Client(EcdsaKeyPair);

impl Client {
    pub fn new() -> Self {
        Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    fn coordinates(&self) -> (String, String) {
        let point = self.0.public_key().as_ref();
        (URL_SAFE_NO_PAD.encode(&point[1..33]), URL_SAFE_NO_PAD.encode(&point[33..]))
    }

    pub fn thumbprint(&self) -> String {
        let (x, y) = self.coordinates();
        let text = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
        URL_SAFE_NO_PAD.encode(digest(&SHA256, text.as_bytes()))
    }

    /// For a `POST` of `uri`, now.
    pub fn proof(&self, name: &str, uri: &str) -> String {
        self.proof_with(json!({ "jti": name, "htm": "POST", "htu": uri, "iat": now() }))
    }

    pub fn proof_with(&self, claims: Value) -> String {
        let (x, y) = self.coordinates();
        let jwk = json!({ "kty": "EC", "crv": "P-256", "x": x, "y": y });
        let header = json!({ "typ": "dpop+jwt", "alg": "ES256", "jwk": jwk });
        let encode = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let input = format!("{}.{}", encode(&header), encode(&claims));
        let signature = self.0.sign(&SystemRandom::new(), input.as_bytes()).unwrap();
        format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// What a gRPC call of a gateway must be proven for.
pub fn grpc_uri(origin: &str, rpc: &str) -> String {
    let authority = origin.split("://").nth(1).unwrap();
    format!("https://{authority}/countersign.token.v1.TokenExchangeService/{rpc}")
}
