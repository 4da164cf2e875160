//! The one thread that writes: a group of waiting commits at a time, each group one batch, one flush and one sync.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ::sled::{Batch, Db, IVec};
use tokio::sync::{mpsc, oneshot};

use super::folder::Folder;
use super::layout::{self, State, Stored};
use super::view::{self, Before, Shared};
use super::{SledOptions, is_full, store_error};
use crate::{CommitError, Precondition, StoreError, StoreId, Write};

const GROUP_COMMITS: usize = 256;
/// A group's keys and values in bytes, unless one commit alone has more: well under a segment, which sled could otherwise
/// free and write anew within one group, before the sync.
const GROUP_BYTES: usize = 1 << 20;
/// Old changes removed by one group, in cells.
const TRIM_CELLS: usize = 4096;
/// How often the store tries to heal from a full disk.
const HEAL_EVERY: Duration = Duration::from_millis(250);

/// A commit on its way to the writer.
pub(super) struct Commit {
    pub preconditions: Vec<Precondition>,
    pub writes: Vec<Write>,
    pub size: usize,
    pub reply: oneshot::Sender<Result<u64, CommitError>>,
}

/// The steps to disk, in their order.
#[cfg(test)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Apply,
    Sync,
}

/// sled's log file, by a handle of our own. sled's flush is a `sync_file_range`, which promises nothing when the power
/// goes; a `sync_data` of the same file does.
pub(super) struct Disk {
    log: File,
    #[cfg(test)]
    pub before: Box<dyn Fn(Step) -> io::Result<()> + Send>,
}

impl Disk {
    pub fn new(log: File) -> Self {
        Self {
            log,
            #[cfg(test)]
            before: Box::new(|_| Ok(())),
        }
    }

    fn apply(&self, db: &Db, batch: Batch) -> Result<(), ::sled::Error> {
        #[cfg(test)]
        (self.before)(Step::Apply)?;
        db.apply_batch(batch)?;
        db.flush().map(|_| ())
    }

    fn sync(&self) -> io::Result<()> {
        #[cfg(test)]
        (self.before)(Step::Sync)?;
        self.log.sync_data()
    }
}

/// Whether writes are taken.
enum Condition {
    Ready,
    /// The disk was full; when it was last tried to heal.
    Full(Instant),
    /// Until the process is started again.
    Failed(StoreError),
}

/// How writing a group can end, other than well.
enum Failure {
    Full,
    Unknown(StoreError),
}

pub(super) struct Writer {
    shared: Arc<Shared>,
    folder: Arc<Folder>,
    disk: Disk,
    options: SledOptions,
    /// `None` only while a full disk keeps it from being opened.
    db: Option<Db>,
    /// What is on disk.
    state: State,
    id: StoreId,
    condition: Condition,
}

