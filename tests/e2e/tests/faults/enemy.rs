//! F5, the new enemy: first a deny of an order is written, then a grant of it. Whoever knows of the grant never gets in, whichever replica
//! is asked.

use std::time::Instant;

use countersign_proto::decision::v1::{Decision as Answer, authorize_request::Subject};

use crate::{
    cluster::{Cluster, Decision, Store, order, put, question, role_arn, size, statement},
    network::Network,
};

const REPLICAS: usize = 3;
/// Histories at once, each with a role of its own.
const AT_ONCE: usize = 8;

/// One after the other, with one role. Gives the violations.
async fn histories(
    mut store: Store,
    mut replicas: Vec<Decision>,
    role_name: String,
    count: usize,
) -> usize {
    let mut violations = 0;
    let subject = || Subject::PrincipalArn(role_arn(&role_name));
    for turn in 0..count {
        let order = order(turn);
        put(&mut store, &role_name, "Deny", &statement("Deny", &order)).await;
        let granted = put(&mut store, &role_name, "Allow", &statement("Allow", &order)).await;
        // One at the grant's revision; another at whatever it has. No state of the store allows it.
        for (place, at_least) in [(turn % REPLICAS, granted.as_str()), ((turn + 1) % REPLICAS, "")]
        {
            let answer = replicas[place].authorize(question(subject(), &order, at_least)).await;
            let answer = answer.expect("it is answered").into_inner();
            let knows = !at_least.is_empty();
            let is_right =
                !answer.allowed && (!knows || answer.decision == i32::from(Answer::ExplicitDeny));
            violations += usize::from(!is_right);
        }
    }
    violations
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f5_a_grant_never_outruns_the_deny_before_it() {
    let count = size("COUNTERSIGN_HISTORIES", 1_000);
    let cluster = Cluster::start(Network::loopback(), &[&[] as &[_]; REPLICAS]).await;
    let mut running = Vec::new();
    let began = Instant::now();
    for number in 0..AT_ONCE {
        let role_name = format!("App{number}");
        cluster.role(&role_name, "None", &statement("Deny", &order(usize::MAX))).await;
        let own = count / AT_ONCE + usize::from(number < count % AT_ONCE);
        running.push(tokio::spawn(histories(cluster.store(), cluster.replicas(), role_name, own)));
    }
    let mut violations = 0;
    for own in running {
        violations += own.await.expect("it is done");
    }
    println!(
        "F5: {count} histories, {REPLICAS} replicas, {AT_ONCE} at once, in {:.1?}: {violations} violations",
        began.elapsed()
    );
    assert_eq!(violations, 0);
}
