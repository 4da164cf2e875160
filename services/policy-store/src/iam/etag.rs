//! Etags: of two people who edit one document, the second is told that it changed under them, and overwrites nothing unseen.
//!
//! An etag is a digest of a text, so that the same text has the same one, whoever wrote it. What is compared is read in the view of the
//! write, and so is a precondition of it.

use countersign_policy::arn::AccountId;
use countersign_proto::policy::v1::ManagedPolicyRecord;

use super::{attachment::To, guardrail, inline, policy, role};
use crate::{digest::sha256_hex, error::Error, layout, view::View};

/// Half of a SHA-256, in hex.
const LENGTH: usize = 32;
/// Asked for where there must be nothing.
const NONE: &str = "none";

/// The etag of a document.
pub fn of(text: &str) -> String {
    let mut digest = sha256_hex(text.as_bytes());
    digest.truncate(LENGTH);
    digest
}

/// The etag of a managed policy: which version of it is in force. One that was deleted and made again has another.
pub fn of_policy(policy: &ManagedPolicyRecord) -> String {
    of(&format!("{} {}", policy.policy_id, policy.default_version_id))
}

/// That an inline policy is still the one that was read. Each of these takes an empty etag for any.
pub fn inline(
    view: &View,
    account: &AccountId,
    owner: To<'_>,
    policy_name: &str,
    etag: &str,
) -> Result<(), Error> {
    if etag.is_empty() {
        return Ok(());
    }
    let found = match inline::find(view, account, owner, policy_name) {
        Ok((_, found)) => Some(of(&found.policy_document)),
        Err(Error::NoSuchEntity { kind: inline::KIND, .. }) => None,
        Err(error) => return Err(error),
    };
    check(etag, found, policy_name)
}

/// The same of a role's trust policy.
pub fn trust(view: &View, account: &AccountId, role_name: &str, etag: &str) -> Result<(), Error> {
    if etag.is_empty() {
        return Ok(());
    }
    let role = role::find(view, account, role_name)?;
    check(etag, Some(of(&role.assume_role_policy_document)), role_name)
}

/// The same of a managed policy's default version.
pub fn policy(view: &View, account: &AccountId, arn: &str, etag: &str) -> Result<(), Error> {
    if etag.is_empty() {
        return Ok(());
    }
    let policy = policy::find_own(view, account, arn)?;
    check(etag, Some(of_policy(&policy)), arn)
}

/// The same of a resource policy.
pub fn resource_policy(
    view: &View,
    account: &AccountId,
    resource_arn: &str,
    etag: &str,
) -> Result<(), Error> {
    if etag.is_empty() {
        return Ok(());
    }
    let found = view.find(&layout::resource_policy(account, resource_arn))?;
    check(etag, found.map(|found| of(&found.policy)), resource_arn)
}

/// The same of a guardrail's document.
pub fn guardrail(view: &View, id: &str, etag: &str) -> Result<(), Error> {
    if etag.is_empty() {
        return Ok(());
    }
    let guardrail = guardrail::find(view, id)?;
    check(etag, Some(of(&guardrail.content)), id)
}

fn check(etag: &str, found: Option<String>, what: &str) -> Result<(), Error> {
    let is_digest =
        etag.len() == LENGTH && etag.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if !is_digest && etag != NONE {
        let rule = "send back what was answered when the document was read, `none`, or nothing";
        return Err(Error::validation("etag", rule));
    }
    let is_same = match &found {
        Some(found) => etag == found,
        None => etag == NONE,
    };
    if is_same { Ok(()) } else { Err(Error::Changed { what: what.to_owned() }) }
}
