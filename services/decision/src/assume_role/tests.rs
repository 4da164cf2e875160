use countersign_proto::policy::v1::{Realm as StoredRealm, record::Record as Kind};

use super::*;
use crate::samples::{self, AWS, NOW, OURS, THEIRS, binding, put, trusting, world};

fn identity(realm: Realm, arn: &str, unique_id: &str) -> Identity {
    let arn: IamArn = arn.parse().unwrap();
    Identity {
        realm,
        partition: arn.partition().to_owned(),
        account: arn.account(),
        unique_id: unique_id.to_owned(),
        arn,
    }
}

fn user(name: &str) -> Identity {
    identity(
        Realm::Countersign,
        &format!("arn:aws:iam::{OURS}:user/{name}"),
        &format!("AIDA{}", name.to_uppercase()),
    )
}

fn root() -> Identity {
    identity(Realm::Countersign, &format!("arn:aws:iam::{OURS}:root"), OURS)
}

fn bob() -> Identity {
    identity(Realm::Aws, &format!("arn:aws:iam::{AWS}:user/bob"), "AIDABOB")
}

fn deploy() -> Identity {
    identity(Realm::Aws, &format!("arn:aws:sts::{AWS}:assumed-role/Deploy/i-1"), "AROADEPLOY")
}

fn question(identity: Identity, role: &str) -> AssumeRoleQuestion {
    AssumeRoleQuestion {
        proven: Proven::Identity(identity),
        proof_type: "urn:countersign:proof:sts-get-caller-identity".into(),
        proof_bound: true,
        proof_challenged: false,
        role_arn: format!("arn:aws:iam::{OURS}:role/{role}").parse().unwrap(),
        role_session_name: "s1".into(),
        duration_seconds: None,
        external_id: None,
        source_address: "10.1.2.3".parse().unwrap(),
        wished: Wished::default(),
        at_least_revision: String::new(),
    }
}

/// What an identity asks; a session asks through [`chain`].
fn decided(
    world: &World,
    question: &AssumeRoleQuestion,
) -> Result<(Judgement, Option<Grant>), Refusal> {
    let Proven::Identity(identity) = &question.proven else { panic!("{question:?}") };
    decide(world, &Asker::Identity(identity.clone()), question, NOW)
}

/// The reason, and what is granted: role id, service, pin.
fn check(
    world: &World,
    question: &AssumeRoleQuestion,
    reason: &str,
    granted: Option<(&str, Option<&str>, bool)>,
) {
    let (judgement, grant) = decided(world, question).unwrap();
    let found = judgement.reason.as_str_name().trim_start_matches("DECISION_REASON_");
    let found_grant = grant.as_ref().map(|grant| {
        (grant.role.unique_id.as_str(), grant.service_principal.as_deref(), grant.pin_required)
    });
    assert_eq!(
        (found, found_grant),
        (reason, granted),
        "{:?} → {}: {}",
        question.proven,
        question.role_arn,
        judgement.message
    );
    assert_eq!(judgement.decision == Decision::Allow, granted.is_some());
}

const TARGET: Option<(&str, Option<&str>, bool)> = Some(("AROATARGET", None, false));
const PINNED_TARGET: Option<(&str, Option<&str>, bool)> = Some(("AROATARGET", None, true));

#[test]
fn local_callers() {
    let world = world();
    check(&world, &question(user("alice"), "Target"), "ALLOWED_BY_TRUST_POLICY", TARGET);
    check(&world, &question(user("alice"), "Machine"), "NO_TRUST_ALLOW", None);
    check(&world, &question(user("carol"), "Target"), "DENIED_BY_IDENTITY_POLICY", None);
    check(&world, &question(user("dave"), "Target"), "NO_TRUST_ALLOW", None);
    check(&world, &question(user("nobody"), "Target"), "PRINCIPAL_NOT_FOUND", None);
    check(&world, &question(user("alice"), "Nothing"), "ROLE_NOT_FOUND", None);
    check(&world, &question(user("alice"), "teams/Target"), "ROLE_NOT_FOUND", None);
    check(&world, &question(user("alice"), "target"), "ROLE_NOT_FOUND", None);
    let session = identity(
        Realm::Countersign,
        &format!("arn:aws:sts::{OURS}:assumed-role/App/s1"),
        "AROAAPP",
    );
    check(&world, &question(session, "Target"), "CANNOT_EVALUATE", None);
}

