//! Which of many statements a request can concern at all.
//!
//! Each statement is found by what it cannot apply without: a value that a condition asks for, a literal fragment of its
//! resource patterns, or its actions, whichever the fewest statements share. What has none of these is always looked at.
//! A hit only makes a candidate: the statement itself is evaluated after, so that a collision costs time and nothing else.

use std::collections::HashMap;

use aho_corasick::Anchored;
use aho_corasick::automaton::Automaton;
use aho_corasick::nfa::contiguous::NFA;

use super::program::{CompiledPolicy, Statement};
use super::request::{Prepared, ResourceText};
use super::signature::{literal_text, literals, values};
use super::words::{hash, key_hash, value_hash};

/// Fewer statements are read one by one.
pub(crate) const MANY_STATEMENTS: usize = 64;

/// Statements are told by their place among the units that the index was made of.
#[derive(Debug)]
pub(crate) struct Index {
    values: Table,
    /// Statements in `values` by the hash of their key, for keys that hold a set.
    by_key: Box<[(u16, u32)]>,
    /// The hashes in `by_key`, once each.
    keys: Box<[u16]>,
    actions: Table,
    literals: Option<Box<Literals>>,
    /// In order.
    always: Box<[u32]>,
}

/// Units by a hash: one slot for each hash, found by looking at one place and seldom at the next.
#[derive(Debug)]
struct Table {
    /// A power of two, and at least half of them empty; none if the table is.
    slots: Box<[Slot]>,
    /// Where a hash has several units: one group after the other.
    groups: Box<[u32]>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    tag: u32,
    /// 0 for an empty slot.
    count: u32,
    /// The unit if there is one, else where its group begins.
    unit: u32,
}

#[derive(Debug)]
struct Literals {
    automaton: NFA,
    /// Where each literal's units begin, and the end of the last.
    starts: Box<[u32]>,
    units: Box<[u32]>,
}

/// Candidates, on the stack.
#[derive(Debug)]
pub(crate) struct Candidates {
    units: [u32; MAX_CANDIDATES],
    len: usize,
}

const MAX_CANDIDATES: usize = 64;
/// A text with more hits than this is not worth the index.
const MAX_HITS: usize = 4_096;

/// More candidates than there is place for: every unit must be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Overflow;

impl Candidates {
    pub(crate) fn new() -> Self {
        Self { units: [0; MAX_CANDIDATES], len: 0 }
    }

    fn push(&mut self, unit: u32) -> Result<(), Overflow> {
        let slot = self.units.get_mut(self.len).ok_or(Overflow)?;
        *slot = unit;
        self.len += 1;
        Ok(())
    }

    /// In order; one may stand in it twice.
    fn sorted(&mut self) -> &[u32] {
        let found = self.units.get_mut(..self.len).unwrap_or_default();
        found.sort_unstable();
        found
    }
}

impl Index {
    pub(crate) fn new<'a>(
        units: impl Iterator<Item = (&'a CompiledPolicy, &'a Statement)> + Clone,
    ) -> Self {
        let mut frequencies = Frequencies::default();
        for (policy, statement) in units.clone() {
            frequencies.count(policy, statement);
        }
        let mut builder = Builder::default();
        for (unit, (policy, statement)) in units.enumerate() {
            builder.add(to_u32(unit), policy, statement, &frequencies);
        }
        builder.build()
    }

    /// Calls `visit` once for every unit that the request may concern, in order. `Overflow` if that are too many to tell: then
    /// nothing was visited.
    pub(crate) fn visit(
        &self,
        request: &Prepared<'_>,
        may_concern: impl Fn(u32) -> bool,
        mut visit: impl FnMut(u32),
    ) -> Result<(), Overflow> {
        let mut candidates = Candidates::new();
        let mut found = |unit| if may_concern(unit) { candidates.push(unit) } else { Ok(()) };
        self.find_by_values(request, &mut found)?;
        if !self.actions.slots.is_empty() {
            self.actions.find(hash(request.action), &mut found)?;
        }
        if let (Some(literals), ResourceText::Arn { parts: [.., resource], .. }) =
            (&self.literals, &request.resource)
        {
            literals.find(resource, &mut found)?;
        }
        let (mut found, mut always) = (candidates.sorted(), &*self.always);
        let mut last = None;
        loop {
            let next = match (found.split_first(), always.split_first()) {
                (Some((a, rest)), Some((b, _))) if a < b => {
                    found = rest;
                    *a
                }
                (_, Some((b, rest))) => {
                    always = rest;
                    *b
                }
                (Some((a, rest)), None) => {
                    found = rest;
                    *a
                }
                (None, None) => return Ok(()),
            };
            if last != Some(next) {
                visit(next);
            }
            last = Some(next);
        }
    }

    fn find_by_values(
        &self,
        request: &Prepared<'_>,
        found: &mut impl FnMut(u32) -> Result<(), Overflow>,
    ) -> Result<(), Overflow> {
        if self.keys.is_empty() {
            return Ok(());
        }
        for (key, value) in request.context {
            let key = key_hash(key.as_bytes());
            if !self.keys.contains(&key) {
                continue;
            }
            if let Some(value) = value.only() {
                self.values.find(value_hash(key, value), found)?;
                continue;
            }
            // A plain operator on a set cannot be evaluated, whatever it asks for (K1).
            let first = self.by_key.partition_point(|(other, _)| *other < key);
            let own = self.by_key.iter().skip(first).take_while(|(other, _)| *other == key);
            for (_, unit) in own {
                found(*unit)?;
            }
        }
        Ok(())
    }
}

