//! What one statement says already for another: `s3:*` for `s3:Get*`, and a whole statement for another.
//!
//! Every answer "yes" is certain; "no" may mean that nobody looked hard enough. Each comparison is charged to a budget, so that no
//! document makes reviewing it slow; where that is spent, the answer is "no".

use std::cell::Cell;

use crate::action::ActionPattern;
use crate::condition::Condition;
use crate::document::{Clause, Document, Effect, ResourcePattern, Statement};
use crate::pattern::{Filled, Glob, Looked, Token};
use crate::principal::PrincipalElement;

/// Steps of comparing that one document may cost: some milliseconds.
const BUDGET: usize = 4_000_000;

/// How much comparing may still be done.
pub(crate) struct Budget(Cell<usize>);

impl Budget {
    pub(crate) fn new() -> Self {
        Self(Cell::new(BUDGET))
    }

    fn spend(&self, steps: usize) -> bool {
        match self.0.get().checked_sub(steps) {
            Some(left) => {
                self.0.set(left);
                true
            }
            None => {
                self.0.set(0);
                false
            }
        }
    }
}

/// A pattern made ready to be compared.
enum Shape {
    /// The lone `*`.
    Any,
    /// Parts that are matched one by one.
    Parts(Vec<Glob>),
    /// What it matches depends on the request; only its own text is the same.
    Text,
}

pub(crate) struct Pattern {
    text: String,
    shape: Shape,
    /// K7: as an Allow it does not match what has a type.
    is_contested: bool,
}

impl From<&ActionPattern> for Pattern {
    fn from(action: &ActionPattern) -> Self {
        let text = action.as_str().to_ascii_lowercase();
        let shape = match (action.service(), action.name()) {
            (Some(service), Some(name)) => Shape::Parts(vec![
                Glob::new(&service.to_ascii_lowercase()),
                Glob::new(&name.to_ascii_lowercase()),
            ]),
            (Some(_) | None, _) => Shape::Any,
        };
        Self { text, shape, is_contested: false }
    }
}

impl From<&ResourcePattern> for Pattern {
    fn from(resource: &ResourcePattern) -> Self {
        let text = resource.as_str().to_owned();
        if resource.is_any() {
            return Self { text, shape: Shape::Any, is_contested: false };
        }
        let filled = resource.template.pattern(|_| Looked::Missing);
        let parts = match filled {
            Filled::Glob(glob) if !resource.template.has_variables() => glob.arn_parts(false),
            Filled::Glob(_) | Filled::NoValue(_) | Filled::Unclear(_) => None,
        };
        let is_contested = match &parts {
            Some([.., last]) => has_wildcard_type(last),
            None => false,
        };
        let shape = parts.map_or(Shape::Text, |parts| Shape::Parts(parts.into()));
        Self { text, shape, is_contested }
    }
}

fn has_wildcard_type(resource: &Glob) -> bool {
    resource.tokens() != [Token::Many]
        && resource
            .tokens()
            .split(|token| matches!(token, Token::Char('/' | ':')))
            .next()
            .unwrap_or_default()
            .iter()
            .any(|token| matches!(token, Token::One | Token::Many))
}

impl Pattern {
    /// Whether this matches whatever the other one matches.
    pub(crate) fn covers(&self, other: &Pattern, budget: &Budget) -> bool {
        if !budget.spend(1) {
            return false;
        }
        match (&self.shape, &other.shape) {
            (Shape::Any, _) => true,
            (_, Shape::Any) => false,
            (_, _) if self.text == other.text => true,
            (Shape::Text, _) | (_, Shape::Text) => false,
            (Shape::Parts(wide), Shape::Parts(narrow)) => {
                !self.is_contested
                    && wide.len() == narrow.len()
                    && wide
                        .iter()
                        .zip(narrow)
                        .all(|(wide, narrow)| glob_covers(wide.tokens(), narrow.tokens(), budget))
            }
        }
    }

    /// Whether both are the same, case of actions apart.
    pub(crate) fn is(&self, other: &Pattern) -> bool {
        self.text == other.text
    }
}

