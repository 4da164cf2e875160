//! Writes that were refused for want of a right, in the trail as CloudTrail has them, with an `errorCode`.
//!
//! There is no transaction that they could be part of, so they are written by a task of its own, some at once, and nobody waits for it. Their
//! number is bounded, for each principal and for all, so that whoever is refused cannot fill the disk or slow others down; how many were
//! left out is in the next event of one.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use countersign_serve::Shutdown;
use countersign_store::{Store, Write};
use prost_types::Timestamp;
use tokio::sync::{Mutex, mpsc};

use super::{AuditRecord, Outcome, event, key};
use crate::{
    authn::Caller,
    keys::limit::{Limits, Rate},
    layout,
    rpc::Call,
};

/// Of one principal.
const EACH: Rate = Rate { a_second: 1, at_once: 20 };
const ALL: Rate = Rate { a_second: 10, at_once: 100 };
/// So many wait to be written, and so many go into one commit.
const WAITING: usize = 256;
const AT_ONCE: usize = 16;

/// The refusals of one process.
pub struct Refusals {
    limits: Limits,
    unrecorded: AtomicU64,
    sender: mpsc::Sender<AuditRecord>,
    receiver: Mutex<mpsc::Receiver<AuditRecord>>,
}

impl Default for Refusals {
    fn default() -> Self {
        let (sender, receiver) = mpsc::channel(WAITING);
        Self {
            limits: Limits::of(EACH, ALL),
            unrecorded: AtomicU64::new(0),
            sender,
            receiver: Mutex::new(receiver),
        }
    }
}

impl Refusals {
    /// Whether one more of this caller is to be recorded. `now` is in milliseconds. If not, it is counted.
    pub fn may_record(&self, call: &Call, now: u64) -> bool {
        let who = match &call.caller {
            Caller::Service(name) => name.to_string(),
            Caller::Session(session) => session.claims.session.role_id.clone(),
        };
        let fits = self.limits.take(&who, now).is_ok();
        if !fits {
            self.unrecorded.fetch_add(1, Ordering::Relaxed);
        }
        fits
    }

    /// Has a refusal written, soon.
    pub fn record(
        &self,
        now: Timestamp,
        call: &Call,
        resources: Vec<String>,
        message: String,
        process: &str,
    ) {
        let unrecorded = self.unrecorded.swap(0, Ordering::Relaxed);
        let outcome = Outcome::Refused { code: "AccessDenied", message, unrecorded };
        let sent = event(now, call, resources, &outcome, process)
            .is_ok_and(|record| self.sender.try_send(record).is_ok());
        if !sent {
            self.unrecorded.fetch_add(unrecorded + 1, Ordering::Relaxed);
        }
    }

    /// Writes refusals until `shutdown`, and then those that are waiting.
    pub async fn run(self: Arc<Self>, store: Arc<dyn Store>, shutdown: Shutdown) {
        let mut receiver = self.receiver.lock().await;
        loop {
            let mut records = Vec::new();
            tokio::select! {
                _ = receiver.recv_many(&mut records, AT_ONCE) => {}
                () = shutdown.wait() => break,
            }
            self.write(store.as_ref(), &records).await;
        }
        let mut records = Vec::new();
        while let Ok(record) = receiver.try_recv() {
            records.push(record);
        }
        for some in records.chunks(AT_ONCE) {
            self.write(store.as_ref(), some).await;
        }
    }

    async fn write(&self, store: &dyn Store, records: &[AuditRecord]) {
        let put = |record: &AuditRecord| Write::Put {
            key: key(record.event_time.unwrap_or_default(), &record.event_id)
                .as_bytes()
                .to_vec()
                .into(),
            value: layout::encode(record).into(),
        };
        let writes: Vec<Write> = records.iter().map(put).collect();
        let count = u64::try_from(writes.len()).unwrap_or_default();
        if let Err(error) = store.commit(Vec::new(), writes).await {
            self.unrecorded.fetch_add(count, Ordering::Relaxed);
            tracing::warn!(%error, count, "refused writes cannot be recorded; they are in the log");
        }
    }
}
