//! Roles.

use countersign_policy::{
    arn::AccountId,
    findings::{DocumentKind, Finding},
};
use countersign_proto::policy::v1::{RoleRecord, Tag};

use super::{
    boundary, document, name,
    quota::{self, Counted, Quotas},
    tags,
    trust::{self, Whose},
};
use crate::{
    account::ADMINISTRATOR,
    error::Error,
    layout::{self, Mark, UniqueId},
    view::{Plan, View},
};

/// The bounds of `max_session_duration`, in seconds. IAM's default is the lower one.
/// Source: <https://docs.aws.amazon.com/IAM/latest/APIReference/API_CreateRole.html>
const SESSION: std::ops::RangeInclusive<i32> = 3_600..=43_200;

/// A role to be made.
pub struct NewRole {
    pub path: String,
    pub role_name: String,
    pub assume_role_policy_document: String,
    pub description: String,
    /// 0 means IAM's default.
    pub max_session_duration: i32,
    /// An ARN; may be empty.
    pub permissions_boundary: String,
    pub tags: Vec<Tag>,
}

/// The role `role_name`.
pub fn find(view: &View, account: &AccountId, role_name: &str) -> Result<RoleRecord, Error> {
    name::name("role_name", role_name, 64)?;
    view.find(&layout::role(account, role_name))?.ok_or_else(|| Error::no_such("role", role_name))
}

/// Makes a role.
pub fn create(
    view: &View,
    plan: &mut Plan,
    account: &AccountId,
    new: &NewRole,
    quotas: &Quotas,
) -> Result<(RoleRecord, Vec<Finding>), Error> {
    name::name("role_name", &new.role_name, 64)?;
    let path = name::path("path", &new.path)?;
    name::description("description", &new.description, 1_000)?;
    let max_session_duration = session(new.max_session_duration)?;
    let field = "assume_role_policy_document";
    let accepted =
        document::accept(field, &new.assume_role_policy_document, DocumentKind::TrustPolicy)?;
    let trusted = trust::resolve(view, field, &accepted.checked.document, Whose::Role(account))?;

    let key = layout::role(account, &new.role_name);
    if view.find(&key)?.is_some() {
        return Err(Error::exists("role", &new.role_name));
    }
    let role_id = view.unique_id("AROA");
    let tags = tags::merged(Vec::new(), &new.tags)?;
    quota::add(view, plan, account, Counted::Roles, &role_id, quotas)?;
    if !new.permissions_boundary.is_empty() {
        boundary::begin(view, plan, account, &role_id, &new.permissions_boundary)?;
    }
    let record = RoleRecord {
        account_id: account.to_string(),
        path: path.to_owned(),
        role_name: new.role_name.clone(),
        role_id: role_id.clone(),
        create_date: Some(view.now()),
        assume_role_policy_document: new.assume_role_policy_document.clone(),
        resolved_principals: trusted.principals,
        description: new.description.clone(),
        max_session_duration,
        inline_policies: Vec::new(),
        attached_policy_arns: Vec::new(),
        permissions_boundary_arn: new.permissions_boundary.clone(),
        tags,
        sessions_revoked_before: None,
    };
    plan.put(&key, &record);
    plan.put(&layout::unique_id(&role_id), &UniqueId { key: key.to_string() });
    for external in &trusted.externals {
        plan.put(&layout::external(external, &role_id), &Mark {});
    }
    Ok((record, accepted.findings))
}

/// Changes what is given.
pub fn update(
    view: &View,
    plan: &mut Plan,
    account: &AccountId,
    role_name: &str,
    description: Option<&str>,
    max_session_duration: Option<i32>,
) -> Result<(), Error> {
    let mut role = find(view, account, role_name)?;
    if let Some(description) = description {
        name::description("description", description, 1_000)?;
        description.clone_into(&mut role.description);
    }
    if let Some(seconds) = max_session_duration {
        role.max_session_duration = session_duration(seconds)?;
    }
    plan.put(&layout::role(account, role_name), &role);
    Ok(())
}

/// Puts another trust policy in place; its principals are resolved anew.
pub fn update_trust(
    view: &View,
    plan: &mut Plan,
    account: &AccountId,
    role_name: &str,
    policy_document: &str,
) -> Result<Vec<Finding>, Error> {
    let mut role = find(view, account, role_name)?;
    let accepted = document::accept("policy_document", policy_document, DocumentKind::TrustPolicy)?;
    let trusted =
        trust::resolve(view, "policy_document", &accepted.checked.document, Whose::Role(account))?;
    for gone in external_accounts(&role) {
        plan.delete(&layout::external(&gone, &role.role_id));
    }
    for external in &trusted.externals {
        plan.put(&layout::external(external, &role.role_id), &Mark {});
    }
    policy_document.clone_into(&mut role.assume_role_policy_document);
    role.resolved_principals = trusted.principals;
    plan.put(&layout::role(account, role_name), &role);
    Ok(accepted.findings)
}

/// Deletes a role that nothing hangs on.
pub fn delete(
    view: &View,
    plan: &mut Plan,
    account: &AccountId,
    role_name: &str,
) -> Result<(), Error> {
    let role = find(view, account, role_name)?;
    // Whoever makes a role of that name again would be the account's administrator.
    if role.role_name == ADMINISTRATOR {
        return Err(Error::AccessDenied {
            message: format!("every account keeps its {ADMINISTRATOR}"),
        });
    }
    let mut holds = Vec::new();
    holds.extend(role.attached_policy_arns.iter().map(|arn| format!("attached policy {arn}")));
    holds.extend(role.inline_policies.iter().map(|p| format!("inline policy {}", p.policy_name)));
    if !view.is_empty(&layout::bindings(&role.role_id))? {
        holds.push("service principal bindings".to_owned());
    }
    if !holds.is_empty() {
        let what = holds.join(", ");
        return Err(Error::DeleteConflict { kind: "role", name: role.role_name, what });
    }
    for external in external_accounts(&role) {
        plan.delete(&layout::external(&external, &role.role_id));
    }
    boundary::end(view, plan, account, &role.role_id, &role.permissions_boundary_arn)?;
    quota::remove(view, plan, account, Counted::Roles, &role.role_id)?;
    // The unique id's own record goes too; ids are random, and never drawn twice.
    plan.delete(&layout::unique_id(&role.role_id));
    plan.delete(&layout::last_use(&role.role_id));
    plan.delete(&layout::role(account, role_name));
    Ok(())
}

/// How long a new role's sessions may last, in seconds; 0 means IAM's default.
pub fn session(seconds: i32) -> Result<i32, Error> {
    if seconds == 0 { Ok(*SESSION.start()) } else { session_duration(seconds) }
}

fn session_duration(seconds: i32) -> Result<i32, Error> {
    if SESSION.contains(&seconds) {
        return Ok(seconds);
    }
    let rule = format!("`{seconds}`: {} to {} seconds", SESSION.start(), SESSION.end());
    Err(Error::validation("max_session_duration", rule))
}

fn external_accounts(role: &RoleRecord) -> Vec<AccountId> {
    use countersign_proto::policy::v1::Realm;
    role.resolved_principals
        .iter()
        .filter(|principal| principal.realm() == Realm::Aws)
        .filter_map(|principal| principal.account_id.parse().ok())
        .collect()
}
