//! What a document is compiled to: flat arrays, so that a decision reads few cache lines and follows few pointers.
//!
//! Knows the shapes alone. [`super::compile`] makes them, [`super::statement`] asks them.

use std::{hint::black_box, slice};

use countersign_policy::condition::Operator;
use countersign_policy::document::{Clause, Effect};
use countersign_policy::principal::PrincipalElement;
use countersign_policy::scalar::Instant;
use ipnet::IpNet;

use super::index::Index;
use super::signature::Signature;

/// A piece of a policy's text, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Span {
    pub start: u32,
    pub len: u32,
}

/// One step of a program. Twelve bytes; what is larger is said by the steps that follow, or stands in [`Extras`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Op {
    /// This text: an action in lower case, a piece of a pattern, a value.
    Literal(Span),
    /// `?`
    One,
    /// `*`
    Many,
    /// `${key}`; `default` is 0 for none, else its place in [`Extras::defaults`] plus one.
    Variable {
        default: u16,
        key: Span,
    },
    /// A pattern: so many pieces follow.
    Glob {
        variables: bool,
        pieces: u32,
    },
    /// `*` as a whole resource.
    AnyResource,
    /// What cannot be evaluated: a malformed text, a variable where none may stand.
    Unclear,
    /// An ARN whose first five parts are literal; they are here, with their colons. A [`Op::Glob`] follows.
    ArnPrefix(Span),
    /// So many parts follow, each a [`Op::Glob`]: six, or fewer for what is no whole ARN.
    ArnParts(u32),
    /// A condition: a [`Op::Key`], then its values, in so many steps.
    Condition {
        operator: Operator,
        steps: u32,
    },
    /// A condition's key, in lower case.
    Key {
        hash: u16,
        key: Span,
    },
    Number(Span),
    /// In [`Extras::dates`].
    Date(u32),
    Bool(bool),
    NetworkV4 {
        prefix_len: u8,
        address: u32,
    },
    /// In [`Extras::networks`].
    Network(u32),
}

/// One statement: ranges of the policy's steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Statement {
    pub signature: Signature,
    pub actions: u32,
    pub resources: u32,
    pub conditions: u32,
    pub end: u32,
    /// 0 for none, else its place in [`Extras::principals`] plus one.
    pub principals: u32,
    /// So many of the actions are literal, and sorted; patterns follow them.
    pub literal_actions: u16,
    pub flags: u8,
    pub effect: Effect,
}

/// `*` stands among the actions.
pub(crate) const ANY_ACTION: u8 = 1;
pub(crate) const NOT_ACTION: u8 = 2;
pub(crate) const NOT_RESOURCE: u8 = 4;
pub(crate) const HAS_RESOURCES: u8 = 8;

impl Statement {
    pub(crate) fn any_action(&self) -> bool {
        self.flags & ANY_ACTION != 0
    }

    pub(crate) fn not_action(&self) -> bool {
        self.flags & NOT_ACTION != 0
    }

    pub(crate) fn not_resource(&self) -> bool {
        self.flags & NOT_RESOURCE != 0
    }

    pub(crate) fn has_resources(&self) -> bool {
        self.flags & HAS_RESOURCES != 0
    }
}

/// The statements of a document. Most inline policies have one: it is kept at hand.
#[derive(Debug)]
pub(crate) enum Statements {
    One(Statement),
    Many(Box<[Statement]>),
}

impl Statements {
    pub(crate) fn new(statements: Vec<Statement>) -> Self {
        match statements.as_slice() {
            [one] => Statements::One(*one),
            [] | [_, _, ..] => Statements::Many(statements.into_boxed_slice()),
        }
    }

    pub(crate) fn as_slice(&self) -> &[Statement] {
        match self {
            Statements::One(one) => slice::from_ref(one),
            Statements::Many(many) => many,
        }
    }
}

/// The steps of a document, and the text that they point into. Those of a short document lie in the policy itself: whoever
/// comes to it has all of it in neighbouring lines.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "the large one is the common one, and lies in its policy to be found at once"
)]
pub(crate) enum Body {
    Short { steps: u8, ops: [Op; SHORT_OPS], len: u8, text: [u8; SHORT_TEXT] },
    Long { ops: Box<[Op]>, text: Box<[u8]> },
}

/// Enough for an inline policy of one statement with two conditions.
const SHORT_OPS: usize = 14;
/// In bytes.
const SHORT_TEXT: usize = 128;

impl Body {
    pub(crate) fn new(ops: &[Op], text: &str) -> Self {
        Self::short(ops, text.as_bytes())
            .unwrap_or_else(|| Body::Long { ops: ops.into(), text: text.as_bytes().into() })
    }

    fn short(ops: &[Op], text: &[u8]) -> Option<Self> {
        let (mut own_ops, mut own_text) = ([Op::Unclear; SHORT_OPS], [0; SHORT_TEXT]);
        own_ops.get_mut(..ops.len())?.copy_from_slice(ops);
        own_text.get_mut(..text.len())?.copy_from_slice(text);
        let (steps, len) = (u8::try_from(ops.len()).ok()?, u8::try_from(text.len()).ok()?);
        Some(Body::Short { steps, ops: own_ops, len, text: own_text })
    }

