//! The members of a cluster, one in use at a time, and what their refusals mean.
//!
//! etcd-client can balance over several endpoints, but then a dead member keeps failing its share of the commits, each of which
//! "may or may not have happened". So there is one connection a member. When the one in use fails, all are asked, and the first that
//! answers a write is used: taking just the next could lead from a member that waits for a new leader to the dead one.

use std::error::Error as _;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use etcd_client::{
    Client, ConnectOptions, Error, GetOptions, GetResponse, KvClient, Txn, TxnOp, TxnResponse,
    WatchClient, WatchOptions, WatchStream,
};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tonic::Code;

use super::EtcdOptions;
use crate::StoreError;

/// A page of the largest entries is 33 MiB ([`super::PAGE`]).
const MAX_MESSAGE_BYTES: usize = 64 << 20;
/// Reads are tried on other members for so many request timeouts.
const READ_PATIENCE: u32 = 3;
/// etcd 3.4 lets a read wait for 7 s when a new leader has dropped its question (raft's ReadIndex), and every other linearizable read of
/// that member with it. So for some time after a fault, reads go another way ([`Cluster::fence_and`]).
const FENCED: Duration = Duration::from_secs(8);
/// How long a member that is asked whether it answers may take.
const ASKED_AGAIN: Duration = Duration::from_millis(300);
const BETWEEN_TRIES: Duration = Duration::from_millis(20);

/// What a request came to, other than an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The revision asked about is no longer kept.
    Compacted,
    /// The cluster has no space left. The request may have been done for all that: etcd applies the one that hits the quota.
    NoSpace,
    /// Trying again would not help.
    Refused(String),
    /// Whether it was done is unknown.
    Unknown(String),
}

impl From<Fault> for StoreError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Compacted => {
                Self::Unavailable("the revision is no longer kept by etcd".to_owned())
            }
            Fault::NoSpace => Self::Unavailable("etcd has no space left".to_owned()),
            Fault::Refused(reason) => Self::Unavailable(format!("etcd refuses: {reason}")),
            Fault::Unknown(reason) => Self::Unavailable(reason),
        }
    }
}

#[derive(Clone)]
struct Connection {
    kv: KvClient,
    watch: WatchClient,
}

struct Member {
    endpoint: String,
    connection: Mutex<Option<Connection>>,
}

impl Member {
    fn connection(&self) -> std::sync::MutexGuard<'_, Option<Connection>> {
        // Each use is one assignment or one clone.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All members, and the one in use.
pub(super) struct Cluster {
    members: Vec<Member>,
    current: AtomicUsize,
    /// The one in use failed: before the next request, one that answers is looked for.
    doubted: AtomicBool,
    choosing: tokio::sync::Mutex<()>,
    /// The key that a fence writes.
    fence: Vec<u8>,
    /// Until when reads are fenced.
    fenced_until: Mutex<Option<Instant>>,
    /// What each connection is made with.
    options: EtcdOptions,
    request_timeout: Duration,
}

impl Cluster {
    pub fn new(options: &EtcdOptions, fence: Vec<u8>) -> Self {
        let member =
            |endpoint: &String| Member { endpoint: endpoint.clone(), connection: Mutex::new(None) };
        Self {
            members: options.endpoints.iter().map(member).collect(),
            current: AtomicUsize::new(0),
            doubted: AtomicBool::new(false),
            choosing: tokio::sync::Mutex::new(()),
            fence,
            fenced_until: Mutex::new(None),
            options: options.clone(),
            request_timeout: options.request_timeout,
        }
    }

    /// A linearizable read; `options` may ask about an old revision. Safe to repeat, so it is tried on several members.
    pub async fn get(&self, key: Vec<u8>, options: GetOptions) -> Result<GetResponse, Fault> {
        self.repeat(|mut kv: KvClient, fenced| {
            let (key, mut options) = (key.clone(), options.clone());
            if fenced {
                options = options.with_serializable();
            }
            async move { kv.get(key, Some(options)).await }
        })
        .await
    }

    /// Several keys read in one step, linearizably.
    pub async fn get_all(&self, keys: &[Vec<u8>]) -> Result<TxnResponse, Fault> {
        self.repeat(|mut kv: KvClient, fenced| {
            let options = GetOptions::new();
            let options = if fenced { options.with_serializable() } else { options };
            let reads: Vec<TxnOp> =
                keys.iter().map(|key| TxnOp::get(key.clone(), Some(options.clone()))).collect();
            async move { kv.txn(Txn::new().and_then(reads)).await }
        })
        .await
    }

