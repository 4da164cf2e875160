//! Commits put together from etcd's events, and the history read back.
//!
//! A watch alone is never trusted: the head's version counts the commits, so one that is missing shows; and its record names each
//! commit's keys, so a key's missing event shows too.

use std::collections::HashMap;

use bytes::Bytes;
use etcd_client::{Event, EventType, GetOptions};
use tokio::time::{Duration, timeout};

use super::cluster::{Cluster, Fault};
use super::layout::{Layout, Nonce, Record, Recorded};
use crate::{Change, StoreError, Write};

/// A reader gets so much of a history at a time, in bytes of keys and values.
const MAX_BYTES: usize = 4 << 20;
/// Tries at a watch that leaves commits out.
const TRIES: u32 = 3;

/// A commit, and where it stands among all of this store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Commit {
    pub change: Change,
    pub nonce: Nonce,
    /// The how-many-th commit of this store it is, from 1.
    pub count: i64,
    pub bytes: usize,
}

/// Why a watch did not say what happened.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// A commit, or a key's part of one, did not come.
    Gap,
    Corrupt(StoreError),
}

/// Puts the events of one revision together.
pub(super) struct Assembler<'a> {
    layout: &'a Layout,
    /// The last commit that was put together, and its count.
    number: u64,
    count: i64,
    revision: i64,
    values: HashMap<Bytes, Bytes>,
}

impl<'a> Assembler<'a> {
    /// What comes is expected to follow commit `number`, the `count`-th.
    pub fn new(layout: &'a Layout, number: u64, count: i64) -> Self {
        Self { layout, number, count, revision: 0, values: HashMap::new() }
    }

    /// Takes the next event; answers a commit when it is whole.
    pub fn take(&mut self, event: &Event) -> Result<Option<Commit>, Broken> {
        let Some(kv) = event.kv() else { return Err(Broken::Gap) };
        let number = u64::try_from(kv.mod_revision()).unwrap_or_default();
        // Events may come twice, never back in time.
        if number <= self.number {
            return Ok(None);
        }
        if kv.mod_revision() != self.revision {
            self.revision = kv.mod_revision();
            self.values.clear();
        }
        if kv.key() != self.layout.head() {
            if let (EventType::Put, Some(key)) = (event.event_type(), self.layout.key_of(kv.key()))
            {
                self.values.insert(key, Bytes::copy_from_slice(kv.value()));
            }
            return Ok(None);
        }
        let count = self.count.saturating_add(1);
        if event.event_type() == EventType::Delete || kv.version() != count {
            return Err(Broken::Gap);
        }
        let record = Record::decode(kv.value()).map_err(Broken::Corrupt)?;
        let commit = self.whole(number, count, record)?;
        (self.number, self.count) = (number, count);
        Ok(Some(commit))
    }

    fn whole(&self, number: u64, count: i64, record: Record) -> Result<Commit, Broken> {
        let mut bytes = 0;
        let mut writes = Vec::with_capacity(record.writes.len());
        for recorded in record.writes {
            let write = match recorded {
                Recorded::Delete { key } => Write::Delete { key },
                Recorded::CoveredPut { key, value } => Write::Put { key, value },
                Recorded::Put { key } => {
                    let value = self.values.get(&key).ok_or(Broken::Gap)?.clone();
                    Write::Put { key, value }
                }
            };
            bytes += write.key().len();
            if let Write::Put { value, .. } = &write {
                bytes += value.len();
            }
            writes.push(write);
        }
        Ok(Commit { change: Change { number, writes }, nonce: record.nonce, count, bytes })
    }
}

/// The last commit of a store, at some revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub number: u64,
    pub count: i64,
}

