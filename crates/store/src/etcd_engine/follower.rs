//! The newest commits, held in memory for those who follow: one watch a process, compared with linearizable reads.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::cluster::Fault;
use super::history::{Assembler, Broken, Commit, Head};
use super::layout::Nonce;
use super::{Shared, State};
use crate::{Change, StoreError};

const BETWEEN_WATCHES: Duration = Duration::from_millis(50);
/// How long the watch may lag behind what a linearizable read has seen.
const LAG: Duration = Duration::from_secs(1);
/// Gaps in a row after which the watch is not asked for those commits again.
const GAPS: u32 = 3;
const MAX_BYTES_AT_ONCE: usize = 4 << 20;

/// What has been heard of the head, and the newest commits.
pub(super) struct Feed {
    recent: Mutex<Recent>,
    head: watch::Sender<u64>,
    /// Somebody doubts the watch.
    doubt: Notify,
    /// Why nothing may be done any more.
    ended: OnceLock<StoreError>,
    max_commits: usize,
    max_bytes: usize,
}

struct Recent {
    /// All commits after this number, up to the head, are here.
    after: u64,
    head: Head,
    commits: VecDeque<Commit>,
    bytes: usize,
}

impl Feed {
    pub fn new(head: Head, max_commits: usize, max_bytes: usize) -> Self {
        Self {
            recent: Mutex::new(Recent {
                after: head.number,
                head,
                commits: VecDeque::new(),
                bytes: 0,
            }),
            head: watch::Sender::new(head.number),
            doubt: Notify::new(),
            ended: OnceLock::new(),
            max_commits,
            max_bytes,
        }
    }

    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.head.subscribe()
    }

    pub fn head(&self) -> Head {
        self.recent().head
    }

    /// Whether the store may still be used.
    pub fn check(&self) -> Result<(), StoreError> {
        self.ended.get().map_or(Ok(()), |error| Err(error.clone()))
    }

    /// Nothing is done any more: the cluster holds something else than what was opened.
    pub fn end(&self, reason: &str) -> StoreError {
        let error = StoreError::Unavailable(format!("{reason}; start the process again"));
        if self.ended.set(error.clone()).is_ok() {
            tracing::error!(reason, "the store in etcd is not the one that was opened");
        }
        error
    }

    /// Waits until the head is known to be at least `number`; false when it takes too long.
    pub async fn reaches(&self, number: u64, patience: Duration) -> bool {
        let mut head = self.head.subscribe();
        let reached = timeout(patience, head.wait_for(|head| *head >= number)).await;
        let reached = matches!(reached, Ok(Ok(_)));
        if !reached {
            self.doubt.notify_one();
        }
        reached
    }

    /// The commits after `after`, if they are all here.
    pub fn since(&self, after: u64, limit: usize) -> Option<Vec<Change>> {
        let recent = self.recent();
        if after < recent.after {
            return None;
        }
        let first = recent.commits.partition_point(|commit| commit.change.number <= after);
        let (mut changes, mut bytes) = (Vec::new(), 0);
        for commit in recent.commits.iter().skip(first).take(limit) {
            changes.push(commit.change.clone());
            bytes += commit.bytes;
            if bytes >= MAX_BYTES_AT_ONCE {
                break;
            }
        }
        Some(changes)
    }

    /// The number of the commit with this nonce, if it came after `after`: `Some(None)` when it certainly did not.
    pub fn find(&self, after: u64, nonce: &Nonce) -> Option<Option<u64>> {
        let recent = self.recent();
        let mut found =
            recent.commits.iter().rev().take_while(|commit| commit.change.number > after);
        match found.find(|commit| commit.nonce == *nonce) {
            Some(commit) => Some(Some(commit.change.number)),
            None => (after >= recent.after).then_some(None),
        }
    }

    fn push(&self, commit: Commit) {
        let mut recent = self.recent();
        let number = commit.change.number;
        if number <= recent.head.number {
            return;
        }
        recent.head = Head { number, count: commit.count };
        recent.bytes += commit.bytes;
        recent.commits.push_back(commit);
        while recent.commits.len() > self.max_commits || recent.bytes > self.max_bytes {
            let Some(oldest) = recent.commits.pop_front() else { break };
            recent.after = oldest.change.number;
            recent.bytes -= oldest.bytes;
        }
        drop(recent);
        self.head.send_replace(number);
    }

    /// Starts anew at `head`, past commits that the watch cannot tell.
    fn skip_to(&self, head: Head) {
        let mut recent = self.recent();
        if head.number <= recent.head.number {
            return;
        }
        *recent = Recent { after: head.number, head, commits: VecDeque::new(), bytes: 0 };
        drop(recent);
        self.head.send_replace(head.number);
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        // Nothing in there panics half-way.
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a watch ended.
enum Ended {
    /// To be taken up again where it ended.
    Again,
    Gap,
    Compacted,
}

/// Keeps a watch open, for as long as the store is.
pub(super) async fn follow(shared: Arc<Shared>) {
    let mut gaps = 0;
    loop {
        let before = shared.feed.head();
        let ended = follow_once(&shared).await;
        if shared.feed.head() != before {
            gaps = 0;
        }
        match ended {
            Ended::Again => {}
            Ended::Gap if gaps < GAPS => gaps += 1,
            // What is skipped here is read from etcd's history by who asks for it, or found to be gone.
            Ended::Gap | Ended::Compacted => {
                if let Ok(State { head, .. }) = shared.state().await {
                    tracing::warn!(
                        from = before.number,
                        to = head.number,
                        "commits were not followed"
                    );
                    shared.feed.skip_to(head);
                    gaps = 0;
                }
            }
        }
        sleep(BETWEEN_WATCHES).await;
    }
}

async fn follow_once(shared: &Shared) -> Ended {
    let Head { number, count } = shared.feed.head();
    let from = i64::try_from(number).unwrap_or(i64::MAX).max(shared.born).saturating_add(1);
    let mut assembler = Assembler::new(&shared.layout, number, count);
    let (member, mut stream) = match shared.cluster.watch(shared.layout.all(), from).await {
        Ok(opened) => opened,
        Err(fault) => {
            tracing::debug!(?fault, "etcd cannot be watched");
            return Ended::Again;
        }
    };
    loop {
        let message = tokio::select! {
            message = stream.message() => message,
            () = shared.feed.doubt.notified() => {
                shared.cluster.doubt(member);
                return Ended::Again;
            }
        };
        let message = match message {
            Ok(Some(message)) => message,
            Ok(None) => return Ended::Again,
            Err(error) => {
                tracing::debug!(%error, "etcd's watch ended");
                shared.cluster.doubt(member);
                return Ended::Again;
            }
        };
        if message.compact_revision() > 0 {
            return Ended::Compacted;
        }
        if message.canceled() {
            tracing::debug!(reason = message.cancel_reason(), "etcd's watch was cancelled");
            // A refused token, or a member without a leader: a new connection, and another member, helps.
            shared.cluster.doubt(member);
            return Ended::Again;
        }
        for event in message.events() {
            match assembler.take(event) {
                Ok(Some(commit)) => shared.feed.push(commit),
                Ok(None) => {}
                Err(Broken::Gap) => return Ended::Gap,
                Err(Broken::Corrupt(error)) => {
                    tracing::error!(%error, "a commit cannot be read");
                    return Ended::Gap;
                }
            }
        }
    }
}

/// Compares the watch with linearizable reads, and forgets old revisions.
pub(super) async fn look_after(shared: Arc<Shared>, every: Duration, keep: Option<u64>) {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut compacted = 0;
    loop {
        ticks.tick().await;
        let known = shared.feed.head();
        let state = match shared.state().await {
            Ok(state) => state,
            Err(error) => {
                tracing::debug!(%error, "etcd cannot be asked for its head");
                continue;
            }
        };
        if state.id.as_ref() != Some(&shared.id) {
            shared.feed.end("the cluster holds another store than the one that was opened");
        } else if state.head.number < known.number || state.head.count < known.count {
            shared
                .feed
                .end("the cluster went back in time: it was restored without a new store id");
        }
        if !shared.feed.reaches(state.head.number, LAG).await {
            tracing::debug!(head = state.head.number, "etcd's watch lags; it is opened again");
        }
        if let Some(keep) = keep {
            compacted = compact(&shared, state.revision, keep, compacted).await;
        }
    }
}

/// Compacts, a tenth of what is kept at a time; returns what was compacted last.
async fn compact(shared: &Shared, revision: i64, keep: u64, compacted: i64) -> i64 {
    let keep = i64::try_from(keep).unwrap_or(i64::MAX);
    let target = revision.saturating_sub(keep);
    if target <= compacted.saturating_add(keep / 10) {
        return compacted;
    }
    match shared.cluster.compact(target).await {
        Ok(()) => tracing::debug!(target, "old revisions of etcd were compacted"),
        // Another process, or etcd itself, was faster.
        Err(Fault::Compacted) => {}
        Err(fault) => {
            tracing::warn!(?fault, "old revisions of etcd cannot be compacted");
            return compacted;
        }
    }
    target
}
