//! What strangers send, fed with bytes (FAULTS.md F14): protobuf messages, the short way's own reading of them, and Envoy's check.
//!
//! `COUNTERSIGN_FUZZ_CASES` says how many inputs (20,000 by default), `COUNTERSIGN_FUZZ_SEED` which ones; with `--nocapture` how long they
//! took is printed. `tests/fuzz` has the readers that stand in the pure crates.

use std::{collections::HashMap, time::Instant};

use countersign_proto::{
    decision::v1::{
        AuthorizeAssumeRoleRequest, AuthorizeExchangeRequest, AuthorizeRequest,
        AuthorizeStreamRequest, BatchAuthorizeRequest, Check, ContextValue, ExplainRequest,
        FilterResourcesRequest, InstanceIdentity, WhoCanRequest, authorize_request::Subject,
        context_value::Kind,
    },
    envoy::v3::{
        AttributeContext, CheckRequest,
        attribute_context::{HttpRequest, Request},
    },
};
use prost::Message;

use crate::{
    convert,
    direct::message::{self, Pairs},
    envoy::{self, Mapping},
};

const MAPPING: &str = r#"audience = "orders"
[[rule]]
method = ["GET", "POST"]
host = "*.example.com"
path = "/orders/{id}/items/{item}"
action = "orders:GetOrder"
resource = "arn:aws:orders:eu-west-1:111122223333:order/{id}"
[rule.context]
"orders:Tenant" = "t-{header:x-tenant}"
[[rule]]
method = "GET"
path = "/orders/{id}"
action = "orders:GetOrder"
resource = "arn:aws:orders:eu-west-1:111122223333:order/{id}"
"#;

/// SplitMix64.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap())
}

fn context() -> HashMap<String, ContextValue> {
    let value = |text: &str| ContextValue { kind: Some(Kind::Value(text.into())) };
    HashMap::from([
        ("orders:Tenant".into(), value("acme")),
        ("aws:SourceIp".into(), value("10.0.0.1")),
    ])
}

