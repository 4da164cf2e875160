//! What `countersign_policy::findings` claims of statements is so: a statement that is said never to match, to be overruled or to
//! be needless can be left out, and no answer changes. Random documents, random requests, the reference engine.
//!
//! `COUNTERSIGN_CASES` says how many documents; 20,000 by default.

use std::collections::BTreeMap;

use countersign_benches::engines::ours::{attached, principal};
use countersign_benches::rng::SplitMix64;
use countersign_evaluator::{
    Context, ContextValue, PolicySet, PolicyType, Request, Resource, reference,
};
use countersign_policy::findings::{DocumentKind, check};

const ACTIONS: [&str; 8] = ["*", "a:*", "a:Get*", "a:GetX", "A:getx", "a:?etX", "b:Put", "a:P*"];
const RESOURCES: [&str; 9] = [
    "*",
    "arn:cs:a:::t/*",
    "arn:cs:a:::t/1",
    "arn:cs:a:::t/1*",
    "arn:*:a:::t/*",
    "arn:cs:a:::t/${a:k}",
    "arn:cs:a:::t/${a:set, '1'}",
    "arn:cs:a:::?/1",
    "arn:cs:a:::*",
];
const KEYS: [&str; 3] = ["a:k", "A:K", "a:set"];
const CONDITIONS: [(&str, &[&str]); 20] = [
    ("StringEquals", &["x", "y", "x*"]),
    ("StringNotEquals", &["x", "y"]),
    ("StringEqualsIfExists", &["x", "y"]),
    ("StringEqualsIgnoreCase", &["X", "É"]),
    ("StringNotEqualsIgnoreCase", &["X", "é"]),
    ("StringLike", &["x*", "?", "${a:k}", "*"]),
    ("StringNotLike", &["x*", "?"]),
    ("ForAnyValue:StringEquals", &["x", "y"]),
    ("ForAnyValue:StringNotLikeIfExists", &["x", "y"]),
    ("ForAllValues:StringEquals", &["x", "y"]),
    ("Null", &["true", "false"]),
    ("Null", &["true"]),
    ("NumericLessThan", &["5", "-1"]),
    ("NumericGreaterThanEquals", &["5", "5.0", "7"]),
    ("NumericLessThanEqualsIfExists", &["5"]),
    ("DateLessThan", &["2026-01-01T00:00:00Z"]),
    ("DateGreaterThan", &["2026-01-01", "2027-01-01"]),
    ("IpAddress", &["10.0.0.0/8", "10.1.0.0/16", "2001:db8::/32"]),
    ("NotIpAddress", &["10.0.0.0/8", "10.1.0.0/16", "::ffff:10.0.0.0/104"]),
    ("Bool", &["true", "false"]),
];
const VALUES: [&str; 12] = [
    "x",
    "y",
    "X",
    "x*",
    "é",
    "5",
    "6.5",
    "-2",
    "2026-06-01T00:00:00Z",
    "10.1.2.3",
    "2001:db8::1",
    "true",
];

fn list(rng: &mut SplitMix64, from: &[&str], most: usize) -> Vec<String> {
    (0..=rng.below(most)).map(|_| format!("\"{}\"", rng.pick(from))).collect()
}

fn statement(rng: &mut SplitMix64) -> String {
    let not = |rng: &mut SplitMix64| if rng.once_in(6) { "Not" } else { "" };
    let mut conditions: BTreeMap<&str, BTreeMap<&str, String>> = BTreeMap::new();
    for _ in 0..rng.below(4) {
        let (operator, values) = *rng.pick(&CONDITIONS);
        let key = KEYS[if rng.once_in(4) { 2 } else { rng.below(2) }];
        let values = list(rng, values, 2).join(",");
        conditions.entry(operator).or_default().insert(key, format!("[{values}]"));
    }
    let conditions: Vec<String> = conditions
        .iter()
        .map(|(operator, keys)| {
            let keys: Vec<String> = keys.iter().map(|(key, v)| format!("\"{key}\":{v}")).collect();
            format!("\"{operator}\":{{{}}}", keys.join(","))
        })
        .collect();
    format!(
        r#"{{"Effect":"{}","{}Action":[{}],"{}Resource":[{}],"Condition":{{{}}}}}"#,
        if rng.once_in(2) { "Allow" } else { "Deny" },
        not(rng),
        list(rng, &ACTIONS, 2).join(","),
        not(rng),
        list(rng, &RESOURCES, 2).join(","),
        conditions.join(",")
    )
}

