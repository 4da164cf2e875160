//! What followers of the Watch should hold at a revision: a digest of each kind of record, for heartbeats to carry.
//!
//! It is counted once, when the first follower needs it, and then kept up with the change log. It holds 24 bytes for each record that
//! Watch carries, however many followers there are. What it cannot say exactly it does not say.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use aws_lc_rs::digest::{SHA256, digest};
use countersign_proto::policy::v1::{RecordKind, WatchDigest};
use countersign_replica::Digest;
use countersign_store::{Change, Store, StoreError, Write};
use tokio::sync::Mutex;

use crate::layout;

/// Records of one read while it is counted.
const PAGE: usize = 1_000;
/// Commits of one read.
const CHANGES: usize = 256;
/// Followers are a few commits apart; one further behind hears of no digest until it has caught up.
const REMEMBERED: usize = 512;

/// The ledger of one process.
#[derive(Default)]
pub struct Ledger(Mutex<State>);

#[derive(Default)]
enum State {
    #[default]
    Empty,
    /// A task is counting.
    Counting,
    Ready(Book),
}

impl Ledger {
    /// What a follower of `kinds` holds at revision `number`; `None` while that is not known.
    pub async fn digest(
        self: &Arc<Self>,
        store: &Arc<dyn Store>,
        kinds: &[RecordKind],
        number: u64,
    ) -> Option<WatchDigest> {
        let mut state = self.0.lock().await;
        match &mut *state {
            State::Empty => {
                *state = State::Counting;
                tokio::spawn(count(self.clone(), store.clone()));
                None
            }
            State::Counting => None,
            State::Ready(book) => match book.catch_up(store.as_ref(), number).await {
                Ok(()) => book.digest(kinds, number),
                // The log has moved on without us, or the store is another: it is counted again.
                Err(StoreError::TooOld { .. } | StoreError::Ahead { .. }) => {
                    *state = State::Empty;
                    None
                }
                Err(_) => None,
            },
        }
    }
}

async fn count(ledger: Arc<Ledger>, store: Arc<dyn Store>) {
    let counted = Book::count(store.as_ref()).await;
    *ledger.0.lock().await = match counted {
        Ok(book) => State::Ready(book),
        Err(error) => {
            tracing::warn!(%error, "what followers should hold could not be counted; it is tried again");
            State::Empty
        }
    };
}

type Digests = BTreeMap<RecordKind, Digest>;

/// What there is at one revision.
#[derive(Default)]
struct Book {
    /// By the first half of the SHA-256 of each key.
    versions: HashMap<[u8; 16], u64>,
    digests: Digests,
    /// The log has been read up to here.
    read_to: u64,
    /// What the digests were after each of the last commits.
    past: BTreeMap<u64, Digests>,
}

impl Book {
    /// Pages are read while others write, each at a revision of its own. Every commit since the beginning is then read from the log, and
    /// for each key the newest version stands, wherever it was seen: at the end the book is exact.
    async fn count(store: &dyn Store) -> Result<Self, StoreError> {
        let mut book = Self { read_to: store.head().await?, ..Self::default() };
        for prefix in layout::KINDS.into_iter().filter_map(layout::prefix) {
            let mut after: Option<Vec<u8>> = None;
            loop {
                let entries = store.range(prefix.as_bytes(), after.as_deref(), PAGE).await?;
                for entry in &entries {
                    book.put(&entry.key, entry.version);
                }
                if entries.len() < PAGE {
                    break;
                }
                after = entries.last().map(|entry| entry.key.to_vec());
            }
        }
        book.catch_up(store, store.head().await?).await?;
        // Before this moment it was in part.
        book.past = BTreeMap::from([(book.read_to, book.digests.clone())]);
        Ok(book)
    }

    /// Reads the log up to revision `number` at least. May be dropped at any time.
    async fn catch_up(&mut self, store: &dyn Store, number: u64) -> Result<(), StoreError> {
        while self.read_to < number {
            let changes = store.changes_since(self.read_to, CHANGES).await?;
            if changes.is_empty() {
                self.read_to = number;
            }
            for change in &changes {
                self.apply(change);
            }
        }
        Ok(())
    }

    fn apply(&mut self, change: &Change) {
        for write in &change.writes {
            match write {
                Write::Put { key, .. } => self.put(key, change.number),
                Write::Delete { key } => self.take(key, change.number),
            }
        }
        self.read_to = change.number;
        self.past.insert(change.number, self.digests.clone());
        while self.past.len() > REMEMBERED {
            self.past.pop_first();
        }
    }

