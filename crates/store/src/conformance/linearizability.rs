//! A linearizability checker for registers with compare-and-set, and a history to give it.
//!
//! A history is linearizable when its calls can be put in one order that respects real time (what returned before another began
//! comes first) and in which each answer is what a single register would have said (Herlihy and Wing 1990). The search is Wing and
//! Gong's, with Lowe's memory of what was tried. Keys are independent, so each is searched by itself (Herlihy and Wing: locality).

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::{delete, put, version};
use crate::{CommitError, Store, StoreError, Write};

/// A register's value; `None` when its key is absent. Every write of a history writes another.
pub type Value = Option<u64>;

/// What a call did, as its caller saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// A read, and what it found.
    Read(Value),
    /// An acknowledged write; with `expected`, one that was to happen only on that value.
    Wrote { expected: Option<Value>, new: Value },
    /// A write that was refused, since the value was not `expected`.
    Refused { expected: Value },
    /// A write that nobody knows the end of: it may have happened, may still, or never.
    Unknown { expected: Option<Value>, new: Value },
}

/// One call on one key. Times are nanoseconds since the history's begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    pub invoked: u64,
    pub returned: u64,
    pub seen: Seen,
    /// The commit's number, if it is known; 0 if not.
    pub number: u64,
}

impl Call {
    /// Nothing bounds when a write of unknown end takes effect.
    fn ends(&self) -> u64 {
        match self.seen {
            Seen::Unknown { .. } => u64::MAX,
            Seen::Read(_) | Seen::Wrote { .. } | Seen::Refused { .. } => self.returned,
        }
    }

    /// Whether this reads only, and could have happened on `value`.
    fn reads(&self, value: Value) -> bool {
        match self.seen {
            Seen::Read(found) => found == value,
            Seen::Refused { expected } => expected != value,
            Seen::Wrote { .. } | Seen::Unknown { .. } => false,
        }
    }

    /// The value afterwards, if this writes and could have written on `value`.
    fn writes(&self, value: Value) -> Option<Value> {
        match self.seen {
            Seen::Wrote { expected, new } | Seen::Unknown { expected, new } => {
                expected.is_none_or(|expected| expected == value).then_some(new)
            }
            Seen::Read(_) | Seen::Refused { .. } => None,
        }
    }

    fn must_happen(&self) -> bool {
        !matches!(self.seen, Seen::Unknown { .. })
    }
}

/// The calls of each key.
pub type History = BTreeMap<String, Vec<Call>>;

/// Whether a history is linearizable, or the key whose calls cannot be put in order, and the ones that stood in the way.
pub fn check(history: &History) -> Result<(), String> {
    for (key, calls) in history {
        check_key(calls).map_err(|reason| format!("`{key}`: {reason}"))?;
    }
    check_numbers(history)
}

/// Commit numbers are one order of all acknowledged writes, which respects real time as well.
fn check_numbers(history: &History) -> Result<(), String> {
    let mut writes: Vec<&Call> =
        history.values().flatten().filter(|call| call.number > 0).collect();
    writes.sort_by_key(|call| call.number);
    if let Some(twice) = writes.windows(2).find(|pair| pair[0].number == pair[1].number) {
        return Err(format!("two commits have one number: {twice:?}"));
    }
    let mut first_end: Option<&Call> = None;
    for call in writes.into_iter().rev() {
        if let Some(later) = first_end.filter(|later| later.returned < call.invoked) {
            return Err(format!(
                "a later number returned before the earlier began: {later:?}, {call:?}"
            ));
        }
        if first_end.is_none_or(|later| call.returned < later.returned) {
            first_end = Some(call);
        }
    }
    Ok(())
}

/// One place of the search: which calls are in the order already, and the value after them.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Place {
    /// All certain calls before this one are in.
    first: usize,
    /// Those that are in besides: certain ones from `first` on, and any of unknown end.
    done: BTreeSet<usize>,
    value: Value,
}

/// The calls of one key, in order of their begin. Those of unknown end are kept apart, since they may stay open for ever.
struct Calls {
    certain: Vec<Call>,
    /// Numbered from `certain.len()` on.
    unknown: Vec<Call>,
}

