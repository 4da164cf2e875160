//! What shows only from inside: what readers see while a group is on its way to the disk, and how failures end.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use tempfile::TempDir;

use super::wal::{Disk, Step};
use super::*;
use crate::conformance::{all_changes, delete, put, version};

fn options() -> SledOptions {
    SledOptions { ballast_bytes: 64 << 10, merge_bytes: 1 << 20, ..SledOptions::default() }
}

/// What the disk does next: `None` lets a step through.
#[derive(Clone, Default)]
struct Faults(Arc<Mutex<Option<Fault>>>);

enum Fault {
    /// The step says that it was reached, and goes on when told to.
    Pause(Step, mpsc::Sender<()>, mpsc::Receiver<()>),
    Fail(Step, io::ErrorKind),
}

impl Faults {
    fn set(&self, fault: Fault) {
        *self.0.lock().unwrap() = Some(fault);
    }

    /// Pauses the next `step`: wait on the first for it to be reached, and drop the second to let it go on.
    fn pause(&self, step: Step) -> (mpsc::Receiver<()>, mpsc::Sender<()>) {
        let ((reached, is_reached), (go_on, wait)) = (mpsc::channel(), mpsc::channel());
        self.set(Fault::Pause(step, reached, wait));
        (is_reached, go_on)
    }

    fn before(&self, step: Step) -> io::Result<()> {
        let mut fault = self.0.lock().unwrap();
        match fault.take_if(
            |fault| matches!(fault, Fault::Pause(at, ..) | Fault::Fail(at, _) if *at == step),
        ) {
            None => Ok(()),
            Some(Fault::Fail(_, kind)) => Err(kind.into()),
            Some(Fault::Pause(_, reached, wait)) => {
                drop(fault);
                reached.send(()).unwrap();
                // Ends when the test drops its side.
                let _ = wait.recv();
                Ok(())
            }
        }
    }
}

fn open(path: &Path) -> (Arc<dyn Store>, Faults) {
    let faults = Faults::default();
    let of_disk = faults.clone();
    let disk = Disk { before: Some(Box::new(move |step| of_disk.before(step))) };
    let store = SledStore::start(path, options(), disk);
    (Arc::new(store.unwrap()), faults)
}

