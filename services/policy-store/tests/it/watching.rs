//! Following the store.

use std::collections::HashMap;

use countersign_policy_store::Place;
use countersign_proto::policy::v1::*;
use countersign_replica::Digest;
use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming};

use crate::support::{TestStore, new_role, new_user, refused, trust};

async fn watch(
    store: &TestStore,
    revision: &str,
    kinds: &[RecordKind],
) -> (mpsc::Sender<WatchRequest>, Streaming<WatchResponse>) {
    let (sender, receiver) = mpsc::channel(8);
    let start = WatchStart {
        revision: revision.into(),
        kinds: kinds.iter().map(|kind| (*kind).into()).collect(),
        follower_name: "test".into(),
    };
    let request = WatchRequest { request: Some(watch_request::Request::Start(start)) };
    sender.send(request).await.unwrap();
    let events = store.decision().watch(ReceiverStream::new(receiver)).await.unwrap().into_inner();
    (sender, events)
}

async fn next(events: &mut Streaming<WatchResponse>) -> watch_response::Event {
    events.message().await.unwrap().unwrap().event.unwrap()
}

/// The next thing that is not a heartbeat.
async fn next_change(events: &mut Streaming<WatchResponse>) -> WatchChange {
    loop {
        match next(events).await {
            watch_response::Event::Heartbeat(_) => {}
            watch_response::Event::Change(change) => return change,
            other => panic!("{other:?}"),
        }
    }
}

fn number(revision: &str) -> u64 {
    revision.split_once(':').unwrap().1.parse().unwrap()
}