/// Reads the narrow pattern as a text in which `?` and `*` are symbols: a wide `*` takes in any of them, a wide `?` one character
/// or `?`, and nothing but a `*` takes in a `*`.
fn glob_covers(wide: &[Token], narrow: &[Token], budget: &Budget) -> bool {
    let (mut w, mut n) = (0, 0);
    let mut last_star: Option<(usize, usize)> = None;
    loop {
        if !budget.spend(1) {
            return false;
        }
        match (wide.get(w), narrow.get(n)) {
            (None, None) => return true,
            (Some(Token::Many), _) => {
                last_star = Some((w, n));
                w += 1;
                continue;
            }
            (Some(wide), Some(narrow)) if takes_in(*wide, *narrow) => {
                w += 1;
                n += 1;
                continue;
            }
            (_, _) => {}
        }
        match last_star {
            Some((star, taken)) if taken < narrow.len() => {
                last_star = Some((star, taken + 1));
                w = star + 1;
                n = taken + 1;
            }
            Some(_) | None => return false,
        }
    }
}

fn takes_in(wide: Token, narrow: Token) -> bool {
    match (wide, narrow) {
        (Token::Char(x) | Token::Value(x), Token::Char(y) | Token::Value(y)) => x == y,
        (Token::One, Token::Char(_) | Token::Value(_) | Token::One) => true,
        (
            Token::Char(_) | Token::Value(_) | Token::One | Token::Many,
            Token::Char(_) | Token::Value(_) | Token::One | Token::Many,
        ) => false,
    }
}

/// A statement made ready to be compared.
pub(crate) struct Prepared<'a> {
    pub(crate) statement: &'a Statement,
    pub(crate) actions: Vec<Pattern>,
    pub(crate) resources: Vec<Pattern>,
}

impl<'a> Prepared<'a> {
    pub(crate) fn all(document: &'a Document) -> Vec<Self> {
        document.statements().iter().map(Self::new).collect()
    }

    fn new(statement: &'a Statement) -> Self {
        let actions = statement.actions.elements.iter().map(|a| Pattern::from(&a.value)).collect();
        let resources = statement
            .resources
            .iter()
            .flat_map(|clause| &clause.elements)
            .map(|r| Pattern::from(&r.value))
            .collect();
        Self { statement, actions, resources }
    }

    /// Whether this statement applies whenever the other one does.
    pub(crate) fn covers(&self, other: &Prepared<'_>, budget: &Budget) -> bool {
        let (wide, narrow) = (self.statement, other.statement);
        conditions_cover(&wide.conditions, &narrow.conditions)
            && principals_cover(wide.principals.as_ref(), narrow.principals.as_ref(), wide.effect)
            && actions_cover(self, other, budget)
            && resources_cover(self, other, budget)
    }
}

/// All conditions must hold: the fewer, the wider.
fn conditions_cover(wide: &[Condition], narrow: &[Condition]) -> bool {
    let same = |a: &Condition, b: &Condition| {
        a.operator == b.operator
            && a.key.eq_ignore_ascii_case(&b.key)
            && a.values.len() == b.values.len()
            && a.values.iter().zip(&b.values).all(|(a, b)| a.value == b.value)
    };
    wide.iter().all(|wide| narrow.iter().any(|narrow| same(wide, narrow)))
}

fn principals_cover(
    wide: Option<&Clause<PrincipalElement>>,
    narrow: Option<&Clause<PrincipalElement>>,
    effect: Effect,
) -> bool {
    let (wide, narrow) = match (wide, narrow) {
        (None, None) => return true,
        (Some(wide), Some(narrow)) => (wide, narrow),
        (Some(_), None) | (None, Some(_)) => return false,
    };
    let lists = |clause: &Clause<PrincipalElement>, wanted: &PrincipalElement| {
        clause.elements.iter().any(|element| element.value == *wanted)
    };
    let lists_all = |clause: &Clause<PrincipalElement>, of: &Clause<PrincipalElement>| {
        of.elements.iter().all(|element| lists(clause, &element.value))
    };
    match (wide.negated, narrow.negated) {
        // `*` in a Deny is really everybody; in an Allow it leaves out services and external principals.
        (false, _) if effect == Effect::Deny && lists(wide, &PrincipalElement::Any) => true,
        (false, false) => lists_all(wide, narrow),
        (true, true) => lists_all(wide, narrow) && lists_all(narrow, wide),
        (false, true) | (true, false) => false,
    }
}

