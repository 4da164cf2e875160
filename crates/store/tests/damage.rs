//! Files that are not as they were written: what was never acknowledged is dropped, anything else is an error that says where.
#![cfg(feature = "sled")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "this is a test")]

use std::fs;
use std::path::{Path, PathBuf};

use countersign_store::conformance::put;
use countersign_store::{Entry, SledOptions, SledStore, Store, StoreError};
use tempfile::TempDir;

const PAGE: usize = 4096;
const COMMITS: u64 = 5;
/// Each commit's frame is of so many pages.
const FRAME: usize = 3 * PAGE;

fn options() -> SledOptions {
    SledOptions { ballast_bytes: 0, merge_bytes: 256 << 10, ..SledOptions::default() }
}

fn open(path: &Path) -> Result<SledStore, StoreError> {
    SledStore::open(path, options())
}

fn segment(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("log/{number:020}.log"))
}

/// A store with [`COMMITS`] commits, closed.
async fn written() -> TempDir {
    let folder = TempDir::new().unwrap();
    let store = open(folder.path()).unwrap();
    for count in 0..COMMITS {
        let value = vec![u8::try_from(count).unwrap(); FRAME - PAGE];
        store.commit(vec![], vec![put(format!("k{count}"), value)]).await.unwrap();
    }
    folder
}

/// A store whose commits are in several segments and in a base, closed, and what it holds.
async fn merged() -> (TempDir, Vec<Entry>) {
    let folder = TempDir::new().unwrap();
    let store = open(folder.path()).unwrap();
    for count in 0..200 {
        store.commit(vec![], vec![put(format!("k{count}"), vec![3; 50_000])]).await.unwrap();
    }
    while base_of(folder.path()) < 200 {
        store.commit(vec![], vec![put("more", vec![3; 50_000])]).await.unwrap();
    }
    let entries = store.snapshot(&[b""]).await.unwrap().1;
    drop(store);
    // What the merge that was under way left is removed by a start.
    drop(open(folder.path()).unwrap());
    (folder, entries)
}

/// The revision of the base that the store's root names.
fn base_of(folder: &Path) -> u64 {
    let root = fs::read_to_string(folder.join("store")).unwrap();
    root.lines().find_map(|line| line.strip_prefix("base ")).unwrap().parse().unwrap()
}

fn change(path: &Path, with: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    with(&mut bytes);
    fs::write(path, bytes).unwrap();
}

fn refused(folder: &Path, parts: &[&str]) {
    let Err(StoreError::Corrupt(message)) = open(folder) else { panic!("opened: {parts:?}") };
    assert!(parts.iter().all(|part| message.contains(part)), "{message}: {parts:?}");
}

#[tokio::test]
async fn a_torn_last_frame_is_dropped() {
    let folder = written().await;
    let log = segment(folder.path(), 1);
    let whole = fs::read(&log).unwrap();
    let last = PAGE + (COMMITS as usize - 1) * FRAME;
    // Pages reach the disk in any order: each set of them but the whole one is a frame that is not there.
    for missing in 1..8 {
        let mut torn = whole.clone();
        for page in (0..3).filter(|page| missing >> page & 1 == 1) {
            torn[last + page * PAGE..last + (page + 1) * PAGE].fill(0);
        }
        fs::write(&log, torn).unwrap();
        let store = open(folder.path()).unwrap();
        assert_eq!(store.head().await, Ok(COMMITS - 1), "missing {missing:03b}");
        assert_eq!(store.changes_since(0, 100).await.unwrap().len() as u64, COMMITS - 1);
        // The next commit takes its place and its number, also when it is shorter.
        let number = store.commit(vec![], vec![put("again", "1")]).await.unwrap().number;
        assert_eq!(number, COMMITS);
        drop(store);
        let store = open(folder.path()).unwrap();
        assert_eq!(store.head().await, Ok(COMMITS));
        assert_eq!(store.get(b"k4").await, Ok(None));
        assert!(store.get(b"again").await.unwrap().is_some());
    }
}

