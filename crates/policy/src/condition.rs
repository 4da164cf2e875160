//! Condition operators, and one condition of a statement.
//!
//! Knows the closed list of operators, and which of them may take `IfExists` and a set operator. How they compare is the
//! evaluator's.
//! Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html>

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::document::{Located, Position};
use crate::pattern::Template;
use crate::spelling::nearest;

/// The prefix `ForAllValues:` or `ForAnyValue:`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SetOperator {
    ForAllValues,
    ForAnyValue,
}

macro_rules! comparisons {
    ($($name:ident),* $(,)?) => {
        /// An operator's own name, without set operator and `IfExists`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Comparison { $($name),* }

        impl Comparison {
            /// All of them, in the order of AWS's page.
            pub const ALL: &'static [Comparison] = &[$(Comparison::$name),*];

            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Comparison::$name => stringify!($name)),* }
            }
        }
    };
}

comparisons! {
    StringEquals, StringNotEquals, StringEqualsIgnoreCase, StringNotEqualsIgnoreCase, StringLike, StringNotLike,
    NumericEquals, NumericNotEquals, NumericLessThan, NumericLessThanEquals, NumericGreaterThan, NumericGreaterThanEquals,
    DateEquals, DateNotEquals, DateLessThan, DateLessThanEquals, DateGreaterThan, DateGreaterThanEquals,
    Bool, BinaryEquals, IpAddress, NotIpAddress, ArnEquals, ArnLike, ArnNotEquals, ArnNotLike, Null,
}

impl Comparison {
    /// Whether several values are NOR rather than OR, and a missing key is true (RULES.md 2, 8).
    #[must_use]
    pub fn is_negated(self) -> bool {
        use Comparison as C;
        match self {
            C::StringNotEquals
            | C::StringNotEqualsIgnoreCase
            | C::StringNotLike
            | C::NumericNotEquals
            | C::DateNotEquals
            | C::NotIpAddress
            | C::ArnNotEquals
            | C::ArnNotLike => true,
            C::StringEquals
            | C::StringEqualsIgnoreCase
            | C::StringLike
            | C::NumericEquals
            | C::NumericLessThan
            | C::NumericLessThanEquals
            | C::NumericGreaterThan
            | C::NumericGreaterThanEquals
            | C::DateEquals
            | C::DateLessThan
            | C::DateLessThanEquals
            | C::DateGreaterThan
            | C::DateGreaterThanEquals
            | C::Bool
            | C::BinaryEquals
            | C::IpAddress
            | C::ArnEquals
            | C::ArnLike
            | C::Null => false,
        }
    }

    /// Whether policy variables are allowed in its values: String and Arn operators alone (RULES.md 20, K9).
    #[must_use]
    pub fn takes_variables(self) -> bool {
        self.name().starts_with("String") || self.name().starts_with("Arn")
    }
}

/// A whole operator: `ForAnyValue:StringLikeIfExists`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Operator {
    pub set: Option<SetOperator>,
    pub comparison: Comparison,
    pub if_exists: bool,
}

impl FromStr for Operator {
    type Err = UnknownOperator;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (set, rest) = if let Some(rest) = text.strip_prefix("ForAllValues:") {
            (Some(SetOperator::ForAllValues), rest)
        } else if let Some(rest) = text.strip_prefix("ForAnyValue:") {
            (Some(SetOperator::ForAnyValue), rest)
        } else {
            (None, text)
        };
        let (name, if_exists) = match rest.strip_suffix("IfExists") {
            Some(name) => (name, true),
            None => (rest, false),
        };
        let Some(comparison) = Comparison::ALL.iter().copied().find(|known| known.name() == name)
        else {
            return Err(UnknownOperator::Unknown {
                text: text.to_owned(),
                suggestion: suggestion(text, rest),
            });
        };
        // AWS: "You can add IfExists to the end of any condition operator name except the Null condition."
        if comparison == Comparison::Null && (if_exists || set.is_some()) {
            return Err(UnknownOperator::NullAlone(text.to_owned()));
        }
        Ok(Self { set, comparison, if_exists })
    }
}

impl fmt::Display for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set = match self.set {
            Some(SetOperator::ForAllValues) => "ForAllValues:",
            Some(SetOperator::ForAnyValue) => "ForAnyValue:",
            None => "",
        };
        let if_exists = if self.if_exists { "IfExists" } else { "" };
        write!(f, "{set}{}{if_exists}", self.comparison.name())
    }
}

/// The nearest operator, with the prefix that was right.
fn suggestion(text: &str, rest: &str) -> Option<String> {
    let plain = Comparison::ALL.iter().map(|known| known.name().to_owned());
    let if_exists = Comparison::ALL.iter().map(|known| format!("{}IfExists", known.name()));
    let known: Vec<String> = plain.chain(if_exists).collect();
    let known = nearest(rest, known.iter().map(String::as_str))?;
    Some(format!("{}{known}", text.strip_suffix(rest)?))
}

/// Why a text is no condition operator.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum UnknownOperator {
    #[error("unknown condition operator `{text}`")]
    Unknown { text: String, suggestion: Option<String> },
    #[error("`{0}`: Null takes neither IfExists nor a set operator")]
    NullAlone(String),
}

/// One value of a condition, as text: JSON booleans and numbers are kept as they were written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConditionValue {
    pub text: String,
    pub template: Template,
}

/// One operator with one key and its values. A statement's conditions must all hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    pub operator: Operator,
    /// As it was written; compared without case.
    pub key: String,
    /// At least one.
    pub values: Vec<Located<ConditionValue>>,
    pub at: Position,
    pub pointer: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_read_and_written() {
        fn check(text: &str, expected: Result<(), Option<&str>>) {
            let found = match text.parse::<Operator>() {
                Ok(operator) => {
                    assert_eq!(operator.to_string(), text);
                    Ok(())
                }
                Err(UnknownOperator::Unknown { suggestion, .. }) => Err(suggestion),
                Err(UnknownOperator::NullAlone(_)) => Err(Some("Null".to_owned())),
            };
            assert_eq!(found, expected.map_err(|s| s.map(str::to_owned)), "{text}");
        }
        for comparison in Comparison::ALL {
            check(comparison.name(), Ok(()));
        }
        check("ForAllValues:StringLikeIfExists", Ok(()));
        check("ForAnyValue:BinaryEquals", Ok(()));
        check("StringEqualsIfExists", Ok(()));
        check("NullIfExists", Err(Some("Null")));
        check("ForAllValues:Null", Err(Some("Null")));
        check("StringEqual", Err(Some("StringEquals")));
        check("ForAnyValue:stringequals", Err(Some("ForAnyValue:StringEquals")));
        check("StringLikeIfExist", Err(Some("StringLikeIfExists")));
        check("Frobnicate", Err(None));
        check("", Err(None));
    }
}
