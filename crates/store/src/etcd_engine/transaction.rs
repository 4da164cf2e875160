//! A commit as one etcd transaction, and etcd's answer as a commit's outcome.
//!
//! Each precondition is one comparison. When one does not hold, the else branch reads what each of them speaks of, in the same
//! step, so that the conflict is named exactly. etcd refuses two writes to one key: only the last is sent, and the head's record
//! tells the others.
//!
//! etcd takes 128 operations at each level of a transaction, those of the levels around it included, and the head is a 129th. So
//! the largest commits are nested: half of the comparisons around several inner transactions, each with the other half and some of
//! the writes. etcd evaluates all comparisons, the inner ones too, before it applies anything, so that they hold together or not.

use std::collections::HashSet;

use etcd_client::{Compare, CompareOp, GetOptions, Txn, TxnOp, TxnOpResponse, TxnResponse};

use super::layout::{Layout, Nonce, Record};
use crate::{CommitError, Precondition, StoreError, StoreId, Write};

/// etcd's `--max-txn-ops`.
const MAX_OPERATIONS: usize = 128;
const HALF: usize = MAX_OPERATIONS / 2;

/// What must hold for the transaction to write.
enum Guard<'a> {
    /// The cluster still holds the store that this process opened: it was not wiped, nor restored as another store.
    Store(&'a StoreId),
    Precondition(usize, &'a Precondition),
}

/// A commit, ready to be sent, and what is needed to read the answer.
pub(super) struct Transaction<'a> {
    layout: &'a Layout,
    guards: Vec<Guard<'a>>,
    /// How many of the guards stand in the outer transaction.
    outer: usize,
    writes: bool,
    nonce: Nonce,
}

/// What a transaction that was answered came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The commit's number; for one without writes, the head's.
    Done(u64),
    Conflict {
        index: usize,
    },
    /// The cluster holds another store by now.
    OtherStore,
}

impl<'a> Transaction<'a> {
    pub fn new(
        layout: &'a Layout,
        id: &'a StoreId,
        preconditions: &'a [Precondition],
        writes: &[Write],
        nonce: Nonce,
    ) -> Self {
        let mut guards: Vec<Guard<'_>> = preconditions
            .iter()
            .enumerate()
            .map(|(index, precondition)| Guard::Precondition(index, precondition))
            .collect();
        // With 128 preconditions there is no room; the follower's check notices another store too, a little later.
        if guards.len() < MAX_OPERATIONS {
            guards.push(Guard::Store(id));
        }
        let nested = sent(writes) >= MAX_OPERATIONS;
        let outer = if nested { guards.len().min(HALF) } else { guards.len() };
        Self { layout, guards, outer, writes: !writes.is_empty(), nonce }
    }

    /// The transaction for etcd.
    pub fn request(&self, writes: &[Write]) -> Txn {
        let operations = self.operations(writes);
        let (outer, inner) =
            self.guards.split_at_checked(self.outer).unwrap_or((&self.guards, &[]));
        let operations = if operations.len() <= MAX_OPERATIONS {
            operations
        } else {
            operations
                .chunks(HALF)
                .map(|some| TxnOp::txn(self.guarded(inner, some.to_vec())))
                .collect()
        };
        self.guarded(outer, operations)
    }

