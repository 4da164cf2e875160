//! The one thread that writes: a group of waiting commits at a time, each group one frame and one sync.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::folder::{self, Folder, Root};
use super::merge::Merge;
use super::view::{Shared, View};
use super::wal::{AppendError, Wal};
use super::{SledOptions, is_full};
use crate::{Change, CommitError, Precondition, StoreError, Write};

const GROUP_COMMITS: usize = 256;
/// A group's keys and values in bytes, beyond which no other commit joins it: with the last, at most 2 MiB.
const GROUP_BYTES: usize = 1 << 20;
/// How often a full disk is tried again, and a base that could not be made.
const HEAL_EVERY: Duration = Duration::from_millis(250);
const MERGE_AGAIN_AFTER: Duration = Duration::from_secs(2);

/// What the writer is told.
pub(super) enum Message {
    Commit(Commit),
    /// The merge at this revision has ended.
    Merged(u64),
}

/// A commit on its way to the writer.
pub(super) struct Commit {
    pub preconditions: Vec<Precondition>,
    pub writes: Vec<Write>,
    pub size: usize,
    pub reply: oneshot::Sender<Result<u64, CommitError>>,
}

/// Whether writes are taken.
enum Condition {
    Ready,
    /// The disk was full; when it was last tried.
    Full(Instant),
    /// Until the process is started again.
    Failed(StoreError),
}

pub(super) struct Writer {
    pub shared: Arc<Shared>,
    pub folder: Arc<Folder>,
    pub wal: Wal,
    pub root: Root,
    pub options: SledOptions,
    /// To wake the writer when a merge has ended.
    pub wake: mpsc::WeakSender<Message>,
    condition: Condition,
    merge: Option<Merge>,
    merge_not_before: Option<Instant>,
    /// Bytes of the log since the base, those that the merge under way takes in not counted.
    log_bytes: u64,
    merging_bytes: u64,
}

impl Writer {
    pub fn new(
        shared: Arc<Shared>,
        folder: Arc<Folder>,
        wal: Wal,
        root: Root,
        options: SledOptions,
        wake: mpsc::WeakSender<Message>,
    ) -> Self {
        let log_bytes = wal.log.bytes_since(root.base.number);
        Self {
            shared,
            folder,
            wal,
            root,
            options,
            wake,
            condition: Condition::Ready,
            merge: None,
            merge_not_before: None,
            log_bytes,
            merging_bytes: 0,
        }
    }

    /// Runs until the store is dropped.
    pub fn run(mut self, mut messages: mpsc::Receiver<Message>) {
        self.retire();
        while let Some((group, merged)) = next_group(&mut messages) {
            if !group.is_empty() {
                match self.ready() {
                    Ok(()) => self.write(group),
                    Err(error) => refuse(group, &error),
                }
            }
            self.end_merge(merged);
            self.begin_merge();
        }
        if let Some(merge) = self.merge.take() {
            merge.stop();
        }
    }

    fn ready(&self) -> Result<(), StoreError> {
        match &self.condition {
            Condition::Failed(error) => Err(error.clone()),
            Condition::Full(tried) if tried.elapsed() < HEAL_EVERY => Err(StoreError::Full),
            Condition::Full(_) | Condition::Ready => Ok(()),
        }
    }

    /// Writes a group, and tells each of its commits how it ended: all of them after the sync, conflicts too, since they
    /// may rest on the group's own writes.
    fn write(&mut self, commits: Vec<Commit>) {
        let mut outcomes = Vec::with_capacity(commits.len());
        let group = {
            let view = self.shared.read();
            let mut group = Group {
                view: &view,
                head: view.head,
                pending: BTreeMap::new(),
                writes: Vec::new(),
            };
            for commit in commits {
                outcomes.push((group.take(&commit.preconditions, commit.writes), commit.reply));
            }
            group.writes
        };
        let written = if group.is_empty() { Ok(()) } else { self.write_group(group) };
        for (outcome, reply) in outcomes {
            // Whoever asked may have gone; the commit stands.
            let _ = reply.send(written.clone().map_err(CommitError::from).and(outcome));
        }
    }

    fn write_group(&mut self, group: Vec<Vec<Write>>) -> Result<(), StoreError> {
        let first = self.wal.last + 1;
        match self.wal.append(&group) {
            Ok(bytes) => self.log_bytes += bytes,
            Err(AppendError::Nothing(error)) if is_full(error.kind()) => {
                tracing::warn!("the disk is full: the store refuses writes until there is room");
                self.condition = Condition::Full(Instant::now());
                return Err(StoreError::Full);
            }
            Err(AppendError::Nothing(error)) => {
                tracing::error!(%error, "a write failed, and nothing of it is on disk");
                return Err(StoreError::Unavailable(format!("nothing was written: {error}")));
            }
            Err(AppendError::Unknown(error)) => {
                tracing::error!(%error, "a write failed, and what is on disk is unknown: no more writes until a restart");
                let unknown = StoreError::Unavailable(format!(
                    "a write failed, and may or may not be on disk ({error}); restart the process"
                ));
                self.condition = Condition::Failed(unknown.clone());
                return Err(unknown);
            }
        }
        if let Condition::Full(_) = std::mem::replace(&mut self.condition, Condition::Ready) {
            tracing::info!("there is room on the disk again: the store takes writes");
        }
        self.shared.publish(
            group
                .into_iter()
                .zip(first..)
                .map(|(writes, number)| Change { number, writes })
                .collect(),
        );
        self.retire();
        Ok(())
    }

