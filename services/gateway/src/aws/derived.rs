//! Derived keys that the policy store has given out before: enough to turn a stranger away, and never enough to let anybody in.
//!
//! The store gives out few derivations of each access key. If each request that names a key cost one, a stranger could use them up, and
//! keep the owner out; so a signature that does not hold by the key of before is refused without asking. One that holds is asked about
//! anew, since the access key may be inactive by now.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

use countersign_sigv4::DerivedKey;

/// Each is the key of one access key, day, region and service.
const MAX_KEYS: usize = 4096;

/// Scope and access key, as the store is asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Name {
    pub access_key_id: String,
    pub day: String,
    pub region: String,
    pub service: String,
}

/// Derived keys of before.
#[derive(Default)]
pub(super) struct Derived(Mutex<Table>);

#[derive(Default)]
struct Table {
    keys: HashMap<Name, Arc<DerivedKey>>,
    /// The oldest first.
    order: VecDeque<Name>,
}

impl Derived {
    /// The key of before, if there was one. It does not change: it is made of a secret that does not.
    pub(super) fn recall(&self, name: &Name) -> Option<Arc<DerivedKey>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).keys.get(name).cloned()
    }

    /// Keeps `key`; the oldest gives way.
    pub(super) fn remember(&self, name: Name, key: Arc<DerivedKey>) {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if table.keys.insert(name.clone(), key).is_some() {
            return;
        }
        table.order.push_back(name);
        if table.order.len() > MAX_KEYS
            && let Some(oldest) = table.order.pop_front()
        {
            table.keys.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(number: usize) -> Name {
        Name {
            access_key_id: format!("AKIA{number}"),
            day: "20261124".into(),
            region: "us-east-1".into(),
            service: "sts".into(),
        }
    }

    #[test]
    fn the_oldest_gives_way() {
        let derived = Derived::default();
        let key = Arc::new(DerivedKey::from_bytes([7; 32]));
        for number in 0..=MAX_KEYS {
            derived.remember(name(number), key.clone());
            derived.remember(name(number), key.clone());
        }
        assert!(derived.recall(&name(0)).is_none());
        assert!(derived.recall(&name(1)).is_some() && derived.recall(&name(MAX_KEYS)).is_some());
        let table = derived.0.lock().unwrap();
        assert_eq!((table.keys.len(), table.order.len()), (MAX_KEYS, MAX_KEYS));
        let other = Name { day: "20261125".into(), ..name(1) };
        assert!(!table.keys.contains_key(&other));
    }
}
