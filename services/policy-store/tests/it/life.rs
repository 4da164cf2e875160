//! The life of roles, users and policies: names, conflicts, versions, limits, bad input.

use countersign_proto::policy::v1::*;
use tonic::Code;
use tonic_types::StatusExt;

use crate::support::{TestStore, allow, new_role, new_user, refused, trust};

const EC2: &str = r#"{"Service":"ec2.amazonaws.com"}"#;
const S3: &str = "arn:aws:iam::aws:policy/AmazonS3FullAccess";

fn attach(role_name: &str, policy_arn: &str) -> AttachRolePolicyRequest {
    AttachRolePolicyRequest {
        role_name: role_name.into(),
        policy_arn: policy_arn.into(),
        ..Default::default()
    }
}

fn detach(role_name: &str, policy_arn: &str) -> DetachRolePolicyRequest {
    DetachRolePolicyRequest {
        role_name: role_name.into(),
        policy_arn: policy_arn.into(),
        ..Default::default()
    }
}

fn delete(role_name: &str) -> DeleteRoleRequest {
    DeleteRoleRequest { role_name: role_name.into(), ..Default::default() }
}

#[tokio::test]
async fn a_role_from_birth_to_death() {
    let store = TestStore::start().await;
    let mut iam = store.admin().await;
    let made =
        iam.create_role(new_role("EC2S3AccessRole", &trust(EC2))).await.unwrap().into_inner();
    let role = made.role.unwrap();
    assert_eq!(role.arn, "arn:aws:iam::123456789012:role/EC2S3AccessRole");
    assert_eq!((role.path.as_str(), role.max_session_duration), ("/", 3600));
    assert!(role.role_id.starts_with("AROA") && role.role_id.len() == 21, "{}", role.role_id);
    assert!(made.revision.contains(':'), "{}", made.revision);

    // Names are unique without regard to case.
    let twin = iam.create_role(new_role("ec2s3accessrole", &trust(EC2))).await;
    refused(twin, Code::AlreadyExists, "EntityAlreadyExists");

    iam.attach_role_policy(attach("EC2S3AccessRole", S3)).await.unwrap();
    // Attaching again changes nothing.
    iam.attach_role_policy(attach("ec2s3accessrole", S3)).await.unwrap();
    let request = ListAttachedRolePoliciesRequest {
        role_name: "EC2S3AccessRole".into(),
        ..Default::default()
    };
    let attached = iam.list_attached_role_policies(request).await.unwrap().into_inner();
    assert_eq!(attached.attached_policies.len(), 1);
    assert_eq!(attached.attached_policies[0].policy_name, "AmazonS3FullAccess");
    let request = ListEntitiesForPolicyRequest { policy_arn: S3.into(), ..Default::default() };
    let entities = iam.list_entities_for_policy(request).await.unwrap().into_inner();
    assert_eq!(entities.policy_roles[0].role_name, "EC2S3AccessRole");

    let message = refused(
        iam.delete_role(delete("EC2S3AccessRole")).await,
        Code::FailedPrecondition,
        "DeleteConflict",
    );
    assert!(message.contains(S3), "{message}");
    iam.detach_role_policy(detach("EC2S3AccessRole", S3)).await.unwrap();
    refused(
        iam.detach_role_policy(detach("EC2S3AccessRole", S3)).await,
        Code::NotFound,
        "NoSuchEntity",
    );

    let put = PutRolePolicyRequest {
        role_name: "EC2S3AccessRole".into(),
        policy_name: "Inline".into(),
        policy_document: allow("s3:GetObject", "arn:aws:s3:::my-bucket/*"),
        ..Default::default()
    };
    iam.put_role_policy(put).await.unwrap();
    let message = refused(
        iam.delete_role(delete("EC2S3AccessRole")).await,
        Code::FailedPrecondition,
        "DeleteConflict",
    );
    assert!(message.contains("Inline"), "{message}");
    let gone = DeleteRolePolicyRequest {
        role_name: "EC2S3AccessRole".into(),
        policy_name: "Inline".into(),
        ..Default::default()
    };
    iam.delete_role_policy(gone).await.unwrap();
    iam.delete_role(delete("EC2S3AccessRole")).await.unwrap();
    let get = iam.get_role(GetRoleRequest { role_name: "EC2S3AccessRole".into() }).await;
    refused(get, Code::NotFound, "NoSuchEntity");

    // Made again, it is somebody else.
    let again =
        iam.create_role(new_role("EC2S3AccessRole", &trust(EC2))).await.unwrap().into_inner();
    assert_ne!(again.role.unwrap().role_id, role.role_id);
}

