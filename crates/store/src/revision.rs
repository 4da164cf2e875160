//! `store_id:number`: which store, and which of its commits.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use thiserror::Error;

const ID_LENGTH: usize = 16;

/// Sixteen lower-case hexadecimal characters, made when the store is created. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoreId(Arc<str>);

impl StoreId {
    /// A fresh id. Unique, not secret: it rests on the random seeds that the standard library takes from the system.
    pub(crate) fn fresh() -> Self {
        Self(format!("{:016x}", Self::noise()).into())
    }

    /// A number that nobody outside can foretell, another each time.
    pub(crate) fn noise() -> u64 {
        use std::hash::BuildHasher;
        std::hash::RandomState::new().hash_one((std::process::id(), std::time::SystemTime::now()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreId({})", self.0)
    }
}

impl FromStr for StoreId {
    type Err = InvalidRevision;

    fn from_str(text: &str) -> Result<Self, InvalidRevision> {
        let hex = text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        if text.len() != ID_LENGTH || !hex {
            return Err(InvalidRevision::StoreId(abridged(text)));
        }
        Ok(Self(text.into()))
    }
}

/// One commit of one store. Ordered by number; compare only within one store.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Revision {
    pub store_id: StoreId,
    pub number: u64,
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.store_id, self.number)
    }
}

impl FromStr for Revision {
    type Err = InvalidRevision;

    /// Only the text that [`Revision`]'s own Display writes is accepted.
    fn from_str(text: &str) -> Result<Self, InvalidRevision> {
        let Some((id, number)) = text.split_once(':') else {
            return Err(InvalidRevision::Form(abridged(text)));
        };
        let store_id = id.parse()?;
        let canonical = number == "0"
            || (!number.starts_with('0') && number.bytes().all(|byte| byte.is_ascii_digit()));
        match number.parse() {
            Ok(number) if canonical => Ok(Self { store_id, number }),
            _ => Err(InvalidRevision::Number(abridged(number))),
        }
    }
}

/// Why a text is not a revision.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum InvalidRevision {
    #[error("`{0}` is not a revision: expected `store_id:number`")]
    Form(String),
    #[error("`{0}` is not a store id: expected 16 lower-case hexadecimal characters")]
    StoreId(String),
    #[error(
        "`{0}` is not a revision number: expected decimal digits without leading zeros, below 2^64"
    )]
    Number(String),
}

/// Input for a message: bounded, whatever was sent.
fn abridged(text: &str) -> String {
    const SHOWN: usize = 64;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(input: &str, expected: Result<u64, &str>) {
        let parsed = input.parse::<Revision>();
        match expected {
            Ok(number) => {
                let revision = parsed.unwrap_or_else(|error| panic!("{input:?}: {error}"));
                assert_eq!(revision.number, number, "{input:?}");
                assert_eq!(revision.to_string(), input);
            }
            Err(message) => {
                let error = parsed.expect_err(input).to_string();
                assert!(error.contains(message), "{input:?}: {error}");
            }
        }
    }

    #[test]
    fn parses_only_what_it_prints() {
        check("0123456789abcdef:0", Ok(0));
        check("0123456789abcdef:18446744073709551615", Ok(u64::MAX));
        for (input, message) in [
            ("", "`store_id:number`"),
            ("0123456789abcdef", "`store_id:number`"),
            (":1", "16 lower-case"),
            ("0123456789ABCDEF:1", "16 lower-case"),
            ("0123456789abcde:1", "16 lower-case"),
            ("0123456789abcdeff:1", "16 lower-case"),
            ("0123456789abcdeg:1", "16 lower-case"),
            ("０123456789abcd:1", "16 lower-case"),
            ("0123456789abcdef:", "decimal digits"),
            ("0123456789abcdef:00", "decimal digits"),
            ("0123456789abcdef:01", "decimal digits"),
            ("0123456789abcdef:+1", "decimal digits"),
            ("0123456789abcdef:-1", "decimal digits"),
            ("0123456789abcdef:1 ", "decimal digits"),
            ("0123456789abcdef:1:1", "decimal digits"),
            ("0123456789abcdef:18446744073709551616", "decimal digits"),
        ] {
            check(input, Err(message));
        }
    }

    #[test]
    fn a_message_is_bounded() {
        let error = "é".repeat(1 << 20).parse::<Revision>().expect_err("no colon").to_string();
        assert!(error.len() < 300, "{}", error.len());
    }

    #[test]
    fn fresh_ids_parse_and_differ() {
        let ids: std::collections::BTreeSet<StoreId> =
            (0..1000).map(|_| StoreId::fresh()).collect();
        assert_eq!(ids.len(), 1000);
        assert!(ids.iter().all(|id| id.as_str().parse::<StoreId>().as_ref() == Ok(id)));
    }

    proptest::proptest! {
        #[test]
        fn any_text_parses_or_is_refused(text in "\\PC*") {
            if let Ok(revision) = text.parse::<Revision>() {
                assert_eq!(revision.to_string(), text);
            }
        }
    }
}
