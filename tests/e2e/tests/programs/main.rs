//! The three services as programs of their own, each with a certificate: what they refuse to start with, a journey by TLS alone, what they
//! survive, and what they tell nobody.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "this is a test")]

mod cluster;
mod full;
mod journey;
mod killed;
mod leaks;
mod picture;
mod refused;
mod started;
mod traced;
