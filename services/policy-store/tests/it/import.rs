//! An export put into another account, in one commit or in many.

use countersign_proto::policy::v1::*;
use tonic::Code;
use tonic_types::StatusExt;

use crate::{
    export::export,
    support::{ACCOUNT, Bearer, Client, TestStore, allow, new_role, new_user, refused, trust},
};

const TENANT: &str = "222222222222";
const EC2: &str = r#"{"Service":"ec2.amazonaws.com"}"#;

type Details = GetAccountAuthorizationDetailsResponse;
type Import = ImportAccountAuthorizationDetailsRequest;

fn request(details: Details) -> Import {
    let Details { user_detail_list, group_detail_list, role_detail_list, policies, .. } = details;
    Import { user_detail_list, group_detail_list, role_detail_list, policies, ..Default::default() }
}

fn user(user_name: &str) -> UserDetail {
    UserDetail { user_name: user_name.into(), ..Default::default() }
}

fn role(role_name: &str, assume_role_policy_document: String) -> RoleDetail {
    RoleDetail { role_name: role_name.into(), assume_role_policy_document, ..Default::default() }
}

fn policy(policy_name: &str, document: &str) -> ManagedPolicyDetail {
    let version = PolicyVersion {
        document: document.into(),
        version_id: "v1".into(),
        is_default_version: true,
        ..Default::default()
    };
    ManagedPolicyDetail {
        policy_name: policy_name.into(),
        default_version_id: "v1".into(),
        policy_version_list: vec![version],
        ..Default::default()
    }
}

fn attached(policy_arn: &str) -> Vec<AttachedPolicy> {
    vec![AttachedPolicy { policy_arn: policy_arn.into(), ..Default::default() }]
}

/// What an import makes anew, taken away; and the account of ARNs replaced.
fn bare(mut details: Details, account: &str) -> Details {
    let here = |arn: &mut String| *arn = arn.replace(account, "ACCOUNT");
    for it in &mut details.user_detail_list {
        (it.user_id, it.create_date) = Default::default();
        here(&mut it.arn);
        it.attached_managed_policies.iter_mut().for_each(|it| here(&mut it.policy_arn));
        it.permissions_boundary.iter_mut().for_each(|it| here(&mut it.permissions_boundary_arn));
    }
    for it in &mut details.group_detail_list {
        (it.group_id, it.create_date) = Default::default();
        here(&mut it.arn);
        it.attached_managed_policies.iter_mut().for_each(|it| here(&mut it.policy_arn));
    }
    details.role_detail_list.retain(|it| it.role_name != "CountersignAdministrator");
    for it in &mut details.role_detail_list {
        (it.role_id, it.create_date) = Default::default();
        here(&mut it.arn);
        it.attached_managed_policies.iter_mut().for_each(|it| here(&mut it.policy_arn));
        it.permissions_boundary.iter_mut().for_each(|it| here(&mut it.permissions_boundary_arn));
    }
    for it in &mut details.policies {
        (it.policy_id, it.create_date, it.update_date) = Default::default();
        it.policy_version_list.iter_mut().for_each(|it| it.create_date = None);
        here(&mut it.arn);
    }
    details
}

