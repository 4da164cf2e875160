//! Proofs in hand: each is claimed in memory before STS is asked, so that of two at once one goes on.
//!
//! It forgets when the process ends; what must last is the store's `ConsumeProof`.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// The claims of one gateway. Cheap to clone; every clone sees the same.
#[derive(Clone)]
pub struct Claims(Arc<Mutex<Table>>);

struct Table {
    capacity: usize,
    until: HashMap<Arc<str>, i64>,
    /// The same, soonest first.
    order: BTreeSet<(i64, Arc<str>)>,
}

/// A claim on one proof. Dropping it keeps the claim: a proof whose fate is unknown is not taken again.
#[must_use]
pub struct Claim {
    claims: Claims,
    key: Arc<str>,
}

/// Why a proof cannot be claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unclaimed {
    /// It is in hand, or was.
    Taken,
    /// There is no room. Live claims are never evicted: that would open the way for a replay.
    Full,
}

impl Claims {
    /// A table for at most `capacity` live claims.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        let (until, order) = (HashMap::new(), BTreeSet::new());
        Self(Arc::new(Mutex::new(Table { capacity, until, order })))
    }

    /// Claims the proof `key` until `until`, in seconds since 1970: when it would be refused for its age anyway.
    ///
    /// # Errors
    /// See [`Unclaimed`].
    pub fn claim(&self, key: &str, until: i64, now: i64) -> Result<Claim, Unclaimed> {
        let mut table = self.table();
        table.forget(now);
        if table.until.contains_key(key) {
            return Err(Unclaimed::Taken);
        }
        if table.until.len() >= table.capacity {
            return Err(Unclaimed::Full);
        }
        let key: Arc<str> = key.into();
        table.until.insert(key.clone(), until);
        table.order.insert((until, key.clone()));
        Ok(Claim { claims: self.clone(), key })
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // A panic elsewhere leaves at worst a claim too many, which denies.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn forget(&mut self, now: i64) {
        while self.order.first().is_some_and(|(until, _)| *until < now) {
            if let Some((_, key)) = self.order.pop_first() {
                self.until.remove(&key);
            }
        }
    }
}

impl Claim {
    /// Gives the proof back: nobody could judge it, so it may be sent again.
    pub fn release(self) {
        let mut table = self.claims.table();
        if let Some(until) = table.until.remove(&self.key) {
            table.order.remove(&(until, self.key.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // ATTACKS 35, 40.
    #[test]
    fn a_proof_is_claimed_once() {
        let claims = Claims::new(10);
        let first = claims.claim("p", 100, 50).unwrap();
        assert_eq!(claims.claim("p", 100, 50).err(), Some(Unclaimed::Taken));
        assert!(claims.claim("q", 100, 50).is_ok());
        first.release();
        drop(claims.claim("p", 100, 50).unwrap());
        assert_eq!(
            claims.claim("p", 100, 100).err(),
            Some(Unclaimed::Taken),
            "dropped, not released"
        );
        assert!(claims.claim("p", 200, 101).is_ok(), "its time is over");
    }

    // ATTACKS 39.
    #[test]
    fn live_claims_are_never_evicted() {
        let claims = Claims::new(2);
        drop(claims.claim("a", 100, 50).unwrap());
        drop(claims.claim("b", 200, 50).unwrap());
        assert_eq!(claims.claim("c", 200, 50).err(), Some(Unclaimed::Full));
        assert_eq!(claims.claim("a", 200, 50).err(), Some(Unclaimed::Taken));
        drop(claims.claim("c", 200, 101).unwrap());
        assert_eq!(claims.claim("b", 200, 101).err(), Some(Unclaimed::Taken));
        let table = claims.table();
        assert_eq!((table.until.len(), table.order.len()), (2, 2));
    }

    #[test]
    fn of_many_at_once_one_wins() {
        let claims = Claims::new(100);
        let won: usize = std::thread::scope(|scope| {
            let tasks: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| usize::from(claims.claim("p", 100, 50).is_ok())))
                .collect();
            tasks.into_iter().map(|task| task.join().unwrap()).sum()
        });
        assert_eq!(won, 1);
    }
}
