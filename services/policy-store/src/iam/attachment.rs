//! Managed policies, attached to users, groups and roles.

use super::{group, policy, quota::Quotas, role, user};
use crate::{
    error::Error,
    layout::{self, Mark},
    view::{Plan, View},
};
use countersign_policy::arn::AccountId;

/// To whom.
#[derive(Clone, Copy)]
pub enum To<'a> {
    /// A user, by name.
    User(&'a str),
    /// A role, by name.
    Role(&'a str),
    /// A group, by name.
    Group(&'a str),
}

/// Attaches a policy of the account, or one of AWS's own. Attaching it again changes nothing, and is no error (as in IAM).
pub fn attach(
    view: &View,
    plan: &mut Plan,
    account: &AccountId,
    to: To<'_>,
    policy_arn: &str,
    quotas: &Quotas,
) -> Result<(), Error> {
    let policy = policy::find_visible(view, account, policy_arn)?;
    change(view, plan, account, to, |arns, unique_id, plan| {
        if arns.iter().any(|arn| arn == policy_arn) {
            return Ok(());
        }
        if arns.len() >= quotas.attached_policies {
            let what = "policies attached to one user, group or role".to_owned();
            return Err(Error::LimitExceeded { what, limit: quotas.attached_policies });
        }
        arns.push(policy_arn.to_owned());
        plan.put(&layout::attachment(&policy.policy_id, account, unique_id), &Mark {});
        Ok(())
    })
}

/// Takes a policy away.
pub fn detach(
    view: &View,
    plan: &mut Plan,
    account: &AccountId,
    from: To<'_>,
    policy_arn: &str,
) -> Result<(), Error> {
    let policy = policy::find_visible(view, account, policy_arn)?;
    change(view, plan, account, from, |arns, unique_id, plan| {
        let before = arns.len();
        arns.retain(|arn| arn != policy_arn);
        if arns.len() == before {
            return Err(Error::no_such("attached policy", policy_arn));
        }
        plan.delete(&layout::attachment(&policy.policy_id, account, unique_id));
        Ok(())
    })
}

fn change(
    view: &View,
    plan: &mut Plan,
    account: &AccountId,
    to: To<'_>,
    change: impl FnOnce(&mut Vec<String>, &str, &mut Plan) -> Result<(), Error>,
) -> Result<(), Error> {
    match to {
        To::User(name) => {
            let mut record = user::find(view, account, name)?;
            change(&mut record.attached_policy_arns, &record.user_id, plan)?;
            plan.put(&layout::user(account, name), &record);
        }
        To::Role(name) => {
            let mut record = role::find(view, account, name)?;
            change(&mut record.attached_policy_arns, &record.role_id, plan)?;
            plan.put(&layout::role(account, name), &record);
        }
        To::Group(name) => {
            let mut record = group::find(view, account, name)?;
            change(&mut record.attached_policy_arns, &record.group_id, plan)?;
            plan.put(&layout::group(account, name), &record);
        }
    }
    Ok(())
}
