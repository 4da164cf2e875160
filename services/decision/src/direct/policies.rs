//! Policies, ready, by the very names that a principal has attached, while the policies' [`Mark`] is the same.

use std::{collections::HashMap, sync::Arc};

use countersign_evaluator::{
    Subject,
    ready::Ready,
    snapshot::{Mark, Name, RoleEntry, UserEntry},
};
use countersign_policy::{action::Action, arn::AccountId};
use countersign_replica::World;

use super::answer::Rendered;

/// Sets of policies that are ready.
const READY: usize = 8192;

/// Policies, ready, while nobody changed them.
#[derive(Default)]
pub struct Policies {
    mark: Mark,
    /// By a hash over the places of the names in memory, which those that the same snapshot shares have in common.
    ready: HashMap<u64, (Attachments, Arc<Rendered>)>,
}

/// What decides which policies a principal has, beside the policies themselves.
struct Attachments {
    account: AccountId,
    attached: Box<[Name]>,
    boundary: Option<Name>,
    groups: Box<[Name]>,
    inline: Inline,
}

/// Whose inline policies there are: a record that is held cannot be another's.
enum Inline {
    None,
    User(Arc<UserEntry>),
    Role(Arc<RoleEntry>),
}

/// The same, of a principal that is looked at.
struct Looked<'a> {
    account: AccountId,
    attached: &'a [Name],
    boundary: Option<&'a Name>,
    groups: &'a [Name],
    inline: InlineOf<'a>,
}

#[derive(Clone, Copy)]
enum InlineOf<'a> {
    None,
    User(&'a Arc<UserEntry>),
    Role(&'a Arc<RoleEntry>),
}

impl Looked<'_> {
    fn hash(&self) -> u64 {
        let names = self.attached.iter().chain(self.boundary).chain(self.groups);
        let own = match self.inline {
            InlineOf::None => 0,
            InlineOf::User(user) => Arc::as_ptr(user).addr(),
            InlineOf::Role(role) => Arc::as_ptr(role).addr(),
        };
        let places = names.map(|name| name.as_ptr().addr()).chain([own, self.groups.len()]);
        places.fold(0, |hash: u64, place| {
            let mixed = (hash ^ u64::try_from(place).unwrap_or_default())
                .wrapping_mul(0x9E37_79B9_7F4A_7C15);
            mixed ^ (mixed >> 29)
        })
    }

    fn is(&self, kept: &Attachments) -> bool {
        let own = match (&kept.inline, self.inline) {
            (Inline::None, InlineOf::None) => true,
            (Inline::User(kept), InlineOf::User(user)) => Arc::ptr_eq(kept, user),
            (Inline::Role(kept), InlineOf::Role(role)) => Arc::ptr_eq(kept, role),
            (Inline::None | Inline::User(_) | Inline::Role(_), _) => false,
        };
        own && kept.account == self.account
            && *kept.attached == *self.attached
            && kept.boundary.as_ref() == self.boundary
            && *kept.groups == *self.groups
    }

    fn kept(&self) -> Attachments {
        Attachments {
            account: self.account,
            attached: self.attached.into(),
            boundary: self.boundary.cloned(),
            groups: self.groups.into(),
            inline: match self.inline {
                InlineOf::None => Inline::None,
                InlineOf::User(user) => Inline::User(Arc::clone(user)),
                InlineOf::Role(role) => Inline::Role(Arc::clone(role)),
            },
        }
    }
}

impl Policies {
    /// A user's. None where something is missing.
    pub fn of_user(&mut self, world: &World, user: &Arc<UserEntry>) -> Option<Arc<Rendered>> {
        let looked = Looked {
            account: user.account,
            attached: &user.attached,
            boundary: user.boundary.as_ref(),
            groups: &user.groups,
            inline: if user.inline.is_empty() { InlineOf::None } else { InlineOf::User(user) },
        };
        self.get(world, &looked, || world.snapshot().user_subject(&user.arn()).ok())
    }

    /// A role's, without its trust policy.
    pub fn of_role(&mut self, world: &World, role: &Arc<RoleEntry>) -> Option<Arc<Rendered>> {
        let looked = Looked {
            account: role.account,
            attached: &role.attached,
            boundary: role.boundary.as_ref(),
            groups: &[],
            inline: if role.inline.is_empty() { InlineOf::None } else { InlineOf::Role(role) },
        };
        self.get(world, &looked, || world.snapshot().role_subject(&role.arn()).ok())
    }

    fn get(
        &mut self,
        world: &World,
        looked: &Looked<'_>,
        subject: impl FnOnce() -> Option<Subject>,
    ) -> Option<Arc<Rendered>> {
        let mark = world.snapshot().policies_mark();
        if self.mark != *mark || self.ready.len() >= READY {
            self.ready.clear();
            self.mark = mark.clone();
        }
        let hash = looked.hash();
        if let Some((kept, ready)) = self.ready.get(&hash)
            && looked.is(kept)
        {
            return Some(Arc::clone(ready));
        }
        let made = Arc::new(Rendered::new(ready(world, looked.account, &subject()?)?));
        self.ready.insert(hash, (looked.kept(), Arc::clone(&made)));
        Some(made)
    }
}

/// A principal's policies, and what stands over its account, for questions about the account's own resources.
fn ready(world: &World, account: AccountId, subject: &Subject) -> Option<Ready> {
    let mut policies = subject.policy_set();
    // Of all actions that come this way, resource control policies apply to each alike.
    let any: Action = "any:Action".parse().ok()?;
    world.snapshot().add_guardrails(&mut policies, &subject.principal, &any, Some(account));
    if policies.missing.is_empty() { Ready::new(policies) } else { None }
}
