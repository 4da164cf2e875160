//! The attacks on tokens (security/ATTACKS.md, sections G and H) that apply to Countersign's own, each by its number.
//!
//! Most of these tokens are truly signed: what stops them must be the check under test, not the signature.

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::errors::ErrorKind;
use serde_json::{Map, Value, json};

use crate::ecdsa::negate_s;
use crate::samples::{self, AUDIENCE, NOW, header, keyset, record, signed};
use crate::verify::Part;
use crate::{Claims, Expected, KeySet, SigningKey, TokenError, check_signature, mint, verify};

fn refusal(token: &str, key: &SigningKey) -> TokenError {
    verify(token, &keyset(key), &samples::expected(), NOW).unwrap_err()
}

/// A truly signed token whose header has `change` applied to it.
fn with_header(key: &SigningKey, change: impl Fn(&mut Map<String, Value>)) -> String {
    let mut members = crate::json::object(header(key).as_bytes()).unwrap();
    change(&mut members);
    let payload = serde_json::to_string(&samples::claims()).unwrap();
    signed(key, &Value::Object(members).to_string(), &payload)
}

/// A truly signed token whose claims have `change` applied to them.
fn with_claims(key: &SigningKey, change: impl Fn(&mut Value)) -> String {
    let mut claims = serde_json::to_value(samples::claims()).unwrap();
    change(&mut claims);
    signed(key, &header(key), &claims.to_string())
}

fn good() -> (SigningKey, String) {
    let key = SigningKey::generate().unwrap();
    let token = mint(&samples::claims(), &key).unwrap();
    (key, token)
}

fn code(error: &TokenError) -> &'static str {
    error.code()
}

#[test]
fn unchanged_tokens_of_these_helpers_are_good() {
    let key = SigningKey::generate().unwrap();
    for token in [with_header(&key, |_| {}), with_claims(&key, |_| {})] {
        assert!(verify(&token, &keyset(&key), &samples::expected(), NOW).is_ok());
    }
}

#[test]
fn attack_58_another_algorithm() {
    let (key, token) = good();
    for alg in [
        json!("none"),
        json!("None"),
        json!("HS256"),
        json!("RS256"),
        json!("ES384"),
        json!("es256"),
        json!(["ES256"]),
        Value::Null,
    ] {
        let token = with_header(&key, |h| drop(h.insert("alg".into(), alg.clone())));
        assert_eq!(refusal(&token, &key), TokenError::WrongAlgorithm, "{alg}");
    }
    assert_eq!(
        refusal(&with_header(&key, |h| drop(h.remove("alg"))), &key),
        TokenError::WrongAlgorithm
    );

    // `none` with its empty signature, and HS256 keyed with each public form of our key.
    let payload = token.split('.').nth(1).unwrap();
    let unsigned =
        format!("{}.{payload}.", URL_SAFE_NO_PAD.encode(header(&key).replace("ES256", "none")));
    assert_eq!(refusal(&unsigned, &key), TokenError::WrongAlgorithm);
    for (alg, expected) in [
        ("HS256", TokenError::WrongAlgorithm),
        ("ES256", TokenError::Malformed { part: Part::Signature }),
    ] {
        for secret in [key.public().point().to_vec(), key.public().to_jwk().into_bytes()] {
            let input =
                format!("{}.{payload}", URL_SAFE_NO_PAD.encode(header(&key).replace("ES256", alg)));
            let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &secret), input.as_bytes());
            assert_eq!(
                refusal(&format!("{input}.{}", URL_SAFE_NO_PAD.encode(tag)), &key),
                expected
            );
        }
    }
    // The header of a good token with the signature left out, cut short, or all zero.
    let input = token.rsplit_once('.').unwrap().0;
    for (signature, expected) in [
        (vec![], TokenError::Malformed { part: Part::Signature }),
        (vec![1; 63], TokenError::Malformed { part: Part::Signature }),
        (vec![1; 65], TokenError::Malformed { part: Part::Signature }),
        (vec![0; 64], TokenError::InvalidSignature),
        (vec![1; 64], TokenError::InvalidSignature),
    ] {
        assert_eq!(
            refusal(&format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature)), &key),
            expected
        );
    }
}

