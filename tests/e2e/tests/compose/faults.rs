//! Each container is restarted, killed, and cut off from the network, in turn.

use std::time::{Duration, Instant};

use crate::{
    cluster::{Files, container, docker, wait_until_well},
    load::Load,
};

const CONTAINERS: &[&str] = &[
    "decision-1",
    "decision-2",
    "decision-3",
    "gateway-1",
    "gateway-2",
    "policy-store-1",
    "policy-store-2",
    "etcd-1",
    "etcd-2",
    "etcd-3",
];

#[derive(Clone, Copy, Debug)]
enum Fault {
    /// Told to end, which drains it.
    Restarted,
    Killed,
    CutOff,
}

async fn befalls(fault: Fault, service: &str) {
    let id = container(service);
    match fault {
        Fault::Restarted => drop(docker(&["restart", &id])),
        Fault::Killed => {
            docker(&["kill", "--signal", "KILL", &id]);
            tokio::time::sleep(Duration::from_secs(3)).await;
            docker(&["start", &id]);
        }
        Fault::CutOff => {
            docker(&["network", "disconnect", "countersign_cluster", &id]);
            tokio::time::sleep(Duration::from_secs(8)).await;
            let mut connect = vec!["network", "connect", "--alias", service];
            if service.starts_with("gateway") {
                connect.extend(["--alias", "gateway"]);
            }
            connect.extend(["countersign_cluster", &id]);
            docker(&connect);
        }
    }
    wait_until_well(service).await;
}

async fn each_is(faults: &[Fault], what: &str) {
    let load = Load::begun(Files::copied()).await;
    for service in CONTAINERS {
        for fault in faults {
            let begun = Instant::now();
            befalls(*fault, service).await;
            let took = begun.elapsed().as_secs_f32();
            let progress = load.progress();
            println!("{service:>14} {fault:<9?} well again after {took:>4.1} s; {progress}");
        }
    }
    load.ended(what).await;
}

/// FAULTS.md F22, of everything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_container_is_restarted_under_load() {
    each_is(&[Fault::Restarted], "F22, each of ten containers restarted").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_container_is_killed_and_cut_off_under_load() {
    let faults = [Fault::Killed, Fault::CutOff];
    each_is(&faults, "each of ten containers killed, then cut off for 8 s").await;
}