impl Calls {
    fn new(calls: &[Call]) -> Self {
        let mut calls = calls.to_vec();
        calls.sort_by_key(|call| call.invoked);
        let (certain, unknown) = calls.into_iter().partition(Call::must_happen);
        Self { certain, unknown }
    }

    fn at(&self, index: usize) -> &Call {
        self.certain.get(index).unwrap_or_else(|| &self.unknown[index - self.certain.len()])
    }

    /// Those that may come next: not done, and begun before any certain one that is not done has returned.
    fn open(&self, place: &Place) -> Vec<usize> {
        let mut horizon = u64::MAX;
        let mut open = Vec::new();
        for index in place.first..self.certain.len() {
            let call = &self.certain[index];
            // In order of their begin: whatever comes from here on ends later than the horizon.
            if call.invoked > horizon {
                break;
            }
            if !place.done.contains(&index) {
                horizon = horizon.min(call.returned);
                open.push(index);
            }
        }
        // The horizon went down on the way.
        open.retain(|index| self.certain[*index].invoked <= horizon);
        let begun = self.unknown.iter().take_while(|call| call.invoked <= horizon).count();
        let unknown = self.certain.len()..self.certain.len() + begun;
        open.extend(unknown.filter(|index| !place.done.contains(index)));
        open
    }

    /// Puts in order all reads that may come next. It loses no solution: where a read could come later, on the same value, it can
    /// come now as well.
    fn take_reads(&self, place: &mut Place) {
        loop {
            let mut reads = self.open(place);
            reads.retain(|index| self.at(*index).reads(place.value));
            if reads.is_empty() {
                return;
            }
            place.done.extend(reads);
            place.advance(self);
        }
    }
}

impl Place {
    fn advance(&mut self, calls: &Calls) {
        while self.first < calls.certain.len() && self.done.remove(&self.first) {
            self.first += 1;
        }
    }
}

fn check_key(calls: &[Call]) -> Result<(), String> {
    let calls = Calls::new(calls);
    let mut furthest = Place { first: 0, done: BTreeSet::new(), value: None };
    let mut tried: HashSet<Place> = HashSet::new();
    let mut stack = vec![furthest.clone()];
    while let Some(mut place) = stack.pop() {
        calls.take_reads(&mut place);
        if place.first == calls.certain.len() {
            return Ok(());
        }
        if !tried.insert(place.clone()) {
            continue;
        }
        let mut next = calls.open(&place);
        next.retain(|index| calls.at(*index).writes(place.value).is_some());
        // The last pushed is tried first: what returned first, and what is certain before what is not.
        next.sort_by_key(|index| std::cmp::Reverse(calls.at(*index).ends()));
        for index in next {
            let mut onward = place.clone();
            onward.done.insert(index);
            onward.value = calls.at(index).writes(place.value).unwrap_or_default();
            onward.advance(&calls);
            stack.push(onward);
        }
        if furthest.first < place.first {
            furthest = place;
        }
    }
    let open: Vec<&Call> =
        calls.open(&furthest).into_iter().take(12).map(|index| calls.at(index)).collect();
    Err(format!(
        "no order explains the calls; after the first {} the value was {:?}, and next could come {open:#?}",
        furthest.first, furthest.value,
    ))
}

/// Many tasks that read, write, delete and compare-and-set a few keys, through several handles on one store.
#[derive(Clone, Copy, Debug)]
pub struct Workload {
    pub tasks: u64,
    /// Calls a task makes, at most.
    pub each: u64,
    pub keys: u64,
    /// What a task waits after each call.
    pub pause: std::time::Duration,
}

impl Workload {
    /// Runs it until all calls are made or `stop` says so; the stores must be empty before.
    pub async fn record(
        self,
        stores: &[Arc<dyn Store>],
        begin: Instant,
        stop: impl Fn() -> bool + Clone + Send + Sync + 'static,
    ) -> History {
        let tasks: Vec<_> = (0..self.tasks)
            .map(|task| {
                let store = stores[task as usize % stores.len()].clone();
                tokio::spawn(self.run(store, task, begin, stop.clone()))
            })
            .collect();
        let mut history = History::new();
        for task in tasks {
            for (key, call) in task.await.unwrap() {
                history.entry(key).or_default().push(call);
            }
        }
        history
    }

