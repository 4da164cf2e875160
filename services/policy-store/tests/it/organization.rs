//! Units, guardrails, resource policies and revocations, over gRPC.

use countersign_proto::policy::v1::*;
use prost_types::Timestamp;
use tonic::Code;

use crate::support::{
    ACCOUNT, Bearer, Client, TestStore, allow, new_role, new_user, refused, trust,
};

const ROOT: &str = "r-root";
const FULL: &str = "p-FullAWSAccess";
const OTHER: &str = "444455556666";
const EC2: &str = r#"{"Service":"ec2.amazonaws.com"}"#;
const DENY_EC2: &str =
    r#"{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"ec2:*","Resource":"*"}]}"#;
const RCP: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Principal":"*","Action":"s3:*","Resource":"*"}]}"#;

async fn unit(iam: &mut Client<Bearer>, parent_id: &str, name: &str) -> String {
    let request = CreateOrganizationalUnitRequest {
        parent_id: parent_id.into(),
        name: name.into(),
        ..Default::default()
    };
    let answer = iam.create_organizational_unit(request).await.unwrap().into_inner();
    answer.organizational_unit.unwrap().id
}

async fn scp(iam: &mut Client<Bearer>, name: &str, content: &str) -> String {
    let request = CreateGuardrailRequest {
        name: name.into(),
        content: content.into(),
        r#type: GuardrailType::ServiceControlPolicy.into(),
        ..Default::default()
    };
    let guardrail = iam.create_guardrail(request).await.unwrap().into_inner().guardrail.unwrap();
    guardrail.guardrail_summary.unwrap().id
}

fn attach(guardrail_id: &str, target_id: &str) -> AttachGuardrailRequest {
    AttachGuardrailRequest {
        guardrail_id: guardrail_id.into(),
        target_id: target_id.into(),
        ..Default::default()
    }
}

fn detach(guardrail_id: &str, target_id: &str) -> DetachGuardrailRequest {
    DetachGuardrailRequest {
        guardrail_id: guardrail_id.into(),
        target_id: target_id.into(),
        ..Default::default()
    }
}

fn delete_unit(id: &str) -> DeleteOrganizationalUnitRequest {
    DeleteOrganizationalUnitRequest { organizational_unit_id: id.into(), ..Default::default() }
}

fn moved(account_id: &str, from: &str, to: &str) -> MoveAccountRequest {
    MoveAccountRequest {
        account_id: account_id.into(),
        source_parent_id: from.into(),
        destination_parent_id: to.into(),
        ..Default::default()
    }
}

