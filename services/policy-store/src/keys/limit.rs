//! How fast something may happen: for each name, and for all together.
//!
//! Derived keys are handed out so. Whoever takes a gateway over cannot have every access key's at once, and one busy key cannot
//! use up what the others need.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// Derived keys: for each access key, and for all together.
const EACH: Rate = Rate { a_second: 500, at_once: 1_000 };
const ALL: Rate = Rate { a_second: 2_000, at_once: 4_000 };
/// Names that are told apart. More of them than this within a few seconds are beyond the rate of all already.
const MOST: usize = 10_000;

/// So many in a second, and so many at once after a pause.
#[derive(Clone, Copy)]
pub struct Rate {
    pub a_second: u64,
    pub at_once: u64,
}

/// A bucket that fills with time. In thousandths of what it counts, so that milliseconds count.
#[derive(Clone, Copy)]
struct Bucket {
    left: u64,
    /// In milliseconds.
    at: u64,
}

/// The limits of one process.
pub struct Limits(Mutex<Buckets>);

impl Default for Limits {
    fn default() -> Self {
        Self::of(EACH, ALL)
    }
}

struct Buckets {
    each_rate: Rate,
    all_rate: Rate,
    all: Option<Bucket>,
    each: HashMap<String, Bucket>,
}

impl Limits {
    /// With these rates.
    pub fn of(each_rate: Rate, all_rate: Rate) -> Self {
        Self(Mutex::new(Buckets { each_rate, all_rate, all: None, each: HashMap::new() }))
    }

    /// Takes one for `name` at `now`, in milliseconds since any moment.
    ///
    /// # Errors
    /// How long to wait.
    pub fn take(&self, name: &str, now: u64) -> Result<(), Duration> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take(name, now)
    }
}

impl Buckets {
    fn take(&mut self, name: &str, now: u64) -> Result<(), Duration> {
        let (each, all) = (self.each_rate, self.all_rate);
        if self.each.len() >= MOST && !self.each.contains_key(name) {
            // A full bucket says nothing.
            self.each.retain(|_, bucket| !bucket.is_full(each, now));
        }
        let one = self.each.get(name).copied();
        let one = one.unwrap_or_else(|| Bucket::full(each, now)).less(each, now)?;
        // Only what is handed out counts.
        self.all = Some(self.all.unwrap_or_else(|| Bucket::full(all, now)).less(all, now)?);
        if self.each.len() < MOST || self.each.contains_key(name) {
            self.each.insert(name.to_owned(), one);
        }
        Ok(())
    }
}

impl Bucket {
    fn full(rate: Rate, now: u64) -> Self {
        Self { left: rate.at_once * 1_000, at: now }
    }

    fn filled(self, rate: Rate, now: u64) -> u64 {
        let came = now.saturating_sub(self.at).saturating_mul(rate.a_second);
        self.left.saturating_add(came).min(rate.at_once * 1_000)
    }

    fn is_full(self, rate: Rate, now: u64) -> bool {
        self.filled(rate, now) == rate.at_once * 1_000
    }

    /// What is left after one more; or how long until there is one.
    fn less(self, rate: Rate, now: u64) -> Result<Self, Duration> {
        let filled = self.filled(rate, now);
        match filled.checked_sub(1_000) {
            Some(left) => Ok(Self { left, at: now.max(self.at) }),
            None => Err(Duration::from_millis((1_000 - filled).div_ceil(rate.a_second))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_and_all_together() {
        let limits = Limits::default();
        let taken = |id: &str, asked: u64, now: u64| {
            (0..asked).filter(|_| limits.take(id, now).is_ok()).count() as u64
        };
        let check = |id: &str, now: u64, expected: u64| {
            assert_eq!(taken(id, 10_000, now), expected, "{id} at {now}");
        };
        check("AKIAONE", 0, 1_000);
        // One busy key leaves the others theirs.
        check("AKIATWO", 0, 1_000);
        check("AKIAONE", 100, 50);
        // A clock that goes back gives nothing.
        check("AKIAONE", 50, 0);
        check("AKIATHREE", 1_000, 1_000);
        check("AKIAFOUR", 1_000, 1_000);
        check("AKIAFIVE", 1_000, 1_000);
        // 4,000 at first and 2,000 in the second after it, less the 5,050 above.
        check("AKIASIX", 1_000, 950);
        let wait = limits.take("AKIASIX", 1_000).unwrap_err();
        assert!(wait > Duration::ZERO && wait <= Duration::from_millis(2), "{wait:?}");
    }

    /// Names cost no more memory than the limit allows, and never a way around it.
    #[test]
    fn many_keys_are_bounded() {
        let limits = Limits::default();
        let mut buckets = limits.0.lock().unwrap();
        let mut handed = 0;
        for n in 0..3 * MOST {
            handed += u64::from(buckets.take(&format!("AKIA{n}"), 0).is_ok());
        }
        assert!(buckets.each.len() <= MOST);
        assert_eq!(handed, ALL.at_once);
    }
}
