//! What a policy store can do on this machine, through gRPC: writes a second, the time of a read, a new follower's snapshot, the time
//! to start, and what a thousand followers that read nothing cost the others (FAULTS.md F13). Run by hand, since it takes minutes:
//! `cargo bench -p countersign-policy-store --bench store -- 1000 1000000`, the sizes being users in the store. It prints tables, and writes
//! them to BENCHMARKS.md (to the file that COUNTERSIGN_BENCH_OUTPUT names, if it is set).

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a measurement that fails is none"
)]

#[allow(dead_code, reason = "what the tests use besides")]
#[path = "../tests/it/support.rs"]
mod support;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use countersign_policy_store::{Place, Quotas, transfer::open_store};
use countersign_proto::policy::v1::*;
use countersign_store::{Store, Write};
use prost::Message;
use support::{ACCOUNT, Bearer, Client, TestStore, new_user};
use tokio::task::JoinSet;

/// The form of the records that are written past the service.
const FORM: u8 = 2;
const READS: usize = 20_000;
/// Of one writer.
const ALONE: usize = 300;
const WRITERS: usize = 64;
/// Followers that read nothing, and how many of them share a connection.
const STUCK: usize = 1_000;
const STREAMS: usize = 100;
/// After so long what they are sent waits for them.
const SETTLED: Duration = Duration::from_secs(5);
/// After so long all of them have been let go.
const LET_GO: Duration = Duration::from_secs(20);
/// Of each of many writers.
const TOGETHER: usize = 50;

#[tokio::main]
async fn main() {
    let sizes: Vec<usize> =
        std::env::args().skip(1).filter_map(|argument| argument.parse().ok()).collect();
    let sizes = if sizes.is_empty() { vec![1_000, 1_000_000] } else { sizes };
    let mut report = Report::default();
    report.line(&format!(
        "| users | start | snapshot of a follower | reads alone: p50, p99 | reads, 16 at once: p99, a second | writes alone | {WRITERS} writers |"
    ));
    report.line("| --: | --: | --: | --: | --: | --: | --: |");
    let mut measured = Vec::new();
    for size in &sizes {
        measured.push(measure(*size, &mut report).await);
    }
    report.line("");
    report
        .line("| users | idle followers | memory of one | reads alone, p99: without, with them |");
    report.line("| --: | --: | --: | --: |");
    for (size, store) in &mut measured {
        idle(*size, store, &mut report).await;
    }
    report.line("");
    report.line("| users | followers that read nothing | memory of one, at most | reads alone, p99: without, with them | let go, and told so |");
    report.line("| --: | --: | --: | --: | --: |");
    for (size, store) in &mut measured {
        stuck(*size, store, &mut report).await;
    }
    report.write(&sizes);
}

/// What is printed, and kept.
#[derive(Default)]
struct Report(String);

impl Report {
    fn line(&mut self, line: &str) {
        println!("{line}");
        self.0.push_str(line);
        self.0.push('\n');
    }

    fn write(&self, sizes: &[usize]) {
        let sizes: Vec<String> = sizes.iter().map(usize::to_string).collect();
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let load: Vec<&str> = load.split_whitespace().take(3).collect();
        let day = time::OffsetDateTime::now_utc().date();
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let text = format!(
            "# What the policy store does, over gRPC\n\n    cargo bench -p countersign-policy-store --bench store -- {}\n\n\
             Of {day}, on {cores} cores that served and asked, load average at the end {}. Everything is on the embedded engine, through gRPC \
             on loopback.\n\n{}\n\
             How to read it: *start* is until health says SERVING, with the folder as writing all those users left it. *Snapshot* is until a \
             new follower has decoded the last record. *Reads* are GetUser, all over the table, authorization included; *writes* are \
             CreateUser. An *idle follower* has everything, and reads a heartbeat a second. A *follower that reads nothing* has asked for the Watch and takes no message; its memory is what the whole process \
             grew by, divided by their number; reads *with them* begin once what they were sent waits for them.\n",
            sizes.join(" "),
            load.join(", "),
            self.0
        );
        let path = std::env::var("COUNTERSIGN_BENCH_OUTPUT");
        let path = path
            .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/BENCHMARKS.md").to_owned());
        std::fs::write(path, text).unwrap();
    }
}

