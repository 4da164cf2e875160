//! An account's entities, as an export has them, on their way into an account: in which order, and how each is made.
//!
//! Policies come before what they are attached to, groups before their members, users before the roles that trust them. Each entity is made
//! whole, with its inline policies, attachments, groups and boundary, so that none is there without a Deny that it should have. A role
//! whose trust policy names a role that comes later trusts nobody until all roles are there.
//!
//! [`parse`] holds an export to its form; who may import it, and in how many commits, is decided elsewhere.

pub mod parse;

use std::collections::BTreeSet;

use countersign_policy::arn::AccountId;
use countersign_proto::policy::v1::{GroupRecord, InlinePolicy, ManagedPolicyRecord, Tag};

use super::{
    attachment::{self, To},
    group, inline, name,
    policy::{self, NewPolicy},
    quota::Quotas,
    role::{self, NewRole},
    tags,
    user::{self, NewUser},
};
use crate::{error::Error, layout, view::View};

/// The trust policy of a role whose own names roles that are not there yet.
const NOBODY_YET: &str = r#"{"Version":"2012-10-17","Statement":[{"Sid":"CountersignImportIsNotDone","Effect":"Deny","Principal":"*","Action":"sts:AssumeRole"}]}"#;

/// One entity to be made, or a trust policy to be put in force.
pub struct Step {
    /// Where it stands in the request: `/role_detail_list/0`.
    pub at: String,
    pub content: Content,
}

pub enum Content {
    /// One of AWS's own, which is to be there already: its ARN.
    AwsPolicy(String),
    Policy(Policy),
    Group(Principal),
    User(Principal),
    Role(Principal),
    /// A role of this name is to trust whom this text names, now that all roles are there.
    Trust {
        role_name: String,
        document: String,
    },
}

pub struct Policy {
    pub new: NewPolicy,
    /// Oldest first: the number and the text of each.
    pub versions: Vec<(i32, String)>,
    pub default_version: i32,
}

/// A user, group or role; what its kind does not have is empty. ARNs are those of the account that it is imported into.
#[derive(Default)]
pub struct Principal {
    pub path: String,
    pub name: String,
    pub inline: Vec<InlinePolicy>,
    pub attached: Vec<String>,
    pub groups: Vec<String>,
    pub boundary: String,
    pub tags: Vec<Tag>,
    pub description: String,
    pub max_session_duration: i32,
    pub trust: String,
    /// A [`Content::Trust`] follows.
    pub trusts_later: bool,
}

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Created,
    /// It is there already, just as the request has it.
    Unchanged,
    /// A role was given its trust policy.
    Completed,
    /// There is nothing to do.
    Nothing,
}

impl Step {
    /// Where the entity stands, so that many can be fetched together.
    pub fn key(&self, account: &AccountId) -> Option<Vec<u8>> {
        let key = match &self.content {
            Content::AwsPolicy(arn) => return policy_key(arn),
            Content::Policy(policy) => {
                layout::policy(account.as_str(), &policy.new.policy_name).as_bytes().to_vec()
            }
            Content::Group(it) => layout::group(account, &it.name).as_bytes().to_vec(),
            Content::User(it) => layout::user(account, &it.name).as_bytes().to_vec(),
            Content::Role(it) => layout::role(account, &it.name).as_bytes().to_vec(),
            Content::Trust { role_name, .. } => {
                layout::role(account, role_name).as_bytes().to_vec()
            }
        };
        Some(key)
    }

    /// Where what it names stands.
    pub fn references(&self, account: &AccountId) -> Vec<Vec<u8>> {
        match &self.content {
            Content::AwsPolicy(_) | Content::Policy(_) | Content::Trust { .. } => Vec::new(),
            Content::Group(it) | Content::User(it) | Content::Role(it) => {
                let policies =
                    it.attached.iter().chain([&it.boundary]).filter_map(|arn| policy_key(arn));
                let groups =
                    it.groups.iter().map(|name| layout::group(account, name).as_bytes().to_vec());
                policies.chain(groups).collect()
            }
        }
    }

    /// Makes the entity, or finds it there as it should be.
    ///
    /// # Errors
    /// Those of the operations that make it; `EntityAlreadyExists` for another of the name.
    pub fn run(&self, view: &View, account: &AccountId, quotas: &Quotas) -> Result<Outcome, Error> {
        match &self.content {
            Content::AwsPolicy(arn) => {
                policy::find_visible(view, account, arn).map(|_| Outcome::Nothing)
            }
            Content::Policy(policy) => put_policy(view, account, policy, quotas),
            Content::Group(group) => put_group(view, account, group, quotas),
            Content::User(user) => put_user(view, account, user, quotas),
            Content::Role(role) => put_role(view, account, role, quotas),
            Content::Trust { role_name, document } => put_trust(view, account, role_name, document),
        }
    }
}

fn policy_key(arn: &str) -> Option<Vec<u8>> {
    let (owner, _, name) = name::parse_policy_arn("policy_arn", arn).ok()?;
    Some(layout::policy(owner, name).as_bytes().to_vec())
}

/// Finds an entity to be as it should, or says that its name is taken.
fn unchanged(is_same: bool, kind: &'static str, name: &str) -> Result<Outcome, Error> {
    if is_same { Ok(Outcome::Unchanged) } else { Err(Error::exists(kind, name)) }
}

fn put_policy(
    view: &View,
    account: &AccountId,
    policy: &Policy,
    quotas: &Quotas,
) -> Result<Outcome, Error> {
    let Policy { new, versions, default_version } = policy;
    if let Some(record) = view.find(&layout::policy(account.as_str(), &new.policy_name))? {
        return unchanged(is_same_policy(view, &record, policy)?, "policy", &new.policy_name);
    }
    let texts: Vec<(i32, &str)> =
        versions.iter().map(|(number, text)| (*number, text.as_str())).collect();
    view.step(|plan| {
        policy::create_with(view, plan, account, new, &texts, *default_version, quotas)
    })?;
    Ok(Outcome::Created)
}

