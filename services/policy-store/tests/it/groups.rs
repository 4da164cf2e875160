//! Groups, permissions boundaries, tags and quotas, over gRPC.

use countersign_proto::policy::v1::*;
use tonic::Code;

use crate::support::{
    ACCOUNT, Bearer, Client, TestStore, allow, new_role, new_user, refused, trust,
};

const EC2: &str = r#"{"Service":"ec2.amazonaws.com"}"#;
const S3: &str = "arn:aws:iam::aws:policy/AmazonS3FullAccess";

fn new_group(group_name: &str) -> CreateGroupRequest {
    CreateGroupRequest { group_name: group_name.into(), ..Default::default() }
}

fn join(group_name: &str, user_name: &str) -> AddUserToGroupRequest {
    AddUserToGroupRequest {
        group_name: group_name.into(),
        user_name: user_name.into(),
        ..Default::default()
    }
}

fn leave(group_name: &str, user_name: &str) -> RemoveUserFromGroupRequest {
    RemoveUserFromGroupRequest {
        group_name: group_name.into(),
        user_name: user_name.into(),
        ..Default::default()
    }
}

fn named(group_name: &str) -> GetGroupRequest {
    GetGroupRequest { group_name: group_name.into(), ..Default::default() }
}

fn tag(key: &str, value: &str) -> Tag {
    Tag { key: key.into(), value: value.into() }
}

async fn policy(iam: &mut Client<Bearer>, policy_name: &str, document: &str) -> String {
    let request = CreatePolicyRequest {
        policy_name: policy_name.into(),
        policy_document: document.into(),
        ..Default::default()
    };
    iam.create_policy(request).await.unwrap().into_inner().policy.unwrap().arn
}

/// A role with this inline policy, and a session of it.
async fn as_role(store: &TestStore, role_name: &str, document: &str) -> Client<Bearer> {
    let mut iam = store.admin().await;
    iam.create_role(new_role(role_name, &trust(EC2))).await.unwrap();
    let request = PutRolePolicyRequest {
        role_name: role_name.into(),
        policy_name: "p".into(),
        policy_document: document.into(),
        ..Default::default()
    };
    iam.put_role_policy(request).await.unwrap();
    store.session(ACCOUNT, role_name).await
}

