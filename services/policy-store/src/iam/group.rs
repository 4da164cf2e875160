//! Groups, and who is in them. Membership stands in the user's record, with a mark under the group's unique id for the way back.

use countersign_policy::arn::AccountId;
use countersign_proto::policy::v1::{GroupRecord, UserRecord};

use super::{
    name,
    quota::{self, Counted, Quotas},
    user,
};
use crate::{
    error::Error,
    layout::{self, Mark, UniqueId},
    view::{Plan, View},
};

/// So many of what stands in the way of a deletion are named.
const NAMED: usize = 20;

/// The group `group_name`.
pub fn find(view: &View, account: &AccountId, group_name: &str) -> Result<GroupRecord, Error> {
    name::name("group_name", group_name, 128)?;
    let found = view.find(&layout::group(account, group_name))?;
    found.ok_or_else(|| Error::no_such("group", group_name))
}

/// The group with a unique id, if it is there.
pub fn by_id(
    view: &View,
    account: &AccountId,
    group_id: &str,
) -> Result<Option<GroupRecord>, Error> {
    let Some(id) = view.find(&layout::unique_id(group_id))? else { return Ok(None) };
    match id.key.strip_prefix(&layout::groups(account)) {
        Some(group_name) => view.find(&layout::group(account, group_name)),
        None => Ok(None),
    }
}

/// Makes a group.
pub fn create(
    view: &View,
    plan: &mut Plan,
    account: &AccountId,
    path: &str,
    group_name: &str,
    quotas: &Quotas,
) -> Result<GroupRecord, Error> {
    name::name("group_name", group_name, 128)?;
    let path = name::path("path", path)?;
    let key = layout::group(account, group_name);
    if view.find(&key)?.is_some() {
        return Err(Error::exists("group", group_name));
    }
    let group_id = view.unique_id("AGPA");
    quota::add(view, plan, account, Counted::Groups, &group_id, quotas)?;
    let record = GroupRecord {
        account_id: account.to_string(),
        path: path.to_owned(),
        group_name: group_name.to_owned(),
        group_id: group_id.clone(),
        create_date: Some(view.now()),
        inline_policies: Vec::new(),
        attached_policy_arns: Vec::new(),
    };
    plan.put(&key, &record);
    plan.put(&layout::unique_id(&group_id), &UniqueId { key: key.to_string() });
    Ok(record)
}

/// Gives a group another path or name; empty means unchanged. Its unique id, members and policies stay.
pub fn update(
    view: &View,
    plan: &mut Plan,
    account: &AccountId,
    group_name: &str,
    new_path: &str,
    new_group_name: &str,
) -> Result<(), Error> {
    let mut group = find(view, account, group_name)?;
    let old = layout::group(account, group_name);
    if !new_path.is_empty() {
        name::path("new_path", new_path)?.clone_into(&mut group.path);
    }
    if !new_group_name.is_empty() {
        name::name("new_group_name", new_group_name, 128)?;
        new_group_name.clone_into(&mut group.group_name);
    }
    let new = layout::group(account, &group.group_name);
    if new != old {
        if view.find(&new)?.is_some() {
            return Err(Error::exists("group", new_group_name));
        }
        plan.delete(&old);
    }
    plan.put(&layout::unique_id(&group.group_id), &UniqueId { key: new.to_string() });
    plan.put(&new, &group);
    Ok(())
}

/// Deletes a group that nobody is in, and that nothing hangs on.
pub fn delete(
    view: &View,
    plan: &mut Plan,
    account: &AccountId,
    group_name: &str,
) -> Result<(), Error> {
    let group = find(view, account, group_name)?;
    let members = layout::members(&group.group_id);
    let mut holds = Vec::new();
    if !view.is_empty(&members)? {
        holds.extend(named(view, account, &members)?);
    }
    holds.extend(group.attached_policy_arns.iter().map(|arn| format!("attached policy {arn}")));
    holds.extend(group.inline_policies.iter().map(|p| format!("inline policy {}", p.policy_name)));
    if !holds.is_empty() {
        let what = holds.join(", ");
        return Err(Error::DeleteConflict { kind: "group", name: group.group_name, what });
    }
    quota::remove(view, plan, account, Counted::Groups, &group.group_id)?;
    plan.delete(&layout::unique_id(&group.group_id));
    plan.delete(&layout::group(account, group_name));
    Ok(())
}