#[test]
fn attack_59_61_header_members_that_are_not_implemented() {
    let key = SigningKey::generate().unwrap();
    let attacker = SigningKey::generate().unwrap();
    let jwk: Value = serde_json::from_str(&attacker.public().to_jwk()).unwrap();
    for (name, value) in [
        ("jwk", jwk.clone()),
        ("jku", json!("https://attacker.example/jwks")),
        ("x5u", json!("https://attacker.example/chain")),
        ("x5c", json!(["MIIB"])),
        ("x5t", json!("AA")),
        ("x5t#S256", json!("AA")),
        ("crit", json!(["exp"])),
        ("crit", json!([])),
        ("crit", Value::Null),
        ("zip", json!("DEF")),
        ("b64", json!(false)),
        ("cty", json!("JWT")),
        ("nonce", json!("n")),
        ("Kid", json!("x")),
        ("x-vendor", json!(1)),
    ] {
        let expected = TokenError::UnknownHeaderMember { name: name.to_owned() };
        let token = with_header(&key, |h| drop(h.insert(name.into(), value.clone())));
        assert_eq!(refusal(&token, &key), expected);
    }
    // Signed by the attacker, who offers the key to check it with.
    let payload = serde_json::to_string(&samples::claims()).unwrap();
    let offered =
        json!({"typ": "at+jwt", "alg": "ES256", "kid": attacker.kid(), "jwk": jwk}).to_string();
    assert_eq!(
        refusal(&signed(&attacker, &offered, &payload), &key),
        TokenError::UnknownHeaderMember { name: "jwk".into() }
    );
    assert_eq!(
        refusal(&signed(&attacker, &header(&attacker), &payload), &key),
        TokenError::UnknownKey { kid: attacker.kid().to_owned() }
    );
    // And under our own key's name.
    assert_eq!(
        refusal(&signed(&attacker, &header(&key), &payload), &key),
        TokenError::InvalidSignature
    );
}

#[test]
fn attack_60_key_ids() {
    let key = SigningKey::generate().unwrap();
    let with_kid = |kid: Value| with_header(&key, |h| drop(h.insert("kid".into(), kid.clone())));
    for kid in [
        json!("../../dev/null"),
        json!("' OR 1=1 --"),
        json!(""),
        json!("a".repeat(129)),
        json!("ключ"),
        json!("a\nb"),
        json!("a.b"),
        json!(7),
        json!([key.kid()]),
        Value::Null,
    ] {
        assert_eq!(refusal(&with_kid(kid.clone()), &key), TokenError::InvalidKeyId, "{kid}");
    }
    assert_eq!(
        refusal(&with_header(&key, |h| drop(h.remove("kid"))), &key),
        TokenError::InvalidKeyId
    );
    for kid in ["a".repeat(128), key.kid().to_lowercase(), format!("{}x", key.kid())] {
        assert_eq!(refusal(&with_kid(json!(kid)), &key), TokenError::UnknownKey { kid });
    }
}

#[test]
fn attack_62_another_kind_of_token() {
    let key = SigningKey::generate().unwrap();
    for typ in [
        "JWT",
        "at+JWT",
        "AT+JWT",
        "application/at+jwt",
        "dpop+jwt",
        "txntoken+jwt",
        "logout+jwt",
        "",
        "at+jwt ",
    ] {
        let token = with_header(&key, |h| drop(h.insert("typ".into(), json!(typ))));
        assert_eq!(refusal(&token, &key), TokenError::WrongType, "{typ}");
    }
    assert_eq!(refusal(&with_header(&key, |h| drop(h.remove("typ"))), &key), TokenError::WrongType);
}

#[test]
fn attack_63_missing_claims() {
    let key = SigningKey::generate().unwrap();
    let all = serde_json::to_value(samples::claims()).unwrap();
    for name in all.as_object().unwrap().keys() {
        let error =
            refusal(&with_claims(&key, |c| drop(c.as_object_mut().unwrap().remove(name))), &key);
        assert!(error.to_string().contains(&format!("`{name}`")), "{name}: {error}");
        assert_eq!(code(&error), "InvalidToken");
        let error = refusal(&with_claims(&key, |c| c[name] = Value::Null), &key);
        assert_eq!(code(&error), "InvalidToken", "{name}");
    }
    let session = all["countersign"].as_object().unwrap();
    for name in
        session.keys().filter(|name| !["session_tags", "session_policies"].contains(&name.as_str()))
    {
        let error = refusal(
            &with_claims(&key, |c| drop(c["countersign"].as_object_mut().unwrap().remove(name))),
            &key,
        );
        assert!(error.to_string().contains(&format!("`{name}`")), "{name}: {error}");
    }
    for name in ["realm", "account", "unique_id", "arn"] {
        let remove =
            |c: &mut Value| drop(c["countersign"]["caller"].as_object_mut().unwrap().remove(name));
        assert!(
            refusal(&with_claims(&key, remove), &key).to_string().contains(&format!("`{name}`")),
            "{name}"
        );
    }
}