async fn seen(store: &Arc<dyn Store>) -> (u64, Vec<Entry>, Vec<Change>) {
    let (number, entries) = store.snapshot(&[b""]).await.unwrap();
    assert_eq!(store.range(b"", None, 1000).await, Ok(entries.clone()));
    for entry in &entries {
        assert_eq!(store.get(&entry.key).await.as_ref(), Ok(&Some(entry.clone())));
    }
    assert_eq!(store.head().await, Ok(number));
    (number, entries, all_changes(store).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_seen_before_it_is_on_disk() {
    let folder = TempDir::new().unwrap();
    let (store, faults) = open(folder.path());
    store.commit(vec![], vec![put("a", "1"), put("b", "1"), put("c", "1")]).await.unwrap();
    let before = seen(&store).await;
    let mut head = store.watch_head();
    head.mark_unchanged();

    let (reached, go_on) = faults.pause(Step::Sync);
    let writes = vec![put("a", "2"), delete("b"), put("bb", "new"), put("z", "new")];
    let commit = tokio::spawn({
        let store = store.clone();
        async move { store.commit(vec![], writes).await }
    });
    reached.recv().unwrap();
    // The log has it by now, not yet synced; readers neither see it nor wait for it.
    assert_eq!(seen(&store).await, before);
    assert_eq!(store.get(b"z").await, Ok(None));
    assert_eq!(store.range(b"b", None, 10).await.unwrap().len(), 1);
    assert_eq!(store.range(b"a", Some(b"a"), 10).await, Ok(vec![]));
    assert_eq!(store.changes_since(2, 10).await, Err(StoreError::Ahead { head: 1 }));
    assert!(!head.has_changed().unwrap());
    assert!(!commit.is_finished(), "not acknowledged either");

    drop(go_on);
    let revision = commit.await.unwrap().unwrap();
    let (number, entries, changes) = seen(&store).await;
    assert_eq!((number, changes.len()), (revision.number, 2));
    let keys: Vec<&[u8]> = entries.iter().map(|entry| &*entry.key).collect();
    assert_eq!(keys, [&b"a"[..], b"bb", b"c", b"z"]);
    assert!(head.has_changed().unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_outlives_the_writes_since() {
    let folder = TempDir::new().unwrap();
    let folder = (SledStore::open(folder.path(), options()).unwrap(), folder);
    let store = &folder.0;
    let writes = |value: &'static str| {
        (0..100).map(move |place| put(format!("k{place:03}"), value)).collect()
    };
    store.send(vec![], writes("1")).await.unwrap();
    let (number, before) = store.read_snapshot(&[b""]).await.unwrap();
    let view = store.shared.view();
    let mut found: Vec<Entry> = view.range(b"k", None).take(10).collect();
    store
        .send(vec![], vec![put("k050", "2"), delete("k051"), put("k0515", "new"), put("k005", "2")])
        .await
        .unwrap();
    found.extend(view.range(b"k", Some(b"k009")).take(30));
    store.send(vec![], writes("3")).await.unwrap();
    store
        .send(vec![], (0..100).map(|place| delete(format!("k{place:03}"))).collect())
        .await
        .unwrap();
    found.extend(view.range(b"k", Some(b"k039")));
    assert_eq!((view.head, found), (number, before));
    assert_eq!(store.read_snapshot(&[b"k"]).await.unwrap().1.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_s_commits_see_each_other() {
    let folder = TempDir::new().unwrap();
    let (store, faults) = open(folder.path());
    let (reached, go_on) = faults.pause(Step::Sync);
    let commit = |preconditions, writes| {
        let store = store.clone();
        tokio::spawn(async move {
            store.commit(preconditions, writes).await.map(|revision| revision.number)
        })
    };
    let first = commit(vec![], vec![put("first", "1")]);
    reached.recv().unwrap();
    // These wait together while the first is synced, and become one group, in the order in which they came.
    let (pair_reached, pair_go_on) = faults.pause(Step::Sync);
    let mut waiting = Vec::new();
    for (preconditions, writes) in [
        (vec![version("name", 0)], vec![put("name", "mine")]),
        (vec![version("name", 0)], vec![put("name", "too late")]),
        (vec![version("name", 2)], vec![delete("name")]),
        (vec![version("name", 0)], vec![]),
        (vec![crate::conformance::prefix_empty("na")], vec![put("name", "again")]),
        (vec![crate::conformance::prefix_empty("na")], vec![put("nap", "too late")]),
    ] {
        waiting.push(commit(preconditions, writes));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    drop(go_on);
    pair_reached.recv().unwrap();
    assert_eq!(first.await.unwrap(), Ok(1));
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(waiting.iter().all(|commit| !commit.is_finished()), "conflicts too wait for the sync");
    drop(pair_go_on);
    let mut outcomes = Vec::new();
    for commit in waiting {
        outcomes.push(commit.await.unwrap());
    }
    let conflict = Err(CommitError::Conflict { index: 0 });
    assert_eq!(outcomes, [Ok(2), conflict.clone(), Ok(3), Ok(3), Ok(4), conflict]);
    assert_eq!(all_changes(&store).await.len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_failed_sync_nothing_is_written_or_shown() {
    for kind in [io::ErrorKind::Other, io::ErrorKind::StorageFull] {
        let folder = TempDir::new().unwrap();
        let (store, faults) = open(folder.path());
        store.commit(vec![], vec![put("a", "1")]).await.unwrap();
        let before = seen(&store).await;
        faults.set(Fault::Fail(Step::Sync, kind));
        for _ in 0..3 {
            let outcome = store.commit(vec![], vec![put("a", "2"), put("b", "2")]).await;
            assert!(
                matches!(outcome, Err(CommitError::Store(StoreError::Unavailable(_)))),
                "{outcome:?}"
            );
            assert_eq!(seen(&store).await, before);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_heals() {
    let folder = TempDir::new().unwrap();
    let (store, faults) = open(folder.path());
    store.commit(vec![], vec![put("a", "1")]).await.unwrap();
    for round in 0..3 {
        let before = seen(&store).await;
        faults.set(Fault::Fail(Step::Write, io::ErrorKind::StorageFull));
        let full = Err(CommitError::Store(StoreError::Full));
        assert_eq!(store.commit(vec![], vec![put("b", "1")]).await, full, "round {round}");
        assert_eq!(seen(&store).await, before);
        // Not tried again at once, and then by itself.
        assert_eq!(store.commit(vec![], vec![put("b", "1")]).await, full, "round {round}");
        tokio::time::sleep(Duration::from_millis(300)).await;
        let number = store.commit(vec![], vec![put("b", round.to_string())]).await.unwrap().number;
        assert_eq!(number, before.0 + 1);
    }
    let id = store.id().clone();
    let last = seen(&store).await;
    drop((store, faults));
    let (store, _) = open(folder.path());
    assert_eq!((store.id().clone(), seen(&store).await), (id, last));
}

/// The disk has no room for the next segment: what fitted stands, and the log goes on there later.
#[tokio::test(flavor = "multi_thread")]
async fn no_room_for_a_segment_is_a_full_disk() {
    let folder = TempDir::new().unwrap();
    let (store, faults) = open(folder.path());
    faults.set(Fault::Fail(Step::Roll, io::ErrorKind::StorageFull));
    let mut written = 0;
    let refused = loop {
        match store.commit(vec![], vec![put("a", vec![7; 60_000])]).await {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
    };
    assert_eq!((refused, store.head().await), (StoreError::Full.into(), Ok(written)));
    tokio::time::sleep(Duration::from_millis(300)).await;
    store.commit(vec![], vec![put("b", "1")]).await.unwrap();
    let last = seen(&store).await;
    drop((store, faults));
    let (store, _) = open(folder.path());
    assert_eq!(seen(&store).await, last);
}

/// A write that failed for another reason, and of which nothing is on disk, does not stop the store.
#[tokio::test(flavor = "multi_thread")]
async fn a_failed_write_leaves_nothing() {
    let folder = TempDir::new().unwrap();
    let (store, faults) = open(folder.path());
    store.commit(vec![], vec![put("a", "1")]).await.unwrap();
    faults.set(Fault::Fail(Step::Write, io::ErrorKind::Other));
    let outcome = store.commit(vec![], vec![put("a", "2")]).await;
    assert!(matches!(outcome, Err(CommitError::Store(StoreError::Unavailable(_)))), "{outcome:?}");
    assert_eq!(store.commit(vec![], vec![put("b", "1")]).await.unwrap().number, 2);
}
