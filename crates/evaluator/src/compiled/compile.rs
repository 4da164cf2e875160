//! From a document to its program.
//!
//! Knows what can be worked out before any request is there. What it cannot read becomes [`Op::Unclear`]: unknown at every
//! decision, so that an Allow does not allow and a Deny denies.

use std::cell::{Cell, RefCell};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use countersign_policy::Document;
use countersign_policy::action::ActionPattern;
use countersign_policy::condition::{Comparison, Condition, ConditionValue};
use countersign_policy::document::{self, ResourcePattern};
use countersign_policy::pattern::{Filled, Looked, Template, Token};
use countersign_policy::scalar::{self, Instant, Number};
use ipnet::IpNet;

use super::conditions::hash_of_key;
use super::index::{Index, MANY_STATEMENTS};
use super::program::{
    ANY_ACTION, Body, CompiledPolicy, Extras, HAS_RESOURCES, NOT_ACTION, NOT_RESOURCE, Op, Span,
    Statement, Statements,
};
use super::signature::{EVERY_ACTION, Signature};

/// Compiles a document. It never fails: what cannot be evaluated is unknown when it is asked.
#[must_use]
pub fn compile(document: &Document) -> CompiledPolicy {
    let mut writer = Writer::default();
    let statements: Vec<Statement> =
        document.statements().iter().map(|statement| writer.statement(statement)).collect();
    let Writer { text, ops, extras } = writer;
    let is_plain = extras.defaults.is_empty()
        && extras.dates.is_empty()
        && extras.networks.is_empty()
        && extras.principals.is_empty();
    let mut policy = CompiledPolicy {
        body: Body::new(&ops, &text),
        statements: Statements::new(Vec::new()),
        extras: (!is_plain).then(|| Box::new(extras)),
        index: None,
    };
    let signed = |statement: &Statement| Statement {
        signature: Signature::of_statement(&policy, statement),
        ..*statement
    };
    policy.statements = Statements::new(statements.iter().map(signed).collect());
    if policy.len() >= MANY_STATEMENTS {
        let units = policy.statements().iter().map(|statement| (&policy, statement));
        policy.index = Some(Box::new(Index::new(units)));
    }
    policy
}

#[derive(Default)]
struct Writer {
    text: String,
    ops: Vec<Op>,
    extras: Extras,
}

/// A piece of a pattern, before it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Literal(String),
    One,
    Many,
    Variable { key: String, default: Option<String> },
}

impl Writer {
    fn here(&self) -> u32 {
        to_u32(self.ops.len())
    }

    fn span(&mut self, text: &str) -> Span {
        // The same words stand in most statements of a document.
        if let Some(start) = self.text.find(text).filter(|_| self.text.len() < SHORT_TEXT) {
            return Span { start: to_u32(start), len: to_u32(text.len()) };
        }
        let start = to_u32(self.text.len());
        self.text.push_str(text);
        Span { start, len: to_u32(text.len()) }
    }

    fn literal(&mut self, text: &str) {
        let span = self.span(text);
        self.ops.push(Op::Literal(span));
    }

    fn statement(&mut self, statement: &document::Statement) -> Statement {
        let actions = self.here();
        let (literal_actions, any_action, named) = self.actions(statement);
        let resources = self.here();
        for element in statement.resources.iter().flat_map(|clause| &clause.elements) {
            self.resource(&element.value);
        }
        let conditions = self.here();
        for condition in &statement.conditions {
            self.condition(condition);
        }
        let principals = statement.principals.as_ref().map_or(0, |clause| {
            self.extras.principals.push(clause.clone());
            to_u32(self.extras.principals.len())
        });
        let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
        let not_resource = statement.resources.as_ref().is_some_and(|clause| clause.negated);
        Statement {
            signature: Signature { actions: named, ..Signature::default() },
            actions,
            resources,
            conditions,
            end: self.here(),
            principals,
            literal_actions,
            flags: flag(any_action, ANY_ACTION)
                | flag(statement.actions.negated, NOT_ACTION)
                | flag(not_resource, NOT_RESOURCE)
                | flag(statement.resources.is_some(), HAS_RESOURCES),
            effect: statement.effect,
        }
    }

    /// How many literal ones there are, whether `*` is among them all, and their part of the signature.
    fn actions(&mut self, statement: &document::Statement) -> (u16, bool, u32) {
        let patterns = || statement.actions.elements.iter().map(|element| &element.value);
        let lower = |pattern: &ActionPattern| pattern.as_str().to_ascii_lowercase();
        let (wild, mut literal): (Vec<String>, Vec<String>) = patterns()
            .filter(|pattern| !pattern.is_any())
            .map(lower)
            .partition(|text| text.contains(['*', '?']));
        literal.sort();
        literal.dedup();
        let sorted = literal.len().min(usize::from(u16::MAX));
        for text in literal.iter().take(sorted) {
            self.literal(text);
        }
        for text in literal.iter().skip(sorted).chain(&wild) {
            // Whole actions are compared: each side has one colon, so that no wildcard reaches over it.
            let pieces: Vec<Piece> = wildcard_pieces(text);
            self.glob(&pieces);
        }
        let any = patterns().any(ActionPattern::is_any);
        let named = if any || statement.actions.negated {
            EVERY_ACTION
        } else {
            literal.iter().chain(&wild).fold(0, |all, text| all | Signature::of_action(text))
        };
        (u16::try_from(sorted).unwrap_or(u16::MAX), any, named)
    }

