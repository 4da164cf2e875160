//! F4: rights are taken away a hundred times a second, in four ways, and three replicas are asked about each.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use countersign_proto::{
    decision::v1::authorize_request::Subject,
    policy::v1::{
        AttachRolePolicyRequest, CreatePolicyRequest, DeleteRolePolicyRequest,
        DetachRolePolicyRequest, RevokeRoleSessionsRequest, RevokeTokenRequest,
    },
};
use serde_json::Value;

use crate::{
    cluster::{Cluster, Decision, Store, number, order, question, role_arn, size, statement},
    network::Network,
};

const REPLICAS: usize = 3;
const EVERY: Duration = Duration::from_millis(10);
/// Connected, this is the bar for the 99th of a hundred.
const VISIBLE_WITHIN: Duration = Duration::from_secs(1);
const NEVER: Duration = Duration::from_secs(30);

/// What is taken away.
enum Right {
    /// A managed policy is detached.
    Attached { role_name: String, policy_arn: String },
    /// An inline policy is deleted.
    Inline { role_name: String },
    /// The sessions of a role are over.
    Sessions { role_name: String, token: String },
    /// One token is revoked.
    Token { id: String, end: i64, token: String },
}

impl Right {
    fn subject(&self) -> Subject {
        match self {
            Right::Attached { role_name, .. } | Right::Inline { role_name } => {
                Subject::PrincipalArn(role_arn(role_name))
            }
            Right::Sessions { token, .. } | Right::Token { token, .. } => {
                Subject::Token(token.clone())
            }
        }
    }

    /// Takes it away; gives the revision.
    async fn revoke(&self, store: &mut Store) -> String {
        let done = match self {
            Right::Attached { role_name, policy_arn } => {
                let request = DetachRolePolicyRequest {
                    role_name: role_name.clone(),
                    policy_arn: policy_arn.clone(),
                    ..Default::default()
                };
                store.detach_role_policy(request).await.map(|it| it.into_inner().revision)
            }
            Right::Inline { role_name } => {
                let request = DeleteRolePolicyRequest {
                    role_name: role_name.clone(),
                    policy_name: "Own".to_owned(),
                    ..Default::default()
                };
                store.delete_role_policy(request).await.map(|it| it.into_inner().revision)
            }
            Right::Sessions { role_name, .. } => {
                let request = RevokeRoleSessionsRequest {
                    role_name: role_name.clone(),
                    ..Default::default()
                };
                store.revoke_role_sessions(request).await.map(|it| it.into_inner().revision)
            }
            Right::Token { id, end, .. } => {
                let request = RevokeTokenRequest {
                    token_id: id.clone(),
                    expire_time: Some(prost_types::Timestamp { seconds: *end, nanos: 0 }),
                    ..Default::default()
                };
                store.revoke_token(request).await.map(|it| it.into_inner().revision)
            }
        };
        done.expect("it is taken away")
    }
}

/// The claims of a token.
fn claims(token: &str) -> Value {
    let body = token.split('.').nth(1).expect("a token has three parts");
    let body = BASE64_URL_SAFE_NO_PAD.decode(body).expect("base64url");
    serde_json::from_slice(&body).expect("claims are JSON")
}

/// A role with a right, of each kind in turn.
async fn right(cluster: &Cluster, policy_arn: &str, number: usize) -> Right {
    let role_name = format!("App{number}");
    let own = if number.is_multiple_of(4) {
        statement("Allow", &order(0))
    } else {
        statement("Allow", "*")
    };
    cluster.role(&role_name, "Own", &own).await;
    let session = async || cluster.session(&role_arn(&role_name)).await;
    match number % 4 {
        0 => {
            let request = AttachRolePolicyRequest {
                role_name: role_name.clone(),
                policy_arn: policy_arn.to_owned(),
                ..Default::default()
            };
            cluster.store().attach_role_policy(request).await.expect("it is attached");
            Right::Attached { role_name, policy_arn: policy_arn.to_owned() }
        }
        1 => Right::Inline { role_name },
        2 => Right::Sessions { token: session().await, role_name },
        _ => {
            let token = session().await;
            let claims = claims(&token);
            let id = claims["jti"].as_str().expect("a token has an id").to_owned();
            Right::Token { id, end: claims["exp"].as_i64().expect("an end"), token }
        }
    }
}

