//! STS's answer to GetCallerIdentity, read strictly, and the one maker of a [`CallerIdentity`].
//!
//! Nothing is searched for: status, size, content type, grammar, shape, and then whether account, ARN and unique id agree
//! are checked in that order, and whatever is not exactly an answer of STS is refused. It does not know which partitions
//! or accounts an endpoint may speak for: the gateway compares [`CallerIdentity::partition`] and
//! [`CallerIdentity::account`] with its configuration.

mod arn;
mod json;
#[cfg(test)]
mod tests;
mod xml;

use thiserror::Error;

pub use arn::{CallerArn, CallerKind};

/// The largest answer read, in bytes.
pub const MAX_ANSWER: usize = 64 * 1024;
/// The namespace of STS's XML.
pub const NAMESPACE: &str = "https://sts.amazonaws.com/doc/2011-06-15/";

/// The form that the answer was asked for in, and the only one it is read in (ATTACKS 27).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerFormat {
    Xml,
    Json,
}

impl AnswerFormat {
    /// What is sent as `accept`, and must come back as `content-type`.
    pub fn content_type(self) -> &'static str {
        match self {
            AnswerFormat::Xml => "text/xml",
            AnswerFormat::Json => "application/json",
        }
    }
}

/// Who makes the unique ids of an endpoint's answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UniqueIds {
    /// AWS, or Countersign: `AIDA…` for users and `AROA…` for roles, upper-case.
    Aws,
    /// A private STS that the operator listed: any letters and digits, but never those of the other kind.
    Private,
}

/// Why there is no identity. `Unavailable` is no verdict on the caller: try again later (ATTACKS 44).
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AnswerError {
    #[error("sts is unavailable: status {status}")]
    Unavailable { status: u16, code: Option<String> },
    #[error("sts refused the proof: `{code}`")]
    Refused { code: String, message: String },
    #[error("sts answered with a redirect, status {0}, which is not followed")]
    AnswerRedirected(u16),
    #[error("sts answered with status {0}")]
    UnexpectedStatus(u16),
    #[error("the answer is larger than 64 KiB")]
    AnswerTooLarge,
    #[error("the answer's content type is not the one asked for")]
    AnswerTypeMismatch,
    #[error("the answer does not follow STS's grammar")]
    AnswerMalformed,
    #[error("the answer's arn is malformed")]
    ArnMalformed,
    #[error("the answer's account is not its arn's")]
    AccountMismatch,
    #[error("the answer's user id does not belong to its arn")]
    UserIdMismatch,
    #[error("the answer's partition is not the endpoint's")]
    PartitionMismatch,
}

impl AnswerError {
    /// A stable name for the reason. STS's own code for a refusal is in the variant.
    pub fn code(&self) -> &'static str {
        match self {
            AnswerError::Unavailable { .. } => "StsUnavailable",
            AnswerError::Refused { .. } => "StsRefused",
            AnswerError::AnswerRedirected(_) => "AnswerRedirected",
            AnswerError::UnexpectedStatus(_) => "UnexpectedStatus",
            AnswerError::AnswerTooLarge => "AnswerTooLarge",
            AnswerError::AnswerTypeMismatch => "AnswerTypeMismatch",
            AnswerError::AnswerMalformed => "AnswerMalformed",
            AnswerError::ArnMalformed => "ArnMalformed",
            AnswerError::AccountMismatch => "AccountMismatch",
            AnswerError::UserIdMismatch => "UserIdMismatch",
            AnswerError::PartitionMismatch => "PartitionMismatch",
        }
    }
}

/// Who STS says the caller is. Only [`parse_answer`] makes one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CallerIdentity {
    arn: CallerArn,
    user_id: String,
}

impl CallerIdentity {
    pub fn partition(&self) -> &str {
        self.arn.partition()
    }

    /// 12 digits.
    pub fn account(&self) -> &str {
        self.arn.account()
    }

    /// The ARN as STS spelled it. An assumed role's has lost the role's path (ATTACKS 45).
    pub fn arn(&self) -> &str {
        self.arn.as_str()
    }

    pub fn kind(&self) -> &CallerKind {
        self.arn.kind()
    }

    /// `AIDA…` for a user, `AROA…` for a role (without the session), the account for its root, `account:name` for a
    /// federated user.
    pub fn unique_id(&self) -> &str {
        match self.arn.kind() {
            CallerKind::AssumedRole { .. } => {
                self.user_id.split_once(':').map_or("", |(role_id, _)| role_id)
            }
            CallerKind::User { .. } | CallerKind::Root | CallerKind::FederatedUser { .. } => {
                &self.user_id
            }
        }
    }

