//! Statements that can never match, by what their own text says.
//!
//! An Allow never matches if it cannot be true; a Deny only if it must be false, since a Deny that cannot be evaluated denies. So
//! a key with several values under a plain operator, or an empty set, keeps a Deny alive.

use ipnet::IpNet;

use crate::condition::{Comparison, Condition, ConditionValue, SetOperator};
use crate::document::{Clause, Effect, Located, Position, Statement};
use crate::pattern::{Filled, Looked};
use crate::principal::PrincipalElement;
use crate::scalar::{self, Instant, Number};

/// Where the reason stands, and the reason.
pub(crate) struct Dead<'a> {
    pub(crate) at: Position,
    pub(crate) pointer: &'a str,
    pub(crate) reason: String,
}

pub(crate) fn reason(statement: &Statement) -> Option<Dead<'_>> {
    in_clause(&statement.actions, |action| action.is_any(), "NotAction `*` leaves no action")
        .or_else(|| {
            let resources = statement.resources.as_ref()?;
            in_clause(resources, |resource| resource.is_any(), "NotResource `*` leaves no resource")
        })
        .or_else(|| {
            // A Deny with NotPrincipal `*` spares nobody.
            let principals =
                statement.principals.as_ref().filter(|_| statement.effect == Effect::Allow)?;
            let is_any = |element: &PrincipalElement| *element == PrincipalElement::Any;
            in_clause(principals, is_any, "NotPrincipal `*` leaves nobody")
        })
        .or_else(|| in_conditions(statement))
}

fn in_clause<'a, T>(
    clause: &'a Clause<T>,
    is_any: impl Fn(&T) -> bool,
    reason: &str,
) -> Option<Dead<'a>> {
    let element =
        clause.elements.iter().find(|element| clause.negated && is_any(&element.value))?;
    Some(Dead { at: element.at, pointer: &element.pointer, reason: reason.to_owned() })
}

fn in_conditions(statement: &Statement) -> Option<Dead<'_>> {
    statement.conditions.iter().find_map(|condition| {
        let others: Vec<&Condition> = statement
            .conditions
            .iter()
            .filter(|other| other.key.eq_ignore_ascii_case(&condition.key))
            .filter(|other| !std::ptr::eq(*other, condition))
            .collect();
        let contradicts = |other: &&Condition| {
            absent_and_present(condition, other, statement.effect)
                || (statement.effect == Effect::Allow
                    && (empty_range(condition, other) || excluded_network(condition, other)))
        };
        let reason = if let Some(other) = others.iter().copied().find(|other| contradicts(other)) {
            format!(
                "`{}` and `{}` contradict each other on `{}`",
                condition.operator, other.operator, condition.key
            )
        } else if statement.effect == Effect::Allow && no_value_is_left(condition, &others) {
            format!(
                "no value of `{}` under `{}` satisfies the other conditions on that key",
                condition.key, condition.operator
            )
        } else {
            return None;
        };
        Some(Dead { at: condition.at, pointer: &condition.pointer, reason })
    })
}

/// `Null: true`, and another operator that is false for a missing key.
fn absent_and_present(null: &Condition, other: &Condition, effect: Effect) -> bool {
    let wants_absence = null.operator.comparison == Comparison::Null
        && null.values.iter().all(|value| scalar::boolean(&value.value.text) == Some(true));
    let operator = other.operator;
    if !wants_absence || operator.comparison == Comparison::Null || operator.if_exists {
        return false;
    }
    match (operator.set, effect) {
        (Some(SetOperator::ForAnyValue), Effect::Allow | Effect::Deny) => true,
        (None, Effect::Allow) => !operator.comparison.is_negated(),
        // A present but empty set: neither can be evaluated, and so a Deny applies.
        (None, Effect::Deny) => false,
        (Some(SetOperator::ForAllValues), Effect::Allow | Effect::Deny) => false,
    }
}

/// One side of a range: its bound, and whether the bound itself is left out.
enum Side<T> {
    Above(T, bool),
    Below(T, bool),
}

fn empty_range(one: &Condition, other: &Condition) -> bool {
    let plain = one.operator.set.is_none() && other.operator.set.is_none();
    if !plain || (one.operator.if_exists && other.operator.if_exists) {
        return false;
    }
    match (numbers(one), numbers(other)) {
        (Some(one), Some(other)) => return are_apart(&one, &other),
        (Some(_), None) | (None, Some(_)) => return false,
        (None, None) => {}
    }
    match (dates(one), dates(other)) {
        (Some(one), Some(other)) => are_apart(&one, &other),
        (Some(_), None) | (None, _) => false,
    }
}

