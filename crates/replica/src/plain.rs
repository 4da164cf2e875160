//! Users' records as they stand in a kept snapshot, read from their bytes without a copy of each text: there may be a million of them, and
//! each names ten policies that others have too.
//!
//! It reads the plain form alone: no inline policies, no tags, every single field at most once. Whatever is not of that form, or not well
//! formed, is nobody's error here: it is read again by the general way. What a field means is [`crate::records`]'s, for both.
//!
//! Source: <https://protobuf.dev/programming-guides/encoding/>, and `watch.proto` and `records.proto` for the numbers.

use prost::encoding::{WireType, decode_key, decode_varint};

/// A chunk: the records are still bytes.
pub struct Chunk<'a> {
    /// The revision of the snapshot.
    pub revision: &'a str,
    /// Nothing follows.
    pub last: bool,
    /// Records, each as bytes.
    pub records: Vec<&'a [u8]>,
}

/// A user's record.
pub struct User<'a> {
    pub key: &'a str,
    pub version: u64,
    pub format: u32,
    pub fields: UserFields<'a>,
}

/// What a user's record says, without inline policies and tags.
#[derive(Default)]
pub struct UserFields<'a> {
    pub account_id: &'a str,
    pub path: &'a str,
    pub user_name: &'a str,
    pub user_id: &'a str,
    pub attached_policy_arns: Vec<&'a str>,
    pub group_ids: Vec<&'a str>,
    pub permissions_boundary_arn: &'a str,
}

/// Reads a WatchSnapshotChunk.
pub fn chunk(bytes: &[u8]) -> Option<Chunk<'_>> {
    let mut chunk = Chunk { revision: "", last: false, records: Vec::new() };
    for field in Fields(bytes) {
        match field? {
            (1, Value::Bytes(bytes)) => chunk.revision = text(bytes)?,
            (2, Value::Number(_)) => {}
            (3, Value::Number(last)) => chunk.last = last != 0,
            (4, Value::Bytes(record)) => chunk.records.push(record),
            _ => return None,
        }
    }
    Some(chunk)
}

/// Reads a Record that is a plain user's.
pub fn user(bytes: &[u8]) -> Option<User<'_>> {
    let (mut key, mut user, mut format, mut version) = (None, None, None, None);
    for field in Fields(bytes) {
        match field? {
            (1, Value::Bytes(bytes)) => once(&mut key, text(bytes)?)?,
            (3, Value::Bytes(bytes)) => once(&mut user, bytes)?,
            (10, Value::Number(number)) => once(&mut format, u32::try_from(number).ok()?)?,
            (16, Value::Number(number)) => once(&mut version, number)?,
            _ => return None,
        }
    }
    Some(User {
        key: key?,
        version: version.unwrap_or_default(),
        format: format.unwrap_or_default(),
        fields: user_fields(user?)?,
    })
}

fn user_fields(bytes: &[u8]) -> Option<UserFields<'_>> {
    let [mut account_id, mut path, mut user_name, mut user_id, mut boundary] = [None; 5];
    let (mut attached_policy_arns, mut group_ids) = (Vec::with_capacity(10), Vec::new());
    for field in Fields(bytes) {
        match field? {
            (1, Value::Bytes(bytes)) => once(&mut account_id, text(bytes)?)?,
            (2, Value::Bytes(bytes)) => once(&mut path, text(bytes)?)?,
            (3, Value::Bytes(bytes)) => once(&mut user_name, text(bytes)?)?,
            (4, Value::Bytes(bytes)) => once(&mut user_id, text(bytes)?)?,
            // When it was made, and its access keys: a replica has no use for them.
            (5 | 8, Value::Bytes(_)) => {}
            (7, Value::Bytes(bytes)) => attached_policy_arns.push(text(bytes)?),
            (9, Value::Bytes(bytes)) => group_ids.push(text(bytes)?),
            (10, Value::Bytes(bytes)) => once(&mut boundary, text(bytes)?)?,
            _ => return None,
        }
    }
    Some(UserFields {
        account_id: account_id?,
        path: path?,
        user_name: user_name?,
        user_id: user_id?,
        attached_policy_arns,
        group_ids,
        permissions_boundary_arn: boundary.unwrap_or_default(),
    })
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

fn once<T>(place: &mut Option<T>, value: T) -> Option<()> {
    place.replace(value).is_none().then_some(())
}

enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The fields of a message, with their numbers. None for what is not well formed, and then the end.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Option<(u32, Value<'a>)>;

    fn next(&mut self) -> Option<Self::Item> {
        (!self.0.is_empty()).then(|| self.field())
    }
}