#[tokio::test]
async fn lists_are_paged_and_filtered_by_path() {
    let store = TestStore::start().await;
    let mut iam = store.admin().await;
    for n in 0..5 {
        let path = if n % 2 == 0 { "/even/" } else { "/odd/" };
        let role =
            CreateRoleRequest { path: path.into(), ..new_role(&format!("R{n}"), &trust(EC2)) };
        iam.create_role(role).await.unwrap();
    }
    let mut names = Vec::new();
    let mut marker = String::new();
    loop {
        let request = ListRolesRequest { marker, max_items: 2, ..Default::default() };
        let page = iam.list_roles(request).await.unwrap().into_inner();
        assert!(page.roles.len() <= 2);
        names.extend(page.roles.into_iter().map(|role| role.role_name));
        marker = page.marker;
        if !page.is_truncated {
            break;
        }
        assert!(!marker.is_empty());
    }
    assert_eq!(names, ["CountersignAdministrator", "R0", "R1", "R2", "R3", "R4"]);
    let request =
        ListRolesRequest { path_prefix: "/odd/".into(), max_items: 1, ..Default::default() };
    let page = iam.list_roles(request).await.unwrap().into_inner();
    assert_eq!((page.roles[0].role_name.as_str(), page.is_truncated), ("R1", true));
    refused(
        iam.list_roles(ListRolesRequest { max_items: 1001, ..Default::default() }).await,
        Code::InvalidArgument,
        "ValidationError",
    );
}

#[tokio::test]
async fn bad_input_names_the_field() {
    let store = TestStore::start().await;
    let mut iam = store.admin().await;
    for name in ["", "a/b", "a b", "a\0b", "é", &"x".repeat(65), &"x".repeat(1 << 20)] {
        let status = iam.create_role(new_role(name, &trust(EC2))).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
        let violations = status.get_details_bad_request().unwrap().field_violations;
        assert_eq!(violations[0].field, "role_name");
    }
    let bad = "{\n  \"Version\": \"2012-10-17\",\n  \"Statement\": [{\"Effect\": \"allow\"}]\n}";
    let status = iam.create_role(new_role("R", bad)).await.unwrap_err();
    assert_eq!(status.get_details_error_info().unwrap().reason, "MalformedPolicyDocument");
    let violations = status.get_details_bad_request().unwrap().field_violations;
    assert!(violations[0].field.starts_with("assume_role_policy_document:3:"), "{violations:?}");

    let dry = CreateRoleRequest { validate_only: true, ..new_role("R", &trust(EC2)) };
    let considered = iam.create_role(dry.clone()).await.unwrap().into_inner();
    assert!(considered.role.is_some() && !considered.revision.is_empty());
    let found = iam.get_role(GetRoleRequest { role_name: "R".into() }).await;
    refused(found, Code::NotFound, "NoSuchEntity");
    let bad_dry = CreateRoleRequest { assume_role_policy_document: bad.into(), ..dry };
    refused(iam.create_role(bad_dry).await, Code::InvalidArgument, "MalformedPolicyDocument");
    let long = CreateRoleRequest { max_session_duration: 43_201, ..new_role("R", &trust(EC2)) };
    refused(iam.create_role(long).await, Code::InvalidArgument, "ValidationError");
    let missing = iam.attach_role_policy(attach("R", S3)).await;
    refused(missing, Code::NotFound, "NoSuchEntity");
    let nameless = iam.attach_role_policy(attach("R", "S3FullAccess")).await;
    refused(nameless, Code::InvalidArgument, "ValidationError");
}

