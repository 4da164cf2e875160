//! The simulation itself: a queue of events in the order of their time.

use std::{cmp::Ordering, collections::BinaryHeap};

use crate::{
    random::Random,
    report::{Figures, Percentiles},
};

/// What is simulated: sizes, and how fast the parts are.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Entities in the store: principals, policies, attachments.
    pub entities: u64,
    /// Replicas that follow it.
    pub replicas: usize,
    /// Decisions a second that are asked for, of all replicas together.
    pub demand: f64,
    /// Decisions a second that one replica can give.
    pub capacity: f64,
    /// Writes a second.
    pub writes: f64,
    /// Bytes of a change, and of an entity in a snapshot.
    pub bytes: u64,
    /// Entities a second that the store sends in snapshots, to all together.
    pub sends: f64,
    /// Entities a second that a replica takes in from a snapshot.
    pub takes: f64,
    /// Seconds from one process to another, one way.
    pub network: f64,
    /// Changes that the store's log holds.
    pub log: u64,
    /// Seconds that are simulated; in the last fifth nothing fails.
    pub seconds: f64,
}

/// How often something fails, each a rate a second.
#[derive(Clone, Copy, Debug, Default)]
pub struct Failures {
    /// One replica's process dies: it comes back after `restart` seconds, without its snapshot.
    pub replica_dies: f64,
    /// Seconds until a process is there again.
    pub restart: f64,
    /// A third of the replicas are cut off from the store, for `cut_off` seconds. They go on answering.
    pub zone_cut_off: f64,
    /// Seconds that a zone is cut off.
    pub cut_off: f64,
    /// The store takes no writes and sends nothing, for `leaderless` seconds: etcd elects.
    pub store_stops: f64,
    /// Seconds of an election.
    pub leaderless: f64,
    /// All replicas lose their connection at once, and at this second; none if it is negative.
    pub all_at_once: f64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Event {
    Write,
    /// A change reaches a replica that is still on the same connection.
    Arrives {
        replica: usize,
        connection: u32,
        number: u64,
        written: f64,
    },
    Connects {
        replica: usize,
        connection: u32,
    },
    /// A snapshot, or what was missed, has been taken in.
    CaughtUp {
        replica: usize,
        connection: u32,
        number: u64,
    },
    ReplicaDies,
    ReplicaIsBack {
        replica: usize,
    },
    ZoneCutOff,
    ZoneIsBack {
        zone: usize,
    },
    StoreStops,
    StoreGoesOn,
    AllBreak,
}

#[derive(Clone, Copy, Debug)]
struct Due {
    at: f64,
    /// Of two events at one time the one that was planned first.
    turn: u64,
    event: Event,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> Ordering {
        // The heap gives the greatest: the earliest.
        other.at.total_cmp(&self.at).then(other.turn.cmp(&self.turn))
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Replica {
    /// The revision that it answers at; none without a snapshot.
    revision: Option<u64>,
    /// Counts its connections: what belongs to an older one is late, and dropped.
    connection: u32,
    is_streaming: bool,
    is_dead: bool,
    /// How often it has failed to connect in a row.
    attempts: u32,
    /// Since when it is not current.
    failed_at: Option<f64>,
}

struct World {
    shape: Shape,
    failures: Failures,
    random: Random,
    now: f64,
    turn: u64,
    due: BinaryHeap<Due>,
    replicas: Vec<Replica>,
    is_cut_off: [bool; ZONES],
    is_stopped: bool,
    /// When the store's snapshot sender is free again.
    sender_free_at: f64,
    head: u64,
    lags: Vec<f64>,
    recoveries: Vec<f64>,
    snapshots: u64,
    resumed: u64,
    most_away: usize,
    egress: Vec<u64>,
    served: f64,
    began_at: Option<f64>,
}

const ZONES: usize = 3;
/// Reconnecting waits at most so long, in seconds.
const MAX_BACKOFF: f64 = 5.0;

/// One run.
#[must_use]
pub fn simulate(shape: Shape, failures: Failures, seed: u64) -> Figures {
    let mut world = World {
        shape,
        failures,
        random: Random::new(seed),
        now: 0.0,
        turn: 0,
        due: BinaryHeap::new(),
        replicas: vec![Replica::default(); shape.replicas],
        is_cut_off: [false; ZONES],
        is_stopped: false,
        sender_free_at: 0.0,
        head: 0,
        lags: Vec::new(),
        recoveries: Vec::new(),
        snapshots: 0,
        resumed: 0,
        most_away: 0,
        egress: vec![0; shape.seconds.max(0.0) as usize + 1],
        served: 0.0,
        began_at: None,
    };
    world.begin();
    world.run();
    world.figures()
}

impl World {
    fn begin(&mut self) {
        for replica in 0..self.shape.replicas {
            self.plan(self.shape.network, Event::Connects { replica, connection: 0 });
        }
        self.plan_after(self.shape.writes, Event::Write);
        self.plan_after(self.failures.replica_dies, Event::ReplicaDies);
        self.plan_after(self.failures.zone_cut_off, Event::ZoneCutOff);
        self.plan_after(self.failures.store_stops, Event::StoreStops);
        if self.failures.all_at_once >= 0.0 {
            self.plan(self.failures.all_at_once, Event::AllBreak);
        }
    }

    fn run(&mut self) {
        while let Some(Due { at, event, .. }) = self.due.pop() {
            if at > self.shape.seconds {
                break;
            }
            self.account_for(at);
            self.now = at;
            self.happen(event);
        }
        self.account_for(self.shape.seconds);
    }

    /// Whether what answered since the last event was enough.
    fn account_for(&mut self, until: f64) {
        let Some(began) = self.began_at else {
            if self.replicas.iter().all(|replica| replica.revision.is_some()) {
                self.began_at = Some(self.now);
            }
            return;
        };
        let answering = self.answering();
        self.most_away = self.most_away.max(self.replicas.len() - answering);
        if answering as f64 * self.shape.capacity >= self.shape.demand {
            self.served += until - self.now.max(began);
        }
    }

    fn answering(&self) -> usize {
        self.replicas.iter().filter(|own| own.revision.is_some() && !own.is_dead).count()
    }

    fn plan(&mut self, after: f64, event: Event) {
        self.turn += 1;
        if after.is_finite() {
            self.due.push(Due { at: self.now + after, turn: self.turn, event });
        }
    }

    fn plan_after(&mut self, rate: f64, event: Event) {
        let wait = self.random.wait(rate);
        self.plan(wait, event);
    }

    /// Nothing fails any more: what is broken heals.
    fn is_healing(&self) -> bool {
        self.now > self.shape.seconds * 0.8
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Write => self.write(),
            Event::Arrives { replica, connection, number, written } => {
                self.arrive(replica, connection, number, written);
            }
            Event::Connects { replica, connection } => self.connect(replica, connection),
            Event::CaughtUp { replica, connection, number } => {
                self.caught_up(replica, connection, number);
            }
            Event::ReplicaDies => {
                self.plan_after(self.failures.replica_dies, Event::ReplicaDies);
                let replica = self.random.number() as usize % self.replicas.len().max(1);
                if !self.is_healing() {
                    self.die(replica);
                }
            }
            Event::ReplicaIsBack { replica } => {
                if let Some(own) = self.replicas.get_mut(replica) {
                    own.is_dead = false;
                }
                self.reconnect(replica);
            }
            Event::ZoneCutOff => {
                self.plan_after(self.failures.zone_cut_off, Event::ZoneCutOff);
                let zone = self.random.number() as usize % ZONES;
                if !self.is_healing() {
                    self.cut_off(zone);
                }
            }
            Event::ZoneIsBack { zone } => {
                if let Some(own) = self.is_cut_off.get_mut(zone) {
                    *own = false;
                }
            }
            Event::StoreStops => {
                self.plan_after(self.failures.store_stops, Event::StoreStops);
                if !self.is_healing() && !self.is_stopped {
                    self.is_stopped = true;
                    self.plan(self.failures.leaderless, Event::StoreGoesOn);
                }
            }
            Event::StoreGoesOn => self.is_stopped = false,
            Event::AllBreak => {
                for replica in 0..self.replicas.len() {
                    self.fail(replica);
                    self.reconnect(replica);
                }
            }
        }
    }

    fn write(&mut self) {
        self.plan_after(self.shape.writes, Event::Write);
        // Nobody acknowledges a write while there is no leader.
        if self.is_stopped {
            return;
        }
        self.head += 1;
        let (number, written) = (self.head, self.now);
        let Shape { bytes, network, .. } = self.shape;
        for replica in 0..self.replicas.len() {
            let Some(own) = self.replicas.get(replica).copied() else { continue };
            if own.is_streaming && !own.is_dead && !self.is_apart(replica) {
                self.send(bytes);
                let jitter = self.random.share() * network;
                let arrival =
                    Event::Arrives { replica, connection: own.connection, number, written };
                self.plan(network + jitter, arrival);
            }
        }
    }

    fn send(&mut self, bytes: u64) {
        if let Some(second) = self.egress.get_mut(self.now as usize) {
            *second += bytes;
        }
    }

    /// So many bytes between two moments, evenly.
    fn send_over(&mut self, from: f64, to: f64, bytes: u64) {
        let (first, last) = (from as usize, to as usize);
        let each = bytes / u64::try_from(last - first + 1).unwrap_or(1);
        for second in self.egress.iter_mut().skip(first).take(last - first + 1) {
            *second += each;
        }
    }

    /// Changes come in order, as on one stream: the jitter of a change cannot bring it before the one that was sent first.
    fn arrive(&mut self, replica: usize, connection: u32, number: u64, written: f64) {
        let now = self.now;
        let Some(own) = self.replicas.get_mut(replica) else { return };
        if own.connection != connection || own.is_dead {
            return;
        }
        if let Some(revision) = own.revision
            && number > revision
        {
            own.revision = Some(number);
            self.lags.push(now - written);
        }
    }

    fn is_apart(&self, replica: usize) -> bool {
        self.is_cut_off.get(replica % ZONES).copied().unwrap_or_default()
    }

    fn connect(&mut self, replica: usize, connection: u32) {
        let is_apart = self.is_apart(replica) || self.is_stopped;
        let Shape { entities, sends, takes, log, bytes, network, .. } = self.shape;
        let head = self.head;
        let Some(own) = self.replicas.get_mut(replica) else { return };
        if own.connection != connection || own.is_dead {
            return;
        }
        if is_apart {
            self.reconnect(replica);
            return;
        }
        own.attempts = 0;
        let missed = own.revision.map(|revision| head - revision).filter(|missed| *missed <= log);
        let event = Event::CaughtUp { replica, connection, number: head };
        // From here on it hears of every change; those that come while it takes in the rest wait in its buffer.
        own.is_streaming = true;
        match missed {
            Some(missed) => {
                self.resumed += 1;
                self.send(missed * bytes);
                self.plan(network + missed as f64 / takes, event);
            }
            None => {
                self.snapshots += 1;
                // Snapshots share the store: each waits for those before it.
                let begins = self.sender_free_at.max(self.now);
                self.sender_free_at = begins + entities as f64 / sends;
                self.send_over(begins, self.sender_free_at, entities * bytes);
                let taken = (begins + entities as f64 / takes).max(self.sender_free_at);
                self.plan(taken - self.now + network, event);
            }
        }
    }

    fn caught_up(&mut self, replica: usize, connection: u32, number: u64) {
        let now = self.now;
        let Some(own) = self.replicas.get_mut(replica) else { return };
        if own.connection != connection || own.is_dead {
            return;
        }
        // What came meanwhile may be newer.
        own.revision = Some(own.revision.unwrap_or(0).max(number));
        if let Some(failed_at) = own.failed_at.take() {
            self.recoveries.push(now - failed_at);
        }
    }

    /// Its connection is gone.
    fn fail(&mut self, replica: usize) {
        let now = self.now;
        if let Some(own) = self.replicas.get_mut(replica) {
            own.connection += 1;
            own.is_streaming = false;
            own.failed_at.get_or_insert(now);
        }
    }

    /// Tries again: later each time, and not all at once.
    fn reconnect(&mut self, replica: usize) {
        let share = self.random.share();
        let Some(own) = self.replicas.get_mut(replica) else { return };
        own.attempts += 1;
        let longest =
            (0.05 * f64::from(2_u32.saturating_pow(own.attempts.min(10)))).min(MAX_BACKOFF);
        let connection = own.connection;
        self.plan(longest * share, Event::Connects { replica, connection });
    }

    fn die(&mut self, replica: usize) {
        self.fail(replica);
        let restart = self.failures.restart;
        let Some(own) = self.replicas.get_mut(replica) else { return };
        if own.is_dead {
            return;
        }
        (own.is_dead, own.revision) = (true, None);
        self.plan(restart, Event::ReplicaIsBack { replica });
    }

    fn cut_off(&mut self, zone: usize) {
        let Some(own) = self.is_cut_off.get_mut(zone) else { return };
        if std::mem::replace(own, true) {
            return;
        }
        self.plan(self.failures.cut_off, Event::ZoneIsBack { zone });
        for replica in (zone..self.replicas.len()).step_by(ZONES) {
            if self.replicas.get(replica).is_some_and(|own| !own.is_dead) {
                self.fail(replica);
                self.reconnect(replica);
            }
        }
    }

    fn figures(self) -> Figures {
        let lasted = self.shape.seconds - self.began_at.unwrap_or(self.shape.seconds);
        // What was written in the last moments is under way.
        let under_way = (self.shape.writes * self.shape.network * 20.0) as u64 + 2;
        let converged = self
            .replicas
            .iter()
            .filter(|own| own.revision.is_some_and(|revision| revision + under_way >= self.head));
        Figures {
            written: self.head,
            converged: converged.count(),
            lag: Percentiles::of(self.lags),
            recovery: Percentiles::of(self.recoveries),
            snapshots: self.snapshots,
            resumed: self.resumed,
            most_away: self.most_away,
            peak_egress: self.egress.into_iter().max().unwrap_or_default(),
            served: if lasted > 0.0 { self.served / lasted } else { 0.0 },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape() -> Shape {
        Shape {
            entities: 1_000_000,
            replicas: 9,
            demand: 100_000.0,
            capacity: 40_000.0,
            writes: 50.0,
            bytes: 600,
            sends: 1_000_000.0,
            takes: 300_000.0,
            network: 0.001,
            log: 10_000,
            seconds: 120.0,
        }
    }

    fn all_failures() -> Failures {
        Failures {
            replica_dies: 0.1,
            restart: 1.0,
            zone_cut_off: 0.05,
            cut_off: 5.0,
            store_stops: 0.05,
            leaderless: 2.0,
            all_at_once: 40.0,
        }
    }

    #[test]
    fn without_failures_everybody_is_a_network_away() {
        let figures = simulate(shape(), Failures { all_at_once: -1.0, ..Failures::default() }, 1);
        assert_eq!((figures.snapshots, figures.resumed, figures.converged), (9, 0, 9));
        assert!(figures.lag.most <= 0.002 + 1e-9, "{figures:?}");
        assert!(figures.served > 0.999, "{figures:?}");
        assert_eq!(figures.most_away, 0);
    }

    #[test]
    fn whatever_failed_everybody_converges() {
        for seed in 0..50 {
            let figures = simulate(shape(), all_failures(), seed);
            assert_eq!(figures.converged, 9, "seed {seed}: {figures:?}");
            assert!(figures.snapshots > 9, "seed {seed}: nothing died: {figures:?}");
            assert!(figures.resumed > 0, "seed {seed}: nothing was resumed: {figures:?}");
        }
    }

    #[test]
    fn equal_seeds_give_equal_runs() {
        let run = |seed| simulate(shape(), all_failures(), seed);
        assert_eq!(run(7), run(7));
        assert_ne!(run(7), run(8));
    }

    #[test]
    fn a_log_that_has_moved_on_means_a_snapshot() {
        let cut =
            Failures { zone_cut_off: 0.1, cut_off: 20.0, all_at_once: -1.0, ..Failures::default() };
        let long = simulate(Shape { log: 100_000, ..shape() }, cut, 3);
        let short = simulate(Shape { log: 100, ..shape() }, cut, 3);
        assert_eq!(long.snapshots, 9, "{long:?}");
        assert!(short.snapshots > 9, "{short:?}");
    }

    #[test]
    fn too_few_replicas_do_not_serve() {
        let none = Failures { all_at_once: -1.0, ..Failures::default() };
        let figures = simulate(Shape { replicas: 2, ..shape() }, none, 1);
        assert_eq!(figures.served, 0.0, "{figures:?}");
    }
}
