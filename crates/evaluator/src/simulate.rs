//! Conformance cases: one JSON line is a whole world, and a question. tests/conformance/ has them.
//!
//! What a case holds and this does not know is refused by name.

use std::str::FromStr;
use std::sync::Arc;

use countersign_policy::json::{self, JsonError, Member, Node, Value};
use countersign_policy::parse::{self, Malformed};
use countersign_policy::principal::{IamArn, InvalidIamArn};
use thiserror::Error;

use crate::context::{Context, ContextValue};
use crate::explain::{Explanation, explain};
use crate::policies::{Attached, PolicySet, PolicyType};
use crate::principal::{Principal, Session};
use crate::reference;
use crate::request::{Request, Resource};
use crate::verdict::{Decision, Verdict};

/// One case, read.
#[derive(Debug, Clone)]
pub struct Case {
    id: String,
    expect: Option<Decision>,
    request: Request,
    policies: PolicySet,
}

/// Why a line is no case.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CaseError {
    #[error("not JSON: {0}")]
    Json(#[from] JsonError),
    #[error("`{field}`: {found}, expected {expected}")]
    WrongType { field: String, found: &'static str, expected: &'static str },
    #[error("`{0}` is missing")]
    Missing(String),
    #[error("unknown field `{0}`")]
    UnknownField(String),
    #[error("`{field}`: {message}")]
    Invalid { field: String, message: String },
    #[error("`{field}`: {malformed}")]
    Policy { field: String, malformed: Malformed },
}

/// A case nests its documents a few levels deep.
const MAX_DEPTH: usize = json::MAX_DEPTH + 8;

impl Case {
    /// Reads one line.
    ///
    /// # Errors
    /// [`CaseError`], which names the field.
    pub fn parse(line: &str) -> Result<Self, CaseError> {
        let value = json::read(line, MAX_DEPTH)?;
        Reader { line }.case(&value)
    }

    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    #[must_use]
    pub fn expect(&self) -> Option<Decision> {
        self.expect
    }

    #[must_use]
    pub fn request(&self) -> &Request {
        &self.request
    }

    #[must_use]
    pub fn policies(&self) -> &PolicySet {
        &self.policies
    }

    #[must_use]
    pub fn decide(&self) -> Verdict {
        reference::decide(&self.request, &self.policies)
    }

    #[must_use]
    pub fn explain(&self) -> Explanation {
        explain(&self.request, &self.policies)
    }
}

struct Reader<'a> {
    line: &'a str,
}

/// A field, and the name that messages give it.
struct Field<'a> {
    name: String,
    value: &'a Value,
}

