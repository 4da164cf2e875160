//! F11: etcd's space runs out.

use std::sync::Arc;

use countersign_store::conformance::{all_changes, put};
use countersign_store::{CommitError, MAX_VALUE_BYTES, Store, StoreError};
use etcd_client::{AlarmAction, AlarmOptions, AlarmType};

use crate::cluster::{Cluster, Setup};

const QUOTA: u64 = 24 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_space_is_said_exactly_and_heals() {
    let arguments = vec![format!("--quota-backend-bytes={QUOTA}")];
    let cluster = Cluster::start_with(Setup { members: 3, arguments, ..Setup::default() }).await;
    let store = cluster.open("space/").await;
    // Many at once, since etcd applies what meets the quota only when it is applied, and answers "no space" all the same.
    let tasks: Vec<_> = (0..16_u8).map(|task| tokio::spawn(fill(store.clone(), task))).collect();
    let (mut acknowledged, mut refused, mut unknown) = (Vec::new(), Vec::new(), Vec::new());
    for task in tasks {
        for (key, outcome) in task.await.unwrap() {
            match outcome {
                Ok(number) => acknowledged.push((key, number)),
                Err(StoreError::Full) => refused.push(key),
                Err(StoreError::Unavailable(_)) => unknown.push(key),
                Err(error) => panic!("{error}"),
            }
        }
    }
    println!(
        "F11: {} acknowledged, {} refused as full, {} of unknown end",
        acknowledged.len(),
        refused.len(),
        unknown.len()
    );
    assert!(!refused.is_empty() && !acknowledged.is_empty());

    // What was acknowledged is there, what was refused is not, for this process and for the next; and it can be read while full.
    for store in [store.clone(), cluster.open("space/").await] {
        for (key, number) in &acknowledged {
            let found = store.get(key.as_bytes()).await.unwrap().map(|entry| entry.version);
            assert_eq!(found, Some(*number), "{key}");
        }
        for key in &refused {
            assert_eq!(
                store.get(key.as_bytes()).await,
                Ok(None),
                "{key} was said not to be written"
            );
        }
        let changes = all_changes(&store).await.len();
        assert!((acknowledged.len()..=acknowledged.len() + unknown.len()).contains(&changes));
        assert_eq!(
            store.commit(vec![], vec![put("one more", "1")]).await,
            Err(CommitError::Store(StoreError::Full))
        );
    }

    make_room(&cluster).await;
    // By itself, on the handle that was refused.
    let number = store.commit(vec![], vec![put("one more", "1")]).await.unwrap().number;
    assert_eq!(store.get(b"one more").await.unwrap().map(|entry| entry.version), Some(number));
}

async fn fill(store: Arc<dyn Store>, task: u8) -> Vec<(String, Result<u64, StoreError>)> {
    let mut outcomes = Vec::new();
    let mut refused = 0;
    for round in 0..1000 {
        let key = format!("{task}/{round}");
        let value = vec![task; MAX_VALUE_BYTES];
        let outcome = match store.commit(vec![], vec![put(key.as_str(), value)]).await {
            Ok(revision) => Ok(revision.number),
            Err(CommitError::Store(error)) => Err(error),
            Err(error) => panic!("{error}"),
        };
        refused += u32::from(outcome.is_err());
        outcomes.push((key, outcome));
        if refused == 3 {
            break;
        }
    }
    outcomes
}

/// What deploy/ETCD.md tells an operator to do: fewer keys, compaction, defragmentation, then the alarm.
async fn make_room(cluster: &Cluster) {
    let mut client = cluster.client(0).await;
    // An operator's own delete: deleting is allowed while the alarm is on.
    let deleted = client
        .delete("space/data/1", Some(etcd_client::DeleteOptions::new().with_prefix()))
        .await
        .unwrap();
    let revision = deleted.header().unwrap().revision();
    client
        .compact(revision, Some(etcd_client::CompactionOptions::new().with_physical()))
        .await
        .unwrap();
    for member in 0..cluster.members.len() {
        cluster.client(member).await.defragment().await.unwrap();
    }
    // Each member that ran out has its own.
    let alarms = client.alarm(AlarmAction::Get, AlarmType::None, None).await.unwrap();
    assert!(!alarms.alarms().is_empty());
    for alarm in alarms.alarms() {
        let mut member = AlarmOptions::new();
        member.with_member(alarm.member_id());
        client.alarm(AlarmAction::Deactivate, alarm.alarm(), Some(member)).await.unwrap();
    }
}
