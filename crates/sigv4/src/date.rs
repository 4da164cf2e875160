//! SigV4's timestamp, `YYYYMMDDTHHMMSSZ`, in its one spelling. It knows no clock and no other date format.

use std::fmt;

use time::{Date, Month, OffsetDateTime, Time};

/// A moment in seconds, spelled `20150830T123600Z`. Source: AWS, "Elements of a Signature Version 4 request".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AmzDate(OffsetDateTime);

impl AmzDate {
    /// Reads exactly `YYYYMMDDTHHMMSSZ`: 16 characters, a real calendar day, no leap second.
    pub fn parse(text: &str) -> Option<AmzDate> {
        let clock = text.strip_suffix('Z')?;
        let (day, clock) = clock.split_once('T')?;
        let hour = digits(clock.get(0..2)?)?;
        let minute = digits(clock.get(2..4)?)?;
        let second = digits(clock.get(4..6)?)?;
        if clock.len() != 6 {
            return None;
        }
        let time = Time::from_hms(
            u8::try_from(hour).ok()?,
            u8::try_from(minute).ok()?,
            u8::try_from(second).ok()?,
        );
        Some(AmzDate(parse_day(day)?.with_time(time.ok()?).assume_utc()))
    }

    /// `None` outside the years 0 to 9999, which four digits cannot spell.
    pub fn from_epoch(seconds: i64) -> Option<AmzDate> {
        let moment = OffsetDateTime::from_unix_timestamp(seconds).ok()?;
        (0..=9999).contains(&moment.year()).then_some(AmzDate(moment))
    }

    /// Seconds since 1970.
    pub fn epoch(self) -> i64 {
        self.0.unix_timestamp()
    }

    /// `YYYYMMDD`, as a credential scope has it.
    pub fn day(self) -> String {
        format!("{:04}{:02}{:02}", self.0.year(), u8::from(self.0.month()), self.0.day())
    }
}

impl fmt::Display for AmzDate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}T{:02}{:02}{:02}Z",
            self.day(),
            self.0.hour(),
            self.0.minute(),
            self.0.second()
        )
    }
}

/// Whether `text` is `YYYYMMDD` and a real day.
pub fn is_day(text: &str) -> bool {
    parse_day(text).is_some()
}

fn parse_day(text: &str) -> Option<Date> {
    if text.len() != 8 {
        return None;
    }
    let year = digits(text.get(0..4)?)?;
    let month = digits(text.get(4..6)?)?;
    let day = digits(text.get(6..8)?)?;
    let month = Month::try_from(u8::try_from(month).ok()?).ok()?;
    Date::from_calendar_date(i32::from(year), month, u8::try_from(day).ok()?).ok()
}

fn digits(text: &str) -> Option<u16> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<i64>) {
        assert_eq!(AmzDate::parse(text).map(AmzDate::epoch), expected, "{text:?}");
    }

    #[test]
    fn reads_one_spelling_alone() {
        check("20150830T123600Z", Some(1_440_938_160));
        check("19700101T000000Z", Some(0));
        check("20240229T235959Z", Some(1_709_251_199));
        check("20230229T000000Z", None);
        check("20150830T240000Z", None);
        check("20150830T235960Z", None);
        check("20150830T123600", None);
        check("20150830t123600z", None);
        check("2015-08-30T12:36:00Z", None);
        check("20150830T123600+0000", None);
        check("20150830T1236000Z", None);
        check("+2150830T123600Z", None);
        check("2015083é123600Z", None);
        check("20150830T12é60Z", None);
        check(" 20150830T123600Z", None);
        check("", None);
    }

    #[test]
    fn writes_what_it_reads() {
        for text in ["20150830T123600Z", "00010101T000000Z", "99991231T235959Z"] {
            let date = AmzDate::parse(text).unwrap();
            assert_eq!(date.to_string(), text);
            assert_eq!(AmzDate::from_epoch(date.epoch()), Some(date));
        }
        assert_eq!(AmzDate::from_epoch(i64::MAX), None);
        assert_eq!(AmzDate::from_epoch(-99_999_999_999_999), None);
    }
}
