//! The verb of AuthorizeAssumeRole: may this identity assume that role?
//!
//! The trust policy decides, and for a local caller its own policies too. A caller that may not for itself may still speak for a
//! service principal, if it was bound to one towards this very role, and the trust policy names that service. Nothing here is a
//! token yet: the gateway spends the proof, pins an external caller's id, and signs.

use std::{sync::Arc, time::Instant};

use countersign_evaluator::{
    Context, Decision, ExternalPrincipal, PolicyType, Principal, Realm, Reason, Request, Resource,
    ResourceArn, Subject, SubjectError, Verdict, compiled,
    context::DuplicateKey,
    snapshot::{CallerKey, RoleEntry, Snapshot},
    subject::{external_subject, service_subject},
};
use countersign_policy::{
    action::Action,
    condition::{Comparison, Operator},
    document::Statement,
    principal::IamArn,
};
use countersign_proto::decision::v1::{AuthorizeAssumeRoleResponse, DecisionReason};
use countersign_replica::World;
use countersign_serve::ServiceName;

use crate::{
    authn::Caller,
    check::{self, Judgement},
    convert::{self, AssumeRoleQuestion, Identity, decision_name},
    decider::{self, Decider},
    error::Refusal,
    sentence::arn_noun,
};

const ACTION: &str = "sts:AssumeRole";
/// The one role that an account's root may assume; every account is seeded with it.
const ADMINISTRATOR: &str = "CountersignAdministrator";
/// <https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html>: the default is an hour.
const DEFAULT_DURATION: u32 = 3600;

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
}

