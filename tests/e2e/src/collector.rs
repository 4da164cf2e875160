//! A stand-in for an OpenTelemetry collector: takes traces, metrics and logs by OTLP over gRPC, and keeps them.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use opentelemetry_proto::tonic::{
    collector::{
        logs::v1::{
            ExportLogsServiceRequest, ExportLogsServiceResponse,
            logs_service_server::{LogsService, LogsServiceServer},
        },
        metrics::v1::{
            ExportMetricsServiceRequest, ExportMetricsServiceResponse,
            metrics_service_server::{MetricsService, MetricsServiceServer},
        },
        trace::v1::{
            ExportTraceServiceRequest, ExportTraceServiceResponse,
            trace_service_server::{TraceService, TraceServiceServer},
        },
    },
    common::v1::any_value,
    trace::v1::Span,
};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, transport::Server};

const PATIENCE: Duration = Duration::from_secs(20);

/// A collector that is real in all but its name.
#[derive(Clone, Debug, Default)]
pub struct Collector(Arc<Mutex<Collected>>);

/// What was sent to it.
#[derive(Debug, Default)]
pub struct Collected {
    /// Each span, with the `service.name` of its process.
    pub spans: Vec<(String, Span)>,
    /// The names of metrics.
    pub metrics: HashSet<String>,
    /// Log records: the name of each one's event, and its body.
    pub logs: Vec<(String, String)>,
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut collected = self.collected();
        for resource in request.into_inner().resource_spans {
            let attributes = resource.resource.map(|own| own.attributes).unwrap_or_default();
            let service = attributes.into_iter().find(|own| own.key == "service.name");
            let service = match service.and_then(|own| own.value).and_then(|own| own.value) {
                Some(any_value::Value::StringValue(name)) => name,
                _ => String::new(),
            };
            let spans = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
            collected.spans.extend(spans.map(|span| (service.clone(), span)));
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
        self.collected().metrics.extend(names);
        Ok(Response::new(Default::default()))
    }
}

#[tonic::async_trait]
impl LogsService for Collector {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        let scopes = request.into_inner().resource_logs.into_iter().flat_map(|own| own.scope_logs);
        let records = scopes.flat_map(|scope| scope.log_records);
        let logs = records.map(|record| (record.event_name, format!("{:?}", record.body)));
        self.collected().logs.extend(logs);
        Ok(Response::new(Default::default()))
    }
}

impl Collector {
    /// It listens, on loopback in clear, at the origin beside it.
    ///
    /// # Panics
    /// When it cannot listen.
    pub async fn start() -> (Self, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("there is a port");
        let origin = format!("http://{}", listener.local_addr().expect("it has an address"));
        let collector = Self::default();
        let serving = Server::builder()
            .add_service(TraceServiceServer::new(collector.clone()))
            .add_service(MetricsServiceServer::new(collector.clone()))
            .add_service(LogsServiceServer::new(collector.clone()))
            .serve_with_incoming(TcpListenerStream::new(listener));
        tokio::spawn(serving);
        (collector, origin)
    }

    /// What there is by now.
    ///
    /// # Panics
    /// When another thread panicked with it.
    pub fn collected(&self) -> MutexGuard<'_, Collected> {
        self.0.lock().expect("nobody panics with it")
    }

    /// Waits until `enough`, and returns what it says then.
    ///
    /// # Panics
    /// When it is never enough.
    pub async fn until<T>(&self, enough: impl Fn(&Collected) -> Option<T>) -> T {
        let started = Instant::now();
        loop {
            let found = enough(&self.collected());
            if let Some(found) = found {
                return found;
            }
            if started.elapsed() > PATIENCE {
                let collected = self.collected();
                let names: Vec<&str> =
                    collected.spans.iter().map(|(_, span)| span.name.as_str()).collect();
                panic!("not collected in time; spans {names:?}, metrics {:?}", collected.metrics);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Bytes of an id, as a `traceparent` has them.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
