//! Proofs: whatever is read from one, what goes to STS is the one request that it may be.

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_sigv4::StsProof;
use countersign_sigv4::answer::{AnswerFormat, UniqueIds, parse_answer};
use countersign_sigv4::proof::{BODY, MAX_EXPIRES};

pub(crate) const WORDS: &[&str] = &[
    "{\"method\":\"POST\",\"url\":\"https://sts.us-east-1.amazonaws.com/\",\"headers\":{",
    "\"method\":\"GET\"",
    "\"body\":\"Action=GetCallerIdentity&Version=2011-06-15\"",
    "\"x-amz-date\":\"20260615T020000Z\"",
    "\"x-countersign-audience\":\"a\"",
    "\"x-countersign-binding\":\"b\"",
    "\"authorization\":\"AWS4-HMAC-SHA256 Credential=",
    "/20260615/us-east-1/sts/aws4_request",
    "SignedHeaders=host;x-amz-date",
    "\\r\\nHost: evil",
    "@evil.example",
    "#",
    "?Action=GetCallerIdentity&Version=2011-06-15&",
    "X-Amz-Expires=60",
    "%0d%0a",
    "<GetCallerIdentityResponse>",
    "<Arn>arn:aws:iam::111122223333:user/a</Arn>",
    "<!DOCTYPE a [<!ENTITY b \"c\">]>",
];

/// A subject token, its JSON, or an answer of STS.
///
/// # Panics
/// If the request that is made of it is not GetCallerIdentity, for STS, and nothing else; or if a secret shows.
pub fn sts_proof(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        proof(text);
    }
    proof(&URL_SAFE_NO_PAD.encode(bytes));
    for (format, ids) in
        [(AnswerFormat::Xml, UniqueIds::Aws), (AnswerFormat::Json, UniqueIds::Private)]
    {
        if let Ok(caller) = parse_answer(200, format.content_type(), bytes, format, ids) {
            assert_eq!(caller.account().len(), 12);
            assert!(caller.arn().contains(caller.account()));
            assert!(!caller.unique_id().is_empty());
        }
        let refused = parse_answer(403, format.content_type(), bytes, format, ids);
        assert!(refused.is_err(), "only a 200 names a caller");
    }
}

fn proof(subject_token: &str) {
    let Ok(proof) = StsProof::parse(subject_token) else { return };
    assert!(proof.expires().is_none_or(|expires| expires <= MAX_EXPIRES));
    assert!(proof.check_claims("another audience", "b", None).is_err());
    let shown = format!("{proof:?}");
    assert!(!shown.contains(&proof.signature()), "a signature shows");
    if let Ok(endpoint) = proof.aws_endpoint() {
        assert_eq!(proof.origin(), format!("https://{}", endpoint.host));
        let suffixes =
            [".amazonaws.com", ".amazonaws.com.cn", ".api.aws", ".api.amazonwebservices.com.cn"];
        assert!(suffixes.iter().any(|suffix| endpoint.host.ends_with(suffix)), "{}", endpoint.host);
    }
    let request = proof.rebuild("own audience", "own binding", AnswerFormat::Xml);
    match request.method {
        "POST" => {
            assert_eq!((request.path_and_query.as_str(), request.body.as_str()), ("/", BODY));
        }
        "GET" => {
            assert!(request.path_and_query.starts_with("/?Action=GetCallerIdentity&"));
            assert_eq!(request.path_and_query.matches("Action=").count(), 1);
            assert_eq!(request.body, "");
        }
        other => panic!("{other} is no method of a proof"),
    }
    assert!(request.path_and_query.bytes().all(|b| b.is_ascii_graphic()));
    let names: BTreeSet<&str> = request.headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names.len(), request.headers.len(), "a header twice");
    for (name, value) in &request.headers {
        assert!(value.bytes().all(|b| (0x20..0x7f).contains(&b)), "{name}");
        match name.as_str() {
            "x-countersign-audience" => assert_eq!(value, "own audience"),
            "x-countersign-binding" => assert_eq!(value, "own binding"),
            "accept" | "authorization" | "content-type" | "x-amz-date" | "x-amz-security-token" => {
            }
            other => panic!("`{other}` is no header of a proof"),
        }
    }
}
