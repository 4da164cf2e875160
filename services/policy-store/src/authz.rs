//! Who may do what here: Countersign's own policies decide, by the same evaluator that decides for everybody else.
//!
//! A [`Permit`] is what an operation asks for, and only this module makes one. It holds the account that the caller may act in,
//! which is the caller's own.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use countersign_evaluator::{
    Context, Reason, Request, Resource, SessionFacts, SubjectError, reference, subject::Subject,
};
use countersign_policy::{arn::AccountId, parse};
use countersign_proto::policy::v1::{Record, RoleRecord, record};
use countersign_replica::World;
use countersign_serve::ServiceName;
use countersign_store::Store;
use countersign_token::Claims;

use crate::{account::ADMINISTRATOR, authn::Caller, error::Error, layout};

/// What is asked of a caller.
pub struct Ask {
    action: &'static str,
    resource: String,
    context: Vec<(&'static str, String)>,
}

impl Ask {
    /// `action` on `resource`, an ARN or `*`.
    pub fn new(action: &'static str, resource: impl Into<String>) -> Self {
        Self { action, resource: resource.into(), context: Vec::new() }
    }

    /// With a condition key that AWS documents for the action.
    pub fn with(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.context.push((key, value.into()));
        self
    }
}

/// A caller that may do what was asked. INVARIANT: made by [`Authorizer`] alone.
#[derive(Debug)]
pub struct Permit {
    account: AccountId,
    principal_arn: String,
}

impl Permit {
    /// The account that the caller acts in: its own.
    pub fn account(&self) -> &AccountId {
        &self.account
    }
}

/// Decides about callers.
#[derive(Clone)]
pub struct Authorizer {
    pub store: Arc<dyn Store>,
}

impl Authorizer {
    /// Whether a role session may do all that is asked; parts of Countersign may do none of it.
    ///
    /// # Errors
    /// `AccessDenied` that names the caller, the action and the resource.
    pub async fn permit(
        &self,
        caller: &Caller,
        source: Option<IpAddr>,
        asks: &[Ask],
    ) -> Result<Permit, Error> {
        let claims = session(caller, asks)?;
        let account: AccountId =
            claims.session.account.parse().map_err(|_| denied(claims, asks))?;
        let subject = self.subject(claims).await?;
        for ask in asks {
            decide(&subject, claims, &account, source, ask)?;
        }
        Ok(Permit { account, principal_arn: claims.sub.clone() })
    }

    /// Somebody of the first account whose policies allow it.
    pub async fn operator_account(
        &self,
        caller: &Caller,
        source: Option<IpAddr>,
        ask: Ask,
    ) -> Result<Permit, Error> {
        let permit = self.permit(caller, source, &[ask]).await?;
        let account = self.find(layout::account(permit.account.as_str()).as_bytes()).await?;
        match account.and_then(|record| record.record) {
            Some(record::Record::Account(account)) if account.operator => Ok(permit),
            _ => Err(Error::AccessDenied {
                message: format!("{}: only the first account may do this", permit.principal_arn),
            }),
        }
    }

    /// The operator: the administrator of the first account, and its policies must say so too.
    pub async fn operator(
        &self,
        caller: &Caller,
        source: Option<IpAddr>,
        ask: Ask,
    ) -> Result<Permit, Error> {
        let permit = self.operator_account(caller, source, ask).await?;
        match caller {
            Caller::Session(claims) if claims.session.role_name == ADMINISTRATOR => Ok(permit),
            Caller::Session(_) | Caller::Service(_) => Err(Error::AccessDenied {
                message: format!(
                    "{}: only the operator, which is the {ADMINISTRATOR} of the first account, may do this",
                    permit.principal_arn
                ),
            }),
        }
    }

    /// The caller with its policies, as the store has them at this moment.
    async fn subject(&self, claims: &Claims) -> Result<Subject, Error> {
        let gone = |error: SubjectError| Error::AccessDenied {
            message: format!("{}: the session is over: {error}", claims.sub),
        };
        let session = &claims.session;
        let account: AccountId = session
            .account
            .parse()
            .map_err(|_| gone(SubjectError::NoSuchRole(session.role_name.clone())))?;
        let mut world = World::default();
        let key = layout::role(&account, &session.role_name);
        if let Some(role) = self.find(key.as_bytes()).await? {
            for arn in attached(&role) {
                let Ok((owner, _, name)) = crate::iam::name::parse_policy_arn("policy_arn", arn)
                else {
                    continue;
                };
                if let Some(policy) = self.find(layout::policy(owner, name).as_bytes()).await? {
                    put(&mut world, &policy)?;
                }
            }
            put(&mut world, &role)?;
        }
        let facts = SessionFacts {
            account,
            partition: session.partition.clone(),
            role_name: session.role_name.clone(),
            role_id: session.role_id.clone(),
            session_name: session.session_name.clone(),
            issued_at: claims.iat,
            session_policies: session_policies(claims)?,
            session_tags: session.session_tags.clone().into_iter().collect::<BTreeMap<_, _>>(),
            source_identity: session.source_identity.clone(),
        };
        world.snapshot().session_subject(&facts).map_err(gone)
    }