#[tokio::test]
async fn a_managed_policy_has_five_versions_and_one_default() {
    let store = TestStore::start().await;
    let mut iam = store.admin().await;
    let request = CreatePolicyRequest {
        policy_name: "MyS3Policy".into(),
        policy_document: allow("s3:GetObject", "*"),
        ..Default::default()
    };
    let policy = iam.create_policy(request.clone()).await.unwrap().into_inner().policy.unwrap();
    assert_eq!(policy.arn, "arn:aws:iam::123456789012:policy/MyS3Policy");
    refused(iam.create_policy(request).await, Code::AlreadyExists, "EntityAlreadyExists");
    let version = |set_as_default| CreatePolicyVersionRequest {
        policy_arn: policy.arn.clone(),
        policy_document: allow("s3:PutObject", "*"),
        set_as_default,
        ..Default::default()
    };
    for n in 2..=5 {
        let made = iam.create_policy_version(version(n == 2)).await.unwrap().into_inner();
        assert_eq!(made.policy_version.unwrap().version_id, format!("v{n}"));
    }
    refused(
        iam.create_policy_version(version(false)).await,
        Code::ResourceExhausted,
        "LimitExceeded",
    );
    let delete = |version_id: &str| DeletePolicyVersionRequest {
        policy_arn: policy.arn.clone(),
        version_id: version_id.into(),
        ..Default::default()
    };
    refused(
        iam.delete_policy_version(delete("v2")).await,
        Code::FailedPrecondition,
        "DeleteConflict",
    );
    iam.delete_policy_version(delete("v1")).await.unwrap();
    refused(iam.delete_policy_version(delete("v1")).await, Code::NotFound, "NoSuchEntity");
    // A number is never used again.
    let made = iam.create_policy_version(version(false)).await.unwrap().into_inner();
    assert_eq!(made.policy_version.unwrap().version_id, "v6");
    let request = SetDefaultPolicyVersionRequest {
        policy_arn: policy.arn.clone(),
        version_id: "v6".into(),
        ..Default::default()
    };
    iam.set_default_policy_version(request).await.unwrap();
    let request =
        ListPolicyVersionsRequest { policy_arn: policy.arn.clone(), ..Default::default() };
    let versions = iam.list_policy_versions(request).await.unwrap().into_inner().versions;
    let shown: Vec<_> =
        versions.iter().map(|v| (v.version_id.as_str(), v.is_default_version)).collect();
    assert_eq!(shown, [("v6", true), ("v5", false), ("v4", false), ("v3", false), ("v2", false)]);
    let request = DeletePolicyRequest { policy_arn: policy.arn.clone(), ..Default::default() };
    refused(iam.delete_policy(request).await, Code::FailedPrecondition, "DeleteConflict");
}

#[tokio::test]
async fn awss_policies_are_nobodys_to_change() {
    let store = TestStore::start().await;
    let mut iam = store.admin().await;
    let found =
        iam.get_policy(GetPolicyRequest { policy_arn: S3.into() }).await.unwrap().into_inner();
    assert_eq!(found.policy.unwrap().default_version_id, "v2");
    let request = DeletePolicyRequest { policy_arn: S3.into(), ..Default::default() };
    refused(iam.delete_policy(request).await, Code::PermissionDenied, "AccessDenied");
    let request = CreatePolicyVersionRequest {
        policy_arn: S3.into(),
        policy_document: allow("*", "*"),
        set_as_default: true,
        ..Default::default()
    };
    refused(iam.create_policy_version(request).await, Code::PermissionDenied, "AccessDenied");
    let list =
        |scope: PolicyScopeType| ListPoliciesRequest { scope: scope.into(), ..Default::default() };
    let aws = iam.list_policies(list(PolicyScopeType::Aws)).await.unwrap().into_inner().policies;
    assert_eq!(aws.len(), 4);
    let own = iam.list_policies(list(PolicyScopeType::Local)).await.unwrap().into_inner().policies;
    assert!(own.is_empty());
}

