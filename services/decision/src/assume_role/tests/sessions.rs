//! What a session is asked to carry, hands on, and is limited by.

use super::*;

/// `Target` with the statements, for Alice and the sessions of `App`.
fn target(statements: &[&str]) -> World {
    let mut world = world();
    let resolved = [
        (format!("arn:aws:iam::{OURS}:user/alice"), StoredRealm::Countersign, "AIDAALICE"),
        (format!("arn:aws:iam::{OURS}:role/App"), StoredRealm::Countersign, "AROAAPP"),
        (format!("arn:aws:iam::{AWS}:user/bob"), StoredRealm::Aws, ""),
    ];
    let statements: Vec<String> = statements
        .iter()
        .map(|rest| {
            format!(
                r#"{{"Principal":{{"AWS":["arn:aws:iam::{OURS}:user/alice","arn:aws:iam::{OURS}:role/App","arn:aws:iam::{AWS}:user/bob"]}},{rest}}}"#
            )
        })
        .collect();
    let trust = statements.join(",");
    put(&mut world, "r/Target", Kind::Role(trusting(OURS, "Target", &trust, &resolved)));
    world
}

const ASSUME: &str = r#""Effect":"Allow","Action":"sts:AssumeRole""#;
const TAG: &str = r#""Effect":"Allow","Action":"sts:TagSession""#;
const SOURCE: &str = r#""Effect":"Allow","Action":"sts:SetSourceIdentity""#;

fn wishing(
    mut question: AssumeRoleQuestion,
    change: impl FnOnce(&mut Wished),
) -> AssumeRoleQuestion {
    change(&mut question.wished);
    question
}

fn tagged(wished: &mut Wished) {
    wished.tags = BTreeMap::from([("Team".into(), "a".into()), ("Cost".into(), "".into())]);
    wished.transitive_tag_keys = BTreeSet::from(["Team".into()]);
}

