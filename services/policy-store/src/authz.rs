//! Who may do what here: Countersign's own policies decide, by the same evaluator that decides for everybody else.
//!
//! The question is put inside the operation's own [`View`]: the caller's role, its policies, its signing key and the entity that is
//! asked about are read there, so all of them are preconditions of what is written. A right that was taken away, or an entity that
//! was moved, while the operation was on its way makes it begin again, and ask again.
//!
//! A [`Permit`] is what an operation asks for, and only this module makes one.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use countersign_evaluator::{
    Context, ContextValue, FederatedBy, Reason, Request, Resource, SessionFacts, Snapshot,
    SubjectError, compiled, snapshot::ROOT, subject::Subject,
};
use countersign_policy::{arn::AccountId, document::Document, parse};
use countersign_proto::policy::v1::Tag;
use countersign_replica::{Unreadable, records};
use countersign_serve::{Fault, ServiceName};
use countersign_token::{Claims, Realm};

use crate::{
    account::ADMINISTRATOR,
    authn::{Caller, SessionCaller},
    convert,
    error::Error,
    iam::name,
    layout,
    rpc::Call,
    view::View,
};

/// Units stand five deep; one more is damage.
const MAX_LEVELS: usize = 8;

/// What is asked of a caller.
pub struct Ask<'a> {
    action: &'static str,
    on: On<'a>,
    context: Vec<(Cow<'static, str>, ContextValue)>,
}

