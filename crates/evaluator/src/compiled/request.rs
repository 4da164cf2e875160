//! A request that borrows everything, and what is worked out of it once.
//!
//! Source of the limits: they are this engine's own; what exceeds them is refused by name, never cut off.

use std::cell::Cell;
use std::net::IpAddr;

use countersign_policy::arn::AccountId;
use countersign_policy::scalar::Instant;
use thiserror::Error;

use super::signature::{Signature, of_fragments};
use crate::principal::Principal;
use crate::request::Ownership;

/// A condition key's value. A single value is not a set of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    One(&'a str),
    Many(&'a [&'a str]),
    /// The same as `Many`, for who owns its texts.
    Strings(&'a [String]),
}

impl<'a> Value<'a> {
    pub(crate) fn is_set(self) -> bool {
        matches!(self, Value::Many(_) | Value::Strings(_))
    }

    pub(crate) fn len(self) -> usize {
        match self {
            Value::One(_) => 1,
            Value::Many(values) => values.len(),
            Value::Strings(values) => values.len(),
        }
    }

    pub(crate) fn at(self, place: usize) -> Option<&'a str> {
        match self {
            Value::One(value) => (place == 0).then_some(value),
            Value::Many(values) => values.get(place).copied(),
            Value::Strings(values) => values.get(place).map(String::as_str),
        }
    }

    /// The only value, of a single one or of a set of one.
    pub(crate) fn only(self) -> Option<&'a str> {
        if self.len() == 1 { self.at(0) } else { None }
    }
}

/// One question, as texts. The context is complete: principal keys and time are in it.
#[derive(Debug, Clone, Copy)]
pub struct Query<'a> {
    pub principal: &'a Principal,
    /// `orders:GetOrder`
    pub action: &'a str,
    /// An ARN, or `*` for actions that name no resource.
    pub resource: &'a str,
    /// As [`crate::Resource::account`].
    pub resource_account: Option<AccountId>,
    /// Keys, each once whatever its case, and their values.
    pub context: &'a [(&'a str, Value<'a>)],
}

/// Why a query is no question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum InvalidQuery {
    #[error("the action is not `service:Action`, letters and digits alone, without wildcards")]
    Action,
    #[error("the action is longer than {MAX_ACTION} characters")]
    ActionTooLong,
    #[error("the resource is neither an ARN nor `*`")]
    Resource,
    #[error("the context has more than {MAX_KEYS} keys")]
    TooManyKeys,
    #[error("a context key is given twice (case does not count)")]
    DuplicateKey,
}

/// Characters of an action, its service included.
pub const MAX_ACTION: usize = 128;
/// Keys of a context.
pub const MAX_KEYS: usize = 256;

/// Keys up to this many are found by their hash, more by reading along.
const HASHED_KEYS: usize = 48;

/// The resource, taken apart once.
#[derive(Debug, Clone, Copy)]
pub(crate) enum ResourceText<'a> {
    Any,
    Arn { text: &'a str, parts: [&'a str; 6] },
}

/// Where what is worked out stands: the caller's stack.
#[derive(Debug)]
pub(crate) struct Scratch {
    action: [u8; MAX_ACTION],
    hashes: [u16; HASHED_KEYS],
}

impl Scratch {
    pub(crate) fn new() -> Self {
        Self { action: [0; MAX_ACTION], hashes: [0; HASHED_KEYS] }
    }
}

/// A query, ready to be asked.
#[derive(Debug)]
pub(crate) struct Prepared<'a> {
    pub principal: &'a Principal,
    pub signature: Signature,
    pub resource: ResourceText<'a>,
    pub context: &'a [(&'a str, Value<'a>)],
    resource_account: Option<AccountId>,
    /// In lower case, and ASCII.
    pub action: &'a [u8],
    /// Of each key of the context, in order; none if there are too many.
    hashes: Option<&'a [u16]>,
    /// The last value that was read as an address or as a date, by its place in the context plus one.
    address: Cell<(usize, Option<IpAddr>)>,
    date: Cell<(usize, Option<Instant>)>,
}

