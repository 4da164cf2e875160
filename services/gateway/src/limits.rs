//! How often somebody may ask: so much a second for each source, and for all of them together.
//!
//! A source is an IPv4 address, or the /64 that an IPv6 address is of, which one subscriber has to itself. Sources are held in bounded
//! memory: when there is no room, those that are new share one allowance, and nobody who is being limited is forgotten (ATTACKS 39).
//! It knows nothing of what is asked; `now` is an argument.

use std::{
    collections::HashMap,
    fmt,
    net::IpAddr,
    str::FromStr,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Some 5 MB.
const MAX_SOURCES: usize = 65_536;
/// To look for sources that have nothing on their account costs a walk over all of them.
const TIDY: Duration = Duration::from_secs(1);

/// So many a second, and so many at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    per_second: u32,
    burst: u32,
}

/// What is not `<per second>` or `<per second>:<at once>`.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no rate: write `<per second>`, or `<per second>:<at once>`, each 1 to 1,000,000, such as `500:1000`"
)]
pub struct RateError(String);

impl Rate {
    /// `per_second` in the long run, `burst` at once; at least one of each.
    #[must_use]
    pub const fn new(per_second: u32, burst: u32) -> Self {
        let per_second = if per_second == 0 { 1 } else { per_second };
        Self { per_second, burst: if burst == 0 { 1 } else { burst } }
    }

    fn interval(self) -> Duration {
        Duration::from_secs(1).checked_div(self.per_second).unwrap_or(Duration::from_secs(1))
    }

    fn tolerance(self) -> Duration {
        self.interval().saturating_mul(self.burst.saturating_sub(1))
    }
}

impl FromStr for Rate {
    type Err = RateError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (per_second, burst) = text.split_once(':').unwrap_or((text, text));
        let number = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            let number = digits.then(|| text.parse::<u32>().ok()).flatten();
            number.filter(|number| (1..=1_000_000).contains(number))
        };
        match (number(per_second), number(burst)) {
            (Some(per_second), Some(burst)) => Ok(Self { per_second, burst }),
            (_, _) => Err(RateError(text.to_owned())),
        }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.per_second, self.burst)
    }
}

/// For each source, and for all together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rates {
    /// Each source's.
    pub each: Rate,
    /// Of all.
    pub all: Rate,
}

/// What the gateway's doors let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimits {
    /// Exchanges, by whatever way they come; opening a stream for a challenge counts as one more.
    pub exchanges: Rates,
    /// Requests on the HTTP port beside those. Exchanges of Countersign's own access keys come by here once more, from the gateway itself.
    pub http: Rates,
    /// Exchanges that are under way at once; another one is turned away before anything is done for it. At least one.
    pub in_flight: usize,
}

impl Default for RateLimits {
    fn default() -> Self {
        Self {
            exchanges: Rates { each: Rate::new(500, 1000), all: Rate::new(2000, 4000) },
            http: Rates { each: Rate::new(1000, 2000), all: Rate::new(4000, 8000) },
            in_flight: 512,
        }
    }
}

/// Too much was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooOften {
    /// Then there is room for one more.
    pub retry_after: Duration,
}

/// One door's allowances.
pub struct Limits {
    rates: Rates,
    max_sources: usize,
    start: Instant,
    table: Mutex<Table>,
}

/// Each allowance is one moment: when all that was let through would have been done at the rate's own pace (the virtual scheduling form
/// of ITU-T I.371's generic cell rate algorithm). Moments are since the start.
#[derive(Default)]
struct Table {
    all: Duration,
    /// Of the sources that found no room.
    others: Duration,
    sources: HashMap<Source, Duration>,
    tidied: Duration,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Source {
    V4([u8; 4]),
    V6([u16; 4]),
}

impl Limits {
    /// With everybody's allowance full at `start`.
    #[must_use]
    pub fn new(rates: Rates, start: Instant) -> Self {
        Self { rates, max_sources: MAX_SOURCES, start, table: Mutex::default() }
    }

    /// Counts one more of `address` at `now`, if there is room for it. What is turned away does not count.
    ///
    /// # Errors
    /// [`TooOften`].
    pub fn admit(&self, address: IpAddr, now: Instant) -> Result<(), TooOften> {
        let now = now.saturating_duration_since(self.start);
        let source = Source::of(address);
        // A panic elsewhere leaves at worst one that was not counted.
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let Rates { each, all } = self.rates;
        let own = match table.sources.get(&source).copied() {
            Some(own) => own,
            None if self.has_room(&mut table, now) => Duration::ZERO,
            None => {
                let others = after_one(table.others, each, now)?;
                table.all = after_one(table.all, all, now)?;
                table.others = others;
                return Ok(());
            }
        };
        let own = after_one(own, each, now)?;
        table.all = after_one(table.all, all, now)?;
        table.sources.insert(source, own);
        Ok(())
    }

