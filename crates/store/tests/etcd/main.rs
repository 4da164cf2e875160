//! The etcd engine on real clusters: the conformance suite, faults, a full disk, TLS and users, and several processes at once.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "this is a test"
)]

mod cluster;
mod conforms;
mod faults;
mod other_stores;
mod security;
mod space;
