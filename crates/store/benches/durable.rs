//! What the sled engine costs: durable writes against a plain overwrite with fdatasync in the same run, the disk after
//! overwrites, reads, a start and a snapshot at a million entities. BENCHMARKS.md has the command and the last output.
//!
//! In full only when run by `cargo bench`; else small, to show that it runs.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "this is a benchmark"
)]

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use countersign_store::{SledOptions, SledStore, Store, Write};
use tempfile::TempDir;

const DOCUMENT: usize = 2048;
const WRITERS: u64 = 64;

struct Sizes {
    documents: u64,
    rounds: u64,
    entities: u64,
    gets: u64,
}

fn main() {
    let sizes = if std::env::args().any(|argument| argument == "--bench") {
        Sizes { documents: 100_000, rounds: 20, entities: 1_000_000, gets: 300_000 }
    } else {
        Sizes { documents: 500, rounds: 1, entities: 2_000, gets: 1_000 }
    };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    println!("| what | measured | bar |\n| --- | --- | --- |");
    runtime.block_on(async {
        writes(&sizes).await;
        disk(&sizes).await;
        let small = reads(1_000.min(sizes.entities), &sizes).await;
        let large = reads(sizes.entities, &sizes).await;
        row(
            "reads, p99 of the larger against the smaller",
            format!("{:.2} times", large / small),
            "at most 2",
        );
    });
}

fn row(what: &str, measured: impl std::fmt::Display, bar: &str) {
    println!("| {what} | {measured} | {bar} |");
}

/// Numbers that look random, the same in each run.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn bytes(&mut self, size: usize) -> Bytes {
        let words = std::iter::repeat_with(|| self.next().to_ne_bytes()).take(size.div_ceil(8));
        words.flatten().take(size).collect::<Vec<u8>>().into()
    }
}

/// The folder for a store: where `COUNTERSIGN_BENCH_FOLDER` says, since a system's own may be in memory.
fn folder() -> TempDir {
    match std::env::var_os("COUNTERSIGN_BENCH_FOLDER") {
        Some(parent) => TempDir::new_in(parent).unwrap(),
        None => TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap(),
    }
}

fn open(folder: &Path) -> Arc<SledStore> {
    Arc::new(SledStore::open(folder, SledOptions::default()).unwrap())
}

fn document(place: u64, noise: &mut Noise) -> Vec<Write> {
    let key = format!("account/{:012}/policy/{place:08}", place % 1000).into();
    vec![Write::Put { key, value: noise.bytes(DOCUMENT) }]
}

fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of[of.len() / 2]
}

/// One writer and the plain overwrite take turns, so that what else the machine does meets both alike.
async fn writes(sizes: &Sizes) {
    const TURN: u64 = 200;
    let folder = folder();
    let store = open(folder.path());
    let mut noise = Noise(1);
    let slots = 10_000;
    let plain = plain_file(&folder.path().join("plain"), slots);
    let (mut one, mut overwrite, mut many, mut ratios) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..sizes.rounds {
        let since = Instant::now();
        for _ in 0..TURN {
            let bytes = noise.bytes(DOCUMENT);
            plain.write_all_at(&bytes, noise.next() % slots * DOCUMENT as u64).unwrap();
            plain.sync_data().unwrap();
        }
        let plain_rate = rate(TURN, since);
        let since = Instant::now();
        for _ in 0..TURN {
            store.commit(vec![], document(noise.next() % slots, &mut noise)).await.unwrap();
        }
        one.push(rate(TURN, since));
        ratios.push(rate(TURN, since) / plain_rate);
        overwrite.push(plain_rate);
        let since = Instant::now();
        write_at_once(&store, 10 * TURN, move |task, count| {
            (task * 7919 + count * 104_729) % slots
        })
        .await;
        many.push(rate(10 * TURN, since));
    }
    row(
        "plain 2 KB overwrite and fdatasync, one at a time",
        format!("{:.0}/s", median(overwrite)),
        "",
    );
    let (one, many) = (median(one), median(many));
    row("durable single commits of 2 KB, one at a time", format!("{one:.0}/s"), "");
    row(
        "the same, against the plain overwrite (median of the turns)",
        format!("{:.2}", median(ratios)),
        "at least 0.35",
    );
    row("durable commits of 2 KB, 64 writers", format!("{many:.0}/s"), "");
    row("64 writers against one", format!("{:.1} times", many / one), "at least 4");
}

fn rate(count: u64, since: Instant) -> f64 {
    count as f64 / since.elapsed().as_secs_f64()
}

fn plain_file(path: &Path, slots: u64) -> File {
    let file =
        OpenOptions::new().create(true).truncate(true).read(true).write(true).open(path).unwrap();
    let zeros = vec![0; DOCUMENT];
    (0..slots).for_each(|slot| file.write_all_at(&zeros, slot * DOCUMENT as u64).unwrap());
    file.sync_all().unwrap();
    file
}

