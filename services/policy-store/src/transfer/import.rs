//! A checked file into an empty store, which is no store until all of it was read back.
//!
//! The first commit finds nothing at all in the store and puts the mark; every other one needs the mark as it was put. So two imports
//! never mix, one that was cut off is known by its mark, and going on is safe: what is there already is left as it is.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use countersign_store::{CommitError, MAX_WRITES, Precondition, Store, StoreError, Write};
use tokio::task::JoinSet;

use super::{
    Checked, Contents, Phase, Progress, TransferError,
    export::refuse_moved,
    file::{Chunk, KeyValue, Reader, Tally},
    mark::{self, Mark},
};
use crate::layout;

/// Commits on their way at once: enough that one sync of the disk serves many.
const IN_FLIGHT: usize = 32;
/// Keys and values of one commit; with the largest entry more it is still under every engine's limit.
const COMMIT_BYTES: usize = 256 << 10;
/// Entries read back at a time.
const PAGE: usize = 512;

/// Where an import begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// In an empty store.
    Fresh,
    /// In a store where an import of the same file was cut off.
    Resume,
}

/// Writes everything that the file holds into `store`, reads it back, and only then takes the mark away.
///
/// # Errors
/// See [`TransferError`]. Once it has begun to write, the store is either whole or refused by every policy store.
pub async fn import(
    store: &Arc<dyn Store>,
    checked: &Checked,
    start: Start,
    progress: Progress<'_>,
) -> Result<Contents, TransferError> {
    let mark = begin(store.as_ref(), checked, start).await?;
    let still_ours = Precondition::Version { key: bytes_of(mark::key().as_bytes()), version: mark };
    write_all(store, checked, start, &still_ours, progress).await?;

    let head = store.head().await?;
    let written = read_back(store.as_ref(), checked.contents().entries, progress).await?;
    if written != *checked.contents() {
        return Err(TransferError::NotAsWritten {
            written: Box::new(written),
            expected: Box::new(checked.contents().clone()),
        });
    }
    refuse_moved(store.as_ref(), head).await?;
    let done = Write::Delete { key: bytes_of(mark::key().as_bytes()) };
    store.commit(vec![still_ours], vec![done]).await?;
    Ok(written)
}

/// The version of the mark.
async fn begin(store: &dyn Store, checked: &Checked, start: Start) -> Result<u64, TransferError> {
    let digest = checked.contents().sha256.clone();
    match (mark::find(store).await?, start) {
        (Some((found, entry)), Start::Resume) if found.digest == digest => Ok(entry.version),
        (Some((found, _)), Start::Fresh | Start::Resume) => {
            Err(TransferError::HalfDone { digest: found.digest })
        }
        (None, Start::Resume) => Err(TransferError::NothingToResume),
        (None, Start::Fresh) => {
            let empty = Precondition::PrefixEmpty { prefix: Bytes::new() };
            let put = Write::Put {
                key: bytes_of(mark::key().as_bytes()),
                value: layout::encode(&Mark { digest }).into(),
            };
            match store.commit(vec![empty], vec![put]).await {
                Ok(revision) => Ok(revision.number),
                Err(CommitError::Conflict { .. }) => Err(TransferError::NotEmpty),
                Err(CommitError::Store(error)) => Err(error.into()),
            }
        }
    }
}

async fn write_all(
    store: &Arc<dyn Store>,
    checked: &Checked,
    start: Start,
    still_ours: &Precondition,
    progress: Progress<'_>,
) -> Result<(), TransferError> {
    let mut commits = Commits { store, still_ours, running: JoinSet::new() };
    let outcome = send_all(&mut commits, checked, start, progress).await;
    // After a failure, whoever called may open the store again: nothing of ours is on its way any more.
    commits.running.shutdown().await;
    outcome
}

async fn send_all(
    commits: &mut Commits<'_>,
    checked: &Checked,
    start: Start,
    progress: Progress<'_>,
) -> Result<(), TransferError> {
    let total = checked.contents().entries;
    let mut reader = Reader::open(checked.path())?;
    let (mut seen, mut after) = (0, None);
    while let Chunk::Entries(mut entries) = reader.next()? {
        seen += entries.len() as u64;
        let last = entries.last().map(|(key, _)| key.clone());
        if start == Start::Resume {
            entries = missing(commits.store.as_ref(), after.as_deref(), entries).await?;
        }
        after = last.or(after);
        commits.put(entries).await?;
        progress(Phase::Importing, seen, Some(total));
    }
    commits.finish().await
}

/// What of `entries`, which come after the key `after` in the file, is not in the store as it is in the file.
async fn missing(
    store: &dyn Store,
    after: Option<&[u8]>,
    entries: Vec<KeyValue>,
) -> Result<Vec<KeyValue>, TransferError> {
    let there = store.range(b"", after, entries.len() + 1).await?;
    let there: HashMap<Bytes, Bytes> =
        there.into_iter().map(|entry| (entry.key, entry.value)).collect();
    Ok(entries.into_iter().filter(|(key, value)| there.get(key) != Some(value)).collect())
}

/// Commits on their way.
struct Commits<'a> {
    store: &'a Arc<dyn Store>,
    still_ours: &'a Precondition,
    running: JoinSet<Result<(), CommitError>>,
}

impl Commits<'_> {
    async fn put(&mut self, entries: Vec<KeyValue>) -> Result<(), TransferError> {
        let (mut writes, mut bytes) = (Vec::new(), 0);
        for (key, value) in entries {
            bytes += key.len() + value.len();
            writes.push(Write::Put { key, value });
            if writes.len() == MAX_WRITES || bytes >= COMMIT_BYTES {
                self.send(std::mem::take(&mut writes)).await?;
                bytes = 0;
            }
        }
        if writes.is_empty() { Ok(()) } else { self.send(writes).await }
    }

    async fn send(&mut self, writes: Vec<Write>) -> Result<(), TransferError> {
        while self.running.len() >= IN_FLIGHT {
            self.wait_for_one().await?;
        }
        let (store, still_ours) = (self.store.clone(), self.still_ours.clone());
        self.running
            .spawn(async move { store.commit(vec![still_ours], writes).await.map(|_revision| ()) });
        Ok(())
    }

    async fn wait_for_one(&mut self) -> Result<(), TransferError> {
        match self.running.join_next().await {
            Some(Ok(done)) => Ok(done?),
            Some(Err(error)) => Err(TransferError::CutOff(error.to_string())),
            None => Ok(()),
        }
    }

    async fn finish(&mut self) -> Result<(), TransferError> {
        while !self.running.is_empty() {
            self.wait_for_one().await?;
        }
        Ok(())
    }
}

/// What is in the store, the mark apart.
async fn read_back(
    store: &dyn Store,
    total: u64,
    progress: Progress<'_>,
) -> Result<Contents, StoreError> {
    let mut tally = Tally::default();
    let mut after = None;
    loop {
        let page = store.range(b"", after.as_deref(), PAGE).await?;
        for entry in page.iter().filter(|entry| !mark::is(&entry.key)) {
            tally.add(&entry.key, &entry.value);
        }
        progress(Phase::Verifying, tally.entries(), Some(total));
        match page.last() {
            Some(last) if page.len() == PAGE => after = Some(last.key.clone()),
            Some(_) | None => return Ok(tally.finish()),
        }
    }
}

fn bytes_of(key: &[u8]) -> Bytes {
    Bytes::copy_from_slice(key)
}
