//! The process kit of every service: configuration of listeners, service identity, authentication of callers, health,
//! reflection, error shape, shutdown, logs. It knows how a Countersign process behaves, and nothing of what it decides.

pub mod authn;
pub mod fault;
pub mod grpc;
pub mod identity;
pub mod listener;
pub mod shutdown;
pub mod telemetry;

pub use fault::Fault;
pub use identity::{ServiceCredential, ServiceIdentities, ServiceName, ServiceSecret};
pub use shutdown::Shutdown;
