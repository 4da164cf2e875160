//! Carrying a whole store from one place to another: export to a file, a check of the file, import into an empty store.
//!
//! It knows entries, digests and the order of things; of the records it knows only whether this version can read them, and whether a
//! secret opens. Values are carried as they are stored, so secrets stay sealed, and the sealing key is never in the file.

mod export;
mod file;
mod import;
mod mark;
mod reading;

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use countersign_store::{CommitError, SledOptions, SledStore, Store, StoreError};
use serde::{Deserialize, Serialize};

use crate::{
    error::Error,
    place::{Place, PlaceError},
    seal::SealingKeyError,
};

pub use export::{Pace, export};
pub use import::{Start, import};
pub(crate) use mark::{Mark, refuse_half_done};
pub use reading::{Checked, check};

/// What an export is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// The store that was exported; an import makes another.
    pub store_id: String,
    /// Its last commit, which is in the export.
    pub revision: u64,
    /// The newest form of records that the version knew which wrote it.
    pub record_form: u8,
}

/// What is in an export, or in a store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contents {
    /// How many entries: records, secrets, indexes.
    pub entries: u64,
    /// Of keys and values together.
    pub bytes: u64,
    /// How many entries of each kind, by the beginning of their keys: `user`, `role`, `x/secret`.
    pub counts: BTreeMap<String, u64>,
    /// SHA-256 over every entry in key order, in hex: the length of the key (2 bytes, big-endian), the key, the length of the value
    /// (4 bytes), the value.
    pub sha256: String,
}

/// What is going on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// A store is read into a file.
    Exporting,
    /// A file is read, and every digest and secret looked at; nothing is written.
    Checking,
    /// Entries are written.
    Importing,
    /// What was written is read back.
    Verifying,
}

/// Told how many entries are done, and of how many if that is known.
pub type Progress<'a> = &'a mut (dyn FnMut(Phase, u64, Option<u64>) + Send);

/// Why nothing, or not all, was carried.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The system.
    #[error("cannot {what} `{}`: {error}", path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's word.
        error: io::Error,
    },
    /// Nothing is overwritten.
    #[error("`{}` exists: give another name, or remove it", .0.display())]
    Exists(PathBuf),
    /// Another program's file.
    #[error("`{}` is no export of Countersign's: it does not begin as one", .0.display())]
    NotAnExport(PathBuf),
    /// The file is not as it was written.
    #[error("chunk {chunk} of `{}` (at byte {offset}): {what}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Counted from 0, which is the header.
        chunk: u64,
        /// Where in the file it begins.
        offset: u64,
        /// What is wrong with it.
        what: String,
    },
    /// A key of no kind that this version knows.
    #[error(
        "`{key}` is of no kind that this version knows: run the version that wrote it, or a later one"
    )]
    UnknownKind {
        /// The key.
        key: String,
    },
    /// A record that this version cannot read.
    #[error("{0}")]
    Record(String),
    /// The key that secrets are sealed under.
    #[error(transparent)]
    SealingKey(#[from] SealingKeyError),
    /// Another store's key.
    #[error(
        "the sealing key `{}` is not the one that the secrets are sealed under (it does not open `{secret}`): give the one of the store that was exported",
        path.display()
    )]
    WrongSealingKey {
        /// The file of the key.
        path: PathBuf,
        /// The entry that it does not open.
        secret: String,
    },
    /// An import of another file was begun there, or this one, and `--resume` was not asked for.
    #[error(
        "the store holds a half-done import (of the file with digest {digest}): go on with --resume and that file, or begin again in an empty place"
    )]
    HalfDone {
        /// Of the file's contents.
        digest: String,
    },
    /// An import never mixes.
    #[error("the store is not empty: an import is into an empty one")]
    NotEmpty,
    /// There is nothing to go on with.
    #[error("no import was begun there: leave --resume away")]
    NothingToResume,
    /// Somebody wrote meanwhile.
    #[error(
        "the store was written to meanwhile (revision {before} became {after}): stop the policy stores that use it, and try again"
    )]
    Moved {
        /// At the beginning.
        before: u64,
        /// At the end.
        after: u64,
    },
    /// What was read back is not what the file holds.
    #[error(
        "what was written is not what the file holds: {written:?} instead of {expected:?}; the store stays marked as half-done"
    )]
    NotAsWritten {
        /// What is in the store.
        written: Box<Contents>,
        /// What the file holds.
        expected: Box<Contents>,
    },
    /// No store to read.
    #[error("there is no store in `{}`", .0.display())]
    NoStore(PathBuf),
    /// A store that holds nothing.
    #[error("the store is empty: there is nothing to export; is it the right one?")]
    Empty,
    /// The store cannot be opened.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// The engine.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Another import runs.
    #[error("another import writes into the same store")]
    Another,
    /// A part of the import panicked.
    #[error("the import was cut off: {0}")]
    CutOff(String),
}

impl From<CommitError> for TransferError {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Conflict { .. } => Self::Another,
            CommitError::Store(error) => Self::Store(error),
        }
    }
}

impl From<Error> for TransferError {
    fn from(error: Error) -> Self {
        Self::Record(error.to_string())
    }
}

/// The store at `place`, where the embedded engine's must be there already.
///
/// # Errors
/// [`TransferError::NoStore`], and what the engine says (a store that is in use, above all).
pub async fn open_store(place: &Place, data_dir: &Path) -> Result<Arc<dyn Store>, TransferError> {
    match place.folder(data_dir) {
        Some(folder) if !SledStore::is_in(&folder) => Err(TransferError::NoStore(folder)),
        Some(_) | None => make_store(place, data_dir).await,
    }
}

/// A copy, in the folder `to`, of the embedded store at `place`, which a policy store may be serving meanwhile: everything that was
/// acknowledged before is in it. It is there to be exported from, and removed.
///
/// # Errors
/// [`TransferError::NoStore`] where there is none of the embedded engine, and what the engine says.
pub async fn copy_store(
    place: &Place,
    data_dir: &Path,
    to: &Path,
) -> Result<Arc<dyn Store>, TransferError> {
    let folder = place.folder(data_dir).filter(|folder| SledStore::is_in(folder));
    let folder = folder.ok_or_else(|| TransferError::NoStore(data_dir.to_owned()))?;
    let to = to.to_owned();
    let copying = tokio::task::spawn_blocking(move || {
        SledStore::copy(folder, to, SledOptions { ballast_bytes: 0, ..SledOptions::default() })
    });
    let stopped = |_| StoreError::Unavailable("the copy was broken off".to_owned());
    let copied = copying.await.map_err(stopped).and_then(|copied| copied);
    Ok(Arc::new(copied.map_err(PlaceError::Open)?))
}

/// Whether this is the answer of a store that another process has open.
#[must_use]
pub fn is_in_use(error: &TransferError) -> bool {
    matches!(error, TransferError::Place(PlaceError::Open(StoreError::Locked { .. })))
}

/// The store at `place`, made if it is not there.
///
/// # Errors
/// What the engine says.
pub async fn make_store(place: &Place, data_dir: &Path) -> Result<Arc<dyn Store>, TransferError> {
    Ok(place.open(data_dir).await?)
}
