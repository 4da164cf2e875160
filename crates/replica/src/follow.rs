//! The stream itself: begin, apply, acknowledge, and begin again when it breaks.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, SystemTime},
};

use countersign_proto::policy::v1::{
    RecordKind, WatchAck, WatchChange, WatchHeartbeat, WatchRequest, WatchSnapshotChunk,
    WatchStart, policy_store_service_client::PolicyStoreServiceClient, watch_request,
    watch_response,
};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Status,
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};

use crate::{
    Digest, MalformedRevision, Replica, Revision, Unreadable, View, World,
    arriving::Arriving,
    keeping::{KEEP_EVERY, Keeper},
    kept::{self, Kept},
    replica::{Shared, locked},
};

/// The store sends a heartbeat every second; three missed ones are a broken stream.
const SILENCE: Duration = Duration::from_secs(4);
/// So long after its start a replica with a kept snapshot waits for the store's word, before it answers from what was kept.
const STORE_IS_AWAY: Duration = Duration::from_secs(3);
/// Reading much takes some of that time. So much of it is left after the reading, in any case: the store is asked only then.
const AT_LEAST: Duration = Duration::from_secs(1);
/// Where a clock that was changed does not let anybody say how old a kept snapshot is: older than any limit.
const UNKNOWN_AGE: Duration = Duration::from_secs(100 * 365 * 86_400);
/// Jittered: see [`jittered`].
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

/// The writing end: runs the stream. Dropping it, or ending its task, leaves the replica as it is.
pub struct Follower {
    shared: Arc<Shared>,
    reached: watch::Sender<Option<Revision>>,
    kinds: Vec<RecordKind>,
    name: String,
    /// So often in a row what was held was not what the store counts. While it is not 0, a stream begins with a snapshot.
    differences: AtomicU32,
    keeper: Option<Mutex<Keeper>>,
    /// What was kept, while the store is given the time to say what is new.
    candidate: Mutex<Option<Candidate>>,
    /// When the store last said something that was taken in.
    heard: Mutex<Option<Instant>>,
}

/// A view that was kept on disk. Nobody answers from it before the store has said what happened since, or stays away.
struct Candidate {
    view: View,
    /// As [`Shared::last_word`].
    last_word: i64,
}

impl Replica {
    /// A replica that holds nothing, and what fills it. `kinds` empty means everything.
    #[must_use]
    pub fn new(name: &str, kinds: &[RecordKind]) -> (Self, Follower) {
        let (sender, receiver) = watch::channel(None);
        let shared = Arc::new(Shared::new());
        let follower = Follower {
            shared: shared.clone(),
            reached: sender,
            kinds: kinds.to_vec(),
            name: name.to_owned(),
            differences: AtomicU32::new(0),
            keeper: None,
            candidate: Mutex::default(),
            heard: Mutex::default(),
        };
        (Self { shared, reached: receiver, max_staleness: None }, follower)
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
    #[error("this process is ending, or failed to put a snapshot together")]
    Unfinished,
}

/// What came of an event.
#[derive(Debug)]
enum Applied {
    /// What is held is at this revision.
    Reached(Revision),
    /// A snapshot is in part.
    InPart,
    /// The last chunk of a snapshot: what has arrived is the world at this revision.
    Whole(Revision),
}

/// The store's client, as a follower uses it.
type Client<I> = PolicyStoreServiceClient<InterceptedService<Channel, I>>;

impl Follower {
    /// Keeps what is held in `folder` too, for a start while the store is away.
    #[must_use]
    pub fn keep_in(self, folder: &Path) -> Self {
        self.keep_in_every(folder, KEEP_EVERY)
    }

    /// The same, made newer `every` so often.
    #[must_use]
    pub fn keep_in_every(mut self, folder: &Path, every: Duration) -> Self {
        let keeper = Keeper::new(folder, every);
        *locked(&self.shared.on_disk) = keeper.on_disk();
        self.keeper = Some(Mutex::new(keeper));
        self
    }

    /// Shows a world that comes from elsewhere than a store's Watch, as its own at `revision`: for whoever has policies in another way.
    pub fn hold(&self, revision: Revision, world: World) {
        self.shared.last_word.store(self.shared.elapsed(), Ordering::Release);
        self.publish(revision, world);
    }

    /// Follows the store at one address until the process ends.
    pub async fn run<I>(self, channel: Channel, credential: I)
    where
        I: Interceptor + Clone + Send + 'static,
    {
        self.run_any(channel, Vec::new(), credential).await;
    }

