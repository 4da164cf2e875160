//! A bounded memory of things by their whole texts, made to be asked quickly: what it forgets, and when, means nothing.
//!
//! Sets of eight: a text is looked for in one set alone, and a new one takes the place of the one that came first there.

use std::{
    hash::{BuildHasher, RandomState},
    hint::black_box,
};

const SETS: usize = 2048;
const OF_A_SET: usize = 8;
/// Of a longer text the end alone is hashed: of a token that is its signature.
const HASHED: usize = 64;

/// Things by their texts.
pub struct Remembered<T> {
    hasher: RandomState,
    /// Allocated when the first thing comes.
    sets: Vec<Set<T>>,
}

/// A thing, and its text.
type Slot<T> = Option<Box<(Box<str>, T)>>;

/// Its hashes in one line of the processor's memory, what they stand for in the next.
#[repr(align(64))]
struct Set<T> {
    hashes: [u64; OF_A_SET],
    things: [Slot<T>; OF_A_SET],
    next: usize,
}

/// A text that is looked for: its hash, worked out once.
#[derive(Clone, Copy, Debug)]
pub struct Sought<'a> {
    pub text: &'a str,
    hash: u64,
}

/// Where a thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place(usize, usize);

impl<T> Default for Remembered<T> {
    fn default() -> Self {
        Self { hasher: RandomState::new(), sets: Vec::new() }
    }
}

impl<T> Remembered<T> {
    /// Begins to look for a text: asks memory for its set, and does not wait for it.
    pub fn seek<'a>(&self, text: &'a str) -> Sought<'a> {
        let bytes = text.as_bytes();
        let end = bytes.len().checked_sub(HASHED).and_then(|from| bytes.get(from..));
        let hash = self.hasher.hash_one(end.unwrap_or(bytes));
        black_box(self.sets.get(set_of(hash)).and_then(|set| set.hashes.first().copied()));
        Sought { text, hash }
    }

    /// What it will most likely be, told by the hash alone: to be asked of memory, and not to be used.
    pub fn likely(&self, sought: Sought<'_>) -> Option<(&str, &T)> {
        let set = self.sets.get(set_of(sought.hash))?;
        let place = set.hashes.iter().position(|own| *own == sought.hash)?;
        set.things.get(place)?.as_ref().map(|thing| (&*thing.0, &thing.1))
    }

    /// Where the thing of exactly this text is.
    pub fn find(&self, sought: Sought<'_>) -> Option<Place> {
        let Sought { text, hash } = sought;
        let number = set_of(hash);
        let set = self.sets.get(number)?;
        let places = set.hashes.iter().zip(&set.things).enumerate();
        let is_it = |(place, (own, thing)): (usize, (&u64, &Slot<T>))| {
            let is_it = *own == hash && thing.as_ref().is_some_and(|thing| *thing.0 == *text);
            is_it.then_some(Place(number, place))
        };
        places.into_iter().find_map(is_it)
    }

    /// What is there.
    pub fn get(&self, Place(number, place): Place) -> Option<&T> {
        self.sets.get(number)?.things.get(place)?.as_ref().map(|thing| &thing.1)
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, Place(number, place): Place) -> Option<&mut T> {
        self.sets.get_mut(number)?.things.get_mut(place)?.as_mut().map(|thing| &mut thing.1)
    }

    /// Forgets what is there.
    pub fn forget(&mut self, Place(number, place): Place) {
        let thing = self.sets.get_mut(number).and_then(|set| set.things.get_mut(place));
        if let Some(thing) = thing {
            *thing = None;
        }
    }

    /// Remembers it, in place of something else if it must be.
    pub fn put(&mut self, sought: Sought<'_>, thing: T) -> Option<Place> {
        if self.sets.is_empty() {
            self.sets.resize_with(SETS, || Set {
                hashes: [0; OF_A_SET],
                things: [const { None }; OF_A_SET],
                next: 0,
            });
        }
        let Sought { text, hash } = sought;
        let number = set_of(hash);
        let set = self.sets.get_mut(number)?;
        let place = set.next;
        set.next = (place + 1) % OF_A_SET;
        *set.hashes.get_mut(place)? = hash;
        *set.things.get_mut(place)? = Some(Box::new((text.into(), thing)));
        Some(Place(number, place))
    }
}

/// The set that a hash belongs to.
fn set_of(hash: u64) -> usize {
    usize::try_from(hash >> 40).unwrap_or_default() % SETS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_very_text_is_found() {
        let mut remembered = Remembered::default();
        assert_eq!(remembered.find(remembered.seek("a")), None);
        let long = "x".repeat(100);
        remembered.put(remembered.seek("a"), 1);
        remembered.put(remembered.seek(&long), 2);
        let found = |remembered: &Remembered<i32>, text: &str| {
            remembered.find(remembered.seek(text)).and_then(|place| remembered.get(place).copied())
        };
        assert_eq!((found(&remembered, "a"), found(&remembered, &long)), (Some(1), Some(2)));
        assert_eq!((found(&remembered, "A"), found(&remembered, "")), (None, None));
        // The same end, and so the same hash.
        assert_eq!(found(&remembered, &format!("y{}", "x".repeat(99))), None);
        let place = remembered.find(remembered.seek("a")).unwrap();
        remembered.forget(place);
        assert_eq!(found(&remembered, "a"), None);
    }

    #[test]
    fn it_is_bounded_and_forgets_the_first_of_a_set() {
        let mut remembered = Remembered::default();
        for number in 0..100_000 {
            remembered.put(remembered.seek(&number.to_string()), number);
            let place = remembered.find(remembered.seek(&number.to_string())).unwrap();
            assert_eq!(remembered.get(place), Some(&number));
        }
        let held = (0..100_000)
            .filter(|number: &i32| remembered.find(remembered.seek(&number.to_string())).is_some());
        assert_eq!(held.count(), SETS * OF_A_SET);
    }
}
