//! The verb of Authorize and Explain: may this subject do that?
//!
//! In order: the caller must be a session; the revision that it asks for must have arrived; the subject's token must be good at that
//! revision; the caller must have the right to ask; only then is the subject looked up and the question decided. All of it is read
//! from one view.

use std::{net::IpAddr, sync::Arc, time::SystemTime};

use countersign_evaluator::{
    Attached, Context, Decision, Determining, PolicySet, Reason, Request, Resource, ResourceArn,
    Subject, Verdict,
    compiled::{self, Program},
    context::DuplicateKey,
    reference,
    snapshot::RoleEntry,
};
use countersign_policy::{action::Action, arn::AccountId, principal::IamArn};
use countersign_proto::decision::v1::{AuthorizeResponse, DecisionReason, ExplainResponse};
use countersign_replica::{View, World};
use countersign_serve::ServiceName;

pub use who::absent;
use who::{Who, owning_account, subject_of, who};

use crate::{
    authn::{Call, Caller},
    convert::{self, Asked, Check, Question, decision_name},
    decider::{self, Decider},
    effort,
    error::Refusal,
    log::Line,
    sentence::sentence,
    session::{OWN_AUDIENCE, Session},
};

/// A decision, as every answer carries it.
#[derive(Clone, Debug)]
pub struct Judgement {
    /// The decision.
    pub decision: Decision,
    /// What decided, or what was missing.
    pub reason: DecisionReason,
    /// The same for people.
    pub message: String,
    /// The statements that decided.
    pub determining: Vec<Determining>,
}

impl Judgement {
    /// An evaluator's verdict.
    pub fn of(verdict: Verdict, request: &Request) -> Self {
        let message = sentence(&verdict, request);
        let Verdict { decision, reason, determining } = verdict;
        Self { decision, reason: convert::reason(reason), message, determining }
    }

    /// A denial for which no policy had to be read.
    pub fn denied(reason: DecisionReason, message: impl Into<String>) -> Self {
        Self {
            decision: Decision::ImplicitDeny,
            reason,
            message: message.into(),
            determining: Vec::new(),
        }
    }
}

/// The right to ask.
pub const AUTHORIZE: &str = "countersign:Authorize";
/// The right to ask about a principal by its name.
pub const AUTHORIZE_PRINCIPAL: &str = "countersign:AuthorizePrincipal";
/// The right to ask why.
pub const EXPLAIN: &str = "countersign:Explain";

/// How much is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Depth {
    /// The decision.
    Answer,
    /// And what each statement had to do with it.
    Explanation,
}

/// A question that its caller may ask, at the view that it is answered at.
struct Posed {
    view: Arc<View>,
    /// The subject's ARN or name.
    principal: String,
    /// For the log.
    action: String,
    /// For the log.
    resource: String,
    matter: Matter,
}

#[derive(Debug)]
enum Matter {
    /// To be decided by policies.
    Open(Box<(Request, PolicySet)>),
    /// Decided already: there is nobody to decide about.
    Settled(Judgement),
}

impl Matter {
    fn judge(&self) -> Judgement {
        match self {
            Self::Open(matter) => {
                let (request, policies) = matter.as_ref();
                Judgement::of(compiled::decide(request, policies), request)
            }
            Self::Settled(judgement) => judgement.clone(),
        }
    }
}

/// Answers Authorize.
pub async fn authorize(
    decider: &Decider,
    call: &Call,
    question: Question,
) -> Result<AuthorizeResponse, Refusal> {
    let (posed, _) = pose(decider, call, question, Depth::Answer).await?;
    let judgement = posed.matter.judge();
    answer(decider, call, &posed, judgement)
}

/// The same, and whether the subject itself may see why: its own policies allow it `countersign:Explain` on the resource.
pub async fn authorize_and_see(
    decider: &Decider,
    call: &Call,
    question: Question,
) -> Result<(AuthorizeResponse, bool), Refusal> {
    let (posed, who) = pose(decider, call, question, Depth::Answer).await?;
    let judgement = posed.matter.judge();
    let may_see = match (who, &posed.matter) {
        (Who::Session(session), Matter::Open(matter)) => {
            let own = Call { caller: Caller::Session(Arc::new(session)), ..call.clone() };
            let (world, resource) = (posed.view.world(), &matter.0.resource);
            require(world, &own, EXPLAIN, resource, decider::now()).is_ok()
        }
        (Who::Session(_) | Who::Principal(_) | Who::Service(_), _) => false,
    };
    Ok((answer(decider, call, &posed, judgement)?, may_see))
}

