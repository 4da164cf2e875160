//! New certificates for everybody, and new signing keys, while calls go on.

use std::time::Duration;

use crate::{
    cluster::{Files, cluster, container, docker},
    load::Load,
};

const ROUNDS: u32 = 4;

/// FAULTS.md F18, with certificates beside the signing keys.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_and_signing_keys_are_renewed_under_load() {
    let load = Load::begun(Files::copied()).await;
    let read_again = log_lines("the certificates were read again");
    for round in 1..=ROUNDS {
        tokio::task::spawn_blocking(|| cluster(&["renew"])).await.expect("it is renewed");
        for gateway in ["gateway-1", "gateway-2"] {
            docker(&["kill", "--signal", "USR1", &container(gateway)]);
        }
        tokio::time::sleep(Duration::from_secs(6)).await;
        println!("round {round} of {ROUNDS}: {}", load.progress());
    }
    // Otherwise nothing was tested.
    assert!(log_lines("the certificates were read again") > read_again, "nobody read them");
    load.ended(&format!("F18, certificates and signing keys renewed {ROUNDS} times")).await;
}

fn log_lines(words: &str) -> usize {
    let all = ["decision-1", "gateway-1", "gateway-2", "policy-store-1"];
    let logs = all.map(|service| {
        let finished = countersign_e2e::program::run(
            std::process::Command::new("docker").args(["logs", &container(service)]),
            "",
        );
        finished.stderr
    });
    logs.iter().flat_map(|log| log.lines()).filter(|line| line.contains(words)).count()
}