#[tokio::test]
async fn units_hold_units_and_accounts() {
    let store = TestStore::start().await;
    let mut iam = store.admin().await;
    let top = unit(&mut iam, "", "Workloads").await;
    let below = unit(&mut iam, &top, "Prod").await;
    let twin = CreateOrganizationalUnitRequest { name: "WORKLOADS".into(), ..Default::default() };
    refused(
        iam.create_organizational_unit(twin).await,
        Code::AlreadyExists,
        "DuplicateOrganizationalUnit",
    );
    let nowhere = CreateOrganizationalUnitRequest {
        parent_id: "ou-nowhere".into(),
        name: "x".into(),
        ..Default::default()
    };
    refused(iam.create_organizational_unit(nowhere).await, Code::NotFound, "ParentNotFound");
    // The same name elsewhere is another unit's; five deep is the most.
    let mut deep = unit(&mut iam, &below, "Workloads").await;
    for name in ["four", "five"] {
        deep = unit(&mut iam, &deep, name).await;
    }
    let six = CreateOrganizationalUnitRequest {
        parent_id: deep,
        name: "six".into(),
        ..Default::default()
    };
    refused(
        iam.create_organizational_unit(six).await,
        Code::FailedPrecondition,
        "ConstraintViolation",
    );
    let rename = UpdateOrganizationalUnitRequest {
        organizational_unit_id: top.clone(),
        name: "Apps".into(),
        ..Default::default()
    };
    iam.update_organizational_unit(rename).await.unwrap();
    let again = unit(&mut iam, ROOT, "Workloads").await;
    let list = |parent_id: &str| ListOrganizationalUnitsForParentRequest {
        parent_id: parent_id.into(),
        ..Default::default()
    };
    let listed = iam.list_organizational_units_for_parent(list("")).await.unwrap().into_inner();
    let mut names: Vec<_> =
        listed.organizational_units.iter().map(|unit| unit.name.clone()).collect();
    names.sort();
    assert_eq!(names, ["Apps", "Workloads"]);

    let account = CreateAccountRequest { account_id: OTHER.into(), ..Default::default() };
    let made = iam.create_account(account).await.unwrap().into_inner().account.unwrap();
    assert_eq!(made.parent_id, ROOT);
    refused(iam.move_account(moved(OTHER, &top, &again)).await, Code::NotFound, "AccountNotFound");
    refused(
        iam.move_account(moved("000000000001", ROOT, &again)).await,
        Code::NotFound,
        "AccountNotFound",
    );
    refused(
        iam.move_account(moved(OTHER, ROOT, "ou-x")).await,
        Code::NotFound,
        "DestinationParentNotFound",
    );
    refused(
        iam.move_account(moved(OTHER, ROOT, ROOT)).await,
        Code::AlreadyExists,
        "DuplicateAccount",
    );
    iam.move_account(moved(OTHER, ROOT, &again)).await.unwrap();
    let accounts = iam.list_accounts(ListAccountsRequest::default()).await.unwrap().into_inner();
    let found = accounts.accounts.iter().find(|account| account.id == OTHER).unwrap();
    assert_eq!(found.parent_id, again);
    // What is in it stands in the way, by name.
    let said = refused(
        iam.delete_organizational_unit(delete_unit(&again)).await,
        Code::FailedPrecondition,
        "OrganizationalUnitNotEmpty",
    );
    assert!(said.contains(OTHER), "{said}");
    iam.move_account(moved(OTHER, &again, ROOT)).await.unwrap();
    iam.delete_organizational_unit(delete_unit(&again)).await.unwrap();
    refused(
        iam.delete_organizational_unit(delete_unit(ROOT)).await,
        Code::NotFound,
        "OrganizationalUnitNotFound",
    );
    // The organization is the operator's account's.
    let mut tenant = store.session(OTHER, "CountersignAdministrator").await;
    let request = CreateOrganizationalUnitRequest { name: "mine".into(), ..Default::default() };
    refused(
        tenant.create_organizational_unit(request).await,
        Code::PermissionDenied,
        "AccessDenied",
    );
    refused(tenant.attach_guardrail(detach_all()).await, Code::PermissionDenied, "AccessDenied");
}

fn detach_all() -> AttachGuardrailRequest {
    attach(FULL, OTHER)
}