    fn ops(&self) -> &[Op] {
        match self {
            Body::Short { steps, ops, .. } => ops.get(..usize::from(*steps)).unwrap_or_default(),
            Body::Long { ops, .. } => ops,
        }
    }

    /// In UTF-8.
    fn text(&self) -> &[u8] {
        match self {
            Body::Short { len, text, .. } => text.get(..usize::from(*len)).unwrap_or_default(),
            Body::Long { text, .. } => text,
        }
    }
}

/// What the processor takes from memory at once, in bytes.
const LINE: usize = 64;
/// Lines of a long document that are asked for beforehand, of steps and of text.
const FETCHED: usize = 4;

/// What few statements have.
#[derive(Debug, Default)]
pub(crate) struct Extras {
    pub defaults: Vec<Span>,
    pub dates: Vec<Instant>,
    pub networks: Vec<IpNet>,
    pub principals: Vec<Clause<PrincipalElement>>,
}

/// A document, compiled: immutable, and shared by all who have the policy.
#[derive(Debug)]
pub struct CompiledPolicy {
    pub(crate) body: Body,
    pub(crate) statements: Statements,
    pub(crate) extras: Option<Box<Extras>>,
    /// Where there are many statements.
    pub(crate) index: Option<Box<Index>>,
}

impl CompiledPolicy {
    /// How many statements it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.statements().len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.statements().is_empty()
    }

    /// Asks memory for what a decision reads of it first.
    pub(crate) fn approach(&self) {
        let is_short = matches!(self.body, Body::Short { .. });
        black_box((is_short, matches!(self.statements, Statements::One(_)), self.index.is_some()));
    }

    /// Asks memory for what lies elsewhere, all of it at once. A short document's steps and text lie here.
    pub(crate) fn fetch(&self) {
        match &self.body {
            Body::Short { .. } => {}
            Body::Long { ops, text } => {
                black_box(self.statements().first().map(|statement| statement.effect));
                // Of a document that is very long, some.
                for op in ops.iter().step_by(LINE / size_of::<Op>()).take(FETCHED) {
                    black_box(*op);
                }
                for byte in text.iter().step_by(LINE).take(FETCHED) {
                    black_box(*byte);
                }
            }
        }
    }

    pub(crate) fn statements(&self) -> &[Statement] {
        self.statements.as_slice()
    }

    /// Of all statements together.
    pub(crate) fn signature(&self) -> Signature {
        Signature::of_all(self.statements().iter().map(|statement| &statement.signature))
    }

    pub(crate) fn bytes(&self, span: Span) -> &[u8] {
        let (start, len) = (span.start as usize, span.len as usize);
        self.body.text().get(start..start + len).unwrap_or_default()
    }

    /// Reads it once more: for where a decision does not come by, or seldom.
    pub(crate) fn text(&self, span: Span) -> &str {
        // INVARIANT: spans are of whole texts.
        str::from_utf8(self.bytes(span)).unwrap_or_default()
    }

    pub(crate) fn slice(&self, start: u32, end: u32) -> &[Op] {
        self.body.ops().get(start as usize..end as usize).unwrap_or_default()
    }

    pub(crate) fn default_of(&self, default: u16) -> Option<&[u8]> {
        let place = usize::from(default).checked_sub(1)?;
        self.extras.as_ref()?.defaults.get(place).map(|span| self.bytes(*span))
    }

    pub(crate) fn principals(&self, statement: &Statement) -> Option<&Clause<PrincipalElement>> {
        let place = (statement.principals as usize).checked_sub(1)?;
        self.extras.as_ref()?.principals.get(place)
    }

    /// The literal actions, and the patterns after them.
    pub(crate) fn actions(&self, statement: &Statement) -> (&[Op], &[Op]) {
        let ops = self.slice(statement.actions, statement.resources);
        ops.split_at_checked(usize::from(statement.literal_actions)).unwrap_or_default()
    }

    pub(crate) fn resources(&self, statement: &Statement) -> &[Op] {
        self.slice(statement.resources, statement.conditions)
    }

    pub(crate) fn conditions(&self, statement: &Statement) -> &[Op] {
        self.slice(statement.conditions, statement.end)
    }
}

/// Splits a pattern's pieces from what follows it.
pub(crate) fn glob(ops: &[Op]) -> Option<(&[Op], bool, &[Op])> {
    let (Op::Glob { variables, pieces }, rest) = ops.split_first()? else { return None };
    let (pieces, rest) = rest.split_at_checked(*pieces as usize)?;
    Some((pieces, *variables, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_small() {
        assert_eq!(size_of::<Op>(), 12);
        assert_eq!(size_of::<CompiledPolicy>(), 360);
    }
}
