//! What an operation sees, and what it wants: the ground between IAM's rules and the store.
//!
//! An operation is a plain function of a [`View`]. It asks for records; one that is not at hand ends the run with
//! [`Need`], is fetched, and the operation runs again. So an operation waits for nothing, knows no engine, and everything
//! that it read is a precondition of what it writes: two operations that read the same and write it differently cannot both happen.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use aws_lc_rs::{digest, rand};
use countersign_store::{
    CommitError, Entry, MAX_COMMIT_BYTES, MAX_PRECONDITIONS, MAX_WRITES, Precondition, Revision,
    Store, StoreError, Write,
};
use prost::Message;
use prost_types::Timestamp;

use crate::{
    authz::Permit,
    error::Error,
    layout::{self, Key},
};

/// A conflicting write is tried again so often before its caller is told.
const ATTEMPTS: usize = 16;
/// An operation that asks for more than this is not an operation on a few entities.
const MOST_READS: usize = 512;
/// Writes and preconditions that are left free for what a commit holds besides its steps: the audit event, and the answer to a retry.
const ROOM: usize = 4;
/// The same in bytes: two values of the largest.
const ROOM_BYTES: usize = 160 << 10;

/// What an operation has to see before it can go on.
#[derive(Debug)]
pub enum Need {
    /// The entry at this key.
    Entry(Vec<u8>),
    /// The entries at these keys.
    Entries(Vec<Vec<u8>>),
    /// Whether anything stands under this prefix.
    Emptiness(String),
    /// All keys under this prefix, at most `limit`.
    Keys {
        /// The prefix.
        prefix: String,
        /// At most so many.
        limit: usize,
    },
}

/// The version of each key that was read.
type Versions = HashMap<Vec<u8>, u64>;
/// The one write of each key that an operation of several steps has put so far.
type Staged = BTreeMap<Vec<u8>, Write>;

/// What an operation sees.
pub struct View {
    now: Timestamp,
    seed: [u8; 32],
    ids: Cell<u32>,
    entries: HashMap<Vec<u8>, Option<Entry>>,
    empty: BTreeMap<String, bool>,
    keys: HashMap<String, Vec<Vec<u8>>>,
    /// Keys that the operation read, and that must not change under it.
    read: RefCell<Versions>,
    /// The caller's permit, once it was found, and what was read for it.
    permit: RefCell<Option<(Permit, Versions)>>,
    /// What the steps before this one want written: a later step sees it as if it were done.
    staged: RefCell<Staged>,
    most_reads: usize,
}

/// Where an operation of several steps has got to.
pub struct Point {
    staged: Staged,
    read: Versions,
}

impl View {
    fn new(now: Timestamp, most_reads: usize) -> Result<Self, Error> {
        let mut seed = [0; 32];
        rand::fill(&mut seed).map_err(|_| Error::NoRandomness)?;
        Ok(Self {
            now,
            seed,
            ids: Cell::new(0),
            entries: HashMap::new(),
            empty: BTreeMap::new(),
            keys: HashMap::new(),
            read: RefCell::default(),
            permit: RefCell::default(),
            staged: RefCell::default(),
            most_reads,
        })
    }

    /// The time of the operation.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// The record at `key`.
    pub fn find<R: Message + Default>(&self, key: &Key<R>) -> Result<Option<R>, Error> {
        if let Some(staged) = self.staged(key)? {
            return Ok(staged);
        }
        let entry = self
            .entries
            .get(key.as_bytes())
            .ok_or_else(|| Error::Need(Need::Entry(key.as_bytes().to_vec())))?;
        let version = entry.as_ref().map_or(0, |entry| entry.version);
        self.read.borrow_mut().insert(key.as_bytes().to_vec(), version);
        match entry {
            None => Ok(None),
            Some(entry) => layout::decode(key, &entry.value).map(Some),
        }
    }

    /// The number of the commit that wrote what stands at `key`; 0 if nothing does, or if it was not looked at.
    pub fn version<R>(&self, key: &Key<R>) -> u64 {
        self.entries.get(key.as_bytes()).and_then(Option::as_ref).map_or(0, |entry| entry.version)
    }

