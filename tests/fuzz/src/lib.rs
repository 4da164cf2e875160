//! What reads strangers' bytes, as functions of bytes. Each panics if something that must always hold does not.
//!
//! libFuzzer calls them (`fuzz_targets`), and so does a plain test (`tests/smoke.rs`) that needs no nightly compiler.

mod conditions;
mod documents;
mod envelopes;
#[path = "../../../crates/token/src/instance/forged.rs"]
mod forged;
mod jwts;
mod patterns;
mod proofs;
mod requests;
mod tokens;

pub use conditions::condition_values;
pub use documents::document_parser;
pub use envelopes::instance_envelope;
pub use jwts::{dpop_proof, web_identity};
pub use patterns::pattern_matcher;
pub use proofs::sts_proof;
pub use requests::signed_request;
pub use tokens::token;

/// A target: its corpus's folder, its function, and words that its inputs are made of.
pub struct Target {
    pub name: &'static str,
    pub run: fn(&[u8]),
    pub words: &'static [&'static str],
}

pub const TARGETS: [Target; 9] = [
    Target { name: "document_parser", run: document_parser, words: documents::WORDS },
    Target { name: "pattern_matcher", run: pattern_matcher, words: patterns::WORDS },
    Target { name: "condition_values", run: condition_values, words: conditions::WORDS },
    Target { name: "sts_proof", run: sts_proof, words: proofs::WORDS },
    Target { name: "token", run: token, words: tokens::WORDS },
    Target { name: "web_identity", run: web_identity, words: jwts::WORDS },
    Target { name: "dpop_proof", run: dpop_proof, words: jwts::WORDS },
    Target { name: "instance_envelope", run: instance_envelope, words: envelopes::WORDS },
    Target { name: "signed_request", run: signed_request, words: requests::WORDS },
];
