//! Every line of what a stranger may send in place of a good token, and the good ones beside it.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair,
    RSA_PKCS1_SHA256,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
use serde_json::{Value, json};

use super::*;

const NOW: i64 = 1_800_000_000;
const ISSUER: &str = "https://abc123.tokens.sts.global.api.aws";
const AUDIENCE: &str = "https://tokens.example.com";
const ACCOUNT: &str = "123456789012";
const NAMESPACE: &str = "https://sts.amazonaws.com/";

enum Signer {
    Ec(JwtAlgorithm, EcdsaKeyPair),
    Rsa(RsaKeyPair),
}

impl Signer {
    fn new(algorithm: JwtAlgorithm) -> Signer {
        match algorithm {
            JwtAlgorithm::Rs256 => Signer::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap()),
            JwtAlgorithm::Es256 => Signer::Ec(
                algorithm,
                EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(),
            ),
            JwtAlgorithm::Es384 => Signer::Ec(
                algorithm,
                EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap(),
            ),
        }
    }

    fn jwk(&self, kid: &str) -> Value {
        match self {
            Signer::Ec(algorithm, pair) => {
                let (x, y) = pair.public_key().as_ref()[1..].split_at(match algorithm {
                    JwtAlgorithm::Es256 | JwtAlgorithm::Rs256 => 32,
                    JwtAlgorithm::Es384 => 48,
                });
                let crv = if *algorithm == JwtAlgorithm::Es384 { "P-384" } else { "P-256" };
                json!({"kty": "EC", "crv": crv, "x": B64.encode(x), "y": B64.encode(y), "kid": kid, "use": "sig", "alg": algorithm.as_str()})
            }
            Signer::Rsa(pair) => {
                let public = pair.public_key();
                let n = public.modulus().big_endian_without_leading_zero().to_vec();
                let e = public.exponent().big_endian_without_leading_zero().to_vec();
                json!({"kty": "RSA", "n": B64.encode(n), "e": B64.encode(e), "kid": kid, "use": "sig"})
            }
        }
    }

    fn sign(&self, header: &Value, payload: &str) -> String {
        let input = format!("{}.{}", B64.encode(header.to_string()), B64.encode(payload));
        let signature = match self {
            Signer::Ec(_, pair) => {
                pair.sign(&SystemRandom::new(), input.as_bytes()).unwrap().as_ref().to_vec()
            }
            Signer::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(
                    &RSA_PKCS1_SHA256,
                    &SystemRandom::new(),
                    input.as_bytes(),
                    &mut signature,
                )
                .unwrap();
                signature
            }
        };
        format!("{input}.{}", B64.encode(signature))
    }
}

fn set(keys: &[Value], algorithms: &[JwtAlgorithm]) -> Result<Jwks, KeySetError> {
    Jwks::parse(json!({ "keys": keys }).to_string().as_bytes(), algorithms)
}

fn rules(kind: IssuerKind) -> IssuerRules {
    IssuerRules {
        issuer: ISSUER.into(),
        kind,
        audience: AUDIENCE.into(),
        max_lifetime: 3600,
        requires_jti: true,
    }
}

fn aws() -> IssuerKind {
    IssuerKind::AwsSts { account: ACCOUNT.into(), partition: "aws".into() }
}

fn header() -> Value {
    json!({"typ": "JWT", "alg": "ES384", "kid": "EC384_0"})
}

fn payload() -> Value {
    json!({
        "iss": ISSUER, "aud": AUDIENCE, "sub": "arn:aws:iam::123456789012:role/teams/a/App",
        "iat": NOW - 60, "exp": NOW + 240, "jti": "b7f6",
        NAMESPACE: {
            "aws_account": ACCOUNT, "source_region": "us-east-1", "org_id": "o-abc1234567",
            "principal_tags": {"team": "data"}, "request_tags": {"team": "root"},
            "lambda_source_function_arn": "arn:aws:lambda:us-east-1:123456789012:function:f",
        },
    })
}

struct Case {
    signer: Signer,
    keys: Jwks,
}

impl Case {
    fn new() -> Case {
        let signer = Signer::new(JwtAlgorithm::Es384);
        let keys = set(&[signer.jwk("EC384_0")], &[JwtAlgorithm::Es384]).unwrap();
        Case { signer, keys }
    }

