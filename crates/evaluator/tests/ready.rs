//! Policies made ready: the same verdicts, no less work than there is, and "always" is always.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail")]

mod generated;

use std::sync::Arc;

use countersign_evaluator::{
    Attached, Context, ContextValue, Decision, PolicySet, PolicyType, Principal, Ready, Request,
    Resource, always_allows,
    compiled::{self, Query, Value},
    effort::cost,
};
use countersign_policy::parse::parse;
use generated::{Rng, World, request};

const CASES: usize = 4_000;

fn query<'a>(request: &'a Request, context: &'a [(&'a str, Value<'a>)]) -> Query<'a> {
    Query {
        principal: &request.principal,
        action: request.action.as_str(),
        resource: match &request.resource.arn {
            countersign_evaluator::ResourceArn::Any => "*",
            countersign_evaluator::ResourceArn::Arn(arn) => arn.as_str(),
        },
        resource_account: request.resource.account,
        context,
    }
}

/// Without what is not made ready.
fn plain(mut set: PolicySet) -> PolicySet {
    set.resource = None;
    let strip = |list: &mut Vec<Attached>| list.iter_mut().for_each(|one| one.resolved = None);
    strip(&mut set.identity);
    set.boundary.iter_mut().chain(&mut set.session).for_each(strip);
    let levels = set.scps.iter_mut().chain(&mut set.rcps).chain(&mut set.narrowings);
    levels.for_each(strip);
    set
}

