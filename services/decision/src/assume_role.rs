//! The verb of AuthorizeAssumeRole: may this identity, or this session, assume that role?
//!
//! The trust policy decides, and for a local caller its own policies too. Tags and a source identity need actions of their own, and all
//! of it is refused if one of them is (RULES.md 41, X6). A caller that may not for itself may still speak for a
//! service principal, if it was bound to one towards this very role, and the trust policy names that service. Nothing here is a
//! token yet: the gateway spends the proof, pins an external caller's id, and signs.

mod caller;
mod instance;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Instant, SystemTime},
};

use countersign_evaluator::{
    Context, Decision, PolicyType, Principal, Realm, Reason, Request, Resource, ResourceArn,
    Subject, Verdict, compiled,
    context::DuplicateKey,
    snapshot::{CallerKey, RoleEntry, Snapshot},
    subject::service_subject,
};
use countersign_policy::{
    action::Action,
    condition::{Comparison, Operator},
    document::Statement,
    principal::IamArn,
};
use countersign_proto::decision::v1::{AuthorizeAssumeRoleResponse, DecisionReason};
use countersign_replica::{View, World};
use countersign_serve::ServiceName;

use crate::{
    authn::Caller,
    check::{self, Judgement},
    convert::{
        self, AssumeRoleQuestion, Identity, Instance, Proven, SubjectToken, WebIdentity, Wished,
        decision_name, packed,
    },
    decider::{self, Decider},
    error::Refusal,
    log::Line,
    session::{self, Came, NoSession, OWN_AUDIENCE, Opened, Presented, Session},
};

const ASSUME_ROLE: &str = "sts:AssumeRole";
const ASSUME_ROLE_WITH_WEB_IDENTITY: &str = "sts:AssumeRoleWithWebIdentity";
const TAG_SESSION: &str = "sts:TagSession";
const SET_SOURCE_IDENTITY: &str = "sts:SetSourceIdentity";
/// <https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html>: the default is an hour.
const DEFAULT_DURATION: u32 = 3600;
/// "Role chaining limits your role session to a maximum of one hour" (RULES.md X1):
/// <https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles.html>
const CHAINED_DURATION: u32 = 3600;
/// RULES.md X5, of all tags together.
const MAX_TAGS: usize = 50;

/// Who asks.
#[derive(Clone, Debug)]
pub enum Asker {
    /// Whom a proof has shown.
    Identity(Identity),
    /// A session that chains, by a token that is good at the view.
    Session(Box<Session>),
    /// Whom a configured issuer vouches for.
    WebIdentity(Box<WebIdentity>),
    /// An EC2 instance, by its identity document.
    Instance(Instance),
}

impl Asker {
    fn name(&self) -> String {
        match self {
            Self::Identity(identity) => identity.arn.to_string(),
            Self::Session(session) => session.arn.clone(),
            Self::WebIdentity(shown) => format!("{}:{}", shown.provider, shown.subject),
            Self::Instance(instance) => instance.arn(),
        }
    }

    /// What the trust policy must allow.
    fn action(&self) -> &'static str {
        match self {
            Self::Identity(_) | Self::Session(_) | Self::Instance(_) => ASSUME_ROLE,
            Self::WebIdentity(_) => ASSUME_ROLE_WITH_WEB_IDENTITY,
        }
    }
}

/// What a session is marked with: what was asked for, and what a chaining session hands on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// No two keys differ by case alone.
    pub tags: BTreeMap<String, String>,
    /// Of `tags`.
    pub transitive_tag_keys: BTreeSet<String>,
    /// `aws:SourceIdentity` of the session.
    pub source_identity: Option<String>,
}

/// What an allowed caller gets.
#[derive(Clone, Debug)]
pub struct Grant {
    /// The role, by its own spelling and unique id.
    pub role: Arc<RoleEntry>,
    /// In seconds.
    pub duration_seconds: u32,
    /// Whom the caller spoke for.
    pub service_principal: Option<String>,
    /// Whether the gateway must pin the caller's unique id first.
    pub pin_required: bool,
    /// The session's.
    pub marks: Marks,
    /// The session's, as text.
    pub session_policies: Vec<String>,
}

/// Gateways ask this, and nobody else: whoever may say what a proof has shown may be anybody.
pub fn gateways_alone(caller: &Caller, action: &str) -> Result<(), Refusal> {
    match caller {
        Caller::Service(ServiceName::Gateway) => Ok(()),
        Caller::Service(ServiceName::Decision) | Caller::Session(_) | Caller::Anonymous => {
            Err(Refusal::AccessDenied {
                caller: check::caller_name(caller),
                action: action.to_owned(),
                resource: "*".to_owned(),
                because: ": gateways alone",
            })
        }
    }
}

