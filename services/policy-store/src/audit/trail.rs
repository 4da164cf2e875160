//! The trail in files: each event of this process, in the order of the commits, in a chain ([`countersign_serve::chain`]).
//!
//! The store has the events first, in the transaction of their write: what the files lack is taken from there.

use std::{io, path::Path, sync::Arc};

use countersign_serve::chain::Chain;
use countersign_store::{Precondition, Store, StoreError, Write};
use prost_types::Timestamp;

use super::{AuditRecord, order};
use crate::{error::Error, layout};

pub use countersign_serve::chain::{Broken, Head, Line, Tail, verify};

/// So many commits are read at once.
const AT_ONCE: usize = 256;
/// Events stay in the store so long, in seconds: as CloudTrail's do, 90 days.
pub const KEPT: i64 = 90 * 24 * 3_600;

/// Writes the trail.
pub struct Trail {
    chain: Chain,
    /// The revision up to which the files have what the store has.
    reached: u64,
    process: Arc<str>,
}

impl Trail {
    /// Goes on where the files end. A line that was cut off while it was written is taken away: its event is still in the store.
    ///
    /// # Errors
    /// When the folder cannot be used.
    pub fn open(folder: &Path, process: Arc<str>) -> io::Result<Self> {
        let chain = Chain::open(folder, "audit")?;
        let reached = chain.head().revision;
        Ok(Self { chain, reached, process })
    }

    /// The revision up to which the files have what the store has.
    pub fn reached(&self) -> u64 {
        self.reached
    }

    /// Writes the events of all commits since the last one written, and syncs them; how many. `now` is in seconds since 1970.
    ///
    /// # Errors
    /// When the store or the file fails; what was written is taken up again the next time.
    pub async fn catch_up(&mut self, store: &dyn Store, now: i64) -> Result<usize, TrailError> {
        let mut written = 0;
        loop {
            let changes = match store.changes_since(self.reached, AT_ONCE).await {
                Ok(changes) => changes,
                Err(StoreError::TooOld { .. }) => return self.take_from_store(store, now).await,
                Err(error) => return Err(error.into()),
            };
            let Some(last) = changes.last().map(|change| change.number) else { break };
            let mut lines = Vec::new();
            for change in &changes {
                for write in &change.writes {
                    let Write::Put { key, value } = write else { continue };
                    if !key.starts_with(layout::AUDIT.as_bytes()) {
                        continue;
                    }
                    let record: AuditRecord = layout::decode_at(key, value)?;
                    if *record.process == *self.process {
                        lines.push((change.number, record.event));
                    }
                }
            }
            written += lines.len();
            self.append(&lines, now)?;
            self.reached = self.reached.max(last);
        }
        Ok(written)
    }

    /// The log of changes no longer goes back so far: the events themselves do.
    async fn take_from_store(&mut self, store: &dyn Store, now: i64) -> Result<usize, TrailError> {
        let (number, entries) = store.snapshot(&[layout::AUDIT.as_bytes()]).await?;
        let mut lines = Vec::new();
        for entry in entries {
            let record: AuditRecord = layout::decode_at(&entry.key, &entry.value)?;
            if *record.process == *self.process && entry.version > self.reached {
                lines.push((entry.version, record.event));
            }
        }
        lines.sort();
        self.append(&lines, now)?;
        self.reached = number;
        Ok(lines.len())
    }

    fn append(&mut self, events: &[(u64, String)], now: i64) -> io::Result<()> {
        self.chain.append(events.iter().map(|(revision, event)| (*revision, event.as_str())), now)
    }
}

/// Why the trail cannot be written on.
#[derive(Debug, thiserror::Error)]
pub enum TrailError {
    /// The store fails.
    #[error("the store: {0}")]
    Store(#[from] StoreError),
    /// A record cannot be read.
    #[error("{0}")]
    Record(String),
    /// The file fails.
    #[error("the file: {0}")]
    File(#[from] io::Error),
}

impl TrailError {
    /// Whether there is no room for the file.
    pub fn is_full(&self) -> bool {
        match self {
            Self::File(error) => {
                matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            }
            Self::Store(_) | Self::Record(_) => false,
        }
    }
}

impl From<Error> for TrailError {
    fn from(error: Error) -> Self {
        Self::Record(error.to_string())
    }
}

/// Drops events from the store that are older than [`KEPT`]; the files have them. `written` is the revision up to which they do. How many.
///
/// # Errors
/// When the store fails.
pub async fn prune(
    store: &dyn Store,
    process: &str,
    written: u64,
    now: i64,
) -> Result<usize, Error> {
    let end = order(Timestamp { seconds: now - KEPT, nanos: 0 });
    let mut after = format!("{}{end}", layout::AUDIT).into_bytes();
    let mut dropped = 0;
    loop {
        let entries = store.range(layout::AUDIT.as_bytes(), Some(&after), 64).await?;
        let Some(last) = entries.last() else { return Ok(dropped) };
        after = last.key.to_vec();
        let ours = entries.into_iter().filter(|entry| {
            entry.version <= written
                && layout::decode_at::<AuditRecord>(&entry.key, &entry.value)
                    .is_ok_and(|record| *record.process == *process)
        });
        let (checks, writes): (Vec<_>, Vec<_>) = ours
            .map(|entry| {
                let check =
                    Precondition::Version { key: entry.key.clone(), version: entry.version };
                (check, Write::Delete { key: entry.key })
            })
            .unzip();
        if !writes.is_empty() {
            dropped += writes.len();
            let _ = store.commit(checks, writes).await;
        }
    }
}
