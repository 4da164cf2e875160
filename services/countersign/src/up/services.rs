//! Services that run side by side, each with its own shutdown, ended in the reverse order of their start.

use std::future::Future;

use countersign_serve::{
    Shutdown,
    shutdown::{Trigger, channel},
};
use tokio::task::JoinHandle;

use super::UpError;

/// Services in the order of their start.
#[derive(Debug, Default)]
pub struct Services(Vec<Service>);

#[derive(Debug)]
struct Service {
    name: &'static str,
    trigger: Trigger,
    /// `None` once it has ended.
    task: Option<JoinHandle<Result<(), UpError>>>,
}

impl Services {
    /// Starts one more.
    pub fn start<F>(&mut self, name: &'static str, serve: impl FnOnce(Shutdown) -> F)
    where
        F: Future<Output = Result<(), UpError>> + Send + 'static,
    {
        let (trigger, shutdown) = channel();
        let task = Some(tokio::spawn(serve(shutdown)));
        self.0.push(Service { name, trigger, task });
    }

    /// Resolves when the first of them ends. Nobody has told it to, so whatever the reason, it is an error.
    pub async fn ended(&mut self) -> UpError {
        std::future::poll_fn(|context| {
            for service in &mut self.0 {
                let Some(task) = &mut service.task else { continue };
                if let std::task::Poll::Ready(ended) = std::pin::Pin::new(task).poll(context) {
                    service.task = None;
                    return std::task::Poll::Ready(match ended {
                        Ok(Err(error)) => error,
                        Ok(Ok(())) | Err(_) => UpError::Ended(service.name),
                    });
                }
            }
            std::task::Poll::Pending
        })
        .await
    }

    /// Ends them one after the other, the youngest first, each drained before the next is told.
    pub async fn drain(&mut self) {
        while let Some(Service { name, trigger, task }) = self.0.pop() {
            trigger.fire();
            let Some(task) = task else { continue };
            match task.await {
                Ok(Ok(())) => tracing::info!("{name} drained"),
                Ok(Err(error)) => tracing::warn!(%error, "{name} did not drain"),
                Err(error) => tracing::warn!(%error, "{name} did not drain"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[tokio::test]
    async fn the_youngest_ends_first() {
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut services = Services::default();
        for name in ["store", "decision", "gateway"] {
            let order = order.clone();
            services.start(name, |shutdown| async move {
                shutdown.wait().await;
                order.lock().unwrap().push(name);
                Ok(())
            });
        }
        services.drain().await;
        assert_eq!(*order.lock().unwrap(), ["gateway", "decision", "store"]);
    }

    #[tokio::test]
    async fn one_that_ends_by_itself_is_an_error() {
        let mut services = Services::default();
        services.start("store", |shutdown| async move {
            shutdown.wait().await;
            Ok(())
        });
        services.start("gateway", |_| async { Ok(()) });
        assert!(matches!(services.ended().await, UpError::Ended("gateway")));
        services.drain().await;
    }
}