/// Answers Explain.
pub async fn explain(
    decider: &Decider,
    call: &Call,
    question: Question,
) -> Result<ExplainResponse, Refusal> {
    let (posed, _) = pose(decider, call, question, Depth::Explanation).await?;
    match &posed.matter {
        Matter::Open(matter) => {
            let (request, policies) = matter.as_ref();
            let explanation = countersign_evaluator::explain(request, policies);
            let judgement = Judgement::of(explanation.verdict.clone(), request);
            Ok(convert::explain_response(
                answer(decider, call, &posed, judgement)?,
                &explanation,
                policies,
            ))
        }
        Matter::Settled(judgement) => {
            let answer = answer(decider, call, &posed, judgement.clone())?;
            Ok(ExplainResponse { answer: Some(answer), ..Default::default() })
        }
    }
}

fn answer(
    decider: &Decider,
    call: &Call,
    posed: &Posed,
    judgement: Judgement,
) -> Result<AuthorizeResponse, Refusal> {
    let decision_id = decider::decision_id()?;
    tracing::debug!(
        %decision_id,
        decision = decision_name(judgement.decision),
        reason = judgement.reason.as_str_name(),
        principal = %posed.principal,
        action = %posed.action,
        resource = %posed.resource,
        revision = %posed.view.revision(),
        "decided"
    );
    decider.made(judgement.decision, &decision_id, || Line {
        at: SystemTime::now(),
        decision_id: decision_id.clone(),
        caller: caller_name(&call.caller),
        principal: posed.principal.clone(),
        action: posed.action.clone(),
        resource: posed.resource.clone(),
        judgement: judgement.clone(),
        revision: posed.view.revision().clone(),
    });
    let age = decider.replica().age();
    Ok(convert::authorize_response(
        judgement,
        posed.principal.clone(),
        posed.view.revision(),
        age,
        decision_id,
    ))
}

async fn pose(
    decider: &Decider,
    call: &Call,
    question: Question,
    depth: Depth,
) -> Result<(Posed, Who), Refusal> {
    let Question { subject, check, at_least_revision } = question;
    let is_of_caller = match &subject {
        Asked::Token { audience, .. } => audience == OWN_AUDIENCE,
        Asked::Principal(_) | Asked::Service(_) => false,
    };
    if !is_gateways_own(call, is_of_caller, &check, depth) {
        sessions_alone(call, depth, &check.resource)?;
    }
    let now = decider::now();
    let (view, who) = who(decider, subject, &at_least_revision, now, call.deadline).await?;
    let (action, resource) = (check.action.to_string(), check.resource.to_string());
    let matter = consider(view.world(), call, &who, check, depth, now)?;
    Ok((Posed { view, principal: who.name(), action, resource, matter }, who))
}

/// What is to be decided, once it is known that the caller may ask.
fn consider(
    world: &World,
    call: &Call,
    who: &Who,
    check: Check,
    depth: Depth,
    now: i64,
) -> Result<Matter, Refusal> {
    let account = owning_account(check.owner, &check.resource, who)?;
    let resource = Resource { arn: check.resource.clone(), account };
    let is_of_caller = matches!(who, Who::Session(_));
    if !is_gateways_own(call, is_of_caller, &check, depth) {
        may_ask(world, call, who, &resource, depth, now)?;
    }
    let matter = matter(world, who, check, resource, now)?;
    if let Matter::Open(open) = &matter {
        let (request, policies) = open.as_ref();
        effort::affordable(request, policies, depth == Depth::Explanation)?;
    }
    Ok(matter)
}