/// An account with something of everything.
async fn furnish(iam: &mut Client<Bearer>) {
    let create = CreatePolicyRequest {
        policy_name: "Own".into(),
        path: "/p/".into(),
        policy_document: allow("s3:*", "*"),
        description: "own".into(),
        tags: vec![Tag { key: "team".into(), value: "a".into() }],
        ..Default::default()
    };
    let own = iam.create_policy(create).await.unwrap().into_inner().policy.unwrap().arn;
    for (action, set_as_default) in [("sqs:*", true), ("sns:*", false)] {
        let version = CreatePolicyVersionRequest {
            policy_arn: own.clone(),
            policy_document: allow(action, "*"),
            set_as_default,
            ..Default::default()
        };
        iam.create_policy_version(version).await.unwrap();
    }
    let delete = DeletePolicyVersionRequest {
        policy_arn: own.clone(),
        version_id: "v1".into(),
        ..Default::default()
    };
    iam.delete_policy_version(delete).await.unwrap();
    let group =
        CreateGroupRequest { group_name: "Staff".into(), path: "/g/".into(), ..Default::default() };
    iam.create_group(group).await.unwrap();
    let put = PutGroupPolicyRequest {
        group_name: "Staff".into(),
        policy_name: "p".into(),
        policy_document: allow("x:*", "*"),
        ..Default::default()
    };
    iam.put_group_policy(put).await.unwrap();
    let new = CreateUserRequest {
        tags: vec![
            Tag { key: "b".into(), value: "1".into() },
            Tag { key: "a".into(), value: "2".into() },
        ],
        permissions_boundary: own.clone(),
        path: "/staff/".into(),
        ..new_user("Alice")
    };
    iam.create_user(new).await.unwrap();
    let join = AddUserToGroupRequest {
        group_name: "staff".into(),
        user_name: "alice".into(),
        ..Default::default()
    };
    iam.add_user_to_group(join).await.unwrap();
    let put = PutUserPolicyRequest {
        user_name: "Alice".into(),
        policy_name: "q".into(),
        policy_document: allow("y:*", "*"),
        ..Default::default()
    };
    iam.put_user_policy(put).await.unwrap();
    let role = CreateRoleRequest {
        description: "d".into(),
        max_session_duration: 7_200,
        ..new_role("R", &trust(EC2))
    };
    iam.create_role(role).await.unwrap();
    for policy_arn in ["arn:aws:iam::aws:policy/AmazonS3FullAccess", own.as_str()] {
        let attach = AttachRolePolicyRequest {
            role_name: "R".into(),
            policy_arn: policy_arn.into(),
            ..Default::default()
        };
        iam.attach_role_policy(attach).await.unwrap();
    }
}

async fn tenant(store: &TestStore) -> Client<Bearer> {
    let create = CreateAccountRequest { account_id: TENANT.into(), ..Default::default() };
    store.admin().await.create_account(create).await.unwrap();
    store.session(TENANT, "CountersignAdministrator").await
}

#[tokio::test]
async fn an_export_becomes_the_same_in_another_account() {
    let store = TestStore::start().await;
    let mut iam = store.admin().await;
    furnish(&mut iam).await;
    let mut theirs = tenant(&store).await;
    let (all, _) = export(&mut iam, Default::default()).await;

    // Found out to be good, and not done.
    let asked = Import { validate_only: true, ..request(all.clone()) };
    let answer = theirs.import_account_authorization_details(asked).await.unwrap().into_inner();
    assert_eq!((answer.created_count, answer.unchanged_count), (4, 0));
    let (nothing, _) = export(&mut theirs, Default::default()).await;
    assert!(nothing.user_detail_list.is_empty() && nothing.policies.is_empty());

    let asked = Import { request_id: "once".into(), ..request(all.clone()) };
    let answer =
        theirs.import_account_authorization_details(asked.clone()).await.unwrap().into_inner();
    assert_eq!((answer.created_count, answer.unchanged_count, answer.commit_count), (4, 0, 1));
    assert_eq!(answer.findings[0].code, "AdministratorStays");
    assert_eq!(answer.findings[0].pointer, "/role_detail_list/0");
    let (there, _) = export(&mut theirs, Default::default()).await;
    assert_eq!(bare(there.clone(), TENANT), bare(all.clone(), ACCOUNT));
    assert_ne!(there.user_detail_list[0].user_id, all.user_detail_list[0].user_id);
    // The records agree with the marks for the way back.
    let own = format!("arn:aws:iam::{TENANT}:policy/p/Own");
    assert_eq!(there.policies[0].arn, own);
    let uses =
        (there.policies[0].attachment_count, there.policies[0].permissions_boundary_usage_count);
    assert_eq!(uses, (1, 1));
    let summary =
        theirs.get_account_summary(GetAccountSummaryRequest {}).await.unwrap().into_inner();
    for (key, number) in [("Users", 1), ("Groups", 1), ("Policies", 1), ("PolicyVersionsInUse", 2)]
    {
        assert_eq!(summary.summary_map[key], number, "{key}");
    }
    // The next version goes on from the last number.
    let version = CreatePolicyVersionRequest {
        policy_arn: own,
        policy_document: allow("a:*", "*"),
        ..Default::default()
    };
    let version = theirs.create_policy_version(version).await.unwrap().into_inner();
    assert_eq!(version.policy_version.unwrap().version_id, "v4");

    // A retry is answered as the first was; another import finds everything there, but for the policy, which is another now.
    let again = theirs.import_account_authorization_details(asked).await.unwrap().into_inner();
    assert_eq!(again, answer);
    let answer = theirs.import_account_authorization_details(request(all.clone())).await;
    let message = refused(answer, Code::AlreadyExists, "EntityAlreadyExists");
    assert!(message.starts_with("/policies/0: ") && message.contains("`Own`"), "{message}");
    let users = Import { policies: Vec::new(), ..request(all) };
    let answer = theirs.import_account_authorization_details(users).await.unwrap().into_inner();
    assert_eq!((answer.created_count, answer.unchanged_count), (0, 3));

    // The trail has both imports that were done, with what they made.
    let lookup = LookupEventsRequest::default();
    let events = theirs.lookup_events(lookup).await.unwrap().into_inner().events;
    let made: Vec<_> = events
        .iter()
        .filter(|event| event.event_name == "ImportAccountAuthorizationDetails")
        .collect();
    assert_eq!(made.len(), 2);
    let text = &made[1].cloud_trail_event;
    assert!(text.contains(&format!("arn:aws:iam::{TENANT}:user/staff/Alice")), "{text}");
}

