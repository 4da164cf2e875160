use proptest::prelude::*;

use super::*;
use crate::key::{SecretKey, derive};
use crate::sign::{Credentials, UnsignedRequest, presign, sign_headers};

const NOW: i64 = 1_700_000_000;
const BODY: &[u8] = b"Action=ListRoles&Version=2010-05-08";

/// A request as a server holds it, so that a test can spoil one thing.
#[derive(Clone)]
struct Held {
    method: String,
    path: String,
    query: String,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
    now: i64,
}

impl Held {
    fn set(&mut self, name: &str, value: &str) {
        self.headers.retain(|(found, _)| found != name);
        self.add(name, value);
    }

    fn add(&mut self, name: &str, value: &str) {
        self.headers.push((name.into(), value.into()));
    }

    fn value(&self, name: &str) -> String {
        let found = self.headers.iter().find(|(found, _)| found == name).unwrap();
        String::from_utf8(found.1.clone()).unwrap()
    }

    /// Replaces text in the authorization header or in the query.
    fn replace(&mut self, old: &str, new: &str) {
        if self.query.is_empty() {
            let value = self.value("authorization");
            assert!(value.contains(old), "{value}");
            self.set("authorization", &value.replace(old, new));
        } else {
            assert!(self.query.contains(old), "{}", self.query);
            self.query = self.query.replace(old, new);
        }
    }

    fn verify(&self) -> Result<Verified, SignatureError> {
        let headers: Vec<(&str, &[u8])> =
            self.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
        let request = ReceivedRequest {
            method: &self.method,
            path: &self.path,
            query: &self.query,
            headers: &headers,
            body: &self.body,
        };
        let parsed = ParsedSignature::from_request(&request)?;
        let key = derive(&SecretKey::new("s"), &parsed.credential().day, "us-east-1", "iam");
        parsed.verify(&key, self.now, ClockWindow::AWS)
    }
}

fn credentials() -> Credentials {
    Credentials::new("AKIDEXAMPLE", SecretKey::new("s"), Some("token".into()))
}

fn header_form() -> Held {
    let own = [("content-type", "application/x-www-form-urlencoded"), ("x-amz-user-agent", "ua/1")];
    let request = UnsignedRequest {
        method: "POST",
        url: "https://localhost:8080/",
        headers: &own,
        body: BODY,
    };
    let signed = sign_headers(&request, &credentials(), "us-east-1", "iam", NOW).unwrap();
    let mut held = Held {
        method: "POST".into(),
        path: "/".into(),
        query: String::new(),
        headers: own.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
        body: BODY.into(),
        now: NOW,
    };
    signed.into_pairs().iter().for_each(|(name, value)| held.add(name, value));
    held.add("host", "localhost:8080");
    held.add("user-agent", "unsigned, and free to be");
    held
}

fn presigned() -> Held {
    let own = [("x-countersign-audience", "us")];
    let url = "https://localhost:8080/?Action=GetUser&Version=2010-05-08";
    let request = UnsignedRequest { method: "GET", url, headers: &own, body: b"" };
    let url = presign(&request, &credentials(), "us-east-1", "iam", NOW, 60).unwrap();
    Held {
        method: "GET".into(),
        path: "/".into(),
        query: url.split_once('?').unwrap().1.into(),
        headers: vec![
            ("Host".into(), "localhost:8080".into()),
            ("X-Countersign-Audience".into(), "us".into()),
        ],
        body: Vec::new(),
        now: NOW,
    }
}

fn check(make: fn() -> Held, spoil: impl FnOnce(&mut Held), expected: &str) {
    let mut held = make();
    assert!(held.verify().is_ok());
    spoil(&mut held);
    let code = held.verify().map_or_else(|error| error.code(), |_| "ok");
    assert_eq!(code, expected);
}

#[test]
fn what_was_signed_is_verified() {
    let verified = header_form().verify().unwrap();
    assert_eq!(verified.access_key_id(), "AKIDEXAMPLE");
    assert_eq!(verified.credential().scope(), "20231114/us-east-1/iam/aws4_request");
    assert_eq!(verified.date().epoch(), NOW);
    assert!(verified.covers("content-type") && !verified.covers("user-agent"));
    assert!(presigned().verify().unwrap().covers("x-countersign-audience"));
}