    fn verify(&self, token: &str, kind: IssuerKind) -> Result<WebIdentity, JwtError> {
        Jwt::parse(token)?.verify(&rules(kind), &self.keys, NOW)
    }

    fn check_kind(
        &self,
        kind: IssuerKind,
        change: impl FnOnce(&mut Value, &mut Value),
        expected: Result<(), &str>,
    ) {
        let (mut header, mut payload) = (header(), payload());
        change(&mut header, &mut payload);
        let found = self.verify(&self.signer.sign(&header, &payload.to_string()), kind);
        let text = found.as_ref().err().map(ToString::to_string).unwrap_or_default();
        let code = found.as_ref().map(|_| ()).map_err(JwtError::code);
        assert_eq!(code, expected, "{header} {payload}: {text}");
    }

    fn check(&self, change: impl FnOnce(&mut Value, &mut Value), expected: Result<(), &str>) {
        self.check_kind(aws(), change, expected);
    }
}

#[test]
fn a_web_identity_of_aws_sts() {
    let case = Case::new();
    let token = case.signer.sign(&header(), &payload().to_string());
    let jwt = Jwt::parse(&token).unwrap();
    assert_eq!((jwt.claimed_issuer().unwrap(), jwt.kid()), (ISSUER, "EC384_0"));
    let identity = jwt.verify(&rules(aws()), &case.keys, NOW).unwrap();
    assert_eq!(identity.provider(), "abc123.tokens.sts.global.api.aws");
    assert_eq!(identity.subject(), "arn:aws:iam::123456789012:role/teams/a/App");
    assert_eq!((identity.audience(), identity.jti()), (AUDIENCE, Some("b7f6")));
    assert_eq!(identity.expires_at(), NOW + 240);
    let principal = identity.aws().unwrap();
    assert_eq!(principal.account(), ACCOUNT);
    // ATTACKS 67: what the caller wrote is nowhere.
    let tags: Vec<_> = principal.principal_tags().iter().collect();
    assert_eq!(tags, [(&"team".to_owned(), &"data".to_owned())]);
    assert!(!format!("{identity:?}").contains("root"));
}

#[test]
fn every_algorithm_and_no_other() {
    for algorithm in JwtAlgorithm::ALL {
        let signer = Signer::new(algorithm);
        let keys = set(&[signer.jwk("k")], &[algorithm]).unwrap();
        let case = Case { signer, keys };
        let header = |alg: &'static str| {
            move |h: &mut Value, _: &mut Value| *h = json!({"typ": "JWT", "alg": alg, "kid": "k"})
        };
        for alg in ["RS256", "ES256", "ES384"] {
            let expected =
                if alg == algorithm.as_str() { Ok(()) } else { Err("InvalidIdentityToken") };
            case.check(header(alg), expected);
        }
        // ATTACKS 58.
        for alg in ["none", "None", "HS256", "PS256", "ES512", ""] {
            case.check(header(alg), Err("InvalidIdentityToken"));
        }
    }
}

// ATTACKS 59, 60, 61, 62.
#[test]
fn headers() {
    let case = Case::new();
    let set =
        |name: &'static str, value: Value| move |h: &mut Value, _: &mut Value| h[name] = value;
    case.check(|_, _| {}, Ok(()));
    case.check(set("x5t", json!("thumb")), Ok(()));
    for name in ["jwk", "jku", "x5u", "x5c", "crit", "b64", "zip", "cty", "iss", "p2c"] {
        case.check(set(name, json!("x")), Err("InvalidIdentityToken"));
        case.check(set(name, Value::Null), Err("InvalidIdentityToken"));
    }
    case.check(set("crit", json!(["exp"])), Err("InvalidIdentityToken"));
    for typ in ["at+jwt", "txntoken+jwt", "dpop+jwt", "logout+jwt", "jwt", "JOSE", ""] {
        case.check(set("typ", json!(typ)), Err("InvalidIdentityToken"));
    }
    case.check(set("typ", json!(1)), Err("InvalidIdentityToken"));
    let untyped = |h: &mut Value, _: &mut Value| drop(h.as_object_mut().unwrap().remove("typ"));
    case.check(untyped, Err("InvalidIdentityToken"));
    for kind in [IssuerKind::Eks, IssuerKind::Oidc] {
        case.check_kind(kind.clone(), untyped, Ok(()));
        case.check_kind(kind.clone(), |_, _| {}, Ok(()));
        case.check_kind(kind, set("typ", json!("at+jwt")), Err("InvalidIdentityToken"));
    }
    for kid in ["", "../../dev/null", "a b", "'; drop", "é", "a\u{0}b", &"k".repeat(129)] {
        case.check(set("kid", json!(kid)), Err("InvalidIdentityToken"));
    }
    case.check(set("kid", json!(7)), Err("InvalidIdentityToken"));
    case.check(set("kid", json!("other")), Err("UnknownKey"));
    case.check(|h, _| drop(h.as_object_mut().unwrap().remove("kid")), Err("InvalidIdentityToken"));
    case.check(|h, _| drop(h.as_object_mut().unwrap().remove("alg")), Err("InvalidIdentityToken"));
}

