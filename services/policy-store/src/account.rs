//! Accounts: local ones, made by the operator, and what stands in each from the beginning.

use countersign_policy::arn::AccountId;
use countersign_proto::policy::v1::{
    AccessKeyRecord, AccessKeyState, AccountRecord, InlinePolicy, ManagedPolicyRecord,
    PolicyVersionRecord, PolicyVersionSummary, Realm, ResolvedPrincipal, RoleRecord,
};

use crate::{
    error::Error,
    iam::name,
    layout::{self, SealedSecret, UniqueId},
    managed::AWS_MANAGED_POLICIES,
    view::{Plan, View},
};

/// The role that every account begins with. Its account's root may assume it, and nothing else.
pub const ADMINISTRATOR: &str = "CountersignAdministrator";

/// Everything, but the operations that belong to the gateways and to whoever ends a key.
const ADMINISTRATOR_POLICY: &str = r#"{
  "Version": "2012-10-17",
  "Statement": [
    {"Sid": "Administer", "Effect": "Allow", "Action": "*", "Resource": "*"},
    {
      "Sid": "NoKeyOperations",
      "Effect": "Deny",
      "Action": [
        "countersign:PublishSigningKey",
        "countersign:ListSigningKeys",
        "countersign:RevokeSigningKey",
        "countersign:RotateSigningKey",
        "countersign:DeriveSigningKey",
        "countersign:ConsumeProof",
        "countersign:PinPrincipal"
      ],
      "Resource": "*"
    }
  ]
}"#;

/// An account to be made, and the access key of its root.
pub struct NewAccount<'a> {
    pub account: AccountId,
    pub account_name: &'a str,
    pub description: &'a str,
    /// The first account's administrator is the operator.
    pub operator: bool,
    pub root_access_key_id: &'a str,
    /// The root's secret, sealed.
    pub root_sealed: &'a [u8],
}

/// Makes a local account with its root's access key and its administrator role.
pub fn create(view: &View, plan: &mut Plan, new: &NewAccount<'_>) -> Result<AccountRecord, Error> {
    name::description("account_name", new.account_name, 50)?;
    name::description("description", new.description, 1_000)?;
    let key = layout::account(new.account.as_str());
    if view.find(&key)?.is_some() {
        return Err(Error::exists("account", new.account.as_str()));
    }
    // A number is a local account or an external one, never both.
    if !view.is_empty(&layout::externals(&new.account))? {
        return Err(Error::validation(
            "account_id",
            format!(
                "`{}` is named as an external account by a trust policy; a number is local or external, never both",
                new.account
            ),
        ));
    }
    let record = AccountRecord {
        account_id: new.account.to_string(),
        account_name: new.account_name.to_owned(),
        create_date: Some(view.now()),
        operator: new.operator,
        description: new.description.to_owned(),
        parent_id: String::new(),
        guardrail_ids: Vec::new(),
        full_aws_access_detached: false,
    };
    plan.put(&key, &record);
    put_root_key(view, plan, &new.account, new.root_access_key_id, new.root_sealed)?;
    put_administrator(view, plan, &new.account);
    Ok(record)
}

/// Gives the account's root an access key.
pub fn put_root_key(
    view: &View,
    plan: &mut Plan,
    account: &AccountId,
    access_key_id: &str,
    sealed: &[u8],
) -> Result<(), Error> {
    let key = layout::access_key(access_key_id);
    if view.find(&key)?.is_some() {
        return Err(Error::exists("access key", access_key_id));
    }
    let record = AccessKeyRecord {
        access_key_id: access_key_id.to_owned(),
        account_id: account.to_string(),
        user_name: String::new(),
        user_id: account.to_string(),
        state: AccessKeyState::Active.into(),
        create_date: Some(view.now()),
    };
    plan.put(&key, &record);
    plan.put(&layout::secret(access_key_id), &SealedSecret { sealed: sealed.to_vec() });
    Ok(())
}

fn put_administrator(view: &View, plan: &mut Plan, account: &AccountId) {
    let root = format!("arn:aws:iam::{account}:root");
    let trust = format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Principal":{{"AWS":"{root}"}},"Action":"sts:AssumeRole"}}]}}"#
    );
    let role_id = view.unique_id("AROA");
    let key = layout::role(account, ADMINISTRATOR);
    let record = RoleRecord {
        account_id: account.to_string(),
        path: "/".to_owned(),
        role_name: ADMINISTRATOR.to_owned(),
        role_id: role_id.clone(),
        create_date: Some(view.now()),
        assume_role_policy_document: trust,
        resolved_principals: vec![ResolvedPrincipal {
            principal: root,
            realm: Realm::Countersign.into(),
            account_id: account.to_string(),
            unique_id: String::new(),
        }],
        description: "Administers this account. Made with it.".to_owned(),
        max_session_duration: 3_600,
        inline_policies: vec![InlinePolicy {
            policy_name: "Administrator".to_owned(),
            policy_document: ADMINISTRATOR_POLICY.to_owned(),
        }],
        attached_policy_arns: Vec::new(),
        permissions_boundary_arn: String::new(),
        tags: Vec::new(),
        sessions_revoked_before: None,
    };
    plan.put(&key, &record);
    plan.put(&layout::unique_id(&role_id), &UniqueId { key: key.to_string() });
}

/// Puts AWS's managed policies in, or brings them up to date. A policy that is there keeps its unique id and its attachments.
pub fn put_aws_managed_policies(view: &View, plan: &mut Plan) -> Result<(), Error> {
    for policy in AWS_MANAGED_POLICIES {
        let key = layout::policy(layout::AWS, policy.name);
        let found = view.find(&key)?;
        if found.as_ref().is_some_and(|old| old.document == policy.document) {
            continue;
        }
        let (policy_id, create_date) = match found {
            Some(old) => (old.policy_id, old.create_date),
            None => (view.unique_id("ANPA"), Some(view.now())),
        };
        let version_id = policy.version_id.to_owned();
        let record = ManagedPolicyRecord {
            account_id: layout::AWS.to_owned(),
            path: "/".to_owned(),
            policy_name: policy.name.to_owned(),
            policy_id: policy_id.clone(),
            arn: name::policy_arn(layout::AWS, "/", policy.name),
            description: policy.description.to_owned(),
            create_date,
            update_date: Some(view.now()),
            default_version_id: version_id.clone(),
            document: policy.document.to_owned(),
            versions: vec![PolicyVersionSummary {
                version_id: version_id.clone(),
                create_date: Some(view.now()),
            }],
            last_version_number: version_number(policy.version_id),
            tags: Vec::new(),
        };
        plan.put(&key, &record);
        plan.put(&layout::unique_id(&policy_id), &UniqueId { key: key.to_string() });
        let version = PolicyVersionRecord { document: policy.document.to_owned() };
        plan.put(&layout::policy_version(&policy_id, &version_id), &version);
    }
    Ok(())
}

fn version_number(version_id: &str) -> i32 {
    version_id.strip_prefix('v').and_then(|number| number.parse().ok()).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use countersign_policy::findings::{DocumentKind, check};

    #[test]
    fn the_administrators_policy_is_one_by_our_own_rules() {
        let checked = check(super::ADMINISTRATOR_POLICY, DocumentKind::InlineRolePolicy);
        assert!(checked.is_ok(), "{:?}", checked.err());
    }
}
