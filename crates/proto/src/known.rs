//! Whether a message holds only what this version knows, by the contract's own descriptors.
//!
//! It knows protobuf's wire format and the numbers of fields. What a field means, and whether its value is good, it leaves to others.
//! Source: <https://protobuf.dev/programming-guides/encoding/>.

use std::{collections::HashMap, sync::LazyLock};

use prost::{Message, Name};
use prost_types::{DescriptorProto, FileDescriptorSet, field_descriptor_proto::Type};

use crate::FILE_DESCRIPTOR_SET;

/// As deep as prost reads.
const DEEPEST: usize = 100;

/// What is wrong with a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotKnown {
    /// It holds a field that this version of the contract does not have.
    Field {
        /// The message that holds it: `countersign.policy.v1.CreateRoleRequest`.
        message: String,
        /// Where that message stands in the whole one, by fields: `tags.`; empty for the whole one itself.
        path: String,
        /// The field's number.
        number: u32,
    },
    /// It is no protobuf message, or not of this kind.
    Malformed,
}

impl std::error::Error for NotKnown {}

impl std::fmt::Display for NotKnown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Field { message, path, number } => write!(
                f,
                "`{path}{number}`: {message} has no field of this number in this version of the service; leave it out, or ask a later version"
            ),
            Self::Malformed => f.write_str("the request is not a protobuf message of its kind"),
        }
    }
}

/// Refuses an encoded `M` that holds, anywhere in it, a field that this version does not know. What is left over would otherwise be
/// dropped in silence, and with it perhaps what it was meant to deny.
///
/// # Errors
/// The first such field, in the order of the bytes.
pub fn check_known<M: Name>(bytes: &[u8]) -> Result<(), NotKnown> {
    let shapes = &*SHAPES;
    let shape = shapes.by_name.get(&M::full_name()).ok_or(NotKnown::Malformed)?;
    shapes.check(*shape, &mut Reader { bytes }, &mut Vec::new())
}

/// Whether `M` is what a client asks one of our services.
#[must_use]
pub fn is_request<M: Name>() -> bool {
    M::PACKAGE.starts_with("countersign.") && M::NAME.ends_with("Request")
}

static SHAPES: LazyLock<Shapes> = LazyLock::new(|| {
    let mut shapes = Shapes::default();
    // The crate's own constant: one that cannot be read leaves no shape, and then every request is refused.
    let set = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap_or_default();
    for file in &set.file {
        for message in &file.message_type {
            shapes.declare(file.package(), message);
        }
    }
    for file in &set.file {
        for message in &file.message_type {
            shapes.define(file.package(), message);
        }
    }
    shapes
});

/// Of every message of the contract.
#[derive(Default)]
struct Shapes {
    by_name: HashMap<String, usize>,
    shapes: Vec<Shape>,
}

#[derive(Default)]
struct Shape {
    name: String,
    fields: HashMap<u32, Field>,
}

struct Field {
    name: String,
    /// Where it holds a message: which.
    message: Option<usize>,
}

impl Shapes {
    fn declare(&mut self, scope: &str, message: &DescriptorProto) {
        let name = format!("{scope}.{}", message.name());
        for nested in &message.nested_type {
            self.declare(&name, nested);
        }
        self.by_name.insert(name.clone(), self.shapes.len());
        self.shapes.push(Shape { name, fields: HashMap::new() });
    }

    fn define(&mut self, scope: &str, message: &DescriptorProto) {
        let name = format!("{scope}.{}", message.name());
        for nested in &message.nested_type {
            self.define(&name, nested);
        }
        let fields = message.field.iter().filter_map(|field| {
            let holds = match field.r#type() {
                Type::Message => {
                    Some(*self.by_name.get(field.type_name().trim_start_matches('.'))?)
                }
                _ => None,
            };
            let number = u32::try_from(field.number()).ok()?;
            Some((number, Field { name: field.name().to_owned(), message: holds }))
        });
        let fields = fields.collect();
        if let Some(shape) = self.by_name.get(&name).and_then(|at| self.shapes.get_mut(*at)) {
            shape.fields = fields;
        }
    }

    fn check<'a>(
        &'a self,
        shape: usize,
        reader: &mut Reader<'_>,
        path: &mut Vec<&'a str>,
    ) -> Result<(), NotKnown> {
        let shape = self.shapes.get(shape).ok_or(NotKnown::Malformed)?;
        if path.len() > DEEPEST {
            return Err(NotKnown::Malformed);
        }
        while !reader.bytes.is_empty() {
            let (number, value) = reader.field()?;
            let Some(field) = shape.fields.get(&number) else {
                let mut path = path.join(".");
                if !path.is_empty() {
                    path.push('.');
                }
                return Err(NotKnown::Field { message: shape.name.clone(), path, number });
            };
            if let Some(message) = field.message {
                let mut inner = Reader { bytes: value.ok_or(NotKnown::Malformed)? };
                path.push(&field.name);
                self.check(message, &mut inner, path)?;
                path.pop();
            }
        }
        Ok(())
    }
}

