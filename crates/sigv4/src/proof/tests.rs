//! Proofs made, read and rebuilt; the envelope; and what must hold whatever is altered. The attacks are in `attacks`.

mod attacks;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::answer::AnswerFormat;
use crate::canonical::sha256_hex;
use crate::key::{SecretKey, derive};
use crate::sign::{Credentials, UnsignedRequest, presign, sign_headers};
use crate::verify::{ClockWindow, ParsedSignature, ReceivedRequest};

const NOW: i64 = 1_700_000_000; // 20231114T221320Z
const ORIGIN: &str = "https://sts.eu-west-1.amazonaws.com";
const REGION: &str = "eu-west-1";
const US: &str = "https://countersign.example";
const BOUND: &str = "opp2PDZFHzmH9OVKG_LCZKNIRdU6pOq3R6Gw3w6zIOo";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
const TOKEN: &str = "IQoJb3JpZ2luX2VjEPT//////////wEa+/=";

fn credentials() -> Credentials {
    Credentials::new("ASIAIOSFODNN7EXAMPLE", SecretKey::new(SECRET), Some(TOKEN.into()))
}

fn request(challenge: Option<&str>) -> ProofRequest<'_> {
    ProofRequest { origin: ORIGIN, region: REGION, audience: US, binding: BOUND, challenge }
}

fn open(subject_token: &str) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(subject_token).unwrap()).unwrap()
}

fn seal(text: &str) -> String {
    URL_SAFE_NO_PAD.encode(text)
}

fn post() -> Value {
    open(&request(None).sign_post(&credentials(), NOW).unwrap())
}

fn get() -> Value {
    open(&request(None).sign_presigned(&credentials(), NOW).unwrap())
}

/// STS as far as signatures go: the outgoing request as it would arrive there, with what an HTTP client adds.
fn sts_accepts(outgoing: &OutgoingRequest, host: &str) -> bool {
    let (path, query) =
        outgoing.path_and_query.split_once('?').unwrap_or((&outgoing.path_and_query, ""));
    let length = outgoing.body.len().to_string();
    let mut headers: Vec<(&str, &[u8])> =
        outgoing.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
    headers.push(("host", host.as_bytes()));
    if !outgoing.body.is_empty() {
        headers.push(("content-length", length.as_bytes()));
    }
    let received = ReceivedRequest {
        method: outgoing.method,
        path,
        query,
        headers: &headers,
        body: outgoing.body.as_bytes(),
    };
    let Ok(parsed) = ParsedSignature::from_request(&received) else { return false };
    let known = ["ASIAIOSFODNN7EXAMPLE", "AKIAIOSFODNN7EXAMPLE"]
        .contains(&parsed.credential().access_key_id.as_str());
    let key = derive(&SecretKey::new(SECRET), "20231114", REGION, "sts");
    known && parsed.verify(&key, NOW, ClockWindow::AWS).is_ok()
}

/// What the gateway does before it believes an answer: the request that STS accepted, or why there is none.
fn accept(subject_token: &str) -> Result<OutgoingRequest, &'static str> {
    let accepted = || -> Result<(StsProof, OutgoingRequest), ProofError> {
        let proof = StsProof::parse(subject_token)?;
        proof.aws_endpoint()?;
        proof.check_time(NOW)?;
        proof.check_claims(US, BOUND, None)?;
        let outgoing = proof.rebuild(US, BOUND, AnswerFormat::Xml);
        Ok((proof, outgoing))
    };
    let (proof, outgoing) = accepted().map_err(|error| error.code())?;
    if sts_accepts(&outgoing, proof.host()) { Ok(outgoing) } else { Err("SignatureDoesNotMatch") }
}

fn code(envelope: &Value) -> &'static str {
    accept(&seal(&envelope.to_string())).map_or_else(|code| code, |_| "ok")
}