fn is_same_policy(
    view: &View,
    record: &ManagedPolicyRecord,
    policy: &Policy,
) -> Result<bool, Error> {
    let Policy { new, versions, default_version } = policy;
    let same = record.policy_name == new.policy_name
        && record.path == name::path("path", &new.path)?
        && record.description == new.description
        && record.tags == tags::merged(Vec::new(), &new.tags)?
        && record.default_version_id == format!("v{default_version}")
        && record.versions.len() == versions.len();
    if !same {
        return Ok(false);
    }
    for (number, text) in versions {
        let key = layout::policy_version(&record.policy_id, &format!("v{number}"));
        if view.find(&key)?.is_none_or(|version| version.document != *text) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn put_group(
    view: &View,
    account: &AccountId,
    new: &Principal,
    quotas: &Quotas,
) -> Result<Outcome, Error> {
    if let Some(record) = view.find(&layout::group(account, &new.name))? {
        let GroupRecord { group_name, path, inline_policies, attached_policy_arns, .. } = &record;
        let is_same = *group_name == new.name
            && path == name::path("path", &new.path)?
            && has_same(new, inline_policies, attached_policy_arns);
        return unchanged(is_same, "group", &new.name);
    }
    view.step(|plan| group::create(view, plan, account, &new.path, &new.name, quotas))?;
    furnish(view, account, To::Group(&new.name), new, quotas)
}

fn put_user(
    view: &View,
    account: &AccountId,
    new: &Principal,
    quotas: &Quotas,
) -> Result<Outcome, Error> {
    if let Some(record) = view.find(&layout::user(account, &new.name))? {
        let mut is_same = record.user_name == new.name
            && record.path == name::path("path", &new.path)?
            && record.permissions_boundary_arn == new.boundary
            && record.tags == tags::merged(Vec::new(), &new.tags)?
            && has_same(new, &record.inline_policies, &record.attached_policy_arns)
            && record.group_ids.len() == new.groups.len();
        for name in &new.groups {
            is_same &= record.group_ids.contains(&group::find(view, account, name)?.group_id);
        }
        return unchanged(is_same, "user", &new.name);
    }
    let made = NewUser {
        path: new.path.clone(),
        user_name: new.name.clone(),
        permissions_boundary: new.boundary.clone(),
        tags: new.tags.clone(),
    };
    view.step(|plan| user::create(view, plan, account, &made, quotas))?;
    for name in &new.groups {
        view.step(|plan| group::add_user(view, plan, account, name, &new.name, quotas))?;
    }
    furnish(view, account, To::User(&new.name), new, quotas)
}

fn put_role(
    view: &View,
    account: &AccountId,
    new: &Principal,
    quotas: &Quotas,
) -> Result<Outcome, Error> {
    if let Some(record) = view.find(&layout::role(account, &new.name))? {
        let trust = &record.assume_role_policy_document;
        let is_same = record.role_name == new.name
            && record.path == name::path("path", &new.path)?
            && record.permissions_boundary_arn == new.boundary
            && record.tags == tags::merged(Vec::new(), &new.tags)?
            && record.description == new.description
            && record.max_session_duration == new.max_session_duration
            && (*trust == new.trust || (new.trusts_later && trust == NOBODY_YET))
            && has_same(new, &record.inline_policies, &record.attached_policy_arns);
        return unchanged(is_same, "role", &new.name);
    }
    let trust = if new.trusts_later { NOBODY_YET } else { &new.trust };
    let made = NewRole {
        path: new.path.clone(),
        role_name: new.name.clone(),
        assume_role_policy_document: trust.to_owned(),
        description: new.description.clone(),
        max_session_duration: new.max_session_duration,
        permissions_boundary: new.boundary.clone(),
        tags: new.tags.clone(),
    };
    view.step(|plan| role::create(view, plan, account, &made, quotas))?;
    furnish(view, account, To::Role(&new.name), new, quotas)
}

fn put_trust(
    view: &View,
    account: &AccountId,
    role_name: &str,
    document: &str,
) -> Result<Outcome, Error> {
    let role = role::find(view, account, role_name)?;
    if role.assume_role_policy_document == document {
        return Ok(Outcome::Nothing);
    }
    if role.assume_role_policy_document != NOBODY_YET {
        return Err(Error::exists("role", role_name));
    }
    view.step(|plan| role::update_trust(view, plan, account, role_name, document))?;
    Ok(Outcome::Completed)
}

/// Gives a new user, group or role what it is to have.
fn furnish(
    view: &View,
    account: &AccountId,
    to: To<'_>,
    new: &Principal,
    quotas: &Quotas,
) -> Result<Outcome, Error> {
    for arn in &new.attached {
        view.step(|plan| attachment::attach(view, plan, account, to, arn, quotas))?;
    }
    for InlinePolicy { policy_name, policy_document } in &new.inline {
        view.step(|plan| inline::put(view, plan, account, to, policy_name, policy_document))?;
    }
    Ok(Outcome::Created)
}

/// Whether these are the policies that it is to have, in whatever order.
fn has_same(new: &Principal, inline: &[InlinePolicy], attached: &[String]) -> bool {
    let texts = |policies: &[InlinePolicy]| -> BTreeSet<(String, String)> {
        let pair = |it: &InlinePolicy| (it.policy_name.clone(), it.policy_document.clone());
        policies.iter().map(pair).collect()
    };
    let wanted: BTreeSet<&String> = new.attached.iter().collect();
    texts(&new.inline) == texts(inline) && wanted == attached.iter().collect()
}