// ATTACKS 63, 64, 65, 68.
#[test]
fn claims_that_must_be_there_and_be_ours() {
    let case = Case::new();
    let set =
        |name: &'static str, value: Value| move |_: &mut Value, p: &mut Value| p[name] = value;
    for name in ["iss", "aud", "sub", "exp", "iat", "jti", NAMESPACE] {
        case.check(
            |_, p| drop(p.as_object_mut().unwrap().remove(name)),
            Err("InvalidIdentityToken"),
        );
        for value in [Value::Null, json!(""), json!({}), json!(true)] {
            // An empty audience is an audience, and not ours.
            let expected = match (name, &value) {
                ("aud", Value::String(_)) => "WrongAudience",
                (NAMESPACE, Value::Object(_)) => "AccountNotAllowed",
                _ => "InvalidIdentityToken",
            };
            case.check(set(name, value), Err(expected));
        }
    }
    case.check(set("iss", json!("https://evil.tokens.sts.global.api.aws")), Err("WrongIssuer"));
    case.check(set("iss", json!(format!("{ISSUER}/"))), Err("WrongIssuer"));
    case.check(set("aud", json!([AUDIENCE])), Ok(()));
    for aud in [
        json!("https://other.example.com"),
        json!(format!("{AUDIENCE}/")),
        json!("sts.amazonaws.com"),
        json!(["sts.amazonaws.com"]),
        json!([AUDIENCE, "sts.amazonaws.com"]),
        json!([AUDIENCE, AUDIENCE]),
        json!([]),
        json!([[AUDIENCE]]),
    ] {
        case.check(set("aud", aud), Err("WrongAudience"));
    }
    case.check(set("sub", json!("x".repeat(256))), Err("InvalidIdentityToken"));
    case.check_kind(IssuerKind::Oidc, set("sub", json!("x".repeat(255))), Ok(()));
    case.check_kind(IssuerKind::Oidc, set("sub", json!("a\nb")), Err("InvalidIdentityToken"));
    case.check(set("https://aws.amazon.com/tags", json!({})), Err("InvalidIdentityToken"));
    case.check(
        set("https://aws.amazon.com/source_identity", json!("x")),
        Err("InvalidIdentityToken"),
    );
    case.check(set("amr", json!(["pwd", "mfa"])), Ok(()));
    for amr in [json!("mfa"), json!([1]), json!([""]), json!(null), json!(vec!["x"; 17])] {
        case.check(set("amr", amr), Err("InvalidIdentityToken"));
    }
    // ATTACKS 74, 76: not for whoever merely holds it.
    for name in ["cnf", "act", "may_act"] {
        let change = set(name, json!({"sub": "somebody", "jkt": "x"}));
        case.check(change, Err("InvalidIdentityToken"));
    }
    for sub in ["arn:aws:iam::210987654321:role/App", "arn:aws-cn:iam::123456789012:role/App"] {
        case.check(set("sub", json!(sub)), Err("AccountNotAllowed"));
    }
    for sub in [
        "arn:aws:iam::123456789012:root",
        "arn:aws:iam::123456789012:role/",
        "arn:aws:iam::123456789012:role/a/",
        "arn:aws:sts::123456789012:assumed-role/App/s",
        "arn:aws:iam:us-east-1:123456789012:role/App",
        "arn:aws:iam::123456789012:role/App:x",
        "system:serviceaccount:default:default",
    ] {
        case.check(set("sub", json!(sub)), Err("InvalidIdentityToken"));
    }
    case.check(
        |_, p| p[NAMESPACE]["aws_account"] = json!("210987654321"),
        Err("AccountNotAllowed"),
    );
    case.check(
        |_, p| p[NAMESPACE]["aws_account"] = json!(123_456_789_012_i64),
        Err("AccountNotAllowed"),
    );
    case.check(|_, p| p[NAMESPACE]["org_id"] = json!(1), Err("InvalidIdentityToken"));
    for tags in [json!({"Team": "a", "team": "b"}), json!({"a": 1}), json!({"": "x"}), json!(["a"])]
    {
        case.check(|_, p| p[NAMESPACE]["principal_tags"] = tags, Err("InvalidIdentityToken"));
    }
    case.check(|_, p| p[NAMESPACE]["new_claim_of_aws"] = json!({"a": 1}), Ok(()));
}