#[test]
fn header_form_is_strict() {
    let check = |spoil: fn(&mut Held), expected| check(header_form, spoil, expected);
    check(|held| held.set("user-agent", "other"), "ok");
    check(|held| held.set("authorization", "Basic eDp5"), "AlgorithmNotAllowed");
    check(
        |held| held.headers.retain(|(name, _)| name != "authorization"),
        "MissingAuthenticationToken",
    );
    check(|held| held.add("Authorization", &held.value("authorization")), "RepeatedHeader");
    check(|held| held.query = presigned().query, "TwoSignatures");
    check(|held| held.query = "X-Amz-Date=20231114T221320Z".into(), "TwoSignatures");
    check(|held| held.query = "x-amz-date=20231114T221320Z".into(), "ParameterNotAllowed");
    check(|held| held.query = "a=1&a=2".into(), "RepeatedParameter");
    check(|held| held.query = "a=b+c".into(), "QueryMalformed");
    check(|held| held.query = "a=%zz".into(), "QueryMalformed");
    check(|held| held.query = "a=b".into(), "SignatureDoesNotMatch");
    check(|held| held.body = b"Action=DeleteRole".into(), "SignatureDoesNotMatch");
    check(|held| held.method = "PUT".into(), "SignatureDoesNotMatch");
    check(|held| held.path = "/x".into(), "SignatureDoesNotMatch");
    check(|held| held.path = "//".into(), "PathNotNormal");
    check(|held| held.path = "/a/../".into(), "PathNotNormal");
    check(|held| held.path = String::new(), "PathNotNormal");
    check(|held| held.set("host", "elsewhere"), "SignatureDoesNotMatch");
    check(|held| held.add("Host", "elsewhere"), "RepeatedHeader");
    check(|held| held.headers.retain(|(name, _)| name != "host"), "SignedHeaderAbsent");
    check(|held| held.add("x-amz-target", "x"), "MissingSignedHeader");
    check(|held| held.add("X-Countersign-Binding", "x"), "MissingSignedHeader");
    check(|held| held.add("date", "Tue, 14 Nov 2023 22:13:20 GMT"), "TwoDates");
    check(|held| held.headers.retain(|(name, _)| name != "x-amz-date"), "MissingHeader");
    check(|held| held.set("x-amz-date", "2023-11-14T22:13:20Z"), "DateMalformed");
    check(|held| held.set("x-amz-date", "20231115T000000Z"), "ScopeDayMismatch");
    check(|held| held.set("x-amz-date", "20231114T221321Z"), "SignatureDoesNotMatch");
    check(|held| held.set("content-type", "text/plain"), "SignatureDoesNotMatch");
    check(|held| held.headers.push(("x-amz-target".into(), vec![0xff])), "MissingSignedHeader");
    check(|held| held.set("content-type", "a\r\nb"), "HeaderMalformed");
    check(|held| held.set("x-amz-security-token", "other"), "SignatureDoesNotMatch");
    check(|held| held.replace("host;", ""), "MissingSignedHeader");
    check(|held| held.replace(";x-amz-date", ""), "MissingSignedHeader");
    check(|held| held.replace("content-type;host", "host;content-type"), "SignedHeadersMalformed");
    check(|held| held.replace("AKIDEXAMPLE", "AKIDOTHER"), "ok"); // whose key it is, the caller looks up
    check(|held| held.replace("/iam/", "/sts/"), "SignatureDoesNotMatch");
    check(|held| held.replace("/aws4_request", "/aws4_request/x"), "CredentialMalformed");
    check(|held| held.now += 900, "ok");
    check(|held| held.now += 901, "RequestExpired");
    check(|held| held.now -= 900, "ok");
    check(|held| held.now -= 901, "RequestNotYetValid");
    check(|held| held.now = i64::MAX, "RequestExpired");
    check(|held| held.now = i64::MIN, "RequestNotYetValid");
}