impl<'a> Fields<'a> {
    fn field(&mut self) -> Option<(u32, Value<'a>)> {
        let (number, wire_type) = decode_key(&mut self.0).ok()?;
        let value = match wire_type {
            WireType::Varint => Value::Number(decode_varint(&mut self.0).ok()?),
            WireType::LengthDelimited => {
                let length = usize::try_from(decode_varint(&mut self.0).ok()?).ok()?;
                let (bytes, rest) = self.0.split_at_checked(length)?;
                self.0 = rest;
                Value::Bytes(bytes)
            }
            WireType::ThirtyTwoBit
            | WireType::SixtyFourBit
            | WireType::StartGroup
            | WireType::EndGroup => return None,
        };
        Some((number, value))
    }
}

#[cfg(test)]
mod tests {
    use countersign_proto::policy::v1::{
        InlinePolicy, Record, RoleRecord, Tag, UserRecord, record::Record as Kind,
    };
    use prost::Message as _;

    use super::*;

    fn full() -> UserRecord {
        UserRecord {
            account_id: "111122223333".into(),
            path: "/".into(),
            user_name: "Bob".into(),
            user_id: "AIDA1".into(),
            create_date: Some(Default::default()),
            attached_policy_arns: vec!["arn:a".into(), "arn:b".into()],
            access_key_ids: vec!["AKIA1".into()],
            group_ids: vec!["AGPA1".into()],
            permissions_boundary_arn: "arn:c".into(),
            ..Default::default()
        }
    }

    fn record(user: UserRecord) -> Record {
        Record { key: "user/bob".into(), record: Some(Kind::User(user)), format: 2, version: 300 }
    }

    #[test]
    fn a_plain_user_is_read_as_it_was_written() {
        let bytes = record(full()).encode_to_vec();
        let User { key, version, format, fields } = user(&bytes).unwrap();
        assert_eq!((key, version, format), ("user/bob", 300, 2));
        assert_eq!((fields.account_id, fields.path), ("111122223333", "/"));
        assert_eq!((fields.user_name, fields.user_id), ("Bob", "AIDA1"));
        assert_eq!(fields.attached_policy_arns, ["arn:a", "arn:b"]);
        assert_eq!((fields.group_ids, fields.permissions_boundary_arn), (vec!["AGPA1"], "arn:c"));
    }

    #[test]
    fn what_is_not_plain_is_left_to_the_general_way() {
        let check = |change: fn(&mut Record, &mut UserRecord)| {
            let (mut record, mut own) = (record(full()), full());
            change(&mut record, &mut own);
            if matches!(record.record, Some(Kind::User(_))) {
                record.record = Some(Kind::User(own));
            }
            assert!(user(&record.encode_to_vec()).is_none(), "{record:?}");
        };
        check(|_, user| user.inline_policies.push(InlinePolicy::default()));
        check(|_, user| user.tags.push(Tag::default()));
        check(|_, user| user.account_id.clear());
        check(|_, user| user.user_id.clear());
        check(|record, _| record.key.clear());
        check(|record, _| record.record = None);
        check(|record, _| record.record = Some(Kind::Role(RoleRecord::default())));
        // A field twice, one that nobody knows, a text that is none.
        let bytes = record(full()).encode_to_vec();
        for more in [&[0x0a, 1, b'x'][..], &[0x50, 1], &[0x98, 6, 1], &[0x0a, 1, 0xff], &[0x0b]] {
            assert!(user(&[&bytes, more].concat()).is_none(), "{more:?}");
        }
        // Cut anywhere, it is no record, or one of an earlier version at most.
        for end in 0..bytes.len() {
            let cut = bytes.get(..end).and_then(user);
            assert!(cut.is_none_or(|user| user.fields.user_id == "AIDA1"));
        }
    }

    #[test]
    fn a_chunk_is_its_records() {
        use countersign_proto::policy::v1::WatchSnapshotChunk;
        let records = vec![record(full()), Record::default()];
        let written =
            WatchSnapshotChunk { revision: "aaaa:5".into(), first: true, last: true, records };
        let bytes = written.encode_to_vec();
        let read = chunk(&bytes).unwrap();
        assert_eq!((read.revision, read.last, read.records.len()), ("aaaa:5", true, 2));
        let first = Record::decode(*read.records.first().unwrap()).unwrap();
        assert_eq!(first, record(full()));
        assert!(chunk(&bytes[..bytes.len() - 1]).is_none());
        assert!(chunk(&[0x2a, 0]).is_none());
    }
}
