//! Stored resource policies: of one ARN, or of all that match a pattern. At most one of an account's patterns matches a resource, which
//! the store sees to with [`Pattern::overlaps`]; so there is no question of which one counts.
//!
//! Found by literal beginnings: of those that are in order before a resource's ARN, only its own beginnings can be of patterns that match.

use std::ops::Bound;
use std::sync::Arc;

use countersign_policy::arn::AccountId;
use countersign_policy::pattern::{Glob, Token};

use super::Snapshot;
use crate::compiled::Program;
use crate::policies::Attached;

/// An ARN whose last part may hold `*` and `?`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    text: Arc<str>,
    /// Up to the fifth colon, itself included.
    head: usize,
    /// Of what follows.
    glob: Glob,
}

impl Pattern {
    /// `None` for what has not six parts, or a wildcard before the sixth.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let (head, _) = text.match_indices(':').nth(4)?;
        let (before, after) = text.split_at_checked(head + 1)?;
        if before.contains(['*', '?']) || after.is_empty() {
            return None;
        }
        Some(Self { text: text.into(), head: head + 1, glob: Glob::new(after) })
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    #[must_use]
    pub fn matches(&self, arn: &str) -> bool {
        let (head, rest) = match (self.text.get(..self.head), arn.split_at_checked(self.head)) {
            (Some(head), Some((start, rest))) if head == start => (head, rest),
            _ => return false,
        };
        !head.is_empty() && self.glob.matches(rest)
    }

    /// What every ARN that it matches begins with.
    fn literal(&self) -> &str {
        self.text.split(['*', '?']).next().unwrap_or_default()
    }

    /// Whether some ARN matches both.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.text.get(..self.head) == other.text.get(..other.head)
            && meet(self.glob.tokens(), other.glob.tokens())
    }
}

/// Whether two globs match a text in common: `reach[j]` says whether the tokens of `a` so far and the first `j` of `b` can.
fn meet(a: &[Token], b: &[Token]) -> bool {
    let row = |above: Option<&[bool]>, token: Option<&Token>| {
        let mut row: Vec<bool> = Vec::with_capacity(b.len() + 1);
        for j in 0..=b.len() {
            let before = j.checked_sub(1);
            let at = |row: &[bool], j: Option<usize>| {
                j.and_then(|j| row.get(j)).copied().unwrap_or_default()
            };
            let up = above.is_some_and(|above| at(above, Some(j)));
            let left = at(&row, before);
            let across = above.is_some_and(|above| at(above, before));
            let reached = match (token, before.and_then(|j| b.get(j))) {
                (None, None) => true,
                // A star stands for nothing, or for what the other's token stands for.
                (Some(Token::Many), _) | (_, Some(Token::Many)) => up || left,
                (Some(x), Some(y)) => across && is_alike(*x, *y),
                (None, Some(_)) | (Some(_), None) => false,
            };
            row.push(reached);
        }
        row
    };
    let mut reach = row(None, None);
    for token in a {
        reach = row(Some(&reach), Some(token));
    }
    reach.last().copied().unwrap_or_default()
}

/// Whether two tokens that stand for one character can stand for the same.
fn is_alike(a: Token, b: Token) -> bool {
    match (a, b) {
        (Token::Char(x) | Token::Value(x), Token::Char(y) | Token::Value(y)) => x == y,
        (Token::One | Token::Many, _) | (_, Token::One | Token::Many) => true,
    }
}

/// A stored resource policy.
#[derive(Debug, Clone)]
pub struct ResourcePolicyEntry {
    /// The owner of the resources.
    pub account: AccountId,
    pub pattern: Pattern,
    /// Of type [`crate::PolicyType::Resource`].
    pub attached: Attached,
}

#[derive(Debug)]
pub(super) struct ResourcePolicy {
    entry: ResourcePolicyEntry,
    program: Program,
}

/// Owner, literal beginning, pattern.
pub(super) type Key = (AccountId, String, String);

fn key(account: AccountId, pattern: &Pattern) -> Key {
    (account, pattern.literal().to_owned(), pattern.as_str().to_owned())
}

/// Above every pattern's text.
const LAST: &str = "\u{10ffff}";

impl Snapshot {
    /// Replaces the policy of that pattern, if there is one.
    pub fn put_resource_policy(&mut self, entry: ResourcePolicyEntry) {
        let program = Program::new(Arc::clone(&entry.attached.document));
        let key = key(entry.account, &entry.pattern);
        self.resource_policies.insert(key, Arc::new(ResourcePolicy { entry, program }));
    }

