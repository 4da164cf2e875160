//! Whether one condition holds. The rules, and the contested points `K`, are [`crate::conditions`]'s.

use std::cmp::Ordering;
use std::net::{IpAddr, Ipv4Addr};

use countersign_policy::condition::{Comparison, Operator, SetOperator};
use countersign_policy::scalar::{self, Instant};
use ipnet::{IpNet, Ipv4Net};
use memchr::memchr;

use super::binary;
use super::glob::{Filled, Item, View, chars, fill};
use super::number::Number;
use super::program::{CompiledPolicy, Op, Span, glob};
use super::request::{Prepared, Value};
use super::words::{key_hash, six_parts};
use crate::conditions::{UNREADABLE, contains, equal_without_case, fold};
use crate::truth::Truth;

/// Splits the first condition from those that follow.
pub(crate) fn next(ops: &[Op]) -> Option<(Condition<'_>, &[Op])> {
    let (Op::Condition { operator, steps }, rest) = ops.split_first()? else { return None };
    let (own, rest) = rest.split_at_checked(*steps as usize)?;
    let (Op::Key { hash, key }, values) = own.split_first()? else { return None };
    Some((Condition { operator: *operator, hash: *hash, key: *key, values }, rest))
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Condition<'a> {
    pub operator: Operator,
    pub hash: u16,
    pub key: Span,
    pub values: &'a [Op],
}

