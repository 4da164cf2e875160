//! IAM's operations and their invariants: unique names, unique ids, delete conflicts, quotas, versions, referential integrity.
//! Each is a plain function of a view; none knows an engine, a caller or a wire format.
//!
//! Who may run them is decided before, in `authz`. Source of the rules: the IAM API reference, operation by operation, and
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html>.

pub mod access_key;
pub mod attachment;
pub mod boundary;
pub mod document;
pub mod etag;
pub mod group;
pub mod guardrail;
pub mod import;
pub mod inline;
pub mod name;
pub mod organization;
pub mod policy;
pub mod quota;
pub mod resource_policy;
pub mod role;
pub mod tags;
pub mod trust;
pub mod user;