    pub fn remove_resource_policy(&mut self, account: AccountId, pattern: &Pattern) {
        self.resource_policies.remove(&key(account, pattern));
    }

    /// The policy of a resource, and what it was compiled to.
    #[must_use]
    pub fn resource_policy(&self, account: AccountId, arn: &str) -> Option<(&Attached, &Program)> {
        if self.resource_policies.is_empty() {
            return None;
        }
        let least: Key = (account, String::new(), String::new());
        let mut most = Bound::Included((account, arn.to_owned(), LAST.to_owned()));
        loop {
            let range = (Bound::Included(least.clone()), most);
            let (key, policy) = self.resource_policies.range(range).next_back()?;
            let (_, literal, _) = key;
            if !arn.starts_with(literal.as_str()) {
                // Whatever begins the ARN and stands before this in order is no longer than what the two share.
                let shared = shared(literal, arn).to_owned();
                most = Bound::Included((account, shared, LAST.to_owned()));
                continue;
            }
            if policy.entry.pattern.matches(arn) {
                return Some((&policy.entry.attached, &policy.program));
            }
            most = Bound::Excluded(key.clone());
        }
    }
}

/// What two texts begin with in common.
fn shared<'a>(a: &'a str, b: &str) -> &'a str {
    let end = a.char_indices().zip(b.chars()).find(|((_, x), y)| x != y).map(|((at, _), _)| at);
    let end = end.unwrap_or_else(|| a.len().min(b.len()));
    a.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(tail: &str) -> Pattern {
        Pattern::new(&format!("arn:aws:s3:::{tail}")).unwrap()
    }

    #[test]
    fn patterns_have_wildcards_in_their_last_part_alone() {
        for (text, good) in [
            ("arn:aws:s3:::b", true),
            ("arn:aws:s3:::*", true),
            ("arn:aws:sns:eu-west-1:111122223333:a:b", true),
            ("arn:aws:s3:::", false),
            ("arn:aws:s3:*:111122223333:b", false),
            ("arn:*:s3:::b", false),
            ("arn:aws:s3::b", false),
            ("*", false),
            ("", false),
        ] {
            assert_eq!(Pattern::new(text).is_some(), good, "{text}");
        }
        assert!(pattern("b/*").matches("arn:aws:s3:::b/x/y"));
        assert!(!pattern("b/*").matches("arn:aws:s3:::b"));
        assert!(!pattern("b/*").matches("arn:aws:s3::1:b/x"));
    }

    #[test]
    fn patterns_overlap_when_some_arn_matches_both() {
        fn check(a: &str, b: &str, expected: bool) {
            assert_eq!(pattern(a).overlaps(&pattern(b)), expected, "{a} {b}");
            assert_eq!(pattern(b).overlaps(&pattern(a)), expected, "{b} {a}");
        }
        check("b", "b", true);
        check("b", "c", false);
        check("b*", "b/x", true);
        check("b*", "c*", false);
        check("*x", "b*", true);
        check("a*b", "a*c", false);
        check("a*b*", "a*c*", true);
        check("?", "ab", false);
        check("??", "a*", true);
        check("a?c", "ab?", true);
        check("a?c", "ad?d", false);
        check("*", "?", true);
        check("**", "x", true);
        check("a**b", "ab", true);
        assert!(!pattern("b").overlaps(&Pattern::new("arn:aws:sqs:::b").unwrap()));
    }

    /// Against all short texts: two patterns overlap exactly if one of them matches both.
    #[test]
    fn overlapping_is_what_it_says() {
        let alphabet = ['a', 'b', '*', '?'];
        let words = |letters: &[char], most: usize| {
            let mut all = vec![String::new()];
            let mut last = all.clone();
            for _ in 0..most {
                last = last
                    .iter()
                    .flat_map(|word| letters.iter().map(move |letter| format!("{word}{letter}")))
                    .collect();
                all.extend(last.clone());
            }
            all.retain(|word| !word.is_empty());
            all
        };
        let texts = words(&['a', 'b'], 6);
        let patterns: Vec<(String, Glob)> =
            words(&alphabet, 3).into_iter().map(|word| (word.clone(), Glob::new(&word))).collect();
        let mut overlapping = 0;
        for (a, first) in &patterns {
            for (b, second) in &patterns {
                let both = texts.iter().any(|text| first.matches(text) && second.matches(text));
                assert_eq!(meet(first.tokens(), second.tokens()), both, "{a} {b}");
                overlapping += usize::from(both);
            }
        }
        assert!(overlapping > 1000, "{overlapping}");
    }
}