impl Table {
    fn new(mut found: Vec<(u64, u32)>) -> Self {
        found.sort_unstable();
        found.dedup();
        let groups: Vec<&[(u64, u32)]> = found.chunk_by(|(a, _), (b, _)| a == b).collect();
        if groups.is_empty() {
            return Self { slots: Box::default(), groups: Box::default() };
        }
        let mut slots = vec![Slot::default(); (groups.len() * 2).next_power_of_two()];
        let mut several = Vec::new();
        for group in groups {
            let Some((hash, first)) = group.first() else { continue };
            let mut slot = Slot { tag: tag(*hash), count: to_u32(group.len()), unit: *first };
            if group.len() > 1 {
                slot.unit = to_u32(several.len());
                several.extend(group.iter().map(|(_, unit)| *unit));
            }
            let mut place = place(*hash, slots.len());
            while slots.get(place).is_some_and(|taken| taken.count != 0) {
                place = (place + 1) % slots.len();
            }
            if let Some(free) = slots.get_mut(place) {
                *free = slot;
            }
        }
        Self { slots: slots.into_boxed_slice(), groups: several.into_boxed_slice() }
    }

    fn find(
        &self,
        hash: u64,
        found: &mut impl FnMut(u32) -> Result<(), Overflow>,
    ) -> Result<(), Overflow> {
        let mut place = place(hash, self.slots.len());
        // Two hashes may have the same tag: all slots up to the next empty one count.
        while let Some(slot) = self.slots.get(place)
            && slot.count != 0
        {
            if slot.tag == tag(hash) && slot.count == 1 {
                found(slot.unit)?;
            } else if slot.tag == tag(hash) {
                let from = slot.unit as usize;
                let group = self.groups.get(from..from + slot.count as usize).ok_or(Overflow)?;
                group.iter().try_for_each(|unit| found(*unit))?;
            }
            place = (place + 1) % self.slots.len();
        }
        Ok(())
    }
}

/// `slots` is a power of two, or zero.
fn place(hash: u64, slots: usize) -> usize {
    (hash & 0xFFFF_FFFF) as usize & slots.saturating_sub(1)
}

fn tag(hash: u64) -> u32 {
    to_u32((hash >> 32) as usize)
}

fn to_u32(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

impl Literals {
    fn find(
        &self,
        text: &str,
        found: &mut impl FnMut(u32) -> Result<(), Overflow>,
    ) -> Result<(), Overflow> {
        // An automaton that cannot start finds nothing, so that every unit must be looked at.
        let mut state = self.automaton.start_state(Anchored::No).map_err(|_| Overflow)?;
        let mut hits = 0;
        for byte in text.bytes() {
            state = self.automaton.next_state(Anchored::No, state, byte);
            if !self.automaton.is_match(state) {
                continue;
            }
            for place in 0..self.automaton.match_len(state) {
                hits += 1;
                if hits > MAX_HITS {
                    return Err(Overflow);
                }
                let literal = self.automaton.match_pattern(state, place).as_usize();
                let from = self.starts.get(literal).copied().ok_or(Overflow)?;
                let to = self.starts.get(literal + 1).copied().ok_or(Overflow)?;
                for unit in self.units.get(from as usize..to as usize).ok_or(Overflow)? {
                    found(*unit)?;
                }
            }
        }
        Ok(())
    }
}

/// How many statements share a feature. By hash: it is a guess that chooses, nothing more.
#[derive(Default)]
struct Frequencies {
    counts: HashMap<u64, u32>,
}

impl Frequencies {
    fn count(&mut self, policy: &CompiledPolicy, statement: &Statement) {
        let values = values(policy, statement).into_iter().flatten();
        let hashes: Vec<u64> = actions(policy, statement)
            .into_iter()
            .flatten()
            .map(action_feature)
            .chain(values.map(|(key, value)| value_hash(key, value)))
            .chain(literals(policy, statement).into_iter().flatten().flatten().map(literal_feature))
            .collect();
        for hash in hashes {
            *self.counts.entry(hash).or_default() += 1;
        }
    }

    fn of(&self, feature: u64) -> u64 {
        self.counts.get(&feature).copied().unwrap_or_default().into()
    }

    /// Of each pattern the fragment that is rarest, then longest.
    fn rarest<'a>(&self, patterns: Vec<Vec<&'a str>>) -> Option<Vec<&'a str>> {
        patterns
            .into_iter()
            .map(|fragments| {
                fragments.into_iter().min_by_key(|fragment| {
                    (self.of(literal_feature(fragment)), usize::MAX - fragment.len())
                })
            })
            .collect()
    }

    fn cost(&self, features: impl Iterator<Item = u64>) -> u64 {
        features.map(|feature| self.of(feature)).sum::<u64>().max(FEW)
    }
}