/// Puts a user in. A user that is in already stays, and that is no error (as in IAM).
pub fn add_user(
    view: &View,
    plan: &mut Plan,
    account: &AccountId,
    group_name: &str,
    user_name: &str,
    quotas: &Quotas,
) -> Result<(), Error> {
    let group = find(view, account, group_name)?;
    let mut user = user::find(view, account, user_name)?;
    if user.group_ids.contains(&group.group_id) {
        return Ok(());
    }
    if user.group_ids.len() >= quotas.groups_per_user {
        let what = format!("groups for user `{}`", user.user_name);
        return Err(Error::LimitExceeded { what, limit: quotas.groups_per_user });
    }
    plan.put(&layout::member(&group.group_id, &user.user_id), &Mark {});
    user.group_ids.push(group.group_id);
    plan.put(&layout::user(account, user_name), &user);
    Ok(())
}

/// Takes a user out.
pub fn remove_user(
    view: &View,
    plan: &mut Plan,
    account: &AccountId,
    group_name: &str,
    user_name: &str,
) -> Result<(), Error> {
    let group = find(view, account, group_name)?;
    let mut user = user::find(view, account, user_name)?;
    let before = user.group_ids.len();
    user.group_ids.retain(|id| *id != group.group_id);
    if user.group_ids.len() == before {
        let name = format!("{} in group {}", user.user_name, group.group_name);
        return Err(Error::no_such("user", name));
    }
    plan.delete(&layout::member(&group.group_id, &user.user_id));
    plan.put(&layout::user(account, user_name), &user);
    Ok(())
}

/// The member with a unique id, if it is there.
pub fn member(
    view: &View,
    account: &AccountId,
    user_id: &str,
) -> Result<Option<UserRecord>, Error> {
    let Some(id) = view.find(&layout::unique_id(user_id))? else { return Ok(None) };
    match id.key.strip_prefix(&layout::users(account)) {
        Some(user_name) => view.find(&layout::user(account, user_name)),
        None => Ok(None),
    }
}

/// The groups that a user is in, by name.
pub fn of_user(
    view: &View,
    account: &AccountId,
    user_name: &str,
) -> Result<Vec<GroupRecord>, Error> {
    let UserRecord { group_ids, .. } = user::find(view, account, user_name)?;
    let mut groups = Vec::new();
    for id in &group_ids {
        groups.extend(by_id(view, account, id)?);
    }
    groups.sort_by(|a, b| a.group_name.cmp(&b.group_name));
    Ok(groups)
}

/// What the marks under a prefix are of, for people: `user alice`, `role Deploy`. A few of them, and how it goes on.
pub fn named(view: &View, account: &AccountId, prefix: &str) -> Result<Vec<String>, Error> {
    let keys = view.keys(prefix, NAMED + 1)?;
    let mut names = Vec::new();
    for key in keys.iter().take(NAMED) {
        let key = String::from_utf8_lossy(key);
        let unique_id = key.rsplit('/').next().unwrap_or_default();
        let stands = view.find(&layout::unique_id(unique_id))?.map(|id| id.key).unwrap_or_default();
        let kinds = [
            ("user", layout::users(account)),
            ("role", layout::roles(account)),
            ("group", layout::groups(account)),
        ];
        let name = kinds.iter().find_map(|(kind, prefix)| {
            stands.strip_prefix(prefix.as_str()).map(|name| format!("{kind} {name}"))
        });
        names.push(name.unwrap_or_else(|| format!("an entity with id {unique_id}")));
    }
    if keys.len() > NAMED {
        names.push("and more".to_owned());
    }
    Ok(names)
}
