//! From the contract's messages to what the gateway works with, and back. Every field of a request is read here, or refused by name.

use countersign_policy::{arn::AccountId, principal::IamArn};
use countersign_proto::{
    decision::v1::{
        self as proto, AuthorizeAssumeRoleRequest, InstanceIdentity, ProvenIdentity, SessionTag,
    },
    token::v1::{AssumedRoleUser, ExchangeRequest, ExchangeResponse, Tag},
};
use countersign_replica::Revision;
use countersign_token::{
    Binding, BoundRequest, BoundTag, Claims, Confirmation, MayAct,
    jwt::{AwsPrincipal, WebIdentity},
};

use crate::{beside::Beside, error::Refusal, proof::ProvenCaller, session::Marks};

/// A proof that AWS signed.
pub const STS_PROOF: &str = "urn:countersign:proof:sts-get-caller-identity";
/// A token of ours (RFC 8693, section 3): what comes out, and what may go in.
pub const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

/// A JWT of a configured issuer (RFC 8693, section 3).
pub const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";

/// An EC2 instance's identity document, in its signed envelope.
pub const INSTANCE: &str = "urn:countersign:proof:ec2-instance-identity";

/// What is shown, not yet looked at. The request's `subject_token_type` chooses it; nothing is guessed (ATTACKS 78).
pub enum Shown {
    /// An STS proof.
    StsProof(String),
    /// A token of ours, whose session chains.
    Token(String),
    /// Somebody else's.
    Jwt(String),
    /// An instance's document.
    Instance(String),
}

impl Shown {
    /// `countersign:ProofType`.
    #[must_use]
    pub fn proof_type(&self) -> &'static str {
        match self {
            Self::StsProof(_) => STS_PROOF,
            Self::Token(_) => ACCESS_TOKEN,
            Self::Jwt(_) => JWT,
            Self::Instance(_) => INSTANCE,
        }
    }

    /// What the trust policy must allow.
    #[must_use]
    pub fn action(&self) -> &'static str {
        match self {
            Self::StsProof(_) | Self::Token(_) | Self::Instance(_) => "sts:AssumeRole",
            Self::Jwt(_) => "sts:AssumeRoleWithWebIdentity",
        }
    }
}

/// What is asked for, each field in its own form.
pub struct Asked {
    /// What is shown for it.
    pub shown: Shown,
    /// What the proof must be bound to: all fields, as received.
    pub binding: Binding,
    /// The role, as received.
    pub role_arn: String,
    /// The role's account.
    pub role_account: AccountId,
    /// The role's name, in the request's spelling.
    pub role_name: String,
    /// The session's name.
    pub role_session_name: String,
    /// Who the token is for.
    pub audience: String,
    /// 0 stands for the default.
    pub duration_seconds: i32,
    /// Empty when there is none.
    pub external_id: String,
    /// An inline session policy; the decision service reads it. Empty when there is none.
    pub policy: String,
    /// Managed session policies.
    pub policy_arns: Vec<String>,
    /// Action patterns; empty when there are none.
    pub scope: String,
    /// Tags, and a source identity.
    pub marks: Marks,
    /// The key that the token is to be bound to.
    pub confirmation: Option<Confirmation>,
    /// Who alone may act for the session, as asked; read once the issuer is known. Empty where the policies say who may.
    pub may_act: String,
    /// What came beside the request.
    pub beside: Beside,
}

impl Asked {
    /// Reads `request`. `partition` is the one that roles are of.
    ///
    /// # Errors
    /// No proof comes first, so that who shows nothing learns nothing; then the first field that is wrong.
    pub fn parse(request: ExchangeRequest, partition: &str) -> Result<Self, Refusal> {
        let (tokens, bound) = split(request);
        if tokens.subject.is_empty() {
            return Err(Refusal::MissingProof);
        }
        let shown = match bound.subject_token_type.as_str() {
            STS_PROOF => Shown::StsProof,
            ACCESS_TOKEN => Shown::Token,
            JWT => Shown::Jwt,
            INSTANCE => Shown::Instance,
            other => return Err(Refusal::UnsupportedTokenType { found: self::shown(other) }),
        };
        Self::read(shown(tokens.subject), &tokens.actor, bound, partition)
    }

