//! Resource policies, by ARN or by a pattern of ARNs. No two patterns of one account match one resource: there is one policy of a
//! resource, as everywhere in AWS.

use countersign_evaluator::snapshot::Pattern;
use countersign_policy::{
    arn::{AccountId, Arn},
    findings::{DocumentKind, Finding},
};
use countersign_proto::policy::v1::ResourcePolicyRecord;

use super::{
    document,
    trust::{self, Whose},
};
use crate::{
    error::Error,
    layout::{self, Count},
    view::{Plan, View},
};

/// Of one account.
const MOST: usize = 1_000;
/// As a key of the store, with its account.
const MAX_ARN_BYTES: usize = 900;

/// A pattern that an account may have a policy for.
pub fn pattern(account: &AccountId, resource_arn: &str) -> Result<Pattern, Error> {
    const FIELD: &str = "resource_arn";
    let shown: String =
        resource_arn.chars().take(120).collect::<String>().escape_default().collect();
    let refused = |rule: &str| Error::validation(FIELD, format!("`{shown}`: {rule}"));
    if resource_arn.len() > MAX_ARN_BYTES {
        return Err(refused("at most 900 bytes are expected"));
    }
    if resource_arn.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(refused("an ARN holds no white space and no control characters"));
    }
    let pattern = Pattern::new(resource_arn).ok_or_else(|| {
        refused("an ARN is expected, of six parts, with `*` and `?` in the last one alone")
    })?;
    let arn: Arn = resource_arn.parse().map_err(|error| refused(&format!("{error}")))?;
    if arn.partition() != "aws" {
        return Err(refused("only the partition `aws` is served"));
    }
    if !arn.account().is_empty() && arn.account() != account.as_str() {
        return Err(refused("the ARN is of another account"));
    }
    // Countersign itself knows the policies of these.
    let own = ["iam", "sts", "countersign", "organizations"];
    if own.iter().any(|service| arn.service().eq_ignore_ascii_case(service)) {
        return Err(refused("resources of this service have no stored policy"));
    }
    Ok(pattern)
}

/// What a caller must be allowed to do a thing on: the pattern's own text, and where it has a `*` also the text with each of them twice,
/// and with none. A `?` in the caller's policy would otherwise take the `*` for the one character that it is, and a right on `order/?`
/// be one on `order/*`.
pub fn asked_about(resource_arn: &str) -> Vec<String> {
    let mut texts = vec![resource_arn.to_owned()];
    if resource_arn.contains('*') {
        texts.push(resource_arn.replace('*', "**"));
        let shortest = resource_arn.replace('*', "");
        // `*` alone covers no ARN that short.
        if shortest.parse::<Arn>().is_ok() {
            texts.push(shortest);
        }
    }
    texts
}

/// The policy of this very ARN or pattern.
pub fn find(
    view: &View,
    account: &AccountId,
    resource_arn: &str,
) -> Result<ResourcePolicyRecord, Error> {
    pattern(account, resource_arn)?;
    view.find(&layout::resource_policy(account, resource_arn))?
        .ok_or_else(|| Error::no_such("resource policy", resource_arn))
}

/// Puts a policy in place. Its principals are resolved, as a trust policy's are.
pub fn put(
    view: &View,
    plan: &mut Plan,
    account: &AccountId,
    resource_arn: &str,
    policy: &str,
) -> Result<Vec<Finding>, Error> {
    let wanted = pattern(account, resource_arn)?;
    let accepted = document::accept("policy", policy, DocumentKind::ResourcePolicy)?;
    let resolved = trust::resolve(view, "policy", &accepted.checked.document, Whose::Resource)?;
    let key = layout::resource_policy(account, resource_arn);
    let old = view.find(&key)?;
    if old.is_none() {
        no_overlap(view, plan, account, &wanted)?;
    }
    let record = ResourcePolicyRecord {
        account_id: account.to_string(),
        resource_arn: resource_arn.to_owned(),
        policy: policy.to_owned(),
        resolved_principals: resolved.principals,
        create_date: old.and_then(|old| old.create_date).or_else(|| Some(view.now())),
        update_date: Some(view.now()),
    };
    plan.put(&key, &record);
    Ok(accepted.findings)
}

/// Writers that add a pattern to an account come one after the other: each reads and writes the account's count, so that the list of
/// patterns that it looked at is whole.
fn no_overlap(
    view: &View,
    plan: &mut Plan,
    account: &AccountId,
    wanted: &Pattern,
) -> Result<(), Error> {
    let turn = layout::resource_policy_turn(account);
    let number = view.find(&turn)?.map_or(0, |count| count.number) + 1;
    plan.put(&turn, &Count { number });
    let prefix = layout::resource_policies(account);
    let keys = view.keys(&prefix, MOST + 1)?;
    if keys.len() >= MOST {
        let what = "resource policies in this account".to_owned();
        return Err(Error::LimitExceeded { what, limit: MOST });
    }
    for key in keys {
        let text = key.get(prefix.len()..).unwrap_or_default();
        let other = std::str::from_utf8(text).ok().and_then(Pattern::new);
        let clash = other.is_none_or(|other| other.overlaps(wanted));
        if clash {
            let message = format!(
                "`{}` and `{}`, which has a policy, match a resource in common; there is one policy of a resource: change that one, or \
                 delete it first",
                wanted.as_str(),
                String::from_utf8_lossy(text)
            );
            return Err(Error::validation("resource_arn", message));
        }
    }
    Ok(())
}

/// Deletes a policy.
pub fn delete(
    view: &View,
    plan: &mut Plan,
    account: &AccountId,
    resource_arn: &str,
) -> Result<(), Error> {
    find(view, account, resource_arn)?;
    plan.delete(&layout::resource_policy(account, resource_arn));
    Ok(())
}
