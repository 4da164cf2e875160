//! Where policy data is kept: one small trait, its engines, and the conformance suite that each engine runs.
//!
//! This crate knows keys, values, revisions and preconditions. It declines to know what they mean: IAM's invariants live in
//! the policy store, which reads a view here and hands back preconditions and writes.
//!
//! What every engine promises:
//! - a commit happens wholly or not at all, and is acknowledged only once it is on disk;
//! - commits are totally ordered, and each has a number larger than all before it (gaps are allowed);
//! - a reader sees only what is on disk, and each answer is of one revision;
//! - a commit whose future is dropped, or that ends in [`StoreError::Unavailable`], may or may not have happened: read
//!   before trying again.

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod error;
#[cfg(feature = "etcd")]
mod etcd_engine;
#[cfg_attr(
    not(any(feature = "sled", feature = "etcd")),
    allow(dead_code, reason = "only the engines use all of it")
)]
mod model;
#[cfg_attr(
    not(any(feature = "sled", feature = "etcd")),
    allow(dead_code, reason = "only the engines use all of it")
)]
mod revision;
#[cfg(feature = "sled")]
mod sled_engine;

use std::future::Future;
use std::pin::Pin;

pub use error::{CommitError, StoreError};
#[cfg(feature = "etcd")]
pub use etcd_engine::{
    DEFAULT_PREFIX, EtcdCredentials, EtcdOpenError, EtcdOptions, EtcdStore, EtcdTls, EtcdUser,
    InvalidEtcdOptions,
};
pub use model::{
    Change, Entry, MAX_COMMIT_BYTES, MAX_KEY_BYTES, MAX_PRECONDITIONS, MAX_VALUE_BYTES, MAX_WRITES,
    Precondition, Write,
};
pub use revision::{InvalidRevision, Revision, StoreId};
#[cfg(feature = "sled")]
pub use sled_engine::{SledOptions, SledStore};

/// What an engine's operations return: boxed, so that services can hold an `Arc<dyn Store>`.
pub type StoreFuture<'a, T, E = StoreError> =
    Pin<Box<dyn Future<Output = Result<T, E>> + Send + 'a>>;

/// What a store held at one revision, read a piece at a time.
pub trait Snapshot: Send {
    /// The revision's number.
    fn number(&self) -> u64;

    /// The next entries in key order, at most `limit` of them, which is not 0; none at the end.
    ///
    /// [`StoreError::TooOld`] when the revision is no longer kept.
    fn next(&mut self, limit: usize) -> StoreFuture<'_, Vec<Entry>>;
}

/// One that was read whole.
struct Whole {
    number: u64,
    entries: std::vec::IntoIter<Entry>,
}

impl Snapshot for Whole {
    fn number(&self) -> u64 {
        self.number
    }

    fn next(&mut self, limit: usize) -> StoreFuture<'_, Vec<Entry>> {
        Box::pin(async move { Ok(self.entries.by_ref().take(limit).collect()) })
    }
}

/// A durable, ordered map of byte strings with numbered, conditional, atomic commits.
///
/// Keys are 1 to [`MAX_KEY_BYTES`] bytes and ordered bytewise; values are at most [`MAX_VALUE_BYTES`].
pub trait Store: Send + Sync + 'static {
    /// Who this store is; a restored or imported copy is another store.
    fn id(&self) -> &StoreId;

    /// The entry at `key`, or `None`.
    fn get<'a>(&'a self, key: &'a [u8]) -> StoreFuture<'a, Option<Entry>>;

    /// The first `limit` entries whose keys begin with `prefix` and come after `after` (exclusive), in key order. Fewer
    /// than `limit` means that there are no more.
    fn range<'a>(
        &'a self,
        prefix: &'a [u8],
        after: Option<&'a [u8]>,
        limit: usize,
    ) -> StoreFuture<'a, Vec<Entry>>;

    /// Every entry whose key begins with one of `prefixes`, in key order and each once, as all of them stood at one
    /// revision, whose number is returned with them. Writers go on meanwhile.
    fn snapshot<'a>(&'a self, prefixes: &'a [&'a [u8]]) -> StoreFuture<'a, (u64, Vec<Entry>)>;

    /// The same, to be read a piece at a time by somebody who may be slow. An engine that keeps old revisions at hand holds nothing for it
    /// but its place; any other reads everything first.
    fn open_snapshot(&self, prefixes: Vec<Vec<u8>>) -> StoreFuture<'_, Box<dyn Snapshot>> {
        Box::pin(async move {
            let prefixes: Vec<&[u8]> = prefixes.iter().map(Vec::as_slice).collect();
            let (number, entries) = self.snapshot(&prefixes).await?;
            let whole: Box<dyn Snapshot> = Box::new(Whole { number, entries: entries.into_iter() });
            Ok(whole)
        })
    }

    /// Does all `writes`, in order, if all `preconditions` hold. A commit without writes only checks, and answers the
    /// revision at which the preconditions held.
    fn commit(
        &self,
        preconditions: Vec<Precondition>,
        writes: Vec<Write>,
    ) -> StoreFuture<'_, Revision, CommitError>;

    /// The number of the last commit; 0 for a store that has none.
    fn head(&self) -> StoreFuture<'_, u64>;

    /// The commits after number `after`, oldest first: at most `limit` of them, and fewer when they are large (at least
    /// one is returned if there is one, so compare with [`Store::head`], not with `limit`).
    ///
    /// [`StoreError::TooOld`] when some of them are no longer kept, [`StoreError::Ahead`] when `after` is not yet reached.
    fn changes_since(&self, after: u64, limit: usize) -> StoreFuture<'_, Vec<Change>>;

    /// The head, as it moves: wakes those who follow.
    fn watch_head(&self) -> tokio::sync::watch::Receiver<u64>;
}