    /// Lets go of changes beyond the bounds, and of segments that neither followers nor the next start need.
    fn retire(&mut self) {
        let trimmed = self.wal.log.trim(&self.options);
        self.wal.retire(trimmed.min(self.root.base.number));
    }

    /// Takes the base that a merge made, if it has ended: it said so, or is found so.
    fn end_merge(&mut self, merged: Option<u64>) {
        let ended = |merge: &mut Merge| merged == Some(merge.number) || merge.is_finished();
        let Some(merge) = self.merge.take_if(ended) else { return };
        if let Err(error) = merge.finish().and_then(|seal| self.adopt(seal)) {
            tracing::warn!(%error, "a new base could not be made; it is tried again");
            self.merge_not_before = Some(Instant::now() + MERGE_AGAIN_AFTER);
            self.log_bytes += self.merging_bytes;
        }
    }

    /// Begins to make a new base when the log since the last is large against it.
    fn begin_merge(&mut self) {
        let due = self.log_bytes >= self.options.merge_bytes.max(self.root.base.bytes / 2);
        let may = self.merge_not_before.is_none_or(|at| Instant::now() >= at);
        if !due || !may || self.merge.is_some() || matches!(self.condition, Condition::Failed(_)) {
            return;
        }
        let view = self.shared.view();
        let (wake, number) = (self.wake.clone(), view.head);
        let done = move || {
            // When there is no place, there are messages, and they wake the writer too.
            let _ = wake.upgrade().map(|sender| sender.try_send(Message::Merged(number)));
        };
        match Merge::begin(&self.folder, &self.root.id, view, &self.options, done) {
            Ok(merge) => {
                self.merge = Some(merge);
                self.merging_bytes = std::mem::take(&mut self.log_bytes);
            }
            Err(error) => {
                tracing::warn!(%error, "a new base could not be begun; it is tried again");
                self.merge_not_before = Some(Instant::now() + MERGE_AGAIN_AFTER);
            }
        }
    }

    /// Names a base in the root, from which moment on the old one and the log before it are not needed.
    fn adopt(&mut self, base: super::base::Seal) -> Result<(), StoreError> {
        let root = Root { id: self.root.id.clone(), base };
        self.folder.write_root(&root)?;
        let old = std::mem::replace(&mut self.root, root).base;
        self.merge_not_before = None;
        if old.number > 0
            && let Err(error) = folder::remove_folder(&self.folder.base(old.number))
        {
            tracing::warn!(%error, "an old base stays behind until the next start");
        }
        self.retire();
        Ok(())
    }
}

/// Everything that waits, up to a group's bounds, and which merge has ended; waits for the first message. `None` when the
/// store was dropped.
fn next_group(messages: &mut mpsc::Receiver<Message>) -> Option<(Vec<Commit>, Option<u64>)> {
    let (mut group, mut merged) = (Vec::new(), None);
    let mut size = 0;
    let mut message = Some(messages.blocking_recv()?);
    while let Some(next) = message {
        match next {
            Message::Commit(commit) => {
                size += commit.size;
                group.push(commit);
            }
            Message::Merged(number) => merged = Some(number),
        }
        let more = group.len() < GROUP_COMMITS && size < GROUP_BYTES;
        message = if more { messages.try_recv().ok() } else { None };
    }
    Some((group, merged))
}

/// What a group of commits comes to, before any of it is written.
struct Group<'a> {
    view: &'a View,
    head: u64,
    /// The version of each key that the group has written so far; `None` when it deleted it.
    pending: BTreeMap<Bytes, Option<u64>>,
    writes: Vec<Vec<Write>>,
}

impl Group<'_> {
    /// Checks one commit against the view and the group's earlier writes, and takes it into the group if it holds.
    fn take(
        &mut self,
        preconditions: &[Precondition],
        writes: Vec<Write>,
    ) -> Result<u64, CommitError> {
        if let Some(index) = preconditions.iter().position(|precondition| !self.holds(precondition))
        {
            return Err(CommitError::Conflict { index });
        }
        if writes.is_empty() {
            return Ok(self.head);
        }
        self.head += 1;
        for write in &writes {
            let (key, version) = match write {
                Write::Put { key, .. } => (key, Some(self.head)),
                Write::Delete { key } => (key, None),
            };
            self.pending.insert(key.clone(), version);
        }
        self.writes.push(writes);
        Ok(self.head)
    }

    fn holds(&self, precondition: &Precondition) -> bool {
        match precondition {
            Precondition::Version { key, version } => {
                let found = match self.pending.get(key) {
                    Some(pending) => *pending,
                    None => self.view.entries.get(key).map(|held| held.version),
                };
                found.unwrap_or(0) == *version
            }
            Precondition::PrefixEmpty { prefix } => {
                let written = self
                    .pending
                    .range(prefix.clone()..)
                    .take_while(|(key, _)| key.starts_with(prefix));
                let of_view = |key: &Bytes| !self.pending.contains_key(key);
                !written.into_iter().any(|(_, version)| version.is_some())
                    && !self.view.range(prefix, None).any(|entry| of_view(&entry.key))
            }
        }
    }
}

fn refuse(group: Vec<Commit>, error: &StoreError) {
    for commit in group {
        let _ = commit.reply.send(Err(error.clone().into()));
    }
}
