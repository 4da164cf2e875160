//! The verb of AuthorizeExchange: may this token be exchanged for a narrower one of the same session?
//!
//! For its own audience it may, by whoever holds it: there is nothing that the new token can do and the old one cannot. Another audience
//! is for the subject's own policies to allow, whatever narrows the subject's token among them (ATTACKS 72); and who acts for it must be
//! allowed by both: by the subject's policies to receive it, and by its own to act (ATTACKS 76). Which audience may become which, and
//! what is minted, is the gateway's to say.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Instant, SystemTime},
};

use countersign_evaluator::{
    Context, Decision, Request, Resource, ResourceArn, Subject, compiled, context::DuplicateKey,
    snapshot::RoleEntry,
};
use countersign_proto::decision::v1::{AuthorizeExchangeResponse, DecisionReason};
use countersign_replica::{View, World};
use countersign_serve::ServiceName;

use crate::{
    assume_role::{add_role_tags, session_policies},
    authn::Caller,
    check::{self, Judgement},
    convert::{self, ExchangeQuestion, Possession, SubjectToken, decision_name},
    decider::{self, Decider},
    error::Refusal,
    log::Line,
    session::{self, Came, NoSession, OWN_AUDIENCE, Opened, Presented, Session},
};

/// The right of a subject to have its token exchanged.
pub const EXCHANGE_TOKEN: &str = "countersign:ExchangeToken";
/// The right of an actor to act for the sessions of a role.
pub const ACT_FOR: &str = "countersign:ActFor";

/// The tokens of one exchange, all of them good at one view.
pub struct Parties {
    /// Whose token is exchanged.
    pub subject: Session,
    /// Its audience.
    pub audience: String,
    /// Who is to act for it.
    pub actor: Option<Session>,
}

/// Answers AuthorizeExchange.
pub async fn authorize(
    decider: &Decider,
    question: ExchangeQuestion,
    deadline: Instant,
) -> Result<AuthorizeExchangeResponse, Refusal> {
    let now = decider::now();
    let (view, parties) = parties(decider, &question, now, deadline).await?;
    let (judgement, documents) = decide(view.world(), &parties, &question, now)?;
    let decision_id = decider::decision_id()?;
    let principal = parties.subject.arn.clone();
    tracing::info!(
        %decision_id,
        decision = decision_name(judgement.decision),
        reason = judgement.reason.as_str_name(),
        %principal,
        actor = parties.actor.as_ref().map(|actor| actor.arn.as_str()).unwrap_or_default(),
        audience = question.audience,
        revision = %view.revision(),
        "decided {EXCHANGE_TOKEN}"
    );
    decider.made(judgement.decision, &decision_id, || Line {
        at: SystemTime::now(),
        decision_id: decision_id.clone(),
        caller: check::caller_name(&Caller::Service(ServiceName::Gateway)),
        principal,
        action: EXCHANGE_TOKEN.to_owned(),
        resource: "*".to_owned(),
        judgement: judgement.clone(),
        revision: view.revision().clone(),
    });
    Ok(convert::exchange_response(judgement, documents, view.revision(), decision_id))
}

/// The asked revision is waited for first: what was revoked at it must be seen when the tokens are checked.
async fn parties(
    decider: &Decider,
    question: &ExchangeQuestion,
    now: i64,
    deadline: Instant,
) -> Result<(Arc<View>, Parties), Refusal> {
    decider.view(&question.at_least_revision, deadline).await?;
    let came = if question.is_introspection { Came::InQuestion } else { Came::ToGateway };
    let open = async |token: &SubjectToken, audience, possession: &Possession| {
        let presented = Presented { token: &token.0, audience, possession, came };
        session::open(decider, presented, now, deadline).await.map_err(NoSession::of_subject)
    };
    let possession = &question.possession;
    let Opened { view, session: subject, signed } =
        open(&question.subject_token, None, possession).await?;
    let audience = signed.audience().to_owned();
    let Some(token) = &question.actor_token else {
        // The gateway has looked; that a token tells who may act is here for whoever asks in another way.
        if !question.is_introspection && !signed.may_be_exchanged_by(None) {
            return Err(Refusal::MayNotAct);
        }
        decider::satisfies(&view, &question.at_least_revision)?;
        return Ok((view, Parties { subject, audience, actor: None }));
    };
    // There is one proof, of one key: where both tokens are bound to keys, they are bound to the same.
    let opened = open(token, Some(OWN_AUDIENCE), possession).await?;
    let Opened { view, session: actor, signed: of_actor } = opened;
    if !signed.may_be_exchanged_by(Some(&of_actor)) {
        return Err(Refusal::MayNotAct);
    }
    decider::satisfies(&view, &question.at_least_revision)?;
    // It may be a later view than the one at which the subject's token was good.
    session::not_revoked(&signed, &view).map_err(NoSession::of_subject)?;
    if view.world().keys().lookup(signed.kid()).is_none_or(|key| key.revoked) {
        return Err(Refusal::SubjectTokenRevoked);
    }
    Ok((view, Parties { subject, audience, actor: Some(actor) }))
}