/// Answers AuthorizeAssumeRole.
pub async fn authorize(
    decider: &Decider,
    question: AssumeRoleQuestion,
    deadline: Instant,
) -> Result<AuthorizeAssumeRoleResponse, Refusal> {
    let now = decider::now();
    let (view, asker) = asker(decider, &question, now, deadline).await?;
    let (judgement, grant) = decide(view.world(), &asker, &question, now)?;
    let decision_id = decider::decision_id()?;
    tracing::info!(
        %decision_id,
        decision = decision_name(judgement.decision),
        reason = judgement.reason.as_str_name(),
        principal = %asker.name(),
        role = %question.role_arn,
        session = %question.role_session_name,
        revision = %view.revision(),
        "decided {}",
        asker.action()
    );
    decider.made(judgement.decision, &decision_id, || Line {
        at: SystemTime::now(),
        decision_id: decision_id.clone(),
        caller: check::caller_name(&Caller::Service(ServiceName::Gateway)),
        principal: asker.name(),
        action: asker.action().to_owned(),
        resource: question.role_arn.to_string(),
        judgement: judgement.clone(),
        revision: view.revision().clone(),
    });
    Ok(convert::assume_role_response(judgement, grant, view.revision(), decision_id))
}

/// The asked revision is waited for first: what was revoked at it must be seen when a token is checked.
async fn asker(
    decider: &Decider,
    question: &AssumeRoleQuestion,
    now: i64,
    deadline: Instant,
) -> Result<(Arc<View>, Asker), Refusal> {
    let view = decider.view(&question.at_least_revision, deadline).await?;
    match &question.proven {
        Proven::Identity(identity) => Ok((view, Asker::Identity(identity.clone()))),
        Proven::WebIdentity(shown) => Ok((view, Asker::WebIdentity(Box::new(shown.clone())))),
        Proven::Instance(instance) => Ok((view, Asker::Instance(instance.clone()))),
        Proven::Token(SubjectToken(token), possession) => {
            let (audience, came) = (Some(OWN_AUDIENCE), Came::ToGateway);
            let presented = Presented { token, audience, possession, came };
            let opened = session::open(decider, presented, now, deadline).await;
            let Opened { view, session, signed } = opened.map_err(NoSession::of_subject)?;
            if !signed.may_be_exchanged_by(None) {
                return Err(Refusal::MayNotAct);
            }
            // Between the two waits the replica may have begun to follow another store.
            decider::satisfies(&view, &question.at_least_revision)?;
            Ok((view, Asker::Session(Box::new(session))))
        }
    }
}

/// Decides in one world. There is a grant exactly when it is allowed.
pub fn decide(
    world: &World,
    asker: &Asker,
    question: &AssumeRoleQuestion,
    now: i64,
) -> Result<(Judgement, Option<Grant>), Refusal> {
    let caller = match caller::subject(world, asker, &question.role_arn) {
        Ok(caller) => caller,
        Err(judgement) => return Ok((judgement, None)),
    };
    let Some(role) = check::role_by_arn(world, &question.role_arn) else {
        let message = format!("there is no role {}", question.role_arn);
        return Ok((Judgement::denied(DecisionReason::RoleNotFound, message), None));
    };
    let marks = match marks(asker, &question.wished)? {
        Ok(marks) => marks,
        Err(judgement) => return Ok((judgement, None)),
    };
    let ask = |subject: &Subject, keys: &Context| {
        ask_all(asker.action(), world.snapshot(), subject, keys, &marks, question, role, now)
    };
    let grant = |service_principal, pin_required| {
        granted(world, asker, question, role, &marks, service_principal, pin_required)
    };
    let mut keys = exchange_keys(question, &marks, role).map_err(cannot_be)?;
    if let Asker::Instance(instance) = asker {
        instance::add_keys(&mut keys, instance).map_err(cannot_be)?;
    }
    let (request, own) = ask(&caller, &keys)?;
    if own.is_allow() {
        if let Asker::Instance(instance) = asker {
            if let Err(judgement) = instance::meant(world.snapshot(), instance, &own, role) {
                return Ok((judgement, None));
            }
            // What is pinned is its key: its document by itself is everybody's who reads it (ATTACKS 56).
            let service = Some(instance::SERVICE.to_owned());
            return Ok((Judgement::of(own, &request), Some(grant(service, true)?)));
        }
        let pin_required = is_external(&caller.principal) && !names_unique_id(&own, role);
        return Ok((Judgement::of(own, &request), Some(grant(None, pin_required)?)));
    }
    // The caller's own Denies hold also when it speaks for a service, and so do those that are not at hand, and the bounds of its
    // organization, which no service has.
    if is_final(&own) {
        return Ok((Judgement::of(own, &request), None));
    }
    for service in bound_services(world, asker, role) {
        let subject = service_subject(&service).map_err(cannot_be)?;
        let mut keys = keys.clone();
        keys.insert("aws:SourceAccount", role.account.as_str()).map_err(cannot_be)?;
        let (request, verdict) = ask(&subject, &keys)?;
        // "Of several bindings, those that the trust policy names count" (DESIGN.md section 7): one that it does not name, or denies,
        // takes nothing from the others.
        match verdict.decision {
            Decision::Allow => {
                // The binding itself names the caller's unique id, so there is nothing to pin.
                return Ok((Judgement::of(verdict, &request), Some(grant(Some(service), false)?)));
            }
            Decision::ExplicitDeny | Decision::ImplicitDeny => {}
        }
    }
    Ok((Judgement::of(own, &request), None))
}

