//! Policy bombs (FAULTS.md F15): matching stays linear, and what is too deep or twice is refused.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail")]

mod world;

use std::time::Instant;

use countersign_evaluator::{Decision, reference::decide};
use countersign_policy::parse::parse;
use countersign_policy::pattern::Glob;
use world::{all, request, user, with_identity};

/// Seconds, the best of three: other tests run at the same time.
#[expect(clippy::disallowed_methods, reason = "this test measures time")]
fn seconds(pattern: &str, text: &str) -> f64 {
    let glob = Glob::new(pattern);
    let once = || {
        let start = Instant::now();
        assert!(!glob.matches(text), "{pattern:.20}…");
        start.elapsed().as_secs_f64()
    };
    once().min(once()).min(once())
}

#[test]
fn matching_is_linear_in_the_text() {
    let text = "a".repeat(400_000);
    // Pieces of one, a piece longer than a word, one with wildcards, many of middling length; none occurs in the text.
    let stars = format!("{}*b*", "*a".repeat(1_000));
    let questions = format!("{}*b*", "*?".repeat(1_000));
    let long_piece = format!("*{}b*", "a".repeat(1_000));
    let long_wild = format!("*{}b*", "a?".repeat(500));
    let pieces = format!("{}*b*", "*aaaaaaaaaaaa".repeat(500));
    for pattern in [stars, questions, long_piece, long_wild, pieces] {
        // Trying every position against every token is 400 million steps: far more than this, whatever the machine.
        let seconds = seconds(&pattern, &text);
        assert!(seconds < 2.0, "{seconds} s: {pattern:.20}…");
    }
}

#[test]
fn a_bomb_in_a_document_is_decided() {
    let pattern = format!("arn:aws:orders:us-east-1:111122223333:order/{}b", "*a".repeat(1_000));
    let resource = format!("arn:aws:orders:us-east-1:111122223333:order/{}", "a".repeat(10_000));
    let deny = format!(r#"{{"Effect":"Deny","Action":"*","Resource":"{pattern}"}}"#);
    let set = with_identity(&format!("[{},{deny}]", all("Allow")));
    assert_eq!(decide(&request(user(), "orders:Get", &resource), &set).decision, Decision::Allow);
    let resource = format!("{resource}b");
    assert_eq!(
        decide(&request(user(), "orders:Get", &resource), &set).decision,
        Decision::ExplicitDeny
    );
}

#[test]
fn what_is_too_deep_or_twice_is_refused() {
    fn check(text: &str, expected: &str) {
        let malformed = parse(text).unwrap_err();
        let codes: Vec<&str> = malformed.findings.iter().map(|finding| finding.code).collect();
        assert_eq!(codes, [expected]);
    }
    let nested = |depth: usize| {
        format!(r#"{{"Statement":{}{}}}"#, "[".repeat(depth - 1), "]".repeat(depth - 1))
    };
    check(&nested(33), "TooDeep");
    check(&nested(100_000), "TooDeep");
    check(&nested(32), "WrongType");
    check(r#"{"Statement":[],"Statement":[]}"#, "DuplicateKey");
    check(r#"{"Statement":{"Effect":"Deny","Effect":"Allow","Action":"*"}}"#, "DuplicateKey");
}

#[test]
fn the_value_of_a_variable_is_literal() {
    let check = |value: &str, resource: &str, expected: Decision| {
        let allow = r#"{"Effect":"Allow","Action":"*","Resource":"arn:aws:orders:us-east-1:111122223333:cart/${aws:username}"}"#;
        let mut request = request(
            user(),
            "orders:Get",
            &format!("arn:aws:orders:us-east-1:111122223333:cart/{resource}"),
        );
        request.context.insert("aws:username", value).unwrap();
        assert_eq!(
            decide(&request, &with_identity(allow)).decision,
            expected,
            "{value} {resource}"
        );
    };
    check("*", "bob", Decision::ImplicitDeny);
    check("*", "*", Decision::Allow);
    check("?ob", "bob", Decision::ImplicitDeny);
    check("${*}", "*", Decision::ImplicitDeny);
    check("bob", "bob", Decision::Allow);
}