    async fn find(&self, key: &[u8]) -> Result<Option<Record>, Error> {
        let Some(entry) = self.store.get(key).await? else { return Ok(None) };
        layout::record(key, &entry.value).map_err(|error| Error::Damaged {
            key: String::from_utf8_lossy(key).into_owned(),
            error: error.to_string(),
        })
    }
}

/// The one service that may make a call that belongs to gateways.
///
/// # Errors
/// `AccessDenied` for everybody else.
pub fn gateway(caller: &Caller, rpc: &'static str) -> Result<ServiceName, Error> {
    match caller {
        Caller::Service(ServiceName::Gateway) => Ok(ServiceName::Gateway),
        Caller::Service(name @ ServiceName::Decision) => Err(Error::AccessDenied {
            message: format!("{rpc} is for gateways alone, not for {name}"),
        }),
        Caller::Session(claims) => Err(Error::AccessDenied {
            message: format!("{rpc} is for gateways alone, not for {}", claims.sub),
        }),
    }
}

fn session<'a>(caller: &'a Caller, asks: &[Ask]) -> Result<&'a Claims, Error> {
    match caller {
        Caller::Session(claims) => Ok(claims),
        Caller::Service(name) => Err(Error::AccessDenied {
            message: format!("the service `{name}` may not perform {}", actions(asks)),
        }),
    }
}

fn decide(
    subject: &Subject,
    claims: &Claims,
    account: &AccountId,
    source: Option<IpAddr>,
    ask: &Ask,
) -> Result<(), Error> {
    let denied = |why: &str| Error::AccessDenied {
        message: format!(
            "{} is not authorized to perform: {} on resource: {}: {why}",
            claims.sub, ask.action, ask.resource
        ),
    };
    let unreadable = |_| denied("the question cannot be put");
    let mut brought = Context::new();
    for (key, value) in &ask.context {
        brought.insert(*key, value.as_str()).map_err(|_| denied("a condition key twice"))?;
    }
    if let Some(address) = source {
        brought.insert("aws:SourceIp", address.to_string()).map_err(|_| denied("aws:SourceIp"))?;
    }
    let context = subject
        .context(&brought, crate::now().seconds, Some(*account))
        .map_err(|_| denied("the question cannot be put"))?;
    let request = Request {
        principal: subject.principal.clone(),
        action: ask.action.parse().map_err(|_| denied("the question cannot be put"))?,
        resource: Resource {
            arn: ask.resource.parse().map_err(unreadable)?,
            account: Some(*account),
        },
        context,
    };
    let verdict = reference::decide(&request, &subject.policy_set());
    if verdict.is_allow() {
        return Ok(());
    }
    Err(denied(match verdict.reason {
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
    }))
}

fn denied(claims: &Claims, asks: &[Ask]) -> Error {
    Error::AccessDenied {
        message: format!("{} is not authorized to perform: {}", claims.sub, actions(asks)),
    }
}

fn actions(asks: &[Ask]) -> String {
    asks.iter().map(|ask| ask.action).collect::<Vec<_>>().join(", ")
}

fn attached(role: &Record) -> &[String] {
    match &role.record {
        Some(record::Record::Role(RoleRecord { attached_policy_arns, .. })) => attached_policy_arns,
        _ => &[],
    }
}

fn put(world: &mut World, record: &Record) -> Result<(), Error> {
    world
        .put(record)
        .map_err(|error| Error::Damaged { key: record.key.clone(), error: error.to_string() })
}

/// A session policy that does not parse is not left out: the session can then do nothing.
fn session_policies(
    claims: &Claims,
) -> Result<Vec<Arc<countersign_policy::document::Document>>, Error> {
    claims
        .session
        .session_policies
        .iter()
        .map(|text| {
            parse::parse(text).map(Arc::new).map_err(|error| Error::AccessDenied {
                message: format!("{}: its session policy does not parse: {error}", claims.sub),
            })
        })
        .collect()
}
