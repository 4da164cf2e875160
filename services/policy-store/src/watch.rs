//! Watch: a snapshot in chunks at one revision, then every change after it, in order, and a heartbeat while nothing changes.
//!
//! Each follower reads the store's own change log, so a slow one holds no memory here but its place in it, and the events that wait for
//! it. One that has fallen behind the log is sent a snapshot again; one that reads nothing is let go, and told where it may go on. The
//! log is the truth; nothing is sent that is not committed.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use countersign_proto::policy::v1::{
    Record, RecordKind, WatchChange, WatchHeartbeat, WatchRequest, WatchResponse,
    WatchSnapshotChunk, WatchStart, watch_request, watch_response,
};
use countersign_serve::{Fault, Shutdown};
use countersign_store::{Change, Entry, Revision, Store, StoreError, Write};
use tokio::sync::{
    Semaphore,
    mpsc::{self, error::SendTimeoutError},
};
use tokio_stream::{StreamExt, adapters::Chain, wrappers::ReceiverStream};
use tonic::{Code, Status, Streaming};

use crate::{
    authn::Caller,
    authz::{Ask, On},
    error::Error,
    layout,
    ledger::Ledger,
    rpc::{Call, PolicyStore},
};

const HEARTBEAT: Duration = Duration::from_secs(1);
/// A follower that does not say what it wants is let go.
const START: Duration = Duration::from_secs(10);
/// Records of one chunk, and its bytes, to which one record of at most 64 KB may be added: a few chunks wait for each follower that is slow.
const CHUNK_RECORDS: usize = 256;
const CHUNK_BYTES: usize = 128 << 10;
const CHANGES: usize = 256;
/// Events that wait for a follower, besides what HTTP/2 holds for it: 64 KiB by default.
const WAITING: usize = 2;
/// A follower that takes no event for so long is let go.
const STALL: Duration = Duration::from_secs(10);

/// The live followers, and how far each has come.
#[derive(Clone, Default)]
pub struct Followers(Arc<Registry>);

#[derive(Default)]
struct Registry {
    next: AtomicU64,
    turns: Turns,
    live: Mutex<HashMap<u64, Follower>>,
    ledger: Arc<Ledger>,
}

/// Snapshots that are read at the same moment: half of the cores at most, however many followers come at once, so that calls are answered
/// meanwhile.
struct Turns(Semaphore);

impl Default for Turns {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self(Semaphore::new((cores / 2).max(1)))
    }
}

impl Turns {
    /// The records of some entries, each with its size. Others have their turn first; this one takes a fraction of a millisecond.
    async fn read(&self, entries: &[Entry]) -> Result<Vec<(Record, usize)>, Error> {
        tokio::task::yield_now().await;
        // It is never closed.
        let _turn = self.0.acquire().await;
        let mut records = Vec::with_capacity(entries.len());
        for Entry { key, value, version } in entries {
            let record = layout::record(key, value, *version)?;
            records.extend(record.map(|record| (record, value.len())));
        }
        Ok(records)
    }
}

struct Follower {
    kinds: Vec<RecordKind>,
    acknowledged: u64,
}

/// A follower's place among the live ones, for as long as its stream lasts.
struct Registration {
    registry: Arc<Registry>,
    id: u64,
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.registry.with(|live| live.remove(&self.id));
    }
}