#[tokio::test]
async fn damage_in_the_log_is_named() {
    let folder = written().await;
    let log = segment(folder.path(), 1);
    let whole = fs::read(&log).unwrap();
    for frame in 0..COMMITS as usize - 1 {
        for at in [0, 5, 9, 17, 25, 29, 40, FRAME / 2] {
            let offset = PAGE + frame * FRAME;
            change(&log, |bytes| bytes[offset + at] ^= 1);
            refused(folder.path(), &["log segment 1", &format!("offset {offset}:")]);
            fs::write(&log, &whole).unwrap();
        }
    }
    change(&log, |bytes| bytes[100] ^= 1);
    refused(folder.path(), &["log segment 1", "offset 0", "header"]);
    fs::write(&log, &whole[..whole.len() - 1]).unwrap();
    refused(folder.path(), &["log segment 1", "bytes, expected"]);
    fs::write(&log, &whole).unwrap();
    assert_eq!(open(folder.path()).unwrap().head().await, Ok(COMMITS));
}

#[tokio::test]
async fn a_log_with_a_part_missing_is_refused() {
    let folder = written().await;
    fs::remove_file(segment(folder.path(), 1)).unwrap();
    refused(folder.path(), &["has no log segment"]);
    let other = written().await;
    fs::copy(segment(other.path(), 1), segment(folder.path(), 1)).unwrap();
    refused(folder.path(), &["log segment 1", "of store"]);

    // The end of a segment that is followed by another was acknowledged.
    let (folder, entries) = merged().await;
    let first = segment(folder.path(), 1);
    let whole = fs::read(&first).unwrap();
    let frame = 13 * PAGE;
    let end = PAGE + (whole.len() - PAGE) / frame * frame;
    change(&first, |bytes| bytes[end - frame..end].fill(0));
    refused(folder.path(), &["log segment 2", "was expected"]);
    fs::write(&first, &whole).unwrap();
    assert!(open(folder.path()).unwrap().snapshot(&[b""]).await.unwrap().1 == entries);
}

#[tokio::test]
async fn damage_in_the_base_is_named() {
    let (folder, entries) = merged().await;
    let base = folder.path().join(format!("base-{}", base_of(folder.path())));
    let db = base.join("db");
    let whole = fs::read(&db).unwrap();
    // Never read as something else; harmless only where sled keeps nothing.
    let mut refusals = 0;
    for part in 1..20 {
        fs::write(&db, &whole).unwrap();
        change(&db, |bytes| bytes[whole.len() / 20 * part] ^= 1);
        match open(folder.path()) {
            Ok(store) => assert!(store.snapshot(&[b""]).await.unwrap().1 == entries, "{part}"),
            Err(StoreError::Corrupt(_) | StoreError::Unavailable(_)) => refusals += 1,
            Err(error) => panic!("{part}: {error}"),
        }
    }
    assert!(refusals > 3, "{refusals} of 19");
    fs::write(&db, &whole).unwrap();
    let blob = base.join("blobs/17");
    fs::write(&blob, "x").unwrap();
    let outcome = open(folder.path()).map(|store| store.id().clone());
    assert_eq!(outcome, Err(StoreError::BlobsNotEmpty { path: base.join("blobs") }));
    fs::remove_file(&blob).unwrap();
    assert!(open(folder.path()).unwrap().snapshot(&[b""]).await.unwrap().1 == entries);
    fs::remove_dir_all(&base).unwrap();
    refused(folder.path(), &["base", "not there"]);
}

#[tokio::test]
async fn a_folder_without_its_root_is_refused() {
    let folder = written().await;
    let root = folder.path().join("store");
    let text = fs::read_to_string(&root).unwrap();
    fs::remove_file(&root).unwrap();
    refused(folder.path(), &["but no `store`"]);
    fs::write(&root, text.replace("base 0", "base 1")).unwrap();
    refused(folder.path(), &["not as it was written"]);
    fs::write(&root, text.replace("format 2", "format 3")).unwrap();
    let later = open(folder.path()).err().unwrap();
    assert!(matches!(later, StoreError::Later { found: 3, known: 2, .. }), "{later}");
    fs::write(&root, text.replace("format 2", "format 1")).unwrap();
    refused(folder.path(), &["format is not one"]);
    fs::write(&root, [255, 254]).unwrap();
    refused(folder.path(), &["not text"]);
    fs::write(&root, &text).unwrap();
    assert_eq!(open(folder.path()).unwrap().head().await, Ok(COMMITS));
}

/// Killed before its root was there, a store was never there: it is made anew.
#[tokio::test]
async fn a_first_start_that_did_not_end_begins_again() {
    let folder = TempDir::new().unwrap();
    drop(open(folder.path()).unwrap());
    fs::remove_file(folder.path().join("store")).unwrap();
    fs::write(folder.path().join("store.new"), "half").unwrap();
    assert_eq!(open(folder.path()).unwrap().head().await, Ok(0));
}
