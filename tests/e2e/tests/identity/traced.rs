//! One trace across every hop, and metrics: sent by OTLP to a collector that is real in all but its name.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use countersign_e2e::{
    operator::{Operator, unproven, user_arn},
    system::Countersign,
};
use countersign_proto::token::v1::{
    ExchangeRequest, token_exchange_service_client::TokenExchangeServiceClient,
};
use opentelemetry_proto::tonic::{
    collector::{
        metrics::v1::{
            ExportMetricsServiceRequest, ExportMetricsServiceResponse,
            metrics_service_server::{MetricsService, MetricsServiceServer},
        },
        trace::v1::{
            ExportTraceServiceRequest, ExportTraceServiceResponse,
            trace_service_server::{TraceService, TraceServiceServer},
        },
    },
    trace::v1::Span,
};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, transport::Server};

use crate::{Place, credentials, proven};

/// The client's own span, the parent of all.
const PARENT: &str = "00f067aa0ba902b7";
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Collected>>);

#[derive(Default)]
struct Collected {
    spans: Vec<Span>,
    metrics: HashSet<String>,
    services: HashSet<String>,
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut collected = self.0.lock().expect("nobody panics with it");
        for resource in request.into_inner().resource_spans {
            let attributes = resource.resource.map(|own| own.attributes).unwrap_or_default();
            collected.services.extend(
                attributes
                    .iter()
                    .filter(|own| own.key == "service.name")
                    .map(|own| format!("{:?}", own.value)),
            );
            collected.spans.extend(resource.scope_spans.into_iter().flat_map(|scope| scope.spans));
        }
        Ok(Response::new(Default::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Collector {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        let scopes =
            request.into_inner().resource_metrics.into_iter().flat_map(|own| own.scope_metrics);
        let names = scopes.flat_map(|scope| scope.metrics).map(|metric| metric.name);
        self.0.lock().expect("nobody panics with it").metrics.extend(names);
        Ok(Response::new(Default::default()))
    }
}

impl Collector {
    async fn start() -> (Self, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("there is a port");
        let origin = format!("http://{}", listener.local_addr().expect("it has an address"));
        let collector = Self::default();
        let serving = Server::builder()
            .add_service(TraceServiceServer::new(collector.clone()))
            .add_service(MetricsServiceServer::new(collector.clone()))
            .serve_with_incoming(TcpListenerStream::new(listener));
        tokio::spawn(serving);
        (collector, origin)
    }

    /// Waits until `enough`, and returns what it says then.
    async fn until<T>(&self, enough: impl Fn(&Collected) -> Option<T>) -> T {
        let started = Instant::now();
        loop {
            let found = enough(&self.0.lock().expect("nobody panics with it"));
            if let Some(found) = found {
                return found;
            }
            if started.elapsed() > PATIENCE {
                let collected = self.0.lock().expect("nobody panics with it");
                let names: Vec<&str> =
                    collected.spans.iter().map(|span| span.name.as_str()).collect();
                panic!("not collected in time; spans {names:?}, metrics {:?}", collected.metrics);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

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
                .filter(|span| hex(&span.trace_id) == traced)
                .cloned()
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
    let collected = collector.0.lock().expect("nobody panics with it");
    assert!(collected.services.iter().any(|name| name.contains("countersign")));
    // What says that it is not traced is not, at any hop; and nothing begins a trace of its own when the share is 0.
    let others: Vec<&str> = collected
        .spans
        .iter()
        .filter(|span| hex(&span.trace_id) != traced)
        .map(|span| span.name.as_str())
        .collect();
    assert_eq!(others, Vec::<&str>::new());
}