/// One value of the request, read once as what the operator compares.
#[derive(Debug, Clone, Copy)]
enum Own<'a> {
    Text(&'a str),
    /// Compared without case.
    Caseless(&'a str),
    /// Its parts; absent if it is no ARN.
    Arn(Option<[&'a str; 6]>),
    Number(Option<Number<'a>>),
    Date(Option<Instant>),
    Bool(Option<bool>),
    Address(Option<IpAddr>),
    /// Base64; absent if it is none.
    Binary(Option<&'a str>),
}

impl<'a> Own<'a> {
    /// `place` is the value's in the context, where its key has no other.
    fn new(
        comparison: Comparison,
        request: &Prepared<'_>,
        text: &'a str,
        place: Option<usize>,
    ) -> Self {
        use Comparison as C;
        match comparison {
            C::StringEquals | C::StringNotEquals | C::StringLike | C::StringNotLike | C::Null => {
                Own::Text(text)
            }
            C::StringEqualsIgnoreCase | C::StringNotEqualsIgnoreCase => Own::Caseless(text),
            C::ArnEquals | C::ArnLike | C::ArnNotEquals | C::ArnNotLike => {
                Own::Arn(six_parts(text))
            }
            C::NumericEquals
            | C::NumericNotEquals
            | C::NumericLessThan
            | C::NumericLessThanEquals
            | C::NumericGreaterThan
            | C::NumericGreaterThanEquals => Own::Number(Number::parse(text)),
            C::DateEquals
            | C::DateNotEquals
            | C::DateLessThan
            | C::DateLessThanEquals
            | C::DateGreaterThan
            | C::DateGreaterThanEquals => Own::Date(match place {
                Some(place) => request.date(place, text),
                None => Instant::parse(text),
            }),
            C::Bool => Own::Bool(scalar::boolean(text)),
            C::BinaryEquals => Own::Binary(binary::is_canonical(text).then_some(text)),
            C::IpAddress | C::NotIpAddress => Own::Address(match place {
                Some(place) => request.address(place, text),
                None => text.parse().ok(),
            }),
        }
    }
}

impl Condition<'_> {
    pub(crate) fn holds(&self, policy: &CompiledPolicy, request: &Prepared<'_>) -> Truth {
        let found = request.find(policy.bytes(self.key), self.hash);
        if self.operator.comparison == Comparison::Null {
            return self.null(found.map(|(_, value)| value));
        }
        let one = |text: &str, place| self.one_value(policy, request, text, place);
        match (self.operator.set, found) {
            // A plain operator on a missing key is false, a negated one and IfExists are true (RULES.md 1 to 3).
            (None, None) => {
                Truth::from(self.operator.if_exists || self.operator.comparison.is_negated())
            }
            (None, Some((place, value))) => match value.only() {
                Some(text) => one(text, Some(place)),
                None => Truth::Unknown, // K1
            },
            (Some(SetOperator::ForAllValues), None) => Truth::True,
            (Some(SetOperator::ForAllValues), Some((_, value))) => match value.only() {
                Some("") => one("", None).or(Truth::Unknown), // K3
                Some(_) | None => of_all(value, |text| one(text, None)),
            },
            // K2: IfExists says true, ForAnyValue says false.
            (Some(SetOperator::ForAnyValue), None) if self.operator.if_exists => Truth::Unknown,
            (Some(SetOperator::ForAnyValue), None) => Truth::False,
            (Some(SetOperator::ForAnyValue), Some((_, value))) => {
                of_any(value, |text| one(text, None))
            }
        }
    }

    /// `true` means that the key is absent, `false` that it is present (RULES.md 4).
    fn null(&self, found: Option<Value<'_>>) -> Truth {
        let is_absent = match found {
            None => true,
            // K3: a key that is present, and empty.
            Some(value) if value.len() == 0 => return Truth::Unknown,
            Some(_) => false,
        };
        let mut truth = Truth::False;
        for wanted in self.values {
            let Op::Bool(absent) = wanted else {
                truth = truth.or(Truth::Unknown); // K9, and what is no boolean
                continue;
            };
            truth = truth.or(Truth::from(*absent == is_absent));
        }
        truth
    }

    /// Several values are OR for positive operators, NOR for negated ones (RULES.md 8).
    fn one_value(
        &self,
        policy: &CompiledPolicy,
        request: &Prepared<'_>,
        text: &str,
        place: Option<usize>,
    ) -> Truth {
        let comparison = self.operator.comparison;
        let own = Own::new(comparison, request, text, place);
        let mut found = Truth::False;
        let mut rest = self.values;
        while let Some((first, after)) = rest.split_first() {
            let (truth, after) = match glob(rest) {
                Some((pieces, variables, after)) => {
                    (pattern(comparison, policy, request, pieces, variables, own), after)
                }
                None => (scalar(comparison, policy, first, own), after),
            };
            found = found.or(truth);
            if found == Truth::True {
                break;
            }
            rest = after;
        }
        if comparison.is_negated() { !found } else { found }
    }
}

fn of_all(value: Value<'_>, holds: impl Fn(&str) -> Truth) -> Truth {
    (0..value.len()).filter_map(|place| value.at(place)).map(holds).fold(Truth::True, Truth::and)
}

fn of_any(value: Value<'_>, holds: impl Fn(&str) -> Truth) -> Truth {
    (0..value.len()).filter_map(|place| value.at(place)).map(holds).fold(Truth::False, Truth::or)
}

/// A value without wildcards and variables. What nobody can read, on either side, is unknown.
fn scalar(comparison: Comparison, policy: &CompiledPolicy, wanted: &Op, own: Own<'_>) -> Truth {
    let extras = policy.extras.as_deref();
    match (wanted, own) {
        (Op::Literal(span), Own::Text(text)) => Truth::from(policy.bytes(*span) == text.as_bytes()),
        (Op::Literal(span), Own::Caseless(text)) => equal_without_case(policy.text(*span), text),
        (Op::Literal(span), Own::Binary(Some(text))) => {
            Truth::from(policy.bytes(*span) == text.as_bytes())
        }
        (Op::Number(span), Own::Number(Some(value))) => match Number::parse(policy.text(*span)) {
            Some(wanted) => ordered(comparison, value.cmp(&wanted)),
            None => Truth::Unknown,
        },
        (Op::Date(place), Own::Date(Some(value))) => {
            match extras.and_then(|extras| extras.dates.get(*place as usize)) {
                Some(wanted) => ordered(comparison, value.cmp(wanted)),
                None => Truth::Unknown,
            }
        }
        (Op::Bool(wanted), Own::Bool(Some(value))) => Truth::from(*wanted == value),
        (Op::NetworkV4 { prefix_len, address }, Own::Address(Some(own))) => {
            network_v4(*address, *prefix_len, own)
        }
        (Op::Network(place), Own::Address(Some(own))) => {
            match extras.and_then(|extras| extras.networks.get(*place as usize)) {
                Some(network) => contains(*network, own),
                None => Truth::Unknown,
            }
        }
        (_, _) => UNREADABLE,
    }
}

fn network_v4(address: u32, prefix_len: u8, own: IpAddr) -> Truth {
    let Ok(network) = Ipv4Net::new(Ipv4Addr::from_bits(address), prefix_len) else {
        return Truth::Unknown;
    };
    match own {
        IpAddr::V4(own) => {
            let differs = own.to_bits() ^ network.addr().to_bits();
            Truth::from(differs & network.netmask().to_bits() == 0)
        }
        IpAddr::V6(_) => contains(IpNet::V4(network), own),
    }
}

fn ordered(comparison: Comparison, order: Ordering) -> Truth {
    use Comparison as C;
    Truth::from(match comparison {
        C::NumericEquals | C::NumericNotEquals | C::DateEquals | C::DateNotEquals => order.is_eq(),
        C::NumericLessThan | C::DateLessThan => order.is_lt(),
        C::NumericLessThanEquals | C::DateLessThanEquals => order.is_le(),
        C::NumericGreaterThan | C::DateGreaterThan => order.is_gt(),
        C::NumericGreaterThanEquals | C::DateGreaterThanEquals => order.is_ge(),
        C::StringEquals
        | C::StringNotEquals
        | C::StringEqualsIgnoreCase
        | C::StringNotEqualsIgnoreCase
        | C::StringLike
        | C::StringNotLike
        | C::Bool
        | C::BinaryEquals
        | C::IpAddress
        | C::NotIpAddress
        | C::ArnEquals
        | C::ArnLike
        | C::ArnNotEquals
        | C::ArnNotLike
        | C::Null => return Truth::Unknown,
    })
}

fn pattern(
    comparison: Comparison,
    policy: &CompiledPolicy,
    request: &Prepared<'_>,
    pieces: &[Op],
    variables: bool,
    own: Own<'_>,
) -> Truth {
    if variables {
        match fill(policy, request, pieces) {
            Filled::Ready => {}
            // A variable with no value equals nothing (RULES.md 21).
            Filled::NoValue => return Truth::False,
            Filled::Unclear => return Truth::Unknown,
        }
    }
    let view = View::new(policy, request, pieces);
    match own {
        Own::Text(text) => Truth::from(view.matches(text)),
        Own::Caseless(text) => pieces_without_case(&view, text),
        Own::Arn(parts) => arn_like(&view, variables, parts, comparison.is_negated()),
        // INVARIANT: no other operator has patterns for values.
        Own::Number(_) | Own::Date(_) | Own::Bool(_) | Own::Address(_) | Own::Binary(_) => {
            Truth::Unknown
        }
    }
}

fn pieces_without_case(view: &View<'_>, value: &str) -> Truth {
    let texts = view.items().map(|item| match item {
        Item::Written(text) | Item::Brought(text) => text,
        Item::One => b"?",
        Item::Many => b"*",
    });
    let ascii = texts.clone().flatten().map(|b| b.to_ascii_lowercase());
    if ascii.eq(value.bytes().map(|b| b.to_ascii_lowercase())) {
        Truth::True
    } else if texts.flat_map(chars).flat_map(fold).eq(value.chars().flat_map(fold)) {
        Truth::Unknown
    } else {
        Truth::False
    }
}

/// Each of the six parts is matched on its own (RULES.md 11).
fn arn_like(view: &View<'_>, variables: bool, parts: Option<[&str; 6]>, negated: bool) -> Truth {
    // K5: a value that is no ARN, under a negated operator; and `*` alone, which live AWS lets match.
    if (negated && parts.is_none()) || view.is_lone_many() {
        return Truth::Unknown;
    }
    let Some(parts) = parts else { return Truth::False };
    let as_one = parts_match(view, &parts, false);
    // A variable whose value holds colons may be read as one part or as several; it counts where both readings agree.
    if as_one == (if variables { parts_match(view, &parts, true) } else { as_one }) {
        Truth::from(as_one)
    } else {
        Truth::Unknown
    }
}

/// `values_separate` says whether a colon that a variable brought in counts.
fn parts_match(view: &View<'_>, parts: &[&str; 6], values_separate: bool) -> bool {
    let [first @ .., last] = parts;
    let mut rest = *view;
    for part in first {
        // A pattern with fewer parts names no ARN.
        let Some((own, after)) = split_at_colon(&rest, values_separate) else { return false };
        if !own.matches(part) {
            return false;
        }
        rest = after;
    }
    rest.matches(last)
}

/// What stands before the first colon, and after it.
fn split_at_colon<'a>(view: &View<'a>, values_separate: bool) -> Option<(View<'a>, View<'a>)> {
    for (place, item) in view.items().enumerate() {
        let at = match item {
            Item::Written(text) => memchr(b':', text),
            Item::Brought(text) if values_separate => memchr(b':', text),
            Item::Brought(_) | Item::One | Item::Many => None,
        };
        let Some(at) = at else { continue };
        let at = if place == 0 { view.skip + at } else { at };
        let before = View { pieces: view.pieces.get(..=place)?, end: Some(at), ..*view };
        let after = View { pieces: view.pieces.get(place..)?, skip: at + 1, ..*view };
        return Some((before, after));
    }
    None
}

/// The hash of a condition's key, for the compiler.
pub(crate) fn hash_of_key(lower: &str) -> u16 {
    key_hash(lower.as_bytes())
}
