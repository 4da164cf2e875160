//! A request that borrows everything, and what is worked out of it once.
//!
//! Source of the limits: they are this engine's own; what exceeds them is refused by name, never cut off.

use std::cell::Cell;
use std::net::IpAddr;

use countersign_policy::arn::AccountId;
use countersign_policy::scalar::Instant;
use thiserror::Error;

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
const SLOTS: usize = 128;

/// The resource, taken apart once.
#[derive(Debug, Clone, Copy)]
pub(crate) enum ResourceText<'a> {
    Any,
    Arn { text: &'a str, parts: [&'a str; 6] },
}

/// Keys, found by a hash that does not see case.
#[derive(Debug)]
struct Keys {
    hashes: [u16; HASHED_KEYS],
    /// By hash: place plus one, 0 for none.
    slots: [u8; SLOTS],
    is_hashed: bool,
}

/// A query, ready to be asked.
#[derive(Debug)]
pub(crate) struct Prepared<'a> {
    pub principal: &'a Principal,
    pub action_filter: u64,
    pub action_hash: u64,
    pub resource: ResourceText<'a>,
    pub context: &'a [(&'a str, Value<'a>)],
    resource_account: Option<AccountId>,
    action: [u8; MAX_ACTION],
    action_len: usize,
    keys: Keys,
    /// The last value that was read as an address or as a date, by its place in the context plus one.
    address: Cell<(usize, Option<IpAddr>)>,
    date: Cell<(usize, Option<Instant>)>,
}

impl<'a> Prepared<'a> {
    pub(crate) fn new(query: &Query<'a>) -> Result<Self, InvalidQuery> {
        let mut action = [0_u8; MAX_ACTION];
        let action_len = lower_action(query.action, &mut action)?;
        let lower = action.get(..action_len).unwrap_or_default();
        Ok(Self {
            principal: query.principal,
            action_filter: filter_of_action(lower),
            action_hash: hash(lower),
            resource: resource(query.resource)?,
            context: query.context,
            resource_account: query.resource_account,
            action,
            action_len,
            keys: Keys::new(query.context)?,
            address: Cell::new((0, None)),
            date: Cell::new((0, None)),
        })
    }

    /// In lower case.
    pub(crate) fn action(&self) -> &[u8] {
        self.action.get(..self.action_len).unwrap_or_default()
    }

    /// The same as text; it is ASCII.
    pub(crate) fn action_text(&self) -> &str {
        std::str::from_utf8(self.action()).unwrap_or_default()
    }