#[test]
fn the_verdicts_and_the_work_are_the_same() {
    let mut rng = Rng(0x5EED);
    let mut found = [0; 3];
    for _ in 0..CASES {
        let set = plain(World::new(&mut rng).policy_set());
        let request = request(&mut rng);
        let verdict = compiled::decide(&request, &set);
        let ready = Ready::new(set.clone());
        // What one token was narrowed to is weighed with that token alone.
        let Some(ready) = ready else {
            assert!(!set.narrowings.is_empty());
            continue;
        };
        assert!(set.narrowings.is_empty());
        let context: Vec<(&str, Value<'_>)> = request
            .context
            .iter()
            .map(|(key, value)| match value {
                ContextValue::One(text) => (key, Value::One(text)),
                ContextValue::Many(texts) => (key, Value::Strings(texts)),
            })
            .collect();
        // More keys than the compiled engine takes: the reference decides such a request.
        let Ok(outcome) = ready.evaluate(&query(&request, &context)) else {
            assert!(context.len() > compiled::MAX_KEYS);
            continue;
        };
        assert_eq!((outcome.decision, outcome.reason), (verdict.decision, verdict.reason));
        let named: Vec<(Arc<str>, usize)> = outcome
            .determining
            .iter()
            .map(|found| ready.statement(found).unwrap())
            .map(|(attached, own)| (Arc::clone(&attached.name), own.index))
            .collect();
        let expected: Vec<(Arc<str>, usize)> = verdict
            .determining
            .iter()
            .take(named.len())
            .map(|one| (Arc::clone(&one.policy), one.index))
            .collect();
        assert_eq!(named, expected);
        found[match verdict.decision {
            Decision::Allow => 0,
            Decision::ExplicitDeny => 1,
            Decision::ImplicitDeny => 2,
        }] += 1;
        // The bound is for single values.
        let single = |(_, value): (&str, &ContextValue)| matches!(value, ContextValue::One(_));
        if request.context.iter().all(single) {
            let length = |(_, value): (&str, &ContextValue)| match value {
                ContextValue::One(text) => text.len(),
                ContextValue::Many(_) => 0,
            };
            let texts = [request.action.as_str().len(), request.resource.arn.to_string().len()];
            let longest = request.context.iter().map(length).chain(texts).max().unwrap();
            let most = ready.weight().most(u64::try_from(longest).unwrap());
            assert!(cost(&request, &set, false) <= most);
        }
    }
    assert!(found.iter().all(|count| *count > CASES / 100), "{found:?}");
}

fn attached(policy_type: PolicyType, statements: &str) -> Attached {
    let text = format!(r#"{{"Version":"2012-10-17","Statement":[{statements}]}}"#);
    Attached {
        policy_type,
        name: "p".into(),
        version_id: None,
        document: Arc::new(parse(&text).unwrap()),
        resolved: None,
    }
}

const ALLOW: &str = r#"{"Effect":"Allow","Action":"ask:*","Resource":"*"}"#;

#[test]
fn what_is_always_allowed() {
    fn check(change: impl FnOnce(&mut PolicySet), expected: bool) {
        let identity = vec![attached(PolicyType::Identity, ALLOW)];
        let mut set = PolicySet { identity, ..PolicySet::default() };
        change(&mut set);
        assert_eq!(always_allows(&set, &"ask:Now".parse().unwrap()), expected);
    }
    let one = |statement: &str| vec![attached(PolicyType::Identity, statement)];
    check(|_| {}, true);
    check(|set| set.identity.clear(), false);
    check(|set| set.missing.push("p".into()), false);
    for (statement, expected) in [
        (r#"{"Effect":"Allow","Action":"*","Resource":"*"}"#, true),
        (r#"{"Effect":"Allow","Action":"ASK:n*","Resource":["arn:aws:a:::b","*"]}"#, true),
        (r#"{"Effect":"Allow","NotAction":"other:*","Resource":"*"}"#, false),
        (r#"{"Effect":"Allow","Action":"ask:Other","Resource":"*"}"#, false),
        (r#"{"Effect":"Allow","Action":"ask:*","NotResource":"arn:aws:a:::b"}"#, false),
        (r#"{"Effect":"Allow","Action":"ask:*","Resource":"arn:aws:a:::*"}"#, false),
        (
            r#"{"Effect":"Allow","Action":"ask:*","Resource":"*","Condition":{"Bool":{"a:b":"true"}}}"#,
            false,
        ),
    ] {
        check(|set| set.identity = one(statement), expected);
    }
    for (statement, expected) in [
        (r#"{"Effect":"Deny","Action":"ask:Other","Resource":"*"}"#, true),
        (r#"{"Effect":"Deny","Action":"ask:N?w","Resource":"arn:aws:a:::b"}"#, false),
        (r#"{"Effect":"Deny","NotAction":"ask:Now","Resource":"*"}"#, false),
        (
            r#"{"Effect":"Deny","Action":"*","Resource":"*","Condition":{"Bool":{"a:b":"true"}}}"#,
            false,
        ),
    ] {
        check(|set| set.identity.extend(one(statement)), expected);
        check(|set| set.boundary = Some([one(ALLOW), one(statement)].concat()), expected);
        check(|set| set.rcps.push(one(statement)), expected);
    }
    check(|set| set.boundary = Some(Vec::new()), false);
    check(|set| set.boundary = Some(one(ALLOW)), true);
    check(|set| set.session = Some(Vec::new()), false);
    check(|set| set.scps = vec![one(ALLOW), one(ALLOW)], true);
    check(|set| set.scps = vec![one(ALLOW), Vec::new()], false);
    check(|set| set.narrowings = vec![one(ALLOW), one(ALLOW)], true);
    check(|set| set.narrowings = vec![one(ALLOW), Vec::new()], false);
}

/// What is said to be allowed always is, whatever else is in the request.
#[test]
fn always_is_always() {
    let mut rng = Rng(0xA1);
    let mut found = 0;
    for turn in 0..CASES {
        let mut set = plain(World::new(&mut rng).policy_set());
        let mut request = request(&mut rng);
        // Chance alone seldom allows so much.
        if turn % 2 == 0 {
            let all = r#"{"Effect":"Allow","Action":"*","Resource":"*"}"#;
            set.identity.push(attached(PolicyType::Identity, all));
            let limits = set.boundary.iter_mut().chain(&mut set.session).chain(&mut set.scps);
            limits
                .chain(&mut set.narrowings)
                .for_each(|list| list.push(attached(PolicyType::Scp, all)));
        }
        let is_local = match &request.principal {
            Principal::User { .. } | Principal::Role { .. } | Principal::Session(_) => true,
            Principal::FederatedUser { .. }
            | Principal::AccountRoot { .. }
            | Principal::Service { .. }
            | Principal::WebIdentity { .. }
            | Principal::External(_) => false,
        };
        if !is_local || request.action.service().eq_ignore_ascii_case("sts") {
            continue;
        }
        let account = request.principal.account();
        let arn = format!("arn:aws:orders:eu-west-1:{}:order/{turn}", account.unwrap());
        request.resource = Resource { arn: arn.parse().unwrap(), account };
        if always_allows(&set, &request.action) {
            found += 1;
            assert_eq!(compiled::decide(&request, &set).decision, Decision::Allow);
            request.context = Context::new();
            assert_eq!(compiled::decide(&request, &set).decision, Decision::Allow);
        }
    }
    assert!(found > CASES / 100, "{found}");
}
