//! What hangs on a user or role besides its own policies: groups, a boundary, tags.

use countersign_proto::{
    decision::v1::{
        AuthorizeRequest, AuthorizeResponse, DecisionReason, authorize_request::Subject,
    },
    policy::v1::{GroupRecord, InlinePolicy, Tag, UserRecord, record::Record as Kind},
};

use super::harness::{ORDER, OURS, System, document, record, role};

const READS: &str = r#"{"Sid":"Reads","Effect":"Allow","Action":"orders:GetOrder","Resource":"*"}"#;
const DENIES: &str =
    r#"{"Sid":"Denies","Effect":"Deny","Action":"orders:GetOrder","Resource":"*"}"#;

fn group(statement: &str, attached: &[&str]) -> Kind {
    Kind::Group(GroupRecord {
        account_id: OURS.into(),
        path: "/".into(),
        group_name: "Readers".into(),
        group_id: "AGPAREADERS".into(),
        inline_policies: vec![InlinePolicy {
            policy_name: "Inline".into(),
            policy_document: document(statement),
        }],
        attached_policy_arns: attached.iter().map(|arn| (*arn).to_owned()).collect(),
        ..Default::default()
    })
}

fn user(groups: &[&str], boundary: &str) -> Kind {
    Kind::User(UserRecord {
        account_id: OURS.into(),
        path: "/".into(),
        user_name: "ann".into(),
        user_id: "AIDAANN".into(),
        group_ids: groups.iter().map(|id| (*id).to_owned()).collect(),
        permissions_boundary_arn: boundary.into(),
        ..Default::default()
    })
}

async fn ask(system: &System, arn: &str, revision: String) -> AuthorizeResponse {
    let request = AuthorizeRequest {
        subject: Some(Subject::PrincipalArn(arn.into())),
        action: "orders:GetOrder".into(),
        resource: ORDER.into(),
        at_least_revision: revision,
        ..Default::default()
    };
    system.authorize(request).await.unwrap()
}

#[tokio::test]
async fn a_groups_policies_are_its_members() {
    let system = System::start().await;
    let ann = "arn:aws:iam::111122223333:user/ann";
    let check = async |changes: Vec<(&str, Option<Kind>)>, reason: DecisionReason, said: &str| {
        let mut revision = String::new();
        for (key, kind) in changes {
            revision = match kind {
                Some(kind) => system.store.put(record(key, kind)),
                None => system.store.delete(key),
            };
        }
        let answer = ask(&system, ann, revision).await;
        assert_eq!(answer.reason(), reason, "{said}: {}", answer.message);
        assert!(answer.message.contains(said), "{said}: {}", answer.message);
    };
    let (in_it, out) = (&["AGPAREADERS"][..], &[][..]);
    check(vec![("u/ann", Some(user(out, "")))], DecisionReason::NoIdentityAllow, "ann").await;
    check(
        vec![("g/r", Some(group(READS, &[]))), ("u/ann", Some(user(in_it, "")))],
        DecisionReason::AllowedByIdentityPolicy,
        "Inline of group Readers",
    )
    .await;
    check(
        vec![("g/r", Some(group(DENIES, &["arn:aws:iam::111122223333:policy/Orders"])))],
        DecisionReason::DeniedByIdentityPolicy,
        "Inline of group Readers",
    )
    .await;
    let managed = r#"{"Effect":"Allow","Action":"s3:*","Resource":"*"}"#;
    check(
        vec![("g/r", Some(group(managed, &["arn:aws:iam::111122223333:policy/Orders"])))],
        DecisionReason::AllowedByIdentityPolicy,
        "policy/Orders",
    )
    .await;
    // A policy of the group's, or the group itself, that is not at hand: what it would deny is unknown.
    check(
        vec![("g/r", Some(group(READS, &["arn:aws:iam::111122223333:policy/Missing"])))],
        DecisionReason::CannotEvaluate,
        "",
    )
    .await;
    check(vec![("g/r", None)], DecisionReason::CannotEvaluate, "").await;
    // Out of it, nothing of it is left.
    check(
        vec![("g/r", Some(group(READS, &[]))), ("u/ann", Some(user(out, "")))],
        DecisionReason::NoIdentityAllow,
        "",
    )
    .await;
}

#[tokio::test]
async fn a_boundary_is_the_most_that_is_allowed() {
    let system = System::start().await;
    let arn = "arn:aws:iam::111122223333:role/Bound";
    let check = async |boundary: &str, reason: DecisionReason| {
        let mut bound = role(OURS, "Bound", Some(READS));
        bound.permissions_boundary_arn = boundary.into();
        let revision = system.store.put(record("r/Bound", Kind::Role(bound)));
        let answer = ask(&system, arn, revision).await;
        assert_eq!(answer.reason(), reason, "{boundary}: {}", answer.message);
    };
    check("", DecisionReason::AllowedByIdentityPolicy).await;
    check("arn:aws:iam::111122223333:policy/Orders", DecisionReason::AllowedByIdentityPolicy).await;
    // One that is not there allows nothing.
    check("arn:aws:iam::111122223333:policy/Gone", DecisionReason::NoBoundaryAllow).await;
}

#[tokio::test]
async fn a_principals_tags_are_condition_keys() {
    let system = System::start().await;
    let arn = "arn:aws:iam::111122223333:role/Tagged";
    let statement = r#"{"Effect":"Allow","Action":"orders:GetOrder","Resource":"*","Condition":{"StringEquals":{"aws:PrincipalTag/team":"red"}}}"#;
    let check = async |tags: &[(&str, &str)], allowed: bool| {
        let mut tagged = role(OURS, "Tagged", Some(statement));
        tagged.tags = tags
            .iter()
            .map(|(key, value)| Tag { key: (*key).into(), value: (*value).into() })
            .collect();
        let revision = system.store.put(record("r/Tagged", Kind::Role(tagged)));
        assert_eq!(ask(&system, arn, revision).await.allowed, allowed, "{tags:?}");
    };
    check(&[], false).await;
    check(&[("Team", "red")], true).await;
    check(&[("Team", "Red")], false).await;
    check(&[("Zone", "red")], false).await;
}