/// Whether it is allowed. A replica never goes back in revision: `newest` is what was seen of it before the question.
async fn ask(
    replica: &mut Decision,
    newest: &AtomicU64,
    right: &Right,
    at_least_revision: &str,
) -> bool {
    let before = newest.load(Ordering::SeqCst);
    let asked = question(right.subject(), &order(1), at_least_revision);
    match replica.authorize(asked).await {
        Ok(answer) => {
            let answer = answer.into_inner();
            assert!(number(&answer) >= before, "{} after {before}", answer.revision);
            newest.fetch_max(number(&answer), Ordering::SeqCst);
            answer.allowed
        }
        // A session that is over, or a token that was revoked, is said by its name.
        Err(status) => {
            let said = status.message().to_owned();
            assert!(said.contains("revoked") || said.contains("over"), "{status}");
            false
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f4_what_was_revoked_is_denied_at_its_revision_and_soon_everywhere() {
    let count = size("COUNTERSIGN_REVOCATIONS", 200);
    let cluster = Cluster::start(Network::loopback(), &[&[] as &[_]; REPLICAS]).await;
    let request = CreatePolicyRequest {
        policy_name: "Orders".to_owned(),
        policy_document: statement("Allow", "*"),
        ..Default::default()
    };
    let policy = cluster.store().create_policy(request).await.expect("it is made").into_inner();
    let policy_arn = policy.policy.expect("a policy").arn;
    let mut rights = Vec::new();
    for number in 0..count {
        rights.push(Arc::new(right(&cluster, &policy_arn, number).await));
    }
    let newest: Arc<Vec<AtomicU64>> = Arc::new((0..REPLICAS).map(|_| AtomicU64::new(0)).collect());
    for (place, mut replica) in cluster.replicas().into_iter().enumerate() {
        // The last that was written: so the replica has them all.
        for right in rights.iter().rev().take(4) {
            let began = Instant::now();
            while !ask(&mut replica, &newest[place], right, "").await {
                assert!(began.elapsed() < NEVER, "{}", cluster.logs());
            }
        }
    }

    let (stale, mut running, began) = (Arc::new(AtomicUsize::new(0)), Vec::new(), Instant::now());
    let (store, replicas) = (cluster.store(), cluster.replicas());
    let mut ticks = tokio::time::interval(EVERY);
    for right in &rights {
        ticks.tick().await;
        let (right, newest, stale) = (Arc::clone(right), Arc::clone(&newest), Arc::clone(&stale));
        let (mut store, replicas) = (store.clone(), replicas.clone());
        running.push(tokio::spawn(async move {
            let revision = right.revoke(&mut store).await;
            let acknowledged = Instant::now();
            let mut seen = Vec::new();
            for (place, mut replica) in replicas.into_iter().enumerate() {
                let (right, newest) = (Arc::clone(&right), Arc::clone(&newest));
                let (revision, stale, mut other) =
                    (revision.clone(), Arc::clone(&stale), replica.clone());
                seen.push(tokio::spawn(async move {
                    let waits = async {
                        while ask(&mut replica, &newest[place], &right, "").await {
                            assert!(acknowledged.elapsed() < NEVER, "it does not come");
                            tokio::time::sleep(Duration::from_millis(1)).await;
                        }
                        acknowledged.elapsed()
                    };
                    // At the same moment, at the revision.
                    let knows = ask(&mut other, &newest[place], &right, &revision);
                    let (visible, late) = tokio::join!(waits, knows);
                    stale.fetch_add(usize::from(late), Ordering::Relaxed);
                    visible
                }));
            }
            seen
        }));
    }
    let mut visible = Vec::new();
    for revoked in running {
        for seen in revoked.await.expect("it is taken away") {
            visible.push(seen.await.expect("it comes, and no replica goes back"));
        }
    }
    let took = began.elapsed();
    visible.sort_unstable();
    let at = |percent: usize| visible[(visible.len() - 1) * percent / 100];
    println!(
        "F4: {count} revocations of four kinds in {took:.1?}, {REPLICAS} replicas: {} stale at their revision; acknowledged to visible: p50 {:.1?}, p99 {:.1?}, at most {:.1?}",
        stale.load(Ordering::Relaxed),
        at(50),
        at(99),
        at(100)
    );
    assert_eq!(stale.load(Ordering::Relaxed), 0);
    assert!(at(99) <= VISIBLE_WITHIN, "{:?}", at(99));
}