impl<'a> Prepared<'a> {
    pub(crate) fn new(query: &Query<'a>, scratch: &'a mut Scratch) -> Result<Self, InvalidQuery> {
        let (service, name) = lower_action(query.action, &mut scratch.action)?;
        let resource = resource(query.resource)?;
        let hashes = hash_keys(query.context, &mut scratch.hashes)?;
        let action = scratch.action.get(..service + name).unwrap_or_default();
        Ok(Self {
            principal: query.principal,
            signature: Signature {
                actions: Signature::of_one_action(action, service),
                values: Signature::values_of(query.context, hashes),
                fragments: match &resource {
                    ResourceText::Any => 0,
                    ResourceText::Arn { parts: [.., resource], .. } => of_fragments(resource),
                },
            },
            resource,
            context: query.context,
            resource_account: query.resource_account,
            action,
            hashes,
            address: Cell::new((0, None)),
            date: Cell::new((0, None)),
        })
    }

    /// The key's place in the context. `key` is in lower case, `hash` is its [`key_hash`].
    pub(crate) fn find(&self, key: &[u8], hash: u16) -> Option<(usize, Value<'a>)> {
        let is_it = |place: usize| {
            let (own, value) = self.context.get(place)?;
            own.as_bytes().eq_ignore_ascii_case(key).then_some((place, *value))
        };
        match self.hashes {
            Some(hashes) => (0..)
                .zip(hashes)
                .find_map(|(place, own)| if *own == hash { is_it(place) } else { None }),
            None => (0..self.context.len()).find_map(is_it),
        }
    }

    pub(crate) fn address(&self, place: usize, value: &str) -> Option<IpAddr> {
        let (kept, address) = self.address.get();
        if kept == place + 1 {
            return address;
        }
        let address = value.parse().ok();
        self.address.set((place + 1, address));
        address
    }

    pub(crate) fn date(&self, place: usize, value: &str) -> Option<Instant> {
        let (kept, date) = self.date.get();
        if kept == place + 1 {
            return date;
        }
        let date = Instant::parse(value);
        self.date.set((place + 1, date));
        date
    }

    pub(crate) fn ownership(&self) -> Ownership {
        let (is_any, from_arn) = match &self.resource {
            ResourceText::Any => (true, None),
            ResourceText::Arn { parts: [_, _, _, _, account, _], .. } => {
                (false, account_id(account))
            }
        };
        let owner = match (self.resource_account, from_arn) {
            (Some(given), Some(own)) if given != own => return Ownership::Contradiction,
            (Some(owner), _) | (None, Some(owner)) => Some(owner),
            (None, None) if is_any => self.principal.account(),
            // Nobody knows the owner; cross-account asks for more.
            (None, None) => None,
        };
        if owner.is_some() && owner == self.principal.account() {
            Ownership::SameAccount
        } else {
            Ownership::CrossAccount
        }
    }
}

/// The check comes first: the error of `parse` would keep the text.
fn account_id(text: &str) -> Option<AccountId> {
    let is_number = text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit());
    if is_number { text.parse().ok() } else { None }
}

/// The lengths of service, and of the name with its colon.
fn lower_action(text: &str, buffer: &mut [u8; MAX_ACTION]) -> Result<(usize, usize), InvalidQuery> {
    let colon = text.bytes().position(|byte| byte == b':').ok_or(InvalidQuery::Action)?;
    let (service, name) = text.as_bytes().split_at_checked(colon).unwrap_or_default();
    let (_, name) = name.split_first().ok_or(InvalidQuery::Action)?;
    // Without a branch a letter: the first one that may not stand there is not asked for.
    let is_name =
        |text: &[u8]| text.iter().fold(true, |all, byte| all & byte.is_ascii_alphanumeric());
    let is_service = service
        .iter()
        .fold(true, |all, byte| all & (byte.is_ascii_alphanumeric() | (*byte == b'-')));
    if service.is_empty() || name.is_empty() || !is_service || !is_name(name) {
        return Err(InvalidQuery::Action);
    }
    let own = buffer.get_mut(..text.len()).ok_or(InvalidQuery::ActionTooLong)?;
    own.copy_from_slice(text.as_bytes());
    own.make_ascii_lowercase();
    Ok((colon, text.len() - colon))
}

