//! What a decision still depends on: the condition keys that the request does not bring, and might.
//!
//! Each statement is read three times: as it stands, at its truest and at its least true, where a condition on an open key may turn
//! out either way. So "could be allowed" is an upper bound, since two open conditions need not hold together, and "cannot be allowed"
//! and "is allowed whatever comes" are certain. The verdict of now is [`reference::decide`]'s own.

use std::cell::RefCell;

use countersign_policy::condition::Condition;
use countersign_policy::document::{Clause, Effect, ResourcePattern, Statement};
use countersign_policy::pattern::{Looked, Template};

use crate::conditions;
use crate::context::{Context, assertable};
use crate::matching::{self, Outcome, Question};
use crate::policies::PolicySet;
use crate::principal::Principal;
use crate::reference;
use crate::request::Request;
use crate::resources;
use crate::truth::{Truth, all, any};
use crate::verdict::{Determining, Verdict};

/// What becomes of a question once more is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outlook {
    /// Allowed, whatever keys come.
    Allowed(Verdict),
    /// Denied, whatever keys come.
    Denied(Verdict),
    /// It depends.
    Open {
        /// As the request stands: either.
        now: Verdict,
        /// The statements that may turn it. Not empty.
        remaining: Vec<Remaining>,
    },
}

/// A statement that applies or not by what is open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remaining {
    pub statement: Determining,
    pub effect: Effect,
    /// What has to hold for the statement to apply, besides what does already. All of it.
    pub conditions: Vec<OpenCondition>,
}

/// One condition on an open key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenCondition {
    pub key: String,
    /// As the policy writes it; `Resource` or `NotResource` where the key is a variable there.
    pub operator: String,
    /// As the policy writes them.
    pub values: Vec<String>,
}

/// Looks ahead. Keys that only Countersign sets are as they are, but for a role those that its session would set are open.
#[must_use]
pub fn outlook(request: &Request, policies: &PolicySet) -> Outlook {
    let open = Open::of(request);
    let with = |allow: Side, deny: Side| {
        let says = |statement: &Statement, question: &Question<'_>| {
            let side = match statement.effect {
                Effect::Allow => allow,
                Effect::Deny => deny,
            };
            let Reading { span, outcome } = read(statement, question, &open);
            let truth = match side {
                Side::Most => span.most,
                Side::Least => span.least,
            };
            Outcome { truth, grant: outcome.grant }
        };
        reference::conclude(request, policies, &reference::tally_by(request, policies, says))
    };
    let now = reference::decide(request, policies);
    if !with(Side::Most, Side::Least).is_allow() {
        return Outlook::Denied(now);
    }
    if with(Side::Least, Side::Most).is_allow() {
        return Outlook::Allowed(now);
    }
    // Where enough is allowed already, only what denies remains.
    let allows_count = !with(Side::Least, Side::Least).is_allow();
    let counts = |effect: Effect| match effect {
        Effect::Allow => allows_count,
        Effect::Deny => true,
    };
    let remaining = remaining(request, policies, &open);
    let remaining = remaining.into_iter().filter(|one| counts(one.effect)).collect();
    Outlook::Open { now, remaining }
}

#[derive(Debug, Clone, Copy)]
enum Side {
    Most,
    Least,
}

/// Which keys may still come, or change.
struct Open<'a> {
    context: &'a Context,
    /// A role is asked about: whoever acts is a session of it.
    is_role: bool,
}

/// What a session has beside, or instead of, what its role has, in lower case. Tags in addition.
const OF_SESSIONS: [&str; 3] = ["aws:userid", "aws:sourceidentity", "aws:tokenissuetime"];

impl<'a> Open<'a> {
    fn of(request: &'a Request) -> Self {
        let is_role = match &request.principal {
            Principal::Role { .. } => true,
            Principal::User { .. }
            | Principal::Session(_)
            | Principal::FederatedUser { .. }
            | Principal::AccountRoot { .. }
            | Principal::Service { .. }
            | Principal::External(_)
            | Principal::WebIdentity { .. } => false,
        };
        Self { context: &request.context, is_role }
    }

    fn contains(&self, key: &str) -> bool {
        let lower = key.to_ascii_lowercase();
        let is_of_session =
            OF_SESSIONS.contains(&lower.as_str()) || lower.starts_with("aws:principaltag/");
        if self.is_role && is_of_session {
            return true;
        }
        let may_be_brought = assertable(key) || lower.starts_with("aws:resourcetag/");
        may_be_brought && self.context.get(key).is_none()
    }

