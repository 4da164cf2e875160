//! A verdict in one plain sentence, for whoever reads it at three in the morning. Nothing is decided here.

use countersign_evaluator::{Determining, PolicyType, Principal, Reason, Request, Verdict};
use countersign_policy::principal::IamArn;

/// What decided, or what was missing.
pub fn sentence(verdict: &Verdict, request: &Request) -> String {
    let who = noun(&request.principal);
    let (action, resource) = (&request.action, &request.resource.arn);
    match verdict.reason {
        Reason::AllowedByIdentityPolicy => allowed(verdict, PolicyType::Identity),
        Reason::AllowedByResourcePolicy => allowed(verdict, PolicyType::Resource),
        Reason::AllowedByTrustPolicy => allowed(verdict, PolicyType::Trust),
        Reason::AllowedAsAccountRoot => format!("{who} may do everything in its own account"),
        Reason::DeniedByIdentityPolicy
        | Reason::DeniedByResourcePolicy
        | Reason::DeniedByTrustPolicy
        | Reason::DeniedByBoundary
        | Reason::DeniedBySessionPolicy
        | Reason::DeniedByScp
        | Reason::DeniedByRcp => match verdict.determining.first() {
            Some(determining) => format!("denied by {}", statement(determining)),
            None => "denied by a statement".to_owned(),
        },
        Reason::NoIdentityAllow => {
            format!("no identity policy of {who} allows {action} on {resource}")
        }
        Reason::NoResourceAllow => {
            format!("no resource policy of {resource} allows {action} to {who}")
        }
        Reason::NoTrustAllow => {
            format!("the trust policy of {resource} does not allow {action} to {who}")
        }
        Reason::NotAllowedByBoundary => {
            format!("the permissions boundary of {who} does not allow {action} on {resource}")
        }
        Reason::NotAllowedBySession => {
            format!("no session policy of {who}'s session allows {action} on {resource}")
        }
        Reason::NotAllowedByScp => {
            format!("no service control policy allows {action} on {resource} at some level")
        }
        Reason::ExternalPrincipal => {
            format!("{who} is external: it may assume roles that trust it, and nothing else")
        }
        Reason::CannotEvaluate => {
            format!(
                "a policy that bears on {who} is not there, or cannot be evaluated; what it would deny is unknown"
            )
        }
    }
}

fn allowed(verdict: &Verdict, decided: PolicyType) -> String {
    let determining =
        verdict.determining.iter().find(|determining| determining.policy_type == decided);
    match determining.or(verdict.determining.first()) {
        Some(determining) => format!("allowed by {}", statement(determining)),
        None => "allowed".to_owned(),
    }
}

/// `statement NoDeletes of policy arn:…`; a statement without a Sid by its place, from 0.
fn statement(determining: &Determining) -> String {
    let Determining { policy_type, policy, version_id: _, sid, index, pointer: _ } = determining;
    let which = match sid {
        Some(sid) => format!("statement {sid}"),
        None => format!("statement number {index}"),
    };
    let of = match policy_type {
        PolicyType::Identity if policy.starts_with("arn:") => format!("policy {policy}"),
        PolicyType::Identity => format!("inline policy {policy}"),
        PolicyType::Resource => "the resource policy".to_owned(),
        PolicyType::Trust => "the trust policy".to_owned(),
        PolicyType::Boundary => format!("permissions boundary {policy}"),
        PolicyType::Session => "a session policy".to_owned(),
        PolicyType::Scp => format!("service control policy {policy}"),
        PolicyType::Rcp => format!("resource control policy {policy}"),
    };
    format!("{which} of {of}")
}

/// `role App`, also for its sessions: policies are the role's.
pub fn noun(principal: &Principal) -> String {
    match principal {
        Principal::User { arn, .. }
        | Principal::Role { arn, .. }
        | Principal::FederatedUser { arn } => arn_noun(arn),
        Principal::Session(session) => format!("role {}", session.role_name),
        Principal::AccountRoot { account, .. } => format!("the root of account {account}"),
        Principal::Service { name } => format!("service {name}"),
        Principal::External(external) => external.arn().to_string(),
        Principal::WebIdentity { provider } => format!("a web identity of {}", provider.provider),
    }
}

/// `user alice`.
pub fn arn_noun(arn: &IamArn) -> String {
    match arn {
        IamArn::Root { account, .. } => format!("the root of account {account}"),
        IamArn::User { name, .. } => format!("user {name}"),
        IamArn::Role { name, .. } => format!("role {name}"),
        IamArn::AssumedRole { role, session, .. } => format!("session {session} of role {role}"),
        IamArn::FederatedUser { name, .. } => format!("federated user {name}"),
    }
}
