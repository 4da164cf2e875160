//! The decision, from what the statements of each policy type say. The rules are [`crate::reference`]'s, written a second time
//! over counts in place of lists: nothing is allocated, and nothing is shared with it but the words.

use super::program::CompiledPolicy;
use super::request::{InvalidQuery, Prepared, Query, Scratch};
use super::set::{CompiledSet, visit_policy};
use super::statement::{Applies, Role};
use crate::policies::{PolicyType, ResolvedPrincipals};
use crate::principal::Principal;
use crate::principals::Grant;
use crate::reference::{ROLE_ASSUMPTION, SET_SOURCE_IDENTITY, is_chaining};
use crate::request::Ownership;
use crate::verdict::{Decision, Reason};
use countersign_policy::document::Effect;

/// One policy, and as what it applies.
#[derive(Debug, Clone, Copy)]
pub struct CompiledAttached<'a> {
    pub policy_type: PolicyType,
    pub policy: &'a CompiledPolicy,
    /// As [`crate::Attached::resolved`].
    pub resolved: Option<&'a ResolvedPrincipals>,
}

/// The policies of one type, or of one level of it.
#[derive(Debug, Clone, Copy)]
pub enum Layer<'a> {
    /// Those of a principal, or of an account. Principal elements in them count by name.
    Set(PolicyType, &'a CompiledSet),
    Attached(&'a [CompiledAttached<'a>]),
}

/// Everything that bears on one request: [`crate::PolicySet`], borrowed.
#[derive(Debug, Clone, Copy)]
pub struct Policies<'a> {
    pub identity: Layer<'a>,
    /// `Some` and empty if a boundary is named but its policy is gone: then nothing is allowed.
    pub boundary: Option<Layer<'a>>,
    pub session: Option<Layer<'a>>,
    /// One a narrowing, as [`crate::PolicySet::narrowings`].
    pub narrowings: &'a [Layer<'a>],
    pub resource: Option<CompiledAttached<'a>>,
    /// One a level, from the root to the account.
    pub scps: &'a [Layer<'a>],
    pub rcps: &'a [Layer<'a>],
    /// An attached policy's document is not at hand: what it would deny is unknown, so nothing is allowed.
    pub missing: bool,
}

impl Layer<'_> {
    /// No policy at all.
    pub const NONE: Layer<'static> = Layer::Attached(&[]);
}

impl Default for Policies<'_> {
    fn default() -> Self {
        Self {
            identity: Layer::NONE,
            boundary: None,
            session: None,
            narrowings: &[],
            resource: None,
            scps: &[],
            rcps: &[],
            missing: false,
        }
    }
}

/// One of the layers of [`Policies`]. Levels count from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LayerRef {
    Identity,
    Boundary,
    Session,
    Resource,
    Scp(u32),
    Rcp(u32),
    Narrowing(u32),
}

/// A statement of one of the policies of [`Policies`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct StatementRef {
    pub policy_type: PolicyType,
    pub layer: LayerRef,
    /// Its place in the layer; counts from 0.
    pub policy: u32,
    /// Its place in the document; counts from 0.
    pub statement: u32,
}

/// The answer, without allocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    pub decision: Decision,
    pub reason: Reason,
    pub determining: Determined,
}

/// The statements that determined a decision: the first of them, and how many there are.
#[derive(Debug, Clone, Copy)]
pub struct Determined {
    /// Those past the count are left over, and say nothing.
    first: [Packed; MAX_DETERMINING],
    count: usize,
}

impl PartialEq for Determined {
    fn eq(&self, other: &Self) -> bool {
        self.count == other.count && self.iter().eq(other.iter())
    }
}

impl Eq for Determined {}

/// A [`StatementRef`] in twelve bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Packed {
    /// The layer and the policy type in the low bits, the level above them.
    place: u32,
    policy: u32,
    statement: u32,
}

/// How many determining statements are named.
pub const MAX_DETERMINING: usize = 16;

const LAYERS: [fn(u32) -> LayerRef; 7] = [
    |_| LayerRef::Identity,
    |_| LayerRef::Boundary,
    |_| LayerRef::Session,
    |_| LayerRef::Resource,
    LayerRef::Scp,
    LayerRef::Rcp,
    LayerRef::Narrowing,
];

const TYPES: [PolicyType; 7] = [
    PolicyType::Identity,
    PolicyType::Resource,
    PolicyType::Trust,
    PolicyType::Boundary,
    PolicyType::Session,
    PolicyType::Scp,
    PolicyType::Rcp,
];