/// What it is asked about. Policies speak of ARNs, with paths; requests name entities, without.
pub enum On<'a> {
    /// An action that names no resource.
    Anything,
    /// Something that is not there yet, or whose ARN the request has.
    Arn(String),
    /// The role of this name, wherever it is; at `/` if there is none.
    Role(&'a str),
    /// The user of this name, wherever it is; at `/` if there is none.
    User(&'a str),
    /// The user of this name as it will be; empty texts leave it as it is.
    MovedUser { user_name: &'a str, new_path: &'a str, new_user_name: &'a str },
    /// The group of this name, wherever it is; at `/` if there is none.
    Group(&'a str),
    /// The group of this name as it will be; empty texts leave it as it is.
    MovedGroup { group_name: &'a str, new_path: &'a str, new_group_name: &'a str },
    /// A managed policy. One of another account is asked about as if it were the caller's own, so that the answer does not tell what
    /// other accounts hold.
    Policy(&'a str),
}

impl<'a> Ask<'a> {
    /// `action` on something.
    pub fn new(action: &'static str, on: On<'a>) -> Self {
        Self { action, on, context: Vec::new() }
    }

    /// With a condition key that AWS documents for the action.
    pub fn with(
        mut self,
        key: impl Into<Cow<'static, str>>,
        value: impl Into<ContextValue>,
    ) -> Self {
        self.context.push((key.into(), value.into()));
        self
    }

    /// With the keys of the tags that the request brings.
    pub fn tagged(mut self, tags: &[Tag]) -> Self {
        if tags.is_empty() {
            return self;
        }
        let keys: Vec<String> = tags.iter().map(|tag| tag.key.clone()).collect();
        self = self.with("aws:TagKeys", keys);
        for tag in tags {
            self = self.with(format!("aws:RequestTag/{}", tag.key), tag.value.as_str());
        }
        self
    }
}

/// A caller that may do what was asked, in one view. INVARIANT: made by [`permit`] alone.
#[derive(Clone, Debug)]
pub struct Permit {
    account: AccountId,
    role_name: String,
    principal_arn: String,
}

impl Permit {
    /// The account that the caller acts in: its own.
    pub fn account(&self) -> &AccountId {
        &self.account
    }

    /// Somebody of the first account.
    ///
    /// # Errors
    /// `AccessDenied` for everybody else.
    pub fn of_operator_account(&self, view: &View) -> Result<(), Error> {
        let account = view.find(&layout::account(self.account.as_str()))?;
        if account.is_some_and(|account| account.operator) {
            return Ok(());
        }
        let message = format!("{}: only the first account may do this", self.principal_arn);
        Err(Error::AccessDenied { message })
    }

    /// The operator: the administrator of the first account.
    ///
    /// # Errors
    /// `AccessDenied` for everybody else.
    pub fn of_operator(&self, view: &View) -> Result<(), Error> {
        self.of_operator_account(view)?;
        if self.is_administrator() {
            return Ok(());
        }
        let message = format!(
            "{}: only the operator, which is the {ADMINISTRATOR} of the first account, may do this",
            self.principal_arn
        );
        Err(Error::AccessDenied { message })
    }

    /// Whether the caller is its account's administrator role.
    pub fn is_administrator(&self) -> bool {
        self.role_name == ADMINISTRATOR
    }
}

/// Whether a role session may do all that is asked; parts of Countersign may do none of it.
///
/// # Errors
/// `AccessDenied` that names the caller, the action and the resource; UNAUTHENTICATED when its key has been revoked meanwhile.
pub fn permit(view: &View, call: &Call, asks: &[Ask<'_>]) -> Result<Permit, Error> {
    let caller = session(&call.caller, asks)?;
    let account = call.account()?;
    standing(view, caller)?;
    let known = known(view, &caller.claims, account)?;
    for ask in asks {
        decide(view, call, caller, &known, account, ask)?;
    }
    Ok(Permit {
        account,
        role_name: caller.claims.session.role_name.clone(),
        principal_arn: caller.claims.sub.clone(),
    })
}

/// A token's signature was checked at the door; whether its key still stands is seen here.
fn standing(view: &View, caller: &SessionCaller) -> Result<(), Error> {
    match view.find(&layout::signing_key(&caller.kid))? {
        Some(key) if !key.revoked => {}
        Some(_) | None => {
            let message = "the key that signed the token has been revoked";
            return Err(Fault::unauthenticated("RevokedKey", message).into());
        }
    }
    // Nor may a token have been that it was exchanged for.
    for name in std::iter::once(&caller.claims.jti).chain(&caller.claims.session.parents) {
        if view.find(&layout::revoked_token(name))?.is_some() {
            return Err(Fault::unauthenticated("RevokedToken", "the token was revoked").into());
        }
    }
    Ok(())
}

/// The one service that may make a call that belongs to gateways.
///
/// # Errors
/// `AccessDenied` for everybody else.
pub fn gateway(caller: &Caller, rpc: &'static str) -> Result<ServiceName, Error> {
    let refused = |who: &dyn std::fmt::Display| Error::AccessDenied {
        message: format!("{rpc} is for gateways alone, not for {who}"),
    };
    match caller {
        Caller::Service(ServiceName::Gateway) => Ok(ServiceName::Gateway),
        Caller::Service(name @ ServiceName::Decision) => Err(refused(name)),
        Caller::Session(session) => Err(refused(&session.claims.sub)),
    }
}

fn session<'a>(caller: &'a Caller, asks: &[Ask<'_>]) -> Result<&'a SessionCaller, Error> {
    match caller {
        Caller::Session(session) => Ok(session),
        Caller::Service(name) => {
            let actions: Vec<&str> = asks.iter().map(|ask| ask.action).collect();
            let message = format!("the service `{name}` may not perform {}", actions.join(", "));
            Err(Error::AccessDenied { message })
        }
    }
}

/// What is known of a caller in one view.
struct Known {
    /// With its policies.
    subject: Subject,
    /// With what stands over its account.
    snapshot: Snapshot,
}

/// The caller with its policies, as they are in this view.
fn known(view: &View, claims: &Claims, account: AccountId) -> Result<Known, Error> {
    let session = &claims.session;
    let mut snapshot = Snapshot::new();
    put_role(view, account, &session.role_name, &mut snapshot)?;
    put_organization(view, account, &mut snapshot)?;
    let facts = SessionFacts {
        account,
        partition: session.partition.clone(),
        role_name: session.role_name.clone(),
        role_id: session.role_id.clone(),
        session_name: session.session_name.clone(),
        issued_at: claims.iat,
        session_policies: documents(claims, &claims.session.session_policies)?,
        narrowings: narrowings(claims)?,
        session_tags: session.session_tags.clone().into_iter().collect::<BTreeMap<_, _>>(),
        source_identity: session.source_identity.clone(),
        federated: federated(claims)?,
    };
    let over = |error: SubjectError| Error::AccessDenied {
        message: format!("{}: the session is over: {error}", claims.sub),
    };
    let subject = snapshot.session_subject(&facts).map_err(over)?;
    Ok(Known { subject, snapshot })
}

/// A role and the managed policies that it has.
pub fn put_role(
    view: &View,
    account: AccountId,
    role_name: &str,
    snapshot: &mut Snapshot,
) -> Result<(), Error> {
    let Some(role) = view.find(&layout::role(&account, role_name))? else { return Ok(()) };
    let boundary = Some(&role.permissions_boundary_arn).filter(|arn| !arn.is_empty());
    put_policies(view, role.attached_policy_arns.iter().chain(boundary), snapshot)?;
    snapshot.put_role(records::role(&role).map_err(damaged)?);
    Ok(())
}

/// Managed policies. One that is not there is missed where it is attached, and denies.
pub fn put_policies<'a>(
    view: &View,
    arns: impl Iterator<Item = &'a String>,
    snapshot: &mut Snapshot,
) -> Result<(), Error> {
    for arn in arns {
        let Ok((owner, _, name)) = name::parse_policy_arn("policy_arn", arn) else { continue };
        if let Some(policy) = view.find(&layout::policy(owner, name))? {
            snapshot.put_policy(records::policy(&policy).map_err(damaged)?);
        }
    }
    Ok(())
}

/// The account and all that stands over it. What is named and not there is missed where it is needed, and denies.
pub fn put_organization(
    view: &View,
    account: AccountId,
    snapshot: &mut Snapshot,
) -> Result<(), Error> {
    let Some(record) = view.find(&layout::account(account.as_str()))? else { return Ok(()) };
    let mut guardrail_ids = record.guardrail_ids.clone();
    snapshot.put_account(records::account(&record).map_err(damaged)?);
    let mut next = record.parent_id;
    for _ in 0..MAX_LEVELS {
        let id = if next.is_empty() { ROOT } else { &next };
        let Some(unit) = view.find(&layout::unit(id))? else { break };
        guardrail_ids.extend(unit.guardrail_ids.iter().cloned());
        snapshot.put_unit(records::unit(&unit));
        if unit.id == ROOT {
            break;
        }
        next = unit.parent_id;
    }
    for id in guardrail_ids {
        if let Some(guardrail) = view.find(&layout::guardrail(&id))? {
            snapshot.put_guardrail(records::guardrail(&guardrail).map_err(damaged)?);
        }
    }
    Ok(())
}

pub fn damaged(error: Unreadable) -> Error {
    Error::Damaged { key: "of a principal".to_owned(), error: error.to_string() }
}

/// The web identity that the session began with, if it did.
fn federated(claims: &Claims) -> Result<Option<Box<FederatedBy>>, Error> {
    let caller = &claims.session.caller;
    match caller.realm {
        Realm::Countersign | Realm::Aws => Ok(None),
        Realm::WebIdentity => {
            let provider = caller.arn.parse().map_err(|error| Error::AccessDenied {
                message: format!("{}: its provider cannot be read: {error}", claims.sub),
            })?;
            let subject = caller.unique_id.clone();
            Ok(Some(Box::new(FederatedBy { provider, subject })))
        }
    }
}

/// A session policy that does not parse is not left out: the session can then do nothing.
fn documents(claims: &Claims, texts: &[String]) -> Result<Vec<Arc<Document>>, Error> {
    texts
        .iter()
        .map(|text| {
            parse::parse(text).map(Arc::new).map_err(|error| Error::AccessDenied {
                message: format!("{}: its session policy does not parse: {error}", claims.sub),
            })
        })
        .collect()
}

fn narrowings(claims: &Claims) -> Result<Vec<Vec<Arc<Document>>>, Error> {
    claims.session.narrowings.iter().map(|texts| documents(claims, texts)).collect()
}

/// The ARNs that are asked about, for the audit trail; each once.
pub fn about_what(view: &View, account: AccountId, asks: &[Ask<'_>]) -> Result<Vec<String>, Error> {
    let mut arns = Vec::new();
    for ask in asks {
        let arn = about(view, account, &ask.on)?.arn;
        if arn != "*" && !arns.contains(&arn) {
            arns.push(arn);
        }
    }
    Ok(arns)
}

/// What the question is about: its ARN, and what its own record says that policies ask about.
#[derive(Default)]
struct About {
    arn: String,
    tags: Vec<Tag>,
    /// Of a user or role; empty if it has none.
    permissions_boundary: String,
}

fn about(view: &View, account: AccountId, on: &On<'_>) -> Result<About, Error> {
    let bare = |arn: String| About { arn, ..About::default() };
    Ok(match on {
        On::Anything => bare("*".to_owned()),
        On::Arn(arn) => bare(arn.clone()),
        On::Role(role_name) => {
            name::name("role_name", role_name, 64)?;
            match view.find(&layout::role(&account, role_name))? {
                None => bare(name::role_arn(account, "/", role_name)),
                Some(role) => About {
                    arn: convert::role_arn(&role),
                    tags: role.tags,
                    permissions_boundary: role.permissions_boundary_arn,
                },
            }
        }
        On::User(user_name) => {
            name::name("user_name", user_name, 64)?;
            match view.find(&layout::user(&account, user_name))? {
                None => bare(name::user_arn(account, "/", user_name)),
                Some(user) => About {
                    arn: convert::user_arn(&user),
                    tags: user.tags,
                    permissions_boundary: user.permissions_boundary_arn,
                },
            }
        }
        On::MovedUser { user_name, new_path, new_user_name } => {
            name::name("user_name", user_name, 64)?;
            let found = view.find(&layout::user(&account, user_name))?;
            let (old_path, tags) =
                found.map_or_else(|| ("/".to_owned(), Vec::new()), |user| (user.path, user.tags));
            let path = if new_path.is_empty() { &old_path } else { *new_path };
            let new_name = if new_user_name.is_empty() { user_name } else { new_user_name };
            name::name("new_user_name", new_name, 64)?;
            let arn = name::user_arn(account, name::path("new_path", path)?, new_name);
            About { arn, tags, ..About::default() }
        }
        On::Group(group_name) => {
            name::name("group_name", group_name, 128)?;
            let found = view.find(&layout::group(&account, group_name))?;
            bare(found.map_or_else(
                || name::group_arn(account, "/", group_name),
                |group| convert::group_arn(&group),
            ))
        }
        On::MovedGroup { group_name, new_path, new_group_name } => {
            name::name("group_name", group_name, 128)?;
            let found = view.find(&layout::group(&account, group_name))?;
            let old_path = found.map_or_else(|| "/".to_owned(), |group| group.path);
            let path = if new_path.is_empty() { &old_path } else { *new_path };
            let new_name = if new_group_name.is_empty() { group_name } else { new_group_name };
            name::name("new_group_name", new_name, 128)?;
            bare(name::group_arn(account, name::path("new_path", path)?, new_name))
        }
        On::Policy(arn) => {
            let (owner, path, policy_name) = name::parse_policy_arn("policy_arn", arn)?;
            if owner == layout::AWS {
                return Ok(bare((*arn).to_owned()));
            }
            let own = name::policy_arn(account, path, policy_name);
            let found = view.find(&layout::policy(account.as_str(), policy_name))?;
            let tags = found.filter(|policy| policy.arn == own).map(|policy| policy.tags);
            About { arn: own, tags: tags.unwrap_or_default(), ..About::default() }
        }
    })
}

/// The actions that ask about the boundary that a user or role has already; those that set one bring it.
/// Source: <https://docs.aws.amazon.com/service-authorization/latest/reference/list_awsidentityandaccessmanagementiam.html>
const BOUNDED: [&str; 10] = [
    "iam:AttachRolePolicy",
    "iam:AttachUserPolicy",
    "iam:DeleteRolePermissionsBoundary",
    "iam:DeleteRolePolicy",
    "iam:DeleteUserPermissionsBoundary",
    "iam:DeleteUserPolicy",
    "iam:DetachRolePolicy",
    "iam:DetachUserPolicy",
    "iam:PutRolePolicy",
    "iam:PutUserPolicy",
];

fn decide(
    view: &View,
    call: &Call,
    caller: &SessionCaller,
    Known { subject, snapshot }: &Known,
    account: AccountId,
    ask: &Ask<'_>,
) -> Result<(), Error> {
    let About { arn: resource, tags, permissions_boundary } = about(view, account, &ask.on)?;
    let denied = |why: &str| Error::AccessDenied {
        message: format!(
            "{} is not authorized to perform: {} on resource: {resource}: {why}",
            caller.claims.sub, ask.action
        ),
    };
    let unclear = || denied("the question cannot be put");
    let mut brought = Context::new();
    for (key, value) in &ask.context {
        brought.insert(key.as_ref(), value.clone()).map_err(|_| unclear())?;
    }
    for Tag { key, value } in &tags {
        for prefix in ["aws:ResourceTag", "iam:ResourceTag"] {
            let key = format!("{prefix}/{key}");
            brought.insert(key, value.as_str()).map_err(|_| unclear())?;
        }
    }
    if BOUNDED.contains(&ask.action) && !permissions_boundary.is_empty() {
        let boundary = permissions_boundary.as_str();
        brought.insert("iam:PermissionsBoundary", boundary).map_err(|_| unclear())?;
    }
    // There is no TLS yet; a policy that demands it denies.
    brought.insert("aws:SecureTransport", "false").map_err(|_| unclear())?;
    if let Some(address) = call.source {
        brought.insert("aws:SourceIp", address.to_string()).map_err(|_| unclear())?;
    }
    let now = view.now().seconds;
    let request = Request {
        principal: subject.principal.clone(),
        action: ask.action.parse().map_err(|_| unclear())?,
        resource: Resource {
            arn: resource.parse().map_err(|_| unclear())?,
            account: Some(account),
        },
        context: subject.context(&brought, now, Some(account)).map_err(|_| unclear())?,
    };
    let mut policies = subject.policy_set();
    snapshot.add_guardrails(&mut policies, &request.principal, &request.action, Some(account));
    let verdict = compiled::decide(&request, &policies);
    if verdict.is_allow() { Ok(()) } else { Err(denied(why(verdict.reason))) }
}

fn why(reason: Reason) -> &'static str {
    match reason {
        Reason::NoIdentityAllow => "no identity policy allows it",
        Reason::DeniedByIdentityPolicy => "an identity policy denies it",
        Reason::DeniedBySessionPolicy | Reason::NotAllowedBySession => {
            "the session policy does not allow it"
        }
        Reason::DeniedByBoundary | Reason::NotAllowedByBoundary => {
            "the permissions boundary does not allow it"
        }
        Reason::DeniedByScp | Reason::NotAllowedByScp | Reason::DeniedByRcp => {
            "a guardrail forbids it"
        }
        Reason::CannotEvaluate => "a policy that bears on it cannot be evaluated",
        Reason::AllowedByIdentityPolicy
        | Reason::AllowedByResourcePolicy
        | Reason::AllowedByTrustPolicy
        | Reason::AllowedAsAccountRoot
        | Reason::DeniedByResourcePolicy
        | Reason::DeniedByTrustPolicy
        | Reason::NoResourceAllow
        | Reason::NoTrustAllow
        | Reason::ExternalPrincipal => "it is not allowed",
    }
}
