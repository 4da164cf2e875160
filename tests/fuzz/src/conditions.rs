//! Conditions: any operator, any value, any context, and both engines agree; what the values are read as is in order.

use std::sync::Arc;

use countersign_evaluator::{
    Attached, Context, ContextValue, PolicySet, PolicyType, compiled, reference,
};
use countersign_policy::parse::parse;
use countersign_policy::scalar::{self, Instant, Number};
use serde_json::json;

use crate::documents::request;

pub(crate) const WORDS: &[&str] = &[
    "\n",
    "StringLike",
    "StringNotEquals",
    "StringEqualsIgnoreCase",
    "ForAnyValue:",
    "ForAllValues:",
    "IfExists",
    "NumericLessThan",
    "NumericNotEquals",
    "DateGreaterThan",
    "DateNotEquals",
    "Bool",
    "BinaryEquals",
    "IpAddress",
    "NotIpAddress",
    "ArnLike",
    "ArnNotEquals",
    "Null",
    "true",
    "false",
    "10.0.0.0/8",
    "::ffff:10.0.0.1",
    "2001:db8::/32",
    "2026-01-31T12:00:00Z",
    "+14:00",
    "1790000000",
    "-0.10",
    "arn:aws:iam::111122223333:role/*",
    "${aws:username, 'x'}",
    "${a:k}",
    "é",
    "É",
];

/// Lines: an operator, a policy's value, another one, and then the request's values; none at all is a missing key, one a single
/// value, more a set. A last empty line makes one value a set of one.
///
/// # Panics
/// If the engines disagree, or an order is none.
pub fn condition_values(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes.get(..2_000).unwrap_or(bytes));
    let mut lines = text.split('\n');
    let mut next = || lines.next().unwrap_or_default();
    let (operator, first, second) = (next(), next(), next());
    let values: Vec<String> = lines.map(str::to_owned).collect();
    scalars(first, second);
    for effect in ["Allow", "Deny"] {
        let document = json!({
            "Version": "2012-10-17",
            "Statement": [
                { "Effect": "Allow", "Action": "a:*", "Resource": "*" },
                {
                    "Effect": effect,
                    "Action": if effect == "Deny" { "a:Get" } else { "b:Get" },
                    "Resource": "*",
                    "Condition": { operator: { "a:k": [first, second] } },
                },
            ],
        });
        let Ok(document) = parse(&document.to_string()) else { return };
        let policies = PolicySet {
            identity: vec![Attached {
                policy_type: PolicyType::Identity,
                name: Arc::from("p"),
                version_id: None,
                document: Arc::new(document),
                resolved: None,
            }],
            ..PolicySet::default()
        };
        let mut context = Context::new();
        context.insert("aws:username", "al*ce").expect("the first key");
        let value = match values.as_slice() {
            [] => None,
            [one] => Some(ContextValue::One(one.clone())),
            [one, last] if last.is_empty() => Some(ContextValue::Many(vec![one.clone()])),
            several => Some(ContextValue::Many(several.to_vec())),
        };
        if let Some(value) = value {
            context.insert("A:K", value).expect("another key");
        }
        let action = if effect == "Deny" { "a:Get" } else { "b:Get" };
        let request = request(action, "arn:aws:a:::x", context);
        let expected = reference::decide(&request, &policies);
        let found = compiled::decide(&request, &policies);
        assert_eq!((found.decision, found.reason), (expected.decision, expected.reason));
    }
}

fn scalars(first: &str, second: &str) {
    if let (Some(a), Some(b)) = (Number::parse(first), Number::parse(second)) {
        assert_eq!(a.cmp(&b), b.cmp(&a).reverse());
        assert_eq!(a == b, a.cmp(&b).is_eq());
        // Where floating point is exact enough to tell them apart, it tells them apart the same way.
        if let (Ok(x), Ok(y)) = (first.parse::<f64>(), second.parse::<f64>())
            && x.is_finite()
            && y.is_finite()
            && x != y
        {
            assert_eq!(a < b, x < y, "{first} {second}");
        }
    }
    if let (Some(a), Some(b)) = (Instant::parse(first), Instant::parse(second)) {
        assert_eq!(a.cmp(&b), b.cmp(&a).reverse());
    }
    if let Some(network) = scalar::network(first) {
        assert!(network.contains(&network.network()));
    }
    if let Some(value) = scalar::boolean(first) {
        assert!(first.eq_ignore_ascii_case(if value { "true" } else { "false" }));
    }
}
