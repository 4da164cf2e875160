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
mod tests {
    use super::*;

    const ORDER: &str = "arn:aws:orders:eu-west-1:111122223333:order/42";
    const BUCKET: &str = "arn:aws:s3:::bucket/key";

    fn request() -> AuthorizeRequest {
        AuthorizeRequest {
            subject: Some(authorize_request::Subject::PrincipalArn(
                "arn:aws:iam::111122223333:role/App".into(),
            )),
            action: "orders:GetOrder".into(),
            resource: ORDER.into(),
            ..Default::default()
        }
    }

    /// The field that is refused, and a part of the message; `None` when nothing is.
    fn check(change: impl FnOnce(&mut AuthorizeRequest), expected: Option<(&str, &str)>) {
        let mut request = request();
        change(&mut request);
        match (authorize_question(request), expected) {
            (Ok(_), None) => {}
            (Err(refusal), Some((field, part))) => {
                let said = refusal.to_string();
                assert!(said.starts_with(field) && said.contains(part), "{said}");
            }
            (outcome, expected) => panic!("{expected:?}: {outcome:?}"),
        }
    }

    #[test]
    fn subjects() {
        use authorize_request::Subject::{PrincipalArn, Token};
        check(|_| {}, None);
        check(|r| r.subject = None, Some(("subject", "principal_arn")));
        check(|r| r.subject = Some(Token(String::new())), Some(("token", "empty")));
        check(|r| r.subject = Some(Token("t".into())), Some(("audience", "required")));
        for (arn, refused) in [
            ("arn:aws:iam::111122223333:user/teams/a/alice", None),
            ("ec2.amazonaws.com", None),
            ("orders", None),
            ("", Some("service principal")),
            ("a b", Some("service principal")),
            ("a..b", Some("service principal")),
            ("arn:aws:sts::111122223333:assumed-role/App/s", Some("a session is its token")),
            ("arn:aws:sts::111122223333:federated-user/x", Some("a session is its token")),
            ("arn:aws:iam::111122223333:root", Some("root")),
            ("arn:aws:iam::111122223333:group/g", Some("principal")),
            ("arn:aws:iam::111122223333:role/*", Some("principal")),
            ("arn:aws:s3:::bucket", Some("principal")),
        ] {
            check(
                |r| r.subject = Some(PrincipalArn(arn.into())),
                refused.map(|part| ("principal_arn", part)),
            );
        }
    }

    #[test]
    fn actions() {
        for action in ["", "orders", "orders:", ":Get", "orders:Get*", "orders:Get Order", "*"] {
            check(|r| r.action = action.into(), Some(("action", "")));
        }
    }

    #[test]
    fn owners() {
        fn check(resource: &str, stated: &str, expected: Result<Owner, &str>) {
            let found = super::resource(resource).and_then(|resource| owner(&resource, stated));
            match (found, expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{resource} {stated}"),
                (Err(refusal), Err(field)) => {
                    assert!(refusal.to_string().starts_with(field), "{refusal}")
                }
                (found, expected) => panic!("{resource} {stated}: {found:?}, not {expected:?}"),
            }
        }
        let one = "111122223333".parse().unwrap();
        let two = "444455556666".parse().unwrap();
        check("*", "", Ok(Owner::Subject));
        check("*", "*", Ok(Owner::Subject));
        check("*", "444455556666", Ok(Owner::SubjectIn(two)));
        check("*", "x", Err("resource_account"));
        check(ORDER, "", Ok(Owner::Account(one)));
        check(ORDER, "111122223333", Ok(Owner::Account(one)));
        check(ORDER, "444455556666", Err("resource_account"));
        check(ORDER, "*", Err("resource_account"));
        check(BUCKET, "", Err("resource_account"));
        check(BUCKET, "*", Ok(Owner::Subject));
        check(BUCKET, "444455556666", Ok(Owner::Account(two)));
        check(BUCKET, "4444", Err("resource_account"));
        check("arn:aws:iam::aws:policy/ReadOnlyAccess", "", Err("resource_account"));
        check("arn:aws:iam::aws:policy/ReadOnlyAccess", "*", Ok(Owner::Subject));
        check("arn:aws:orders:eu-west-1:1111:order/42", "", Err("resource"));
        check("arn:aws:orders:eu-west-1:*:order/42", "", Err("resource"));
        check("", "", Err("resource"));
        check("bucket", "", Err("resource"));
        check("arn:aws:s3:::a\nb", "*", Err("resource"));
    }

