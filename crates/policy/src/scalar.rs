//! The values that conditions compare: numbers, instants, booleans, networks.
//!
//! Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html>

use std::cmp::Ordering;
use std::net::IpAddr;

use ipnet::IpNet;
use time::{Date, Month, PrimitiveDateTime, Time, UtcOffset};

/// An exact decimal number: floating point would make unequal numbers equal, and so allow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Number {
    negative: bool,
    /// Without leading zeros.
    whole: String,
    /// Without trailing zeros.
    fraction: String,
}

impl Number {
    /// `-?digits[.digits]`; no exponents.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (negative, digits) = match text.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, text),
        };
        let (whole, fraction) = match digits.split_once('.') {
            Some((whole, fraction)) if !fraction.is_empty() => (whole, fraction),
            Some(_) => return None,
            None => (digits, ""),
        };
        let all_digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
        if whole.is_empty() || !all_digits(whole) || !all_digits(fraction) {
            return None;
        }
        let whole = whole.trim_start_matches('0').to_owned();
        let fraction = fraction.trim_end_matches('0').to_owned();
        let is_zero = whole.is_empty() && fraction.is_empty();
        Some(Self { negative: negative && !is_zero, whole, fraction })
    }
}

impl Ord for Number {
    fn cmp(&self, other: &Self) -> Ordering {
        let magnitude = self
            .whole
            .len()
            .cmp(&other.whole.len())
            .then_with(|| self.whole.cmp(&other.whole))
            .then_with(|| {
                // "5" against "49": digit by digit from the point, a shorter one ends in zeros.
                self.fraction.cmp(&other.fraction)
            });
        match (self.negative, other.negative) {
            (false, false) => magnitude,
            (true, true) => magnitude.reverse(),
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
        }
    }
}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// A moment, in nanoseconds since the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instant(i128);

impl Instant {
    /// The W3C profile of ISO 8601 (a date alone is midnight UTC; a time has its offset), or epoch seconds.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        // Four digits may be a year or seconds: nobody can say which.
        if text.len() > 4 && text.len() <= 15 && text.bytes().all(|b| b.is_ascii_digit()) {
            return text.parse::<i128>().ok().map(|seconds| Instant(seconds * 1_000_000_000));
        }
        let (date, time) = match text.split_once('T') {
            Some((date, time)) => (date, Some(time)),
            None => (text, None),
        };
        let date = day(date)?;
        let (time, offset) = match time {
            Some(time) => clock(time)?,
            None => (Time::MIDNIGHT, UtcOffset::UTC),
        };
        Some(Instant(
            PrimitiveDateTime::new(date, time).assume_offset(offset).unix_timestamp_nanos(),
        ))
    }
}

fn day(text: &str) -> Option<Date> {
    let mut parts = text.split('-');
    let year: i32 = digits(parts.next()?, 4)?.try_into().ok()?;
    let month = u8::try_from(digits(parts.next()?, 2)?).ok()?;
    let day = u8::try_from(digits(parts.next()?, 2)?).ok()?;
    if parts.next().is_some() {
        return None;
    }
    Date::from_calendar_date(year, Month::try_from(month).ok()?, day).ok()
}

fn clock(text: &str) -> Option<(Time, UtcOffset)> {
    let (time, offset) = match text.strip_suffix('Z') {
        Some(time) => (time, UtcOffset::UTC),
        None => {
            let (time, offset) = text.split_at_checked(text.rfind(['+', '-'])?)?;
            (time, self::offset(offset)?)
        }
    };
    let (time, fraction) = match time.split_once('.') {
        Some((time, fraction)) => (time, nanoseconds(fraction)?),
        None => (time, 0),
    };
    let mut parts = time.split(':');
    let mut two = || parts.next().map(|part| digits(part, 2).and_then(|n| u8::try_from(n).ok()));
    let (hour, minute, second) = (two()??, two()??, two());
    if parts.next().is_some() || (second.is_none() && fraction != 0) {
        return None;
    }
    let second = match second {
        Some(second) => second?,
        None => 0,
    };
    Some((Time::from_hms_nano(hour, minute, second, fraction).ok()?, offset))
}

