//! Two policy stores on one etcd cluster: both serve reads and writes of the same data.

use std::{fs, path::Path};

use countersign_policy_store::Place;
use countersign_proto::policy::v1::*;
use tonic::Code;

use crate::support::{ACCOUNT, TestStore, new_role, new_user, refused, trust};

const EC2: &str = r#"{"Service":"ec2.amazonaws.com"}"#;

async fn first() -> TestStore {
    let store = TestStore::start().await;
    assert!(
        matches!(store.place, Place::Etcd(_)),
        "set COUNTERSIGN_TEST_ETCD to an etcd's address, as tests/run does"
    );
    store
}

fn copy(name: &str, from: &Path, to: &Path) {
    fs::copy(from.join(name), to.join(name)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_are_one_store() {
    let one = first().await;
    let mut other = TestStore::prepared(tempfile::tempdir().unwrap(), one.place.clone());

    // A second process does not make keys of its own, nor replace the first one's.
    let error = other.run(ACCOUNT).await.unwrap_err();
    assert!(error.contains("sealing.key"), "{error}");
    copy("sealing.key", one.path(), other.path());
    let error = other.run(ACCOUNT).await.unwrap_err();
    assert!(error.contains("copy sealing.key and root-credentials.json"), "{error}");
    copy("root-credentials.json", one.path(), other.path());
    let sealing_key = fs::read(other.path().join("sealing.key")).unwrap();
    fs::write(other.path().join("sealing.key"), [7; 32]).unwrap();
    let error = other.run(ACCOUNT).await.unwrap_err();
    assert!(error.contains("the sealing key is not the one"), "{error}");
    fs::write(other.path().join("sealing.key"), sealing_key).unwrap();
    let error = other.run("210987654321").await.unwrap_err();
    assert!(error.contains(ACCOUNT), "{error}");
    other.run(ACCOUNT).await.unwrap();
    other.publish_key().await;

    let (mut here, mut there) = (one.admin().await, other.admin().await);
    let made = here.create_role(new_role("Shared", &trust(EC2))).await.unwrap().into_inner();
    let request = GetRoleRequest { role_name: "Shared".into() };
    let found = there.get_role(request).await.unwrap().into_inner();
    assert_eq!(found.role.unwrap().role_id, made.role.unwrap().role_id);
    refused(
        there.create_role(new_role("shared", &trust(EC2))).await,
        Code::AlreadyExists,
        "EntityAlreadyExists",
    );
    // One name, made on both at once: one of them is told that the other was faster.
    for round in 0..20 {
        let name = format!("race{round}");
        let (left, right) =
            tokio::join!(here.create_user(new_user(&name)), there.create_user(new_user(&name)));
        assert!(left.is_ok() != right.is_ok(), "{left:?} {right:?}");
        let lost = if left.is_ok() { right } else { left };
        refused(lost, Code::AlreadyExists, "EntityAlreadyExists");
    }
    assert_eq!(one.records().await, other.records().await);
}
