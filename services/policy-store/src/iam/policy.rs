//! Managed policies and their versions.

use countersign_policy::{
    arn::AccountId,
    findings::{DocumentKind, Finding},
};
use countersign_proto::policy::v1::{
    AttachedPolicy, ManagedPolicyRecord, PolicyVersionRecord, PolicyVersionSummary, Tag,
};

use super::{
    document, group, name,
    quota::{self, Counted, Quotas},
    tags,
};
use crate::{
    convert::{self, Paging},
    error::Error,
    layout::{self, UniqueId},
    view::{Plan, View},
};

/// A managed policy to be made.
pub struct NewPolicy {
    pub policy_name: String,
    pub path: String,
    pub policy_document: String,
    pub description: String,
    pub tags: Vec<Tag>,
}

/// The managed policy that an ARN names, whosever it is.
fn find(view: &View, arn: &str) -> Result<ManagedPolicyRecord, Error> {
    let (account, _, policy_name) = name::parse_policy_arn("policy_arn", arn)?;
    let found = view.find(&layout::policy(account, policy_name))?;
    // The path and the spelling are part of the ARN; the key holds neither.
    found.filter(|policy| policy.arn == arn).ok_or_else(|| Error::no_such("policy", arn))
}

/// One that the account may see: its own, or one of AWS's. Another account's is not there for it.
pub fn find_visible(
    view: &View,
    account: &AccountId,
    arn: &str,
) -> Result<ManagedPolicyRecord, Error> {
    let policy = find(view, arn)?;
    if policy.account_id == account.as_str() || policy.account_id == layout::AWS {
        return Ok(policy);
    }
    Err(Error::no_such("policy", arn))
}

/// One that the account may change: AWS's own are nobody's to change.
pub fn find_own(view: &View, account: &AccountId, arn: &str) -> Result<ManagedPolicyRecord, Error> {
    let policy = find_visible(view, account, arn)?;
    if policy.account_id == account.as_str() {
        return Ok(policy);
    }
    Err(Error::AccessDenied { message: format!("`{arn}` is not this account's policy to change") })
}

fn key(policy: &ManagedPolicyRecord) -> layout::Key<ManagedPolicyRecord> {
    layout::policy(&policy.account_id, &policy.policy_name)
}

/// Writes a policy of which nothing but its record changes.
pub fn put(plan: &mut Plan, policy: &ManagedPolicyRecord) {
    plan.put(&key(policy), policy);
}

/// Makes a policy, with its first version.
pub fn create(
    view: &View,
    plan: &mut Plan,
    account: &AccountId,
    new: &NewPolicy,
    quotas: &Quotas,
) -> Result<(ManagedPolicyRecord, Vec<Finding>), Error> {
    let versions = [(1, new.policy_document.as_str())];
    let record = create_with(view, plan, account, new, &versions, 1, quotas)?;
    let accepted =
        document::accept("policy_document", &new.policy_document, DocumentKind::ManagedPolicy)?;
    Ok((record, accepted.findings))
}

/// Makes a policy with these versions, oldest first, by their numbers; `policy_document` is the text of the default one.
pub fn create_with(
    view: &View,
    plan: &mut Plan,
    account: &AccountId,
    new: &NewPolicy,
    versions: &[(i32, &str)],
    default_version: i32,
    quotas: &Quotas,
) -> Result<ManagedPolicyRecord, Error> {
    name::name("policy_name", &new.policy_name, 128)?;
    let path = name::path("path", &new.path)?;
    name::description("description", &new.description, 1_000)?;
    for (_, text) in versions {
        document::accept("policy_document", text, DocumentKind::ManagedPolicy)?;
    }
    let key = layout::policy(account.as_str(), &new.policy_name);
    if view.find(&key)?.is_some() {
        return Err(Error::exists("policy", &new.policy_name));
    }
    let policy_id = view.unique_id("ANPA");
    let tags = tags::merged(Vec::new(), &new.tags)?;
    quota::add(view, plan, account, Counted::Policies, &policy_id, quotas)?;
    let many = i64::try_from(versions.len()).unwrap_or(i64::MAX);
    quota::add_some(view, plan, account, Counted::PolicyVersions, &policy_id, many, quotas)?;
    let summary = |(number, _): &(i32, &str)| PolicyVersionSummary {
        version_id: format!("v{number}"),
        create_date: Some(view.now()),
    };
    let record = ManagedPolicyRecord {
        account_id: account.to_string(),
        path: path.to_owned(),
        policy_name: new.policy_name.clone(),
        policy_id: policy_id.clone(),
        arn: name::policy_arn(account.as_str(), path, &new.policy_name),
        description: new.description.clone(),
        create_date: Some(view.now()),
        update_date: Some(view.now()),
        default_version_id: format!("v{default_version}"),
        document: new.policy_document.clone(),
        versions: versions.iter().map(summary).collect(),
        last_version_number: versions.iter().map(|(number, _)| *number).max().unwrap_or(1),
        tags,
    };
    plan.put(&key, &record);
    plan.put(&layout::unique_id(&policy_id), &UniqueId { key: key.to_string() });
    for (number, text) in versions {
        put_version(plan, &record, &format!("v{number}"), text);
    }
    Ok(record)
}

fn put_version(plan: &mut Plan, policy: &ManagedPolicyRecord, version_id: &str, text: &str) {
    let version = PolicyVersionRecord { document: text.to_owned() };
    plan.put(&layout::policy_version(&policy.policy_id, version_id), &version);
}

