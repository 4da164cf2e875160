//! A process that writes is killed, over and over, in the midst of merges too: nothing that it acknowledged may be lost, and
//! no commit be half there.
//!
//! In full: `COUNTERSIGN_STORE_KILL_ROUNDS=200 COUNTERSIGN_STORE_KILL_ENTITIES=100000 cargo test --release -p
//! countersign-store --test kill -- --nocapture`
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
const ROUNDS: &str = "COUNTERSIGN_STORE_KILL_ROUNDS";
/// Entries that are there all the while, and must stay.
const ENTITIES: &str = "COUNTERSIGN_STORE_KILL_ENTITIES";
const WRITERS: u32 = 8;
/// Each commit writes one value to as many keys.
const KEYS: u32 = 5;
/// Commits in the change log, so that it is cut all the while.
const KEPT: u64 = 300;

fn open(path: &Path) -> Arc<dyn Store> {
    let options = SledOptions {
        ballast_bytes: 0,
        change_log_commits: KEPT,
        // Merges follow one another.
        merge_bytes: 64 << 10,
        ..SledOptions::default()
    };
    Arc::new(SledStore::open(path, options).unwrap())
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

fn entity(place: u64) -> String {
    format!("entity/{:04}/{place:08}", place % 1000)
}

/// A new store with the entities in it; returns its head.
async fn fill(path: &Path, entities: u64) -> u64 {
    let store = open(path);
    for first in (0..entities).step_by(128) {
        let places = first..entities.min(first + 128);
        let writes = places.map(|place| put(entity(place), format!("{place:0300}"))).collect();
        store.commit(vec![], writes).await.unwrap();
    }
    store.head().await.unwrap()
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

/// What the children said, and what was found.
#[derive(Default)]
struct Found {
    acknowledged: Vec<u64>,
    last_number: u64,
    commits: u64,
    slowest_start: Duration,
    in_merges: u32,
}

#[tokio::test]
async fn nothing_acknowledged_is_lost() {
    let folder = TempDir::new().unwrap();
    let (rounds, entities) = (setting(ROUNDS, 5), setting(ENTITIES, 1000));
    let filled = fill(folder.path(), entities).await;
    let mut found =
        Found { acknowledged: vec![0; WRITERS as usize], last_number: filled, ..Found::default() };
    for round in 0..rounds {
        run_and_kill(folder.path(), &mut found);
        found.in_merges += u32::from(holds_half_a_base(folder.path()));
        let since = Instant::now();
        let store = open(folder.path());
        found.slowest_start = found.slowest_start.max(since.elapsed());
        assert!(since.elapsed() < Duration::from_secs(10), "opened after {:?}", since.elapsed());
        check_counters(&store, &mut found, round).await;
        check_log(&store, &found, filled, round).await;
        let kept = store.range(b"entity/", None, usize::MAX).await.unwrap();
        assert_eq!(kept.len() as u64, entities, "round {round}");
        for entry in kept {
            let place = number(entry.key.rsplit(|byte| *byte == b'/').next().unwrap());
            assert_eq!((entry.key, number(&entry.value)), (entity(place).into(), place));
        }
    }
    let Found { commits, slowest_start, in_merges, .. } = found;
    println!(
        "{rounds} kills (-9) of a store of {entities} entities, {in_merges} of them during a merge: {commits} commits \
         acknowledged, 0 lost, 0 half there; serving again after at most {slowest_start:?}"
    );
    assert!(commits > rounds * u64::from(WRITERS), "the children were killed while they worked");
}

fn run_and_kill(folder: &Path, found: &mut Found) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["child", "--exact", "--nocapture"])
        .env(CHILD, folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("open")), "the child opened the store");
    // Some time within a second, different each round, measured from when it began to write.
    let noise = u64::from(
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().subsec_nanos(),
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
            found.acknowledged[writer] = found.acknowledged[writer].max(count);
            found.last_number = found.last_number.max(number);
            found.commits += 1;
        }
    }
    assert!(!killer.join().unwrap().success());
}

/// Whether there is a base that the root does not name: one that was being made, or was being removed.
fn holds_half_a_base(folder: &Path) -> bool {
    let root = std::fs::read_to_string(folder.join("store")).unwrap();
    let base = root.lines().find_map(|line| line.strip_prefix("base ")).unwrap();
    let names = std::fs::read_dir(folder).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.into_iter().any(|name| name.starts_with("base-") && name != format!("base-{base}"))
}

async fn check_counters(store: &Arc<dyn Store>, found: &mut Found, round: u64) {
    assert!(store.head().await.unwrap() >= found.last_number, "round {round}");
    for (writer, least) in found.acknowledged.iter_mut().enumerate() {
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
            assert_eq!(found, (count, at), "round {round}: a commit of writer {writer} is whole");
        }
        *least = count;
    }
}

/// The log has each commit since it was last cut, whole, and no other.
async fn check_log(store: &Arc<dyn Store>, found: &Found, filled: u64, round: u64) {
    let head = store.head().await.unwrap();
    assert_eq!(head, filled + found.acknowledged.iter().sum::<u64>(), "round {round}");
    let oldest = match store.changes_since(0, 1).await {
        Ok(_) => 1,
        Err(StoreError::TooOld { oldest }) => oldest,
        Err(error) => panic!("round {round}: {error}"),
    };
    let mut changes = Vec::new();
    let mut at = oldest - 1;
    while at < head {
        changes.extend(store.changes_since(at, 100).await.unwrap());
        at = changes.last().unwrap().number;
    }
    let numbers: Vec<u64> = changes.iter().map(|change| change.number).collect();
    assert_eq!(numbers, (oldest..=head).collect::<Vec<_>>(), "round {round}");
    let of_writers = changes.iter().filter(|change| change.number > filled);
    assert!(of_writers.into_iter().all(|change| change.writes.len() == KEYS as usize + 1));
    assert!(numbers.len() as u64 <= KEPT, "round {round}");
}
