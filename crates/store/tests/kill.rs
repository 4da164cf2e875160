//! A process that writes is killed, over and over: nothing that it acknowledged may be lost, and no commit be half there.
#![cfg(feature = "sled")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "this is a test")]

use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use countersign_store::conformance::{put, version};
use countersign_store::{CommitError, SledOptions, SledStore, Store, StoreError};
use tempfile::TempDir;

/// Tells the test binary, started again by itself, that it is the one to be killed.
const CHILD: &str = "COUNTERSIGN_STORE_KILL_TEST_FOLDER";
const ROUNDS: u32 = 5;
const WRITERS: u32 = 8;
/// Each commit writes one value to as many keys.
const KEYS: u32 = 5;
/// Commits in the change log, so that it is cut all the while.
const KEPT: u64 = 300;

fn open(path: &Path) -> Arc<dyn Store> {
    let options = SledOptions {
        cache_capacity: 8 << 20,
        ballast_bytes: 0,
        change_log_commits: KEPT,
        ..SledOptions::default()
    };
    Arc::new(SledStore::open(path, options).unwrap())
}

/// The child: each writer counts up, and says what was acknowledged, one line each, never before it was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child() {
    let Some(folder) = std::env::var_os(CHILD) else { return };
    let store = open(Path::new(&folder));
    println!("open");
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let store = store.clone();
            tokio::spawn(async move {
                for _ in 0..u64::MAX {
                    let counter = format!("{writer}/counter");
                    let entry = store.get(counter.as_bytes()).await.unwrap();
                    let count = entry.as_ref().map_or(0, |entry| number(&entry.value)) + 1;
                    let at = entry.map_or(0, |entry| entry.version);
                    let mut writes = vec![put(counter.as_str(), count.to_string())];
                    // Now and then one that spans sled's pages and segments.
                    let value = format!(
                        "{count}{}",
                        " ".repeat(if count % 32 == 0 { 20_000 } else { 200 })
                    );
                    writes.extend(
                        (0..KEYS).map(|key| put(format!("{writer}/{key}"), value.as_str())),
                    );
                    match store.commit(vec![version(counter.as_str(), at)], writes).await {
                        Ok(revision) => {
                            let mut out = std::io::stdout().lock();
                            writeln!(out, "ack {writer} {count} {}", revision.number).unwrap();
                        }
                        Err(CommitError::Conflict { .. } | CommitError::Store(_)) => {
                            panic!("a writer was refused")
                        }
                    }
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
}

fn number(value: &[u8]) -> u64 {
    std::str::from_utf8(value).unwrap().trim().parse().unwrap()
}

#[tokio::test]
async fn nothing_acknowledged_is_lost() {
    let folder = TempDir::new().unwrap();
    let mut acknowledged = vec![0; WRITERS as usize];
    let mut last_number = 0;
    let mut total = 0;
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["child", "--exact", "--nocapture"])
            .env(CHILD, folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains("open")), "the child opened the store");
        // Some time within a second, different each round, measured from when it began to write.
        let noise = u64::from(
            std::time::SystemTime::now()
                .duration_since(std::time::UNIX_EPOCH)
                .unwrap()
                .subsec_nanos(),
        );
        let killer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(100 + noise / 7 % 900));
            child.kill().unwrap();
            child.wait().unwrap()
        });
        for line in lines {
            // The last line may be cut short: what it said does not count.
            let Ok(line) = line else { break };
            if let [_, writer, count, number] = line.split(' ').collect::<Vec<_>>()[..]
                && line.starts_with("ack ")
            {
                let writer: usize = writer.parse().unwrap();
                let (Ok(count), Ok(number)) = (count.parse::<u64>(), number.parse::<u64>()) else {
                    break;
                };
                acknowledged[writer] = acknowledged[writer].max(count);
                last_number = last_number.max(number);
                total += 1;
            }
        }
        assert!(!killer.join().unwrap().success());

        let since = Instant::now();
        let store = open(folder.path());
        assert!(since.elapsed() < Duration::from_secs(10), "opened after {:?}", since.elapsed());
        assert!(store.head().await.unwrap() >= last_number, "round {round}");
        for (writer, least) in acknowledged.iter_mut().enumerate() {
            let counter = store.get(format!("{writer}/counter").as_bytes()).await.unwrap();
            let count = counter.as_ref().map_or(0, |entry| number(&entry.value));
            assert!(
                count >= *least,
                "round {round}: writer {writer} was told {least}, and {count} is there"
            );
            let at = counter.map_or(0, |entry| entry.version);
            for key in 0..KEYS {
                let entry = store.get(format!("{writer}/{key}").as_bytes()).await.unwrap();
                let found = entry.map_or((0, 0), |entry| (number(&entry.value), entry.version));
                assert_eq!(
                    found,
                    (count, at),
                    "round {round}: a commit of writer {writer} is whole"
                );
            }
            *least = count;
        }
        // The log has each commit since it was last cut, whole, and no other.
        let head = store.head().await.unwrap();
        assert_eq!(head, acknowledged.iter().sum::<u64>(), "round {round}");
        let oldest = match store.changes_since(0, 1).await {
            Ok(_) => 1,
            Err(StoreError::TooOld { oldest }) => oldest,
            Err(error) => panic!("round {round}: {error}"),
        };
        let changes = store.changes_since(oldest - 1, usize::MAX).await.unwrap();
        let numbers: Vec<u64> = changes.iter().map(|change| change.number).collect();
        assert_eq!(numbers, (oldest..=head).collect::<Vec<_>>(), "round {round}");
        assert!(changes.iter().all(|change| change.writes.len() == KEYS as usize + 1));
        assert!(numbers.len() as u64 <= KEPT, "round {round}");
    }
    assert!(
        total > u64::from(ROUNDS * WRITERS),
        "the children were killed while they worked: {total}"
    );
}
