//! What every engine must do, as one suite that each engine's tests run. Exceptions: none.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "this is a test")]

mod concurrent;
pub mod linearizability;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::{
    Change, CommitError, Entry, MAX_COMMIT_BYTES, MAX_KEY_BYTES, MAX_PRECONDITIONS,
    MAX_VALUE_BYTES, MAX_WRITES, Precondition, Revision, Store, StoreError, Write,
};

/// Runs everything that needs no more than fresh, empty stores, one for each case. Wants a multi-thread runtime.
pub async fn suite(make: impl Fn() -> Arc<dyn Store>) {
    starts_empty(make()).await;
    reads_what_was_written(make()).await;
    versions_are_the_numbers_of_the_last_writes(make()).await;
    preconditions_hold_or_nothing_happens(make()).await;
    one_commit_is_one_step(make()).await;
    ranges_are_ordered_and_paged(make()).await;
    changes_come_in_order(make()).await;
    limits_are_refused_by_name(make()).await;
    the_largest_of_everything_fits(make()).await;
    concurrent::concurrent_increments_lose_none(make()).await;
    concurrent::unrelated_writers_all_succeed(make()).await;
    a_snapshot_is_read_in_pieces(make()).await;
    concurrent::snapshots_are_of_one_revision(make()).await;
    concurrent::reads_are_whole_commits(make()).await;
    concurrent::head_is_watched(make()).await;
}

