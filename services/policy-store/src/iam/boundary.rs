//! Permissions boundaries of users and roles: a managed policy that says the most they can be allowed.
//!
//! Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/access_policies_boundaries.html>.

use countersign_policy::arn::AccountId;

use super::{name, policy, role, user};
use crate::{
    error::Error,
    layout::{self, Mark},
    view::{Plan, View},
};

/// Whose.
#[derive(Clone, Copy)]
pub enum Of<'a> {
    /// A user's, by name.
    User(&'a str),
    /// A role's, by name.
    Role(&'a str),
}

/// Sets a boundary, in place of another.
pub fn put(
    view: &View,
    plan: &mut Plan,
    account: &AccountId,
    of: Of<'_>,
    policy_arn: &str,
) -> Result<(), Error> {
    change(view, plan, account, of, |unique_id, held, plan| {
        if held == policy_arn {
            return Ok(());
        }
        end(view, plan, account, unique_id, held)?;
        begin(view, plan, account, unique_id, policy_arn)?;
        policy_arn.clone_into(held);
        Ok(())
    })
}

/// Takes the boundary away.
pub fn delete(view: &View, plan: &mut Plan, account: &AccountId, of: Of<'_>) -> Result<(), Error> {
    change(view, plan, account, of, |unique_id, held, plan| {
        if held.is_empty() {
            return Err(Error::no_such("permissions boundary", "of this user or role"));
        }
        end(view, plan, account, unique_id, held)?;
        held.clear();
        Ok(())
    })
}

/// That a new user or role has this boundary: the policy is there, and cannot be deleted while it is one.
pub fn begin(
    view: &View,
    plan: &mut Plan,
    account: &AccountId,
    unique_id: &str,
    policy_arn: &str,
) -> Result<(), Error> {
    name::parse_policy_arn("permissions_boundary", policy_arn)?;
    let policy = policy::find_visible(view, account, policy_arn)?;
    plan.put(&layout::boundary(&policy.policy_id, account, unique_id), &Mark {});
    Ok(())
}

/// That a user or role no longer has this boundary; empty: it had none.
pub fn end(
    view: &View,
    plan: &mut Plan,
    account: &AccountId,
    unique_id: &str,
    policy_arn: &str,
) -> Result<(), Error> {
    if policy_arn.is_empty() {
        return Ok(());
    }
    let policy = policy::find_visible(view, account, policy_arn)?;
    plan.delete(&layout::boundary(&policy.policy_id, account, unique_id));
    Ok(())
}

fn change(
    view: &View,
    plan: &mut Plan,
    account: &AccountId,
    of: Of<'_>,
    change: impl FnOnce(&str, &mut String, &mut Plan) -> Result<(), Error>,
) -> Result<(), Error> {
    match of {
        Of::User(name) => {
            let mut record = user::find(view, account, name)?;
            change(&record.user_id, &mut record.permissions_boundary_arn, plan)?;
            plan.put(&layout::user(account, name), &record);
        }
        Of::Role(name) => {
            let mut record = role::find(view, account, name)?;
            change(&record.role_id, &mut record.permissions_boundary_arn, plan)?;
            plan.put(&layout::role(account, name), &record);
        }
    }
    Ok(())
}
