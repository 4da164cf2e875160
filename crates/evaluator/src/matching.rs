//! Whether a statement applies to a request. `decide` and `explain` both ask here, so that they cannot disagree.

use countersign_policy::document::{Effect, Statement};

use crate::conditions;
use crate::policies::{PolicyType, ResolvedPrincipals};
use crate::principals::{self, Grant};
use crate::request::Request;
use crate::resources;
use crate::truth::{Truth, all};

/// A request, seen from one policy.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Question<'a> {
    pub request: &'a Request,
    pub policy_type: PolicyType,
    pub resolved: Option<&'a ResolvedPrincipals>,
    pub has_boundary: bool,
}

/// What a statement says to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub truth: Truth,
    /// How directly an Allow with principals reaches the one who asks.
    pub grant: Option<Grant>,
}

pub(crate) fn statement(statement: &Statement, question: &Question<'_>) -> Outcome {
    let (named, grant) = principal(statement, question);
    // A statement applies if every element matches; the first that does not settles it.
    let elements: [&dyn Fn() -> Truth; 4] =
        [&|| action(statement, question), &|| resource(statement, question), &|| named, &|| {
            all(statement
                .conditions
                .iter()
                .map(|c| conditions::condition(c, &question.request.context)))
        }];
    let mut truth = Truth::True;
    for element in elements {
        truth = truth.and(element());
        if truth == Truth::False {
            break;
        }
    }
    Outcome { truth, grant }
}

/// `NotAction` names every action that is not listed (RULES.md 15).
pub(crate) fn action(statement: &Statement, question: &Question<'_>) -> Truth {
    let listed = statement
        .actions
        .elements
        .iter()
        .any(|pattern| pattern.value.matches(&question.request.action));
    Truth::from(listed != statement.actions.negated)
}

pub(crate) fn resource(statement: &Statement, question: &Question<'_>) -> Truth {
    let request = question.request;
    match (&statement.resources, question.policy_type) {
        (Some(clause), _) => resources::clause(clause, &request.resource.arn, &request.context),
        // A trust policy's resource is the role that carries it.
        (None, PolicyType::Trust) => Truth::True,
        (
            None,
            PolicyType::Identity
            | PolicyType::Resource
            | PolicyType::Boundary
            | PolicyType::Session
            | PolicyType::Scp
            | PolicyType::Rcp,
        ) => Truth::Unknown,
    }
}

pub(crate) fn principal(statement: &Statement, question: &Question<'_>) -> (Truth, Option<Grant>) {
    let request = question.request;
    match (&statement.principals, question.policy_type) {
        (
            None,
            PolicyType::Identity | PolicyType::Boundary | PolicyType::Session | PolicyType::Scp,
        ) => (Truth::True, None),
        // It must say who, and does not; or it must not, and does.
        (None, PolicyType::Resource | PolicyType::Trust | PolicyType::Rcp)
        | (
            Some(_),
            PolicyType::Identity | PolicyType::Boundary | PolicyType::Session | PolicyType::Scp,
        ) => (Truth::Unknown, None),
        (Some(clause), PolicyType::Resource | PolicyType::Trust | PolicyType::Rcp) => {
            match statement.effect {
                Effect::Allow => {
                    let grant = principals::granted(clause, &request.principal, question.resolved);
                    (Truth::from(grant.is_some()), grant)
                }
                Effect::Deny => {
                    let denied = principals::denied(
                        clause,
                        &request.principal,
                        question.resolved,
                        question.has_boundary,
                    );
                    (Truth::from(denied), None)
                }
            }
        }
    }
}
