//! F3: the cable between the store and each decision replica is taken out, while everybody goes on asking.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use countersign_proto::decision::v1::authorize_request::Subject;
use tonic::Code;
use tonic_types::StatusExt;

use crate::{
    cluster::{Cluster, Decision, number, order, put, question, role_arn, size, statement},
    network::{End, Network},
};

/// Of the replica that has one; the others answer however old it is.
const MAX_STALENESS: Duration = Duration::from_secs(5);
/// For a replica that is connected again.
const REPAIRED_WITHIN: Duration = Duration::from_secs(30);

#[derive(Default, Debug)]
struct Asked {
    answers: u64,
    /// Refused as too old.
    too_old: u64,
    failed: Vec<String>,
    oldest: Duration,
}

/// Asks until it is over. Revisions never go back; each answer says how old it is.
async fn ask(mut replica: Decision, over: Arc<AtomicBool>) -> Asked {
    let mut asked = Asked::default();
    let mut last = 0;
    let subject = || Subject::PrincipalArn(role_arn("App"));
    while !over.load(Ordering::Relaxed) {
        match replica.authorize(question(subject(), &order(1), "")).await {
            Ok(answer) => {
                let answer = answer.into_inner();
                assert!(answer.allowed, "{answer:?}");
                assert!(last <= number(&answer), "{} after {last}", answer.revision);
                last = number(&answer);
                let age = answer.snapshot_age.expect("each answer says how old it is");
                asked.oldest = asked.oldest.max(age.try_into().expect("an age"));
                asked.answers += 1;
            }
            Err(status) => {
                let details = status.get_error_details();
                let reason = details.error_info().map(|info| info.reason.clone());
                match reason.as_deref() {
                    Some("SnapshotTooOld") => asked.too_old += 1,
                    Some(_) | None => asked.failed.push(status.to_string()),
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    asked
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f3_decisions_go_on_while_the_store_is_cut_off() {
    let seconds = size("COUNTERSIGN_CUT_SECONDS", 10);
    let limit = MAX_STALENESS.as_secs().to_string();
    let network = Network::of_cables(3);
    let ends = [End::Replica, End::Store, End::Store];
    let cluster = Cluster::start(network, &[&[], &[], &[("max_staleness", &limit)]]).await;
    let before = cluster.role("App", "Own", &statement("Allow", "*")).await;
    let subject = || Subject::PrincipalArn(role_arn("App"));
    for mut replica in cluster.replicas() {
        let answer = replica.authorize(question(subject(), &order(1), &before)).await;
        assert!(answer.expect("it has the role").into_inner().allowed);
    }

    let over = Arc::new(AtomicBool::new(false));
    let asking: Vec<_> = cluster
        .replicas()
        .into_iter()
        .map(|replica| tokio::spawn(ask(replica, Arc::clone(&over))))
        .collect();
    tokio::time::sleep(Duration::from_secs(1)).await;
    for (replica, end) in ends.into_iter().enumerate() {
        cluster.network.link(replica, end, false);
    }
    // The store itself goes on, and takes a write that nobody who is cut off can know.
    let mut store = cluster.store();
    let denied = put(&mut store, "App", "Deny", &statement("Deny", &order(2))).await;
    tokio::time::sleep(Duration::from_secs(u64::try_from(seconds).expect("seconds"))).await;
    for (number, mut replica) in cluster.replicas().into_iter().enumerate() {
        let now = replica.authorize(question(subject(), &order(2), "")).await;
        let later = replica.authorize(question(subject(), &order(2), &denied)).await;
        let later = later.expect_err("it cannot know");
        assert_eq!(later.code(), Code::Unavailable, "{later}");
        if number < 2 {
            let answer = now.expect("it answers from what it has").into_inner();
            let age: Duration = answer.snapshot_age.expect("an age").try_into().expect("an age");
            assert!(
                answer.allowed
                    && age + Duration::from_secs(2)
                        > Duration::from_secs(seconds.try_into().expect("seconds"))
            );
            assert!(later.message().contains(&answer.revision), "{later}");
        } else {
            let refusal = now.expect_err("it is too old");
            assert_eq!(refusal.code(), Code::Unavailable, "{refusal}");
        }
    }

    let connected = Instant::now();
    for (replica, end) in ends.into_iter().enumerate() {
        cluster.network.link(replica, end, true);
    }
    let mut repaired = Vec::new();
    for mut replica in cluster.replicas() {
        while !replica
            .authorize(question(subject(), &order(2), &denied))
            .await
            .is_ok_and(|answer| !answer.into_inner().allowed)
        {
            assert!(connected.elapsed() < REPAIRED_WITHIN, "{}", cluster.logs());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        repaired.push(connected.elapsed());
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    over.store(true, Ordering::Relaxed);

    for (number, (asking, end)) in asking.into_iter().zip(ends).enumerate() {
        let Asked { answers, too_old, failed, oldest } = asking.await.expect("revisions go on");
        println!(
            "F3: cut off for {seconds} s at the end of the {end:?}: replica {number} gave {answers} answers, the oldest of {oldest:.1?}, {too_old} refused as too old, {} failed; repaired {:.1?} after the link was up",
            failed.len(),
            repaired[number],
        );
        assert!(failed.is_empty(), "{failed:?}");
        if number < 2 {
            assert_eq!(too_old, 0);
        } else {
            assert!(too_old > 0 && oldest <= MAX_STALENESS, "{oldest:?}");
        }
    }
}