/// What a group of commits comes to, before any of it is written.
struct Group {
    state: State,
    pending: Before,
    changes: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Writer {
    pub fn new(
        shared: Arc<Shared>,
        folder: Arc<Folder>,
        disk: Disk,
        options: SledOptions,
        db: Db,
        state: State,
        id: StoreId,
    ) -> Self {
        let condition = match folder.take_ballast(options.ballast_bytes) {
            Ok(()) => Condition::Ready,
            Err(error) => {
                tracing::warn!(%error, "no room on the disk: the store starts without taking writes");
                Condition::Full(Instant::now())
            }
        };
        Self { shared, folder, disk, options, db: Some(db), state, id, condition }
    }

    /// Runs until the store is dropped.
    pub fn run(mut self, mut commits: mpsc::Receiver<Commit>) {
        while let Some(group) = self.next_group(&mut commits) {
            match self.ready() {
                Ok(db) => self.write(db, group),
                Err(error) => refuse(group, &error),
            }
        }
        if let Condition::Failed(_) = self.condition {
            // sled may hold half a batch, which closing it would write: leave it open until the process ends.
            std::mem::forget(self.db.take());
            std::mem::forget(self.shared.replace_sled(None));
        }
    }

    /// Everything that waits, up to a group's bounds; waits for the first. `None` when the store was dropped.
    fn next_group(&mut self, commits: &mut mpsc::Receiver<Commit>) -> Option<Vec<Commit>> {
        while self.db.is_none() && !matches!(self.condition, Condition::Failed(_)) {
            // There is nothing to read from meanwhile, so this does not wait for a commit to try.
            match commits.try_recv() {
                Ok(commit) => refuse(vec![commit], &StoreError::Full),
                Err(mpsc::error::TryRecvError::Disconnected) => return None,
                Err(mpsc::error::TryRecvError::Empty) => {
                    std::thread::sleep(HEAL_EVERY);
                    if let Err(error) = self.reopen() {
                        tracing::warn!(%error, "the store cannot be opened again yet");
                    }
                }
            }
        }
        let first = commits.blocking_recv()?;
        let mut size = first.size;
        let mut group = vec![first];
        while group.len() < GROUP_COMMITS && size < GROUP_BYTES {
            let Ok(commit) = commits.try_recv() else { break };
            size += commit.size;
            group.push(commit);
        }
        Some(group)
    }

    /// sled, if writes are taken; heals from a full disk when it can.
    fn ready(&mut self) -> Result<Db, StoreError> {
        match &self.condition {
            Condition::Failed(error) => return Err(error.clone()),
            Condition::Full(tried) if tried.elapsed() < HEAL_EVERY => return Err(StoreError::Full),
            Condition::Full(_) => self.heal()?,
            Condition::Ready => {}
        }
        self.db.clone().ok_or(StoreError::Full)
    }

    fn heal(&mut self) -> Result<(), StoreError> {
        self.condition = Condition::Full(Instant::now());
        self.folder.take_ballast(self.options.ballast_bytes).map_err(|_| StoreError::Full)?;
        tracing::info!("there is room on the disk again: the store takes writes");
        self.condition = Condition::Ready;
        Ok(())
    }

    /// Writes a group, and tells each of its commits how it ended: all of them after the sync, conflicts too, since they
    /// may rest on the group's own writes.
    fn write(&mut self, db: Db, commits: Vec<Commit>) {
        let mut group = Group { state: self.state, pending: Before::new(), changes: Vec::new() };
        let mut outcomes = Vec::with_capacity(commits.len());
        for commit in commits {
            outcomes.push((group.take(&db, &commit.preconditions, commit.writes), commit.reply));
        }
        let written = self.write_group(db, group);
        for (outcome, reply) in outcomes {
            // Whoever asked may have gone; the commit stands.
            let _ = reply.send(written.clone().map_err(CommitError::from).and(outcome));
        }
    }

    fn write_group(&mut self, db: Db, mut group: Group) -> Result<(), StoreError> {
        if group.pending.is_empty() {
            return Ok(());
        }
        let mut before = Before::new();
        for key in group.pending.keys() {
            before.insert(key.clone(), view::stored_at(&db, key)?);
        }
        let expired = self.trim(&db, &mut group.state)?;
        let state = group.state;
        self.shared.hide(before, state.trimmed);
        let written = self.put_on_disk(&db, group.into_batch(expired));
        // Opening sled again needs every handle of the old one gone.
        drop(db);
        match written {
            Ok(()) => {
                self.state = state;
                self.shared.publish(state.head);
                Ok(())
            }
            Err(Failure::Full) => self.survive_full_disk(state.head),
            Err(Failure::Unknown(cause)) => {
                tracing::error!(%cause, "a write failed, and what is on disk is unknown: no more writes until a restart");
                self.condition = Condition::Failed(cause.clone());
                Err(cause)
            }
        }
    }

    fn put_on_disk(&self, db: &Db, batch: Batch) -> Result<(), Failure> {
        self.disk.apply(db, batch).map_err(|error| match &error {
            ::sled::Error::Io(cause) if is_full(cause.kind()) => Failure::Full,
            _ => Failure::Unknown(unknown(&error)),
        })?;
        // After a failed sync the system may count pages as written that are not, so that trying again proves nothing: a
        // full disk is no exception here.
        self.disk.sync().map_err(|error| Failure::Unknown(unknown(&error)))
    }

    /// Opens sled again from what is on disk, which also says whether the group ending at `head` is there: with its last
    /// page written the batch is whole, else sled drops it whole.
    fn survive_full_disk(&mut self, head: u64) -> Result<(), StoreError> {
        tracing::warn!("the disk is full: the store refuses writes until there is room");
        self.condition = Condition::Full(Instant::now());
        self.reopen().map_err(|error| {
            let message =
                format!("the disk is full, and what is on it cannot be read yet: {error}");
            StoreError::Unavailable(message)
        })?;
        if self.state.head == head { Ok(()) } else { Err(StoreError::Full) }
    }

    fn reopen(&mut self) -> Result<(), StoreError> {
        drop(self.shared.replace_sled(None));
        self.db = None;
        self.folder.drop_ballast();
        let db = self.folder.open_sled(&self.options)?;
        let found = identify(&db, &self.disk)?;
        let state = settle(&db, &self.disk, &self.folder)?;
        if found != self.id || state.head < self.state.head {
            let lost = StoreError::Corrupt(format!(
                "revision {} was lost when the disk was full",
                self.state.head
            ));
            self.condition = Condition::Failed(lost.clone());
            return Err(lost);
        }
        self.state = state;
        self.db = Some(db.clone());
        self.shared.replace_sled(Some(db));
        self.shared.publish(state.head);
        Ok(())
    }

    /// Counts out old changes beyond the bounds, whole commits at a time, and returns their cells.
    fn trim(&self, db: &Db, state: &mut State) -> Result<Vec<IVec>, StoreError> {
        let mut expired = Vec::new();
        let mut of = None;
        // Only what is already on disk is counted out, never the group's own.
        for cell in
            db.range(layout::log_key(state.trimmed, u16::MAX)..layout::log_key(self.state.head, 0))
        {
            let over = state.head - state.trimmed > self.options.change_log_commits
                || state.log_bytes > self.options.change_log_bytes;
            if !over && of.is_none() {
                break;
            }
            let (key, part) = cell.map_err(|error| store_error(&error))?;
            let number = layout::log_place(&key).map(|(number, _)| number);
            if number.is_none() {
                return Err(StoreError::Corrupt("a change has no number".into()));
            }
            if of != number && (!over || expired.len() >= TRIM_CELLS) {
                break;
            }
            of = number;
            state.trimmed = number.unwrap_or(state.trimmed);
            state.log_bytes = state.log_bytes.saturating_sub(part.len() as u64);
            expired.push(key);
        }
        Ok(expired)
    }
}

impl Group {
    /// Checks one commit against sled and the group's earlier writes, and takes its writes into the group if it holds.
    fn take(
        &mut self,
        db: &Db,
        preconditions: &[Precondition],
        writes: Vec<Write>,
    ) -> Result<u64, CommitError> {
        for (index, precondition) in preconditions.iter().enumerate() {
            if !self.holds(db, precondition)? {
                return Err(CommitError::Conflict { index });
            }
        }
        if writes.is_empty() {
            return Ok(self.state.head);
        }
        let version = self.state.head + 1;
        self.state.head = version;
        for (key, part) in layout::log_cells(version, &writes) {
            self.state.log_bytes += part.len() as u64;
            self.changes.push((key, part));
        }
        for write in writes {
            match write {
                Write::Put { key, value } => {
                    self.pending.insert(key, Some(Stored { version, value }))
                }
                Write::Delete { key } => self.pending.insert(key, None),
            };
        }
        Ok(version)
    }

