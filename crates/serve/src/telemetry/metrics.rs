//! What a process counts, and the page on which a scraper reads it (OpenMetrics text).
//!
//! Everything has a bounded number of rows: a label's values are names that the program knows, never text that a caller chose. What is
//! counted for each call is an atomic number that was found when the server was built, so that counting takes no lock.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, text},
    metrics::{
        MetricType,
        counter::{ConstCounter, Counter},
        family::Family,
        gauge::{ConstGauge, Gauge},
        histogram::Histogram,
    },
    registry::Registry,
};
use tonic::Code;

/// What every name begins with.
const PREFIX: &str = "countersign";

/// Upper bounds, in seconds. A decision takes microseconds, an exchange that asks STS a good part of a second.
const SECONDS: [f64; 14] = [
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0,
    5.0,
];

/// gRPC's codes, in the order of their numbers.
const CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

type Labels = Vec<(&'static str, String)>;

/// The metrics of one process. Clones are one and the same.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    registry: Mutex<Registry>,
    calls: Family<Labels, Counter>,
    seconds: Family<Labels, Histogram>,
    in_flight: Family<Labels, Gauge>,
}

/// The calls of one RPC. A row is on the page once there is something to say.
pub(crate) struct Rpc {
    metrics: Metrics,
    labels: Labels,
    codes: [OnceLock<Counter>; CODES.len()],
    others: OnceLock<(Histogram, Gauge)>,
}

/// The RPCs of a server, by the path that a call has: `/package.Service/Rpc`.
#[derive(Clone)]
pub(crate) struct Rpcs {
    known: Arc<HashMap<String, Arc<Rpc>>>,
    /// Whatever else is asked for.
    other: Arc<Rpc>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix(PREFIX);
        let calls = Family::default();
        let seconds = Family::new_with_constructor(histogram as fn() -> Histogram);
        let in_flight = Family::default();
        registry.register(
            "rpc",
            "Calls that ended, by service, method and gRPC code",
            calls.clone(),
        );
        registry.register(
            "rpc_seconds",
            "From a call's headers to the first of its answer, in seconds",
            seconds.clone(),
        );
        registry.register(
            "rpc_in_flight",
            "Calls that have not ended, streams included",
            in_flight.clone(),
        );
        Self(Arc::new(Inner { registry: Mutex::new(registry), calls, seconds, in_flight }))
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

fn histogram() -> Histogram {
    Histogram::new(SECONDS)
}

impl Metrics {
    /// Everything, as OpenMetrics text.
    #[must_use]
    pub fn page(&self) -> String {
        let mut page = String::new();
        // Writing to a string does not fail.
        let _ = text::encode(&mut page, &self.registry());
        page
    }

    /// A number that only grows, counted by who has it. `name` is without `countersign_` and `_total`.
    #[must_use]
    pub fn counter(&self, name: &str, help: &str) -> Counter {
        let counter = Counter::default();
        self.registry().register(name, help, counter.clone());
        counter
    }

    /// One counter for each of `values`, in their order: the rows of one label.
    #[must_use]
    pub fn counters<const N: usize>(
        &self,
        name: &str,
        help: &str,
        label: &'static str,
        values: [&str; N],
    ) -> [Counter; N] {
        let family: Family<Labels, Counter> = Family::default();
        self.registry().register(name, help, family.clone());
        values.map(|value| family.get_or_create_owned(&vec![(label, value.to_owned())]))
    }

    /// Durations in seconds.
    #[must_use]
    pub fn histogram(&self, name: &str, help: &str) -> Histogram {
        let histogram = histogram();
        self.registry().register(name, help, histogram.clone());
        histogram
    }

    /// A number that is read when the page is. `None`: it is not there yet, and the page does not have it.
    pub fn read_gauge(
        &self,
        name: &'static str,
        help: &'static str,
        read: impl Fn() -> Option<f64> + Send + Sync + 'static,
    ) {
        self.read(name, help, MetricType::Gauge, Box::new(read));
    }

    /// A number that only grows, and is read when the page is.
    pub fn read_counter(
        &self,
        name: &'static str,
        help: &'static str,
        read: impl Fn() -> Option<f64> + Send + Sync + 'static,
    ) {
        self.read(name, help, MetricType::Counter, Box::new(read));
    }

    fn read(
        &self,
        name: &'static str,
        help: &'static str,
        kind: MetricType,
        read: Box<dyn Fn() -> Option<f64> + Send + Sync>,
    ) {
        self.registry().register_collector(Box::new(Read { name, help, kind, read }));
    }

    /// The calls of one RPC, for whoever answers them before the server sees them. `path` is `/package.Service/Rpc`.
    #[must_use]
    pub fn calls(&self, path: &str) -> Calls {
        let path = path.strip_prefix('/').unwrap_or(path);
        let (service, method) = path.split_once('/').unwrap_or((path, ""));
        Calls(self.rpc(service, method))
    }

    /// The RPCs of a server; `paths` are `/package.Service/Rpc`.
    pub(crate) fn rpcs<'a>(&self, paths: impl Iterator<Item = &'a str>) -> Rpcs {
        let known = paths
            .filter_map(|path| {
                let (service, method) = path.strip_prefix('/')?.split_once('/')?;
                Some((path.to_owned(), self.rpc(service, method)))
            })
            .collect();
        Rpcs { known: Arc::new(known), other: self.rpc("unknown", "unknown") }
    }

