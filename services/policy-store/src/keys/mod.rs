//! What the token gateway needs of the store: signing keys, derived keys, spent proofs, pinned principals; and who may speak for a
//! service principal.

pub mod binding;
pub mod derive;
pub mod limit;
pub mod pin;
pub mod proof;
pub mod revoked;
pub mod signing;
pub mod sweep;
pub mod used;
