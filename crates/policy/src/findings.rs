//! What a reviewer would say of a document: errors that keep it from being stored, and warnings that do not.
//!
//! [`check`] is [`crate::parse::parse`] and then the rules of writing for one kind of document.

use std::fmt;

use crate::document::Document;
use crate::parse::{self, Malformed};
use crate::{validate, warn};

/// How grave a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The document is refused.
    Error,
    /// It grants more than its author may think.
    SecurityWarning,
    Warning,
    Suggestion,
}

impl Severity {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::SecurityWarning => "security warning",
            Severity::Warning => "warning",
            Severity::Suggestion => "suggestion",
        }
    }
}

/// One remark, and where it belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub severity: Severity,
    /// A stable name in CamelCase.
    pub code: &'static str,
    /// Counts from 1.
    pub line: u32,
    /// Counts from 1, in characters.
    pub column: u32,
    /// JSON pointer (RFC 6901); empty for the whole document.
    pub pointer: String,
    /// What was found, and what was expected.
    pub message: String,
    /// What to write instead, where that is known.
    pub fix: Option<String>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: {}", self.line, self.column, self.message)?;
        match &self.fix {
            Some(fix) => write!(f, " ({fix})"),
            None => Ok(()),
        }
    }
}

/// What a document is for: this decides which elements it may hold, and how long it may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DocumentKind {
    ManagedPolicy,
    InlineUserPolicy,
    InlineRolePolicy,
    InlineGroupPolicy,
    TrustPolicy,
    ResourcePolicy,
    PermissionsBoundary,
    SessionPolicy,
    ServiceControlPolicy,
    ResourceControlPolicy,
}

impl DocumentKind {
    /// How many characters other than white space it may have. Inline policies share their number among all of one entity,
    /// which the store counts.
    /// Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html>; for control policies
    /// <https://docs.aws.amazon.com/organizations/latest/userguide/orgs_reference_limits.html>; a resource policy's is S3's.
    #[must_use]
    pub fn max_characters(self) -> usize {
        match self {
            DocumentKind::ManagedPolicy | DocumentKind::PermissionsBoundary => 6_144,
            DocumentKind::InlineUserPolicy
            | DocumentKind::TrustPolicy
            | DocumentKind::SessionPolicy => 2_048,
            DocumentKind::InlineRolePolicy => 10_240,
            DocumentKind::InlineGroupPolicy
            | DocumentKind::ServiceControlPolicy
            | DocumentKind::ResourceControlPolicy => 5_120,
            DocumentKind::ResourcePolicy => 20_480,
        }
    }

    /// Whether it says who may act; the others are attached to who acts.
    #[must_use]
    pub fn has_principals(self) -> bool {
        match self {
            DocumentKind::TrustPolicy
            | DocumentKind::ResourcePolicy
            | DocumentKind::ResourceControlPolicy => true,
            DocumentKind::ManagedPolicy
            | DocumentKind::InlineUserPolicy
            | DocumentKind::InlineRolePolicy
            | DocumentKind::InlineGroupPolicy
            | DocumentKind::PermissionsBoundary
            | DocumentKind::SessionPolicy
            | DocumentKind::ServiceControlPolicy => false,
        }
    }

    #[must_use]
    pub fn noun(self) -> &'static str {
        match self {
            DocumentKind::ManagedPolicy => "a managed policy",
            DocumentKind::InlineUserPolicy => "a user's inline policy",
            DocumentKind::InlineRolePolicy => "a role's inline policy",
            DocumentKind::InlineGroupPolicy => "a group's inline policy",
            DocumentKind::TrustPolicy => "a trust policy",
            DocumentKind::ResourcePolicy => "a resource policy",
            DocumentKind::PermissionsBoundary => "a permissions boundary",
            DocumentKind::SessionPolicy => "a session policy",
            DocumentKind::ServiceControlPolicy => "a service control policy",
            DocumentKind::ResourceControlPolicy => "a resource control policy",
        }
    }
}

/// Characters that count against a size limit: all but white space.
#[must_use]
pub fn counted_characters(text: &str) -> usize {
    text.chars().filter(|c| !c.is_whitespace()).count()
}

/// A document that may be stored.
#[derive(Debug, Clone)]
pub struct Checked {
    pub document: Document,
    /// None is of severity `Error`. In the order of the text.
    pub warnings: Vec<Finding>,
}

/// Reads a document and applies the rules of writing.
///
/// # Errors
/// [`Malformed`], with every error found.
pub fn check(text: &str, kind: DocumentKind) -> Result<Checked, Malformed> {
    if let Some(finding) = validate::size(text, kind) {
        return Err(Malformed { findings: vec![finding] });
    }
    let document = parse::parse(text)?;
    let mut findings = validate::document(&document, kind);
    if findings.is_empty() {
        let mut warnings = warn::document(&document, kind);
        warnings.sort_by_key(|finding| (finding.line, finding.column));
        return Ok(Checked { document, warnings });
    }
    findings.sort_by_key(|finding| (finding.line, finding.column));
    Err(Malformed { findings })
}
