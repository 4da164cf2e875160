//! Writes and entries as bytes. Knows no files: the log's frames and the base's blocks are made of these.
//!
//! A commit is its writes, one after the other: a tag, the key, and for a put the value. An entry is its key, its version
//! and its value. Keys and values follow their lengths (4 bytes); all numbers are big-endian.

use bytes::{Buf, BufMut, Bytes};

use crate::{Entry, StoreError, Write};

const PUT: u8 = 1;
const DELETE: u8 = 2;

pub(super) fn put_writes(into: &mut Vec<u8>, writes: &[Write]) {
    for write in writes {
        match write {
            Write::Put { key, value } => {
                into.put_u8(PUT);
                put_sized(into, key);
                put_sized(into, value);
            }
            Write::Delete { key } => {
                into.put_u8(DELETE);
                put_sized(into, key);
            }
        }
    }
}

/// The writes of commit `number`, as [`put_writes`] left them.
pub(super) fn take_writes(number: u64, mut from: Bytes) -> Result<Vec<Write>, StoreError> {
    let damaged = || StoreError::Corrupt(format!("change {number} cannot be decoded"));
    let mut writes = Vec::new();
    while from.has_remaining() {
        let tag = from.get_u8();
        let key = take_sized(&mut from).ok_or_else(damaged)?;
        writes.push(match tag {
            PUT => Write::Put { key, value: take_sized(&mut from).ok_or_else(damaged)? },
            DELETE => Write::Delete { key },
            _ => return Err(damaged()),
        });
    }
    Ok(writes)
}

pub(super) fn put_entry(into: &mut Vec<u8>, key: &[u8], version: u64, value: &[u8]) {
    put_sized(into, key);
    into.put_u64(version);
    put_sized(into, value);
}

/// The first entry of `from`, which is left without it; `None` when there is no whole one.
pub(super) fn take_entry(from: &mut Bytes) -> Option<Entry> {
    let key = take_sized(from)?;
    let version = from.try_get_u64().ok()?;
    let value = take_sized(from)?;
    Some(Entry { key, value, version })
}

pub(super) fn put_sized(into: &mut Vec<u8>, bytes: &[u8]) {
    // What is written here was held to limits far below 4 GiB before it came here.
    into.put_u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    into.extend_from_slice(bytes);
}

pub(super) fn take_sized(from: &mut Bytes) -> Option<Bytes> {
    let size = usize::try_from(from.try_get_u32().ok()?).ok()?;
    (size <= from.len()).then(|| from.split_to(size))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(in crate::sled_engine) fn a_write() -> impl Strategy<Value = Write> {
        let key = prop::collection::vec(any::<u8>(), 1..40).prop_map(Bytes::from);
        let value = prop::collection::vec(any::<u8>(), 0..9_000).prop_map(Bytes::from);
        (key, prop::option::of(value)).prop_map(|(key, value)| match value {
            Some(value) => Write::Put { key, value },
            None => Write::Delete { key },
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn writes_come_back_as_they_went_in(writes in prop::collection::vec(a_write(), 0..8)) {
            let mut encoded = Vec::new();
            put_writes(&mut encoded, &writes);
            prop_assert_eq!(take_writes(1, encoded.into()), Ok(writes));
        }

        #[test]
        fn entries_come_back_as_they_went_in(key: Vec<u8>, version: u64, value: Vec<u8>) {
            let mut encoded = Vec::new();
            put_entry(&mut encoded, &key, version, &value);
            let whole = Bytes::from(encoded);
            let entry = Entry { key: key.into(), value: value.into(), version };
            prop_assert_eq!(take_entry(&mut whole.clone()), Some(entry));
            prop_assert_eq!(take_entry(&mut whole.slice(..whole.len() - 1)), None);
        }

        #[test]
        fn any_bytes_decode_or_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(writes) = take_writes(1, bytes.clone().into()) {
                let mut again = Vec::new();
                put_writes(&mut again, &writes);
                prop_assert_eq!(again, bytes);
            }
        }
    }
}
