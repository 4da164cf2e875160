//! The stream itself: begin, apply, acknowledge, and begin again when it breaks.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use countersign_proto::policy::v1::{
    RecordKind, WatchAck, WatchChange, WatchHeartbeat, WatchRequest, WatchSnapshotChunk,
    WatchStart, policy_store_service_client::PolicyStoreServiceClient, watch_request,
    watch_response,
};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Status,
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};

use crate::{Digest, MalformedRevision, Revision, Unreadable, World};

/// The store sends a heartbeat every second; three missed ones are a broken stream.
const SILENCE: Duration = Duration::from_secs(4);
const BACKOFF: [Duration; 5] = [
    Duration::from_millis(10),
    Duration::from_millis(50),
    Duration::from_millis(250),
    Duration::from_millis(1000),
    Duration::from_millis(2000),
];

/// Before a snapshot is asked for again because what is held differs from what the store counts. The first difference is mended at
/// once; a store and a follower that never agree must not spend their days on snapshots.
const DIVERGED: [Duration; 4] = [
    Duration::from_millis(10),
    Duration::from_secs(1),
    Duration::from_secs(10),
    Duration::from_secs(60),
];

/// What a follower holds. Cheap to clone; every clone sees the same.
#[derive(Clone)]
pub struct Replica {
    shared: Arc<Shared>,
    reached: watch::Receiver<Option<Revision>>,
}

struct Shared {
    held: ArcSwapOption<View>,
    /// When something of the store's was last applied: measured from `started`, in milliseconds; 0 before the first time.
    last_word: AtomicU64,
    started: Instant,
}

/// The world at one revision.
pub struct View {
    revision: Revision,
    world: World,
}

/// The writing end: runs the stream. Dropping it, or ending its task, leaves the replica as it is.
pub struct Follower {
    shared: Arc<Shared>,
    reached: watch::Sender<Option<Revision>>,
    kinds: Vec<RecordKind>,
    name: String,
    /// So often in a row what was held was not what the store counts. While it is not 0, a stream begins with a snapshot.
    differences: AtomicU32,
}

/// A revision that this replica cannot answer at.
#[derive(Debug, thiserror::Error)]
pub enum Behind {
    /// The text is no revision.
    #[error(transparent)]
    Malformed(#[from] MalformedRevision),
    /// It is of another store: it will never be reached.
    #[error("revision `{asked}` is of another store than `{have}`, which this replica follows")]
    OtherStore {
        /// What was asked for.
        asked: Revision,
        /// What is held.
        have: Revision,
    },
    /// Not yet.
    #[error("revision `{asked}` has not arrived; this replica is at `{have}`")]
    NotYet {
        /// What was asked for.
        asked: Revision,
        /// What is held.
        have: Revision,
    },
    /// There is nothing yet.
    #[error("this replica has no snapshot yet")]
    Empty,
}

impl Replica {
    /// A replica that holds nothing, and what fills it. `kinds` empty means everything.
    #[must_use]
    pub fn new(name: &str, kinds: &[RecordKind]) -> (Self, Follower) {
        let (sender, receiver) = watch::channel(None);
        let shared = Arc::new(Shared {
            held: ArcSwapOption::empty(),
            last_word: AtomicU64::new(0),
            started: Instant::now(),
        });
        let follower = Follower {
            shared: shared.clone(),
            reached: sender,
            kinds: kinds.to_vec(),
            name: name.to_owned(),
            differences: AtomicU32::new(0),
        };
        (Self { shared, reached: receiver }, follower)
    }

    /// What is held now.
    ///
    /// # Errors
    /// [`Behind::Empty`] before the first snapshot.
    pub fn now(&self) -> Result<Arc<View>, Behind> {
        self.shared.held.load_full().ok_or(Behind::Empty)
    }

    /// What is held once `revision` has been reached; waits at most `patience`. An empty text asks for whatever is held. A revision of
    /// another store is waited for as well: the store may have been restored, and its snapshot be on the way.
    ///
    /// # Errors
    /// See [`Behind`].
    pub async fn at_least(&self, revision: &str, patience: Duration) -> Result<Arc<View>, Behind> {
        if revision.is_empty() {
            return self.now();
        }
        let asked: Revision = revision.parse()?;
        let mut reached = self.reached.clone();
        let arrived = reached.wait_for(|have| {
            have.as_ref()
                .is_some_and(|have| have.store_id == asked.store_id && have.number >= asked.number)
        });
        // A time-out, or a follower that ended, leaves what is held; it is looked at below.
        let _ = tokio::time::timeout(patience, arrived).await;
        let view = self.now()?;
        let have = view.revision().clone();
        if have.store_id != asked.store_id {
            return Err(Behind::OtherStore { asked, have });
        }
        if have.number < asked.number {
            return Err(Behind::NotYet { asked, have });
        }
        Ok(view)
    }

    /// Resolves once there is something to answer from.
    pub async fn ready(&self) {
        let mut reached = self.reached.clone();
        let _ = reached.wait_for(Option::is_some).await;
    }

