//! The cluster of deploy/compose, asked by programs that nobody here wrote, and under load while its parts are restarted, killed, cut off,
//! and given new certificates and keys. It takes the images and Docker: `tests/run compose` makes both and starts the cluster.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "this is a test")]

mod cluster;
mod doors;
mod faults;
mod grpcurl;
mod load;
mod refused;
mod renewed;