/// `count` commits by [`WRITERS`] tasks; returns how long the slowest took.
async fn write_at_once(
    store: &Arc<SledStore>,
    count: u64,
    place: impl Fn(u64, u64) -> u64 + Copy + Send + 'static,
) -> Duration {
    let tasks: Vec<_> = (0..WRITERS)
        .map(|task| {
            let store = store.clone();
            tokio::spawn(async move {
                let mut noise = Noise(task + 2);
                let mut slowest = Duration::ZERO;
                for turn in (task..count).step_by(usize::try_from(WRITERS).unwrap()) {
                    let writes = document(place(task, turn), &mut noise);
                    let since = Instant::now();
                    store.commit(vec![], writes).await.unwrap();
                    slowest = slowest.max(since.elapsed());
                }
                slowest
            })
        })
        .collect();
    let mut slowest = Duration::ZERO;
    for task in tasks {
        slowest = slowest.max(task.await.unwrap());
    }
    slowest
}

/// Bytes on the disk of a folder and what is in it.
fn disk_use(folder: &Path) -> u64 {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        // A merge may remove what is being looked at.
        let Ok(found) = entry.metadata() else { continue };
        bytes += if found.is_dir() { disk_use(&entry.path()) } else { found.blocks() * 512 };
    }
    bytes
}

async fn disk(sizes: &Sizes) {
    let folder = folder();
    let store = open(folder.path());
    let documents = sizes.documents;
    let raw = documents * (DOCUMENT as u64 + 36);
    let (ended, peak) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let watcher = std::thread::spawn({
        let (ended, peak, folder) = (ended.clone(), peak.clone(), folder.path().to_owned());
        move || {
            while !ended.load(Ordering::Relaxed) {
                peak.fetch_max(disk_use(&folder), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    });
    write_at_once(&store, documents, |_, turn| turn).await;
    let since = Instant::now();
    let slowest = write_at_once(&store, documents, move |task, turn| {
        (task * 7919 + turn * 104_729) % documents
    })
    .await;
    let overwrites = rate(documents, since);
    // Until the last merge has ended: its base is then the only one.
    while bases(folder.path()) > 1 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    ended.store(true, Ordering::Relaxed);
    watcher.join().unwrap();
    let times = |bytes: u64| {
        format!("{:.0} MB, {:.2} times the raw size", bytes as f64 / 1e6, bytes as f64 / raw as f64)
    };
    row(
        &format!("disk after {documents} overwrites of {documents} documents of 2 KB"),
        times(disk_use(folder.path())),
        "at most 2.5 times",
    );
    row(
        "the most that was used meanwhile, during a merge",
        times(peak.load(Ordering::Relaxed)),
        "",
    );
    row(
        "overwriting meanwhile, 64 writers",
        format!("{overwrites:.0}/s, the slowest commit {slowest:.1?}"),
        "",
    );
}

fn bases(folder: &Path) -> usize {
    let names = std::fs::read_dir(folder).unwrap();
    names
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("base-"))
        .count()
}

/// The processor time of this process so far; the system counts it in hundredths of a second.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11..13].iter().map(|field| field.parse::<f64>().unwrap()).sum::<f64>() / 100.0
}

/// The 99th percentile of reading one entity of `entities`, in microseconds; for the larger number also a start and a
/// snapshot.
async fn reads(entities: u64, sizes: &Sizes) -> f64 {
    let folder = folder();
    let store = open(folder.path());
    let mut noise = Noise(3);
    let key = |place: u64| format!("account/{:012}/role/{place:08}", place % 1000);
    for first in (0..entities).step_by(128) {
        let places = first..entities.min(first + 128);
        let writes =
            places.map(|place| Write::Put { key: key(place).into(), value: noise.bytes(300) });
        store.commit(vec![], writes.collect()).await.unwrap();
    }
    drop(store);
    let (since, before) = (Instant::now(), cpu_seconds());
    let store = open(folder.path());
    let (start, cpu) = (since.elapsed(), cpu_seconds() - before);
    let mut took = Vec::new();
    for _ in 0..sizes.gets {
        let key = key(noise.next() % entities);
        let since = Instant::now();
        let found = store.get(key.as_bytes()).await.unwrap();
        took.push(since.elapsed());
        assert!(found.is_some());
    }
    took.sort();
    let [p50, p99] = [50, 99].map(|percent| took[took.len() * percent / 100].as_secs_f64() * 1e6);
    row(
        &format!("reading one of {entities} entities of 300 bytes"),
        format!("p50 {p50:.2} µs, p99 {p99:.2} µs"),
        "",
    );
    if entities == sizes.entities {
        row(
            &format!("a start with {entities} entities"),
            format!("{start:.2?}, {cpu:.2} s of it computing"),
            "at most 5 s",
        );
        let since = Instant::now();
        let (_, found) = store.snapshot(&[b""]).await.unwrap();
        assert_eq!(found.len() as u64, entities);
        row(
            "a snapshot to a follower, at this crate's level",
            format!("{:.0} entities/s", rate(entities, since)),
            "at least 100000/s",
        );
    }
    p99
}
