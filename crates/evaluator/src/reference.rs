//! The reference engine: IAM's evaluation logic, transcribed plainly.
//!
//! Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html> and, across accounts,
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic-cross-account.html>

use countersign_policy::document::{Effect, Statement};

use crate::matching::{self, Outcome, Question};
use crate::policies::{Attached, PolicySet, PolicyType};
use crate::principal::Principal;
use crate::principals::Grant;
use crate::request::{Ownership, Request};
use crate::verdict::{Decision, Determining, Reason, Verdict};

/// Decides one request by the policies that bear on it.
#[must_use]
pub fn decide(request: &Request, policies: &PolicySet) -> Verdict {
    conclude(request, policies, &tally(request, policies))
}

/// What the statements of all policies say, by type.
#[derive(Debug, Default)]
pub(crate) struct Tallies {
    pub identity: Tally,
    pub resource: Tally,
    pub boundary: Tally,
    pub session: Tally,
    /// One a narrowing.
    pub narrowings: Vec<Tally>,
    /// One a level.
    pub scps: Vec<Tally>,
    pub rcps: Tally,
}

/// The statements that apply.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub allows: Vec<Determining>,
    pub denies: Vec<Determining>,
    /// The most direct of the allows.
    pub grant: Option<Grant>,
}

impl Tally {
    pub(crate) fn allows(&self) -> bool {
        !self.allows.is_empty()
    }