#[test]
fn a_user_is_who_it_was_by_its_id() {
    let mut alice = user("alice");
    alice.unique_id = "AIDABEFORE".into();
    check(&world(), &question(alice.clone(), "Target"), "PRINCIPAL_NOT_FOUND", None);
    // Made again under the same name: the trust policy still means the one before.
    let mut world = world();
    let again = countersign_proto::policy::v1::UserRecord {
        user_id: "AIDAAGAIN".into(),
        ..samples::user(OURS, "alice", &[])
    };
    put(&mut world, "u/alice", Kind::User(again));
    alice.unique_id = "AIDAAGAIN".into();
    check(&world, &question(alice, "Target"), "NO_TRUST_ALLOW", None);
    check(&world, &question(user("alice"), "Target"), "PRINCIPAL_NOT_FOUND", None);
    // Carol's id under Alice's name.
    let mut carol = user("carol");
    carol.arn = format!("arn:aws:iam::{OURS}:user/alice").parse().unwrap();
    check(&world, &question(carol, "Target"), "PRINCIPAL_NOT_FOUND", None);
}

#[test]
fn the_root_assumes_its_administrator_role_alone() {
    let mut world = world();
    let administrator = Some(("AROACOUNTERSIGNADMINISTRATOR", None, false));
    check(
        &world,
        &question(root(), "CountersignAdministrator"),
        "ALLOWED_BY_TRUST_POLICY",
        administrator,
    );
    check(&world, &question(root(), "TrustsRoot"), "NO_TRUST_ALLOW", None);
    check(&world, &question(root(), "path/CountersignAdministrator"), "NO_TRUST_ALLOW", None);
    let theirs = identity(Realm::Countersign, &format!("arn:aws:iam::{THEIRS}:root"), THEIRS);
    check(&world, &question(theirs, "CountersignAdministrator"), "NO_TRUST_ALLOW", None);
    // Nor does it speak for a service.
    put(
        &mut world,
        "b/1",
        Kind::ServicePrincipalBinding(binding("Machine", StoredRealm::Countersign, OURS, OURS)),
    );
    check(&world, &question(root(), "Machine"), "NO_TRUST_ALLOW", None);
}

#[test]
fn external_callers() {
    let world = world();
    check(&world, &question(bob(), "Target"), "ALLOWED_BY_TRUST_POLICY", PINNED_TARGET);
    check(&world, &question(deploy(), "Target"), "ALLOWED_BY_TRUST_POLICY", PINNED_TARGET);
    check(&world, &question(bob(), "Machine"), "NO_TRUST_ALLOW", None);
    check(&world, &question(bob(), "TrustsRoot"), "NO_TRUST_ALLOW", None);
    let mallory = identity(Realm::Aws, &format!("arn:aws:iam::{AWS}:user/mallory"), "AIDAMALLORY");
    check(&world, &question(mallory, "Target"), "NO_TRUST_ALLOW", None);
    let root = identity(Realm::Aws, &format!("arn:aws:iam::{AWS}:root"), AWS);
    check(&world, &question(root, "Target"), "EXTERNAL_PRINCIPAL", None);
    let federated =
        identity(Realm::Aws, &format!("arn:aws:sts::{AWS}:federated-user/bob"), "999988887777:bob");
    check(&world, &question(federated, "Target"), "EXTERNAL_PRINCIPAL", None);
}

#[test]
fn nobody_speaks_for_the_other_realm() {
    let world = world();
    let mut alice = user("alice");
    alice.realm = Realm::Aws;
    check(&world, &question(alice, "Target"), "EXTERNAL_PRINCIPAL", None);
    let mut bob = bob();
    bob.realm = Realm::Countersign;
    check(&world, &question(bob, "Target"), "EXTERNAL_PRINCIPAL", None);
}

