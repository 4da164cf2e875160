//! All that an account holds, page by page.

use countersign_proto::policy::v1::*;
use tonic::Code;

use crate::support::{
    ACCOUNT, Bearer, Client, TestStore, allow, new_role, new_user, refused, trust,
};

const EC2: &str = r#"{"Service":"ec2.amazonaws.com"}"#;

/// Every page, put together; and how many there were.
pub async fn export(
    iam: &mut Client<Bearer>,
    mut request: GetAccountAuthorizationDetailsRequest,
) -> (GetAccountAuthorizationDetailsResponse, usize) {
    let mut all = GetAccountAuthorizationDetailsResponse::default();
    for pages in 1.. {
        let page = iam.get_account_authorization_details(request.clone()).await.unwrap();
        let page = page.into_inner();
        all.user_detail_list.extend(page.user_detail_list);
        all.group_detail_list.extend(page.group_detail_list);
        all.role_detail_list.extend(page.role_detail_list);
        all.policies.extend(page.policies);
        assert_eq!(page.is_truncated, !page.marker.is_empty());
        if !page.is_truncated {
            return (all, pages);
        }
        request.marker = page.marker;
    }
    panic!("no last page")
}

#[tokio::test]
async fn an_account_is_exported_whole() {
    let store = TestStore::start().await;
    let mut iam = store.admin().await;
    let tenant = CreateAccountRequest { account_id: "222222222222".into(), ..Default::default() };
    iam.create_account(tenant).await.unwrap();
    let mut theirs = store.session("222222222222", "CountersignAdministrator").await;
    theirs.create_user(new_user("theirs")).await.unwrap();

    let created = CreatePolicyRequest {
        policy_name: "Own".into(),
        policy_document: allow("s3:*", "*"),
        description: "own".into(),
        ..Default::default()
    };
    let own = iam.create_policy(created).await.unwrap().into_inner().policy.unwrap().arn;
    let version = CreatePolicyVersionRequest {
        policy_arn: own.clone(),
        policy_document: allow("sqs:*", "*"),
        ..Default::default()
    };
    iam.create_policy_version(version).await.unwrap();
    let group = CreateGroupRequest { group_name: "Staff".into(), ..Default::default() };
    iam.create_group(group).await.unwrap();
    let put = PutGroupPolicyRequest {
        group_name: "Staff".into(),
        policy_name: "p".into(),
        policy_document: allow("x:*", "*"),
        ..Default::default()
    };
    iam.put_group_policy(put).await.unwrap();
    let tag = Tag { key: "team".into(), value: "a".into() };
    for number in 0..5 {
        let new = CreateUserRequest {
            tags: vec![tag.clone()],
            permissions_boundary: own.clone(),
            path: "/staff/".into(),
            ..new_user(&format!("user{number}"))
        };
        iam.create_user(new).await.unwrap();
        let join = AddUserToGroupRequest {
            group_name: "staff".into(),
            user_name: format!("user{number}"),
            ..Default::default()
        };
        iam.add_user_to_group(join).await.unwrap();
    }
    let role = CreateRoleRequest { description: "d".into(), ..new_role("R", &trust(EC2)) };
    iam.create_role(role).await.unwrap();
    let s3 = "arn:aws:iam::aws:policy/AmazonS3FullAccess";
    for policy_arn in [s3, own.as_str()] {
        let attach = AttachRolePolicyRequest {
            role_name: "R".into(),
            policy_arn: policy_arn.into(),
            ..Default::default()
        };
        iam.attach_role_policy(attach).await.unwrap();
    }

    let (all, pages) = export(&mut iam, GetAccountAuthorizationDetailsRequest::default()).await;
    assert_eq!(pages, 1);
    for max_items in [1, 2, 3] {
        let request = GetAccountAuthorizationDetailsRequest { max_items, ..Default::default() };
        let (in_parts, pages) = export(&mut iam, request).await;
        assert_eq!(in_parts, all);
        assert!(pages >= 9 / usize::try_from(max_items).unwrap(), "{pages}");
    }
    let users: Vec<&str> = all.user_detail_list.iter().map(|it| it.user_name.as_str()).collect();
    assert_eq!(users, ["user0", "user1", "user2", "user3", "user4"]);
    let user = &all.user_detail_list[0];
    assert_eq!(user.arn, format!("arn:aws:iam::{ACCOUNT}:user/staff/user0"));
    assert_eq!(
        (user.group_list.as_slice(), user.tags.as_slice()),
        (["Staff".to_owned()].as_slice(), [tag].as_slice())
    );
    assert_eq!(user.permissions_boundary.as_ref().unwrap().permissions_boundary_arn, own);
    assert_eq!(all.group_detail_list[0].group_policy_list[0].policy_document, allow("x:*", "*"));
    let roles: Vec<&str> = all.role_detail_list.iter().map(|it| it.role_name.as_str()).collect();
    assert_eq!(roles, ["CountersignAdministrator", "R"]);
    let role = &all.role_detail_list[1];
    assert_eq!((role.description.as_str(), role.max_session_duration), ("d", 3_600));
    let attached: Vec<&str> =
        role.attached_managed_policies.iter().map(|it| it.policy_arn.as_str()).collect();
    assert_eq!(attached, [s3, &own]);
    // The account's own, and of AWS's what is in use.
    let policies: Vec<&str> = all.policies.iter().map(|it| it.arn.as_str()).collect();
    assert_eq!(policies, [own.as_str(), s3]);
    let versions: Vec<(&str, bool, String)> = all.policies[0]
        .policy_version_list
        .iter()
        .map(|it| (it.version_id.as_str(), it.is_default_version, it.document.clone()))
        .collect();
    assert_eq!(versions, [("v2", false, allow("sqs:*", "*")), ("v1", true, allow("s3:*", "*"))]);
    let uses = (all.policies[0].attachment_count, all.policies[0].permissions_boundary_usage_count);
    assert_eq!(uses, (1, 5));

    let request = GetAccountAuthorizationDetailsRequest {
        filter: vec![EntityType::Group.into(), EntityType::AwsManagedPolicy.into()],
        ..Default::default()
    };
    let (some, _) = export(&mut iam, request).await;
    assert!(some.user_detail_list.is_empty() && some.role_detail_list.is_empty());
    assert_eq!((some.group_detail_list.len(), some.policies.len()), (1, 1));
    for bad in [
        GetAccountAuthorizationDetailsRequest { filter: vec![0], ..Default::default() },
        GetAccountAuthorizationDetailsRequest { filter: vec![99], ..Default::default() },
        GetAccountAuthorizationDetailsRequest { marker: "nothing/x".into(), ..Default::default() },
    ] {
        let answer = iam.get_account_authorization_details(bad).await;
        refused(answer, Code::InvalidArgument, "ValidationError");
    }
    let mut powerless = store.session(ACCOUNT, "R").await;
    let answer = powerless
        .get_account_authorization_details(GetAccountAuthorizationDetailsRequest::default())
        .await;
    refused(answer, Code::PermissionDenied, "AccessDenied");
}