fn actions_cover(wide: &Prepared<'_>, narrow: &Prepared<'_>, budget: &Budget) -> bool {
    match (wide.statement.actions.negated, narrow.statement.actions.negated) {
        (false, false) => all_covered(&narrow.actions, &wide.actions, budget),
        (false, true) => wide.actions.iter().any(|action| matches!(action.shape, Shape::Any)),
        // What the wide one leaves out, the narrow one leaves out too.
        (true, true) => all_covered(&wide.actions, &narrow.actions, budget),
        (true, false) => false,
    }
}

fn resources_cover(wide: &Prepared<'_>, narrow: &Prepared<'_>, budget: &Budget) -> bool {
    let negated = |prepared: &Prepared<'_>| {
        prepared.statement.resources.as_ref().map(|resources| resources.negated)
    };
    match (negated(wide), negated(narrow)) {
        (None, None) => true,
        (Some(false), Some(false)) => all_covered(&narrow.resources, &wide.resources, budget),
        (Some(false), Some(true)) => {
            wide.resources.iter().any(|resource| matches!(resource.shape, Shape::Any))
        }
        (Some(true), Some(true)) => {
            let same = |a: &[Pattern], b: &[Pattern]| a.iter().all(|a| b.iter().any(|b| a.is(b)));
            budget.spend(wide.resources.len() * narrow.resources.len())
                && same(&wide.resources, &narrow.resources)
                && same(&narrow.resources, &wide.resources)
        }
        (Some(true), Some(false)) | (Some(_), None) | (None, Some(_)) => false,
    }
}

fn all_covered(narrow: &[Pattern], wide: &[Pattern], budget: &Budget) -> bool {
    narrow.iter().all(|narrow| wide.iter().any(|wide| wide.covers(narrow, budget)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_pattern_covers_another() {
        fn check(wide: &str, narrow: &str, expected: bool) {
            let found =
                glob_covers(Glob::new(wide).tokens(), Glob::new(narrow).tokens(), &Budget::new());
            assert_eq!(found, expected, "{wide} {narrow}");
        }
        check("*", "", true);
        check("*", "a*?", true);
        check("a*", "ab", true);
        check("a*", "a*", true);
        check("a*", "*", false);
        check("a?", "ab", true);
        check("a?", "a?", true);
        check("a?", "a*", false);
        check("?", "", false);
        check("*a*", "bab", true);
        check("*ab", "*aab", true);
        check("*a*b", "a*b", true);
        check("a*b", "*a*b", false);
        check("*?*", "a*", true);
        // True as well, but not seen: at least one of the `*` and the `?`.
        check("?*", "*?", false);
        check("ab", "a?", false);
    }

    /// What is said to cover does cover: every text over a small alphabet.
    #[test]
    fn what_covers_matches_all_that_the_other_matches() {
        let all = |alphabet: &[char], longest: usize| {
            let mut texts = vec![String::new()];
            let mut from = 0;
            for _ in 0..longest {
                let until = texts.len();
                for i in from..until {
                    for c in alphabet {
                        texts.push(format!("{}{c}", texts[i]));
                    }
                }
                from = until;
            }
            texts
        };
        let patterns: Vec<Glob> =
            all(&['a', 'b', '?', '*'], 4).iter().map(|text| Glob::new(text)).collect();
        let texts = all(&['a', 'b'], 5);
        let matched = |glob: &Glob| -> u64 {
            texts.iter().enumerate().map(|(i, text)| u64::from(glob.matches(text)) << i).sum()
        };
        let matched: Vec<u64> = patterns.iter().map(matched).collect();
        let mut covering = 0;
        for (wide, in_wide) in patterns.iter().zip(&matched) {
            for (narrow, in_narrow) in patterns.iter().zip(&matched) {
                if glob_covers(wide.tokens(), narrow.tokens(), &Budget::new()) {
                    covering += 1;
                    assert_eq!(in_narrow & !in_wide, 0, "{wide:?} {narrow:?}");
                }
            }
        }
        assert!(covering > patterns.len());
    }

    #[test]
    fn nothing_is_claimed_once_the_budget_is_spent() {
        let budget = Budget(Cell::new(3));
        assert!(!glob_covers(Glob::new("*").tokens(), Glob::new("abcdef").tokens(), &budget));
        assert!(
            !Pattern::from(&"*".parse::<ActionPattern>().unwrap())
                .covers(&Pattern::from(&"a:b".parse::<ActionPattern>().unwrap()), &budget)
        );
    }
}