/// What the session needs, each action asked for. The verdict is that of `assume` if all are allowed; else of what stands most in the
/// way, a Deny before a missing Allow.
#[expect(
    clippy::too_many_arguments,
    reason = "each is another thing, and none of them belong together elsewhere"
)]
fn ask_all(
    assume: &str,
    snapshot: &Snapshot,
    subject: &Subject,
    keys: &Context,
    marks: &Marks,
    question: &AssumeRoleQuestion,
    role: &RoleEntry,
    now: i64,
) -> Result<(Request, Verdict), Refusal> {
    let assumed = ask(assume, snapshot, subject, keys, question, role, now)?;
    let further = [
        (TAG_SESSION, !marks.tags.is_empty()),
        (SET_SOURCE_IDENTITY, marks.source_identity.is_some()),
    ];
    let mut refused = (!assumed.1.is_allow()).then(|| assumed.clone());
    for (action, _) in further.into_iter().filter(|(_, needed)| *needed) {
        let asked = ask(action, snapshot, subject, keys, question, role, now)?;
        let is_graver = |than: &Verdict| is_final(&asked.1) && !is_final(than);
        if !asked.1.is_allow() && refused.as_ref().is_none_or(|(_, than)| is_graver(than)) {
            refused = Some(asked);
        }
    }
    Ok(refused.unwrap_or(assumed))
}

/// Whether no service that the caller may speak for changes anything about it.
fn is_final(verdict: &Verdict) -> bool {
    verdict.decision == Decision::ExplicitDeny
        || check::is_unknown(verdict)
        || verdict.reason == Reason::NotAllowedByScp
}

/// One evaluation: the subject's own policies, if it has any, and the role's trust policy.
fn ask(
    action: &str,
    snapshot: &Snapshot,
    subject: &Subject,
    keys: &Context,
    question: &AssumeRoleQuestion,
    role: &RoleEntry,
    now: i64,
) -> Result<(Request, Verdict), Refusal> {
    let role_arn = question.role_arn.to_string();
    let request = Request {
        principal: subject.principal.clone(),
        action: action.parse::<Action>().map_err(cannot_be)?,
        resource: Resource {
            arn: ResourceArn::Arn(role_arn.parse().map_err(cannot_be)?),
            account: Some(role.account),
        },
        context: subject.context(keys, now, Some(role.account)).map_err(cannot_be)?,
    };
    let mut policies = subject.policy_set();
    policies.resource = Some(role.trust.clone());
    policies.programs.extend(snapshot.trust_program(role).cloned());
    let account = Some(role.account);
    snapshot.add_guardrails(&mut policies, &request.principal, &request.action, account);
    let verdict = compiled::decide(&request, &policies);
    Ok((request, verdict))
}

/// None of these can happen with what has been parsed; if one does, there is no answer, and so no token.
fn cannot_be(error: impl std::fmt::Display) -> Refusal {
    Refusal::invalid("identity", error.to_string())
}

