//! The answer, and its reason.

use std::fmt;
use std::sync::Arc;

use crate::policies::PolicyType;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Decision {
    Allow,
    ExplicitDeny,
    ImplicitDeny,
}

impl Decision {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Decision::Allow => "ALLOW",
            Decision::ExplicitDeny => "EXPLICIT_DENY",
            Decision::ImplicitDeny => "IMPLICIT_DENY",
        }
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which policy type decided, or what was missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    AllowedByIdentityPolicy,
    AllowedByResourcePolicy,
    AllowedByTrustPolicy,
    /// An account's root may do everything in its own account that no guardrail forbids.
    AllowedAsAccountRoot,
    DeniedByIdentityPolicy,
    DeniedByResourcePolicy,
    DeniedByTrustPolicy,
    DeniedByBoundary,
    DeniedBySessionPolicy,
    DeniedByScp,
    DeniedByRcp,
    NoIdentityAllow,
    NoResourceAllow,
    NoTrustAllow,
    NotAllowedByBoundary,
    NotAllowedBySession,
    NotAllowedByScp,
    /// An external principal may assume roles that trust it, and nothing else.
    ExternalPrincipal,
    /// A policy's document is not at hand, or the request contradicts itself.
    CannotEvaluate,
}

impl Reason {
    pub(crate) fn denied_by(policy_type: PolicyType) -> Self {
        match policy_type {
            PolicyType::Identity => Reason::DeniedByIdentityPolicy,
            PolicyType::Resource => Reason::DeniedByResourcePolicy,
            PolicyType::Trust => Reason::DeniedByTrustPolicy,
            PolicyType::Boundary => Reason::DeniedByBoundary,
            PolicyType::Session => Reason::DeniedBySessionPolicy,
            PolicyType::Scp => Reason::DeniedByScp,
            PolicyType::Rcp => Reason::DeniedByRcp,
        }
    }
}

/// A statement that determined the decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Determining {
    pub policy_type: PolicyType,
    /// As [`crate::policies::Attached::name`].
    pub policy: Arc<str>,
    pub version_id: Option<Arc<str>>,
    pub sid: Option<String>,
    /// Counts from 0.
    pub index: usize,
    /// JSON pointer to the statement.
    pub pointer: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    pub decision: Decision,
    pub reason: Reason,
    /// The Allow statements that allowed, or the Deny statements that denied; none for an implicit deny.
    pub determining: Vec<Determining>,
}

impl Verdict {
    #[must_use]
    pub fn is_allow(&self) -> bool {
        self.decision == Decision::Allow
    }
}