fn check(attack: u8, make: fn() -> Value, spoil: impl FnOnce(&mut Value), expected: &str) {
    let mut envelope = make();
    assert_eq!(code(&envelope), "ok");
    spoil(&mut envelope);
    assert_eq!(code(&envelope), expected, "attack {attack}: {envelope}");
}

#[test]
fn a_proof_round_trips() {
    for token in [None, Some(TOKEN.to_owned())] {
        let credentials = Credentials::new("AKIAIOSFODNN7EXAMPLE", SecretKey::new(SECRET), token);
        for challenge in [None, Some("bm9uY2U")] {
            for (proof, expires) in [
                (request(challenge).sign_post(&credentials, NOW).unwrap(), None),
                (request(challenge).sign_presigned(&credentials, NOW).unwrap(), Some(60)),
            ] {
                let parsed = StsProof::parse(&proof).unwrap();
                assert_eq!(parsed.access_key_id(), "AKIAIOSFODNN7EXAMPLE");
                assert_eq!((parsed.amz_date(), parsed.expires()), (NOW, expires));
                assert_eq!((parsed.origin().as_str(), parsed.scope_region()), (ORIGIN, REGION));
                assert_eq!(
                    (parsed.audience(), parsed.binding(), parsed.challenge()),
                    (US, BOUND, challenge)
                );
                assert_eq!(parsed.aws_endpoint().unwrap().partition, "aws");
                assert_eq!(parsed.check_claims(US, BOUND, challenge), Ok(()));
                let replay_key =
                    format!("AKIAIOSFODNN7EXAMPLE/20231114T221320Z/{}", parsed.signature());
                assert_eq!(parsed.replay_key(), replay_key);
                let outgoing = parsed.rebuild_with(US, BOUND, challenge, AnswerFormat::Json);
                assert!(
                    outgoing
                        .headers
                        .contains(&("accept".to_owned(), "application/json".to_owned()))
                );
                assert!(sts_accepts(&outgoing, "sts.eu-west-1.amazonaws.com"));
                // The gateway's own values go out, whatever the client signed (ATTACKS 22, 26).
                let other = parsed.rebuild_with(
                    "https://other.example",
                    BOUND,
                    challenge,
                    AnswerFormat::Xml,
                );
                assert!(!sts_accepts(&other, "sts.eu-west-1.amazonaws.com"));
                let other = parsed.rebuild_with(US, "other", challenge, AnswerFormat::Xml);
                assert!(!sts_accepts(&other, "sts.eu-west-1.amazonaws.com"));
                let other = parsed.rebuild_with(US, BOUND, Some("other"), AnswerFormat::Xml);
                assert!(!sts_accepts(&other, "sts.eu-west-1.amazonaws.com"));
                assert!(!sts_accepts(&outgoing, "sts.amazonaws.com"));
            }
        }
    }
    let proof = StsProof::sign_post(ORIGIN, REGION, &credentials(), US, BOUND, NOW).unwrap();
    assert!(accept(&proof).is_ok());
    let proof = StsProof::sign_presigned(ORIGIN, REGION, &credentials(), US, BOUND, NOW).unwrap();
    assert!(accept(&proof).is_ok());
}

#[test]
fn what_goes_out_is_a_fixed_set() {
    let names = |outgoing: &OutgoingRequest| {
        outgoing.headers.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>()
    };
    let outgoing = accept(&seal(&post().to_string())).unwrap();
    let expected = [
        "accept",
        AUDIENCE,
        BINDING,
        "authorization",
        "content-type",
        "x-amz-date",
        "x-amz-security-token",
    ];
    assert_eq!(names(&outgoing), expected);
    assert_eq!(
        (outgoing.method, outgoing.path_and_query.as_str(), outgoing.body.as_str()),
        ("POST", "/", BODY)
    );
    let outgoing = accept(&seal(&get().to_string())).unwrap();
    assert_eq!(names(&outgoing), ["accept", AUDIENCE, BINDING]);
    assert_eq!((outgoing.method, outgoing.body.as_str()), ("GET", ""));
    // A re-ordered query is the same request, under the same replay key (ATTACKS 37).
    let mut reordered = get();
    let url = reordered["url"].as_str().unwrap().to_owned();
    let query: Vec<&str> = url.split_once('?').unwrap().1.split('&').rev().collect();
    reordered["url"] = format!("{ORIGIN}/?{}", query.join("&")).into();
    assert_eq!(accept(&seal(&reordered.to_string())).unwrap(), outgoing);
    let key = |it: &Value| StsProof::parse(&seal(&it.to_string())).unwrap().replay_key();
    assert_eq!(key(&reordered), key(&get()));
}