    fn guarded(&self, guards: &[Guard<'_>], operations: Vec<TxnOp>) -> Txn {
        let compares: Vec<Compare> = guards.iter().map(|guard| self.compare(guard)).collect();
        let reads: Vec<TxnOp> = guards.iter().map(|guard| self.read(guard)).collect();
        Txn::new().when(compares).and_then(operations).or_else(reads)
    }

    fn operations(&self, writes: &[Write]) -> Vec<TxnOp> {
        if writes.is_empty() {
            return vec![TxnOp::get(self.layout.head(), None)];
        }
        let covered = covered(writes);
        let record = Record::of(self.nonce, writes, &covered).encode();
        writes
            .iter()
            .zip(covered)
            .filter(|(_, covered)| !covered)
            .map(|(write, _)| match write {
                Write::Put { key, value } => {
                    TxnOp::put(self.layout.data(key), value.as_ref(), None)
                }
                Write::Delete { key } => TxnOp::delete(self.layout.data(key), None),
            })
            // Last, so that a follower who has the head's event has all the others of the commit.
            .chain([TxnOp::put(self.layout.head(), record, None)])
            .collect()
    }

    fn compare(&self, guard: &Guard<'_>) -> Compare {
        match guard {
            Guard::Store(id) => {
                Compare::value(self.layout.id(), CompareOp::Equal, id.as_str().as_bytes())
            }
            // A key that is absent compares as if its revision were 0.
            Guard::Precondition(_, Precondition::Version { key, version }) => {
                Compare::mod_revision(self.layout.data(key), CompareOp::Equal, revision(*version))
            }
            // Every key of the range must satisfy the comparison, and none that exists was created at 0; an empty range compares as
            // a key that is absent.
            Guard::Precondition(_, Precondition::PrefixEmpty { prefix }) => {
                Compare::create_revision(self.layout.data(prefix), CompareOp::Equal, 0)
                    .with_range(self.layout.data_end(prefix))
            }
        }
    }

    fn read(&self, guard: &Guard<'_>) -> TxnOp {
        match guard {
            Guard::Store(_) => TxnOp::get(self.layout.id(), None),
            Guard::Precondition(_, Precondition::Version { key, .. }) => {
                TxnOp::get(self.layout.data(key), Some(GetOptions::new().with_keys_only()))
            }
            Guard::Precondition(_, Precondition::PrefixEmpty { prefix }) => {
                let options = GetOptions::new()
                    .with_range(self.layout.data_end(prefix))
                    .with_keys_only()
                    .with_limit(1);
                TxnOp::get(self.layout.data(prefix), Some(options))
            }
        }
    }

    /// What etcd's answer says.
    pub fn outcome(&self, response: &TxnResponse) -> Result<Outcome, CommitError> {
        let (outer, inner) =
            self.guards.split_at_checked(self.outer).unwrap_or((&self.guards, &[]));
        let answers = response.op_responses();
        if !response.succeeded() {
            return self.failed(outer, &answers);
        }
        if let Some(TxnOpResponse::Txn(first)) = answers.first()
            && !first.succeeded()
        {
            return self.failed(inner, &first.op_responses());
        }
        let number = match (self.writes, answers.first()) {
            (true, _) => response.header().map_or(0, |header| header.revision()),
            (false, Some(TxnOpResponse::Get(head))) => {
                head.kvs().first().map_or(0, |head| head.mod_revision())
            }
            (false, _) => return Err(nonsense()),
        };
        u64::try_from(number).map(Outcome::Done).map_err(|_| nonsense())
    }

    /// The first guard that did not hold, from what the else branch read.
    fn failed(
        &self,
        guards: &[Guard<'_>],
        answers: &[TxnOpResponse],
    ) -> Result<Outcome, CommitError> {
        for (guard, answer) in guards.iter().zip(answers) {
            let TxnOpResponse::Get(found) = answer else { return Err(nonsense()) };
            let found = found.kvs().first();
            match guard {
                Guard::Store(id) => {
                    if found.is_none_or(|found| found.value() != id.as_str().as_bytes()) {
                        return Ok(Outcome::OtherStore);
                    }
                }
                Guard::Precondition(index, Precondition::Version { version, .. }) => {
                    if found.map_or(0, |found| found.mod_revision()) != revision(*version) {
                        return Ok(Outcome::Conflict { index: *index });
                    }
                }
                Guard::Precondition(index, Precondition::PrefixEmpty { .. }) => {
                    if found.is_some() {
                        return Ok(Outcome::Conflict { index: *index });
                    }
                }
            }
        }
        Err(nonsense())
    }
}

/// Which writes a later one to the same key covers.
fn covered(writes: &[Write]) -> Vec<bool> {
    let mut later = HashSet::new();
    let mut covered: Vec<bool> =
        writes.iter().rev().map(|write| !later.insert(write.key())).collect();
    covered.reverse();
    covered
}

/// How many of the writes are sent to etcd.
fn sent(writes: &[Write]) -> usize {
    writes.iter().map(Write::key).collect::<HashSet<_>>().len()
}

/// No key ever has the largest revision, so a version past etcd's numbers is nobody's.
fn revision(version: u64) -> i64 {
    i64::try_from(version).unwrap_or(i64::MAX)
}

fn nonsense() -> CommitError {
    CommitError::Store(StoreError::Unavailable(
        "etcd's answer to a transaction contradicts itself".to_owned(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_write_to_a_key_covers_the_others() {
        let put = |key: &'static str| Write::Put { key: key.into(), value: "v".into() };
        let delete = |key: &'static str| Write::Delete { key: key.into() };
        let check = |writes: &[Write], expected: &[bool]| {
            assert_eq!(covered(writes), expected, "{writes:?}");
            assert_eq!(sent(writes), expected.iter().filter(|covered| !**covered).count());
        };
        check(&[], &[]);
        check(&[put("a"), delete("a"), put("b"), put("a")], &[true, true, false, false]);
        check(&[put("a"), put("b"), delete("a")], &[true, false, false]);
    }
}
