//! Why: each policy type's own verdict, and for every statement that does not apply, what stopped it.
//!
//! It asks the same matching code as [`crate::reference::decide`], and its verdict is `decide`'s own.

use std::sync::Arc;

use countersign_policy::document::{Effect, Located, Statement};

use crate::conditions;
use crate::context::ContextValue;
use crate::matching::{self, Question};
use crate::policies::{Attached, PolicySet, PolicyType};
use crate::reference::{self, Tallies, Tally};
use crate::request::Request;
use crate::truth::Truth;
use crate::verdict::{Decision, Verdict};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    pub verdict: Verdict,
    /// One for each policy type that the set has; guardrails once a level.
    pub policy_types: Vec<TypeVerdict>,
    /// Of every policy, in the order of the set.
    pub statements: Vec<StatementExplanation>,
    /// For an implicit deny: which Allow statements failed on exactly one element (indices into `statements`).
    pub nearest_misses: Vec<usize>,
}

/// What the policies of one type say by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TypeVerdict {
    pub policy_type: PolicyType,
    /// For guardrails, from the root; counts from 0.
    pub level: Option<usize>,
    pub decision: Decision,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatementExplanation {
    pub policy_type: PolicyType,
    pub name: Arc<str>,
    pub sid: Option<String>,
    /// Counts from 0.
    pub index: usize,
    pub pointer: String,
    pub effect: Effect,
    /// Whether it applies: an Allow for certain, a Deny also where it cannot be evaluated.
    pub matched: bool,
    /// The first element that does not match.
    pub stopped_by: Option<Stop>,
    /// How many elements do not match; each condition key counts.
    pub failed_elements: u32,
}

/// One element that does not match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stop {
    /// `Action`, `NotResource`, `Principal`, `Condition`, …
    pub element: &'static str,
    /// For conditions.
    pub operator: Option<String>,
    /// For conditions.
    pub key: Option<String>,
    /// What the statement asks for.
    pub expected: String,
    /// What the request has.
    pub actual: String,
    pub message: String,
}

/// Decides, and says why.
#[must_use]
pub fn explain(request: &Request, policies: &PolicySet) -> Explanation {
    let tallies = reference::tally(request, policies);
    let verdict = reference::conclude(request, policies, &tallies);
    let has_boundary = policies.boundary.is_some();
    let statements: Vec<StatementExplanation> = policies
        .all()
        .flat_map(|attached| {
            attached
                .document
                .statements()
                .iter()
                .map(move |s| explain_statement(s, attached, request, has_boundary))
        })
        .collect();
    let nearest_misses = if verdict.decision == Decision::ImplicitDeny {
        let is_near =
            |s: &StatementExplanation| s.effect == Effect::Allow && s.failed_elements == 1;
        statements.iter().enumerate().filter(|(_, s)| is_near(s)).map(|(index, _)| index).collect()
    } else {
        Vec::new()
    };
    Explanation {
        verdict,
        policy_types: type_verdicts(policies, &tallies),
        statements,
        nearest_misses,
    }
}

fn type_verdicts(policies: &PolicySet, tallies: &Tallies) -> Vec<TypeVerdict> {
    let of = |policy_type, level, tally: &Tally| {
        let decision = if !tally.denies.is_empty() {
            Decision::ExplicitDeny
        } else if tally.allows() {
            Decision::Allow
        } else {
            Decision::ImplicitDeny
        };
        TypeVerdict { policy_type, level, decision }
    };
    let mut verdicts = vec![of(PolicyType::Identity, None, &tallies.identity)];
    verdicts.extend(
        policies.resource.iter().map(|policy| of(policy.policy_type, None, &tallies.resource)),
    );
    verdicts.extend(
        policies.boundary.iter().map(|_| of(PolicyType::Boundary, None, &tallies.boundary)),
    );
    verdicts
        .extend(policies.session.iter().map(|_| of(PolicyType::Session, None, &tallies.session)));
    // Only a token has them: to its holder they are session policies.
    verdicts.extend(
        tallies.narrowings.iter().map(|narrowing| of(PolicyType::Session, None, narrowing)),
    );
    verdicts.extend(
        tallies
            .scps
            .iter()
            .enumerate()
            .map(|(level, tally)| of(PolicyType::Scp, Some(level), tally)),
    );
    if !tallies.rcps.denies.is_empty() {
        verdicts.push(of(PolicyType::Rcp, None, &tallies.rcps));
    } else if !policies.rcps.is_empty() {
        // RCPFullAWSAccess is implied.
        verdicts.push(TypeVerdict {
            policy_type: PolicyType::Rcp,
            level: None,
            decision: Decision::Allow,
        });
    }
    verdicts
}

