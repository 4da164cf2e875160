//! The DPoP proofs that were shown, so that none is taken twice (RFC 9449 section 11.1). Each is forgotten once it is too old to be taken
//! anyway. One process's memory: another replica has its own.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Mutex, PoisonError};

use super::{DpopError, ProvenKey};

/// Proofs that were shown.
#[derive(Debug)]
pub struct SeenProofs {
    capacity: usize,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    keys: HashSet<String>,
    /// The same, soonest forgotten first.
    order: BTreeSet<(i64, String)>,
}

impl SeenProofs {
    /// Remembers at most so many at once.
    pub fn new(capacity: usize) -> SeenProofs {
        SeenProofs { capacity, table: Mutex::default() }
    }

    /// Takes the proof of `key` at `now` (seconds since 1970), once.
    ///
    /// # Errors
    /// `DpopError::Replayed` if it was taken before; `DpopError::Busy` if there is no room: none is forgotten before its time.
    pub fn take(&self, key: &ProvenKey, now: i64) -> Result<(), DpopError> {
        // A panic elsewhere leaves at worst a proof too many, which refuses.
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        while table.order.first().is_some_and(|(until, _)| *until < now) {
            if let Some((_, old)) = table.order.pop_first() {
                table.keys.remove(&old);
            }
        }
        if table.keys.contains(key.replay_key()) {
            return Err(DpopError::Replayed);
        }
        if table.keys.len() >= self.capacity {
            return Err(DpopError::Busy);
        }
        table.keys.insert(key.replay_key().to_owned());
        table.order.insert((key.until(), key.replay_key().to_owned()));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // ATTACKS 79.
    #[test]
    fn a_proof_is_taken_once() {
        let proof = |name: &str, until| ProvenKey {
            thumbprint: "t".into(),
            replay_key: name.into(),
            until,
        };
        let seen = SeenProofs::new(2);
        let check = |name: &str, until: i64, now: i64, expected: Result<(), DpopError>| {
            assert_eq!(seen.take(&proof(name, until), now), expected, "{name} at {now}");
        };
        check("a", 100, 50, Ok(()));
        check("a", 100, 50, Err(DpopError::Replayed));
        check("a", 100, 100, Err(DpopError::Replayed));
        check("b", 200, 100, Ok(()));
        // Live ones are never evicted: that would open the way for a replay.
        check("c", 200, 100, Err(DpopError::Busy));
        check("c", 200, 101, Ok(()));
        check("b", 200, 200, Err(DpopError::Replayed));
    }
}
