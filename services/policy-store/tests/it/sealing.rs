//! The sealing key: a wrong one is found out at the start, and a new one takes over.

use countersign_proto::policy::v1::*;
use countersign_sigv4::key::{SecretKey, derive};

use countersign_policy_store::{Place, SealingKey, SealingKeys};

use crate::support::{ACCOUNT, TestStore, new_user};

#[tokio::test]
async fn secrets_are_sealed_again_under_a_new_key() {
    let mut store = TestStore::start().await;
    let mut iam = store.admin().await;
    iam.create_user(new_user("alice")).await.unwrap();
    let request = CreateAccessKeyRequest { user_name: "alice".into(), ..Default::default() };
    let key = iam.create_access_key(request).await.unwrap().into_inner().access_key.unwrap();
    let today = time::OffsetDateTime::now_utc().date();
    let ask = DeriveSigningKeyRequest {
        access_key_id: key.access_key_id.clone(),
        date: format!("{:04}{:02}{:02}", today.year(), u8::from(today.month()), today.day()),
        region: "us-east-1".into(),
        service_name: "sts".into(),
    };
    let secret = SecretKey::new(key.secret_access_key.clone());
    let expected = derive(&secret, &ask.date, "us-east-1", "sts").as_bytes().to_vec();
    let current = store.path().join("sealing.key");
    let previous = store.path().join("sealing-previous.key");
    store.stop().await;

    // Another key alone is refused, and nothing is lost by it.
    let old = std::fs::read(&current).unwrap();
    std::fs::write(&current, [9; 32]).unwrap();
    let refused = store.run(ACCOUNT).await.unwrap_err();
    assert!(refused.contains("sealing-previous.key"), "{refused}");

    // With the old one beside it, all is served, and sealed again.
    std::fs::write(&previous, &old).unwrap();
    store.run(ACCOUNT).await.unwrap();
    let answer = store.gateway().derive_signing_key(ask.clone()).await.unwrap().into_inner();
    assert_eq!(answer.derived_key, expected);
    // Until it is done, a start without the old key is refused.
    let mut tries = 0;
    loop {
        store.stop().await;
        std::fs::remove_file(&previous).unwrap();
        match store.run(ACCOUNT).await {
            Ok(()) => break,
            Err(refused) => assert!(refused.contains("sealing-previous.key"), "{refused}"),
        }
        tries += 1;
        assert!(tries < 20, "the secrets were not sealed again");
        std::fs::write(&previous, &old).unwrap();
        store.run(ACCOUNT).await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    let answer = store.gateway().derive_signing_key(ask).await.unwrap().into_inner();
    assert_eq!(answer.derived_key, expected);
}

/// A key that is given is nowhere in the data folder, and replaced as one in a file is.
#[tokio::test]
async fn the_sealing_key_may_be_given() {
    let (first, second) = (key_of(7), key_of(8));
    let folder = tempfile::tempdir().unwrap();
    let mut store = TestStore::prepared(folder, Place::DataFolder);
    store.sealing = SealingKeys::Given { current: first.clone(), previous: None };
    store.run(ACCOUNT).await.unwrap();
    assert!(!store.path().join("sealing.key").exists());
    store.stop().await;
    // Another one, or one from the folder, does not do.
    store.sealing = SealingKeys::Given { current: second.clone(), previous: None };
    let refused = store.run(ACCOUNT).await.unwrap_err();
    assert!(refused.contains("COUNTERSIGN_SEALING_KEY_PREVIOUS"), "{refused}");
    store.sealing = SealingKeys::DataFolder;
    let refused = store.run(ACCOUNT).await.unwrap_err();
    assert!(refused.contains("sealing.key"), "{refused}");
    store.sealing = SealingKeys::Given { current: second.clone(), previous: Some(first) };
    store.run(ACCOUNT).await.unwrap();
    let mut tries = 0;
    loop {
        store.stop().await;
        store.sealing = SealingKeys::Given { current: second.clone(), previous: None };
        if store.run(ACCOUNT).await.is_ok() {
            break;
        }
        tries += 1;
        assert!(tries < 20, "the secrets were not sealed again");
        store.sealing = SealingKeys::Given { current: second.clone(), previous: Some(key_of(7)) };
        store.run(ACCOUNT).await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    store.stop().await;
}

fn key_of(byte: u8) -> SealingKey {
    use base64::{Engine, engine::general_purpose::STANDARD};
    STANDARD.encode([byte; 32]).parse().unwrap()
}