    /// Follows until the process ends, beginning again whenever the stream breaks, each time at the next of the store's addresses. All
    /// of them are of one store.
    pub async fn run_any<I>(self, first: Channel, more: Vec<Channel>, credential: I)
    where
        I: Interceptor + Clone + Send + 'static,
    {
        let began = Instant::now();
        let folder = self.keeper.as_ref().map(|keeper| locked(keeper).folder().to_owned());
        if let Some(folder) = folder {
            // Reading takes seconds where there is much.
            let read = tokio::task::spawn_blocking(move || kept::read(&folder)).await;
            match read {
                Ok(Ok(Some(kept))) => self.found(kept),
                Ok(Ok(None)) => {}
                Ok(Err(error)) => tracing::error!(follower = %self.name, %error),
                Err(error) => tracing::error!(follower = %self.name, %error, "reading panicked"),
            }
        }
        let clients: Vec<Client<I>> = [first]
            .into_iter()
            .chain(more)
            .map(|channel| {
                PolicyStoreServiceClient::with_interceptor(channel, credential.clone())
                    .max_decoding_message_size(16 << 20)
            })
            .collect();
        let away = async {
            tokio::time::sleep_until((began + STORE_IS_AWAY).max(Instant::now() + AT_LEAST)).await;
            self.silence().await;
            self.fall_back();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = self.again_and_again(&clients) => {}
            () = away => {}
        }
    }

    /// Waits until the store has said nothing for a while. One that is heard is not away, though what it has to say may take long: what
    /// was revoked may be among it.
    async fn silence(&self) {
        loop {
            let until = locked(&self.heard).map(|heard| heard + SILENCE);
            match until.filter(|until| *until > Instant::now()) {
                Some(until) => tokio::time::sleep_until(until).await,
                None => return,
            }
        }
    }

    async fn again_and_again<I>(&self, clients: &[Client<I>])
    where
        I: Interceptor + Clone + Send + 'static,
    {
        let mut failures = 0_usize;
        for client in clients.iter().cycle() {
            let before = self.newest().map(|revision| revision.number);
            let broken = match self.stream(client.clone()).await {
                Ok(never) => match never {},
                Err(broken) => broken,
            };
            let after = self.newest().map(|revision| revision.number);
            failures = if before == after { failures + 1 } else { 0 };
            tracing::warn!(follower = %self.name, %broken, "the watch broke; beginning again");
            // Every address is tried before the pauses grow.
            let failures = failures / clients.len().max(1);
            let wait = match broken {
                Broken::Diverged { .. } => self.patience(),
                Broken::Status(_)
                | Broken::Closed
                | Broken::Silent
                | Broken::Protocol(_)
                | Broken::Revision(_)
                | Broken::Unfinished => step(&BACKOFF, failures),
            };
            tokio::time::sleep(jittered(wait)).await;
        }
    }

    /// The kept snapshot is at hand.
    fn found(&self, Kept { stamp, world, unreadable }: Kept) {
        for error in unreadable {
            self.report(Err(error));
        }
        let age = stamp.age(SystemTime::now()).unwrap_or(UNKNOWN_AGE);
        tracing::info!(
            follower = %self.name, revision = %stamp.revision, age_seconds = age.as_secs(),
            "a kept snapshot was read"
        );
        let age = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
        let view = View::new(stamp.revision.clone(), world);
        let last_word = self.shared.elapsed().saturating_sub(age);
        *locked(&self.candidate) = Some(Candidate { view, last_word });
        if let Some(keeper) = &self.keeper {
            locked(keeper).was_read(stamp);
        }
    }

    /// The store is away: what was kept is better than nothing, and says how old it is.
    fn fall_back(&self) {
        let Some(Candidate { view, last_word }) = locked(&self.candidate).take() else { return };
        tracing::warn!(
            follower = %self.name, revision = %view.revision(),
            "the store is away; answering from the kept snapshot"
        );
        self.shared.last_word.store(last_word, Ordering::Release);
        self.shared.is_kept.store(true, Ordering::Release);
        self.show(view);
    }

    /// What the next stream goes on from.
    fn newest(&self) -> Option<Revision> {
        let kept = locked(&self.candidate).as_ref().map(|kept| kept.view.revision().clone());
        kept.or_else(|| self.shared.held.load_full().map(|view| view.revision().clone()))
    }

