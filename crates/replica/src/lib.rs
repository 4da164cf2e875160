//! Follows the policy store's Watch, and holds what it says in memory: one [`World`] at one revision, behind an atomic pointer. A
//! reader never waits for the follower, and sees one revision from beginning to end.
//!
//! It decides nothing. Where it was given a folder, it keeps what it holds there too, for a start while the store is away.

mod digest;
mod follow;
mod keeping;
pub mod kept;
pub mod records;
mod revision;
mod world;

pub use digest::Digest;
pub use follow::{Behind, Follower, Replica, View};
pub use records::Unreadable;
pub use revision::{MalformedRevision, Revision};
pub use world::World;
