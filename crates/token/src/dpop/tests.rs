//! Proofs that are taken, and every one that is not (ATTACKS 79).

use serde_json::json;

use super::*;
use crate::key::SigningKey;
use crate::mint::mint;
use crate::samples::{self, NOW, signed};
use crate::{Confirmation, Shown, TokenError, check_signature};

const URI: &str = "https://tokens.example.com/oauth2/token";

fn header(key: &SigningKey) -> Value {
    let public = key.public();
    json!({
        "typ": "dpop+jwt", "alg": "ES256",
        "jwk": { "kty": "EC", "crv": "P-256", "x": public.x(), "y": public.y() },
    })
}

fn claims() -> Value {
    json!({ "jti": "j-1", "htm": "POST", "htu": URI, "iat": NOW })
}

fn request() -> Request<'static> {
    Request { method: "POST", uri: URI, access_token: None }
}

fn proof(change: impl FnOnce(&mut Value, &mut Value)) -> (SigningKey, String) {
    let key = SigningKey::generate().unwrap();
    let (mut header, mut claims) = (header(&key), claims());
    change(&mut header, &mut claims);
    let proof = signed(&key, &header.to_string(), &claims.to_string());
    (key, proof)
}

fn with_claim(name: &str, value: Value, expected: Option<DpopError>) {
    let (_, proof) = proof(|_, claims| claims[name] = value);
    assert_eq!(check(&proof, &request(), NOW).err(), expected, "{name}");
}

fn with_header(name: &str, value: Value, expected: DpopError) {
    let (_, proof) = proof(|header, _| header[name] = value);
    assert_eq!(check(&proof, &request(), NOW).err(), Some(expected), "{name}");
}

#[test]
fn a_good_proof_shows_its_key() {
    let (key, proof) = proof(|_, _| {});
    let proven = check(&proof, &request(), NOW).unwrap();
    assert_eq!(proven.thumbprint(), key.kid());
    assert_eq!(proven.until(), NOW + 60);
    assert!(proven.replay_key().starts_with(&format!("dpop:{}:", key.kid())));
}

// The proof of RFC 9449 section 4.1, figure 2: made by another implementation.
#[test]
fn the_example_of_the_rfc() {
    let example = "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19.eyJqdGkiOiItQndDM0VTYzZhY2MybFRjIiwiaHRtIjoiUE9TVCIsImh0dSI6Imh0dHBzOi8vc2VydmVyLmV4YW1wbGUuY29tL3Rva2VuIiwiaWF0IjoxNTYyMjYyNjE2fQ.2-GxA6T8lP4vfrg8v-FdWP0A0zdrj8igiMLvqRMUvwnQg4PtFLbdLXiOSsX0x7NVY-FNyJK70nfbV37xRZT3Lg";
    let request =
        Request { method: "POST", uri: "https://server.example.com/token", access_token: None };
    let proven = check(example, &request, 1_562_262_620).unwrap();
    // Of section 6.1, figure 8.
    assert_eq!(proven.thumbprint(), "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I");
}

#[test]
fn attack_79_headers() {
    with_header("typ", json!("JWT"), DpopError::WrongType);
    with_header("typ", json!("at+jwt"), DpopError::WrongType);
    for alg in ["none", "HS256", "RS256", "es256", "ES384"] {
        with_header("alg", json!(alg), DpopError::WrongAlgorithm);
    }
    for name in ["crit", "jku", "kid", "x5c", "b64"] {
        let unknown = DpopError::UnknownHeaderMember { name: name.into() };
        with_header(name, json!(["exp"]), unknown);
    }
    with_header("jwk", json!("x"), DpopError::InvalidKey);
    with_header("jwk", json!({"kty": "oct", "k": "AAAA"}), DpopError::PrivateKey);
    with_header("jwk", json!({"kty": "EC", "crv": "P-256"}), DpopError::InvalidKey);
    let other = SigningKey::generate().unwrap();
    with_header("jwk", header(&other)["jwk"].clone(), DpopError::InvalidSignature);
    let (_, private) = proof(|header, _| header["jwk"]["d"] = json!("AAAA"));
    assert_eq!(check(&private, &request(), NOW), Err(DpopError::PrivateKey));
    // Members that say nothing of the key do no harm, and are not in its name.
    let (key, named) = proof(|header, _| header["jwk"]["kid"] = json!("mine"));
    assert_eq!(check(&named, &request(), NOW).unwrap().thumbprint(), key.kid());
}

#[test]
fn attack_79_claims() {
    let missing = |name| Some(DpopError::MissingClaim { name });
    for name in ["jti", "htm", "htu", "iat"] {
        let (_, without) = proof(|_, claims| drop(claims.as_object_mut().unwrap().remove(name)));
        assert_eq!(check(&without, &request(), NOW).err(), missing(name));
        with_claim(name, json!(["x"]), missing(name));
    }
    with_claim("jti", json!(""), missing("jti"));
    with_claim("jti", json!("j".repeat(257)), missing("jti"));
    with_claim("htm", json!("GET"), Some(DpopError::WrongMethod));
    with_claim("htm", json!("post"), Some(DpopError::WrongMethod));
    with_claim("iat", json!(NOW - 60), None);
    with_claim("iat", json!(NOW - 61), Some(DpopError::TooOld { iat: NOW - 61 }));
    with_claim("iat", json!(NOW + 5), None);
    with_claim("iat", json!(NOW + 6), Some(DpopError::InTheFuture { iat: NOW + 6 }));
    with_claim("iat", json!(NOW as f64 + 0.5), missing("iat"));
    with_claim("exp", json!(NOW + 1), None);
    with_claim("exp", json!(NOW), Some(DpopError::OutOfTime));
    with_claim("nbf", json!(NOW + 6), Some(DpopError::OutOfTime));
    with_claim("sub", json!("whoever"), None);
}