/// What is left of a message.
struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    /// The next field's number, and its bytes where it is length-delimited.
    fn field(&mut self) -> Result<(u32, Option<&'a [u8]>), NotKnown> {
        let key = u32::try_from(self.varint()?).map_err(|_| NotKnown::Malformed)?;
        let number = key >> 3;
        if number == 0 {
            return Err(NotKnown::Malformed);
        }
        let value = match key & 7 {
            0 => {
                self.varint()?;
                None
            }
            1 => self.take(8).map(|_| None)?,
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| NotKnown::Malformed)?;
                Some(self.take(length)?)
            }
            5 => self.take(4).map(|_| None)?,
            // Groups, which proto3 does not have, and what is no wire type.
            _ => return Err(NotKnown::Malformed),
        };
        Ok((number, value))
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], NotKnown> {
        let (taken, rest) = self.bytes.split_at_checked(length).ok_or(NotKnown::Malformed)?;
        self.bytes = rest;
        Ok(taken)
    }

    /// At most ten bytes, the tenth of them 0 or 1.
    fn varint(&mut self) -> Result<u64, NotKnown> {
        let mut value = 0;
        for place in 0..10 {
            let (byte, rest) = self.bytes.split_first().ok_or(NotKnown::Malformed)?;
            self.bytes = rest;
            if place == 9 && *byte > 1 {
                return Err(NotKnown::Malformed);
            }
            value |= u64::from(byte & 0x7f) << (7 * place);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(NotKnown::Malformed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        decision::v1::{AuthorizeRequest, ContextValue, context_value::Kind},
        policy::v1::{CreateRoleRequest, PutRolePolicyRequest, Tag, WatchRequest},
    };

    const SURPLUS: &[u8] = &[0xfa, 0x01, 1, b'x'];

    fn check<M: Name>(bytes: &[u8], expected: Result<(), &str>) {
        let found = check_known::<M>(bytes).map_err(|error| error.to_string());
        match (found, expected) {
            (Ok(()), Ok(())) => {}
            (Err(found), Err(expected)) => assert!(found.contains(expected), "{found}"),
            (found, expected) => panic!("{found:?}, not {expected:?}, of {bytes:?}"),
        }
    }

    /// `outer`, of field `number`, around `inner`.
    fn nested(number: u32, inner: &[u8]) -> Vec<u8> {
        let key = u8::try_from(number << 3 | 2).unwrap();
        [&[key, u8::try_from(inner.len()).unwrap()], inner].concat()
    }

    #[test]
    fn what_is_not_known_is_named() {
        let put = PutRolePolicyRequest {
            role_name: "r".into(),
            policy_name: "p".into(),
            validate_only: true,
            ..Default::default()
        };
        let put = put.encode_to_vec();
        check::<PutRolePolicyRequest>(&put, Ok(()));
        check::<PutRolePolicyRequest>(&[], Ok(()));
        let message = "`31`: countersign.policy.v1.PutRolePolicyRequest has no field";
        check::<PutRolePolicyRequest>(&[&put, SURPLUS].concat(), Err(message));
        check::<PutRolePolicyRequest>(&[SURPLUS, &put].concat(), Err(message));
        // As a number, fixed, and with more bytes than it needs.
        check::<PutRolePolicyRequest>(&[0xf8, 0x01, 1], Err("`31`"));
        check::<PutRolePolicyRequest>(&[0xfd, 0x01, 1, 2, 3, 4], Err("`31`"));
        check::<PutRolePolicyRequest>(&[0xfa, 0x81, 0x80, 0x00, 0], Err("`31`"));
    }

    #[test]
    fn also_deep_in_a_message() {
        let tag = Tag { key: "k".into(), value: "v".into() }.encode_to_vec();
        let tags = CreateRoleRequest { tags: vec![Tag::default()], ..Default::default() };
        let number = u32::from(tags.encode_to_vec()[0] >> 3);
        check::<CreateRoleRequest>(&nested(number, &tag), Ok(()));
        let strange = nested(number, &[&tag, SURPLUS].concat());
        check::<CreateRoleRequest>(&strange, Err("`tags.31`: countersign.policy.v1.Tag has no"));
        // In the value of a map.
        let value = ContextValue { kind: Some(Kind::Value("v".into())) };
        let asked = AuthorizeRequest {
            context: [("k".to_owned(), value.clone())].into(),
            ..Default::default()
        };
        let asked = asked.encode_to_vec();
        check::<AuthorizeRequest>(&asked, Ok(()));
        let number = u32::from(asked[0] >> 3);
        let strange = nested(2, &[&value.encode_to_vec(), SURPLUS].concat());
        let entry = [nested(1, b"k"), strange].concat();
        check::<AuthorizeRequest>(&nested(number, &entry), Err("`context.value.31`"));
    }

    #[test]
    fn what_is_no_message_is_refused() {
        for bytes in [
            &[0x0a][..],
            &[0x0a, 2, b'x'],
            &[0x0b],
            &[0x0f],
            &[0x02, 0],
            &[0x80],
            &[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
            &[0xff; 12],
        ] {
            check::<PutRolePolicyRequest>(bytes, Err("not a protobuf message"));
        }
    }

    /// Whether a message is checked depends on its name: so every request has it, and nothing else.
    #[test]
    fn requests_are_known_by_their_names() {
        assert!(is_request::<CreateRoleRequest>() && is_request::<WatchRequest>());
        assert!(!is_request::<Tag>() && !is_request::<crate::envoy::v3::CheckRequest>());
        let set = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap();
        let ours = set.file.iter().filter(|file| file.package().starts_with("countersign."));
        let mut methods = 0;
        for method in ours.flat_map(|file| &file.service).flat_map(|service| &service.method) {
            methods += 1;
            assert!(method.input_type().ends_with("Request"), "{}", method.input_type());
            assert!(!method.output_type().ends_with("Request"), "{}", method.output_type());
            let name = method.input_type().trim_start_matches('.');
            assert!(SHAPES.by_name.contains_key(name), "{name}");
        }
        assert!(methods > 100, "{methods}");
    }
}