#[tokio::test]
async fn a_group_lives_and_keeps_its_members() {
    let store = TestStore::start().await;
    let mut iam = store.admin().await;
    for name in ["ann", "bob", "carl"] {
        iam.create_user(new_user(name)).await.unwrap();
    }
    let created = iam
        .create_group(CreateGroupRequest { path: "/teams/".into(), ..new_group("Admins") })
        .await
        .unwrap()
        .into_inner();
    let group = created.group.unwrap();
    assert_eq!(group.arn, format!("arn:aws:iam::{ACCOUNT}:group/teams/Admins"));
    assert!(group.group_id.starts_with("AGPA") && group.group_id.len() == 21);
    refused(
        iam.create_group(new_group("ADMINS")).await,
        Code::AlreadyExists,
        "EntityAlreadyExists",
    );
    refused(iam.create_group(new_group("a/b")).await, Code::InvalidArgument, "ValidationError");

    for name in ["ann", "bob", "carl"] {
        iam.add_user_to_group(join("admins", name)).await.unwrap();
    }
    // Once more is no error, and changes nothing.
    iam.add_user_to_group(join("Admins", "ann")).await.unwrap();
    refused(iam.add_user_to_group(join("Admins", "eve")).await, Code::NotFound, "NoSuchEntity");
    refused(iam.add_user_to_group(join("Others", "ann")).await, Code::NotFound, "NoSuchEntity");
    let mut names = Vec::new();
    let mut marker = String::new();
    loop {
        let request = GetGroupRequest { marker, max_items: 2, ..named("Admins") };
        let page = iam.get_group(request).await.unwrap().into_inner();
        names.extend(page.users.into_iter().map(|user| user.user_name));
        marker = page.marker;
        if !page.is_truncated {
            break;
        }
    }
    names.sort();
    assert_eq!(names, ["ann", "bob", "carl"]);

    // Renamed and moved, it is the same group.
    let request = UpdateGroupRequest {
        group_name: "Admins".into(),
        new_path: "/".into(),
        new_group_name: "Operators".into(),
        ..Default::default()
    };
    iam.update_group(request).await.unwrap();
    refused(iam.get_group(named("Admins")).await, Code::NotFound, "NoSuchEntity");
    let request = ListGroupsForUserRequest { user_name: "ann".into(), ..Default::default() };
    let groups = iam.list_groups_for_user(request).await.unwrap().into_inner().groups;
    assert_eq!(groups.len(), 1);
    assert_eq!(
        (groups[0].arn.as_str(), &groups[0].group_id),
        (format!("arn:aws:iam::{ACCOUNT}:group/Operators").as_str(), &group.group_id)
    );

    // What stands in the way is named, one by one.
    let request = DeleteUserRequest { user_name: "bob".into(), ..Default::default() };
    let said =
        refused(iam.delete_user(request.clone()).await, Code::FailedPrecondition, "DeleteConflict");
    assert!(said.contains("group Operators"), "{said}");
    let attach = AttachGroupPolicyRequest {
        group_name: "Operators".into(),
        policy_arn: S3.into(),
        ..Default::default()
    };
    iam.attach_group_policy(attach).await.unwrap();
    let inline = PutGroupPolicyRequest {
        group_name: "Operators".into(),
        policy_name: "Inline".into(),
        policy_document: allow("s3:*", "*"),
        ..Default::default()
    };
    iam.put_group_policy(inline).await.unwrap();
    let delete = DeleteGroupRequest { group_name: "Operators".into(), ..Default::default() };
    let said =
        refused(iam.delete_group(delete.clone()).await, Code::FailedPrecondition, "DeleteConflict");
    for held in ["user ann", "user bob", "user carl", S3, "inline policy Inline"] {
        assert!(said.contains(held), "{held}: {said}");
    }
    for name in ["ann", "bob", "carl"] {
        iam.remove_user_from_group(leave("Operators", name)).await.unwrap();
    }
    refused(
        iam.remove_user_from_group(leave("Operators", "ann")).await,
        Code::NotFound,
        "NoSuchEntity",
    );
    iam.delete_user(request).await.unwrap();
    let detach = DetachGroupPolicyRequest {
        group_name: "Operators".into(),
        policy_arn: S3.into(),
        ..Default::default()
    };
    iam.detach_group_policy(detach).await.unwrap();
    let inline = DeleteGroupPolicyRequest {
        group_name: "Operators".into(),
        policy_name: "Inline".into(),
        ..Default::default()
    };
    iam.delete_group_policy(inline).await.unwrap();
    iam.delete_group(delete).await.unwrap();

    // Made again, it is another group, and nobody is in it.
    let again = iam.create_group(new_group("Operators")).await.unwrap().into_inner();
    assert_ne!(again.group.unwrap().group_id, group.group_id);
    assert_eq!(iam.get_group(named("Operators")).await.unwrap().into_inner().users, []);
}

