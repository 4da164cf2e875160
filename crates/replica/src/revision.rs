//! `store_id:number`.

use std::{fmt, str::FromStr, sync::Arc};

/// A revision of one store. Revisions of different stores have no order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revision {
    /// Which store.
    pub store_id: Arc<str>,
    /// Grows with each committed write; gaps are allowed.
    pub number: u64,
}

/// Text that is no revision.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no revision; it has the form `store_id:number`, as every answer carries it")]
pub struct MalformedRevision(String);

impl FromStr for Revision {
    type Err = MalformedRevision;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let malformed = || MalformedRevision(text.chars().take(80).collect());
        let (store_id, number) = text.split_once(':').ok_or_else(malformed)?;
        let plain = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        if store_id.is_empty() || !plain {
            return Err(malformed());
        }
        let number = number.parse().map_err(|_| malformed())?;
        Ok(Self { store_id: store_id.into(), number })
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.store_id, self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let check = |text: &str, number: Option<u64>| {
            assert_eq!(text.parse::<Revision>().ok().map(|r| r.number), number, "{text}");
        };
        check("a1:7", Some(7));
        check("a1:18446744073709551615", Some(u64::MAX));
        check("a1:18446744073709551616", None);
        for bad in ["", ":", "a1", "a1:", ":7", "a1:-7", "a1:+7", "a1:7 ", "a1:7:8", "a1: 7"] {
            check(bad, None);
        }
        assert_eq!("a1:7".parse::<Revision>().unwrap().to_string(), "a1:7");
    }
}
