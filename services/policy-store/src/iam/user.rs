//! Users.

use countersign_policy::arn::AccountId;
use countersign_proto::policy::v1::{AccessKeyRecord, Tag, UserRecord};

use super::{
    boundary, group, name,
    quota::{self, Counted, Quotas},
    tags,
};
use crate::{
    error::Error,
    layout::{self, UniqueId},
    view::{Plan, View},
};

/// The user `user_name`.
pub fn find(view: &View, account: &AccountId, user_name: &str) -> Result<UserRecord, Error> {
    name::name("user_name", user_name, 64)?;
    view.find(&layout::user(account, user_name))?.ok_or_else(|| Error::no_such("user", user_name))
}

/// A user to be made.
pub struct NewUser {
    pub path: String,
    pub user_name: String,
    /// An ARN; may be empty.
    pub permissions_boundary: String,
    pub tags: Vec<Tag>,
}

/// Makes a user.
pub fn create(
    view: &View,
    plan: &mut Plan,
    account: &AccountId,
    new: &NewUser,
    quotas: &Quotas,
) -> Result<UserRecord, Error> {
    let NewUser { path, user_name, permissions_boundary, tags } = new;
    name::name("user_name", user_name, 64)?;
    let path = name::path("path", path)?;
    let tags = tags::merged(Vec::new(), tags)?;
    let key = layout::user(account, user_name);
    if view.find(&key)?.is_some() {
        return Err(Error::exists("user", user_name));
    }
    let user_id = view.unique_id("AIDA");
    quota::add(view, plan, account, Counted::Users, &user_id, quotas)?;
    if !permissions_boundary.is_empty() {
        boundary::begin(view, plan, account, &user_id, permissions_boundary)?;
    }
    let record = UserRecord {
        account_id: account.to_string(),
        path: path.to_owned(),
        user_name: user_name.clone(),
        user_id: user_id.clone(),
        create_date: Some(view.now()),
        inline_policies: Vec::new(),
        attached_policy_arns: Vec::new(),
        access_key_ids: Vec::new(),
        group_ids: Vec::new(),
        permissions_boundary_arn: permissions_boundary.clone(),
        tags,
    };
    plan.put(&key, &record);
    plan.put(&layout::unique_id(&user_id), &UniqueId { key: key.to_string() });
    Ok(record)
}

/// Gives a user another path or name; empty means unchanged. Its unique id, keys and attachments stay.
pub fn update(
    view: &View,
    plan: &mut Plan,
    account: &AccountId,
    user_name: &str,
    new_path: &str,
    new_user_name: &str,
) -> Result<UserRecord, Error> {
    let mut user = find(view, account, user_name)?;
    let old = layout::user(account, user_name);
    if !new_path.is_empty() {
        name::path("new_path", new_path)?.clone_into(&mut user.path);
    }
    if !new_user_name.is_empty() {
        name::name("new_user_name", new_user_name, 64)?;
        new_user_name.clone_into(&mut user.user_name);
    }
    let new = layout::user(account, &user.user_name);
    if new != old {
        if view.find(&new)?.is_some() {
            return Err(Error::exists("user", new_user_name));
        }
        plan.delete(&old);
    }
    for access_key_id in &user.access_key_ids {
        let key = layout::access_key(access_key_id);
        if let Some(record) = view.find(&key)? {
            plan.put(&key, &AccessKeyRecord { user_name: user.user_name.clone(), ..record });
        }
    }
    plan.put(&layout::unique_id(&user.user_id), &UniqueId { key: new.to_string() });
    plan.put(&new, &user);
    Ok(user)
}

/// Deletes a user that nothing hangs on.
pub fn delete(
    view: &View,
    plan: &mut Plan,
    account: &AccountId,
    user_name: &str,
) -> Result<(), Error> {
    let user = find(view, account, user_name)?;
    let mut holds = Vec::new();
    holds.extend(user.attached_policy_arns.iter().map(|arn| format!("attached policy {arn}")));
    holds.extend(user.inline_policies.iter().map(|p| format!("inline policy {}", p.policy_name)));
    holds.extend(user.access_key_ids.iter().map(|id| format!("access key {id}")));
    for id in &user.group_ids {
        let group = group::by_id(view, account, id)?;
        let name = group.map_or_else(|| id.clone(), |group| group.group_name);
        holds.push(format!("a place in group {name}"));
    }
    if !holds.is_empty() {
        let what = holds.join(", ");
        return Err(Error::DeleteConflict { kind: "user", name: user.user_name, what });
    }
    boundary::end(view, plan, account, &user.user_id, &user.permissions_boundary_arn)?;
    quota::remove(view, plan, account, Counted::Users, &user.user_id)?;
    plan.delete(&layout::unique_id(&user.user_id));
    plan.delete(&layout::user(account, user_name));
    Ok(())
}
