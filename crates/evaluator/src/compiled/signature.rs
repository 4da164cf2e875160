//! What a statement cannot apply without, in sixteen bytes: most statements are passed over without being read.
//!
//! A signature only ever says "certainly not". What it lets through is evaluated.

use countersign_policy::condition::{Comparison, Operator};

use super::conditions;
use super::program::{CompiledPolicy, Op, Span, Statement, glob};
use super::request::Value;
use super::resources::{Pattern, next_pattern};
use super::words::{hash, value_hash};

/// Of a statement: the actions that it may name, and what the request must have. Of a request: its action, and what it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Signature {
    /// A bit for the service, one for the name.
    pub actions: u32,
    /// A bit for each value that a condition asks for.
    pub values: u32,
    /// A bit for each four bytes in a row of the resource part.
    pub fragments: u64,
}

pub(crate) const EVERY_ACTION: u32 = !0;
const SERVICES: u32 = 8;
const EVERY_NAME: u32 = !0 << SERVICES;

impl Signature {
    /// Of no statement at all: it concerns no request, as each has an action.
    pub(crate) const NOTHING: Self = Self { actions: 0, values: !0, fragments: !0 };

    /// Whether a statement, or any of several, may apply to the request.
    pub(crate) fn may_concern(&self, request: &Signature) -> bool {
        (self.actions & request.actions == request.actions)
            & (self.values & !request.values == 0)
            & (self.fragments & !request.fragments == 0)
    }

    /// Of several statements: what all ask for.
    pub(crate) fn of_all<'a>(statements: impl IntoIterator<Item = &'a Signature>) -> Self {
        statements.into_iter().fold(Self::NOTHING, |all, one| Self {
            actions: all.actions | one.actions,
            values: all.values & one.values,
            fragments: all.fragments & one.fragments,
        })
    }

    /// `text` is in lower case, with wildcards, and not the lone `*`.
    pub(crate) fn of_action(text: &str) -> u32 {
        let (service, name) = text.split_at(text.find(':').unwrap_or(text.len()));
        if service.contains(['*', '?']) {
            EVERY_ACTION
        } else if name.contains(['*', '?']) {
            of_service(service.as_bytes()) | EVERY_NAME
        } else {
            Self::of_one_action(text.as_bytes(), service.len())
        }
    }

    /// Of an action in lower case without wildcards; its service has so many bytes.
    pub(crate) fn of_one_action(action: &[u8], service: usize) -> u32 {
        let (service, name) = action.split_at_checked(service).unwrap_or_default();
        of_service(service) | of_name(name)
    }

    /// A statement's own, without its actions.
    pub(crate) fn of_statement(policy: &CompiledPolicy, statement: &Statement) -> Self {
        let values = values(policy, statement)
            .into_iter()
            .map(|texts| match texts.as_slice() {
                [(key, text)] => of_value(value_hash(*key, text)),
                [] | [_, _, ..] => 0,
            })
            .fold(0, |all, one| all | one);
        let fragments = literals(policy, statement).map_or(0, |patterns| {
            patterns.iter().fold(!0, |all, literals| {
                all & literals.iter().fold(0, |own, text| own | of_fragments(text))
            })
        });
        Self { actions: statement.signature.actions, values, fragments }
    }

    /// `hashes` are of the keys, where they were made.
    pub(crate) fn values_of(context: &[(&str, Value<'_>)], hashes: Option<&[u16]>) -> u32 {
        let Some(hashes) = hashes else { return !0 };
        context.iter().zip(hashes).fold(0, |all, ((_, value), key)| match value.only() {
            Some(text) => all | of_value(value_hash(*key, text)),
            // A plain operator on a set cannot be evaluated, whatever it asks for (K1).
            None => !0,
        })
    }
}

fn of_service(service: &[u8]) -> u32 {
    1 << (hash(service) % u64::from(SERVICES))
}

/// `name` begins with its colon.
fn of_name(name: &[u8]) -> u32 {
    1 << (u64::from(SERVICES) + hash(name) % u64::from(32 - SERVICES))
}

fn of_value(hash: u64) -> u32 {
    1 << (hash >> 59)
}

/// Of a text in which no wildcard stands.
pub(crate) fn of_fragments(text: &str) -> u64 {
    text.as_bytes().array_windows::<4>().fold(0, |all, four| {
        let mixed = u32::from_le_bytes(*four).wrapping_mul(0x9E37_79B1);
        all | 1 << (mixed >> 26)
    })
}

/// For each condition that asks for one of some literal texts, these with the hash of its key: `StringEquals` alone, which is
/// false for every other text, and for a key that is missing.
pub(crate) fn values<'a>(
    policy: &'a CompiledPolicy,
    statement: &Statement,
) -> Vec<Vec<(u16, &'a str)>> {
    let equals = Operator { set: None, comparison: Comparison::StringEquals, if_exists: false };
    let mut found = Vec::new();
    let mut rest = policy.conditions(statement);
    while let Some((condition, after)) = conditions::next(rest) {
        if condition.operator == equals {
            let texts: Option<Vec<(u16, &str)>> = condition
                .values
                .iter()
                .map(|op| literal_text(policy, op).map(|text| (condition.hash, text)))
                .collect();
            found.extend(texts);
        }
        rest = after;
    }
    found
}

/// For each resource pattern the fragments that every resource has which it matches, or may match. `None` if any pattern has none.
pub(crate) fn literals<'a>(
    policy: &'a CompiledPolicy,
    statement: &Statement,
) -> Option<Vec<Vec<&'a str>>> {
    if !statement.has_resources() || statement.not_resource() {
        return None;
    }
    let mut patterns = Vec::new();
    let mut rest = policy.resources(statement);
    while let Some((pattern, after)) = next_pattern(rest) {
        let pieces = match pattern {
            Pattern::Prefixed { resource, .. } => resource,
            Pattern::Parts { count: 6, parts } => last_part(parts)?,
            Pattern::Parts { .. } | Pattern::Any | Pattern::Unclear => return None,
        };
        // A variable with a default may be unclear, whatever the resource is.
        if pieces.iter().any(|op| matches!(op, Op::Variable { default: 1.., .. })) {
            return None;
        }
        let fragments: Vec<&str> = pieces
            .iter()
            .filter_map(|op| literal_text(policy, op))
            .filter(|text| text.len() >= SHORTEST_FRAGMENT)
            .collect();
        if fragments.is_empty() {
            return None;
        }
        patterns.push(fragments);
        rest = after;
    }
    Some(patterns)
}

/// In bytes.
const SHORTEST_FRAGMENT: usize = 2;

fn last_part(mut parts: &[Op]) -> Option<&[Op]> {
    let mut last = None;
    while let Some((pieces, _, after)) = glob(parts) {
        last = Some(pieces);
        parts = after;
    }
    last
}

pub(crate) fn literal_text<'a>(policy: &'a CompiledPolicy, op: &Op) -> Option<&'a str> {
    match op {
        Op::Literal(Span { start, len }) => Some(policy.text(Span { start: *start, len: *len })),
        _ => None,
    }
}
