//! What must always hold, on generated worlds.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail")]

mod world;

use countersign_evaluator::{
    Attached, Context, ContextValue, Decision, PolicySet, PolicyType, Principal, Reason, Request,
    compiled, explain, reference::decide,
};
use proptest::prelude::*;
use proptest::sample::select;
use world::{ORDER, ROLE, SESSION, TARGET, USER, attached, request, session, user};

/// Statements that touch the requests below often enough to matter.
fn statement(has_principal: bool) -> impl Strategy<Value = String> {
    let effect = select(vec!["Allow", "Allow", "Deny"]);
    let action = select(vec![
        r#""Action":"*""#,
        r#""Action":"orders:*""#,
        r#""Action":["orders:Get?","sts:AssumeRole"]"#,
        r#""Action":"billing:Pay""#,
        r#""NotAction":"orders:Get""#,
        r#""NotAction":"billing:*""#,
    ]);
    let resource = select(vec![
        r#""Resource":"*""#,
        r#""Resource":"arn:aws:orders:*:*:order/*""#,
        r#""Resource":"arn:aws:orders:us-east-1:111122223333:order/${a:name, '42'}""#,
        r#""Resource":"arn:aws:iam::111122223333:role/Target""#,
        r#""Resource":"arn:aws:orders:*""#,
        r#""NotResource":"arn:aws:orders:us-east-1:111122223333:order/${a:none}""#,
        r#""NotResource":"arn:aws:billing:*:*:invoice/*""#,
    ]);
    let principal = select(vec![
        r#","Principal":"*""#.to_owned(),
        format!(r#","Principal":{{"AWS":"{USER}"}}"#),
        format!(r#","Principal":{{"AWS":["{ROLE}","{SESSION}"]}}"#),
        r#","Principal":{"AWS":"111122223333"}"#.to_owned(),
        r#","Principal":{"AWS":"444455556666"}"#.to_owned(),
        format!(r#","NotPrincipal":{{"AWS":["{USER}","111122223333"]}}"#),
        r#","NotPrincipal":{"AWS":"444455556666"}"#.to_owned(),
    ]);
    let principal = if has_principal { principal.boxed() } else { Just(String::new()).boxed() };
    let condition = select(vec![
        "",
        "",
        r#","Condition":{"StringEquals":{"a:k":"x"}}"#,
        r#","Condition":{"StringNotLike":{"a:k":["x*","${a:name}"]}}"#,
        r#","Condition":{"ForAllValues:StringEquals":{"a:k":["x","y"]}}"#,
        r#","Condition":{"ForAnyValue:NumericLessThanIfExists":{"a:n":"5"}}"#,
        r#","Condition":{"NotIpAddress":{"aws:SourceIp":"10.0.0.0/8"},"Null":{"a:k":"false"}}"#,
        r#","Condition":{"BoolIfExists":{"a:b":true}}"#,
        r#","Condition":{"DateLessThan":{"aws:CurrentTime":"2026-06-01"}}"#,
    ]);
    (effect, action, resource, principal, condition).prop_map(
        |(effect, action, resource, principal, condition)| {
            format!(r#"{{"Effect":"{effect}",{action},{resource}{principal}{condition}}}"#)
        },
    )
}

fn policy(policy_type: PolicyType) -> impl Strategy<Value = (PolicyType, Vec<String>)> {
    let has_principal =
        matches!(policy_type, PolicyType::Resource | PolicyType::Trust | PolicyType::Rcp);
    prop::collection::vec(statement(has_principal), 1..4)
        .prop_map(move |statements| (policy_type, statements))
}

fn policies(policy_type: PolicyType) -> impl Strategy<Value = Vec<Attached>> {
    prop::collection::vec(policy(policy_type).prop_map(|(t, s)| built(t, &s)), 0..3)
}

fn built(policy_type: PolicyType, statements: &[String]) -> Attached {
    attached(policy_type, &format!("[{}]", statements.join(",")))
}

fn value() -> impl Strategy<Value = ContextValue> {
    let text = select(vec!["x", "y", "", "7", "true", "42", "10.1.2.3", "2026-01-01T00:00:00Z"]);
    prop_oneof![
        text.clone().prop_map(ContextValue::from),
        prop::collection::vec(text.prop_map(str::to_owned), 0..3).prop_map(ContextValue::Many),
    ]
}

fn context() -> impl Strategy<Value = Context> {
    let key = select(vec!["a:k", "a:n", "a:b", "a:name", "aws:SourceIp", "aws:CurrentTime"]);
    prop::collection::btree_map(key, value(), 0..6).prop_map(|values| {
        let mut context = Context::new();
        for (key, value) in values {
            context.insert(key, value).unwrap();
        }
        context
    })
}

fn question() -> impl Strategy<Value = Request> {
    let who = prop_oneof![Just(user()), Just(session())];
    let what = select(vec![
        ("orders:Get", ORDER),
        ("orders:Get", "arn:aws:orders:us-east-1:444455556666:order/42"),
        ("billing:Pay", "*"),
        ("sts:AssumeRole", TARGET),
    ]);
    (who, what, context()).prop_map(
        |(principal, (action, resource), context): (Principal, _, _)| Request {
            context,
            ..request(principal, action, resource)
        },
    )
}

fn set() -> impl Strategy<Value = PolicySet> {
    let resource_type = select(vec![PolicyType::Resource, PolicyType::Trust]);
    let resource = resource_type.prop_flat_map(policy).prop_map(|(t, s)| built(t, &s));
    (
        policies(PolicyType::Identity),
        prop::option::weighted(0.3, policies(PolicyType::Boundary)),
        prop::option::weighted(0.3, policies(PolicyType::Session)),
        prop::option::of(resource),
        prop::collection::vec(policies(PolicyType::Scp), 0..2),
        prop::collection::vec(policies(PolicyType::Rcp), 0..2),
    )
        .prop_map(|(identity, boundary, session, resource, scps, rcps)| PolicySet {
            identity,
            boundary,
            session,
            resource,
            scps,
            rcps,
            ..PolicySet::default()
        })
}

/// The same policy with its statements in another order.
fn turned(attached: &Attached) -> Attached {
    let source = attached.document.source();
    let document = countersign_policy::json::read(&source, 32).unwrap();
    let countersign_policy::json::Node::Object(members) = &document.node else {
        panic!("an object")
    };
    let countersign_policy::json::Node::Array(values) = &members[1].value.node else {
        panic!("an array")
    };
    let statements: Vec<String> =
        values.iter().rev().map(|value| source[value.bytes.clone()].to_owned()).collect();
    Attached { resolved: attached.resolved.clone(), ..built(attached.policy_type, &statements) }
}

fn turned_all(list: &[Attached]) -> Vec<Attached> {
    list.iter().rev().map(turned).collect()
}

fn rank(decision: Decision) -> u8 {
    match decision {
        Decision::Allow => 2,
        Decision::ImplicitDeny => 1,
        Decision::ExplicitDeny => 0,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn the_order_of_statements_and_policies_never_matters(request in question(), set in set()) {
        let other = PolicySet {
            identity: turned_all(&set.identity),
            boundary: set.boundary.as_deref().map(turned_all),
            session: set.session.as_deref().map(turned_all),
            resource: set.resource.as_ref().map(turned),
            scps: set.scps.iter().map(|level| turned_all(level)).collect(),
            rcps: set.rcps.iter().map(|level| turned_all(level)).collect(),
            ..PolicySet::default()
        };
        prop_assert_eq!(decide(&request, &set).decision, decide(&request, &other).decision);
    }

    #[test]
    fn adding_a_deny_never_allows_more(request in question(), set in set(), deny in statement(false)) {
        let before = decide(&request, &set).decision;
        let mut after = set;
        after.identity.push(attached(PolicyType::Identity, &deny.replace("\"Allow\"", "\"Deny\"")));
        prop_assert!(rank(decide(&request, &after).decision) <= rank(before));
    }

    #[test]
    fn a_matching_deny_overrides_everything(request in question(), set in set(), place in 0_u8..6) {
        let deny = world::all("Deny");
        let deny_for = world::all_for("Deny", "\"*\"");
        let mut set = set;
        match place {
            0 => set.identity.push(attached(PolicyType::Identity, &deny)),
            1 => set.boundary.get_or_insert_default().push(attached(PolicyType::Boundary, &deny)),
            2 => set.session.get_or_insert_default().push(attached(PolicyType::Session, &deny)),
            3 => set.scps.push(vec![attached(PolicyType::Scp, &deny)]),
            4 => set.rcps.push(vec![attached(PolicyType::Rcp, &deny_for)]),
            _ => set.resource = Some(attached(PolicyType::Resource, &deny_for)),
        }
        let verdict = decide(&request, &set);
        prop_assert_eq!(verdict.decision, Decision::ExplicitDeny);
        prop_assert!(!verdict.determining.is_empty());
    }

    #[test]
    fn without_an_allow_nothing_is_allowed(request in question(), set in set()) {
        let only_denies = |attached: &Attached| {
            let source = attached.document.source().replace("\"Allow\"", "\"Deny\"");
            let document = std::sync::Arc::new(countersign_policy::parse::parse(&source).unwrap());
            Attached { document, ..attached.clone() }
        };
        let mut set = set;
        set.identity = set.identity.iter().map(only_denies).collect();
        set.resource = set.resource.as_ref().map(only_denies);
        prop_assert_ne!(decide(&request, &set).decision, Decision::Allow);
    }

    #[test]
    fn a_policy_that_mentions_others_changes_nothing(request in question(), set in set(), effect in select(vec!["Allow", "Deny"])) {
        let mut before = set;
        before.resource = None;
        let mut after = before.clone();
        let other = r#"{"AWS":["arn:aws:iam::111122223333:user/bob","arn:aws:iam::111122223333:role/App","444455556666"],"Service":"ec2.amazonaws.com"}"#;
        after.resource = Some(attached(PolicyType::Resource, &world::all_for(effect, other)));
        prop_assert_eq!(decide(&request, &before).decision, decide(&request, &after).decision);
    }

    #[test]
    fn limits_never_allow_more(request in question(), set in set(), limit in policies(PolicyType::Boundary)) {
        let mut without = set;
        without.boundary = None;
        let mut with = without.clone();
        with.boundary = Some(limit);
        prop_assert!(rank(decide(&request, &with).decision) <= rank(decide(&request, &without).decision));
    }

    // ATTACKS 72: a narrowed token can do nothing that the token it came from cannot, and nothing that any of its narrowings does not allow
    // by itself.
    #[test]
    fn narrowing_never_allows_more(
        request in question(),
        set in set(),
        narrowings in prop::collection::vec(policies(PolicyType::Session), 0..3),
    ) {
        let narrowed = PolicySet { narrowings: narrowings.clone(), ..set.clone() };
        let verdict = decide(&request, &narrowed);
        prop_assert_eq!(&verdict, &compiled::decide(&request, &narrowed));
        prop_assert!(rank(verdict.decision) <= rank(decide(&request, &set).decision));
        if verdict.decision == Decision::Allow {
            let mut alone = request.clone();
            alone.resource.account = alone.principal.account();
            for mut narrowing in narrowings {
                narrowing.iter_mut().for_each(|one| one.policy_type = PolicyType::Identity);
                let own = PolicySet { identity: narrowing, ..PolicySet::default() };
                let own = decide(&alone, &own);
                prop_assert_ne!(own.reason, Reason::NoIdentityAllow);
                prop_assert_ne!(own.decision, Decision::ExplicitDeny);
            }
        }
    }

    #[test]
    fn explain_agrees_with_decide(request in question(), set in set()) {
        let (verdict, explanation) = (decide(&request, &set), explain::explain(&request, &set));
        prop_assert_eq!(&verdict, &explanation.verdict);
        for statement in &explanation.statements {
            // What matched was stopped by nothing, and the other way round.
            prop_assert_eq!(statement.matched, statement.stopped_by.is_none());
            prop_assert_eq!(statement.matched, statement.failed_elements == 0);
        }
        if verdict.decision != Decision::ImplicitDeny {
            prop_assert!(explanation.nearest_misses.is_empty());
        }
    }
}

#[test]
fn the_default_is_to_deny() {
    for principal in [user(), session(), Principal::Service { name: "a.b".to_owned() }] {
        let found = decide(&request(principal, "orders:Get", ORDER), &PolicySet::default());
        assert_eq!((found.decision, found.determining.len()), (Decision::ImplicitDeny, 0));
    }
}
