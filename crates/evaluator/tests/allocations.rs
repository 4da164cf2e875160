//! A decision by the compiled engine allocates nothing, whatever the policies and the answer.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail")]

mod generated;
mod world;

use countersign_evaluator::compiled::{
    CompiledAttached, CompiledSet, Layer, Outcome, Policies, Program, Query, Value, evaluate,
};
use countersign_evaluator::{Attached, Decision, PolicyType, Principal, Realm};
use std::sync::Arc;

use generated::{Policy, Rng};
use world::{all, attached, resolved, session, trust, user};

/// Evaluates, and says how many allocations that took.
fn counted(query: &Query<'_>, policies: &Policies<'_>) -> (Outcome, u64) {
    let mut outcome = None;
    let counts = allocation_counter::measure(|| outcome = Some(evaluate(query, policies).unwrap()));
    (outcome.unwrap(), counts.count_total)
}

fn set(policy_type: PolicyType, documents: &[&str]) -> CompiledSet {
    let compiled = |text: &&str| Program::new(attached(policy_type, text).document).policy;
    CompiledSet::new(documents.iter().map(compiled).collect())
}

const IDENTITY: &str = r#"[
    {"Effect":"Allow","Action":["orders:Get*","orders:ListOrders","sts:AssumeRole"],"Resource":[
        "arn:aws:orders:*:111122223333:order/${aws:PrincipalTag/team}/*",
        "arn:aws:orders:us-east-1:111122223333:order/*/${aws:PrincipalTag/none, 'shared'}-?/*",
        "arn:aws:iam::111122223333:role/*"],
     "Condition":{"IpAddress":{"aws:SourceIp":["10.0.0.0/8","2001:db8::/32"]},
        "StringEquals":{"aws:PrincipalTag/team":["blue","${aws:PrincipalTag/team}"]},
        "StringLikeIfExists":{"aws:UserAgent":"*client*/?.*"},
        "DateLessThan":{"aws:CurrentTime":"2027-01-01T00:00:00Z"},
        "NumericLessThanEquals":{"orders:amount":"100.50"},
        "Bool":{"aws:SecureTransport":"true"},
        "ForAllValues:StringEquals":{"aws:TagKeys":["a","b"]},
        "ArnLike":{"aws:PrincipalArn":"arn:aws:iam::111122223333:*/${aws:PrincipalTag/none, 'team'}/*"},
        "StringNotEqualsIgnoreCase":{"orders:state":"archived"},
        "Null":{"orders:none":"true"}}},
    {"Effect":"Deny","NotAction":["orders:*","sts:*"],"Resource":"*"},
    {"Effect":"Deny","Action":"*","NotResource":["arn:aws:orders:*:*:*","arn:aws:iam::*:role/*"]},
    {"Effect":"Deny","Action":"*","Resource":"*","Condition":{"BinaryEquals":{"orders:blob":"QUJD"},
        "ForAnyValue:StringLike":{"aws:TagKeys":"x*"}}}]"#;

#[test]
fn allocations_are_counted() {
    let counts = allocation_counter::measure(|| drop(std::hint::black_box(vec![1_u8; 64])));
    assert_eq!(counts.count_total, 1);
}

