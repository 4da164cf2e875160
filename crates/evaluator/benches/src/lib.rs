//! The evaluator against its peers: workload "orders", one process, answers compared before anything is timed.
//!
//! Knows the workload, how each engine is spoken to, and how to time them fairly. It is a workspace of its own, so that no peer
//! becomes a dependency of what ships. The README tells how to run it.

pub mod engine;
pub mod engines;
pub mod footprint;
pub mod report;
pub mod rng;
pub mod timing;
pub mod workload;
pub mod world;
