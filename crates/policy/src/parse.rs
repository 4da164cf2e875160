//! From text to [`Document`], as far as evaluating it needs.
//!
//! What the grammar does not know is refused by name and place, never skipped: an element that is ignored may be the one that
//! forbids. The rules of writing (sizes, Sids, which kind may hold which element) are [`crate::findings`]'.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use thiserror::Error;

use crate::action::ActionPattern;
use crate::condition::{Condition, ConditionValue, Operator, UnknownOperator};
use crate::document::{
    Clause, Document, Effect, Located, Position, ResourcePattern, Statement, Version,
};
use crate::findings::{Finding, Severity};
use crate::json::{self, Member, Node, Value};
use crate::pattern::Template;
use crate::principal::PrincipalElement;
use crate::spelling::nearest;

/// The text is no policy document: every reason that was found, in the order of the text.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub struct Malformed {
    /// At least one, all of severity `Error`.
    pub findings: Vec<Finding>,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, finding) in self.findings.iter().enumerate() {
            if index > 0 {
                f.write_str("; ")?;
            }
            write!(f, "{finding}")?;
        }
        Ok(())
    }
}

/// Reads a document.
///
/// # Errors
/// [`Malformed`], with the place of everything that was found wrong.
pub fn parse(text: &str) -> Result<Document, Malformed> {
    let value = json::read(text, json::MAX_DEPTH).map_err(|error| {
        let finding =
            Finding::error(error.kind.code(), error.at, String::new(), error.kind.to_string());
        Malformed { findings: vec![finding] }
    })?;
    parse_value(&value, text)
}

/// Reads a document that stands inside another JSON text; places are those of that text.
///
/// # Errors
/// [`Malformed`], as [`parse`].
pub fn parse_value(value: &Value, text: &str) -> Result<Document, Malformed> {
    let source = text.get(value.bytes.clone()).unwrap_or_default();
    let mut parser = Parser { version: Version::V2008_10_17, findings: Vec::new() };
    let document = parser.document(value, Arc::from(source));
    match document {
        Some(document) if parser.findings.is_empty() => Ok(document),
        Some(_) | None => Err(Malformed { findings: parser.findings }),
    }
}

const TOP_LEVEL: [&str; 3] = ["Version", "Id", "Statement"];
const STATEMENT: [&str; 9] = [
    "Sid",
    "Effect",
    "Principal",
    "NotPrincipal",
    "Action",
    "NotAction",
    "Resource",
    "NotResource",
    "Condition",
];
const PRINCIPAL_TYPES: [&str; 3] = ["AWS", "Service", "Federated"];

struct Parser {
    version: Version,
    findings: Vec<Finding>,
}

/// A value, and the pointer to it.
#[derive(Clone, Copy)]
struct Here<'a> {
    value: &'a Value,
    pointer: &'a str,
}

impl Parser {
    fn refuse(&mut self, code: &'static str, at: Position, pointer: &str, message: String) {
        self.refuse_with_fix(code, at, pointer, message, None);
    }

    fn refuse_with_fix(
        &mut self,
        code: &'static str,
        at: Position,
        pointer: &str,
        message: String,
        fix: Option<String>,
    ) {
        self.findings
            .push(Finding { fix, ..Finding::error(code, at, pointer.to_owned(), message) });
    }

    fn refuse_kind(&mut self, here: Here<'_>, expected: &str) {
        let message = format!("found {}, expected {expected}", here.value.kind());
        self.refuse("WrongType", here.value.at, here.pointer, message);
    }

    fn document(&mut self, value: &Value, source: Arc<str>) -> Option<Document> {
        let Node::Object(members) = &value.node else {
            self.refuse_kind(Here { value, pointer: "" }, "a policy document (a JSON object)");
            return None;
        };
        self.refuse_unknown(members, &TOP_LEVEL, "", "element of a policy document");
        // The version first: it says whether `${` opens a variable.
        let mut version_at = None;
        if let Some(version) = member(members, "Version") {
            version_at = Some(version.value.at);
            let text = self.string(Here { value: &version.value, pointer: "/Version" })?;
            match text.parse() {
                Ok(version) => self.version = version,
                Err(error) => {
                    let fix = Some("write \"Version\": \"2012-10-17\"".to_owned());
                    self.refuse_with_fix(
                        "UnknownVersion",
                        version.value.at,
                        "/Version",
                        error.to_string(),
                        fix,
                    );
                }
            }
        }
        let id = member(members, "Id")
            .and_then(|id| self.string(Here { value: &id.value, pointer: "/Id" }));
        let Some(statement) = member(members, "Statement") else {
            self.refuse("MissingElement", value.at, "", "the document has no Statement".to_owned());
            return None;
        };
        let statements = self.statements(&statement.value);
        Some(Document { source, version: self.version, version_at, id, statements })
    }

