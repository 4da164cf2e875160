//! The document: which of its members count, and what they must look like.

use serde_json::{Map, Value};

use super::error::InstanceError;
use super::{MAX_DOCUMENT_BYTES, certificate::is_region};
use crate::json::{self, JsonFault};

/// The one version that AWS writes.
const VERSION: &str = "2017-09-30";

/// What a document says. Anybody can make one; see [`super::InstanceDocument`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Document {
    pub account: String,
    pub region: String,
    pub instance_id: String,
    pub launched: i64,
}

impl Document {
    /// Members that are not named here describe the instance, and decide nothing: AWS signed them, and may add to them.
    pub(super) fn read(text: &[u8]) -> Result<Self, InstanceError> {
        if text.len() > MAX_DOCUMENT_BYTES {
            return Err(InstanceError::NotJson);
        }
        let members = json::object(text).map_err(|fault| match fault {
            JsonFault::DuplicateMember(name) => {
                InstanceError::DuplicateMember { name: name.escape_debug().take(64).collect() }
            }
            JsonFault::Syntax | JsonFault::NotAnObject | JsonFault::TooDeep => {
                InstanceError::NotJson
            }
        })?;
        let text = |field: &'static str, must: &'static str, good: fn(&str) -> bool| {
            member(&members, field)
                .filter(|value| good(value))
                .map(str::to_owned)
                .ok_or(InstanceError::Field { field, must })
        };
        text("version", "must be `2017-09-30`", |value| value == VERSION)?;
        let launched =
            member(&members, "pendingTime").and_then(instant).ok_or(InstanceError::Field {
                field: "pendingTime",
                must: "must be as `2026-01-31T23:59:59Z`",
            })?;
        Ok(Self {
            account: text("accountId", "must be 12 digits", is_account)?,
            region: text("region", "must be a region's name", is_region)?,
            instance_id: text(
                "instanceId",
                "must be `i-` and 8 or 17 hexadecimal digits",
                is_instance_id,
            )?,
            launched,
        })
    }
}

fn member<'m>(members: &'m Map<String, Value>, name: &str) -> Option<&'m str> {
    members.get(name).and_then(Value::as_str)
}

fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/resource-ids.html>
fn is_instance_id(text: &str) -> bool {
    text.strip_prefix("i-").is_some_and(|digits| {
        matches!(digits.len(), 8 | 17)
            && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    })
}

/// `2026-01-31T23:59:59Z` in seconds since 1970.
fn instant(text: &str) -> Option<i64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let [hour, minute, second] = numbers(time, ':', [2, 2, 2])?;
    let lengths = [31, if is_leap(year) { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let length = *lengths.get(usize::try_from(month.checked_sub(1)?).ok()?)?;
    if !(1..=length).contains(&day) || year < 1970 || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let months: i64 = lengths.iter().take(usize::try_from(month - 1).ok()?).sum();
    let before = year - 1;
    let leaps = |year: i64| year / 4 - year / 100 + year / 400;
    let days = (year - 1970) * 365 + leaps(before) - leaps(1969) + months + day - 1;
    Some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

/// Three numbers of so many digits each.
fn numbers(text: &str, between: char, digits: [usize; 3]) -> Option<[i64; 3]> {
    let mut found = [0; 3];
    let mut parts = text.split(between);
    for (number, digits) in found.iter_mut().zip(digits) {
        let part = parts.next().filter(|part| {
            part.len() == digits && part.bytes().all(|byte| byte.is_ascii_digit())
        })?;
        *number = part.parse().ok()?;
    }
    parts.next().is_none().then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants() {
        fn check(text: &str, expected: Option<i64>) {
            assert_eq!(instant(text), expected, "{text}");
        }
        check("1970-01-01T00:00:00Z", Some(0));
        check("1970-01-02T00:00:01Z", Some(86_401));
        check("2000-02-29T12:00:00Z", Some(951_825_600));
        check("2000-03-01T00:00:00Z", Some(951_868_800));
        check("2021-09-03T21:25:44Z", Some(1_630_704_344));
        check("2026-11-24T16:17:00Z", Some(1_795_537_020));
        check("2100-03-01T00:00:00Z", Some(4_107_542_400));
        check("2100-02-29T00:00:00Z", None);
        check("2021-13-01T00:00:00Z", None);
        check("2021-00-01T00:00:00Z", None);
        check("2021-04-31T00:00:00Z", None);
        check("2021-09-03T24:00:00Z", None);
        check("2021-09-03T21:60:00Z", None);
        check("2021-09-03T21:25:60Z", None);
        check("1969-12-31T23:59:59Z", None);
        check("2021-09-03T21:25:44", None);
        check("2021-09-03T21:25:44+00:00", None);
        check("2021-09-03T21:25:44.0Z", None);
        check("2021-9-3T21:25:44Z", None);
        check("+021-09-03T21:25:44Z", None);
        check("", None);
    }
}
