//! Whether a statement's resources name the one asked about. The rules are [`crate::resources`]'s.

use super::glob::{Filled, Item, View, fill};
use super::program::{CompiledPolicy, Op, Statement, glob};
use super::request::{Prepared, ResourceText};
use crate::resources::has_type;
use crate::truth::Truth;

/// The whole element; the statement has one.
pub(crate) fn listed(
    policy: &CompiledPolicy,
    statement: &Statement,
    request: &Prepared<'_>,
) -> Truth {
    let mut rest = policy.resources(statement);
    let mut listed = Truth::False;
    while let Some((pattern, after)) = next_pattern(rest) {
        listed = listed.or(matches(policy, &pattern, request, statement.not_resource()));
        if listed == Truth::True {
            break;
        }
        rest = after;
    }
    if statement.not_resource() { !listed } else { listed }
}

/// One resource pattern, taken from the program.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pattern<'a> {
    Any,
    Unclear,
    /// Literal up to the fifth colon.
    Prefixed {
        prefix: super::program::Span,
        resource: &'a [Op],
        variables: bool,
    },
    /// Its parts, each a glob.
    Parts {
        count: u32,
        parts: &'a [Op],
    },
}

/// The first pattern, and what follows it.
pub(crate) fn next_pattern(ops: &[Op]) -> Option<(Pattern<'_>, &[Op])> {
    let (first, rest) = ops.split_first()?;
    match first {
        Op::AnyResource => Some((Pattern::Any, rest)),
        Op::ArnPrefix(prefix) => {
            let (resource, variables, rest) = glob(rest)?;
            Some((Pattern::Prefixed { prefix: *prefix, resource, variables }, rest))
        }
        Op::ArnParts(count) => {
            let mut after = rest;
            for _ in 0..*count {
                (_, _, after) = glob(after)?;
            }
            let parts = rest.get(..rest.len() - after.len())?;
            Some((Pattern::Parts { count: *count, parts }, after))
        }
        // INVARIANT: a resource begins with one of the above, or is unclear; compile makes no others.
        Op::Unclear
        | Op::Literal(_)
        | Op::One
        | Op::Many
        | Op::Variable { .. }
        | Op::Glob { .. }
        | Op::Condition { .. }
        | Op::Key { .. }
        | Op::Number(_)
        | Op::Date(_)
        | Op::Bool(_)
        | Op::NetworkV4 { .. }
        | Op::Network(_) => Some((Pattern::Unclear, rest)),
    }
}

fn matches(
    policy: &CompiledPolicy,
    pattern: &Pattern<'_>,
    request: &Prepared<'_>,
    negated: bool,
) -> Truth {
    let (text, parts) = match (pattern, &request.resource) {
        (Pattern::Any, _) => return Truth::True,
        // An action that names no resource is granted on `*` alone.
        (_, ResourceText::Any) => return Truth::False,
        (_, ResourceText::Arn { text, parts }) => (*text, parts),
    };
    match pattern {
        Pattern::Any => Truth::True,
        Pattern::Unclear => Truth::Unknown,
        Pattern::Prefixed { prefix, resource, variables } => {
            if *variables {
                match fill(policy, request, resource) {
                    Filled::Ready => {}
                    filled => return unfilled(filled, negated),
                }
            }
            // It holds five colons, so that it covers the first five parts or none.
            if !text.as_bytes().starts_with(policy.bytes(*prefix)) {
                return Truth::False;
            }
            let [.., own] = parts;
            resource_part(&View::new(policy, request, resource), own, part_has_type(parts))
        }
        Pattern::Parts { count, parts: ops } => {
            arn_parts(policy, *count, ops, request, parts, negated)
        }
    }
}

fn arn_parts(
    policy: &CompiledPolicy,
    count: u32,
    ops: &[Op],
    request: &Prepared<'_>,
    own: &[&str; 6],
    negated: bool,
) -> Truth {
    // Variables stand in the last part alone, and are looked at before anything is compared.
    let mut rest = ops;
    while let Some((pieces, variables, after)) = glob(rest) {
        if variables {
            match fill(policy, request, pieces) {
                Filled::Ready => {}
                filled => return unfilled(filled, negated),
            }
        }
        rest = after;
    }
    let mut truth = Truth::True;
    let mut rest = ops;
    for (place, part) in own.iter().enumerate() {
        let Some((pieces, _, after)) = glob(rest) else { break };
        rest = after;
        let view = View::new(policy, request, pieces);
        truth = truth.and(if place == 5 {
            resource_part(&view, part, part_has_type(own))
        } else {
            Truth::from(view.matches(part))
        });
        if truth == Truth::False {
            return Truth::False;
        }
    }
    // K7: what has fewer parts is completed by AWS, and matches nothing in simulators.
    if count < 6 { truth.and(Truth::Unknown) } else { truth }
}

fn unfilled(filled: Filled, negated: bool) -> Truth {
    match filled {
        Filled::Ready => Truth::True,
        // K4: NotResource with a variable that has no value.
        Filled::NoValue if negated => Truth::Unknown,
        Filled::NoValue => Truth::False,
        Filled::Unclear => Truth::Unknown,
    }
}

fn part_has_type(own: &[&str; 6]) -> bool {
    let [_, _, service, _, account, _] = own;
    has_type(service, account)
}

fn resource_part(pattern: &View<'_>, resource: &str, has_type: bool) -> Truth {
    if !pattern.matches(resource) {
        Truth::False
    } else if has_type && has_separator(resource.as_bytes()) && has_wildcard_type(pattern) {
        Truth::Unknown
    } else {
        Truth::True
    }
}

/// `/` or `:`, with either of which a type ends.
fn has_separator(text: &[u8]) -> bool {
    text.iter().any(|byte| matches!(byte, b'/' | b':'))
}

/// K7: a wildcard before the first `/` or `:`. A resource part that is `*` alone is nobody's quarrel.
fn has_wildcard_type(pattern: &View<'_>) -> bool {
    for item in pattern.items() {
        match item {
            Item::One | Item::Many => return !pattern.is_lone_many(),
            Item::Written(text) | Item::Brought(text) => {
                if has_separator(text) {
                    return false;
                }
            }
        }
    }
    false
}
