//! How long a program takes from its start to being ready, with an empty store: a figure, held to a bar only where it is asked for, since
//! the machine may be busy.

use std::time::{Duration, Instant};

use crate::cluster::{Cluster, PARTS, terminate};

/// Names a bar in milliseconds.
const BAR: &str = "COUNTERSIGN_START_MILLISECONDS";

/// `COUNTERSIGN_START_MILLISECONDS=1000` holds the median of the rounds to the bar.
#[test]
fn a_program_is_ready_soon() {
    let mut took: [Vec<Duration>; 3] = Default::default();
    for _ in 0..3 {
        let cluster = Cluster::new();
        let mut running = Vec::new();
        for (part, took) in PARTS.iter().zip(&mut took) {
            let begun = Instant::now();
            running.push(cluster.start(part));
            cluster.wait_until_ready(part);
            took.push(begun.elapsed());
        }
        while let Some(mut process) = running.pop() {
            assert_eq!(terminate(&mut process), Some(0));
        }
    }
    let mut said = Vec::new();
    for (part, took) in PARTS.iter().zip(&mut took) {
        took.sort_unstable();
        said.push(format!("{part} {} ms (of three: {took:.0?})", took[1].as_millis()));
        if let Ok(bar) = std::env::var(BAR) {
            let bar = Duration::from_millis(bar.parse().expect("a number of milliseconds"));
            assert!(took[1] <= bar, "{part} took {:?}", took[1]);
        }
    }
    println!("from start to ready, empty store: {}", said.join(", "));
}