    /// Reads `request` for an exchange with a challenge, whose proof comes later: an STS proof, since nothing else can sign one.
    ///
    /// # Errors
    /// The first field that is wrong.
    pub fn parse_unproven(request: ExchangeRequest, partition: &str) -> Result<Self, Refusal> {
        let (tokens, bound) = split(request);
        if !tokens.subject.is_empty() {
            let message = "must be empty here: the proof signs the challenge, and comes after it";
            return Err(Refusal::Invalid { field: "subject_token", message: message.to_owned() });
        }
        if bound.subject_token_type != STS_PROOF {
            return Err(Refusal::UnsupportedTokenType { found: shown(&bound.subject_token_type) });
        }
        Self::read(Shown::StsProof(String::new()), &tokens.actor, bound, partition)
    }

    fn read(
        shown: Shown,
        actor_token: &str,
        bound: BoundRequest,
        partition: &str,
    ) -> Result<Self, Refusal> {
        without_actor(actor_token, &bound)?;
        requested_token_type(&bound)?;
        let (role_account, role_name) = role(&bound.role_arn, partition)?;
        check(
            "role_session_name",
            &bound.role_session_name,
            2..=64,
            is_session_char,
            "of `[A-Za-z0-9_+=,.@-]`",
        )?;
        audience(&bound)?;
        if !bound.external_id.is_empty() {
            check(
                "external_id",
                &bound.external_id,
                2..=1224,
                is_external_id_char,
                "of `[A-Za-z0-9_+=,.@:/-]`",
            )?;
        }
        if !matches!(bound.duration_seconds, 0 | 900..=43_200) {
            let message = "must be 0 (for 3,600), or 900 to 43,200 seconds".to_owned();
            return Err(Refusal::Invalid { field: "duration_seconds", message });
        }
        check_sizes(&bound)?;
        Ok(Self {
            shown,
            binding: Binding::of_subject(&bound),
            confirmation: confirmation(&bound)?,
            beside: Beside::default(),
            marks: Marks::asked(&bound)?,
            role_arn: bound.role_arn,
            role_account,
            role_name,
            role_session_name: bound.role_session_name,
            audience: bound.audience,
            duration_seconds: bound.duration_seconds,
            external_id: bound.external_id,
            policy: bound.policy,
            policy_arns: bound.policy_arns,
            scope: bound.scope,
            may_act: bound.may_act,
        })
    }
}

/// The fields that a binding does not cover.
pub(crate) struct Tokens {
    pub(crate) subject: String,
    pub(crate) actor: String,
}

/// The proof, and all that it is bound to. Taken apart by name, so that a new field does not compile until it has a meaning.
pub(crate) fn split(request: ExchangeRequest) -> (Tokens, BoundRequest) {
    let ExchangeRequest {
        subject_token,
        subject_token_type,
        actor_token,
        actor_token_type,
        role_arn,
        role_session_name,
        audience,
        scope,
        duration_seconds,
        policy,
        policy_arns,
        tags,
        transitive_tag_keys,
        external_id,
        source_identity,
        requested_token_type,
        client_key_thumbprint,
        may_act,
    } = request;
    let bound = BoundRequest {
        subject_token_type,
        actor_token_type,
        role_arn,
        role_session_name,
        audience,
        scope,
        duration_seconds,
        policy,
        policy_arns,
        tags: tags.into_iter().map(|Tag { key, value }| BoundTag { key, value }).collect(),
        transitive_tag_keys,
        external_id,
        source_identity,
        requested_token_type,
        client_key_thumbprint,
        may_act,
    };
    (Tokens { subject: subject_token, actor: actor_token }, bound)
}

/// A role is assumed by whoever shows a proof: an actor is for tokens that are exchanged as they are.
fn without_actor(actor_token: &str, bound: &BoundRequest) -> Result<(), Refusal> {
    let fields = [
        ("actor_token", !actor_token.is_empty()),
        ("actor_token_type", !bound.actor_token_type.is_empty()),
    ];
    match fields.into_iter().find(|(_, present)| *present) {
        Some((field, _)) => {
            let message = format!(
                "only without `role_arn`, with a `subject_token_type` of `{ACCESS_TOKEN}`; leave it out"
            );
            Err(Refusal::Invalid { field, message })
        }
        None => Ok(()),
    }
}

/// There is one kind of token to ask for.
pub(crate) fn requested_token_type(bound: &BoundRequest) -> Result<(), Refusal> {
    match bound.requested_token_type.as_str() {
        "" | ACCESS_TOKEN => Ok(()),
        _ => {
            let message = format!("must be empty or `{ACCESS_TOKEN}`");
            Err(Refusal::Invalid { field: "requested_token_type", message })
        }
    }
}

