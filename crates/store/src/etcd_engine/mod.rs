//! The engine for more than one machine: an etcd cluster (3.4 or later), on which any number of processes serve reads and writes.
//!
//! A commit is one etcd transaction ([`transaction`]); its number is that transaction's revision, and an entry's version is its
//! `mod_revision`. Reads are linearizable; those of several pages are of one revision. Each process holds the newest commits in
//! memory, from one watch ([`follower`]), and reads older ones from etcd's history ([`history`]). A watch is never trusted alone:
//! each commit is counted ([`layout`]), and the count is compared with linearizable reads.
//!
//! What etcd answers too late, or not at all, may or may not have happened ([`StoreError::Unavailable`]). When etcd has no space
//! left, [`StoreError::Full`] is said only of a commit that the history shows not to be there.

mod cluster;
mod follower;
mod history;
mod layout;
mod options;
mod snapshot;
mod transaction;

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use etcd_client::{
    Compare, CompareOp, GetOptions, GetResponse, KeyValue, Txn, TxnOp, TxnOpResponse, TxnResponse,
};
use tokio::task::JoinHandle;

use crate::model::{check_commit, check_key, check_prefix};
use crate::{
    Change, CommitError, Entry, Precondition, Revision, Snapshot, Store, StoreError, StoreFuture,
    StoreId, Write,
};
use cluster::{Cluster, Fault};
use follower::Feed;
use history::Head;
use layout::{Layout, Nonce};
use transaction::{Outcome, Transaction};

pub use options::{
    DEFAULT_PREFIX, EtcdCredentials, EtcdOpenError, EtcdOptions, EtcdTls, EtcdUser,
    InvalidEtcdOptions,
};

/// Entries read at a time.
const PAGE: usize = 512;
/// Snapshots begun anew because compaction overtook them.
const SNAPSHOT_TRIES: u32 = 3;
/// How long a reader of changes waits for the watch before it reads the history.
const WATCH_PATIENCE: Duration = Duration::from_millis(300);

/// What the store's tasks share.
struct Shared {
    id: StoreId,
    /// The revision at which the store was made.
    born: i64,
    layout: Layout,
    cluster: Cluster,
    feed: Feed,
}

/// A store in an etcd cluster. Dropping it leaves everything in the cluster as it is.
pub struct EtcdStore {
    shared: Arc<Shared>,
    request_timeout: Duration,
    /// Random, for the nonces of this handle.
    seed: u64,
    commits: AtomicU64,
    tasks: [JoinHandle<()>; 2],
}

/// What one read tells of the store as a whole.
struct State {
    id: Option<StoreId>,
    born: i64,
    head: Head,
    /// The cluster's own revision.
    revision: i64,
}

impl EtcdStore {
    /// Opens the store under the prefix, or creates it. Must be called on a tokio runtime, which then runs two tasks for it.
    pub async fn open(options: EtcdOptions) -> Result<Self, EtcdOpenError> {
        options.check()?;
        let layout = Layout::new(&options.prefix);
        let cluster = Cluster::new(&options, layout.fence());
        let State { id, born, head, .. } = identify(&cluster, &layout).await?;
        let id = id.ok_or_else(|| nonsense("the store has no id"))?;
        let feed = Feed::new(head, options.recent_commits, options.recent_bytes);
        let shared = Arc::new(Shared { id, born, layout, cluster, feed });
        let tasks = [
            tokio::spawn(follower::follow(shared.clone())),
            tokio::spawn(follower::look_after(
                shared.clone(),
                options.check_every,
                options.keep_revisions,
            )),
        ];
        let seed = RandomState::new().hash_one((std::process::id(), shared.id.as_str()));
        let request_timeout = options.request_timeout;
        Ok(Self { shared, request_timeout, seed, commits: AtomicU64::new(0), tasks })
    }

    fn nonce(&self) -> Nonce {
        let count = self.commits.fetch_add(1, Ordering::Relaxed);
        ((u128::from(self.seed) << 64) | u128::from(count)).to_be_bytes()
    }

    async fn send(
        &self,
        preconditions: &[Precondition],
        writes: &[Write],
    ) -> Result<Revision, CommitError> {
        check_commit(preconditions, writes)?;
        self.shared.feed.check()?;
        let Shared { id, layout, cluster, feed, .. } = &*self.shared;
        let nonce = self.nonce();
        let transaction = Transaction::new(layout, id, preconditions, writes, nonce);
        let before = feed.head().number;
        let response = match cluster.write_txn(transaction.request(writes)).await {
            Ok(response) => response,
            Err(Fault::NoSpace) if !writes.is_empty() => {
                return self.settle(before, &nonce).await;
            }
            Err(fault) => return Err(StoreError::from(fault).into()),
        };
        match transaction.outcome(&response)? {
            Outcome::Done(number) => Ok(self.revision(number)),
            Outcome::Conflict { index } => Err(CommitError::Conflict { index }),
            Outcome::OtherStore => {
                let reason = "the cluster holds another store than the one that was opened";
                Err(feed.end(reason).into())
            }
        }
    }