/// Reads commits after `after` (and at most `head`, which is known to be there) from etcd's history. `born` is the revision at
/// which the store was made.
pub(super) async fn read(
    cluster: &Cluster,
    layout: &Layout,
    born: i64,
    after: u64,
    head: u64,
    limit: usize,
    patience: Duration,
) -> Result<Vec<Change>, StoreError> {
    let from = i64::try_from(after).unwrap_or(i64::MAX).max(born);
    let options = GetOptions::new().with_revision(from);
    let count = match cluster.get(layout.head(), options).await {
        Ok(found) => match found.kvs().first() {
            // These are from before a restore: another store's.
            Some(head) if head.mod_revision().unsigned_abs() > after => {
                return Err(kept_after(born));
            }
            Some(head) => head.version(),
            None => 0,
        },
        Err(Fault::Compacted) => return Err(too_old(cluster, layout, head, patience).await),
        Err(fault) => return Err(fault.into()),
    };
    for _ in 0..TRIES {
        let assembler = Assembler::new(layout, after.max(born.unsigned_abs()), count);
        match pass(cluster, assembler, from.saturating_add(1), head, limit, patience).await {
            Ok(changes) => return Ok(changes),
            Err(Stop::Compacted(compacted)) => return Err(kept_after(compacted)),
            Err(Stop::Broken(Broken::Corrupt(error)) | Stop::Failed(error)) => return Err(error),
            Err(Stop::Broken(Broken::Gap)) => {
                tracing::warn!(after, "etcd's watch left out a commit; it is read again");
            }
        }
    }
    // A snapshot has it all.
    Err(StoreError::TooOld { oldest: head.saturating_add(1) })
}

enum Stop {
    Compacted(i64),
    Broken(Broken),
    Failed(StoreError),
}

/// One watch over the history.
async fn pass(
    cluster: &Cluster,
    mut assembler: Assembler<'_>,
    from: i64,
    head: u64,
    limit: usize,
    patience: Duration,
) -> Result<Vec<Change>, Stop> {
    let failed = |fault: Fault| Stop::Failed(fault.into());
    let prefix = assembler.layout.all();
    let (member, mut stream) = cluster.watch(prefix, from).await.map_err(failed)?;
    let (mut changes, mut bytes) = (Vec::new(), 0);
    loop {
        let message = match timeout(patience, stream.message()).await {
            Ok(Ok(Some(message))) => message,
            Ok(Ok(None)) => return Err(Stop::Failed(ended("etcd ended the watch"))),
            Ok(Err(error)) => return Err(Stop::Failed(ended(&error.to_string()))),
            Err(_) => {
                cluster.doubt(member);
                return Err(Stop::Failed(ended("etcd's watch said nothing in time")));
            }
        };
        if message.compact_revision() > 0 {
            return Err(Stop::Compacted(message.compact_revision()));
        }
        if message.canceled() {
            return Err(Stop::Failed(ended(message.cancel_reason())));
        }
        for event in message.events() {
            let Some(commit) = assembler.take(event).map_err(Stop::Broken)? else { continue };
            bytes += commit.bytes;
            let last = commit.change.number >= head;
            changes.push(commit.change);
            if last || changes.len() >= limit || bytes >= MAX_BYTES {
                return Ok(changes);
            }
        }
    }
}

/// Asks where the history begins: a watch from its very beginning is refused with the answer.
async fn too_old(cluster: &Cluster, layout: &Layout, head: u64, patience: Duration) -> StoreError {
    let assembler = Assembler::new(layout, head, 0);
    match pass(cluster, assembler, 1, head, 1, patience).await {
        Err(Stop::Compacted(compacted)) => kept_after(compacted),
        Err(Stop::Failed(error)) => error,
        Ok(_) | Err(Stop::Broken(_)) => StoreError::TooOld { oldest: head.saturating_add(1) },
    }
}

/// Compaction at a revision keeps that revision's state, and the events after it.
fn kept_after(compacted: i64) -> StoreError {
    StoreError::TooOld { oldest: compacted.unsigned_abs().saturating_add(1) }
}

fn ended(reason: &str) -> StoreError {
    StoreError::Unavailable(format!("etcd's history cannot be read: {reason}"))
}
