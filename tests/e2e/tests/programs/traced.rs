//! One exchange is one trace through all three programs; and a picture of it. `COUNTERSIGN_BLESS=1 cargo test -p countersign-e2e --test
//! programs traced::` writes deploy/trace.svg anew, from the spans that a collector was sent.

use std::{collections::HashMap, fs, process::Command};

use countersign_e2e::{
    collector::{Collector, hex},
    program::{repository, run},
    system::{ACCOUNT, binary},
};
use countersign_proto::token::v1::{
    ExchangeRequest, token_exchange_service_client::TokenExchangeServiceClient,
};
use serde_json::Value;
use tonic::Request;

use crate::{
    cluster::{Cluster, PARTS},
    picture::{Drawn, picture},
};

/// The client's own span, the parent of all.
const CLIENT: &str = "00f067aa0ba902b7";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const EXCHANGE: &str = "countersign.token.v1.TokenExchangeService/Exchange";
/// Each hop: who says it, what it is, and what it is part of.
const HOPS: &[(&str, &str, &str)] = &[
    ("countersign-gateway", EXCHANGE, CLIENT),
    ("countersign-gateway", "sts/GetCallerIdentity", EXCHANGE),
    (
        "countersign-decision",
        "countersign.decision.v1.DecisionService/AuthorizeAssumeRole",
        EXCHANGE,
    ),
    ("countersign-policy-store", "countersign.policy.v1.PolicyStoreService/ConsumeProof", EXCHANGE),
];

fn request(cluster: &Cluster) -> ExchangeRequest {
    let role = format!("arn:aws:iam::{ACCOUNT}:role/CountersignAdministrator");
    let mut command = Command::new(binary());
    command.args(["proof", "--role-session-name", "me", "--audience", "countersign"]);
    command.args(["--role-arn", &role, "--issuer", &cluster.issuer(), "--credentials"]);
    let proof = run(command.arg(cluster.path("data/root-credentials.json")), "");
    let json: Value = serde_json::from_str(&proof.stdout).expect("proof prints JSON");
    let field = |name: &str| json[name].as_str().unwrap_or_default().to_owned();
    ExchangeRequest {
        subject_token: field("subject_token"),
        subject_token_type: field("subject_token_type"),
        role_arn: field("role_arn"),
        role_session_name: field("role_session_name"),
        audience: field("audience"),
        ..Default::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exchange_is_one_trace_through_three_programs() {
    let (collector, origin) = Collector::start().await;
    let cluster = Cluster::new();
    let telemetry = [("otlp_endpoint", origin), ("trace_share", "0".to_owned())];
    let _running: Vec<_> = PARTS.iter().map(|part| cluster.start_with(part, &telemetry)).collect();
    for part in PARTS {
        cluster.wait_until_ready(part);
    }
    let mut request = Request::new(request(&cluster));
    let traceparent = format!("00-{TRACE}-{CLIENT}-01");
    request.metadata_mut().insert("traceparent", traceparent.parse().expect("it is ASCII"));
    let mut gateway = TokenExchangeServiceClient::new(cluster.channel(cluster.gateway));
    gateway.exchange(request).await.expect("it is granted");

    let is_there = |spans: &[Drawn], (service, name, _): &(&str, &str, &str)| {
        spans.iter().any(|span| span.service == *service && span.name == *name)
    };
    let spans = collector
        .until(|collected| {
            let own = collected.spans.iter().filter(|(_, span)| hex(&span.trace_id) == TRACE);
            let own: Vec<Drawn> = own
                .map(|(service, span)| Drawn {
                    service: service.clone(),
                    name: span.name.clone(),
                    id: hex(&span.span_id),
                    parent: hex(&span.parent_span_id),
                    begin: span.start_time_unix_nano,
                    end: span.end_time_unix_nano,
                })
                .collect();
            // The second question too, at the revision of the write between them.
            let questions = own.iter().filter(|span| span.name == HOPS[2].1).count();
            (questions == 2 && HOPS.iter().all(|hop| is_there(&own, hop))).then_some(own)
        })
        .await;
    let by_id: HashMap<&str, &Drawn> = spans.iter().map(|span| (span.id.as_str(), span)).collect();
    for (service, name, parent) in HOPS {
        for span in spans.iter().filter(|span| span.name == *name) {
            assert_eq!(span.service, *service, "{name}");
            let above = by_id.get(span.parent.as_str());
            assert_eq!(above.map_or(span.parent.as_str(), |span| &span.name), *parent, "{name}");
            // What follows from a call is within it: one clock, since it is one machine.
            if let Some(above) = above {
                assert!(above.begin <= span.begin && span.end <= above.end, "{span:?} {above:?}");
            }
        }
    }
    // Nothing of it hangs in the air.
    let orphans: Vec<_> = spans
        .iter()
        .filter(|span| span.parent != CLIENT && !by_id.contains_key(span.parent.as_str()))
        .collect();
    assert!(orphans.is_empty(), "{orphans:?}");

    let file = repository().join("deploy/trace.svg");
    if std::env::var_os("COUNTERSIGN_BLESS").is_some() {
        fs::write(&file, picture(&spans, CLIENT)).expect("it can be written");
    }
    let shown = fs::read_to_string(&file).expect("there is a picture");
    for (service, name, _) in HOPS {
        assert!(shown.contains(service) && shown.contains(name), "{name} is not in the picture");
    }
}
