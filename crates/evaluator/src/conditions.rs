//! Whether one condition holds.
//!
//! Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html>, and for sets
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-single-vs-multi-valued-context-keys.html>.
//! `K1` and its like are the contested points of RULES.md; each gives [`Truth::Unknown`].

use std::cmp::Ordering;
use std::net::IpAddr;
use std::slice;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use countersign_policy::condition::{Comparison, Condition, ConditionValue, SetOperator};
use countersign_policy::pattern::{Filled, Glob, Token};
use countersign_policy::scalar::{self, Instant, Number};
use ipnet::IpNet;

use crate::context::{Context, ContextValue};
use crate::truth::{Truth, all, any};

pub(crate) fn condition(condition: &Condition, context: &Context) -> Truth {
    let value = context.get(&condition.key);
    if condition.operator.comparison == Comparison::Null {
        return null(condition, value);
    }
    let one = |value: &str| one_value(condition, value, context);
    match condition.operator.set {
        None => match value {
            None => missing(condition),
            Some(ContextValue::One(value)) => one(value),
            Some(ContextValue::Many(values)) => match values.as_slice() {
                [value] => one(value),
                // K1: "Multivalued context keys require a condition set operator."
                [] | [_, _, ..] => Truth::Unknown,
            },
        },
        // "ForAllValues returns true if there are no context keys in the request", and for an empty set.
        Some(SetOperator::ForAllValues) => match set(value) {
            // K3: "or if the context key value resolves to a null dataset, such as an empty string".
            [empty] if empty.is_empty() => one(empty).or(Truth::Unknown),
            values => all(values.iter().map(|value| one(value))),
        },
        Some(SetOperator::ForAnyValue) => match value {
            // K2: IfExists says true, ForAnyValue says false.
            None if condition.operator.if_exists => Truth::Unknown,
            None => Truth::False,
            Some(_) => any(set(value).iter().map(|value| one(value))),
        },
    }
}

fn set(value: Option<&ContextValue>) -> &[String] {
    match value {
        None => &[],
        Some(ContextValue::One(value)) => slice::from_ref(value),
        Some(ContextValue::Many(values)) => values,
    }
}

/// A plain operator on a missing key is false, a negated one and IfExists are true (RULES.md 1 to 3).
fn missing(condition: &Condition) -> Truth {
    Truth::from(condition.operator.if_exists || condition.operator.comparison.is_negated())
}

/// `true` means that the key is absent, `false` that it is present (RULES.md 4).
fn null(condition: &Condition, value: Option<&ContextValue>) -> Truth {
    let is_absent = match value {
        None => true,
        Some(ContextValue::One(_)) => false,
        // K3: a key that is present, and empty.
        Some(ContextValue::Many(values)) if values.is_empty() => return Truth::Unknown,
        Some(ContextValue::Many(_)) => false,
    };
    any(condition.values.iter().map(|wanted| match scalar::boolean(&wanted.value.text) {
        Some(absent) => Truth::from(absent == is_absent),
        None => Truth::Unknown, // K9 variables, and what is no boolean
    }))
}

/// Several values are OR for positive operators, NOR for negated ones (RULES.md 8).
fn one_value(condition: &Condition, value: &str, context: &Context) -> Truth {
    let comparison = condition.operator.comparison;
    let found =
        any(condition.values.iter().map(|wanted| equal(comparison, &wanted.value, value, context)));
    if comparison.is_negated() { !found } else { found }
}

/// Whether the request's value is what the policy's value names; the negation of negated operators is not in it.
fn equal(comparison: Comparison, wanted: &ConditionValue, value: &str, context: &Context) -> Truth {
    use Comparison as C;
    // K9: AWS's pages disagree on variables in other operators than String and Arn.
    if wanted.template.has_variables() && !comparison.takes_variables() {
        return Truth::Unknown;
    }
    match comparison {
        C::StringEquals | C::StringNotEquals => {
            filled(wanted.template.literal(|key| context.look_up(key)), |glob| {
                Truth::from(glob.to_text() == value)
            })
        }
        C::StringEqualsIgnoreCase | C::StringNotEqualsIgnoreCase => {
            filled(wanted.template.literal(|key| context.look_up(key)), |glob| {
                equal_without_case(&glob.to_text(), value)
            })
        }
        C::StringLike | C::StringNotLike => {
            filled(wanted.template.pattern(|key| context.look_up(key)), |glob| {
                Truth::from(glob.matches(value))
            })
        }
        C::ArnEquals | C::ArnLike | C::ArnNotEquals | C::ArnNotLike => {
            filled(wanted.template.pattern(|key| context.look_up(key)), |glob| {
                arn_like(glob, value, comparison.is_negated())
            })
        }
        C::NumericEquals | C::NumericNotEquals => number(wanted, value, Ordering::is_eq),
        C::NumericLessThan => number(wanted, value, Ordering::is_lt),
        C::NumericLessThanEquals => number(wanted, value, Ordering::is_le),
        C::NumericGreaterThan => number(wanted, value, Ordering::is_gt),
        C::NumericGreaterThanEquals => number(wanted, value, Ordering::is_ge),
        C::DateEquals | C::DateNotEquals => date(wanted, value, Ordering::is_eq),
        C::DateLessThan => date(wanted, value, Ordering::is_lt),
        C::DateLessThanEquals => date(wanted, value, Ordering::is_le),
        C::DateGreaterThan => date(wanted, value, Ordering::is_gt),
        C::DateGreaterThanEquals => date(wanted, value, Ordering::is_ge),
        C::Bool => {
            read(scalar::boolean, &wanted.text, value, |wanted, value| Truth::from(wanted == value))
        }
        C::BinaryEquals => {
            let decode = |text: &str| BASE64.decode(text).ok();
            read(decode, &wanted.text, value, |wanted, value| Truth::from(wanted == value))
        }
        C::IpAddress | C::NotIpAddress => match (scalar::network(&wanted.text), value.parse()) {
            (None, _) => Truth::Unknown,
            (Some(_), Err(_)) => UNREADABLE,
            (Some(network), Ok(address)) => contains(network, address),
        },
        C::Null => Truth::Unknown, // answered before
    }
}