#[tokio::test]
async fn a_snapshot_then_every_change_in_order() {
    let store = TestStore::start().await;
    let mut iam = store.admin().await;
    let (acks, mut events) = watch(&store, "", &[RecordKind::User]).await;
    let watch_response::Event::SnapshotChunk(chunk) = next(&mut events).await else { panic!() };
    assert!(chunk.first && chunk.last && chunk.records.is_empty());

    let mut last = number(&chunk.revision);
    for n in 0..20 {
        iam.create_user(new_user(&format!("u{n}"))).await.unwrap();
        // Roles are not asked for.
        iam.create_role(new_role(&format!("R{n}"), &trust(r#"{"Service":"ec2.amazonaws.com"}"#)))
            .await
            .unwrap();
    }
    let mut held = String::new();
    for n in 0..20 {
        let change = next_change(&mut events).await;
        assert!(number(&change.revision) > last);
        last = number(&change.revision);
        assert_eq!(change.put.len(), 1);
        assert!(change.put[0].key.ends_with(&format!("/u{n}")), "{}", change.put[0].key);
        held = change.revision;
    }
    // A rename is one change: the old key goes, the new one comes.
    let rename = UpdateUserRequest {
        user_name: "u0".into(),
        new_user_name: "zero".into(),
        ..Default::default()
    };
    iam.update_user(rename).await.unwrap();
    let change = next_change(&mut events).await;
    assert!(
        change.deleted[0].ends_with("/u0") && change.put[0].key.ends_with("/zero"),
        "{change:?}"
    );
    drop(acks);

    // A follower that held a revision goes on from there.
    let (_acks, mut events) = watch(&store, &held, &[RecordKind::User]).await;
    assert!(next_change(&mut events).await.deleted[0].ends_with("/u0"));
    // One of another store, or of the future, is given a snapshot.
    for revision in ["0000000000000000:3", &format!("{}:99999", held.split_once(':').unwrap().0)] {
        let (_acks, mut events) = watch(&store, revision, &[RecordKind::User]).await;
        let watch_response::Event::SnapshotChunk(chunk) = next(&mut events).await else { panic!() };
        assert_eq!(chunk.records.len(), 20, "{revision}");
    }
}

/// Applies events to what a follower holds until a heartbeat at `revision` or later says what that should be; returns both.
async fn compared(
    events: &mut Streaming<WatchResponse>,
    held: &mut HashMap<String, u64>,
    revision: u64,
) -> (Digest, Digest) {
    loop {
        let (put, deleted) = match next(events).await {
            watch_response::Event::SnapshotChunk(chunk) => (chunk.records, Vec::new()),
            watch_response::Event::Change(change) => (change.put, change.deleted),
            watch_response::Event::Heartbeat(heartbeat) => {
                let Some(counted) = heartbeat.digest else { continue };
                if number(&heartbeat.revision) < revision {
                    continue;
                }
                let mut have = Digest::default();
                for (key, version) in held.iter() {
                    have.add(*version, key.as_bytes());
                }
                return (have, counted.into());
            }
        };
        for key in &deleted {
            held.remove(key);
        }
        held.extend(put.into_iter().map(|record| (record.key, record.version)));
    }
}

/// F9: a follower can tell that it has missed a change.
#[tokio::test]
async fn heartbeats_say_what_a_follower_should_hold() {
    let store = TestStore::start().await;
    let mut iam = store.admin().await;
    for kinds in [&[][..], &[RecordKind::User, RecordKind::AccessKey]] {
        let (_acks, mut events) = watch(&store, "", kinds).await;
        let mut held = HashMap::new();
        let (have, counted) = compared(&mut events, &mut held, 0).await;
        assert_eq!(have, counted);
        let mut last = String::new();
        for n in 0..20 {
            let user = iam.create_user(new_user(&format!("u{n}"))).await.unwrap();
            let rename = UpdateUserRequest {
                user_name: format!("u{n}"),
                new_user_name: format!("v{n}"),
                ..Default::default()
            };
            assert!(!user.into_inner().revision.is_empty());
            iam.update_user(rename).await.unwrap();
            let gone = DeleteUserRequest { user_name: format!("v{n}"), ..Default::default() };
            last = if n % 2 == 0 {
                iam.delete_user(gone).await.unwrap().into_inner().revision
            } else {
                last
            };
        }
        let (have, counted) = compared(&mut events, &mut held, number(&last)).await;
        assert_eq!(have, counted);
        // One that missed a change differs.
        let key = held.keys().find(|key| key.starts_with("user/")).unwrap().clone();
        held.remove(&key);
        let (have, counted) = compared(&mut events, &mut held, number(&last)).await;
        assert_ne!(have, counted);
        for n in (1..20).step_by(2) {
            let gone = DeleteUserRequest { user_name: format!("v{n}"), ..Default::default() };
            iam.delete_user(gone).await.unwrap();
        }
    }
}

/// F13, small: followers that read nothing keep nobody else waiting.
#[tokio::test]
async fn followers_that_read_nothing_keep_nobody_waiting() {
    let store = TestStore::start().await;
    let mut iam = store.admin().await;
    let mut idle = Vec::new();
    for _ in 0..100 {
        idle.push(watch(&store, "", &[]).await);
    }
    let (_acks, mut events) = watch(&store, "", &[RecordKind::User]).await;
    let watch_response::Event::SnapshotChunk(_) = next(&mut events).await else { panic!() };
    for n in 0..50 {
        iam.create_user(new_user(&format!("u{n}"))).await.unwrap();
        let change = next_change(&mut events).await;
        assert!(change.put[0].key.ends_with(&format!("/u{n}")));
    }
    assert_eq!(idle.len(), 100);
}

#[tokio::test]
async fn no_secret_is_in_the_watch() {
    let store = TestStore::start().await;
    let mut iam = store.admin().await;
    iam.create_user(new_user("alice")).await.unwrap();
    let request = CreateAccessKeyRequest { user_name: "alice".into(), ..Default::default() };
    let key = iam.create_access_key(request).await.unwrap().into_inner().access_key.unwrap();
    let root = std::fs::read_to_string(store.path().join("root-credentials.json")).unwrap();
    let root: serde_json::Value = serde_json::from_str(&root).unwrap();
    let records = store.records().await;
    assert!(records.contains_key(&format!("key/{}", key.access_key_id)));
    for record in records.values() {
        let bytes = record.encode_to_vec();
        for secret in [key.secret_access_key.as_str(), root["SecretAccessKey"].as_str().unwrap()] {
            assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()));
        }
    }
    // Nor in the store's own files, if it is one with files.
    if store.place != Place::DataFolder {
        return;
    }
    for entry in std::fs::read_dir(store.path().join("store")).unwrap() {
        let path = entry.unwrap().path();
        let Ok(bytes) = std::fs::read(&path) else { continue };
        let secret = key.secret_access_key.as_bytes();
        assert!(!bytes.windows(secret.len()).any(|window| window == secret), "{}", path.display());
    }
}

#[tokio::test]
async fn a_new_key_waits_for_those_who_follow() {
    let store = TestStore::start().await;
    let (acks, mut events) = watch(&store, "", &[]).await;
    let watch_response::Event::SnapshotChunk(chunk) = next(&mut events).await else { panic!() };
    let acknowledged = || async {
        let request = ListSigningKeysRequest::default();
        let listed = store.gateway().list_signing_keys(request).await.unwrap().into_inner();
        listed.signing_keys[0].acknowledged
    };
    assert!(!acknowledged().await);
    let ack = |revision: &str| WatchRequest {
        request: Some(watch_request::Request::Ack(WatchAck { revision: revision.into() })),
    };
    acks.send(ack("ffffffffffffffff:99999")).await.unwrap();
    acks.send(ack(&chunk.revision)).await.unwrap();
    let mut tries = 0;
    while !acknowledged().await {
        tries += 1;
        assert!(tries < 500, "the acknowledgement did not arrive");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn only_those_who_may_follow_do() {
    let store = TestStore::start().await;
    let start = || {
        let start = WatchStart { follower_name: "test".into(), ..Default::default() };
        tokio_stream::iter([WatchRequest { request: Some(watch_request::Request::Start(start)) }])
    };
    let mut admin = store.admin().await;
    admin.watch(start()).await.unwrap();
    let request = CreateAccountRequest { account_id: "222222222222".into(), ..Default::default() };
    admin.create_account(request).await.unwrap();
    let mut tenant = store.session("222222222222", "CountersignAdministrator").await;
    let answer = tenant.watch(start()).await.map(|_| tonic::Response::new(()));
    refused(answer, Code::PermissionDenied, "AccessDenied");
    let nothing = tokio_stream::iter([WatchRequest { request: None }]);
    let answer = admin.watch(nothing).await.map(|_| tonic::Response::new(()));
    refused(answer, Code::InvalidArgument, "ValidationError");
    let unknown = WatchStart { kinds: vec![99], ..Default::default() };
    let unknown = WatchRequest { request: Some(watch_request::Request::Start(unknown)) };
    let answer = admin.watch(tokio_stream::iter([unknown])).await.map(|_| tonic::Response::new(()));
    refused(answer, Code::InvalidArgument, "ValidationError");
}

#[tokio::test]
async fn a_watch_does_not_outlive_its_callers_rights() {
    let store = TestStore::start().await;
    let mut admin = store.admin().await;
    let trusting = trust(r#"{"AWS":"123456789012"}"#);
    admin.create_role(new_role("Follower", &trusting)).await.unwrap();
    let put = PutRolePolicyRequest {
        role_name: "Follower".into(),
        policy_name: "P".into(),
        policy_document: crate::support::allow("countersign:Watch", "*"),
        ..Default::default()
    };
    admin.put_role_policy(put).await.unwrap();
    let role_id = store.role_id(crate::support::ACCOUNT, "Follower").await;
    let start = || {
        let start = WatchStart { kinds: vec![RecordKind::User.into()], ..Default::default() };
        let request = WatchRequest { request: Some(watch_request::Request::Start(start)) };
        tokio_stream::StreamExt::chain(tokio_stream::iter([request]), tokio_stream::pending())
    };
    let bearer = |lifetime| {
        store.token(crate::support::ACCOUNT, "Follower", &role_id, "countersign", lifetime)
    };
    let end = async |events: tonic::Response<Streaming<WatchResponse>>| {
        let mut events = events.into_inner();
        loop {
            match events.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("ended without a word"),
                Err(status) => return status,
            }
        }
    };
    // Its token expires.
    let events = store.client(bearer(3)).watch(start()).await.unwrap();
    assert_eq!(end(events).await.code(), Code::Unauthenticated);
    // Its right is taken away.
    let events = store.client(bearer(900)).watch(start()).await.unwrap();
    let gone = DeleteRolePolicyRequest {
        role_name: "Follower".into(),
        policy_name: "P".into(),
        ..Default::default()
    };
    admin.delete_role_policy(gone).await.unwrap();
    assert_eq!(end(events).await.code(), Code::PermissionDenied);
}