#[test]
fn an_id_in_the_trust_policy_needs_no_pin() {
    fn check_condition(condition: &str, id: &str, granted: Option<bool>) {
        let mut world = world();
        let trust = format!(
            r#"{{"Effect":"Allow","Action":"sts:AssumeRole","Principal":{{"AWS":"arn:aws:iam::{AWS}:user/bob"}},"Condition":{condition}}}"#
        );
        let resolved = [(format!("arn:aws:iam::{AWS}:user/bob"), StoredRealm::Aws, "")];
        put(&mut world, "r/Target", Kind::Role(trusting(OURS, "Target", &trust, &resolved)));
        let mut bob = bob();
        bob.unique_id = id.to_owned();
        let reason = if granted.is_some() { "ALLOWED_BY_TRUST_POLICY" } else { "NO_TRUST_ALLOW" };
        check(
            &world,
            &question(bob, "Target"),
            reason,
            granted.map(|pin| ("AROATARGET", None, pin)),
        );
    }
    check_condition(r#"{"StringEquals":{"aws:userid":"AIDABOB"}}"#, "AIDABOB", Some(false));
    check_condition(
        r#"{"StringEquals":{"AWS:UserId":["AIDAOLD","AIDABOB"]}}"#,
        "AIDABOB",
        Some(false),
    );
    check_condition(r#"{"StringEquals":{"aws:userid":"AIDABOB"}}"#, "AIDAOTHER", None);
    // These hold for other ids too, or might.
    check_condition(r#"{"StringLike":{"aws:userid":"AIDA*"}}"#, "AIDABOB", Some(true));
    check_condition(r#"{"StringEquals":{"aws:userid":"${aws:userid}"}}"#, "AIDABOB", Some(true));
    check_condition(
        r#"{"StringEquals":{"aws:userid":["AIDABOB","${aws:userid}"]}}"#,
        "AIDAOTHER",
        Some(true),
    );
    check_condition(r#"{"StringEqualsIfExists":{"aws:userid":"AIDABOB"}}"#, "AIDABOB", Some(true));
    check_condition(r#"{"StringNotEquals":{"aws:userid":"AIDAX"}}"#, "AIDABOB", Some(true));
    check_condition(r#"{"StringEquals":{"aws:username":"bob"}}"#, "AIDABOB", Some(true));
}

#[test]
fn speaking_for_a_service() {
    let machine = Some(("AROAMACHINE", Some("ec2.amazonaws.com"), false));
    let bound = |records: &[countersign_proto::policy::v1::ServicePrincipalBindingRecord]| {
        let mut world = world();
        for (index, record) in records.iter().enumerate() {
            put(&mut world, &format!("b/{index}"), Kind::ServicePrincipalBinding(record.clone()));
        }
        world
    };
    let ours = |role: &str, id: &str| binding(role, StoredRealm::Countersign, OURS, id);
    let world = bound(&[ours("Machine", "AIDADAVE")]);
    check(&world, &question(user("dave"), "Machine"), "ALLOWED_BY_TRUST_POLICY", machine);
    // For that role alone, and that caller.
    check(&world, &question(user("dave"), "Service"), "NO_TRUST_ALLOW", None);
    check(&world, &question(user("alice"), "Machine"), "NO_TRUST_ALLOW", None);
    // An external caller, in its own realm and account.
    let world = bound(&[binding("Machine", StoredRealm::Aws, AWS, "AIDABOB")]);
    check(&world, &question(bob(), "Machine"), "ALLOWED_BY_TRUST_POLICY", machine);
    let mut other = bob();
    other.unique_id = "AIDAOTHER".into();
    check(&world, &question(other, "Machine"), "NO_TRUST_ALLOW", None);
    let world = bound(&[binding("Machine", StoredRealm::Countersign, OURS, "AIDABOB")]);
    check(&world, &question(bob(), "Machine"), "NO_TRUST_ALLOW", None);
    // The trust policy must name the service.
    let world = bound(&[ours("TrustsRoot", "AIDADAVE")]);
    check(&world, &question(user("dave"), "TrustsRoot"), "NO_IDENTITY_ALLOW", None);
    // The caller's own Deny holds.
    let world = bound(&[ours("Machine", "AIDACAROL")]);
    check(&world, &question(user("carol"), "Machine"), "DENIED_BY_IDENTITY_POLICY", None);
    // A role that was made again has no bindings.
    let mut stale = ours("Machine", "AIDADAVE");
    stale.role_id = "AROABEFORE".into();
    check(&bound(&[stale]), &question(user("dave"), "Machine"), "NO_TRUST_ALLOW", None);
    // Of several, those count that the trust policy names.
    let mut lambda = ours("Machine", "AIDADAVE");
    lambda.service_principal = "lambda.amazonaws.com".into();
    let mut early = lambda.clone();
    early.service_principal = "a.amazonaws.com".into();
    check(
        &bound(&[early, lambda.clone(), ours("Machine", "AIDADAVE")]),
        &question(user("dave"), "Machine"),
        "ALLOWED_BY_TRUST_POLICY",
        machine,
    );
    check(&bound(&[lambda]), &question(user("dave"), "Machine"), "NO_TRUST_ALLOW", None);
}

#[test]
fn a_missing_policy_of_the_caller_may_deny() {
    let mut world = world();
    let mut dave = samples::user(OURS, "dave", &[]);
    dave.attached_policy_arns = vec![format!("arn:aws:iam::{OURS}:policy/Gone")];
    put(&mut world, "u/dave", Kind::User(dave));
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
    check(&world, &question(user("dave"), "Machine"), "CANNOT_EVALUATE", None);
}

#[test]
fn conditions_see_the_exchange() {
    fn check_condition(
        condition: &str,
        change: impl FnOnce(&mut AssumeRoleQuestion),
        allowed: bool,
    ) {
        let mut world = world();
        let trust = format!(
            r#"{{"Effect":"Allow","Action":"sts:AssumeRole","Principal":{{"AWS":"arn:aws:iam::{OURS}:user/alice"}},"Condition":{condition}}}"#
        );
        let resolved =
            [(format!("arn:aws:iam::{OURS}:user/alice"), StoredRealm::Countersign, "AIDAALICE")];
        put(&mut world, "r/Target", Kind::Role(trusting(OURS, "Target", &trust, &resolved)));
        let mut question = question(user("alice"), "Target");
        change(&mut question);
        let reason = if allowed { "ALLOWED_BY_TRUST_POLICY" } else { "NO_TRUST_ALLOW" };
        check(&world, &question, reason, if allowed { TARGET } else { None });
    }
    check_condition(
        r#"{"StringEquals":{"sts:ExternalId":"e-1"}}"#,
        |q| q.external_id = Some("e-1".into()),
        true,
    );
    check_condition(
        r#"{"StringEquals":{"sts:ExternalId":"e-1"}}"#,
        |q| q.external_id = Some("e-2".into()),
        false,
    );
    check_condition(r#"{"StringEquals":{"sts:ExternalId":"e-1"}}"#, |_| {}, false);
    check_condition(r#"{"StringEquals":{"sts:RoleSessionName":"s1"}}"#, |_| {}, true);
    check_condition(r#"{"StringEquals":{"sts:RoleSessionName":"${aws:username}"}}"#, |_| {}, false);
    check_condition(r#"{"IpAddress":{"aws:SourceIp":"10.0.0.0/8"}}"#, |_| {}, true);
    check_condition(
        r#"{"IpAddress":{"aws:SourceIp":"10.0.0.0/8"}}"#,
        |q| q.source_address = "11.1.2.3".parse().unwrap(),
        false,
    );
    // M4: it would hold if the key were missing, which it never is.
    check_condition(r#"{"NotIpAddress":{"aws:SourceIp":"10.0.0.0/8"}}"#, |_| {}, false);
    check_condition(r#"{"Bool":{"countersign:ProofBound":"true"}}"#, |_| {}, true);
    check_condition(
        r#"{"Bool":{"countersign:ProofBound":"true"}}"#,
        |q| q.proof_bound = false,
        false,
    );
    check_condition(r#"{"Bool":{"countersign:ProofChallenged":"true"}}"#, |_| {}, false);
    check_condition(
        r#"{"StringLike":{"countersign:ProofType":"*sts-get-caller-identity"}}"#,
        |_| {},
        true,
    );
    check_condition(r#"{"DateLessThan":{"aws:CurrentTime":"2027-01-15T08:00:01Z"}}"#, |_| {}, true);
    check_condition(
        r#"{"DateLessThan":{"aws:CurrentTime":"2027-01-15T08:00:00Z"}}"#,
        |_| {},
        false,
    );
    // A service's context key is not the caller's.
    check_condition(r#"{"StringEquals":{"aws:SourceAccount":"111122223333"}}"#, |_| {}, false);
}

#[test]
fn durations() {
    fn check(asked: Option<u32>, expected: Result<u32, &str>) {
        let question =
            AssumeRoleQuestion { duration_seconds: asked, ..question(user("alice"), "Target") };
        let found = decided(&world(), &question).map(|(_, grant)| grant.unwrap().duration_seconds);
        match (found, expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected),
            (Err(refusal), Err(part)) => {
                let said = refusal.to_string();
                assert!(said.starts_with("duration_seconds") && said.contains(part), "{said}");
            }
            (found, expected) => panic!("{expected:?}: {found:?}"),
        }
    }
    check(None, Ok(3600));
    check(Some(900), Ok(900));
    check(Some(7200), Ok(7200));
    check(Some(7201), Err("7200 seconds"));
    // Whoever may not assume the role learns nothing of it.
    let stranger =
        AssumeRoleQuestion { duration_seconds: Some(7201), ..question(user("dave"), "Target") };
    super::tests::check(&world(), &stranger, "NO_TRUST_ALLOW", None);
}

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
    question.proven = Proven::Token(convert::SubjectToken("x".into()));
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

#[test]
fn gateways_and_nobody_else() {
    assert!(gateways_alone(&Caller::Service(ServiceName::Gateway)).is_ok());
    for caller in [Caller::Service(ServiceName::Decision), samples::caller(OURS, "Service")] {
        let said = gateways_alone(&caller).unwrap_err().to_string();
        assert!(said.contains("countersign:AuthorizeAssumeRole"), "{said}");
    }
}