/// What is to be decided of this subject.
fn matter(
    world: &World,
    who: &Who,
    check: Check,
    resource: Resource,
    now: i64,
) -> Result<Matter, Refusal> {
    let Check { action, resource: _, owner: _, context, resource_policy } = check;
    let account = resource.account;
    let subject = match subject_of(world, who) {
        Ok(subject) => subject,
        Err(judgement) => return Ok(Matter::Settled(judgement)),
    };
    let context = subject
        .context(&context, now, account)
        .map_err(|error| Refusal::invalid("context", error.to_string()))?;
    let mut policies = subject.policy_set();
    let stored = stored_policy(world, &action, &resource);
    if let (Some(_), Some((stored, _))) = (&resource_policy, stored) {
        let message = format!("refused: a policy is stored for `{}`", stored.name);
        return Err(Refusal::invalid("resource_policy_document", message));
    }
    policies.resource = resource_policy.map(convert::resource_policy_attached);
    if let Some((stored, program)) = stored {
        policies.resource = Some(stored.clone());
        policies.programs.push(program.clone());
    }
    // A role may be assumed only as its trust policy says, which the store knows: no identity policy is enough.
    if reference::is_role_assumption_action(&action) {
        let role = role_asked_about(world, &resource.arn);
        policies.resource = role.map(|role| role.trust.clone());
        let program = role.and_then(|role| world.snapshot().trust_program(role));
        policies.programs.extend(program.cloned());
    }
    world.snapshot().add_guardrails(&mut policies, &subject.principal, &action, account);
    let request = Request { principal: subject.principal, action, resource, context };
    Ok(Matter::Open(Box::new((request, policies))))
}

/// The caller's rights, all of them on the resource asked about.
fn may_ask(
    world: &World,
    call: &Call,
    who: &Who,
    resource: &Resource,
    depth: Depth,
    now: i64,
) -> Result<(), Refusal> {
    let caller = &call.caller;
    match (caller, who, depth) {
        // On a closed network whoever was shown a token may ask about its bearer.
        (Caller::Anonymous, Who::Session(_), Depth::Answer) => return Ok(()),
        (Caller::Anonymous | Caller::Session(_) | Caller::Service(_), _, _) => {}
    }
    require(world, call, AUTHORIZE, resource, now)?;
    match who {
        // Whoever holds a token was shown it by its bearer.
        Who::Session(_) => {}
        Who::Service(_) => require(world, call, AUTHORIZE_PRINCIPAL, resource, now)?,
        Who::Principal(arn) => {
            require(world, call, AUTHORIZE_PRINCIPAL, resource, now)?;
            // The answers would tell what another tenant's principals may do. An account that is not local is nobody's tenant, and
            // there is nothing to learn of it.
            if is_foreign(caller, who) && world.snapshot().is_local(arn.account()) {
                return Err(denied(
                    caller,
                    AUTHORIZE_PRINCIPAL,
                    arn,
                    ": the principal is of another account",
                ));
            }
        }
    }
    match depth {
        Depth::Answer => Ok(()),
        Depth::Explanation => {
            require(world, call, EXPLAIN, resource, now)?;
            // A token that was shown for an answer is no leave to read the policies of the tenant that it comes from.
            if is_foreign(caller, who) {
                return Err(denied(
                    caller,
                    EXPLAIN,
                    who.name(),
                    ": the principal is of another account, whose policies it would show",
                ));
            }
            Ok(())
        }
    }
}

fn is_foreign(caller: &Caller, who: &Who) -> bool {
    who.account().is_some_and(|account| caller_account(caller) != Some(account))
}

/// The stored policy of what is asked about, in the account that owns it. It speaks of the owning service's actions: who may ask about
/// a resource is for the account's other policies to say, as in [`require`].
fn stored_policy<'a>(
    world: &'a World,
    action: &Action,
    resource: &Resource,
) -> Option<(&'a Attached, &'a Program)> {
    if convert::is_own_action(action) {
        return None;
    }
    match &resource.arn {
        ResourceArn::Any => None,
        ResourceArn::Arn(arn) => {
            world.snapshot().resource_policy(resource.account?, &arn.to_string())
        }
    }
}

fn role_asked_about<'a>(world: &'a World, resource: &ResourceArn) -> Option<&'a Arc<RoleEntry>> {
    match resource {
        ResourceArn::Any => None,
        ResourceArn::Arn(arn) => role_by_arn(world, &IamArn::try_from(arn).ok()?),
    }
}

/// The role of exactly this ARN: another path is another role.
pub fn role_by_arn<'a>(world: &'a World, arn: &IamArn) -> Option<&'a Arc<RoleEntry>> {
    match arn {
        IamArn::Role { account, name, .. } => {
            world.snapshot().role(*account, name).filter(|role| role.arn() == *arn)
        }
        IamArn::Root { .. }
        | IamArn::User { .. }
        | IamArn::AssumedRole { .. }
        | IamArn::FederatedUser { .. } => None,
    }
}

/// An action that names no resource, in the principal's own account.
pub fn anything() -> Resource {
    Resource { arn: ResourceArn::Any, account: None }
}

