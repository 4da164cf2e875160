//! `countersign`, the one binary people type, as a library: so that tests run the very same system (`up::start`) and the very same
//! client (`proof::exchange_request`).
//!
//! This is the one place that imports the three services' libraries. It starts them and talks to them over gRPC, and knows nothing
//! of what they decide. What the subcommands print on standard output are results; logs and errors go to standard error.

pub mod audit;
pub mod certificates;
pub mod cli;
pub mod clients;
pub mod credentials;
pub mod demo;
pub mod endpoints;
pub mod exchange;
pub mod exit;
pub mod instance;
pub mod policy_check;
pub mod probe;
pub mod proof;
pub mod simulate;
pub mod store;
pub mod up;