#[test]
fn attack_79_uris() {
    let same = |htu: &str| with_claim("htu", json!(htu), None);
    let other = |htu: &str| with_claim("htu", json!(htu), Some(DpopError::WrongUri));
    same("https://tokens.example.com/oauth2/token?x=1#y");
    same("HTTPS://Tokens.Example.com:443/oauth2/token");
    other("http://tokens.example.com/oauth2/token");
    other("https://tokens.example.com/oauth2/Token");
    other("https://tokens.example.com/oauth2/token/");
    other("https://tokens.example.com:8443/oauth2/token");
    other("https://tokens.example.com@evil.example/oauth2/token");
    other("https://evil.example/oauth2/token");
    other("https://tokens.example.com");
    other("/oauth2/token");
    other("");
    let (_, root) = proof(|_, claims| claims["htu"] = json!("http://a:80"));
    let request = Request { method: "POST", uri: "http://A/", access_token: None };
    assert!(check(&root, &request, NOW).is_ok());
}

#[test]
fn attack_79_forms() {
    let (_, good) = proof(|_, _| {});
    let parts: Vec<&str> = good.split('.').collect();
    let check = |proof: &str, expected: DpopError| {
        assert_eq!(super::check(proof, &request(), NOW), Err(expected), "{proof}");
    };
    check("", DpopError::Malformed);
    check(&format!("{}.{}", parts[0], parts[1]), DpopError::Malformed);
    check(&format!("{good}.x"), DpopError::Malformed);
    check(&format!("{}.{}.", parts[0], parts[1]), DpopError::InvalidSignature);
    check(&format!("{good}="), DpopError::Malformed);
    check(&"a".repeat(4097), DpopError::TooLarge);
    let key = SigningKey::generate().unwrap();
    let twice = claims().to_string().replacen('{', r#"{"jti":"j-0","#, 1);
    check(&signed(&key, &header(&key).to_string(), &twice), DpopError::Malformed);
}

#[test]
fn proofs_of_a_token() {
    let ath = sha256_base64url(b"token");
    let of_token = Request { access_token: Some("token"), ..request() };
    let (_, without) = proof(|_, _| {});
    assert_eq!(check(&without, &of_token, NOW), Err(DpopError::MissingClaim { name: "ath" }));
    let (_, good) = proof(|_, claims| claims["ath"] = json!(ath));
    assert!(check(&good, &of_token, NOW).is_ok());
    let other = Request { access_token: Some("other"), ..request() };
    assert_eq!(check(&good, &other, NOW), Err(DpopError::WrongToken));
}

// ATTACKS 74, 79: a bound token is good only beside a proof of its own key.
#[test]
fn bound_tokens() {
    let issuer = SigningKey::generate().unwrap();
    let (own, good) = proof(|_, _| {});
    let (_, strange) = proof(|_, _| {});
    let own_key = check(&good, &request(), NOW).unwrap();
    let strange_key = check(&strange, &request(), NOW).unwrap();
    let certificate = samples::THUMBPRINT;
    let by_key = Some(Confirmation::Key(own.kid().into()));
    let by_certificate = Some(Confirmation::Certificate(certificate.into()));
    let shown = |key, certificate| Shown { key, certificate };
    let check = |cnf: &Option<Confirmation>, shown: Shown<'_>, expected: Option<TokenError>| {
        let claims = crate::Claims { cnf: cnf.clone(), ..samples::claims() };
        let token = mint(&claims, &issuer).unwrap();
        let keys = samples::keyset(&issuer);
        let signed = check_signature(&token, &keys).unwrap();
        let found = signed.check_shown(NOW, &samples::expected(), &keys, &shown);
        assert_eq!(found.err(), expected, "{cnf:?} {shown:?}");
        let bearer = signed.check(NOW, &samples::expected(), &keys).err();
        assert_eq!(bearer, cnf.as_ref().map(|_| TokenError::NoProofOfPossession));
    };
    check(&None, shown(None, None), None);
    check(&None, shown(None, Some(certificate)), None);
    check(&None, shown(Some(&own_key), None), Some(TokenError::NotBound));
    check(&by_key, shown(Some(&own_key), None), None);
    check(&by_key, shown(Some(&own_key), Some(certificate)), None);
    check(&by_key, shown(Some(&strange_key), None), Some(TokenError::WrongKey));
    check(&by_key, shown(None, None), Some(TokenError::NoProofOfPossession));
    check(&by_key, shown(None, Some(own.kid())), Some(TokenError::NoProofOfPossession));
    check(&by_certificate, shown(None, Some(certificate)), None);
    check(&by_certificate, shown(None, Some(own.kid())), Some(TokenError::WrongKey));
    check(&by_certificate, shown(None, None), Some(TokenError::NoProofOfPossession));
    check(&by_certificate, shown(Some(&own_key), None), Some(TokenError::NotBound));
    check(&by_certificate, shown(Some(&own_key), Some(certificate)), Some(TokenError::NotBound));
}