fn seeds() -> Vec<Vec<u8>> {
    let (action, resource) = ("orders:GetOrder", "arn:aws:orders:eu-west-1:111122223333:order/1");
    let principal = "arn:aws:iam::111122223333:user/alice";
    let question = AuthorizeRequest {
        subject: Some(Subject::PrincipalArn(principal.into())),
        action: action.into(),
        resource: resource.into(),
        context: context(),
        ..AuthorizeRequest::default()
    };
    let by_token = AuthorizeRequest {
        subject: Some(Subject::Token("a.b.c".into())),
        audience: "orders".into(),
        ..question.clone()
    };
    let streamed = AuthorizeStreamRequest { question: Some(by_token.clone()), id: "7".into() };
    let check = Check {
        action: action.into(),
        resource: resource.into(),
        context: context(),
        ..Check::default()
    };
    let batch = BatchAuthorizeRequest {
        subject: Some(
            countersign_proto::decision::v1::batch_authorize_request::Subject::PrincipalArn(
                principal.into(),
            ),
        ),
        checks: vec![check; 3],
        context: context(),
        ..BatchAuthorizeRequest::default()
    };
    let assume = AuthorizeAssumeRoleRequest {
        instance: Some(InstanceIdentity {
            partition: "aws".into(),
            account_id: "444455556666".into(),
            region: "us-west-2".into(),
            instance_id: "i-1234abcd".into(),
        }),
        proof_type: "p".into(),
        role_arn: "arn:aws:iam::111122223333:role/R".into(),
        role_session_name: "session".into(),
        source_address: "10.0.0.1".into(),
        ..AuthorizeAssumeRoleRequest::default()
    };
    let http = HttpRequest {
        method: "GET".into(),
        path: "/orders/1?x=%2e".into(),
        host: "a.example.com".into(),
        headers: HashMap::from([("authorization".into(), "Bearer a.b.c".into())]),
        ..HttpRequest::default()
    };
    let envoy = CheckRequest {
        attributes: Some(AttributeContext {
            request: Some(Request { http: Some(http) }),
            ..AttributeContext::default()
        }),
    };
    vec![
        question.encode_to_vec(),
        by_token.encode_to_vec(),
        streamed.encode_to_vec(),
        batch.encode_to_vec(),
        assume.encode_to_vec(),
        envoy.encode_to_vec(),
        // Nested without end, and a length that is none.
        [0x0a, 0x7f].repeat(4_000),
        vec![0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
        Vec::new(),
    ]
}

/// One to four changes.
fn mutate(seeds: &[Vec<u8>], rng: &mut Rng) -> Vec<u8> {
    let mut bytes = seeds[rng.below(seeds.len())].clone();
    for _ in 0..=rng.below(4) {
        let at = rng.below(bytes.len() + 1);
        let end = (at + rng.below(16)).min(bytes.len());
        match rng.below(5) {
            0 if at < bytes.len() => bytes[at] ^= 1 << rng.below(8),
            1 => drop(bytes.splice(at..end, [])),
            2 => bytes.insert(at, rng.next() as u8),
            3 => {
                let again = bytes[at..end].repeat(1 + rng.below(3));
                drop(bytes.splice(at..at, again));
            }
            _ => {
                let other = &seeds[rng.below(seeds.len())];
                let from = rng.below(other.len() + 1);
                drop(bytes.splice(at.., other[from..].iter().copied()));
            }
        }
    }
    bytes
}

/// What the short way has read, the general way has read too.
fn same_context(pairs: &Pairs<'_>, general: &HashMap<String, ContextValue>) {
    let mut last = HashMap::new();
    for (key, value) in pairs.iter() {
        last.insert(key.to_owned(), ContextValue { kind: Some(Kind::Value(value.to_owned())) });
    }
    assert_eq!(&last, general);
}

fn questions(bytes: &[u8]) {
    let general = AuthorizeRequest::decode(bytes);
    if let Some((asked, check)) = message::question(bytes) {
        let general = general.clone().expect("the general way reads it too");
        let subject = match asked.subject {
            message::Subject::Token(token) => Subject::Token(token.into()),
            message::Subject::Principal(arn) => Subject::PrincipalArn(arn.into()),
        };
        assert_eq!(general.subject, Some(subject));
        assert_eq!(
            (general.audience.as_str(), general.action.as_str(), general.resource.as_str()),
            (asked.audience, check.action, check.resource)
        );
        same_context(&check.context, &general.context);
    }
    if let Ok(request) = general {
        let _ = convert::authorize_question(request.clone());
        let _ = convert::gateways_question(request);
    }
    if let Some((id, question)) = message::streamed(bytes) {
        // The question in it is not looked into yet.
        let question = AuthorizeRequest::decode(question);
        let general = AuthorizeStreamRequest::decode(bytes);
        assert_eq!(general.is_ok(), question.is_ok());
        if let Ok(general) = general {
            assert_eq!((general.id.as_str(), general.question), (id, question.ok()));
        }
    }
}

fn batches(bytes: &[u8]) {
    let general = BatchAuthorizeRequest::decode(bytes);
    if let Some(batch) = message::batch(bytes) {
        let checks: Vec<_> = batch.checks().collect();
        if let Ok(general) = &general {
            assert_eq!(checks.len(), general.checks.len());
            for (short, general) in checks.iter().zip(&general.checks) {
                let Some(short) = short else { continue };
                assert_eq!(
                    (short.action, short.resource),
                    (general.action.as_str(), general.resource.as_str())
                );
            }
        } else {
            assert!(checks.iter().any(Option::is_none), "only the short way reads it");
        }
    }
    if let Ok(request) = general {
        let _ = convert::batch_question(request);
    }
}

fn others(bytes: &[u8]) {
    if let Ok(request) = AuthorizeAssumeRoleRequest::decode(bytes) {
        let _ = convert::assume_role_question(request);
    }
    if let Ok(request) = AuthorizeExchangeRequest::decode(bytes) {
        let _ = convert::exchange_question(request);
    }
    if let Ok(request) = ExplainRequest::decode(bytes) {
        let _ = convert::explain_question(request);
    }
    if let Ok(request) = FilterResourcesRequest::decode(bytes) {
        let _ = convert::filter_question(request);
    }
    if let Ok(request) = WhoCanRequest::decode(bytes) {
        let _ = convert::who_can_question(request);
    }
}

/// Whatever Envoy sends is asked as one of the mapping's actions, or not at all.
fn checks(mapping: &Mapping, bytes: &[u8]) {
    let Ok(request) = CheckRequest::decode(bytes) else { return };
    if let Some(question) = envoy::asked(mapping, request) {
        assert_eq!(question.action, "orders:GetOrder");
        assert!(question.resource.starts_with("arn:aws:orders:eu-west-1:111122223333:order/"));
        assert!(question.subject.is_some());
    }
}

#[test]
fn f14_messages_of_strangers() {
    let file = std::env::temp_dir().join(format!("countersign-fuzzed-{}", std::process::id()));
    std::fs::write(&file, MAPPING).unwrap();
    let mapping = Mapping::read(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    let seeds = seeds();
    let cases = number("COUNTERSIGN_FUZZ_CASES", 20_000);
    let mut rng = Rng(number("COUNTERSIGN_FUZZ_SEED", 1));
    let begin = Instant::now();
    let run = |bytes: &[u8]| {
        questions(bytes);
        batches(bytes);
        others(bytes);
        checks(&mapping, bytes);
    };
    seeds.iter().for_each(|bytes| run(bytes));
    for _ in 0..cases {
        run(&mutate(&seeds, &mut rng));
    }
    println!(
        "messages: {cases} inputs in {:.1} s, no panic, each given to 9 readers",
        begin.elapsed().as_secs_f64()
    );
}
