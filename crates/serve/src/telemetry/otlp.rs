//! Sending traces and metrics by OTLP over gRPC (https://opentelemetry.io/docs/specs/otlp/).
//!
//! It happens on a thread of its own with its own runtime, best effort: a collector that is away costs nobody an answer, and what cannot be
//! sent is dropped by the library's bounded queue.

use std::{
    fmt,
    sync::mpsc,
    thread,
    time::{Duration, SystemTime},
};

use opentelemetry::{KeyValue, trace::TracerProvider};
use opentelemetry_otlp::{SpanExporter, WithTonicConfig};
use opentelemetry_proto::tonic::{
    collector::metrics::v1::{
        ExportMetricsServiceRequest, metrics_service_client::MetricsServiceClient,
    },
    common::v1::InstrumentationScope,
    metrics::v1::{ResourceMetrics, ScopeMetrics},
    resource::v1::Resource as ProtoResource,
};
use opentelemetry_sdk::{
    Resource,
    trace::{SdkTracer, SdkTracerProvider},
};
use tokio::sync::oneshot;
use tonic::transport::Channel;

use super::{
    Collector, Metrics, TelemetryError,
    collector::{PATIENCE, SCOPE, nanoseconds},
    page, trace,
};

/// Where to send it, and what.
#[derive(Debug)]
pub struct Otlp {
    /// To whom.
    pub collector: Collector,
    /// Of the calls that say nothing of a trace, so many begin one: between 0 and 1.
    pub share: f64,
    /// What is sent from time to time.
    pub metrics: Metrics,
    /// How often metrics are sent.
    pub every: Duration,
}

/// What is running, until it is ended. Without OTLP that is nothing.
#[derive(Default)]
pub struct Running(Option<Sender>);

struct Sender {
    traces: SdkTracerProvider,
    /// Dropped to end the thread.
    end: oneshot::Sender<()>,
    thread: thread::JoinHandle<()>,
}

impl Otlp {
    pub(super) fn start(self) -> Result<Running, TelemetryError> {
        let Self { collector, share, metrics, every } = self;
        let (end, ending) = oneshot::channel();
        let (started, starting) = mpsc::channel();
        let failed = |error: &dyn fmt::Display| TelemetryError::Otlp(error.to_string());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| failed(&error))?;
        let own = collector.clone();
        let work = move || {
            runtime.block_on(async move {
                let channel = own.channel().and_then(|channel| {
                    let exporter = SpanExporter::builder()
                        .with_tonic()
                        .with_channel(channel.clone())
                        .build()
                        .map_err(|error| error.to_string())?;
                    Ok((channel, exporter))
                });
                let channel = match channel {
                    Ok((channel, exporter)) => {
                        let _ = started.send(Ok(exporter));
                        channel
                    }
                    Err(error) => {
                        let _ = started.send(Err(error));
                        return;
                    }
                };
                send_metrics(channel, own.resource(), &metrics, every, ending).await;
            });
        };
        let thread = thread::Builder::new()
            .name("telemetry".to_owned())
            .spawn(work)
            .map_err(|error| failed(&error))?;
        let exporter = match starting.recv() {
            Ok(Ok(exporter)) => exporter,
            Ok(Err(error)) => return Err(TelemetryError::Otlp(error)),
            Err(error) => return Err(failed(&error)),
        };
        let resource = Resource::builder_empty()
            .with_service_name(collector.service_name())
            .with_attribute(KeyValue::new("service.namespace", SCOPE))
            .with_attribute(KeyValue::new("service.instance.id", collector.instance().to_owned()))
            .build();
        let traces = SdkTracerProvider::builder()
            .with_resource(resource)
            .with_batch_exporter(exporter)
            .build();
        trace::begin(share);
        Ok(Running(Some(Sender { traces, end, thread })))
    }
}

impl Running {
    pub(super) fn tracer(&self) -> Option<SdkTracer> {
        self.0.as_ref().map(|sender| sender.traces.tracer(SCOPE))
    }

    /// Sends what is still to be sent, for at most some seconds. It blocks.
    pub fn end(self) {
        let Some(Sender { traces, end, thread }) = self.0 else { return };
        if let Err(error) = traces.shutdown_with_timeout(PATIENCE) {
            tracing::warn!(%error, "the last traces were not sent");
        }
        drop(end);
        let _ = thread.join();
    }
}

/// Sends metrics until `ending`, and then once more.
async fn send_metrics(
    channel: Channel,
    resource: ProtoResource,
    metrics: &Metrics,
    every: Duration,
    mut ending: oneshot::Receiver<()>,
) {
    let mut client = MetricsServiceClient::new(channel);
    let began = nanoseconds(SystemTime::now());
    let mut is_away = false;
    loop {
        let is_last = tokio::select! {
            _ = &mut ending => true,
            () = tokio::time::sleep(every) => false,
        };
        let metrics = page::read(&metrics.page(), began, nanoseconds(SystemTime::now()));
        let scope =
            InstrumentationScope { name: SCOPE.to_owned(), ..InstrumentationScope::default() };
        let request = ExportMetricsServiceRequest {
            resource_metrics: vec![ResourceMetrics {
                resource: Some(resource.clone()),
                scope_metrics: vec![ScopeMetrics {
                    scope: Some(scope),
                    metrics,
                    schema_url: String::new(),
                }],
                schema_url: String::new(),
            }],
        };
        let sent = tokio::time::timeout(PATIENCE, client.export(request)).await;
        // Said once, not at each time.
        match sent {
            Ok(Ok(_)) => is_away = false,
            Ok(Err(error)) if !is_away => {
                is_away = true;
                tracing::warn!(error = error.message(), "metrics cannot be sent");
            }
            Err(_) if !is_away => {
                is_away = true;
                tracing::warn!("metrics cannot be sent: the collector does not answer");
            }
            Ok(Err(_)) | Err(_) => {}
        }
        if is_last {
            return;
        }
    }
}
