//! The sum that the store and its followers compare, to find out that a change was missed. It knows keys and versions, and declines to
//! know what they mean. It finds accidents, not attackers: whoever can change the stream can change the sum.

use aws_lc_rs::digest::{SHA256, digest};
use countersign_proto::policy::v1::WatchDigest;

/// A sum over records, in whatever order they came. `watch.proto` defines it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digest {
    records: u64,
    sum: u64,
}

impl Digest {
    /// Counts in the record at `key` that revision `version` wrote.
    pub fn add(&mut self, version: u64, key: &[u8]) {
        self.records = self.records.wrapping_add(1);
        self.sum = self.sum.wrapping_add(number(version, key));
    }

    /// Takes out a record that was counted in.
    pub fn remove(&mut self, version: u64, key: &[u8]) {
        self.records = self.records.wrapping_sub(1);
        self.sum = self.sum.wrapping_sub(number(version, key));
    }

    /// Of both: they hold no record in common.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            records: self.records.wrapping_add(other.records),
            sum: self.sum.wrapping_add(other.sum),
        }
    }
}

fn number(version: u64, key: &[u8]) -> u64 {
    let hash = digest(&SHA256, &[version.to_be_bytes().as_slice(), key].concat());
    let first = hash.as_ref().first_chunk::<8>().copied();
    u64::from_be_bytes(first.unwrap_or_default())
}

impl From<Digest> for WatchDigest {
    fn from(Digest { records, sum }: Digest) -> Self {
        Self { records, sum }
    }
}

impl From<WatchDigest> for Digest {
    fn from(WatchDigest { records, sum }: WatchDigest) -> Self {
        Self { records, sum }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(records: &[(u64, &str)]) -> Digest {
        let mut digest = Digest::default();
        for (version, key) in records {
            digest.add(*version, key.as_bytes());
        }
        digest
    }

    #[test]
    fn the_order_does_not_matter_and_everything_else_does() {
        let check = |one: &[(u64, &str)], other: &[(u64, &str)], same: bool| {
            assert_eq!(of(one) == of(other), same, "{one:?} {other:?}");
        };
        check(&[(1, "a"), (2, "b")], &[(2, "b"), (1, "a")], true);
        check(&[(1, "a"), (2, "b")], &[(2, "a"), (1, "b")], false);
        check(&[(1, "a")], &[(2, "a")], false);
        check(&[(1, "a")], &[], false);
        check(&[], &[], true);
        let mut changed = of(&[(1, "a"), (2, "b")]);
        changed.remove(1, b"a");
        changed.add(3, b"a");
        assert_eq!(changed, of(&[(3, "a"), (2, "b")]));
        assert_eq!(of(&[(1, "a")]).and(of(&[(2, "b")])), of(&[(1, "a"), (2, "b")]));
    }

    /// Others compute it too. SHA-256 of eight bytes and `user/x`, by another implementation.
    #[test]
    fn it_is_the_one_that_the_contract_defines() {
        let hex = format!("{:016x}", of(&[(7, "user/x")]).sum);
        assert_eq!(hex, "6abe9679bcb23ccc");
    }
}
