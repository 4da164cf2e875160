//! Bindings of a caller to a service principal, towards one role. The key holds the caller's whole identity, the service and the
//! role, so that a binding made in one account says nothing about another's role.

use countersign_policy::{arn::AccountId, principal::IamArn};
use countersign_proto::policy::v1::{Realm, RoleRecord, ServicePrincipalBindingRecord};

use crate::{
    error::Error,
    iam::{quota, role},
    keys::pin,
    layout,
    view::{Plan, View},
};

/// Who is to speak for which service principal, towards which role.
pub struct Binding {
    pub role_arn: String,
    pub service_principal: String,
    pub caller_unique_id: String,
    /// Twelve digits for an external caller, empty for a local one.
    pub caller_account_id: String,
}

/// A role's ARN, in the caller's own account: its path and name.
pub fn well_formed(account: &AccountId, role_arn: &str) -> Result<(String, String), Error> {
    let malformed = || {
        let shown: String = role_arn.chars().take(200).collect();
        let form = "arn:aws:iam::<account>:role/<path/><name> is expected";
        Error::validation("role_arn", format!("`{}`: {form}", shown.escape_default()))
    };
    let arn: IamArn = role_arn.parse().map_err(|_| malformed())?;
    match arn {
        IamArn::Role { partition, account: owner, path, name } if partition == "aws" => {
            if owner == *account {
                return Ok((path, name));
            }
            let message = format!("{role_arn}: the role is not in the caller's own account");
            Err(Error::AccessDenied { message })
        }
        IamArn::Role { .. }
        | IamArn::Root { .. }
        | IamArn::User { .. }
        | IamArn::AssumedRole { .. }
        | IamArn::FederatedUser { .. } => Err(malformed()),
    }
}

/// The role of an ARN: its path and spelling must be the ARN's.
pub fn role(view: &View, account: &AccountId, role_arn: &str) -> Result<RoleRecord, Error> {
    let (path, name) = well_formed(account, role_arn)?;
    let found = role::find(view, account, &name)?;
    if found.path == path && found.role_name == name {
        return Ok(found);
    }
    Err(Error::no_such("role", role_arn))
}

fn record(
    view: &View,
    account: &AccountId,
    binding: &Binding,
) -> Result<ServicePrincipalBindingRecord, Error> {
    let role = role(view, account, &binding.role_arn)?;
    service_principal(&binding.service_principal)?;
    let (realm, caller_account) = caller(view, binding)?;
    Ok(ServicePrincipalBindingRecord {
        account_id: account.to_string(),
        role_arn: binding.role_arn.clone(),
        role_id: role.role_id,
        service_principal: binding.service_principal.clone(),
        caller_realm: realm.into(),
        caller_account_id: caller_account,
        caller_unique_id: binding.caller_unique_id.clone(),
        create_date: Some(view.now()),
    })
}

/// Makes a binding. Making it again changes nothing.
pub fn bind(
    view: &View,
    plan: &mut Plan,
    account: &AccountId,
    binding: &Binding,
) -> Result<ServicePrincipalBindingRecord, Error> {
    let record = record(view, account, binding)?;
    let key = layout::binding(&record);
    if let Some(existing) = view.find(&key)? {
        return Ok(existing);
    }
    if view.keys(&layout::bindings(&record.role_id), quota::BINDINGS)?.len() >= quota::BINDINGS {
        let what = format!("service principal bindings of `{}`", binding.role_arn);
        return Err(Error::LimitExceeded { what, limit: quota::BINDINGS });
    }
    plan.put(&key, &record);
    Ok(record)
}

/// Takes a binding back.
pub fn delete(
    view: &View,
    plan: &mut Plan,
    account: &AccountId,
    binding: &Binding,
) -> Result<(), Error> {
    let record = record(view, account, binding)?;
    let key = layout::binding(&record);
    if view.find(&key)?.is_none() {
        let name = format!("{} for {}", binding.caller_unique_id, binding.service_principal);
        return Err(Error::no_such("service principal binding", name));
    }
    plan.delete(&key);
    Ok(())
}

/// Who vouches for the caller, and its account. A local caller must be there, so that a mistyped id is seen at once.
fn caller(view: &View, binding: &Binding) -> Result<(Realm, String), Error> {
    let unique_id = &binding.caller_unique_id;
    let is_instance = pin::is_instance_id(unique_id) && !binding.caller_account_id.is_empty();
    if is_instance && binding.service_principal != "ec2.amazonaws.com" {
        let message = "an EC2 instance speaks for `ec2.amazonaws.com` alone";
        return Err(Error::validation("service_principal", message));
    }
    let shaped = is_instance
        || (16..=128).contains(&unique_id.len())
            && unique_id.bytes().all(|byte| byte.is_ascii_alphanumeric());
    // An AWS unique id cannot have a hyphen, so that no user's or role's can be taken for an instance's.
    if !shaped {
        let shown: String = unique_id.chars().take(80).collect();
        let message = format!(
            "`{}`: the unique id of a user (AIDA…) or of a role (AROA…) is expected, not its name; or the id of an EC2 instance (i-…), with its account",
            shown.escape_default()
        );
        return Err(Error::validation("caller_unique_id", message));
    }
    if !binding.caller_account_id.is_empty() {
        let field = "caller_account_id";
        let account: AccountId = binding
            .caller_account_id
            .parse()
            .map_err(|_| Error::validation(field, "twelve digits are expected"))?;
        if view.find(&layout::account(account.as_str()))?.is_some() {
            return Err(Error::validation(field, "the account is local; leave this empty"));
        }
        return Ok((Realm::Aws, account.to_string()));
    }
    let found = view.find(&layout::unique_id(unique_id))?;
    let key = found.map(|id| id.key).unwrap_or_default();
    let mut parts = key.split('/');
    match (parts.next(), parts.next()) {
        (Some("user" | "role"), Some(account)) => Ok((Realm::Countersign, account.to_owned())),
        _ => Err(Error::no_such("user or role with unique id", unique_id)),
    }
}

/// A service principal's name: a DNS-like name such as `ec2.amazonaws.com`, or one of your own such as `orders`.
pub fn service_principal(text: &str) -> Result<(), Error> {
    let label = |label: &str| {
        !label.is_empty()
            && label
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    if text.len() <= 128 && text.split('.').all(label) {
        return Ok(());
    }
    let shown: String = text.chars().take(80).collect();
    let message = format!(
        "`{}`: a service principal's name is expected, such as `ec2.amazonaws.com` or `orders`",
        shown.escape_default()
    );
    Err(Error::validation("service_principal", message))
}