pub fn put(key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Write {
    Write::Put { key: key.into().into(), value: value.into().into() }
}

pub fn delete(key: impl Into<Vec<u8>>) -> Write {
    Write::Delete { key: key.into().into() }
}

pub fn version(key: impl Into<Vec<u8>>, version: u64) -> Precondition {
    Precondition::Version { key: key.into().into(), version }
}

pub fn prefix_empty(prefix: impl Into<Vec<u8>>) -> Precondition {
    Precondition::PrefixEmpty { prefix: prefix.into().into() }
}

async fn write(store: &Arc<dyn Store>, writes: Vec<Write>) -> u64 {
    store.commit(vec![], writes).await.unwrap().number
}

async fn value_at(store: &Arc<dyn Store>, key: &str) -> Option<Bytes> {
    store.get(key.as_bytes()).await.unwrap().map(|entry| entry.value)
}

async fn starts_empty(store: Arc<dyn Store>) {
    assert_eq!(store.head().await, Ok(0));
    assert_eq!(store.get(b"a").await, Ok(None));
    assert_eq!(store.range(b"", None, 10).await, Ok(vec![]));
    assert_eq!(store.snapshot(&[b""]).await, Ok((0, vec![])));
    assert_eq!(store.changes_since(0, 10).await, Ok(vec![]));
    assert_eq!(*store.watch_head().borrow(), 0);
    let id = store.id().to_string();
    assert!(id.len() == 16 && id.parse() == Ok(store.id().clone()), "{id}");
}

async fn reads_what_was_written(store: Arc<dyn Store>) {
    let revision = store.commit(vec![], vec![put("a", "1"), put("b", "")]).await.unwrap();
    assert!(revision.number > 0);
    assert_eq!(&revision.store_id, store.id());
    assert_eq!(revision.to_string().parse::<Revision>(), Ok(revision.clone()));
    assert_eq!(store.head().await, Ok(revision.number));
    assert_eq!(value_at(&store, "a").await, Some(Bytes::from("1")));
    assert_eq!(value_at(&store, "b").await, Some(Bytes::new()));
    assert_eq!(value_at(&store, "c").await, None);
    // The last of several writes to one key stands, and bytes of any kind are kept.
    write(&store, vec![put("a", "2"), delete("a"), put("a", "3"), put("x", "1"), delete("x")])
        .await;
    assert_eq!(value_at(&store, "a").await, Some(Bytes::from("3")));
    assert_eq!(value_at(&store, "x").await, None);
    write(&store, vec![put([0], [0]), put([255, 255], [255; 300])]).await;
    assert_eq!(
        store.get(&[0]).await.unwrap().map(|entry| entry.value),
        Some(Bytes::from_static(&[0]))
    );
    assert_eq!(store.get(&[255, 255]).await.unwrap().map(|entry| entry.value.len()), Some(300));
    write(&store, vec![delete("a"), delete("never there")]).await;
    assert_eq!(value_at(&store, "a").await, None);
}

async fn versions_are_the_numbers_of_the_last_writes(store: Arc<dyn Store>) {
    let first = write(&store, vec![put("a", "1"), put("b", "1")]).await;
    let second = write(&store, vec![put("b", "1")]).await;
    assert!(second > first, "{second} after {first}");
    let versions: Vec<u64> =
        store.range(b"", None, 10).await.unwrap().into_iter().map(|entry| entry.version).collect();
    assert_eq!(versions, [first, second]);
    let third = write(&store, vec![delete("a"), put("a", "2")]).await;
    assert_eq!(store.get(b"a").await.unwrap().map(|entry| entry.version), Some(third));
}

async fn preconditions_hold_or_nothing_happens(store: Arc<dyn Store>) {
    let first = write(&store, vec![put("user/ann", "1"), put("user/bob", "1")]).await;
    let check = async |preconditions: Vec<Precondition>, expected: Result<(), usize>| {
        let head = store.head().await.unwrap();
        let asked = format!("{preconditions:?}");
        let outcome = store.commit(preconditions.clone(), vec![put("z", "1")]).await;
        match expected {
            Ok(()) => assert!(outcome.unwrap().number > head, "{asked}"),
            Err(index) => {
                assert_eq!(outcome, Err(CommitError::Conflict { index }), "{asked}");
                assert_eq!(store.head().await, Ok(head), "{asked}");
                assert_eq!(store.get(b"z").await, Ok(None), "{asked}");
                assert_eq!(store.changes_since(head, 10).await, Ok(vec![]), "{asked}");
            }
        }
        // Without writes the same is only checked.
        let head = store.head().await.unwrap();
        match (expected, store.commit(preconditions, vec![]).await) {
            (Ok(()), Ok(revision)) => assert_eq!(revision.number, head, "{asked}"),
            (Err(index), outcome) => {
                assert_eq!(outcome, Err(CommitError::Conflict { index }), "{asked}")
            }
            (Ok(()), outcome) => panic!("{asked}: {outcome:?}"),
        }
        write(&store, vec![delete("z")]).await;
    };
    check(vec![version("user/ann", first)], Ok(())).await;
    check(vec![version("user/ann", first + 1)], Err(0)).await;
    check(vec![version("user/ann", 0)], Err(0)).await;
    check(vec![version("user/eve", 0)], Ok(())).await;
    check(vec![version("user/eve", first)], Err(0)).await;
    check(
        vec![version("user/ann", first), version("user/bob", first), version("user/eve", 1)],
        Err(2),
    )
    .await;
    check(vec![prefix_empty("user/c")], Ok(())).await;
    check(vec![prefix_empty("user/")], Err(0)).await;
    check(vec![prefix_empty("user/ann")], Err(0)).await;
    check(vec![version("user/ann", first), prefix_empty("user/ann/"), prefix_empty("")], Err(2))
        .await;

    // A deleted key is absent, and its former version is nobody's.
    let gone = write(&store, vec![delete("user/ann"), delete("user/bob")]).await;
    check(vec![version("user/ann", 0), prefix_empty("user/")], Ok(())).await;
    check(vec![version("user/ann", first)], Err(0)).await;
    check(vec![version("user/ann", gone)], Err(0)).await;
}

async fn one_commit_is_one_step(store: Arc<dyn Store>) {
    let keys: Vec<String> = (0..MAX_WRITES).map(|place| format!("k{place:03}")).collect();
    let number = write(&store, keys.iter().map(|key| put(key.as_str(), "1")).collect()).await;
    let entries = store.range(b"k", None, 1000).await.unwrap();
    assert_eq!(entries.len(), MAX_WRITES);
    assert!(entries.iter().all(|entry| entry.version == number));
    let changes = store.changes_since(0, 10).await.unwrap();
    assert_eq!(changes.len(), 1);
    assert_eq!(changes[0].writes.len(), MAX_WRITES);
}

async fn ranges_are_ordered_and_paged(store: Arc<dyn Store>) {
    let mut expected: Vec<Vec<u8>> =
        (0..100u8).map(|place| vec![b'p', b'/', place.wrapping_mul(37)]).collect();
    expected.push(b"p/\xff\xff".to_vec());
    expected.push(b"p/".to_vec());
    for keys in expected.chunks(7) {
        write(&store, keys.iter().map(|key| put(key.clone(), "v")).collect()).await;
    }
    write(
        &store,
        vec![
            put("p", "outside"),
            put("p0", "outside"),
            put("o/\u{ff}", "outside"),
            put([255], "outside"),
        ],
    )
    .await;
    expected.sort();
    let keys = |entries: Vec<Entry>| {
        entries.into_iter().map(|entry| entry.key.to_vec()).collect::<Vec<_>>()
    };
    assert_eq!(keys(store.range(b"p/", None, 1000).await.unwrap()), expected);
    for page in [1, 2, 7, expected.len(), expected.len() + 1] {
        let mut found: Vec<Vec<u8>> = Vec::new();
        loop {
            let entries = store.range(b"p/", found.last().map(Vec::as_slice), page).await.unwrap();
            let ended = entries.len() < page;
            found.extend(keys(entries));
            if ended {
                break;
            }
        }
        assert_eq!(found, expected, "pages of {page}");
    }
    assert_eq!(store.range(b"p/", None, 0).await, Ok(vec![]));
    assert_eq!(store.range(b"q", None, 10).await, Ok(vec![]));
    // `after` need not exist, nor lie within the prefix.
    assert_eq!(keys(store.range(b"p/", Some(b"a"), 1).await.unwrap()), expected[..1]);
    assert_eq!(store.range(b"p/", Some(b"q"), 10).await, Ok(vec![]));
    assert_eq!(keys(store.range(b"p/", Some(b"p/\x00\x00"), 1).await.unwrap()), expected[2..3]);
    assert_eq!(keys(store.range(&[255], None, 10).await.unwrap()), [[255]]);
    assert_eq!(store.range(b"", None, 1000).await.unwrap().len(), expected.len() + 4);
}

async fn changes_come_in_order(store: Arc<dyn Store>) {
    let mut made = Vec::new();
    for place in 0..50u32 {
        let mut writes = vec![
            put(format!("k{}", place % 7), place.to_string()),
            delete(format!("k{}", place % 5)),
        ];
        if place % 10 == 0 {
            // More than fits in one piece of anything.
            writes.extend(
                (0..8).map(|large| put(format!("large{large}"), vec![large; MAX_VALUE_BYTES])),
            );
        }
        let number = write(&store, writes.clone()).await;
        made.push(Change { number, writes });
        let refused = store.commit(vec![version("never", 1)], vec![put("k0", "no")]).await;
        assert_eq!(refused, Err(CommitError::Conflict { index: 0 }));
    }
    let numbers: Vec<u64> = made.iter().map(|change| change.number).collect();
    assert!(numbers.is_sorted_by(|one, next| one < next), "{numbers:?}");
    for limit in [1, 3, 50, 1000] {
        let mut found: Vec<Change> = Vec::new();
        loop {
            let after = found.last().map_or(0, |change| change.number);
            let changes = store.changes_since(after, limit).await.unwrap();
            assert!(changes.len() <= limit);
            if changes.is_empty() {
                break;
            }
            found.extend(changes);
        }
        assert_eq!(found, made, "by {limit}");
    }
    let head = store.head().await.unwrap();
    assert_eq!(store.changes_since(head, 10).await, Ok(vec![]));
    assert_eq!(store.changes_since(0, 0).await, Ok(vec![]));
    assert_eq!(store.changes_since(head + 1, 10).await, Err(StoreError::Ahead { head }));
    assert_eq!(store.changes_since(u64::MAX, 10).await, Err(StoreError::Ahead { head }));

    // Changes put one on another give what is there.
    let mut replayed = BTreeMap::new();
    for write in made.into_iter().flat_map(|change| change.writes) {
        match write {
            Write::Put { key, value } => replayed.insert(key, value),
            Write::Delete { key } => replayed.remove(&key),
        };
    }
    let entries = store.range(b"", None, 1000).await.unwrap();
    assert_eq!(
        entries.into_iter().map(|entry| (entry.key, entry.value)).collect::<BTreeMap<_, _>>(),
        replayed
    );
}

async fn limits_are_refused_by_name(store: Arc<dyn Store>) {
    let long_key = vec![b'k'; MAX_KEY_BYTES + 1];
    let large_value = vec![0; MAX_VALUE_BYTES + 1];
    let key_too_large = StoreError::KeyTooLarge { size: MAX_KEY_BYTES + 1, limit: MAX_KEY_BYTES };
    let too_large = StoreError::ValueTooLarge { size: MAX_VALUE_BYTES + 1, limit: MAX_VALUE_BYTES };
    let many_writes: Vec<Write> =
        (0..=MAX_WRITES).map(|place| put(format!("{place}"), "")).collect();
    let too_many = StoreError::TooManyWrites { count: MAX_WRITES + 1, limit: MAX_WRITES };
    let many_checks = vec![version("a", 0); MAX_PRECONDITIONS + 1];
    let too_many_checks =
        StoreError::TooManyPreconditions { count: MAX_PRECONDITIONS + 1, limit: MAX_PRECONDITIONS };
    let heavy: Vec<Write> =
        (0..16).map(|place| put(format!("{place:02}"), vec![0; MAX_VALUE_BYTES])).collect();
    let too_heavy =
        StoreError::CommitTooLarge { size: MAX_COMMIT_BYTES + 32, limit: MAX_COMMIT_BYTES };
    for (preconditions, writes, expected) in [
        (vec![], vec![put("", "1")], StoreError::KeyEmpty),
        (vec![], vec![delete("")], StoreError::KeyEmpty),
        (vec![], vec![put(long_key.clone(), "1")], key_too_large.clone()),
        (vec![], vec![put("a", "1"), delete(long_key.clone())], key_too_large.clone()),
        (vec![], vec![put("a", "1"), put("b", large_value)], too_large),
        (vec![], many_writes, too_many),
        (vec![], heavy, too_heavy),
        (many_checks, vec![], too_many_checks),
        (vec![version("", 0)], vec![], StoreError::KeyEmpty),
        (vec![version(long_key.clone(), 0)], vec![], key_too_large.clone()),
        (vec![prefix_empty(long_key.clone())], vec![], key_too_large.clone()),
    ] {
        assert_eq!(store.commit(preconditions, writes).await, Err(CommitError::Store(expected)));
    }
    assert_eq!(store.get(b"").await, Err(StoreError::KeyEmpty));
    assert_eq!(store.get(&long_key).await, Err(key_too_large.clone()));
    assert_eq!(store.range(&long_key, None, 1).await, Err(key_too_large.clone()));
    assert_eq!(store.snapshot(&[&long_key]).await, Err(key_too_large));
    assert_eq!(store.head().await, Ok(0));
}

async fn the_largest_of_everything_fits(store: Arc<dyn Store>) {
    let value = vec![7; MAX_VALUE_BYTES];
    let key = |place: u32| {
        let mut key = vec![b'k'; MAX_KEY_BYTES - 4];
        key.extend(place.to_be_bytes());
        key
    };
    for first in (0..120).step_by(15) {
        write(&store, (first..first + 15).map(|place| put(key(place), value.clone())).collect())
            .await;
    }
    // Again, from both ends, so that pages meet their neighbours.
    for place in (0..60).flat_map(|place| [place, 119 - place]) {
        write(&store, vec![put(key(place), value.clone())]).await;
        if place % 3 == 0 {
            write(&store, vec![delete(key(place))]).await;
        }
    }
    let entries = store.range(b"k", None, 1000).await.unwrap();
    let expected: Vec<Vec<u8>> = (0..120).filter(|place| place % 3 != 0).map(key).collect();
    assert_eq!(entries.iter().map(|entry| entry.key.to_vec()).collect::<Vec<_>>(), expected);
    assert!(entries.iter().all(|entry| entry.value == value));
}

/// A store that keeps the changes of at most `kept` commits says so to who asks for older ones.
pub async fn old_changes_are_refused(store: Arc<dyn Store>, kept: u64) {
    let mut numbers = Vec::new();
    for round in 0..kept * 3 {
        numbers.push(
            write(&store, vec![put("a", round.to_string()), put("b", vec![0; 40_000])]).await,
        );
    }
    let Err(StoreError::TooOld { oldest }) = store.changes_since(0, 1).await else {
        panic!("all changes are kept");
    };
    let changes = all_changes_since(&store, oldest - 1).await;
    let found: Vec<u64> = changes.iter().map(|change| change.number).collect();
    assert!(found.len() as u64 <= kept && !found.is_empty(), "{} are kept", found.len());
    assert_eq!(found, numbers[numbers.len() - found.len()..]);
    assert_eq!(
        store.changes_since(oldest.saturating_sub(2), 1).await,
        Err(StoreError::TooOld { oldest })
    );
    assert_eq!(value_at(&store, "a").await, Some(Bytes::from((kept * 3 - 1).to_string())));
}

/// Closing a store and opening it again changes nothing that can be seen. `reopen` must drop what it is given.
pub async fn reopening_keeps_everything(
    store: Arc<dyn Store>,
    reopen: impl Fn(Arc<dyn Store>) -> Arc<dyn Store>,
) {
    let mut store = store;
    let id = store.id().clone();
    for round in 0..5u32 {
        for place in 0..40u32 {
            write(
                &store,
                vec![
                    put(format!("{round}/{place}"), vec![1; 5000]),
                    delete(format!("{round}/{}", place / 2)),
                ],
            )
            .await;
        }
        let seen = (store.head().await, store.snapshot(&[b""]).await, all_changes(&store).await);
        store = reopen(store);
        assert_eq!(store.id(), &id);
        assert_eq!(
            (store.head().await, store.snapshot(&[b""]).await, all_changes(&store).await),
            seen
        );
        let head = store.head().await.unwrap();
        assert!(write(&store, vec![put("after", "1")]).await > head);
    }
}

/// Everything that changed, from the beginning.
pub async fn all_changes(store: &Arc<dyn Store>) -> Vec<Change> {
    all_changes_since(store, 0).await
}

async fn all_changes_since(store: &Arc<dyn Store>, after: u64) -> Vec<Change> {
    let mut found: Vec<Change> = Vec::new();
    loop {
        let after = found.last().map_or(after, |change| change.number);
        let changes = store.changes_since(after, 1000).await.unwrap();
        if changes.is_empty() {
            return found;
        }
        found.extend(changes);
    }
}

/// In pieces of any size a snapshot is what it is as a whole, whatever is written meanwhile.
async fn a_snapshot_is_read_in_pieces(store: Arc<dyn Store>) {
    for key in ["a/1", "a/2", "b/1", "c/1", "c/2", "c/3", "d"] {
        store.commit(vec![], vec![put(key, key)]).await.unwrap();
    }
    for prefixes in
        [&["a/", "c/"][..], &["c/", "a/", "c/1"], &["", "b/"], &["b/"], &["x/", "d"], &["x/"], &[]]
    {
        let prefixes: Vec<&[u8]> = prefixes.iter().map(|prefix| prefix.as_bytes()).collect();
        for limit in [1, 2, 3, 4, 7, 100] {
            let whole = store.snapshot(&prefixes).await.unwrap();
            let owned = prefixes.iter().map(|prefix| prefix.to_vec()).collect();
            let mut snapshot = store.open_snapshot(owned).await.unwrap();
            let mut entries = Vec::new();
            loop {
                let piece = snapshot.next(limit).await.unwrap();
                assert!(piece.len() <= limit);
                if piece.is_empty() {
                    break;
                }
                entries.extend(piece);
                store.commit(vec![], vec![put("c/2", "later"), delete("zz")]).await.unwrap();
            }
            assert_eq!((snapshot.number(), entries), whole, "{limit}");
        }
    }
    let long = vec![vec![b'k'; MAX_KEY_BYTES + 1]];
    assert!(store.open_snapshot(long).await.is_err());
}
