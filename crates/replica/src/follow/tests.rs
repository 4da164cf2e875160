use countersign_proto::policy::v1::{Record, WatchDigest};
use watch_response::Event;

use super::*;
use crate::{Behind, kept::Stamp};

fn chunk(revision: &str, first: bool, last: bool) -> Event {
    let revision = revision.to_owned();
    Event::SnapshotChunk(WatchSnapshotChunk { revision, first, last, records: Vec::new() })
}

fn change(revision: &str) -> Event {
    let revision = revision.to_owned();
    Event::Change(WatchChange { revision, ..WatchChange::default() })
}

fn heartbeat(revision: &str) -> Event {
    Event::Heartbeat(WatchHeartbeat { revision: revision.to_owned(), digest: None })
}

/// As a stream does it.
fn apply_to(
    follower: &Follower,
    arriving: &mut Arriving,
    event: Event,
) -> Result<Option<Revision>, Broken> {
    Ok(match follower.apply(arriving, event)? {
        Applied::Reached(revision) => Some(revision),
        Applied::InPart => None,
        Applied::Whole(revision) => {
            Some(follower.whole(revision, std::mem::take(arriving).finish()))
        }
    })
}

/// A replica at `aaaa:5`, and what fills it.
fn replica() -> (Replica, Follower) {
    let (replica, follower) = Replica::new("test", &[]);
    apply_to(&follower, &mut Arriving::default(), chunk("aaaa:5", true, true)).unwrap();
    (replica, follower)
}

/// What was held of the store grows older, unless something is applied.
#[test]
fn l1_only_what_is_applied_makes_the_snapshot_younger() {
    const LONG: Duration = Duration::from_millis(40);
    let check = |events: Vec<Event>, younger: bool| {
        let (replica, follower) = replica();
        std::thread::sleep(LONG);
        let mut arriving = Arriving::default();
        let outcomes: Vec<_> =
            events.into_iter().map(|event| apply_to(&follower, &mut arriving, event)).collect();
        assert_eq!(replica.age() < LONG, younger, "{outcomes:?}");
    };
    check(vec![heartbeat("aaaa:5")], true);
    check(vec![heartbeat("aaaa:6")], true);
    check(vec![change("aaaa:6")], true);
    check(vec![chunk("aaaa:5", true, true)], true);
    check(vec![chunk("bbbb:1", true, false), chunk("bbbb:1", false, true)], true);
    // In part; older than what is held; of another store; no revision at all.
    check(vec![chunk("aaaa:6", true, false), chunk("aaaa:6", false, false)], false);
    check(vec![chunk("aaaa:4", true, true)], false);
    check(vec![change("aaaa:4")], false);
    check(vec![change("bbbb:6")], false);
    check(vec![heartbeat("aaaa:4")], false);
    check(vec![heartbeat("x")], false);
    check(vec![chunk("x", true, true)], false);
}

fn record(key: &str, version: u64) -> Record {
    Record { key: key.to_owned(), record: None, format: 1, version }
}

fn counted(revision: &str, records: &[(u64, &str)]) -> Event {
    let mut digest = Digest::default();
    for (version, key) in records {
        digest.add(*version, key.as_bytes());
    }
    let digest = Some(WatchDigest::from(digest));
    Event::Heartbeat(WatchHeartbeat { revision: revision.to_owned(), digest })
}