/// The caller's own session at this view.
pub fn session_subject(world: &World, session: &Session) -> Result<Subject, Refusal> {
    let found = world.snapshot().session_subject(&session.facts);
    found.map_err(|error| Refusal::SessionOver(error.to_string()))
}

/// The caller's own policies must allow `action`; Countersign is a service like any other. The evaluator's rules for other accounts
/// hold: these resources have no resource policy, so another account's are denied. Nothing that the question asserts counts here: the
/// keys of the call itself are Countersign's own to set.
pub fn require(
    world: &World,
    call: &Call,
    action: &str,
    resource: &Resource,
    now: i64,
) -> Result<(), Refusal> {
    let Call { caller, source, deadline: _ } = call;
    let denied = || denied(caller, action, &resource.arn, "");
    let Caller::Session(session) = caller else { return Err(denied()) };
    let keys = source.ok_or_else(denied).and_then(|at| call_keys(at).map_err(|_| denied()))?;
    let subject = session_subject(world, session)?;
    let account = resource.account.or_else(|| subject.principal.account());
    let context = subject.context(&keys, now, account).map_err(|_| denied())?;
    let mut policies = subject.policy_set();
    let action = action.parse().map_err(|_| denied())?;
    world.snapshot().add_guardrails(&mut policies, &subject.principal, &action, account);
    let request =
        Request { principal: subject.principal, action, resource: resource.clone(), context };
    match compiled::decide(&request, &policies).decision {
        Decision::Allow => Ok(()),
        Decision::ExplicitDeny | Decision::ImplicitDeny => Err(denied()),
    }
}

/// What Countersign itself sees of a call.
fn call_keys(source: IpAddr) -> Result<Context, DuplicateKey> {
    let mut keys = Context::new();
    keys.insert("aws:SourceIp", source.to_string())?;
    // There is no TLS on this port yet.
    keys.insert("aws:SecureTransport", "false")?;
    Ok(keys)
}

/// The caller has no right to `action` on `resource`.
pub fn denied(
    caller: &Caller,
    action: &str,
    resource: impl ToString,
    because: &'static str,
) -> Refusal {
    Refusal::AccessDenied {
        caller: caller_name(caller),
        action: action.to_owned(),
        resource: resource.to_string(),
        because,
    }
}

/// Whether a gateway asks if its own caller may do what the gateway itself offers: a session, by a token for Countersign, and an action of
/// Countersign's.
fn is_gateways_own(call: &Call, is_of_caller: bool, check: &Check, depth: Depth) -> bool {
    matches!(call.caller, Caller::Service(ServiceName::Gateway))
        && is_of_caller
        && convert::is_own_action(&check.action)
        && depth == Depth::Answer
}

fn sessions_alone(call: &Call, depth: Depth, resource: &ResourceArn) -> Result<(), Refusal> {
    let action = match depth {
        Depth::Answer => AUTHORIZE,
        Depth::Explanation => EXPLAIN,
    };
    match &call.caller {
        Caller::Session(_) | Caller::Anonymous => Ok(()),
        Caller::Service(_) => Err(denied(
            &call.caller,
            action,
            resource,
            ": a service identity may call GetStatus, and a gateway's AuthorizeAssumeRole and AuthorizeExchange",
        )),
    }
}

fn caller_account(caller: &Caller) -> Option<AccountId> {
    match caller {
        Caller::Session(session) => Some(session.facts.account),
        Caller::Service(_) | Caller::Anonymous => None,
    }
}

/// A session's ARN; `the gateway`.
pub fn caller_name(caller: &Caller) -> String {
    match caller {
        Caller::Session(session) => session.arn.clone(),
        Caller::Service(name) => format!("the {name}"),
        Caller::Anonymous => "a caller without credentials".to_owned(),
    }
}

/// Whether a policy is missing, so that what it would deny is unknown.
pub fn is_unknown(verdict: &Verdict) -> bool {
    verdict.reason == Reason::CannotEvaluate
}

/// What is to be decided of a user or a role, whoever asks. None where there is nobody to decide about, or nothing.
pub fn matter_of(
    world: &World,
    principal: IamArn,
    check: Check,
    resource: Resource,
    now: i64,
) -> Result<Option<(Request, PolicySet)>, Refusal> {
    match matter(world, &Who::Principal(principal), check, resource, now)? {
        Matter::Open(open) => Ok(Some(*open)),
        Matter::Settled(_) => Ok(None),
    }
}

pub mod many;
#[cfg(test)]
mod tests;
mod who;
#[cfg(test)]
mod worst;
