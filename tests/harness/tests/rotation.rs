//! Signing keys that take turns while tokens are made and used: none that is good is refused, and none whose key was ended is taken.
//!
//! FAULTS F18. In CI a turn each second, until six keys have signed; with `COUNTERSIGN_FAULTS=full` a turn every 10 s for 10 minutes at 500
//! exchanges a second. `COUNTERSIGN_F18_SECONDS`, `COUNTERSIGN_F18_EVERY` and `COUNTERSIGN_F18_RATE` say otherwise. It prints its figures.

#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test that cannot go on stops here"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign::clients::{Decision, Gateway};
use countersign_gateway::{RateLimits, Rates, Rotation};
use countersign_harness::{Ask, Bearer, System, User, reason};
use countersign_policy_store::audit::trail;
use countersign_proto::{
    decision::v1::{AuthorizeRequest, authorize_request::Subject},
    policy::v1::RevokeSigningKeyRequest,
    token::v1::{GetJwksRequest, RotateSigningKeyRequest},
};
use countersign_token::{KeyRecord, KeySet, PublicKey, TokenError, check_signature};
use tokio::{sync::Semaphore, task::JoinSet, time::MissedTickBehavior};

/// So many must have signed, however slow the machine is.
const KEYS: usize = 6;
/// In flight.
const AT_ONCE: usize = 64;
/// Turns may fail and be made up for; this is no measure of time.
const PATIENCE: Duration = Duration::from_secs(120);

/// How much of it.
struct Size {
    lasts: Duration,
    every: Duration,
    rate: u32,
}

impl Size {
    fn of_environment() -> Self {
        let is_full = std::env::var("COUNTERSIGN_FAULTS").is_ok_and(|size| size == "full");
        let number = |name: &str, small: u32, full: u32| {
            let given = std::env::var(format!("COUNTERSIGN_F18_{name}"));
            given.map_or(if is_full { full } else { small }, |given| given.parse().unwrap())
        };
        Self {
            lasts: Duration::from_secs(number("SECONDS", 8, 600).into()),
            every: Duration::from_secs(number("EVERY", 1, 10).into()),
            rate: number("RATE", 20, 500),
        }
    }
}

/// Who checks tokens by the published keys alone, as a service that knows nothing of Countersign does: keys that it has read are kept, and
/// read again once for a key that it does not know.
struct Verifier {
    gateway: Gateway,
    keys: tokio::sync::Mutex<KeySet>,
    refreshes: AtomicUsize,
    unknown: AtomicUsize,
}

impl Verifier {
    async fn check(&self, token: &str) -> Result<(), String> {
        let mut keys = self.keys.lock().await;
        match check_signature(token, &keys) {
            Err(TokenError::UnknownKey { .. }) => {
                self.unknown.fetch_add(1, Ordering::Relaxed);
                self.refreshes.fetch_add(1, Ordering::Relaxed);
                *keys = published(&self.gateway).await;
                check_signature(token, &keys).map(drop).map_err(|error| format!("JWKS: {error}"))
            }
            outcome => outcome.map(drop).map_err(|error| format!("JWKS: {error}")),
        }
    }
}

async fn published(gateway: &Gateway) -> KeySet {
    let jwks = gateway.clone().get_jwks(GetJwksRequest {}).await.unwrap().into_inner().jwks;
    let jwks: serde_json::Value = serde_json::from_str(&jwks).unwrap();
    let keys = jwks["keys"].as_array().unwrap().iter();
    keys.map(|jwk| KeyRecord {
        public: PublicKey::from_jwk(&jwk.to_string()).unwrap(),
        accept_until: i64::MAX,
        revoked: false,
    })
    .collect()
}

/// What has happened so far.
#[derive(Default)]
struct Seen {
    kids: BTreeMap<String, usize>,
    /// A token of each key, to be used once more at the end.
    kept: BTreeMap<String, String>,
    refused: Vec<String>,
}

/// Each has an access key of its own, for which the store derives so many keys a second and no more.
const USERS: usize = 4;

struct World {
    system: System,
    users: Vec<User>,
    role: String,
    gateway: Gateway,
    decision: Decision,
    verifier: Verifier,
    seen: Mutex<Seen>,
}

