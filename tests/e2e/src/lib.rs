//! Journeys through the whole system, one file each in `tests/`: the real binary, as a process of its own, and clients that nobody
//! here wrote (grpcurl, botocore, aws-sdk-sts, PyJWT; moto as an STS of somebody else).
//!
//! This library starts and ends those processes and speaks to them; it expects nothing of their answers. It panics where a test
//! would: it has no other user.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "this library is for tests alone"
)]

pub mod collector;
pub mod moto;
pub mod operator;
pub mod program;
pub mod system;