    async fn run(
        self,
        store: Arc<dyn Store>,
        task: u64,
        begin: Instant,
        stop: impl Fn() -> bool,
    ) -> Vec<(String, Call)> {
        let mut random = Random(task + 1);
        let now = || u64::try_from(begin.elapsed().as_nanos()).unwrap();
        let mut calls = Vec::new();
        // What was read last of each key.
        let mut known: BTreeMap<String, (Value, u64)> = BTreeMap::new();
        for round in 0..self.each {
            if stop() {
                break;
            }
            let key = format!("register/{}", random.below(self.keys));
            let kind = random.below(10);
            let invoked = now();
            let (seen, number) = match known.remove(&key) {
                Some((value, at)) if kind >= 2 => {
                    let new = (kind != 9).then_some(task << 32 | round);
                    write(&store, &key, Some((value, at)), new).await
                }
                _ if kind == 0 => write(&store, &key, None, Some(task << 32 | round)).await,
                _ => match store.get(key.as_bytes()).await {
                    Ok(found) => {
                        let at = found.as_ref().map_or(0, |entry| entry.version);
                        let value = found.map(|entry| number_in(&entry.value));
                        known.insert(key.clone(), (value, at));
                        (Some(Seen::Read(value)), 0)
                    }
                    Err(StoreError::Unavailable(_)) => (None, 0),
                    Err(error) => panic!("{error}"),
                },
            };
            let returned = now();
            calls.extend(seen.map(|seen| (key, Call { invoked, returned, seen, number })));
            tokio::time::sleep(self.pause).await;
        }
        calls
    }
}

/// Writes, perhaps on a known value and version alone; says what was seen, and the commit's number.
async fn write(
    store: &Arc<dyn Store>,
    key: &str,
    known: Option<(Value, u64)>,
    new: Value,
) -> (Option<Seen>, u64) {
    let preconditions = known.map(|(_, at)| version(key, at)).into_iter().collect();
    let writes = vec![match new {
        Some(value) => put(key, value.to_be_bytes()),
        None => delete(key),
    }];
    let expected = known.map(|(value, _)| value);
    match (store.commit(preconditions, writes).await, expected) {
        (Ok(revision), expected) => (Some(Seen::Wrote { expected, new }), revision.number),
        (Err(CommitError::Conflict { index: 0 }), Some(expected)) => {
            (Some(Seen::Refused { expected }), 0)
        }
        (Err(CommitError::Store(StoreError::Unavailable(_))), expected) => {
            (Some(Seen::Unknown { expected, new }), 0)
        }
        (Err(error), _) => panic!("{error}"),
    }
}

fn number_in(value: &Bytes) -> u64 {
    u64::from_be_bytes(value.as_ref().try_into().unwrap())
}

struct Random(u64);

