//! No room: under the audit trail's files, and in the store.

use std::{path::Path, process::Command, time::Duration};

use countersign_policy_store::{WRITES, audit::trail};
use countersign_proto::policy::v1::*;
use tonic::Code;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::support::{ACCOUNT, TestStore, allow, new_user, refused};

/// A small file system in memory, unmounted when dropped.
struct Mount<'a>(&'a Path);

impl<'a> Mount<'a> {
    /// `None`, with the reason printed, where this process may not mount.
    fn new(folder: &'a Path, size: &str) -> Option<Self> {
        std::fs::create_dir_all(folder).unwrap();
        let arguments = ["-t", "tmpfs", "-o", size, "countersign-test"];
        let run = Command::new("mount").args(arguments).arg(folder).output().unwrap();
        if run.status.success() {
            return Some(Self(folder));
        }
        println!("skipped: a full disk needs a file system of its own: {run:?}");
        None
    }
}

impl Drop for Mount<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0).status();
    }
}

pub async fn writes(store: &TestStore) -> ServingStatus {
    let channel = countersign_serve::grpc::channel(&store.origin).unwrap();
    let asked = HealthCheckRequest { service: WRITES.to_owned() };
    HealthClient::new(channel).check(asked).await.unwrap().into_inner().status()
}

pub async fn until(store: &TestStore, expected: ServingStatus) {
    let reached = async {
        while writes(store).await != expected {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let patience = Duration::from_secs(60);
    assert!(tokio::time::timeout(patience, reached).await.is_ok(), "health is not {expected:?}");
}

/// FAULTS.md F10 and F21: nothing is written whose event would not find its way into the files; all else goes on, and it heals by itself.
#[tokio::test]
async fn a_full_disk_under_the_audit_trail() {
    let folder = tempfile::tempdir().unwrap();
    let audit = folder.path().join("audit");
    let Some(mount) = Mount::new(&audit, "size=8m") else { return };
    let place = countersign_policy_store::Place::Sled(folder.path().join("store"));
    let mut store = TestStore::prepared(folder, place);
    store.run(ACCOUNT).await.unwrap();
    store.publish_key().await;
    let mut iam = store.admin().await;
    until(&store, ServingStatus::Serving).await;
    iam.create_user(new_user("first")).await.unwrap();
    let filler = audit.join("filler");
    // Little room, and once this is gone enough for all that is acknowledged before the full disk is noticed.
    std::fs::write(&filler, vec![1; (8 << 20) - (192 << 10)]).unwrap();
    let mut written = 1;
    let message = loop {
        let put = PutUserPolicyRequest {
            user_name: "first".into(),
            policy_name: "p".into(),
            policy_document: allow(&format!("s3:Get{written}*"), &"arn:aws:s3:::a".repeat(100)),
            ..Default::default()
        };
        match iam.put_user_policy(put).await {
            Ok(_) => written += 1,
            answer => break refused(answer, Code::ResourceExhausted, "LimitExceeded"),
        }
        assert!(written < 10_000, "the disk never filled up");
    };
    assert!(message.contains("audit trail"), "{message}");
    until(&store, ServingStatus::NotServing).await;
    // What has no event goes on, and so does what ends a right.
    iam.get_user(GetUserRequest { user_name: "first".into() }).await.unwrap();
    let soon = std::time::SystemTime::now() + Duration::from_secs(600);
    let proof = ConsumeProofRequest { replay_key: "p".into(), expire_time: Some(soon.into()) };
    store.gateway().consume_proof(proof).await.unwrap();
    let revoke = RevokeTokenRequest {
        token_id: "t".into(),
        expire_time: Some(soon.into()),
        ..Default::default()
    };
    iam.revoke_token(revoke).await.unwrap();
    written += 1;

    std::fs::remove_file(&filler).unwrap();
    until(&store, ServingStatus::Serving).await;
    iam.create_user(new_user("second")).await.unwrap();
    written += 1;
    store.stop().await;
    // Every event of what was acknowledged is in the files.
    assert_eq!(trail::verify(&audit).unwrap().sequence, written);
    drop(mount);
}

/// FAULTS.md F10: a clear answer, reads that go on, and health that says it; with room again it heals by itself, without a write of anybody.
#[tokio::test]
async fn a_full_disk_under_the_store() {
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("disk");
    let Some(mount) = Mount::new(&disk, "size=64m") else { return };
    let place = countersign_policy_store::Place::Sled(disk.join("store"));
    let mut store = TestStore::prepared(folder, place);
    store.run(ACCOUNT).await.unwrap();
    store.publish_key().await;
    let mut iam = store.admin().await;
    iam.create_user(new_user("first")).await.unwrap();
    let filler = disk.join("filler");
    let mut size = 60 << 20;
    while std::fs::write(&filler, vec![1; size]).is_err() {
        size -= 1 << 20;
    }
    let mut written = 0;
    let message = loop {
        let put = PutUserPolicyRequest {
            user_name: "first".into(),
            policy_name: "p".into(),
            policy_document: allow(&format!("s3:Get{written}*"), &"arn:aws:s3:::a".repeat(100)),
            ..Default::default()
        };
        match iam.put_user_policy(put).await {
            Ok(_) => written += 1,
            answer => break refused(answer, Code::ResourceExhausted, "LimitExceeded"),
        }
        assert!(written < 10_000, "the disk never filled up");
    };
    assert!(message.contains("disk is full"), "{message}");
    until(&store, ServingStatus::NotServing).await;
    let asked = GetUserPolicyRequest { user_name: "first".into(), policy_name: "p".into() };
    let found = iam.get_user_policy(asked.clone()).await.unwrap().into_inner();
    assert!(found.policy_document.contains(&format!("s3:Get{}*", written - 1)));

    std::fs::remove_file(&filler).unwrap();
    until(&store, ServingStatus::Serving).await;
    iam.create_user(new_user("second")).await.unwrap();
    store.stop().await;
    // Nothing that was acknowledged is gone.
    store.run(ACCOUNT).await.unwrap();
    let mut iam = store.admin().await;
    assert_eq!(iam.get_user_policy(asked).await.unwrap().into_inner(), found);
    store.stop().await;
    drop(mount);
}