#[test]
fn attack_64_68_88_audiences() {
    let key = SigningKey::generate().unwrap();
    let check = |aud: Value, expected: &str| {
        let error = refusal(&with_claims(&key, |c| c["aud"] = aud.clone()), &key);
        assert_eq!(code(&error), expected, "{aud}: {error}");
    };
    check(json!([AUDIENCE]), "InvalidToken");
    check(json!([AUDIENCE, "billing"]), "InvalidToken");
    check(json!([]), "InvalidToken");
    check(json!(""), "InvalidToken");
    for other in ["billing", "Orders", "orders ", "orders/", "order", "sts.amazonaws.com", "*"] {
        check(json!(other), "WrongAudience");
    }
    // A good token at a service with another name.
    let token = mint(&samples::claims(), &key).unwrap();
    let elsewhere = Expected { audience: "billing", ..samples::expected() };
    assert_eq!(
        verify(&token, &keyset(&key), &elsewhere, NOW).unwrap_err(),
        TokenError::WrongAudience
    );
}

#[test]
fn attack_65_66_issuers() {
    let key = SigningKey::generate().unwrap();
    for issuer in [
        "https://attacker.example",
        "http://127.0.0.1:8080/",
        "http://127.0.0.1:80801",
        "HTTP://127.0.0.1:8080",
        "http://169.254.169.254/",
    ] {
        assert_eq!(
            refusal(&with_claims(&key, |c| c["iss"] = json!(issuer)), &key),
            TokenError::WrongIssuer,
            "{issuer}"
        );
    }
    let list = with_claims(&key, |c| c["iss"] = json!([samples::ISSUER]));
    assert_eq!(code(&refusal(&list, &key)), "InvalidToken");
}

#[test]
fn attack_67_claims_that_are_not_ours() {
    let key = SigningKey::generate().unwrap();
    for name in ["request_tags", "Act", "CNF", "scopes", "May_Act", "nbf", "auth_time", "Sub", "x"]
    {
        let error = refusal(&with_claims(&key, |c| c[name] = json!(NOW - 60)), &key);
        assert!(
            matches!(&error, TokenError::InvalidClaims { reason } if reason.contains(&format!("`{name}`"))),
            "{error}"
        );
        let error = refusal(&with_claims(&key, |c| c["countersign"][name] = json!("x")), &key);
        assert!(
            matches!(&error, TokenError::InvalidClaims { reason } if reason.contains(&format!("`{name}`"))),
            "{error}"
        );
        let error =
            refusal(&with_claims(&key, |c| c["countersign"]["caller"][name] = json!("x")), &key);
        assert!(
            matches!(&error, TokenError::InvalidClaims { reason } if reason.contains(&format!("`{name}`"))),
            "{error}"
        );
    }
    // Parts of a session that contradict each other, and other spellings of what is absent.
    let contradictory: [fn(&mut Value); 26] = [
        |c| c["scope"] = json!(""),
        |c| c["scope"] = json!(["s3:Get"]),
        |c| c["scope"] = Value::Null,
        |c| c["cnf"] = json!({}),
        |c| c["cnf"] = json!({ "jkt": "x" }),
        |c| c["cnf"] = json!({ "jkt": samples::THUMBPRINT, "x5t#S256": samples::THUMBPRINT }),
        |c| c["cnf"] = json!({ "jwk": samples::THUMBPRINT }),
        |c| c["act"] = json!({ "sub": "arn:x" }),
        |c| c["act"] = json!({ "sub": "arn:x", "client_id": "AROA:x", "iss": "x" }),
        |c| c["act"] = serde_json::to_value(samples::actors(5)).unwrap(),
        |c| c["may_act"] = json!({}),
        |c| c["may_act"] = json!("arn:x"),
        |c| c["may_act"] = json!({ "iss": samples::ISSUER }),
        |c| c["may_act"] = json!({ "sub": "arn:x" }),
        |c| c["may_act"] = json!({ "iss": samples::ISSUER, "sub": "" }),
        |c| c["may_act"] = json!({ "iss": samples::ISSUER, "sub": "arn:x", "aud": "orders" }),
        |c| c["countersign"]["narrowings"] = json!([[]]),
        |c| c["sub"] = json!("arn:aws:sts::111122223333:assumed-role/Admin/alice@example.com"),
        |c| c["client_id"] = json!("AROAOTHER:alice@example.com"),
        |c| c["countersign"]["role_id"] = json!("AROAOTHER"),
        |c| c["countersign"]["account"] = json!("999999999999"),
        |c| c["countersign"]["caller"]["realm"] = json!("AWS"),
        |c| {
            c["countersign"]["caller"] = json!([
                "aws",
                "444455556666",
                "AIDAEXAMPLE",
                "arn:aws:iam::444455556666:user/alice"
            ])
        },
        |c| c["countersign"]["session_policies"] = json!([]),
        |c| c["countersign"]["session_tags"] = json!({}),
        |c| c["countersign"]["source_identity"] = Value::Null,
    ];
    for change in contradictory {
        let token = with_claims(&key, change);
        assert_eq!(code(&refusal(&token, &key)), "InvalidToken", "{token}");
    }
    assert_eq!(code(&refusal(&signed(&key, &header(&key), "[]"), &key)), "InvalidToken");
}