async fn measure(size: usize, report: &mut Report) -> (usize, TestStore) {
    let mut store = TestStore::prepared(tempfile::tempdir().unwrap(), Place::DataFolder);
    store.run(ACCOUNT).await.unwrap();
    store.publish_key().await;
    store.stop().await;
    fill(&store, size).await;
    store.quotas = Quotas { users: 1_000_000_000, ..Quotas::default() };
    let began = Instant::now();
    store.run(ACCOUNT).await.unwrap();
    let start = began.elapsed();

    let admin = store.admin().await;
    let began = Instant::now();
    let records = follow(&store).await;
    let snapshot = began.elapsed();
    assert!(records >= size, "{records} records");

    let alone = reads(&admin, 1, READS, size).await;
    let together = reads(&admin, 16, READS, size).await;
    let single = writes(&admin, "a", 1, ALONE).await;
    let many = writes(&admin, "b", WRITERS, TOGETHER).await;
    report.line(&format!(
        "| {size} | {start:.2?} | {snapshot:.2?}, {:.0}/s | {:.2?}, {:.2?} | {:.2?}, {:.0}/s | {:.0}/s, p99 {:.2?} | {:.0}/s, p99 {:.2?} |",
        rate(records, snapshot),
        alone.percentile(50),
        alone.percentile(99),
        together.percentile(99),
        together.rate(),
        single.rate(),
        single.percentile(99),
        many.rate(),
        many.percentile(99),
    ));
    store.stop().await;
    (size, store)
}

fn request() -> WatchRequest {
    let start = WatchStart { follower_name: "bench".to_owned(), ..Default::default() };
    WatchRequest { request: Some(watch_request::Request::Start(start)) }
}

/// Takes a snapshot as a follower does, and keeps none of it; how many records.
async fn follow(store: &TestStore) -> usize {
    let requests =
        tokio_stream::StreamExt::chain(tokio_stream::iter([request()]), tokio_stream::pending());
    let mut events = store.decision().watch(requests).await.unwrap().into_inner();
    let mut records = 0;
    loop {
        let event = events.message().await.unwrap().unwrap().event.unwrap();
        let watch_response::Event::SnapshotChunk(chunk) = event else { panic!("{event:?}") };
        records += chunk.records.len();
        if chunk.last {
            return records;
        }
    }
}

/// A thousand followers that hold everything and hear heartbeats, beside one who reads users.
async fn idle(size: usize, store: &mut TestStore, report: &mut Report) {
    store.run(ACCOUNT).await.unwrap();
    let mut admin = store.admin().await;
    // The ledger is counted once, whoever follows.
    follow(store).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let written = admin.create_user(new_user(&format!("idle-{size}"))).await.unwrap();
    let revision = written.into_inner().revision;
    let without = reads(&admin, 1, READS, size).await.percentile(99);
    let before = resident();
    let mut following = JoinSet::new();
    for _ in 0..STUCK / STREAMS {
        let client = store.decision();
        for _ in 0..STREAMS {
            let start = WatchStart {
                follower_name: "bench".to_owned(),
                revision: revision.clone(),
                ..Default::default()
            };
            let start = WatchRequest { request: Some(watch_request::Request::Start(start)) };
            let requests = tokio_stream::StreamExt::chain(
                tokio_stream::iter([start]),
                tokio_stream::pending(),
            );
            let mut client = client.clone();
            following.spawn(async move {
                let mut events = client.watch(requests).await.unwrap().into_inner();
                while let Ok(Some(event)) = events.message().await {
                    assert!(
                        !matches!(event.event, Some(watch_response::Event::SnapshotChunk(_))),
                        "it has everything"
                    );
                }
            });
        }
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    let with = reads(&admin, 1, READS, size).await.percentile(99);
    let grown = resident().saturating_sub(before);
    report.line(&format!(
        "| {size} | {STUCK} | {} KiB | {without:.2?}, {with:.2?} ({:.2} times) |",
        grown / STUCK / 1024,
        with.as_secs_f64() / without.as_secs_f64()
    ));
    following.abort_all();
    store.stop().await;
}

/// A thousand followers that read nothing, beside one who reads users.
async fn stuck(size: usize, store: &mut TestStore, report: &mut Report) {
    store.run(ACCOUNT).await.unwrap();
    let admin = store.admin().await;
    // The ledger is counted once, whoever follows.
    follow(store).await;
    let without = reads(&admin, 1, READS / 4, size).await.percentile(99);
    let before = resident();
    let began = Instant::now();
    let mut held = Vec::new();
    for _ in 0..STUCK / STREAMS {
        // Of one connection each hundred.
        let mut client = store.decision();
        for _ in 0..STREAMS {
            let requests = tokio_stream::StreamExt::chain(
                tokio_stream::iter([request()]),
                tokio_stream::pending(),
            );
            held.push(client.watch(requests).await.unwrap().into_inner());
        }
    }
    // Until what they are sent waits for them.
    tokio::time::sleep(SETTLED).await;
    let with = reads(&admin, 1, READS / 4, size).await;
    let grown = resident().saturating_sub(before);
    tokio::time::sleep(LET_GO.saturating_sub(began.elapsed())).await;
    // Each hears why it was let go, after what waited for it. All at once, since those of one connection share its window.
    let mut ends = JoinSet::new();
    for mut events in held {
        ends.spawn(async move {
            let end = async {
                loop {
                    match events.message().await {
                        Ok(Some(_)) => {}
                        Ok(None) => return None,
                        Err(status) => return Some(status.code()),
                    }
                }
            };
            tokio::time::timeout(Duration::from_secs(10), end).await.ok().flatten()
        });
    }
    let ends = ends.join_all().await;
    let told = ends.iter().filter(|end| **end == Some(tonic::Code::ResourceExhausted)).count();
    report.line(&format!(
        "| {size} | {STUCK} | {} KiB | {without:.2?}, {:.2?} | {told} |",
        grown / STUCK / 1024,
        with.percentile(99),
    ));
    store.stop().await;
}

/// Bytes of this process in memory.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<usize>().unwrap() * 1024
}