impl Reader<'_> {
    fn case(&self, value: &Value) -> Result<Case, CaseError> {
        let root = Field { name: "case".to_owned(), value };
        // Beside the question itself: what statistics and people use.
        const COMMENTS: [&str; 6] = ["tags", "rule", "note", "source", "isim", "expect"];
        let known = ["id", "principal", "action", "resource", "context", "policies"];
        let members = root.object(&[known.as_slice(), COMMENTS.as_slice()].concat())?;
        let context = context(&required(members, "context")?)?;
        let action = parsed(&required(members, "action")?)?;
        let principal = required(members, "principal")?;
        let principal = principal_of(&required_in(&principal, &["arn"], "arn")?, &context)?;
        let resource = required(members, "resource")?;
        let fields = resource.object(&["arn", "account"])?;
        let resource = Resource {
            arn: parsed(&required(fields, "arn")?)?,
            account: optional(fields, "account").map(|account| parsed(&account)).transpose()?,
        };
        let request = Request { principal, action, resource, context };
        let policies = self.policies(&required(members, "policies")?, &request)?;
        let expect = optional(members, "expect")
            .map(|expect| decision(&required_in(&expect, &["decision"], "decision")?))
            .transpose()?;
        Ok(Case { id: required(members, "id")?.text()?.to_owned(), expect, request, policies })
    }

    fn policies(&self, field: &Field<'_>, request: &Request) -> Result<PolicySet, CaseError> {
        let members =
            field.object(&["identity", "boundary", "session", "resource", "scps", "rcps"])?;
        let list = |name: &str, policy_type| {
            optional(members, name).map(|field| self.attached_list(&field, policy_type)).transpose()
        };
        let levels = |name: &str, policy_type| {
            optional(members, name)
                .map(|field| {
                    field
                        .array()?
                        .iter()
                        .map(|level| self.attached_list(level, policy_type))
                        .collect()
                })
                .transpose()
                .map(Option::unwrap_or_default)
        };
        let resource_type = if reference::is_role_assumption_action(&request.action) {
            PolicyType::Trust
        } else {
            PolicyType::Resource
        };
        let resource = optional(members, "resource")
            .map(|field| self.attached(&field, &request.resource.arn.to_string(), resource_type))
            .transpose()?;
        Ok(PolicySet {
            identity: list("identity", PolicyType::Identity)?.unwrap_or_default(),
            boundary: list("boundary", PolicyType::Boundary)?,
            session: list("session", PolicyType::Session)?,
            resource,
            scps: levels("scps", PolicyType::Scp)?,
            rcps: levels("rcps", PolicyType::Rcp)?,
            ..PolicySet::default()
        })
    }

    fn attached_list(
        &self,
        field: &Field<'_>,
        policy_type: PolicyType,
    ) -> Result<Vec<Attached>, CaseError> {
        field
            .array()?
            .iter()
            .map(|entry| {
                // A bare document stands for itself: no object of the other form has a Statement.
                if entry.has("Statement") {
                    return self.attached(entry, &entry.name, policy_type);
                }
                let members = entry.object(&["name", "document"])?;
                let name = optional(members, "name");
                let name = name.as_ref().map_or(Ok(""), Field::text)?;
                let document = required(members, "document")?;
                self.attached(
                    &Field { name: format!("{}.document", entry.name), ..document },
                    name,
                    policy_type,
                )
            })
            .collect()
    }

    fn attached(
        &self,
        field: &Field<'_>,
        name: &str,
        policy_type: PolicyType,
    ) -> Result<Attached, CaseError> {
        let document = parse::parse_value(field.value, self.line)
            .map_err(|malformed| CaseError::Policy { field: field.name.clone(), malformed })?;
        Ok(Attached {
            policy_type,
            name: Arc::from(name),
            version_id: None,
            document: Arc::new(document),
            resolved: None,
        })
    }
}

fn context(field: &Field<'_>) -> Result<Context, CaseError> {
    let Node::Object(members) = &field.value.node else {
        return Err(field.wrong_type("an object"));
    };
    let mut context = Context::new();
    for member in members {
        let field = Field { name: format!("context.{}", member.key), value: &member.value };
        let value = match &member.value.node {
            Node::String(text) => ContextValue::One(text.clone()),
            Node::Array(_) => {
                let texts = field
                    .array()?
                    .iter()
                    .map(|field| field.text().map(str::to_owned))
                    .collect::<Result<_, _>>();
                ContextValue::Many(texts?)
            }
            Node::Null | Node::Bool(_) | Node::Number(_) | Node::Object(_) => {
                return Err(field.wrong_type("a string, or an array of strings"));
            }
        };
        context.insert(&member.key, value).map_err(|error| field.invalid(error.to_string()))?;
    }
    Ok(context)
}

fn principal_of(field: &Field<'_>, context: &Context) -> Result<Principal, CaseError> {
    let arn: IamArn =
        field.text()?.parse().map_err(|error: InvalidIamArn| field.invalid(error.to_string()))?;
    match arn {
        IamArn::User { .. } => Ok(Principal::User { arn, unique_id: None }),
        IamArn::FederatedUser { .. } => Ok(Principal::FederatedUser { arn }),
        IamArn::AssumedRole { partition, account, role, session } => {
            let role_arn = role_arn(field, context)?;
            let new =
                |role_arn| Session::new(&*partition, account, &*role, role_arn, session, None);
            match role_arn {
                None => Ok(Principal::Session(new(None).with_role_by_name())),
                Some(IamArn::Role { partition: p, account: a, name, path })
                    if p == partition && a == account && name == role =>
                {
                    Ok(Principal::Session(new(Some(IamArn::Role {
                        partition: p,
                        account: a,
                        path,
                        name,
                    }))))
                }
                Some(other) => {
                    Err(field
                        .invalid(format!("aws:PrincipalArn `{other}` is not the session's role")))
                }
            }
        }
        IamArn::Root { .. } | IamArn::Role { .. } => Err(field.invalid(format!(
            "`{arn}`: expected a user, an assumed-role session or a federated user"
        ))),
    }
}

