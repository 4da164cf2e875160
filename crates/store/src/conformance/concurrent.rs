//! Many at once: none is lost, none is half seen, none goes back.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::{all_changes, delete, prefix_empty, put, value_at, version, write};
use crate::{CommitError, Store, Write};

pub(super) async fn concurrent_increments_lose_none(store: Arc<dyn Store>) {
    const TASKS: u64 = 32;
    const EACH: u64 = 20;
    write(&store, vec![put("counter", "0")]).await;
    let increment = |store: Arc<dyn Store>| async move {
        let mut numbers = Vec::new();
        while (numbers.len() as u64) < EACH {
            let entry = store.get(b"counter").await.unwrap().unwrap();
            let count: u64 = std::str::from_utf8(&entry.value).unwrap().parse().unwrap();
            let next = vec![put("counter", (count + 1).to_string())];
            match store.commit(vec![version("counter", entry.version)], next).await {
                Ok(revision) => numbers.push(revision.number),
                Err(CommitError::Conflict { index: 0 }) => {}
                Err(error) => panic!("{error}"),
            }
        }
        numbers
    };
    let tasks: Vec<_> = (0..TASKS).map(|_| tokio::spawn(increment(store.clone()))).collect();
    let mut numbers = Vec::new();
    for task in tasks {
        let own = task.await.unwrap();
        assert!(own.is_sorted(), "a task's own commits are in order");
        numbers.extend(own);
    }
    assert_eq!(value_at(&store, "counter").await, Some(Bytes::from((TASKS * EACH).to_string())));
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len() as u64, TASKS * EACH, "each number is one commit's");
    let changes = all_changes(&store).await;
    assert_eq!(changes.len() as u64, TASKS * EACH + 1);
    for (count, change) in changes.iter().enumerate() {
        assert_eq!(change.writes, [put("counter", count.to_string())]);
    }
}

