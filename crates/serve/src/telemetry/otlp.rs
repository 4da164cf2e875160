//! Sending traces and metrics by OTLP over gRPC (https://opentelemetry.io/docs/specs/otlp/).
//!
//! It happens on a thread of its own with its own runtime, best effort: a collector that is away costs nobody an answer, and what cannot be
//! sent is dropped by the library's bounded queue.

use std::{
    fmt,
    sync::mpsc,
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use opentelemetry::{KeyValue, trace::TracerProvider};
use opentelemetry_otlp::{SpanExporter, WithTonicConfig};
use opentelemetry_proto::tonic::{
    collector::metrics::v1::{
        ExportMetricsServiceRequest, metrics_service_client::MetricsServiceClient,
    },
    common::v1::{AnyValue, InstrumentationScope, KeyValue as Attribute, any_value::Value},
    metrics::v1::{ResourceMetrics, ScopeMetrics},
    resource::v1::Resource as ProtoResource,
};
use opentelemetry_sdk::{
    Resource,
    trace::{SdkTracer, SdkTracerProvider},
};
use tokio::sync::oneshot;
use tonic::transport::Channel;

use super::{Metrics, TelemetryError, page, trace};

/// What the instrumentation calls itself.
const SCOPE: &str = "countersign";
/// How long is waited for the collector at the end.
const AT_THE_END: Duration = Duration::from_secs(3);

/// Where to send it, and as whom.
pub struct Otlp {
    /// Makes the channel to the collector. It is called on the runtime that will send.
    pub connect: Box<dyn FnOnce() -> Result<Channel, String> + Send>,
    /// `service.name`.
    pub service_name: &'static str,
    /// `service.instance.id`.
    pub instance: String,
    /// Of the calls that say nothing of a trace, so many begin one: between 0 and 1.
    pub share: f64,
    /// What is sent from time to time.
    pub metrics: Metrics,
    /// How often metrics are sent.
    pub every: Duration,
}

impl fmt::Debug for Otlp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { connect: _, service_name, instance, share, metrics: _, every } = self;
        f.debug_struct("Otlp")
            .field("service_name", service_name)
            .field("instance", instance)
            .field("share", share)
            .field("every", every)
            .finish_non_exhaustive()
    }
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
        let Self { connect, service_name, instance, share, metrics, every } = self;
        let (end, ending) = oneshot::channel();
        let (started, starting) = mpsc::channel();
        let failed = |error: &dyn fmt::Display| TelemetryError::Otlp(error.to_string());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| failed(&error))?;
        let named = instance.clone();
        let work = move || {
            runtime.block_on(async move {
                let channel = connect().and_then(|channel| {
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
                let resource = resource(service_name, &named);
                send_metrics(channel, resource, &metrics, every, ending).await;
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
            .with_service_name(service_name)
            .with_attribute(KeyValue::new("service.namespace", SCOPE))
            .with_attribute(KeyValue::new("service.instance.id", instance))
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
        if let Err(error) = traces.shutdown_with_timeout(AT_THE_END) {
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
    let began = nanoseconds();
    let mut is_away = false;
    loop {
        let is_last = tokio::select! {
            _ = &mut ending => true,
            () = tokio::time::sleep(every) => false,
        };
        let metrics = page::read(&metrics.page(), began, nanoseconds());
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
        let sent = tokio::time::timeout(AT_THE_END, client.export(request)).await;
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

fn resource(service_name: &str, instance: &str) -> ProtoResource {
    let attribute = |key: &str, value: &str| Attribute {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(Value::StringValue(value.to_owned())) }),
        ..Attribute::default()
    };
    ProtoResource {
        attributes: vec![
            attribute("service.name", service_name),
            attribute("service.namespace", SCOPE),
            attribute("service.instance.id", instance),
        ],
        ..ProtoResource::default()
    }
}

/// Since 1970; 0 on a machine that thinks it is before.
fn nanoseconds() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
