//! What a decision still depends on, and that it depends on nothing else.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail")]

mod generated;
mod world;

use countersign_evaluator::outlook::{OpenCondition, Outlook, outlook};
use countersign_evaluator::{
    Context, PolicySet, PolicyType, Principal, assertable, reference::decide,
};
use generated::{Rng, World};
use world::{ORDER, ROLE, arn, attached, request, user, with_identity};

fn statement(effect: &str, resource: &str, condition: &str) -> String {
    format!(
        r#"{{"Effect":"{effect}","Action":"orders:*","Resource":"{resource}","Condition":{{{condition}}}}}"#
    )
}

fn role() -> Principal {
    Principal::Role { arn: arn(ROLE), unique_id: Some("AROAAPP".to_owned()) }
}

/// `allowed`, `denied`, or as it stands now and what remains.
fn said(outlook: &Outlook) -> String {
    let condition =
        |one: &OpenCondition| format!("{} {} {}", one.operator, one.key, one.values.join(","));
    match outlook {
        Outlook::Allowed(_) => "allowed".to_owned(),
        Outlook::Denied(_) => "denied".to_owned(),
        Outlook::Open { now, remaining } => {
            let remaining = remaining.iter().map(|one| {
                let conditions: Vec<String> = one.conditions.iter().map(condition).collect();
                format!("; {} {}: {}", one.effect, one.statement.index, conditions.join(" and "))
            });
            format!("{}{}", now.decision, remaining.collect::<String>())
        }
    }
}

fn check_by(principal: Principal, statements: &[String], expected: &str) {
    let mut request = request(principal, "orders:Get", ORDER);
    request.context.insert("orders:Given", "7").unwrap();
    request.context.insert("aws:PrincipalTag/Team", "a").unwrap();
    let policies = with_identity(&format!("[{}]", statements.join(",")));
    assert_eq!(said(&outlook(&request, &policies)), expected, "{statements:?}");
}