impl Random {
    /// Knuth's MMIX generator.
    fn below(&mut self, bound: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// The acknowledged writes are the store's changes, in order of their numbers, and nothing else is but what may have been written.
pub async fn check_against_changes(history: &History, store: &Arc<dyn Store>) {
    let (mut acknowledged, mut possible) = (BTreeMap::new(), HashSet::new());
    for (key, call) in history.iter().flat_map(|(key, calls)| calls.iter().map(move |c| (key, c))) {
        match call.seen {
            Seen::Wrote { new, .. } => {
                acknowledged.insert(call.number, (key.clone(), new));
            }
            Seen::Unknown { new, .. } => {
                possible.insert((key.clone(), new));
            }
            Seen::Read(_) | Seen::Refused { .. } => {}
        }
    }
    for change in super::all_changes(store).await {
        let [write] = change.writes.as_slice() else { panic!("{change:?}") };
        let written = match write {
            Write::Put { key, value } => (text(key), Some(number_in(value))),
            Write::Delete { key } => (text(key), None),
        };
        match acknowledged.remove(&change.number) {
            Some(expected) => assert_eq!(written, expected, "commit {}", change.number),
            None => assert!(possible.contains(&written), "nobody wrote {written:?}"),
        }
    }
    assert!(acknowledged.is_empty(), "acknowledged and lost: {acknowledged:?}");
}

fn text(key: &Bytes) -> String {
    String::from_utf8(key.to_vec()).unwrap()
}

/// 100 tasks in conflict, through all handles given: the history they saw must be linearizable.
pub async fn conflicting_writers_are_linearizable(stores: Vec<Arc<dyn Store>>) {
    let pause = std::time::Duration::ZERO;
    let workload = Workload { tasks: 100, each: 60, keys: 5, pause };
    let history = workload.record(&stores, Instant::now(), || false).await;
    let calls: Vec<&Call> = history.values().flatten().collect();
    let refused = calls.iter().filter(|call| matches!(call.seen, Seen::Refused { .. })).count();
    let wrote = calls.iter().filter(|call| matches!(call.seen, Seen::Wrote { .. })).count();
    println!("{} calls: {wrote} writes acknowledged, {refused} refused", calls.len());
    assert!(refused > 100 && wrote > 100, "{refused} refused, {wrote} acknowledged: no conflict");
    check(&history).unwrap_or_else(|reason| panic!("not linearizable: {reason}"));
    for store in &stores {
        check_against_changes(&history, store).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Calls as (invoked, returned, what was seen).
    fn check_history(calls: &[(u64, u64, Seen)], expected: bool) {
        let calls = calls
            .iter()
            .map(|&(invoked, returned, seen)| Call { invoked, returned, seen, number: 0 })
            .collect();
        let history = History::from([("k".to_owned(), calls)]);
        let outcome = check(&history);
        assert_eq!(outcome.is_ok(), expected, "{history:?}: {outcome:?}");
    }

    fn wrote(new: u64) -> Seen {
        Seen::Wrote { expected: None, new: Some(new) }
    }

    fn swapped(expected: u64, new: u64) -> Seen {
        Seen::Wrote { expected: Some(Some(expected)), new: Some(new) }
    }

    fn unknown(expected: u64, new: u64) -> Seen {
        Seen::Unknown { expected: Some(Some(expected)), new: Some(new) }
    }

    fn read(value: u64) -> Seen {
        Seen::Read(Some(value))
    }

    fn refused(expected: u64) -> Seen {
        Seen::Refused { expected: Some(expected) }
    }

    #[test]
    fn histories_that_hold() {
        check_history(&[], true);
        check_history(&[(0, 1, Seen::Read(None)), (2, 3, wrote(1)), (4, 5, read(1))], true);
        // At the same time, either order will do; and one read may see the old, another the new value.
        check_history(&[(0, 9, wrote(1)), (1, 8, wrote(2)), (10, 11, read(1))], true);
        check_history(&[(0, 9, wrote(1)), (1, 8, wrote(2)), (10, 11, read(2))], true);
        check_history(&[(0, 9, wrote(1)), (1, 2, Seen::Read(None)), (3, 4, read(1))], true);
        check_history(&[(0, 1, wrote(1)), (2, 9, swapped(1, 2)), (3, 8, refused(1))], true);
        // Of unknown end: happened at once, happened late, or never.
        check_history(&[(0, 1, wrote(1)), (2, 3, unknown(1, 2)), (4, 5, read(2))], true);
        check_history(
            &[(0, 1, wrote(1)), (2, 3, unknown(1, 2)), (4, 5, read(1)), (6, 7, read(2))],
            true,
        );
        check_history(&[(0, 1, wrote(1)), (2, 3, unknown(1, 2)), (4, 5, swapped(1, 3))], true);
        let gone = Seen::Wrote { expected: Some(Some(1)), new: None };
        check_history(&[(0, 1, wrote(1)), (2, 3, gone), (4, 5, Seen::Read(None))], true);
        // Only one of many orders: found by going back.
        check_history(
            &[
                (0, 99, wrote(1)),
                (0, 99, wrote(2)),
                (0, 99, wrote(3)),
                (1, 2, read(2)),
                (3, 4, read(3)),
                (5, 6, read(1)),
            ],
            true,
        );
    }

    #[test]
    fn histories_that_do_not() {
        // A stale read, a lost write, a value from nowhere.
        check_history(&[(0, 1, wrote(1)), (2, 3, Seen::Read(None))], false);
        check_history(&[(0, 1, wrote(1)), (2, 3, wrote(2)), (4, 5, read(1))], false);
        check_history(&[(0, 1, wrote(1)), (2, 3, read(7))], false);
        // Time goes back between two reads.
        check_history(&[(0, 9, wrote(1)), (1, 2, read(1)), (3, 4, Seen::Read(None))], false);
        check_history(
            &[(0, 1, wrote(1)), (2, 99, swapped(1, 2)), (3, 4, read(2)), (5, 6, read(1))],
            false,
        );
        // A lost update: both swapped the same value.
        check_history(&[(0, 1, wrote(1)), (2, 9, swapped(1, 2)), (2, 9, swapped(1, 3))], false);
        // Refused, although the value was what it should be all the time.
        check_history(&[(0, 1, wrote(1)), (2, 3, refused(1)), (4, 5, read(1))], false);
        // Refused, and yet it shows.
        check_history(&[(0, 1, wrote(1)), (2, 3, refused(1)), (4, 5, read(2))], false);
        // Of unknown end: it cannot happen before it began, nor twice, nor on another value.
        check_history(&[(0, 1, wrote(1)), (2, 3, read(2)), (4, 5, unknown(1, 2))], false);
        check_history(
            &[
                (0, 1, wrote(1)),
                (2, 3, unknown(1, 2)),
                (4, 5, read(2)),
                (6, 7, wrote(1)),
                (8, 9, read(2)),
            ],
            false,
        );
        check_history(&[(0, 1, wrote(1)), (2, 3, unknown(5, 2)), (4, 5, read(2))], false);
        // Three writes at once, and reads in a circle.
        check_history(
            &[
                (0, 99, wrote(1)),
                (0, 99, wrote(2)),
                (1, 2, read(1)),
                (3, 4, read(2)),
                (5, 6, read(1)),
            ],
            false,
        );
    }

    #[test]
    fn numbers_follow_time() {
        let call =
            |invoked, number| Call { invoked, returned: invoked + 1, seen: wrote(number), number };
        let outcome = |numbers: [u64; 3]| {
            let calls = |first: u64| vec![call(first * 10, numbers[first as usize])];
            check(&(0..3).map(|key| (key.to_string(), calls(key))).collect())
        };
        assert_eq!(outcome([1, 2, 3]), Ok(()));
        assert!(outcome([2, 1, 3]).is_err());
        assert!(outcome([2, 3, 1]).is_err());
        assert!(outcome([1, 1, 3]).is_err());
    }

    /// Any run of a real register is linearizable; with one answer changed to a value that was never there, it is not.
    #[test]
    fn runs_of_a_register_and_lies_about_them() {
        for seed in 1..200 {
            let mut random = Random(seed);
            let (mut value, mut calls) = (None, Vec::new());
            for at in 0..300_u64 {
                let (before, after) = (random.below(40), random.below(40));
                let seen = match random.below(4) {
                    0 => Seen::Read(value),
                    1 => {
                        let seen = Seen::Wrote { expected: None, new: Some(at) };
                        value = Some(at);
                        seen
                    }
                    2 => {
                        let seen = Seen::Wrote { expected: Some(value), new: Some(at) };
                        value = Some(at);
                        seen
                    }
                    _ if value != Some(7) => Seen::Refused { expected: Some(7) },
                    _ => Seen::Read(value),
                };
                // Each took effect at 10 * at + 40, and seemed to take some time around it.
                let effect = at * 10 + 40;
                calls.push((effect - before, effect + after, seen));
            }
            check_history(&calls, true);
            let place = calls.iter().position(|call| matches!(call.2, Seen::Read(_))).unwrap();
            calls[place].2 = Seen::Read(Some(999));
            check_history(&calls, false);
        }
    }
}