    /// The key's place in the context. `key` is in lower case, `hash` is its [`key_hash`].
    pub(crate) fn find(&self, key: &str, hash: u16) -> Option<(usize, Value<'a>)> {
        let is_it = |place: usize| {
            let (own, value) = self.context.get(place)?;
            own.eq_ignore_ascii_case(key).then_some((place, *value))
        };
        if !self.keys.is_hashed {
            return (0..self.context.len()).find_map(is_it);
        }
        self.keys.candidates(hash).find_map(is_it)
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

fn lower_action(text: &str, buffer: &mut [u8; MAX_ACTION]) -> Result<usize, InvalidQuery> {
    let (service, name) = text.split_once(':').ok_or(InvalidQuery::Action)?;
    let sound = !service.is_empty()
        && service.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && !name.is_empty()
        && name.bytes().all(|b| b.is_ascii_alphanumeric());
    if !sound {
        return Err(InvalidQuery::Action);
    }
    let slot = buffer.get_mut(..text.len()).ok_or(InvalidQuery::ActionTooLong)?;
    slot.copy_from_slice(text.as_bytes());
    slot.make_ascii_lowercase();
    Ok(text.len())
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
    let mut parts = text.splitn(6, ':');
    let mut next = || parts.next();
    Some([next()?, next()?, next()?, next()?, next()?, next()?])
}

impl Keys {
    fn new(context: &[(&str, Value<'_>)]) -> Result<Self, InvalidQuery> {
        let is_hashed = context.len() <= HASHED_KEYS;
        let mut keys = Self { hashes: [0; HASHED_KEYS], slots: [0; SLOTS], is_hashed };
        if !is_hashed {
            return keys.check_twice(context);
        }
        for (place, (key, _)) in context.iter().enumerate() {
            let hash = key_hash(key);
            let twice = keys
                .candidates(hash)
                .filter_map(|other| context.get(other))
                .any(|(other, _)| other.eq_ignore_ascii_case(key));
            if twice {
                return Err(InvalidQuery::DuplicateKey);
            }
            if let Some(own) = keys.hashes.get_mut(place) {
                *own = hash;
            }
            let mut slot = usize::from(hash) % SLOTS;
            while keys.slots.get(slot).is_some_and(|taken| *taken != 0) {
                slot = (slot + 1) % SLOTS;
            }
            if let (Some(free), Ok(place)) = (keys.slots.get_mut(slot), u8::try_from(place + 1)) {
                *free = place;
            }
        }
        Ok(keys)
    }

    fn check_twice(self, context: &[(&str, Value<'_>)]) -> Result<Self, InvalidQuery> {
        if context.len() > MAX_KEYS {
            return Err(InvalidQuery::TooManyKeys);
        }
        let twice = context.iter().enumerate().any(|(place, (key, _))| {
            context.iter().take(place).any(|(other, _)| other.eq_ignore_ascii_case(key))
        });
        if twice { Err(InvalidQuery::DuplicateKey) } else { Ok(self) }
    }

    /// Places in the context whose keys have this hash.
    fn candidates(&self, hash: u16) -> impl Iterator<Item = usize> {
        let first = usize::from(hash) % SLOTS;
        (first..first + SLOTS)
            .map_while(|slot| {
                let place = self.slots.get(slot % SLOTS).copied().unwrap_or_default();
                usize::from(place).checked_sub(1)
            })
            .filter(move |place| self.hashes.get(*place) == Some(&hash))
    }
}

pub(crate) const MULTIPLIER: u64 = 0x9E37_79B9_7F4A_7C15;

/// Equal texts have equal hashes; unequal ones may, and are compared wherever a hash is used.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    hash_of(bytes, 0)
}

/// Sees no case in ASCII letters.
pub(crate) fn key_hash(key: &str) -> u16 {
    let [low, high, ..] = hash_of(key.as_bytes(), 0x2020_2020_2020_2020).to_le_bytes();
    u16::from_le_bytes([low, high])
}

fn hash_of(bytes: &[u8], fold: u64) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let mut last = [0_u8; 8];
    for (slot, byte) in last.iter_mut().zip(rest) {
        *slot = *byte;
    }
    let mut state = bytes.len() as u64;
    for word in words.iter().chain([&last]) {
        state = (state ^ (u64::from_le_bytes(*word) | fold)).wrapping_mul(MULTIPLIER);
        state ^= state >> 29;
    }
    state = state.wrapping_mul(MULTIPLIER);
    state ^ (state >> 32)
}

/// One bit for the service, one for the name: a statement's filter has both for every action that it names.
fn filter_of_action(lower: &[u8]) -> u64 {
    let colon = lower.iter().position(|b| *b == b':').unwrap_or(lower.len());
    let (service, name) = lower.split_at_checked(colon).unwrap_or_default();
    service_filter(service) | name_filter(name)
}

pub(crate) fn service_filter(service: &[u8]) -> u64 {
    1 << (hash(service) % 16)
}

/// `name` begins with its colon.
pub(crate) fn name_filter(name: &[u8]) -> u64 {
    1 << (16 + hash(name) % 48)
}

pub(crate) const EVERY_NAME: u64 = !0 << 16;
pub(crate) const EVERY_ACTION: u64 = !0;