    fn rpc(&self, service: &str, method: &str) -> Arc<Rpc> {
        Arc::new(Rpc {
            metrics: self.clone(),
            labels: vec![("service", service.to_owned()), ("method", method.to_owned())],
            codes: [const { OnceLock::new() }; _],
            others: OnceLock::new(),
        })
    }

    fn registry(&self) -> std::sync::MutexGuard<'_, Registry> {
        self.0.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts the calls of one RPC.
#[derive(Clone)]
pub struct Calls(pub(super) Arc<Rpc>);

impl Calls {
    /// One that came at `started`, and was answered whole.
    pub fn answered(&self, started: Instant) {
        self.0.answered(started.elapsed());
        self.0.count(Code::Ok);
    }

    /// One that was turned away.
    pub fn refused(&self, code: Code) {
        self.0.count(code);
    }
}

impl Rpcs {
    pub(crate) fn of(&self, path: &str) -> Arc<Rpc> {
        Arc::clone(self.known.get(path).unwrap_or(&self.other))
    }
}

impl Rpc {
    pub(crate) fn began(&self) {
        self.others().1.inc();
    }

    pub(crate) fn answered(&self, after: Duration) {
        self.others().0.observe(after.as_secs_f64());
    }

    pub(crate) fn ended(&self, code: Code) {
        self.others().1.dec();
        self.count(code);
    }

    fn count(&self, code: Code) {
        let place = code as usize;
        if let (Some(counter), Some(name)) = (self.codes.get(place), CODES.get(place)) {
            let labels = || [&*self.labels, &[("code", (*name).to_owned())]].concat();
            counter.get_or_init(|| self.metrics.0.calls.get_or_create_owned(&labels())).inc();
        }
    }

    fn others(&self) -> &(Histogram, Gauge) {
        self.others.get_or_init(|| {
            let Inner { seconds, in_flight, .. } = &*self.metrics.0;
            (seconds.get_or_create_owned(&self.labels), in_flight.get_or_create_owned(&self.labels))
        })
    }
}

/// A number that is kept elsewhere.
struct Read {
    name: &'static str,
    help: &'static str,
    kind: MetricType,
    read: Box<dyn Fn() -> Option<f64> + Send + Sync>,
}

impl fmt::Debug for Read {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl Collector for Read {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Some(value) = (self.read)() else { return Ok(()) };
        let encoder = encoder.encode_descriptor(self.name, self.help, None, self.kind)?;
        match self.kind {
            MetricType::Counter => ConstCounter::new(value).encode(encoder),
            MetricType::Gauge | MetricType::Histogram | MetricType::Info | MetricType::Unknown => {
                ConstGauge::new(value).encode(encoder)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_by_names_that_are_known() {
        let metrics = Metrics::default();
        let rpcs = metrics.rpcs(["/a.b.C/Do"].into_iter());
        for (path, code) in
            [("/a.b.C/Do", Code::Ok), ("/a.b.C/Do", Code::NotFound), ("/x/y", Code::Unimplemented)]
        {
            let rpc = rpcs.of(path);
            rpc.began();
            rpc.answered(Duration::from_micros(70));
            rpc.ended(code);
        }
        rpcs.of("/a.b.C/Do").began();
        let page = metrics.page();
        for line in [
            "countersign_rpc_total{service=\"a.b.C\",method=\"Do\",code=\"OK\"} 1",
            "countersign_rpc_total{service=\"a.b.C\",method=\"Do\",code=\"NOT_FOUND\"} 1",
            "countersign_rpc_total{service=\"unknown\",method=\"unknown\",code=\"UNIMPLEMENTED\"} 1",
            "countersign_rpc_seconds_count{service=\"a.b.C\",method=\"Do\"} 2",
            "countersign_rpc_seconds_bucket{le=\"0.0001\",service=\"a.b.C\",method=\"Do\"} 2",
            "countersign_rpc_in_flight{service=\"a.b.C\",method=\"Do\"} 1",
        ] {
            assert!(page.lines().any(|own| own == line), "{line} is not in\n{page}");
        }
        assert!(!page.contains("/x/y"), "{page}");
    }

    #[test]
    fn numbers_that_are_kept_elsewhere_are_read_with_the_page() {
        let metrics = Metrics::default();
        metrics.read_gauge("age_seconds", "How old it is", || Some(1.5));
        metrics.read_counter("lost", "What was lost", || Some(7.0));
        metrics.read_gauge("absent", "Not there yet", || None);
        let [allowed, denied] = metrics.counters("answers", "Answers", "answer", ["yes", "no"]);
        allowed.inc();
        denied.inc_by(2);
        let page = metrics.page();
        for line in [
            "countersign_age_seconds 1.5",
            "countersign_lost_total 7.0",
            "countersign_answers_total{answer=\"yes\"} 1",
            "countersign_answers_total{answer=\"no\"} 2",
        ] {
            assert!(page.lines().any(|own| own == line), "{line} is not in\n{page}");
        }
        assert!(!page.contains("absent"), "{page}");
    }
}