// ATTACKS 69.
#[test]
fn times() {
    let case = Case::new();
    let check = |iat: i64, exp: i64, expected: Result<(), &str>| {
        case.check(
            |_, p| {
                p["iat"] = json!(iat);
                p["exp"] = json!(exp);
            },
            expected,
        );
    };
    check(NOW - 3599, NOW + 1, Ok(()));
    check(NOW + 5, NOW + 3605, Ok(()));
    check(NOW + 6, NOW + 600, Err("InvalidIdentityToken"));
    check(NOW - 60, NOW, Err("ExpiredTokenException"));
    check(NOW - 60, NOW + 3541, Err("InvalidIdentityToken"));
    check(NOW, NOW, Err("InvalidIdentityToken"));
    check(NOW, NOW - 1, Err("InvalidIdentityToken"));
    check(NOW, 4_102_444_800, Err("InvalidIdentityToken"));
    check(i64::MIN, NOW + 1, Err("InvalidIdentityToken"));
    check(-5, i64::MAX, Err("InvalidIdentityToken"));
    for name in ["iat", "exp", "nbf"] {
        for value in [json!("1800000000"), json!(1_800_000_000.0), json!(1.8e9), json!(null)] {
            case.check(|_, p| p[name] = value, Err("InvalidIdentityToken"));
        }
    }
    case.check(|_, p| p["nbf"] = json!(NOW + 5), Ok(()));
    case.check(|_, p| p["nbf"] = json!(NOW + 6), Err("InvalidIdentityToken"));
}