#[tokio::test]
async fn who_has_a_policy_is_listed_by_kind_path_and_use() {
    let store = TestStore::start().await;
    let mut iam = store.admin().await;
    let arn = policy(&mut iam, "P", &allow("s3:*", "*")).await;
    iam.create_group(new_group("g")).await.unwrap();
    iam.create_role(new_role("r", &trust(EC2))).await.unwrap();
    iam.create_user(CreateUserRequest { path: "/x/".into(), ..new_user("u") }).await.unwrap();
    let bounded = CreateUserRequest { permissions_boundary: arn.clone(), ..new_user("b") };
    iam.create_user(bounded).await.unwrap();
    let (policy_arn, group_name) = (arn.clone(), "g".to_owned());
    iam.attach_group_policy(AttachGroupPolicyRequest {
        group_name,
        policy_arn,
        ..Default::default()
    })
    .await
    .unwrap();
    let (policy_arn, role_name) = (arn.clone(), "r".to_owned());
    iam.attach_role_policy(AttachRolePolicyRequest { role_name, policy_arn, ..Default::default() })
        .await
        .unwrap();
    let (policy_arn, user_name) = (arn.clone(), "u".to_owned());
    iam.attach_user_policy(AttachUserPolicyRequest { user_name, policy_arn, ..Default::default() })
        .await
        .unwrap();

    let mut check = async |filter: EntityType,
                           path: &str,
                           usage: PolicyUsageType,
                           size: i32,
                           expected: &str| {
        let mut found = Vec::new();
        let mut request = ListEntitiesForPolicyRequest {
            policy_arn: arn.clone(),
            entity_filter: filter.into(),
            path_prefix: path.into(),
            policy_usage_filter: usage.into(),
            max_items: size,
            ..Default::default()
        };
        loop {
            let page = iam.list_entities_for_policy(request.clone()).await.unwrap().into_inner();
            found.extend(page.policy_groups.into_iter().map(|group| group.group_name));
            found.extend(page.policy_roles.into_iter().map(|role| role.role_name));
            found.extend(page.policy_users.into_iter().map(|user| user.user_name));
            request.marker = page.marker;
            if !page.is_truncated {
                break;
            }
        }
        found.sort();
        assert_eq!(found.join(" "), expected, "{filter:?} {path} {usage:?} {size}");
    };
    use EntityType::{Group, Role, Unspecified, User};
    let any = PolicyUsageType::Unspecified;
    for size in [0, 1, 2, 3, 4] {
        check(Unspecified, "", any, size, "b g r u").await;
    }
    check(Group, "", any, 0, "g").await;
    check(Role, "", any, 0, "r").await;
    check(User, "", any, 0, "b u").await;
    check(User, "/x/", any, 0, "u").await;
    check(Unspecified, "", PolicyUsageType::PermissionsPolicy, 1, "g r u").await;
    check(Unspecified, "", PolicyUsageType::PermissionsBoundary, 1, "b").await;
    let found = iam.get_policy(GetPolicyRequest { policy_arn: arn.clone() }).await.unwrap();
    let found = found.into_inner().policy.unwrap();
    assert_eq!((found.attachment_count, found.permissions_boundary_usage_count), (3, 1));
    // While it is in use it cannot go, and each use is named.
    let delete = DeletePolicyRequest { policy_arn: arn.clone(), ..Default::default() };
    let said = refused(iam.delete_policy(delete).await, Code::FailedPrecondition, "DeleteConflict");
    for held in ["group g", "role r", "user u", "user b (as permissions boundary)"] {
        assert!(said.contains(held), "{held}: {said}");
    }
}

#[tokio::test]
async fn a_boundary_is_a_policy_that_stays() {
    let store = TestStore::start().await;
    let mut iam = store.admin().await;
    let first = policy(&mut iam, "First", &allow("s3:*", "*")).await;
    let second = policy(&mut iam, "Second", &allow("ec2:*", "*")).await;
    let role =
        CreateRoleRequest { permissions_boundary: first.clone(), ..new_role("R", &trust(EC2)) };
    let made = iam.create_role(role).await.unwrap().into_inner().role.unwrap();
    assert_eq!(made.permissions_boundary.unwrap().permissions_boundary_arn, first);
    let missing = format!("arn:aws:iam::{ACCOUNT}:policy/Missing");
    let put = |arn: &str| PutRolePermissionsBoundaryRequest {
        role_name: "R".into(),
        permissions_boundary: arn.into(),
        ..Default::default()
    };
    let answer = iam.put_role_permissions_boundary(put(&missing)).await;
    refused(answer, Code::NotFound, "NoSuchEntity");
    let answer = iam.put_role_permissions_boundary(put("S3FullAccess")).await;
    refused(answer, Code::InvalidArgument, "ValidationError");
    let answer = iam.put_role_permissions_boundary(put("")).await;
    refused(answer, Code::InvalidArgument, "ValidationError");
    iam.put_role_permissions_boundary(put(&second)).await.unwrap();
    iam.put_role_permissions_boundary(put(&second)).await.unwrap();
    // The first is free, the second is not.
    let delete = |arn: &str| DeletePolicyRequest { policy_arn: arn.into(), ..Default::default() };
    iam.delete_policy(delete(&first)).await.unwrap();
    refused(iam.delete_policy(delete(&second)).await, Code::FailedPrecondition, "DeleteConflict");
    let off = DeleteRolePermissionsBoundaryRequest { role_name: "R".into(), ..Default::default() };
    iam.delete_role_permissions_boundary(off.clone()).await.unwrap();
    let answer = iam.delete_role_permissions_boundary(off).await;
    refused(answer, Code::NotFound, "NoSuchEntity");
    let get = GetRoleRequest { role_name: "R".into() };
    let role = iam.get_role(get).await.unwrap().into_inner().role.unwrap();
    assert_eq!(role.permissions_boundary, None);
    iam.delete_policy(delete(&second)).await.unwrap();
    // A role that is deleted gives its boundary free.
    let third = policy(&mut iam, "Third", &allow("s3:*", "*")).await;
    iam.put_role_permissions_boundary(put(&third)).await.unwrap();
    let gone = DeleteRoleRequest { role_name: "R".into(), ..Default::default() };
    iam.delete_role(gone).await.unwrap();
    iam.delete_policy(delete(&third)).await.unwrap();
}