    /// The caller's permit: found in the first run that gets so far, and not again in the runs of this view that follow, since an entry
    /// is fetched once. What was read for it is read by each of them.
    pub fn permit(&self, find: impl FnOnce() -> Result<Permit, Error>) -> Result<Permit, Error> {
        if let Some((permit, read)) = self.permit.borrow().as_ref() {
            self.read
                .borrow_mut()
                .extend(read.iter().map(|(key, version)| (key.clone(), *version)));
            return Ok(permit.clone());
        }
        let permit = find()?;
        *self.permit.borrow_mut() = Some((permit.clone(), self.read.borrow().clone()));
        Ok(permit)
    }

    /// The record at `key`, which may change meanwhile: no precondition of anything.
    pub fn peek<R: Message + Default>(&self, key: &Key<R>) -> Result<Option<R>, Error> {
        if let Some(staged) = self.staged(key)? {
            return Ok(staged);
        }
        let entry = self
            .entries
            .get(key.as_bytes())
            .ok_or_else(|| Error::Need(Need::Entry(key.as_bytes().to_vec())))?;
        entry.as_ref().map(|entry| layout::decode(key, &entry.value)).transpose()
    }

    /// The same of several, fetched together.
    pub fn peek_all<R: Message + Default>(&self, keys: &[Key<R>]) -> Result<Vec<Option<R>>, Error> {
        let missing: Vec<Vec<u8>> = keys
            .iter()
            .map(|key| key.as_bytes().to_vec())
            .filter(|key| !self.staged.borrow().contains_key(key))
            .collect();
        self.need(missing)?;
        keys.iter().map(|key| self.peek(key)).collect()
    }

    /// Has the entries at these keys fetched together, if they are not at hand: nothing is read.
    pub fn need(&self, keys: Vec<Vec<u8>>) -> Result<(), Error> {
        let missing: Vec<Vec<u8>> =
            keys.into_iter().filter(|key| !self.entries.contains_key(key)).collect();
        if missing.is_empty() { Ok(()) } else { Err(Error::Need(Need::Entries(missing))) }
    }

    /// What a step before this one put at `key`: a record, or nothing (it deleted it).
    fn staged<R: Message + Default>(&self, key: &Key<R>) -> Result<Option<Option<R>>, Error> {
        match self.staged.borrow().get(key.as_bytes()) {
            None => Ok(None),
            Some(Write::Delete { .. }) => Ok(Some(None)),
            Some(Write::Put { value, .. }) => layout::decode(key, value).map(|r| Some(Some(r))),
        }
    }

    /// Runs one step of several: what it wants written is seen by the steps after it, and written with theirs ([`View::take_staged`]).
    pub fn step<T>(
        &self,
        operation: impl FnOnce(&mut Plan) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut plan = Plan::default();
        let value = operation(&mut plan)?;
        let mut staged = self.staged.borrow_mut();
        for write in plan.writes {
            staged.insert(write.key().to_vec(), write);
        }
        Ok(value)
    }

    /// Where the steps have got to.
    pub fn point(&self) -> Point {
        Point { staged: self.staged.borrow().clone(), read: self.read.borrow().clone() }
    }

    /// Forgets the steps since `point`.
    pub fn back_to(&self, point: Point) {
        *self.staged.borrow_mut() = point.staged;
        *self.read.borrow_mut() = point.read;
    }

    /// Whether all steps so far go into one commit, with some room for what a commit holds besides.
    pub fn fits(&self) -> bool {
        let staged = self.staged.borrow();
        let size = |write: &Write| match write {
            Write::Put { key, value } => key.len() + value.len(),
            Write::Delete { key } => key.len(),
        };
        staged.len() + ROOM <= MAX_WRITES
            && self.read.borrow().len() + self.empty.len() + ROOM <= MAX_PRECONDITIONS
            && staged.values().map(size).sum::<usize>() + ROOM_BYTES <= MAX_COMMIT_BYTES
    }

    /// Moves what the steps want written into the plan.
    pub fn take_staged(&self, plan: &mut Plan) {
        plan.writes.extend(std::mem::take(&mut *self.staged.borrow_mut()).into_values());
    }

