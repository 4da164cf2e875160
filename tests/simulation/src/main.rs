//! `cargo run -p countersign-simulation -- --help`

use clap::Parser;
use countersign_simulation::{Failures, Figures, Shape, simulate};

/// Replication and failure at a size that no test machine has, from figures that were measured. One line a scenario; equal seeds give
/// equal lines.
#[derive(Debug, Parser)]
struct Args {
    /// Entities in one store: principals, policies and attachments
    #[arg(long, default_value_t = 2_000_000)]
    entities: u64,
    /// Replicas that follow it
    #[arg(long, default_value_t = 30)]
    replicas: usize,
    /// Decisions a second that are asked for
    #[arg(long, default_value_t = 1_000_000.0)]
    demand: f64,
    /// Decisions a second that one replica gives
    #[arg(long, default_value_t = 40_000.0)]
    capacity: f64,
    /// Writes a second
    #[arg(long, default_value_t = 100.0)]
    writes: f64,
    /// Entities a second that the store sends in snapshots
    #[arg(long, default_value_t = 1_000_000.0)]
    sends: f64,
    /// Entities a second that a replica takes in
    #[arg(long, default_value_t = 200_000.0)]
    takes: f64,
    /// Bytes of a change, and of an entity in a snapshot
    #[arg(long, default_value_t = 600)]
    bytes: u64,
    /// Milliseconds from one process to another
    #[arg(long, default_value_t = 1.0)]
    network: f64,
    /// Seconds to simulate
    #[arg(long, default_value_t = 600.0)]
    seconds: f64,
    /// The seed
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn main() {
    let args = Args::parse();
    let shape = Shape {
        entities: args.entities,
        replicas: args.replicas,
        demand: args.demand,
        capacity: args.capacity,
        writes: args.writes,
        bytes: args.bytes,
        sends: args.sends,
        takes: args.takes,
        network: args.network / 1000.0,
        log: 100_000,
        seconds: args.seconds,
    };
    println!("{shape:?}\n");
    println!(
        "| scenario | lag p50 / p99 / most, s | back after p50 / p99 / most, s | snapshots | resumed | away at most | egress at most, MB/s | demand served |"
    );
    println!("| --- | --- | --- | ---: | ---: | ---: | ---: | ---: |");
    for (name, failures) in scenarios() {
        let figures = simulate(shape, failures, args.seed);
        let Figures { lag, recovery, snapshots, resumed, most_away, peak_egress, served, .. } =
            figures;
        let egress = peak_egress as f64 / 1e6;
        println!(
            "| {name} | {lag} | {recovery} | {snapshots} | {resumed} | {most_away} | {egress:.0} | {:.3} % |",
            served * 100.0
        );
        if figures.converged != args.replicas {
            println!("{name}: {} of {} replicas converged", figures.converged, args.replicas);
            std::process::exit(1);
        }
    }
}

fn scenarios() -> [(&'static str, Failures); 6] {
    let none = Failures { all_at_once: -1.0, ..Failures::default() };
    let dying = Failures { replica_dies: 1.0 / 30.0, restart: 2.0, ..none };
    let zones = Failures { zone_cut_off: 1.0 / 120.0, cut_off: 30.0, ..none };
    let elections = Failures { store_stops: 1.0 / 60.0, leaderless: 2.0, ..none };
    let everything = Failures {
        zone_cut_off: zones.zone_cut_off,
        cut_off: zones.cut_off,
        store_stops: elections.store_stops,
        leaderless: elections.leaderless,
        all_at_once: 200.0,
        ..dying
    };
    [
        ("nothing fails", none),
        ("a replica dies every 30 s", dying),
        ("a zone is cut off for 30 s, every 2 min", zones),
        ("the store elects for 2 s, every minute", elections),
        ("all connections break at once", Failures { all_at_once: 200.0, ..none }),
        ("all of it", everything),
    ]
}
