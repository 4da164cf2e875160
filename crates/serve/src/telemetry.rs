//! Logs. One line an event, to standard error, so that standard output stays for results.

use tracing_subscriber::{EnvFilter, fmt, util::SubscriberInitExt};

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
    let filter = EnvFilter::builder().parse(filter).map_err(|error| TelemetryError::Filter {
        filter: filter.to_owned(),
        error: error.to_string(),
    })?;
    let lines = fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    match format {
        LogFormat::Text => lines.finish().try_init(),
        LogFormat::Json => lines.json().finish().try_init(),
    }
    .map_err(|error| TelemetryError::Started(error.to_string()))
}

/// Why logging did not start.
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
}