    /// The session of an assumed role: chosen by whoever assumed it, so never an identity (ATTACKS 48).
    pub fn session_name(&self) -> Option<&str> {
        match self.arn.kind() {
            CallerKind::AssumedRole { session_name, .. } => Some(session_name),
            CallerKind::User { .. } | CallerKind::Root | CallerKind::FederatedUser { .. } => None,
        }
    }

    /// The ARN's partition must be that of the endpoint that answered (ATTACKS 10).
    pub fn require_partition(&self, partition: &str) -> Result<(), AnswerError> {
        if self.partition() == partition { Ok(()) } else { Err(AnswerError::PartitionMismatch) }
    }
}

/// Reads the answer to a request that asked for `format`. `content_type` is the header's value, empty if there was none.
pub fn parse_answer(
    status: u16,
    content_type: &str,
    body: &[u8],
    format: AnswerFormat,
    unique_ids: UniqueIds,
) -> Result<CallerIdentity, AnswerError> {
    if status != 200 {
        return Err(parse_refusal(status, content_type, body, format));
    }
    let root = parse_tree(content_type, body, format)?;
    let answer = Answer::from_tree(&root).ok_or(AnswerError::AnswerMalformed)?;
    let arn = CallerArn::parse(answer.arn).ok_or(AnswerError::ArnMalformed)?;
    if arn.account() != answer.account {
        return Err(AnswerError::AccountMismatch);
    }
    if !user_id_belongs(&arn, answer.user_id, unique_ids) {
        return Err(AnswerError::UserIdMismatch);
    }
    Ok(CallerIdentity { arn, user_id: answer.user_id.to_owned() })
}

/// The three values, each found exactly once where it belongs.
struct Answer<'a> {
    account: &'a str,
    arn: &'a str,
    user_id: &'a str,
}

impl<'a> Answer<'a> {
    fn from_tree(root: &'a Element) -> Option<Answer<'a>> {
        if root.name != "GetCallerIdentityResponse"
            || !root.only(&["GetCallerIdentityResult", "ResponseMetadata"])
        {
            return None;
        }
        if let Some(metadata) = root.at_most_one("ResponseMetadata")? {
            metadata.only(&["RequestId"]).then_some(())?;
            metadata.at_most_one("RequestId")?.map_or(Some(""), Element::text)?;
        }
        let result = root.at_most_one("GetCallerIdentityResult")??;
        result.only(&["Account", "Arn", "UserId"]).then_some(())?;
        Some(Answer {
            account: result.at_most_one("Account")??.text()?,
            arn: result.at_most_one("Arn")??.text()?,
            user_id: result.at_most_one("UserId")??.text()?,
        })
    }
}

/// AWS, "IAM identifiers", unique ID prefixes; and "Policy variables", the values of `aws:userid`.
fn user_id_belongs(arn: &CallerArn, user_id: &str, unique_ids: UniqueIds) -> bool {
    match arn.kind() {
        CallerKind::User { .. } => is_unique_id(user_id, "AIDA", "AROA", unique_ids),
        CallerKind::AssumedRole { session_name, .. } => match user_id.split_once(':') {
            Some((role_id, session)) => {
                is_unique_id(role_id, "AROA", "AIDA", unique_ids) && session == session_name
            }
            None => false,
        },
        CallerKind::Root => user_id == arn.account(),
        CallerKind::FederatedUser { name } => user_id
            .split_once(':')
            .is_some_and(|(account, user)| account == arn.account() && user == name),
    }
}

/// 16 to 128 letters and digits: AWS's are upper-case and begin with the prefix of their kind, a private STS's at least do not begin
/// with that of the other kind.
fn is_unique_id(text: &str, prefix: &str, other: &str, unique_ids: UniqueIds) -> bool {
    let shaped = match unique_ids {
        UniqueIds::Aws => {
            text.starts_with(prefix)
                && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
        }
        UniqueIds::Private => {
            !text.starts_with(other) && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
        }
    };
    shaped && (16..=128).contains(&text.len())
}

fn parse_tree(
    content_type: &str,
    body: &[u8],
    format: AnswerFormat,
) -> Result<Element, AnswerError> {
    if body.len() > MAX_ANSWER {
        return Err(AnswerError::AnswerTooLarge);
    }
    if !is_content_type(content_type, format.content_type()) {
        return Err(AnswerError::AnswerTypeMismatch);
    }
    let text = std::str::from_utf8(body).map_err(|_| AnswerError::AnswerMalformed)?;
    let tree = match format {
        AnswerFormat::Xml => xml::parse(text, NAMESPACE),
        AnswerFormat::Json => json::parse(text),
    };
    tree.ok_or(AnswerError::AnswerMalformed)
}

/// The media type must be the one asked for; a charset, if named, UTF-8; other parameters say nothing of the grammar.
fn is_content_type(header: &str, expected: &str) -> bool {
    let mut parts = header.split(';').map(str::trim);
    let media_type = parts.next().unwrap_or_default();
    let utf8 = |parameter: &str| match parameter.to_ascii_lowercase().strip_prefix("charset=") {
        Some(charset) => matches!(charset, "utf-8" | "\"utf-8\""),
        None => true,
    };
    media_type.eq_ignore_ascii_case(expected) && parts.all(utf8)
}

/// What any status but 200 says. No body makes an identity of it (ATTACKS 42).
fn parse_refusal(
    status: u16,
    content_type: &str,
    body: &[u8],
    format: AnswerFormat,
) -> AnswerError {
    match status {
        300..=399 => AnswerError::AnswerRedirected(status),
        429 | 500..=599 => {
            AnswerError::Unavailable { status, code: error_code(content_type, body, format) }
        }
        400..=499 => match error_code(content_type, body, format) {
            Some(code) if is_throttling(&code) => {
                AnswerError::Unavailable { status, code: Some(code) }
            }
            Some(code) => {
                let message = error_message(content_type, body, format).unwrap_or_default();
                AnswerError::Refused { code, message }
            }
            None => AnswerError::Refused { code: "Unknown".to_owned(), message: String::new() },
        },
        _ => AnswerError::UnexpectedStatus(status),
    }
}

fn is_throttling(code: &str) -> bool {
    matches!(
        code,
        "Throttling"
            | "ThrottlingException"
            | "RequestLimitExceeded"
            | "RequestThrottled"
            | "SlowDown"
            | "TooManyRequestsException"
    )
}

fn error_code(content_type: &str, body: &[u8], format: AnswerFormat) -> Option<String> {
    let code = error_field(content_type, body, format, "Code")?;
    let plain = (1..=64).contains(&code.len())
        && code.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'.');
    plain.then_some(code)
}

