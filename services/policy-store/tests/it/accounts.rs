//! Accounts and the first start.

use std::{fs, os::unix::fs::PermissionsExt};

use countersign_policy_store::Place;
use countersign_proto::policy::v1::*;
use tonic::Code;

use crate::support::{ACCOUNT, TestStore, allow, new_role, refused, trust};

#[tokio::test]
async fn a_tenant_acts_in_its_own_account_alone() {
    let store = TestStore::start().await;
    let mut operator = store.admin().await;
    let request = CreateAccountRequest { account_id: "222222222222".into(), ..Default::default() };
    let made = operator.create_account(request).await.unwrap().into_inner();
    let root = made.root_access_key.unwrap();
    assert!(root.user_name.is_empty() && root.secret_access_key.len() == 40);

    let mut tenant = store.session("222222222222", "CountersignAdministrator").await;
    let other = CreateAccountRequest { account_id: "333333333333".into(), ..Default::default() };
    refused(tenant.create_account(other.clone()).await, Code::PermissionDenied, "AccessDenied");
    refused(
        tenant.list_accounts(ListAccountsRequest::default()).await,
        Code::PermissionDenied,
        "AccessDenied",
    );
    // The same name in two accounts is two roles.
    let ec2 = trust(r#"{"Service":"ec2.amazonaws.com"}"#);
    let theirs =
        tenant.create_role(new_role("Deploy", &ec2)).await.unwrap().into_inner().role.unwrap();
    let ours =
        operator.create_role(new_role("Deploy", &ec2)).await.unwrap().into_inner().role.unwrap();
    assert_eq!(theirs.arn, "arn:aws:iam::222222222222:role/Deploy");
    assert_ne!(theirs.role_id, ours.role_id);
    // Policies of another account are not there.
    let request = CreatePolicyRequest {
        policy_name: "P".into(),
        policy_document: allow("s3:*", "*"),
        ..Default::default()
    };
    let policy = operator.create_policy(request).await.unwrap().into_inner().policy.unwrap();
    let get = GetPolicyRequest { policy_arn: policy.arn.clone() };
    refused(tenant.get_policy(get).await, Code::NotFound, "NoSuchEntity");
    let attach = AttachRolePolicyRequest {
        role_name: "Deploy".into(),
        policy_arn: policy.arn,
        ..Default::default()
    };
    refused(tenant.attach_role_policy(attach).await, Code::NotFound, "NoSuchEntity");

    // Every account keeps its administrator: whoever made it again would be it.
    let delete =
        DeleteRoleRequest { role_name: "CountersignAdministrator".into(), ..Default::default() };
    refused(operator.delete_role(delete).await, Code::PermissionDenied, "AccessDenied");
    // Who has AWS's policies in one account is not told in another.
    let s3 = "arn:aws:iam::aws:policy/AmazonS3FullAccess";
    let attach = AttachRolePolicyRequest {
        role_name: "Deploy".into(),
        policy_arn: s3.into(),
        ..Default::default()
    };
    operator.attach_role_policy(attach).await.unwrap();
    let request =
        ListEntitiesForPolicyRequest { policy_arn: s3.into(), max_items: 1, ..Default::default() };
    let entities = tenant.list_entities_for_policy(request).await.unwrap().into_inner();
    assert!(entities.policy_roles.is_empty() && entities.marker.is_empty(), "{entities:?}");
    let found =
        tenant.get_policy(GetPolicyRequest { policy_arn: s3.into() }).await.unwrap().into_inner();
    assert_eq!(found.policy.unwrap().attachment_count, 0);

    // Not the operator's every role is the operator.
    let admin = trust(r#"{"AWS":"123456789012"}"#);
    operator.create_role(new_role("Almighty", &admin)).await.unwrap();
    let put = PutRolePolicyRequest {
        role_name: "Almighty".into(),
        policy_name: "P".into(),
        policy_document: allow("*", "*"),
        ..Default::default()
    };
    operator.put_role_policy(put).await.unwrap();
    let mut almighty = store.session(ACCOUNT, "Almighty").await;
    refused(almighty.create_account(other).await, Code::PermissionDenied, "AccessDenied");
}

#[tokio::test]
async fn a_restart_keeps_everything() {
    let mut store = TestStore::start().await;
    let credentials = store.path().join("root-credentials.json");
    let before = fs::read(&credentials).unwrap();
    assert_eq!(fs::metadata(&credentials).unwrap().permissions().mode() & 0o777, 0o600);
    let shown: serde_json::Value = serde_json::from_slice(&before).unwrap();
    assert_eq!(shown["Version"], 1);
    let mut iam = store.admin().await;
    iam.create_role(new_role("R", &trust(r#"{"Service":"ec2.amazonaws.com"}"#))).await.unwrap();
    let records = store.records().await;
    store.stop().await;

    let error = store.run("999999999999").await.unwrap_err();
    assert!(error.contains(ACCOUNT), "{error}");
    store.run(ACCOUNT).await.unwrap();
    assert_eq!(store.records().await, records);
    assert_eq!(fs::read(&credentials).unwrap(), before);
    store.stop().await;

    // In a store that others share, nobody replaces a key (shared.rs).
    if store.place != Place::DataFolder {
        return;
    }
    // Whoever loses the file gets a new key, and the old one ends.
    let old = shown["AccessKeyId"].as_str().unwrap();
    fs::remove_file(&credentials).unwrap();
    store.run(ACCOUNT).await.unwrap();
    let records = store.records().await;
    assert!(!records.contains_key(&format!("key/{old}")));
    let new: serde_json::Value = serde_json::from_slice(&fs::read(&credentials).unwrap()).unwrap();
    assert!(records.contains_key(&format!("key/{}", new["AccessKeyId"].as_str().unwrap())));
    store.stop().await;

    // A start that was cut off while it replaced the key left a file that the store does not know: the key is replaced again.
    let id = new["AccessKeyId"].as_str().unwrap();
    let text = String::from_utf8(fs::read(&credentials).unwrap()).unwrap();
    fs::write(&credentials, text.replace(id, "AKIACUTOFFCUTOFFCUTO")).unwrap();
    store.run(ACCOUNT).await.unwrap();
    assert!(!store.records().await.contains_key(&format!("key/{id}")));
    store.stop().await;

    // Without its sealing key the store is not served: it would look whole, and open no secret.
    fs::remove_file(store.path().join("sealing.key")).unwrap();
    let error = store.run(ACCOUNT).await.unwrap_err();
    assert!(error.contains("sealing"), "{error}");
}
