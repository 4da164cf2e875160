//! What a policy store can do on this machine, through gRPC: writes a second, the time of a read, a new follower's snapshot, the time
//! to start. Run by hand, since it takes minutes: `cargo bench -p countersign-policy-store --bench store -- 1000 1000000`, the sizes being
//! users in the store. It prints a table; no figures of a full run are recorded yet.

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
/// Of each of many writers.
const TOGETHER: usize = 50;

#[tokio::main]
async fn main() {
    let sizes: Vec<usize> =
        std::env::args().skip(1).filter_map(|argument| argument.parse().ok()).collect();
    let sizes = if sizes.is_empty() { vec![1_000, 1_000_000] } else { sizes };
    println!(
        "| users | start | snapshot of a follower | reads alone: p50, p99 | reads, 16 at once: p99, a second | writes alone | {WRITERS} writers |"
    );
    println!("| --: | --: | --: | --: | --: | --: | --: |");
    for size in sizes {
        measure(size).await;
    }
}

async fn measure(size: usize) {
    let mut store = TestStore::prepared(tempfile::tempdir().unwrap(), Place::DataFolder);
    store.run(ACCOUNT).await.unwrap();
    store.publish_key().await;
    store.stop().await;
    fill(&store, size).await;
    store.quotas = Quotas { users: 1_000_000_000, ..Quotas::default() };
    let began = Instant::now();
    store.run(ACCOUNT).await.unwrap();
    let start = began.elapsed();

    let began = Instant::now();
    let records = store.records().await.len();
    let snapshot = began.elapsed();
    assert!(records >= size, "{records} records");

    let admin = store.admin().await;
    let alone = reads(&admin, 1, READS, size).await;
    let together = reads(&admin, 16, READS, size).await;
    let single = writes(&admin, "a", 1, ALONE).await;
    let many = writes(&admin, "b", WRITERS, TOGETHER).await;
    println!(
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
    );
    store.stop().await;
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