#[test]
fn realistic_decisions_allocate_nothing() {
    let identity = set(
        PolicyType::Identity,
        &[IDENTITY, &format!("[{}]", all("Allow").replace("\"*\",\"R", "\"s3:*\",\"R"))],
    );
    let everything = format!("[{}]", all("Allow"));
    let limit = r#"[{"Effect":"Allow","Action":"orders:*","Resource":"*"},{"Effect":"Allow","Action":"sts:*","Resource":"*"}]"#;
    let boundary = set(PolicyType::Boundary, &[limit]);
    let session_policy = set(PolicyType::Session, &[limit, &everything]);
    let scp = set(
        PolicyType::Scp,
        &[&everything, r#"[{"Effect":"Deny","Action":"organizations:*","Resource":"*"}]"#],
    );
    let scps = [Layer::Set(PolicyType::Scp, &scp), Layer::Set(PolicyType::Scp, &scp)];
    let rcp = attached(
        PolicyType::Rcp,
        r#"[{"Effect":"Deny","Principal":"*","Action":"*","Resource":"*","Condition":{"StringNotEqualsIfExists":{"aws:PrincipalAccount":"111122223333"}}}]"#,
    );
    let rcp = (Program::new(Arc::clone(&rcp.document)), rcp);
    let rcps = [attachment(&rcp)];
    let rcps = [Layer::Attached(&rcps)];
    let trusted = resolved(
        trust(
            "Allow",
            &format!(
                "{{\"AWS\":[\"{}\",\"{}\",\"arn:aws:iam::111122223333:root\"]}}",
                world::ROLE,
                world::SESSION
            ),
        ),
        &[
            (world::ROLE, Realm::Countersign, Some("AROAAPP")),
            (world::SESSION, Realm::Countersign, Some("AROAAPP")),
        ],
    );
    let trusted = (Program::new(Arc::clone(&trusted.document)), trusted);
    let policies = Policies {
        identity: Layer::Set(PolicyType::Identity, &identity),
        boundary: Some(Layer::Set(PolicyType::Boundary, &boundary)),
        session: Some(Layer::Set(PolicyType::Session, &session_policy)),
        scps: &scps,
        rcps: &rcps,
        ..Policies::default()
    };
    let keys = ["a", "b"];
    let context = [
        ("aws:SourceIp", Value::One("10.1.2.3")),
        ("aws:PrincipalTag/Team", Value::One("blue")),
        ("aws:UserAgent", Value::One("my-client/1.0")),
        ("aws:CurrentTime", Value::One("2026-06-15T02:00:00+02:00")),
        ("orders:amount", Value::One("99.5")),
        ("aws:SecureTransport", Value::One("true")),
        ("aws:TagKeys", Value::Many(&keys)),
        ("aws:PrincipalArn", Value::One("arn:aws:iam::111122223333:role/team/App")),
        ("orders:state", Value::One("ÖFFEN")),
        ("orders:blob", Value::One("QUJE")),
        ("aws:PrincipalAccount", Value::One("111122223333")),
    ];
    let check = |principal: &Principal, action: &str, resource: &str, trust: bool, expected| {
        let query =
            Query { principal, action, resource, resource_account: None, context: &context };
        let resource_policy = trust.then(|| attachment(&trusted));
        let (outcome, count) = counted(&query, &Policies { resource: resource_policy, ..policies });
        assert_eq!((outcome.decision, count), (expected, 0), "{action} {resource}: {outcome:?}");
    };
    let order = "arn:aws:orders:us-east-1:111122223333:order/blue/42";
    let shared = "arn:aws:orders:us-east-1:111122223333:order/red/shared-7/42";
    check(&user(), "orders:GetOrder", order, false, Decision::Allow);
    check(&session(), "orders:GetOrder", shared, false, Decision::Allow);
    check(
        &session(),
        "orders:GetOrder",
        &order.replace("blue", "red"),
        false,
        Decision::ImplicitDeny,
    );
    check(&user(), "billing:Pay", "*", false, Decision::ExplicitDeny);
    check(&session(), "orders:GetOrder", "arn:aws:s3:::bucket/x", false, Decision::ExplicitDeny);
    check(&session(), "sts:AssumeRole", world::TARGET, true, Decision::Allow);
    check(&user(), "sts:AssumeRole", world::TARGET, true, Decision::Allow);
    check(&user(), "organizations:ListRoots", "*", false, Decision::ExplicitDeny);
}

fn attachment((program, attached): &(Program, Attached)) -> CompiledAttached<'_> {
    CompiledAttached {
        policy_type: attached.policy_type,
        policy: &program.policy,
        resolved: attached.resolved.as_deref(),
    }
}

#[test]
fn generated_decisions_allocate_nothing() {
    let mut rng = Rng(0xA110C);
    for world in 0..300 {
        // Every third set is so large that it is indexed.
        let policies = if world % 3 == 0 { 40 } else { 3 };
        let mut compiled = |policy_type| {
            let one = |_| {
                Program::new(Policy::new(&mut rng, policy_type, 4).attached("p").document).policy
            };
            CompiledSet::new((0..policies).map(one).collect())
        };
        let (identity, boundary) = (compiled(PolicyType::Identity), compiled(PolicyType::Boundary));
        let resource = Policy::new(&mut rng, PolicyType::Resource, 4).attached("r");
        let resource = (Program::new(Arc::clone(&resource.document)), resource);
        let policies = Policies {
            identity: Layer::Set(PolicyType::Identity, &identity),
            boundary: Some(Layer::Set(PolicyType::Boundary, &boundary)),
            resource: Some(attachment(&resource)),
            ..Policies::default()
        };
        for _ in 0..20 {
            let request = generated::request(&mut rng);
            // The model reads fractions of seconds through a text of its own.
            let context: Vec<(&str, Value<'_>)> = request
                .context
                .iter()
                .map(|(key, value)| (key, as_value(value)))
                .filter(|(_, value)| !holds_fraction(value))
                .take(100)
                .collect();
            let resource = request.resource.arn.to_string();
            let query = Query {
                principal: &request.principal,
                action: request.action.as_str(),
                resource: &resource,
                resource_account: request.resource.account,
                context: &context,
            };
            let (outcome, count) = counted(&query, &policies);
            assert_eq!(count, 0, "{outcome:?} {request:?}");
        }
    }
}

fn as_value(value: &countersign_evaluator::ContextValue) -> Value<'_> {
    match value {
        countersign_evaluator::ContextValue::One(text) => Value::One(text),
        countersign_evaluator::ContextValue::Many(texts) => Value::Strings(texts),
    }
}

fn holds_fraction(value: &Value<'_>) -> bool {
    let is_one = |text: &str| text.contains("T") && text.contains('.');
    match value {
        Value::One(text) => is_one(text),
        Value::Many(texts) => texts.iter().any(|text| is_one(text)),
        Value::Strings(texts) => texts.iter().any(|text| is_one(text)),
    }
}
