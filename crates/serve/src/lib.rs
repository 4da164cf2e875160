//! The process kit of every service: settings, programs, listeners, TLS, service identity, calls to other services, authentication of
//! callers, health, reflection, error shape, shutdown, logs, memory. It knows how a Countersign process behaves, and nothing of what it decides.

pub mod authn;
pub mod chain;
pub mod cores;
pub mod dial;
pub mod fault;
pub mod grpc;
pub mod identity;
pub mod incoming;
pub mod limit;
pub mod listener;
pub mod memory;
pub mod program;
pub mod settings;
pub mod shutdown;
pub mod telemetry;
pub mod tls;

pub use fault::Fault;
pub use identity::{ServiceCredential, ServiceIdentities, ServiceName, ServiceSecret};
pub use listener::Listener;
pub use shutdown::Shutdown;
pub use tls::Tls;
