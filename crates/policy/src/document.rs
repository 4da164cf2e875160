//! A policy document as it was read: every element, and where it stands in the text.
//!
//! Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_grammar.html>

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::action::ActionPattern;
use crate::condition::Condition;
use crate::pattern::Template;
use crate::principal::PrincipalElement;

/// A place in a text. Both count from 1; a column is a character, not a byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    pub line: u32,
    pub column: u32,
}

impl Position {
    /// Where every text begins.
    pub const START: Self = Self { line: 1, column: 1 };
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// Something, and where it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located<T> {
    pub value: T,
    pub at: Position,
    /// JSON pointer (RFC 6901) to it.
    pub pointer: String,
}

/// The version of the language. A document without one is of 2008-10-17.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Version {
    /// Without policy variables.
    V2008_10_17,
    V2012_10_17,
}

impl Version {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Version::V2008_10_17 => "2008-10-17",
            Version::V2012_10_17 => "2012-10-17",
        }
    }
}

impl FromStr for Version {
    type Err = UnknownVersion;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "2008-10-17" => Ok(Version::V2008_10_17),
            "2012-10-17" => Ok(Version::V2012_10_17),
            _ => Err(UnknownVersion(text.to_owned())),
        }
    }
}

/// The text is neither of the two dates.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown Version `{0}`: expected `2012-10-17` (or the old `2008-10-17`)")]
pub struct UnknownVersion(pub String);

/// What a statement does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Effect {
    Allow,
    Deny,
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Effect::Allow => "Allow",
            Effect::Deny => "Deny",
        })
    }
}

/// One element that is written as itself or with `Not` before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clause<T> {
    /// Whether it was `NotPrincipal`, `NotAction` or `NotResource`.
    pub negated: bool,
    /// At least one.
    pub elements: Vec<Located<T>>,
    pub at: Position,
    pub pointer: String,
}

/// What a `Resource` or `NotResource` element holds: `*`, or an ARN with wildcards and variables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResourcePattern {
    pub template: Template,
}

impl ResourcePattern {
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.template.as_str()
    }

    /// Whether this is the lone `*`.
    #[must_use]
    pub fn is_any(&self) -> bool {
        self.as_str() == "*"
    }
}

/// One statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// Counts from 0.
    pub index: usize,
    /// `/Statement/2`, or `/Statement` where the document has a single object.
    pub pointer: String,
    pub at: Position,
    pub sid: Option<Located<String>>,
    pub effect: Effect,
    /// Absent in identity policies.
    pub principals: Option<Clause<PrincipalElement>>,
    pub actions: Clause<ActionPattern>,
    /// Absent in trust policies.
    pub resources: Option<Clause<ResourcePattern>>,
    pub conditions: Vec<Condition>,
}

/// A document, read by [`crate::parse::parse`] alone.
#[derive(Debug, Clone)]
pub struct Document {
    pub(crate) source: Arc<str>,
    pub(crate) version: Version,
    pub(crate) version_at: Option<Position>,
    pub(crate) id: Option<String>,
    pub(crate) statements: Vec<Statement>,
}

impl Document {
    /// The text that it was read from.
    #[must_use]
    pub fn source(&self) -> Arc<str> {
        Arc::clone(&self.source)
    }

    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// Whether the text has a Version element.
    #[must_use]
    pub fn has_version(&self) -> bool {
        self.version_at.is_some()
    }

    #[must_use]
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    #[must_use]
    pub fn statements(&self) -> &[Statement] {
        &self.statements
    }

    /// Every principal element of every statement, in order: what a store resolves on write.
    pub fn principal_elements(&self) -> impl Iterator<Item = &Located<PrincipalElement>> {
        self.statements
            .iter()
            .filter_map(|statement| statement.principals.as_ref())
            .flat_map(|clause| &clause.elements)
    }
}

impl PartialEq for Document {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Eq for Document {}
