//! The public keys that a verifier knows at one revision, and until when each may be believed.
//!
//! Declines to know who published a key, and how to fetch one that is not there.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use crate::key::PublicKey;

/// A public key and its standing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRecord {
    pub public: PublicKey,
    /// Tokens of this key are refused from this moment on, in seconds since 1970, whatever their own `exp`.
    pub accept_until: i64,
    /// A revoked key's tokens are refused at once.
    pub revoked: bool,
}

/// An immutable map from `kid` to key. Cloning copies a pointer.
#[derive(Debug, Clone, Default)]
pub struct KeySet {
    // INVARIANT: each record stands under its own key's thumbprint.
    records: Arc<HashMap<String, KeyRecord>>,
}

impl KeySet {
    pub fn lookup(&self, kid: &str) -> Option<&KeyRecord> {
        self.records.get(kid)
    }

    /// All records, in no particular order.
    pub fn records(&self) -> impl Iterator<Item = &KeyRecord> {
        self.records.values()
    }

    pub fn len(&self) -> usize {
        self.records.len()
    }

    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }
}

/// Two records of one key are joined, and what is stricter holds: revoked if either is, and the earlier `accept_until`.
impl FromIterator<KeyRecord> for KeySet {
    fn from_iter<I: IntoIterator<Item = KeyRecord>>(records: I) -> KeySet {
        let mut map: HashMap<String, KeyRecord> = HashMap::new();
        for record in records {
            match map.entry(record.public.kid().to_owned()) {
                Entry::Vacant(vacant) => {
                    vacant.insert(record);
                }
                Entry::Occupied(mut occupied) => {
                    let known = occupied.get_mut();
                    known.revoked |= record.revoked;
                    known.accept_until = known.accept_until.min(record.accept_until);
                }
            }
        }
        KeySet { records: Arc::new(map) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::SigningKey;

    fn record(public: &PublicKey, accept_until: i64, revoked: bool) -> KeyRecord {
        KeyRecord { public: public.clone(), accept_until, revoked }
    }

    #[test]
    fn a_record_stands_under_its_thumbprint() {
        let (a, b) =
            (SigningKey::generate().unwrap().public(), SigningKey::generate().unwrap().public());
        let set: KeySet = [record(&a, 10, false)].into_iter().collect();
        assert_eq!(set.lookup(a.kid()), Some(&record(&a, 10, false)));
        assert_eq!(set.lookup(b.kid()), None);
        assert_eq!(set.lookup(""), None);
        assert!(KeySet::default().is_empty());
    }

    #[test]
    fn of_two_records_of_one_key_the_stricter_holds() {
        let key = SigningKey::generate().unwrap().public();
        let (early, revoked) = (record(&key, 5, false), record(&key, 10, true));
        for pair in [[early.clone(), revoked.clone()], [revoked, early]] {
            let set: KeySet = pair.into_iter().collect();
            assert_eq!(set.len(), 1);
            assert_eq!(set.lookup(key.kid()), Some(&record(&key, 5, true)));
            assert_eq!(set.records().count(), 1);
        }
    }
}