    #[test]
    fn resource_policies() {
        const GOOD: &str = r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":"*","Action":"orders:*","Resource":"*"}}"#;
        check(|r| r.resource_policy_document = GOOD.into(), None);
        for action in ["iam:GetRole", "STS:AssumeRole", "countersign:Authorize"] {
            check(
                |r| {
                    r.action = action.into();
                    r.resource_policy_document = GOOD.into();
                },
                Some(("resource_policy_document", "refused for")),
            );
        }
        // An identity policy has no principal, and so is no resource policy.
        let identity = GOOD.replace(r#""Principal":"*","#, "");
        check(
            |r| r.resource_policy_document = identity,
            Some(("resource_policy_document", "line 1")),
        );
        check(
            |r| r.resource_policy_document = "{".into(),
            Some(("resource_policy_document", "line 1")),
        );
    }

    #[test]
    fn h2_what_is_too_long_is_refused_by_name() {
        let action = |bytes: usize| format!("o:{}", "A".repeat(bytes - 2));
        check(|r| r.action = action(256), None);
        check(|r| r.action = action(257), Some(("action", "longer than 256 bytes")));
        // Before anything else that is wrong.
        check(
            |r| {
                r.action = action(1 << 20);
                r.subject = None;
                r.proof_of_possession = Some(ProofOfPossession::default());
            },
            Some(("action", "longer than 256 bytes")),
        );
        let resource = |bytes: usize| format!("{ORDER}{}", "x".repeat(bytes - ORDER.len()));
        check(|r| r.resource = resource(2048), None);
        check(|r| r.resource = resource(2049), Some(("resource", "longer than 2048 bytes")));
        let principal = |name: String| {
            Some(authorize_request::Subject::PrincipalArn(format!("arn:aws:iam::{name}")))
        };
        check(
            |r| r.subject = principal("x".repeat(2049)),
            Some(("principal_arn", "longer than 2048 bytes")),
        );
        let statement = |count: usize| {
            let action = "a".repeat(count);
            format!(
                r#"{{"Version":"2012-10-17","Statement":{{"Effect":"Allow","Principal":"*","Action":"o:{action}","Resource":"*"}}}}"#
            )
        };
        let rest = statement(0).len();
        check(|r| r.resource_policy_document = statement(20_480 - rest), None);
        check(
            |r| r.resource_policy_document = statement(20_481 - rest),
            Some(("resource_policy_document", "20480 characters")),
        );
        check(
            |r| r.resource_policy_document = statement(0) + &" ".repeat(128 << 10),
            Some(("resource_policy_document", "bytes")),
        );
    }

    #[test]
    fn l10_other_partitions_are_refused() {
        use authorize_request::Subject::PrincipalArn;
        for kind in ["user/alice", "role/App", "root"] {
            for partition in ["aws-cn", "aws-us-gov", "x"] {
                let arn = format!("arn:{partition}:iam::111122223333:{kind}");
                let part = format!("partition `{partition}`");
                check(|r| r.subject = Some(PrincipalArn(arn)), Some(("principal_arn", &part)));
            }
        }
        for (resource, account) in [
            ("arn:aws-cn:orders:cn-north-1:111122223333:order/42", ""),
            ("arn:aws-cn:orders:cn-north-1:111122223333:order/42", "111122223333"),
            ("arn:aws-cn:s3:::bucket", "111122223333"),
            ("arn:aws-cn:s3:::bucket", "*"),
        ] {
            check(
                |r| {
                    r.resource = resource.into();
                    r.resource_account = account.into();
                },
                Some(("resource", "partition `aws-cn`")),
            );
        }
        check(
            |r| r.resource = "arn:AWS:orders:eu-west-1:111122223333:order/42".into(),
            Some(("resource", "partition `AWS`")),
        );
    }

    #[test]
    fn what_is_not_implemented_is_refused_by_name() {
        check(
            |r| r.proof_of_possession = Some(ProofOfPossession::default()),
            Some(("proof_of_possession", "only with `token`")),
        );
    }

    #[test]
    fn debug_shows_no_token() {
        let mut request = request();
        request.subject = Some(authorize_request::Subject::Token("the-secret".into()));
        request.audience = "orders".into();
        let shown = format!("{:?}", authorize_question(request).unwrap());
        assert!(!shown.contains("the-secret") && shown.contains("redacted"), "{shown}");
    }

    #[test]
    fn explain_asks_the_same_question() {
        let request = ExplainRequest {
            subject: Some(explain_request::Subject::PrincipalArn(
                "arn:aws:iam::111122223333:role/App".into(),
            )),
            action: "orders:GetOrder".into(),
            resource: ORDER.into(),
            at_least_revision: "a:1".into(),
            ..Default::default()
        };
        let question = explain_question(request).unwrap();
        assert_eq!(
            (question.check.action.to_string().as_str(), question.at_least_revision.as_str()),
            ("orders:GetOrder", "a:1")
        );
    }
}
