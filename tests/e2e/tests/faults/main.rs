//! FAULTS.md, F3 to F5, against real processes, several decision replicas among them. Each prints its figures. In CI they are small; the
//! names in capitals are environment variables that make them as large as that page says:
//!
//! ```sh
//! cargo build --release -p countersign -p countersign-policy-store -p countersign-decision -p countersign-gateway
//! COUNTERSIGN_CUT_SECONDS=60 COUNTERSIGN_REVOCATIONS=3000 COUNTERSIGN_HISTORIES=100000 \
//!     cargo test --release -p countersign-e2e --test faults -- --nocapture --test-threads 1
//! ```
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "this is a test")]

mod cluster;
mod cut;
mod enemy;
mod network;
mod revocations;
