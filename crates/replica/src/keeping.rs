//! What is kept on disk stays near to what is held: who does it when, never in the way of the follower.
//!
//! The follower hands over what arrives and goes on; a thread of its own writes. A disk that is too slow, or full, costs the kept
//! snapshot its newness, never the replica.

use std::{
    mem,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use countersign_proto::policy::v1::{Record, WatchChange};

use crate::{
    Revision,
    kept::{self, Changes, Damaged, Fresh, Stamp},
};

/// How often the file is made newer, unless told otherwise.
pub const KEEP_EVERY: Duration = Duration::from_secs(60);
/// Without changes it is made anew more seldom: only to say that the store was heard since.
const UNCHANGED: u32 = 10;
/// Jobs that wait for the thread. A snapshot's chunks have at most 16 MiB each.
const WAITING: usize = 16;
/// Changes that wait for the next file; beyond, the next snapshot of the store's is awaited.
const MAX_PENDING: usize = 200_000;

enum Job {
    Begin,
    Records(Revision, Vec<Record>),
    Finish(Revision),
    Renew(Changes, Revision),
}

/// What the thread tells.
#[derive(Default)]
struct Told {
    /// What is on disk.
    stamp: Mutex<Option<Stamp>>,
    /// A job failed: what is on disk is not followed any more.
    failed: AtomicBool,
    /// A newer file is being made.
    busy: AtomicBool,
}

/// What is on disk now, for whoever asks. Cheap to clone.
#[derive(Clone, Default)]
pub struct OnDisk(Arc<Told>);

impl OnDisk {
    /// Of when the file is; none before there is one.
    #[must_use]
    pub fn stamp(&self) -> Option<Stamp> {
        self.0.stamp.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn is(&self, stamp: Stamp) {
        *self.0.stamp.lock().unwrap_or_else(PoisonError::into_inner) = Some(stamp);
    }
}

/// The follower's end.
pub struct Keeper {
    folder: PathBuf,
    every: Duration,
    jobs: SyncSender<Job>,
    on_disk: OnDisk,
    /// Whether the file and `pending` together are what is held.
    follows: bool,
    pending: Changes,
    renewed: Instant,
}

impl Keeper {
    /// Keeps in `folder`, made newer `every` so often. The thread ends with the keeper.
    pub fn new(folder: &Path, every: Duration) -> Self {
        let (jobs, todo) = sync_channel(WAITING);
        let on_disk = OnDisk::default();
        let (told, own) = (on_disk.clone(), folder.to_owned());
        let spawned = thread::Builder::new().name("kept-snapshot".to_owned());
        if let Err(error) = spawned.spawn(move || work(&own, &todo, &told)) {
            tracing::error!(%error, "no snapshot will be kept: there is no thread for it");
        }
        let folder = folder.to_owned();
        let (pending, renewed) = (Changes::new(), Instant::now());
        Self { folder, every, jobs, on_disk, follows: false, pending, renewed }
    }

    /// Where it keeps.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What is on disk.
    pub fn on_disk(&self) -> OnDisk {
        self.on_disk.clone()
    }

    /// What was on disk was read, and is held.
    pub fn was_read(&mut self, stamp: Stamp) {
        self.on_disk.is(stamp);
        self.follows = true;
    }

    /// A part of a snapshot of the store's.
    pub fn chunk(&mut self, revision: &Revision, records: Vec<Record>, first: bool, last: bool) {
        if first {
            self.pending.clear();
            self.on_disk.0.failed.store(false, Ordering::Release);
            self.follows = true;
            self.hand(Job::Begin);
        }
        self.hand(Job::Records(revision.clone(), records));
        if last {
            self.hand(Job::Finish(revision.clone()));
            self.renewed = Instant::now();
        }
    }

    /// A change.
    pub fn change(&mut self, change: &WatchChange) {
        if !self.follows {
            return;
        }
        for key in &change.deleted {
            self.pending.insert(key.clone(), None);
        }
        for record in &change.put {
            self.pending.insert(record.key.clone(), Some(record.clone()));
        }
        if self.pending.len() > MAX_PENDING {
            self.give_up("there were too many changes");
        }
    }

    /// Called after everything that was applied: begins a newer file when it is time.
    pub fn applied(&mut self, revision: &Revision) {
        if self.on_disk.0.failed.swap(false, Ordering::AcqRel) {
            self.give_up("writing failed");
        }
        let every = if self.pending.is_empty() { self.every * UNCHANGED } else { self.every };
        if !self.follows || self.renewed.elapsed() < every {
            return;
        }
        if self.on_disk.0.busy.swap(true, Ordering::AcqRel) {
            return;
        }
        self.renewed = Instant::now();
        let pending = mem::take(&mut self.pending);
        self.hand(Job::Renew(pending, revision.clone()));
    }

    /// Whether a whole snapshot is needed to keep on.
    pub fn wants_snapshot(&self) -> bool {
        !self.follows
    }

    fn hand(&mut self, job: Job) {
        // Not followed any more: what is left of a snapshot in part is never finished.
        if self.follows && self.jobs.try_send(job).is_err() {
            self.on_disk.0.busy.store(false, Ordering::Release);
            self.give_up("the disk is too slow");
        }
    }

    fn give_up(&mut self, because: &str) {
        if self.follows {
            tracing::error!(
                folder = %self.folder.display(), because,
                "the kept snapshot grows old until the store sends a whole one again"
            );
        }
        self.follows = false;
        self.pending.clear();
    }
}

fn work(folder: &Path, jobs: &Receiver<Job>, told: &OnDisk) {
    let mut fresh = None;
    for job in jobs {
        let renews = matches!(job, Job::Renew(..));
        match act(folder, job, &mut fresh) {
            Ok(Some(stamp)) => told.is(stamp),
            Ok(None) => {}
            Err(error) => {
                fresh = None;
                tracing::error!(%error, "no snapshot was kept");
                told.0.failed.store(true, Ordering::Release);
            }
        }
        if renews {
            told.0.busy.store(false, Ordering::Release);
        }
    }
}

/// What is on disk afterwards, if that is new.
fn act(folder: &Path, job: Job, fresh: &mut Option<Fresh>) -> Result<Option<Stamp>, Damaged> {
    match job {
        Job::Begin => {
            *fresh = Some(Fresh::begin(folder)?);
            Ok(None)
        }
        Job::Records(revision, records) => {
            // None after a failure: what follows of that snapshot is passed over.
            if let Some(fresh) = fresh {
                fresh.take(&revision, records)?;
            }
            Ok(None)
        }
        Job::Finish(revision) => fresh.take().map(|fresh| fresh.finish(&revision)).transpose(),
        Job::Renew(changes, revision) => kept::renew(folder, changes, &revision).map(Some),
    }
}