fn role_arn(field: &Field<'_>, context: &Context) -> Result<Option<IamArn>, CaseError> {
    match context.get("aws:PrincipalArn") {
        None => Ok(None),
        Some(ContextValue::One(text)) => match text.parse() {
            Ok(arn) => Ok(Some(arn)),
            Err(error) => Err(field.invalid(format!("aws:PrincipalArn: {error}"))),
        },
        Some(ContextValue::Many(_)) => {
            Err(field.invalid("aws:PrincipalArn holds a set".to_owned()))
        }
    }
}

fn decision(field: &Field<'_>) -> Result<Decision, CaseError> {
    match field.text()? {
        "ALLOW" => Ok(Decision::Allow),
        "EXPLICIT_DENY" => Ok(Decision::ExplicitDeny),
        "IMPLICIT_DENY" => Ok(Decision::ImplicitDeny),
        other => Err(field.invalid(format!("`{other}` is no decision"))),
    }
}

fn parsed<T>(field: &Field<'_>) -> Result<T, CaseError>
where
    T: FromStr,
    T::Err: std::fmt::Display,
{
    field.text()?.parse().map_err(|error: T::Err| field.invalid(error.to_string()))
}

fn required<'a>(members: &'a [Member], name: &str) -> Result<Field<'a>, CaseError> {
    optional(members, name).ok_or_else(|| CaseError::Missing(name.to_owned()))
}

fn required_in<'a>(field: &Field<'a>, known: &[&str], name: &str) -> Result<Field<'a>, CaseError> {
    let found = required(field.object(known)?, name)?;
    Ok(Field { name: format!("{}.{name}", field.name), ..found })
}

/// JSON's null is as good as nothing.
fn optional<'a>(members: &'a [Member], name: &str) -> Option<Field<'a>> {
    let member = members.iter().find(|member| member.key == name)?;
    (member.value.node != Node::Null).then(|| Field { name: name.to_owned(), value: &member.value })
}

impl<'a> Field<'a> {
    /// Whether this is an object with a member of that name.
    fn has(&self, name: &str) -> bool {
        match &self.value.node {
            Node::Object(members) => members.iter().any(|member| member.key == name),
            Node::Null | Node::Bool(_) | Node::Number(_) | Node::String(_) | Node::Array(_) => {
                false
            }
        }
    }

    fn object(&self, known: &[&str]) -> Result<&'a [Member], CaseError> {
        let Node::Object(members) = &self.value.node else {
            return Err(self.wrong_type("an object"));
        };
        match members.iter().find(|member| !known.contains(&member.key.as_str())) {
            Some(unknown) => Err(CaseError::UnknownField(format!("{}.{}", self.name, unknown.key))),
            None => Ok(members),
        }
    }

    fn array(&self) -> Result<Vec<Field<'a>>, CaseError> {
        let Node::Array(values) = &self.value.node else { return Err(self.wrong_type("an array")) };
        let fields = values.iter().enumerate();
        Ok(fields
            .map(|(index, value)| Field { name: format!("{}[{index}]", self.name), value })
            .collect())
    }

    fn text(&self) -> Result<&'a str, CaseError> {
        match &self.value.node {
            Node::String(text) => Ok(text),
            Node::Null | Node::Bool(_) | Node::Number(_) | Node::Array(_) | Node::Object(_) => {
                Err(self.wrong_type("a string"))
            }
        }
    }

    fn wrong_type(&self, expected: &'static str) -> CaseError {
        CaseError::WrongType { field: self.name.clone(), found: self.value.kind(), expected }
    }

    fn invalid(&self, message: String) -> CaseError {
        CaseError::Invalid { field: self.name.clone(), message }
    }
}
