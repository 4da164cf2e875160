//! Amazon Resource Names and account numbers.
//!
//! Knows the shape `arn:partition:service:region:account:resource`, and nothing of what a service puts into it.
//! Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference-arns.html>

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use thiserror::Error;

/// An account: exactly twelve ASCII digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountId([u8; 12]);

impl AccountId {
    /// The twelve digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // INVARIANT: twelve ASCII digits, held by `from_str`, the only constructor.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl FromStr for AccountId {
    type Err = InvalidAccountId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match <[u8; 12]>::try_from(text.as_bytes()) {
            Ok(digits) if digits.iter().all(u8::is_ascii_digit) => Ok(Self(digits)),
            Ok(_) | Err(_) => Err(InvalidAccountId(text.to_owned())),
        }
    }
}

impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text is not twelve digits.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{0}` is not an account id: expected exactly 12 digits")]
pub struct InvalidAccountId(pub String);

/// A concrete ARN, kept as it was written. Only the resource part may hold colons.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Arn {
    text: String,
    colons: [usize; 5],
}

impl Arn {
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    #[must_use]
    pub fn partition(&self) -> &str {
        let [first, second, ..] = self.colons;
        self.part(first + 1..second)
    }

    #[must_use]
    pub fn service(&self) -> &str {
        let [_, second, third, ..] = self.colons;
        self.part(second + 1..third)
    }

    /// May be empty (`arn:aws:iam::…`).
    #[must_use]
    pub fn region(&self) -> &str {
        let [_, _, third, fourth, _] = self.colons;
        self.part(third + 1..fourth)
    }

    /// May be empty (`arn:aws:s3:::bucket`), or a word (`arn:aws:iam::aws:policy/…`).
    #[must_use]
    pub fn account(&self) -> &str {
        let [_, _, _, fourth, fifth] = self.colons;
        self.part(fourth + 1..fifth)
    }

    /// Everything after the fifth colon, its own colons included.
    #[must_use]
    pub fn resource(&self) -> &str {
        let [_, _, _, _, fifth] = self.colons;
        self.part(fifth + 1..self.text.len())
    }

    /// The account, if that part is an account number.
    #[must_use]
    pub fn account_id(&self) -> Option<AccountId> {
        self.account().parse().ok()
    }

    fn part(&self, range: Range<usize>) -> &str {
        self.text.get(range).unwrap_or_default()
    }
}

impl FromStr for Arn {
    type Err = InvalidArn;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut at = text.match_indices(':').map(|(index, _)| index);
        let mut next = || at.next().ok_or_else(|| InvalidArn::TooFewParts(text.to_owned()));
        let colons = [next()?, next()?, next()?, next()?, next()?];
        let arn = Self { text: text.to_owned(), colons };
        if !text.starts_with("arn:") {
            return Err(InvalidArn::Prefix(text.to_owned()));
        }
        if arn.partition().is_empty() || arn.service().is_empty() || arn.resource().is_empty() {
            return Err(InvalidArn::EmptyPart(text.to_owned()));
        }
        Ok(arn)
    }
}

impl fmt::Display for Arn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Arn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Why a text is no ARN.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InvalidArn {
    #[error(
        "`{0}` is not an ARN: expected six parts, `arn:partition:service:region:account:resource`"
    )]
    TooFewParts(String),
    #[error("`{0}` is not an ARN: expected it to start with `arn:`")]
    Prefix(String),
    #[error("`{0}` is not an ARN: partition, service and resource must not be empty")]
    EmptyPart(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arns_are_taken_apart_at_the_first_five_colons() {
        fn check(text: &str, expected: Option<[&str; 5]>) {
            let arn = text.parse::<Arn>().ok();
            let parts = arn.as_ref().map(|arn| {
                [arn.partition(), arn.service(), arn.region(), arn.account(), arn.resource()]
            });
            assert_eq!(parts, expected, "{text}");
            if let Some(arn) = arn {
                assert_eq!(arn.to_string(), text);
            }
        }
        check("arn:aws:s3:::b", Some(["aws", "s3", "", "", "b"]));
        check("arn:aws:logs:r:1:a:b:c", Some(["aws", "logs", "r", "1", "a:b:c"]));
        check(
            "arn:aws:orders:us-east-1:111122223333:é/ü",
            Some(["aws", "orders", "us-east-1", "111122223333", "é/ü"]),
        );
        check("arn:aws:s3::b", None);
        check("Arn:aws:s3:::b", None);
        check("arn:aws:s3:::", None);
        check("arn::s3:::b", None);
        check("arn:aws::::b", None);
        check("", None);
        check(":::::", None);
    }

    #[test]
    fn account_ids_are_twelve_ascii_digits() {
        fn check(text: &str, expected: bool) {
            assert_eq!(text.parse::<AccountId>().is_ok(), expected, "{text}");
        }
        check("000000000000", true);
        check("11112222333", false);
        check("1111222233334", false);
        check("11112222333x", false);
        check("١١١١٢٢", false);
        check("", false);
        assert_eq!("111122223333".parse::<AccountId>().unwrap().as_str(), "111122223333");
    }
}
