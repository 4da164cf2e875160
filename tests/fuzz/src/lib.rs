//! What reads strangers' bytes, as functions of bytes. Each panics if something that must always hold does not.
//!
//! libFuzzer calls them (`fuzz_targets`), and so does a plain test (`tests/smoke.rs`) that needs no nightly compiler.

mod conditions;
mod documents;
mod patterns;
mod proofs;
mod tokens;

pub use conditions::condition_values;
pub use documents::document_parser;
pub use patterns::pattern_matcher;
pub use proofs::sts_proof;
pub use tokens::token;

/// A target: its corpus's folder, its function, and words that its inputs are made of.
pub struct Target {
    pub name: &'static str,
    pub run: fn(&[u8]),
    pub words: &'static [&'static str],
}

pub const TARGETS: [Target; 5] = [
    Target { name: "document_parser", run: document_parser, words: documents::WORDS },
    Target { name: "pattern_matcher", run: pattern_matcher, words: patterns::WORDS },
    Target { name: "condition_values", run: condition_values, words: conditions::WORDS },
    Target { name: "sts_proof", run: sts_proof, words: proofs::WORDS },
    Target { name: "token", run: token, words: tokens::WORDS },
];
