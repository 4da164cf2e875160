//! The embedded engine: sled 0.34.7 keeps the state, a log of our own makes each commit durable, memory answers.
//!
//! **Three copies, each for one thing.** Every entry is in memory ([`view`]), in a map that shares structure, so that a read
//! touches no disk and a snapshot is one step. The last complete state, as it stood at some commit, is in sled, in a folder
//! that is written once and then only read: the *base* ([`base`]). What was committed since is in the write-ahead log
//! ([`wal`]). A start reads the base, then the log's commits after it.
//!
//! **Why not sled alone.** An insert is not on disk; a flush is `sync_file_range`, which promises nothing when the power
//! goes; made durable with a sync of our own it reached 0.27 of the rate of a plain overwrite. And it rewrites its file in
//! place, in an order that nobody outside can rely on: between two syncs it may write anew over what the last sync rested
//! on. So sled is asked only for what it is sure to do: write a file from one end to the other, and read it back.
//!
//! **A commit** goes to the one writer ([`writer`]), which takes what waits as a group, checks the preconditions against the
//! view, appends the group to the log as one checksummed frame, syncs, applies it to the view, wakes the followers, and
//! only then acknowledges. Readers see nothing before it is on disk. A group is a frame, and a frame is there or not: no
//! commit is ever half there.
//!
//! **A merge** ([`merge`]) writes the view as it stands into a new base beside the old one, on its own thread, syncs it,
//! opens it again and compares it with the view entry by entry. Only then does the writer name it in the root ([`folder`]),
//! by one rename; then the old base and the log before it go. Writers never wait for it, but for that rename. Begun when
//! the log since the base is at least [`SledOptions::merge_bytes`] and half the base: so on the disk are at most the
//! base, the log and, during a merge, the next base.
//!
//! **A start after any crash** finds the root of before or of after, and each with its base whole. Other bases are leftovers,
//! and removed. The log's commits have numbers without gaps, so those up to the base's are skipped and those after it
//! applied, each once. A torn last frame was never acknowledged and is dropped; damage anywhere else, in the log ([`recover`])
//! or in the base (its digest is in the root), is [`StoreError::Corrupt`] and says where.
//!
//! **The changes that followers ask for** are the log itself ([`log`]): its segments stay for as long as
//! [`SledOptions::change_log_commits`] and [`SledOptions::change_log_bytes`] allow, even when the base has their commits.
//!
//! **A full disk** shows when a segment of the log is made, before anything of a group is written: the group is refused
//! ([`StoreError::Full`]), reads go on, and writes are taken again as soon as a segment can be made. A merge that finds no
//! room gives back what it took and is tried again; while it holds that room, commits may be refused that fit otherwise.
//! After a failed sync what is on disk is unknown: the store then refuses writes until the process is started again.
//!
//! The price is memory, since all entries are in it, and a disk that for the time of a merge holds two bases.

mod base;
mod codec;
mod copy;
mod folder;
mod frame;
mod log;
mod merge;
mod recover;
mod view;
mod wal;
mod writer;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};

use crate::model::{check_commit, check_key, check_prefix};
use crate::{
    Change, CommitError, Entry, Precondition, Revision, Snapshot, Store, StoreError, StoreFuture,
    StoreId, Write,
};
use base::Seal;
use folder::{Folder, Root};
use log::Log;
use view::{Shared, View};
use wal::{Disk, Wal};
use writer::{Commit, Message, Writer};

/// Commits that wait for the writer at most; the next wait for a place.
const WAITING_COMMITS: usize = 1024;
/// Changes of the log that are read before they are applied, when a store is opened.
const CHANGES_AHEAD: usize = 1024;
/// Entries of a snapshot read at once, before others have their turn.
const SNAPSHOT_PIECE: usize = 512;

/// A copy that the store went on under is made again so often.
const COPY_ATTEMPTS: usize = 20;
const COPY_PAUSE: Duration = Duration::from_millis(100);

