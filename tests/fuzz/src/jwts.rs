//! JWTs of other issuers, their keys, and DPoP proofs: what is taken is what was signed.

use std::sync::OnceLock;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_token::dpop::{self, Request};
use countersign_token::jwt::{IssuerKind, IssuerRules, Jwks, Jwt, JwtAlgorithm};

pub(crate) const WORDS: &[&str] = &[
    ".",
    "{\"alg\":\"none\",\"kid\":\"k\"}",
    "\"alg\":\"HS256\"",
    "\"crit\":[\"exp\"]",
    "\"jwk\":{\"kty\":\"EC\"}",
    "\"kid\":\"../../dev/null\"",
    "\"aud\":[\"a\",\"b\"]",
    "\"exp\":9e18",
    "\"iat\":-1",
    "https://sts.amazonaws.com/",
    "{\"keys\":[{\"kty\":\"RSA\",\"n\":\"",
    "\"kty\":\"oct\",\"k\":\"AAAA\"",
    "\\u0061ud",
    "\"htm\":\"POST\",\"htu\":\"https://a/b\"",
];

const NOW: i64 = 1_800_000_000;
const ISSUER: &str = "https://issuer.example.com";
const AUDIENCE: &str = "https://tokens.example.com";
const URI: &str = "https://tokens.example.com/oauth2/token";

struct Signed {
    jwt: String,
    keys: Jwks,
    rules: IssuerRules,
    dpop: String,
}

fn token(pair: &EcdsaKeyPair, header: &str, claims: &str) -> String {
    let encode = |part: &str| URL_SAFE_NO_PAD.encode(part);
    let input = format!("{}.{}", encode(header), encode(claims));
    let signature = pair.sign(&SystemRandom::new(), input.as_bytes()).expect("a signature");
    format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn coordinates(pair: &EcdsaKeyPair) -> (String, String) {
    let point = &pair.public_key().as_ref()[1..];
    let (x, y) = point.split_at(point.len() / 2);
    (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y))
}

/// Signed once a run, by keys that nobody else has.
fn signed() -> &'static Signed {
    static SIGNED: OnceLock<Signed> = OnceLock::new();
    SIGNED.get_or_init(|| {
        let issuer = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).expect("a key");
        let (x, y) = coordinates(&issuer);
        let keys = format!(
            r#"{{"keys":[{{"kty":"EC","crv":"P-384","alg":"ES384","use":"sig","kid":"k","x":"{x}","y":"{y}"}}]}}"#
        );
        let claims = format!(
            r#"{{"iss":"{ISSUER}","aud":"{AUDIENCE}","sub":"worker","iat":{},"exp":{},"jti":"1"}}"#,
            NOW - 5,
            NOW + 295
        );
        let jwt = token(&issuer, r#"{"typ":"JWT","alg":"ES384","kid":"k"}"#, &claims);
        let client = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key");
        let (x, y) = coordinates(&client);
        let header = format!(
            r#"{{"typ":"dpop+jwt","alg":"ES256","jwk":{{"kty":"EC","crv":"P-256","x":"{x}","y":"{y}"}}}}"#
        );
        let claims = format!(r#"{{"jti":"1","htm":"POST","htu":"{URI}","iat":{NOW}}}"#);
        Signed {
            jwt,
            keys: Jwks::parse(keys.as_bytes(), &JwtAlgorithm::ALL).expect("keys"),
            rules: IssuerRules {
                issuer: ISSUER.into(),
                kind: IssuerKind::Oidc,
                audience: AUDIENCE.into(),
                max_lifetime: 3600,
                requires_jti: true,
            },
            dpop: token(&client, &header, &claims),
        }
    })
}

/// Every spelling of the bytes as a compact JWS, and changes of `good`, given to `check`.
fn tokens(bytes: &[u8], good: &str, check: fn(&str)) {
    let [header, payload, signature] = good.split('.').collect::<Vec<_>>()[..] else {
        panic!("a token has three parts");
    };
    let text = String::from_utf8_lossy(bytes);
    let encode = |part: &str| URL_SAFE_NO_PAD.encode(part);
    let (first, rest) = text.split_once('\n').unwrap_or((&text, ""));
    if bytes.is_empty() {
        check(good);
    }
    check(&text);
    check(&format!("{}.{}.{signature}", encode(first), encode(rest)));
    check(&format!("{header}.{}.{signature}", encode(&text)));
    check(&format!("{header}.{payload}.{}", URL_SAFE_NO_PAD.encode(bytes)));
    check(&format!("{header}.{payload}.{text}"));
    let mut changed = good.to_owned().into_bytes();
    for change in bytes.chunks_exact(3) {
        let place = usize::from(u16::from_le_bytes([change[0], change[1]])) % changed.len();
        changed[place] ^= change[2];
    }
    check(&String::from_utf8_lossy(&changed));
}

/// The bytes as a JWT of an issuer and as its keys.
///
/// # Panics
/// If a token is taken that says other than the one that was signed.
pub fn web_identity(bytes: &[u8]) {
    tokens(bytes, &signed().jwt, |token| {
        let Signed { jwt, keys, rules, .. } = signed();
        let found = Jwt::parse(token).and_then(|parsed| parsed.verify(rules, keys, NOW));
        // A foreign ECDSA signature has two spellings, so the bytes may differ; what they say may not.
        let says = |token: &str| token.rsplit_once('.').map(|(said, _)| said.to_owned());
        match found {
            Ok(found) => {
                assert_eq!((found.subject(), says(token)), ("worker", says(jwt)), "{token}");
            }
            Err(error) => assert_ne!(token, jwt, "{error}"),
        }
    });
    if let Ok(keys) = Jwks::parse(bytes, &JwtAlgorithm::ALL) {
        let taken =
            Jwt::parse(&signed().jwt).and_then(|parsed| parsed.verify(&signed().rules, &keys, NOW));
        assert!(taken.is_err(), "another's keys verify the token");
    }
}

/// The bytes as a DPoP proof.
///
/// # Panics
/// If a proof is taken by whose key nothing was signed, or for another request.
pub fn dpop_proof(bytes: &[u8]) {
    tokens(bytes, &signed().dpop, |proof| {
        let good = &signed().dpop;
        let request = Request { method: "POST", uri: URI, access_token: None };
        let says = |token: &str| token.rsplit_once('.').map(|(said, _)| said.to_owned());
        match dpop::check(proof, &request, NOW) {
            Ok(_) => assert_eq!(says(proof), says(good), "{proof}"),
            Err(error) => return assert_ne!(proof, good, "{error}"),
        }
        for request in [
            Request { method: "GET", ..request },
            Request { uri: "https://tokens.example.com/oauth2/revoke", ..request },
            Request { access_token: Some("t"), ..request },
        ] {
            assert!(dpop::check(proof, &request, NOW).is_err(), "{proof}");
        }
    });
}