#[test]
fn a_sent_payload_hash_is_the_bodys() {
    for (hash, expected) in [
        (sha256_hex(BODY), "ok"),
        ("UNSIGNED-PAYLOAD".to_owned(), "PayloadHashMismatch"),
        (sha256_hex(b"other"), "PayloadHashMismatch"),
    ] {
        let own = [("x-amz-content-sha256", hash.as_str())];
        let request = UnsignedRequest {
            method: "POST",
            url: "https://localhost/",
            headers: &own,
            body: BODY,
        };
        let signed = sign_headers(&request, &credentials(), "us-east-1", "iam", NOW).unwrap();
        let mut held = header_form();
        held.headers = vec![("host".into(), "localhost".into())];
        held.add("x-amz-content-sha256", &hash);
        signed.into_pairs().iter().for_each(|(name, value)| held.add(name, value));
        assert_eq!(held.verify().map_or_else(|error| error.code(), |_| "ok"), expected, "{hash}");
    }
}

#[test]
fn presigned_form_is_strict() {
    let check = |spoil: fn(&mut Held), expected| check(presigned, spoil, expected);
    check(|held| held.now += 60, "ok");
    check(|held| held.now += 61, "RequestExpired");
    check(|held| held.now -= 901, "RequestNotYetValid");
    check(|held| held.replace("X-Amz-Expires=60", "X-Amz-Expires=61"), "SignatureDoesNotMatch");
    for expires in ["0", "-1", "60.0", "%2B60", "060", "604801", "", "99999999999"] {
        let mut held = presigned();
        held.replace("X-Amz-Expires=60", &format!("X-Amz-Expires={expires}"));
        assert_eq!(held.verify().unwrap_err().code(), "ExpiresNotAllowed", "{expires}");
    }
    check(|held| held.replace("X-Amz-Expires=60&", ""), "MissingParameter");
    check(|held| held.replace("AWS4-HMAC-SHA256", "AWS4-HMAC-SHA1"), "AlgorithmNotAllowed");
    check(
        |held| held.replace("Action=GetUser", "Action=GetUser&Action=GetUser"),
        "RepeatedParameter",
    );
    check(|held| held.query.push_str("&x-amz-credential=victim"), "ParameterNotAllowed");
    check(|held| held.query.push_str("&X-Amz-Foo=1"), "ParameterNotAllowed");
    check(|held| held.replace("GetUser", "DeleteUser"), "SignatureDoesNotMatch");
    check(|held| held.add("x-amz-date", "20231114T221320Z"), "TwoSignatures");
    check(|held| held.add("x-amz-security-token", "other"), "TwoSignatures");
    check(|held| held.add("authorization", "AWS4-HMAC-SHA256 x"), "TwoSignatures");
    check(|held| held.set("X-Countersign-Audience", "them"), "SignatureDoesNotMatch");
    check(|held| held.replace("%3Bx-countersign-audience", ""), "MissingSignedHeader");
    check(|held| held.body = b"x".into(), "SignatureDoesNotMatch");
    // Another order and another spelling of the same pairs sign alike, and have one replay key.
    check(|held| held.query = held.query.split('&').rev().collect::<Vec<_>>().join("&"), "ok");
    check(|held| held.replace("GetUser", "%47etUser"), "ok");
}

#[test]
fn a_signature_is_not_printed() {
    let held = header_form();
    let headers: Vec<(&str, &[u8])> =
        held.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
    let request =
        ReceivedRequest { method: "POST", path: "/", query: "", headers: &headers, body: BODY };
    let parsed = ParsedSignature::from_request(&request).unwrap();
    let shown = format!("{parsed:?}");
    assert_eq!(
        shown,
        "ParsedSignature(AKIDEXAMPLE/20231114/us-east-1/iam/aws4_request 20231114T221320Z, <redacted>)"
    );
    assert!(parsed.replay_key().starts_with("AKIDEXAMPLE/20231114T221320Z/"));
    assert_eq!(parsed.session_token(), Some("token"));
}

proptest! {
    #[test]
    fn parsing_never_panics(query in "[ -~é]{0,60}", authorization in "[ -~é]{0,60}", body: Vec<u8>) {
        let headers: [(&str, &[u8]); 2] = [("authorization", authorization.as_bytes()), ("host", b"h")];
        for headers in [&headers[..], &headers[1..]] {
            let request = ReceivedRequest { method: "POST", path: "/", query: &query, headers, body: &body };
            prop_assert!(ParsedSignature::from_request(&request).is_err());
        }
    }
}
