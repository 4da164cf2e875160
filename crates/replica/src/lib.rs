//! Follows the policy store's Watch, and holds what it says in memory: one [`World`] at one revision, behind an atomic pointer. A
//! reader never waits for the follower, and sees one revision from beginning to end.
//!
//! It decides nothing. Where it was given a folder, it keeps what it holds there too, for a start while the store is away.

mod arriving;
mod digest;
mod follow;
mod keeping;
pub mod kept;
mod plain;
pub mod records;
mod replica;
mod revision;
mod world;

pub use digest::Digest;
pub use follow::Follower;
pub use records::Unreadable;
pub use replica::{Behind, Replica, View};
pub use revision::{MalformedRevision, Revision};
pub use world::World;
