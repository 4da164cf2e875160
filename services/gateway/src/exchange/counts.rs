//! How exchanges end, in numbers.

use countersign_serve::{
    Fault,
    telemetry::{Counter, Metrics},
};
use tonic::Code;

use crate::error::Refusal;

/// Exchanges by how they ended.
#[derive(Clone, Debug)]
pub struct Counts {
    granted: Counter,
    refused: Counter,
    failed: Counter,
    abandoned: Counter,
}

impl Counts {
    /// Counted in `metrics`.
    #[must_use]
    pub fn new(metrics: &Metrics) -> Self {
        let [granted, refused, failed, abandoned] = metrics.counters(
            "exchanges",
            "Exchanges that ended: granted, refused for a fault of the caller's, failed for none, or abandoned by the caller",
            "result",
            ["granted", "refused", "failed", "abandoned"],
        );
        Self { granted, refused, failed, abandoned }
    }

    pub(super) fn ended<T>(&self, outcome: &Result<T, Refusal>) {
        let counter = match outcome {
            Ok(_) => &self.granted,
            Err(refusal) => match Fault::from(refusal).code() {
                Code::Unavailable | Code::Internal | Code::DeadlineExceeded | Code::Unknown => {
                    &self.failed
                }
                _ => &self.refused,
            },
        };
        counter.inc();
    }

    pub(super) fn abandoned(&self) {
        self.abandoned.inc();
    }
}
