//! IAM's operations and their invariants: unique names, unique ids, delete conflicts, quotas, versions, referential integrity.
//! Each is a plain function of a view; none knows an engine, a caller or a wire format.
//!
//! Who may run them is decided before, in `authz`. Source of the rules: the IAM API reference, operation by operation, and
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html>.

pub mod access_key;
pub mod attachment;
pub mod document;
pub mod inline;
pub mod name;
pub mod policy;
pub mod role;
pub mod trust;
pub mod user;

/// IAM's default quotas.
pub mod quota {
    /// Managed policies attached to one user or role.
    pub const ATTACHED_POLICIES: usize = 10;
    /// Versions of a managed policy.
    pub const POLICY_VERSIONS: usize = 5;
    /// Access keys of a user.
    pub const ACCESS_KEYS: usize = 2;
    /// Characters of all inline policies of a user, without white space.
    pub const USER_INLINE_CHARACTERS: usize = 2_048;
    /// Characters of all inline policies of a role, without white space.
    pub const ROLE_INLINE_CHARACTERS: usize = 10_240;
    /// Bytes of one document as it is kept, white space included: five of them and a record stay under the store's 64 KB.
    pub const DOCUMENT_BYTES: usize = 24 << 10;
    /// Service principals bound to one role.
    pub const BINDINGS: usize = 100;
}