/// Deletes a policy that nobody has, and that has but its default version.
pub fn delete(view: &View, plan: &mut Plan, account: &AccountId, arn: &str) -> Result<(), Error> {
    let policy = find_own(view, account, arn)?;
    let mut holds = Vec::new();
    if !view.is_empty(&layout::attachments(&policy.policy_id))? {
        holds.extend(group::named(view, account, &layout::attachments(&policy.policy_id))?);
    }
    let boundaries = layout::boundaries(&policy.policy_id);
    if !view.is_empty(&boundaries)? {
        let named = group::named(view, account, &boundaries)?;
        holds.extend(named.into_iter().map(|name| format!("{name} (as permissions boundary)")));
    }
    holds.extend(
        policy
            .versions
            .iter()
            .filter(|version| version.version_id != policy.default_version_id)
            .map(|version| format!("version {}", version.version_id)),
    );
    if !holds.is_empty() {
        let what = holds.join(", ");
        return Err(Error::DeleteConflict { kind: "policy", name: arn.to_owned(), what });
    }
    quota::remove(view, plan, account, Counted::Policies, &policy.policy_id)?;
    quota::remove(view, plan, account, Counted::PolicyVersions, &policy.policy_id)?;
    plan.delete(&layout::policy_version(&policy.policy_id, &policy.default_version_id));
    plan.delete(&layout::unique_id(&policy.policy_id));
    plan.delete(&key(&policy));
    Ok(())
}

/// Adds a version, and makes it the default if asked to.
pub fn create_version(
    view: &View,
    plan: &mut Plan,
    account: &AccountId,
    arn: &str,
    policy_document: &str,
    set_as_default: bool,
    quotas: &Quotas,
) -> Result<(PolicyVersionSummary, bool, Vec<Finding>), Error> {
    let mut policy = find_own(view, account, arn)?;
    let accepted =
        document::accept("policy_document", policy_document, DocumentKind::ManagedPolicy)?;
    if policy.versions.len() >= quota::POLICY_VERSIONS {
        let what = format!("versions of `{arn}`; delete one that is not the default");
        return Err(Error::LimitExceeded { what, limit: quota::POLICY_VERSIONS });
    }
    quota::add(view, plan, account, Counted::PolicyVersions, &policy.policy_id, quotas)?;
    policy.last_version_number += 1;
    let version = PolicyVersionSummary {
        version_id: format!("v{}", policy.last_version_number),
        create_date: Some(view.now()),
    };
    policy.versions.push(version.clone());
    policy.update_date = Some(view.now());
    if set_as_default {
        policy.default_version_id.clone_from(&version.version_id);
        policy_document.clone_into(&mut policy.document);
    }
    put_version(plan, &policy, &version.version_id, policy_document);
    plan.put(&key(&policy), &policy);
    Ok((version, set_as_default, accepted.findings))
}

/// One version of a policy, and its document.
pub fn find_version(
    view: &View,
    account: &AccountId,
    arn: &str,
    version_id: &str,
) -> Result<(ManagedPolicyRecord, PolicyVersionSummary, String), Error> {
    let policy = find_visible(view, account, arn)?;
    let summary = summary(&policy, version_id)?;
    let key = layout::policy_version(&policy.policy_id, version_id);
    let document = view.find(&key)?.map(|version| version.document);
    let missing = || Error::no_such("policy version", format!("{arn} {version_id}"));
    Ok((policy, summary, document.ok_or_else(missing)?))
}

fn summary(policy: &ManagedPolicyRecord, version_id: &str) -> Result<PolicyVersionSummary, Error> {
    if version_id.is_empty() {
        return Err(Error::validation("version_id", "is required, such as `v1`"));
    }
    let found = policy.versions.iter().find(|version| version.version_id == version_id);
    found.cloned().ok_or_else(|| {
        let shown: String = version_id.chars().take(40).collect();
        Error::no_such("policy version", format!("{} {}", policy.arn, shown.escape_default()))
    })
}

/// Deletes a version that is not the default.
pub fn delete_version(
    view: &View,
    plan: &mut Plan,
    account: &AccountId,
    arn: &str,
    version_id: &str,
) -> Result<(), Error> {
    let mut policy = find_own(view, account, arn)?;
    let version = summary(&policy, version_id)?;
    if version.version_id == policy.default_version_id {
        return Err(Error::DeleteConflict {
            kind: "policy version",
            name: format!("{arn} {version_id}"),
            what: "the place of the default version".to_owned(),
        });
    }
    quota::remove(view, plan, account, Counted::PolicyVersions, &policy.policy_id)?;
    policy.versions.retain(|version| version.version_id != version_id);
    plan.delete(&layout::policy_version(&policy.policy_id, version_id));
    plan.put(&key(&policy), &policy);
    Ok(())
}

/// Makes a version the one that is evaluated.
pub fn set_default_version(
    view: &View,
    plan: &mut Plan,
    account: &AccountId,
    arn: &str,
    version_id: &str,
) -> Result<(), Error> {
    let mut policy = find_own(view, account, arn)?;
    let (_, version, document) = find_version(view, account, arn, version_id)?;
    policy.default_version_id = version.version_id;
    policy.document = document;
    policy.update_date = Some(view.now());
    plan.put(&key(&policy), &policy);
    Ok(())
}

/// A page of the policies that a user or role has, by ARN.
pub fn attached_page(
    mut arns: Vec<String>,
    path_prefix: &str,
    paging: &Paging,
) -> (Vec<AttachedPolicy>, Option<String>) {
    arns.retain(|arn| {
        name::parse_policy_arn("policy_arn", arn)
            .is_ok_and(|(_, path, _)| path.starts_with(path_prefix))
    });
    arns.sort();
    let (page, marker) = convert::cut(arns, paging, |arn| arn);
    (page.iter().map(|arn| convert::attached_policy(arn)).collect(), marker)
}
