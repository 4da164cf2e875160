//! From the contract's messages to what the gateway works with, and back. Every field of a request is read here, or refused by name.

use countersign_policy::{arn::AccountId, principal::IamArn};
use countersign_proto::{
    decision::v1::{
        AuthorizeAssumeRoleRequest, AuthorizeAssumeRoleResponse, Decision, DecisionReason,
        ProvenIdentity,
    },
    token::v1::{AssumedRoleUser, ExchangeRequest, ExchangeResponse, Tag},
};
use countersign_replica::Revision;
use countersign_token::{Binding, BoundRequest, BoundTag, Claims, Realm};

use crate::{error::Refusal, proof::ProvenCaller};

/// The one kind of proof so far.
pub const STS_PROOF: &str = "urn:countersign:proof:sts-get-caller-identity";
/// The one kind of token (RFC 8693, section 3).
pub const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

/// What is asked for, each field in its own form.
pub struct Asked {
    /// The proof, not yet looked at.
    pub subject_token: String,
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
        if bound.subject_token_type != STS_PROOF {
            return Err(Refusal::UnsupportedTokenType { found: shown(&bound.subject_token_type) });
        }
        refuse_unimplemented(&tokens, &bound)?;
        if !matches!(bound.requested_token_type.as_str(), "" | ACCESS_TOKEN) {
            let message = format!("must be empty or `{ACCESS_TOKEN}`");
            return Err(Refusal::Invalid { field: "requested_token_type", message });
        }
        let (role_account, role_name) = role(&bound.role_arn, partition)?;
        check(
            "role_session_name",
            &bound.role_session_name,
            2..=64,
            is_session_char,
            "of `[A-Za-z0-9_+=,.@-]`",
        )?;
        check(
            "audience",
            &bound.audience,
            1..=256,
            |c| c.is_ascii_graphic(),
            "visible, of ASCII, without spaces",
        )?;
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
        Ok(Self {
            subject_token: tokens.subject,
            binding: Binding::of_subject(&bound),
            role_arn: bound.role_arn,
            role_account,
            role_name,
            role_session_name: bound.role_session_name,
            audience: bound.audience,
            duration_seconds: bound.duration_seconds,
            external_id: bound.external_id,
        })
    }
}

/// The fields that a binding does not cover.
struct Tokens {
    subject: String,
    actor: String,
}

/// The proof, and all that it is bound to. Taken apart by name, so that a new field does not compile until it has a meaning.
fn split(request: ExchangeRequest) -> (Tokens, BoundRequest) {
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
    };
    (Tokens { subject: subject_token, actor: actor_token }, bound)
}