    /// The open keys among the text's variables.
    fn variables(&self, template: &Template) -> Vec<String> {
        let found = RefCell::new(Vec::new());
        // Filled only to be asked for each key.
        let _ = template.pattern(|key| {
            if self.contains(key) {
                found.borrow_mut().push(key.to_owned());
            }
            Looked::One("")
        });
        found.into_inner()
    }
}

/// The truest and the least true that something can turn out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    most: Truth,
    least: Truth,
}

impl Span {
    const EITHER: Self = Self { most: Truth::True, least: Truth::False };

    fn certain(truth: Truth) -> Self {
        Self { most: truth, least: truth }
    }

    fn negated(self) -> Self {
        Self { most: !self.least, least: !self.most }
    }

    fn all(spans: &[Self]) -> Self {
        Self {
            most: all(spans.iter().map(|span| span.most)),
            least: all(spans.iter().map(|span| span.least)),
        }
    }

    fn any(spans: &[Self]) -> Self {
        Self {
            most: any(spans.iter().map(|span| span.most)),
            least: any(spans.iter().map(|span| span.least)),
        }
    }
}

struct Reading {
    span: Span,
    outcome: Outcome,
}

fn read(statement: &Statement, question: &Question<'_>, open: &Open<'_>) -> Reading {
    let outcome = matching::statement(statement, question);
    let mut elements = vec![
        Span::certain(matching::action(statement, question)),
        Span::certain(matching::principal(statement, question).0),
        match &statement.resources {
            Some(clause) => resource(clause, question, open),
            None => Span::certain(matching::resource(statement, question)),
        },
    ];
    elements.extend(statement.conditions.iter().map(|one| condition(one, open)));
    Reading { span: Span::all(&elements), outcome }
}

fn condition(condition: &Condition, open: &Open<'_>) -> Span {
    if is_open(condition, open) {
        Span::EITHER
    } else {
        Span::certain(conditions::condition(condition, open.context))
    }
}

fn is_open(condition: &Condition, open: &Open<'_>) -> bool {
    open.contains(&condition.key)
        || condition.values.iter().any(|value| !open.variables(&value.value.template).is_empty())
}

fn resource(clause: &Clause<ResourcePattern>, question: &Question<'_>, open: &Open<'_>) -> Span {
    let asked = &question.request.resource.arn;
    let one = |pattern: &ResourcePattern| {
        let now = resources::pattern(pattern, asked, open.context, clause.negated);
        if open.variables(&pattern.template).is_empty() {
            Span::certain(now)
        } else if resources::could_match(pattern, asked, open.context, |key| open.contains(key)) {
            Span::EITHER
        } else {
            // No value makes it name the resource; but with a set for a value it cannot be evaluated, nor without one in a NotResource
            // (K4).
            Span { most: Truth::Unknown, least: Truth::False }
        }
    };
    let listed: Vec<Span> = clause.elements.iter().map(|element| one(&element.value)).collect();
    let listed = Span::any(&listed);
    if clause.negated { listed.negated() } else { listed }
}

fn remaining(request: &Request, policies: &PolicySet, open: &Open<'_>) -> Vec<Remaining> {
    let mut remaining = Vec::new();
    for attached in policies.all() {
        let question = Question {
            request,
            policy_type: attached.policy_type,
            resolved: attached.resolved.as_deref(),
            has_boundary: policies.boundary.is_some(),
        };
        for statement in attached.document.statements() {
            let Span { most, least } = read(statement, &question, open).span;
            if most.applies(statement.effect) != least.applies(statement.effect) {
                remaining.push(Remaining {
                    statement: reference::determining(attached, statement),
                    effect: statement.effect,
                    conditions: open_conditions(statement, &question, open),
                });
            }
        }
    }
    remaining
}

fn is_unsettled(Span { most, least }: Span) -> bool {
    most != least
}

fn open_conditions(
    statement: &Statement,
    question: &Question<'_>,
    open: &Open<'_>,
) -> Vec<OpenCondition> {
    let mut conditions = Vec::new();
    if let Some(clause) = &statement.resources
        && is_unsettled(resource(clause, question, open))
    {
        let operator = if clause.negated { "NotResource" } else { "Resource" };
        for pattern in &clause.elements {
            let keys = open.variables(&pattern.value.template);
            conditions.extend(keys.into_iter().map(|key| OpenCondition {
                key,
                operator: operator.to_owned(),
                values: vec![pattern.value.as_str().to_owned()],
            }));
        }
    }
    let open_ones = statement.conditions.iter().filter(|one| is_open(one, open));
    conditions.extend(open_ones.map(|one| OpenCondition {
        key: one.key.clone(),
        operator: one.operator.to_string(),
        values: one.values.iter().map(|value| value.value.text.clone()).collect(),
    }));
    conditions
}