/// What an allowed caller gets. What is wrong with the request beside that is said here, to those alone who may assume the role.
fn granted(
    world: &World,
    asker: &Asker,
    question: &AssumeRoleQuestion,
    role: &Arc<RoleEntry>,
    marks: &Marks,
    service_principal: Option<String>,
    pin_required: bool,
) -> Result<Grant, Refusal> {
    Ok(Grant {
        role: role.clone(),
        duration_seconds: duration(asker, question, role)?,
        service_principal,
        pin_required,
        marks: marks.clone(),
        session_policies: session_policies(world, &question.wished, role)?,
    })
}

fn duration(
    asker: &Asker,
    question: &AssumeRoleQuestion,
    role: &RoleEntry,
) -> Result<u32, Refusal> {
    let (most, whose) = match asker {
        Asker::Identity(_) | Asker::WebIdentity(_) | Asker::Instance(_) => {
            (role.max_session_duration, "the role's MaxSessionDuration is")
        }
        Asker::Session(_) => (
            role.max_session_duration.min(CHAINED_DURATION),
            "with role chaining a session lasts at most",
        ),
    };
    let duration_seconds = match question.duration_seconds {
        None => DEFAULT_DURATION.min(most),
        Some(asked) if asked <= most => asked,
        // Said only to those who may assume the role: others have no business with its settings.
        Some(asked) => {
            let message = format!("{asked}: {whose} {most} seconds");
            return Err(Refusal::invalid("duration_seconds", message));
        }
    };
    Ok(duration_seconds)
}

/// The session policies, frozen: managed ones as they are in this world.
pub fn session_policies(
    world: &World,
    wished: &Wished,
    role: &RoleEntry,
) -> Result<Vec<String>, Refusal> {
    let mut documents: Vec<String> = wished.policy.iter().cloned().collect();
    for arn in &wished.policy_arns {
        let managed = is_of(arn, role).then(|| world.snapshot().policy(arn)).flatten();
        let Some(managed) = managed else {
            let message = format!(
                "`{}`: no managed policy of the role's account or of AWS",
                arn.escape_debug()
            );
            return Err(Refusal::invalid("policy_arns", message));
        };
        documents.push(packed(&managed.document.source()));
    }
    if let Some(scope) = &wished.scope {
        documents.push(scope.document(documents.is_empty()));
    }
    Ok(documents)
}

/// Whether a managed policy's ARN is of the role's account, or AWS's own.
fn is_of(arn: &str, role: &RoleEntry) -> bool {
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    match parts.as_slice() {
        ["arn", partition, "iam", "", account, policy] => {
            **partition == *role.partition
                && (*account == role.account.as_str() || *account == "aws")
                && policy.starts_with("policy/")
        }
        _ => false,
    }
}

/// What was asked for, and what a chaining session hands on, which nothing overrides (RULES.md X3, X4).
fn marks(asker: &Asker, wished: &Wished) -> Result<Result<Marks, Judgement>, Refusal> {
    let mut marks = Marks {
        tags: wished.tags.clone(),
        transitive_tag_keys: wished.transitive_tag_keys.clone(),
        source_identity: wished.source_identity.clone(),
    };
    let session = match asker {
        Asker::Identity(_) | Asker::WebIdentity(_) | Asker::Instance(_) => return Ok(Ok(marks)),
        Asker::Session(session) => session,
    };
    for key in &session.transitive_tag_keys {
        let given = wished.tags.keys().find(|given| given.to_lowercase() == key.to_lowercase());
        if let Some(given) = given {
            let message =
                format!("`{given}`: the session hands this tag on, and it cannot be set again");
            return Err(Refusal::invalid("tags", message));
        }
        let value = session.facts.session_tags.get(key).ok_or_else(|| cannot_be(key))?;
        marks.tags.insert(key.clone(), value.clone());
        marks.transitive_tag_keys.insert(key.clone());
    }
    if marks.tags.len() > MAX_TAGS {
        let message = format!("with those handed on {}: at most {MAX_TAGS}", marks.tags.len());
        return Err(Refusal::invalid("tags", message));
    }
    match (&session.facts.source_identity, &wished.source_identity) {
        (None, _) => {}
        (Some(own), Some(other)) if own != other => {
            let message =
                format!("the session's source identity is `{own}`, which cannot be changed");
            return Ok(Err(Judgement::denied(DecisionReason::SourceIdentitySet, message)));
        }
        (Some(own), Some(_) | None) => marks.source_identity = Some(own.clone()),
    }
    Ok(Ok(marks))
}

