//! Signing keys on demand: the next one is published before it signs, and one that was revoked gives way when it is told to.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use countersign_gateway::Rotation;
use tokio::sync::Notify;

use crate::{
    granted::verified,
    proofs::{Workload, request},
    system::System,
};

async fn start(every: Duration) -> (System, Arc<Notify>) {
    let demand = Arc::new(Notify::new());
    let rotation = Rotation::every(every, demand.clone());
    let system = System::start_as(|_| {}, "", |config| config.rotation = rotation).await;
    system.ready().await;
    (system, demand)
}

/// The kid of a new token.
async fn signs(system: &System) -> Result<String, String> {
    let local = Workload::local(&system.gateway.issuer);
    let response = system.exchange(local.sign(request())).await;
    let response = response.map_err(|refused| refused.reason)?;
    Ok(verified(system, &response, "orders").await.kid().to_owned())
}

async fn published(system: &System) -> BTreeSet<String> {
    let (_, headers, body) = system.gateway.http_get("/.well-known/jwks.json").await;
    assert_eq!(headers["cache-control"], "public, max-age=1");
    let jwks: serde_json::Value = serde_json::from_str(&body).unwrap();
    let keys = jwks["keys"].as_array().unwrap();
    keys.iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

async fn until<T>(mut look: impl AsyncFnMut() -> Option<T>) -> T {
    for _ in 0..500 {
        if let Some(found) = look().await {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("it does not come to be");
}

// ATTACKS 81.
#[tokio::test]
async fn the_next_key_is_published_before_it_signs() {
    // Each key waits for a second and a half; the schedule would have its turn later.
    let (system, demand) = start(Duration::from_millis(2900)).await;
    let first = signs(&system).await.unwrap();
    assert_eq!(published(&system).await, BTreeSet::from([first.clone()]));
    demand.notify_one();
    let next = until(async || {
        let keys = published(&system).await;
        keys.into_iter().find(|kid| *kid != first)
    })
    .await;
    assert_eq!(signs(&system).await.unwrap(), first, "the one before signs on");
    until(async || (signs(&system).await.unwrap() == next).then_some(())).await;
    assert!(published(&system).await.is_superset(&BTreeSet::from([first, next])));
}

#[tokio::test]
async fn a_revoked_key_signs_nothing_until_another_is_asked_for() {
    let (system, demand) = start(Duration::from_millis(2900)).await;
    let first = signs(&system).await.unwrap();
    system.store.revoke_all_keys();
    until(async || (signs(&system).await == Err("SigningKeyRevoked".to_owned())).then_some(()))
        .await;
    demand.notify_one();
    let next = until(async || signs(&system).await.ok()).await;
    assert_ne!(first, next);
    let published = published(&system).await;
    assert!(published.contains(&next) && !published.contains(&first), "{published:?}");
}

/// The store is away when a turn is due: the key before signs on, and its lease is renewed.
#[tokio::test]
async fn a_turn_that_fails_changes_nothing() {
    let (system, demand) = start(Duration::from_secs(3)).await;
    let first = signs(&system).await.unwrap();
    system.store.with(|inner| inner.away.insert("PublishSigningKey"));
    let before = system.store.calls("PublishSigningKey");
    demand.notify_one();
    until(async || (system.store.calls("PublishSigningKey") > before).then_some(())).await;
    assert_eq!(signs(&system).await.unwrap(), first);
    assert_eq!(published(&system).await, BTreeSet::from([first]));
}
