//! The policy store over real gRPC, on a real sled in a temporary folder: one scenario a test.

mod accounts;
mod keys;
mod life;
mod support;
mod trust;
mod watching;