impl World {
    async fn new(every: Duration) -> Self {
        let rotation = Rotation::every(every, Arc::default());
        let plenty =
            Rates { each: "100000:200000".parse().unwrap(), all: "100000:200000".parse().unwrap() };
        let system = System::with(|options| {
            options.rotation = rotation;
            options.limits =
                RateLimits { exchanges: plenty, http: plenty, ..RateLimits::default() };
        })
        .await;
        let mut users = Vec::new();
        for number in 0..USERS {
            users.push(system.create_user(&format!("user-{number}")).await);
        }
        let arns: Vec<_> = users.iter().map(|user| format!("\"{}\"", user.arn)).collect();
        let inline = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"orders:*","Resource":"*"}]}"#;
        let principal = format!(r#"{{"AWS":[{}]}}"#, arns.join(","));
        let role = system.create_role("Rotated", &principal, &[], inline).await;
        let admins = system.gateway_as(&system.admin);
        Self {
            users,
            role,
            gateway: system.gateway(),
            decision: system.decision(),
            verifier: Verifier {
                keys: tokio::sync::Mutex::new(published(&admins).await),
                gateway: admins,
                refreshes: AtomicUsize::new(0),
                unknown: AtomicUsize::new(0),
            },
            seen: Mutex::default(),
            system,
        }
    }

    /// A token, used at once, twice over.
    async fn one(&self, number: usize) {
        let outcome = async {
            let ask = Ask::new(&self.role, format!("s-{number}"), "orders");
            let request = self.system.request(&self.users[number % USERS].credentials, &ask);
            let granted = self.gateway.clone().exchange(request).await;
            let token = granted.map_err(|status| format!("exchange: {status:?}"))?;
            let token = token.into_inner().access_token;
            used(&self.system, &self.decision, &token, "").await?;
            self.verifier.check(&token).await?;
            Ok::<String, String>(token)
        };
        let outcome = outcome.await;
        let mut seen = self.seen.lock().unwrap();
        match outcome {
            Ok(token) => {
                let kid = kid(&token);
                *seen.kids.entry(kid.clone()).or_default() += 1;
                seen.kept.insert(kid, token);
            }
            Err(why) => seen.refused.push(why),
        }
    }

    fn keys(&self) -> usize {
        self.seen.lock().unwrap().kids.len()
    }
}

