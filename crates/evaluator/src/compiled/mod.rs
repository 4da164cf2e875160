//! The compiled engine: what production runs. It gives the verdicts of [`crate::reference`], and a property test holds it to that.
//!
//! A document is compiled once ([`compile`]) and shared by all who have it. [`evaluate`] decides from borrowed texts without
//! allocation, lock, regular expression or panic, in time linear in its input; [`decide`] takes what the reference takes.
//!
//! Declines to know: how a verdict is explained (that is [`crate::explain`]'s, over the reference), and where policies are kept.

mod binary;
mod compile;
mod conditions;
mod drop_in;
mod engine;
mod glob;
mod index;
mod number;
mod program;
mod request;
mod resources;
mod set;
mod signature;
mod statement;
mod words;

pub use compile::compile;
pub use drop_in::{Program, decide};
pub use engine::{
    CompiledAttached, Determined, Layer, LayerRef, MAX_DETERMINING, Outcome, Policies,
    StatementRef, evaluate,
};
pub use program::CompiledPolicy;
pub use request::{InvalidQuery, MAX_ACTION, MAX_KEYS, Query, Value};
pub use set::CompiledSet;
