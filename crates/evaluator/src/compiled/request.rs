//! A request that borrows everything, and what is worked out of it once.
//!
//! Source of the limits: they are this engine's own; what exceeds them is refused by name, never cut off.

use std::cell::Cell;
use std::net::IpAddr;

use countersign_policy::arn::AccountId;
use countersign_policy::scalar::Instant;
use thiserror::Error;

use super::signature::{Signature, of_fragments};
use super::words::{dotted_quad, is_in_lower_case, key_hash, six_parts};
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
            is_in_lower_case(own.as_bytes(), key).then_some((place, *value))
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
        let address = dotted_quad(value).map(IpAddr::V4).or_else(|| value.parse().ok());
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
    let mut letters = text.bytes().zip(&mut *buffer);
    let (mut service, mut after) = (0, None);
    for (byte, slot) in letters.by_ref() {
        *slot = byte;
        match LOWER.get(usize::from(byte)) {
            Some(0) | None if byte != b'-' => {
                after = Some(byte);
                break;
            }
            Some(lower @ 1..) => *slot = *lower,
            Some(0) | None => {}
        }
        service += 1;
    }
    let mut is_name = true;
    for (byte, slot) in letters {
        *slot = LOWER.get(usize::from(byte)).copied().unwrap_or_default();
        is_name &= *slot != 0;
    }
    match after {
        _ if text.len() > MAX_ACTION => Err(InvalidQuery::ActionTooLong),
        Some(b':') if is_name && service > 0 && text.len() > service + 1 => {
            Ok((service, text.len() - service))
        }
        Some(_) | None => Err(InvalidQuery::Action),
    }
}

/// Letters in lower case, and digits; 0 for any other byte.
#[expect(clippy::indexing_slicing, reason = "worked out by the compiler, which would not go on")]
const LOWER: [u8; 256] = {
    let mut all = [0; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        if byte.is_ascii_alphanumeric() {
            all[byte as usize] = byte.to_ascii_lowercase();
        }
        byte += 1;
    }
    all
};

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_are_letters_and_digits_behind_a_service() {
        let long = format!("s3:{}", "a".repeat(MAX_ACTION - 3));
        let longer = format!("{long}a");
        for (text, expected) in [
            ("s3:GetObject", Ok((2, 10))),
            ("Execute-API:Invoke", Ok((11, 7))),
            ("a:b", Ok((1, 2))),
            (&*long, Ok((2, MAX_ACTION - 2))),
            (&*longer, Err(InvalidQuery::ActionTooLong)),
            ("s3:", Err(InvalidQuery::Action)),
            (":Get", Err(InvalidQuery::Action)),
            ("s3", Err(InvalidQuery::Action)),
            ("", Err(InvalidQuery::Action)),
            ("s3:Get-Object", Err(InvalidQuery::Action)),
            ("s3:Get*", Err(InvalidQuery::Action)),
            ("s3::Get", Err(InvalidQuery::Action)),
            ("s_3:Get", Err(InvalidQuery::Action)),
            ("s3:Gét", Err(InvalidQuery::Action)),
            ("s3:Get\0", Err(InvalidQuery::Action)),
            ("s3 :Get", Err(InvalidQuery::Action)),
        ] {
            let mut buffer = [0; MAX_ACTION];
            let found = lower_action(text, &mut buffer);
            assert_eq!(found, expected, "{text:?}");
            if found.is_ok() {
                assert_eq!(buffer[..text.len()], *text.to_ascii_lowercase().as_bytes());
            }
        }
    }
}
