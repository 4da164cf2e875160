//! The sled engine against the conformance suite, and what is sled's own: the folder, its lock, its log.
#![cfg(feature = "sled")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "this is a test")]

use std::path::Path;
use std::sync::{Arc, Mutex};

use countersign_store::conformance::{self, delete, put};
use countersign_store::{
    MAX_KEY_BYTES, MAX_VALUE_BYTES, SledOptions, SledStore, Store, StoreError, Write,
};
use tempfile::TempDir;

fn options() -> SledOptions {
    SledOptions { ballast_bytes: 64 << 10, merge_bytes: 256 << 10, ..SledOptions::default() }
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
    drop(folders);
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
    assert_eq!(store.changes_since(0, 100).await.unwrap().len(), 30);
    drop(store);
    let options = SledOptions { change_log_commits: 5, ..options() };
    let store = SledStore::open(folder.path(), options).unwrap();
    assert_eq!(store.changes_since(0, 100).await, Err(StoreError::TooOld { oldest: 26 }));
    store.commit(vec![], vec![put("a", "1")]).await.unwrap();
    assert_eq!(store.changes_since(25, 100).await, Err(StoreError::TooOld { oldest: 27 }));
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

/// The names in a store's folder that begin with `start`.
fn named(folder: &Path, start: &str) -> Vec<String> {
    let names = std::fs::read_dir(folder).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with(start)).collect()
}

/// The revision of the base that the store's root names.
fn base_of(folder: &Path) -> u64 {
    let root = std::fs::read_to_string(folder.join("store")).unwrap();
    root.lines().find_map(|line| line.strip_prefix("base ")).unwrap().parse().unwrap()
}

/// Writes, until the root names a base at a revision of at least `number`.
async fn write_until_merged(store: &Arc<dyn Store>, folder: &Path, number: u64) {
    while base_of(folder) < number {
        store.commit(vec![], vec![put("until", vec![1; 1000])]).await.unwrap();
    }
}

/// The largest values and keys, written over and over, merged all the while: what is read, before and after a start, is
/// what was written, and the folder stays small.
#[tokio::test(flavor = "multi_thread")]
async fn merges_keep_everything_and_little_more() {
    let folder = TempDir::new().unwrap();
    let small = SledOptions { change_log_bytes: 1 << 20, ..options() };
    let store: Arc<dyn Store> = Arc::new(SledStore::open(folder.path(), small.clone()).unwrap());
    let mut seed: u32 = 7;
    let mut random = |below: u32| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 8) % below
    };
    let mut model = std::collections::BTreeMap::new();
    for round in 0..300 {
        let key = |place: u32| format!("{place:03}{}", "k".repeat(MAX_KEY_BYTES - 3));
        let writes: Vec<_> = match round % 3 {
            0 => (0..10).map(|_| put(key(random(60)), vec![1; MAX_VALUE_BYTES])).collect(),
            1 => vec![put(key(random(60)), vec![2; random(2000) as usize])],
            _ => (0..4).map(|_| delete(key(random(60)))).collect(),
        };
        for write in &writes {
            match write.clone() {
                Write::Put { key, value } => model.insert(key, value),
                Write::Delete { key } => model.remove(&key),
            };
        }
        store.commit(vec![], writes).await.unwrap();
    }
    write_until_merged(&store, folder.path(), 300).await;
    // 60 MB went through it. One segment holds changes, one is being written, one is spare; a merge may hold up others.
    let segments = named(&folder.path().join("log"), "");
    assert!(segments.len() <= 8, "{segments:?}");
    model.insert("until".into(), vec![1; 1000].into());
    let before = store.snapshot(&[b""]).await.unwrap();
    let found: std::collections::BTreeMap<_, _> =
        before.1.iter().map(|entry| (entry.key.clone(), entry.value.clone())).collect();
    assert!(found == model, "{} entries, expected {}", found.len(), model.len());
    drop(store);
    let store = SledStore::open(folder.path(), small).unwrap();
    assert!(store.snapshot(&[b""]).await.unwrap() == before);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_crashed_merge_left_is_removed() {
    let folder = TempDir::new().unwrap();
    let store = open(folder.path());
    write_until_merged(&store, folder.path(), 1).await;
    let before = store.snapshot(&[b""]).await.unwrap();
    drop(store);
    let base = format!("base-{}", base_of(folder.path()));
    let leftover = folder.path().join("base-99999999");
    std::fs::create_dir_all(leftover.join("blobs")).unwrap();
    std::fs::write(leftover.join("db"), "half of a base").unwrap();
    std::fs::write(folder.path().join("store.new"), "half of a root").unwrap();
    let store = open(folder.path());
    assert!(store.snapshot(&[b""]).await.unwrap() == before);
    assert!(!leftover.exists());
    assert_eq!(named(folder.path(), "base-"), [base]);
}

/// Two keys a commit, so that half a commit would show.
fn pair(number: u64) -> Vec<Write> {
    let value = number.to_be_bytes().repeat(200);
    let place = number % 500;
    vec![put(format!("a/{place:04}"), value.clone()), put(format!("b/{place:04}"), value)]
}

/// A backup of a store that goes on: whatever was acknowledged before is in it, whole, and nothing that never was.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_copy_of_a_running_store_holds_what_was_acknowledged() {
    let folder = TempDir::new().unwrap();
    let copies = TempDir::new().unwrap();
    let options = SledOptions { change_log_bytes: 1 << 20, ..options() };
    let store: Arc<dyn Store> = Arc::new(SledStore::open(folder.path(), options.clone()).unwrap());
    let (writer, stop) = (store.clone(), Arc::new(std::sync::atomic::AtomicBool::new(false)));
    let stopped = stop.clone();
    let writing = tokio::spawn(async move {
        let mut number = 0;
        while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
            writer.commit(vec![], pair(number)).await.unwrap();
            number += 1;
        }
        number
    });
    // Until it has a base, and then on through many more.
    while base_of(folder.path()) == 0 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    for turn in 0..12 {
        let before = store.head().await.unwrap();
        let (from, to) = (folder.path().to_owned(), copies.path().join(turn.to_string()));
        let options = options.clone();
        let copy = tokio::task::spawn_blocking(move || SledStore::copy(from, to, options).unwrap());
        let copy = copy.await.unwrap();
        let (number, entries) = copy.snapshot(&[b""]).await.unwrap();
        assert!(before <= number && number <= store.head().await.unwrap(), "{before} {number}");
        assert_eq!(copy.id(), store.id());
        // Commit n, counted from 1, wrote n - 1.
        let half = entries.len() / 2;
        assert_eq!(half as u64, number.min(500));
        for (one, other) in entries[..half].iter().zip(&entries[half..]) {
            assert_eq!((&one.value, one.version), (&other.value, other.version));
            assert_eq!(one.value[..8], (one.version - 1).to_be_bytes());
            assert!(one.version + 500 > number);
        }
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    assert!(writing.await.unwrap() > 0);
    // What is there is not copied over, and what is no store is no copy.
    let there = SledStore::copy(folder.path(), copies.path(), options.clone()).map(drop);
    assert!(there.unwrap_err().to_string().contains("is there already"));
    let empty = TempDir::new().unwrap();
    assert!(SledStore::copy(empty.path(), copies.path().join("none"), options).is_err());
    assert!(!copies.path().join("none").exists());
}
