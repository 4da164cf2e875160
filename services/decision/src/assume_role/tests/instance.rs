//! EC2 instances: a role that trusts the service must say whose, or somebody must have said which. ATTACKS 55.

use super::*;
use crate::convert::Instance;

const INSTANCE: &str = "i-078517ca8a70a1dde";
const ALLOWED: &str = "ALLOWED_BY_TRUST_POLICY";
const UNNAMED: &str = "NO_TRUST_ALLOW";

fn instance() -> Instance {
    Instance {
        partition: "aws".into(),
        account: AWS.parse().unwrap(),
        region: "us-west-2".into(),
        instance_id: INSTANCE.into(),
    }
}

/// A statement that trusts the service under a condition.
fn trust(condition: &str) -> String {
    format!(
        r#"{{"Effect":"Allow","Action":"sts:AssumeRole","Principal":{{"Service":"ec2.amazonaws.com"}},"Condition":{condition}}}"#
    )
}

fn decided(world: &World, instance: Instance) -> String {
    let mut question = question(user("alice"), "Machines");
    question.proven = Proven::Instance(instance.clone());
    let (judgement, grant) = decide(world, &Asker::Instance(instance), &question, NOW).unwrap();
    assert_eq!(judgement.decision == Decision::Allow, grant.is_some());
    if let Some(grant) = grant {
        // Its key is pinned each time, whatever else names it.
        assert!(grant.pin_required);
        assert_eq!(grant.service_principal.as_deref(), Some("ec2.amazonaws.com"));
    }
    judgement.reason.as_str_name().trim_start_matches("DECISION_REASON_").to_owned()
}

fn world_with(statements: &str) -> World {
    let mut world = world();
    put(&mut world, "r/Machines", Kind::Role(trusting(OURS, "Machines", statements, &[])));
    world
}

fn check(statements: &str, expected: &str) {
    assert_eq!(decided(&world_with(statements), instance()), expected, "{statements}");
}

