//! The cluster holds something else than what was opened: nothing is read from it, and nothing written to it.

use std::time::Duration;

use countersign_store::conformance::put;
use countersign_store::{CommitError, EtcdOptions, EtcdStore, Store, StoreError};

use crate::cluster::{Cluster, Setup};

async fn ends(store: &EtcdStore, part: &str) {
    let until = std::time::Instant::now() + Duration::from_secs(20);
    loop {
        if let Err(StoreError::Unavailable(reason)) = store.get(b"a").await {
            assert!(
                reason.contains(part) && reason.contains("start the process again"),
                "{reason}"
            );
            break;
        }
        assert!(std::time::Instant::now() < until, "nobody noticed");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(store.head().await.is_err() && store.range(b"", None, 1).await.is_err());
    assert!(store.snapshot(&[b""]).await.is_err() && store.changes_since(0, 1).await.is_err());
    assert!(store.commit(vec![], vec![put("a", "1")]).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn another_store_is_noticed() {
    let cluster = Cluster::start_with(Setup { members: 1, ..Setup::default() }).await;
    let mut client = cluster.client(0).await;
    let options = |prefix: &str, every: u64| EtcdOptions {
        check_every: Duration::from_millis(every),
        ..cluster.options(prefix)
    };

    // Another id: noticed by the next write, however rarely it is looked at.
    let store = EtcdStore::open(options("other/", 3_600_000)).await.unwrap();
    store.commit(vec![], vec![put("a", "1")]).await.unwrap();
    client.put("other/id", "0123456789abcdef", None).await.unwrap();
    let refused = store.commit(vec![], vec![put("a", "2")]).await;
    assert!(matches!(refused, Err(CommitError::Store(StoreError::Unavailable(_)))), "{refused:?}");
    let head = client.get("other/head", None).await.unwrap().kvs()[0].version();
    assert_eq!(head, 1, "nothing was written");
    ends(&store, "another store").await;

    // Everything gone: noticed without a write.
    let store = EtcdStore::open(options("wiped/", 20)).await.unwrap();
    store.commit(vec![], vec![put("a", "1")]).await.unwrap();
    let all = etcd_client::DeleteOptions::new().with_prefix();
    client.delete("wiped/", Some(all)).await.unwrap();
    ends(&store, "another store").await;

    // The same id and an older state, as after a restore that was not given a new id.
    let store = EtcdStore::open(options("older/", 20)).await.unwrap();
    store.commit(vec![], vec![put("a", "1")]).await.unwrap();
    store.commit(vec![], vec![put("a", "2")]).await.unwrap();
    client.delete("older/head", None).await.unwrap();
    ends(&store, "went back in time").await;
}

/// What deploy/ETCD.md says of a restore: without its id, the data is another store's, and its history begins anew.
#[tokio::test(flavor = "multi_thread")]
async fn a_restored_store_is_another() {
    let cluster = Cluster::start_with(Setup { members: 1, ..Setup::default() }).await;
    let store = cluster.open("restored/").await;
    for round in 0..3 {
        store.commit(vec![], vec![put("a", round.to_string())]).await.unwrap();
    }
    let (id, (old, entries)) = (store.id().clone(), store.snapshot(&[b""]).await.unwrap());
    drop(store);
    let mut client = cluster.client(0).await;
    client.delete("restored/id", None).await.unwrap();

    let store = cluster.open("restored/").await;
    assert_ne!(store.id(), &id);
    assert_eq!(store.snapshot(&[b""]).await, Ok((old, entries)));
    let new = store.commit(vec![], vec![put("a", "new")]).await.unwrap().number;
    let late = cluster.open("restored/").await;
    assert_eq!(late.id(), store.id());
    for store in [store, late] {
        for after in [0, old - 1] {
            let refused = store.changes_since(after, 9).await;
            assert!(matches!(refused, Err(StoreError::TooOld { .. })), "{refused:?}");
        }
        // Who has the snapshot misses nothing.
        let changes = store.changes_since(old, 9).await.unwrap();
        assert_eq!(changes.iter().map(|change| change.number).collect::<Vec<_>>(), [new]);
    }
}

/// One that a later version writes, found out at the start, and by whoever runs already.
#[tokio::test(flavor = "multi_thread")]
async fn a_later_versions_store_is_refused() {
    let cluster = Cluster::start_with(Setup { members: 1, ..Setup::default() }).await;
    let mut client = cluster.client(0).await;
    let store = cluster.open("later/").await;
    store.commit(vec![], vec![put("a", "1")]).await.unwrap();
    client.put("later/head", [2_u8; 40], None).await.unwrap();
    let later = StoreError::Later { what: "the store in etcd".to_owned(), found: 2, known: 1 };
    assert_eq!(store.head().await, Err(later.clone()));
    let refused = EtcdStore::open(cluster.options("later/")).await.err().unwrap();
    assert_eq!(refused.to_string(), later.to_string());
    assert!(refused.to_string().contains("Run that version"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_store_is_refused() {
    let cluster = Cluster::start_with(Setup { members: 1, ..Setup::default() }).await;
    let mut client = cluster.client(0).await;
    client.put("strange/id", "something else", None).await.unwrap();
    let refused = EtcdStore::open(cluster.options("strange/")).await.err().unwrap().to_string();
    assert!(refused.contains("not as written"), "{refused}");

    let closed = EtcdOptions {
        request_timeout: Duration::from_millis(200),
        ..EtcdOptions::new(["http://127.0.0.1:1"])
    };
    let refused = EtcdStore::open(closed).await.err().unwrap().to_string();
    assert!(refused.contains("unavailable") && refused.contains("refused"), "{refused}");
}