/// How the engine is run. All of it may change between two runs on one folder.
#[derive(Clone, Debug)]
pub struct SledOptions {
    /// Bytes of sled's page cache, which is used while a base is read or written, and not otherwise.
    pub cache_capacity: u64,
    /// Commits whose changes are kept, at most.
    pub change_log_commits: u64,
    /// Bytes on disk of the changes that are kept, at most; the last group's are kept in any case. A group of commits takes
    /// whole pages of 4 KiB.
    pub change_log_bytes: u64,
    /// Bytes of the log since the base from which a new base is made, if they are also half of the base.
    pub merge_bytes: u64,
    /// Room kept on the disk so that sled can open the base when it is full, from the first base on. 0 for none.
    pub ballast_bytes: u64,
}

impl Default for SledOptions {
    fn default() -> Self {
        Self {
            cache_capacity: 32 << 20,
            change_log_commits: 100_000,
            change_log_bytes: 128 << 20,
            merge_bytes: 64 << 20,
            ballast_bytes: 16 << 20,
        }
    }
}

/// A store in one folder of this machine, which no other process can open meanwhile.
///
/// Dropping it waits for the commits that were already sent to the writer.
pub struct SledStore {
    id: StoreId,
    shared: Arc<Shared>,
    log: Arc<Log>,
    messages: Option<mpsc::Sender<Message>>,
    writer: Option<JoinHandle<()>>,
    // Last: it is unlocked when the writer has ended.
    _folder: Arc<Folder>,
}

impl SledStore {
    /// Opens the store in the folder `path`, or creates it. Blocks while the base and the log are read.
    ///
    /// [`StoreError::Locked`], [`StoreError::BlobsNotEmpty`], [`StoreError::Corrupt`], [`StoreError::Full`] and
    /// [`StoreError::Unavailable`] (the folder cannot be used) are what can be wrong.
    pub fn open(path: impl AsRef<Path>, options: SledOptions) -> Result<Self, StoreError> {
        Self::start(path.as_ref(), options, Disk::default())
    }

    /// Whether there is a store in the folder `path`, which [`SledStore::open`] would otherwise make.
    pub fn is_in(path: impl AsRef<Path>) -> bool {
        folder::holds_store(path.as_ref())
    }

    /// A copy, in the folder `to`, of the store in the folder `from`, which another process may have open and be writing to. Whatever was
    /// acknowledged before the call is in it. It is a copy of the same store, to be read: served, it would be two stores with one id.
    ///
    /// `to` must not be there. Blocks for as long as it takes; errors as of [`SledStore::open`].
    pub fn copy(
        from: impl AsRef<Path>,
        to: impl AsRef<Path>,
        options: SledOptions,
    ) -> Result<Self, StoreError> {
        let (from, to) = (from.as_ref(), to.as_ref());
        if to.exists() {
            return Err(StoreError::Unavailable(format!("`{}` is there already", to.display())));
        }
        let mut attempt = 1;
        loop {
            let copied = copy::copy(from, to).and_then(|()| Self::open(to, options.clone()));
            match copied {
                // The store went on under the copy.
                Err(StoreError::Corrupt(_) | StoreError::Unavailable(_))
                    if attempt < COPY_ATTEMPTS =>
                {
                    attempt += 1;
                    std::thread::sleep(COPY_PAUSE);
                }
                Ok(store) => return Ok(store),
                Err(error) => {
                    let _ = folder::remove_folder(to);
                    return Err(error);
                }
            }
        }
    }

