//! What the store counts besides calls: how far it is, who follows, and whether there is room.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use countersign_serve::{Shutdown, telemetry::Metrics};
use countersign_store::Store;

use crate::{space::Space, watch::Followers};

/// How often the store is asked how far it is.
const EVERY: Duration = Duration::from_secs(1);

/// Puts on the page what is known elsewhere.
pub fn read(
    metrics: &Metrics,
    followers: &Followers,
    space: &Arc<Space>,
    revision: &Arc<AtomicU64>,
) {
    let (followers, revision) = (followers.clone(), revision.clone());
    let (store, trail) = (space.clone(), space.clone());
    let flag = |is_full: bool| Some(if is_full { 1.0 } else { 0.0 });
    metrics.read_gauge("watch_followers", "Open streams of Watch", move || {
        Some(followers.count() as f64)
    });
    // Numbers beyond 2^53 are rounded, and no store has come as far.
    metrics.read_gauge("store_revision", "The number of the last revision", move || match revision
        .load(Ordering::Relaxed)
    {
        0 => None,
        number => Some(number as f64),
    });
    metrics.read_gauge("store_full", "1 while the store has no room for writes", move || {
        flag(store.store_is_full())
    });
    metrics.read_gauge(
        "trail_full",
        "1 while there is no room under the audit trail's files",
        move || flag(trail.trail_is_full()),
    );
}

/// Keeps `revision` where the store is.
pub async fn follow(store: Arc<dyn Store>, revision: Arc<AtomicU64>, shutdown: Shutdown) {
    loop {
        // While the store is away the number stays.
        if let Ok(head) = store.head().await {
            revision.store(head, Ordering::Relaxed);
        }
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = shutdown.wait() => return,
        }
    }
}
