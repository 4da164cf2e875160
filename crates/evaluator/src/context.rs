//! The context of a request: condition keys and their values.
//!
//! Knows that keys are compared without case, and which of them a caller may assert. Where values come from is the caller's.

use std::collections::BTreeMap;

use countersign_policy::pattern::Looked;
use thiserror::Error;

/// A single value is not a set of one: operators treat them differently.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContextValue {
    One(String),
    /// May be empty.
    Many(Vec<String>),
}

impl From<&str> for ContextValue {
    fn from(text: &str) -> Self {
        ContextValue::One(text.to_owned())
    }
}

impl From<String> for ContextValue {
    fn from(text: String) -> Self {
        ContextValue::One(text)
    }
}

impl From<Vec<String>> for ContextValue {
    fn from(texts: Vec<String>) -> Self {
        ContextValue::Many(texts)
    }
}

/// Condition keys and values. A key stands in it once, whatever its case.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Context {
    /// By the key in lower case: its given spelling, and its value.
    entries: BTreeMap<String, (String, ContextValue)>,
}

impl Context {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// # Errors
    /// [`DuplicateKey`] if the key is there already, in any case; the context is then as it was.
    pub fn insert(
        &mut self,
        key: impl Into<String>,
        value: impl Into<ContextValue>,
    ) -> Result<(), DuplicateKey> {
        let key = key.into();
        match self.entries.entry(key.to_ascii_lowercase()) {
            std::collections::btree_map::Entry::Occupied(_) => Err(DuplicateKey(key)),
            std::collections::btree_map::Entry::Vacant(slot) => {
                slot.insert((key, value.into()));
                Ok(())
            }
        }
    }

    /// The value of the key, whatever its case.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&ContextValue> {
        self.entries.get(&key.to_ascii_lowercase()).map(|(_, value)| value)
    }

    /// The key as a policy variable: a multivalued key has no value (RULES.md 25).
    pub(crate) fn look_up(&self, key: &str) -> Looked<'_> {
        match self.get(key) {
            Some(ContextValue::One(value)) => Looked::One(value),
            Some(ContextValue::Many(_)) => Looked::Many,
            None => Looked::Missing,
        }
    }

    /// Keys in their given spelling, ordered without case.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &ContextValue)> {
        self.entries.values().map(|(key, value)| (key.as_str(), value))
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// The key is in the context already, perhaps in another case.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the context key `{0}` is given twice (case does not count)")]
pub struct DuplicateKey(pub String);

/// Keys of `aws:` that a caller may assert, in lower case (DESIGN.md, section 3).
const ASSERTABLE: [&str; 9] = [
    "aws:sourceip",
    "aws:sourcevpc",
    "aws:sourcevpce",
    "aws:vpcsourceip",
    "aws:securetransport",
    "aws:useragent",
    "aws:referer",
    "aws:requestedregion",
    "aws:tagkeys",
];

/// Whether a caller may put this key into a request's context. Principal keys and time come from Countersign (RULES.md X16);
/// `aws:ResourceTag/*` comes from the request's `resource_tags`; `sts:*` and `countersign:*` from the exchange. Keys of other
/// prefixes are the services' own, and free.
#[must_use]
pub fn assertable(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    let Some((prefix, name)) = key.split_once(':') else { return false };
    // A prefix with anything else in it might be shown to somebody as one of the reserved ones.
    let sound = !prefix.is_empty()
        && prefix.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        && !name.is_empty();
    match prefix {
        "aws" => {
            ASSERTABLE.contains(&key.as_str())
                || name.strip_prefix("requesttag/").is_some_and(|tag| !tag.is_empty())
        }
        "sts" | "countersign" => false,
        _ => sound,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_one_whatever_their_case() {
        let mut context = Context::new();
        context.insert("aws:PrincipalTag/Team", "x").unwrap();
        assert_eq!(
            context.insert("AWS:principaltag/team", "y"),
            Err(DuplicateKey("AWS:principaltag/team".to_owned()))
        );
        assert_eq!(context.get("aws:PRINCIPALTAG/TEAM"), Some(&ContextValue::from("x")));
        assert_eq!(
            context.iter().map(|(key, _)| key).collect::<Vec<_>>(),
            ["aws:PrincipalTag/Team"]
        );
    }

    #[test]
    fn what_a_caller_may_assert() {
        fn check(key: &str, expected: bool) {
            assert_eq!(assertable(key), expected, "{key}");
        }
        check("aws:SourceIp", true);
        check("AWS:sourceip", true);
        check("aws:SecureTransport", true);
        check("aws:RequestTag/team", true);
        check("aws:TagKeys", true);
        check("orders:Region", true);
        check("app:x", true);
        check("aws:RequestTag/", false);
        check("aws:ResourceTag/team", false);
        check("aws:PrincipalArn", false);
        check("AWS:PrincipalArn", false);
        check("aws:principaltag/Team", false);
        check("aws:username", false);
        check("aws:userid", false);
        check("aws:SourceIdentity", false);
        check("aws:TokenIssueTime", false);
        check("aws:CurrentTime", false);
        check("aws:MultiFactorAuthPresent", false);
        check("aws:SourceAccount", false);
        check("sts:ExternalId", false);
        check("STS:RoleSessionName", false);
        check("countersign:ProofType", false);
        check(" aws:PrincipalArn", false);
        check("aws", false);
        check("", false);
        check(":x", false);
        check("app:", false);
    }
}