pub(super) async fn unrelated_writers_all_succeed(store: Arc<dyn Store>) {
    let tasks: Vec<_> = (0..64u32)
        .map(|task| {
            let store = store.clone();
            tokio::spawn(async move {
                for round in 0..10u32 {
                    let key = format!("{task}/{round}");
                    let unique = vec![version(key.as_str(), 0), prefix_empty(format!("{key}/"))];
                    let number = store
                        .commit(unique, vec![put(key.as_str(), key.as_str())])
                        .await
                        .unwrap()
                        .number;
                    // Acknowledged is visible, to everybody.
                    assert!(store.head().await.unwrap() >= number);
                    assert_eq!(
                        store.get(key.as_bytes()).await.unwrap().map(|entry| entry.version),
                        Some(number)
                    );
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(store.range(b"", None, 10_000).await.unwrap().len(), 640);
    assert_eq!(all_changes(&store).await.len(), 640);
}

/// Writers move an amount between accounts; whatever is read in one go must add up.
pub(super) async fn snapshots_are_of_one_revision(store: Arc<dyn Store>) {
    const ACCOUNTS: u32 = 300;
    const TOTAL: u64 = ACCOUNTS as u64 * 100;
    let account = |place: u32| format!("account/{place:05}");
    for first in (0..ACCOUNTS).step_by(100) {
        write(&store, (first..first + 100).map(|place| put(account(place), "100")).collect()).await;
    }
    write(&store, vec![put("other", "1"), put("accounu", "1")]).await;
    let writers: Vec<_> = (0..4u32)
        .map(|writer| {
            let store = store.clone();
            tokio::spawn(async move {
                for round in 0..100u32 {
                    move_between(
                        &store,
                        &account((writer * 71 + round * 13) % ACCOUNTS),
                        &account((round * 29 + 1) % ACCOUNTS),
                    )
                    .await;
                }
            })
        })
        .collect();
    let mut last = 0;
    while !writers.iter().all(tokio::task::JoinHandle::is_finished) {
        let (number, entries) =
            store.snapshot(&[b"account/", b"account/0", b"other"]).await.unwrap();
        assert!(number >= last, "revision {number} after {last}");
        last = number;
        assert!(entries.is_sorted_by(|one, next| one.key < next.key));
        assert!(entries.iter().all(|entry| entry.version <= number && entry.key != "accounu"));
        let total: u64 = entries
            .iter()
            .filter(|entry| entry.key != "other")
            .map(|entry| amount(&entry.value))
            .sum();
        assert_eq!(total, TOTAL, "at {number}");
        // What happened since, put on the snapshot, is what is there.
        let mut replayed: BTreeMap<Bytes, Bytes> =
            entries.into_iter().map(|entry| (entry.key, entry.value)).collect();
        let until = store.head().await.unwrap();
        let mut at = number;
        while at < until {
            for change in store.changes_since(at, 10).await.unwrap() {
                at = change.number;
                for write in change.writes {
                    match write {
                        Write::Put { key, value } => replayed.insert(key, value),
                        Write::Delete { key } => replayed.remove(&key),
                    };
                }
            }
        }
        let (number, entries) = store.snapshot(&[b"account/", b"other"]).await.unwrap();
        if number == at {
            let entries: BTreeMap<Bytes, Bytes> =
                entries.into_iter().map(|entry| (entry.key, entry.value)).collect();
            assert_eq!(entries, replayed);
        }
    }
    for writer in writers {
        writer.await.unwrap();
    }
}

fn amount(value: &Bytes) -> u64 {
    std::str::from_utf8(value).unwrap().parse().unwrap()
}

/// Moves 1 from one key to another, which goes absent while it holds nothing.
async fn move_between(store: &Arc<dyn Store>, from: &str, to: &str) {
    if from == to {
        return;
    }
    loop {
        let (giver, taker) =
            (store.get(from.as_bytes()).await.unwrap(), store.get(to.as_bytes()).await.unwrap());
        let Some(giver) = giver else { return };
        let (taker_version, taken) =
            taker.map_or((0, 0), |taker| (taker.version, amount(&taker.value)));
        let left = amount(&giver.value) - 1;
        let preconditions = vec![version(from, giver.version), version(to, taker_version)];
        let giving = if left == 0 { delete(from) } else { put(from, left.to_string()) };
        match store.commit(preconditions, vec![giving, put(to, (taken + 1).to_string())]).await {
            Ok(_) => return,
            Err(CommitError::Conflict { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// One commit writes the same to many keys: no range may see two values.
pub(super) async fn reads_are_whole_commits(store: Arc<dyn Store>) {
    let writer = {
        let store = store.clone();
        tokio::spawn(async move {
            for round in 0..150u32 {
                let writes = (0..60).map(|place| match (round + place) % 4 {
                    0 => delete(format!("k{place:02}")),
                    _ => put(format!("k{place:02}"), round.to_string()),
                });
                write(&store, writes.collect()).await;
            }
        })
    };
    while !writer.is_finished() {
        let entries = store.range(b"k", None, 100).await.unwrap();
        if let Some(first) = entries.first() {
            assert_eq!(entries.len(), 45);
            assert!(
                entries
                    .iter()
                    .all(|entry| entry.version == first.version && entry.value == first.value)
            );
        }
        tokio::task::yield_now().await;
    }
    writer.await.unwrap();
}

pub(super) async fn head_is_watched(store: Arc<dyn Store>) {
    let mut watched = store.watch_head();
    let number = write(&store, vec![put("a", "1")]).await;
    watched.wait_for(|head| *head >= number).await.unwrap();
    assert_eq!(*store.watch_head().borrow(), number);
    // When the watch wakes, the change is there.
    let follower = {
        let store = store.clone();
        tokio::spawn(async move {
            let mut seen = 0;
            while seen < number + 100 {
                watched.wait_for(|head| *head > seen).await.unwrap();
                let head = *watched.borrow();
                let changes = store.changes_since(seen, 1000).await.unwrap();
                seen = changes.last().unwrap().number;
                assert!(seen >= head);
            }
        })
    };
    for _ in 0..100 {
        write(&store, vec![put("a", "2")]).await;
    }
    follower.await.unwrap();
}
