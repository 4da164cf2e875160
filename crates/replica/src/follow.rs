//! The stream itself: begin, apply, acknowledge, and begin again when it breaks.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use countersign_proto::policy::v1::{
    RecordKind, WatchAck, WatchChange, WatchRequest, WatchSnapshotChunk, WatchStart,
    policy_store_service_client::PolicyStoreServiceClient, watch_request, watch_response,
};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Status,
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};

use crate::{MalformedRevision, Revision, Unreadable, World};

/// The store sends a heartbeat every second; three missed ones are a broken stream.
const SILENCE: Duration = Duration::from_secs(4);
const BACKOFF: [Duration; 5] = [
    Duration::from_millis(10),
    Duration::from_millis(50),
    Duration::from_millis(250),
    Duration::from_millis(1000),
    Duration::from_millis(2000),
];

/// What a follower holds. Cheap to clone; every clone sees the same.
#[derive(Clone)]
pub struct Replica {
    shared: Arc<Shared>,
    reached: watch::Receiver<Option<Revision>>,
}

struct Shared {
    held: ArcSwapOption<View>,
    /// Measured from `started`, in milliseconds; 0 before the first word.
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

    /// What is held once `revision` has been reached; waits at most `patience`. An empty text asks for whatever is held.
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
                .is_some_and(|have| have.store_id != asked.store_id || have.number >= asked.number)
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

    /// How long ago the store was last heard.
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
            let step = failures.min(BACKOFF.len() - 1);
            tokio::time::sleep(BACKOFF.get(step).copied().unwrap_or(SILENCE)).await;
        }
    }

    async fn stream<I>(&self, mut client: Client<I>) -> Result<std::convert::Infallible, Broken>
    where
        I: Interceptor + Clone + Send + 'static,
    {
        let (requests, outgoing) = mpsc::channel(16);
        let held = self.shared.held.load_full();
        let start = WatchStart {
            revision: held.map(|view| view.revision.to_string()).unwrap_or_default(),
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
            let revision = match event.ok_or(Broken::Protocol("an event without content"))? {
                watch_response::Event::SnapshotChunk(chunk) => self.chunk(&mut arriving, chunk)?,
                watch_response::Event::Change(change) => Some(self.change(&change)?),
                watch_response::Event::Heartbeat(heartbeat) => {
                    Some(self.advance(heartbeat.revision.parse()?)?)
                }
            };
            let elapsed = u64::try_from(self.shared.started.elapsed().as_millis());
            self.shared.last_word.store(elapsed.unwrap_or(u64::MAX), Ordering::Release);
            if let Some(revision) = revision {
                let ack = WatchAck { revision: revision.to_string() };
                send(&requests, watch_request::Request::Ack(ack)).await?;
            }
        }
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

async fn send(
    requests: &mpsc::Sender<WatchRequest>,
    request: watch_request::Request,
) -> Result<(), Broken> {
    let message = WatchRequest { request: Some(request) };
    requests.send(message).await.map_err(|_| Broken::Closed)
}
