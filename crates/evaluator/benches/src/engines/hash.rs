//! The floor: one cold lookup in a hash map of N keys of 36 bytes.
//!
//! It decides nothing. Keys are asked in random order, more of them than caches hold, from a list that is read front to back; so
//! what is missed is the map's own memory. Keys lie in the map itself: with keys behind pointers the floor would be higher.

use std::collections::HashMap;
use std::hint::black_box;

use crate::engine::{Engine, Stopped};
use crate::rng::SplitMix64;
use crate::workload::Workload;

pub const NAME: &str = "one lookup in a hash map of N keys";

const ASKED: usize = 1 << 18;

type Key = [u8; 36];

pub fn engine(workload: &Workload) -> Box<dyn Engine> {
    let n = workload.policies.len();
    let map: HashMap<Key, u32> = (0..n).map(|i| (key(i), i as u32)).collect();
    let mut rng = SplitMix64::new(7);
    let asked = (0..ASKED).map(|_| key(rng.below(n))).collect();
    let expected = workload.queries.iter().map(|query| query.is_allowed).collect();
    Box::new(Lookup { map, asked, expected, next: 0 })
}

/// As long as a UUID, and as random.
fn key(i: usize) -> Key {
    let mut rng = SplitMix64::new(i as u64);
    let text = format!("{:016x}-{:019x}", rng.number(), rng.number());
    text.as_bytes().try_into().expect("16 + 1 + 19 bytes")
}

struct Lookup {
    map: HashMap<Key, u32>,
    asked: Vec<Key>,
    /// So that it agrees with the engines, and may be timed among them.
    expected: Vec<bool>,
    next: usize,
}

impl Engine for Lookup {
    fn decide(&mut self, index: usize) -> Result<bool, Stopped> {
        self.next = (self.next + 1) % self.asked.len();
        black_box(self.map.get(&self.asked[self.next]));
        Ok(self.expected[index])
    }
}