/// F9: a proxy that drops, repeats or alters changes is found out at the next heartbeat, and the next stream begins with a snapshot.
#[test]
fn a_missed_change_is_found_out_and_mended_by_a_snapshot() {
    let (replica, follower) = replica();
    let put = |revision: &str, key: &str, version| {
        let put = vec![record(key, version)];
        let revision = revision.to_owned();
        Event::Change(WatchChange { revision, put, deleted: Vec::new() })
    };
    let mut arriving = Arriving::default();
    let mut apply = |event| apply_to(&follower, &mut arriving, event);
    apply(put("aaaa:6", "user/a", 6)).unwrap();
    apply(put("aaaa:7", "user/b", 7)).unwrap();
    apply(counted("aaaa:7", &[(6, "user/a"), (7, "user/b")])).unwrap();
    // A repeated change is no difference: it says what is held.
    apply(put("aaaa:7", "user/b", 7)).unwrap();
    apply(counted("aaaa:7", &[(6, "user/a"), (7, "user/b")])).unwrap();
    assert_eq!(follower.resume_at(), "aaaa:7");

    // Revision 8 changed `user/a`, and did not arrive. What is held is not called newer for it.
    let missed = apply(counted("aaaa:8", &[(8, "user/a"), (7, "user/b")]));
    assert!(matches!(missed, Err(Broken::Diverged { .. })), "{missed:?}");
    assert_eq!(replica.now().ok().unwrap().revision().to_string(), "aaaa:7");
    assert_eq!(follower.resume_at(), "");
    let first = follower.patience();
    let again = apply(counted("aaaa:8", &[(8, "user/a"), (7, "user/b")]));
    assert!(matches!(again, Err(Broken::Diverged { .. })), "{again:?}");
    assert!(first < follower.patience());

    let records = vec![record("user/a", 8), record("user/b", 7)];
    let revision = "aaaa:8".to_owned();
    let snapshot = WatchSnapshotChunk { revision, first: true, last: true, records };
    apply(Event::SnapshotChunk(snapshot)).unwrap();
    apply(counted("aaaa:8", &[(8, "user/a"), (7, "user/b")])).unwrap();
    assert_eq!(follower.resume_at(), "aaaa:8");
    // A deletion that did not arrive, and one that did.
    assert!(apply(counted("aaaa:9", &[(8, "user/a")])).is_err());
    let deleted = vec!["user/b".to_owned()];
    let revision = "aaaa:9".to_owned();
    apply(Event::Change(WatchChange { revision, put: Vec::new(), deleted })).unwrap();
    apply(counted("aaaa:9", &[(8, "user/a")])).unwrap();
}

/// F9 at large: changes that are dropped, repeated, held back or sent in another order, by chance. After each heartbeat the follower holds
/// what the store counts, or knows that it does not, and begins again as it would on a new stream.
#[test]
fn whatever_a_proxy_does_is_found_out_at_the_next_heartbeat() {
    let mut state = 9_u64;
    let mut below = move |most: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % most
    };
    let (mut broken, mut diverged) = (0, 0);
    for _ in 0..200 {
        let (replica, follower) = replica();
        let mut truth = std::collections::BTreeMap::<String, u64>::new();
        let mut log: Vec<WatchChange> = Vec::new();
        let mut late = Vec::new();
        for number in 6..66_u64 {
            let key = format!("user/{}", below(8));
            let mut event =
                WatchChange { revision: format!("aaaa:{number}"), ..WatchChange::default() };
            if below(4) == 0 && truth.remove(&key).is_some() {
                event.deleted.push(key);
            } else {
                truth.insert(key.clone(), number);
                event.put.push(record(&key, number));
            }
            log.push(event.clone());
            let sent = match below(10) {
                0 => vec![],
                1 => vec![event.clone(), event],
                2 => {
                    late.push(event);
                    vec![]
                }
                3 => log.get(log.len() / 2).cloned().into_iter().chain([event]).collect(),
                _ => [event].into_iter().chain(late.pop()).collect(),
            };
            let mut arriving = Arriving::default();
            let mut outcomes: Vec<_> = sent
                .into_iter()
                .map(|change| apply_to(&follower, &mut arriving, Event::Change(change)))
                .collect();
            let records: Vec<(u64, &str)> =
                truth.iter().map(|(key, version)| (*version, key.as_str())).collect();
            let beat = || counted(&format!("aaaa:{number}"), &records);
            if number % 5 == 0 {
                outcomes.push(apply_to(&follower, &mut arriving, beat()));
            }
            // A stream that broke goes on from what is held, or with a snapshot.
            while let Some(Err(error)) = outcomes.into_iter().find(Result::is_err) {
                broken += 1;
                diverged += usize::from(matches!(error, Broken::Diverged { .. }));
                let from = follower.resume_at();
                outcomes = if from.is_empty() {
                    let records = truth.iter().map(|(key, version)| record(key, *version));
                    let snapshot = WatchSnapshotChunk {
                        revision: format!("aaaa:{number}"),
                        first: true,
                        last: true,
                        records: records.collect(),
                    };
                    vec![apply_to(&follower, &mut arriving, Event::SnapshotChunk(snapshot))]
                } else {
                    let from: Revision = from.parse().unwrap();
                    let number = |change: &WatchChange| {
                        change.revision.parse::<Revision>().map_or(0, |revision| revision.number)
                    };
                    let after = log.iter().filter(|change| number(change) > from.number);
                    let apply = |change: &WatchChange| {
                        apply_to(&follower, &mut Arriving::default(), Event::Change(change.clone()))
                    };
                    after.map(apply).collect()
                };
                outcomes.push(apply_to(&follower, &mut arriving, beat()));
            }
            if number % 5 == 0 {
                let Event::Heartbeat(WatchHeartbeat { digest, .. }) = beat() else { continue };
                let held = replica.now().unwrap().world().digest();
                assert_eq!(Some(WatchDigest::from(held)), digest, "at {number}");
            }
        }
    }
    println!(
        "F9: 200 histories of 60 changes; {broken} streams broke, {diverged} of them by the digest; none stayed apart"
    );
    assert!(diverged > 100, "{diverged}");
}

