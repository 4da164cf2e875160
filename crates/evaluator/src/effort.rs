//! How much work a question is, before it is done.
//!
//! A policy's value is compared with each of the request's, and each of its variables takes a value of the request in: a few kilobytes
//! of either multiply to minutes. This adds up the characters that would be looked at, without looking at them: an upper bound. Whether
//! that is too much is for whoever is asked to say.

use std::iter::Sum;

use countersign_policy::{Document, condition::Condition, document::Statement};

use crate::{Attached, Context, ContextValue, PolicySet, Request};

/// What a comparison costs beside its characters.
const EACH: u64 = 8;
/// How often a pattern is copied, or prepared, while it is compared; an ARN's is taken apart, in two readings.
const COPIES: u64 = 2;
const COPIES_OF_ARN: u64 = 6;
/// An explanation asks each element up to three times more.
const EXPLAINED: u64 = 4;

/// In characters, of which one takes some ten nanoseconds.
#[must_use]
pub fn cost(request: &Request, policies: &PolicySet, is_explained: bool) -> u64 {
    let lists = [
        policies.identity.as_slice(),
        policies.resource.as_slice(),
        policies.boundary.as_deref().unwrap_or_default(),
        policies.session.as_deref().unwrap_or_default(),
    ];
    let guardrails = policies.scps.iter().chain(&policies.rcps).chain(&policies.narrowings);
    let guardrails = guardrails.map(Vec::as_slice);
    let attached = lists.into_iter().chain(guardrails).flatten();
    let statements = attached.flat_map(|Attached { document, .. }| document.statements());
    let asked = Asked {
        action: size(&request.action.to_string()),
        resource: size(&request.resource.arn.to_string()),
        context: &request.context,
        is_explained,
    };
    sum(statements.map(|one| statement(one, &asked)))
}

/// What a document adds to a question's cost, before there is a question.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Weight {
    /// Actions, resources, conditions and their values.
    elements: u64,
    /// The characters of all of them.
    characters: u64,
    /// `${…}` in them.
    variables: u64,
}

impl Weight {
    #[must_use]
    pub fn of(document: &Document) -> Self {
        document.statements().iter().map(Self::of_statement).sum()
    }

    fn of_statement(statement: &Statement) -> Self {
        let text = |text: &str| Self {
            elements: 1,
            characters: size(text),
            variables: u64::try_from(text.matches("${").count()).unwrap_or(u64::MAX),
        };
        let condition = Self { elements: 1, ..Self::default() };
        let actions = statement.actions.elements.iter().map(|one| text(one.value.as_str()));
        let resources = statement.resources.iter().flat_map(|clause| &clause.elements);
        let resources = resources.map(|one| text(one.value.as_str()));
        let conditions = statement.conditions.iter().map(|_| condition);
        let values = statement.conditions.iter().flat_map(|one| &one.values);
        let values = values.map(|wanted| text(&wanted.value.text));
        actions.chain(resources).chain(conditions).chain(values).sum()
    }

    /// No less than [`cost`], without an explanation, where every key has one value, and neither that, nor the action, nor the resource
    /// has more than so many bytes.
    #[must_use]
    pub fn most(self, longest: u64) -> u64 {
        let Self { elements, characters, variables } = self;
        let wanted = characters.saturating_add(variables.saturating_mul(longest));
        elements
            .saturating_mul(EACH.saturating_add(longest))
            .saturating_add(wanted.saturating_mul(COPIES_OF_ARN))
            .saturating_add(wanted.saturating_mul(longest) / 512)
    }
}

impl Sum for Weight {
    fn sum<I: Iterator<Item = Self>>(weights: I) -> Self {
        weights.fold(Self::default(), |all, one| Self {
            elements: all.elements.saturating_add(one.elements),
            characters: all.characters.saturating_add(one.characters),
            variables: all.variables.saturating_add(one.variables),
        })
    }
}

/// What statements are compared with.
struct Asked<'a> {
    action: u64,
    resource: u64,
    context: &'a Context,
    is_explained: bool,
}

fn statement(statement: &Statement, asked: &Asked<'_>) -> u64 {
    let Asked { action, resource, context, is_explained } = *asked;
    let actions = statement.actions.elements.iter();
    let actions = actions.map(|one| comparison(size(one.value.as_str()), action, COPIES));
    let resources = statement.resources.iter().flat_map(|clause| &clause.elements);
    let resources = resources
        .map(|one| comparison(expanded(one.value.as_str(), context), resource, COPIES_OF_ARN));
    let conditions = statement.conditions.iter().map(|one| condition(one, context));
    let once = sum(actions.chain(resources).chain(conditions));
    if !is_explained {
        return once;
    }
    let shown = statement.conditions.iter().flat_map(|one| values(one, context));
    once.saturating_mul(EXPLAINED).saturating_add(sum(shown.map(|value| size(value))))
}

fn condition(condition: &Condition, context: &Context) -> u64 {
    let values = values(condition, context);
    let is_arn = condition.operator.comparison.name().starts_with("Arn");
    let copies = if is_arn { COPIES_OF_ARN } else { COPIES };
    let one = |wanted: u64| sum(values.iter().map(|value| comparison(wanted, size(value), copies)));
    let wanted = condition.values.iter().map(|wanted| expanded(&wanted.value.text, context));
    EACH.saturating_add(sum(wanted.map(one)))
}

/// The text is read once; of a pattern's long pieces 64 characters at a time are looked for at each of its places.
fn comparison(wanted: u64, value: u64, copies: u64) -> u64 {
    EACH.saturating_add(wanted.saturating_mul(copies))
        .saturating_add(value)
        .saturating_add(wanted.saturating_mul(value) / 512)
}

/// How long a text is once its variables are filled in. Whether they are well formed does not matter here.
fn expanded(text: &str, context: &Context) -> u64 {
    let variables = text.split("${").skip(1).map(|after| {
        let key = after.split([',', '}', '\'']).next().unwrap_or_default();
        match context.get(key) {
            Some(ContextValue::One(value)) => size(value),
            Some(ContextValue::Many(_)) | None => 0,
        }
    });
    size(text).saturating_add(sum(variables))
}

/// The request's values that a condition is about.
fn values<'a>(condition: &Condition, context: &'a Context) -> &'a [String] {
    match context.get(&condition.key) {
        None => &[],
        Some(ContextValue::One(text)) => std::slice::from_ref(text),
        Some(ContextValue::Many(texts)) => texts,
    }
}

fn size(text: &str) -> u64 {
    u64::try_from(text.len()).unwrap_or(u64::MAX)
}

fn sum(parts: impl Iterator<Item = u64>) -> u64 {
    parts.fold(0, u64::saturating_add)
}
