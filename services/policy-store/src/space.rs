//! Whether there is room for writes: in the store, and under the audit trail's files.
//!
//! Reads go on without it. Health says it, under a name of its own, so that whoever watches a store hears of a full disk (or of etcd's
//! NOSPACE alarm) from the store itself; and it is found out by trying, so that nothing has to be started again once there is room.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use countersign_serve::{Shutdown, grpc::Health};
use countersign_store::{Store, StoreError, Write};
use tokio::sync::Notify;

use crate::{error::Error, layout};

/// While there is no room it is tried again so often.
const RETRY: Duration = Duration::from_secs(1);
/// What is tried: about what a write takes.
const PROBE: usize = 16 << 10;

/// Where there is room.
#[derive(Default)]
pub struct Space {
    store_is_full: AtomicBool,
    trail_is_full: AtomicBool,
    changed: Notify,
}

impl Space {
    /// How a write ended.
    pub fn saw<T>(&self, written: &Result<T, Error>) {
        match written {
            Ok(_) => self.set(&self.store_is_full, false),
            Err(Error::Store(StoreError::Full)) => self.set(&self.store_is_full, true),
            Err(_) => {}
        }
    }

    /// Whether the trail's files could not be written for want of room.
    pub fn trail(&self, is_full: bool) {
        self.set(&self.trail_is_full, is_full);
    }

    /// That a write's event will find its way into the files: with no room under them, nothing is written that has one.
    ///
    /// # Errors
    /// `LimitExceeded` when there is none.
    pub fn check_trail(&self) -> Result<(), Error> {
        if self.trail_is_full.load(Ordering::Relaxed) { Err(Error::TrailFull) } else { Ok(()) }
    }

    /// Whether the store has no room.
    pub fn store_is_full(&self) -> bool {
        self.store_is_full.load(Ordering::Relaxed)
    }

    /// Whether the trail's files have none.
    pub fn trail_is_full(&self) -> bool {
        self.trail_is_full.load(Ordering::Relaxed)
    }

    fn set(&self, what: &AtomicBool, is_full: bool) {
        if what.swap(is_full, Ordering::Relaxed) != is_full {
            self.changed.notify_one();
        }
    }

    fn is_full(&self) -> bool {
        self.store_is_full.load(Ordering::Relaxed) || self.trail_is_full.load(Ordering::Relaxed)
    }

    /// Tells health under `name`, and tries again while the store is full, until `shutdown`.
    pub async fn watch(
        self: Arc<Self>,
        store: Arc<dyn Store>,
        health: Health,
        name: &'static str,
        shutdown: Shutdown,
    ) {
        let mut said = None;
        loop {
            let is_full = self.is_full();
            if said != Some(is_full) {
                health.part(name, !is_full).await;
                said = Some(is_full);
            }
            tokio::select! {
                () = shutdown.wait() => return,
                () = self.changed.notified() => continue,
                () = tokio::time::sleep(RETRY), if is_full => {}
            }
            if self.store_is_full.load(Ordering::Relaxed) {
                self.saw(&probe(store.as_ref()).await);
            }
        }
    }
}

/// Writes something, and takes it away again.
async fn probe(store: &dyn Store) -> Result<(), Error> {
    let key = layout::space_probe();
    let put = Write::Put { key: key.clone(), value: vec![layout::FORMAT; PROBE].into() };
    for write in [put, Write::Delete { key }] {
        match store.commit(Vec::new(), vec![write]).await {
            Ok(_) | Err(countersign_store::CommitError::Conflict { .. }) => {}
            Err(countersign_store::CommitError::Store(error)) => return Err(error.into()),
        }
    }
    Ok(())
}
