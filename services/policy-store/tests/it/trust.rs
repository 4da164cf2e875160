//! Whom trust policies name, and who may do what.

use countersign_proto::policy::v1::*;
use tonic::Code;

use crate::support::{ACCOUNT, TestStore, allow, new_role, new_user, refused, trust};

async fn resolved(store: &TestStore, role: &str) -> Vec<ResolvedPrincipal> {
    let key = format!("role/{ACCOUNT}/{}", role.to_lowercase());
    match store.records().await.remove(&key).unwrap().record.unwrap() {
        record::Record::Role(role) => role.resolved_principals,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_trust_policys_principals_are_resolved_when_it_is_written() {
    let store = TestStore::start().await;
    let mut iam = store.admin().await;
    let nobody = trust(r#"{"AWS":"arn:aws:iam::123456789012:user/alice"}"#);
    let message = refused(
        iam.create_role(new_role("R", &nobody)).await,
        Code::InvalidArgument,
        "MalformedPolicyDocument",
    );
    assert!(message.contains("user/alice"), "{message}");
    let alice = iam.create_user(new_user("alice")).await.unwrap().into_inner().user.unwrap();
    iam.create_role(new_role("R", &nobody)).await.unwrap();
    let principals = resolved(&store, "R").await;
    assert_eq!(principals[0].unique_id, alice.user_id);
    assert_eq!(principals[0].realm(), Realm::Countersign);

    // Deleted and made again under the name, alice is not the one that is trusted.
    iam.delete_user(DeleteUserRequest { user_name: "alice".into(), ..Default::default() })
        .await
        .unwrap();
    let again = iam.create_user(new_user("alice")).await.unwrap().into_inner().user.unwrap();
    assert_ne!(resolved(&store, "R").await[0].unique_id, again.user_id);

    // Another spelling of the name, or another path, is another principal.
    for arn in ["user/Alice", "user/x/alice"] {
        let document = trust(&format!(r#"{{"AWS":"arn:aws:iam::123456789012:{arn}"}}"#));
        let answer = iam.create_role(new_role("R2", &document)).await;
        refused(answer, Code::InvalidArgument, "MalformedPolicyDocument");
    }
}

#[tokio::test]
async fn a_federated_principal_is_a_provider_of_the_roles_own_account() {
    let store = TestStore::start().await;
    let mut iam = store.admin().await;
    let eks = "oidc.eks.eu-west-1.amazonaws.com/id/EXAMPLE";
    let federated = |name: &str| trust(&format!(r#"{{"Federated":"{name}"}}"#));
    for (number, name, good) in [
        (0, format!("arn:aws:iam::{ACCOUNT}:oidc-provider/{eks}"), true),
        (1, format!("arn:aws:iam::{ACCOUNT}:oidc-provider/127.0.0.1:7000"), true),
        (2, format!("arn:aws:iam::999999999999:oidc-provider/{eks}"), false),
        (3, format!("arn:aws-cn:iam::{ACCOUNT}:oidc-provider/{eks}"), false),
        (4, format!("arn:aws:iam::{ACCOUNT}:oidc-provider/https://{eks}"), false),
        (5, format!("arn:aws:iam::{ACCOUNT}:saml-provider/Corp"), false),
        (6, eks.to_owned(), false),
        (7, "cognito-identity.amazonaws.com".to_owned(), false),
    ] {
        let answer = iam.create_role(new_role(&format!("F{number}"), &federated(&name))).await;
        match good {
            true => drop(answer.unwrap()),
            false => drop(refused(answer, Code::InvalidArgument, "MalformedPolicyDocument")),
        }
    }
    assert_eq!(resolved(&store, "F0").await, []);
    // No web identity asks about a resource.
    let provider = format!("arn:aws:iam::{ACCOUNT}:oidc-provider/{eks}");
    let policy = federated(&provider)
        .replace(r#""Action":"sts:AssumeRole""#, r#""Action":"s3:*","Resource":"*""#);
    let answer = iam
        .put_resource_policy(PutResourcePolicyRequest {
            resource_arn: "arn:aws:s3:::b".into(),
            policy,
            ..Default::default()
        })
        .await;
    refused(answer, Code::InvalidArgument, "MalformedPolicyDocument");
}

#[tokio::test]
async fn a_number_is_local_or_external_never_both() {
    let store = TestStore::start().await;
    let mut iam = store.admin().await;
    let external = trust(r#"{"AWS":["arn:aws:iam::999999999999:role/Deploy","888888888888"]}"#);
    iam.create_role(new_role("R", &external)).await.unwrap();
    let principals = resolved(&store, "R").await;
    assert!(
        principals.iter().all(|p| p.realm() == Realm::Aws && p.unique_id.is_empty()),
        "{principals:?}"
    );
    let create = |id: &str| CreateAccountRequest { account_id: id.into(), ..Default::default() };
    for id in ["999999999999", "888888888888"] {
        refused(iam.create_account(create(id)).await, Code::InvalidArgument, "ValidationError");
    }
    // Once nobody names it any more, the number is free.
    let local = trust(r#"{"Service":"ec2.amazonaws.com"}"#);
    let update = UpdateAssumeRolePolicyRequest {
        role_name: "R".into(),
        policy_document: local,
        ..Default::default()
    };
    iam.update_assume_role_policy(update).await.unwrap();
    iam.create_account(create("999999999999")).await.unwrap();
    refused(
        iam.create_account(create("999999999999")).await,
        Code::AlreadyExists,
        "EntityAlreadyExists",
    );
    // And from now on it is local: a principal in it must exist.
    let answer = iam.create_role(new_role("R3", &external)).await;
    refused(answer, Code::InvalidArgument, "MalformedPolicyDocument");
    for bad in ["", "12", "99999999999x", "9999999999999"] {
        refused(iam.create_account(create(bad)).await, Code::InvalidArgument, "ValidationError");
    }
}

#[tokio::test]
async fn countersigns_own_policies_decide_who_may_do_what() {
    let store = TestStore::start().await;
    let mut admin = store.admin().await;
    admin.create_role(new_role("Reader", &trust(r#"{"AWS":"123456789012"}"#))).await.unwrap();
    let mut reader = store.session(ACCOUNT, "Reader").await;
    let get = || GetRoleRequest { role_name: "Reader".into() };
    let message = refused(reader.get_role(get()).await, Code::PermissionDenied, "AccessDenied");
    for part in ["assumed-role/Reader/test", "iam:GetRole", "arn:aws:iam::123456789012:role/Reader"]
    {
        assert!(message.contains(part), "{message}");
    }
    let put = |document: &str| PutRolePolicyRequest {
        role_name: "Reader".into(),
        policy_name: "P".into(),
        policy_document: document.into(),
        ..Default::default()
    };
    admin
        .put_role_policy(put(&allow("iam:Get*", "arn:aws:iam::123456789012:role/Reader")))
        .await
        .unwrap();
    // Told at once: the store judges by what it holds at this moment.
    reader.get_role(get()).await.unwrap();
    let other =
        reader.get_role(GetRoleRequest { role_name: "CountersignAdministrator".into() }).await;
    refused(other, Code::PermissionDenied, "AccessDenied");
    refused(
        reader.create_role(new_role("X", &trust(r#"{"AWS":"123456789012"}"#))).await,
        Code::PermissionDenied,
        "AccessDenied",
    );
    // What is attached is a condition key.
    let only_s3 = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iam:AttachRolePolicy","Resource":"*",
        "Condition":{"ArnEquals":{"iam:PolicyARN":"arn:aws:iam::aws:policy/AmazonS3FullAccess"}}}]}"#;
    admin.put_role_policy(put(only_s3)).await.unwrap();
    let attach = |name: &str| AttachRolePolicyRequest {
        role_name: "Reader".into(),
        policy_arn: format!("arn:aws:iam::aws:policy/{name}"),
        ..Default::default()
    };
    reader.attach_role_policy(attach("AmazonS3FullAccess")).await.unwrap();
    refused(
        reader.attach_role_policy(attach("AmazonDynamoDBFullAccess")).await,
        Code::PermissionDenied,
        "AccessDenied",
    );

    // A role made again under the name does not inherit its sessions.
    admin
        .detach_role_policy(DetachRolePolicyRequest {
            role_name: "Reader".into(),
            policy_arn: "arn:aws:iam::aws:policy/AmazonS3FullAccess".into(),
            ..Default::default()
        })
        .await
        .unwrap();
    admin
        .delete_role_policy(DeleteRolePolicyRequest {
            role_name: "Reader".into(),
            policy_name: "P".into(),
            ..Default::default()
        })
        .await
        .unwrap();
    admin
        .delete_role(DeleteRoleRequest { role_name: "Reader".into(), ..Default::default() })
        .await
        .unwrap();
    refused(reader.get_role(get()).await, Code::PermissionDenied, "AccessDenied");
    admin.create_role(new_role("Reader", &trust(r#"{"AWS":"123456789012"}"#))).await.unwrap();
    admin.put_role_policy(put(&allow("*", "*"))).await.unwrap();
    let message = refused(reader.get_role(get()).await, Code::PermissionDenied, "AccessDenied");
    assert!(message.contains("session is over"), "{message}");
}

#[tokio::test]
async fn bad_tokens_are_no_credentials() {
    let store = TestStore::start().await;
    let role_id = store.role_id(ACCOUNT, "CountersignAdministrator").await;
    let other = TestStore::start().await;
    for (bearer, expected) in [
        (
            store.token(ACCOUNT, "CountersignAdministrator", &role_id, "orders", 900),
            "WrongAudience",
        ),
        (
            other.token(ACCOUNT, "CountersignAdministrator", &role_id, "countersign", 900),
            "UnknownKey",
        ),
    ] {
        let answer = store.client(bearer).list_roles(ListRolesRequest::default()).await;
        refused(answer, Code::Unauthenticated, expected);
    }
    // Of another store, or of a future that this one has lost.
    let (id, number) = store.revision.split_once(':').unwrap();
    let number: u64 = number.parse().unwrap();
    for revision in [format!("ffffffffffffffff:{number}"), format!("{id}:{}", number + 1000)] {
        let bearer = store.token_at(ACCOUNT, "CountersignAdministrator", &role_id, &revision);
        let answer = store.client(bearer).list_roles(ListRolesRequest::default()).await;
        refused(answer, Code::Unauthenticated, "InvalidToken");
    }
    let none =
        PolicyStoreService::connect(&store).await.list_roles(ListRolesRequest::default()).await;
    refused(none, Code::Unauthenticated, "MissingAuthenticationToken");
    // Services have no account to act in.
    let answer = store.gateway().list_roles(ListRolesRequest::default()).await;
    refused(answer, Code::PermissionDenied, "AccessDenied");
}

/// A client without credentials.
struct PolicyStoreService;

impl PolicyStoreService {
    async fn connect(
        store: &TestStore,
    ) -> policy_store_service_client::PolicyStoreServiceClient<tonic::transport::Channel> {
        let origin = store.origin.clone();
        policy_store_service_client::PolicyStoreServiceClient::connect(origin).await.unwrap()
    }
}

#[tokio::test]
async fn who_speaks_for_a_service_is_said_by_those_who_may_pass_the_role() {
    let store = TestStore::start().await;
    let mut admin = store.admin().await;
    let user = admin.create_user(new_user("instance")).await.unwrap().into_inner().user.unwrap();
    for role in ["Target", "Binder"] {
        admin
            .create_role(new_role(role, &trust(r#"{"Service":"ec2.amazonaws.com"}"#)))
            .await
            .unwrap();
    }
    let role_arn = "arn:aws:iam::123456789012:role/Target";
    let bind = |service: &str, caller: &str| BindServicePrincipalRequest {
        role_arn: role_arn.into(),
        service_principal: service.into(),
        caller_unique_id: caller.into(),
        ..Default::default()
    };
    let put = |document: &str| PutRolePolicyRequest {
        role_name: "Binder".into(),
        policy_name: "P".into(),
        policy_document: document.into(),
        ..Default::default()
    };
    let mut binder = store.session(ACCOUNT, "Binder").await;
    admin.put_role_policy(put(&allow("countersign:BindServicePrincipal", "*"))).await.unwrap();
    let message = refused(
        binder.bind_service_principal(bind("ec2.amazonaws.com", &user.user_id)).await,
        Code::PermissionDenied,
        "AccessDenied",
    );
    assert!(message.contains("iam:PassRole"), "{message}");
    let pass_to_lambda = r#"{"Version":"2012-10-17","Statement":[
        {"Effect":"Allow","Action":"countersign:BindServicePrincipal","Resource":"*"},
        {"Effect":"Allow","Action":"iam:PassRole","Resource":"*",
         "Condition":{"StringEquals":{"iam:PassedToService":"lambda.amazonaws.com"}}}]}"#;
    admin.put_role_policy(put(pass_to_lambda)).await.unwrap();
    refused(
        binder.bind_service_principal(bind("ec2.amazonaws.com", &user.user_id)).await,
        Code::PermissionDenied,
        "AccessDenied",
    );
    binder.bind_service_principal(bind("lambda.amazonaws.com", &user.user_id)).await.unwrap();

    let bound = |service: &str, caller: &str| {
        let mut admin = admin.clone();
        let request = bind(service, caller);
        async move { admin.bind_service_principal(request).await }
    };
    refused(
        bound("ec2.amazonaws.com", "AIDANOBODYNOBODY00000").await,
        Code::NotFound,
        "NoSuchEntity",
    );
    refused(bound("ec2.amazonaws.com", "instance").await, Code::InvalidArgument, "ValidationError");
    refused(bound("EC2 amazonaws", &user.user_id).await, Code::InvalidArgument, "ValidationError");
    // An EC2 instance, by its id and its account, and for EC2 alone.
    let instance = |service: &str, id: &str, account: &str| {
        let mut admin = admin.clone();
        let request =
            BindServicePrincipalRequest { caller_account_id: account.into(), ..bind(service, id) };
        async move { admin.bind_service_principal(request).await }
    };
    let (id, theirs) = ("i-078517ca8a70a1dde", "999999999999");
    let made = instance("ec2.amazonaws.com", id, theirs).await.unwrap().into_inner().binding;
    assert_eq!(made.map(|made| made.caller_unique_id).as_deref(), Some(id));
    for (service, id, account) in [
        ("lambda.amazonaws.com", id, theirs),
        ("ec2.amazonaws.com", id, ""),
        ("ec2.amazonaws.com", id, ACCOUNT),
        ("ec2.amazonaws.com", "i-078517ca8a70a1dd", theirs),
        ("ec2.amazonaws.com", "i-*", theirs),
    ] {
        let refusal = instance(service, id, account).await;
        refused(refusal, Code::InvalidArgument, "ValidationError");
    }
    let unbind = DeleteServicePrincipalBindingRequest {
        role_arn: role_arn.into(),
        service_principal: "ec2.amazonaws.com".into(),
        caller_unique_id: id.into(),
        caller_account_id: theirs.into(),
        ..Default::default()
    };
    admin.clone().delete_service_principal_binding(unbind).await.unwrap();
    let made =
        bound("ec2.amazonaws.com", &user.user_id).await.unwrap().into_inner().binding.unwrap();
    assert_eq!(made.caller_account_id, ACCOUNT);
    let list =
        ListServicePrincipalBindingsRequest { role_arn: role_arn.into(), ..Default::default() };
    let found = admin.list_service_principal_bindings(list).await.unwrap().into_inner().bindings;
    assert_eq!(found.len(), 2);
    let delete = DeleteRoleRequest { role_name: "Target".into(), ..Default::default() };
    refused(admin.delete_role(delete.clone()).await, Code::FailedPrecondition, "DeleteConflict");
    for service in ["ec2.amazonaws.com", "lambda.amazonaws.com"] {
        let request = DeleteServicePrincipalBindingRequest {
            role_arn: role_arn.into(),
            service_principal: service.into(),
            caller_unique_id: user.user_id.clone(),
            ..Default::default()
        };
        admin.delete_service_principal_binding(request).await.unwrap();
    }
    admin.delete_role(delete).await.unwrap();
    // Another account's role is not there to bind to.
    let foreign = BindServicePrincipalRequest {
        role_arn: "arn:aws:iam::999999999999:role/Target".into(),
        ..bind("ec2.amazonaws.com", &user.user_id)
    };
    refused(admin.bind_service_principal(foreign).await, Code::PermissionDenied, "AccessDenied");
}

#[tokio::test]
async fn a_role_that_is_moved_on_the_way_is_not_the_one_that_was_allowed() {
    let store = TestStore::start().await;
    let mut admin = store.admin().await;
    let make = |role: &str, path: &str| CreateRoleRequest {
        path: path.into(),
        ..new_role(role, &trust(r#"{"Service":"ec2.amazonaws.com"}"#))
    };
    admin.create_role(make("Dev", "/")).await.unwrap();
    let put = |role: &str, document: &str| PutRolePolicyRequest {
        role_name: role.into(),
        policy_name: "P".into(),
        policy_document: document.into(),
        ..Default::default()
    };
    let only_dev = allow("iam:*", "arn:aws:iam::123456789012:role/dev/*");
    admin.put_role_policy(put("Dev", &only_dev)).await.unwrap();
    let dev = store.session(ACCOUNT, "Dev").await;
    // One floods the name, which is now in /dev/ and now in /admin/; not one write may end in /admin/.
    let flood = tokio::spawn(async move {
        let mut dev = dev;
        for _ in 0..300 {
            let _ = dev.put_role_policy(put("X", &allow("*", "*"))).await;
        }
    });
    while !flood.is_finished() {
        for path in ["/dev/", "/admin/"] {
            admin.create_role(make("X", path)).await.unwrap();
            tokio::time::sleep(std::time::Duration::from_millis(3)).await;
            let request = ListRolePoliciesRequest { role_name: "X".into(), ..Default::default() };
            let found = admin.list_role_policies(request).await.unwrap().into_inner().policy_names;
            assert!(path == "/dev/" || found.is_empty(), "{path}: {found:?}");
            // It may be written to until it is gone.
            loop {
                let gone = DeleteRolePolicyRequest {
                    role_name: "X".into(),
                    policy_name: "P".into(),
                    ..Default::default()
                };
                let _ = admin.delete_role_policy(gone).await;
                let delete = DeleteRoleRequest { role_name: "X".into(), ..Default::default() };
                if admin.delete_role(delete).await.is_ok() {
                    break;
                }
            }
        }
    }
    flood.await.unwrap();
}
