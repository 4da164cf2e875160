//! The contested points of RULES.md (K1 to K10), and everything else that cannot be evaluated: an Allow does not allow, and a
//! Deny denies.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail")]

mod world;

use std::sync::Arc;

use countersign_evaluator::{
    Attached, Context, ContextValue, Decision, PolicySet, PolicyType, Principal, Reason, Session,
    reference::decide,
};
use countersign_policy::parse::parse;
use world::{ORDER, all, all_for, attached, request, user, with_identity, with_resource};

/// The condition cannot be evaluated: it neither allows nor fails to deny.
fn unclear(condition: &str, context: &[(&str, ContextValue)]) {
    check(condition, context, Decision::ImplicitDeny, Decision::ExplicitDeny);
}

fn check(condition: &str, context: &[(&str, ContextValue)], as_allow: Decision, as_deny: Decision) {
    let mut request = request(user(), "orders:Get", ORDER);
    request.context = Context::new();
    for (key, value) in context {
        request.context.insert(*key, value.clone()).unwrap();
    }
    let with = |effect: &str| {
        format!(r#"{{"Effect":"{effect}","Action":"*","Resource":"*","Condition":{condition}}}"#)
    };
    let found = decide(&request, &with_identity(&with("Allow"))).decision;
    assert_eq!(found, as_allow, "Allow {condition} {context:?}");
    let found =
        decide(&request, &with_identity(&format!("[{},{}]", all("Allow"), with("Deny")))).decision;
    assert_eq!(found, as_deny, "Deny {condition} {context:?}");
}

fn one(text: &str) -> ContextValue {
    ContextValue::from(text)
}

fn many(texts: &[&str]) -> ContextValue {
    ContextValue::Many(texts.iter().map(|text| (*text).to_owned()).collect())
}

#[test]
fn k1_a_plain_operator_on_a_multivalued_key() {
    unclear(r#"{"StringEquals":{"a:k":"x"}}"#, &[("a:k", many(&["x", "y"]))]);
    unclear(r#"{"StringNotEquals":{"a:k":"z"}}"#, &[("a:k", many(&["x", "y"]))]);
    unclear(r#"{"StringNotEqualsIfExists":{"a:k":"z"}}"#, &[("a:k", many(&[]))]);
    check(
        r#"{"StringEquals":{"a:k":"x"}}"#,
        &[("a:k", many(&["x"]))],
        Decision::Allow,
        Decision::ExplicitDeny,
    );
}

#[test]
fn k2_for_any_value_if_exists() {
    unclear(r#"{"ForAnyValue:StringEqualsIfExists":{"a:k":"x"}}"#, &[]);
}

#[test]
fn k3_empty_sets() {
    unclear(r#"{"Null":{"a:k":"true"}}"#, &[("a:k", many(&[]))]);
    unclear(r#"{"Null":{"a:k":"false"}}"#, &[("a:k", many(&[]))]);
    unclear(r#"{"ForAllValues:StringEquals":{"a:k":"x"}}"#, &[("a:k", many(&[""]))]);
    let empty = [("a:k", many(&[""]))];
    check(
        r#"{"ForAllValues:StringEquals":{"a:k":""}}"#,
        &empty,
        Decision::Allow,
        Decision::ExplicitDeny,
    );
}

#[test]
fn k4_not_resource_with_a_variable_without_value() {
    let with = |effect: &str| {
        let resource = "arn:aws:orders:us-east-1:111122223333:cart/${aws:username}";
        format!(r#"{{"Effect":"{effect}","Action":"*","NotResource":"{resource}"}}"#)
    };
    let request = request(user(), "orders:Get", ORDER);
    assert_eq!(decide(&request, &with_identity(&with("Allow"))).decision, Decision::ImplicitDeny);
    let both = format!("[{},{}]", all("Allow"), with("Deny"));
    assert_eq!(decide(&request, &with_identity(&both)).decision, Decision::ExplicitDeny);
}

#[test]
fn k5_arns_that_are_none() {
    unclear(r#"{"ArnNotLike":{"a:k":"arn:aws:s3:::b"}}"#, &[("a:k", one("b"))]);
    unclear(r#"{"ArnLike":{"a:k":"*"}}"#, &[("a:k", one("arn:aws:s3:::b"))]);
    unclear(r#"{"ArnNotLike":{"a:k":"*"}}"#, &[("a:k", one("arn:aws:s3:::b"))]);
    let value = [("a:k", one("b"))];
    check(
        r#"{"ArnLike":{"a:k":"arn:aws:s3:::b"}}"#,
        &value,
        Decision::ImplicitDeny,
        Decision::Allow,
    );
    // A pattern with fewer parts names no ARN.
    let arn = [("a:k", one("arn:aws:s3:::b"))];
    check(r#"{"ArnNotLike":{"a:k":"arn:aws:*:b"}}"#, &arn, Decision::Allow, Decision::ExplicitDeny);
    check(r#"{"ArnLike":{"a:k":"arn:aws:*:b"}}"#, &arn, Decision::ImplicitDeny, Decision::Allow);
    // A variable that holds a whole ARN is one part, or six.
    let arns = [("a:k", one("arn:aws:s3:::b")), ("a:v", one("arn:aws:s3:::b"))];
    unclear(r#"{"ArnEquals":{"a:k":"${a:v}"}}"#, &arns);
}

#[test]
fn k6_values_that_cannot_be_read() {
    for operator in ["NumericNotEquals", "DateNotEquals", "NotIpAddress"] {
        let value = if operator.contains("Ip") { "10.0.0.0/8" } else { "1999999999" };
        unclear(&format!(r#"{{"{operator}":{{"a:k":"{value}"}}}}"#), &[("a:k", one("x"))]);
    }
    // A spelling that is not read here may be one that the Deny's author had in mind.
    for (operator, value, spellings) in [
        ("NumericLessThan", "5", ["x", "", "1e3", "+5"]),
        ("DateLessThan", "2026-01-01", ["x", "", "2026-04", "2026"]),
        ("IpAddress", "10.0.0.0/8", ["x", "", "10.0.0.5/32", "010.0.0.5"]),
        ("Bool", "true", ["x", "", "yes", "1"]),
    ] {
        unclear(&format!(r#"{{"{operator}":{{"a:k":"nonsense"}}}}"#), &[("a:k", one(value))]);
        for spelling in spellings {
            let condition = format!(r#"{{"{operator}":{{"a:k":"{value}"}}}}"#);
            unclear(&condition, &[("a:k", one(spelling))]);
        }
    }
}

#[test]
fn a_buckets_name_may_hold_wildcards() {
    let s3 = |pattern: &str, object: &str, expected: Decision| {
        let statement = format!(r#"{{"Effect":"Allow","Action":"*","Resource":"{pattern}"}}"#);
        let mut request = request(user(), "s3:GetObject", &format!("arn:aws:s3:::{object}"));
        request.resource.account = request.principal.account();
        let decision = decide(&request, &with_identity(&statement)).decision;
        assert_eq!(decision, expected, "{pattern} {object}");
    };
    // The documentation's own example.
    s3("arn:aws:s3:::example?bucket/*", "example1bucket/key", Decision::Allow);
    s3("arn:aws:s3:::bucket*", "bucket/key", Decision::Allow);
    s3("arn:aws:s3:::*/*", "bucket/key", Decision::Allow);
    s3("arn:aws:s3:::buck?t/*", "bucket/key", Decision::Allow);
    s3("arn:aws:s3:::buck?t/*", "buckets/key", Decision::ImplicitDeny);
}

#[test]
fn a_chained_session_needs_its_own_leave_to_set_a_source_identity() {
    let role = "arn:aws:iam::111122223333:role/Target";
    let trust = |principal: &str| {
        let text = format!(
            r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Principal":{{"AWS":"{principal}"}},"Action":"sts:SetSourceIdentity"}}]}}"#
        );
        Attached {
            policy_type: PolicyType::Trust,
            name: "trust".into(),
            version_id: None,
            document: Arc::new(parse(&text).unwrap()),
            resolved: None,
        }
    };
    let session = || {
        let account = "111122223333".parse().unwrap();
        let role = "arn:aws:iam::111122223333:role/Source".parse().unwrap();
        Principal::Session(Session::new("aws", account, "Source", Some(role), "s1", None))
    };
    let decided = |principal: &str, identity: &str| {
        let request = request(session(), "sts:SetSourceIdentity", role);
        let policies = PolicySet { resource: Some(trust(principal)), ..with_identity(identity) };
        decide(&request, &policies).decision
    };
    let nothing = r#"{"Effect":"Allow","Action":"s3:*","Resource":"*"}"#;
    for principal in [
        "arn:aws:iam::111122223333:role/Source",
        "arn:aws:sts::111122223333:assumed-role/Source/s1",
        "*",
    ] {
        assert_eq!(decided(principal, nothing), Decision::ImplicitDeny, "{principal}");
        assert_eq!(decided(principal, &all("Allow")), Decision::Allow, "{principal}");
    }
}

#[test]
fn k7_wildcards_in_the_resource_type_and_short_arns() {
    fn check(pattern: &str, as_allow: Decision, as_deny: Decision) {
        let with = |effect: &str| {
            format!(r#"{{"Effect":"{effect}","Action":"*","Resource":"{pattern}"}}"#)
        };
        let request = request(user(), "orders:Get", ORDER);
        assert_eq!(
            decide(&request, &with_identity(&with("Allow"))).decision,
            as_allow,
            "{pattern}"
        );
        let both = format!("[{},{}]", all("Allow"), with("Deny"));
        assert_eq!(decide(&request, &with_identity(&both)).decision, as_deny, "{pattern}");
    }
    use Decision::{Allow, ExplicitDeny, ImplicitDeny};
    check("arn:aws:orders:*", ImplicitDeny, ExplicitDeny);
    check("arn:aws:orders", ImplicitDeny, ExplicitDeny);
    check("arn:aws:billing:*", ImplicitDeny, Allow);
    check("arn:aws:orders:us-east-1:111122223333:o*/42", ImplicitDeny, ExplicitDeny);
    check("arn:aws:orders:us-east-1:111122223333:o*", ImplicitDeny, ExplicitDeny);
    check("arn:aws:orders:us-east-1:111122223333:*", Allow, ExplicitDeny);
    check("arn:aws:orders:us-east-1:111122223333:order/*", Allow, ExplicitDeny);
    check(
        "arn:aws:orders:${aws:RequestedRegion}:111122223333:order/42",
        ImplicitDeny,
        ExplicitDeny,
    );
}

#[test]
fn k8_not_principal_that_lists_too_little() {
    let check = |listed: &str, expected: Decision| {
        let mut set = with_identity(&all("Allow"));
        let statement = format!(
            r#"{{"Effect":"Deny","Action":"*","Resource":"*","NotPrincipal":{{"AWS":{listed}}}}}"#
        );
        set.resource = Some(attached(PolicyType::Resource, &statement));
        assert_eq!(
            decide(&request(user(), "orders:Get", ORDER), &set).decision,
            expected,
            "{listed}"
        );
    };
    check(r#"["arn:aws:iam::111122223333:user/alice","111122223333"]"#, Decision::Allow);
    check(r#""arn:aws:iam::111122223333:user/alice""#, Decision::ExplicitDeny);
    check(r#""111122223333""#, Decision::ExplicitDeny);
    check(r#""*""#, Decision::ExplicitDeny);
}

#[test]
fn k9_variables_where_the_pages_disagree() {
    let context = [("a:k", one("true")), ("a:v", one("true"))];
    unclear(r#"{"Bool":{"a:k":"${a:v}"}}"#, &context);
    unclear(r#"{"Null":{"a:k":"${a:v}"}}"#, &context);
    unclear(r#"{"NumericNotEquals":{"a:k":"${a:v}"}}"#, &context);
    unclear(r#"{"StringEquals":{"a:k":"${a:v"}}"#, &context);
}

#[test]
fn k10_ipv4_in_ipv6() {
    unclear(r#"{"IpAddress":{"a:k":"10.0.0.0/8"}}"#, &[("a:k", one("::ffff:10.0.0.1"))]);
    unclear(r#"{"NotIpAddress":{"a:k":"10.0.0.0/8"}}"#, &[("a:k", one("::ffff:10.0.0.1"))]);
    unclear(r#"{"IpAddress":{"a:k":"::ffff:10.0.0.0/104"}}"#, &[("a:k", one("10.0.0.1"))]);
    let context = [("a:k", one("::ffff:11.0.0.1"))];
    check(
        r#"{"IpAddress":{"a:k":"10.0.0.0/8"}}"#,
        &context,
        Decision::ImplicitDeny,
        Decision::Allow,
    );
}

#[test]
fn letters_outside_ascii() {
    let kelvin = [("a:k", one("\u{212a}"))];
    unclear(r#"{"StringEqualsIgnoreCase":{"a:k":"k"}}"#, &kelvin);
    unclear(r#"{"StringNotEqualsIgnoreCase":{"a:k":"k"}}"#, &kelvin);
}

#[test]
fn statements_that_belong_elsewhere() {
    let check = |policy_type, statement: &str, expected: Decision| {
        let mut set = with_identity(&all("Allow"));
        match policy_type {
            PolicyType::Identity => set.identity.push(attached(policy_type, statement)),
            _ => set.resource = Some(attached(policy_type, statement)),
        }
        assert_eq!(
            decide(&request(user(), "orders:Get", ORDER), &set).decision,
            expected,
            "{statement}"
        );
    };
    check(
        PolicyType::Identity,
        &all_for("Deny", r#"{"AWS":"444455556666"}"#),
        Decision::ExplicitDeny,
    );
    check(PolicyType::Identity, r#"{"Effect":"Deny","Action":"*"}"#, Decision::ExplicitDeny);
    check(PolicyType::Resource, &all("Deny"), Decision::ExplicitDeny);
    let set = with_resource(attached(PolicyType::Resource, &all("Allow")));
    assert_eq!(
        decide(&request(user(), "orders:Get", ORDER), &set).decision,
        Decision::ImplicitDeny
    );
    let set = with_identity(&all_for("Allow", "\"*\""));
    assert_eq!(
        decide(&request(user(), "orders:Get", ORDER), &set).decision,
        Decision::ImplicitDeny
    );
}

#[test]
fn what_is_missing_or_contradicts_itself() {
    let mut set = with_identity(&all("Allow"));
    set.missing.push("arn:aws:iam::111122223333:policy/gone".into());
    let verdict = decide(&request(user(), "orders:Get", ORDER), &set);
    assert_eq!(
        (verdict.decision, verdict.reason),
        (Decision::ImplicitDeny, Reason::CannotEvaluate)
    );
    // Not even a direct grant: the missing policy may deny.
    set.resource = Some(attached(PolicyType::Resource, &all_for("Allow", "\"*\"")));
    let verdict = decide(&request(user(), "orders:Get", ORDER), &set);
    assert_eq!(
        (verdict.decision, verdict.reason),
        (Decision::ImplicitDeny, Reason::CannotEvaluate)
    );

    let mut set = with_identity(&all("Allow"));
    set.boundary = Some(vec![]);
    let verdict = decide(&request(user(), "orders:Get", ORDER), &set);
    assert_eq!(
        (verdict.decision, verdict.reason),
        (Decision::ImplicitDeny, Reason::NotAllowedByBoundary)
    );

    let mut contradiction = request(user(), "orders:Get", ORDER);
    contradiction.resource.account = Some("444455556666".parse().unwrap());
    let verdict = decide(&contradiction, &with_identity(&all("Allow")));
    assert_eq!(
        (verdict.decision, verdict.reason),
        (Decision::ImplicitDeny, Reason::CannotEvaluate)
    );

    // Nobody says whose bucket it is: both sides must allow.
    let ownerless = request(user(), "s3:Get", "arn:aws:s3:::b");
    let verdict = decide(&ownerless, &with_identity(&all("Allow")));
    assert_eq!(
        (verdict.decision, verdict.reason),
        (Decision::ImplicitDeny, Reason::NoResourceAllow)
    );
}
