//! Drives a decision service with workload "orders", and a bare echo of the same messages beside it, and says what either costs.
//!
//! The servers are processes of their own, pinned to one core, and the client to another, so that what is measured is the server's.
//! What is compared is of one run, whose servers took turns. It knows nothing of how a decision is made.

use std::{fmt, time::Duration};

pub mod cerbos;
pub mod drive;
pub mod measure;
pub mod orders;
pub mod picture;
pub mod process;
pub mod report;
pub mod serve;
pub mod store;
pub mod telemetry;
pub mod wire;

// The workload's one definition: it is the engines' benchmark's, which is a workspace of its own.
#[allow(
    dead_code,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a generator, written for the benchmarks"
)]
#[path = "../../../crates/evaluator/benches/src/rng.rs"]
mod rng;
#[allow(
    dead_code,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a generator, written for the benchmarks"
)]
#[path = "../../../crates/evaluator/benches/src/workload.rs"]
mod workload;

/// How long a server may take to start.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// Why nothing was measured.
#[derive(Debug)]
pub struct Failed(String);

impl Failed {
    /// Something went wrong with `what`.
    pub fn of<E: fmt::Display>(what: &'static str) -> impl Fn(E) -> Self {
        move |error| Self(format!("{what}: {error}"))
    }

    /// Something is not as it must be.
    #[must_use]
    pub fn because(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failed {}
