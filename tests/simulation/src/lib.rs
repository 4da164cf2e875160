//! One store and the replicas that follow it, in simulated time: how old answers get, and what is lost, when parts fail.
//!
//! Knows the protocol's shape (a snapshot, then changes in order; a break is resumed from the change log, or by a new snapshot where the log
//! has moved on; reconnecting backs off with jitter) and takes how fast each part is from whoever asks. Declines to know what a policy is.
//! Equal seeds give equal runs.

mod random;
mod report;
mod world;

pub use random::Random;
pub use report::{Figures, Percentiles};
pub use world::{Failures, Shape, simulate};