fn error_message(content_type: &str, body: &[u8], format: AnswerFormat) -> Option<String> {
    let message = error_field(content_type, body, format, "Message")?;
    Some(message.chars().filter(|character| !character.is_control()).take(256).collect())
}

/// A field of `<ErrorResponse><Error>`, or of `<ErrorResponse><Errors><Error>` as some private STS's write it; in JSON STS leaves out
/// the outer element. It only names a refusal.
fn error_field(
    content_type: &str,
    body: &[u8],
    format: AnswerFormat,
    field: &str,
) -> Option<String> {
    let root = match format {
        AnswerFormat::Xml => parse_error_xml(content_type, body)?,
        AnswerFormat::Json => {
            let within_limits =
                body.len() <= MAX_ANSWER && is_content_type(content_type, format.content_type());
            within_limits
                .then(|| json::parse_members("ErrorResponse", std::str::from_utf8(body).ok()?))??
        }
    };
    if root.name != "ErrorResponse" {
        return None;
    }
    let errors = root.at_most_one("Errors")?.unwrap_or(&root);
    let error = errors.at_most_one("Error")??;
    error.at_most_one(field)??.text().map(str::to_owned)
}

/// An error as STS writes it, or as a private STS does: `application/xml`, without a namespace.
fn parse_error_xml(content_type: &str, body: &[u8]) -> Option<Element> {
    let xml = ["text/xml", "application/xml"].iter().any(|xml| is_content_type(content_type, xml));
    if !xml || body.len() > MAX_ANSWER {
        return None;
    }
    let text = std::str::from_utf8(body).ok()?;
    xml::parse(text, NAMESPACE).or_else(|| xml::parse_plain(text))
}

/// XML and JSON alike: a name with either text or children.
#[derive(Debug, PartialEq, Eq)]
struct Element {
    name: String,
    content: Content,
}

#[derive(Debug, PartialEq, Eq)]
enum Content {
    Text(String),
    Children(Vec<Element>),
}

impl Element {
    fn text(&self) -> Option<&str> {
        match &self.content {
            Content::Text(text) => Some(text),
            Content::Children(_) => None,
        }
    }

    fn children(&self) -> &[Element] {
        match &self.content {
            Content::Text(_) => &[],
            Content::Children(children) => children,
        }
    }

    /// The child of that name: `None` if there are two, `Some(None)` if there is none.
    fn at_most_one(&self, name: &str) -> Option<Option<&Element>> {
        let mut found = self.children().iter().filter(|child| child.name == name);
        let first = found.next();
        found.next().is_none().then_some(first)
    }

    /// Whether it holds children, and none but these.
    fn only(&self, names: &[&str]) -> bool {
        match &self.content {
            Content::Text(_) => false,
            Content::Children(children) => {
                children.iter().all(|child| names.contains(&child.name.as_str()))
            }
        }
    }
}
