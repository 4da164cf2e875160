//! Inline policies of users, groups and roles.

use countersign_policy::{
    arn::AccountId,
    findings::{DocumentKind, Finding},
};
use countersign_proto::policy::v1::InlinePolicy;

use super::{attachment::To, document, group, name, quota, role, user};
use crate::{
    error::Error,
    layout,
    view::{Plan, View},
};

/// What an inline policy that is not there is called.
pub const KIND: &str = "inline policy";

/// The inline policies, and the spelling of the owner's name.
pub fn list(
    view: &View,
    account: &AccountId,
    of: To<'_>,
) -> Result<(String, Vec<InlinePolicy>), Error> {
    match of {
        To::User(name) => {
            user::find(view, account, name).map(|user| (user.user_name, user.inline_policies))
        }
        To::Role(name) => {
            role::find(view, account, name).map(|role| (role.role_name, role.inline_policies))
        }
        To::Group(name) => {
            group::find(view, account, name).map(|group| (group.group_name, group.inline_policies))
        }
    }
}

/// One inline policy, and the spelling of the owner's name.
pub fn find(
    view: &View,
    account: &AccountId,
    of: To<'_>,
    policy_name: &str,
) -> Result<(String, InlinePolicy), Error> {
    name::name("policy_name", policy_name, 128)?;
    let (owner, policies) = list(view, account, of)?;
    let found = policies.into_iter().find(|policy| policy.policy_name == policy_name);
    Ok((owner, found.ok_or_else(|| Error::no_such(KIND, policy_name))?))
}

/// Writes an inline policy, in place of one of the same name.
pub fn put(
    view: &View,
    plan: &mut Plan,
    account: &AccountId,
    of: To<'_>,
    policy_name: &str,
    policy_document: &str,
) -> Result<Vec<Finding>, Error> {
    name::name("policy_name", policy_name, 128)?;
    let (kind, limit) = match of {
        To::User(_) => (DocumentKind::InlineUserPolicy, quota::USER_INLINE_CHARACTERS),
        To::Role(_) => (DocumentKind::InlineRolePolicy, quota::ROLE_INLINE_CHARACTERS),
        To::Group(_) => (DocumentKind::InlineGroupPolicy, quota::GROUP_INLINE_CHARACTERS),
    };
    let accepted = document::accept("policy_document", policy_document, kind)?;
    change(view, plan, account, of, |policies| {
        let new = InlinePolicy {
            policy_name: policy_name.to_owned(),
            policy_document: policy_document.to_owned(),
        };
        // Names of inline policies are case-sensitive in their own user or role.
        policies.retain(|policy| policy.policy_name != policy_name);
        policies.push(new);
        policies.sort_by(|a, b| a.policy_name.cmp(&b.policy_name));
        let characters: usize =
            policies.iter().map(|policy| document::counted(&policy.policy_document)).sum();
        let bytes: usize = policies.iter().map(|policy| policy.policy_document.len()).sum();
        if characters > limit || bytes > quota::DOCUMENT_BYTES {
            let what = "characters of all inline policies together, without white space".to_owned();
            return Err(Error::LimitExceeded { what, limit });
        }
        Ok(())
    })?;
    Ok(accepted.findings)
}

/// Deletes an inline policy.
pub fn delete(
    view: &View,
    plan: &mut Plan,
    account: &AccountId,
    of: To<'_>,
    policy_name: &str,
) -> Result<(), Error> {
    name::name("policy_name", policy_name, 128)?;
    change(view, plan, account, of, |policies| {
        let before = policies.len();
        policies.retain(|policy| policy.policy_name != policy_name);
        if policies.len() == before {
            return Err(Error::no_such(KIND, policy_name));
        }
        Ok(())
    })
}

fn change(
    view: &View,
    plan: &mut Plan,
    account: &AccountId,
    of: To<'_>,
    change: impl FnOnce(&mut Vec<InlinePolicy>) -> Result<(), Error>,
) -> Result<(), Error> {
    match of {
        To::User(name) => {
            let mut record = user::find(view, account, name)?;
            change(&mut record.inline_policies)?;
            plan.put(&layout::user(account, name), &record);
        }
        To::Role(name) => {
            let mut record = role::find(view, account, name)?;
            change(&mut record.inline_policies)?;
            plan.put(&layout::role(account, name), &record);
        }
        To::Group(name) => {
            let mut record = group::find(view, account, name)?;
            change(&mut record.inline_policies)?;
            plan.put(&layout::group(account, name), &record);
        }
    }
    Ok(())
}
