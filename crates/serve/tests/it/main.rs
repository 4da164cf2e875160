//! TLS as the services have it: who is believed, what is refused, and certificates that change meanwhile.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops here")]

mod admitted;
mod authority;
mod refused;
mod reloaded;
mod server;
