//! The embedded engine: sled 0.34.7, made durable.
//!
//! sled alone does not keep what it acknowledges: an insert is not on disk, a flush is not synced, large nodes are written
//! beside the log and never synced. So here one thread writes ([`writer`]), a group of waiting commits at a time, and
//! acknowledges only after sled's flush *and* a sync of its log; nothing that would become a large node is let in
//! ([`folder`]); and readers see only what is on disk ([`view`]).
//!
//! When the disk is full the group in flight is refused ([`StoreError::Full`]), sled is opened again from what is on disk
//! (some room is kept for that: the ballast), reads go on, and writes are taken again as soon as the ballast can be made
//! again. Any other error while writing leaves unknown what is on disk: the store then refuses writes until the process is
//! started again, and readers keep seeing the last published revision.

mod folder;
mod layout;
mod view;
mod writer;

#[cfg(test)]
mod tests;

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot, watch};

use crate::model::{check_commit, check_key, check_prefix};
use crate::{
    Change, CommitError, Entry, Precondition, Revision, Store, StoreError, StoreFuture, StoreId,
    Write,
};
use folder::Folder;
use view::Shared;
use writer::{Commit, Disk, Writer};

/// Commits that wait for the writer at most; the next wait for a place.
const WAITING_COMMITS: usize = 1024;
/// Entries of a snapshot read under one lock.
const SNAPSHOT_PIECE: usize = 512;

/// How the engine is run. All of it may change between two runs on one folder.
#[derive(Clone, Debug)]
pub struct SledOptions {
    /// Bytes of sled's page cache.
    pub cache_capacity: u64,
    /// Commits whose changes are kept, at most.
    pub change_log_commits: u64,
    /// Bytes of changes that are kept, at most; the last commit's are kept in any case.
    pub change_log_bytes: u64,
    /// Room kept on the disk so that the store can be opened when it is full: at least three segments of 8 MiB. 0 for none.
    pub ballast_bytes: u64,
}

impl Default for SledOptions {
    fn default() -> Self {
        Self {
            cache_capacity: 128 << 20,
            change_log_commits: 100_000,
            change_log_bytes: 256 << 20,
            ballast_bytes: 24 << 20,
        }
    }
}

/// A store in one folder of this machine, which no other process can open meanwhile.
///
/// Dropping it waits for the commits that were already sent to the writer.
pub struct SledStore {
    id: StoreId,
    shared: Arc<Shared>,
    commits: Option<mpsc::Sender<Commit>>,
    writer: Option<JoinHandle<()>>,
    // Last: it is unlocked when sled is closed.
    _folder: Arc<Folder>,
}

impl SledStore {
    /// Opens the store in the folder `path`, or creates it. Blocks while sled reads its log.
    ///
    /// [`StoreError::Locked`], [`StoreError::BlobsNotEmpty`], [`StoreError::Corrupt`] and [`StoreError::Unavailable`] (the
    /// folder cannot be used) are what can be wrong.
    pub fn open(path: impl AsRef<Path>, options: SledOptions) -> Result<Self, StoreError> {
        Self::start(path.as_ref(), options, Disk::new)
    }

    fn start(
        path: &Path,
        options: SledOptions,
        disk: impl FnOnce(std::fs::File) -> Disk,
    ) -> Result<Self, StoreError> {
        let folder = Arc::new(Folder::lock(path)?);
        let db = folder.open_sled(&options)?;
        let disk = disk(folder.open_log()?);
        let id = writer::identify(&db, &disk)?;
        let state = writer::settle(&db, &disk, &folder)?;
        let shared = Arc::new(Shared::new(db.clone(), state));
        let (commits, receiver) = mpsc::channel(WAITING_COMMITS);
        let writer =
            Writer::new(shared.clone(), folder.clone(), disk, options, db, state, id.clone());
        let writer = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || writer.run(receiver))
            .map_err(|error| {
                StoreError::Unavailable(format!("cannot start the writer: {error}"))
            })?;
        Ok(Self { id, shared, commits: Some(commits), writer: Some(writer), _folder: folder })
    }

    async fn send(
        &self,
        preconditions: Vec<Precondition>,
        writes: Vec<Write>,
    ) -> Result<Revision, CommitError> {
        let size = check_commit(&preconditions, &writes)?;
        let (reply, outcome) = oneshot::channel();
        let commit = Commit { preconditions, writes, size, reply };
        let stopped =
            || CommitError::Store(StoreError::Unavailable("the writer has stopped".into()));
        let commits = self.commits.as_ref().ok_or_else(stopped)?;
        commits.send(commit).await.map_err(|_| stopped())?;
        let number = outcome.await.map_err(|_| stopped())??;
        Ok(Revision { store_id: self.id.clone(), number })
    }

    async fn read_snapshot(&self, prefixes: &[&[u8]]) -> Result<(u64, Vec<Entry>), StoreError> {
        for prefix in prefixes {
            check_prefix(prefix)?;
        }
        let mut snapshot = self.shared.begin_snapshot(prefixes);
        let mut entries = Vec::new();
        loop {
            let piece = snapshot.piece(SNAPSHOT_PIECE)?;
            if piece.is_empty() {
                return Ok((snapshot.number, entries));
            }
            entries.extend(piece);
            tokio::task::yield_now().await;
        }
    }
}

impl Drop for SledStore {
    fn drop(&mut self) {
        self.commits = None;
        let ended = self.writer.take().map(JoinHandle::join);
        let db = self.shared.replace_sled(None);
        if let Some(Err(_)) = ended {
            // The writer panicked, perhaps within a batch. Closing sled would write what is half-done: leave it.
            std::mem::forget(db);
        }
    }
}

// Reads are short and may run where they are polled: nothing is held across an await.
impl Store for SledStore {
    fn id(&self) -> &StoreId {
        &self.id
    }

    fn get<'a>(&'a self, key: &'a [u8]) -> StoreFuture<'a, Option<Entry>> {
        Box::pin(async move {
            check_key(key)?;
            self.shared.get(key)
        })
    }

    fn range<'a>(
        &'a self,
        prefix: &'a [u8],
        after: Option<&'a [u8]>,
        limit: usize,
    ) -> StoreFuture<'a, Vec<Entry>> {
        Box::pin(async move {
            check_prefix(prefix)?;
            self.shared.range(prefix, after, limit)
        })
    }

    fn snapshot<'a>(&'a self, prefixes: &'a [&'a [u8]]) -> StoreFuture<'a, (u64, Vec<Entry>)> {
        Box::pin(self.read_snapshot(prefixes))
    }

    fn commit(
        &self,
        preconditions: Vec<Precondition>,
        writes: Vec<Write>,
    ) -> StoreFuture<'_, Revision, CommitError> {
        Box::pin(self.send(preconditions, writes))
    }

    fn head(&self) -> StoreFuture<'_, u64> {
        Box::pin(async { Ok(self.shared.head()) })
    }

    fn changes_since(&self, after: u64, limit: usize) -> StoreFuture<'_, Vec<Change>> {
        Box::pin(async move { self.shared.changes_since(after, limit) })
    }

    fn watch_head(&self) -> watch::Receiver<u64> {
        self.shared.watch_head()
    }
}

fn is_full(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge)
}

fn store_error(error: &::sled::Error) -> StoreError {
    match error {
        ::sled::Error::Corruption { .. } => StoreError::Corrupt(error.to_string()),
        ::sled::Error::Io(_)
        | ::sled::Error::Unsupported(_)
        | ::sled::Error::ReportableBug(_)
        | ::sled::Error::CollectionNotFound(_) => StoreError::Unavailable(error.to_string()),
    }
}
