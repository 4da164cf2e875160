//! Entries, preconditions, writes, changes, and the limits on them (the same for every engine).

use bytes::Bytes;

use crate::StoreError;

/// One kilobyte.
pub const MAX_KEY_BYTES: usize = 1 << 10;
/// 64 KB: well under etcd's request, and what sled keeps in its log whatever else is in the node (`sled_engine::base`).
pub const MAX_VALUE_BYTES: usize = 64 << 10;
/// etcd's limit on the operations of one transaction.
pub const MAX_WRITES: usize = 128;
/// etcd's limit on the comparisons of one transaction.
pub const MAX_PRECONDITIONS: usize = 128;
/// Keys and values of one commit together; etcd refuses requests over 1.5 MiB.
pub const MAX_COMMIT_BYTES: usize = 1 << 20;

/// What is kept at a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub key: Bytes,
    pub value: Bytes,
    /// The number of the commit that last wrote this key; never 0.
    pub version: u64,
}

/// What must hold for a commit to happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Precondition {
    /// The key's version is this one; 0 means that the key is absent.
    Version { key: Bytes, version: u64 },
    /// No key begins with this prefix.
    PrefixEmpty { prefix: Bytes },
}

/// One change to one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    Put {
        key: Bytes,
        value: Bytes,
    },
    /// Deleting what is absent is no error.
    Delete {
        key: Bytes,
    },
}

impl Write {
    pub fn key(&self) -> &Bytes {
        match self {
            Self::Put { key, .. } | Self::Delete { key } => key,
        }
    }
}

/// One commit, as followers see it: all its writes, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub number: u64,
    pub writes: Vec<Write>,
}

pub(crate) fn check_key(key: &[u8]) -> Result<(), StoreError> {
    match key.len() {
        0 => Err(StoreError::KeyEmpty),
        size if size > MAX_KEY_BYTES => Err(StoreError::KeyTooLarge { size, limit: MAX_KEY_BYTES }),
        _ => Ok(()),
    }
}

/// A prefix may be empty: it then stands for every key.
pub(crate) fn check_prefix(prefix: &[u8]) -> Result<(), StoreError> {
    if prefix.is_empty() { Ok(()) } else { check_key(prefix) }
}

/// Holds a commit to the limits; returns the bytes of its keys and values.
pub(crate) fn check_commit(
    preconditions: &[Precondition],
    writes: &[Write],
) -> Result<usize, StoreError> {
    if writes.len() > MAX_WRITES {
        return Err(StoreError::TooManyWrites { count: writes.len(), limit: MAX_WRITES });
    }
    if preconditions.len() > MAX_PRECONDITIONS {
        return Err(StoreError::TooManyPreconditions {
            count: preconditions.len(),
            limit: MAX_PRECONDITIONS,
        });
    }
    for precondition in preconditions {
        match precondition {
            Precondition::Version { key, .. } => check_key(key)?,
            Precondition::PrefixEmpty { prefix } => check_prefix(prefix)?,
        }
    }
    let mut size = 0;
    for write in writes {
        check_key(write.key())?;
        size += write.key().len();
        if let Write::Put { value, .. } = write {
            if value.len() > MAX_VALUE_BYTES {
                return Err(StoreError::ValueTooLarge {
                    size: value.len(),
                    limit: MAX_VALUE_BYTES,
                });
            }
            size += value.len();
        }
    }
    if size > MAX_COMMIT_BYTES {
        return Err(StoreError::CommitTooLarge { size, limit: MAX_COMMIT_BYTES });
    }
    Ok(size)
}