fn kept(revision: &str, heard_at: u64) -> Kept {
    let stamp = Stamp { revision: revision.parse().unwrap(), heard_at };
    Kept { stamp, world: World::default(), unreadable: Vec::new() }
}

fn seconds_ago(seconds: u64) -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    since.as_secs() - seconds
}

fn shown(replica: &Replica) -> String {
    replica.now().map_or_else(|error| error.to_string(), |view| view.revision().to_string())
}

/// What was kept is shown once the store has said all that happened since, or stays away; never in between.
#[test]
fn what_was_kept_waits_for_the_store() {
    let nothing = "this replica has no snapshot yet";
    let check = |events: Vec<Event>, caught_up: &str, fallen_back: &str, is_kept: bool| {
        let (replica, follower) = Replica::new("test", &[]);
        follower.found(kept("aaaa:5", seconds_ago(600)));
        assert_eq!((shown(&replica).as_str(), follower.resume_at().as_str()), (nothing, "aaaa:5"));
        let mut arriving = Arriving::default();
        for event in events {
            // What is refused breaks the stream, and leaves what is there.
            let _ = apply_to(&follower, &mut arriving, event);
        }
        assert_eq!(shown(&replica), caught_up);
        follower.fall_back();
        assert_eq!(shown(&replica), fallen_back);
        assert_eq!(replica.is_kept(), is_kept);
        assert_eq!(replica.age() >= Duration::from_secs(600), is_kept);
        apply_to(&follower, &mut arriving, heartbeat("aaaa:9")).ok();
    };
    check(vec![], nothing, "aaaa:5", true);
    check(vec![heartbeat("aaaa:5")], "aaaa:5", "aaaa:5", false);
    check(vec![change("aaaa:6"), change("aaaa:7")], nothing, "aaaa:7", true);
    check(vec![change("aaaa:6"), heartbeat("aaaa:7")], "aaaa:7", "aaaa:7", false);
    check(vec![chunk("aaaa:6", true, false)], nothing, "aaaa:5", true);
    check(vec![chunk("aaaa:6", true, true)], "aaaa:6", "aaaa:6", false);
    check(vec![chunk("bbbb:1", true, true)], "bbbb:1", "bbbb:1", false);
    check(vec![chunk("aaaa:4", true, true)], nothing, "aaaa:5", true);
    check(vec![heartbeat("aaaa:4")], nothing, "aaaa:5", true);
    check(vec![heartbeat("bbbb:9")], nothing, "aaaa:5", true);
}

