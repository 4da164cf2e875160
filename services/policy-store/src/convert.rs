//! Between the wire and what operations take: nothing is decided here, and everything unknown is refused.

use countersign_evaluator::snapshot::ROOT;
use countersign_policy::{
    arn::AccountId,
    findings::{Finding, Severity},
};
use countersign_proto::policy::v1::{self as proto, FindingSeverity};

use crate::{
    authz::Ask,
    error::Error,
    iam::{etag, name},
    layout::{self, LastUse},
};

/// Asks for a new user or role, with the boundary that it will have.
pub fn bounded<'a>(asks: Vec<Ask<'a>>, permissions_boundary: &str) -> Result<Vec<Ask<'a>>, Error> {
    if permissions_boundary.is_empty() {
        return Ok(asks);
    }
    name::parse_policy_arn("permissions_boundary", permissions_boundary)?;
    let with = |ask: Ask<'a>| ask.with("iam:PermissionsBoundary", permissions_boundary);
    Ok(asks.into_iter().map(with).collect())
}

/// Which page of a list.
#[derive(Debug)]
pub struct Paging {
    /// Where the page before ended: a key without its prefix; empty for the first page.
    pub marker: String,
    /// How many, 1 to 1,000.
    pub limit: usize,
}

/// IAM's default is 100, and its most is 1,000.
pub fn paging(marker: String, max_items: i32) -> Result<Paging, Error> {
    let limit = match max_items {
        0 => 100,
        1..=1_000 => usize::try_from(max_items).unwrap_or(100),
        _ => return Err(Error::validation("max_items", "1 to 1,000 is expected, or 0 for 100")),
    };
    if marker.len() > 320 || marker.chars().any(char::is_control) {
        return Err(Error::validation("marker", "send back what the page before answered"));
    }
    Ok(Paging { marker, limit })
}

/// Begins with a slash, as paths do.
pub fn path_prefix(text: &str) -> Result<&str, Error> {
    if text.is_empty() || text.starts_with('/') {
        return Ok(text);
    }
    Err(Error::validation("path_prefix", "begins with `/`, as paths do"))
}

/// A page cut out of a list that is at hand as a whole.
pub fn cut<T>(all: Vec<T>, paging: &Paging, key: impl Fn(&T) -> &str) -> (Vec<T>, Option<String>) {
    let mut rest = all
        .into_iter()
        .skip_while(|item| !paging.marker.is_empty() && key(item) <= paging.marker.as_str());
    let page: Vec<T> = rest.by_ref().take(paging.limit).collect();
    let more = rest.next().is_some();
    let marker = page.last().filter(|_| more).map(|item| key(item).to_owned());
    (page, marker)
}

pub fn user_arn(record: &proto::UserRecord) -> String {
    name::user_arn(&record.account_id, &record.path, &record.user_name)
}

pub fn role_arn(record: &proto::RoleRecord) -> String {
    name::role_arn(&record.account_id, &record.path, &record.role_name)
}

pub fn user(record: proto::UserRecord) -> proto::User {
    proto::User {
        arn: user_arn(&record),
        path: record.path,
        user_name: record.user_name,
        user_id: record.user_id,
        create_date: record.create_date,
        permissions_boundary: boundary(record.permissions_boundary_arn),
        tags: record.tags,
    }
}

/// A boundary, as IAM's answers have it.
pub fn boundary(permissions_boundary_arn: String) -> Option<proto::AttachedPermissionsBoundary> {
    (!permissions_boundary_arn.is_empty()).then(|| proto::AttachedPermissionsBoundary {
        permissions_boundary_type:
            proto::PermissionsBoundaryAttachmentType::PermissionsBoundaryPolicy.into(),
        permissions_boundary_arn,
    })
}

pub fn group_arn(record: &proto::GroupRecord) -> String {
    name::group_arn(&record.account_id, &record.path, &record.group_name)
}

pub fn group(record: proto::GroupRecord) -> proto::Group {
    proto::Group {
        arn: group_arn(&record),
        path: record.path,
        group_name: record.group_name,
        group_id: record.group_id,
        create_date: record.create_date,
    }
}

