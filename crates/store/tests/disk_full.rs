//! FAULTS.md F10: the disk fills up under the store, and there is room again, on a file system of its own.
#![cfg(feature = "sled")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "this is a test")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use countersign_store::conformance::put;
use countersign_store::{Entry, SledOptions, SledStore, Store, StoreError};
use tempfile::TempDir;

/// A small file system in memory, unmounted when dropped.
struct Mount(TempDir);

impl Mount {
    /// `None`, with the reason printed, where this process may not mount; where it may, not to mount is a failure.
    fn new(megabytes: u32) -> Option<Self> {
        let mount = Self(TempDir::new().unwrap());
        let size = format!("size={megabytes}m");
        let arguments = ["-t", "tmpfs", "-o", &size, "countersign-test"];
        let run = Command::new("mount").args(arguments).arg(mount.0.path()).output();
        if run.as_ref().is_ok_and(|run| run.status.success()) {
            return Some(mount);
        }
        assert!(!may_mount(), "mounting failed, though this process may mount: {run:?}");
        println!(
            "skipped: a full disk needs a file system of its own, and this process may not mount one"
        );
        None
    }

    fn store(&self) -> PathBuf {
        self.0.path().join("store")
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

/// Whether this process has the capability CAP_SYS_ADMIN, which is bit 21.
fn may_mount() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:\t"));
    effective
        .and_then(|mask| u64::from_str_radix(mask, 16).ok())
        .is_some_and(|mask| mask >> 21 & 1 == 1)
}

fn open(path: &Path) -> SledStore {
    let options =
        SledOptions { merge_bytes: 2 << 20, change_log_bytes: 1 << 20, ..SledOptions::default() };
    SledStore::open(path, options).unwrap()
}

async fn seen(store: &SledStore) -> (u64, Vec<Entry>) {
    store.snapshot(&[b""]).await.unwrap()
}

/// Writes new keys until they are refused, and still refused a second later: a merge that found no room gives back what it
/// took. Returns how many there are.
async fn fill(store: &SledStore, from: u64) -> u64 {
    let mut place = from;
    let mut refused = 0;
    while refused < 4 {
        let writes = vec![
            put(format!("{place:06}/a"), vec![7; 30_000]),
            put(format!("{place:06}/b"), vec![8; 30_000]),
        ];
        match store.commit(vec![], writes).await {
            Ok(_) => (place, refused) = (place + 1, 0),
            Err(error) => {
                assert_eq!(error, StoreError::Full.into());
                refused += 1;
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
        }
        assert!(place < from + 10_000, "the disk never filled up");
    }
    place
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_refused_by_name_and_heals() {
    let Some(mount) = Mount::new(80) else { return };
    let filler = mount.0.path().join("filler");
    std::fs::write(&filler, vec![1; 24 << 20]).unwrap();
    let store = open(&mount.store());
    let written = fill(&store, 0).await;
    // Reads go on, of all that was acknowledged and of nothing else; writes stay refused.
    let full = seen(&store).await;
    assert_eq!((full.0, full.1.len() as u64), (written, 2 * written));
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(
            store.commit(vec![], vec![put("x", vec![1; 60_000])]).await,
            Err(StoreError::Full.into())
        );
        assert_eq!(seen(&store).await, full);
    }
    // A store can be opened on a full disk.
    let id = store.id().clone();
    drop(store);
    let store = open(&mount.store());
    assert_eq!((store.id(), seen(&store).await), (&id, full.clone()));
    // With room again it takes writes, without a restart.
    std::fs::remove_file(&filler).unwrap();
    let mut healed = Err(StoreError::Full.into());
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        healed = store.commit(vec![], vec![put("x", vec![1; 60_000])]).await;
        if healed.is_ok() {
            break;
        }
    }
    assert_eq!(healed.map(|revision| revision.number), Ok(written + 1));
    let rewritten = fill(&store, written).await;
    assert!(rewritten > written, "the room was used: {written}, then {rewritten}");
    let full = seen(&store).await;
    assert_eq!(full.1.len() as u64, 2 * rewritten + 1);
    drop(store);
    assert_eq!(seen(&open(&mount.store())).await, full);
}