    /// Whether nothing stands under `prefix`. If so, it must stay so until the operation is done.
    pub fn is_empty(&self, prefix: &str) -> Result<bool, Error> {
        let staged = self.staged.borrow();
        let put = staged.values().any(|write| match write {
            Write::Put { key, .. } => key.starts_with(prefix.as_bytes()),
            Write::Delete { .. } => false,
        });
        if put {
            return Ok(false);
        }
        self.empty
            .get(prefix)
            .copied()
            .ok_or_else(|| Error::Need(Need::Emptiness(prefix.to_owned())))
    }

    /// The keys under `prefix`, at most `limit` of them. A write that depends on them reads each: this list alone is no precondition.
    pub fn keys(&self, prefix: &str, limit: usize) -> Result<&[Vec<u8>], Error> {
        let need = || Error::Need(Need::Keys { prefix: prefix.to_owned(), limit });
        self.keys.get(prefix).map(Vec::as_slice).ok_or_else(need)
    }

    /// A fresh unique id: `prefix` and 17 characters, as IAM's are.
    pub fn unique_id(&self, prefix: &str) -> String {
        self.ids.set(self.ids.get() + 1);
        let mut input = self.seed.to_vec();
        input.extend(self.ids.get().to_be_bytes());
        let hash = digest::digest(&digest::SHA256, &input);
        let characters = hash.as_ref().iter().take(17).map(|byte| base32(*byte));
        prefix.chars().chain(characters).collect()
    }

    async fn fetch(&mut self, store: &dyn Store, need: Need) -> Result<(), Error> {
        if self.entries.len() + self.empty.len() + self.keys.len() > self.most_reads {
            return Err(Error::TooManyReads);
        }
        match need {
            Need::Entry(key) => {
                let entry = store.get(&key).await?;
                self.entries.insert(key, entry);
            }
            Need::Entries(keys) => {
                for key in keys {
                    let entry = store.get(&key).await?;
                    self.entries.insert(key, entry);
                }
            }
            Need::Emptiness(prefix) => {
                let found = store.range(prefix.as_bytes(), None, 1).await?;
                self.empty.insert(prefix, found.is_empty());
            }
            Need::Keys { prefix, limit } => {
                let found = store.range(prefix.as_bytes(), None, limit).await?;
                let keys = found.into_iter().map(|entry| entry.key.to_vec()).collect();
                self.keys.insert(prefix, keys);
            }
        }
        Ok(())
    }

    fn preconditions(&self) -> Vec<Precondition> {
        let read = self.read.borrow();
        let versions = read.iter().map(|(key, version)| Precondition::Version {
            key: key.clone().into(),
            version: *version,
        });
        let empties = self.empty.iter().filter(|(_, empty)| **empty).map(|(prefix, _)| {
            Precondition::PrefixEmpty { prefix: prefix.clone().into_bytes().into() }
        });
        versions.chain(empties).collect()
    }
}

/// A letter or digit of IAM's unique ids.
pub fn base32(byte: u8) -> char {
    match byte & 31 {
        low @ 0..26 => char::from(b'A' + low),
        high => char::from(b'2' + (high - 26)),
    }
}

/// What an operation wants written.
#[derive(Debug, Default)]
pub struct Plan {
    writes: Vec<Write>,
}

impl Plan {
    /// Writes `record` at `key`.
    pub fn put<R: Message>(&mut self, key: &Key<R>, record: &R) {
        let key = key.as_bytes().to_vec().into();
        self.writes.push(Write::Put { key, value: layout::encode(record).into() });
    }

    /// Deletes what stands at `key`.
    pub fn delete<R>(&mut self, key: &Key<R>) {
        self.writes.push(Write::Delete { key: key.as_bytes().to_vec().into() });
    }
}

/// Runs an operation that only reads, again while what it read changes: what it saw was all there at one moment.
pub async fn read<T>(
    store: &dyn Store,
    now: Timestamp,
    operation: impl Fn(&View) -> Result<T, Error>,
) -> Result<T, Error> {
    for _ in 0..ATTEMPTS {
        let mut view = View::new(now, MOST_READS)?;
        let value = run(store, &mut view, &operation).await?;
        let read = view.read.into_inner();
        if unchanged(store, &read).await? {
            return Ok(value);
        }
    }
    Err(Error::ConcurrentModification)
}

