//! Authorize and Explain ask the same question, in two messages.

use std::{collections::HashMap, fmt, sync::Arc};

use countersign_evaluator::{Context, ResourceArn};
use countersign_policy::{
    Document,
    action::Action,
    arn::{AccountId, Arn},
    findings::{self, DocumentKind},
    principal::IamArn,
};
use countersign_proto::decision::v1::{
    AuthorizeRequest, ContextValue, ExplainRequest, ProofOfPossession, authorize_request,
    context_value, explain_request,
};

use super::{context, possession::Possession};
use crate::error::Refusal;

/// An S3 key has at most 1,024 bytes, a path 512; nothing longer is an ARN of AWS's.
const MAX_RESOURCE_BYTES: usize = 2048;
/// A principal's path has at most 512 bytes, its name 64.
const MAX_PRINCIPAL_BYTES: usize = 2048;
const MAX_ACTION_BYTES: usize = 256;
const MAX_AUDIENCE_BYTES: usize = 256;
const MAX_SERVICE_NAME_BYTES: usize = 255;
const OWN_PARTITION: &str = "aws";

/// One question, parsed.
#[derive(Debug)]
pub struct Question {
    /// Who wants to act.
    pub subject: Asked,
    /// What they want to do.
    pub check: Check,
    /// The least revision to answer at; may be empty.
    pub at_least_revision: String,
}

/// What somebody wants to do.
#[derive(Clone, Debug)]
pub struct Check {
    /// What.
    pub action: Action,
    /// On what.
    pub resource: ResourceArn,
    /// Whose that is.
    pub owner: Owner,
    /// The condition keys that the caller asserts, resource tags among them.
    pub context: Context,
    /// The resource's own policy, where the caller keeps it.
    pub resource_policy: Option<Arc<Document>>,
}

/// Who wants to act.
pub enum Asked {
    /// The holder of this token.
    Token {
        /// A secret.
        token: String,
        /// Whom the token must be for.
        audience: String,
        /// What came with it.
        possession: Possession,
    },
    /// A user or a role.
    Principal(IamArn),
    /// A service principal.
    Service(String),
}

impl fmt::Debug for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token { token: _, audience, possession } => {
                write!(f, "Token(redacted, for {audience:?}, with {possession:?})")
            }
            Self::Principal(arn) => write!(f, "Principal({arn})"),
            Self::Service(name) => write!(f, "Service({name})"),
        }
    }
}

/// Whose the resource is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// This account's.
    Account(AccountId),
    /// The subject's own account's.
    Subject,
    /// The subject's own account's, and the caller says which that is: another is a conflict.
    SubjectIn(AccountId),
}

/// What both messages hold.
struct Fields {
    subject: Option<Result<String, String>>,
    audience: String,
    proof_of_possession: Option<ProofOfPossession>,
    action: String,
    resource: String,
    resource_account: String,
    context: HashMap<String, ContextValue>,
    resource_tags: HashMap<String, String>,
    resource_policy_document: String,
    at_least_revision: String,
}

/// Parses an AuthorizeRequest.
pub fn authorize_question(request: AuthorizeRequest) -> Result<Question, Refusal> {
    let AuthorizeRequest {
        subject,
        audience,
        proof_of_possession,
        action,
        resource,
        resource_account,
        context,
        resource_tags,
        resource_policy_document,
        at_least_revision,
    } = request;
    question(Fields {
        subject: subject.map(|subject| match subject {
            authorize_request::Subject::Token(token) => Ok(token),
            authorize_request::Subject::PrincipalArn(arn) => Err(arn),
        }),
        audience,
        proof_of_possession,
        action,
        resource,
        resource_account,
        context,
        resource_tags,
        resource_policy_document,
        at_least_revision,
    })
}

/// The audience of the token that a gateway's caller asks about: Countersign's own key, which gateways alone may set.
const AUDIENCE_KEY: &str = "countersign:Audience";

/// Parses an AuthorizeRequest of a gateway, about its own caller.
pub fn gateways_question(mut request: AuthorizeRequest) -> Result<Question, Refusal> {
    let audience = request.context.remove(AUDIENCE_KEY);
    let mut question = authorize_question(request)?;
    let Some(audience) = audience else { return Ok(question) };
    match audience.kind {
        Some(context_value::Kind::Value(audience)) => question
            .check
            .context
            .insert(AUDIENCE_KEY, audience)
            .map_err(|error| Refusal::invalid("context", error.to_string()))?,
        Some(context_value::Kind::Values(_)) | None => {
            return Err(Refusal::invalid(
                "context",
                format!("`{AUDIENCE_KEY}`: expected one value"),
            ));
        }
    }
    Ok(question)
}