#[test]
fn trust_in_the_service_must_say_whose_instances() {
    fn condition(text: &str, expected: &str) {
        check(&trust(&text.replace("AWS", AWS)), expected);
    }
    check(&trust("{}"), UNNAMED);
    condition(r#"{"StringEquals":{"aws:SourceAccount":"AWS"}}"#, ALLOWED);
    condition(r#"{"StringEquals":{"aws:SOURCEACCOUNT":"AWS"}}"#, ALLOWED);
    condition(r#"{"StringEquals":{"aws:SourceAccount":["999999999999","AWS"]}}"#, ALLOWED);
    condition(r#"{"StringEquals":{"aws:SourceAccount":"999999999999"}}"#, UNNAMED);
    condition(r#"{"StringLike":{"aws:SourceAccount":"AWS"}}"#, UNNAMED);
    condition(r#"{"StringLike":{"aws:SourceAccount":"*"}}"#, UNNAMED);
    condition(r#"{"StringEquals":{"aws:SourceAccount":["AWS","${aws:SourceAccount}"]}}"#, UNNAMED);
    condition(r#"{"StringEquals":{"aws:SourceAccount":"${aws:SourceAccount}"}}"#, UNNAMED);
    condition(r#"{"StringEqualsIfExists":{"aws:SourceAccount":"AWS"}}"#, UNNAMED);
    condition(r#"{"ForAllValues:StringEquals":{"aws:SourceAccount":"AWS"}}"#, UNNAMED);
    condition(r#"{"StringNotEquals":{"aws:SourceAccount":"999999999999"}}"#, UNNAMED);
    condition(r#"{"Null":{"aws:SourceAccount":"false"}}"#, UNNAMED);
    let arn = |key: &str, operator: &str, arn: &str, expected: &str| {
        condition(&format!(r#"{{"{operator}":{{"{key}":"{arn}"}}}}"#), expected);
    };
    let own = "arn:aws:ec2:us-west-2:AWS:instance/i-078517ca8a70a1dde";
    for key in ["aws:SourceArn", "ec2:SourceInstanceArn", "ec2:SourceInstanceARN"] {
        for operator in ["ArnEquals", "ArnLike", "StringEquals", "StringLike"] {
            arn(key, operator, own, ALLOWED);
        }
        arn(key, "ArnLike", "arn:aws:ec2:*:AWS:instance/*", ALLOWED);
        arn(key, "ArnLike", "arn:aws:ec2:us-west-2:AWS:instance/i-0*", ALLOWED);
        arn(key, "ArnLike", "arn:aws:ec2:us-east-1:AWS:instance/*", UNNAMED);
        arn(key, "ArnLike", "arn:aws:ec2:*:999999999999:instance/*", UNNAMED);
        arn(key, "ArnLike", "arn:aws:ec2:*:*:instance/*", UNNAMED);
        arn(key, "ArnLike", "arn:aws:ec2:*:4444*:instance/*", UNNAMED);
        arn(key, "StringLike", "arn:aws:ec2:*", UNNAMED);
        arn(key, "StringLike", "*", UNNAMED);
        arn(key, "ArnNotEquals", "arn:aws:ec2:*:999999999999:instance/*", UNNAMED);
        arn(key, "ArnLikeIfExists", own, UNNAMED);
    }
}

#[test]
fn whom_else_a_trust_policy_may_mean() {
    let named = format!(r#"{{"StringEquals":{{"aws:SourceAccount":"{AWS}"}}}}"#);
    // Another service, everybody, the account, the role's own account.
    check(&trust(&named).replace("ec2.", "lambda."), UNNAMED);
    let principal =
        |principal: &str| trust(&named).replace(r#"{"Service":"ec2.amazonaws.com"}"#, principal);
    check(&principal(&format!(r#"{{"AWS":"arn:aws:iam::{AWS}:root"}}"#)), UNNAMED);
    check(&principal(&format!(r#"{{"AWS":"{OURS}"}}"#)), UNNAMED);
    check(&trust("{}").replace(r#"{"Service":"ec2.amazonaws.com"}"#, "\"*\""), UNNAMED);
    // A statement that names it allows, beside one that does not; a Deny wins.
    check(&format!("{},{}", trust("{}"), trust(&named)), ALLOWED);
    let denied = trust("{}").replace("Allow", "Deny");
    check(&format!("{},{denied}", trust(&named)), "DENIED_BY_TRUST_POLICY");
    check(&trust(&named).replace("sts:AssumeRole", "sts:AssumeRoleWithWebIdentity"), UNNAMED);
}

/// What an instance profile is at AWS: a binding, of one instance to one role.
#[test]
fn a_binding_names_the_instance() {
    fn check(
        change: impl FnOnce(&mut countersign_proto::policy::v1::ServicePrincipalBindingRecord),
        expected: &str,
    ) {
        let mut world = world_with(&trust("{}"));
        let mut bound = binding("Machines", StoredRealm::Aws, AWS, INSTANCE);
        change(&mut bound);
        put(&mut world, "b/1", Kind::ServicePrincipalBinding(bound));
        assert_eq!(decided(&world, instance()), expected);
    }
    check(|_| {}, ALLOWED);
    check(|b| b.caller_unique_id = "i-078517ca8a70a1ddf".into(), UNNAMED);
    check(|b| b.caller_account_id = "999999999999".into(), UNNAMED);
    check(|b| b.service_principal = "lambda.amazonaws.com".into(), UNNAMED);
    check(|b| b.role_id = "AROAANOTHER".into(), UNNAMED);
}

#[test]
fn an_account_is_local_or_awss() {
    let mut local = instance();
    local.account = OURS.parse().unwrap();
    let world =
        world_with(&trust(&format!(r#"{{"StringEquals":{{"aws:SourceAccount":"{OURS}"}}}}"#)));
    assert_eq!(decided(&world, local), "EXTERNAL_PRINCIPAL");
}