impl Packed {
    fn new(statement: StatementRef) -> Self {
        let StatementRef { policy_type, layer, policy, statement } = statement;
        let (layer, level) = match layer {
            LayerRef::Identity => (0, 0),
            LayerRef::Boundary => (1, 0),
            LayerRef::Session => (2, 0),
            LayerRef::Resource => (3, 0),
            LayerRef::Scp(level) => (4, level),
            LayerRef::Rcp(level) => (5, level),
            LayerRef::Narrowing(index) => (6, index),
        };
        // INVARIANT: the places in `LAYERS` and `TYPES`; the test holds them to it. Nobody has 67 million levels.
        let policy_type = match policy_type {
            PolicyType::Identity => 0,
            PolicyType::Resource => 1,
            PolicyType::Trust => 2,
            PolicyType::Boundary => 3,
            PolicyType::Session => 4,
            PolicyType::Scp => 5,
            PolicyType::Rcp => 6,
        };
        Self { place: layer | policy_type << 3 | level << 6, policy, statement }
    }

    fn unpacked(self) -> Option<StatementRef> {
        let Self { place, policy, statement } = self;
        let layer = LAYERS.get((place & 7) as usize)?(place >> 6);
        let policy_type = *TYPES.get((place >> 3 & 7) as usize)?;
        Some(StatementRef { policy_type, layer, policy, statement })
    }
}

impl Determined {
    const NONE: Self =
        Self { first: [Packed { place: 0, policy: 0, statement: 0 }; MAX_DETERMINING], count: 0 };

    /// How many there are, also of those that are not named.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    pub fn iter(&self) -> impl Iterator<Item = StatementRef> {
        self.first.iter().take(self.count).filter_map(|packed| packed.unpacked())
    }

    fn add(&mut self, statement: StatementRef) {
        if let Some(slot) = self.first.get_mut(self.count) {
            *slot = Packed::new(statement);
        }
        self.count += 1;
    }

    /// `other`'s after these.
    fn append(&mut self, other: &Self) {
        let count = self.count + other.count;
        other.iter().for_each(|statement| self.add(statement));
        self.count = count;
    }
}

/// Who keeps the determining statements.
pub(crate) trait Recorder {
    fn denied(&mut self, statement: StatementRef);
    fn allowed_by_identity(&mut self, statement: StatementRef);
    fn allowed_by_resource(&mut self, statement: StatementRef);
}

/// Buffers of two hundred bytes each: the second is only filled where a resource policy allows, and the statements that deny
/// take the place of those that allow, which no longer count.
#[derive(Debug)]
struct Bounded {
    is_denied: bool,
    /// Those that deny, or else those of identity policies that allow.
    first: Determined,
    resource: Option<Determined>,
}

impl Recorder for Bounded {
    fn denied(&mut self, statement: StatementRef) {
        if !self.is_denied {
            self.is_denied = true;
            self.first.count = 0;
        }
        self.first.add(statement);
    }

    fn allowed_by_identity(&mut self, statement: StatementRef) {
        if !self.is_denied {
            self.first.add(statement);
        }
    }

    fn allowed_by_resource(&mut self, statement: StatementRef) {
        if !self.is_denied {
            self.resource.get_or_insert(Determined::NONE).add(statement);
        }
    }
}

/// Decides one request by the policies that bear on it. Allocates nothing.
///
/// # Errors
/// [`InvalidQuery`]: what cannot be read is refused, and so denied.
pub fn evaluate(query: &Query<'_>, policies: &Policies<'_>) -> Result<Outcome, InvalidQuery> {
    if let Layer::Set(_, set) = &policies.identity {
        set.fetch();
    }
    let mut scratch = Scratch::new();
    let request = Prepared::new(query, &mut scratch)?;
    let mut recorder = Bounded { is_denied: false, first: Determined::NONE, resource: None };
    let (decision, reason) = decide(&request, policies, &mut recorder);
    match (decision, &recorder.resource) {
        (Decision::ImplicitDeny, _) => recorder.first.count = 0,
        (Decision::Allow, Some(resource)) => recorder.first.append(resource),
        (Decision::Allow, None) | (Decision::ExplicitDeny, _) => {}
    }
    Ok(Outcome { decision, reason, determining: recorder.first })
}

/// What the statements say, type by type.
#[derive(Debug, Default)]
struct Summary {
    denied: Option<PolicyType>,
    identity: bool,
    /// The most direct grant of the resource policy.
    grant: Option<Grant>,
    boundary: bool,
    session: bool,
    narrowings: bool,
    scps: bool,
}