#[tokio::test]
async fn roles_may_trust_each_other() {
    let store = TestStore::start().await;
    let mut iam = store.admin().await;
    let of = |role: &str| trust(&format!(r#"{{"AWS":"arn:aws:iam::{ACCOUNT}:role/{role}"}}"#));
    let of_user = trust(&format!(r#"{{"AWS":"arn:aws:iam::{ACCOUNT}:user/u"}}"#));
    let asked = Import {
        role_detail_list: vec![
            role("A", of("B")),
            role("B", of("A")),
            role("C", of("C")),
            role("D", of_user),
        ],
        user_detail_list: vec![user("u")],
        ..Default::default()
    };
    let answer =
        iam.import_account_authorization_details(asked.clone()).await.unwrap().into_inner();
    assert_eq!((answer.created_count, answer.commit_count), (5, 1));
    let records = store.records().await;
    for (name, trusted) in [("a", "b"), ("b", "a"), ("c", "c")] {
        let Some(record::Record::Role(role)) = &records[&format!("role/{ACCOUNT}/{name}")].record
        else {
            panic!()
        };
        let id = store.role_id(ACCOUNT, trusted).await;
        assert_eq!(role.resolved_principals[0].unique_id, id, "{name}");
    }
    let answer = iam.import_account_authorization_details(asked).await.unwrap().into_inner();
    assert_eq!((answer.created_count, answer.unchanged_count), (0, 5));
}

/// More than one commit holds: in parts, each entity whole; and gone on with where it was broken off.
#[tokio::test]
async fn a_large_account_comes_in_parts() {
    let store = TestStore::start().await;
    let mut iam = store.admin().await;
    let own = format!("arn:aws:iam::{ACCOUNT}:policy/P1");
    let of =
        |number: usize| trust(&format!(r#"{{"AWS":"arn:aws:iam::{ACCOUNT}:role/R{number}"}}"#));
    let details = Import {
        policies: (0..20).map(|n| policy(&format!("P{n}"), &allow("s3:*", "*"))).collect(),
        group_detail_list: (0..20)
            .map(|n| GroupDetail {
                group_name: format!("G{n}"),
                attached_managed_policies: attached(&own),
                ..Default::default()
            })
            .collect(),
        user_detail_list: (0..150)
            .map(|n| UserDetail {
                group_list: (0..4).map(|g| format!("G{}", (n + g) % 20)).collect(),
                attached_managed_policies: attached(&own),
                ..user(&format!("U{n}"))
            })
            .collect(),
        // Each trusts the one after it, and the last the first.
        role_detail_list: (0..60).map(|n| role(&format!("R{n}"), of((n + 1) % 60))).collect(),
        ..Default::default()
    };
    let checked = Import { validate_only: true, ..details.clone() };
    let answer = iam.import_account_authorization_details(checked).await.unwrap().into_inner();
    assert_eq!((answer.created_count, answer.commit_count), (250, 0));
    // As if it had been broken off: some of it is there.
    let some =
        Import { user_detail_list: Vec::new(), role_detail_list: Vec::new(), ..details.clone() };
    iam.import_account_authorization_details(some).await.unwrap();
    let answer =
        iam.import_account_authorization_details(details.clone()).await.unwrap().into_inner();
    assert_eq!((answer.created_count, answer.unchanged_count), (210, 40));
    assert!(answer.commit_count > 5, "{}", answer.commit_count);
    let (all, _) = export(&mut iam, Default::default()).await;
    assert_eq!((all.user_detail_list.len(), all.role_detail_list.len()), (150, 61));
    for (detail, asked) in all.user_detail_list.iter().zip({
        let mut asked = details.user_detail_list.clone();
        asked.sort_by_key(|it| it.user_name.to_lowercase());
        asked
    }) {
        let sorted = |mut names: Vec<String>| {
            names.sort();
            names
        };
        assert_eq!(sorted(detail.group_list.clone()), sorted(asked.group_list));
        assert_eq!(detail.attached_managed_policies[0].policy_arn, own);
    }
    for detail in
        all.role_detail_list.iter().filter(|it| it.role_name != "CountersignAdministrator")
    {
        assert!(!detail.assume_role_policy_document.contains("IsNotDone"), "{detail:?}");
    }
    let uses = all.policies.iter().find(|it| it.arn == own).unwrap().attachment_count;
    assert_eq!(uses, 170);
    let again = iam.import_account_authorization_details(details).await.unwrap().into_inner();
    assert_eq!((again.created_count, again.unchanged_count, again.commit_count), (0, 250, 1));
}

#[tokio::test]
async fn whatever_is_wrong_is_named_by_its_place_and_nothing_is_written() {
    let store = TestStore::start().await;
    let mut iam = store.admin().await;
    iam.create_user(new_user("taken")).await.unwrap();
    let good = || trust(EC2);
    let one = |user: UserDetail| Import { user_detail_list: vec![user], ..Default::default() };
    let inline = |policy_document: &str| {
        vec![PolicyDetail { policy_name: "p".into(), policy_document: policy_document.into() }]
    };
    let boundary =
        AttachedPermissionsBoundary { permissions_boundary_arn: "x".into(), ..Default::default() };
    let missing = format!("arn:aws:iam::{ACCOUNT}:policy/Missing");
    let cases: Vec<(&str, Import, Code, &str, &[&str])> = vec![
        (
            "taken",
            one(user("TAKEN")),
            Code::AlreadyExists,
            "EntityAlreadyExists",
            &["/user_detail_list/0"],
        ),
        (
            "twins",
            Import { user_detail_list: vec![user("a"), user("A")], ..Default::default() },
            Code::InvalidArgument,
            "ValidationError",
            &["/user_detail_list/1"],
        ),
        (
            "name",
            one(user("a b")),
            Code::InvalidArgument,
            "ValidationError",
            &["/user_detail_list/0"],
        ),
        (
            "document",
            one(UserDetail { user_policy_list: inline("{\n  \"Version\": 1}"), ..user("a") }),
            Code::InvalidArgument,
            "MalformedPolicyDocument",
            &["/user_detail_list/0/user_policy_list/0/policy_document:2:14"],
        ),
        (
            "two at once",
            Import {
                user_detail_list: vec![
                    user("TAKEN"),
                    UserDetail { group_list: vec!["none".into()], ..user("b") },
                ],
                role_detail_list: vec![RoleDetail {
                    attached_managed_policies: attached(&missing),
                    ..role("R", good())
                }],
                ..Default::default()
            },
            Code::AlreadyExists,
            "EntityAlreadyExists",
            &["/user_detail_list/0", "/user_detail_list/1", "/role_detail_list/0"],
        ),
        (
            "boundary",
            one(UserDetail { permissions_boundary: Some(boundary), ..user("a") }),
            Code::InvalidArgument,
            "ValidationError",
            &["/user_detail_list/0/permissions_boundary"],
        ),
        (
            "arn",
            one(UserDetail { arn: format!("arn:aws:iam::{ACCOUNT}:user/b"), ..user("a") }),
            Code::InvalidArgument,
            "ValidationError",
            &["/user_detail_list/0"],
        ),
        (
            "another account's policy",
            one(UserDetail {
                attached_managed_policies: attached("arn:aws:iam::333333333333:policy/P"),
                ..user("a")
            }),
            Code::InvalidArgument,
            "ValidationError",
            &["/user_detail_list/0/attached_managed_policies/0"],
        ),
        (
            "one that AWS has and the store has not",
            Import {
                policies: vec![ManagedPolicyDetail {
                    arn: "arn:aws:iam::aws:policy/Unheard".into(),
                    ..Default::default()
                }],
                ..Default::default()
            },
            Code::NotFound,
            "NoSuchEntity",
            &["/policies/0"],
        ),
        (
            "versions",
            Import {
                policies: vec![ManagedPolicyDetail {
                    default_version_id: "v2".into(),
                    ..policy("P", &allow("a:*", "*"))
                }],
                ..Default::default()
            },
            Code::InvalidArgument,
            "ValidationError",
            &["/policies/0/policy_version_list/0", "/policies/0"],
        ),
        (
            "a principal that is not there",
            Import {
                role_detail_list: vec![role(
                    "R",
                    trust(&format!(r#"{{"AWS":"arn:aws:iam::{ACCOUNT}:user/none"}}"#)),
                )],
                ..Default::default()
            },
            Code::InvalidArgument,
            "MalformedPolicyDocument",
            &["/role_detail_list/0"],
        ),
        (
            "duration",
            Import {
                role_detail_list: vec![RoleDetail { max_session_duration: 1, ..role("R", good()) }],
                ..Default::default()
            },
            Code::InvalidArgument,
            "ValidationError",
            &["/role_detail_list/0"],
        ),
    ];
    let before = store.records().await.len();
    for (case, asked, code, expected, places) in cases {
        let status = iam.import_account_authorization_details(asked.clone()).await.unwrap_err();
        let named: Vec<String> = status
            .get_details_bad_request()
            .map(|details| details.field_violations.into_iter().map(|it| it.field).collect())
            .unwrap_or_default();
        assert_eq!(named, places, "{case}: {status:?}");
        let only_checked = Import { validate_only: true, ..asked };
        for answer in [Err(status), iam.import_account_authorization_details(only_checked).await] {
            let message = refused(answer, code, expected);
            assert!(message.starts_with(places[0].split(':').next().unwrap()), "{case}: {message}");
        }
    }
    assert_eq!(store.records().await.len(), before);
}

/// An import allows nobody more than making each entity by itself would.
#[tokio::test]
async fn an_import_needs_what_its_parts_need() {
    let store = TestStore::start().await;
    let mut admin = store.admin().await;
    admin.create_role(new_role("Importer", &trust(EC2))).await.unwrap();
    let mut importer = store.session(ACCOUNT, "Importer").await;
    let own = "countersign:ImportAccountAuthorizationDetails";
    let s3 = "arn:aws:iam::aws:policy/AmazonS3FullAccess";
    let group = GroupDetail { path: "/in/".into(), group_name: "G".into(), ..Default::default() };
    let alice = UserDetail {
        attached_managed_policies: attached(s3),
        group_list: vec!["g".into()],
        ..user("alice")
    };
    let asked = Import {
        user_detail_list: vec![alice],
        group_detail_list: vec![group],
        ..Default::default()
    };
    let all =
        [own, "iam:CreateGroup", "iam:CreateUser", "iam:AttachUserPolicy", "iam:AddUserToGroup"];
    for missing in all {
        let actions: Vec<&str> = all.into_iter().filter(|action| *action != missing).collect();
        let document = allow(&actions.join(r#"",""#), "*").replace(r#""Action":"#, r#""Action":["#);
        let document = document.replace(r#","Resource""#, r#"],"Resource""#);
        let put = PutRolePolicyRequest {
            role_name: "Importer".into(),
            policy_name: "p".into(),
            policy_document: document.clone(),
            ..Default::default()
        };
        admin.put_role_policy(put.clone()).await.unwrap();
        let answer = importer.import_account_authorization_details(asked.clone()).await;
        let message = refused(answer, Code::PermissionDenied, "AccessDenied");
        assert!(message.contains(missing), "{missing}: {message}");
    }
    // A condition on what is attached counts, and the group's own path.
    let narrow = |arn: &str, group: &str| {
        format!(
            r#"{{"Version":"2012-10-17","Statement":[
            {{"Effect":"Allow","Action":["{own}","iam:CreateGroup","iam:CreateUser"],"Resource":"*"}},
            {{"Effect":"Allow","Action":"iam:AddUserToGroup","Resource":"arn:aws:iam::{ACCOUNT}:group{group}"}},
            {{"Effect":"Allow","Action":"iam:AttachUserPolicy","Resource":"*","Condition":{{"ArnEquals":{{"iam:PolicyARN":"{arn}"}}}}}}]}}"#
        )
    };
    for (arn, group, good) in [
        ("arn:aws:iam::aws:policy/ReadOnly", "/in/G", false),
        (s3, "/G", false),
        (s3, "/in/G", true),
    ] {
        let put = PutRolePolicyRequest {
            role_name: "Importer".into(),
            policy_name: "p".into(),
            policy_document: narrow(arn, group),
            ..Default::default()
        };
        admin.put_role_policy(put).await.unwrap();
        let answer = importer.import_account_authorization_details(asked.clone()).await;
        assert_eq!(answer.is_ok(), good, "{arn} {group}: {answer:?}");
    }
}