#[test]
fn what_remains() {
    let check = |statements: &[String], expected: &str| check_by(user(), statements, expected);
    let allow = |condition: &str| statement("Allow", "*", condition);
    let deny = |condition: &str| statement("Deny", "*", condition);
    let if_vpc = r#""StringEquals":{"aws:SourceVpc":"v-1"}"#;
    let unless_vpc = r#""StringNotEquals":{"aws:SourceVpc":"v-1"}"#;
    check(&[allow("")], "allowed");
    check(&[deny("")], "denied");
    check(&[allow(""), deny("")], "denied");
    // A key that may come.
    check(&[allow(if_vpc)], "IMPLICIT_DENY; Allow 0: StringEquals aws:SourceVpc v-1");
    check(&[allow(unless_vpc)], "ALLOW; Allow 0: StringNotEquals aws:SourceVpc v-1");
    check(&[allow(""), deny(if_vpc)], "ALLOW; Deny 1: StringEquals aws:SourceVpc v-1");
    check(
        &[allow(""), deny(unless_vpc)],
        "EXPLICIT_DENY; Deny 1: StringNotEquals aws:SourceVpc v-1",
    );
    check(&[allow(""), allow(if_vpc)], "allowed");
    check(&[allow(if_vpc), deny("")], "denied");
    check(
        &[allow(r#""Null":{"orders:x":"false"}"#)],
        "IMPLICIT_DENY; Allow 0: Null orders:x false",
    );
    check(
        &[allow(r#""StringEquals":{"aws:ResourceTag/a":"b"}"#)],
        "IMPLICIT_DENY; Allow 0: StringEquals aws:ResourceTag/a b",
    );
    // A key that is there, or that nobody can bring.
    check(&[allow(r#""NumericEquals":{"orders:Given":"7"}"#)], "allowed");
    check(&[allow(r#""NumericEquals":{"ORDERS:given":"8"}"#)], "denied");
    check(&[allow(r#""StringEquals":{"aws:PrincipalTag/Other":"b"}"#)], "denied");
    check(&[allow(r#""Bool":{"aws:MultiFactorAuthPresent":"true"}"#)], "denied");
    // What fails already does not remain.
    check(&[allow(&format!(r#"{if_vpc},"NumericEquals":{{"orders:Given":"8"}}"#))], "denied");
    check(
        &[allow(""), deny(&format!(r#"{if_vpc},"NumericEquals":{{"orders:Given":"8"}}"#))],
        "allowed",
    );
    // Only what is open is named.
    check(
        &[allow(&format!(r#"{if_vpc},"NumericEquals":{{"orders:Given":"7"}}"#))],
        "IMPLICIT_DENY; Allow 0: StringEquals aws:SourceVpc v-1",
    );
    // A variable's key.
    check(
        &[allow(r#""StringEquals":{"orders:Given":"${orders:Wanted}"}"#)],
        "IMPLICIT_DENY; Allow 0: StringEquals orders:Given ${orders:Wanted}",
    );
    let order = "arn:aws:orders:us-east-1:111122223333:order/${orders:Id}";
    check(
        &[statement("Allow", order, "")],
        &format!("IMPLICIT_DENY; Allow 0: Resource orders:Id {order}"),
    );
    check(
        &[statement("Allow", "arn:aws:orders:us-east-1:111122223333:bill/${orders:Id}", "")],
        "denied",
    );
    check(
        &[allow(""), statement("Deny", order, "")],
        &format!("ALLOW; Deny 1: Resource orders:Id {order}"),
    );
}

#[test]
fn a_roles_session_brings_keys_of_its_own() {
    let check = |condition: &str, expected: &str| {
        check_by(role(), &[statement("Allow", "*", condition)], expected);
    };
    check(
        r#""StringEquals":{"aws:PrincipalTag/Other":"b"}"#,
        "IMPLICIT_DENY; Allow 0: StringEquals aws:PrincipalTag/Other b",
    );
    // A session's tag counts for more than its role's.
    check(
        r#""StringEquals":{"aws:PrincipalTag/Team":"a"}"#,
        "ALLOW; Allow 0: StringEquals aws:PrincipalTag/Team a",
    );
    check(
        r#""StringLike":{"aws:userid":"*:bob"}"#,
        "IMPLICIT_DENY; Allow 0: StringLike aws:userid *:bob",
    );
}

#[test]
fn every_policy_type_counts() {
    let request = request(user(), "orders:Get", ORDER);
    let open = statement("Allow", "*", r#""Bool":{"aws:SecureTransport":"true"}"#);
    let mut policies = with_identity(&format!("[{}]", statement("Allow", "*", "")));
    policies.boundary = Some(vec![attached(PolicyType::Boundary, &format!("[{open}]"))]);
    let found = outlook(&request, &policies);
    let Outlook::Open { remaining, .. } = &found else { panic!("{found:?}") };
    // The identity policy allows whatever comes.
    assert_eq!(remaining.len(), 1, "{remaining:?}");
    assert_eq!(remaining[0].statement.policy_type, PolicyType::Boundary);
    policies.missing.push("gone".into());
    assert_eq!(said(&outlook(&request, &policies)), "denied");
}

/// Whatever open keys come, what was said to be certain stays so.
#[test]
fn nothing_else_can_turn_it() {
    let mut rng = Rng(20_261_124);
    let (mut allowed, mut denied, mut turned) = (0, 0, 0);
    for case in 0..60_000 {
        let world = World::new(&mut rng);
        let policies: PolicySet = world.policy_set();
        let full = generated::request(&mut rng);
        let mut less = full.clone();
        less.context = Context::new();
        for (key, value) in full.context.iter() {
            let is_open =
                assertable(key) || key.to_ascii_lowercase().starts_with("aws:resourcetag/");
            if !is_open || rng.one_in(3) {
                less.context.insert(key, value.clone()).unwrap();
            }
        }
        let then = decide(&full, &policies);
        match outlook(&less, &policies) {
            Outlook::Allowed(now) => {
                assert!(now.is_allow() && then.is_allow(), "case {case}: {full:?}");
                allowed += 1;
            }
            Outlook::Denied(now) => {
                assert!(!now.is_allow() && !then.is_allow(), "case {case}: {full:?}");
                denied += 1;
            }
            Outlook::Open { now, remaining } => {
                assert!(!remaining.is_empty(), "case {case}");
                assert_eq!(now, decide(&less, &policies), "case {case}");
                turned += usize::from(now.decision != then.decision);
            }
        }
    }
    assert!(allowed > 100 && denied > 100 && turned > 100, "{allowed} {denied} {turned}");
}