pub(crate) fn decide(
    request: &Prepared<'_>,
    policies: &Policies<'_>,
    recorder: &mut impl Recorder,
) -> (Decision, Reason) {
    let summary = summarize(request, policies, recorder);
    // An explicit deny in any policy wins over every allow.
    if let Some(denied) = summary.denied {
        return (Decision::ExplicitDeny, Reason::denied_by(denied));
    }
    let ownership = request.ownership();
    // What a policy that is not at hand would deny is unknown.
    if policies.missing || ownership == Ownership::Contradiction {
        return (Decision::ImplicitDeny, Reason::CannotEvaluate);
    }
    // Narrowed, it can do nothing that a narrowing does not allow, whoever else allows it.
    if !summary.narrowings {
        return (Decision::ImplicitDeny, Reason::NotAllowedBySession);
    }
    match allowed(request, policies, &summary, ownership) {
        Ok(reason) => (Decision::Allow, reason),
        Err(reason) => (Decision::ImplicitDeny, reason),
    }
}

/// In the order in which denies are told: guardrails first.
fn summarize(
    request: &Prepared<'_>,
    policies: &Policies<'_>,
    recorder: &mut impl Recorder,
) -> Summary {
    let mut summary = Summary { scps: true, narrowings: true, ..Summary::default() };
    let has_boundary = policies.boundary.is_some();
    let mut denied = None;
    let mut ask = |layer: &Layer<'_>,
                   place: LayerRef,
                   recorder: &mut dyn FnMut(StatementRef, Told)| {
        let mut allows = false;
        let mut grant = None;
        visit(layer, request, has_boundary, place, &mut |statement, found| match found.effect {
            Effect::Allow => {
                allows = true;
                grant = grant.max(found.grant);
                recorder(statement, Told::Allow);
            }
            Effect::Deny => {
                denied.get_or_insert(statement.policy_type);
                recorder(statement, Told::Deny);
            }
        });
        (allows, grant)
    };
    for (level, layer) in (0..).zip(policies.rcps) {
        ask(layer, LayerRef::Rcp(level), &mut |statement, told| match told {
            Told::Deny => recorder.denied(statement),
            Told::Allow => {}
        });
    }
    for (level, layer) in (0..).zip(policies.scps) {
        let (allows, _) = ask(layer, LayerRef::Scp(level), &mut |statement, told| match told {
            Told::Deny => recorder.denied(statement),
            Told::Allow => {}
        });
        summary.scps &= allows;
    }
    if let Some(attached) = &policies.resource {
        let layer = Layer::Attached(std::slice::from_ref(attached));
        (_, summary.grant) = ask(&layer, LayerRef::Resource, &mut |statement, told| match told {
            Told::Deny => recorder.denied(statement),
            Told::Allow => recorder.allowed_by_resource(statement),
        });
    }
    (summary.identity, _) =
        ask(&policies.identity, LayerRef::Identity, &mut |statement, told| match told {
            Told::Deny => recorder.denied(statement),
            Told::Allow => recorder.allowed_by_identity(statement),
        });
    let mut limit = |layer: &Option<Layer<'_>>, place| {
        let Some(layer) = layer else { return false };
        let (allows, _) = ask(layer, place, &mut |statement, told| match told {
            Told::Deny => recorder.denied(statement),
            Told::Allow => {}
        });
        allows
    };
    summary.boundary = limit(&policies.boundary, LayerRef::Boundary);
    summary.session = limit(&policies.session, LayerRef::Session);
    for (index, layer) in (0..).zip(policies.narrowings) {
        summary.narrowings &= limit(&Some(*layer), LayerRef::Narrowing(index));
    }
    summary.denied = denied;
    summary
}

#[derive(Debug, Clone, Copy)]
enum Told {
    Allow,
    Deny,
}

fn visit(
    layer: &Layer<'_>,
    request: &Prepared<'_>,
    has_boundary: bool,
    place: LayerRef,
    found: &mut dyn FnMut(StatementRef, Applies),
) {
    match layer {
        Layer::Set(policy_type, set) => {
            let policy_type = *policy_type;
            let role = Role { policy_type, resolved: None, has_boundary };
            set.visit(request, &role, |policy, statement, applies| {
                found(StatementRef { policy_type, layer: place, policy, statement }, applies);
            });
        }
        Layer::Attached(attached) => {
            for (policy, attached) in (0..).zip(*attached) {
                let CompiledAttached { policy_type, policy: own, resolved } = *attached;
                let role = Role { policy_type, resolved, has_boundary };
                visit_policy(own, request, &role, |statement, applies| {
                    found(StatementRef { policy_type, layer: place, policy, statement }, applies);
                });
            }
        }
    }
}