fn explain_statement(
    statement: &Statement,
    attached: &Attached,
    request: &Request,
    has_boundary: bool,
) -> StatementExplanation {
    let question = Question {
        request,
        policy_type: attached.policy_type,
        resolved: attached.resolved.as_deref(),
        has_boundary,
    };
    let outcome = matching::statement(statement, &question);
    let mut stops = Vec::new();
    let mut stop_unless = |truth: Truth, stop: &dyn Fn(Truth) -> Stop| {
        if !truth.applies(statement.effect) {
            stops.push(stop(truth));
        }
    };
    stop_unless(matching::action(statement, &question), &|truth| {
        action_stop(statement, request, truth)
    });
    stop_unless(matching::resource(statement, &question), &|truth| {
        resource_stop(statement, request, truth)
    });
    stop_unless(matching::principal(statement, &question).0, &|truth| {
        principal_stop(statement, request, truth)
    });
    for condition in &statement.conditions {
        let truth = conditions::condition(condition, &request.context);
        stop_unless(truth, &|truth| {
            let expected = list(condition.values.iter().map(|value| value.value.text.as_str()));
            let actual = shown(request.context.get(&condition.key));
            Stop {
                element: "Condition",
                operator: Some(condition.operator.to_string()),
                key: Some(condition.key.clone()),
                message: message(
                    &format!("{} {}", condition.operator, condition.key),
                    &expected,
                    &actual,
                    truth,
                ),
                expected,
                actual,
            }
        });
    }
    StatementExplanation {
        policy_type: attached.policy_type,
        name: attached.name.clone(),
        sid: statement.sid.as_ref().map(|sid| sid.value.clone()),
        index: statement.index,
        pointer: statement.pointer.clone(),
        effect: statement.effect,
        matched: outcome.truth.applies(statement.effect),
        failed_elements: u32::try_from(stops.len()).unwrap_or(u32::MAX),
        stopped_by: stops.into_iter().next(),
    }
}

fn action_stop(statement: &Statement, request: &Request, truth: Truth) -> Stop {
    let element = if statement.actions.negated { "NotAction" } else { "Action" };
    let expected = list(statement.actions.elements.iter().map(|action| action.value.as_str()));
    stop(element, expected, request.action.to_string(), truth)
}

fn resource_stop(statement: &Statement, request: &Request, truth: Truth) -> Stop {
    let (element, expected) = match &statement.resources {
        Some(clause) => (
            if clause.negated { "NotResource" } else { "Resource" },
            list(clause.elements.iter().map(|resource| resource.value.as_str())),
        ),
        None => ("Resource", "(the statement has none)".to_owned()),
    };
    stop(element, expected, request.resource.arn.to_string(), truth)
}

fn principal_stop(statement: &Statement, request: &Request, truth: Truth) -> Stop {
    let (element, expected) = match &statement.principals {
        Some(clause) => (
            if clause.negated { "NotPrincipal" } else { "Principal" },
            list(clause.elements.iter().map(|Located { value, .. }| value.text())),
        ),
        None => ("Principal", "(the statement has none)".to_owned()),
    };
    stop(element, expected, request.principal.arn(), truth)
}

fn stop(element: &'static str, expected: String, actual: String, truth: Truth) -> Stop {
    let message = message(element, &expected, &actual, truth);
    Stop { element, operator: None, key: None, expected, actual, message }
}

fn message(what: &str, expected: &str, actual: &str, truth: Truth) -> String {
    match truth {
        Truth::False | Truth::True => format!("{what}: expected {expected}, found {actual}"),
        Truth::Unknown => {
            format!("{what}: {expected} cannot be evaluated against {actual}, so it does not allow")
        }
    }
}

/// How many values a message shows.
const SHOWN: usize = 8;

fn list<'a>(texts: impl ExactSizeIterator<Item = &'a str>) -> String {
    let left_out = texts.len().saturating_sub(SHOWN);
    let mut shown: Vec<String> = texts.take(SHOWN).map(|text| format!("`{text}`")).collect();
    if left_out > 0 {
        shown.push(format!("{left_out} more"));
    }
    shown.join(", ")
}

fn shown(value: Option<&ContextValue>) -> String {
    match value {
        None => "no such key".to_owned(),
        Some(ContextValue::One(text)) => format!("`{text}`"),
        Some(ContextValue::Many(texts)) if texts.is_empty() => "an empty set".to_owned(),
        Some(ContextValue::Many(texts)) => {
            format!("the set {}", list(texts.iter().map(String::as_str)))
        }
    }
}
