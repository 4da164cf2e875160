//! A snapshot of one revision, read page by page: etcd keeps old revisions, so nothing is held for a slow reader but its place.

use std::{collections::VecDeque, sync::Arc};

use super::{Shared, cluster::Fault};
use crate::{Entry, Snapshot, StoreError, StoreFuture};

/// A snapshot that is being read.
pub(super) struct Paged {
    shared: Arc<Shared>,
    /// The last commit at the revision.
    number: u64,
    /// The cluster's own revision that all pages are of.
    revision: i64,
    /// What is still to be read, in order; none covers another.
    prefixes: VecDeque<Vec<u8>>,
    /// The last key that was read of the first of them.
    after: Option<Vec<u8>>,
}

impl Paged {
    pub fn new(shared: Arc<Shared>, number: u64, revision: i64, prefixes: Vec<Vec<u8>>) -> Self {
        Self { shared, number, revision, prefixes: prefixes.into(), after: None }
    }

    async fn page(&mut self, limit: usize) -> Result<Vec<Entry>, StoreError> {
        let mut entries: Vec<Entry> = Vec::new();
        while let Some(prefix) = self.prefixes.front() {
            self.shared.feed.check()?;
            let wanted = limit - entries.len();
            let found =
                self.shared.scan(prefix, self.after.as_deref(), self.revision, wanted).await;
            let found = found.map_err(|fault| self.gone(fault))?;
            if found.len() < wanted {
                self.prefixes.pop_front();
                self.after = None;
            } else {
                self.after = found.last().map(|entry| entry.key.to_vec());
            }
            entries.extend(found);
            if entries.len() >= limit {
                break;
            }
        }
        Ok(entries)
    }

    /// Compaction overtook a slow reader: a snapshot of a newer revision has it all.
    fn gone(&self, fault: Fault) -> StoreError {
        match fault {
            Fault::Compacted => StoreError::TooOld { oldest: self.number.saturating_add(1) },
            Fault::NoSpace | Fault::Refused(_) | Fault::Unknown(_) => fault.into(),
        }
    }
}

impl Snapshot for Paged {
    fn number(&self) -> u64 {
        self.number
    }

    fn next(&mut self, limit: usize) -> StoreFuture<'_, Vec<Entry>> {
        Box::pin(self.page(limit.max(1)))
    }
}