/// Why it is allowed, or what is missing. No statement denies.
fn allowed(
    request: &Prepared<'_>,
    policies: &Policies<'_>,
    summary: &Summary,
    ownership: Ownership,
) -> Result<Reason, Reason> {
    let is_trust =
        policies.resource.as_ref().is_some_and(|policy| policy.policy_type == PolicyType::Trust);
    let needs_trust = is_trust
        || ROLE_ASSUMPTION.iter().any(|name| request.action.eq_ignore_ascii_case(name.as_bytes()));
    let (granted, no_grant) = if needs_trust {
        (Reason::AllowedByTrustPolicy, Reason::NoTrustAllow)
    } else {
        (Reason::AllowedByResourcePolicy, Reason::NoResourceAllow)
    };
    let limited = || within_limits(request, policies, summary);
    let own_right = match request.principal {
        Principal::Service { .. } => return summary.grant.map(|_| granted).ok_or(no_grant),
        Principal::External(_) | Principal::WebIdentity { .. } if !is_trust => {
            return Err(Reason::ExternalPrincipal);
        }
        Principal::External(_) | Principal::WebIdentity { .. } => {
            // Its identity side counts as allowed: AWS, or its provider, has answered for it.
            summary.grant.ok_or(no_grant)?;
            return limited().map(|()| granted);
        }
        Principal::AccountRoot { .. } => Ok(Reason::AllowedAsAccountRoot),
        Principal::User { .. }
        | Principal::Role { .. }
        | Principal::Session(_)
        | Principal::FederatedUser { .. } => match summary.identity {
            true => Ok(Reason::AllowedByIdentityPolicy),
            false => Err(Reason::NoIdentityAllow),
        },
    };
    // An allow is needed at every level; a level without policies denies (RULES.md 34).
    if !summary.scps {
        return Err(Reason::NotAllowedByScp);
    }
    // A session that chains must itself be allowed to set the source identity (RULES.md 41).
    if request.action.eq_ignore_ascii_case(SET_SOURCE_IDENTITY.as_bytes())
        && is_chaining(request.principal)
    {
        own_right?;
        limited()?;
    }
    match (ownership, summary.grant) {
        (Ownership::Contradiction, _) => Err(Reason::CannotEvaluate),
        // In the same account, whoever is named needs no identity policy, and no boundary or session policy.
        (Ownership::SameAccount, Some(Grant::Direct)) => Ok(granted),
        // A grant to the role reaches its sessions, within boundary and session policy.
        (Ownership::SameAccount, Some(Grant::Role)) => limited().map(|()| granted),
        // The account only delegates; a role must be trusted.
        (Ownership::SameAccount, None) if needs_trust => Err(no_grant),
        (Ownership::SameAccount, Some(Grant::Account) | None) => {
            let reason = own_right?;
            limited()?;
            Ok(if needs_trust { granted } else { reason })
        }
        // Across accounts both sides must allow.
        (Ownership::CrossAccount, grant) => {
            let reason = own_right?;
            grant.ok_or(no_grant)?;
            limited()?;
            Ok(if needs_trust { granted } else { reason })
        }
    }
}

/// Boundary and session policy grant nothing; where there is one, it must allow too.
fn within_limits(
    request: &Prepared<'_>,
    policies: &Policies<'_>,
    summary: &Summary,
) -> Result<(), Reason> {
    let is_root = matches!(request.principal, Principal::AccountRoot { .. });
    if policies.boundary.is_some() && !is_root && !summary.boundary {
        return Err(Reason::NotAllowedByBoundary);
    }
    if policies.session.is_some() && !summary.session {
        return Err(Reason::NotAllowedBySession);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_is_unpacked() {
        let layers = LAYERS.map(|layer| layer(7));
        for layer in layers.into_iter().chain([LayerRef::Scp(0), LayerRef::Rcp(1 << 25)]) {
            for policy_type in TYPES {
                let packed = StatementRef { policy_type, layer, policy: u32::MAX, statement: 3 };
                assert_eq!(Packed::new(packed).unpacked(), Some(packed));
            }
        }
    }
}
