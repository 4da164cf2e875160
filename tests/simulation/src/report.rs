//! What a run shows.

use std::fmt;

/// Of some numbers, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Percentiles {
    /// Half are below.
    pub p50: f64,
    /// All but one in a hundred.
    pub p99: f64,
    /// The largest.
    pub most: f64,
}

impl Percentiles {
    /// Of `numbers`; zeroes if there are none.
    #[must_use]
    pub fn of(mut numbers: Vec<f64>) -> Self {
        numbers.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let place = (numbers.len() as f64 * share) as usize;
            numbers.get(place.min(numbers.len().saturating_sub(1))).copied().unwrap_or_default()
        };
        Self { p50: at(0.5), p99: at(0.99), most: at(1.0) }
    }
}

impl fmt::Display for Percentiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { p50, p99, most } = self;
        write!(f, "{p50:.3} / {p99:.3} / {most:.3}")
    }
}

/// What one run showed.
#[derive(Clone, Debug, PartialEq)]
pub struct Figures {
    /// Changes that were written.
    pub written: u64,
    /// From a write to its application, over all replicas and changes that arrived as changes.
    pub lag: Percentiles,
    /// From the first failure of a replica to its being current again, one number a failure.
    pub recovery: Percentiles,
    /// Snapshots that were sent, the first ones included.
    pub snapshots: u64,
    /// Breaks that were resumed from the change log.
    pub resumed: u64,
    /// The most replicas that were without a snapshot at once, after the beginning.
    pub most_away: usize,
    /// The most bytes that the store sent in one second.
    pub peak_egress: u64,
    /// The share of time in which the replicas that answered had the capacity that is asked for.
    pub served: f64,
    /// Replicas whose revision is the store's at the end, when all failures are over.
    pub converged: usize,
}
