mod instance;
mod sessions;
mod web_identity;

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

#[test]
fn gateways_and_nobody_else() {
    assert!(gateways_alone(&Caller::Service(ServiceName::Gateway), "countersign:X").is_ok());
    for caller in [Caller::Service(ServiceName::Decision), samples::caller(OURS, "Service")] {
        let said = gateways_alone(&caller, "countersign:X").unwrap_err().to_string();
        assert!(said.contains("countersign:X"), "{said}");
    }
}
