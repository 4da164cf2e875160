//! One word that ends a process, said once and heard by every task.

use tokio::sync::watch;

/// The listening end. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Shutdown(watch::Receiver<bool>);

/// The speaking end. Dropping it ends the process too: a task whose owner is gone has nobody to serve.
#[derive(Debug)]
pub struct Trigger(watch::Sender<bool>);

/// Both ends.
#[must_use]
pub fn channel() -> (Trigger, Shutdown) {
    let (sender, receiver) = watch::channel(false);
    (Trigger(sender), Shutdown(receiver))
}

impl Trigger {
    /// Says the word.
    pub fn fire(&self) {
        self.0.send_replace(true);
    }
}

impl Shutdown {
    /// Resolves once the word has been said, or can no longer be.
    pub async fn wait(&self) {
        let mut receiver = self.0.clone();
        // An error means that the trigger is gone, which ends the process as well.
        let _ = receiver.wait_for(|fired| *fired).await;
    }

    /// Whether the word has been said.
    #[must_use]
    pub fn fired(&self) -> bool {
        *self.0.borrow() || self.0.has_changed().is_err()
    }
}

/// Resolves at the first Ctrl-C or SIGTERM.
pub async fn signal() {
    let interrupted = tokio::signal::ctrl_c();
    match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
        Ok(mut terminated) => tokio::select! {
            _ = interrupted => {}
            _ = terminated.recv() => {}
        },
        Err(_) => {
            let _ = interrupted.await;
        }
    }
}