pub fn role(record: proto::RoleRecord) -> proto::Role {
    proto::Role {
        arn: role_arn(&record),
        assume_role_policy_etag: etag::of(&record.assume_role_policy_document),
        path: record.path,
        role_name: record.role_name,
        role_id: record.role_id,
        create_date: record.create_date,
        assume_role_policy_document: record.assume_role_policy_document,
        description: record.description,
        max_session_duration: record.max_session_duration,
        permissions_boundary: boundary(record.permissions_boundary_arn),
        tags: record.tags,
        role_last_used: None,
    }
}

/// As IAM has it: a key that was never used says so in words.
pub fn access_key_last_used(last_use: Option<LastUse>) -> proto::AccessKeyLastUsed {
    let never = || "N/A".to_owned();
    match last_use {
        None => proto::AccessKeyLastUsed {
            last_used_date: None,
            service_name: never(),
            region: never(),
        },
        Some(LastUse { seconds, service_name, region }) => proto::AccessKeyLastUsed {
            last_used_date: Some(prost_types::Timestamp { seconds, nanos: 0 }),
            service_name,
            region,
        },
    }
}

pub fn role_last_used(last_use: Option<LastUse>) -> Option<proto::RoleLastUsed> {
    last_use.map(|LastUse { seconds, service_name: _, region }| proto::RoleLastUsed {
        last_used_date: Some(prost_types::Timestamp { seconds, nanos: 0 }),
        region,
    })
}

/// In how many places of an account a managed policy is used.
#[derive(Clone, Copy, Debug, Default)]
pub struct Uses {
    /// Users, groups and roles that it is attached to.
    pub attachments: usize,
    /// Users and roles whose boundary it is.
    pub boundaries: usize,
}

pub fn policy(record: proto::ManagedPolicyRecord, uses: Uses) -> proto::Policy {
    let number = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
    proto::Policy {
        etag: etag::of_policy(&record),
        policy_name: record.policy_name,
        policy_id: record.policy_id,
        arn: record.arn,
        path: record.path,
        default_version_id: record.default_version_id,
        attachment_count: number(uses.attachments),
        permissions_boundary_usage_count: number(uses.boundaries),
        is_attachable: true,
        description: record.description,
        create_date: record.create_date,
        update_date: record.update_date,
        tags: record.tags,
    }
}

pub fn policy_version(
    default_version_id: &str,
    summary: proto::PolicyVersionSummary,
    document: String,
) -> proto::PolicyVersion {
    proto::PolicyVersion {
        is_default_version: summary.version_id == default_version_id,
        document,
        version_id: summary.version_id,
        create_date: summary.create_date,
    }
}

pub fn attached_policy(arn: &str) -> proto::AttachedPolicy {
    proto::AttachedPolicy {
        policy_name: arn.rsplit('/').next().unwrap_or_default().to_owned(),
        policy_arn: arn.to_owned(),
    }
}

pub fn access_key_status(state: proto::AccessKeyState) -> proto::AccessKeyStatus {
    match state {
        proto::AccessKeyState::Active => proto::AccessKeyStatus::Active,
        proto::AccessKeyState::Inactive => proto::AccessKeyStatus::Inactive,
        proto::AccessKeyState::Unspecified => proto::AccessKeyStatus::Unspecified,
    }
}

pub fn access_key_state(number: i32) -> Result<proto::AccessKeyState, Error> {
    match proto::AccessKeyStatus::try_from(number) {
        Ok(proto::AccessKeyStatus::Active) => Ok(proto::AccessKeyState::Active),
        Ok(proto::AccessKeyStatus::Inactive) => Ok(proto::AccessKeyState::Inactive),
        Ok(proto::AccessKeyStatus::Unspecified) | Err(_) => Err(Error::validation(
            "status",
            "ACCESS_KEY_STATUS_ACTIVE or ACCESS_KEY_STATUS_INACTIVE is expected",
        )),
    }
}

