//! What can go wrong, by name. Engines' own errors end here as text.

use std::path::PathBuf;

use thiserror::Error;

/// Why a read or a commit could not be done. Nothing was written, except where a variant says otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StoreError {
    #[error("a key is at least 1 byte")]
    KeyEmpty,
    #[error("a key of {size} bytes is over the limit of {limit}")]
    KeyTooLarge { size: usize, limit: usize },
    #[error("a value of {size} bytes is over the limit of {limit}")]
    ValueTooLarge { size: usize, limit: usize },
    #[error("{count} writes in one commit are over the limit of {limit}")]
    TooManyWrites { count: usize, limit: usize },
    #[error("{count} preconditions in one commit are over the limit of {limit}")]
    TooManyPreconditions { count: usize, limit: usize },
    #[error("a commit of {size} bytes of keys and values is over the limit of {limit}")]
    CommitTooLarge { size: usize, limit: usize },
    /// The disk is full, and this commit did not happen. The store takes writes again, by itself, when there is room.
    #[error("the disk is full; nothing was written")]
    Full,
    /// The changes asked for are no longer kept: take a snapshot.
    #[error("the changes asked for are no longer kept, the oldest is {oldest}: take a snapshot")]
    TooOld { oldest: u64 },
    /// The number asked about is of a later time than this store's, or of another store.
    #[error("the revision asked about is ahead of the store, which is at {head}")]
    Ahead { head: u64 },
    /// The store cannot answer. A commit that ends so may or may not have happened.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    #[error("the store's data is not as written: {0}")]
    Corrupt(String),
    /// A later version of the engine wrote it.
    #[error(
        "a later version of Countersign wrote {what}: it is of format {found}, and this version reads format {known}. Run that version, or a \
         later one; or restore a backup that was made before it ran (deploy/RUNBOOK.md). Nothing was changed"
    )]
    Later { what: String, found: u64, known: u64 },
    #[error("`{}` is in use by another process", path.display())]
    Locked { path: PathBuf },
    /// sled keeps large nodes there and never syncs them: with any in it, nothing acknowledged is safe.
    #[error("`{}` is not empty: this store was not written by this program, and is not safe to run on", path.display())]
    BlobsNotEmpty { path: PathBuf },
}

/// Why a commit did not happen.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CommitError {
    /// The precondition at `index` did not hold; nothing was written.
    #[error("precondition {index} does not hold")]
    Conflict { index: usize },
    #[error(transparent)]
    Store(#[from] StoreError),
}