/// What an SDK may sign besides: the form's content type in either spelling or not at all, and the content length.
#[test]
fn other_clients_posts_are_accepted() {
    let length = BODY.len().to_string();
    let bare = ("content-type", "application/x-www-form-urlencoded");
    let utf8 = ("content-type", "application/x-www-form-urlencoded; charset=utf-8");
    for (signed, sent) in [
        (vec![utf8], Some(utf8)),
        (vec![bare, ("content-length", length.as_str())], Some(bare)),
        (vec![], Some(utf8)), // sent, not signed
        (vec![], None),
    ] {
        let mut headers = vec![(AUDIENCE, US), (BINDING, BOUND)];
        headers.extend(signed);
        let request = UnsignedRequest {
            method: "POST",
            url: &format!("{ORIGIN}/"),
            headers: &headers,
            body: BODY.as_bytes(),
        };
        let made = sign_headers(&request, &credentials(), REGION, "sts", NOW).unwrap();
        let mut envelope = post();
        envelope["headers"] = json!({AUDIENCE: US, BINDING: BOUND});
        made.into_pairs()
            .into_iter()
            .for_each(|(name, value)| envelope["headers"][name] = value.into());
        if let Some((name, value)) = sent {
            envelope["headers"][name] = value.into();
        }
        assert_eq!(code(&envelope), "ok", "{envelope}");
    }
}