#[test]
fn attack_69_times() {
    let key = SigningKey::generate().unwrap();
    fn check(key: &SigningKey, iat: Value, exp: Value, expected: Option<&str>) {
        let token = with_claims(key, |c| {
            c["iat"] = iat.clone();
            c["exp"] = exp.clone();
        });
        let error = verify(&token, &keyset(key), &samples::expected(), NOW).err();
        assert_eq!(error.as_ref().map(TokenError::code), expected, "{iat} {exp}: {error:?}");
    }
    let ok = json!(NOW + 60);
    check(&key, json!(NOW), json!(NOW + 1), None);
    check(&key, json!(NOW), json!(NOW + 43_200), None);
    check(&key, json!(NOW + 5), ok.clone(), None);
    check(&key, json!(NOW + 6), ok.clone(), Some("InvalidToken"));
    check(&key, json!(NOW - 60), json!(NOW), Some("ExpiredToken"));
    check(&key, json!(NOW - 60), json!(NOW - 1), Some("ExpiredToken"));
    check(&key, json!(NOW), json!(NOW + 43_201), Some("InvalidToken"));
    check(&key, json!(NOW), json!(4_102_444_800_i64), Some("InvalidToken"));
    check(&key, json!(i64::MIN), json!(i64::MAX), Some("InvalidToken"));
    check(&key, json!(NOW + 5), json!(NOW + 5), Some("InvalidToken"));
    check(&key, json!(NOW + 4), json!(NOW + 3), Some("InvalidToken"));
    for odd in [
        json!((NOW + 60).to_string()),
        json!(NOW as f64 + 60.0),
        json!(NOW as f64 + 60.5),
        json!(true),
        json!([NOW + 60]),
        json!(u64::MAX),
        json!(-1),
        Value::Null,
    ] {
        check(&key, json!(NOW), odd.clone(), Some("InvalidToken"));
        if odd != json!(-1) {
            check(&key, odd, json!(NOW + 61), Some("InvalidToken"));
        }
    }
    // 6e1 and 1.8e9 are floats to JSON readers, whatever their value.
    let payload = serde_json::to_string(&samples::claims())
        .unwrap()
        .replace(&format!("\"exp\":{}", NOW + 3540), "\"exp\":1.80000354e9");
    assert_eq!(code(&refusal(&signed(&key, &header(&key), &payload), &key)), "InvalidToken");
}

