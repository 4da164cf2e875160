//! Requests of the AWS face: SigV4 signatures, in a header and presigned, and the Query protocol's forms.

use countersign_aws_query::Call;
use countersign_sigv4::key::{DerivedKey, SecretKey, derive};
use countersign_sigv4::{ClockWindow, ParsedSignature, ReceivedRequest};

pub(crate) const WORDS: &[&str] = &[
    "\n",
    "authorization: AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20270115/us-east-1/sts/aws4_request, SignedHeaders=host;x-amz-date, Signature=",
    "x-amz-date: 20270115T080000Z",
    "host: 127.0.0.1",
    "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIDEXAMPLE%2F20270115%2Fus-east-1%2Fsts%2Faws4_request",
    "X-Amz-SignedHeaders=host",
    "X-Amz-Expires=604801",
    "Action=GetCallerIdentity&Version=2011-06-15",
    "&Action=CreateUser",
    "%00",
    "%c0%ae",
    "..%2f",
    "//../",
    ";",
];

const NOW: i64 = 1_800_000_000;

/// Lines: path, query, headers, an empty one, body.
///
/// # Panics
/// If a request is verified that nobody signed, or a form is read in two ways.
pub fn signed_request(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.split('\n');
    let (path, query) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let headers: Vec<(&str, &[u8])> = lines
        .by_ref()
        .take_while(|line| !line.is_empty())
        .map(|line| line.split_once(": ").unwrap_or((line, "")))
        .map(|(name, value)| (name, value.as_bytes()))
        .collect();
    let body = lines.collect::<Vec<_>>().join("\n");
    for method in ["GET", "POST"] {
        let request =
            ReceivedRequest { method, path, query, headers: &headers, body: body.as_bytes() };
        let Ok(parsed) = ParsedSignature::from_request(&request) else { continue };
        let key: DerivedKey =
            derive(&SecretKey::new("nobody signs with this"), "20270115", "us-east-1", "sts");
        assert!(parsed.verify(&key, NOW, ClockWindow::AWS).is_err(), "{text}");
        assert!(!format!("{:?}", parsed.credential()).contains(&parsed.replay_key()));
    }
    form(query, &body);
    form("", &text);
    form(&text, "");
}

/// Reading again what was read gives the same.
fn form(query: &str, body: &str) {
    let Ok(call) = Call::parse(query, body) else { return };
    assert!(!call.action.is_empty() && !call.version.is_empty());
    assert!(!call.parameters.contains_key("Action") && !call.parameters.contains_key("Version"));
    let mut again = format!("Action={}&Version={}", escaped(&call.action), escaped(&call.version));
    for (name, value) in &call.parameters {
        again += &format!("&{}={}", escaped(name), escaped(value));
    }
    assert!(Call::parse("", &again).is_ok_and(|again| again == call), "{query:?} {body:?}");
}

fn escaped(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}
