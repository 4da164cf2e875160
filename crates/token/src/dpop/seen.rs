//! The DPoP proofs that were shown, so that none is taken twice (RFC 9449 section 11.1). Each is forgotten once it is too old to be taken
//! anyway. One process's memory: another replica has its own.

use std::collections::{BTreeSet, HashMap, HashSet};
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
    /// The same, soonest forgotten first, each with whose it is.
    order: BTreeSet<(i64, String, String)>,
    /// How many are whose.
    held: HashMap<String, usize>,
}

/// Nobody's proofs take more than this part of the memory, so that nobody keeps all others out.
const SHARE: usize = 4;

impl SeenProofs {
    /// Remembers at most so many at once.
    pub fn new(capacity: usize) -> SeenProofs {
        SeenProofs { capacity, table: Mutex::default() }
    }

    /// Takes the proof of `key` at `now` (seconds since 1970), once. `whose` is an account, or whoever else has a share of its own.
    ///
    /// # Errors
    /// `DpopError::Replayed` if it was taken before; `DpopError::Busy` if there is no room, or none of this share: none is forgotten before
    /// its time.
    pub fn take(&self, key: &ProvenKey, whose: &str, now: i64) -> Result<(), DpopError> {
        // A panic elsewhere leaves at worst a proof too many, which refuses.
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        while table.order.first().is_some_and(|(until, _, _)| *until < now) {
            if let Some((_, old, whose)) = table.order.pop_first() {
                table.keys.remove(&old);
                table.give_back(&whose);
            }
        }
        if table.keys.contains(key.replay_key()) {
            return Err(DpopError::Replayed);
        }
        let held = table.held.get(whose).copied().unwrap_or_default();
        if table.keys.len() >= self.capacity || held >= self.capacity.div_ceil(SHARE) {
            return Err(DpopError::Busy);
        }
        table.keys.insert(key.replay_key().to_owned());
        table.order.insert((key.until(), key.replay_key().to_owned(), whose.to_owned()));
        table.held.insert(whose.to_owned(), held + 1);
        Ok(())
    }
}

impl Table {
    fn give_back(&mut self, whose: &str) {
        match self.held.get_mut(whose) {
            Some(held) if *held > 1 => *held -= 1,
            Some(_) | None => {
                self.held.remove(whose);
            }
        }
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
        // Each of another account.
        let check = |name: &str, until: i64, now: i64, expected: Result<(), DpopError>| {
            assert_eq!(seen.take(&proof(name, until), name, now), expected, "{name} at {now}");
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

    #[test]
    fn nobody_takes_all_the_room() {
        let seen = SeenProofs::new(8);
        let check = |name: &str, whose: &str, now: i64, expected: Result<(), DpopError>| {
            let key =
                ProvenKey { thumbprint: "t".into(), replay_key: name.into(), until: now + 60 };
            assert_eq!(seen.take(&key, whose, now), expected, "{name} of {whose}");
        };
        check("a", "one", 0, Ok(()));
        check("b", "one", 10, Ok(()));
        check("c", "one", 10, Err(DpopError::Busy));
        check("c", "other", 10, Ok(()));
        // A proof is one, whoever shows it.
        check("a", "other", 10, Err(DpopError::Replayed));
        // Forgotten, it gives its place back.
        check("c", "one", 61, Err(DpopError::Replayed));
        check("d", "one", 61, Ok(()));
        check("e", "one", 61, Err(DpopError::Busy));
        check("e", "one", 71, Ok(()));
    }
}
