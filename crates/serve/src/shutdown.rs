//! One word that ends a process, said once and heard by every task.

use tokio::sync::watch;

/// How far a process is on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Running,
    /// It answers, and says that it will not for long.
    Leaving,
    Ending,
}

/// The listening end. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Shutdown(watch::Receiver<Phase>);

/// The speaking end. Dropping it ends the process too: a task whose owner is gone has nobody to serve.
#[derive(Debug)]
pub struct Trigger(watch::Sender<Phase>);

/// Both ends.
#[must_use]
pub fn channel() -> (Trigger, Shutdown) {
    let (sender, receiver) = watch::channel(Phase::Running);
    (Trigger(sender), Shutdown(receiver))
}

impl Trigger {
    /// Announces the word: health says NOT_SERVING, so that balancers look elsewhere, and everything is answered still.
    pub fn announce(&self) {
        self.0.send_modify(|phase| *phase = (*phase).max(Phase::Leaving));
    }

    /// Says the word.
    pub fn fire(&self) {
        self.0.send_replace(Phase::Ending);
    }
}

impl Shutdown {
    /// Resolves once the word has been said, or can no longer be.
    pub async fn wait(&self) {
        self.reached(Phase::Ending).await;
    }

    /// Resolves once the word has been announced, or said.
    pub async fn announced(&self) {
        self.reached(Phase::Leaving).await;
    }

    async fn reached(&self, wanted: Phase) {
        let mut receiver = self.0.clone();
        // An error means that the trigger is gone, which ends the process as well.
        let _ = receiver.wait_for(|phase| *phase >= wanted).await;
    }

    /// Whether the word has been announced, or said.
    #[must_use]
    pub fn is_announced(&self) -> bool {
        *self.0.borrow() >= Phase::Leaving || self.0.has_changed().is_err()
    }

    /// Whether the word has been said.
    #[must_use]
    pub fn fired(&self) -> bool {
        *self.0.borrow() == Phase::Ending || self.0.has_changed().is_err()
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
