//! The suite that every engine passes, exceptions none; and what two processes see of one store.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use countersign_store::conformance::{self, delete, linearizability, prefix_empty, put, version};
use countersign_store::{
    Change, CommitError, Entry, EtcdOptions, EtcdStore, MAX_PRECONDITIONS, MAX_WRITES,
    Precondition, Revision, Store, StoreError, StoreFuture, StoreId, Write,
};

use crate::cluster::{Cluster, Setup};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn conforms() {
    let cluster = Cluster::start().await;
    let stores = AtomicU32::new(0);
    conformance::suite(|| {
        cluster.open_now(&format!("suite/{}/", stores.fetch_add(1, Ordering::Relaxed)))
    })
    .await;
    conformance::reopening_keeps_everything(cluster.open_now("reopened/"), |store| {
        drop(store);
        cluster.open_now("reopened/")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn conflicting_writers_are_linearizable() {
    let cluster = Cluster::start().await;
    let mut stores: Vec<Arc<dyn Store>> = Vec::new();
    for first in 0..2 {
        let mut options = cluster.options("linear/");
        options.endpoints.rotate_left(first);
        stores.push(Arc::new(EtcdStore::open(options).await.unwrap()));
    }
    linearizability::conflicting_writers_are_linearizable(stores).await;
}

/// A commit of every size at which etcd's limit on operations bites, with all preconditions that there may be.
#[tokio::test(flavor = "multi_thread")]
async fn the_largest_commits_are_whole() {
    let cluster = Cluster::start_with(Setup { members: 1, ..Setup::default() }).await;
    let store = cluster.open("large/").await;
    let keys = |count: usize| (0..count).map(|place| format!("k{place:03}"));
    for writes in [1, 126, 127, MAX_WRITES] {
        for preconditions in [0, 1, 63, 64, 65, 126, 127, MAX_PRECONDITIONS] {
            let context = format!("{writes} writes, {preconditions} preconditions");
            let puts: Vec<Write> = keys(writes).map(|key| put(key, "1")).collect();
            let holding: Vec<Precondition> = (0..preconditions)
                .map(|place| match place % 2 {
                    0 => version(format!("absent{place}"), 0),
                    _ => prefix_empty(format!("absent{place}")),
                })
                .collect();
            let number = store.commit(holding.clone(), puts.clone()).await.expect(&context).number;
            let found = store.range(b"k", None, 1000).await.unwrap();
            assert_eq!(found.len(), writes, "{context}");
            assert!(found.iter().all(|entry| entry.version == number), "{context}");
            assert_eq!(
                store.changes_since(number - 1, 9).await.unwrap(),
                [Change { number, writes: puts.clone() }]
            );
            // Any one of them that does not hold keeps all of it from happening, and is named.
            for index in [0, preconditions / 2, preconditions.saturating_sub(1)] {
                let mut broken = holding.clone();
                let Some(place) = broken.get_mut(index) else { continue };
                *place = match index % 2 {
                    0 => version("k000", 1),
                    _ => prefix_empty("k"),
                };
                let puts = keys(writes).map(|key| put(key, "2")).collect();
                assert_eq!(
                    store.commit(broken, puts).await,
                    Err(CommitError::Conflict { index }),
                    "{context}, {index}"
                );
                assert_eq!(store.head().await, Ok(number), "{context}, {index}");
            }
            store.commit(vec![], keys(writes).map(delete).collect()).await.unwrap();
        }
    }
}

/// A cluster that keeps ten revisions, as etcd's automatic compaction would.
struct Compacting {
    store: EtcdStore,
    client: etcd_client::Client,
}

#[tokio::test(flavor = "multi_thread")]
async fn old_changes_are_refused() {
    let cluster = Cluster::start_with(Setup { members: 1, ..Setup::default() }).await;
    // Nearly nothing in memory, so that the history is read.
    let options = EtcdOptions { recent_commits: 2, ..cluster.options("old/") };
    let store = EtcdStore::open(options).await.unwrap();
    let client = cluster.client(0).await;
    conformance::old_changes_are_refused(Arc::new(Compacting { store, client }), 10).await;

    // What is held in memory is told all the same.
    let store = cluster.open("memory/").await;
    let first = store.commit(vec![], vec![put("a", "1")]).await.unwrap().number;
    let last = store.commit(vec![], vec![put("a", "2")]).await.unwrap().number;
    let mut client = cluster.client(0).await;
    client.compact(i64::try_from(last).unwrap(), None).await.unwrap();
    assert_eq!(store.changes_since(0, 9).await.unwrap().len(), 2);
    let late = cluster.open("memory/").await;
    assert_eq!(late.changes_since(0, 9).await, Err(StoreError::TooOld { oldest: last + 1 }));
    assert_eq!(late.changes_since(first, 9).await, Err(StoreError::TooOld { oldest: last + 1 }));
    assert_eq!(late.changes_since(last, 9).await, Ok(vec![]));
}

/// The engine compacts by itself, if it is told how much to keep.
#[tokio::test(flavor = "multi_thread")]
async fn old_revisions_are_compacted() {
    let cluster = Cluster::start_with(Setup { members: 1, ..Setup::default() }).await;
    let options = EtcdOptions {
        keep_revisions: Some(10),
        recent_commits: 2,
        check_every: Duration::from_millis(20),
        ..cluster.options("kept/")
    };
    let store = EtcdStore::open(options).await.unwrap();
    for round in 0..50 {
        store.commit(vec![], vec![put("a", round.to_string())]).await.unwrap();
    }
    let head = store.head().await.unwrap();
    loop {
        match store.changes_since(head - 20, 50).await {
            Err(StoreError::TooOld { oldest }) => {
                assert!(head - oldest <= 10, "{oldest} of {head}");
                break;
            }
            Ok(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(store.changes_since(head - 9, 50).await.unwrap().len(), 9);
}

/// Each of two processes sees the other's commits, in the same order, and each is woken by them.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_processes_follow_each_other() {
    let cluster = Cluster::start().await;
    let (one, other) = (cluster.open("two/").await, cluster.open("two/").await);
    assert_eq!(one.id(), other.id());
    let follow = |store: Arc<dyn Store>| async move {
        let mut head = store.watch_head();
        let mut seen: Vec<Change> = Vec::new();
        while seen.len() < 200 {
            let after = seen.last().map_or(0, |change| change.number);
            head.wait_for(|head| *head > after).await.unwrap();
            seen.extend(store.changes_since(after, 7).await.unwrap());
        }
        seen
    };
    let followers = [tokio::spawn(follow(one.clone())), tokio::spawn(follow(other.clone()))];
    for round in 0..100 {
        for (store, name) in [(&one, "one"), (&other, "other")] {
            let writes = vec![put(name, round.to_string()), delete("x"), put("x", name)];
            store.commit(vec![], writes).await.unwrap();
        }
    }
    let [first, second] = followers;
    let (first, second) = (first.await.unwrap(), second.await.unwrap());
    assert_eq!(first.len(), 200);
    assert_eq!(first, second);
    // The same from etcd's history, as a process sees it that comes later.
    let late = cluster.open("two/").await;
    assert_eq!(conformance::all_changes(&late).await, first);
}

impl Store for Compacting {
    fn id(&self) -> &StoreId {
        self.store.id()
    }

    fn get<'a>(&'a self, key: &'a [u8]) -> StoreFuture<'a, Option<Entry>> {
        self.store.get(key)
    }

    fn range<'a>(
        &'a self,
        prefix: &'a [u8],
        after: Option<&'a [u8]>,
        limit: usize,
    ) -> StoreFuture<'a, Vec<Entry>> {
        self.store.range(prefix, after, limit)
    }

    fn snapshot<'a>(&'a self, prefixes: &'a [&'a [u8]]) -> StoreFuture<'a, (u64, Vec<Entry>)> {
        self.store.snapshot(prefixes)
    }

    fn commit(
        &self,
        preconditions: Vec<Precondition>,
        writes: Vec<Write>,
    ) -> StoreFuture<'_, Revision, CommitError> {
        Box::pin(async move {
            let revision = self.store.commit(preconditions, writes).await?;
            let oldest = i64::try_from(revision.number).unwrap() - 10;
            if oldest > 0 {
                self.client.clone().compact(oldest, None).await.unwrap();
            }
            Ok(revision)
        })
    }

    fn head(&self) -> StoreFuture<'_, u64> {
        self.store.head()
    }

    fn changes_since(&self, after: u64, limit: usize) -> StoreFuture<'_, Vec<Change>> {
        self.store.changes_since(after, limit)
    }

    fn watch_head(&self) -> tokio::sync::watch::Receiver<u64> {
        self.store.watch_head()
    }
}
