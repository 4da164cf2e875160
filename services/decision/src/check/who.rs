//! Whom a question is about: from how it names them to the subject that the evaluator knows, or why there is none. It knows nothing of who
//! asks.

use std::{sync::Arc, time::Instant};

use countersign_evaluator::{ResourceArn, Subject, SubjectError, subject::service_subject};
use countersign_policy::{arn::AccountId, principal::IamArn};
use countersign_proto::decision::v1::DecisionReason;
use countersign_replica::{View, World};

use super::Judgement;
use crate::{
    convert::{Asked, Owner},
    decider::{self, Decider},
    error::Refusal,
    sentence::arn_noun,
    session::{self, Came, NoSession, Opened, Presented, Session},
};

/// Who is asked about, before it is known whether they exist.
pub enum Who {
    /// The bearer of a token that was checked.
    Session(Session),
    /// A user or a role.
    Principal(IamArn),
    /// A service principal.
    Service(String),
}

impl Who {
    /// The account that they are in; a service is in none.
    pub fn account(&self) -> Option<AccountId> {
        match self {
            Self::Session(session) => Some(session.facts.account),
            Self::Principal(arn) => Some(arn.account()),
            Self::Service(_) => None,
        }
    }

    /// As an answer names them.
    pub fn name(&self) -> String {
        match self {
            Self::Session(session) => session.arn.clone(),
            Self::Principal(arn) => arn.to_string(),
            Self::Service(name) => name.clone(),
        }
    }
}

/// The asked revision is waited for first: what was revoked at it must be seen when the token is checked.
pub async fn who(
    decider: &Decider,
    asked: Asked,
    at_least_revision: &str,
    now: i64,
    deadline: Instant,
) -> Result<(Arc<View>, Who), Refusal> {
    let view = decider.view(at_least_revision, deadline).await?;
    match asked {
        Asked::Principal(arn) => Ok((view, Who::Principal(arn))),
        Asked::Service(name) => Ok((view, Who::Service(name))),
        Asked::Token { token, audience, possession } => {
            let presented = Presented {
                token: &token,
                audience: Some(&audience),
                possession: &possession,
                came: Came::ToAsker,
            };
            let opened = session::open(decider, presented, now, deadline).await;
            let Opened { view, session, signed: _ } = opened.map_err(NoSession::of_subject)?;
            // Between the two waits the replica may have begun to follow another store.
            decider::satisfies(&view, at_least_revision)?;
            Ok((view, Who::Session(session)))
        }
    }
}

/// `*` is the principal's own; a service has none.
pub fn owning_account(
    owner: Owner,
    resource: &ResourceArn,
    who: &Who,
) -> Result<Option<AccountId>, Refusal> {
    let refused = |message: String| Err(Refusal::invalid("resource_account", message));
    match (owner, who.account(), resource) {
        (Owner::Account(account), _, _) => Ok(Some(account)),
        (Owner::Subject, Some(own), _) => Ok(Some(own)),
        (Owner::Subject, None, ResourceArn::Any) => Ok(None),
        (Owner::Subject, None, ResourceArn::Arn(_)) => refused(
            "`*`: a service principal has no account; send the owner's 12 digits".to_owned(),
        ),
        (Owner::SubjectIn(stated), Some(own), _) if stated != own => refused(format!(
            "`{stated}`: an action on `*` is in the principal's own account, `{own}`; leave it out"
        )),
        (Owner::SubjectIn(stated), Some(_) | None, _) => Ok(Some(stated)),
    }
}

/// The subject, with its policies; or why there is nobody to decide about.
pub fn subject_of(world: &World, who: &Who) -> Result<Subject, Judgement> {
    let snapshot = world.snapshot();
    let found = match who {
        Who::Session(session) => snapshot.session_subject(&session.facts),
        Who::Service(name) => service_subject(name),
        Who::Principal(arn) if !snapshot.is_local(arn.account()) => {
            return Err(external(&arn.to_string()));
        }
        Who::Principal(arn @ IamArn::User { .. }) => snapshot.user_subject(arn),
        Who::Principal(arn @ IamArn::Role { .. }) => snapshot.role_subject(arn),
        Who::Principal(
            arn @ (IamArn::Root { .. } | IamArn::AssumedRole { .. } | IamArn::FederatedUser { .. }),
        ) => {
            let message = format!("{} cannot be asked about by its ARN", arn_noun(arn));
            return Err(Judgement::denied(DecisionReason::CannotEvaluate, message));
        }
    };
    found.map_err(|error| absent(&error, &who.name()))
}

/// An external principal is denied everything but the roles that trust it.
pub fn external(principal: &str) -> Judgement {
    let message =
        format!("{principal} is external: it may assume roles that trust it, and nothing else");
    Judgement::denied(DecisionReason::ExternalPrincipal, message)
}

/// Why there is nobody to decide about.
pub fn absent(error: &SubjectError, principal: &str) -> Judgement {
    let reason = match error {
        SubjectError::NoSuchUser(_) | SubjectError::NoSuchRole(_) => {
            DecisionReason::PrincipalNotFound
        }
        SubjectError::RoleRecreated(_) => DecisionReason::RoleRecreated,
        SubjectError::SessionRevoked(_) => DecisionReason::SessionRevoked,
        SubjectError::NoSuchAccount(_) => return external(principal),
        SubjectError::DuplicateKey(_) | SubjectError::InvalidTime(_) => {
            DecisionReason::CannotEvaluate
        }
    };
    Judgement::denied(reason, error.to_string())
}