/// Parses an ExplainRequest.
pub fn explain_question(request: ExplainRequest) -> Result<Question, Refusal> {
    let ExplainRequest {
        subject,
        audience,
        proof_of_possession,
        action,
        resource,
        resource_account,
        context,
        resource_tags,
        resource_policy_document,
        at_least_revision,
    } = request;
    question(Fields {
        subject: subject.map(|subject| match subject {
            explain_request::Subject::Token(token) => Ok(token),
            explain_request::Subject::PrincipalArn(arn) => Err(arn),
        }),
        audience,
        proof_of_possession,
        action,
        resource,
        resource_account,
        context,
        resource_tags,
        resource_policy_document,
        at_least_revision,
    })
}

fn question(fields: Fields) -> Result<Question, Refusal> {
    let Fields {
        subject,
        audience,
        proof_of_possession,
        action,
        resource,
        resource_account,
        context,
        resource_tags,
        resource_policy_document,
        at_least_revision,
    } = fields;
    short("action", &action, MAX_ACTION_BYTES)?;
    short("resource", &resource, MAX_RESOURCE_BYTES)?;
    let subject = asked(subject, audience, proof_of_possession)?;
    let mut check = check(&action, &resource, &resource_account)?;
    check.resource_policy = resource_policy(&check.action, &resource_policy_document)?;
    check.context = context::context(context, resource_tags)?;
    Ok(Question { subject, check, at_least_revision })
}

/// Who wants to act: the holder of a token (`Ok`), or a name (`Err`).
pub(super) fn asked(
    subject: Option<Result<String, String>>,
    audience: String,
    proof_of_possession: Option<ProofOfPossession>,
) -> Result<Asked, Refusal> {
    match (subject, proof_of_possession) {
        (None, _) => Err(Refusal::invalid("subject", "missing; send `token` or `principal_arn`")),
        (Some(Ok(token)), proof) => token_subject(token, audience, Possession::parse(proof)?),
        (Some(Err(arn)), None) => named_subject(&arn),
        (Some(Err(_)), Some(_)) => {
            let message = "only with `token`: a name is bound to no key";
            Err(Refusal::invalid("proof_of_possession", message))
        }
    }
}

/// What they want to do, without context and without the resource's own policy.
pub fn check(action: &str, resource_arn: &str, resource_account: &str) -> Result<Check, Refusal> {
    short("action", action, MAX_ACTION_BYTES)?;
    short("resource", resource_arn, MAX_RESOURCE_BYTES)?;
    let action: Action =
        action.parse().map_err(|error| Refusal::invalid("action", format!("{error}")))?;
    let resource = resource(resource_arn)?;
    let owner = owner(&resource, resource_account)?;
    Ok(Check { action, resource, owner, context: Context::new(), resource_policy: None })
}

fn token_subject(
    token: String,
    audience: String,
    possession: Possession,
) -> Result<Asked, Refusal> {
    if token.is_empty() {
        return Err(Refusal::invalid("token", "empty"));
    }
    if audience.is_empty() {
        let message =
            "required with `token`: the asking service's own name, which the token must be for";
        return Err(Refusal::invalid("audience", message));
    }
    short("audience", &audience, MAX_AUDIENCE_BYTES)?;
    Ok(Asked::Token { token, audience, possession })
}

/// Whether this names a principal that can be asked about.
pub fn principal(text: &str) -> Result<(), Refusal> {
    named_subject(text).map(drop)
}

fn named_subject(text: &str) -> Result<Asked, Refusal> {
    short("principal_arn", text, MAX_PRINCIPAL_BYTES)?;
    let refused =
        |message: &str| Refusal::invalid("principal_arn", format!("`{}`: {message}", shown(text)));
    if !text.contains(':') {
        return if is_service_name(text) {
            Ok(Asked::Service(text.to_owned()))
        } else {
            Err(refused(
                "expected the ARN of a user or a role, or a service principal such as `ec2.amazonaws.com`",
            ))
        };
    }
    let arn: IamArn =
        text.parse().map_err(|error| Refusal::invalid("principal_arn", format!("{error}")))?;
    own_partition("principal_arn", arn.partition())?;
    match &arn {
        IamArn::User { .. } | IamArn::Role { .. } => Ok(Asked::Principal(arn)),
        // The ARN alone lacks the role id, the issue time and the session policy: answering would forget what they deny.
        IamArn::AssumedRole { .. } | IamArn::FederatedUser { .. } => {
            Err(refused("a session is its token; send `token`"))
        }
        IamArn::Root { .. } => Err(refused(
            "the account root may do everything in its account; ask about a user or a role",
        )),
    }
}

