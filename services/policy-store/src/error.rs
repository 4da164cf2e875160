//! What can go wrong, by IAM's names; and the one place where it becomes a gRPC answer.

use std::time::Duration;

use countersign_policy::parse::Malformed;
use countersign_serve::Fault;
use countersign_store::StoreError;
use tonic::{Code, Status};

use crate::view::Need;

/// Why an operation did not happen.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not an error: the operation has to see something first. Never leaves `view`.
    #[error("the operation was not run to its end")]
    Need(Need),
    #[error("there is no {kind} `{name}`")]
    NoSuchEntity { kind: &'static str, name: String },
    #[error("there is a {kind} `{name}` already; names are unique without regard to case")]
    EntityAlreadyExists { kind: &'static str, name: String },
    #[error("cannot delete {kind} `{name}`: it still has {what}; remove those first")]
    DeleteConflict { kind: &'static str, name: String, what: String },
    #[error("{what}: at most {limit}")]
    LimitExceeded { what: String, limit: usize },
    #[error("{field}: {malformed}")]
    MalformedPolicyDocument { field: &'static str, malformed: Malformed },
    #[error("{field}: invalid principal in policy: {message}")]
    InvalidPrincipal { field: &'static str, message: String },
    #[error("{field}: {message}")]
    Validation { field: &'static str, message: String },
    /// One of Organizations' own.
    #[error("{message}")]
    Named { reason: &'static str, message: String },
    #[error("{message}")]
    AccessDenied { message: String },
    #[error("`{what}` changed underneath; read it again, and try again")]
    Changed { what: String },
    #[error("others changed the same entities at the same time, again and again; try again")]
    ConcurrentModification,
    #[error("the proof was used before; make a new one for each exchange")]
    ProofAlreadyUsed,
    #[error(
        "`{principal}` is pinned to unique id `{pinned}`, and now has another: it was deleted and made again"
    )]
    PrincipalIdChanged { principal: String, pinned: String },
    #[error("{}", .0.message())]
    Fault(Box<Fault>),
    #[error("the record `{key}` cannot be read: {error}")]
    Damaged { key: String, error: String },
    #[error(
        "the record `{key}` was written by a newer version, in form {format}; run that version, or a later one"
    )]
    Newer { key: String, format: u8 },
    #[error("the operation read more entities than any may")]
    TooManyReads,
    #[error("the system's random generator failed")]
    NoRandomness,
    #[error("the disk under the audit trail is full; nothing was written")]
    TrailFull,
    #[error("a secret could not be opened: the sealing key is not the one it was sealed with")]
    Unsealed,
    #[error(transparent)]
    Store(StoreError),
}

impl Error {
    pub fn no_such(kind: &'static str, name: impl Into<String>) -> Self {
        Self::NoSuchEntity { kind, name: name.into() }
    }

    pub fn exists(kind: &'static str, name: impl Into<String>) -> Self {
        Self::EntityAlreadyExists { kind, name: name.into() }
    }

    /// One that Organizations has a name of its own for.
    pub fn named(reason: &'static str, message: impl Into<String>) -> Self {
        Self::Named { reason, message: message.into() }
    }

    pub fn validation(field: &'static str, message: impl Into<String>) -> Self {
        Self::Validation { field, message: message.into() }
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        Self::Fault(Box::new(fault))
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        let text = error.to_string();
        match error {
            Error::NoSuchEntity { .. } => Fault::new(Code::NotFound, "NoSuchEntity", text),
            Error::EntityAlreadyExists { .. } => {
                Fault::new(Code::AlreadyExists, "EntityAlreadyExists", text)
            }
            Error::DeleteConflict { .. } => {
                Fault::new(Code::FailedPrecondition, "DeleteConflict", text)
            }
            Error::LimitExceeded { .. } => {
                Fault::new(Code::ResourceExhausted, "LimitExceeded", text)
            }
            Error::MalformedPolicyDocument { field, malformed } => malformed.findings.iter().fold(
                Fault::new(Code::InvalidArgument, "MalformedPolicyDocument", text),
                |fault, finding| {
                    let place = format!("{field}:{}:{}", finding.line, finding.column);
                    fault.violation(place, finding.message.clone())
                },
            ),
            Error::InvalidPrincipal { field, message } => {
                Fault::new(Code::InvalidArgument, "MalformedPolicyDocument", text)
                    .violation(field, message)
            }
            Error::Validation { field, message } => Fault::invalid(field, message),
            Error::Named { reason, .. } => Fault::new(code_of(reason), reason, text),
            Error::AccessDenied { .. } => Fault::new(Code::PermissionDenied, "AccessDenied", text),
            Error::Changed { .. } | Error::ConcurrentModification => {
                Fault::new(Code::Aborted, "ConcurrentModification", text)
            }
            Error::ProofAlreadyUsed => Fault::new(Code::AlreadyExists, "ProofAlreadyUsed", text),
            Error::PrincipalIdChanged { .. } => {
                Fault::new(Code::FailedPrecondition, "PrincipalIdChanged", text)
            }
            Error::Fault(fault) => *fault,
            Error::Need(_)
            | Error::Damaged { .. }
            | Error::Newer { .. }
            | Error::TooManyReads
            | Error::NoRandomness
            | Error::Unsealed => {
                tracing::error!(error = %text, "the policy store failed");
                Fault::new(
                    Code::Internal,
                    "ServiceFailure",
                    "the policy store failed; its log says why",
                )
            }
            Error::TrailFull => Fault::new(Code::ResourceExhausted, "LimitExceeded", text)
                .retry_after(Duration::from_secs(5)),
            Error::Store(error) => storage(&error),
        }
    }
}

/// The gRPC code of an error of Organizations'.
fn code_of(reason: &str) -> Code {
    if reason.ends_with("NotFound") {
        Code::NotFound
    } else if reason == "IdempotentParameterMismatch" {
        Code::InvalidArgument
    } else if reason.starts_with("Duplicate") {
        Code::AlreadyExists
    } else {
        Code::FailedPrecondition
    }
}

fn storage(error: &StoreError) -> Fault {
    match error {
        StoreError::Full => Fault::new(
            Code::ResourceExhausted,
            "LimitExceeded",
            "the policy store's disk is full; nothing was written",
        )
        .retry_after(Duration::from_secs(5)),
        StoreError::ValueTooLarge { .. }
        | StoreError::KeyTooLarge { .. }
        | StoreError::CommitTooLarge { .. }
        | StoreError::TooManyWrites { .. }
        | StoreError::TooManyPreconditions { .. } => {
            Fault::new(Code::ResourceExhausted, "LimitExceeded", error.to_string())
        }
        StoreError::KeyEmpty
        | StoreError::TooOld { .. }
        | StoreError::Ahead { .. }
        | StoreError::Unavailable(_)
        | StoreError::Corrupt(_)
        | StoreError::Later { .. }
        | StoreError::Locked { .. }
        | StoreError::BlobsNotEmpty { .. } => {
            tracing::error!(%error, "the storage failed");
            Fault::new(
                Code::Unavailable,
                "ServiceUnavailable",
                "the policy store's storage is away",
            )
            .retry_after(Duration::from_secs(1))
        }
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        Fault::from(error).into()
    }
}
