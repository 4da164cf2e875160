//! The mark of an import that is not done. It is in the first commit of an import, every other commit needs it, and the last one takes it
//! away: a store with it is never served, and never exported.

use countersign_store::{Entry, Store};
use prost::Message;

use super::TransferError;
use crate::layout::{self, Key};

/// What an import is of.
#[derive(Clone, PartialEq, Message)]
pub struct Mark {
    /// The SHA-256 of the contents of the file, in hex.
    #[prost(string, tag = "1")]
    pub digest: String,
}

pub fn key() -> Key<Mark> {
    layout::import_mark()
}

/// Whether this entry is the mark.
pub fn is(key: &[u8]) -> bool {
    key == self::key().as_bytes()
}

/// The mark, if there is one, and its entry.
pub async fn find(store: &dyn Store) -> Result<Option<(Mark, Entry)>, TransferError> {
    let key = key();
    let Some(entry) = store.get(key.as_bytes()).await? else { return Ok(None) };
    Ok(Some((layout::decode(&key, &entry.value)?, entry)))
}

/// Turns back from a store that an import did not finish.
pub async fn refuse_half_done(store: &dyn Store) -> Result<(), TransferError> {
    match find(store).await? {
        Some((Mark { digest }, _)) => Err(TransferError::HalfDone { digest }),
        None => Ok(()),
    }
}
