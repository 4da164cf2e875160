//! What readers see: sled as it stood at the published head, whatever the writer is doing to it.
//!
//! sled has no old revisions, and shows a write before it is on disk. So the writer first installs, under the write lock,
//! what each key of its group held before (`in_flight`); while it applies, flushes and syncs, readers prefer that to what
//! sled says; once the group is on disk, the writer clears it and moves the head, under the write lock again. A reader
//! holds the read lock while it reads sled, never across an await, and so never waits for the disk's sync.
//!
//! A snapshot is the same over a longer time: it keeps what each key held before the first write since its revision.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use ::sled::Db;
use bytes::Bytes;
use tokio::sync::watch;

use super::layout::{self, Stored};
use super::store_error;
use crate::{Change, Entry, StoreError, Write};

/// Keys and what they held before something was written to them (`None`: they were absent).
pub(super) type Before = BTreeMap<Bytes, Option<Stored>>;

/// Changes returned at once, in bytes; a commit is never cut.
const CHANGES_BYTES: usize = 8 << 20;

pub(super) struct Shared {
    view: RwLock<View>,
    // Lock order: the view first.
    snapshots: Mutex<Snapshots>,
    head: watch::Sender<u64>,
}

pub(super) struct View {
    /// `None` while the store is being opened again after the disk was full.
    pub db: Option<Db>,
    pub head: u64,
    pub trimmed: u64,
    pub in_flight: Before,
}

#[derive(Default)]
struct Snapshots {
    made: u64,
    live: HashMap<u64, LiveSnapshot>,
}

struct LiveSnapshot {
    prefixes: Vec<Bytes>,
    before: Before,
}

impl Shared {
    pub fn new(db: Db, state: layout::State) -> Self {
        let view = View {
            db: Some(db),
            head: state.head,
            trimmed: state.trimmed,
            in_flight: Before::new(),
        };
        Self {
            view: RwLock::new(view),
            snapshots: Mutex::default(),
            head: watch::Sender::new(state.head),
        }
    }

    pub fn watch_head(&self) -> watch::Receiver<u64> {
        self.head.subscribe()
    }

    pub fn head(&self) -> u64 {
        *self.head.borrow()
    }

    pub fn get(&self, key: &[u8]) -> Result<Option<Entry>, StoreError> {
        let view = self.read();
        let stored = match view.in_flight.get(key) {
            Some(before) => before.clone(),
            None => stored_at(view.sled()?, key)?,
        };
        let key = Bytes::copy_from_slice(key);
        Ok(stored.map(|Stored { version, value }| Entry { key, value, version }))
    }

    pub fn range(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Entry>, StoreError> {
        let view = self.read();
        scan(view.sled()?, &view.in_flight, prefix, after, limit)
    }

    pub fn changes_since(&self, after: u64, limit: usize) -> Result<Vec<Change>, StoreError> {
        let view = self.read();
        if after > view.head {
            return Err(StoreError::Ahead { head: view.head });
        }
        if after < view.trimmed {
            return Err(StoreError::TooOld { oldest: view.trimmed + 1 });
        }
        let cells = view
            .sled()?
            .range(layout::log_key(after, u16::MAX)..=layout::log_key(view.head, u16::MAX));
        let mut changes = Vec::new();
        let mut open: Option<(u64, Vec<u8>)> = None;
        let mut size = 0;
        for cell in cells {
            let (key, part) = cell.map_err(|error| store_error(&error))?;
            let place = layout::log_place(&key);
            open = match (open, place) {
                (_, None) => return Err(StoreError::Corrupt("a change has no number".into())),
                (Some((number, mut encoded)), Some((next, _))) if next == number => {
                    encoded.extend_from_slice(&part);
                    Some((number, encoded))
                }
                (finished, Some((next, _))) => {
                    push_change(&mut changes, finished)?;
                    if changes.len() >= limit || size >= CHANGES_BYTES {
                        return Ok(changes);
                    }
                    Some((next, part.to_vec()))
                }
            };
            size += part.len();
        }
        push_change(&mut changes, open)?;
        changes.truncate(limit);
        Ok(changes)
    }

    /// Fixes the present revision for reading `prefixes` in pieces.
    pub fn begin_snapshot(&self, prefixes: &[&[u8]]) -> Snapshot<'_> {
        let mut prefixes: Vec<Bytes> =
            prefixes.iter().map(|prefix| Bytes::copy_from_slice(prefix)).collect();
        prefixes.sort();
        // Sorted, a prefix comes right before those that it covers.
        prefixes.dedup_by(|covered, covering| covered.starts_with(covering));
        // No group becomes visible or begins while the view is held.
        let view = self.read();
        let mut snapshots = self.snapshots();
        snapshots.made += 1;
        let id = snapshots.made;
        snapshots.live.insert(
            id,
            LiveSnapshot { prefixes: prefixes.clone(), before: view.in_flight.clone() },
        );
        Snapshot { shared: self, id, number: view.head, prefixes, after: None }
    }

    /// The writer's first step: from here on readers see `before` in place of what sled holds.
    pub fn hide(&self, before: Before, trimmed: u64) {
        let mut view = self.write();
        for snapshot in self.snapshots().live.values_mut() {
            for (key, stored) in &before {
                if snapshot.prefixes.iter().any(|prefix| key.starts_with(prefix)) {
                    snapshot.before.entry(key.clone()).or_insert_with(|| stored.clone());
                }
            }
        }
        view.in_flight = before;
        // Before the old changes go, so that nobody reads past a gap.
        view.trimmed = trimmed;
    }