// ATTACKS 71.
#[test]
fn forms() {
    let case = Case::new();
    let good = case.signer.sign(&header(), &payload().to_string());
    let check = |token: &str, expected: &str| {
        let found = case.verify(token, aws()).unwrap_err();
        assert_eq!(found.code(), expected, "{token}: {found}");
    };
    let raw = |payload: &str| case.signer.sign(&header(), payload);
    check("", "InvalidIdentityToken");
    check("a.b", "InvalidIdentityToken");
    check(&format!("{good}.x"), "InvalidIdentityToken");
    check(&format!("{good}="), "InvalidIdentityToken");
    check(&good.replace('.', ".."), "InvalidIdentityToken");
    check(&"a".repeat(MAX_JWT_BYTES + 1), "InvalidIdentityToken");
    let twice = |extra: &str| {
        let text = payload().to_string();
        raw(&format!("{},{extra}}}", text.strip_suffix('}').unwrap()))
    };
    check(&twice(r#""aud":"x""#), "InvalidIdentityToken");
    check(&twice(r#""\u0061ud":"x""#), "InvalidIdentityToken");
    check(&twice(r#""a":{"b":1,"b":2}"#), "InvalidIdentityToken");
    check(&twice(&format!(r#""a":{}{}"#, "[".repeat(8), "]".repeat(8))), "InvalidIdentityToken");
    check(&raw("[]"), "InvalidIdentityToken");
    check(&raw(&format!("{} {{}}", payload())), "InvalidIdentityToken");
    let (input, signature) = good.rsplit_once('.').unwrap();
    check(&format!("{input}."), "InvalidSignature");
    check(&format!("{input}.{}", &signature[..80]), "InvalidSignature");
    let other = Case::new().signer.sign(&header(), &payload().to_string());
    check(&other, "InvalidSignature");
    let (_, borrowed) = other.rsplit_once('.').unwrap();
    check(&format!("{input}.{borrowed}"), "InvalidSignature");
}

#[test]
fn a_missing_jti_where_the_issuer_gives_none() {
    let case = Case::new();
    let mut payload = payload();
    payload.as_object_mut().unwrap().remove("jti");
    let token = case.signer.sign(&header(), &payload.to_string());
    let rules = IssuerRules { requires_jti: false, ..rules(IssuerKind::Eks) };
    let identity = Jwt::parse(&token).unwrap().verify(&rules, &case.keys, NOW).unwrap();
    assert_eq!((identity.jti(), identity.aws()), (None, None));
}

#[test]
fn sets_of_keys() {
    let (ec, rsa) = (Signer::new(JwtAlgorithm::Es384), Signer::new(JwtAlgorithm::Rs256));
    let check = |keys: &[Value], expected: Result<&[&str], KeySetError>| {
        let found = set(keys, &[JwtAlgorithm::Es384, JwtAlgorithm::Rs256]);
        match (&found, &expected) {
            (Ok(found), Ok(kids)) => {
                assert_eq!(found.names().collect::<Vec<_>>(), *kids);
            }
            _ => assert_eq!(found.map(|_| ()), expected.map(|_| ()), "{keys:?}"),
        }
    };
    let with = |jwk: Value, name: &str, value: Value| {
        let mut jwk = jwk;
        jwk[name] = value;
        jwk
    };
    let none = || Err(KeySetError::NoUsableKey { algorithms: "ES384 or RS256".into() });
    check(&[ec.jwk("a"), rsa.jwk("b")], Ok(&["a", "b"]));
    check(&[ec.jwk("a"), rsa.jwk("a")], Err(KeySetError::DuplicateKey { kid: "a".into() }));
    // The public half of an RSA key as a secret of HMAC (ATTACKS 58).
    let oct = json!({"kty": "oct", "k": "AAAA", "kid": "o", "alg": "HS256"});
    check(&[ec.jwk("a"), oct.clone()], Ok(&["a"]));
    check(&[oct], none());
    check(&[], none());
    check(&[with(ec.jwk("a"), "use", json!("enc"))], none());
    check(&[with(ec.jwk("a"), "alg", json!("ES256"))], none());
    check(&[with(rsa.jwk("a"), "alg", json!("PS256"))], none());
    check(&[with(ec.jwk("a"), "crv", json!("P-256"))], none());
    check(&[with(ec.jwk("a"), "y", ec.jwk("a")["x"].clone())], none());
    check(&[with(ec.jwk("a"), "key_ops", json!(["sign"]))], none());
    check(&[with(ec.jwk("a"), "key_ops", json!(["verify"]))], Ok(&["a"]));
    check(&[Signer::new(JwtAlgorithm::Es256).jwk("p256")], none());
    let many: Vec<_> = (0..65).map(|number| ec.jwk(&number.to_string())).collect();
    check(&many, Err(KeySetError::TooMany));
    for text in ["", "[]", "{}", r#"{"keys":{}}"#, r#"{"keys":[],"keys":[]}"#] {
        let found = Jwks::parse(text.as_bytes(), &JwtAlgorithm::ALL).unwrap_err();
        assert_eq!(found, KeySetError::Malformed, "{text}");
    }
    let long = vec![b' '; MAX_JWKS_BYTES + 1];
    assert_eq!(Jwks::parse(&long, &JwtAlgorithm::ALL).unwrap_err(), KeySetError::TooLarge);
}

/// A key of a modulus that is too short verifies nothing.
#[test]
fn a_short_rsa_key_verifies_nothing() {
    let jwk = json!({"kty": "RSA", "kid": "s", "e": "AQAB", "n": B64.encode([0xff_u8; 128])});
    let keys = set(&[jwk], &[JwtAlgorithm::Rs256]).unwrap();
    assert!(!keys.lookup("s").unwrap().verifies(b"m", &[1; 128]));
}
