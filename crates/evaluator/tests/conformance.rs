//! The conformance cases of tests/conformance: every one, and what explain says of each.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail")]

use std::fs;

use countersign_evaluator::Decision;
use countersign_evaluator::simulate::Case;

fn cases(file: &str) -> Vec<Case> {
    let path = format!("{}/../../tests/conformance/{file}", env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(&path).unwrap();
    text.lines()
        .enumerate()
        .map(|(i, line)| Case::parse(line).unwrap_or_else(|e| panic!("line {}: {e}", i + 1)))
        .collect()
}

fn check(file: &str, count: usize) {
    let cases = cases(file);
    assert_eq!(cases.len(), count);
    let mut wrong = Vec::new();
    for case in &cases {
        let (found, expected) = (case.decide(), case.expect().unwrap());
        if found.decision != expected {
            let allowed = if found.decision == Decision::Allow { " WRONGLY ALLOWED" } else { "" };
            wrong.push(format!("{}: {found:?}, expected {expected}{allowed}", case.id()));
        }
    }
    assert!(wrong.is_empty(), "{} of {count} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn rules() {
    check("rules.jsonl", 163);
}

#[test]
fn sample() {
    check("sample.jsonl", 1200);
}

#[test]
fn explain_agrees_with_decide() {
    for file in ["rules.jsonl", "sample.jsonl"] {
        for case in cases(file) {
            let explanation = case.explain();
            assert_eq!(explanation.verdict, case.decide(), "{}", case.id());
            for statement in &explanation.statements {
                assert_eq!(
                    statement.matched,
                    statement.failed_elements == 0,
                    "{}: {statement:?}",
                    case.id()
                );
            }
        }
    }
}

#[test]
fn what_a_case_does_not_know_is_refused_by_name() {
    fn check(from: &str, to: &str, expected: &str) {
        let case = r#"{"id":"x","principal":{"arn":"arn:aws:iam::111122223333:user/alice"},"action":"orders:Get","resource":{"arn":"arn:aws:orders:us-east-1:111122223333:order/42","account":"111122223333"},"context":{"a:k":"v"},"policies":{"identity":[{"name":"p","document":{"Statement":[]}}],"boundary":null,"session":null,"resource":null,"scps":[],"rcps":[]},"expect":{"decision":"ALLOW"}}"#;
        assert!(Case::parse(case).is_ok());
        assert!(case.contains(from), "{from}");
        let message = Case::parse(&case.replace(from, to)).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }
    check(r#""id":"x""#, r#""id":7"#, "`id`: a number, expected a string");
    check(r#""id":"x","#, "", "`id` is missing");
    check(r#""id":"x","#, r#""id":"x","now":1,"#, "unknown field `case.now`");
    check(r#""scps":[]"#, r#""scps":[],"groups":[]"#, "unknown field `policies.groups`");
    check(r#""account":"111122223333""#, r#""owner":"1""#, "unknown field `resource.owner`");
    check("user/alice", "role/App", "expected a user, an assumed-role session or a federated user");
    check("user/alice", "root", "expected a user, an assumed-role session or a federated user");
    check("orders:Get", "orders:*", "`action`: `orders:*` is not an action");
    check(r#""a:k":"v""#, r#""a:k":"v","A:K":"w""#, "`A:K` is given twice");
    check(r#""a:k":"v""#, r#""a:k":1"#, "`context.a:k`: a number");
    check(
        r#""Statement":[]"#,
        r#""Statement":[],"Extra":1"#,
        "unknown element of a policy document `Extra`",
    );
    check(r#""Statement":[]"#, r#""Statement":[],"Statement":[]"#, "stands twice");
    check(r#""decision":"ALLOW""#, r#""decision":"MAYBE""#, "`MAYBE` is no decision");
}