    /// The writer's last step: what it wrote is on disk, and now visible.
    pub fn publish(&self, head: u64) {
        let mut view = self.write();
        view.in_flight.clear();
        view.head = head;
        drop(view);
        self.head.send_replace(head);
    }

    /// Takes sled away from the readers, or gives it back. The published state does not change.
    pub fn replace_sled(&self, db: Option<Db>) -> Option<Db> {
        std::mem::replace(&mut self.write().db, db)
    }

    fn read(&self) -> RwLockReadGuard<'_, View> {
        // A panic while the lock was held left nothing half-done: each change of the view is one assignment.
        self.view.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, View> {
        self.view.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn snapshots(&self) -> MutexGuard<'_, Snapshots> {
        self.snapshots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl View {
    fn sled(&self) -> Result<&Db, StoreError> {
        self.db
            .as_ref()
            .ok_or_else(|| StoreError::Unavailable("being opened again after a full disk".into()))
    }
}

/// One revision, read piece by piece; keeps what is overwritten meanwhile until dropped.
pub(super) struct Snapshot<'a> {
    shared: &'a Shared,
    id: u64,
    pub number: u64,
    /// What is still to be read; the last piece ended within the first of these, at `after`.
    prefixes: Vec<Bytes>,
    after: Option<Bytes>,
}

impl Snapshot<'_> {
    /// The next entries in key order, up to `limit`; empty at the end.
    pub fn piece(&mut self, limit: usize) -> Result<Vec<Entry>, StoreError> {
        while let Some(prefix) = self.prefixes.first() {
            let entries = self.scan(prefix, limit)?;
            match entries.last() {
                Some(last) => {
                    self.after = Some(last.key.clone());
                    return Ok(entries);
                }
                None => {
                    self.prefixes.remove(0);
                    self.after = None;
                }
            }
        }
        Ok(Vec::new())
    }

    fn scan(&self, prefix: &[u8], limit: usize) -> Result<Vec<Entry>, StoreError> {
        let view = self.shared.read();
        let snapshots = self.shared.snapshots();
        let Some(live) = snapshots.live.get(&self.id) else {
            return Err(StoreError::Unavailable("the snapshot has ended".into()));
        };
        scan(view.sled()?, &live.before, prefix, self.after.as_deref(), limit)
    }
}

impl Drop for Snapshot<'_> {
    fn drop(&mut self) {
        self.shared.snapshots().live.remove(&self.id);
    }
}

/// What sled holds at a key now.
pub(super) fn stored_at(db: &Db, key: &[u8]) -> Result<Option<Stored>, StoreError> {
    let cell = db.get(layout::data_key(key)).map_err(|error| store_error(&error))?;
    cell.as_ref().map(Stored::decode).transpose()
}

/// The first `limit` entries with a prefix and after a key, where `over` takes precedence over what sled holds.
pub(super) fn scan(
    db: &Db,
    over: &Before,
    prefix: &[u8],
    after: Option<&[u8]>,
    limit: usize,
) -> Result<Vec<Entry>, StoreError> {
    let from = match after {
        Some(after) if after >= prefix => Bound::Excluded(after),
        _ => Bound::Included(prefix),
    };
    let mut over = over
        .range::<[u8], _>((from, Bound::Unbounded))
        .take_while(|(key, _)| key.starts_with(prefix))
        .peekable();
    let mut cells = db.range((from.map(layout::data_key), Bound::Unbounded));
    let mut next_cell = || -> Result<Option<(Bytes, ::sled::IVec)>, StoreError> {
        let Some(cell) = cells.next() else { return Ok(None) };
        let (cell_key, cell) = cell.map_err(|error| store_error(&error))?;
        Ok(layout::key_of(&cell_key).filter(|key| key.starts_with(prefix)).map(|key| (key, cell)))
    };
    let mut entries = Vec::new();
    if limit == 0 {
        return Ok(entries);
    }
    let mut cell = next_cell()?;
    while entries.len() < limit {
        let over_first = match (over.peek(), &cell) {
            (Some((key, _)), Some((cell_key, _))) => *key <= cell_key,
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (None, None) => break,
        };
        if over_first {
            let Some((key, stored)) = over.next() else { break };
            if cell.as_ref().is_some_and(|(cell_key, _)| cell_key == key) {
                cell = next_cell()?;
            }
            if let Some(Stored { version, value }) = stored.clone() {
                entries.push(Entry { key: key.clone(), value, version });
            }
        } else if let Some((key, found)) = cell.take() {
            let Stored { version, value } = Stored::decode(&found)?;
            entries.push(Entry { key, value, version });
            cell = next_cell()?;
        }
    }
    Ok(entries)
}

fn push_change(
    changes: &mut Vec<Change>,
    finished: Option<(u64, Vec<u8>)>,
) -> Result<(), StoreError> {
    if let Some((number, encoded)) = finished {
        let writes: Vec<Write> = layout::decode_writes(number, encoded)?;
        changes.push(Change { number, writes });
    }
    Ok(())
}
