//! What every question needs: the replica, the issuer's name, the clock, and how long a caller can wait.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::rand;
use countersign_evaluator::Decision;
use countersign_replica::{Behind, Replica, Revision, View};
use countersign_token::dpop::SeenProofs;
use http::HeaderMap;

use crate::{
    config::Config,
    error::Refusal,
    log::{DecisionLog, Line},
    numbers::Decisions,
    signatures::Signatures,
};

/// DPoP proofs of the last minute: 15,000 questions of bound tokens a second. Beyond that they are refused, and may be asked again.
const MAX_SEEN_PROOFS: usize = 1_000_000;

/// Answers questions. Cheap to clone.
#[derive(Clone)]
pub struct Decider {
    replica: Replica,
    issuer: Arc<str>,
    signatures: Arc<Signatures>,
    seen_proofs: Arc<SeenProofs>,
    patience: Duration,
    log: DecisionLog,
    decisions: Decisions,
}

impl Decider {
    /// Answers from `replica`.
    pub fn new(replica: Replica, config: &Config) -> Self {
        Self {
            replica,
            issuer: config.issuer.as_str().into(),
            signatures: Arc::default(),
            seen_proofs: Arc::new(SeenProofs::new(MAX_SEEN_PROOFS)),
            patience: config.patience,
            log: DecisionLog::default(),
            decisions: Decisions::new(&config.metrics),
        }
    }

    /// The same, where decisions are logged.
    pub fn with_log(self, log: DecisionLog) -> Self {
        Self { log, ..self }
    }

    /// After every decision: it is counted, and logged where it is one of those that are.
    pub fn made(&self, decision: Decision, decision_id: &str, line: impl FnOnce() -> Line) {
        self.decisions.made(decision);
        self.log.record(decision_id, line);
    }

    /// Where decisions are logged.
    pub fn log(&self) -> &DecisionLog {
        &self.log
    }

    /// Where the policies are.
    pub fn replica(&self) -> &Replica {
        &self.replica
    }

    /// Who issues our tokens.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Tokens whose signatures hold.
    pub fn signatures(&self) -> &Signatures {
        &self.signatures
    }

    /// DPoP proofs that came with questions.
    pub fn seen_proofs(&self) -> &SeenProofs {
        &self.seen_proofs
    }

    /// How long a question of a stream waits for a revision.
    pub fn patience(&self) -> Duration {
        self.patience
    }

    /// Until when a caller with these headers can wait for revisions.
    pub fn deadline(&self, headers: &HeaderMap) -> Instant {
        let timeout = headers.get("grpc-timeout").and_then(|value| value.to_str().ok());
        let patience = match timeout.and_then(grpc_timeout) {
            // A tenth of it is left for the answer to travel.
            Some(timeout) => self.patience.min(timeout / 10 * 9),
            None => self.patience,
        };
        Instant::now() + patience
    }

    /// The view of now, once it is at `floor` or later; an empty floor asks for nothing.
    pub async fn view(&self, floor: &str, deadline: Instant) -> Result<Arc<View>, Behind> {
        let patience = deadline.saturating_duration_since(Instant::now());
        self.replica.at_least(floor, patience).await
    }
}

/// Whether a view that was taken after `floor` had arrived is still of the same store, in which revisions only grow.
pub fn satisfies(view: &View, floor: &str) -> Result<(), Refusal> {
    if floor.is_empty() {
        return Ok(());
    }
    let asked: Revision = floor.parse().map_err(Behind::from)?;
    let have = view.revision().clone();
    if have.store_id == asked.store_id {
        return Ok(());
    }
    Err(Behind::OtherStore { asked, have }.into())
}

/// Seconds since 1970. Read once a decision; a clock before 1970 reads as 0, at which no token is valid yet.
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// A name for one decision: `d-` and 16 hexadecimal digits.
pub fn decision_id() -> Result<String, Refusal> {
    let mut bytes = [0_u8; 8];
    rand::fill(&mut bytes).map_err(|_| Refusal::NoRandomness)?;
    Ok(decision_name(u64::from_be_bytes(bytes)))
}

/// The name that a number makes.
pub fn decision_name(number: u64) -> String {
    format!("d-{number:016x}")
}

/// `TimeoutValue TimeoutUnit` of the gRPC protocol: at most eight digits, and one of `HMSmun`.
fn grpc_timeout(text: &str) -> Option<Duration> {
    let unit = text.chars().last()?;
    let digits = text.strip_suffix(unit)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let value: u64 = digits.parse().ok()?;
    match unit {
        'H' => Some(Duration::from_secs(value * 3600)),
        'M' => Some(Duration::from_secs(value * 60)),
        'S' => Some(Duration::from_secs(value)),
        'm' => Some(Duration::from_millis(value)),
        'u' => Some(Duration::from_micros(value)),
        'n' => Some(Duration::from_nanos(value)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts() {
        fn check(text: &str, expected: Option<Duration>) {
            assert_eq!(grpc_timeout(text), expected, "{text}");
        }
        check("1H", Some(Duration::from_secs(3600)));
        check("2M", Some(Duration::from_secs(120)));
        check("3S", Some(Duration::from_secs(3)));
        check("250m", Some(Duration::from_millis(250)));
        check("5u", Some(Duration::from_micros(5)));
        check("99999999n", Some(Duration::from_nanos(99_999_999)));
        for bad in ["", "S", "123456789S", "-1S", "+1S", "1", "1s", "1 S", "é"] {
            check(bad, None);
        }
    }

    #[test]
    fn decisions_have_names_of_their_own() {
        let (a, b) = (decision_id().unwrap(), decision_id().unwrap());
        assert_ne!(a, b);
        assert!(a.len() == 18 && a.starts_with("d-"), "{a}");
    }
}
