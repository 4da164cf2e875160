//! Signing keys on demand: the next one is published before it signs, and one that was revoked gives way when it is told to.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use countersign_gateway::Rotation;
use countersign_proto::{
    decision::v1::{AuthorizeResponse, Decision},
    token::v1::{
        ExchangeRequest, RotateSigningKeyRequest,
        token_exchange_service_client::TokenExchangeServiceClient,
    },
};
use tokio::sync::Notify;
use tonic::{Code, Request};

use crate::{
    granted::verified,
    proofs::{Workload, request},
    system::{Refused, System},
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

/// However often it is asked for: the store keeps only so many, and a gateway that starts needs room for its first.
#[tokio::test]
async fn no_key_takes_the_last_places() {
    let (system, demand) = start(Duration::from_millis(2900)).await;
    let first = signs(&system).await.unwrap();
    for _ in 0..71 {
        system.store.publish_another();
    }
    until(async || (published(&system).await.len() == 72).then_some(())).await;
    let before = system.store.calls("PublishSigningKey");
    demand.notify_one();
    // By then one that was on its way would sign.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(signs(&system).await.unwrap(), first);
    assert_eq!(published(&system).await.len(), 72);
    assert_eq!(system.store.calls("PublishSigningKey"), before);
    // Where nothing signs any more, one must.
    system.store.revoke_all_keys();
    until(async || (signs(&system).await == Err("SigningKeyRevoked".to_owned())).then_some(()))
        .await;
    demand.notify_one();
    assert_ne!(until(async || signs(&system).await.ok()).await, first);
}

/// By RPC: who has the right, and is of the operator's account.
#[tokio::test]
async fn who_may_ask_for_another_key() {
    let rotation = Rotation::every(Duration::from_millis(3900), Arc::default());
    let system = System::start_as(|_| {}, "", |config| config.rotation = rotation).await;
    system.ready().await;
    let local = Workload::local(&system.gateway.issuer);
    let token = async |role: &str| {
        let asked = ExchangeRequest {
            role_arn: format!("arn:aws:iam::000000000000:role/{role}"),
            audience: "countersign".into(),
            ..request()
        };
        system.exchange(local.sign(asked)).await.unwrap().access_token
    };
    let (operator, administrator) =
        (token("KeyKeeper").await, token("CountersignAdministrator").await);
    let ask = async |token: &str| {
        let mut client = TokenExchangeServiceClient::new(system.gateway.channel.clone());
        let mut asked = Request::new(RotateSigningKeyRequest {});
        asked.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        let answer = client.rotate_signing_key(asked).await;
        answer.map(|answer| answer.into_inner().kid).map_err(Refused::from)
    };
    let first = signs(&system).await.unwrap();
    let denied = async |token: &str, because: &str| {
        let refused = ask(token).await.unwrap_err();
        assert_eq!(refused.reason, "AccessDenied");
        assert!(refused.message.contains(because), "{}", refused.message);
        assert_eq!(published(&system).await.len(), 1);
    };
    denied(&operator, "no policy").await;
    let question = system.decision.permissions().pop().unwrap();
    let asked = (question.action.as_str(), question.resource.as_str());
    assert_eq!(asked, ("countersign:RotateSigningKey", "*"));
    system.decision.permits(|_| {
        let decision = Decision::Allow.into();
        Ok(AuthorizeResponse { decision, allowed: true, ..Default::default() })
    });
    denied(&administrator, "barred").await;
    let next = ask(&operator).await.unwrap();
    assert_ne!(next, first);
    assert!(published(&system).await.contains(&next), "before it signs");
    // While it is on its way there is nothing more to ask for.
    assert_eq!(ask(&operator).await.unwrap(), next);
    until(async || (signs(&system).await.unwrap() == next).then_some(())).await;
}

#[tokio::test]
async fn no_other_account_asks_for_another_key() {
    for account in [None, Some("111122223333".to_owned())] {
        let system = System::start_as(|_| {}, "", |config| config.operator_account = account).await;
        system.ready().await;
        system.decision.permits(|_| {
            let decision = Decision::Allow.into();
            Ok(AuthorizeResponse { decision, allowed: true, ..Default::default() })
        });
        let local = Workload::local(&system.gateway.issuer);
        let asked = ExchangeRequest { audience: "countersign".into(), ..request() };
        let token = system.exchange(local.sign(asked)).await.unwrap().access_token;
        let mut client = TokenExchangeServiceClient::new(system.gateway.channel.clone());
        let mut asked = Request::new(RotateSigningKeyRequest {});
        asked.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        let refused = Refused::from(client.rotate_signing_key(asked).await.unwrap_err());
        assert_eq!(
            (refused.code, refused.reason.as_str()),
            (Code::PermissionDenied, "AccessDenied")
        );
        assert!(refused.message.contains("operator-account"), "{}", refused.message);
    }
}
