//! The engines by name.

pub mod aspen;
pub mod cedar;
pub mod hash;
pub mod ours;
pub mod rego;

use crate::engine::Engine;
use crate::workload::{Shape, Workload};

/// Builds an engine: its policies, and (but for those that take text) its requests.
pub type Build = fn(&Workload) -> Box<dyn Engine>;

/// One row of the table.
pub struct Candidate {
    pub name: &'static str,
    pub build: Build,
    /// The largest N, by shape, that it can be asked for without waiting for hours or taking the machine's memory.
    largest: [(Shape, usize); 3],
}

impl Candidate {
    pub fn takes(&self, shape: Shape, n: usize) -> bool {
        self.largest.iter().any(|(of, largest)| *of == shape && n <= *largest)
    }
}

const fn up_to(sharded: usize, wide: usize) -> [(Shape, usize); 3] {
    [(Shape::Sharded, sharded), (Shape::Wide, wide), (Shape::WideRandom, wide)]
}

const MILLION: usize = 1_000_000;

/// All of them, ours first.
pub const CANDIDATES: &[Candidate] = &[
    Candidate { name: ours::COMPILED, build: ours::compiled, largest: up_to(MILLION, MILLION) },
    Candidate { name: ours::REFERENCE, build: ours::reference, largest: up_to(MILLION, 10_000) },
    Candidate { name: cedar::SLICED, build: cedar::sliced, largest: up_to(100_000, 10_000) },
    Candidate {
        name: cedar::SLICED_FROM_TEXT,
        build: cedar::sliced_from_text,
        largest: up_to(100_000, 10_000),
    },
    Candidate { name: cedar::WHOLE, build: cedar::whole, largest: up_to(10_000, 10_000) },
    Candidate { name: rego::COMPILED, build: rego::compiled, largest: up_to(100_000, 10_000) },
    Candidate { name: rego::INTERPRETED, build: rego::interpreted, largest: up_to(1_000, 1_000) },
    Candidate { name: aspen::NAME, build: aspen::engine, largest: up_to(100_000, 1_000) },
    Candidate { name: hash::NAME, build: hash::engine, largest: up_to(MILLION, 0) },
];