/// Writes users past the service, each as CreateUser leaves it: its record, and where its unique id stands.
async fn fill(store: &TestStore, size: usize) {
    let engine = open_store(&Place::DataFolder, store.path()).await.unwrap();
    let mut running = JoinSet::new();
    for first in (0..size).step_by(64) {
        if running.len() == 32 {
            running.join_next().await.unwrap().unwrap();
        }
        let writes = (first..size.min(first + 64)).flat_map(user).collect();
        let engine: Arc<dyn Store> = engine.clone();
        running.spawn(async move { drop(engine.commit(Vec::new(), writes).await.unwrap()) });
    }
    while let Some(done) = running.join_next().await {
        done.unwrap();
    }
}

fn user(number: usize) -> [Write; 2] {
    let (key, user_id) = (format!("user/{ACCOUNT}/u{number:07}"), format!("AIDA{number:017}"));
    let record = UserRecord {
        account_id: ACCOUNT.to_owned(),
        path: "/".to_owned(),
        user_name: format!("u{number:07}"),
        user_id: user_id.clone(),
        attached_policy_arns: vec!["arn:aws:iam::aws:policy/AmazonS3FullAccess".to_owned()],
        ..Default::default()
    };
    // The index's record has one field, the key, as protobuf's field 1.
    let length = u8::try_from(key.len()).unwrap();
    let index = [&[FORM, 0x0a, length], key.as_bytes()].concat();
    let value = [vec![FORM], record.encode_to_vec()].concat();
    [
        Write::Put { key: key.into(), value: value.into() },
        Write::Put { key: format!("x/id/{user_id}").into(), value: index.into() },
    ]
}

/// Calls that were made, and how long each took, shortest first.
struct Calls {
    times: Vec<Duration>,
    all: Duration,
}

impl Calls {
    fn percentile(&self, percent: usize) -> Duration {
        let rank = (self.times.len() * percent).div_ceil(100).max(1) - 1;
        self.times.get(rank).copied().unwrap()
    }

    fn rate(&self) -> f64 {
        rate(self.times.len(), self.all)
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of a few millions")]
fn rate(count: usize, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64()
}

async fn reads(admin: &Client<Bearer>, readers: usize, reads: usize, size: usize) -> Calls {
    timed(readers, |reader| {
        let mut iam = admin.clone();
        async move {
            let mut times = Vec::new();
            for turn in 0..reads / readers {
                // All over the table, and the same ones each time.
                let number = (turn * readers + reader) * 7_919 % size;
                let request = GetUserRequest { user_name: format!("u{number:07}") };
                let began = Instant::now();
                iam.get_user(request).await.unwrap();
                times.push(began.elapsed());
            }
            times
        }
    })
    .await
}

async fn writes(
    admin: &Client<Bearer>,
    name: &'static str,
    writers: usize,
    writes: usize,
) -> Calls {
    timed(writers, |writer| {
        let mut iam = admin.clone();
        async move {
            let mut times = Vec::new();
            for turn in 0..writes {
                let request = new_user(&format!("{name}-{writer}-{turn}"));
                let began = Instant::now();
                iam.create_user(request).await.unwrap();
                times.push(began.elapsed());
            }
            times
        }
    })
    .await
}

async fn timed<F>(tasks: usize, task: impl Fn(usize) -> F) -> Calls
where
    F: Future<Output = Vec<Duration>> + Send + 'static,
{
    let began = Instant::now();
    let mut running = JoinSet::new();
    for number in 0..tasks {
        running.spawn(task(number));
    }
    let mut times: Vec<Duration> = running.join_all().await.into_iter().flatten().collect();
    let all = began.elapsed();
    times.sort_unstable();
    Calls { times, all }
}
