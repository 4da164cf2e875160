//! What readers see: every entry, at the published head.
//!
//! The entries are a map that shares structure: taking it as it stands is one step, and whoever took it reads one revision
//! for as long as it likes, whatever is written meanwhile. The writer changes the map under a lock, a whole group at a time
//! and only once the group is on disk; it never holds the lock while it waits for the disk.

use std::ops::Bound;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use bytes::Bytes;
use imbl::OrdMap;
use tokio::sync::watch;

use crate::{Change, Entry, Write};

pub(super) type Entries = OrdMap<Bytes, Held>;

/// A value with the number of the commit that wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub version: u64,
    pub value: Bytes,
}

pub(super) struct Shared {
    view: RwLock<View>,
    head: watch::Sender<u64>,
}

/// One revision. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct View {
    pub head: u64,
    pub entries: Entries,
}

impl Shared {
    pub fn new(view: View) -> Self {
        Self { head: watch::Sender::new(view.head), view: RwLock::new(view) }
    }

    pub fn watch_head(&self) -> watch::Receiver<u64> {
        self.head.subscribe()
    }

    pub fn head(&self) -> u64 {
        self.read().head
    }

    pub fn get(&self, key: &[u8]) -> Option<Entry> {
        self.read().get(key)
    }

    /// The present revision, to be read at leisure.
    pub fn view(&self) -> View {
        self.read().clone()
    }

    /// The writer's last step: a group that is on disk becomes visible.
    pub fn publish(&self, group: Vec<Change>) {
        let mut view = self.view.write().unwrap_or_else(PoisonError::into_inner);
        for change in group {
            view.apply(change);
        }
        let head = view.head;
        drop(view);
        self.head.send_replace(head);
    }

    /// For the writer, who alone changes it.
    pub fn read(&self) -> RwLockReadGuard<'_, View> {
        // A panic within a group would have stopped the writer for good, after a part of what is on disk anyway.
        self.view.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl View {
    pub fn apply(&mut self, change: Change) {
        let version = change.number;
        for write in change.writes {
            match write {
                // Copies: what came with a request would keep the whole request in memory.
                Write::Put { key, value } => {
                    let held = Held { version, value: Bytes::copy_from_slice(&value) };
                    self.entries.insert(Bytes::copy_from_slice(&key), held);
                }
                Write::Delete { key } => {
                    self.entries.remove(&key);
                }
            }
        }
        self.head = version;
    }

    pub fn get(&self, key: &[u8]) -> Option<Entry> {
        let held = self.entries.get(key)?;
        Some(Entry {
            key: Bytes::copy_from_slice(key),
            value: held.value.clone(),
            version: held.version,
        })
    }

    /// The entries with a prefix and after a key, in key order.
    pub fn range(&self, prefix: &[u8], after: Option<&[u8]>) -> impl Iterator<Item = Entry> {
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        self.entries
            .range::<_, [u8]>((from, Bound::Unbounded))
            .take_while(move |(key, _)| key.starts_with(prefix))
            .map(|(key, held)| Entry {
                key: key.clone(),
                value: held.value.clone(),
                version: held.version,
            })
    }
}