/// Who the token is for is always said.
pub(crate) fn audience(bound: &BoundRequest) -> Result<(), Refusal> {
    check(
        "audience",
        &bound.audience,
        1..=256,
        |c| c.is_ascii_graphic(),
        "visible, of ASCII, without spaces",
    )
}

/// The key that the token is to be bound to.
pub(crate) fn confirmation(bound: &BoundRequest) -> Result<Option<Confirmation>, Refusal> {
    let text = &bound.client_key_thumbprint;
    if text.is_empty() {
        return Ok(None);
    }
    Confirmation::parse(text).map(Some).ok_or_else(|| Refusal::Invalid {
        field: "client_key_thumbprint",
        message: "must be a key's RFC 7638 thumbprint, 43 characters of base64url, or a certificate's after `x5t#S256:`"
            .to_owned(),
    })
}

/// Who alone may act for the session, of `issuer`'s sessions.
pub(crate) fn may_act(text: &str, issuer: &str) -> Result<Option<MayAct>, Refusal> {
    if text.is_empty() {
        return Ok(None);
    }
    MayAct::parse(issuer, text).map(Some).ok_or_else(|| Refusal::Invalid {
        field: "may_act",
        message:
            "must be a session's ARN, `arn:<partition>:sts::<account>:assumed-role/<role>/<session>`, or `<role id>:<session>`"
                .to_owned(),
    })
}

/// STS's bounds on what the decision service reads, held to before anything else is asked (ATTACKS 84). White space in a policy does
/// not count there; here it does.
pub(crate) fn check_sizes(bound: &BoundRequest) -> Result<(), Refusal> {
    let sizes = [
        ("policy", bound.policy.len(), 16 * 1024, "bytes"),
        ("policy_arns", bound.policy_arns.len(), 10, "ARNs"),
        (
            "policy_arns",
            bound.policy_arns.iter().map(String::len).max().unwrap_or(0),
            2048,
            "bytes",
        ),
        ("scope", bound.scope.len(), 1024, "bytes"),
        ("tags", bound.tags.len(), 50, "tags"),
        ("transitive_tag_keys", bound.transitive_tag_keys.len(), 50, "keys"),
        ("source_identity", bound.source_identity.len(), 64, "characters"),
        ("may_act", bound.may_act.len(), 512, "bytes"),
    ];
    match sizes.into_iter().find(|(_, size, most, _)| size > most) {
        Some((field, _, most, what)) => {
            Err(Refusal::Invalid { field, message: format!("must be at most {most} {what}") })
        }
        None => Ok(()),
    }
}

fn role(text: &str, partition: &str) -> Result<(AccountId, String), Refusal> {
    let invalid = || Refusal::Invalid {
        field: "role_arn",
        message: format!("must be `arn:{partition}:iam::<12 digits>:role/<path><name>`"),
    };
    match text.parse::<IamArn>() {
        Ok(IamArn::Role { partition: found, account, name, .. }) if found == partition => {
            Ok((account, name))
        }
        Ok(
            IamArn::Role { .. }
            | IamArn::Root { .. }
            | IamArn::User { .. }
            | IamArn::AssumedRole { .. }
            | IamArn::FederatedUser { .. },
        )
        | Err(_) => Err(invalid()),
    }
}

fn check(
    field: &'static str,
    value: &str,
    length: std::ops::RangeInclusive<usize>,
    allowed: impl Fn(char) -> bool,
    which: &str,
) -> Result<(), Refusal> {
    if length.contains(&value.chars().count()) && value.chars().all(allowed) {
        return Ok(());
    }
    let message = format!("must be {} to {} characters, {which}", length.start(), length.end());
    Err(Refusal::Invalid { field, message })
}

/// A caller's text as a message and the log may show it.
fn shown(text: &str) -> String {
    text.chars().filter(char::is_ascii_graphic).take(80).collect()
}

/// STS's own pattern: `[\w+=,.@-]*`.
fn is_session_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '+' | '=' | ',' | '.' | '@' | '-')
}

/// STS's own pattern: `[\w+=,.@:\/-]*`.
fn is_external_id_char(c: char) -> bool {
    is_session_char(c) || matches!(c, ':' | '/')
}