    fn put(&mut self, key: &[u8], version: u64) {
        let Some(kind) = layout::kind(key) else { return };
        let place = short(key);
        if self.versions.get(&place).is_some_and(|known| *known > version) {
            return;
        }
        let digest = self.digests.entry(kind).or_default();
        if let Some(before) = self.versions.insert(place, version) {
            digest.remove(before, key);
        }
        digest.add(version, key);
    }

    fn take(&mut self, key: &[u8], version: u64) {
        let Some(kind) = layout::kind(key) else { return };
        let place = short(key);
        if self.versions.get(&place).is_some_and(|known| *known > version) {
            return;
        }
        if let Some(before) = self.versions.remove(&place) {
            self.digests.entry(kind).or_default().remove(before, key);
        }
    }

    fn digest(&self, kinds: &[RecordKind], number: u64) -> Option<WatchDigest> {
        let (_, digests) = self.past.range(..=number).next_back()?;
        let asked = layout::KINDS.into_iter().filter(|kind| kinds.contains(kind));
        let sum = asked
            .filter_map(|kind| digests.get(&kind))
            .fold(Digest::default(), |sum, of| sum.and(*of));
        Some(sum.into())
    }
}

fn short(key: &[u8]) -> [u8; 16] {
    digest(&SHA256, key).as_ref().first_chunk::<16>().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use countersign_store::{SledOptions, SledStore};

    use super::*;

    fn put(key: &str) -> Write {
        Write::Put { key: key.as_bytes().to_vec().into(), value: vec![2].into() }
    }

    fn delete(key: &str) -> Write {
        Write::Delete { key: key.as_bytes().to_vec().into() }
    }

    fn of(records: &[(u64, &str)]) -> Option<WatchDigest> {
        let mut digest = Digest::default();
        for (version, key) in records {
            digest.add(*version, key.as_bytes());
        }
        Some(digest.into())
    }

    #[tokio::test]
    async fn it_says_what_each_revision_holds_of_each_kind() {
        let folder = tempfile::tempdir().unwrap();
        let store = SledStore::open(folder.path(), SledOptions::default()).unwrap();
        let commit = async |writes| store.commit(Vec::new(), writes).await.unwrap().number;
        let first = commit(vec![put("user/a"), put("role/r"), put("x/secret/k")]).await;
        let mut book = Book::count(&store).await.unwrap();
        let second = commit(vec![put("user/a"), put("user/b")]).await;
        let third = commit(vec![delete("user/b"), delete("user/never"), put("x/secret/k")]).await;
        // In one commit the later write stands.
        let fourth =
            commit(vec![delete("role/r"), put("role/r"), put("user/c"), delete("user/c")]).await;
        book.catch_up(&store, fourth).await.unwrap();
        let check = |kinds: &[RecordKind], number, expected: Option<WatchDigest>| {
            assert_eq!(book.digest(kinds, number), expected, "{kinds:?} at {number}");
        };
        let (user, role) = (RecordKind::User, RecordKind::Role);
        check(&[user], first, of(&[(first, "user/a")]));
        check(&[user], second, of(&[(second, "user/a"), (second, "user/b")]));
        check(&[user], third, of(&[(second, "user/a")]));
        check(&[user, role], third, of(&[(second, "user/a"), (first, "role/r")]));
        check(&[role], fourth, of(&[(fourth, "role/r")]));
        check(&[user, user], fourth, of(&[(second, "user/a")]));
        check(&[RecordKind::Group], fourth, of(&[]));
        // Before it was counted, nothing is said.
        check(&[user], first - 1, None);
        // Counted anew it says the same.
        let again = Book::count(&store).await.unwrap();
        assert_eq!(again.digest(&layout::KINDS, fourth), book.digest(&layout::KINDS, fourth));
    }

    /// Pages and log may be seen in any order; the newest version stands.
    #[test]
    fn an_old_change_does_not_undo_what_a_later_page_showed() {
        let mut book = Book::default();
        book.put(b"user/a", 7);
        book.apply(&Change { number: 5, writes: vec![put("user/a")] });
        book.apply(&Change { number: 6, writes: vec![delete("user/a")] });
        book.apply(&Change { number: 7, writes: vec![put("user/a")] });
        assert_eq!(book.digest(&[RecordKind::User], 7), of(&[(7, "user/a")]));
    }
}