    fn glob(&mut self, pieces: &[Piece]) {
        let variables = pieces.iter().any(|piece| matches!(piece, Piece::Variable { .. }));
        self.ops.push(Op::Glob { variables, pieces: to_u32(pieces.len()) });
        for piece in pieces {
            let op = match piece {
                Piece::Literal(text) => Op::Literal(self.span(text)),
                Piece::One => Op::One,
                Piece::Many => Op::Many,
                Piece::Variable { key, default } => {
                    let default = default.as_ref().map_or(0, |text| {
                        let span = self.span(text);
                        self.extras.defaults.push(span);
                        // `is_writable` has counted them.
                        u16::try_from(self.extras.defaults.len()).unwrap_or_default()
                    });
                    Op::Variable { default, key: self.span(&key.to_ascii_lowercase()) }
                }
            };
            self.ops.push(op);
        }
    }

    /// Whether all defaults find their place.
    fn is_writable(&self, pieces: &[Piece]) -> bool {
        let defaults = pieces
            .iter()
            .filter(|piece| matches!(piece, Piece::Variable { default: Some(_), .. }))
            .count();
        self.extras.defaults.len() + defaults <= usize::from(u16::MAX)
    }

    fn resource(&mut self, resource: &ResourcePattern) {
        if resource.is_any() {
            self.ops.push(Op::AnyResource);
            return;
        }
        let template = &resource.template;
        let pieces = match pieces(template, Reading::Pattern) {
            Some(pieces) if !template.has_variable_before_fifth_colon() => pieces,
            Some(_) | None => return self.ops.push(Op::Unclear),
        };
        if !self.is_writable(&pieces) {
            return self.ops.push(Op::Unclear);
        }
        let parts = split_at_colons(&pieces);
        if let [first @ .., last] = parts.as_slice()
            && first.len() == 5
            && let Some(prefix) = literal_prefix(first)
        {
            let prefix = self.span(&prefix);
            self.ops.push(Op::ArnPrefix(prefix));
            self.glob(last);
            return;
        }
        self.ops.push(Op::ArnParts(to_u32(parts.len())));
        for part in &parts {
            self.glob(part);
        }
    }

    fn condition(&mut self, condition: &Condition) {
        let place = self.ops.len();
        let operator = condition.operator;
        self.ops.push(Op::Condition { operator, steps: 0 });
        let key = condition.key.to_ascii_lowercase();
        let op = Op::Key { hash: hash_of_key(&key), key: self.span(&key) };
        self.ops.push(op);
        for value in &condition.values {
            self.value(operator.comparison, &value.value);
        }
        let steps = to_u32(self.ops.len() - place - 1);
        if let Some(op) = self.ops.get_mut(place) {
            *op = Op::Condition { operator, steps };
        }
    }

    fn value(&mut self, comparison: Comparison, value: &ConditionValue) {
        use Comparison as C;
        // K9: AWS's pages disagree on variables in other operators than String and Arn.
        if value.template.has_variables() && !comparison.takes_variables() {
            return self.ops.push(Op::Unclear);
        }
        let text = value.text.as_str();
        let op = match comparison {
            C::StringEquals
            | C::StringNotEquals
            | C::StringEqualsIgnoreCase
            | C::StringNotEqualsIgnoreCase => {
                return self.template(&value.template, Reading::Literal, true);
            }
            C::StringLike | C::StringNotLike => {
                return self.template(&value.template, Reading::Pattern, true);
            }
            C::ArnEquals | C::ArnLike | C::ArnNotEquals | C::ArnNotLike => {
                return self.template(&value.template, Reading::Pattern, false);
            }
            C::NumericEquals
            | C::NumericNotEquals
            | C::NumericLessThan
            | C::NumericLessThanEquals
            | C::NumericGreaterThan
            | C::NumericGreaterThanEquals => {
                Number::parse(text).map(|_| Op::Number(self.span(text)))
            }
            C::DateEquals
            | C::DateNotEquals
            | C::DateLessThan
            | C::DateLessThanEquals
            | C::DateGreaterThan
            | C::DateGreaterThanEquals => Instant::parse(text).map(|date| {
                self.extras.dates.push(date);
                Op::Date(to_u32(self.extras.dates.len() - 1))
            }),
            C::Bool | C::Null => scalar::boolean(text).map(Op::Bool),
            C::BinaryEquals => BASE64.decode(text).ok().map(|_| Op::Literal(self.span(text))),
            C::IpAddress | C::NotIpAddress => scalar::network(text).map(|network| match network {
                IpNet::V4(v4) => {
                    Op::NetworkV4 { prefix_len: v4.prefix_len(), address: v4.addr().to_bits() }
                }
                IpNet::V6(_) => {
                    self.extras.networks.push(network);
                    Op::Network(to_u32(self.extras.networks.len() - 1))
                }
            }),
        };
        self.ops.push(op.unwrap_or(Op::Unclear));
    }