#[test]
fn the_envelope_is_closed() {
    let text = |token: &str| accept(token).map_or_else(|code| code, |_| "ok");
    let good = post().to_string();
    assert_eq!(text(&seal(&good)), "ok");
    // 84
    assert_eq!(text(&"A".repeat(MAX_PROOF + 1)), "ProofTooLarge");
    assert_eq!(text(&"A".repeat(MAX_PROOF)), "ProofNotJson");
    for token in ["", "!!!!", "eyJ9 ", "e30=", "e31", "e+/0", "é"] {
        let expected = if token.is_empty() { "ProofNotJson" } else { "ProofNotBase64Url" };
        assert_eq!(text(token), expected, "{token}");
    }
    let padded = format!("{}=", seal(&good));
    assert_eq!(text(&padded), "ProofNotBase64Url");
    // 71's class: duplicates, unknown members, depth, types, trailing data
    for (json, expected) in [
        (good.replacen('{', r#"{"method":"POST","#, 1), "RepeatedMember"),
        (good.replacen('{', r#"{"headers":{},"#, 1), "RepeatedMember"),
        (good.replacen('{', r#"{"Method":"POST","#, 1), "MemberNotAllowed"),
        (good.replacen('{', r#"{"extra":{},"#, 1), "MemberNotAllowed"),
        (good.replacen('{', r#"{"extra":{"a":{}},"#, 1), "ProofNotJson"),
        (good.replacen('{', r#"{"extra":1,"#, 1), "ProofNotJson"),
        (good.replacen('{', r#"{"body":null,"#, 1), "ProofNotJson"),
        (
            good.replacen(r#""headers":{"#, &format!(r#""headers":{{"{AUDIENCE}":"{US}","#), 1),
            "RepeatedHeader",
        ),
        (good.replacen(r#""headers":{"#, r#""headers":{"a":[],"#, 1), "ProofNotJson"),
        (good.replacen(r#""method":"POST""#, r#""method":{}"#, 1), "ProofNotJson"),
        (good.replacen(r#""method":"POST","#, "", 1), "MissingMember"),
        (r#"{"method":"POST","url":"x"}"#.to_owned(), "MissingMember"),
        (format!("{good}{{}}"), "ProofNotJson"),
        (format!("[{good}]"), "ProofNotJson"),
        ("{}".to_owned(), "MissingMember"),
        ("[".repeat(8000), "ProofNotJson"),
        (r#"{"a":"#.repeat(1500), "ProofNotJson"),
        ("\"POST\"".to_owned(), "ProofNotJson"),
    ] {
        assert_eq!(text(&seal(&json)), expected, "{}", json.get(..80).unwrap_or(&json));
    }
    check(
        84,
        post,
        |it| it["headers"][AUDIENCE] = "a".repeat(8193).into(),
        "HeaderValueNotAllowed",
    );
    let mut flood = post();
    (0..200).for_each(|n| flood["headers"][format!("x-{n}")] = "x".into());
    assert_eq!(code(&flood), "HeaderNotAllowed");
    let latin = URL_SAFE_NO_PAD.encode(b"{\"method\":\"\xe9\"}");
    assert_eq!(text(&latin), "ProofNotJson");
}

#[test]
fn secrets_are_not_printed() {
    for make in [post, get] {
        let proof = StsProof::parse(&seal(&make().to_string())).unwrap();
        let outgoing = proof.rebuild(US, BOUND, AnswerFormat::Xml);
        for shown in [format!("{proof:?}"), format!("{outgoing:?}")] {
            assert!(shown.contains("<redacted>"), "{shown}");
            for secret in [proof.signature().as_str(), TOKEN, "IQoJb3JpZ2lu", SECRET] {
                assert!(!shown.contains(secret), "{shown}");
            }
        }
    }
}

#[test]
fn errors_show_no_values() {
    let mut spoiled = post();
    spoiled["headers"]["authorization"] =
        format!("AWS4-HMAC-SHA256 Signature={}", sha256_hex(b"x")).into();
    let error = StsProof::parse(&seal(&spoiled.to_string())).unwrap_err();
    assert!(!format!("{error} {error:?}").contains(&sha256_hex(b"x")), "{error}");
}

/// Whatever one character of a proof becomes, either it is refused, or what goes to STS is what went before.
fn one_character(
    envelope: &Value,
    position: usize,
    replacement: char,
) -> Result<(), TestCaseError> {
    let good = envelope.to_string();
    let expected = accept(&seal(&good)).unwrap();
    let mut spoiled: Vec<char> = good.chars().collect();
    let position = position % spoiled.len();
    spoiled[position] = replacement;
    let spoiled: String = spoiled.into_iter().collect();
    if let Ok(outgoing) = accept(&seal(&spoiled)) {
        prop_assert_eq!(outgoing, expected, "{}", spoiled);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn parsing_never_panics(text in "[ -~é]{0,80}", member in "[ -~é\r\n]{0,40}") {
        let _ = StsProof::parse(&text);
        let _ = StsProof::parse(&seal(&text));
        for name in ["method", "url", "body"] {
            let mut envelope = post();
            envelope[name] = member.clone().into();
            prop_assert!(code(&envelope) != "ok" || envelope == post());
        }
        for name in ["authorization", "x-amz-date", "content-type", AUDIENCE, BINDING, CHALLENGE] {
            let mut envelope = post();
            envelope["headers"][name] = member.clone().into();
            prop_assert!(code(&envelope) != "ok" || envelope == post());
        }
        let mut envelope = get();
        envelope["url"] = format!("{ORIGIN}/?{member}").into();
        prop_assert!(code(&envelope) != "ok");
    }

    #[test]
    fn no_altered_proof_asks_anything_else(position: usize, replacement in "[ -~]") {
        let replacement = replacement.chars().next().unwrap();
        one_character(&post(), position, replacement)?;
        one_character(&get(), position, replacement)?;
    }
}