    /// A transaction that writes: sent once. It is sent again only when it certainly never left this machine.
    pub async fn write_txn(&self, txn: Txn) -> Result<TxnResponse, Fault> {
        let deadline = Instant::now() + self.request_timeout;
        loop {
            let (member, connection) = self.connection().await;
            let (fault, unsent) = match connection {
                Err(fault) => (fault, true),
                Ok(Connection { mut kv, .. }) => {
                    match timeout(self.request_timeout, kv.txn(txn.clone())).await {
                        Ok(Ok(response)) => return Ok(response),
                        Ok(Err(error)) => (fault_of(&error), never_sent(&error)),
                        Err(_) => (self.too_slow(member), false),
                    }
                }
            };
            let Fault::Unknown(_) = fault else { return Err(fault) };
            self.doubt(member);
            if !unsent || Instant::now() >= deadline {
                return Err(fault);
            }
            sleep(BETWEEN_TRIES).await;
        }
    }

    /// Forgets all revisions before `revision`.
    pub async fn compact(&self, revision: i64) -> Result<(), Fault> {
        let (member, connection) = self.connection().await;
        let Connection { mut kv, .. } = connection?;
        match timeout(self.request_timeout, kv.compact(revision, None)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(fault_of(&error)),
            Err(_) => Err(self.too_slow(member)),
        }
    }

    /// A watch on every key with a prefix, from a revision on. Large revisions come in pieces.
    /// The member is returned with it, to be doubted when the watch fails.
    pub async fn watch(&self, prefix: Vec<u8>, from: i64) -> Result<(usize, WatchStream), Fault> {
        let (member, connection) = self.connection().await;
        let options = WatchOptions::new()
            .with_prefix()
            .with_start_revision(from)
            .with_fragment()
            .with_progress_notify();
        let outcome = match connection {
            Err(fault) => Err(fault),
            Ok(Connection { mut watch, .. }) => {
                match timeout(self.request_timeout, watch.watch(prefix, Some(options))).await {
                    Ok(opened) => opened.map_err(|error| fault_of(&error)),
                    Err(_) => Err(self.too_slow(member)),
                }
            }
        };
        if outcome.is_err() {
            self.doubt(member);
        }
        outcome.map(|stream| (member, stream))
    }

    async fn repeat<T, F, Fut>(&self, call: F) -> Result<T, Fault>
    where
        F: Fn(KvClient, bool) -> Fut,
        Fut: Future<Output = Result<T, Error>>,
    {
        let deadline = Instant::now() + self.request_timeout * READ_PATIENCE;
        let mut fenced = self.must_fence();
        loop {
            let (member, connection) = self.connection().await;
            let fault = match connection {
                Err(fault) => fault,
                Ok(Connection { kv, .. }) => {
                    match timeout(self.request_timeout, self.fence_and(&call, kv, fenced)).await {
                        Ok(Ok(answer)) => return Ok(answer),
                        Ok(Err(error)) => fault_of(&error),
                        Err(_) => self.too_slow(member),
                    }
                }
            };
            match fault {
                Fault::Unknown(_) => self.doubt(member),
                // A full cluster takes no fence.
                Fault::NoSpace if fenced => {}
                Fault::NoSpace | Fault::Compacted | Fault::Refused(_) => return Err(fault),
            }
            if Instant::now() >= deadline {
                return Err(fault);
            }
            fenced = !fenced;
            sleep(BETWEEN_TRIES).await;
        }
    }

    /// A read after a fence: a write of this process that the member has applied, so that what the member holds is at least that new.
    async fn fence_and<T, F, Fut>(&self, call: &F, kv: KvClient, fenced: bool) -> Result<T, Error>
    where
        F: Fn(KvClient, bool) -> Fut,
        Fut: Future<Output = Result<T, Error>>,
    {
        if fenced {
            kv.clone().put(self.fence.clone(), "", None).await?;
        }
        call(kv, fenced).await
    }

    fn must_fence(&self) -> bool {
        let until = self.fenced_until.lock().unwrap_or_else(PoisonError::into_inner);
        until.is_some_and(|until| Instant::now() < until)
    }

    /// A member did not do its part. If it is the one in use, another is looked for; its connection is not used again.
    pub fn doubt(&self, member: usize) {
        if let Some(doubted) = self.members.get(member) {
            *doubted.connection() = None;
        }
        *self.fenced_until.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(Instant::now() + FENCED);
        if self.current.load(Ordering::Acquire) == member {
            self.doubted.store(true, Ordering::Release);
        }
    }

