//! What an operator asks of a running process by a signal.

use std::sync::Arc;

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::Notify,
};

/// Notifies `demand` at each SIGUSR1: another signing key is to take the place of the one before. To be called on a runtime.
pub fn rotate_on_signal(demand: Arc<Notify>) {
    match signal(SignalKind::user_defined1()) {
        Ok(mut signals) => {
            tokio::spawn(async move {
                while signals.recv().await.is_some() {
                    tracing::info!("another signing key is asked for");
                    demand.notify_one();
                }
            });
        }
        Err(error) => tracing::warn!(%error, "SIGUSR1 rotates no keys"),
    }
}
