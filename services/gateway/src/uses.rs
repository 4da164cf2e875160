//! Which access keys and roles were used, for people who look for those that nobody uses: told to the policy store now and then, in a task
//! of its own, so that no exchange waits for it.
//!
//! It may lose uses: of a busy key one in five minutes is told, of very many keys not all, and what the store does not take is not told
//! again before the next use. Nothing is decided by it.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use countersign_proto::policy::v1::{RecordUsesRequest, Use};
use prost_types::Timestamp;
use tokio::sync::Notify;

use crate::StoreClient;

/// Of one key or role, a use is told so often, in seconds.
const EVERY: i64 = 300;
/// Keys and roles that are told apart.
const MOST: usize = 50_000;
/// So many are told at once; the store takes a thousand.
const AT_ONCE: usize = 500;
/// What comes within this time goes together.
const GATHERED: Duration = Duration::from_secs(1);
/// For one call to the store.
const DEADLINE: Duration = Duration::from_secs(5);
/// For the last one.
const LAST_DEADLINE: Duration = Duration::from_secs(1);

/// What was used of late.
#[derive(Default)]
pub struct Uses {
    known: Mutex<HashMap<String, Known>>,
    news: Notify,
}

/// A key or role that was used.
struct Known {
    /// Seconds since 1970: the last use that was told, or is about to be.
    noted: i64,
    /// Not told yet: the service that it was used for.
    untold: Option<String>,
}

impl Uses {
    /// A session was made of this role, at `now`.
    pub fn role(&self, role_id: &str, now: i64) {
        self.note(role_id, "", now);
    }

    /// A signature of this access key was right, at `now`.
    pub fn access_key(&self, access_key_id: &str, service_name: &str, now: i64) {
        self.note(access_key_id, service_name, now);
    }

    fn note(&self, id: &str, service_name: &str, now: i64) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.get(id).is_some_and(|known| now < known.noted.saturating_add(EVERY)) {
            return;
        }
        if known.len() >= MOST && !known.contains_key(id) {
            known.retain(|_, known| {
                known.untold.is_some() || now < known.noted.saturating_add(EVERY)
            });
            if known.len() >= MOST {
                return;
            }
        }
        known.insert(id.to_owned(), Known { noted: now, untold: Some(service_name.to_owned()) });
        self.news.notify_one();
    }

    /// Some that were not told; they count as told.
    fn take(&self) -> Vec<Use> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let untold = known.iter_mut().filter(|(_, known)| known.untold.is_some()).take(AT_ONCE);
        let told = untold.map(|(id, known)| Use {
            id: id.clone(),
            last_used_date: Some(Timestamp { seconds: known.noted, nanos: 0 }),
            service_name: known.untold.take().unwrap_or_default(),
        });
        told.collect()
    }

    /// Tells the store, until it is dropped.
    pub async fn run(&self, store: StoreClient) {
        loop {
            self.news.notified().await;
            tokio::time::sleep(GATHERED).await;
            self.tell(&store, DEADLINE).await;
        }
    }

    /// Tells what is left, when the gateway ends; not for long.
    pub async fn tell_last(&self, store: StoreClient) {
        self.tell(&store, LAST_DEADLINE).await;
    }

    async fn tell(&self, store: &StoreClient, deadline: Duration) {
        loop {
            let uses = self.take();
            if uses.is_empty() {
                return;
            }
            let mut store = store.clone();
            let told = store.record_uses(RecordUsesRequest { uses });
            match tokio::time::timeout(deadline, told).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => {
                    return tracing::debug!(%error, "the policy store was not told which keys and roles were used");
                }
                Err(_) => {
                    return tracing::debug!("the policy store is too slow to be told of uses");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(uses: &Uses) -> Vec<(String, i64, String)> {
        let mut told: Vec<_> = uses
            .take()
            .into_iter()
            .map(|it| (it.id, it.last_used_date.unwrap().seconds, it.service_name))
            .collect();
        told.sort();
        told
    }

    #[test]
    fn each_is_told_once_in_five_minutes() {
        let uses = Uses::default();
        uses.role("AROA1", 1_000);
        uses.role("AROA1", 1_001);
        uses.access_key("AKIA1", "sts", 1_002);
        let expected =
            [("AKIA1".to_owned(), 1_002, "sts".to_owned()), ("AROA1".into(), 1_000, "".into())];
        assert_eq!(told(&uses), expected);
        uses.role("AROA1", 1_299);
        assert_eq!(told(&uses), []);
        uses.role("AROA1", 1_300);
        assert_eq!(told(&uses), [("AROA1".to_owned(), 1_300, String::new())]);
    }

    #[test]
    fn very_many_are_bounded() {
        let uses = Uses::default();
        for number in 0..MOST + 10 {
            uses.role(&format!("AROA{number}"), 0);
        }
        assert_eq!(uses.known.lock().unwrap().len(), MOST);
        while !uses.take().is_empty() {}
        // Those that were told long ago make room.
        uses.role("AROAX", EVERY);
        assert_eq!(told(&uses).len(), 1);
    }
}
