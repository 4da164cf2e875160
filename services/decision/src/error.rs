//! Every way a question can be refused, and the one place where it becomes a [`Fault`]. A denial is no refusal: it is an answer.

use std::time::Duration;

use countersign_policy::Malformed;
use countersign_replica::Behind;
use countersign_serve::Fault;
use countersign_token::{DpopError, TokenError};
use tonic::Code;

/// Why a question is not answered.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// A field of the request is wrong.
    #[error("{field}: {message}")]
    Invalid {
        /// Its proto name.
        field: String,
        /// What is wrong with it, and what to send.
        message: String,
    },
    /// The resource policy is none.
    #[error("{field}: {malformed}")]
    Document {
        /// The field that holds it.
        field: &'static str,
        /// What is wrong with it, and where.
        malformed: Malformed,
    },
    /// The token that the caller asks about is refused.
    #[error("token: {0}")]
    SubjectToken(TokenError),
    /// The token that the caller asks about was revoked before its time.
    #[error("token: it was revoked")]
    SubjectTokenRevoked,
    /// The token says who alone may exchange it, and that is not who does.
    #[error("actor_token: the token's `may_act` names somebody else, who alone may exchange it")]
    MayNotAct,
    /// What came with the token that the caller asks about proves nothing.
    #[error("proof_of_possession: {0}")]
    Possession(DpopError),
    /// What came with the caller's own token proves nothing.
    #[error("{0}")]
    CallerPossession(DpopError),
    /// The caller's own token is refused.
    #[error("{0}")]
    CallerToken(TokenError),
    /// The caller's own token is good, but its session is over: its role is gone, or was made again.
    #[error("the session is over: {0}")]
    SessionOver(String),
    /// The caller's own token is of another store.
    #[error("the token was issued by another store, before an import or a restore; get a new one")]
    CallerTokenOfAnotherStore,
    /// The caller has no right to ask.
    #[error("{caller} is not authorized to perform: {action} on resource: {resource}{because}")]
    AccessDenied {
        /// Its ARN, or the service's name.
        caller: String,
        /// What it would have needed.
        action: String,
        /// On which resource.
        resource: String,
        /// More to say, beginning with a colon; or nothing.
        because: &'static str,
    },
    /// A revision that this replica is not at.
    #[error(transparent)]
    Behind(#[from] Behind),
    /// The system has no randomness to give.
    #[error("the system's random generator failed")]
    NoRandomness,
}

impl Refusal {
    /// The same of a question that is one of many, by the name of its place.
    #[must_use]
    pub fn within(self, place: &str) -> Self {
        match self {
            Self::Invalid { field, message } => {
                Self::Invalid { field: format!("{place}.{field}"), message }
            }
            other => other,
        }
    }

    /// The same of the field `name`, where it is of `field`.
    #[must_use]
    pub fn renamed(self, field: &str, name: &str) -> Self {
        match self {
            Self::Invalid { field: given, message } if given == field => {
                Self::Invalid { field: name.to_owned(), message }
            }
            other => other,
        }
    }

    /// A wrong field.
    pub fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Invalid { field: field.into(), message: message.into() }
    }
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        let said = refusal.to_string();
        match refusal {
            Refusal::Invalid { field, message } => Fault::invalid(field, message),
            Refusal::Document { field, malformed } => malformed.findings.into_iter().fold(
                Fault::new(Code::InvalidArgument, "MalformedPolicyDocument", said),
                |fault, finding| {
                    fault.violation(
                        format!("{field}:{}:{}", finding.line, finding.column),
                        finding.to_string(),
                    )
                },
            ),
            Refusal::SubjectToken(error) => Fault::new(Code::InvalidArgument, error.code(), said)
                .violation("token", error.to_string()),
            Refusal::SubjectTokenRevoked => {
                Fault::new(Code::InvalidArgument, "RevokedToken", said.clone())
                    .violation("token", said)
            }
            Refusal::MayNotAct => {
                Fault::new(Code::InvalidArgument, "ActorNotAllowed", said.clone())
                    .violation("actor_token", said)
            }
            // Of a full memory nobody could judge the proof.
            Refusal::Possession(DpopError::Busy) | Refusal::CallerPossession(DpopError::Busy) => {
                Fault::new(Code::ResourceExhausted, DpopError::Busy.code(), said)
                    .retry_after(Duration::from_secs(1))
            }
            Refusal::Possession(error) => Fault::new(Code::InvalidArgument, error.code(), said)
                .violation("proof_of_possession", error.to_string()),
            Refusal::CallerPossession(error) => Fault::unauthenticated(error.code(), said),
            Refusal::CallerToken(error) => Fault::unauthenticated(error.code(), said),
            Refusal::SessionOver(_) | Refusal::CallerTokenOfAnotherStore => {
                Fault::unauthenticated("InvalidToken", said)
            }
            Refusal::AccessDenied { .. } => {
                Fault::new(Code::PermissionDenied, "AccessDenied", said)
            }
            Refusal::Behind(Behind::Malformed(_)) => Fault::new(
                Code::InvalidArgument,
                "ValidationError",
                format!("at_least_revision: {said}"),
            )
            .violation("at_least_revision", said),
            Refusal::Behind(Behind::OtherStore { .. }) => {
                Fault::new(Code::FailedPrecondition, "OtherStore", said)
            }
            Refusal::Behind(Behind::NotYet { .. } | Behind::Empty) => {
                Fault::new(Code::Unavailable, "RevisionNotReached", said)
                    .retry_after(Duration::from_millis(500))
            }
            Refusal::Behind(Behind::Stale { .. }) => {
                Fault::new(Code::Unavailable, "SnapshotTooOld", said)
                    .retry_after(Duration::from_secs(1))
            }
            Refusal::NoRandomness => Fault::new(Code::Internal, "InternalFailure", said),
        }
    }
}

impl From<Refusal> for tonic::Status {
    fn from(refusal: Refusal) -> Self {
        Fault::from(refusal).into()
    }
}