/// Decides in one world; with an allowance come the documents that narrow the new token.
pub fn decide(
    world: &World,
    parties: &Parties,
    question: &ExchangeQuestion,
    now: i64,
) -> Result<(Judgement, Vec<String>), Refusal> {
    let Parties { subject, audience, actor } = parties;
    let (own, role) = match standing(world, subject) {
        Ok(found) => found,
        Err(judgement) => return Ok((judgement, Vec::new())),
    };
    let mut judgement = Judgement {
        decision: Decision::Allow,
        reason: DecisionReason::AllowedAsNarrowing,
        message: format!("a token for `{audience}` may be narrowed by whoever holds it"),
        determining: Vec::new(),
    };
    if *audience != question.audience || actor.is_some() {
        let keys = keys(question, actor.as_ref()).map_err(cannot_be)?;
        judgement = ask(world, &own, EXCHANGE_TOKEN, check::anything(), &keys, now)?;
    }
    if let (Decision::Allow, Some(actor)) = (judgement.decision, actor) {
        let acting = match standing(world, actor) {
            Ok((acting, _)) => acting,
            Err(judgement) => return Ok((judgement, Vec::new())),
        };
        let mut keys = keys(question, Some(actor)).map_err(cannot_be)?;
        add_role_tags(&mut keys, role).map_err(cannot_be)?;
        let arn = role.arn().to_string().parse().map_err(cannot_be)?;
        let resource = Resource { arn: ResourceArn::Arn(arn), account: Some(role.account) };
        judgement = ask(world, &acting, ACT_FOR, resource, &keys, now)?;
    }
    let documents = match judgement.decision {
        Decision::Allow => session_policies(world, &question.wished, role)?,
        Decision::ExplicitDeny | Decision::ImplicitDeny => Vec::new(),
    };
    Ok((judgement, documents))
}

/// A session with its policies, and its role, if there still is one.
fn standing<'w>(
    world: &'w World,
    session: &Session,
) -> Result<(Subject, &'w Arc<RoleEntry>), Judgement> {
    let subject = world
        .snapshot()
        .session_subject(&session.facts)
        .map_err(|error| check::absent(&error, &session.arn))?;
    let role = world.snapshot().role(session.facts.account, &session.facts.role_name);
    let gone = || Judgement::denied(DecisionReason::RoleNotFound, "the session's role is gone");
    Ok((subject, role.ok_or_else(gone)?))
}

fn keys(question: &ExchangeQuestion, actor: Option<&Session>) -> Result<Context, DuplicateKey> {
    let mut keys = Context::new();
    let address: IpAddr = question.source_address;
    keys.insert("aws:SourceIp", address.to_string())?;
    keys.insert("countersign:Audience", question.audience.as_str())?;
    if let Some(actor) = actor {
        keys.insert("countersign:ActorArn", actor.arn.as_str())?;
    }
    Ok(keys)
}

/// One evaluation, by the session's own policies: nothing of Countersign's has a policy of its own.
fn ask(
    world: &World,
    subject: &Subject,
    action: &str,
    resource: Resource,
    keys: &Context,
    now: i64,
) -> Result<Judgement, Refusal> {
    let account = resource.account.or_else(|| subject.principal.account());
    let context = subject.context(keys, now, account).map_err(cannot_be)?;
    let action = action.parse().map_err(cannot_be)?;
    let mut policies = subject.policy_set();
    world.snapshot().add_guardrails(&mut policies, &subject.principal, &action, account);
    let request = Request { principal: subject.principal.clone(), action, resource, context };
    Ok(Judgement::of(compiled::decide(&request, &policies), &request))
}

/// None of these can happen with what has been parsed; if one does, there is no answer, and so no token.
fn cannot_be(error: impl std::fmt::Display) -> Refusal {
    Refusal::invalid("subject_token", error.to_string())
}

#[cfg(test)]
mod tests;
