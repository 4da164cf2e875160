//! Policies made ready for many questions: what one principal has, and what stands over it, compiled into sets once.
//!
//! The answers are those of [`crate::compiled::decide`], without its preparations. Declines to know: the resource's own policy, and
//! principals that were resolved when a document was written, and narrowings, which are of one token; a set with any is not made ready.

use std::sync::Arc;

use countersign_policy::action::Action;
use countersign_policy::document::{Clause, Effect, Statement};

use crate::compiled::{
    self, CompiledPolicy, CompiledSet, InvalidQuery, Layer, LayerRef, Outcome, Policies, Query,
    StatementRef,
};
use crate::effort::Weight;
use crate::policies::{Attached, PolicySet, PolicyType};

/// A set of policies, ready.
#[derive(Debug)]
pub struct Ready {
    set: PolicySet,
    identity: CompiledSet,
    boundary: Option<CompiledSet>,
    session: Option<CompiledSet>,
    scps: Vec<CompiledSet>,
    rcps: Vec<CompiledSet>,
    weight: Weight,
}

impl Ready {
    /// None for a set with a resource's policy, with principals that were resolved, or with narrowings.
    #[must_use]
    pub fn new(set: PolicySet) -> Option<Self> {
        let is_resolved = set.all().any(|attached| attached.resolved.is_some());
        if set.resource.is_some() || is_resolved || !set.narrowings.is_empty() {
            return None;
        }
        let of = |list: &[Attached]| compiled_set(&set, list);
        let levels = |levels: &[Vec<Attached>]| levels.iter().map(|level| of(level)).collect();
        Some(Self {
            identity: of(&set.identity),
            boundary: set.boundary.as_deref().map(of),
            session: set.session.as_deref().map(of),
            scps: levels(&set.scps),
            rcps: levels(&set.rcps),
            weight: set.all().map(|attached| Weight::of(&attached.document)).sum(),
            set,
        })
    }

    /// What it was made of.
    #[must_use]
    pub fn set(&self) -> &PolicySet {
        &self.set
    }

    /// How much work a question may be: see [`Weight::most`].
    #[must_use]
    pub fn weight(&self) -> Weight {
        self.weight
    }

    /// Asks memory for what a decision reads first, for whoever knows beforehand whom the next question is about. Changes nothing.
    pub fn fetch(&self) {
        self.identity.fetch();
    }

    /// The same for the principal's own policies, once what [`Self::fetch`] asked for has arrived.
    pub fn fetch_policies(&self) {
        self.identity.fetch_policies();
    }

    /// Decides one question about a resource without a policy of its own.
    ///
    /// # Errors
    /// [`InvalidQuery`]: what cannot be read is refused, and so denied.
    pub fn evaluate(&self, query: &Query<'_>) -> Result<Outcome, InvalidQuery> {
        let scps = layers(PolicyType::Scp, &self.scps);
        let rcps = layers(PolicyType::Rcp, &self.rcps);
        let policies = Policies {
            identity: Layer::Set(PolicyType::Identity, &self.identity),
            boundary: self.boundary.as_ref().map(|set| Layer::Set(PolicyType::Boundary, set)),
            session: self.session.as_ref().map(|set| Layer::Set(PolicyType::Session, set)),
            // INVARIANT: none was made ready with any.
            narrowings: &[],
            resource: None,
            scps: &scps,
            rcps: &rcps,
            missing: !self.set.missing.is_empty(),
        };
        compiled::evaluate(query, &policies)
    }

    /// A statement that determined a decision, and the policy that it stands in.
    #[must_use]
    pub fn statement(&self, found: StatementRef) -> Option<(&Attached, &Statement)> {
        let place = |level: u32| usize::try_from(level).unwrap_or(usize::MAX);
        let list = match found.layer {
            LayerRef::Identity => self.set.identity.as_slice(),
            LayerRef::Boundary => self.set.boundary.as_deref()?,
            LayerRef::Session => self.set.session.as_deref()?,
            LayerRef::Resource => self.set.resource.as_slice(),
            LayerRef::Scp(level) => self.set.scps.get(place(level))?,
            LayerRef::Rcp(level) => self.set.rcps.get(place(level))?,
            LayerRef::Narrowing(index) => self.set.narrowings.get(place(index))?,
        };
        let attached = list.get(place(found.policy))?;
        Some((attached, attached.document.statements().get(place(found.statement))?))
    }
}

/// Nothing is allocated where there is no level.
fn layers(of: PolicyType, sets: &[CompiledSet]) -> Vec<Layer<'_>> {
    sets.iter().map(|set| Layer::Set(of, set)).collect()
}

fn compiled_set(set: &PolicySet, list: &[Attached]) -> CompiledSet {
    let program = |attached: &Attached| -> Arc<CompiledPolicy> {
        let mut known = set.programs.iter();
        let known = known.find(|program| Arc::ptr_eq(&program.document, &attached.document));
        known.map_or_else(
            || Arc::new(compiled::compile(&attached.document)),
            |program| Arc::clone(&program.policy),
        )
    };
    CompiledSet::new(list.iter().map(program).collect())
}

/// Whether these policies allow `action` on every resource of the principal's own account, whatever is in the request's context: what
/// is asked with every question need then be asked once. False says nothing: the policies may allow it all the same.
///
/// Looked for is a plain Allow, of the action on `*` without a condition, in the identity policies and in everything that limits them;
/// and no Deny that may be about the action, wherever it stands. Not for actions that a role's trust policy has a say in.
#[must_use]
pub fn always_allows(set: &PolicySet, action: &Action) -> bool {
    let lists = || {
        let limits =
            set.boundary.iter().chain(&set.session).chain(&set.narrowings).chain(&set.scps);
        std::iter::once(&set.identity).chain(limits)
    };
    let is_denied = set
        .all()
        .flat_map(|attached| attached.document.statements())
        .any(|statement| statement.effect == Effect::Deny && may_be_about(statement, action));
    let is_plain = |attached: &Attached| {
        attached.document.statements().iter().any(|statement| plainly_allows(statement, action))
    };
    set.missing.is_empty()
        && set.resource.is_none()
        && !is_denied
        && lists().all(|list| list.iter().any(is_plain))
}

/// `NotAction` may be about anything.
fn may_be_about(statement: &Statement, action: &Action) -> bool {
    let Clause { negated, elements, .. } = &statement.actions;
    *negated || elements.iter().any(|element| element.value.matches(action))
}

fn plainly_allows(statement: &Statement, action: &Action) -> bool {
    let actions = &statement.actions;
    statement.effect == Effect::Allow
        && statement.principals.is_none()
        && statement.conditions.is_empty()
        && !actions.negated
        && actions.elements.iter().any(|element| element.value.matches(action))
        && statement.resources.as_ref().is_some_and(|clause| {
            !clause.negated && clause.elements.iter().any(|element| element.value.is_any())
        })
}