/// As the policy language has it: labels of letters, digits, `-` and `_`, with dots between them.
fn is_service_name(text: &str) -> bool {
    let sound = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    text.len() <= MAX_SERVICE_NAME_BYTES
        && text.split('.').all(|label| !label.is_empty() && label.bytes().all(sound))
}

fn resource(text: &str) -> Result<ResourceArn, Refusal> {
    if text == "*" {
        return Ok(ResourceArn::Any);
    }
    if text.chars().any(char::is_control) {
        return Err(Refusal::invalid("resource", "holds a control character"));
    }
    let arn: Arn = text.parse().map_err(|error| {
        Refusal::invalid(
            "resource",
            format!("{error}; or `*` for an action that names no resource"),
        )
    })?;
    // An account's number there is not the account of that number here.
    own_partition("resource", arn.partition())?;
    Ok(ResourceArn::Arn(arn))
}

/// The rules of DESIGN.md section 3: required for ARNs without an account, a conflict is refused, `*` is the principal's own.
fn owner(resource: &ResourceArn, stated: &str) -> Result<Owner, Refusal> {
    let refused = |message: String| Refusal::invalid("resource_account", message);
    let account = |text: &str| {
        text.parse::<AccountId>()
            .map_err(|_| refused(format!("`{}`: expected 12 digits, or `*`", shown(text))))
    };
    let arn = match resource {
        ResourceArn::Any => {
            return match stated {
                "" | "*" => Ok(Owner::Subject),
                number => Ok(Owner::SubjectIn(account(number)?)),
            };
        }
        ResourceArn::Arn(arn) => arn,
    };
    match (arn.account(), stated) {
        // AWS's own entities are everybody's to read: they stand in no account of this store.
        ("" | "aws", "") => Err(refused(format!(
            "required: `{arn}` names no account; send the owner's 12 digits, or `*` for the principal's own"
        ))),
        ("" | "aws", "*") => Ok(Owner::Subject),
        ("" | "aws", number) => Ok(Owner::Account(account(number)?)),
        (own, stated) => {
            let own: AccountId = own
                .parse()
                .map_err(|error| Refusal::invalid("resource", format!("{error}, in `{arn}`")))?;
            if stated.is_empty() || stated == own.as_str() {
                Ok(Owner::Account(own))
            } else {
                Err(refused(format!("`{}` contradicts `{arn}`; leave it out", shown(stated))))
            }
        }
    }
}

/// Whether the action is one of Countersign's own, of which no resource policy speaks.
pub fn is_own_action(action: &Action) -> bool {
    let own = ["iam", "sts", "countersign"];
    own.iter().any(|service| action.service().eq_ignore_ascii_case(service))
}

pub(super) fn resource_policy(
    action: &Action,
    text: &str,
) -> Result<Option<Arc<Document>>, Refusal> {
    const FIELD: &str = "resource_policy_document";
    if text.is_empty() {
        return Ok(None);
    }
    // Countersign knows the policies of these resources itself; a caller's own would shadow them.
    if is_own_action(action) {
        return Err(Refusal::invalid(
            FIELD,
            format!(
                "refused for `{action}`: Countersign itself knows the policies of that resource"
            ),
        ));
    }
    let checked = findings::check(text, DocumentKind::ResourcePolicy)
        .map_err(|malformed| Refusal::Document { field: FIELD, malformed })?;
    Ok(Some(Arc::new(checked.document)))
}

/// Nothing reads a text that is longer than what it could be.
pub(super) fn short(field: &str, text: &str, most: usize) -> Result<(), Refusal> {
    if text.len() <= most {
        return Ok(());
    }
    Err(Refusal::invalid(field, format!("longer than {most} bytes")))
}

/// Accounts are numbered in each partition of AWS by itself, and every account of this store is in this one.
pub(super) fn own_partition(field: &str, partition: &str) -> Result<(), Refusal> {
    if partition == OWN_PARTITION {
        return Ok(());
    }
    let message = format!(
        "partition `{}`: only ARNs of partition `{OWN_PARTITION}` are known here",
        shown(partition)
    );
    Err(Refusal::invalid(field, message))
}

/// What a stranger wrote, made fit for a message.
pub(super) fn shown(text: &str) -> String {
    text.chars().take(128).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests;