/// What a later version reads would narrow or mark the session: ignoring it would grant more than was asked for.
fn refuse_unimplemented(tokens: &Tokens, bound: &BoundRequest) -> Result<(), Refusal> {
    let fields = [
        ("actor_token", !tokens.actor.is_empty()),
        ("actor_token_type", !bound.actor_token_type.is_empty()),
        ("scope", !bound.scope.is_empty()),
        ("policy", !bound.policy.is_empty()),
        ("policy_arns", !bound.policy_arns.is_empty()),
        ("tags", !bound.tags.is_empty()),
        ("transitive_tag_keys", !bound.transitive_tag_keys.is_empty()),
        ("source_identity", !bound.source_identity.is_empty()),
        ("client_key_thumbprint", !bound.client_key_thumbprint.is_empty()),
    ];
    match fields.into_iter().find(|(_, present)| *present) {
        Some((field, _)) => Err(Refusal::NotImplemented { field }),
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
    source_address: &str,
    floor: Option<&Revision>,
) -> AuthorizeAssumeRoleRequest {
    AuthorizeAssumeRoleRequest {
        identity: Some(ProvenIdentity {
            realm: caller.realm().as_str().to_owned(),
            partition: caller.partition().to_owned(),
            account_id: caller.account().to_owned(),
            unique_id: caller.unique_id().to_owned(),
            arn: caller.arn().to_owned(),
        }),
        proof_type: STS_PROOF.to_owned(),
        proof_bound: true,
        proof_challenged: false,
        role_arn: asked.role_arn.clone(),
        role_session_name: asked.role_session_name.clone(),
        duration_seconds: asked.duration_seconds,
        external_id: asked.external_id.clone(),
        source_address: source_address.to_owned(),
        at_least_revision: floor.map(ToString::to_string).unwrap_or_default(),
    }
}

/// What the decision service answered.
pub enum Answered {
    /// Yes.
    Granted(Granted),
    /// No.
    Denied(Denied),
    /// Something that contradicts itself or the question, which is no permission.
    Broken(&'static str),
}

/// A permission to mint. Only [`Answered::parse`] makes one.
pub struct Granted {
    /// The role's account.
    pub account: String,
    /// The role's unique id.
    pub role_id: String,
    /// The role's name, in its own spelling.
    pub role_name: String,
    /// How long the session lasts.
    pub duration_seconds: i32,
    /// Whom the caller spoke for; empty if for itself.
    pub service_principal: String,
    /// Whether the caller's unique id must be pinned.
    pub pin_required: bool,
    /// The decision's revision.
    pub revision: Revision,
}

/// A denial.
pub struct Denied {
    reason: DecisionReason,
    message: String,
    decision_id: String,
}

impl Answered {
    /// Reads `answer` to what was `asked`.
    #[must_use]
    pub fn parse(answer: AuthorizeAssumeRoleResponse, asked: &Asked) -> Self {
        let AuthorizeAssumeRoleResponse {
            decision,
            allowed,
            reason,
            message,
            determining_statements: _,
            determining_statement_count: _,
            role_id,
            account_id,
            role_name,
            duration_seconds,
            service_principal,
            pin_required,
            revision,
            decision_id,
        } = answer;
        match (Decision::try_from(decision), allowed) {
            (Ok(Decision::Allow), true) => {}
            (Ok(Decision::ExplicitDeny | Decision::ImplicitDeny), false) => {
                let reason = DecisionReason::try_from(reason).unwrap_or_default();
                return Self::Denied(Denied { reason, message, decision_id });
            }
            (Ok(Decision::Allow), false)
            | (Ok(Decision::ExplicitDeny | Decision::ImplicitDeny), true)
            | (Ok(Decision::Unspecified) | Err(_), _) => {
                return Self::Broken("`decision` and `allowed` contradict each other");
            }
        }
        let Ok(revision) = revision.parse() else {
            return Self::Broken("`revision` is none");
        };
        if account_id != asked.role_account.as_str()
            || !role_name.eq_ignore_ascii_case(&asked.role_name)
        {
            return Self::Broken("the role is not the one asked about");
        }
        if role_id.is_empty() {
            return Self::Broken("`role_id` is empty");
        }
        let longest = if asked.duration_seconds == 0 { 43_200 } else { asked.duration_seconds };
        if !(1..=longest).contains(&duration_seconds) {
            return Self::Broken("`duration_seconds` is not within what was asked for");
        }
        Self::Granted(Granted {
            account: account_id,
            role_id,
            role_name,
            duration_seconds,
            service_principal,
            pin_required,
            revision,
        })
    }
}

impl Denied {
    /// What `caller` may know of it. Somebody of the role's own account learns why, and whether there is such a role; anybody else
    /// learns a decision's id to ask about, as with AWS: else whoever has an AWS account could list the roles of every tenant.
    #[must_use]
    pub fn refusal(self, asked: &Asked, caller: &ProvenCaller) -> Refusal {
        let Self { reason, message, decision_id } = self;
        let reason_name = reason.as_str_name().trim_start_matches("DECISION_REASON_");
        let role = asked.role_arn.clone();
        let own_account = match caller.realm() {
            Realm::Countersign => caller.account() == asked.role_account.as_str(),
            Realm::Aws => false,
        };
        let detail = if own_account {
            format!("{message}; {reason_name}, decision {decision_id}")
        } else {
            format!("decision {decision_id}")
        };
        let caller = caller.arn().to_owned();
        if own_account && reason == DecisionReason::RoleNotFound {
            return Refusal::RoleNotFound { caller, role, detail };
        }
        Refusal::Denied { caller, role, detail, cause: format!("{reason_name}: {message}") }
    }
}

/// The answer to the caller.
#[must_use]
pub fn answer(access_token: String, claims: &Claims, expires_in: i32) -> ExchangeResponse {
    ExchangeResponse {
        access_token,
        issued_token_type: ACCESS_TOKEN.to_owned(),
        token_type: "Bearer".to_owned(),
        expires_in,
        scope: String::new(),
        assumed_role_user: Some(AssumedRoleUser {
            arn: claims.sub.clone(),
            assumed_role_id: claims.client_id.clone(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use countersign_serve::Fault;

    use super::*;

    fn request() -> ExchangeRequest {
        ExchangeRequest {
            subject_token: "proof".into(),
            subject_token_type: STS_PROOF.into(),
            role_arn: "arn:aws:iam::000000000000:role/R".into(),
            role_session_name: "s1".into(),
            audience: "orders".into(),
            duration_seconds: 900,
            ..ExchangeRequest::default()
        }
    }

    /// The reason and, for a field, the start of the message.
    fn check(change: impl Fn(&mut ExchangeRequest), expected: Result<(), (&str, &str)>) {
        let mut request = request();
        change(&mut request);
        match (Asked::parse(request, "aws"), expected) {
            (Ok(_), expected) => assert_eq!(Ok(()), expected),
            (Err(refusal), expected) => {
                let fault = Fault::from(&refusal);
                let (reason, start) = expected.expect_err(fault.message());
                assert_eq!(fault.reason(), reason, "{}", fault.message());
                assert!(fault.message().starts_with(start), "{} {start}", fault.message());
            }
        }
    }

    #[test]
    fn requests() {
        check(|_| {}, Ok(()));
        check(|r| r.requested_token_type = ACCESS_TOKEN.into(), Ok(()));
        check(|r| r.duration_seconds = 0, Ok(()));
        check(|r| r.duration_seconds = 43_200, Ok(()));
        check(|r| r.external_id = "a:b/c".into(), Ok(()));
        check(|r| r.role_session_name = "alice@example.com+1".into(), Ok(()));
        check(|r| r.role_arn = "arn:aws:iam::000000000000:role/a/b/R".into(), Ok(()));

        check(|r| *r = ExchangeRequest::default(), Err(("MissingAuthenticationToken", "")));
        check(|r| r.subject_token.clear(), Err(("MissingAuthenticationToken", "")));
        // Who shows no proof learns nothing of fields.
        check(
            |r| {
                r.subject_token.clear();
                r.scope = "x".into();
                r.role_arn.clear();
            },
            Err(("MissingAuthenticationToken", "")),
        );
        check(|r| r.subject_token_type.clear(), Err(("UnsupportedTokenType", "")));
        check(|r| r.subject_token_type = ACCESS_TOKEN.into(), Err(("UnsupportedTokenType", "")));
        check(
            |r| r.subject_token_type = STS_PROOF.to_uppercase(),
            Err(("UnsupportedTokenType", "")),
        );

        let invalid = "ValidationError";
        check(|r| r.requested_token_type = "urn:x".into(), Err((invalid, "requested_token_type")));
        for arn in [
            "",
            "R",
            "arn:aws:iam::000000000000:user/R",
            "arn:aws:iam::000000000000:root",
            "arn:aws:sts::000000000000:assumed-role/R/s",
            "arn:aws-cn:iam::000000000000:role/R",
            "arn:aws:iam::00000000000:role/R",
            "arn:aws:iam::*:role/R",
            "arn:aws:iam::000000000000:role/*",
        ] {
            check(|r| r.role_arn = arn.into(), Err((invalid, "role_arn")));
        }
        let long = "s".repeat(65);
        for name in ["", "s", "a b", "a:b", "a/b", "é1", "a\nb", long.as_str()] {
            check(|r| r.role_session_name = name.into(), Err((invalid, "role_session_name")));
        }
        let long = "a".repeat(257);
        for audience in ["", "a b", "a\tb", "ordérs", long.as_str()] {
            check(|r| r.audience = audience.into(), Err((invalid, "audience")));
        }
        let long = "e".repeat(1225);
        for id in ["e", "a b", "a*", long.as_str()] {
            check(|r| r.external_id = id.into(), Err((invalid, "external_id")));
        }
        for seconds in [-1, 1, 899, 43_201, i32::MAX, i32::MIN] {
            check(|r| r.duration_seconds = seconds, Err((invalid, "duration_seconds")));
        }

        let tag = Tag { key: "k".into(), value: "v".into() };
        check(|r| r.actor_token = "x".into(), Err(("NotImplemented", "actor_token:")));
        check(|r| r.actor_token_type = "x".into(), Err(("NotImplemented", "actor_token_type:")));
        check(|r| r.scope = "x".into(), Err(("NotImplemented", "scope:")));
        check(|r| r.policy = "{}".into(), Err(("NotImplemented", "policy:")));
        check(|r| r.policy_arns = vec![String::new()], Err(("NotImplemented", "policy_arns:")));
        check(|r| r.tags = vec![tag.clone()], Err(("NotImplemented", "tags:")));
        check(
            |r| r.transitive_tag_keys = vec!["k".into()],
            Err(("NotImplemented", "transitive_tag_keys:")),
        );
        check(|r| r.source_identity = "x".into(), Err(("NotImplemented", "source_identity:")));
        check(
            |r| r.client_key_thumbprint = "x".into(),
            Err(("NotImplemented", "client_key_thumbprint:")),
        );
    }

    #[test]
    fn the_binding_covers_the_request_as_received() {
        let asked = Asked::parse(request(), "aws").ok().unwrap();
        let bound = BoundRequest {
            subject_token_type: STS_PROOF.into(),
            role_arn: "arn:aws:iam::000000000000:role/R".into(),
            role_session_name: "s1".into(),
            audience: "orders".into(),
            duration_seconds: 900,
            ..BoundRequest::default()
        };
        assert_eq!(asked.binding, Binding::of_subject(&bound));
    }
}
