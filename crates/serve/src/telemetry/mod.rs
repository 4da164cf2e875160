//! What a process tells about itself: logs, to standard error; metrics, on a page and by OTLP; traces, by OTLP; and records that a service
//! wants to send to the same collector ([`Collector`]).
//!
//! A log line is one line an event, so that standard output stays for results. Inside a call that is traced it has the trace's id.

mod collector;
mod metrics;
mod observe;
mod otlp;
mod page;
pub mod process;
mod trace;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::{
    EnvFilter, Layer, filter, fmt, layer::SubscriberExt, util::SubscriberInitExt,
};

pub use collector::{Collector, Event, NotTaken, Records};
pub use metrics::{Calls, Metrics};
pub(crate) use observe::Observe;
pub use observe::{Observed, Traced};
pub use otlp::{Otlp, Running};
pub use prometheus_client::metrics::{counter::Counter, histogram::Histogram};
pub(crate) use trace::pass_on;
pub use trace::{client_span, is_traced};

/// How a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines.
    Json,
}

/// Starts logging. `filter` is a tracing filter such as `info` or `countersign=debug`; libraries stay at `warn`.
///
/// # Errors
/// When the filter does not parse, or logging was started before.
pub fn start(filter: &str, format: LogFormat) -> Result<(), TelemetryError> {
    start_with(filter, format, None).map(drop)
}

/// Starts logging, and with `otlp` traces and metrics by OTLP. What is returned is to be kept, and ended after everything else: then what
/// is still to be sent is sent.
///
/// # Errors
/// When the filter does not parse, logging was started before, or the exporter does not start.
pub fn start_with(
    filter: &str,
    format: LogFormat,
    otlp: Option<Otlp>,
) -> Result<Running, TelemetryError> {
    let lines = EnvFilter::builder().parse(filter).map_err(|error| TelemetryError::Filter {
        filter: filter.to_owned(),
        error: error.to_string(),
    })?;
    let layer = fmt::layer().with_writer(std::io::stderr).with_target(false);
    let layer = match format {
        LogFormat::Text => layer.boxed(),
        LogFormat::Json => layer.json().boxed(),
    };
    let running = otlp.map(Otlp::start).transpose()?.unwrap_or_default();
    let traces = running.tracer().map(|tracer| {
        // All of ours are at `info`: what libraries say below it is not even asked about.
        let is_traced = filter::filter_fn(|meta| meta.target() == trace::TARGET)
            .with_max_level_hint(LevelFilter::INFO);
        tracing_opentelemetry::layer()
            .with_tracer(tracer)
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_filter(is_traced)
    });
    tracing_subscriber::registry()
        .with(layer.with_filter(lines))
        .with(traces)
        .try_init()
        .map_err(|error| TelemetryError::Started(error.to_string()))?;
    Ok(running)
}

/// Why telemetry did not start.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter does not parse.
    #[error("`{filter}` is no log filter: {error}; try `info` or `warn,countersign=debug`")]
    Filter {
        /// What was given.
        filter: String,
        /// What is wrong with it.
        error: String,
    },
    /// There is a logger already.
    #[error("cannot start logging: {0}")]
    Started(String),
    /// No thread, no runtime, or no exporter.
    #[error("cannot send telemetry: {0}")]
    Otlp(String),
}