    /// Finds out whether a commit happened that was answered with "no space": etcd applies the one that hits the quota all the same.
    /// It was answered, so a read that comes later sees it if it happened.
    async fn settle(&self, before: u64, nonce: &Nonce) -> Result<Revision, CommitError> {
        let feed = &self.shared.feed;
        let head = self.shared.state().await?.head.number;
        if feed.reaches(head, self.request_timeout).await {
            match feed.find(before, nonce) {
                Some(Some(number)) => {
                    tracing::info!(
                        number,
                        "etcd answered that it has no space, and did the commit"
                    );
                    return Ok(self.revision(number));
                }
                Some(None) => return Err(StoreError::Full.into()),
                None => {}
            }
        }
        Err(StoreError::from(Fault::NoSpace).into())
    }

    fn revision(&self, number: u64) -> Revision {
        Revision { store_id: self.shared.id.clone(), number }
    }

    async fn read_changes(&self, after: u64, limit: usize) -> Result<Vec<Change>, StoreError> {
        let shared = &self.shared;
        shared.feed.check()?;
        let head = shared.state().await?.head.number;
        if after > head {
            return Err(StoreError::Ahead { head });
        }
        if after == head || limit == 0 {
            return Ok(Vec::new());
        }
        if shared.feed.reaches(head, WATCH_PATIENCE).await
            && let Some(changes) = shared.feed.since(after, limit)
        {
            return Ok(changes);
        }
        let Shared { cluster, layout, born, .. } = &**shared;
        history::read(cluster, layout, *born, after, head, limit, self.request_timeout).await
    }
}

impl Drop for EtcdStore {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Shared {
    async fn state(&self) -> Result<State, StoreError> {
        read_state(&self.cluster, &self.layout).await
    }

    async fn find(&self, key: &[u8]) -> Result<Option<Entry>, StoreError> {
        check_key(key)?;
        self.feed.check()?;
        let mut found = self.cluster.get(self.layout.data(key), GetOptions::new()).await?;
        found.take_kvs().into_iter().next().map(|kv| self.entry(kv)).transpose()
    }

    /// Entries of a prefix, at one revision: the one given (positive), or the newest. Stops at `limit`.
    async fn scan(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        mut revision: i64,
        limit: usize,
    ) -> Result<Vec<Entry>, Fault> {
        let end = self.layout.data_end(prefix);
        let mut from = match after {
            Some(after) if after >= prefix => next_key(self.layout.data(after)),
            _ => self.layout.data(prefix),
        };
        let mut entries: Vec<Entry> = Vec::new();
        while entries.len() < limit && from < end {
            let page = (limit - entries.len()).min(PAGE);
            let options = GetOptions::new()
                .with_range(end.clone())
                .with_revision(revision)
                .with_limit(i64::try_from(page).unwrap_or(i64::MAX));
            let mut found = self.cluster.get(from, options).await?;
            revision = revision_of(&found)?.min(if revision > 0 { revision } else { i64::MAX });
            let more = found.more();
            for kv in found.take_kvs() {
                entries.push(self.entry(kv).map_err(|error| Fault::Refused(error.to_string()))?);
            }
            match entries.last() {
                Some(last) if more => from = next_key(self.layout.data(&last.key)),
                _ => break,
            }
        }
        Ok(entries)
    }

    async fn snapshot(&self, prefixes: &[&[u8]]) -> Result<(u64, Vec<Entry>), StoreError> {
        for prefix in prefixes {
            check_prefix(prefix)?;
        }
        self.feed.check()?;
        let prefixes = disjoint(prefixes);
        for _ in 0..SNAPSHOT_TRIES {
            let State { head, revision, .. } = self.state().await?;
            match self.scan_all(&prefixes, revision).await {
                Ok(entries) => return Ok((head.number, entries)),
                // Compaction overtook it.
                Err(Fault::Compacted) => {}
                Err(fault) => return Err(fault.into()),
            }
        }
        Err(Fault::Compacted.into())
    }

    async fn scan_all(&self, prefixes: &[&[u8]], revision: i64) -> Result<Vec<Entry>, Fault> {
        let mut entries = Vec::new();
        for prefix in prefixes {
            entries.extend(self.scan(prefix, None, revision, usize::MAX).await?);
        }
        Ok(entries)
    }

    fn entry(&self, kv: KeyValue) -> Result<Entry, StoreError> {
        let version = u64::try_from(kv.mod_revision()).unwrap_or_default();
        let (key, value) = kv.into_key_value();
        let key =
            self.layout.key_of(&key).ok_or_else(|| nonsense("a key that was not asked for"))?;
        Ok(Entry { key, value: value.into(), version })
    }
}

impl Store for EtcdStore {
    fn id(&self) -> &StoreId {
        &self.shared.id
    }

    fn get<'a>(&'a self, key: &'a [u8]) -> StoreFuture<'a, Option<Entry>> {
        Box::pin(self.shared.find(key))
    }