    fn has_room(&self, table: &mut Table, now: Duration) -> bool {
        if table.sources.len() < self.max_sources {
            return true;
        }
        if now.saturating_sub(table.tidied) < TIDY && table.tidied != Duration::ZERO {
            return false;
        }
        table.tidied = now;
        // Whose moment has passed has its whole allowance, as if it had never come.
        table.sources.retain(|_, moment| *moment > now);
        table.sources.len() < self.max_sources
    }
}

fn after_one(moment: Duration, rate: Rate, now: Duration) -> Result<Duration, TooOften> {
    let moment = moment.max(now);
    let ahead = moment.saturating_sub(now);
    match ahead.checked_sub(rate.tolerance()) {
        Some(excess) if !excess.is_zero() => Err(TooOften { retry_after: excess }),
        Some(_) | None => Ok(moment.saturating_add(rate.interval())),
    }
}

impl Source {
    fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self::V4(v4.octets()),
            IpAddr::V6(v6) => {
                let [a, b, c, d, ..] = v6.segments();
                Self::V6([a, b, c, d])
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(each: Rate, all: Rate) -> (Limits, Instant) {
        let start = Instant::now();
        (Limits::new(Rates { each, all }, start), start)
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// How many of `tries` at one moment are let through.
    fn through(limits: &Limits, from: &str, tries: usize, at: Instant) -> usize {
        (0..tries).filter(|_| limits.admit(address(from), at).is_ok()).count()
    }

    #[test]
    fn a_burst_and_then_the_rate() {
        let (limits, start) = limits(Rate::new(10, 5), Rate::new(1000, 1000));
        assert_eq!(through(&limits, "10.0.0.1", 100, start), 5);
        let refused = limits.admit(address("10.0.0.1"), start).unwrap_err();
        assert_eq!(refused.retry_after, Duration::from_millis(100));
        // It says when, and then it is true; what was turned away has not counted.
        assert_eq!(through(&limits, "10.0.0.1", 100, start + Duration::from_millis(99)), 0);
        assert_eq!(through(&limits, "10.0.0.1", 100, start + Duration::from_millis(100)), 1);
        assert_eq!(through(&limits, "10.0.0.1", 100, start + Duration::from_millis(350)), 2);
        assert_eq!(through(&limits, "10.0.0.1", 100, start + Duration::from_secs(60)), 5);
        // A clock that steps back gives nothing away.
        assert_eq!(through(&limits, "10.0.0.1", 100, start), 0);
    }

    #[test]
    fn sources_do_not_share_and_all_together_are_limited() {
        let (limits, start) = limits(Rate::new(10, 5), Rate::new(10, 12));
        let check = |from: &str, expected: usize| {
            assert_eq!(through(&limits, from, 10, start), expected, "{from}");
        };
        check("10.0.0.1", 5);
        check("::ffff:10.0.0.1", 0);
        check("2001:db8:1:2::1", 5);
        check("2001:db8:1:2:ffff::1", 0);
        // All together: 12.
        check("2001:db8:1:3::1", 2);
        check("10.0.0.2", 0);
    }

    // ATTACKS 39.
    #[test]
    fn sources_are_held_in_bounded_memory() {
        let (mut limits, start) = limits(Rate::new(10, 2), Rate::new(1_000_000, 1_000_000));
        limits.max_sources = 3;
        for from in ["10.0.0.1", "10.0.0.2", "10.0.0.3"] {
            assert_eq!(through(&limits, from, 10, start), 2, "{from}");
        }
        // No room: the new ones have one allowance among them, and those who were limited still are.
        assert_eq!(through(&limits, "10.0.0.4", 10, start), 2);
        assert_eq!(through(&limits, "10.0.0.5", 10, start), 0);
        assert_eq!(through(&limits, "10.0.0.1", 10, start), 0);
        assert_eq!(limits.table.lock().unwrap().sources.len(), 3);
        // Who has been quiet makes room.
        let later = start + Duration::from_secs(2);
        assert_eq!(through(&limits, "10.0.0.6", 10, later), 2);
        assert_eq!(limits.table.lock().unwrap().sources.len(), 1);
    }

    #[test]
    fn rates_are_read_and_written() {
        let check = |text: &str, expected: Option<Rate>| {
            assert_eq!(text.parse().ok(), expected, "{text}");
            if let Some(rate) = expected {
                assert_eq!(rate.to_string().parse(), Ok(rate));
            }
        };
        check("500", Some(Rate::new(500, 500)));
        check("500:1000", Some(Rate::new(500, 1000)));
        check("1000000:1", Some(Rate::new(1_000_000, 1)));
        for text in ["", ":", "0", "5:0", "1000001", "+5", "5:", ":5", "5:5:5", "-1", "1.5", "x"] {
            check(text, None);
        }
    }
}
