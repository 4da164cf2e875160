//! What the service counts besides calls: decisions, and how its replica and its log do.

use countersign_evaluator::Decision;
use countersign_replica::Replica;
use countersign_serve::telemetry::{Counter, Metrics};

use crate::log::DecisionLog;

/// Decisions by what they were.
#[derive(Clone, Debug)]
pub struct Decisions {
    allowed: Counter,
    denied: Counter,
    not_allowed: Counter,
}

impl Decisions {
    /// Counted in `metrics`.
    pub fn new(metrics: &Metrics) -> Self {
        let [allowed, denied, not_allowed] = metrics.counters(
            "decisions",
            "Decisions that were answered, those of batches, streams and the gateways' questions included",
            "decision",
            ["ALLOW", "EXPLICIT_DENY", "IMPLICIT_DENY"],
        );
        Self { allowed, denied, not_allowed }
    }

    /// One more.
    pub fn made(&self, decision: Decision) {
        match decision {
            Decision::Allow => self.allowed.inc(),
            Decision::ExplicitDeny => self.denied.inc(),
            Decision::ImplicitDeny => self.not_allowed.inc(),
        };
    }
}

/// Puts on the page what is known elsewhere.
pub fn read(metrics: &Metrics, replica: &Replica, log: &DecisionLog) {
    let (held, young, written, lost) = (replica.clone(), replica.clone(), log.clone(), log.clone());
    // Numbers beyond 2^53 are rounded, and no store has come as far.
    metrics.read_gauge(
        "replica_revision",
        "The number of the revision that decisions are made at",
        move || held.held().map(|view| view.revision().number as f64),
    );
    metrics.read_gauge(
        "replica_age_seconds",
        "Seconds since the policy store was last heard; none before the first snapshot",
        move || young.held().map(|_| young.age().as_secs_f64()),
    );
    metrics.read_counter("decision_log_written", "Decisions that the log has", move || {
        Some(written.counts().0 as f64)
    });
    let (sent, unsent) = (log.clone(), log.clone());
    metrics.read_counter(
        "decision_log_sent",
        "Decisions that the collector has, as log records",
        move || Some(sent.sent_counts().0 as f64),
    );
    metrics.read_counter(
        "decision_log_unsent",
        "Decisions that the collector did not take, or did not say that it took",
        move || Some(unsent.sent_counts().1 as f64),
    );
    metrics.read_counter("decision_log_lost", "Decisions that the log could not take", move || {
        Some(lost.counts().1 as f64)
    });
}
