//! FAULTS.md F15, measured: what the worst patterns and documents cost the compiled engine.
//!
//! `cargo run --release -p countersign-evaluator --example bombs`; the best of some runs, in microseconds.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a measurement may fail")]

use std::sync::Arc;
use std::time::Instant;

use countersign_evaluator::compiled::{
    CompiledSet, Layer, Policies, Query, Value, compile, evaluate,
};
use countersign_evaluator::{PolicyType, Principal};
use countersign_policy::parse::parse;

/// IAM's limit for a role's inline policies, the largest there is, in characters without blanks.
const LARGEST: usize = 10_240;
/// What the decision service takes: a resource in bytes, names and values of a context together.
const LONGEST_RESOURCE: usize = 2_048;
const LARGEST_CONTEXT: usize = 16 * 1024;

const PREFIX: &str = "arn:aws:orders:us-east-1:111122223333:";

/// Microseconds.
#[expect(clippy::disallowed_methods, reason = "this program measures time")]
fn best(mut once: impl FnMut()) -> f64 {
    (0..7)
        .map(|_| {
            let start = Instant::now();
            once();
            start.elapsed().as_secs_f64() * 1e6
        })
        .fold(f64::INFINITY, f64::min)
}

fn row(
    name: &str,
    document: &str,
    resource: &str,
    context: &[(&str, Value<'_>)],
    bar: Option<f64>,
) {
    let length = document.chars().filter(|c| !c.is_whitespace()).count();
    let policy = Arc::new(compile(&parse(document).unwrap_or_else(|e| panic!("{name}: {e}"))));
    let set = CompiledSet::new(vec![policy]);
    let arn = "arn:aws:iam::111122223333:user/alice".parse().unwrap();
    let principal = Principal::User { arn, unique_id: None };
    let resource = format!("{PREFIX}{resource}");
    let query = Query {
        principal: &principal,
        action: "orders:Get",
        resource: &resource,
        resource_account: None,
        context,
    };
    let identity = Layer::Set(PolicyType::Identity, &set);
    let policies = Policies { identity, ..Policies::default() };
    let mut decision = None;
    let took = best(|| decision = Some(evaluate(&query, &policies).unwrap().decision));
    let decision = decision.unwrap();
    let bar = match bar {
        Some(bar) if took <= bar => format!("at most {} ms", bar / 1e3),
        Some(bar) => format!("at most {} ms: TOO SLOW", bar / 1e3),
        None => "a product".to_owned(),
    };
    println!("{took:>9.1} us, {bar}: {name} ({length} characters, {decision})");
}

/// A Deny on these resources, as many as find place.
fn with_resources(one: &str) -> String {
    let pattern = format!("\"{PREFIX}{one}\"");
    let count = ((LARGEST - 80) / (pattern.len() + 1)).max(1);
    let list = vec![pattern; count].join(",");
    format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Deny","Action":"*","Resource":[{list}]}}]}}"#
    )
}

/// A Deny under this condition, with as many values as find place.
fn with_values(operator: &str, value: &str) -> String {
    let value = format!("\"{value}\"");
    let count = ((LARGEST - 120) / (value.len() + 1)).max(1);
    let list = vec![value; count].join(",");
    format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Deny","Action":"*","Resource":"*","Condition":{{"{operator}":{{"a:k":[{list}]}}}}}}]}}"#
    )
}

