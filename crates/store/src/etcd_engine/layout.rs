//! Which keys of etcd are this store's, and what the head's value says of its commit.
//!
//! Under the prefix lie `id` (which store this is), `head`, `fence` (`cluster` says why) and `data/` with everybody's keys. Each commit writes `head`: so its
//! revision is the last commit's number whatever else lives in the cluster, its etcd version counts the commits without a gap,
//! and its value, the [`Record`], tells what etcd's own history does not: deletes of what was absent, and writes that a later
//! one of the same commit covered.

use bytes::Bytes;

use crate::{StoreError, Write};

const FORMAT: u8 = 1;
const DELETE: u8 = 0;
/// The value stands at the key itself, at the same revision.
const PUT: u8 = 1;
/// A later write of the same commit covers this one, so the value is kept here.
const COVERED_PUT: u8 = 2;

/// Tells one try of one process from every other.
pub(super) type Nonce = [u8; 16];

/// The keys of one store.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    prefix: Vec<u8>,
    data: Vec<u8>,
}

impl Layout {
    pub fn new(prefix: &str) -> Self {
        Self { prefix: prefix.into(), data: format!("{prefix}data/").into() }
    }

    /// Everything of this store.
    pub fn all(&self) -> Vec<u8> {
        self.prefix.clone()
    }

    pub fn id(&self) -> Vec<u8> {
        [self.prefix.as_slice(), b"id"].concat()
    }

    pub fn head(&self) -> Vec<u8> {
        [self.prefix.as_slice(), b"head"].concat()
    }

    /// Written to be sure of what a member has seen; holds nothing.
    pub fn fence(&self) -> Vec<u8> {
        [self.prefix.as_slice(), b"fence"].concat()
    }

    pub fn data(&self, key: &[u8]) -> Vec<u8> {
        [self.data.as_slice(), key].concat()
    }

    /// Where the keys with a prefix end (exclusive). There always is such a key, since `data/` begins all of them.
    pub fn data_end(&self, prefix: &[u8]) -> Vec<u8> {
        let mut end = self.data(prefix);
        while let Some(last) = end.pop() {
            if let Some(next) = last.checked_add(1) {
                end.push(next);
                break;
            }
        }
        end
    }

    /// The key as callers know it, if it is one of theirs.
    pub fn key_of(&self, etcd_key: &[u8]) -> Option<Bytes> {
        etcd_key.strip_prefix(self.data.as_slice()).map(Bytes::copy_from_slice)
    }
}

/// One write, as the record tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Recorded {
    Delete { key: Bytes },
    Put { key: Bytes },
    CoveredPut { key: Bytes, value: Bytes },
}

/// What the head's value says of the commit that wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub nonce: Nonce,
    pub writes: Vec<Recorded>,
}

impl Record {
    /// The record of `writes`; `covered` says which of them a later write to the same key covers.
    pub fn of(nonce: Nonce, writes: &[Write], covered: &[bool]) -> Self {
        let recorded = writes.iter().zip(covered).map(|(write, covered)| match (write, covered) {
            (Write::Delete { key }, _) => Recorded::Delete { key: key.clone() },
            (Write::Put { key, .. }, false) => Recorded::Put { key: key.clone() },
            (Write::Put { key, value }, true) => {
                Recorded::CoveredPut { key: key.clone(), value: value.clone() }
            }
        });
        Self { nonce, writes: recorded.collect() }
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![FORMAT];
        out.extend(self.nonce);
        for write in &self.writes {
            match write {
                Recorded::Delete { key } => push(&mut out, DELETE, key, None),
                Recorded::Put { key } => push(&mut out, PUT, key, None),
                Recorded::CoveredPut { key, value } => {
                    push(&mut out, COVERED_PUT, key, Some(value));
                }
            }
        }
        out
    }

    /// Turns back from the record of a later version.
    pub fn refuse_later(bytes: &[u8]) -> Result<(), StoreError> {
        match bytes.first() {
            Some(found) if *found > FORMAT => Err(StoreError::Later {
                what: "the store in etcd".to_owned(),
                found: (*found).into(),
                known: FORMAT.into(),
            }),
            Some(_) | None => Ok(()),
        }
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, StoreError> {
        let broken = || StoreError::Corrupt("the head's value is no record of a commit".to_owned());
        Self::refuse_later(bytes)?;
        let Some((&FORMAT, rest)) = bytes.split_first() else { return Err(broken()) };
        let (nonce, mut rest) = rest.split_first_chunk().ok_or_else(broken)?;
        let mut writes = Vec::new();
        while let Some((&kind, after)) = rest.split_first() {
            let key;
            (key, rest) = take_sized(after).ok_or_else(broken)?;
            writes.push(match kind {
                DELETE => Recorded::Delete { key },
                PUT => Recorded::Put { key },
                COVERED_PUT => {
                    let value;
                    (value, rest) = take_sized(rest).ok_or_else(broken)?;
                    Recorded::CoveredPut { key, value }
                }
                _ => return Err(broken()),
            });
        }
        Ok(Self { nonce: *nonce, writes })
    }
}

fn push(out: &mut Vec<u8>, kind: u8, key: &[u8], value: Option<&[u8]>) {
    out.push(kind);
    for bytes in std::iter::once(key).chain(value) {
        // Keys and values are far below 4 GiB (model.rs).
        out.extend(u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
        out.extend(bytes);
    }
}

fn take_sized(bytes: &[u8]) -> Option<(Bytes, &[u8])> {
    let (size, rest) = bytes.split_first_chunk::<4>()?;
    let (taken, rest) = rest.split_at_checked(u32::from_be_bytes(*size) as usize)?;
    Some((Bytes::copy_from_slice(taken), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_back_and_nothing_else_does() {
        let writes = [
            Write::Put { key: Bytes::from_static(b"a"), value: Bytes::from_static(b"1") },
            Write::Delete { key: Bytes::from_static(b"a") },
            Write::Put { key: Bytes::from_static(b"\xff\0"), value: Bytes::new() },
        ];
        let record = Record::of([7; 16], &writes, &[true, true, false]);
        let encoded = record.encode();
        assert_eq!(Record::decode(&encoded), Ok(record));
        assert_eq!(Record::decode(&[FORMAT; 17]).map(|empty| empty.writes.len()), Ok(0));
        for broken in [&[][..], &[0; 17], &encoded[..encoded.len() - 1], &[FORMAT; 16]] {
            assert!(Record::decode(broken).is_err(), "{broken:?}");
        }
        let mut unknown = encoded.clone();
        unknown[17] = 3;
        assert!(Record::decode(&unknown).is_err());
    }

    #[test]
    fn a_prefix_ends_where_the_next_begins() {
        let layout = Layout::new("c/");
        let check = |prefix: &[u8], end: &[u8]| assert_eq!(layout.data_end(prefix), end);
        check(b"", b"c/data0");
        check(b"a", b"c/data/b");
        check(b"a\xff\xff", b"c/data/b");
        check(b"\xff", b"c/data0");
        assert_eq!(layout.key_of(&layout.data(b"a")), Some(Bytes::from_static(b"a")));
        assert_eq!(layout.key_of(&layout.head()), None);
    }
}