/// The question to the decision service, to be answered at `floor` or later.
#[must_use]
pub fn question(
    asked: &Asked,
    caller: &ProvenCaller,
    challenged: bool,
    source_address: &str,
    floor: Option<&Revision>,
) -> AuthorizeAssumeRoleRequest {
    let identity = ProvenIdentity {
        realm: caller.realm().as_str().to_owned(),
        partition: caller.partition().to_owned(),
        account_id: caller.account().to_owned(),
        unique_id: caller.unique_id().to_owned(),
        arn: caller.arn().to_owned(),
    };
    // A token is the decision service's to verify once more, with what it knows of roles and revocations. It signs nothing of the request.
    let (identity, subject_token, proof_bound) = match &asked.shown {
        Shown::StsProof(_) => (Some(identity), String::new(), true),
        Shown::Token(token) => (None, token.clone(), false),
        Shown::Jwt(_) | Shown::Instance(_) => (None, String::new(), false),
    };
    let Marks { tags, transitive_tag_keys, source_identity } = asked.marks.clone();
    AuthorizeAssumeRoleRequest {
        identity,
        subject_token,
        proof_type: asked.shown.proof_type().to_owned(),
        proof_bound,
        proof_challenged: challenged,
        role_arn: asked.role_arn.clone(),
        role_session_name: asked.role_session_name.clone(),
        duration_seconds: asked.duration_seconds,
        external_id: asked.external_id.clone(),
        source_address: source_address.to_owned(),
        at_least_revision: floor.map(ToString::to_string).unwrap_or_default(),
        policy: asked.policy.clone(),
        policy_arns: asked.policy_arns.clone(),
        scope: asked.scope.clone(),
        tags: tags.into_iter().map(|(key, value)| SessionTag { key, value }).collect(),
        transitive_tag_keys: transitive_tag_keys.into_iter().collect(),
        source_identity: source_identity.unwrap_or_default(),
        proof_of_possession: None,
        web_identity: caller.web_identity().map(web_identity),
        instance: caller.instance().map(|document| InstanceIdentity {
            partition: caller.partition().to_owned(),
            account_id: document.account().to_owned(),
            region: document.region().to_owned(),
            instance_id: document.instance_id().to_owned(),
        }),
    }
}

fn web_identity(shown: &WebIdentity) -> proto::WebIdentity {
    proto::WebIdentity {
        provider: shown.provider().to_owned(),
        subject: shown.subject().to_owned(),
        audience: shown.audience().to_owned(),
        aws_principal: shown.aws().map(aws_principal),
        amr: shown.amr().to_vec(),
    }
}

fn aws_principal(principal: &AwsPrincipal) -> proto::AwsPrincipal {
    let text = |value: Option<&str>| value.unwrap_or_default().to_owned();
    let tags = principal.principal_tags().iter();
    proto::AwsPrincipal {
        account_id: principal.account().to_owned(),
        arn: principal.arn().to_owned(),
        org_id: text(principal.org_id()),
        org_path: text(principal.org_path()),
        principal_tags: tags
            .map(|(key, value)| SessionTag { key: key.clone(), value: value.clone() })
            .collect(),
        source_identity: text(principal.source_identity()),
        lambda_source_function_arn: text(principal.lambda_function()),
        ec2_source_instance_arn: text(principal.ec2_instance()),
        ec2_instance_source_vpc: text(principal.ec2_vpc()),
    }
}

/// What the token's bearer must show with it (RFC 9449 section 5; RFC 8705 section 3 keeps `Bearer`).
#[must_use]
pub fn token_type(claims: &Claims) -> &'static str {
    match claims.cnf {
        Some(Confirmation::Key(_)) => "DPoP",
        Some(Confirmation::Certificate(_)) | None => "Bearer",
    }
}

/// The answer to the caller, at `now`.
#[must_use]
pub fn answer(access_token: String, claims: &Claims, now: i64) -> ExchangeResponse {
    ExchangeResponse {
        access_token,
        issued_token_type: ACCESS_TOKEN.to_owned(),
        token_type: token_type(claims).to_owned(),
        expires_in: i32::try_from(claims.exp.saturating_sub(now)).unwrap_or(i32::MAX),
        scope: claims.scope.clone().unwrap_or_default(),
        assumed_role_user: Some(AssumedRoleUser {
            arn: claims.sub.clone(),
            assumed_role_id: claims.client_id.clone(),
        }),
    }
}

#[cfg(test)]
mod tests;