fn main() {
    let pattern = |piece: &str| format!("{}*b*", piece.repeat(1_000));
    let text = "a".repeat(10_000);
    println!("10,000 characters against 1,000 stars");
    for piece in ["*a", "*?", "*?a", "*aa"] {
        let document = format!(
            r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Deny","Action":"*","Resource":"{PREFIX}{}"}}]}}"#,
            pattern(piece)
        );
        row(&format!("{piece} a thousand times"), &document, &text, &[], Some(1_000.0));
    }

    println!("\nThe worst legal documents, against the worst legal requests");
    let text = "a".repeat(LONGEST_RESOURCE - PREFIX.len());
    let accents = "é".repeat(text.len() / 2);
    let long = LARGEST - 200;
    for (name, piece) in [
        (
            "one piece without stars between",
            format!("*{}b*", "a?".repeat(long / 2).get(..1_000).unwrap_or_default()),
        ),
        ("pieces of 40", format!("{}*b*", "*aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa?c")),
        ("two stars", "*a*b".to_owned()),
        ("a star and a question mark", "*a?b".to_owned()),
        ("a long literal", format!("*{}b", "a".repeat(500))),
        ("a long wild piece", format!("*{}b*", "a?".repeat(250))),
    ] {
        row(&format!("resources: {name}"), &with_resources(&piece), &text, &[], Some(5_000.0));
        let piece = piece.replace('a', "é");
        row(
            &format!("the same, outside ASCII: {name}"),
            &with_resources(&piece),
            &accents,
            &[],
            Some(5_000.0),
        );
    }
    let one = ["a"; 1];
    let value = "a".repeat(LARGEST_CONTEXT - 10);
    let half = "a".repeat(LARGEST_CONTEXT / 2 - 10);
    let accents = "é".repeat(LARGEST_CONTEXT / 4 - 10);
    let many: Vec<&str> = vec!["a"; LARGEST_CONTEXT / 2];
    let context = [("a:k", Value::One(&value))];
    let long_arn = format!("a:a:a:a:a:{value}");
    let arn = [("a:k", Value::One(&long_arn))];
    let with_variable = [("a:k", Value::One(&half)), ("a:v", Value::One(&half))];
    let short_variable =
        [("a:k", Value::One(&value)), ("a:v", Value::Many(&one)), ("a:w", Value::One("a"))];
    let set = [("a:k", Value::Many(&many))];
    let outside = [("a:k", Value::One(&accents)), ("a:w", Value::One("é"))];
    for (name, operator, value, context) in [
        ("stars", "StringLike", "*a*b".to_owned(), &context[..]),
        ("a wild piece", "StringLike", format!("*{}b", "a?".repeat(20)), &context[..]),
        ("a long wild piece", "StringLike", format!("*{}b*", "a?".repeat(2_400)), &context[..]),
        ("a long literal", "StringLike", format!("*{}b", "a".repeat(4_800)), &context[..]),
        ("ARNs, and a text that is none", "ArnLike", "*:*:*:*:*:*b".to_owned(), &context[..]),
        ("ARNs", "ArnLike", "*:*:*:*:*:*a*b*".to_owned(), &arn[..]),
        ("a long variable", "StringLike", "*${a:v}b*".to_owned(), &with_variable[..]),
        (
            "a long variable and a wildcard",
            "StringLike",
            "*${a:v}?b*".to_owned(),
            &with_variable[..],
        ),
        (
            "many variables in a piece",
            "StringLike",
            format!("*{}b*", "${a:w}?".repeat(600)),
            &short_variable[..],
        ),
        ("without case", "StringEqualsIgnoreCase", "é".to_owned(), &outside[..]),
        (
            "a long wild piece outside ASCII",
            "StringLike",
            format!("*{}b*", "é?".repeat(1_600)),
            &outside[..],
        ),
        (
            "variables outside ASCII",
            "StringLike",
            format!("*{}b*", "${a:w}?".repeat(600)),
            &outside[..],
        ),
    ] {
        row(
            &format!("values: {name}"),
            &with_values(operator, &value),
            "x",
            context,
            Some(5_000.0),
        );
    }

    println!(
        "\nMany values against many: the decision service adds this work up, and refuses the question before it is done"
    );
    for (name, operator, value, context) in [
        ("pieces of a variable", "StringLike", "*${a:w}?b*".to_owned(), &short_variable[..]),
        ("a set of values", "ForAnyValue:StringLike", "*b".to_owned(), &set[..]),
        ("a set of values, each unequal", "ForAnyValue:StringEquals", "b".to_owned(), &set[..]),
        ("a set of numbers", "ForAnyValue:NumericEquals", "1".to_owned(), &set[..]),
    ] {
        row(&format!("values: {name}"), &with_values(operator, &value), "x", context, None);
    }
}
