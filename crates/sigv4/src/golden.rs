//! AWS's signing test suite, stage by stage: a failure names the case and the stage. See tests/vectors/README.md.

use serde_json::Value;

use crate::canonical::*;
use crate::date::AmzDate;
use crate::encoding::{hex, percent_encode};
use crate::key::{SecretKey, derive};

const SUITE: &str = include_str!("../tests/vectors/aws-signing-test-suite.json");
/// The suite's one moment, and that of the two older cases, which have no context.
const DATE: &str = "20150830T123600Z";
const OLD_DATE: &str = "20210511T154045Z";

struct Case<'a> {
    name: &'a str,
    value: &'a Value,
}

struct Request {
    method: String,
    path: String,
    query: String,
    headers: Vec<(String, String)>,
    body: String,
}

impl Case<'_> {
    fn context(&self, field: &str) -> Option<&str> {
        self.value["context"][field].as_str()
    }

    fn flag(&self, field: &str) -> bool {
        self.value["context"][field].as_bool().unwrap_or(false)
    }

    fn date(&self) -> AmzDate {
        AmzDate::parse(if self.context("timestamp").is_some() { DATE } else { OLD_DATE }).unwrap()
    }

    fn token(&self) -> Option<&str> {
        self.value["context"]["credentials"]["token"].as_str()
    }

    fn region(&self) -> &str {
        self.context("region").unwrap_or("us-east-2")
    }

    fn service(&self) -> &str {
        self.context("service").unwrap_or("lambda")
    }

    fn scope(&self) -> String {
        format!("{}/{}/{}/aws4_request", self.date().day(), self.region(), self.service())
    }

    fn request(&self) -> Request {
        let text = self.value["request"].as_str().unwrap();
        let (head, body) = text.split_once("\n\n").unwrap_or((text, ""));
        let mut lines = head.lines();
        let first = lines.next().unwrap().strip_suffix(" HTTP/1.1").unwrap();
        let (method, target) = first.split_once(' ').unwrap();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        // This one path is written as a URI, though its canonical form is that of the raw text, `/example space/`.
        let path = if self.name == "get-space-normalized" {
            path.replace("%20", " ")
        } else {
            path.to_owned()
        };
        let mut headers: Vec<(String, String)> = Vec::new();
        for line in lines {
            match line.split_once(':') {
                Some((name, value)) if !line.starts_with(' ') => {
                    headers.push((name.into(), value.into()))
                }
                _ => headers.last_mut().unwrap().1.push_str(&format!("\n{line}")),
            }
        }
        headers.retain(|(name, _)| !name.eq_ignore_ascii_case("x-amz-date"));
        Request { method: method.into(), path, query: query.into(), headers, body: body.into() }
    }

    fn uri(&self, request: &Request) -> String {
        // `normalize: false` is S3's way: encode, and leave the segments alone.
        let as_sent = self.context("timestamp").is_some() && !self.flag("normalize");
        if as_sent { encode_path(&request.path) } else { canonical_uri(&request.path) }
    }

    fn check(&self, stage: &str, found: &str) {
        if let Some(expected) = self.value[stage].as_str() {
            assert_eq!(found, expected.trim_end(), "{} {stage}", self.name);
        }
    }

    fn sign(&self, string_to_sign: &str) -> String {
        let secret =
            self.value["context"]["credentials"]["secret_access_key"].as_str().unwrap_or("none");
        hex(&derive(&SecretKey::new(secret), &self.date().day(), self.region(), self.service())
            .sign(string_to_sign))
    }
}

/// The suite writes one query in raw UTF-8, which no HTTP client sends.
fn pairs(query: &str) -> Vec<(String, String)> {
    let wire: String = query
        .chars()
        .map(|c| if c.is_ascii() { c.to_string() } else { percent_encode(&c.to_string()) })
        .collect();
    query_pairs(&wire).unwrap()
}

fn canonical_of(pairs: &[(String, String)]) -> String {
    canonical_query(pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())))
}

fn headers_of(headers: &[(String, String)]) -> CanonicalHeaders {
    canonical_headers(headers.iter().map(|(name, value)| (name.as_str(), value.as_str())))
}

fn cases(check: impl Fn(&Case<'_>)) {
    let suite: Vec<Value> = serde_json::from_str(SUITE).unwrap();
    assert_eq!(suite.len(), 40);
    for value in &suite {
        check(&Case { name: value["name"].as_str().unwrap(), value });
    }
}

#[test]
fn header_form() {
    cases(|case| {
        let mut request = case.request();
        let date = case.date();
        request.headers.push(("X-Amz-Date".into(), date.to_string()));
        let payload_hash = sha256_hex(request.body.as_bytes());
        if case.flag("sign_body") {
            request.headers.push(("x-amz-content-sha256".into(), payload_hash.clone()));
        }
        if let Some(token) = case.token().filter(|_| !case.flag("omit_session_token")) {
            request.headers.push(("X-Amz-Security-Token".into(), token.into()));
        }
        let query = canonical_of(&pairs(&request.query));
        let headers = headers_of(&request.headers);
        let canonical = canonical_request(
            &request.method,
            &case.uri(&request),
            &query,
            &headers,
            &payload_hash,
        );
        case.check("header_canonical_request", &canonical);
        let to_sign = string_to_sign(date, &case.scope(), &canonical);
        case.check("header_string_to_sign", &to_sign);
        case.check("header_signature", &case.sign(&to_sign));
    });
}

#[test]
fn query_form() {
    cases(|case| {
        let Some(access_key_id) = case.value["context"]["credentials"]["access_key_id"].as_str()
        else {
            return;
        };
        let request = case.request();
        let date = case.date();
        let headers = headers_of(&request.headers);
        let mut query = pairs(&request.query);
        let mut add = |name: &str, value: String| query.push((name.into(), value));
        add("X-Amz-Algorithm", ALGORITHM.into());
        add("X-Amz-Credential", format!("{access_key_id}/{}", case.scope()));
        add("X-Amz-Date", date.to_string());
        add("X-Amz-Expires", "3600".into());
        add("X-Amz-SignedHeaders", headers.names.clone());
        if let Some(token) = case.token().filter(|_| !case.flag("omit_session_token")) {
            add("X-Amz-Security-Token", token.into());
        }
        let payload_hash = sha256_hex(request.body.as_bytes());
        let canonical = canonical_request(
            &request.method,
            &case.uri(&request),
            &canonical_of(&query),
            &headers,
            &payload_hash,
        );
        case.check("query_canonical_request", &canonical);
        let to_sign = string_to_sign(date, &case.scope(), &canonical);
        case.check("query_string_to_sign", &to_sign);
        case.check("query_signature", &case.sign(&to_sign));
    });
}
