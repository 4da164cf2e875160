//! The policy store over real gRPC, on a real sled in a temporary folder: one scenario a test.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "in a test each of them is a failed test"
)]

mod accounts;
mod audit;
mod etags;
mod export;
mod full;
mod groups;
mod import;
mod keys;
mod killed;
mod life;
mod matrix;
mod matrix_rows;
mod narrowed;
mod organization;
#[cfg(feature = "etcd")]
mod own_etcd;
mod program;
mod sealing;
#[cfg(feature = "etcd")]
mod shared;
mod simulation;
mod support;
mod transfer;
mod trust;
mod unknown;
mod watching;
