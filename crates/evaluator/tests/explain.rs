//! What an explanation says.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail")]

mod world;

use countersign_evaluator::explain::TypeVerdict;
use countersign_evaluator::{Decision, PolicyType, explain::explain};
use world::{ORDER, attached, request, user, with_identity};

#[test]
fn the_element_that_stopped_a_statement() {
    fn check(statement: &str, element: Option<&str>, message: &str, failed: u32, near: bool) {
        let mut request = request(user(), "orders:Get", ORDER);
        request.context.insert("a:k", "x").unwrap();
        let explanation = explain(&request, &with_identity(statement));
        let [found] = explanation.statements.as_slice() else { panic!("one statement") };
        let stop = found.stopped_by.as_ref();
        assert_eq!(stop.map(|stop| stop.element), element, "{statement}");
        assert_eq!(stop.map_or("", |stop| stop.message.as_str()), message, "{statement}");
        assert_eq!(found.failed_elements, failed, "{statement}");
        assert_eq!(explanation.nearest_misses == [0], near, "{statement}");
    }
    let with = |action: &str, resource: &str, condition: &str| {
        format!(
            r#"{{"Effect":"Allow","Action":"{action}","Resource":"{resource}","Condition":{{{condition}}}}}"#
        )
    };
    check(&with("orders:*", "*", ""), None, "", 0, false);
    check(
        &with("orders:Put", "*", ""),
        Some("Action"),
        "Action: expected `orders:Put`, found orders:Get",
        1,
        true,
    );
    check(
        &with("*", "arn:aws:orders:us-east-1:111122223333:order/7", ""),
        Some("Resource"),
        "Resource: expected `arn:aws:orders:us-east-1:111122223333:order/7`, found arn:aws:orders:us-east-1:111122223333:order/42",
        1,
        true,
    );
    check(
        &with("*", "*", r#""StringEquals":{"a:k":["y","z"]}"#),
        Some("Condition"),
        "StringEquals a:k: expected `y`, `z`, found `x`",
        1,
        true,
    );
    check(
        &with("*", "*", r#""Bool":{"a:b":"true"}"#),
        Some("Condition"),
        "Bool a:b: expected `true`, found no such key",
        1,
        true,
    );
    check(
        &with("orders:Put", "*", r#""Bool":{"a:b":"true"}"#),
        Some("Action"),
        "Action: expected `orders:Put`, found orders:Get",
        2,
        false,
    );
    check(
        &with("*", "arn:aws:orders:*", ""),
        Some("Resource"),
        "Resource: `arn:aws:orders:*` cannot be evaluated against arn:aws:orders:us-east-1:111122223333:order/42, so it does not allow",
        1,
        true,
    );
}

#[test]
fn each_policy_types_own_verdict() {
    let allow = r#"{"Effect":"Allow","Action":"orders:*","Resource":"*"}"#;
    let other = r#"{"Effect":"Allow","Action":"billing:*","Resource":"*"}"#;
    let mut set = with_identity(allow);
    set.boundary = Some(vec![attached(PolicyType::Boundary, other)]);
    set.scps = vec![vec![attached(PolicyType::Scp, allow)], vec![attached(PolicyType::Scp, other)]];
    let explanation = explain(&request(user(), "orders:Get", ORDER), &set);
    let of = |policy_type, level, decision| TypeVerdict { policy_type, level, decision };
    assert_eq!(
        explanation.policy_types,
        [
            of(PolicyType::Identity, None, Decision::Allow),
            of(PolicyType::Boundary, None, Decision::ImplicitDeny),
            of(PolicyType::Scp, Some(0), Decision::Allow),
            of(PolicyType::Scp, Some(1), Decision::ImplicitDeny),
        ]
    );
    assert_eq!(explanation.nearest_misses, [1, 3]);
}