    fn template(&mut self, template: &Template, reading: Reading, plain_as_literal: bool) {
        let Some(pieces) = pieces(template, reading).filter(|pieces| self.is_writable(pieces))
        else {
            return self.ops.push(Op::Unclear);
        };
        match pieces.as_slice() {
            [] if plain_as_literal => self.literal(""),
            [Piece::Literal(text)] if plain_as_literal => self.literal(text),
            pieces => self.glob(pieces),
        }
    }
}

/// Texts up to this length are searched for what they hold already.
const SHORT_TEXT: usize = 16 * 1024;

/// Programs are shorter than four gigabytes: documents are read from memory, and are longer than their programs' parts.
fn to_u32(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn wildcard_pieces(text: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    for c in text.chars() {
        match c {
            '*' => pieces.push(Piece::Many),
            '?' => pieces.push(Piece::One),
            other => push_literal(&mut pieces, other),
        }
    }
    pieces
}

fn push_literal(pieces: &mut Vec<Piece>, c: char) {
    match pieces.last_mut() {
        Some(Piece::Literal(text)) => text.push(c),
        Some(_) | None => pieces.push(Piece::Literal(c.to_string())),
    }
}

#[derive(Debug, Clone, Copy)]
enum Reading {
    /// `*` and `?` are wildcards.
    Pattern,
    /// They stand for themselves.
    Literal,
}

/// A template's structure, learnt by filling it: once with a value of one character for every variable, and once for each
/// variable without, which shows its default. `None` if it is malformed.
fn pieces(template: &Template, reading: Reading) -> Option<Vec<Piece>> {
    let filled = |look_up: &dyn Fn(&str) -> Looked<'static>| match reading {
        Reading::Pattern => template.pattern(look_up),
        Reading::Literal => template.literal(look_up),
    };
    let keys = RefCell::new(Vec::new());
    let tokens = match filled(&|key| {
        keys.borrow_mut().push(key.to_owned());
        Looked::One("x")
    }) {
        Filled::Glob(glob) => glob,
        Filled::NoValue(_) | Filled::Unclear(_) => return None,
    };
    let keys = keys.into_inner();
    let may_have_defaults = template.as_str().contains(", '");
    let default_of = |variable: usize| {
        let asked = Cell::new(0);
        let without = filled(&|_| {
            let is_it = asked.replace(asked.get() + 1) == variable;
            if is_it { Looked::Missing } else { Looked::One("x") }
        });
        let Filled::Glob(glob) = without else { return None };
        let brought: Vec<char> = glob
            .tokens()
            .iter()
            .filter_map(|token| match token {
                Token::Value(c) => Some(*c),
                Token::Char(_) | Token::One | Token::Many => None,
            })
            .collect();
        // One character each for the variables before and after it.
        let end = brought.len() - (keys.len() - 1 - variable);
        brought.get(variable..end).map(|default| default.iter().collect::<String>())
    };
    let mut pieces = Vec::new();
    let mut variable = 0;
    for token in tokens.tokens() {
        match token {
            Token::Char(c) => push_literal(&mut pieces, *c),
            Token::One => pieces.push(Piece::One),
            Token::Many => pieces.push(Piece::Many),
            Token::Value(_) => {
                let key = keys.get(variable).cloned()?;
                let default = if may_have_defaults { default_of(variable) } else { None };
                pieces.push(Piece::Variable { key, default });
                variable += 1;
            }
        }
    }
    Some(pieces)
}

/// At most six parts; the last keeps its own colons.
fn split_at_colons(pieces: &[Piece]) -> Vec<Vec<Piece>> {
    let mut parts = Vec::new();
    let mut part = Vec::new();
    for piece in pieces {
        let Piece::Literal(text) = piece else {
            part.push(piece.clone());
            continue;
        };
        for c in text.chars() {
            if c == ':' && parts.len() < 5 {
                parts.push(std::mem::take(&mut part));
            } else {
                push_literal(&mut part, c);
            }
        }
    }
    parts.push(part);
    parts
}

/// The five parts as one text, each with its colon, if all are literal.
fn literal_prefix(parts: &[Vec<Piece>]) -> Option<String> {
    let mut prefix = String::new();
    for part in parts {
        match part.as_slice() {
            [] => {}
            [Piece::Literal(text)] => prefix.push_str(text),
            [_, ..] => return None,
        }
        prefix.push(':');
    }
    Some(prefix)
}
