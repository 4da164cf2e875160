//! Signing keys that take turns while tokens are made and used: none that is good is refused.
//!
//! FAULTS F18, shortened: a turn each second, until six keys have signed.

#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test that cannot go on stops here"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign_gateway::Rotation;
use countersign_harness::{Ask, System};
use countersign_policy_store::audit::trail;
use countersign_proto::{
    decision::v1::{AuthorizeRequest, authorize_request::Subject},
    token::v1::GetJwksRequest,
};

const KEYS: usize = 6;
const TASKS: usize = 4;
/// Turns may fail and be made up for; this is no measure of time.
const PATIENCE: Duration = Duration::from_secs(60);

fn kid(token: &str) -> String {
    let header = URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap();
    let header: serde_json::Value = serde_json::from_slice(&header).unwrap();
    header["kid"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_token_is_refused_while_keys_rotate() {
    let demand = Arc::new(tokio::sync::Notify::new());
    let rotation = Rotation::every(Duration::from_secs(1), demand.clone());
    let system = Arc::new(System::with(|options| options.rotation = rotation).await);
    let user = system.create_user("alice").await;
    let inline = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"orders:*","Resource":"*"}]}"#;
    let principal = format!(r#"{{"AWS":"{}"}}"#, user.arn);
    let role = system.create_role("Rotated", &principal, &[], inline).await;

    let kids: Arc<Mutex<BTreeMap<String, usize>>> = Arc::default();
    let refused: Arc<Mutex<Vec<String>>> = Arc::default();
    // A token of each key, kept to be used once more at the end.
    let kept: Arc<Mutex<BTreeMap<String, String>>> = Arc::default();
    let user = Arc::new(user);
    let started = Instant::now();
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let (system, user, role) = (system.clone(), user.clone(), role.clone());
            let (kids, refused, kept) = (kids.clone(), refused.clone(), kept.clone());
            tokio::spawn(async move {
                for number in 0.. {
                    if kids.lock().unwrap().len() >= KEYS || started.elapsed() > PATIENCE {
                        return;
                    }
                    let ask = Ask::new(&role, format!("s-{task}-{number}"), "orders");
                    let granted = match system.exchange(&user.credentials, &ask).await {
                        Ok(granted) => granted,
                        Err(status) => {
                            refused.lock().unwrap().push(format!("exchange: {status:?}"));
                            return;
                        }
                    };
                    let kid = kid(&granted.access_token);
                    *kids.lock().unwrap().entry(kid.clone()).or_default() += 1;
                    if let Err(why) = used(&system, &granted.access_token).await {
                        refused.lock().unwrap().push(why);
                    }
                    kept.lock().unwrap().insert(kid, granted.access_token);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }

    let kids = kids.lock().unwrap().clone();
    let refused = refused.lock().unwrap().clone();
    let tokens: usize = kids.values().sum();
    println!(
        "{tokens} tokens of {} keys in {:.1} s; {} refused",
        kids.len(),
        started.elapsed().as_secs_f64(),
        refused.len()
    );
    assert_eq!(refused, Vec::<String>::new());
    assert!(kids.len() >= KEYS, "{kids:?}");

    // Each of them was written down before it was given out, in a chain that holds.
    let exchanges = system.running.admin_token_path.parent().unwrap().join("exchanges");
    let written = trail::verify(&exchanges).unwrap().sequence;
    // The administrator's own token, and what was refused besides, are in it too.
    assert!(written > tokens.try_into().unwrap(), "{written}");

    // What the first key signed is good to its end, and every key is published as long.
    let kept = kept.lock().unwrap().clone();
    for token in kept.values() {
        used(&system, token).await.unwrap();
    }
    let jwks = system.gateway_as(&system.admin).get_jwks(GetJwksRequest {}).await.unwrap();
    let jwks: serde_json::Value = serde_json::from_str(&jwks.into_inner().jwks).unwrap();
    let published: BTreeSet<_> = jwks["keys"]
        .as_array()
        .unwrap()
        .iter()
        .map(|key| key["kid"].as_str().unwrap().to_owned())
        .collect();
    assert!(kids.keys().all(|kid| published.contains(kid)), "{published:?} {kids:?}");
}

async fn used(system: &System, token: &str) -> Result<(), String> {
    let request = AuthorizeRequest {
        subject: Some(Subject::Token(token.to_owned())),
        audience: "orders".into(),
        action: "orders:GetOrder".into(),
        resource: format!("arn:aws:orders:eu-west-1:{}:order/1", system.running.account),
        ..Default::default()
    };
    match system.decision().authorize(request).await {
        Ok(answer) if answer.get_ref().allowed => Ok(()),
        Ok(answer) => Err(format!("denied: {answer:?}")),
        Err(status) => Err(format!("refused: {status:?}")),
    }
}