impl Registry {
    fn with<T>(&self, run: impl FnOnce(&mut HashMap<u64, Follower>) -> T) -> T {
        run(&mut self.live.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Followers {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.with(|live| live.len())
    }

    fn register(&self, kinds: Vec<RecordKind>) -> Registration {
        let id = self.0.next.fetch_add(1, Ordering::Relaxed);
        self.0.with(|live| live.insert(id, Follower { kinds, acknowledged: 0 }));
        Registration { registry: self.0.clone(), id }
    }

    /// Whether every live follower of `kind` has applied revision `number`.
    pub fn acknowledged(&self, kind: RecordKind, number: u64) -> bool {
        self.0.with(|live| {
            live.values()
                .filter(|follower| follower.kinds.contains(&kind))
                .all(|follower| follower.acknowledged >= number)
        })
    }
}

impl Registration {
    fn acknowledge(&self, number: u64) {
        self.registry.with(|live| {
            if let Some(follower) = live.get_mut(&self.id) {
                follower.acknowledged = follower.acknowledged.max(number);
            }
        });
    }
}

/// Who follows. A session is judged again at each heartbeat: the stream does not outlive its token, its key, its role or its rights.
pub struct Watcher {
    store: PolicyStore,
    call: Call,
}

impl Watcher {
    pub fn new(store: PolicyStore, call: Call) -> Self {
        Self { store, call }
    }

    /// Whether the caller may follow, at this moment. The records of every account are in the Watch: of sessions, those of the operator's
    /// account alone may.
    pub async fn may_follow(&self) -> Result<(), Error> {
        match &self.call.caller {
            Caller::Service(_) => Ok(()),
            Caller::Session(session) if session.claims.exp <= crate::now().seconds => {
                Err(Fault::unauthenticated("ExpiredToken", "the token has expired").into())
            }
            Caller::Session(_) => {
                let asks = [Ask::new("countersign:Watch", On::Anything)];
                let read = self
                    .store
                    .read(&self.call, &asks, |view, permit| permit.of_operator_account(view));
                read.await
            }
        }
    }
}

/// What a stream of one follower needs.
pub struct Feed {
    pub watcher: Watcher,
    pub store: Arc<dyn Store>,
    pub followers: Followers,
    pub shutdown: Shutdown,
}

type Event = Result<WatchResponse, Status>;

/// What a follower is sent: events, and after the last of them why there are no more.
pub type Events = Chain<ReceiverStream<Event>, ReceiverStream<Event>>;

/// Where events go.
pub struct Out {
    events: mpsc::Sender<Event>,
    /// Has room for the one status, also when nobody reads.
    last: mpsc::Sender<Event>,
    stall: Duration,
    /// The newest revision that was handed over whole; 0 before the first.
    handed: AtomicU64,
}

/// A follower's stream, and what fills it.
pub fn channel() -> (Out, Events) {
    let (events, receiver) = mpsc::channel(WAITING);
    let (last, end) = mpsc::channel(1);
    let out = Out { events, last, stall: STALL, handed: AtomicU64::new(0) };
    (out, ReceiverStream::new(receiver).chain(ReceiverStream::new(end)))
}

/// Why a stream ends.
enum Ended {
    /// The follower is gone.
    Gone,
    /// It is there, and reads nothing.
    Stuck,
    Failed(Error),
}

impl From<Error> for Ended {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<StoreError> for Ended {
    fn from(error: StoreError) -> Self {
        Self::Failed(error.into())
    }
}

/// Reads how a stream begins.
pub async fn start(requests: &mut Streaming<WatchRequest>) -> Result<WatchStart, Fault> {
    let first = tokio::time::timeout(START, requests.message())
        .await
        .map_err(|_| Fault::invalid("start", "the first message of a watch did not come"))?
        .map_err(|status| Fault::new(status.code(), "ValidationError", status.message()))?;
    match first.and_then(|message| message.request) {
        Some(watch_request::Request::Start(start)) => Ok(start),
        Some(watch_request::Request::Ack(_)) | None => {
            Err(Fault::invalid("start", "the first message of a watch is `start`"))
        }
    }
}

/// The kinds that a follower asks for.
pub fn kinds(start: &WatchStart) -> Result<Vec<RecordKind>, Fault> {
    if start.follower_name.chars().count() > 128 {
        return Err(Fault::invalid("start.follower_name", "at most 128 characters"));
    }
    if start.kinds.is_empty() {
        return Ok(layout::KINDS.to_vec());
    }
    let mut kinds = Vec::new();
    for number in &start.kinds {
        match RecordKind::try_from(*number) {
            Ok(kind) if kind != RecordKind::Unspecified => kinds.push(kind),
            _ => {
                return Err(Fault::invalid(
                    "start.kinds",
                    format!("`{number}` is no kind of record"),
                ));
            }
        }
    }
    Ok(kinds)
}

/// Serves one follower until it goes, or the process does.
pub async fn follow(
    feed: Feed,
    start: WatchStart,
    kinds: Vec<RecordKind>,
    mut requests: Streaming<WatchRequest>,
    out: Out,
) {
    let registration = feed.followers.register(kinds.clone());
    let sending = send_all(&feed, &start, &kinds, &out);
    let store_id = feed.store.id().to_string();
    let hearing = async {
        while let Ok(Some(message)) = requests.message().await {
            if let Some(watch_request::Request::Ack(ack)) = message.request
                && let Ok(revision) = ack.revision.parse::<Revision>()
                && revision.store_id.to_string() == store_id
            {
                registration.acknowledge(revision.number);
            }
        }
    };
    tokio::select! {
        Err(ended) = sending => match ended {
            Ended::Gone => {}
            Ended::Stuck => out.end(stuck(feed.store.as_ref(), &out, &start).into()),
            Ended::Failed(error) => out.end(error.into()),
        },
        () = hearing => {}
        () = feed.shutdown.wait() => {
            let fault = Fault::new(Code::Unavailable, "ServiceUnavailable", "the policy store is shutting down");
            out.end(fault.into());
        }
        () = out.events.closed() => {}
    }
}

/// What a follower is told that reads nothing.
fn stuck(store: &dyn Store, out: &Out, start: &WatchStart) -> Fault {
    let handed = out.handed.load(Ordering::Relaxed);
    let place = if handed == 0 {
        "a snapshot".to_owned()
    } else {
        format!("`{}`", revision(store, handed))
    };
    tracing::warn!(follower = %start.follower_name.escape_debug(), %place, "a follower reads nothing, and is let go");
    let message =
        format!("nothing was read for {}s; begin again from {place}", out.stall.as_secs());
    Fault::new(Code::ResourceExhausted, "SlowFollower", message).retry_after(HEARTBEAT)
}

/// Goes on until the follower goes, or the store fails.
async fn send_all(
    feed: &Feed,
    start: &WatchStart,
    kinds: &[RecordKind],
    out: &Out,
) -> Result<std::convert::Infallible, Ended> {
    let store = feed.store.as_ref();
    let mut head = store.watch_head();
    let mut reached = match resume(store, start) {
        Some(number) => number,
        None => snapshot(feed, kinds, out).await?,
    };
    loop {
        match store.changes_since(reached, CHANGES).await {
            Ok(changes) => {
                for change in changes {
                    reached = change.number;
                    send_change(store, kinds, &change, out).await?;
                    out.handed.store(reached, Ordering::Relaxed);
                }
            }
            // The log has moved on, or the follower is of another future: begin again.
            Err(StoreError::TooOld { .. } | StoreError::Ahead { .. }) => {
                reached = snapshot(feed, kinds, out).await?;
            }
            Err(error) => return Err(error.into()),
        }
        // Everything up to here has been sent, also what this follower did not ask for: it may be waiting for just this revision.
        feed.watcher.may_follow().await?;
        let digest = feed.followers.0.ledger.digest(&feed.store, kinds, reached).await;
        let heartbeat = WatchHeartbeat { revision: revision(store, reached), digest };
        send(out, watch_response::Event::Heartbeat(heartbeat)).await?;
        out.handed.store(reached, Ordering::Relaxed);
        // A time-out is the next heartbeat's time; an error means that the store is gone, which the next read says.
        let _ = tokio::time::timeout(HEARTBEAT, head.wait_for(|head| *head > reached)).await;
    }
}

/// Where a follower that held a snapshot of this store goes on.
fn resume(store: &dyn Store, start: &WatchStart) -> Option<u64> {
    let held: Revision = start.revision.parse().ok()?;
    (held.store_id.to_string() == store.id().to_string()).then_some(held.number)
}

/// Sends everything as it stands; a follower that is slow holds no more of it in memory than what waits for it.
async fn snapshot(feed: &Feed, kinds: &[RecordKind], out: &Out) -> Result<u64, Ended> {
    loop {
        match snapshot_once(feed, kinds, out).await {
            // The revision went while it was read; the next chunk that is `first` begins anew.
            Err(Ended::Failed(Error::Store(StoreError::TooOld { .. }))) => {}
            sent => return sent,
        }
    }
}

async fn snapshot_once(feed: &Feed, kinds: &[RecordKind], out: &Out) -> Result<u64, Ended> {
    let store = feed.store.as_ref();
    let prefixes = kinds.iter().filter_map(|kind| layout::prefix(*kind));
    let prefixes = prefixes.map(|prefix| prefix.as_bytes().to_vec()).collect();
    let mut snapshot = store.open_snapshot(prefixes).await?;
    let number = snapshot.number();
    let chunk = |first: bool| WatchSnapshotChunk {
        revision: revision(store, number),
        first,
        last: false,
        records: Vec::new(),
    };
    let (mut filling, mut bytes) = (chunk(true), 0);
    loop {
        let entries = snapshot.next(CHUNK_RECORDS).await?;
        if entries.is_empty() {
            break;
        }
        for (record, size) in feed.followers.0.turns.read(&entries).await? {
            if filling.records.len() >= CHUNK_RECORDS || bytes >= CHUNK_BYTES {
                let full = std::mem::replace(&mut filling, chunk(false));
                send(out, watch_response::Event::SnapshotChunk(full)).await?;
                bytes = 0;
            }
            bytes += size;
            filling.records.push(record);
        }
    }
    filling.last = true;
    send(out, watch_response::Event::SnapshotChunk(filling)).await?;
    Ok(number)
}

async fn send_change(
    store: &dyn Store,
    kinds: &[RecordKind],
    change: &Change,
    out: &Out,
) -> Result<(), Ended> {
    let mut event = WatchChange {
        revision: revision(store, change.number),
        put: Vec::new(),
        deleted: Vec::new(),
    };
    for write in &change.writes {
        let key = write.key();
        if !layout::kind(key).is_some_and(|kind| kinds.contains(&kind)) {
            continue;
        }
        // A later write of the same commit stands; an earlier one must not be applied after it.
        let text = String::from_utf8_lossy(key).into_owned();
        event.put.retain(|record| record.key != text);
        event.deleted.retain(|deleted| *deleted != text);
        match write {
            Write::Put { value, .. } => {
                event.put.extend(layout::record(key, value, change.number)?);
            }
            Write::Delete { .. } => event.deleted.push(text),
        }
    }
    if event.put.is_empty() && event.deleted.is_empty() {
        return Ok(());
    }
    send(out, watch_response::Event::Change(event)).await?;
    Ok(())
}

fn revision(store: &dyn Store, number: u64) -> String {
    format!("{}:{number}", store.id())
}

async fn send(out: &Out, event: watch_response::Event) -> Result<(), Ended> {
    let event = Ok(WatchResponse { event: Some(event) });
    match out.events.send_timeout(event, out.stall).await {
        Ok(()) => Ok(()),
        Err(SendTimeoutError::Closed(_)) => Err(Ended::Gone),
        Err(SendTimeoutError::Timeout(_)) => Err(Ended::Stuck),
    }
}

impl Out {
    /// Says why there is no more, after what waits already. There is room for one.
    fn end(&self, status: Status) {
        let _ = self.last.try_send(Err(status));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heartbeat() -> watch_response::Event {
        watch_response::Event::Heartbeat(WatchHeartbeat::default())
    }

    /// F13: what waits for a follower that reads nothing is bounded, and it hears why it was let go.
    #[tokio::test]
    async fn a_follower_that_reads_nothing_is_let_go_and_told_so() {
        let (mut out, mut events) = channel();
        out.stall = Duration::from_millis(20);
        for _ in 0..WAITING {
            assert!(send(&out, heartbeat()).await.is_ok());
        }
        assert!(matches!(send(&out, heartbeat()).await, Err(Ended::Stuck)));
        out.end(Status::resource_exhausted("begin again"));
        drop(out);
        for _ in 0..WAITING {
            assert!(events.next().await.unwrap().is_ok());
        }
        assert_eq!(events.next().await.unwrap().unwrap_err().message(), "begin again");
        assert!(events.next().await.is_none());
    }

    #[tokio::test]
    async fn a_follower_that_went_is_not_waited_for() {
        let (out, events) = channel();
        drop(events);
        assert!(matches!(send(&out, heartbeat()).await, Err(Ended::Gone)));
    }
}