#[test]
fn attack_69_leeway_is_at_most_five_seconds_and_never_extends_a_life() {
    let key = SigningKey::generate().unwrap();
    let token = mint(&Claims { iat: NOW, exp: NOW + 10, ..samples::claims() }, &key).unwrap();
    let keys = keyset(&key);
    for (leeway, now, good) in [
        (0, NOW, true),
        (0, NOW - 1, false),
        (5, NOW - 5, true),
        (5, NOW - 6, false),
        (i64::MAX, NOW - 5, true),
        (i64::MAX, NOW - 6, false),
        (i64::MIN, NOW, true),
        (i64::MIN, NOW - 1, false),
        (5, NOW + 9, true),
        (5, NOW + 10, false),
        (5, i64::MAX, false),
        (5, i64::MIN, false),
    ] {
        let expected = Expected { leeway, ..samples::expected() };
        assert_eq!(
            verify(&token, &keys, &expected, now).is_ok(),
            good,
            "leeway {leeway}, now {now}"
        );
    }
}

#[test]
fn attack_70_the_malleable_twin() {
    let key = SigningKey::generate().unwrap();
    for number in 0..50 {
        let claims = Claims { jti: number.to_string(), ..samples::claims() };
        let token = mint(&claims, &key).unwrap();
        let (input, signature) = token.rsplit_once('.').unwrap();
        let mut twin: [u8; 64] = URL_SAFE_NO_PAD.decode(signature).unwrap().try_into().unwrap();
        negate_s(&mut twin);
        let twin = format!("{input}.{}", URL_SAFE_NO_PAD.encode(twin));
        assert_eq!(refusal(&twin, &key), TokenError::HighSignature);
        // It is a true twin: the library alone takes it.
        let decoding = jsonwebtoken::DecodingKey::from_ec_der(key.public().point());
        let mut validation = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::ES256);
        validation.validate_exp = false;
        validation.validate_aud = false;
        let alone = jsonwebtoken::decode::<Value>(&twin, &decoding, &validation);
        assert!(
            !matches!(alone.as_ref().map_err(|e| e.kind()), Err(ErrorKind::InvalidSignature)),
            "{alone:?}"
        );
        assert!(alone.is_ok());
    }
}

#[test]
fn attack_70_other_spellings_of_the_same_bytes() {
    let (key, token) = good();
    let last = token.chars().last().unwrap();
    let trimmed = &token[..token.len() - 1];
    // The last character of 64 bytes in base64 has four bits to spare.
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let value = alphabet.find(last).unwrap();
    for spare in 1..16 {
        let other = alphabet.as_bytes()[value ^ spare] as char;
        assert_eq!(
            refusal(&format!("{trimmed}{other}"), &key),
            TokenError::Malformed { part: Part::Signature }
        );
    }
    for text in [
        format!("{token}="),
        format!("{token}=="),
        format!(" {token}"),
        format!("{token}\n"),
        token.replace('.', "=."),
    ] {
        assert_eq!(code(&refusal(&text, &key)), "InvalidToken", "{text}");
    }
}

