//! Spent proofs: each is used once, by whichever gateway comes first.

use prost_types::Timestamp;

use crate::{
    digest::sha256_hex,
    error::Error,
    layout::{self, SpentProof},
    view::{Plan, View},
};

/// How far ahead a proof's end may lie, in seconds: STS accepts one for 15 minutes.
const FARTHEST: i64 = 3_600;

/// Spends a proof.
pub fn consume(
    view: &View,
    plan: &mut Plan,
    replay_key: &str,
    expire_time: Option<Timestamp>,
) -> Result<(), Error> {
    if replay_key.is_empty() || replay_key.len() > 1_024 {
        return Err(Error::validation("replay_key", "1 to 1,024 characters are expected"));
    }
    let now = view.now().seconds;
    let near = now - 60..=now + FARTHEST;
    let expires = expire_time.map(|time| time.seconds).filter(|end| near.contains(end));
    let expires = expires.ok_or_else(|| {
        Error::validation("expire_time", "is required: at most an hour ahead, and not past")
    })?;
    let key = layout::spent_proof(&sha256_hex(replay_key.as_bytes()));
    if view.find(&key)?.is_some() {
        return Err(Error::ProofAlreadyUsed);
    }
    plan.put(&key, &SpentProof { expires });
    Ok(())
}