fn kid(token: &str) -> String {
    let header = URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap();
    let header: serde_json::Value = serde_json::from_slice(&header).unwrap();
    header["kid"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_token_is_refused_while_keys_rotate() {
    let size = Size::of_environment();
    if size.lasts > PATIENCE {
        // Else every line is kept, for tests that look for secrets.
        let _ =
            tracing_subscriber::util::SubscriberInitExt::try_init(tracing_subscriber::registry());
    }
    let world = Arc::new(World::new(size.every).await);
    let started = Instant::now();
    let patience = size.lasts.max(PATIENCE);
    let (room, mut tasks) = (Arc::new(Semaphore::new(AT_ONCE)), JoinSet::new());
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / size.rate);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    for number in 0.. {
        let elapsed = started.elapsed();
        if (elapsed >= size.lasts && world.keys() >= KEYS) || elapsed >= patience {
            break;
        }
        ticks.tick().await;
        let permit = room.clone().acquire_owned().await.unwrap();
        let world = world.clone();
        tasks.spawn(async move {
            world.one(number).await;
            drop(permit);
        });
        while tasks.try_join_next().is_some() {}
    }
    while tasks.join_next().await.is_some() {}
    let took = started.elapsed().as_secs_f64();
    let Seen { kids, kept, refused } = std::mem::take(&mut *world.seen.lock().unwrap());
    let tokens: usize = kids.values().sum();

    // What each key signed is good to its end, and every key is published as long.
    let system = &world.system;
    for token in kept.values() {
        used(system, &world.decision, token, "").await.unwrap();
    }
    let keys = published(&world.verifier.gateway).await;
    let published: BTreeSet<_> = keys.records().map(|key| key.public.kid().to_owned()).collect();
    assert!(kids.keys().all(|kid| published.contains(kid)), "{published:?} {kids:?}");

    // A key that is ended takes all that it has signed with it, at once, at every verifier that has heard of it.
    let keeper = keeper(&world).await;
    let (mut tried, mut accepted) = (0, Vec::new());
    for (kid, token) in kept.iter().filter(|(kid, _)| **kid != self::kid(&keeper.1)) {
        let request = RevokeSigningKeyRequest { kid: kid.clone(), ..Default::default() };
        let revoked = system.policy_store_as(&keeper.0).revoke_signing_key(request).await.unwrap();
        let revision = revoked.into_inner().revision;
        tried += 1;
        match used(system, &world.decision, token, &revision).await {
            Err(why) if why.starts_with("refused: RevokedKey") => {}
            outcome => accepted.push(outcome),
        }
    }
    let (refreshes, unknown) = (
        world.verifier.refreshes.load(Ordering::Relaxed),
        world.verifier.unknown.load(Ordering::Relaxed),
    );
    println!(
        "F18: {tokens} exchanges in {took:.1} s ({:.0}/s asked, {:.0}/s made), a turn every {} s, {} keys signed; valid tokens refused {}; \
         tokens of {tried} ended keys tried, accepted {}; a cache of the JWKS met {unknown} unknown keys, and was read again {refreshes} times",
        f64::from(size.rate),
        tokens as f64 / took,
        size.every.as_secs(),
        kids.len(),
        refused.len(),
        accepted.len(),
    );
    assert_eq!(refused.iter().take(5).collect::<Vec<_>>(), Vec::<&String>::new());
    assert!(kids.len() >= KEYS, "{kids:?}");
    assert!(tried >= KEYS - 2 && accepted.is_empty(), "{accepted:?}");
    assert!(refreshes <= kids.len(), "{refreshes} for {} keys", kids.len());

    // Each of them was written down before it was given out, in a chain that holds.
    let exchanges = system.running.admin_token_path.parent().unwrap().join("exchanges");
    let written = trail::verify(&exchanges).unwrap().sequence;
    // The administrator's own token, and what was refused besides, are in it too.
    assert!(written > tokens.try_into().unwrap(), "{written}");
}

/// Somebody of the operator's account who may change keys, and its token.
async fn keeper(world: &World) -> (Bearer, String) {
    let inline = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["countersign:RevokeSigningKey","countersign:RotateSigningKey"],"Resource":"*"}]}"#;
    let principal = format!(r#"{{"AWS":"{}"}}"#, world.users[0].arn);
    let role = world.system.create_role("KeyKeeper", &principal, &[], inline).await;
    let ask = Ask::new(&role, "keeper", "countersign");
    let token =
        world.system.exchange(&world.users[0].credentials, &ask).await.unwrap().access_token;
    (Bearer::new(&token).unwrap(), token)
}

/// By RPC, for who may; the administrator role may not.
#[tokio::test(flavor = "multi_thread")]
async fn an_operator_asks_for_another_key() {
    let world = World::new(Duration::from_secs(24 * 3600)).await;
    let system = &world.system;
    let ask = async |bearer: &Bearer| {
        let answer = system.gateway_as(bearer).rotate_signing_key(RotateSigningKeyRequest {}).await;
        answer.map(|answer| answer.into_inner().kid).map_err(|status| reason(&status))
    };
    assert_eq!(ask(&system.admin).await, Err("AccessDenied".to_owned()));
    let before = published(&world.verifier.gateway).await;
    let next = ask(&keeper(&world).await.0).await.unwrap();
    assert!(before.lookup(&next).is_none());
    assert!(published(&world.verifier.gateway).await.lookup(&next).is_some());
}

async fn used(
    system: &System,
    decision: &Decision,
    token: &str,
    at_least_revision: &str,
) -> Result<(), String> {
    let request = AuthorizeRequest {
        subject: Some(Subject::Token(token.to_owned())),
        audience: "orders".into(),
        action: "orders:GetOrder".into(),
        resource: format!("arn:aws:orders:eu-west-1:{}:order/1", system.running.account),
        at_least_revision: at_least_revision.to_owned(),
        ..Default::default()
    };
    match decision.clone().authorize(request).await {
        Ok(answer) if answer.get_ref().allowed => Ok(()),
        Ok(answer) => Err(format!("denied: {answer:?}")),
        Err(status) => Err(format!("refused: {} {status:?}", reason(&status))),
    }
}
