//! The members of a cluster, one in use at a time, and what their refusals mean.
//!
//! etcd-client can balance over several endpoints, but then a dead member keeps failing its share of the commits, each of which
//! "may or may not have happened". So there is one connection a member, and the next member's turn when one fails.

use std::error::Error as _;
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use etcd_client::{
    Client, ConnectOptions, Error, GetOptions, GetResponse, KvClient, Txn, TxnResponse,
    WatchClient, WatchOptions, WatchStream,
};
use tokio::time::{Instant, sleep, timeout};
use tonic::Code;

use super::EtcdOptions;
use crate::StoreError;

/// A page of the largest entries is 33 MiB ([`super::PAGE`]).
const MAX_MESSAGE_BYTES: usize = 64 << 20;
/// Reads are tried on other members for so many request timeouts.
const READ_PATIENCE: u32 = 3;
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

/// All members, and whose turn it is.
pub(super) struct Cluster {
    members: Vec<Member>,
    turn: AtomicUsize,
    connect: ConnectOptions,
    request_timeout: Duration,
}

impl Cluster {
    pub fn new(options: &EtcdOptions) -> Self {
        let member =
            |endpoint: &String| Member { endpoint: endpoint.clone(), connection: Mutex::new(None) };
        Self {
            members: options.endpoints.iter().map(member).collect(),
            turn: AtomicUsize::new(0),
            connect: options.connect_options(),
            request_timeout: options.request_timeout,
        }
    }

    /// A linearizable read; `options` may ask about an old revision. Safe to repeat, so it is tried on several members.
    pub async fn get(&self, key: Vec<u8>, options: GetOptions) -> Result<GetResponse, Fault> {
        self.repeat(|mut kv: KvClient| {
            let (key, options) = (key.clone(), options.clone());
            async move { kv.get(key, Some(options)).await }
        })
        .await
    }

    /// A transaction of reads alone.
    pub async fn read_txn(&self, txn: Txn) -> Result<TxnResponse, Fault> {
        self.repeat(|mut kv: KvClient| {
            let txn = txn.clone();
            async move { kv.txn(txn).await }
        })
        .await
    }

    /// A transaction that writes: sent once. It is sent again only when it certainly never left this machine.
    pub async fn write_txn(&self, txn: Txn) -> Result<TxnResponse, Fault> {
        let deadline = Instant::now() + self.request_timeout;
        loop {
            let turn = self.turn.load(Ordering::Relaxed);
            let (fault, unsent) = match self.connection(turn).await {
                Err(fault) => (fault, true),
                Ok(Connection { mut kv, .. }) => {
                    match timeout(self.request_timeout, kv.txn(txn.clone())).await {
                        Ok(Ok(response)) => return Ok(response),
                        Ok(Err(error)) => (fault_of(&error), never_sent(&error)),
                        Err(_) => (self.too_slow(turn), false),
                    }
                }
            };
            let Fault::Unknown(_) = fault else { return Err(fault) };
            self.pass_on(turn);
            if !unsent || Instant::now() >= deadline {
                return Err(fault);
            }
            sleep(BETWEEN_TRIES).await;
        }
    }

    /// Forgets all revisions before `revision`.
    pub async fn compact(&self, revision: i64) -> Result<(), Fault> {
        let turn = self.turn.load(Ordering::Relaxed);
        let Connection { mut kv, .. } = self.connection(turn).await?;
        match timeout(self.request_timeout, kv.compact(revision, None)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(fault_of(&error)),
            Err(_) => Err(self.too_slow(turn)),
        }
    }

    /// A watch on every key with a prefix, from a revision on. Large revisions come in pieces.
    pub async fn watch(&self, prefix: Vec<u8>, from: i64) -> Result<WatchStream, Fault> {
        let turn = self.turn.load(Ordering::Relaxed);
        let options = WatchOptions::new()
            .with_prefix()
            .with_start_revision(from)
            .with_fragment()
            .with_progress_notify();
        let outcome = match self.connection(turn).await {
            Err(fault) => Err(fault),
            Ok(Connection { mut watch, .. }) => {
                match timeout(self.request_timeout, watch.watch(prefix, Some(options))).await {
                    Ok(opened) => opened.map_err(|error| fault_of(&error)),
                    Err(_) => Err(self.too_slow(turn)),
                }
            }
        };
        if outcome.is_err() {
            self.pass_on(turn);
        }
        outcome
    }

    /// The next member's turn, because the one in use does not do its part.
    pub fn pass_on_from_current(&self) {
        self.pass_on(self.turn.load(Ordering::Relaxed));
    }

    async fn repeat<T, F, Fut>(&self, call: F) -> Result<T, Fault>
    where
        F: Fn(KvClient) -> Fut,
        Fut: Future<Output = Result<T, Error>>,
    {
        let deadline = Instant::now() + self.request_timeout * READ_PATIENCE;
        loop {
            let turn = self.turn.load(Ordering::Relaxed);
            let fault = match self.connection(turn).await {
                Err(fault) => fault,
                Ok(Connection { kv, .. }) => match timeout(self.request_timeout, call(kv)).await {
                    Ok(Ok(answer)) => return Ok(answer),
                    Ok(Err(error)) => fault_of(&error),
                    Err(_) => self.too_slow(turn),
                },
            };
            let Fault::Unknown(_) = fault else { return Err(fault) };
            self.pass_on(turn);
            if Instant::now() >= deadline {
                return Err(fault);
            }
            sleep(BETWEEN_TRIES).await;
        }
    }

    fn member(&self, turn: usize) -> Result<&Member, Fault> {
        let place = turn.checked_rem(self.members.len()).unwrap_or_default();
        self.members.get(place).ok_or_else(|| Fault::Refused("there is no member".to_owned()))
    }

    /// The connection to the member whose turn it is, made if there is none.
    async fn connection(&self, turn: usize) -> Result<Connection, Fault> {
        let member = self.member(turn)?;
        let kept = member.connection().clone();
        if let Some(connection) = kept {
            return Ok(connection);
        }
        // With a user this already talks to the member.
        let connecting = Client::connect([&member.endpoint], Some(self.connect.clone()));
        let client = match timeout(self.request_timeout, connecting).await {
            Ok(Ok(client)) => client,
            Ok(Err(error)) => return Err(fault_of(&error)),
            Err(_) => return Err(self.too_slow(turn)),
        };
        let connection = Connection {
            kv: client.kv_client().max_decoding_message_size(MAX_MESSAGE_BYTES),
            watch: client.watch_client().max_decoding_message_size(MAX_MESSAGE_BYTES),
        };
        *member.connection() = Some(connection.clone());
        Ok(connection)
    }

    /// The next member's turn, unless somebody else passed on already.
    fn pass_on(&self, turn: usize) {
        let next = turn.wrapping_add(1);
        if self.turn.compare_exchange(turn, next, Ordering::Relaxed, Ordering::Relaxed).is_ok()
            && let Ok(member) = self.member(turn)
        {
            tracing::debug!(endpoint = member.endpoint, "the next member of etcd is used");
            *member.connection() = None;
        }
    }

    fn too_slow(&self, turn: usize) -> Fault {
        let endpoint = self.member(turn).map_or("etcd", |member| member.endpoint.as_str());
        Fault::Unknown(format!(
            "`{endpoint}` did not answer within {} ms",
            self.request_timeout.as_millis()
        ))
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