/// Gateways ask this, and nobody else: whoever may say what a proof has shown may be anybody.
pub fn gateways_alone(caller: &Caller) -> Result<(), Refusal> {
    match caller {
        Caller::Service(ServiceName::Gateway) => Ok(()),
        Caller::Service(ServiceName::Decision) | Caller::Session(_) | Caller::Anonymous => {
            Err(Refusal::AccessDenied {
                caller: check::caller_name(caller),
                action: "countersign:AuthorizeAssumeRole".to_owned(),
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
    let view = decider.view(&question.at_least_revision, deadline).await?;
    let (judgement, grant) = decide(view.world(), &question, decider::now())?;
    let decision_id = decider::decision_id()?;
    tracing::info!(
        %decision_id,
        decision = decision_name(judgement.decision),
        reason = judgement.reason.as_str_name(),
        principal = %question.identity.arn,
        role = %question.role_arn,
        session = %question.role_session_name,
        revision = %view.revision(),
        "decided {ACTION}"
    );
    Ok(convert::assume_role_response(judgement, grant, view.revision(), decision_id))
}

/// Decides in one world. There is a grant exactly when it is allowed.
pub fn decide(
    world: &World,
    question: &AssumeRoleQuestion,
    now: i64,
) -> Result<(Judgement, Option<Grant>), Refusal> {
    let caller = match caller(world, question) {
        Ok(caller) => caller,
        Err(judgement) => return Ok((judgement, None)),
    };
    let Some(role) = check::role_by_arn(world, &question.role_arn) else {
        let message = format!("there is no role {}", question.role_arn);
        return Ok((Judgement::denied(DecisionReason::RoleNotFound, message), None));
    };
    let ask = |subject: &Subject, keys: &Context| {
        ask(world.snapshot(), subject, keys, question, role, now)
    };
    let keys = exchange_keys(question).map_err(cannot_be)?;
    let (request, own) = ask(&caller, &keys)?;
    if own.is_allow() {
        let pin_required = is_external(&caller.principal) && !names_unique_id(&own, role);
        return granted(Judgement::of(own, &request), question, role, None, pin_required);
    }
    // The caller's own Denies hold also when it speaks for a service, and so do those that are not at hand, and the bounds of its
    // organization, which no service has.
    let is_outside = own.reason == Reason::NotAllowedByScp;
    if own.decision == Decision::ExplicitDeny || check::is_unknown(&own) || is_outside {
        return Ok((Judgement::of(own, &request), None));
    }
    for service in bound_services(world, &question.identity, role) {
        let subject = service_subject(&service).map_err(cannot_be)?;
        let mut keys = keys.clone();
        keys.insert("aws:SourceAccount", role.account.as_str()).map_err(cannot_be)?;
        let (request, verdict) = ask(&subject, &keys)?;
        // "Of several bindings, those that the trust policy names count" (DESIGN.md section 7): one that it does not name, or denies,
        // takes nothing from the others.
        match verdict.decision {
            Decision::Allow => {
                // The binding itself names the caller's unique id, so there is nothing to pin.
                return granted(
                    Judgement::of(verdict, &request),
                    question,
                    role,
                    Some(service),
                    false,
                );
            }
            Decision::ExplicitDeny | Decision::ImplicitDeny => {}
        }
    }
    Ok((Judgement::of(own, &request), None))
}

/// One evaluation: the subject's own policies, if it has any, and the role's trust policy.
fn ask(
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
        action: ACTION.parse::<Action>().map_err(cannot_be)?,
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

fn granted(
    judgement: Judgement,
    question: &AssumeRoleQuestion,
    role: &Arc<RoleEntry>,
    service_principal: Option<String>,
    pin_required: bool,
) -> Result<(Judgement, Option<Grant>), Refusal> {
    let most = role.max_session_duration;
    let duration_seconds = match question.duration_seconds {
        None => DEFAULT_DURATION.min(most),
        Some(asked) if asked <= most => asked,
        // Said only to those who may assume the role: others have no business with its settings.
        Some(asked) => {
            let message = format!("{asked}: the role's MaxSessionDuration is {most} seconds");
            return Err(Refusal::invalid("duration_seconds", message));
        }
    };
    Ok((
        judgement,
        Some(Grant { role: role.clone(), duration_seconds, service_principal, pin_required }),
    ))
}

/// Who the identity is, in its realm.
fn caller(world: &World, question: &AssumeRoleQuestion) -> Result<Subject, Judgement> {
    let identity = &question.identity;
    let is_local = world.snapshot().is_local(identity.account);
    match (identity.realm, is_local) {
        (Realm::Countersign, true) => local(world, identity, &question.role_arn),
        (Realm::Aws, false) => external(identity),
        // A number is a local account or an external one, never both.
        (Realm::Aws, true) => {
            let message = format!(
                "realm conflict: account {} is local, and AWS does not speak for it",
                identity.account
            );
            Err(Judgement::denied(DecisionReason::ExternalPrincipal, message))
        }
        (Realm::Countersign, false) => {
            let message = format!(
                "realm conflict: account {} is not local, and Countersign does not speak for it",
                identity.account
            );
            Err(Judgement::denied(DecisionReason::ExternalPrincipal, message))
        }
    }
}

fn local(world: &World, identity: &Identity, role_arn: &IamArn) -> Result<Subject, Judgement> {
    let snapshot = world.snapshot();
    let name = identity.arn.to_string();
    match &identity.arn {
        IamArn::User { .. } => {
            // The id tells whether it is still the same user; the name may have been given to another.
            let same = snapshot
                .user_by_id(&identity.unique_id)
                .is_some_and(|user| user.arn() == identity.arn);
            if !same {
                return Err(check::absent(
                    &SubjectError::NoSuchUser(identity.unique_id.clone()),
                    &name,
                ));
            }
            snapshot.user_subject(&identity.arn).map_err(|error| check::absent(&error, &name))
        }
        IamArn::Root { partition, account } => {
            let administrator = IamArn::Role {
                partition: partition.clone(),
                account: *account,
                path: "/".to_owned(),
                name: ADMINISTRATOR.to_owned(),
            };
            if *role_arn != administrator {
                let message =
                    format!("{} may assume {administrator} alone", arn_noun(&identity.arn));
                return Err(Judgement::denied(DecisionReason::NoTrustAllow, message));
            }
            snapshot.root_subject(partition, *account).map_err(|error| check::absent(&error, &name))
        }
        // Countersign's sessions are tokens; its STS face knows users and the root.
        IamArn::Role { .. } | IamArn::AssumedRole { .. } | IamArn::FederatedUser { .. } => {
            let message =
                format!("{} cannot come from Countersign's own STS", arn_noun(&identity.arn));
            Err(Judgement::denied(DecisionReason::CannotEvaluate, message))
        }
    }
}

fn external(identity: &Identity) -> Result<Subject, Judgement> {
    let refused = |message: String| Judgement::denied(DecisionReason::ExternalPrincipal, message);
    // Roots and federated users are refused as proofs (DESIGN.md section 4); the type takes neither.
    let external = ExternalPrincipal::new(identity.arn.clone(), identity.unique_id.as_str())
        .map_err(|error| refused(error.to_string()))?;
    external_subject(external).map_err(|error| check::absent(&error, &identity.arn.to_string()))
}

/// What the exchange itself adds to the context. `aws:SourceArn` and session tags there are none yet.
fn exchange_keys(question: &AssumeRoleQuestion) -> Result<Context, DuplicateKey> {
    let mut keys = Context::new();
    keys.insert("sts:RoleSessionName", question.role_session_name.as_str())?;
    keys.insert("countersign:ProofType", question.proof_type.as_str())?;
    keys.insert("countersign:ProofBound", question.proof_bound.to_string())?;
    keys.insert("countersign:ProofChallenged", question.proof_challenged.to_string())?;
    if let Some(external_id) = &question.external_id {
        keys.insert("sts:ExternalId", external_id.as_str())?;
    }
    keys.insert("aws:SourceIp", question.source_address.to_string())?;
    Ok(keys)
}

/// The services that the caller may speak for towards this role, as it is now. The root speaks for nobody.
fn bound_services(world: &World, identity: &Identity, role: &RoleEntry) -> Vec<String> {
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