fn request(rng: &mut SplitMix64) -> Request {
    let mut context = Context::new();
    for key in ["a:k", "a:set"] {
        let one = |rng: &mut SplitMix64| (*rng.pick(&VALUES)).to_owned();
        let value = match rng.below(6) {
            0 => continue,
            1 => ContextValue::Many((0..rng.below(3)).map(|_| one(rng)).collect()),
            _ => ContextValue::One(one(rng)),
        };
        context.insert(key, value).unwrap();
    }
    let resource = ["*", "arn:cs:a:::t/1", "arn:cs:a:::t/12", "arn:cs:a:::t/x", "arn:cs:a:::u"];
    Request {
        principal: principal("alice"),
        action: rng.pick(&["a:GetX", "a:getx", "a:GetY", "b:Put", "a:PutX"]).parse().unwrap(),
        resource: Resource {
            arn: rng.pick(&resource).parse().unwrap(),
            account: "111122223333".parse().ok(),
        },
        context,
    }
}

fn document(statements: &[&String]) -> String {
    let list: Vec<&str> = statements.iter().map(|statement| statement.as_str()).collect();
    format!(r#"{{"Version":"2012-10-17","Statement":[{}]}}"#, list.join(","))
}

#[test]
fn what_is_said_to_be_needless_is() {
    let cases: usize = std::env::var("COUNTERSIGN_CASES")
        .map_or(20_000, |text| text.parse().expect("COUNTERSIGN_CASES is a number"));
    let mut rng = SplitMix64::new(0xF1);
    let mut claims: BTreeMap<&str, usize> = BTreeMap::new();
    for _ in 0..cases {
        let mut statements: Vec<String> = (0..=rng.below(3)).map(|_| statement(&mut rng)).collect();
        if rng.once_in(16) {
            statements.push(statements[0].clone());
        }
        let all: Vec<&String> = statements.iter().collect();
        let text = document(&all);
        let Ok(checked) = check(&text, DocumentKind::InlineRolePolicy) else { continue };
        let allow_all = r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}"#;
        let set = |text: &str, others: &[&str]| PolicySet {
            identity: std::iter::once(text)
                .chain(others.iter().copied())
                .map(|text| attached(PolicyType::Identity, "p", text))
                .collect(),
            ..PolicySet::default()
        };
        for finding in &checked.warnings {
            let is_claim =
                ["NeverMatches", "ShadowedAllow", "DuplicateStatement", "RedundantStatement"]
                    .contains(&finding.code);
            let is_element = ["RedundantAction", "RedundantResource"].contains(&finding.code);
            if !is_claim && !is_element {
                continue;
            }
            *claims.entry(finding.code).or_default() += 1;
            let mut pointer = finding.pointer.split('/').skip(2);
            let index: usize = pointer.next().unwrap().parse().unwrap();
            let mut rest: Vec<String> = statements.clone();
            if is_claim {
                rest.remove(index);
            } else {
                let (clause, at) = (pointer.next().unwrap(), pointer.next().unwrap());
                let mut value: serde_json::Value = serde_json::from_str(&rest[index]).unwrap();
                value[clause].as_array_mut().unwrap().remove(at.parse().unwrap());
                rest[index] = value.to_string();
            }
            let without = document(&rest.iter().collect::<Vec<_>>());
            // Beside another policy that allows everything, a Deny shows.
            for others in [&[][..], &[allow_all][..]] {
                let (with, without) = (set(&text, others), set(&without, others));
                for _ in 0..60 {
                    let request = request(&mut rng);
                    let (a, b) =
                        (reference::decide(&request, &with), reference::decide(&request, &without));
                    assert_eq!(a.is_allow(), b.is_allow(), "{finding} in {text}\n{request:?}");
                }
            }
        }
    }
    println!("{claims:?}");
    assert!(claims.len() == 6 && claims.values().all(|count| *count > 20), "{claims:?}");
}