    fn start(path: &Path, options: SledOptions, disk: Disk) -> Result<Self, StoreError> {
        let folder = Arc::new(Folder::lock(path)?);
        let (root, view, wal) = match folder.root()? {
            Some(root) => recover(&folder, root, &options, disk)?,
            None => create(&folder, disk)?,
        };
        let (id, log) = (root.id.clone(), wal.log.clone());
        let shared = Arc::new(Shared::new(view));
        let (messages, receiver) = mpsc::channel(WAITING_COMMITS);
        let wake = messages.downgrade();
        let bounds = options.clone();
        let writer = Writer::new(shared.clone(), folder.clone(), wal, root, options, wake);
        log.trim(&bounds);
        let writer = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || writer.run(receiver))
            .map_err(|error| {
                StoreError::Unavailable(format!("cannot start the writer: {error}"))
            })?;
        Ok(Self {
            id,
            shared,
            log,
            messages: Some(messages),
            writer: Some(writer),
            _folder: folder,
        })
    }

    async fn send(
        &self,
        preconditions: Vec<Precondition>,
        writes: Vec<Write>,
    ) -> Result<Revision, CommitError> {
        let size = check_commit(&preconditions, &writes)?;
        let (reply, outcome) = oneshot::channel();
        let commit = Message::Commit(Commit { preconditions, writes, size, reply });
        let stopped =
            || CommitError::Store(StoreError::Unavailable("the writer has stopped".into()));
        let messages = self.messages.as_ref().ok_or_else(stopped)?;
        messages.send(commit).await.map_err(|_| stopped())?;
        let number = outcome.await.map_err(|_| stopped())??;
        Ok(Revision { store_id: self.id.clone(), number })
    }

    async fn read_snapshot(&self, prefixes: &[&[u8]]) -> Result<(u64, Vec<Entry>), StoreError> {
        for prefix in prefixes {
            check_prefix(prefix)?;
        }
        let view = self.shared.view();
        let mut entries = Vec::new();
        for prefix in apart(prefixes) {
            for (place, entry) in view.range(prefix, None).enumerate() {
                entries.push(entry);
                if place % SNAPSHOT_PIECE == SNAPSHOT_PIECE - 1 {
                    tokio::task::yield_now().await;
                }
            }
        }
        Ok((view.head, entries))
    }
}

/// The prefixes in order, without those that another one covers.
fn apart<'a>(prefixes: &[&'a [u8]]) -> Vec<&'a [u8]> {
    let mut prefixes = prefixes.to_vec();
    prefixes.sort_unstable();
    // Sorted, a prefix comes right before those that it covers.
    prefixes.dedup_by(|covered, covering| covered.starts_with(covering));
    prefixes
}

/// A store's first start. The root comes last: without one, the folder holds no store.
fn create(folder: &Folder, disk: Disk) -> Result<(Root, View, Wal), StoreError> {
    let root = Root { id: StoreId::fresh(), base: Seal::default() };
    let log = folder.make_log()?;
    let wal = Wal::create(&log, root.id.clone(), disk)
        .map_err(|error| folder::failed("write", &log, &error))?;
    folder.write_root(&root)?;
    Ok((root, View::default(), wal))
}

fn recover(
    folder: &Folder,
    root: Root,
    options: &SledOptions,
    disk: Disk,
) -> Result<(Root, View, Wal), StoreError> {
    folder.remove_other_bases(root.base.number);
    read_ahead(folder, &root);
    let mut view = View { head: root.base.number, ..View::default() };
    if root.base.number > 0 {
        let path = folder.base(root.base.number);
        let load = || base::load(&path, &root.id, &root.base, options);
        view.entries = match load() {
            // sled writes to a file that it opens.
            Err(StoreError::Full) if folder.drop_ballast() => load(),
            loaded => loaded,
        }?;
    }
    let base = root.base.number;
    // One thread reads and decodes, and another one applies.
    let (changes, read) = std::sync::mpsc::sync_channel(CHANGES_AHEAD);
    let (wal, view) = std::thread::scope(|scope| {
        let applying = scope.spawn(move || {
            for change in read {
                view.apply(change);
            }
            view
        });
        let wal = recover::open(&folder.log(), &root.id, base, disk, |change| {
            // Whoever applies goes only if it panics, which is said below.
            let _ = changes.send(change);
        });
        drop(changes);
        (wal, applying.join())
    });
    let view = view.map_err(|_| StoreError::Unavailable("applying the log failed".into()))?;
    Ok((root, view, wal?))
}