pub fn access_key_metadata(record: proto::AccessKeyRecord) -> proto::AccessKeyMetadata {
    proto::AccessKeyMetadata {
        status: access_key_status(record.state()).into(),
        user_name: record.user_name,
        access_key_id: record.access_key_id,
        create_date: record.create_date,
    }
}

/// The one answer that holds a secret.
pub fn access_key(record: proto::AccessKeyRecord, secret: String) -> proto::AccessKey {
    proto::AccessKey {
        status: access_key_status(record.state()).into(),
        user_name: record.user_name,
        access_key_id: record.access_key_id,
        secret_access_key: secret,
        create_date: record.create_date,
    }
}

pub fn account_of(record: proto::AccountRecord) -> proto::Account {
    proto::Account {
        id: record.account_id,
        name: record.account_name,
        description: record.description,
        joined_timestamp: record.create_date,
        parent_id: match record.parent_id {
            root if root.is_empty() => ROOT.to_owned(),
            unit => unit,
        },
    }
}

pub fn findings(findings: Vec<Finding>) -> Vec<proto::Finding> {
    findings.into_iter().map(finding).collect()
}

fn finding(finding: Finding) -> proto::Finding {
    let severity = match finding.severity {
        Severity::Error => FindingSeverity::Error,
        Severity::SecurityWarning => FindingSeverity::SecurityWarning,
        Severity::Warning => FindingSeverity::Warning,
        Severity::Suggestion => FindingSeverity::Suggestion,
    };
    proto::Finding {
        severity: severity.into(),
        code: finding.code.to_owned(),
        line: finding.line,
        column: finding.column,
        pointer: finding.pointer,
        message: finding.message,
        fix: finding.fix.unwrap_or_default(),
    }
}

/// As what a managed policy is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    pub attached: bool,
    pub boundary: bool,
}

/// Both, unless one is asked for.
pub fn usage(number: i32) -> Result<Usage, Error> {
    match proto::PolicyUsageType::try_from(number) {
        Ok(proto::PolicyUsageType::Unspecified) => Ok(Usage { attached: true, boundary: true }),
        Ok(proto::PolicyUsageType::PermissionsPolicy) => {
            Ok(Usage { attached: true, boundary: false })
        }
        Ok(proto::PolicyUsageType::PermissionsBoundary) => {
            Ok(Usage { attached: false, boundary: true })
        }
        Err(_) => Err(Error::validation("policy_usage_filter", format!("`{number}` is no usage"))),
    }
}

/// Where a policy of the list of all policies stands: the account's own come before AWS's.
pub fn policy_scopes(account: &AccountId, scope: i32) -> Result<Vec<String>, Error> {
    let own = account.to_string();
    let aws = layout::AWS.to_owned();
    match proto::PolicyScopeType::try_from(scope) {
        Ok(proto::PolicyScopeType::Unspecified | proto::PolicyScopeType::All) => Ok(vec![own, aws]),
        Ok(proto::PolicyScopeType::Local) => Ok(vec![own]),
        Ok(proto::PolicyScopeType::Aws) => Ok(vec![aws]),
        Err(_) => Err(Error::validation("scope", format!("`{scope}` is no scope"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages() {
        let all = || vec!["a".to_owned(), "b".to_owned(), "c".to_owned()];
        let check = |marker: &str, max_items: i32, expected: (&[&str], Option<&str>)| {
            let paging = paging(marker.to_owned(), max_items).unwrap();
            let (page, next) = cut(all(), &paging, |item| item);
            assert_eq!(page, expected.0);
            assert_eq!(next.as_deref(), expected.1);
        };
        check("", 0, (&["a", "b", "c"], None));
        check("", 2, (&["a", "b"], Some("b")));
        check("b", 2, (&["c"], None));
        check("c", 2, (&[], None));
        assert!(paging(String::new(), -1).is_err());
        assert!(paging(String::new(), 1_001).is_err());
        assert!(paging("\0".to_owned(), 1).is_err());
    }
}