    /// How long ago something of the store's was last applied: a change, a heartbeat, or the last chunk of a snapshot. What was refused,
    /// or is in part, makes nothing younger.
    #[must_use]
    pub fn age(&self) -> Duration {
        let last = self.shared.last_word.load(Ordering::Acquire);
        self.shared.started.elapsed().saturating_sub(Duration::from_millis(last))
    }
}

impl View {
    /// The revision.
    #[must_use]
    pub fn revision(&self) -> &Revision {
        &self.revision
    }

    /// What there is at it.
    #[must_use]
    pub fn world(&self) -> &World {
        &self.world
    }
}

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("the store answered: {0}")]
    Status(#[from] Box<Status>),
    #[error("the store closed the stream")]
    Closed,
    #[error("the store was silent for {}s", SILENCE.as_secs())]
    Silent,
    #[error("the store sent what it may not: {0}")]
    Protocol(&'static str),
    #[error("at {revision} this follower holds {have:?}, and the store counts {counted:?}")]
    Diverged { revision: Revision, have: Digest, counted: Digest },
    #[error(transparent)]
    Revision(#[from] MalformedRevision),
}

/// The store's client, as a follower uses it.
type Client<I> = PolicyStoreServiceClient<InterceptedService<Channel, I>>;

impl Follower {
    /// Follows until the process ends, beginning again whenever the stream breaks.
    pub async fn run<I>(self, channel: Channel, credential: I)
    where
        I: Interceptor + Clone + Send + 'static,
    {
        let client = PolicyStoreServiceClient::with_interceptor(channel, credential)
            .max_decoding_message_size(16 << 20);
        let mut failures = 0_usize;
        loop {
            let before = self.shared.held.load_full().map(|view| view.revision.number);
            let broken = match self.stream(client.clone()).await {
                Ok(never) => match never {},
                Err(broken) => broken,
            };
            let after = self.shared.held.load_full().map(|view| view.revision.number);
            failures = if before == after { failures + 1 } else { 0 };
            tracing::warn!(follower = %self.name, %broken, "the watch broke; beginning again");
            let wait = match broken {
                Broken::Diverged { .. } => self.patience(),
                Broken::Status(_)
                | Broken::Closed
                | Broken::Silent
                | Broken::Protocol(_)
                | Broken::Revision(_) => step(&BACKOFF, failures),
            };
            tokio::time::sleep(wait).await;
        }
    }

    /// How long to wait after the differences so far.
    fn patience(&self) -> Duration {
        let before = self.differences.load(Ordering::Relaxed).saturating_sub(1);
        step(&DIVERGED, usize::try_from(before).unwrap_or(usize::MAX))
    }

    async fn stream<I>(&self, mut client: Client<I>) -> Result<std::convert::Infallible, Broken>
    where
        I: Interceptor + Clone + Send + 'static,
    {
        let (requests, outgoing) = mpsc::channel(16);
        let start = WatchStart {
            revision: self.resume_at(),
            kinds: self.kinds.iter().map(|kind| i32::from(*kind)).collect(),
            follower_name: self.name.clone(),
        };
        send(&requests, watch_request::Request::Start(start)).await?;
        let answer = client.watch(ReceiverStream::new(outgoing)).await.map_err(Box::new)?;
        let mut events = answer.into_inner();
        let mut arriving = World::default();
        loop {
            let next = tokio::time::timeout(SILENCE, events.message());
            let message = next.await.map_err(|_| Broken::Silent)?.map_err(Box::new)?;
            let event = message.ok_or(Broken::Closed)?.event;
            let event = event.ok_or(Broken::Protocol("an event without content"))?;
            if let Some(revision) = self.apply(&mut arriving, event)? {
                let ack = WatchAck { revision: revision.to_string() };
                send(&requests, watch_request::Request::Ack(ack)).await?;
            }
        }
    }

    /// Where the next stream goes on; empty for a snapshot.
    fn resume_at(&self) -> String {
        let sound = self.differences.load(Ordering::Relaxed) == 0;
        let held = self.shared.held.load_full().filter(|_| sound);
        held.map(|view| view.revision.to_string()).unwrap_or_default()
    }

    /// The revision that an event has led to; none while a snapshot is in part.
    fn apply(
        &self,
        arriving: &mut World,
        event: watch_response::Event,
    ) -> Result<Option<Revision>, Broken> {
        let applied = match event {
            watch_response::Event::SnapshotChunk(chunk) => self.chunk(arriving, chunk)?,
            watch_response::Event::Change(change) => Some(self.change(&change)?),
            watch_response::Event::Heartbeat(heartbeat) => Some(self.heartbeat(heartbeat)?),
        };
        if applied.is_some() {
            let elapsed = u64::try_from(self.shared.started.elapsed().as_millis());
            self.shared.last_word.store(elapsed.unwrap_or(u64::MAX), Ordering::Release);
        }
        Ok(applied)
    }

    /// A snapshot is used once it is whole, never in part.
    fn chunk(
        &self,
        arriving: &mut World,
        chunk: WatchSnapshotChunk,
    ) -> Result<Option<Revision>, Broken> {
        let revision: Revision = chunk.revision.parse()?;
        if chunk.first {
            *arriving = World::default();
        }
        for record in &chunk.records {
            self.report(arriving.put(record));
        }
        if !chunk.last {
            return Ok(None);
        }
        // A replica never goes back in the revisions of one store.
        if let Some(held) = self.shared.held.load_full()
            && held.revision.store_id == revision.store_id
            && held.revision.number > revision.number
        {
            return Err(Broken::Protocol("a snapshot older than what is held"));
        }
        Ok(Some(self.publish(revision, std::mem::take(arriving))))
    }

    fn change(&self, change: &WatchChange) -> Result<Revision, Broken> {
        let (revision, mut world) = self.successor(&change.revision)?;
        for key in &change.deleted {
            world.delete(key);
        }
        for record in &change.put {
            self.report(world.put(record));
        }
        Ok(self.publish(revision, world))
    }

    /// Nothing changed, but the store is further on. What is held is compared before it is called so new: after a missed change it is not.
    fn heartbeat(&self, heartbeat: WatchHeartbeat) -> Result<Revision, Broken> {
        let WatchHeartbeat { revision, digest } = heartbeat;
        let revision: Revision = revision.parse()?;
        if let Some(counted) = digest.map(Digest::from) {
            let (revision, world) = self.successor(&revision.to_string())?;
            let have = world.digest();
            if have != counted {
                self.differences.fetch_add(1, Ordering::Relaxed);
                return Err(Broken::Diverged { revision, have, counted });
            }
            self.differences.store(0, Ordering::Relaxed);
        }
        self.advance(revision)
    }

    /// Nothing changed, but the store is further on.
    fn advance(&self, revision: Revision) -> Result<Revision, Broken> {
        let (revision, world) = self.successor(&revision.to_string())?;
        let held = self.shared.held.load_full();
        if held.is_some_and(|held| held.revision == revision) {
            return Ok(revision);
        }
        Ok(self.publish(revision, world))
    }

    /// The revision that follows, and what is held to apply it to.
    fn successor(&self, revision: &str) -> Result<(Revision, World), Broken> {
        let revision: Revision = revision.parse()?;
        let held = self.shared.held.load_full();
        let held = held.ok_or(Broken::Protocol("a change before the snapshot"))?;
        if held.revision.store_id != revision.store_id {
            return Err(Broken::Protocol("a change of another store"));
        }
        if held.revision.number > revision.number {
            return Err(Broken::Protocol("a change older than what is held"));
        }
        Ok((revision, held.world.clone()))
    }

    fn publish(&self, revision: Revision, world: World) -> Revision {
        self.shared.held.store(Some(Arc::new(View { revision: revision.clone(), world })));
        self.reached.send_replace(Some(revision.clone()));
        revision
    }

    /// A record that cannot be read is absent, which denies; the follower goes on.
    fn report(&self, put: Result<(), Unreadable>) {
        if let Err(error) = put {
            tracing::error!(follower = %self.name, %error, "a record cannot be read, and is left out");
        }
    }
}

fn step(steps: &[Duration], number: usize) -> Duration {
    steps.get(number).or(steps.last()).copied().unwrap_or(SILENCE)
}

async fn send(
    requests: &mpsc::Sender<WatchRequest>,
    request: watch_request::Request,
) -> Result<(), Broken> {
    let message = WatchRequest { request: Some(request) };
    requests.send(message).await.map_err(|_| Broken::Closed)
}

#[cfg(test)]
mod tests {
    use countersign_proto::policy::v1::{Record, WatchDigest};
    use watch_response::Event;

    use super::*;

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

    /// A replica at `aaaa:5`, and what fills it.
    fn replica() -> (Replica, Follower) {
        let (replica, follower) = Replica::new("test", &[]);
        follower.apply(&mut World::default(), chunk("aaaa:5", true, true)).unwrap();
        (replica, follower)
    }

    /// What was held of the store grows older, unless something is applied.
    #[test]
    fn l1_only_what_is_applied_makes_the_snapshot_younger() {
        const LONG: Duration = Duration::from_millis(40);
        let check = |events: Vec<Event>, younger: bool| {
            let (replica, follower) = replica();
            std::thread::sleep(LONG);
            let mut arriving = World::default();
            let outcomes: Vec<_> =
                events.into_iter().map(|event| follower.apply(&mut arriving, event)).collect();
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
        let mut arriving = World::default();
        let mut apply = |event| follower.apply(&mut arriving, event);
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
            follower.apply(&mut World::default(), chunk("bbbb:1", true, true)).unwrap();
        };
        let (view, ()) = tokio::join!(replica.at_least("bbbb:1", Duration::from_secs(10)), arrives);
        assert_eq!(view.ok().unwrap().revision().to_string(), "bbbb:1");
        // The old store's revisions are over, however early they were.
        let refused = replica.at_least("aaaa:1", SHORT).await;
        assert!(matches!(refused, Err(Behind::OtherStore { .. })));
        let refused = replica.at_least("bbbb:2", SHORT).await;
        assert!(matches!(refused, Err(Behind::NotYet { .. })));
    }
}