    /// Where the next stream goes on; empty for a snapshot.
    fn resume_at(&self) -> String {
        let wants_snapshot = self.differences.load(Ordering::Relaxed) != 0
            || self.keeper.as_ref().is_some_and(|keeper| locked(keeper).wants_snapshot());
        match self.newest() {
            Some(revision) if !wants_snapshot => revision.to_string(),
            Some(_) | None => String::new(),
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
        let mut arriving = Arriving::default();
        loop {
            let next = tokio::time::timeout(SILENCE, events.message());
            let message = next.await.map_err(|_| Broken::Silent)?.map_err(Box::new)?;
            let event = message.ok_or(Broken::Closed)?.event;
            let event = event.ok_or(Broken::Protocol("an event without content"))?;
            let applied = self.apply(&mut arriving, event)?;
            *locked(&self.heard) = Some(Instant::now());
            let reached = match applied {
                Applied::Reached(revision) => Some(revision),
                Applied::InPart => None,
                // A second's work where there is much, and others may be waiting for this thread.
                Applied::Whole(revision) => {
                    let arrived = std::mem::take(&mut arriving);
                    let finished = tokio::task::spawn_blocking(|| arrived.finish());
                    let world = finished.await.map_err(|_| Broken::Unfinished)?;
                    Some(self.whole(revision, world))
                }
            };
            if let Some(revision) = reached {
                let ack = WatchAck { revision: revision.to_string() };
                send(&requests, watch_request::Request::Ack(ack)).await?;
            }
        }
    }

    /// Takes in what the store says.
    fn apply(
        &self,
        arriving: &mut Arriving,
        event: watch_response::Event,
    ) -> Result<Applied, Broken> {
        let revision = match event {
            watch_response::Event::SnapshotChunk(chunk) => return self.chunk(arriving, chunk),
            watch_response::Event::Change(change) => self.change(&change)?,
            watch_response::Event::Heartbeat(heartbeat) => self.heartbeat(heartbeat)?,
        };
        self.applied(&revision);
        Ok(Applied::Reached(revision))
    }

    /// The store was heard to be at `revision`, and so is what is held.
    fn applied(&self, revision: &Revision) {
        // While a kept snapshot is caught up with, nothing is shown yet.
        if locked(&self.candidate).is_none() {
            self.shared.last_word.store(self.shared.elapsed(), Ordering::Release);
            self.shared.is_kept.store(false, Ordering::Release);
            self.keep(|keeper| keeper.applied(revision));
        }
    }

    fn keep(&self, act: impl FnOnce(&mut Keeper)) {
        if let Some(keeper) = &self.keeper {
            act(&mut locked(keeper));
        }
    }

    /// A snapshot is used once it is whole, never in part.
    fn chunk(&self, arriving: &mut Arriving, chunk: WatchSnapshotChunk) -> Result<Applied, Broken> {
        let WatchSnapshotChunk { revision, first, last, records } = chunk;
        let revision: Revision = revision.parse()?;
        if first {
            *arriving = Arriving::default();
        }
        for record in &records {
            self.report(arriving.take(record));
        }
        // A replica never goes back in the revisions of one store.
        if last
            && let Some(held) = self.newest()
            && held.store_id == revision.store_id
            && held.number > revision.number
        {
            return Err(Broken::Protocol("a snapshot older than what is held"));
        }
        self.keep(|keeper| keeper.chunk(&revision, records, first, last));
        Ok(if last { Applied::Whole(revision) } else { Applied::InPart })
    }

    /// A snapshot has arrived, and is made a world.
    fn whole(&self, revision: Revision, world: World) -> Revision {
        let revision = self.publish(revision, world);
        self.applied(&revision);
        revision
    }

    fn change(&self, change: &WatchChange) -> Result<Revision, Broken> {
        let (revision, mut world) = self.successor(&change.revision)?;
        for key in &change.deleted {
            world.delete(key);
        }
        for record in &change.put {
            self.report(world.put(record));
        }
        self.keep(|keeper| keeper.change(change));
        if let Some(candidate) = locked(&self.candidate).as_mut() {
            candidate.view = View::new(revision.clone(), world);
            return Ok(revision);
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

    /// Nothing changed, but the store is further on; and all that it has up to there has been sent, so that what was kept is caught up
    /// with.
    fn advance(&self, revision: Revision) -> Result<Revision, Broken> {
        let (revision, world) = self.successor(&revision.to_string())?;
        let held = self.shared.held.load_full();
        if held.is_some_and(|held| *held.revision() == revision) {
            return Ok(revision);
        }
        Ok(self.publish(revision, world))
    }

    /// The revision that follows, and what is there to apply it to.
    fn successor(&self, revision: &str) -> Result<(Revision, World), Broken> {
        let revision: Revision = revision.parse()?;
        let kept = locked(&self.candidate)
            .as_ref()
            .map(|kept| (kept.view.revision().clone(), kept.view.world().clone()));
        let held = || self.shared.held.load_full();
        let held =
            kept.or_else(|| held().map(|view| (view.revision().clone(), view.world().clone())));
        let (held, world) = held.ok_or(Broken::Protocol("a change before the snapshot"))?;
        if held.store_id != revision.store_id {
            return Err(Broken::Protocol("a change of another store"));
        }
        if held.number > revision.number {
            return Err(Broken::Protocol("a change older than what is held"));
        }
        Ok((revision, world))
    }

    fn publish(&self, revision: Revision, world: World) -> Revision {
        *locked(&self.candidate) = None;
        self.show(View::new(revision.clone(), world));
        revision
    }

    fn show(&self, view: View) {
        let revision = view.revision().clone();
        self.shared.held.store(Some(Arc::new(view)));
        self.reached.send_replace(Some(revision));
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

/// Between half of it and all of it, so that the followers of a store that comes back do not all come at once.
fn jittered(most: Duration) -> Duration {
    // Seeded anew by the system for each.
    let random = RandomState::new().build_hasher().finish() % 1000;
    let part = u32::try_from(random).unwrap_or_default();
    most / 2 + most / 2 * part / 1000
}

#[cfg(test)]
mod tests;