/// Runs an operation to see what it would come to, on what was there while it looked: not all of one moment.
pub async fn foresee<T>(
    store: &dyn Store,
    now: Timestamp,
    most_reads: usize,
    operation: impl Fn(&View) -> Result<T, Error>,
) -> Result<T, Error> {
    run(store, &mut View::new(now, most_reads)?, &operation).await
}

/// Versions only grow: if each is what it was when it was read, they were all so after the last of them was.
async fn unchanged(store: &dyn Store, read: &HashMap<Vec<u8>, u64>) -> Result<bool, Error> {
    for (key, version) in read {
        let now = store.get(key).await?.map_or(0, |entry| entry.version);
        if now != *version {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether what an operation wants is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It is.
    Write,
    /// It is only found out whether it could be: everything is checked, and nothing is written.
    Validate,
}

/// Runs an operation and commits what it wants, again from the beginning while others get in between.
pub async fn write<T>(
    store: &Arc<dyn Store>,
    now: Timestamp,
    mode: Mode,
    operation: impl Fn(&View, &mut Plan) -> Result<T, Error>,
) -> Result<(T, Revision), Error> {
    write_many(store, now, mode, MOST_READS, operation).await
}

/// The same for an operation on many entities, which may look at `most_reads` of them.
pub async fn write_many<T>(
    store: &Arc<dyn Store>,
    now: Timestamp,
    mode: Mode,
    most_reads: usize,
    operation: impl Fn(&View, &mut Plan) -> Result<T, Error>,
) -> Result<(T, Revision), Error> {
    for _ in 0..ATTEMPTS {
        let mut view = View::new(now, most_reads)?;
        let planned = |view: &View| {
            let mut plan = Plan::default();
            operation(view, &mut plan).map(|value| (value, plan))
        };
        let (value, plan) = run(store.as_ref(), &mut view, &planned).await?;
        // A commit without writes checks the preconditions alone.
        let writes = match mode {
            Mode::Write => plan.writes,
            Mode::Validate => Vec::new(),
        };
        match store.commit(view.preconditions(), writes).await {
            Ok(revision) => return Ok((value, revision)),
            Err(CommitError::Conflict { .. }) => {}
            Err(CommitError::Store(error)) => return Err(error.into()),
        }
    }
    Err(Error::ConcurrentModification)
}

async fn run<T>(
    store: &dyn Store,
    view: &mut View,
    operation: &impl Fn(&View) -> Result<T, Error>,
) -> Result<T, Error> {
    loop {
        view.read.borrow_mut().clear();
        view.staged.borrow_mut().clear();
        match operation(view) {
            Err(Error::Need(need)) => view.fetch(store, need).await?,
            Ok(value) => return Ok(value),
            Err(error) => return Err(error),
        }
    }
}

/// A page of what stands under a prefix.
pub struct Page<R> {
    /// In key order.
    pub records: Vec<R>,
    /// Where the next page begins; `None` at the end.
    pub marker: Option<String>,
}

/// So many records are looked at for one page; a page that keeps few of them is then short.
const MOST_SCANNED: usize = 10_000;

/// Reads one page, keeping what `keep` keeps. `after` is the marker of the page before: a key without its prefix.
pub async fn page<R: Message + Default>(
    store: &dyn Store,
    prefix: &str,
    after: &str,
    limit: usize,
    keep: impl Fn(&R) -> bool,
) -> Result<Page<R>, Error> {
    let mut records = Vec::new();
    let mut scanned = 0;
    let mut last = (!after.is_empty()).then(|| format!("{prefix}{after}").into_bytes());
    loop {
        let entries = store.range(prefix.as_bytes(), last.as_deref(), limit + 1).await?;
        let exhausted = entries.len() <= limit;
        for entry in entries {
            scanned += 1;
            if records.len() == limit || scanned > MOST_SCANNED {
                let end = last.as_deref().and_then(|key| key.get(prefix.len()..));
                let marker = end.map(|key| String::from_utf8_lossy(key).into_owned());
                return Ok(Page { records, marker });
            }
            let record = layout::decode_at(&entry.key, &entry.value)?;
            last = Some(entry.key.to_vec());
            if keep(&record) {
                records.push(record);
            }
        }
        if exhausted {
            return Ok(Page { records, marker: None });
        }
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}
