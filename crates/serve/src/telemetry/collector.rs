//! Where telemetry is sent by OTLP, and as whom; and log records that are counted: each was taken by the collector, or it was not.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use opentelemetry_proto::tonic::{
    collector::logs::v1::{ExportLogsServiceRequest, logs_service_client::LogsServiceClient},
    common::v1::{AnyValue, InstrumentationScope, KeyValue as Attribute, any_value::Value},
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs, SeverityNumber},
    resource::v1::Resource,
};
use tonic::transport::Channel;

/// What the instrumentation calls itself.
pub(super) const SCOPE: &str = "countersign";
/// How long is waited for the collector.
pub(super) const PATIENCE: Duration = Duration::from_secs(3);

type Connect = dyn Fn() -> Result<Channel, String> + Send + Sync;

/// A collector. Cheap to clone; nothing is connected before something is sent.
#[derive(Clone)]
pub struct Collector {
    connect: Arc<Connect>,
    service_name: &'static str,
    instance: Arc<str>,
}

impl Collector {
    /// `connect` makes the channel; it is called on the runtime that will send. `service_name` and `instance` are what the collector knows
    /// this process by (`service.name`, `service.instance.id`).
    pub fn new(
        connect: impl Fn() -> Result<Channel, String> + Send + Sync + 'static,
        service_name: &'static str,
        instance: impl Into<Arc<str>>,
    ) -> Self {
        Self { connect: Arc::new(connect), service_name, instance: instance.into() }
    }

    pub(super) fn channel(&self) -> Result<Channel, String> {
        (self.connect)()
    }

    pub(super) fn service_name(&self) -> &'static str {
        self.service_name
    }

    pub(super) fn instance(&self) -> &str {
        &self.instance
    }

    pub(super) fn resource(&self) -> Resource {
        Resource {
            attributes: vec![
                attribute("service.name", self.service_name),
                attribute("service.namespace", SCOPE),
                attribute("service.instance.id", &self.instance),
            ],
            ..Resource::default()
        }
    }

    /// What sends log records. To be called on the runtime that will send.
    ///
    /// # Errors
    /// When the collector's address is none.
    pub fn records(&self) -> Result<Records, String> {
        let client = LogsServiceClient::new(self.channel()?);
        Ok(Records { client, resource: self.resource() })
    }
}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { connect: _, service_name, instance } = self;
        f.debug_struct("Collector")
            .field("service_name", service_name)
            .field("instance", instance)
            .finish_non_exhaustive()
    }
}

/// One log record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What kind of event it is: `countersign.decision`.
    pub name: &'static str,
    /// When it happened.
    pub at: SystemTime,
    /// All of it, as text.
    pub body: String,
    /// What it can be looked for by.
    pub attributes: Vec<(&'static str, String)>,
}

/// Sends log records.
pub struct Records {
    client: LogsServiceClient<Channel>,
    resource: Resource,
}

/// Why records were not taken.
#[derive(Debug, thiserror::Error)]
pub enum NotTaken {
    /// The collector answered with an error, or is not there.
    #[error("{0}")]
    Refused(String),
    /// It does not answer.
    #[error("the collector does not answer")]
    Silent,
}

impl Records {
    /// Sends them once; gives how many the collector took. What it took and did not acknowledge counts as not taken.
    ///
    /// # Errors
    /// When it took none.
    pub async fn send(&mut self, events: Vec<Event>) -> Result<usize, NotTaken> {
        let sent = events.len();
        let request = self.request(events);
        let answer = tokio::time::timeout(PATIENCE, self.client.export(request)).await;
        let answer = answer.map_err(|_| NotTaken::Silent)?;
        let answer = answer.map_err(|status| NotTaken::Refused(status.message().to_owned()))?;
        let partial = answer.into_inner().partial_success;
        let rejected = partial.map_or(0, |partial| partial.rejected_log_records);
        Ok(sent.saturating_sub(usize::try_from(rejected).unwrap_or_default()))
    }

    fn request(&self, events: Vec<Event>) -> ExportLogsServiceRequest {
        let now = nanoseconds(SystemTime::now());
        let scope =
            InstrumentationScope { name: SCOPE.to_owned(), ..InstrumentationScope::default() };
        ExportLogsServiceRequest {
            resource_logs: vec![ResourceLogs {
                resource: Some(self.resource.clone()),
                scope_logs: vec![ScopeLogs {
                    scope: Some(scope),
                    log_records: events.into_iter().map(|event| record(event, now)).collect(),
                    schema_url: String::new(),
                }],
                schema_url: String::new(),
            }],
        }
    }
}

fn record(event: Event, observed_time_unix_nano: u64) -> LogRecord {
    let Event { name, at, body, attributes } = event;
    LogRecord {
        time_unix_nano: nanoseconds(at),
        observed_time_unix_nano,
        severity_number: SeverityNumber::Info.into(),
        event_name: name.to_owned(),
        body: Some(AnyValue { value: Some(Value::StringValue(body)) }),
        attributes: attributes.iter().map(|(key, value)| attribute(key, value)).collect(),
        ..LogRecord::default()
    }
}

fn attribute(key: &str, value: &str) -> Attribute {
    Attribute {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(Value::StringValue(value.to_owned())) }),
        ..Attribute::default()
    }
}

/// Since 1970; 0 on a machine that thinks it is before.
pub(super) fn nanoseconds(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
