//! The fuzz targets without a fuzzer: the corpus, and what chance makes of it.
//!
//! `COUNTERSIGN_FUZZ_CASES` says how many inputs a target (20,000 by default), `COUNTERSIGN_FUZZ_SEED` which ones. With `-- --nocapture`
//! each says how many there were, how long they took, and the most memory that one of them took.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;

use std::time::Instant;

use countersign_fuzz::{TARGETS, Target};

/// An input is at most 20 KB, and each target gives it to some ten readers.
const MAX_BYTES: isize = 4 << 20;

/// The system's allocator, and beside it a count of what each thread holds. (What AWS-LC takes of C's is not in it.)
struct Counted;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static MOST: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    // A thread that is ending has no count any more.
    let _ = HELD.try_with(|held| {
        held.set(held.get() + bytes);
        let _ = MOST.try_with(|most| most.set(most.get().max(held.get())));
    });
}

// SAFETY: every call goes to the system's allocator as it came; the counting allocates nothing.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static COUNTED: Counted = Counted;

/// The most that `work` held at once beyond what was held before it, in bytes.
fn memory(work: impl FnOnce()) -> isize {
    let before = HELD.get();
    MOST.set(before);
    work();
    MOST.get() - before
}

/// SplitMix64.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable)
        .map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{variable} is no number")))
}

fn corpus(target: &Target) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name);
    let mut paths: Vec<_> =
        fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "{} has no corpus", target.name);
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// One to four changes.
fn mutate(seeds: &[Vec<u8>], words: &[&str], rng: &mut Rng) -> Vec<u8> {
    let mut bytes = seeds[rng.below(seeds.len())].clone();
    for _ in 0..=rng.below(4) {
        let at = rng.below(bytes.len() + 1);
        let end = (at + rng.below(16)).min(bytes.len());
        match rng.below(7) {
            0 if at < bytes.len() => bytes[at] ^= 1 << rng.below(8),
            1 => drop(bytes.splice(at..end, [])),
            2 => {
                drop(bytes.splice(
                    at..at,
                    (0..rng.below(4)).map(|_| rng.next() as u8).collect::<Vec<_>>(),
                ))
            }
            3 => drop(bytes.splice(at..at, words[rng.below(words.len())].bytes())),
            4 => drop(bytes.splice(at..end, words[rng.below(words.len())].bytes())),
            5 => {
                let again = bytes[at..end].repeat(1 + rng.below(3));
                drop(bytes.splice(at..at, again));
            }
            _ => {
                let other = &seeds[rng.below(seeds.len())];
                let from = rng.below(other.len() + 1);
                drop(bytes.splice(at.., other[from..].iter().copied()));
            }
        }
    }
    bytes.truncate(20_000);
    bytes
}

fn run(target: &Target, bytes: &[u8]) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| (target.run)(bytes))) {
        let text = String::from_utf8_lossy(bytes);
        eprintln!("{}: {text:?}\nas bytes: {bytes:?}", target.name);
        resume_unwind(panic);
    }
}

fn smoke(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).unwrap();
    let mut seeds = corpus(target);
    seeds.iter().for_each(|bytes| run(target, bytes));
    seeds.push(Vec::new());
    let cases = number("COUNTERSIGN_FUZZ_CASES", 20_000);
    let mut rng = Rng(number("COUNTERSIGN_FUZZ_SEED", 1));
    let (begin, mut most) = (Instant::now(), 0);
    for _ in 0..cases {
        let bytes = mutate(&seeds, target.words, &mut rng);
        let held = memory(|| run(target, &bytes));
        assert!(held <= MAX_BYTES, "{name} took {held} bytes for {bytes:?}");
        most = most.max(held);
    }
    println!(
        "F14: {name}: {cases} inputs and {} of the corpus in {:.1} s, 0 panics; the most that one took was {} KiB",
        seeds.len() - 1,
        begin.elapsed().as_secs_f64(),
        most / 1024
    );
}

#[test]
fn document_parser() {
    smoke("document_parser");
}

#[test]
fn pattern_matcher() {
    smoke("pattern_matcher");
}

#[test]
fn condition_values() {
    smoke("condition_values");
}

#[test]
fn sts_proof() {
    smoke("sts_proof");
}

#[test]
fn token() {
    smoke("token");
}

#[test]
fn web_identity() {
    smoke("web_identity");
}

#[test]
fn dpop_proof() {
    smoke("dpop_proof");
}

#[test]
fn instance_envelope() {
    smoke("instance_envelope");
}

#[test]
fn signed_request() {
    smoke("signed_request");
}

/// The targets notice what they are there to notice.
#[test]
fn sound_inputs_are_read() {
    let read = |target: &str, file: &str| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
        fs::read_to_string(folder.join(file)).unwrap()
    };
    assert!(countersign_policy::parse::parse(&read("document_parser", "identity.json")).is_ok());
    assert!(countersign_policy::parse::parse(&read("document_parser", "trust.json")).is_ok());
    for file in ["post.json", "presigned.json"] {
        use base64::Engine;
        let engine = base64::engine::general_purpose::URL_SAFE_NO_PAD;
        let token = engine.encode(read("sts_proof", file));
        assert!(countersign_sigv4::StsProof::parse(&token).is_ok(), "{file}");
    }
}