// RULES.md 41, X6.
#[test]
fn marks_need_actions_of_their_own() {
    let check = |statements: &[&str], change: fn(&mut Wished), reason: &str| {
        let world = target(statements);
        for caller in [user("alice"), bob()] {
            let pin = caller.realm == Realm::Aws;
            let question = wishing(question(caller, "Target"), change);
            let granted =
                (reason == "ALLOWED_BY_TRUST_POLICY").then_some(("AROATARGET", None, pin));
            super::tests::check(&world, &question, reason, granted);
        }
    };
    let named = |w: &mut Wished| w.source_identity = Some("alice".into());
    check(&[ASSUME], |_| {}, "ALLOWED_BY_TRUST_POLICY");
    check(&[ASSUME], tagged, "NO_TRUST_ALLOW");
    check(&[ASSUME, TAG], tagged, "ALLOWED_BY_TRUST_POLICY");
    check(&[TAG], tagged, "NO_TRUST_ALLOW");
    check(&[ASSUME], named, "NO_TRUST_ALLOW");
    check(&[ASSUME, TAG], named, "NO_TRUST_ALLOW");
    check(&[ASSUME, SOURCE], named, "ALLOWED_BY_TRUST_POLICY");
    check(
        &[ASSUME, TAG, r#""Effect":"Deny","Action":"sts:TagSession""#],
        tagged,
        "DENIED_BY_TRUST_POLICY",
    );
    // What they say is for conditions to see, in every action.
    let when = |condition: &str| format!(r#"{ASSUME},"Condition":{condition}"#);
    for (condition, change, good) in [
        (r#"{"StringEquals":{"aws:RequestTag/team":"a"}}"#, tagged as fn(&mut Wished), true),
        (r#"{"StringEquals":{"aws:RequestTag/Team":"b"}}"#, tagged, false),
        (r#"{"ForAllValues:StringEquals":{"aws:TagKeys":["Team","Cost"]}}"#, tagged, true),
        (r#"{"ForAllValues:StringEquals":{"aws:TagKeys":["Team"]}}"#, tagged, false),
        (r#"{"ForAnyValue:StringEquals":{"sts:TransitiveTagKeys":"Team"}}"#, tagged, true),
        (r#"{"ForAnyValue:StringEquals":{"sts:TransitiveTagKeys":"Cost"}}"#, tagged, false),
        (r#"{"StringEquals":{"sts:SourceIdentity":"alice"}}"#, named, true),
        (r#"{"StringEquals":{"sts:SourceIdentity":"bob"}}"#, named, false),
        (r#"{"Null":{"aws:TagKeys":"true"}}"#, named, true),
    ] {
        let reason = if good { "ALLOWED_BY_TRUST_POLICY" } else { "NO_TRUST_ALLOW" };
        check(&[&when(condition), TAG, SOURCE], change, reason);
    }
    // A service that the caller speaks for needs them too, and its own Deny holds for them.
    let mut world = world();
    put(
        &mut world,
        "b/1",
        Kind::ServicePrincipalBinding(binding(
            "Machine",
            StoredRealm::Countersign,
            OURS,
            "AIDADAVE",
        )),
    );
    let dave = wishing(question(user("dave"), "Machine"), tagged);
    super::tests::check(&world, &dave, "NO_TRUST_ALLOW", None);
}

fn chain(
    world: &World,
    question: &AssumeRoleQuestion,
    change: impl FnOnce(&mut Session),
) -> Result<(String, Option<Grant>), String> {
    let mut session = samples::session(OURS, "App");
    change(&mut session);
    let decided = decide(world, &Asker::Session(Box::new(session)), question, NOW);
    let (judgement, grant) = decided.map_err(|refusal| refusal.to_string())?;
    assert_eq!(judgement.decision == Decision::Allow, grant.is_some());
    Ok((judgement.reason.as_str_name().trim_start_matches("DECISION_REASON_").to_owned(), grant))
}

/// Of no account: the session is what counts.
fn chaining(change: impl FnOnce(&mut Wished)) -> AssumeRoleQuestion {
    let mut question = wishing(question(user("nobody"), "Target"), change);
    question.proven = Proven::Token(convert::SubjectToken("x".into()), Default::default());
    question
}

// RULES.md 38e, X1; ATTACKS 46, 87.
#[test]
fn a_session_chains_as_itself() {
    let world = target(&[ASSUME]);
    let check = |change: fn(&mut Session), expected: &str| {
        let (reason, grant) = chain(&world, &chaining(|_| {}), change).unwrap();
        assert_eq!(reason, expected);
        if let Some(grant) = grant {
            assert_eq!(
                (grant.role.unique_id.as_str(), grant.duration_seconds),
                ("AROATARGET", 3600)
            );
            assert!(!grant.pin_required);
        }
    };
    check(|_| {}, "ALLOWED_BY_TRUST_POLICY");
    check(|s| s.facts.role_id = "AROABEFORE".into(), "ROLE_RECREATED");
    check(|s| s.facts.role_name = "Gone".into(), "PRINCIPAL_NOT_FOUND");
    check(
        |s| {
            s.facts.role_name = "Little".into();
            s.facts.role_id = "AROALITTLE".into();
        },
        "NO_TRUST_ALLOW",
    );
    // A session policy limits chaining too.
    check(|s| s.facts.session_policies = vec![policy("Allow", "orders:*")], "NO_SESSION_ALLOW");
    check(|s| s.facts.session_policies = vec![policy("Allow", "sts:*")], "ALLOWED_BY_TRUST_POLICY");
    check(|s| s.facts.session_policies = vec![policy("Deny", "sts:*")], "DENIED_BY_SESSION_POLICY");

    let lasting =
        |seconds: u32| AssumeRoleQuestion { duration_seconds: Some(seconds), ..chaining(|_| {}) };
    assert_eq!(chain(&world, &lasting(3600), |_| {}).unwrap().1.unwrap().duration_seconds, 3600);
    let said = chain(&world, &lasting(3601), |_| {}).unwrap_err();
    assert!(said.starts_with("duration_seconds: 3601: with role chaining"), "{said}");
}

fn policy(effect: &str, action: &str) -> Arc<countersign_policy::Document> {
    let text = samples::document(&[&format!(
        r#"{{"Effect":"{effect}","Action":"{action}","Resource":"*"}}"#
    )]);
    Arc::new(countersign_policy::parse::parse(&text).unwrap())
}

#[test]
fn a_session_speaks_for_no_service() {
    let mut world = world();
    put(
        &mut world,
        "b/1",
        Kind::ServicePrincipalBinding(binding(
            "Machine",
            StoredRealm::Countersign,
            OURS,
            "AROAAPP",
        )),
    );
    let mut question = chaining(|_| {});
    question.role_arn = format!("arn:aws:iam::{OURS}:role/Machine").parse().unwrap();
    assert_eq!(chain(&world, &question, |_| {}).unwrap().0, "NO_TRUST_ALLOW");
}

// RULES.md X3, X4.
#[test]
fn marks_are_handed_on() {
    let marked = |session: &mut Session| {
        session.facts.session_tags =
            BTreeMap::from([("Team".into(), "a".into()), ("Cost".into(), "1".into())]);
        session.transitive_tag_keys = BTreeSet::from(["Team".into()]);
    };
    let open = target(&[ASSUME, TAG]);
    let marks =
        |question: &AssumeRoleQuestion| chain(&open, question, marked).unwrap().1.unwrap().marks;
    let handed_on = marks(&chaining(|_| {}));
    assert_eq!(handed_on.tags, BTreeMap::from([("Team".into(), "a".into())]));
    assert_eq!(handed_on.transitive_tag_keys, BTreeSet::from(["Team".into()]));
    let more = marks(&chaining(|w| w.tags = BTreeMap::from([("Cost".into(), "2".into())])));
    assert_eq!(more.tags.len(), 2);
    assert_eq!(more.transitive_tag_keys.len(), 1);
    for key in ["Team", "tEAM"] {
        let again = chaining(|w| w.tags = BTreeMap::from([(key.into(), "a".into())]));
        let said = chain(&open, &again, marked).unwrap_err();
        assert!(said.contains("cannot be set again"), "{said}");
    }
    let many = |count: usize| {
        chaining(|w| w.tags = (0..count).map(|n| (format!("k{n}"), "v".into())).collect())
    };
    assert!(chain(&open, &many(49), marked).is_ok());
    assert!(chain(&open, &many(50), marked).unwrap_err().starts_with("tags:"));
    // What is handed on needs sts:TagSession, and conditions see it.
    assert_eq!(chain(&target(&[ASSUME]), &chaining(|_| {}), marked).unwrap().0, "NO_TRUST_ALLOW");
    let when = format!(r#"{ASSUME},"Condition":{{"StringEquals":{{"aws:RequestTag/Team":"a"}}}}"#);
    let seen = chain(&target(&[&when, TAG]), &chaining(|_| {}), marked).unwrap().0;
    assert_eq!(seen, "ALLOWED_BY_TRUST_POLICY");

    // The source identity needs the caller's own leave as well as the role's.
    let named = |session: &mut Session| session.facts.source_identity = Some("alice".into());
    let mut leave = target(&[ASSUME, SOURCE]);
    assert_eq!(chain(&leave, &chaining(|_| {}), named).unwrap().0, "NO_IDENTITY_ALLOW");
    let app = samples::role(
        OURS,
        "App",
        &[("sts", r#"{"Effect":"Allow","Action":"sts:*","Resource":"*"}"#)],
    );
    put(&mut leave, "r/App", Kind::Role(app));
    let ask =
        |name: &str| chaining(|w| w.source_identity = (!name.is_empty()).then(|| name.into()));
    for name in ["", "alice"] {
        let (reason, grant) = chain(&leave, &ask(name), named).unwrap();
        assert_eq!(reason, "ALLOWED_BY_TRUST_POLICY");
        assert_eq!(grant.unwrap().marks.source_identity.as_deref(), Some("alice"));
    }
    for name in ["bob", "Alice"] {
        assert_eq!(chain(&leave, &ask(name), named).unwrap().0, "SOURCE_IDENTITY_SET");
    }
    let first = chain(&leave, &ask("bob"), |_| {}).unwrap().1.unwrap();
    assert_eq!(first.marks.source_identity.as_deref(), Some("bob"));
}

/// What a session of `App`, limited so, may do on orders. App may do all but delete.
fn limited(change: impl FnOnce(&mut Wished)) -> Vec<&'static str> {
    let world = world();
    let question = wishing(question(user("alice"), "Target"), change);
    let documents = decided(&world, &question).unwrap().1.unwrap().session_policies;
    let facts = countersign_evaluator::SessionFacts {
        session_policies: documents
            .iter()
            .map(|text| Arc::new(countersign_policy::parse::parse(text).unwrap()))
            .collect(),
        ..samples::session(OURS, "App").facts
    };
    let subject = world.snapshot().session_subject(&facts).unwrap();
    let actions = ["orders:GetOrder", "orders:PutOrder", "orders:ListOrders", "orders:DeleteOrder"];
    let may = |action: &&str| {
        let resource = Resource {
            arn: ResourceArn::Arn(format!("arn:aws:orders::{OURS}:order/1").parse().unwrap()),
            account: Some(OURS.parse().unwrap()),
        };
        let request = Request {
            principal: subject.principal.clone(),
            action: action.parse().unwrap(),
            resource,
            context: Context::new(),
        };
        let mut policies = subject.policy_set();
        let direct = compiled::decide(&request, &policies).is_allow();
        // A resource policy that names the session allows by itself, whatever session policies leave out; not past a scope.
        let open = format!(
            r#"{{"Version":"2012-10-17","Statement":{{"Effect":"Allow","Principal":{{"AWS":"arn:aws:sts::{OURS}:assumed-role/App/s1"}},"Action":"*","Resource":"*"}}}}"#
        );
        policies.resource = Some(convert::resource_policy_attached(Arc::new(
            countersign_policy::parse::parse(&open).unwrap(),
        )));
        let wished = &question.wished;
        if wished.scope.is_some() && wished.policy.is_none() && wished.policy_arns.is_empty() {
            assert_eq!(compiled::decide(&request, &policies).is_allow(), direct, "{action}");
        }
        direct
    };
    actions.into_iter().filter(may).collect()
}

// ATTACKS 72: what is asked for, within what the role may do; several limits are never wider than one.
#[test]
fn session_policies_and_scopes_only_narrow() {
    let scope = |text: &str| {
        let request = countersign_proto::decision::v1::AuthorizeAssumeRoleRequest {
            identity: Some(countersign_proto::decision::v1::ProvenIdentity {
                realm: "countersign".into(),
                partition: "aws".into(),
                account_id: OURS.into(),
                unique_id: "AIDAALICE".into(),
                arn: format!("arn:aws:iam::{OURS}:user/alice"),
            }),
            proof_type: "p".into(),
            role_arn: format!("arn:aws:iam::{OURS}:role/Target"),
            role_session_name: "s1".into(),
            source_address: "10.0.0.1".into(),
            scope: text.into(),
            ..Default::default()
        };
        convert::assume_role_question(request).unwrap().wished.scope
    };
    let inline = |action: &str| Some(policy("Allow", action).source().to_string());
    let orders = || vec![format!("arn:aws:iam::{OURS}:policy/Orders")];
    let (get, put, list) = ("orders:GetOrder", "orders:PutOrder", "orders:ListOrders");
    assert_eq!(limited(|_| {}), [get, put, list]);
    assert_eq!(limited(|w| w.policy = inline("orders:Get*")), [get]);
    assert_eq!(limited(|w| w.policy = inline("orders:Delete*")), Vec::<&str>::new());
    assert_eq!(limited(|w| w.policy_arns = orders()), [get, put, list]);
    assert_eq!(limited(|w| w.scope = scope("orders:Get* orders:list*")), [get, list]);
    assert_eq!(limited(|w| w.scope = scope("orders:*")), [get, put, list]);
    assert_eq!(limited(|w| w.scope = scope("orders:Delete*")), Vec::<&str>::new());
    assert_eq!(limited(|w| w.scope = scope("*")), [get, put, list]);
    // Of a scope and a policy, what both allow; of two policies, what either does.
    assert_eq!(
        limited(|w| {
            w.scope = scope("orders:Get* orders:Delete*");
            w.policy = inline("orders:List*");
        }),
        Vec::<&str>::new()
    );
    assert_eq!(
        limited(|w| {
            w.scope = scope("orders:Get* orders:List*");
            w.policy_arns = orders();
            w.policy = inline("orders:Put*");
        }),
        [get, list]
    );
    assert_eq!(
        limited(|w| {
            w.policy_arns = orders();
            w.policy = inline("orders:Get*");
        }),
        [get, put, list]
    );
}

#[test]
fn managed_session_policies_are_of_the_roles_account_or_awss() {
    let mut world = world();
    let arn = "arn:aws:iam::aws:policy/Everything";
    let theirs = format!("arn:aws:iam::{THEIRS}:policy/Theirs");
    for (arn, account) in [(arn, "aws"), (theirs.as_str(), THEIRS)] {
        let record = countersign_proto::policy::v1::ManagedPolicyRecord {
            account_id: account.into(),
            arn: arn.into(),
            default_version_id: "v1".into(),
            document: samples::document(&[
                r#"{ "Effect": "Allow", "Action": "*", "Resource": "*" }"#,
            ]),
            ..Default::default()
        };
        put(&mut world, arn, Kind::ManagedPolicy(record));
    }
    let check = |arn: &str, expected: Option<&str>| {
        let question =
            wishing(question(user("alice"), "Target"), |w| w.policy_arns = vec![arn.into()]);
        let found = decided(&world, &question).map(|(_, grant)| grant.unwrap().session_policies);
        match (found, expected) {
            (Ok(found), Some(expected)) => assert_eq!(found, [expected]),
            (Err(refusal), None) => {
                let said = refusal.to_string();
                assert!(said.starts_with("policy_arns: ") && said.contains(arn), "{said}");
            }
            (found, expected) => panic!("{expected:?}: {found:?}"),
        }
    };
    let everything =
        r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}"#;
    check(arn, Some(everything));
    check(&theirs, None);
    check("arn:aws:iam::aws:policy/Nothing", None);
    check(&format!("arn:aws:iam::{OURS}:policy/orders"), None);
    check(&format!("arn:aws:iam::{OURS}:role/Target"), None);
    check("x", None);
    // Whoever may not assume the role does not learn which policies there are.
    let stranger =
        wishing(question(user("dave"), "Target"), |w| w.policy_arns = vec![theirs.clone()]);
    super::tests::check(&world, &stranger, "NO_TRUST_ALLOW", None);
}