/// AWS's own example of delegation: who may make users, but only with this boundary.
#[tokio::test]
async fn a_delegate_makes_users_within_the_boundary_alone() {
    let store = TestStore::start().await;
    let mut iam = store.admin().await;
    let boundary = policy(&mut iam, "XCompany", &allow("s3:*", "*")).await;
    let wide = policy(&mut iam, "Wide", &allow("*", "*")).await;
    let document = format!(
        r#"{{"Version":"2012-10-17","Statement":[
            {{"Effect":"Allow","Action":["iam:CreateUser","iam:PutUserPolicy","iam:AttachUserPolicy","iam:PutUserPermissionsBoundary"],
              "Resource":"*","Condition":{{"StringEquals":{{"iam:PermissionsBoundary":"{boundary}"}}}}}},
            {{"Effect":"Allow","Action":"iam:GetUser","Resource":"*"}}]}}"#
    );
    let mut delegate = as_role(&store, "Delegate", &document).await;
    let denied = (Code::PermissionDenied, "AccessDenied");
    refused(delegate.create_user(new_user("free")).await, denied.0, denied.1);
    let other = CreateUserRequest { permissions_boundary: wide.clone(), ..new_user("free") };
    refused(delegate.create_user(other).await, denied.0, denied.1);
    let within = CreateUserRequest { permissions_boundary: boundary.clone(), ..new_user("bound") };
    delegate.create_user(within).await.unwrap();
    iam.create_user(new_user("unbound")).await.unwrap();
    let attach = |user_name: &str| AttachUserPolicyRequest {
        user_name: user_name.into(),
        policy_arn: S3.into(),
        ..Default::default()
    };
    delegate.attach_user_policy(attach("bound")).await.unwrap();
    refused(delegate.attach_user_policy(attach("unbound")).await, denied.0, denied.1);
    let put = PutUserPermissionsBoundaryRequest {
        user_name: "bound".into(),
        permissions_boundary: wide,
        ..Default::default()
    };
    refused(delegate.put_user_permissions_boundary(put).await, denied.0, denied.1);
    let off =
        DeleteUserPermissionsBoundaryRequest { user_name: "bound".into(), ..Default::default() };
    refused(delegate.delete_user_permissions_boundary(off).await, denied.0, denied.1);

    // The delegate's own boundary holds for what it asks of the store.
    let reads = policy(&mut iam, "Reads", &allow("iam:Get*", "*")).await;
    let request = PutRolePermissionsBoundaryRequest {
        role_name: "Delegate".into(),
        permissions_boundary: reads,
        ..Default::default()
    };
    iam.put_role_permissions_boundary(request).await.unwrap();
    delegate.get_user(GetUserRequest { user_name: "bound".into() }).await.unwrap();
    let again = CreateUserRequest { permissions_boundary: boundary, ..new_user("more") };
    let said = refused(delegate.create_user(again).await, denied.0, denied.1);
    assert!(said.contains("boundary"), "{said}");
}