/// Statements that share a feature with no more than these are told apart well enough.
const FEW: u64 = 4;

fn action_feature(action: &str) -> u64 {
    hash(action.as_bytes()) ^ 1
}

fn literal_feature(fragment: &str) -> u64 {
    hash(fragment.as_bytes()) ^ 2
}

/// The actions, if all are literal.
fn actions<'a>(policy: &'a CompiledPolicy, statement: &Statement) -> Option<Vec<&'a str>> {
    let (literal, patterns) = policy.actions(statement);
    let is_closed = !statement.not_action() && !statement.any_action() && patterns.is_empty();
    is_closed.then(|| literal.iter().filter_map(|op| literal_text(policy, op)).collect())
}

#[derive(Default)]
struct Builder {
    values: Vec<(u64, u32)>,
    by_key: Vec<(u16, u32)>,
    actions: Vec<(u64, u32)>,
    literals: HashMap<String, Vec<u32>>,
    always: Vec<u32>,
}

impl Builder {
    fn add(
        &mut self,
        unit: u32,
        policy: &CompiledPolicy,
        statement: &Statement,
        frequencies: &Frequencies,
    ) {
        let values = values(policy, statement).into_iter().min_by_key(|values| {
            frequencies.cost(values.iter().map(|(key, value)| value_hash(*key, value)))
        });
        let literals =
            literals(policy, statement).and_then(|patterns| frequencies.rarest(patterns));
        let actions = actions(policy, statement);
        let cost_of_values = values.as_ref().map_or(u64::MAX, |values| {
            frequencies.cost(values.iter().map(|(key, value)| value_hash(*key, value)))
        });
        let cost_of_literals = literals.as_ref().map_or(u64::MAX, |literals| {
            frequencies.cost(literals.iter().map(|fragment| literal_feature(fragment)))
        });
        let cost_of_actions = actions.as_ref().map_or(u64::MAX, |actions| {
            frequencies.cost(actions.iter().map(|action| action_feature(action)))
        });
        let least = cost_of_values.min(cost_of_literals).min(cost_of_actions);
        match (values, literals, actions) {
            (Some(values), _, _) if cost_of_values == least => {
                for (key, value) in values {
                    self.values.push((value_hash(key, value), unit));
                    self.by_key.push((key, unit));
                }
            }
            (_, Some(literals), _) if cost_of_literals == least => {
                for fragment in literals {
                    self.literals.entry(fragment.to_owned()).or_default().push(unit);
                }
            }
            (_, _, Some(actions)) => {
                self.actions.extend(actions.iter().map(|action| (hash(action.as_bytes()), unit)));
            }
            (_, _, None) => self.always.push(unit),
        }
    }

    fn build(mut self) -> Index {
        self.by_key.sort_unstable();
        self.by_key.dedup();
        let mut keys: Vec<u16> = self.by_key.iter().map(|(key, _)| *key).collect();
        keys.dedup();
        let mut literals: Vec<(String, Vec<u32>)> = self.literals.into_iter().collect();
        literals.sort_unstable();
        let texts = literals.iter().map(|(text, _)| text.as_bytes());
        // What the automaton cannot hold is always looked at.
        let automaton = (!literals.is_empty()).then(|| NFA::new(texts));
        let literals = match automaton {
            Some(Ok(automaton)) => Some(Box::new(Literals::new(automaton, &literals))),
            Some(Err(_)) => {
                self.always.extend(literals.iter().flat_map(|(_, units)| units));
                None
            }
            None => None,
        };
        self.always.sort_unstable();
        self.always.dedup();
        Index {
            values: Table::new(self.values),
            by_key: self.by_key.into_boxed_slice(),
            keys: keys.into_boxed_slice(),
            actions: Table::new(self.actions),
            literals,
            always: self.always.into_boxed_slice(),
        }
    }
}

impl Literals {
    fn new(automaton: NFA, literals: &[(String, Vec<u32>)]) -> Self {
        let mut starts = vec![0];
        let mut units: Vec<u32> = Vec::new();
        for (_, own) in literals {
            units.extend(own);
            starts.push(to_u32(units.len()));
        }
        Self { automaton, starts: starts.into_boxed_slice(), units: units.into_boxed_slice() }
    }
}
