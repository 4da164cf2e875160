//! The policies that bear on one request, by type.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use countersign_policy::Document;

use crate::compiled::Program;
use crate::principal::Realm;

/// Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/access_policies.html#access_policy-types>
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PolicyType {
    Identity,
    Resource,
    /// A role's trust policy: the resource policy of sts:AssumeRole and its like.
    Trust,
    Boundary,
    Session,
    Scp,
    Rcp,
}

impl fmt::Display for PolicyType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PolicyType::Identity => "identity policy",
            PolicyType::Resource => "resource policy",
            PolicyType::Trust => "trust policy",
            PolicyType::Boundary => "permissions boundary",
            PolicyType::Session => "session policy",
            PolicyType::Scp => "service control policy",
            PolicyType::Rcp => "resource control policy",
        })
    }
}

/// A document, and as what it applies.
#[derive(Debug, Clone)]
pub struct Attached {
    pub policy_type: PolicyType,
    /// A managed policy's ARN, an inline policy's name, or the entity that carries the document.
    pub name: Arc<str>,
    /// A managed policy's version, `v3`.
    pub version_id: Option<Arc<str>>,
    pub document: Arc<Document>,
    /// Whom the principal elements named when the document was written. Without it names alone are compared, and no external
    /// principal is allowed.
    pub resolved: Option<Arc<ResolvedPrincipals>>,
}

/// What one principal element named, when it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    pub realm: Realm,
    /// Of a user, or of a role (also for a session's ARN). An external one is absent until it is pinned; a local one that is
    /// absent is gone, and never allows.
    pub unique_id: Option<String>,
}

/// By the element's text, as the document has it: a principal's ARN, an account number, an account's root ARN.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResolvedPrincipals {
    elements: BTreeMap<String, Resolved>,
}

impl ResolvedPrincipals {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The last one put under a text counts.
    pub fn insert(&mut self, text: impl Into<String>, resolved: Resolved) {
        self.elements.insert(text.into(), resolved);
    }

    #[must_use]
    pub fn get(&self, text: &str) -> Option<&Resolved> {
        self.elements.get(text)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &Resolved)> {
        self.elements.iter().map(|(text, resolved)| (text.as_str(), resolved))
    }
}

impl FromIterator<(String, Resolved)> for ResolvedPrincipals {
    fn from_iter<I: IntoIterator<Item = (String, Resolved)>>(elements: I) -> Self {
        Self { elements: elements.into_iter().collect() }
    }
}

/// Everything that bears on one request.
#[derive(Debug, Clone, Default)]
pub struct PolicySet {
    /// Inline, managed and group policies: a union.
    pub identity: Vec<Attached>,
    /// `Some` and empty if a boundary is named but its policy is gone: then nothing is allowed.
    pub boundary: Option<Vec<Attached>>,
    /// A union among themselves.
    pub session: Option<Vec<Attached>>,
    /// What a session's token was narrowed to, one inner list a narrowing: a union among themselves, and each narrowing must allow,
    /// also what a resource's policy grants to the session by its name.
    pub narrowings: Vec<Vec<Attached>>,
    /// The resource's policy; the role's trust policy when it is to be assumed.
    pub resource: Option<Attached>,
    /// One inner list a level, from the root to the account. None at all without an organization.
    pub scps: Vec<Vec<Attached>>,
    /// RCPFullAWSAccess is implied at every level.
    pub rcps: Vec<Vec<Attached>>,
    /// Names of attached policies whose documents are not at hand: what they would deny is unknown, so nothing is allowed.
    pub missing: Vec<Arc<str>>,
    /// What documents of the set were compiled to; [`crate::compiled::decide`] compiles what is not among them.
    pub programs: Vec<Program>,
}

impl PolicySet {
    /// Compiles every document that is not among the programs yet.
    pub fn compile(&mut self) {
        let documents: Vec<Arc<Document>> =
            self.all().map(|attached| Arc::clone(&attached.document)).collect();
        for document in documents {
            if !self.programs.iter().any(|program| Arc::ptr_eq(&program.document, &document)) {
                self.programs.push(Program::new(document));
            }
        }
    }

    /// Every policy of the set, in the order in which they are tallied.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Attached> {
        self.identity
            .iter()
            .chain(&self.resource)
            .chain(self.boundary.iter().flatten())
            .chain(self.session.iter().flatten())
            .chain(self.narrowings.iter().flatten())
            .chain(self.scps.iter().flatten())
            .chain(self.rcps.iter().flatten())
    }
}