    fn statements(&mut self, value: &Value) -> Vec<Statement> {
        match &value.node {
            Node::Object(_) => self
                .statement(0, Here { value, pointer: "/Statement" })
                .into_iter()
                .collect::<Vec<_>>(),
            Node::Array(values) => values
                .iter()
                .enumerate()
                .filter_map(|(index, value)| {
                    self.statement(index, Here { value, pointer: &format!("/Statement/{index}") })
                })
                .collect(),
            Node::Null | Node::Bool(_) | Node::Number(_) | Node::String(_) => {
                self.refuse_kind(
                    Here { value, pointer: "/Statement" },
                    "a statement, or an array of them",
                );
                Vec::new()
            }
        }
    }

    fn statement(&mut self, index: usize, here: Here<'_>) -> Option<Statement> {
        let Node::Object(members) = &here.value.node else {
            self.refuse_kind(here, "a statement (a JSON object)");
            return None;
        };
        self.refuse_unknown(members, &STATEMENT, here.pointer, "element of a statement");
        let sid = member(members, "Sid").and_then(|sid| {
            let pointer = format!("{}/Sid", here.pointer);
            let value = self.string(Here { value: &sid.value, pointer: &pointer })?;
            Some(Located { value, at: sid.value.at, pointer })
        });
        let effect = self.effect(members, here);
        let principals = self.pair(members, here, "Principal", Self::principals);
        let actions = self.pair(members, here, "Action", Self::actions);
        if member(members, "Action").is_none() && member(members, "NotAction").is_none() {
            let message = "the statement has neither Action nor NotAction".to_owned();
            self.refuse("MissingElement", here.value.at, here.pointer, message);
        }
        let resources = self.pair(members, here, "Resource", Self::resources);
        let conditions = member(members, "Condition")
            .map(|condition| {
                self.conditions(&condition.value, &format!("{}/Condition", here.pointer))
            })
            .unwrap_or_default();
        Some(Statement {
            index,
            pointer: here.pointer.to_owned(),
            at: here.value.at,
            sid,
            effect: effect?,
            principals,
            actions: actions?,
            resources,
            conditions,
        })
    }

    fn effect(&mut self, members: &[Member], here: Here<'_>) -> Option<Effect> {
        let Some(effect) = member(members, "Effect") else {
            self.refuse(
                "MissingElement",
                here.value.at,
                here.pointer,
                "the statement has no Effect".to_owned(),
            );
            return None;
        };
        let pointer = format!("{}/Effect", here.pointer);
        match self.string(Here { value: &effect.value, pointer: &pointer })?.as_str() {
            "Allow" => Some(Effect::Allow),
            "Deny" => Some(Effect::Deny),
            other => {
                let fix = nearest(other, ["Allow", "Deny"]).map(did_you_mean);
                let message = format!("unknown Effect `{other}`: expected `Allow` or `Deny`");
                self.refuse_with_fix("UnknownEffect", effect.value.at, &pointer, message, fix);
                None
            }
        }
    }