#[test]
fn attack_71_duplicates_depth_and_size() {
    let key = SigningKey::generate().unwrap();
    let payload = serde_json::to_string(&samples::claims()).unwrap();
    let twice = |part, name: &str| TokenError::DuplicateMember { part, name: name.to_owned() };
    let header_with = |extra: &str| header(&key).replacen('{', &format!("{{{extra},"), 1);
    assert_eq!(
        refusal(&signed(&key, &header_with(r#""alg":"none""#), &payload), &key),
        twice(Part::Header, "alg")
    );
    assert_eq!(
        refusal(&signed(&key, &header_with(r#""\u006bid":"x""#), &payload), &key),
        twice(Part::Header, "kid")
    );
    let payload_with = |extra: &str| payload.replacen('{', &format!("{{{extra},"), 1);
    for name in ["iss", "sub", "aud", "exp", "iat", "jti", "client_id", "countersign"] {
        let token = signed(&key, &header(&key), &payload_with(&format!("\"{name}\":1")));
        assert_eq!(refusal(&token, &key), twice(Part::Payload, name));
    }
    let inner = payload.replacen("\"role_id\":", "\"role_id\":\"AROAOTHER\",\"role_id\":", 1);
    assert_eq!(
        refusal(&signed(&key, &header(&key), &inner), &key),
        twice(Part::Payload, "role_id")
    );
    let tags = payload.replacen("\"Team\":", "\"Team\":\"x\",\"Team\":", 1);
    assert_eq!(refusal(&signed(&key, &header(&key), &tags), &key), twice(Part::Payload, "Team"));

    let deep = format!("{}{}", "[".repeat(900), "]".repeat(900));
    assert_eq!(
        refusal(&signed(&key, &header(&key), &payload_with(&format!("\"x\":{deep}"))), &key),
        TokenError::TooDeep { part: Part::Payload }
    );
    assert_eq!(
        refusal(&signed(&key, &header_with(&format!("\"x\":{deep}")), &payload), &key),
        TokenError::TooDeep { part: Part::Header }
    );

    let large =
        signed(&key, &header(&key), &payload_with(&format!("\"x\":\"{}\"", "y".repeat(4096))));
    assert_eq!(refusal(&large, &key), TokenError::TooLarge { bytes: large.len() });
    assert_eq!(refusal(&"!".repeat(4097), &key), TokenError::TooLarge { bytes: 4097 });
    assert_eq!(refusal(&".".repeat(1 << 20), &key), TokenError::TooLarge { bytes: 1 << 20 });
    for parts in ["", ".", "..", "...", "a", "a.b", "a.b.c.d"] {
        assert_eq!(code(&refusal(parts, &key)), "InvalidToken", "{parts}");
    }
    let (_, token) = good();
    assert_eq!(refusal(&format!("{token}."), &key), TokenError::NotThreeParts);
}

#[test]
fn attack_81_rotation() {
    let (old, new) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
    let token = mint(&samples::claims(), &old).unwrap();
    let keys = |until: i64, revoked: bool| {
        let mut retiring = record(&old);
        (retiring.accept_until, retiring.revoked) = (until, revoked);
        KeySet::from_iter([retiring, record(&new)])
    };
    let kid = old.kid().to_owned();
    for (keys, expected) in [
        (keys(NOW + 1, false), None),
        (keys(NOW, false), Some(TokenError::RetiredKey { kid: kid.clone() })),
        (keys(i64::MIN, false), Some(TokenError::RetiredKey { kid: kid.clone() })),
        (keys(NOW + 1, true), Some(TokenError::RevokedKey { kid: kid.clone() })),
        (keys(NOW, true), Some(TokenError::RevokedKey { kid: kid.clone() })),
        (KeySet::from_iter([record(&new)]), Some(TokenError::UnknownKey { kid: kid.clone() })),
        (KeySet::default(), Some(TokenError::UnknownKey { kid: kid.clone() })),
    ] {
        assert_eq!(verify(&token, &keys, &samples::expected(), NOW).err(), expected);
    }
}

#[test]
fn attack_91_a_remembered_signature_outruns_nothing() {
    let (key, token) = good();
    let remembered = check_signature(&token, &keyset(&key)).unwrap();
    assert_eq!((remembered.kid(), remembered.expires_at()), (key.kid(), NOW + 3540));
    let check = |keys: &KeySet, now: i64| remembered.check(now, &samples::expected(), keys).err();
    assert_eq!(check(&keyset(&key), NOW), None);
    assert_eq!(check(&keyset(&key), NOW + 3539), None);
    assert_eq!(check(&keyset(&key), NOW + 3540), Some(TokenError::Expired { exp: NOW + 3540 }));
    let kid = key.kid().to_owned();
    let mut standing = record(&key);
    standing.revoked = true;
    assert_eq!(
        check(&KeySet::from_iter([standing.clone()]), NOW),
        Some(TokenError::RevokedKey { kid: kid.clone() })
    );
    (standing.revoked, standing.accept_until) = (false, NOW + 10);
    assert_eq!(
        check(&KeySet::from_iter([standing]), NOW + 10),
        Some(TokenError::RetiredKey { kid: kid.clone() })
    );
    assert_eq!(check(&KeySet::default(), NOW), Some(TokenError::UnknownKey { kid }));
    // What the later checks need travels in the token.
    let verified = remembered.check(NOW, &samples::expected(), &keyset(&key)).unwrap();
    assert_eq!(remembered.jti(), verified.claims().jti);
    assert_eq!(verified.claims().session.role_id, "AROAEXAMPLE");
    assert_eq!(verified.claims().session.revision, "store:7");
}

#[test]
fn what_a_stranger_wrote_is_escaped_and_short_in_messages() {
    let key = SigningKey::generate().unwrap();
    let name = format!("\u{1b}[31m\n{}", "x".repeat(500));
    let error =
        refusal(&with_header(&key, |h| drop(h.insert(name.clone(), json!(1)))), &key).to_string();
    assert!(!error.contains(['\u{1b}', '\n']) && error.len() < 200, "{error}");
}
