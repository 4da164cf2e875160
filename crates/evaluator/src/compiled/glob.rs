//! Whether a text matches a pattern, without building either. Both are UTF-8, compared as bytes.
//!
//! After each `*` the leftmost occurrence of the next piece is the right one, so nothing is tried twice: the same rule as
//! [`countersign_policy::pattern::Glob`]'s, on bytes and in place.

use memchr::memmem;

use super::program::{CompiledPolicy, Op};
use super::request::Prepared;
use super::words::key_hash;

/// Part of a pattern. `skip` and `end` cut its first and its last piece, in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View<'a> {
    pub policy: &'a CompiledPolicy,
    pub request: &'a Prepared<'a>,
    pub pieces: &'a [Op],
    pub skip: usize,
    pub end: Option<usize>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Item<'a> {
    /// As the document wrote it.
    Written(&'a [u8]),
    /// A variable's value.
    Brought(&'a [u8]),
    One,
    Many,
}

/// What a pattern's variables come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Filled {
    Ready,
    /// A variable has no value, and no default (RULES.md 21).
    NoValue,
    Unclear,
}

/// Looks at variables in order; the first that has no value settles it.
pub(crate) fn fill(policy: &CompiledPolicy, request: &Prepared<'_>, pieces: &[Op]) -> Filled {
    for op in pieces {
        let Op::Variable { default, key } = op else { continue };
        let key = policy.bytes(*key);
        let has_default = *default != 0;
        match request.find(key, key_hash(key)) {
            Some((_, value)) if !value.is_set() => {}
            None if has_default => {}
            Some(_) | None if !has_default => return Filled::NoValue,
            Some(_) | None => return Filled::Unclear,
        }
    }
    Filled::Ready
}

impl<'a> View<'a> {
    pub(crate) fn new(
        policy: &'a CompiledPolicy,
        request: &'a Prepared<'a>,
        pieces: &'a [Op],
    ) -> Self {
        Self { policy, request, pieces, skip: 0, end: None }
    }