    fn range<'a>(
        &'a self,
        prefix: &'a [u8],
        after: Option<&'a [u8]>,
        limit: usize,
    ) -> StoreFuture<'a, Vec<Entry>> {
        Box::pin(async move {
            check_prefix(prefix)?;
            self.shared.feed.check()?;
            Ok(self.shared.scan(prefix, after, 0, limit).await?)
        })
    }

    fn snapshot<'a>(&'a self, prefixes: &'a [&'a [u8]]) -> StoreFuture<'a, (u64, Vec<Entry>)> {
        Box::pin(self.shared.snapshot(prefixes))
    }

    fn open_snapshot(&self, prefixes: Vec<Vec<u8>>) -> StoreFuture<'_, Box<dyn Snapshot>> {
        Box::pin(async move {
            for prefix in &prefixes {
                check_prefix(prefix)?;
            }
            self.shared.feed.check()?;
            let prefixes: Vec<&[u8]> = prefixes.iter().map(Vec::as_slice).collect();
            let prefixes = disjoint(&prefixes).into_iter().map(<[u8]>::to_vec).collect();
            let State { head, revision, .. } = self.shared.state().await?;
            let paged = snapshot::Paged::new(self.shared.clone(), head.number, revision, prefixes);
            let paged: Box<dyn Snapshot> = Box::new(paged);
            Ok(paged)
        })
    }

    fn commit(
        &self,
        preconditions: Vec<Precondition>,
        writes: Vec<Write>,
    ) -> StoreFuture<'_, Revision, CommitError> {
        Box::pin(async move { self.send(&preconditions, &writes).await })
    }

    fn head(&self) -> StoreFuture<'_, u64> {
        Box::pin(async {
            self.shared.feed.check()?;
            Ok(self.shared.state().await?.head.number)
        })
    }

    fn changes_since(&self, after: u64, limit: usize) -> StoreFuture<'_, Vec<Change>> {
        Box::pin(self.read_changes(after, limit))
    }

    fn watch_head(&self) -> tokio::sync::watch::Receiver<u64> {
        self.shared.feed.subscribe()
    }
}

/// Reads which store this is; makes it one if it is none. Of two processes that do so at once, one makes the id.
async fn identify(cluster: &Cluster, layout: &Layout) -> Result<State, StoreError> {
    let state = read_state(cluster, layout).await?;
    if state.id.is_some() {
        return Ok(state);
    }
    let absent = Compare::create_revision(layout.id(), CompareOp::Equal, 0);
    let make = TxnOp::put(layout.id(), StoreId::fresh().as_str(), None);
    match cluster.write_txn(Txn::new().when([absent]).and_then([make])).await {
        // Unknown is as good: what is there is read.
        Ok(_) | Err(Fault::Unknown(_)) => {}
        Err(Fault::NoSpace) => return Err(StoreError::Full),
        Err(fault) => return Err(fault.into()),
    }
    read_state(cluster, layout).await
}

async fn read_state(cluster: &Cluster, layout: &Layout) -> Result<State, StoreError> {
    let response = cluster.get_all(&[layout.id(), layout.head()]).await?;
    state_of(&response)
}

fn state_of(response: &TxnResponse) -> Result<State, StoreError> {
    let answers = response.op_responses();
    let (Some(header), [TxnOpResponse::Get(id), TxnOpResponse::Get(head)]) =
        (response.header(), answers.as_slice())
    else {
        return Err(nonsense("no answer to a question"));
    };
    let (mut found, mut born) = (None, 0);
    if let Some(kv) = id.kvs().first() {
        let parsed = std::str::from_utf8(kv.value()).ok().and_then(|id| id.parse().ok());
        found = Some(parsed.ok_or_else(|| nonsense("the store's id is none"))?);
        born = kv.create_revision();
    }
    // What a later version writes is not read on: the head alone says it of all commits.
    head.kvs().first().map_or(Ok(()), |kv| layout::Record::refuse_later(kv.value()))?;
    let head = head.kvs().first().map_or(Head { number: 0, count: 0 }, |kv| Head {
        number: u64::try_from(kv.mod_revision()).unwrap_or_default(),
        count: kv.version(),
    });
    Ok(State { id: found, born, head, revision: header.revision() })
}

fn revision_of(response: &GetResponse) -> Result<i64, Fault> {
    let header = response.header();
    header.map(|header| header.revision()).ok_or_else(|| Fault::Refused("no header".to_owned()))
}

fn nonsense(what: &str) -> StoreError {
    StoreError::Corrupt(format!("etcd does not hold what was written: {what}"))
}

/// The first key after `key`.
fn next_key(mut key: Vec<u8>) -> Vec<u8> {
    key.push(0);
    key
}

/// Prefixes in order, without those that another covers.
fn disjoint<'a>(prefixes: &[&'a [u8]]) -> Vec<&'a [u8]> {
    let sorted: BTreeSet<&[u8]> = prefixes.iter().copied().collect();
    let mut kept: Vec<&[u8]> = Vec::new();
    for prefix in sorted {
        if !kept.last().is_some_and(|last| prefix.starts_with(last)) {
            kept.push(prefix);
        }
    }
    kept
}
