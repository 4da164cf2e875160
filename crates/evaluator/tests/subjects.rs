//! Subjects from a snapshot: the keys that Countersign alone sets (X10), and who is nobody.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may fail")]

mod world;

use std::collections::BTreeMap;
use std::sync::Arc;

use countersign_evaluator::snapshot::{
    AccountEntry, BindingEntry, CallerKey, Name, PolicyEntry, RoleEntry, UserEntry,
};
use countersign_evaluator::subject::{external_subject, service_subject};
use countersign_evaluator::{
    Context, ContextValue, Decision, ExternalPrincipal, PolicyType, Realm, Reason, Request,
    SessionFacts, Snapshot, Subject, SubjectError, reference::decide,
};
use countersign_policy::parse::parse;
use world::{ORDER, ROLE, USER, all, arn, attached, request, trust};

const MANAGED: &str = "arn:aws:iam::111122223333:policy/All";

fn tags(tags: &[(&str, &str)]) -> BTreeMap<String, String> {
    tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn role(unique_id: &str) -> RoleEntry {
    RoleEntry {
        account: "111122223333".parse().unwrap(),
        partition: Name::from("aws"),
        path: Name::from("/team/"),
        name: "App".to_owned(),
        unique_id: unique_id.to_owned(),
        inline: Vec::new(),
        attached: vec![Name::from(MANAGED)],
        boundary: None,
        tags: tags(&[("Team", "role"), ("env", "prod")]),
        trust: trust("Allow", "\"*\""),
        max_session_duration: 3600,
        sessions_revoked_before: None,
    }
}

fn snapshot() -> Snapshot {
    let mut snapshot = Snapshot::new();
    snapshot.put_account(AccountEntry::new("111122223333".parse().unwrap()));
    snapshot.put_user(UserEntry {
        account: "111122223333".parse().unwrap(),
        partition: Name::from("aws"),
        path: Name::from("/"),
        name: "alice".into(),
        unique_id: "AIDAALICE".into(),
        inline: Box::new([attached(PolicyType::Identity, &all("Allow"))]),
        attached: Default::default(),
        boundary: None,
        tags: tags(&[("team", "x")]),
        groups: Box::default(),
    });
    snapshot.put_role(role("AROAAPP"));
    let document =
        Arc::new(parse(r#"{"Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}"#).unwrap());
    snapshot.put_policy(PolicyEntry {
        arn: Arc::from(MANAGED),
        version_id: Arc::from("v2"),
        document,
    });
    snapshot
}

fn facts() -> SessionFacts {
    SessionFacts {
        account: "111122223333".parse().unwrap(),
        partition: "aws".to_owned(),
        role_name: "App".to_owned(),
        role_id: "AROAAPP".to_owned(),
        session_name: "s1".to_owned(),
        issued_at: 1_781_488_800,
        session_policies: Vec::new(),
        narrowings: Vec::new(),
        session_tags: tags(&[("team", "session")]),
        source_identity: Some("carol".to_owned()),
        federated: None,
    }
}

fn keys(context: &Context) -> Vec<(String, String)> {
    context
        .iter()
        .map(|(key, value)| match value {
            ContextValue::One(text) => (key.to_owned(), text.clone()),
            ContextValue::Many(texts) => (key.to_owned(), format!("{texts:?}")),
        })
        .collect()
}

fn check_keys(context: &Context, expected: &[(&str, &str)]) {
    let expected: Vec<(String, String)> =
        expected.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    assert_eq!(keys(context), expected);
}

#[test]
fn keys_of_each_principal() {
    let snapshot = snapshot();
    check_keys(
        &snapshot.user_subject(&arn(USER)).unwrap().keys,
        &[
            ("aws:PrincipalAccount", "111122223333"),
            ("aws:PrincipalArn", USER),
            ("aws:PrincipalIsAWSService", "false"),
            ("aws:PrincipalTag/team", "x"),
            ("aws:PrincipalType", "User"),
            ("aws:userid", "AIDAALICE"),
            ("aws:username", "alice"),
        ],
    );
    check_keys(
        &snapshot.session_subject(&facts()).unwrap().keys,
        &[
            ("aws:PrincipalAccount", "111122223333"),
            ("aws:PrincipalArn", ROLE),
            ("aws:PrincipalIsAWSService", "false"),
            ("aws:PrincipalTag/env", "prod"),
            ("aws:PrincipalTag/team", "session"),
            ("aws:PrincipalType", "AssumedRole"),
            ("aws:SourceIdentity", "carol"),
            ("aws:TokenIssueTime", "2026-06-15T02:00:00Z"),
            ("aws:userid", "AROAAPP:s1"),
        ],
    );
    check_keys(
        &service_subject("ec2.amazonaws.com").unwrap().keys,
        &[("aws:PrincipalIsAWSService", "true"), ("aws:PrincipalServiceName", "ec2.amazonaws.com")],
    );
    let external =
        ExternalPrincipal::new(arn("arn:aws:sts::999988887777:assumed-role/Deploy/i-1"), "AROAEXT")
            .unwrap();
    assert_eq!(external.name_form(), "role/Deploy");
    check_keys(
        &external_subject(external).unwrap().keys,
        &[
            ("aws:PrincipalAccount", "999988887777"),
            ("aws:PrincipalArn", "arn:aws:iam::999988887777:role/Deploy"),
            ("aws:PrincipalIsAWSService", "false"),
            ("aws:PrincipalType", "AssumedRole"),
            ("aws:userid", "AROAEXT:i-1"),
        ],
    );
    assert!(ExternalPrincipal::new(arn("arn:aws:iam::999988887777:root"), "x").is_err());
    assert!(
        ExternalPrincipal::new(arn("arn:aws:sts::999988887777:federated-user/x"), "x").is_err()
    );
}

#[test]
fn the_context_is_completed_and_nothing_is_shadowed() {
    let subject = snapshot().user_subject(&arn(USER)).unwrap();
    let mut brought = Context::new();
    brought.insert("aws:SourceIp", "10.0.0.1").unwrap();
    let context =
        subject.context(&brought, 1_781_488_800, Some("111122223333".parse().unwrap())).unwrap();
    assert_eq!(context.get("aws:currenttime"), Some(&ContextValue::from("2026-06-15T02:00:00Z")));
    assert_eq!(context.get("aws:EpochTime"), Some(&ContextValue::from("1781488800")));
    assert_eq!(context.get("aws:ResourceAccount"), Some(&ContextValue::from("111122223333")));
    assert_eq!(context.get("aws:SourceIp"), Some(&ContextValue::from("10.0.0.1")));
    for key in ["AWS:PrincipalArn", "aws:principaltag/Team", "aws:currentTime", "aws:USERNAME"] {
        let mut brought = Context::new();
        brought.insert(key, "mine").unwrap();
        let found = subject.context(&brought, 0, None);
        assert!(matches!(found, Err(SubjectError::DuplicateKey(_))), "{key}");
    }
    assert_eq!(
        subject.context(&Context::new(), i64::MAX, None),
        Err(SubjectError::InvalidTime(i64::MAX))
    );
}

#[test]
fn nobody() {
    let snapshot = snapshot();
    let user = |text: &str| snapshot.user_subject(&arn(text)).err();
    let no_user = |text: &str| Some(SubjectError::NoSuchUser(text.to_owned()));
    for text in [
        "arn:aws:iam::111122223333:user/Alice",
        "arn:aws:iam::111122223333:user/x/alice",
        "arn:aws-cn:iam::111122223333:user/alice",
        "arn:aws:iam::444455556666:user/alice",
        ROLE,
    ] {
        assert_eq!(user(text), no_user(text), "{text}");
    }
    let without_path = "arn:aws:iam::111122223333:role/App";
    assert_eq!(
        snapshot.role_subject(&arn(without_path)).err(),
        Some(SubjectError::NoSuchRole(without_path.to_owned()))
    );
    assert!(snapshot.role_subject(&arn(ROLE)).is_ok());
    let session = |change: fn(&mut SessionFacts)| {
        let mut facts = facts();
        change(&mut facts);
        snapshot.session_subject(&facts).err()
    };
    assert_eq!(session(|_| ()), None);
    assert_eq!(
        session(|f| f.role_id = "AROAOLD".to_owned()),
        Some(SubjectError::RoleRecreated(ROLE.to_owned()))
    );
    assert_eq!(
        session(|f| f.role_name = "app".to_owned()),
        Some(SubjectError::NoSuchRole("app".to_owned()))
    );
    assert_eq!(
        session(|f| f.partition = "aws-cn".to_owned()),
        Some(SubjectError::NoSuchRole("App".to_owned()))
    );
    assert!(matches!(
        session(|f| f.session_tags = tags(&[("a", "1"), ("A", "2")])),
        Some(SubjectError::DuplicateKey(_))
    ));
    assert!(snapshot.root_subject("aws", "444455556666".parse().unwrap()).is_err());
    assert!(snapshot.root_subject("aws", "111122223333".parse().unwrap()).is_ok());
}

fn ask(subject: &Subject) -> (Decision, Reason) {
    let mut request: Request = request(subject.principal.clone(), "orders:Get", ORDER);
    request.context = subject.context(&Context::new(), 0, None).unwrap();
    let verdict = decide(&request, &subject.policy_set());
    (verdict.decision, verdict.reason)
}

#[test]
fn policies_that_are_gone() {
    let mut snapshot = snapshot();
    let allowed = (Decision::Allow, Reason::AllowedByIdentityPolicy);
    assert_eq!(ask(&snapshot.session_subject(&facts()).unwrap()), allowed);
    assert_eq!(ask(&snapshot.user_subject(&arn(USER)).unwrap()), allowed);
    let mut bounded = role("AROAAPP");
    bounded.boundary = Some(Name::from("arn:aws:iam::111122223333:policy/gone"));
    snapshot.put_role(bounded);
    let not_allowed = (Decision::ImplicitDeny, Reason::NotAllowedByBoundary);
    assert_eq!(ask(&snapshot.session_subject(&facts()).unwrap()), not_allowed);
    snapshot.put_role(role("AROAAPP"));
    snapshot.remove_policy(MANAGED);
    let cannot = (Decision::ImplicitDeny, Reason::CannotEvaluate);
    assert_eq!(ask(&snapshot.session_subject(&facts()).unwrap()), cannot);
}

#[test]
fn session_policies_limit() {
    let mut facts = facts();
    let document =
        parse(r#"{"Statement":{"Effect":"Allow","Action":"orders:List","Resource":"*"}}"#).unwrap();
    facts.session_policies = vec![Arc::new(document)];
    let subject = snapshot().session_subject(&facts).unwrap();
    assert_eq!(ask(&subject), (Decision::ImplicitDeny, Reason::NotAllowedBySession));
}

#[test]
fn entities_are_found_replaced_and_removed() {
    let mut snapshot = snapshot();
    let before = snapshot.clone();
    let account = "111122223333".parse().unwrap();
    assert_eq!(snapshot.user(account, "ALICE").map(|user| &*user.unique_id), Some("AIDAALICE"));
    assert_eq!(snapshot.user_by_id("AIDAALICE").map(|user| &*user.name), Some("alice"));
    snapshot.put_role(role("AROANEW"));
    assert!(snapshot.role_by_id("AROAAPP").is_none());
    assert!(snapshot.role_by_id("AROANEW").is_some());
    snapshot.remove_role(account, "APP");
    snapshot.remove_user(account, "alice");
    assert!(snapshot.role(account, "App").is_none() && snapshot.role_by_id("AROANEW").is_none());
    assert!(snapshot.user_by_id("AIDAALICE").is_none());
    let counts = snapshot.counts();
    assert_eq!(
        (counts.accounts, counts.users, counts.roles, counts.policies, counts.bindings),
        (1, 0, 0, 1, 0)
    );
    // The clone is of its own revision.
    assert!(before.role_by_id("AROAAPP").is_some() && before.is_local(account));
}

#[test]
fn bindings_are_the_callers_and_the_roles_own() {
    let mut snapshot = snapshot();
    let caller = |unique_id: &str, realm| CallerKey {
        realm,
        partition: "aws".to_owned(),
        account: "999988887777".parse().unwrap(),
        unique_id: unique_id.to_owned(),
    };
    let bind = |caller: CallerKey, service: &str| BindingEntry {
        caller,
        service_principal: service.to_owned(),
        role_arn: arn(ROLE),
        role_id: "AROAAPP".to_owned(),
    };
    snapshot.put_binding(bind(caller("AROAEXT", Realm::Aws), "ec2.amazonaws.com"));
    snapshot.put_binding(bind(caller("AROAEXT", Realm::Aws), "lambda.amazonaws.com"));
    snapshot.put_binding(bind(caller("AROAZ", Realm::Aws), "ecs.amazonaws.com"));
    let services = |snapshot: &Snapshot, caller: &CallerKey, role: &str| -> Vec<String> {
        snapshot
            .bindings(caller, &arn(role))
            .map(|binding| binding.service_principal.clone())
            .collect()
    };
    let own = caller("AROAEXT", Realm::Aws);
    assert_eq!(services(&snapshot, &own, ROLE), ["ec2.amazonaws.com", "lambda.amazonaws.com"]);
    assert!(services(&snapshot, &caller("AROAEXT", Realm::Countersign), ROLE).is_empty());
    assert!(services(&snapshot, &own, "arn:aws:iam::111122223333:role/Other").is_empty());
    snapshot.remove_binding(&own, "ec2.amazonaws.com", &arn(ROLE));
    assert_eq!(services(&snapshot, &own, ROLE), ["lambda.amazonaws.com"]);
    // A role that was made anew is another one.
    snapshot.put_role(role("AROANEW"));
    assert!(services(&snapshot, &own, ROLE).is_empty());
}