#[tokio::test]
async fn guardrails_are_attached_and_detached() {
    let store = TestStore::start().await;
    let mut iam = store.admin().await;
    let deny = scp(&mut iam, "NoEc2", DENY_EC2).await;
    let bad = CreateGuardrailRequest {
        name: "Bad".into(),
        content: r#"{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"ec2:*"}]}"#
            .into(),
        r#type: GuardrailType::ServiceControlPolicy.into(),
        ..Default::default()
    };
    refused(
        iam.create_guardrail(bad.clone()).await,
        Code::InvalidArgument,
        "MalformedPolicyDocument",
    );
    refused(
        iam.create_guardrail(CreateGuardrailRequest { r#type: 0, ..bad.clone() }).await,
        Code::InvalidArgument,
        "ValidationError",
    );
    let twin =
        CreateGuardrailRequest { name: "noec2".into(), content: DENY_EC2.into(), ..bad.clone() };
    refused(iam.create_guardrail(twin).await, Code::AlreadyExists, "DuplicatePolicy");
    let allow_rcp = CreateGuardrailRequest {
        content: RCP.replace("Deny", "Allow"),
        r#type: GuardrailType::ResourceControlPolicy.into(),
        ..bad.clone()
    };
    refused(
        iam.create_guardrail(allow_rcp).await,
        Code::InvalidArgument,
        "MalformedPolicyDocument",
    );
    let rcp = CreateGuardrailRequest {
        name: "Rcp".into(),
        content: RCP.into(),
        r#type: GuardrailType::ResourceControlPolicy.into(),
        ..bad
    };
    iam.create_guardrail(rcp).await.unwrap();
    let listed = iam.list_guardrails(ListGuardrailsRequest::default()).await.unwrap().into_inner();
    let mut names: Vec<_> = listed.guardrails.iter().map(|one| one.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["FullAWSAccess", "NoEc2", "Rcp"]);

    iam.attach_guardrail(attach(&deny, ROOT)).await.unwrap();
    refused(
        iam.attach_guardrail(attach(&deny, ROOT)).await,
        Code::AlreadyExists,
        "DuplicatePolicyAttachment",
    );
    refused(iam.attach_guardrail(attach(&deny, "ou-x")).await, Code::NotFound, "TargetNotFound");
    refused(iam.attach_guardrail(attach("p-none", ROOT)).await, Code::NotFound, "PolicyNotFound");
    refused(
        iam.attach_guardrail(attach(FULL, ROOT)).await,
        Code::AlreadyExists,
        "DuplicatePolicyAttachment",
    );
    let request =
        ListTargetsForGuardrailRequest { guardrail_id: deny.clone(), ..Default::default() };
    let targets = iam.list_targets_for_guardrail(request).await.unwrap().into_inner().targets;
    assert_eq!(targets.len(), 1);
    assert_eq!((targets[0].target_id.as_str(), targets[0].r#type()), (ROOT, TargetType::Root));
    // In use it stays; built in it stays.
    let delete =
        |id: &str| DeleteGuardrailRequest { guardrail_id: id.into(), ..Default::default() };
    let said =
        refused(iam.delete_guardrail(delete(&deny)).await, Code::FailedPrecondition, "PolicyInUse");
    assert!(said.contains(ROOT), "{said}");
    refused(
        iam.delete_guardrail(delete(FULL)).await,
        Code::FailedPrecondition,
        "ConstraintViolation",
    );
    // Without the last one nothing would be allowed.
    iam.detach_guardrail(detach(FULL, ROOT)).await.unwrap();
    refused(
        iam.detach_guardrail(detach(FULL, ROOT)).await,
        Code::FailedPrecondition,
        "PolicyNotAttached",
    );
    refused(
        iam.detach_guardrail(detach(&deny, ROOT)).await,
        Code::FailedPrecondition,
        "ConstraintViolation",
    );
    iam.attach_guardrail(attach(FULL, ROOT)).await.unwrap();
    iam.detach_guardrail(detach(&deny, ROOT)).await.unwrap();
    // Five of a kind, the built-in one among them.
    for number in 0..4 {
        let id = scp(&mut iam, &format!("g{number}"), DENY_EC2).await;
        iam.attach_guardrail(attach(&id, ACCOUNT)).await.unwrap();
    }
    refused(
        iam.attach_guardrail(attach(&deny, ACCOUNT)).await,
        Code::FailedPrecondition,
        "ConstraintViolation",
    );
    let update = UpdateGuardrailRequest {
        guardrail_id: deny.clone(),
        name: Some("NoEc2AtAll".into()),
        content: Some(allow("*", "*")),
        ..Default::default()
    };
    let updated = iam.update_guardrail(update).await.unwrap().into_inner().guardrail.unwrap();
    assert_eq!(updated.content, allow("*", "*"));
    iam.delete_guardrail(delete(&deny)).await.unwrap();
    let get = GetGuardrailRequest { guardrail_id: deny };
    refused(iam.get_guardrail(get).await, Code::NotFound, "PolicyNotFound");
}

/// Guardrails hold for who calls the store, too, but not for the management account.
#[tokio::test]
async fn a_tenants_administrator_is_under_its_guardrails() {
    let store = TestStore::start().await;
    let mut iam = store.admin().await;
    let account = CreateAccountRequest { account_id: OTHER.into(), ..Default::default() };
    iam.create_account(account).await.unwrap();
    let mut tenant = store.session(OTHER, "CountersignAdministrator").await;
    let top = unit(&mut iam, "", "Tenants").await;
    let no_users = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"iam:CreateUser","Resource":"*"}]}"#;
    let id = scp(&mut iam, "NoUsers", no_users).await;
    tenant.create_user(new_user("before")).await.unwrap();
    for target in [top.as_str(), OTHER, ROOT] {
        if target == top {
            iam.move_account(moved(OTHER, ROOT, &top)).await.unwrap();
        }
        iam.attach_guardrail(attach(&id, target)).await.unwrap();
        let said = refused(
            tenant.create_user(new_user("after")).await,
            Code::PermissionDenied,
            "AccessDenied",
        );
        assert!(said.contains("guardrail"), "{target}: {said}");
        tenant.get_user(GetUserRequest { user_name: "before".into() }).await.unwrap();
        iam.detach_guardrail(detach(&id, target)).await.unwrap();
    }
    tenant.create_user(new_user("after")).await.unwrap();
    iam.attach_guardrail(attach(&id, ROOT)).await.unwrap();
    iam.create_user(new_user("by-the-operator")).await.unwrap();
}

#[tokio::test]
async fn a_resource_has_one_policy() {
    let store = TestStore::start().await;
    let mut iam = store.admin().await;
    iam.create_user(new_user("ann")).await.unwrap();
    let policy = format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Principal":{{"AWS":"arn:aws:iam::{ACCOUNT}:user/ann"}},"Action":"s3:*","Resource":"arn:aws:s3:::b/*"}}]}}"#
    );
    let put = |resource_arn: &str| PutResourcePolicyRequest {
        resource_arn: resource_arn.into(),
        policy: policy.clone(),
        ..Default::default()
    };
    let bucket = "arn:aws:s3:::b/*";
    iam.put_resource_policy(put(bucket)).await.unwrap();
    iam.put_resource_policy(put(bucket)).await.unwrap();
    let get = GetResourcePolicyRequest { resource_arn: bucket.into() };
    assert_eq!(iam.get_resource_policy(get.clone()).await.unwrap().into_inner().policy, policy);
    for clash in ["arn:aws:s3:::b/x", "arn:aws:s3:::*", "arn:aws:s3:::?/*", "arn:aws:s3:::b/*z"] {
        let said = refused(
            iam.put_resource_policy(put(clash)).await,
            Code::InvalidArgument,
            "ValidationError",
        );
        assert!(said.contains(bucket) && said.contains(clash), "{said}");
    }
    iam.put_resource_policy(put("arn:aws:s3:::b")).await.unwrap();
    for bad in [
        "",
        "b",
        "arn:aws:s3:::",
        "arn:aws:s3:*::b",
        "arn:aws:s3::444455556666:b",
        "arn:aws-cn:s3:::b",
        "arn:aws:iam::123456789012:role/R",
        "arn:aws:sts::123456789012:x",
        "arn:aws:s3:::a b",
        "arn:aws:s3:::a\nb",
    ] {
        refused(iam.put_resource_policy(put(bad)).await, Code::InvalidArgument, "ValidationError");
    }
    let huge = format!("arn:aws:s3:::{}", "x".repeat(1 << 20));
    refused(iam.put_resource_policy(put(&huge)).await, Code::InvalidArgument, "ValidationError");
    let nobody = PutResourcePolicyRequest {
        policy: policy.replace("user/ann", "user/eve"),
        ..put("arn:aws:s3:::c")
    };
    refused(
        iam.put_resource_policy(nobody).await,
        Code::InvalidArgument,
        "MalformedPolicyDocument",
    );
    // Of twenty that put overlapping ones at once, one does.
    let attempts = (0..20).map(|number| {
        let mut iam = iam.clone();
        let request = put(&format!("arn:aws:s3:::c{}*", "?".repeat(number)));
        tokio::spawn(async move { iam.put_resource_policy(request).await.is_ok() })
    });
    let mut done = 0;
    for attempt in attempts.collect::<Vec<_>>() {
        done += usize::from(attempt.await.unwrap());
    }
    assert_eq!(done, 1);
    let delete = DeleteResourcePolicyRequest { resource_arn: bucket.into(), ..Default::default() };
    iam.delete_resource_policy(delete.clone()).await.unwrap();
    refused(iam.delete_resource_policy(delete).await, Code::NotFound, "NoSuchEntity");
    refused(iam.get_resource_policy(get).await, Code::NotFound, "NoSuchEntity");
}

/// A right on a part of what a pattern covers is none on the pattern.
#[tokio::test]
async fn whoever_may_put_a_part_may_not_put_the_whole() {
    let store = TestStore::start().await;
    let mut iam = store.admin().await;
    iam.create_role(new_role("Owner", &trust(EC2))).await.unwrap();
    let mut owner = store.session(ACCOUNT, "Owner").await;
    let everybody = allow("orders:*", "*").replace(r#""Effect""#, r#""Principal":"*","Effect""#);
    for (held, resource, allowed) in [
        ("order/1", "order/1", true),
        ("order/1", "order/2", false),
        ("order/1*", "order/1*", true),
        ("order/1*", "order/*", false),
        ("order/?", "order/*", false),
        ("order/??", "order/*", false),
        ("order/?*", "order/*", false),
        ("order/*", "order/?", true),
        ("*", "*", true),
    ] {
        let arn = |resource: &str| format!("arn:aws:orders:eu-west-1:{ACCOUNT}:{resource}");
        let right = PutRolePolicyRequest {
            role_name: "Owner".into(),
            policy_name: "P".into(),
            policy_document: allow("countersign:PutResourcePolicy", &arn(held)),
            ..Default::default()
        };
        iam.put_role_policy(right).await.unwrap();
        let request = PutResourcePolicyRequest {
            resource_arn: arn(resource),
            policy: everybody.clone(),
            validate_only: true,
            ..Default::default()
        };
        let answer = owner.put_resource_policy(request).await;
        assert_eq!(answer.is_ok(), allowed, "{held} {resource} {answer:?}");
    }
}

#[tokio::test]
async fn sessions_and_tokens_end_before_their_time() {
    let store = TestStore::start().await;
    let mut iam = store.admin().await;
    iam.create_role(new_role("R", &trust(EC2))).await.unwrap();
    let put = PutRolePolicyRequest {
        role_name: "R".into(),
        policy_name: "p".into(),
        policy_document: allow("iam:*", "*"),
        ..Default::default()
    };
    iam.put_role_policy(put).await.unwrap();
    let mut session = store.session(ACCOUNT, "R").await;
    session.list_users(ListUsersRequest::default()).await.unwrap();
    let request = RevokeRoleSessionsRequest { role_name: "R".into(), ..Default::default() };
    refused(
        session.revoke_role_sessions(request.clone()).await,
        Code::PermissionDenied,
        "AccessDenied",
    );
    iam.revoke_role_sessions(request).await.unwrap();
    let said = refused(
        session.list_users(ListUsersRequest::default()).await,
        Code::PermissionDenied,
        "AccessDenied",
    );
    assert!(said.contains("revoked"), "{said}");
    // A session that begins afterwards is good.
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    let mut fresh = store.session(ACCOUNT, "R").await;
    fresh.list_users(ListUsersRequest::default()).await.unwrap();

    let now = i64::try_from(
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs(),
    )
    .unwrap();
    let revoke = |token_id: &str, ahead: i64| RevokeTokenRequest {
        token_id: token_id.into(),
        expire_time: Some(Timestamp { seconds: now + ahead, nanos: 0 }),
        ..Default::default()
    };
    // Asked about alone, nothing is revoked; named, it is done once.
    let dry = RevokeTokenRequest { validate_only: true, ..revoke("dry", 60) };
    iam.revoke_token(dry).await.unwrap();
    assert!(!store.records().await.contains_key("revoked/dry"));
    let named = RevokeTokenRequest { request_id: "once".into(), ..revoke("named", 60) };
    let first = iam.revoke_token(named.clone()).await.unwrap().into_inner();
    assert!(store.records().await.contains_key("revoked/named"));
    iam.create_user(new_user("between")).await.unwrap();
    assert_eq!(iam.revoke_token(named).await.unwrap().into_inner(), first);
    let other = RevokeTokenRequest { request_id: "once".into(), ..revoke("other", 60) };
    refused(iam.revoke_token(other).await, Code::InvalidArgument, "IdempotentParameterMismatch");
    for bad in [revoke("", 60), revoke("a b", 60), revoke("x", -60), revoke("x", 100_000)] {
        refused(iam.revoke_token(bad).await, Code::InvalidArgument, "ValidationError");
    }
    refused(fresh.revoke_token(revoke("x", 60)).await, Code::PermissionDenied, "AccessDenied");
    let (mut one, jti) = store.session_with_id(ACCOUNT, "R").await;
    one.list_users(ListUsersRequest::default()).await.unwrap();
    // Whatever is said of its end, it is kept for as long as any token lasts.
    store.gateway().revoke_token(revoke(&jti, 1)).await.unwrap();
    let record = store.records().await.remove(&format!("revoked/{jti}")).unwrap().record;
    let Some(record::Record::RevokedToken(kept)) = record else { panic!("{record:?}") };
    assert!(kept.expires.unwrap().seconds >= now + 43_200, "{kept:?}");
    refused(
        one.list_users(ListUsersRequest::default()).await,
        Code::Unauthenticated,
        "RevokedToken",
    );
    fresh.list_users(ListUsersRequest::default()).await.unwrap();
}
