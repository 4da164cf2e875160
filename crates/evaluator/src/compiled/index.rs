//! Which of many statements a request can concern at all.
//!
//! Each statement is found by what it cannot apply without: a value that a condition asks for, a literal fragment of its
//! resource patterns, or its actions, whichever the fewest statements share. What has none of these is always looked at.
//! A hit only makes a candidate: the statement itself is evaluated after, so that a collision costs time and nothing else.

use std::collections::HashMap;

use aho_corasick::Anchored;
use aho_corasick::automaton::Automaton;
use aho_corasick::nfa::contiguous::NFA;
use countersign_policy::condition::{Comparison, Operator};

use super::conditions;
use super::program::{CompiledPolicy, Op, Statement};
use super::request::{MULTIPLIER, Prepared, ResourceText, hash, key_hash};
use super::resources::{Pattern, next_pattern};

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

/// Units by a hash.
#[derive(Debug)]
struct Table {
    mask: usize,
    /// Where each bucket begins, and the end of the last.
    starts: Box<[u32]>,
    entries: Box<[(u32, u32)]>,
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

const MAX_CANDIDATES: usize = 256;
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
            builder.add(u32::try_from(unit).unwrap_or(u32::MAX), policy, statement, &frequencies);
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
        self.actions.find(request.action_hash, &mut found)?;
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
            let key = key_hash(key);
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

fn value_hash(key: u16, value: &str) -> u64 {
    hash(value.as_bytes()) ^ u64::from(key).wrapping_mul(MULTIPLIER)
}

impl Table {
    fn new(found: &[(u64, u32)]) -> Self {
        let buckets = found.len().next_power_of_two();
        let mask = buckets - 1;
        let mut entries: Vec<(usize, u32, u32)> =
            found.iter().map(|(hash, unit)| (place(*hash, mask), tag(*hash), *unit)).collect();
        entries.sort_unstable();
        let mut starts = Vec::with_capacity(buckets + 1);
        let mut at = 0;
        for bucket in 0..=buckets {
            at += entries.iter().skip(at).take_while(|(own, _, _)| *own < bucket).count();
            starts.push(u32::try_from(at).unwrap_or(u32::MAX));
        }
        Self {
            mask,
            starts: starts.into_boxed_slice(),
            entries: entries.into_iter().map(|(_, tag, unit)| (tag, unit)).collect(),
        }
    }

    fn find(
        &self,
        hash: u64,
        found: &mut impl FnMut(u32) -> Result<(), Overflow>,
    ) -> Result<(), Overflow> {
        if self.entries.is_empty() {
            return Ok(());
        }
        let bucket = place(hash, self.mask);
        let (Some(from), Some(to)) = (self.starts.get(bucket), self.starts.get(bucket + 1)) else {
            return Ok(());
        };
        let own = self.entries.get(*from as usize..*to as usize).unwrap_or_default();
        for (_, unit) in own.iter().filter(|(other, _)| *other == tag(hash)) {
            found(*unit)?;
        }
        Ok(())
    }
}

fn place(hash: u64, mask: usize) -> usize {
    (hash & 0xFFFF_FFFF) as usize & mask
}

fn tag(hash: u64) -> u32 {
    u32::try_from(hash >> 32).unwrap_or_default()
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
    let is_closed = !statement.not_action && !statement.any_action && patterns.is_empty();
    is_closed.then(|| literal.iter().filter_map(|op| literal_text(policy, op)).collect())
}

fn literal_text<'a>(policy: &'a CompiledPolicy, op: &Op) -> Option<&'a str> {
    match op {
        Op::Literal(span) => Some(policy.text(*span)),
        _ => None,
    }
}

/// The values of the first condition that asks for one of some literal texts, with the hash of its key: `StringEquals` alone,
/// which is false for every other text, and for a key that is missing.
fn values<'a>(policy: &'a CompiledPolicy, statement: &Statement) -> Option<Vec<(u16, &'a str)>> {
    let equals = Operator { set: None, comparison: Comparison::StringEquals, if_exists: false };
    let mut rest = policy.conditions(statement);
    while let Some((condition, after)) = conditions::next(rest) {
        if condition.operator == equals {
            let texts: Option<Vec<&str>> =
                condition.values.iter().map(|op| literal_text(policy, op)).collect();
            if let Some(texts) = texts {
                return Some(texts.into_iter().map(|text| (condition.hash, text)).collect());
            }
        }
        rest = after;
    }
    None
}

/// For each resource pattern the fragments that every resource has which it matches, or may match.
fn literals<'a>(policy: &'a CompiledPolicy, statement: &Statement) -> Option<Vec<Vec<&'a str>>> {
    if !statement.has_resources || statement.not_resource {
        return None;
    }
    let mut patterns = Vec::new();
    let mut rest = policy.resources(statement);
    while let Some((pattern, after)) = next_pattern(rest) {
        let pieces = match pattern {
            Pattern::Prefixed { resource, .. } => resource,
            Pattern::Parts { count: 6, parts } => last_part(parts)?,
            Pattern::Parts { .. } | Pattern::Any | Pattern::Unclear => return None,
        };
        // A variable with a default may be unclear, whatever the resource is.
        if pieces.iter().any(|op| matches!(op, Op::Variable { default: 1.., .. })) {
            return None;
        }
        let fragments: Vec<&str> = pieces
            .iter()
            .filter_map(|op| literal_text(policy, op))
            .filter(|text| text.len() >= SHORTEST_FRAGMENT)
            .collect();
        if fragments.is_empty() {
            return None;
        }
        patterns.push(fragments);
        rest = after;
    }
    Some(patterns)
}

/// In bytes.
const SHORTEST_FRAGMENT: usize = 2;

fn last_part(mut parts: &[Op]) -> Option<&[Op]> {
    let mut last = None;
    while let Some((pieces, _, after)) = super::program::glob(parts) {
        last = Some(pieces);
        parts = after;
    }
    last
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
        let values = values(policy, statement);
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
            values: Table::new(&self.values),
            by_key: self.by_key.into_boxed_slice(),
            keys: keys.into_boxed_slice(),
            actions: Table::new(&self.actions),
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
            starts.push(u32::try_from(units.len()).unwrap_or(u32::MAX));
        }
        Self { automaton, starts: starts.into_boxed_slice(), units: units.into_boxed_slice() }
    }
}