    /// The member in use and the connection to it, made if there is none.
    async fn connection(&self) -> (usize, Result<Connection, Fault>) {
        if self.doubted.load(Ordering::Acquire) {
            self.choose().await;
        }
        let current = self.current.load(Ordering::Acquire);
        let Some(member) = self.members.get(current) else {
            return (current, Err(Fault::Refused("there is no member".to_owned())));
        };
        let kept = member.connection().clone();
        if let Some(connection) = kept {
            return (current, Ok(connection));
        }
        let options = self.options.connect_options();
        let connecting = connect(&member.endpoint, &options);
        let made = match timeout(self.request_timeout, connecting).await {
            Ok(made) => made,
            Err(_) => Err(self.too_slow(current)),
        };
        if let Ok(connection) = &made {
            *member.connection() = Some(connection.clone());
        }
        (current, made)
    }

    /// Looks for a member that answers. Without one, the one in use stays, in doubt.
    async fn choose(&self) {
        let _one_at_a_time = self.choosing.lock().await;
        if !self.doubted.load(Ordering::Acquire) {
            return;
        }
        let mut asked = JoinSet::new();
        for (place, member) in self.members.iter().enumerate() {
            let (endpoint, options) = (member.endpoint.clone(), self.options.connect_options());
            let (kept, key) = (member.connection().clone(), self.fence.clone());
            asked.spawn(async move { (place, answers(kept, &endpoint, &options, key).await) });
        }
        let first = async {
            while let Some(answer) = asked.join_next().await {
                if let Ok((place, Some(connection))) = answer {
                    return Some((place, connection));
                }
            }
            None
        };
        let Ok(Some((place, connection))) = timeout(self.request_timeout, first).await else {
            return;
        };
        let Some(member) = self.members.get(place) else { return };
        tracing::debug!(endpoint = member.endpoint, "this member of etcd is used from now on");
        *member.connection() = Some(connection);
        self.current.store(place, Ordering::Release);
        self.doubted.store(false, Ordering::Release);
    }

    fn too_slow(&self, member: usize) -> Fault {
        let endpoint = self.members.get(member).map_or("etcd", |member| member.endpoint.as_str());
        Fault::Unknown(format!(
            "`{endpoint}` did not answer within {} ms",
            self.request_timeout.as_millis()
        ))
    }
}

/// With a user, this already talks to the member.
async fn connect(endpoint: &str, options: &ConnectOptions) -> Result<Connection, Fault> {
    let client = Client::connect([endpoint], Some(options.clone()))
        .await
        .map_err(|error| fault_of(&error))?;
    Ok(Connection {
        kv: client.kv_client().max_decoding_message_size(MAX_MESSAGE_BYTES),
        watch: client.watch_client().max_decoding_message_size(MAX_MESSAGE_BYTES),
    })
}

/// The connection to a member that answers a write; a refusal is an answer.
async fn answers(
    kept: Option<Connection>,
    endpoint: &str,
    options: &ConnectOptions,
    key: Vec<u8>,
) -> Option<Connection> {
    let connection = match kept {
        Some(connection) => connection,
        None => connect(endpoint, options).await.ok()?,
    };
    // A write that is lost with its leader is never answered: ask again, rather than wait. Whoever asked ends this.
    loop {
        let mut kv = connection.kv.clone();
        match timeout(ASKED_AGAIN, kv.put(key.clone(), "", None)).await {
            Err(_) => {}
            Ok(Err(error)) if matches!(fault_of(&error), Fault::Unknown(_)) => {
                sleep(BETWEEN_TRIES).await;
            }
            Ok(Ok(_) | Err(_)) => return Some(connection),
        }
    }
}

fn fault_of(error: &Error) -> Fault {
    let Error::GRpcStatus(status) = error else {
        return match error {
            Error::TransportError(_) | Error::IoError(_) => Fault::Unknown(chain(error)),
            _ => Fault::Refused(chain(error)),
        };
    };
    let message = status.message();
    match status.code() {
        Code::OutOfRange if message.contains("compacted") => Fault::Compacted,
        Code::ResourceExhausted if message.contains("space exceeded") => Fault::NoSpace,
        // Users or roles were changed: a new connection makes a new token.
        Code::InvalidArgument if message.contains("auth store is old") => {
            Fault::Unknown(message.to_owned())
        }
        Code::InvalidArgument
        | Code::PermissionDenied
        | Code::Unauthenticated
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::Unimplemented => Fault::Refused(message.to_owned()),
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::NotFound
        | Code::AlreadyExists
        | Code::ResourceExhausted
        | Code::Aborted
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => Fault::Unknown(chain(status)),
    }
}

/// An error and its causes; tonic's own text for a connection that fails is just "transport error".
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// Whether the connection was refused, so that nothing was sent on it.
fn never_sent(error: &Error) -> bool {
    let Error::GRpcStatus(status) = error else { return false };
    let mut cause = status.source();
    while let Some(error) = cause {
        let refused = error
            .downcast_ref::<std::io::Error>()
            .is_some_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused);
        if refused {
            return true;
        }
        cause = error.source();
    }
    false
}