#[test]
fn what_is_too_old_is_not_shown() {
    let check = |heard_at: u64, shown: bool| {
        let (replica, follower) = Replica::new("test", &[]);
        let replica = replica.with_max_staleness(Some(Duration::from_secs(300)));
        follower.found(kept("aaaa:5", heard_at));
        follower.fall_back();
        let stale = matches!(replica.now(), Err(Behind::Stale { .. }));
        assert_eq!((!stale, replica.held().is_some()), (shown, true));
        // The store is heard.
        apply_to(&follower, &mut Arriving::default(), heartbeat("aaaa:5")).unwrap();
        assert!(replica.now().is_ok());
    };
    check(seconds_ago(100), true);
    check(seconds_ago(400), false);
    // The clock was changed: nobody knows how old it is.
    check(seconds_ago(0) + 1000, false);
    check(u64::MAX, false);
}

#[test]
fn what_is_held_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let (replica, follower) = Replica::new("test", &[]);
    let follower = follower.keep_in_every(folder.path(), Duration::ZERO);
    assert_eq!(follower.resume_at(), "");
    let mut arriving = Arriving::default();
    apply_to(&follower, &mut arriving, chunk("aaaa:5", true, true)).unwrap();
    let reaches = |revision: &str| {
        for _ in 0..500 {
            // While one is being made, the next waits for the next word of the store's.
            apply_to(&follower, &mut Arriving::default(), heartbeat(revision)).unwrap();
            if replica.on_disk().is_some_and(|stamp| stamp.revision.to_string() == revision) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("{revision} was not kept");
    };
    reaches("aaaa:5");
    apply_to(&follower, &mut arriving, change("aaaa:6")).unwrap();
    reaches("aaaa:6");
    assert_eq!(follower.resume_at(), "aaaa:6");
    // It cannot be made newer: a whole one is asked for.
    std::fs::write(folder.path().join(kept::FILE), "x").unwrap();
    for number in 7..500 {
        apply_to(&follower, &mut arriving, heartbeat(&format!("aaaa:{number}"))).unwrap();
        if follower.resume_at().is_empty() {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(follower.resume_at(), "");
    apply_to(&follower, &mut arriving, chunk("aaaa:900", true, true)).unwrap();
    reaches("aaaa:900");
    assert!(kept::read(folder.path()).unwrap().is_some());
}

#[test]
fn pauses() {
    for (step, most) in [(0, 10), (1, 50), (2, 250), (3, 1000), (4, 2000), (5, 2000), (900, 2000)] {
        let pause = jittered(self::step(&BACKOFF, step));
        let most = Duration::from_millis(most);
        assert!(most / 2 <= pause && pause <= most, "{step}: {pause:?}");
    }
}

#[tokio::test]
async fn l7_a_revision_of_another_store_is_waited_for() {
    const SHORT: Duration = Duration::from_millis(50);
    let (replica, follower) = replica();
    let begun = Instant::now();
    let refused = replica.at_least("bbbb:1", SHORT).await;
    assert!(matches!(refused, Err(Behind::OtherStore { .. })));
    assert!(begun.elapsed() >= SHORT);
    // A restore arrives while the question waits.
    let arrives = async {
        tokio::time::sleep(SHORT).await;
        apply_to(&follower, &mut Arriving::default(), chunk("bbbb:1", true, true)).unwrap();
    };
    let (view, ()) = tokio::join!(replica.at_least("bbbb:1", Duration::from_secs(10)), arrives);
    assert_eq!(view.ok().unwrap().revision().to_string(), "bbbb:1");
    // The old store's revisions are over, however early they were.
    let refused = replica.at_least("aaaa:1", SHORT).await;
    assert!(matches!(refused, Err(Behind::OtherStore { .. })));
    let refused = replica.at_least("bbbb:2", SHORT).await;
    assert!(matches!(refused, Err(Behind::NotYet { .. })));
}

/// Who speaks is not away, however long it takes to say all.
#[test]
fn a_store_that_speaks_is_waited_for() {
    let (_, follower) = replica();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let waits = |since: Option<Duration>| {
        *locked(&follower.heard) = since.map(|since| Instant::now() - since);
        let began = Instant::now();
        runtime.block_on(follower.silence());
        began.elapsed()
    };
    let left = Duration::from_millis(100);
    assert!(waits(Some(SILENCE - left)) >= left / 2);
    // Neither hangs.
    waits(None);
    waits(Some(SILENCE));
}
