//! How keys, values and changes are laid out in sled's one tree. Knows bytes alone.
//!
//! | cell | content |
//! | --- | --- |
//! | `d/` key | version (8 bytes, big-endian), then the value |
//! | `l/` number (8 bytes, big-endian) part (2 bytes) | a commit's writes, encoded, cut into parts |
//! | `m/format`, `m/id`, `m/state` | the layout's version, the store's id, [`State`] |

use ::sled::IVec;
use bytes::{Buf, BufMut, Bytes};

use crate::{StoreError, Write};

pub(super) const FORMAT_KEY: &[u8] = b"m/format";
pub(super) const FORMAT: &[u8] = b"1";
pub(super) const ID_KEY: &[u8] = b"m/id";
pub(super) const STATE_KEY: &[u8] = b"m/state";

const DATA: &[u8] = b"d/";
const LOG: &[u8] = b"l/";
const VERSION_BYTES: usize = 8;
/// A commit's encoded writes are cut at this size, so that no cell is larger than a value may be.
const PART_BYTES: usize = 32 << 10;
const PUT: u8 = 1;
const DELETE: u8 = 2;

/// A value with the number of the commit that wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stored {
    pub version: u64,
    pub value: Bytes,
}

impl Stored {
    pub fn encode(&self) -> Vec<u8> {
        let mut cell = Vec::with_capacity(VERSION_BYTES + self.value.len());
        cell.put_u64(self.version);
        cell.extend_from_slice(&self.value);
        cell
    }

    pub fn decode(cell: &IVec) -> Result<Self, StoreError> {
        match cell.split_first_chunk::<VERSION_BYTES>() {
            Some((version, value)) => Ok(Self {
                version: u64::from_be_bytes(*version),
                value: Bytes::copy_from_slice(value),
            }),
            None => {
                Err(StoreError::Corrupt(format!("a value of {} bytes has no version", cell.len())))
            }
        }
    }
}

/// The counters that move with each group of commits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    /// The last commit's number.
    pub head: u64,
    /// Changes up to and with this number are no longer kept.
    pub trimmed: u64,
    /// Bytes of the encoded changes that are kept.
    pub log_bytes: u64,
}

impl State {
    pub fn encode(&self) -> Vec<u8> {
        [self.head, self.trimmed, self.log_bytes]
            .iter()
            .flat_map(|number| number.to_be_bytes())
            .collect()
    }

    pub fn decode(cell: &IVec) -> Result<Self, StoreError> {
        let mut rest: &[u8] = cell;
        let mut next = || {
            rest.try_get_u64().map_err(|_| StoreError::Corrupt("the counters are cut short".into()))
        };
        Ok(Self { head: next()?, trimmed: next()?, log_bytes: next()? })
    }
}

pub(super) fn data_key(key: &[u8]) -> Vec<u8> {
    [DATA, key].concat()
}

/// The key that a data cell's key stands for; `None` when the cell is not one of data.
pub(super) fn key_of(cell: &IVec) -> Option<Bytes> {
    cell.strip_prefix(DATA).map(Bytes::copy_from_slice)
}

pub(super) fn log_key(number: u64, part: u16) -> Vec<u8> {
    let mut key = LOG.to_vec();
    key.put_u64(number);
    key.put_u16(part);
    key
}

/// The number and part that a log cell's key stands for; `None` when the cell is not one of the log.
pub(super) fn log_place(cell: &IVec) -> Option<(u64, u16)> {
    let mut rest = cell.strip_prefix(LOG)?;
    let place = (rest.try_get_u64().ok()?, rest.try_get_u16().ok()?);
    rest.is_empty().then_some(place)
}

/// A commit's writes as the cells that keep them: none for no writes.
pub(super) fn log_cells(number: u64, writes: &[Write]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut encoded = Vec::new();
    for write in writes {
        match write {
            Write::Put { key, value } => {
                encoded.put_u8(PUT);
                put_sized(&mut encoded, key);
                put_sized(&mut encoded, value);
            }
            Write::Delete { key } => {
                encoded.put_u8(DELETE);
                put_sized(&mut encoded, key);
            }
        }
    }
    encoded
        .chunks(PART_BYTES)
        .zip(0..)
        .map(|(part, place)| (log_key(number, place), part.to_vec()))
        .collect()
}

fn put_sized(into: &mut Vec<u8>, bytes: &[u8]) {
    // Keys and values were held to limits far below 4 GiB before they came here.
    into.put_u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    into.extend_from_slice(bytes);
}

/// The writes that [`log_cells`] encoded, from its parts put together again.
pub(super) fn decode_writes(number: u64, encoded: Vec<u8>) -> Result<Vec<Write>, StoreError> {
    let damaged = || StoreError::Corrupt(format!("change {number} cannot be decoded"));
    let mut rest = Bytes::from(encoded);
    let mut writes = Vec::new();
    while rest.has_remaining() {
        let tag = rest.get_u8();
        let key = take_sized(&mut rest).ok_or_else(damaged)?;
        writes.push(match tag {
            PUT => Write::Put { key, value: take_sized(&mut rest).ok_or_else(damaged)? },
            DELETE => Write::Delete { key },
            _ => return Err(damaged()),
        });
    }
    Ok(writes)
}

fn take_sized(from: &mut Bytes) -> Option<Bytes> {
    let size = usize::try_from(from.try_get_u32().ok()?).ok()?;
    (size <= from.len()).then(|| from.split_to(size))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn a_write() -> impl Strategy<Value = Write> {
        let key = prop::collection::vec(any::<u8>(), 1..40).prop_map(Bytes::from);
        let value = prop::collection::vec(any::<u8>(), 0..50_000).prop_map(Bytes::from);
        (key, prop::option::of(value)).prop_map(|(key, value)| match value {
            Some(value) => Write::Put { key, value },
            None => Write::Delete { key },
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn changes_come_back_as_they_went_in(writes in prop::collection::vec(a_write(), 1..8), number: u64) {
            let cells = log_cells(number, &writes);
            let mut encoded = Vec::new();
            for (place, (key, part)) in cells.into_iter().enumerate() {
                prop_assert_eq!(log_place(&IVec::from(key)), Some((number, u16::try_from(place).unwrap())));
                prop_assert!(part.len() <= PART_BYTES);
                encoded.extend(part);
            }
            prop_assert_eq!(decode_writes(number, encoded), Ok(writes));
        }

        #[test]
        fn any_bytes_decode_or_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(writes) = decode_writes(1, bytes.clone()) {
                let again: Vec<u8> = log_cells(1, &writes).into_iter().flat_map(|(_, part)| part).collect();
                prop_assert_eq!(again, bytes);
            }
        }
    }

    #[test]
    fn damaged_cells_are_refused() {
        assert!(matches!(Stored::decode(&IVec::from(&[0; 7])), Err(StoreError::Corrupt(_))));
        assert!(matches!(State::decode(&IVec::from(&[0; 23])), Err(StoreError::Corrupt(_))));
        assert_eq!(log_place(&IVec::from(b"l/0123456")), None);
        assert_eq!(log_place(&IVec::from(b"d/0123456789")), None);
        assert_eq!(key_of(&IVec::from(b"m/state")), None);
    }
}
