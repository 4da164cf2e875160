//! The sled engine against the conformance suite, and what is sled's own: the folder, its lock, its log.
#![cfg(feature = "sled")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "this is a test")]

use std::path::Path;
use std::sync::{Arc, Mutex};

use countersign_store::conformance::{self, delete, put};
use countersign_store::{
    MAX_KEY_BYTES, MAX_VALUE_BYTES, SledOptions, SledStore, Store, StoreError,
};
use tempfile::TempDir;

fn options() -> SledOptions {
    SledOptions { cache_capacity: 16 << 20, ballast_bytes: 64 << 10, ..SledOptions::default() }
}

fn open(path: &Path) -> Arc<dyn Store> {
    Arc::new(SledStore::open(path, options()).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn conforms() {
    let folders = Mutex::new(Vec::new());
    conformance::suite(|| {
        let folder = TempDir::new().unwrap();
        let store = open(folder.path());
        folders.lock().unwrap().push(folder);
        store
    })
    .await;
    for folder in folders.into_inner().unwrap() {
        assert_eq!(
            std::fs::read_dir(folder.path().join("blobs")).unwrap().count(),
            0,
            "no node became a blob"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reopening_keeps_everything() {
    let folder = TempDir::new().unwrap();
    conformance::reopening_keeps_everything(open(folder.path()), |store| {
        drop(store);
        open(folder.path())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn old_changes_are_refused() {
    for options in [
        SledOptions { change_log_commits: 10, ..options() },
        SledOptions { change_log_bytes: 420_000, ..options() },
    ] {
        let folder = TempDir::new().unwrap();
        let store = Arc::new(SledStore::open(folder.path(), options).unwrap());
        conformance::old_changes_are_refused(store, 10).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bounds_of_the_log_may_change() {
    let folder = TempDir::new().unwrap();
    let store = open(folder.path());
    for _ in 0..30 {
        store.commit(vec![], vec![put("a", "1")]).await.unwrap();
    }
    drop(store);
    let options = SledOptions { change_log_commits: 5, ..options() };
    let store = SledStore::open(folder.path(), options).unwrap();
    assert_eq!(store.changes_since(0, 100).await.unwrap().len(), 30);
    store.commit(vec![], vec![put("a", "1")]).await.unwrap();
    assert_eq!(store.changes_since(0, 100).await, Err(StoreError::TooOld { oldest: 27 }));
    assert_eq!(store.changes_since(26, 100).await.unwrap().len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_is_one_process_s() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("made/when/needed");
    let store = open(&path);
    let Err(second) = SledStore::open(&path, options()) else { panic!("opened twice") };
    assert_eq!(second, StoreError::Locked { path: path.clone() });
    store.commit(vec![], vec![put("a", "1")]).await.unwrap();
    let id = store.id().clone();
    drop(store);
    let again = open(&path);
    assert_eq!((again.id(), again.head().await), (&id, Ok(1)));
    assert_ne!(open(&folder.path().join("other")).id(), &id);
}

#[tokio::test(flavor = "multi_thread")]
async fn blobs_are_refused() {
    let folder = TempDir::new().unwrap();
    drop(open(folder.path()));
    let blob = folder.path().join("blobs/17");
    std::fs::write(&blob, "x").unwrap();
    let Err(refused) = SledStore::open(folder.path(), options()) else {
        panic!("opened with a blob")
    };
    assert_eq!(refused, StoreError::BlobsNotEmpty { path: folder.path().join("blobs") });
    std::fs::remove_file(&blob).unwrap();
    drop(open(folder.path()));
}

#[test]
fn other_folders_are_refused() {
    let folder = TempDir::new().unwrap();
    let other = ::sled::Config::new().path(folder.path()).segment_size(8 << 20).open().unwrap();
    other.insert("something", "else").unwrap();
    drop(other);
    let Err(refused) = SledStore::open(folder.path(), options()) else {
        panic!("opened another's folder")
    };
    assert!(matches!(refused, StoreError::Corrupt(_)), "{refused}");
    let file = folder.path().join("file");
    std::fs::write(&file, "x").unwrap();
    let Err(refused) = SledStore::open(&file, options()) else { panic!("opened a file") };
    assert!(matches!(refused, StoreError::Unavailable(_)), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_store_finishes_what_was_sent() {
    let folder = TempDir::new().unwrap();
    let store = open(folder.path());
    let tasks: Vec<_> = (0..20)
        .map(|task: u32| {
            let store = store.clone();
            tokio::spawn(async move {
                store.commit(vec![], vec![put(task.to_string(), "1")]).await.unwrap()
            })
        })
        .collect();
    drop(store);
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(open(folder.path()).head().await, Ok(20));
}

/// Leaves full of the largest values, written over and over while they split and merge.
#[tokio::test(flavor = "multi_thread")]
async fn the_largest_values_never_become_blobs() {
    let folder = TempDir::new().unwrap();
    let store = open(folder.path());
    let blobs = folder.path().join("blobs");
    let mut seed: u32 = 7;
    let mut random = |below: u32| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 8) % below
    };
    for round in 0..600 {
        let key = |place: u32| format!("{place:03}{}", "k".repeat(MAX_KEY_BYTES - 3));
        let writes = match round % 3 {
            0 => (0..10).map(|_| put(key(random(60)), vec![1; MAX_VALUE_BYTES])).collect(),
            1 => vec![put(key(random(60)), vec![2; MAX_VALUE_BYTES])],
            _ => (0..4).map(|_| delete(key(random(60)))).collect(),
        };
        store.commit(vec![], writes).await.unwrap();
        assert_eq!(std::fs::read_dir(&blobs).unwrap().count(), 0, "in round {round}");
    }
}