fn are_apart<T: Ord>(one: &Side<T>, other: &Side<T>) -> bool {
    match (one, other) {
        (Side::Above(low, without_low), Side::Below(high, without_high)) => {
            low > high || (low == high && (*without_low || *without_high))
        }
        (Side::Above(..) | Side::Below(..), _) => false,
    }
}

fn numbers(condition: &Condition) -> Option<Side<Number>> {
    use Comparison as C;
    match condition.operator.comparison {
        C::NumericGreaterThan => Some(Side::Above(lowest(condition, Number::parse)?, true)),
        C::NumericGreaterThanEquals => Some(Side::Above(lowest(condition, Number::parse)?, false)),
        C::NumericLessThan => Some(Side::Below(highest(condition, Number::parse)?, true)),
        C::NumericLessThanEquals => Some(Side::Below(highest(condition, Number::parse)?, false)),
        _ => None,
    }
}

fn dates(condition: &Condition) -> Option<Side<Instant>> {
    use Comparison as C;
    match condition.operator.comparison {
        C::DateGreaterThan => Some(Side::Above(lowest(condition, Instant::parse)?, true)),
        C::DateGreaterThanEquals => Some(Side::Above(lowest(condition, Instant::parse)?, false)),
        C::DateLessThan => Some(Side::Below(highest(condition, Instant::parse)?, true)),
        C::DateLessThanEquals => Some(Side::Below(highest(condition, Instant::parse)?, false)),
        _ => None,
    }
}

/// Several values are alternatives, so the lowest is the bound. None if one of them cannot be read.
fn lowest<T: Ord>(condition: &Condition, parse: fn(&str) -> Option<T>) -> Option<T> {
    values(condition, parse)?.into_iter().min()
}

fn highest<T: Ord>(condition: &Condition, parse: fn(&str) -> Option<T>) -> Option<T> {
    values(condition, parse)?.into_iter().max()
}

fn values<T>(condition: &Condition, parse: fn(&str) -> Option<T>) -> Option<Vec<T>> {
    condition.values.iter().map(|value| parse(&value.value.text)).collect()
}

/// Every range under IpAddress lies in one under NotIpAddress.
fn excluded_network(one: &Condition, other: &Condition) -> bool {
    let plain = one.operator.set.is_none() && other.operator.set.is_none();
    let named = one.operator.comparison == Comparison::IpAddress && !one.operator.if_exists;
    if !plain || !named || other.operator.comparison != Comparison::NotIpAddress {
        return false;
    }
    let networks = |condition| values::<IpNet>(condition, scalar::network);
    match (networks(one), networks(other)) {
        (Some(wanted), Some(excluded)) => {
            wanted.iter().all(|wanted| excluded.iter().any(|excluded| excluded.contains(wanted)))
        }
        (Some(_) | None, _) => false,
    }
}

/// StringEquals lists all values that the key may have; each of them fails another condition on the same key.
fn no_value_is_left(condition: &Condition, others: &[&Condition]) -> bool {
    let operator = condition.operator;
    if operator.comparison != Comparison::StringEquals
        || operator.set.is_some()
        || operator.if_exists
    {
        return false;
    }
    let Some(candidates) = literals(&condition.values) else { return false };
    candidates.iter().all(|value| others.iter().any(|other| excludes(other, value)))
}

/// The texts, unless one of them has a variable.
fn literals(values: &[Located<ConditionValue>]) -> Option<Vec<String>> {
    values.iter().map(|value| literal(&value.value)).collect()
}

fn literal(value: &ConditionValue) -> Option<String> {
    match value.template.literal(|_| Looked::Missing) {
        Filled::Glob(glob) if !value.template.has_variables() => Some(glob.to_text()),
        Filled::Glob(_) | Filled::NoValue(_) | Filled::Unclear(_) => None,
    }
}

/// Whether a String operator is certainly not true for this value.
fn excludes(condition: &Condition, value: &str) -> bool {
    use Comparison as C;
    if condition.operator.set.is_some() {
        return false;
    }
    let Some(wanted) = literals(&condition.values) else { return false };
    let is_like = || {
        condition.values.iter().any(|wanted| {
            matches!(
                wanted.value.template.pattern(|_| Looked::Missing),
                Filled::Glob(glob) if glob.matches(value)
            )
        })
    };
    match condition.operator.comparison {
        C::StringEquals => !wanted.iter().any(|wanted| wanted == value),
        C::StringNotEquals => wanted.iter().any(|wanted| wanted == value),
        C::StringEqualsIgnoreCase => !wanted.iter().any(|w| w.eq_ignore_ascii_case(value)),
        C::StringNotEqualsIgnoreCase => wanted.iter().any(|w| w.eq_ignore_ascii_case(value)),
        C::StringLike => !is_like(),
        C::StringNotLike => is_like(),
        _ => false,
    }
}
