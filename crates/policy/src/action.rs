//! Actions (`s3:GetObject`) and the patterns that documents name them by (`s3:Get*`).
//!
//! Action names and service prefixes are compared without case.
//! Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_action.html>

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::pattern::Glob;

/// One concrete action, as a request names it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Action {
    text: String,
    colon: usize,
}

impl Action {
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The prefix, as it was written: `s3`.
    #[must_use]
    pub fn service(&self) -> &str {
        self.text.get(..self.colon).unwrap_or_default()
    }

    /// The name, as it was written: `GetObject`.
    #[must_use]
    pub fn name(&self) -> &str {
        self.text.get(self.colon + 1..).unwrap_or_default()
    }

    /// Compares without case, as IAM does.
    #[must_use]
    pub fn is(&self, other: &str) -> bool {
        self.text.eq_ignore_ascii_case(other)
    }
}

impl FromStr for Action {
    type Err = InvalidAction;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidAction(text.to_owned());
        let (service, name) = text.split_once(':').ok_or_else(invalid)?;
        let service_is_sound =
            !service.is_empty() && service.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        let name_is_sound = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric());
        if service_is_sound && name_is_sound {
            Ok(Self { text: text.to_owned(), colon: service.len() })
        } else {
            Err(invalid())
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The text names no single action.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "`{0}` is not an action: expected `service:Action`, letters and digits alone, without wildcards"
)]
pub struct InvalidAction(pub String);

/// What an `Action` or `NotAction` element holds: `*`, or a service and a name with `*` and `?`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActionPattern {
    text: String,
    parts: Option<(Glob, Glob)>,
}

impl ActionPattern {
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether this is the lone `*`.
    #[must_use]
    pub fn is_any(&self) -> bool {
        self.parts.is_none()
    }

    /// The text before the colon; none for the lone `*`.
    #[must_use]
    pub fn service(&self) -> Option<&str> {
        self.text.split_once(':').map(|(service, _)| service)
    }

    /// The text after the colon; none for the lone `*`.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.text.split_once(':').map(|(_, name)| name)
    }

    #[must_use]
    pub fn matches(&self, action: &Action) -> bool {
        self.parts.as_ref().is_none_or(|(service, name)| {
            service.matches(&action.service().to_ascii_lowercase())
                && name.matches(&action.name().to_ascii_lowercase())
        })
    }
}

impl FromStr for ActionPattern {
    type Err = InvalidActionPattern;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "*" {
            return Ok(Self { text: text.to_owned(), parts: None });
        }
        let sound = |part: &str| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'*' | b'?'))
        };
        match text.split_once(':') {
            Some((service, name)) if sound(service) && sound(name) => {
                let glob = |part: &str| Glob::new(&part.to_ascii_lowercase());
                Ok(Self { text: text.to_owned(), parts: Some((glob(service), glob(name))) })
            }
            Some(_) | None => Err(InvalidActionPattern(text.to_owned())),
        }
    }
}

/// The text is no action pattern.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{0}` is not an action: expected `service:Action` (with `*` or `?` in the name), or `*`")]
pub struct InvalidActionPattern(pub String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn concrete_actions() {
        fn check(text: &str, expected: bool) {
            assert_eq!(text.parse::<Action>().is_ok(), expected, "{text}");
        }
        check("s3:GetObject", true);
        check("my-app:Do2", true);
        check("s3:Get*", false);
        check("*", false);
        check("s3:", false);
        check(":Get", false);
        check("s3", false);
        check("s3:Get Object", false);
        check("s3:Get:Object", false);
    }

    #[test]
    fn patterns_match_without_case() {
        fn check(pattern: &str, action: &str, expected: bool) {
            let pattern: ActionPattern = pattern.parse().unwrap();
            assert_eq!(pattern.matches(&action.parse().unwrap()), expected, "{pattern:?} {action}");
        }
        check("*", "orders:GetOrder", true);
        check("ORDERS:getorder", "orders:GetOrder", true);
        check("orders:?etOrd*", "orders:GetOrder", true);
        check("orders:Get", "orders:GetOrder", false);
        check("orders:GetOrder?", "orders:GetOrder", false);
        check("orders:*Order", "orders:GetOrder", true);
        check("ordersx:*", "orders:GetOrder", false);
        check("orders:*", "orders:GetOrder", true);
    }

    #[test]
    fn patterns_are_refused() {
        for text in [
            "",
            "**",
            "orders",
            "Get*",
            "orders:",
            ":Get",
            "orders:a:b",
            "orders:${aws:username}",
            "orders: Get",
        ] {
            assert_eq!(text.parse::<ActionPattern>(), Err(InvalidActionPattern(text.to_owned())));
        }
    }
}
