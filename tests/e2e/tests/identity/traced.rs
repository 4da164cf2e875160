//! One trace across every hop, and metrics: sent by OTLP to a collector that is real in all but its name.

use std::collections::HashMap;

use countersign_e2e::{
    collector::{Collector, hex},
    operator::{Operator, unproven, user_arn},
    system::Countersign,
};
use countersign_proto::token::v1::{
    ExchangeRequest, token_exchange_service_client::TokenExchangeServiceClient,
};
use opentelemetry_proto::tonic::trace::v1::Span;
use tonic::Request;

use crate::{Place, credentials, proven};

/// The client's own span, the parent of all.
const PARENT: &str = "00f067aa0ba902b7";

async fn exchange(system: &Countersign, request: ExchangeRequest, traceparent: &str) {
    let gateway = system.endpoint("gateway").to_owned();
    let mut client = TokenExchangeServiceClient::connect(gateway).await.expect("it listens");
    let mut request = Request::new(request);
    let value = traceparent.parse().expect("it is ASCII");
    request.metadata_mut().insert("traceparent", value);
    client.exchange(request).await.unwrap_or_else(|status| panic!("{status:?}"));
}

#[tokio::test]
async fn an_exchange_is_one_trace_through_all_services() {
    let (collector, origin) = Collector::start().await;
    let system = Countersign::up(&[
        "--otlp-endpoint",
        &origin,
        "--decision-log-otlp",
        "--metrics-every",
        "1",
        "--trace-share",
        "0",
        "--log",
        "warn,countersign=info",
        "--log-format",
        "json",
    ]);
    let mut operator = Operator::of(&system).await;
    let key = credentials(&operator.user("worker").await);
    let role = operator.role("OrdersReader", &user_arn("worker")).await;
    let request = unproven(&role, "orders");
    let sts_url = format!("{}/", system.issuer());
    let place = Place { sts_url: &sts_url, region: "us-east-1", audience: system.issuer() };

    let trace = |last: u8| format!("4bf92f3577b34da6a3ce929d0e0e47{last:02x}");
    let (untraced, traced) = (trace(1), trace(2));
    let proof = |form: &str| proven(place, &key, form, &request);
    exchange(&system, proof("presigned"), &format!("00-{untraced}-{PARENT}-00")).await;
    exchange(&system, proof("post"), &format!("00-{traced}-{PARENT}-01")).await;

    // By name: the parent's name, or the client's own span.
    let expected = [
        ("countersign.token.v1.TokenExchangeService/Exchange", PARENT),
        ("sts/GetCallerIdentity", "countersign.token.v1.TokenExchangeService/Exchange"),
        (
            "countersign.decision.v1.DecisionService/AuthorizeAssumeRole",
            "countersign.token.v1.TokenExchangeService/Exchange",
        ),
        (
            "countersign.policy.v1.PolicyStoreService/ConsumeProof",
            "countersign.token.v1.TokenExchangeService/Exchange",
        ),
    ];
    let spans = collector
        .until(|collected| {
            let own: Vec<Span> = collected
                .spans
                .iter()
                .filter(|(_, span)| hex(&span.trace_id) == traced)
                .map(|(_, span)| span.clone())
                .collect();
            let is_there = |(name, _): &(&str, &str)| own.iter().any(|span| span.name == *name);
            expected.iter().all(is_there).then_some(own)
        })
        .await;
    let names: HashMap<String, &str> =
        spans.iter().map(|span| (hex(&span.span_id), span.name.as_str())).collect();
    for (name, parent) in expected {
        let span = spans.iter().find(|span| span.name == name).expect("it is there");
        let own = hex(&span.parent_span_id);
        assert_eq!(names.get(&own).copied().unwrap_or(&own), parent, "{name}");
        assert!(span.start_time_unix_nano < span.end_time_unix_nano, "{span:?}");
    }

    let metrics = ["countersign_rpc", "countersign_rpc_seconds", "countersign_rpc_in_flight"];
    collector
        .until(|collected| {
            metrics.iter().all(|name| collected.metrics.contains(*name)).then_some(())
        })
        .await;
    // The decisions that let the worker assume the role are there too, each with its id.
    collector
        .until(|collected| {
            let is_decision = |(name, body): &&(String, String)| {
                name == "countersign.decision"
                    && body.contains("sts:AssumeRole")
                    && body.contains("decision_id")
            };
            (collected.logs.iter().filter(is_decision).count() >= 2).then_some(())
        })
        .await;
    let collected = collector.collected();
    assert!(collected.spans.iter().all(|(service, _)| service == "countersign"));
    // What says that it is not traced is not, at any hop; and nothing begins a trace of its own when the share is 0.
    let others: Vec<&str> = collected
        .spans
        .iter()
        .filter(|(_, span)| hex(&span.trace_id) != traced)
        .map(|(_, span)| span.name.as_str())
        .collect();
    assert_eq!(others, Vec::<&str>::new());
}