#[tokio::test]
async fn tags_are_kept_and_decide() {
    let store = TestStore::start().await;
    let mut iam = store.admin().await;
    let user =
        CreateUserRequest { tags: vec![tag("Team", "a"), tag("Zone", "x")], ..new_user("u") };
    let made = iam.create_user(user).await.unwrap().into_inner().user.unwrap();
    assert_eq!(made.tags, [tag("Team", "a"), tag("Zone", "x")]);
    let put = |tags: Vec<Tag>| TagUserRequest { user_name: "u".into(), tags, ..Default::default() };
    iam.tag_user(put(vec![tag("team", "b"), tag("New", "")])).await.unwrap();
    let list = ListUserTagsRequest { user_name: "u".into(), max_items: 2, ..Default::default() };
    let page = iam.list_user_tags(list.clone()).await.unwrap().into_inner();
    assert_eq!((page.tags, page.is_truncated), (vec![tag("New", ""), tag("Zone", "x")], true));
    let rest = ListUserTagsRequest { marker: page.marker, ..list.clone() };
    let page = iam.list_user_tags(rest).await.unwrap().into_inner();
    assert_eq!((page.tags, page.is_truncated), (vec![tag("team", "b")], false));
    for bad in
        [vec![], vec![tag("aws:x", "1")], vec![tag("x", "1"), tag("X", "2")], vec![tag("", "")]]
    {
        refused(iam.tag_user(put(bad)).await, Code::InvalidArgument, "ValidationError");
    }
    let many = (0..50).map(|number| tag(&format!("k{number}"), "")).collect();
    refused(iam.tag_user(put(many)).await, Code::ResourceExhausted, "LimitExceeded");
    let untag = UntagUserRequest {
        user_name: "u".into(),
        tag_keys: vec!["TEAM".into(), "Zone".into(), "never there".into()],
        ..Default::default()
    };
    iam.untag_user(untag).await.unwrap();
    let page = iam.list_user_tags(list).await.unwrap().into_inner();
    assert_eq!(page.tags, [tag("New", "")]);

    // On roles and policies as well.
    iam.create_role(CreateRoleRequest { tags: vec![tag("a", "1")], ..new_role("R", &trust(EC2)) })
        .await
        .unwrap();
    let request =
        TagRoleRequest { role_name: "R".into(), tags: vec![tag("b", "2")], ..Default::default() };
    iam.tag_role(request).await.unwrap();
    let request = UntagRoleRequest {
        role_name: "R".into(),
        tag_keys: vec!["a".into()],
        ..Default::default()
    };
    iam.untag_role(request).await.unwrap();
    let request = ListRoleTagsRequest { role_name: "R".into(), ..Default::default() };
    assert_eq!(iam.list_role_tags(request).await.unwrap().into_inner().tags, [tag("b", "2")]);
    let arn = policy(&mut iam, "P", &allow("s3:*", "*")).await;
    let request = TagPolicyRequest {
        policy_arn: arn.clone(),
        tags: vec![tag("b", "2")],
        ..Default::default()
    };
    iam.tag_policy(request).await.unwrap();
    let request = ListPolicyTagsRequest { policy_arn: arn.clone(), ..Default::default() };
    assert_eq!(iam.list_policy_tags(request).await.unwrap().into_inner().tags, [tag("b", "2")]);
    let request =
        UntagPolicyRequest { policy_arn: arn, tag_keys: vec!["b".into()], ..Default::default() };
    iam.untag_policy(request).await.unwrap();
    let aws =
        TagPolicyRequest { policy_arn: S3.into(), tags: vec![tag("b", "2")], ..Default::default() };
    refused(iam.tag_policy(aws).await, Code::PermissionDenied, "AccessDenied");

    // Who may touch what, by the tags it has and the tags it is given.
    let document = r#"{"Version":"2012-10-17","Statement":[
        {"Effect":"Allow","Action":"iam:DeleteUser","Resource":"*","Condition":{"StringEquals":{"aws:ResourceTag/team":"red"}}},
        {"Effect":"Allow","Action":["iam:CreateUser","iam:TagUser"],"Resource":"*","Condition":{
            "StringEquals":{"aws:RequestTag/team":"red"},"ForAllValues:StringEquals":{"aws:TagKeys":["team","zone"]}}}]}"#;
    let mut red = as_role(&store, "Red", document).await;
    let tagged = |name: &str, tags: Vec<Tag>| CreateUserRequest { tags, ..new_user(name) };
    let denied = (Code::PermissionDenied, "AccessDenied");
    refused(red.create_user(tagged("r1", vec![])).await, denied.0, denied.1);
    refused(red.create_user(tagged("r1", vec![tag("team", "blue")])).await, denied.0, denied.1);
    let extra = vec![tag("team", "red"), tag("admin", "yes")];
    refused(red.create_user(tagged("r1", extra)).await, denied.0, denied.1);
    red.create_user(tagged("r1", vec![tag("team", "red"), tag("zone", "z")])).await.unwrap();
    iam.create_user(tagged("b1", vec![tag("team", "blue")])).await.unwrap();
    let delete = |name: &str| DeleteUserRequest { user_name: name.into(), ..Default::default() };
    refused(red.delete_user(delete("b1")).await, denied.0, denied.1);
    red.delete_user(delete("r1")).await.unwrap();
    // To make with tags takes the right to tag.
    let document = allow("iam:CreateUser", "*");
    let mut maker = as_role(&store, "Maker", &document).await;
    maker.create_user(tagged("m1", vec![])).await.unwrap();
    let said =
        refused(maker.create_user(tagged("m2", vec![tag("a", "1")])).await, denied.0, denied.1);
    assert!(said.contains("iam:TagUser"), "{said}");
}