fn resource(text: &str) -> Result<ResourceText<'_>, InvalidQuery> {
    if text == "*" {
        return Ok(ResourceText::Any);
    }
    let parts = six_parts(text).ok_or(InvalidQuery::Resource)?;
    let [arn, partition, service, _, _, resource] = parts;
    if arn != "arn" || partition.is_empty() || service.is_empty() || resource.is_empty() {
        return Err(InvalidQuery::Resource);
    }
    Ok(ResourceText::Arn { text, parts })
}

/// What stands between the first five colons, and after them. `None` if there are fewer.
pub(crate) fn six_parts(text: &str) -> Option<[&str; 6]> {
    let mut from = 0;
    // The parts are short: a search that prepares itself takes longer than looking.
    let mut colons = text.bytes().enumerate().filter(|(_, byte)| *byte == b':');
    let mut next = || {
        let (to, _) = colons.next()?;
        let part = text.get(from..to);
        from = to + 1;
        part
    };
    let first = [next()?, next()?, next()?, next()?, next()?];
    let [a, b, c, d, e] = first;
    Some([a, b, c, d, e, text.get(from..)?])
}

/// Hashes every key, and holds them to standing there once. `None` if there are too many to hash.
fn hash_keys<'s>(
    context: &[(&str, Value<'_>)],
    hashes: &'s mut [u16; HASHED_KEYS],
) -> Result<Option<&'s [u16]>, InvalidQuery> {
    let Some(own) = hashes.get_mut(..context.len()) else {
        return check_twice(context).map(|()| None);
    };
    // Bits of the hashes so far: most contexts need no comparison.
    let mut seen = 0_u64;
    for (place, (key, _)) in context.iter().enumerate() {
        let hash = key_hash(key.as_bytes());
        let bit = 1 << (hash % 64);
        let may_stand_twice = seen & bit != 0;
        let before = own.iter().zip(context).take(place);
        let is_it = |(other, (text, _)): (&u16, &(&str, Value<'_>))| {
            *other == hash && text.eq_ignore_ascii_case(key)
        };
        if may_stand_twice && before.into_iter().any(is_it) {
            return Err(InvalidQuery::DuplicateKey);
        }
        seen |= bit;
        if let Some(slot) = own.get_mut(place) {
            *slot = hash;
        }
    }
    Ok(Some(own))
}

fn check_twice(context: &[(&str, Value<'_>)]) -> Result<(), InvalidQuery> {
    if context.len() > MAX_KEYS {
        return Err(InvalidQuery::TooManyKeys);
    }
    let twice = context.iter().enumerate().any(|(place, (key, _))| {
        context.iter().take(place).any(|(other, _)| other.eq_ignore_ascii_case(key))
    });
    if twice { Err(InvalidQuery::DuplicateKey) } else { Ok(()) }
}

const MULTIPLIER: u64 = 0x9E37_79B9_7F4A_7C15;

/// Equal texts have equal hashes; unequal ones may, and are compared wherever a hash is used.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    hash_of(bytes, 0)
}

/// Sees no case in ASCII letters.
pub(crate) fn key_hash(key: &[u8]) -> u16 {
    let [low, high, ..] = hash_of(key, 0x2020_2020_2020_2020).to_le_bytes();
    u16::from_le_bytes([low, high])
}

/// Of a value that a key has; the key is told by its hash.
pub(crate) fn value_hash(key: u16, value: &str) -> u64 {
    hash_of(value.as_bytes(), 0) ^ u64::from(key).wrapping_mul(MULTIPLIER)
}

fn hash_of(bytes: &[u8], fold: u64) -> u64 {
    let mut state = bytes.len() as u64;
    let mut mix = |word: u64| {
        state = (state ^ (word | fold)).wrapping_mul(MULTIPLIER);
        state ^= state >> 29;
    };
    // The last word may hold bytes of the one before: lengths differ or they are equal, so that nothing is lost.
    if let Some(last) = bytes.last_chunk::<8>() {
        for word in bytes.as_chunks::<8>().0 {
            mix(u64::from_le_bytes(*word));
        }
        mix(u64::from_le_bytes(*last));
    } else if let (Some(first), Some(last)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        let (first, last) = (u32::from_le_bytes(*first), u32::from_le_bytes(*last));
        mix(u64::from(first) | u64::from(last) << 32);
    } else {
        mix(bytes.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)));
    }
    state = state.wrapping_mul(MULTIPLIER);
    state ^ (state >> 32)
}