    fn add(
        &mut self,
        attached: &Attached,
        request: &Request,
        has_boundary: bool,
        says: impl Fn(&Statement, &Question<'_>) -> Outcome,
    ) {
        let question = Question {
            request,
            policy_type: attached.policy_type,
            resolved: attached.resolved.as_deref(),
            has_boundary,
        };
        for statement in attached.document.statements() {
            let outcome = says(statement, &question);
            if !outcome.truth.applies(statement.effect) {
                continue;
            }
            let determining = determining(attached, statement);
            match statement.effect {
                Effect::Allow => {
                    self.allows.push(determining);
                    self.grant = self.grant.max(outcome.grant);
                }
                Effect::Deny => self.denies.push(determining),
            }
        }
    }
}

/// A statement, as verdicts name it.
pub(crate) fn determining(attached: &Attached, statement: &Statement) -> Determining {
    Determining {
        policy_type: attached.policy_type,
        policy: attached.name.clone(),
        version_id: attached.version_id.clone(),
        sid: statement.sid.as_ref().map(|sid| sid.value.clone()),
        index: statement.index,
        pointer: statement.pointer.clone(),
    }
}

pub(crate) fn tally(request: &Request, policies: &PolicySet) -> Tallies {
    tally_by(request, policies, matching::statement)
}

/// The same, where `says` stands for what each statement says to the request.
pub(crate) fn tally_by(
    request: &Request,
    policies: &PolicySet,
    says: impl Fn(&Statement, &Question<'_>) -> Outcome + Copy,
) -> Tallies {
    let has_boundary = policies.boundary.is_some();
    let union = |attached: &[Attached]| {
        let mut tally = Tally::default();
        attached.iter().for_each(|attached| tally.add(attached, request, has_boundary, says));
        tally
    };
    Tallies {
        identity: union(&policies.identity),
        resource: union(policies.resource.as_slice()),
        boundary: union(policies.boundary.as_deref().unwrap_or_default()),
        session: union(policies.session.as_deref().unwrap_or_default()),
        narrowings: policies.narrowings.iter().map(|narrowing| union(narrowing)).collect(),
        scps: policies.scps.iter().map(|level| union(level)).collect(),
        rcps: union(&policies.rcps.concat()),
    }
}

pub(crate) fn conclude(request: &Request, policies: &PolicySet, tallies: &Tallies) -> Verdict {
    // An explicit deny in any policy wins over every allow.
    if let Some(denied) = explicit_deny(tallies) {
        return denied;
    }
    let ownership = request.ownership();
    // What a policy that is not at hand would deny is unknown.
    if !policies.missing.is_empty() || ownership == Ownership::Contradiction {
        return implicit_deny(Reason::CannotEvaluate);
    }
    // Narrowed, it can do nothing that a narrowing does not allow, whoever else allows it.
    if !tallies.narrowings.iter().all(Tally::allows) {
        return implicit_deny(Reason::NotAllowedBySession);
    }
    match allowed(request, policies, tallies, ownership) {
        Ok(reason) => {
            let mut determining = tallies.identity.allows.clone();
            determining.extend(tallies.resource.allows.iter().cloned());
            Verdict { decision: Decision::Allow, reason, determining }
        }
        Err(reason) => implicit_deny(reason),
    }
}

fn implicit_deny(reason: Reason) -> Verdict {
    Verdict { decision: Decision::ImplicitDeny, reason, determining: Vec::new() }
}

fn explicit_deny(tallies: &Tallies) -> Option<Verdict> {
    let Tallies { identity, resource, boundary, session, narrowings, scps, rcps } = tallies;
    let determining: Vec<Determining> = [rcps]
        .into_iter()
        .chain(scps)
        .chain([resource, identity, boundary, session])
        .chain(narrowings)
        .flat_map(|tally| tally.denies.iter().cloned())
        .collect();
    let reason = Reason::denied_by(determining.first()?.policy_type);
    Some(Verdict { decision: Decision::ExplicitDeny, reason, determining })
}

/// Why it is allowed, or what is missing. No statement denies.
fn allowed(
    request: &Request,
    policies: &PolicySet,
    tallies: &Tallies,
    ownership: Ownership,
) -> Result<Reason, Reason> {
    let needs_trust = is_role_assumption(request, policies);
    let (granted, no_grant) = if needs_trust {
        (Reason::AllowedByTrustPolicy, Reason::NoTrustAllow)
    } else {
        (Reason::AllowedByResourcePolicy, Reason::NoResourceAllow)
    };
    match &request.principal {
        Principal::Service { .. } => {
            return tallies.resource.grant.map(|_| granted).ok_or(no_grant);
        }
        Principal::External(_) | Principal::WebIdentity { .. } => {
            let is_trust = policies
                .resource
                .as_ref()
                .is_some_and(|policy| policy.policy_type == PolicyType::Trust);
            if !is_trust {
                return Err(Reason::ExternalPrincipal);
            }
            tallies.resource.grant.ok_or(no_grant)?;
            // Its identity side counts as allowed: AWS, or its provider, has answered for it.
            return within_limits(request, policies, tallies).map(|()| granted);
        }
        Principal::User { .. }
        | Principal::Role { .. }
        | Principal::Session(_)
        | Principal::FederatedUser { .. }
        | Principal::AccountRoot { .. } => {}
    }
    // An allow is needed at every level; a level without policies denies (RULES.md 34).
    if !tallies.scps.iter().all(Tally::allows) {
        return Err(Reason::NotAllowedByScp);
    }
    let own_right = match &request.principal {
        Principal::AccountRoot { .. } => Some(Reason::AllowedAsAccountRoot),
        Principal::User { .. }
        | Principal::Role { .. }
        | Principal::Session(_)
        | Principal::FederatedUser { .. }
        | Principal::Service { .. }
        | Principal::External(_)
        | Principal::WebIdentity { .. } => {
            tallies.identity.allows().then_some(Reason::AllowedByIdentityPolicy)
        }
    };
    // "Required in both the permissions policy of the principal and in the role trust policy", when a session chains (RULES.md 41).
    if chains_source_identity(&request.action, &request.principal) {
        own_right.ok_or(Reason::NoIdentityAllow)?;
        within_limits(request, policies, tallies)?;
    }
    match (ownership, tallies.resource.grant) {
        // In the same account, whoever is named needs no identity policy, and no boundary or session policy.
        (Ownership::SameAccount, Some(Grant::Direct)) => Ok(granted),
        // A grant to the role reaches its sessions, within boundary and session policy.
        (Ownership::SameAccount, Some(Grant::Role)) => {
            within_limits(request, policies, tallies).map(|()| granted)
        }
        // The account only delegates. A role must be trusted; for everything else an identity policy is enough.
        (Ownership::SameAccount, None) if needs_trust => Err(no_grant),
        (Ownership::SameAccount, Some(Grant::Account) | None) => {
            let reason = own_right.ok_or(Reason::NoIdentityAllow)?;
            within_limits(request, policies, tallies)?;
            Ok(if needs_trust { granted } else { reason })
        }
        // Across accounts both sides must allow.
        (Ownership::CrossAccount, grant) => {
            let reason = own_right.ok_or(Reason::NoIdentityAllow)?;
            grant.ok_or(no_grant)?;
            within_limits(request, policies, tallies)?;
            Ok(if needs_trust { granted } else { reason })
        }
        (Ownership::Contradiction, _) => Err(Reason::CannotEvaluate),
    }
}

/// Whether a session asks to set the source identity of the next: <https://docs.aws.amazon.com/IAM/latest/UserGuide/id_credentials_temp_control-access_monitor.html>
fn chains_source_identity(
    action: &countersign_policy::action::Action,
    principal: &Principal,
) -> bool {
    action.is(SET_SOURCE_IDENTITY) && is_chaining(principal)
}

pub(crate) const SET_SOURCE_IDENTITY: &str = "sts:SetSourceIdentity";

/// A role's session, whose next session is chained.
pub(crate) fn is_chaining(principal: &Principal) -> bool {
    match principal {
        Principal::Role { .. } | Principal::Session(_) => true,
        Principal::User { .. }
        | Principal::FederatedUser { .. }
        | Principal::AccountRoot { .. }
        | Principal::Service { .. }
        | Principal::External(_)
        | Principal::WebIdentity { .. } => false,
    }
}

/// Boundary and session policy grant nothing; where there is one, it must allow too.
fn within_limits(request: &Request, policies: &PolicySet, tallies: &Tallies) -> Result<(), Reason> {
    let has_boundary =
        policies.boundary.is_some() && !matches!(request.principal, Principal::AccountRoot { .. });
    if has_boundary && !tallies.boundary.allows() {
        return Err(Reason::NotAllowedByBoundary);
    }
    if policies.session.is_some() && !tallies.session.allows() {
        return Err(Reason::NotAllowedBySession);
    }
    Ok(())
}

/// Actions on a role that its trust policy must allow.
pub(crate) const ROLE_ASSUMPTION: [&str; 5] = [
    "sts:AssumeRole",
    "sts:AssumeRoleWithSAML",
    "sts:AssumeRoleWithWebIdentity",
    "sts:TagSession",
    "sts:SetSourceIdentity",
];

/// Whether the action is one that a trust policy must allow.
#[must_use]
pub fn is_role_assumption_action(action: &countersign_policy::action::Action) -> bool {
    ROLE_ASSUMPTION.iter().any(|name| action.is(name))
}

fn is_role_assumption(request: &Request, policies: &PolicySet) -> bool {
    is_role_assumption_action(&request.action)
        || policies.resource.as_ref().is_some_and(|policy| policy.policy_type == PolicyType::Trust)
}