#[tokio::test]
async fn quotas_are_exact_and_named() {
    let mut store = TestStore::start().await;
    store.stop().await;
    for setting in [
        "users=3",
        "groups=2",
        "roles=4",
        "policies=1",
        "policy-versions-in-use=2",
        "groups-per-user=1",
    ] {
        store.quotas = store.quotas.with(setting.parse().unwrap());
    }
    store.run(ACCOUNT).await.unwrap();
    let mut iam = store.admin().await;
    // Twenty at once: three fit.
    let attempts = (0..20).map(|number| {
        let mut iam = iam.clone();
        tokio::spawn(async move { iam.create_user(new_user(&format!("u{number}"))).await })
    });
    let mut made = Vec::new();
    for attempt in attempts.collect::<Vec<_>>() {
        match attempt.await.unwrap() {
            Ok(answer) => made.push(answer.into_inner().user.unwrap().user_name),
            Err(status) => {
                let said = refused::<()>(Err(status), Code::ResourceExhausted, "LimitExceeded");
                assert!(said.contains("users in this account: at most 3"), "{said}");
            }
        }
    }
    assert_eq!(made.len(), 3, "{made:?}");
    let summary = iam.get_account_summary(GetAccountSummaryRequest {}).await.unwrap().into_inner();
    let summary = summary.summary_map;
    assert_eq!((summary["Users"], summary["UsersQuota"], summary["GroupsPerUserQuota"]), (3, 3, 1));
    let delete = DeleteUserRequest { user_name: made[0].clone(), ..Default::default() };
    iam.delete_user(delete).await.unwrap();
    iam.create_user(new_user("again")).await.unwrap();
    let limit = (Code::ResourceExhausted, "LimitExceeded");
    refused(iam.create_user(new_user("more")).await, limit.0, limit.1);

    for name in ["g1", "g2"] {
        iam.create_group(new_group(name)).await.unwrap();
    }
    refused(iam.create_group(new_group("g3")).await, limit.0, limit.1);
    iam.add_user_to_group(join("g1", "again")).await.unwrap();
    let said = refused(iam.add_user_to_group(join("g2", "again")).await, limit.0, limit.1);
    assert!(said.contains("at most 1"), "{said}");
    let arn = policy(&mut iam, "P", &allow("s3:*", "*")).await;
    let more = CreatePolicyRequest {
        policy_name: "Q".into(),
        policy_document: allow("s3:*", "*"),
        ..Default::default()
    };
    refused(iam.create_policy(more).await, limit.0, limit.1);
    let version = CreatePolicyVersionRequest {
        policy_arn: arn,
        policy_document: allow("ec2:*", "*"),
        ..Default::default()
    };
    iam.create_policy_version(version.clone()).await.unwrap();
    refused(iam.create_policy_version(version).await, limit.0, limit.1);
    let summary = iam.get_account_summary(GetAccountSummaryRequest {}).await.unwrap().into_inner();
    assert_eq!(summary.summary_map["PolicyVersionsInUse"], 2);
}

#[tokio::test]
async fn names_that_are_none_are_refused_by_name() {
    let store = TestStore::start().await;
    let mut iam = store.admin().await;
    let huge = "a".repeat(1 << 20);
    for bad in [
        "",
        "a/b",
        "a b",
        "a\0",
        "\u{130}",
        "\u{212a}elvin",
        "é",
        "a\u{200b}",
        "../x",
        "a\n",
        huge.as_str(),
    ] {
        let said =
            refused(iam.create_user(new_user(bad)).await, Code::InvalidArgument, "ValidationError");
        assert!(said.starts_with("user_name: ") && said.len() < 600, "{said}");
        let said = refused(
            iam.create_group(new_group(bad)).await,
            Code::InvalidArgument,
            "ValidationError",
        );
        assert!(said.starts_with("group_name: ") && said.len() < 600, "{said}");
        let said = refused(
            iam.create_role(new_role(bad, &trust(EC2))).await,
            Code::InvalidArgument,
            "ValidationError",
        );
        assert!(said.starts_with("role_name: ") && said.len() < 600, "{said}");
        let moved = UpdateGroupRequest {
            group_name: "x".into(),
            new_group_name: bad.into(),
            ..Default::default()
        };
        assert!(iam.update_group(moved).await.is_err(), "{bad:?}");
    }
}