    fn holds(&self, db: &Db, precondition: &Precondition) -> Result<bool, StoreError> {
        match precondition {
            Precondition::Version { key, version } => {
                let stored = match self.pending.get(key) {
                    Some(pending) => pending.as_ref().map(|stored| stored.version),
                    None => view::stored_at(db, key)?.map(|stored| stored.version),
                };
                Ok(stored.unwrap_or(0) == *version)
            }
            Precondition::PrefixEmpty { prefix } => {
                Ok(view::scan(db, &self.pending, prefix, None, 1)?.is_empty())
            }
        }
    }

    fn into_batch(self, expired: Vec<IVec>) -> Batch {
        let mut batch = Batch::default();
        for (key, stored) in self.pending {
            match stored {
                Some(stored) => batch.insert(layout::data_key(&key), stored.encode()),
                None => batch.remove(layout::data_key(&key)),
            }
        }
        for (key, part) in self.changes {
            batch.insert(key, part);
        }
        for key in expired {
            batch.remove(key);
        }
        batch.insert(layout::STATE_KEY, self.state.encode());
        batch
    }
}

fn refuse(group: Vec<Commit>, error: &StoreError) {
    for commit in group {
        let _ = commit.reply.send(Err(error.clone().into()));
    }
}

/// The store's id, made and put on disk when sled is empty.
pub(super) fn identify(db: &Db, disk: &Disk) -> Result<StoreId, StoreError> {
    let read = |key: &[u8]| db.get(key).map_err(|error| store_error(&error));
    let corrupt = |what: &str| Err(StoreError::Corrupt(what.into()));
    match (read(layout::FORMAT_KEY)?, read(layout::ID_KEY)?) {
        (Some(format), Some(id)) if format == layout::FORMAT => {
            match std::str::from_utf8(&id).map(str::parse) {
                Ok(Ok(id)) => Ok(id),
                _ => corrupt("the store's id cannot be read"),
            }
        }
        (Some(format), Some(_)) => corrupt(&format!(
            "format `{}` is not one this version knows",
            String::from_utf8_lossy(&format)
        )),
        (None, None) if db.is_empty() => {
            let id = StoreId::fresh();
            let mut batch = Batch::default();
            batch.insert(layout::FORMAT_KEY, layout::FORMAT);
            batch.insert(layout::ID_KEY, id.as_str());
            batch.insert(layout::STATE_KEY, State::default().encode());
            disk.apply(db, batch).map_err(|error| store_error(&error))?;
            Ok(id)
        }
        _ => corrupt("the folder holds something other than a store"),
    }
}

/// The state found in sled, with all of it on disk and the checks that are cheap.
pub(super) fn settle(db: &Db, disk: &Disk, folder: &Folder) -> Result<State, StoreError> {
    let Some(cell) = db.get(layout::STATE_KEY).map_err(|error| store_error(&error))? else {
        return Err(StoreError::Corrupt("the counters are missing".into()));
    };
    let state = State::decode(&cell)?;
    let last = db.range(..layout::log_key(u64::MAX, u16::MAX)).next_back().transpose();
    let last =
        last.map_err(|error| store_error(&error))?.and_then(|(key, _)| layout::log_place(&key));
    if last.map_or(0, |(number, _)| number) != state.head {
        return Err(StoreError::Corrupt(format!(
            "the last change kept is not that of the head, {}",
            state.head
        )));
    }
    folder.refuse_blobs()?;
    disk.sync().map_err(|error| StoreError::Unavailable(error.to_string()))?;
    folder.sync()?;
    Ok(state)
}

fn unknown(cause: &dyn std::error::Error) -> StoreError {
    StoreError::Unavailable(format!(
        "a write failed, and may or may not be on disk ({cause}); restart the process"
    ))
}