fn filled(filled: Filled, compare: impl Fn(&Glob) -> Truth) -> Truth {
    match filled {
        Filled::Glob(glob) => compare(&glob),
        // A variable with no value equals nothing (RULES.md 21).
        Filled::NoValue(_) => Truth::False,
        Filled::Unclear(_) => Truth::Unknown,
    }
}

/// Letters outside ASCII: AWS does not say how they fold.
pub(crate) fn equal_without_case(wanted: &str, value: &str) -> Truth {
    if wanted.eq_ignore_ascii_case(value) {
        Truth::True
    } else if wanted.chars().flat_map(fold).eq(value.chars().flat_map(fold)) {
        Truth::Unknown
    } else {
        Truth::False
    }
}

/// A final sigma is a sigma: the broadest reading, as what folds alike is unknown.
pub(crate) fn fold(c: char) -> impl Iterator<Item = char> {
    c.to_lowercase().map(|lower| if lower == 'ς' { 'σ' } else { lower })
}

/// Each of the six parts is matched on its own (RULES.md 11).
fn arn_like(glob: &Glob, value: &str, negated: bool) -> Truth {
    let parts: Vec<&str> = value.splitn(6, ':').collect();
    // K5: a value that is no ARN, under a negated operator; and `*` alone, which live AWS lets match.
    if (negated && parts.len() < 6) || glob.tokens() == [Token::Many] {
        return Truth::Unknown;
    }
    let matches = |patterns: Option<[Glob; 6]>| match patterns {
        Some(patterns) if parts.len() == 6 => {
            Truth::from(patterns.iter().zip(&parts).all(|(pattern, part)| pattern.matches(part)))
        }
        // A pattern with fewer parts names no ARN.
        Some(_) | None => Truth::False,
    };
    // A variable whose value holds colons may be read as one part or as several; it counts where both readings agree.
    let (as_one, as_several) = (matches(glob.arn_parts(false)), matches(glob.arn_parts(true)));
    if as_one == as_several { as_one } else { Truth::Unknown }
}

fn number(wanted: &ConditionValue, value: &str, holds: fn(Ordering) -> bool) -> Truth {
    read(Number::parse, &wanted.text, value, |wanted, value| Truth::from(holds(value.cmp(wanted))))
}

fn date(wanted: &ConditionValue, value: &str, holds: fn(Ordering) -> bool) -> Truth {
    read(Instant::parse, &wanted.text, value, |wanted, value| Truth::from(holds(value.cmp(wanted))))
}

fn read<T>(
    parse: impl Fn(&str) -> Option<T>,
    wanted: &str,
    value: &str,
    compare: impl Fn(&T, &T) -> Truth,
) -> Truth {
    match (parse(wanted), parse(value)) {
        (Some(wanted), Some(value)) => compare(&wanted, &value),
        (Some(_), None) => UNREADABLE,
        (None, _) => Truth::Unknown,
    }
}

/// The request's value is none of the operator's kind, or is one in a spelling that is not read here. K6: simulators differ. An Allow
/// then does not allow, and a Deny denies: it was written against values that somebody else reads.
pub(crate) const UNREADABLE: Truth = Truth::Unknown;

/// IPv4 never matches an IPv6 range, and the other way round (RULES.md 16).
pub(crate) fn contains(network: IpNet, address: IpAddr) -> Truth {
    if network.contains(&address) {
        return Truth::True;
    }
    // K10: `::ffff:10.0.0.1` may be seen as IPv6, or as the IPv4 address in it.
    let other_form = match address {
        IpAddr::V4(v4) => IpAddr::V6(v4.to_ipv6_mapped()),
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => IpAddr::V4(v4),
            None => return Truth::False,
        },
    };
    let mapped_range = match network {
        IpNet::V4(_) => true,
        // A range of IPv6 counts only if it is one of mapped addresses: `::/0` is not.
        IpNet::V6(range) => range.prefix_len() >= 96 && range.addr().to_ipv4_mapped().is_some(),
    };
    if mapped_range && network.contains(&other_form) { Truth::Unknown } else { Truth::False }
}
