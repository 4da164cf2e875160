//! Whether a compiled statement applies to a request. The rules are [`crate::matching`]'s.

use countersign_policy::document::Effect;

use super::conditions;
use super::glob::View;
use super::program::{CompiledPolicy, Op, Statement, glob};
use super::request::Prepared;
use super::resources;
use crate::policies::{PolicyType, ResolvedPrincipals};
use crate::principals::{self, Grant};
use crate::truth::Truth;

/// As what a policy applies.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Role<'a> {
    pub policy_type: PolicyType,
    pub resolved: Option<&'a ResolvedPrincipals>,
    pub has_boundary: bool,
}

/// A statement that applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Applies {
    pub effect: Effect,
    /// How directly an Allow with principals reaches the one who asks.
    pub grant: Option<Grant>,
}

/// `None` if it does not apply. An Allow needs every element to be true, a Deny none to be false.
pub(crate) fn applies(
    policy: &CompiledPolicy,
    statement: &Statement,
    request: &Prepared<'_>,
    role: &Role<'_>,
) -> Option<Applies> {
    let effect = statement.effect;
    if !statement.signature.may_concern(&request.signature)
        || !names_action(policy, statement, request)
        || !resource(policy, statement, request, role.policy_type).applies(effect)
    {
        return None;
    }
    let (named, grant) = principal(policy, statement, request, role);
    if !named.applies(effect) {
        return None;
    }
    let mut rest = policy.conditions(statement);
    while !rest.is_empty() {
        // INVARIANT: nothing else stands here; what could not be read would count as unknown.
        let Some((condition, after)) = conditions::next(rest) else {
            return Truth::Unknown.applies(effect).then_some(Applies { effect, grant });
        };
        if !condition.holds(policy, request).applies(effect) {
            return None;
        }
        rest = after;
    }
    Some(Applies { effect, grant })
}

/// `NotAction` names every action that is not listed (RULES.md 15).
fn names_action(policy: &CompiledPolicy, statement: &Statement, request: &Prepared<'_>) -> bool {
    let listed = statement.any_action() || is_listed(policy, statement, request);
    listed != statement.not_action()
}

fn is_listed(policy: &CompiledPolicy, statement: &Statement, request: &Prepared<'_>) -> bool {
    let (literals, patterns) = policy.actions(statement);
    let own = request.action;
    let text = |op: &Op| match op {
        Op::Literal(span) => policy.bytes(*span),
        _ => &[],
    };
    let found = if literals.len() <= FEW_ACTIONS {
        literals.iter().any(|op| text(op) == own)
    } else {
        literals.binary_search_by(|op| text(op).cmp(own)).is_ok()
    };
    if found {
        return true;
    }
    let mut rest = patterns;
    while let Some((pieces, _, after)) = glob(rest) {
        if View::new(policy, request, pieces).matches_bytes(request.action) {
            return true;
        }
        rest = after;
    }
    false
}

const FEW_ACTIONS: usize = 8;

fn resource(
    policy: &CompiledPolicy,
    statement: &Statement,
    request: &Prepared<'_>,
    policy_type: PolicyType,
) -> Truth {
    match (statement.has_resources(), policy_type) {
        (true, _) => resources::listed(policy, statement, request),
        // A trust policy's resource is the role that carries it.
        (false, PolicyType::Trust) => Truth::True,
        (
            false,
            PolicyType::Identity
            | PolicyType::Resource
            | PolicyType::Boundary
            | PolicyType::Session
            | PolicyType::Scp
            | PolicyType::Rcp,
        ) => Truth::Unknown,
    }
}

fn principal(
    policy: &CompiledPolicy,
    statement: &Statement,
    request: &Prepared<'_>,
    role: &Role<'_>,
) -> (Truth, Option<Grant>) {
    match (policy.principals(statement), role.policy_type) {
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
                    let grant = principals::granted(clause, request.principal, role.resolved);
                    (Truth::from(grant.is_some()), grant)
                }
                Effect::Deny => {
                    let denied = principals::denied(
                        clause,
                        request.principal,
                        role.resolved,
                        role.has_boundary,
                    );
                    (Truth::from(denied), None)
                }
            }
        }
    }
}