#[tokio::test]
async fn a_user_and_its_two_keys() {
    let store = TestStore::start().await;
    let mut iam = store.admin().await;
    let user = iam.create_user(new_user("alice")).await.unwrap().into_inner().user.unwrap();
    assert!(user.user_id.starts_with("AIDA"));
    let create = || CreateAccessKeyRequest { user_name: "alice".into(), ..Default::default() };
    let one = iam.create_access_key(create()).await.unwrap().into_inner().access_key.unwrap();
    assert_eq!((one.access_key_id.len(), one.secret_access_key.len()), (20, 40));
    let two = iam.create_access_key(create()).await.unwrap().into_inner().access_key.unwrap();
    refused(iam.create_access_key(create()).await, Code::ResourceExhausted, "LimitExceeded");
    let delete = DeleteUserRequest { user_name: "alice".into(), ..Default::default() };
    let message =
        refused(iam.delete_user(delete.clone()).await, Code::FailedPrecondition, "DeleteConflict");
    assert!(
        message.contains(&one.access_key_id) && message.contains(&two.access_key_id),
        "{message}"
    );
    // Renamed, it is the same user with the same keys.
    let rename = UpdateUserRequest {
        user_name: "alice".into(),
        new_user_name: "alicia".into(),
        new_path: "/people/".into(),
        ..Default::default()
    };
    iam.update_user(rename).await.unwrap();
    let renamed =
        iam.get_user(GetUserRequest { user_name: "Alicia".into() }).await.unwrap().into_inner();
    let renamed = renamed.user.unwrap();
    assert_eq!(
        (renamed.user_id, renamed.arn.as_str()),
        (user.user_id, "arn:aws:iam::123456789012:user/people/alicia")
    );
    refused(
        iam.get_user(GetUserRequest { user_name: "alice".into() }).await,
        Code::NotFound,
        "NoSuchEntity",
    );
    let request = ListAccessKeysRequest { user_name: "alicia".into(), ..Default::default() };
    let keys = iam.list_access_keys(request).await.unwrap().into_inner().access_key_metadata;
    assert!(keys.iter().all(|key| key.user_name == "alicia") && keys.len() == 2);
    for id in [one.access_key_id, two.access_key_id] {
        let request = DeleteAccessKeyRequest {
            user_name: "alicia".into(),
            access_key_id: id,
            ..Default::default()
        };
        iam.delete_access_key(request).await.unwrap();
    }
    iam.delete_user(DeleteUserRequest { user_name: "alicia".into(), ..Default::default() })
        .await
        .unwrap();
}

#[tokio::test]
async fn concurrent_writers_lose_nothing() {
    let store = TestStore::start().await;
    let admin = store.admin().await;
    let mut tasks = Vec::new();
    for n in 0..8 {
        let mut iam = admin.clone();
        tasks.push(tokio::spawn(async move {
            let put = PutRolePolicyRequest {
                role_name: "CountersignAdministrator".into(),
                policy_name: format!("P{n}"),
                policy_document: allow("s3:GetObject", "*"),
                ..Default::default()
            };
            iam.put_role_policy(put).await.map(|_| ())
        }));
    }
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    let mut iam = admin;
    let request = ListRolePoliciesRequest {
        role_name: "CountersignAdministrator".into(),
        ..Default::default()
    };
    let names = iam.list_role_policies(request).await.unwrap().into_inner().policy_names;
    assert_eq!(names.len(), 9, "{names:?}");
}
