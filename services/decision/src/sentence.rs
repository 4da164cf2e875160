//! A verdict in one plain sentence, for whoever reads it at three in the morning. Nothing is decided here.

use std::fmt;

use countersign_evaluator::{
    Determining, PolicyType, Principal, Reason, Request, ResourceArn, Verdict,
};
use countersign_policy::principal::IamArn;

/// A verdict, as it is said.
pub struct Sentence<'a> {
    /// What decided, or what was missing.
    pub reason: Reason,
    /// Who asks: a [`noun`], in two pieces.
    pub who: (&'a str, &'a str),
    /// `orders:GetOrder`
    pub action: &'a str,
    /// An ARN, or `*`.
    pub resource: &'a str,
    /// The statement that is named where one decided.
    pub by: Option<By<'a>>,
}

/// A statement that decided.
#[derive(Clone, Copy)]
pub struct By<'a> {
    /// Its policy's type.
    pub policy_type: PolicyType,
    /// Its policy's ARN or name.
    pub policy: &'a str,
    /// Its Sid, if it has one.
    pub sid: Option<&'a str>,
    /// Its place, from 0.
    pub index: usize,
}

/// What decided, or what was missing.
pub fn sentence(verdict: &Verdict, request: &Request) -> String {
    let who = noun(&request.principal);
    let by = named(verdict.reason, || verdict.determining.iter(), |one| one.policy_type);
    let resource = match &request.resource.arn {
        ResourceArn::Any => "*",
        ResourceArn::Arn(arn) => arn.as_str(),
    };
    Sentence {
        reason: verdict.reason,
        who: ("", &who),
        action: request.action.as_str(),
        resource,
        by: by.map(|Determining { policy_type, policy, version_id: _, sid, index, pointer: _ }| {
            By { policy_type: *policy_type, policy, sid: sid.as_deref(), index: *index }
        }),
    }
    .to_string()
}

/// Of the statements that determined a verdict, the one to name: the first of the type that allowed, or else the first.
pub fn named<T, I: Iterator<Item = T>>(
    reason: Reason,
    determining: impl Fn() -> I,
    policy_type: impl Fn(&T) -> PolicyType,
) -> Option<T> {
    let allowed = match reason {
        Reason::AllowedByIdentityPolicy => Some(PolicyType::Identity),
        Reason::AllowedByResourcePolicy => Some(PolicyType::Resource),
        Reason::AllowedByTrustPolicy => Some(PolicyType::Trust),
        Reason::AllowedAsAccountRoot
        | Reason::DeniedByIdentityPolicy
        | Reason::DeniedByResourcePolicy
        | Reason::DeniedByTrustPolicy
        | Reason::DeniedByBoundary
        | Reason::DeniedBySessionPolicy
        | Reason::DeniedByScp
        | Reason::DeniedByRcp
        | Reason::NoIdentityAllow
        | Reason::NoResourceAllow
        | Reason::NoTrustAllow
        | Reason::NotAllowedByBoundary
        | Reason::NotAllowedBySession
        | Reason::NotAllowedByScp
        | Reason::ExternalPrincipal
        | Reason::CannotEvaluate => None,
    };
    let of_type = |one: &T| allowed.is_some_and(|allowed| policy_type(one) == allowed);
    determining().find(of_type).or_else(|| determining().next())
}

impl Sentence<'_> {
    /// Says it piece by piece.
    pub fn say(&self, say: &mut dyn FnMut(&str)) {
        let Self { reason, who: (kind, name), action, resource, by } = self;
        let all = |say: &mut dyn FnMut(&str), pieces: &[&str]| {
            for piece in pieces {
                say(piece);
            }
        };
        match reason {
            Reason::AllowedByIdentityPolicy
            | Reason::AllowedByResourcePolicy
            | Reason::AllowedByTrustPolicy => match by {
                Some(by) => {
                    say("allowed by ");
                    by.say(say);
                }
                None => say("allowed"),
            },
            Reason::AllowedAsAccountRoot => {
                all(say, &[kind, name, " may do everything in its own account"]);
            }
            Reason::DeniedByIdentityPolicy
            | Reason::DeniedByResourcePolicy
            | Reason::DeniedByTrustPolicy
            | Reason::DeniedByBoundary
            | Reason::DeniedBySessionPolicy
            | Reason::DeniedByScp
            | Reason::DeniedByRcp => match by {
                Some(by) => {
                    say("denied by ");
                    by.say(say);
                }
                None => say("denied by a statement"),
            },
            Reason::NoIdentityAllow => all(
                say,
                &["no identity policy of ", kind, name, " allows ", action, " on ", resource],
            ),
            Reason::NoResourceAllow => all(
                say,
                &["no resource policy of ", resource, " allows ", action, " to ", kind, name],
            ),
            Reason::NoTrustAllow => all(
                say,
                &["the trust policy of ", resource, " does not allow ", action, " to ", kind, name],
            ),
            Reason::NotAllowedByBoundary => all(
                say,
                &[
                    "the permissions boundary of ",
                    kind,
                    name,
                    " does not allow ",
                    action,
                    " on ",
                    resource,
                ],
            ),
            Reason::NotAllowedBySession => all(
                say,
                &[
                    "no session policy of ",
                    kind,
                    name,
                    "'s session allows ",
                    action,
                    " on ",
                    resource,
                ],
            ),
            Reason::NotAllowedByScp => all(
                say,
                &["no service control policy allows ", action, " on ", resource, " at some level"],
            ),
            Reason::ExternalPrincipal => all(
                say,
                &[kind, name, " is external: it may assume roles that trust it, and nothing else"],
            ),
            Reason::CannotEvaluate => all(
                say,
                &[
                    "a policy that bears on ",
                    kind,
                    name,
                    " is not there, or cannot be evaluated; what it would deny is unknown",
                ],
            ),
        }
    }
}

impl fmt::Display for Sentence<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said = Ok(());
        self.say(&mut |piece| said = said.and_then(|()| f.write_str(piece)));
        said
    }
}

/// `statement NoDeletes of policy arn:…`; a statement without a Sid by its place, from 0.
impl By<'_> {
    /// Says it piece by piece.
    pub fn say(&self, say: &mut dyn FnMut(&str)) {
        let Self { policy_type, policy, sid, index } = self;
        match sid {
            Some(sid) => {
                say("statement ");
                say(sid);
            }
            None => {
                say("statement number ");
                say(&index.to_string());
            }
        }
        let (before, policy) = match policy_type {
            PolicyType::Identity if policy.starts_with("arn:") => (" of policy ", *policy),
            PolicyType::Identity => (" of inline policy ", *policy),
            PolicyType::Resource => (" of the resource policy", ""),
            PolicyType::Trust => (" of the trust policy", ""),
            PolicyType::Boundary => (" of permissions boundary ", *policy),
            PolicyType::Session => (" of a session policy", ""),
            PolicyType::Scp => (" of service control policy ", *policy),
            PolicyType::Rcp => (" of resource control policy ", *policy),
        };
        say(before);
        say(policy);
    }
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
