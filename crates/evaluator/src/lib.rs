//! IAM's evaluation logic: one request and the policies that bear on it in, one verdict out.
//!
//! [`reference::decide`] reads like AWS's documentation; [`compiled::decide`] gives the same verdicts, faster, and is what the
//! services run. Three invariants hold everywhere, each with a test:
//! - the default is to deny, and an explicit deny wins over every allow;
//! - an Allow that cannot be evaluated does not allow, and a Deny that cannot be evaluated denies ([`truth::Truth::Unknown`]);
//! - a principal is matched in its realm: what names a local principal never grants to an external one.
//!
//! Declines to know: where policies are kept, who called, what time it is (`now` is an argument).

pub mod compiled;
mod conditions;
pub mod context;
pub mod effort;
mod entities;
pub mod explain;
mod matching;
pub mod outlook;
pub mod policies;
pub mod principal;
mod principals;
pub mod ready;
pub mod reference;
pub mod request;
mod resources;
pub mod simulate;
pub mod snapshot;
pub mod subject;
pub mod truth;
pub mod verdict;

pub use context::{Context, ContextValue, DuplicateKey, assertable};
pub use explain::{Explanation, StatementExplanation, Stop, explain};
pub use policies::{Attached, PolicySet, PolicyType, Resolved, ResolvedPrincipals};
pub use principal::{ExternalPrincipal, Principal, Realm, Session};
pub use ready::{Ready, always_allows};
pub use request::{Request, Resource, ResourceArn};
pub use snapshot::Snapshot;
pub use subject::{FederatedBy, SessionFacts, Subject, SubjectError};
pub use verdict::{Decision, Determining, Reason, Verdict};