/// Reads the base and the log from one end to the other, in a thread of its own, so that the system has them at hand when they are asked
/// for piece by piece: sled waits for each piece by itself. What cannot be read is found out there.
fn read_ahead(folder: &Folder, root: &Root) {
    let mut paths = vec![folder.base(root.base.number).join("db")];
    let log = folder.log();
    let numbers = recover::segments(&log).unwrap_or_default();
    paths.extend(numbers.into_iter().map(|number| wal::segment_path(&log, number)));
    let read = move || {
        let mut piece = vec![0; 1 << 20];
        for path in paths {
            let Ok(mut file) = std::fs::File::open(path) else { continue };
            while std::io::Read::read(&mut file, &mut piece).is_ok_and(|read| read > 0) {}
        }
    };
    let _ = std::thread::Builder::new().name("store-read-ahead".into()).spawn(read);
}

impl Drop for SledStore {
    fn drop(&mut self) {
        self.messages = None;
        // If the writer panicked, what it had acknowledged is in the log.
        let _ = self.writer.take().map(JoinHandle::join);
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
            Ok(self.shared.get(key))
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
            Ok(self.shared.view().range(prefix, after).take(limit).collect())
        })
    }

    fn snapshot<'a>(&'a self, prefixes: &'a [&'a [u8]]) -> StoreFuture<'a, (u64, Vec<Entry>)> {
        Box::pin(self.read_snapshot(prefixes))
    }

    fn open_snapshot(&self, prefixes: Vec<Vec<u8>>) -> StoreFuture<'_, Box<dyn Snapshot>> {
        Box::pin(async move {
            for prefix in &prefixes {
                check_prefix(prefix)?;
            }
            let borrowed: Vec<&[u8]> = prefixes.iter().map(Vec::as_slice).collect();
            let left = apart(&borrowed).into_iter().map(<[u8]>::to_vec).collect();
            let snapshot: Box<dyn Snapshot> =
                Box::new(SledSnapshot { view: self.shared.view(), left, after: None });
            Ok(snapshot)
        })
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
        Box::pin(async move {
            let head = self.shared.head();
            if after > head {
                return Err(StoreError::Ahead { head });
            }
            self.log.changes_since(after, head, limit)
        })
    }

    fn watch_head(&self) -> watch::Receiver<u64> {
        self.shared.watch_head()
    }
}

/// A revision, and how far it has been read.
struct SledSnapshot {
    view: View,
    /// The prefixes that are not read to their end, in order.
    left: VecDeque<Vec<u8>>,
    /// The last key that was read of the first of them.
    after: Option<Bytes>,
}

impl Snapshot for SledSnapshot {
    fn number(&self) -> u64 {
        self.view.head
    }

    fn next(&mut self, limit: usize) -> StoreFuture<'_, Vec<Entry>> {
        Box::pin(async move {
            let mut entries = Vec::new();
            while let Some(prefix) = self.left.front() {
                let room = limit - entries.len();
                let before = entries.len();
                entries.extend(self.view.range(prefix, self.after.as_deref()).take(room));
                if entries.len() == limit {
                    self.after =
                        entries.last().filter(|_| entries.len() > before).map(|e| e.key.clone());
                    break;
                }
                self.left.pop_front();
                self.after = None;
            }
            Ok(entries)
        })
    }
}

fn is_full(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge)
}

fn store_error(error: &::sled::Error) -> StoreError {
    match error {
        ::sled::Error::Corruption { .. } => StoreError::Corrupt(error.to_string()),
        ::sled::Error::Io(cause) if is_full(cause.kind()) => StoreError::Full,
        ::sled::Error::Io(_)
        | ::sled::Error::Unsupported(_)
        | ::sled::Error::ReportableBug(_)
        | ::sled::Error::CollectionNotFound(_) => StoreError::Unavailable(error.to_string()),
    }
}