/// What the exchange itself adds to the context. `aws:SourceArn` there is none yet. Tags that are handed on are in the request too.
/// Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/id_session-tags.html>
fn exchange_keys(
    question: &AssumeRoleQuestion,
    marks: &Marks,
    role: &RoleEntry,
) -> Result<Context, DuplicateKey> {
    let mut keys = Context::new();
    add_role_tags(&mut keys, role)?;
    keys.insert("sts:RoleSessionName", question.role_session_name.as_str())?;
    keys.insert("countersign:ProofType", question.proof_type.as_str())?;
    keys.insert("countersign:ProofBound", question.proof_bound.to_string())?;
    keys.insert("countersign:ProofChallenged", question.proof_challenged.to_string())?;
    if let Some(external_id) = &question.external_id {
        keys.insert("sts:ExternalId", external_id.as_str())?;
    }
    keys.insert("aws:SourceIp", question.source_address.to_string())?;
    for (tag, value) in &marks.tags {
        keys.insert(format!("aws:RequestTag/{tag}"), value.as_str())?;
    }
    if !marks.tags.is_empty() {
        keys.insert("aws:TagKeys", marks.tags.keys().cloned().collect::<Vec<_>>())?;
    }
    if !marks.transitive_tag_keys.is_empty() {
        let transitive: Vec<_> = marks.transitive_tag_keys.iter().cloned().collect();
        keys.insert("sts:TransitiveTagKeys", transitive)?;
    }
    if let Some(source_identity) = &marks.source_identity {
        keys.insert("sts:SourceIdentity", source_identity.as_str())?;
    }
    Ok(keys)
}

/// The role's own tags: a Deny that asks for one must find it.
/// Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/access_tags.html>; sts:AssumeRole knows both names.
pub(crate) fn add_role_tags(keys: &mut Context, role: &RoleEntry) -> Result<(), DuplicateKey> {
    for (tag, value) in &role.tags {
        keys.insert(format!("aws:ResourceTag/{tag}"), value.as_str())?;
        keys.insert(format!("iam:ResourceTag/{tag}"), value.as_str())?;
    }
    Ok(())
}

/// The services that the caller may speak for towards this role, as it is now. The root speaks for nobody; nor does a session, whose
/// session policies would not limit the service; nor a web identity, which has no unique id to bind. An instance speaks for one already.
fn bound_services(world: &World, asker: &Asker, role: &RoleEntry) -> Vec<String> {
    let identity = match asker {
        Asker::Identity(identity) => identity,
        Asker::Session(_) | Asker::WebIdentity(_) | Asker::Instance(_) => return Vec::new(),
    };
    match &identity.arn {
        IamArn::User { .. } | IamArn::AssumedRole { .. } => {}
        IamArn::Root { .. } | IamArn::Role { .. } | IamArn::FederatedUser { .. } => {
            return Vec::new();
        }
    }
    let caller = CallerKey {
        realm: identity.realm,
        partition: identity.partition.clone(),
        account: identity.account,
        unique_id: identity.unique_id.clone(),
    };
    world
        .snapshot()
        .bindings(&caller, &role.arn())
        .filter(|binding| binding.role_id == role.unique_id)
        .map(|binding| binding.service_principal.clone())
        .collect()
}

fn is_external(principal: &Principal) -> bool {
    principal.realm() == Realm::Aws
}

/// Whether every statement that allowed says in so many words which unique id it means. One that does not would go on to allow whoever
/// has the name next, so the id is then pinned while it is still the first one's.
fn names_unique_id(verdict: &Verdict, role: &RoleEntry) -> bool {
    let statements = role.trust.document.statements();
    let names = |index: usize| {
        let found = statements.iter().find(|statement| statement.index == index);
        found.is_some_and(statement_names_unique_id)
    };
    let mut trusting = verdict
        .determining
        .iter()
        .filter(|determining| determining.policy_type == PolicyType::Trust)
        .peekable();
    trusting.peek().is_some() && trusting.all(|determining| names(determining.index))
}

/// `StringEquals` on `aws:userid`, without `IfExists`, set operator or variables: `"${aws:userid}"` names everybody.
fn statement_names_unique_id(statement: &Statement) -> bool {
    let equals = Operator { set: None, comparison: Comparison::StringEquals, if_exists: false };
    statement.conditions.iter().any(|condition| {
        condition.operator == equals
            && condition.key.eq_ignore_ascii_case("aws:userid")
            && !condition.values.iter().any(|value| value.value.text.contains("${"))
    })
}

#[cfg(test)]
mod tests;