    pub(crate) fn item(&self, place: usize) -> Item<'a> {
        let cut = |text: &'a [u8]| {
            let end = match self.end {
                Some(end) if place + 1 == self.pieces.len() => end,
                Some(_) | None => text.len(),
            };
            let start = if place == 0 { self.skip } else { 0 };
            text.get(start..end).unwrap_or_default()
        };
        match self.pieces.get(place) {
            Some(Op::Literal(span)) => Item::Written(cut(self.policy.bytes(*span))),
            Some(Op::Variable { default, key }) => Item::Brought(cut(self.value(*default, *key))),
            Some(Op::One) => Item::One,
            Some(Op::Many) | None => Item::Many,
            // INVARIANT: a pattern's pieces are the four above; compile makes no others.
            Some(
                Op::Glob { .. }
                | Op::AnyResource
                | Op::Unclear
                | Op::ArnPrefix(_)
                | Op::ArnParts(_)
                | Op::Condition { .. }
                | Op::Key { .. }
                | Op::Number(_)
                | Op::Date(_)
                | Op::Bool(_)
                | Op::NetworkV4 { .. }
                | Op::Network(_),
            ) => Item::One,
        }
    }

    fn value(&self, default: u16, key: super::program::Span) -> &'a [u8] {
        let key = self.policy.bytes(key);
        match self.request.find(key, key_hash(key)) {
            Some((_, super::request::Value::One(value))) => value.as_bytes(),
            Some(_) | None => self.policy.default_of(default).unwrap_or_default(),
        }
    }

    pub(crate) fn items(&self) -> impl Iterator<Item = Item<'a>> + Clone {
        let view = *self;
        (0..self.pieces.len()).map(move |place| view.item(place))
    }

    /// Whether it is `*`, and nothing else: empty values do not count.
    pub(crate) fn is_lone_many(&self) -> bool {
        let mut stars = 0;
        for item in self.items() {
            match item {
                Item::Many => stars += 1,
                Item::One => return false,
                Item::Written(text) | Item::Brought(text) if !text.is_empty() => return false,
                Item::Written(_) | Item::Brought(_) => {}
            }
        }
        stars == 1
    }

    /// Whether the whole text matches.
    pub(crate) fn matches(&self, text: &str) -> bool {
        self.matches_bytes(text.as_bytes())
    }

    /// Of a text in UTF-8.
    pub(crate) fn matches_bytes(&self, text: &[u8]) -> bool {
        self.matches_whole(text).is_some()
    }

    fn matches_whole(&self, text: &[u8]) -> Option<()> {
        let (mut first, mut last, mut rest) = (0, self.pieces.len(), text);
        while first < last {
            rest = match self.item(first) {
                Item::Many => break,
                Item::One => after_one(rest)?,
                Item::Written(piece) | Item::Brought(piece) => rest.strip_prefix(piece)?,
            };
            first += 1;
        }
        if first == last {
            return rest.is_empty().then_some(()); // no `*` at all
        }
        while last > first {
            rest = match self.item(last - 1) {
                Item::Many => break,
                Item::One => before_one(rest)?,
                Item::Written(piece) | Item::Brought(piece) => rest.strip_suffix(piece)?,
            };
            last -= 1;
        }
        // What stands between the first `*` and the last.
        let mut from = first + 1;
        while from < last {
            let mut to = from;
            while to < last && !matches!(self.item(to), Item::Many) {
                to += 1;
            }
            rest = self.find(from, to, rest)?;
            from = to + 1;
        }
        Some(())
    }

    /// What follows the leftmost occurrence of these pieces, among which is no `*`.
    fn find<'t>(&self, from: usize, to: usize, text: &'t [u8]) -> Option<&'t [u8]> {
        if from == to {
            return Some(text);
        }
        if from + 1 == to {
            return match self.item(from) {
                Item::Written(piece) | Item::Brought(piece) => {
                    let at = memmem::find(text, piece)?;
                    text.get(at + piece.len()..)
                }
                Item::One => after_one(text),
                Item::Many => Some(text),
            };
        }
        let least = self.least_len(from, to);
        let starts = text.len().checked_sub(least)? + 1;
        if starts.saturating_mul(least) > FEW_STEPS {
            if text.is_ascii() {
                return self.find_by_lanes(from, to, least, text);
            }
            if let Some(wide) = str::from_utf8(text).ok().filter(|_| text.len() <= LONGEST_WIDE) {
                return self.find_by_wide_lanes(from, to, wide);
            }
        }
        (0..starts)
            .filter(|at| text.get(*at).is_none_or(|byte| !continues(*byte)))
            .find_map(|at| self.consume(from, to, text.get(at..)?))
    }

    fn consume<'t>(&self, from: usize, to: usize, text: &'t [u8]) -> Option<&'t [u8]> {
        (from..to).try_fold(text, |rest, place| match self.item(place) {
            Item::Written(piece) | Item::Brought(piece) => rest.strip_prefix(piece),
            Item::One => after_one(rest),
            Item::Many => None,
        })
    }

    /// In bytes.
    fn least_len(&self, from: usize, to: usize) -> usize {
        (from..to)
            .map(|place| match self.item(place) {
                Item::Written(piece) | Item::Brought(piece) => piece.len(),
                Item::One => 1,
                Item::Many => 0,
            })
            .sum()
    }

    /// Many starts at a time, a byte of the pieces after the other: no repetition in text or pattern makes it slow. The text is
    /// ASCII.
    #[inline(never)]
    fn find_by_lanes<'t>(
        &self,
        from: usize,
        to: usize,
        len: usize,
        text: &'t [u8],
    ) -> Option<&'t [u8]> {
        let starts = text.len().checked_sub(len)? + 1;
        for base in (0..starts).step_by(LANES) {
            let mut alive = [1_u8; LANES];
            let lanes = alive.get_mut(..LANES.min(starts - base))?;
            self.lanes_that_match(from, to, text.get(base..)?, bytes, lanes);
            if let Some(lane) = lanes.iter().position(|lane| *lane == 1) {
                return text.get(base + lane + len..);
            }
        }
        None
    }

    /// The same, a character after the other. Its large frame is paid for here alone.
    #[inline(never)]
    fn find_by_wide_lanes<'t>(&self, from: usize, to: usize, text: &'t str) -> Option<&'t [u8]> {
        let mut wide = ['\0'; LONGEST_WIDE];
        let mut count = 0;
        for (slot, c) in wide.iter_mut().zip(text.chars()) {
            *slot = c;
            count += 1;
        }
        let wide = wide.get(..count)?;
        let len: usize = (from..to)
            .map(|place| match self.item(place) {
                Item::Written(piece) | Item::Brought(piece) => chars(piece).count(),
                Item::One => 1,
                Item::Many => 0,
            })
            .sum();
        let starts = count.checked_sub(len)? + 1;
        for base in (0..starts).step_by(LANES) {
            let mut alive = [1_u8; LANES];
            let lanes = alive.get_mut(..LANES.min(starts - base))?;
            self.lanes_that_match(from, to, wide.get(base..)?, chars, lanes);
            if let Some(lane) = lanes.iter().position(|lane| *lane == 1) {
                let (after, _) =
                    text.char_indices().nth(base + lane + len).unwrap_or((text.len(), ' '));
                return text.as_bytes().get(after..);
            }
        }
        None
    }

    /// Clears the lanes at whose place in the text the pieces do not stand.
    fn lanes_that_match<'p, T: Copy + PartialEq, I: Iterator<Item = T>>(
        &'p self,
        from: usize,
        to: usize,
        text: &[T],
        units: impl Fn(&'p [u8]) -> I,
        alive: &mut [u8],
    ) {
        let mut offset = 0;
        for place in from..to {
            let piece = match self.item(place) {
                Item::Written(piece) | Item::Brought(piece) => piece,
                Item::One => {
                    offset += 1;
                    continue;
                }
                Item::Many => &[],
            };
            for unit in units(piece) {
                let window = text.get(offset..).unwrap_or_default();
                for (lane, found) in alive.iter_mut().zip(window) {
                    *lane &= u8::from(*found == unit);
                }
                offset += 1;
                if offset % 16 == 0 && alive.iter().all(|lane| *lane == 0) {
                    return;
                }
            }
        }
    }
}

/// Up to so many comparisons are not worth preparing for.
const FEW_STEPS: usize = 4_096;
const LANES: usize = 512;
/// Bytes of a text outside ASCII that is spread out on the stack.
const LONGEST_WIDE: usize = 16 * 1024;

fn bytes(text: &[u8]) -> impl Iterator<Item = u8> {
    text.iter().copied()
}

/// Of UTF-8: pieces are whole texts, cut at colons alone.
pub(crate) fn chars(text: &[u8]) -> impl Iterator<Item = char> {
    str::from_utf8(text).unwrap_or_default().chars()
}

/// Whether a byte of UTF-8 is not the first of its character.
fn continues(byte: u8) -> bool {
    byte & 0b1100_0000 == 0b1000_0000
}

/// After one character.
fn after_one(text: &[u8]) -> Option<&[u8]> {
    let (_, rest) = text.split_first()?;
    rest.get(rest.iter().take_while(|byte| continues(**byte)).count()..)
}

fn before_one(text: &[u8]) -> Option<&[u8]> {
    let more = text.iter().rev().take_while(|byte| continues(**byte)).count();
    text.get(..text.len().checked_sub(more + 1)?)
}