    /// An element that is written as `Name` or as `NotName`, never both.
    fn pair<T>(
        &mut self,
        members: &[Member],
        here: Here<'_>,
        name: &str,
        read: impl Fn(&mut Self, Here<'_>) -> Vec<Located<T>>,
    ) -> Option<Clause<T>> {
        let not_name = format!("Not{name}");
        let (plain, not) = (member(members, name), member(members, &not_name));
        if let (Some(_), Some(not)) = (plain, not) {
            let message =
                format!("the statement has both {name} and {not_name}: expected one of them");
            self.refuse("BothElements", not.at, here.pointer, message);
            return None;
        }
        let found = plain.or(not)?;
        let pointer = format!("{}/{}", here.pointer, found.key);
        let elements = read(self, Here { value: &found.value, pointer: &pointer });
        Some(Clause { negated: not.is_some(), elements, at: found.value.at, pointer })
    }

    fn actions(&mut self, here: Here<'_>) -> Vec<Located<ActionPattern>> {
        let texts = self.strings(here);
        texts
            .into_iter()
            .filter_map(|text| match ActionPattern::from_str(&text.value) {
                Ok(value) => Some(Located { value, at: text.at, pointer: text.pointer }),
                Err(error) => {
                    self.refuse("InvalidAction", text.at, &text.pointer, error.to_string());
                    None
                }
            })
            .collect()
    }

    fn resources(&mut self, here: Here<'_>) -> Vec<Located<ResourcePattern>> {
        let version = self.version;
        let texts = self.strings(here);
        texts
            .into_iter()
            .filter_map(|text| {
                if text.value != "*" && !text.value.starts_with("arn:") {
                    let message =
                        format!("`{}` is no resource: expected an ARN, or `*`", text.value);
                    self.refuse("InvalidResource", text.at, &text.pointer, message);
                    return None;
                }
                let value = ResourcePattern { template: Template::new(&text.value, version) };
                Some(Located { value, at: text.at, pointer: text.pointer })
            })
            .collect()
    }

    fn principals(&mut self, here: Here<'_>) -> Vec<Located<PrincipalElement>> {
        match &here.value.node {
            Node::String(text) if text == "*" => {
                vec![Located {
                    value: PrincipalElement::Any,
                    at: here.value.at,
                    pointer: here.pointer.to_owned(),
                }]
            }
            Node::Object(members) => {
                if members.is_empty() {
                    self.refuse(
                        "EmptyList",
                        here.value.at,
                        here.pointer,
                        "the principal names nobody".to_owned(),
                    );
                }
                members
                    .iter()
                    .flat_map(|entry| {
                        self.principals_of_type(
                            entry,
                            &format!("{}/{}", here.pointer, escape(&entry.key)),
                        )
                    })
                    .collect()
            }
            Node::String(_) | Node::Null | Node::Bool(_) | Node::Number(_) | Node::Array(_) => {
                self.refuse_kind(here, "`\"*\"`, or an object such as {\"AWS\": \"111122223333\"}");
                Vec::new()
            }
        }
    }

    fn principals_of_type(
        &mut self,
        entry: &Member,
        pointer: &str,
    ) -> Vec<Located<PrincipalElement>> {
        let element: fn(&str) -> PrincipalElement = match entry.key.as_str() {
            "AWS" => PrincipalElement::from_aws,
            "Service" => |text| PrincipalElement::Service(text.to_owned()),
            "Federated" => |text| PrincipalElement::Federated(text.to_owned()),
            "CanonicalUser" => {
                let message = "the principal type `CanonicalUser` is S3's own, and not supported: expected AWS, Service \
                               or Federated";
                self.refuse("UnsupportedPrincipalType", entry.at, pointer, message.to_owned());
                return Vec::new();
            }
            other => {
                let fix = nearest(other, PRINCIPAL_TYPES).map(did_you_mean);
                let message =
                    format!("unknown principal type `{other}`: expected AWS, Service or Federated");
                self.refuse_with_fix("UnknownPrincipalType", entry.at, pointer, message, fix);
                return Vec::new();
            }
        };
        self.strings(Here { value: &entry.value, pointer })
            .into_iter()
            .map(|text| Located { value: element(&text.value), at: text.at, pointer: text.pointer })
            .collect()
    }

    fn conditions(&mut self, value: &Value, pointer: &str) -> Vec<Condition> {
        let Node::Object(blocks) = &value.node else {
            self.refuse_kind(Here { value, pointer }, "an object of condition operators");
            return Vec::new();
        };
        let mut conditions = Vec::new();
        for block in blocks {
            let pointer = format!("{pointer}/{}", escape(&block.key));
            let Some(operator) = self.operator(block, &pointer) else { continue };
            let Node::Object(keys) = &block.value.node else {
                self.refuse_kind(
                    Here { value: &block.value, pointer: &pointer },
                    "an object of condition keys",
                );
                continue;
            };
            for key in keys {
                let pointer = format!("{pointer}/{}", escape(&key.key));
                if key.key.is_empty() {
                    self.refuse(
                        "InvalidConditionKey",
                        key.at,
                        &pointer,
                        "a condition key is empty".to_owned(),
                    );
                    continue;
                }
                let values = self.condition_values(Here { value: &key.value, pointer: &pointer });
                conditions.push(Condition {
                    operator,
                    key: key.key.clone(),
                    values,
                    at: key.at,
                    pointer,
                });
            }
        }
        conditions
    }

    fn operator(&mut self, block: &Member, pointer: &str) -> Option<Operator> {
        match block.key.parse() {
            Ok(operator) => Some(operator),
            Err(error) => {
                let fix = match &error {
                    UnknownOperator::Unknown { suggestion, .. } => {
                        suggestion.as_deref().map(did_you_mean)
                    }
                    UnknownOperator::NullAlone(_) => Some(did_you_mean("Null")),
                };
                self.refuse_with_fix("UnknownOperator", block.at, pointer, error.to_string(), fix);
                None
            }
        }
    }

    fn condition_values(&mut self, here: Here<'_>) -> Vec<Located<ConditionValue>> {
        let version = self.version;
        self.scalars(here, "a string, a boolean or a number", |value| match &value.node {
            Node::String(text) | Node::Number(text) => Some(text.clone()),
            Node::Bool(flag) => Some(flag.to_string()),
            Node::Null | Node::Array(_) | Node::Object(_) => None,
        })
        .into_iter()
        .map(|text| Located {
            value: ConditionValue {
                template: Template::new(&text.value, version),
                text: text.value,
            },
            at: text.at,
            pointer: text.pointer,
        })
        .collect()
    }

    fn string(&mut self, here: Here<'_>) -> Option<String> {
        match &here.value.node {
            Node::String(text) => Some(text.clone()),
            Node::Null | Node::Bool(_) | Node::Number(_) | Node::Array(_) | Node::Object(_) => {
                self.refuse_kind(here, "a string");
                None
            }
        }
    }

    fn strings(&mut self, here: Here<'_>) -> Vec<Located<String>> {
        self.scalars(here, "a string", |value| match &value.node {
            Node::String(text) => Some(text.clone()),
            Node::Null | Node::Bool(_) | Node::Number(_) | Node::Array(_) | Node::Object(_) => None,
        })
    }

    /// One scalar, or an array of at least one.
    fn scalars(
        &mut self,
        here: Here<'_>,
        expected: &str,
        read: impl Fn(&Value) -> Option<String>,
    ) -> Vec<Located<String>> {
        let Node::Array(values) = &here.value.node else {
            return match read(here.value) {
                Some(value) => {
                    vec![Located { value, at: here.value.at, pointer: here.pointer.to_owned() }]
                }
                None => {
                    self.refuse_kind(here, &format!("{expected}, or an array of them"));
                    Vec::new()
                }
            };
        };
        if values.is_empty() {
            let message = "the list is empty: expected at least one value".to_owned();
            self.refuse("EmptyList", here.value.at, here.pointer, message);
        }
        let mut texts = Vec::with_capacity(values.len());
        for (index, value) in values.iter().enumerate() {
            let pointer = format!("{}/{index}", here.pointer);
            match read(value) {
                Some(text) => texts.push(Located { value: text, at: value.at, pointer }),
                None => self.refuse_kind(Here { value, pointer: &pointer }, expected),
            }
        }
        texts
    }

    fn refuse_unknown(&mut self, members: &[Member], known: &[&str], pointer: &str, what: &str) {
        for unknown in members.iter().filter(|member| !known.contains(&member.key.as_str())) {
            let fix = nearest(&unknown.key, known.iter().copied()).map(did_you_mean);
            let message =
                format!("unknown {what} `{}`: expected one of {}", unknown.key, known.join(", "));
            let pointer = format!("{pointer}/{}", escape(&unknown.key));
            self.refuse_with_fix("UnknownElement", unknown.at, &pointer, message, fix);
        }
    }
}

impl Finding {
    pub(crate) fn error(
        code: &'static str,
        at: Position,
        pointer: String,
        message: String,
    ) -> Self {
        Self {
            severity: Severity::Error,
            code,
            line: at.line,
            column: at.column,
            pointer,
            message,
            fix: None,
        }
    }
}

fn member<'a>(members: &'a [Member], key: &str) -> Option<&'a Member> {
    members.iter().find(|member| member.key == key)
}

fn did_you_mean(word: &str) -> String {
    format!("did you mean \"{word}\"?")
}

/// RFC 6901: `~` is written `~0`, and `/` is written `~1`.
fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}
