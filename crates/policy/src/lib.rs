//! The IAM policy language: documents, ARNs, actions, patterns, and what is wrong with them.
//!
//! Knows: the grammar of policy documents, where each element stands in its text, and what a reviewer would say of it.
//! Declines to know: requests, principals that exist, who may do what (that is `countersign-evaluator`), the clock, and storage.
//!
//! [`parse::parse`] reads a document as far as evaluating it needs; [`findings::check`] also applies the rules of writing.

pub mod action;
pub mod arn;
pub mod condition;
pub mod document;
pub mod findings;
pub mod json;
pub mod parse;
pub mod pattern;
pub mod principal;
pub mod provider;
pub mod scalar;
mod spelling;
mod validate;
mod warn;

pub use document::Document;
pub use findings::{Finding, Severity};
pub use parse::Malformed;