fn offset(text: &str) -> Option<UtcOffset> {
    let (sign, text) = match (text.strip_prefix('+'), text.strip_prefix('-')) {
        (Some(text), _) => (1, text),
        (None, Some(text)) => (-1, text),
        (None, None) => return None,
    };
    let (hours, minutes) = text.split_once(':')?;
    let (hours, minutes) =
        (i8::try_from(digits(hours, 2)?).ok()?, i8::try_from(digits(minutes, 2)?).ok()?);
    if hours > 23 || minutes > 59 {
        return None;
    }
    UtcOffset::from_hms(sign * hours, sign * minutes, 0).ok()
}

fn nanoseconds(text: &str) -> Option<u32> {
    if text.is_empty() || text.len() > 9 || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    format!("{text:0<9}").parse().ok()
}

fn digits(text: &str, count: usize) -> Option<u32> {
    (text.len() == count && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?
}

/// `true` or `false`, without case.
#[must_use]
pub fn boolean(text: &str) -> Option<bool> {
    if text.eq_ignore_ascii_case("true") {
        Some(true)
    } else if text.eq_ignore_ascii_case("false") {
        Some(false)
    } else {
        None
    }
}

/// A range in CIDR notation; a bare address is a range of one.
#[must_use]
pub fn network(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_compare_exactly() {
        fn check(a: &str, b: &str, expected: Option<Ordering>) {
            let found = Number::parse(a).and_then(|a| Number::parse(b).map(|b| a.cmp(&b)));
            assert_eq!(found, expected, "{a} {b}");
        }
        check("9", "10", Some(Ordering::Less));
        check("10", "10.0", Some(Ordering::Equal));
        check("-3", "0", Some(Ordering::Less));
        check("-0", "0.00", Some(Ordering::Equal));
        check("0.5", "0.49", Some(Ordering::Greater));
        check("0.5", "0.05", Some(Ordering::Greater));
        check("-10", "-9", Some(Ordering::Less));
        check("007", "7", Some(Ordering::Equal));
        check("9007199254740993", "9007199254740992", Some(Ordering::Greater));
        check("1e3", "1000", None);
        check("1.", "1", None);
        check(".5", "0.5", None);
        check("", "0", None);
        check("-", "0", None);
        check("+1", "1", None);
        check("１", "1", None);
    }

    #[test]
    fn instants_compare_as_instants() {
        fn check(a: &str, b: &str, expected: Option<Ordering>) {
            let found = Instant::parse(a).and_then(|a| Instant::parse(b).map(|b| a.cmp(&b)));
            assert_eq!(found, expected, "{a} {b}");
        }
        check("2026-04-15T12:00:00+02:00", "2026-04-15T10:00:00Z", Some(Ordering::Equal));
        check("2026-03-01", "2026-03-01T00:00:00Z", Some(Ordering::Equal));
        check("1781488800", "2026-06-15T02:00:00Z", Some(Ordering::Equal));
        check("2026-03-01T00:00Z", "2026-03-01T00:00:00.001Z", Some(Ordering::Less));
        check("2026-03-01T00:00:00-05:30", "2026-03-01T05:30:00Z", Some(Ordering::Equal));
        check("2024-02-29", "2024-03-01", Some(Ordering::Less));
        check("2026-02-29", "2026-03-01", None);
        check("2026", "2026-01-01", None);
        check("2026-03-01T00:00:00", "2026-03-01", None);
        check("2026-03-01t00:00:00z", "2026-03-01", None);
        check("2026-03-01T25:00:00Z", "2026-03-01", None);
        check("2026-3-1", "2026-03-01", None);
        check("2026-03-01T00:00:00+24:00", "2026-03-01", None);
        check("", "2026-03-01", None);
    }
}
