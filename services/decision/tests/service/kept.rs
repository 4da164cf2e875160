//! A start while the store is away, and what is too old to answer from, over real gRPC.

use std::{fs, path::Path, time::Duration};

use countersign_decision::SERVICE_NAME;
use countersign_proto::decision::v1::{GetStatusRequest, GetStatusResponse};
use countersign_serve::grpc::wait_until_serving;
use tonic::Code;

use super::harness::{System, by, eventually, question, refused};

async fn status(system: &System) -> GetStatusResponse {
    let request = system.by_gateway(GetStatusRequest {});
    system.client.clone().get_status(request).await.unwrap().into_inner()
}

#[tokio::test]
async fn it_starts_without_the_store_from_what_was_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    let first = System::start_with(|config| config.snapshot_dir = Some(path.clone())).await;
    let kept = eventually(async || {
        let status = status(&first).await;
        (!status.kept_revision.is_empty()).then_some(status)
    })
    .await;
    assert_eq!((kept.kept_revision, kept.is_kept), (first.store.revision(), false));
    assert!(kept.kept_snapshot_age.unwrap().seconds < 60);

    // Nobody answers it; the tokens are of the first one, whose key was kept.
    let begin = async |folder: &Path| {
        System::begin_with(|config| {
            config.snapshot_dir = Some(folder.to_owned());
            config.patience = Duration::from_millis(100);
        })
        .await
    };
    let second = begin(&path).await;
    wait_until_serving(&second.origin, SERVICE_NAME, Duration::from_secs(20)).await.unwrap();
    let ask = async |system: &System| {
        let asked =
            by(&first.token("Checker", "countersign"), question(first.token("App", "orders")));
        system.client.clone().authorize(asked).await
    };
    let answer = ask(&second).await.unwrap().into_inner();
    assert!(answer.allowed && answer.revision == first.store.revision());
    assert!(status(&second).await.is_kept);
    // The store is back.
    second.store.open();
    eventually(async || (!status(&second).await.is_kept).then_some(())).await;

    // A damaged one is as good as none.
    let mut bytes = fs::read(path.join("snapshot")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    let elsewhere = tempfile::tempdir().unwrap();
    fs::write(elsewhere.path().join("snapshot"), bytes).unwrap();
    let third = begin(elsewhere.path()).await;
    let early = wait_until_serving(&third.origin, SERVICE_NAME, Duration::from_secs(4)).await;
    assert!(early.is_err());
    third.store.open();
    wait_until_serving(&third.origin, SERVICE_NAME, Duration::from_secs(20)).await.unwrap();
}

#[tokio::test]
async fn what_is_too_old_is_no_answer() {
    let limit = Duration::from_secs(3);
    let system = System::start_with(|config| config.max_staleness = Some(limit)).await;
    let ask = async || system.authorize(question(system.token("App", "orders"))).await;
    assert!(ask().await.unwrap().allowed);
    system.store.close();
    for _ in 0..100 {
        match ask().await {
            Ok(answer) => {
                let age = answer.snapshot_age.unwrap();
                assert!(Duration::try_from(age).unwrap() <= limit + Duration::from_millis(500));
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            refusal @ Err(_) => {
                let (code, reason, _) = refused(refusal);
                assert_eq!((code, reason.as_str()), (Code::Unavailable, "SnapshotTooOld"));
                break;
            }
        }
    }
    assert!(ask().await.is_err());
    // It is still told what there is.
    assert!(!status(&system).await.revision.is_empty());
    system.store.open();
    eventually(async || ask().await.ok()).await;
}
