//! Why an exchange was refused, and the one place where that becomes what a caller sees.
//!
//! The `Display` of a [`Refusal`] is for the caller; [`Refusal::cause`] is for the log alone. Neither holds a token, a signature or a key.

use std::time::Duration;

use countersign_serve::{Fault, grpc::ServeError};
use countersign_sigv4::ProofError;
use countersign_token::{DpopError, MintError, TokenError, instance::InstanceError, jwt::JwtError};
use tonic::Code;

use crate::{config::ConfigError, endpoints::NoEndpoint};

const SOON: Duration = Duration::from_secs(1);

/// Why a gateway ended before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration contradicts itself.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Another service cannot be called.
    #[error("another service cannot be called: {0}")]
    Dial(#[from] countersign_serve::dial::DialError),
    /// The library refuses what HTTPS to STS is configured with.
    #[error("TLS towards STS cannot be used: {0}")]
    Tls(#[from] rustls::Error),
    /// The gateway has no signing key, and will not get one.
    #[error(transparent)]
    Key(#[from] crate::keys::NoKey),
    /// The task that keeps the signing key ended by itself, which it never does.
    #[error("the task that keeps the signing key ended")]
    KeyTask,
    /// The server failed.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// The audit trail's folder cannot be used.
    #[error("the audit of exchanges cannot be kept in `{folder}`: {error}")]
    Audit {
        /// Which.
        folder: String,
        /// Why.
        error: std::io::Error,
    },
    /// The HTTP server failed.
    #[error("the HTTP server failed: {0}")]
    Http(#[source] std::io::Error),
}

/// Why an exchange was refused.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// No proof.
    #[error("no proof: `subject_token` is empty; `countersign proof` makes one")]
    MissingProof,
    /// A kind of proof that there is not.
    #[error(
        "subject_token_type: `{found}` is not supported here; there are `{}`, and, without a challenge, `{}`, `{}` and, where the gateway \
         is told whose instances to believe, `{}`",
        crate::convert::STS_PROOF,
        crate::convert::ACCESS_TOKEN,
        crate::convert::JWT,
        crate::convert::INSTANCE
    )]
    UnsupportedTokenType {
        /// What was asked for.
        found: String,
    },
    /// A field that a later version reads.
    #[error("{field} is not implemented")]
    NotImplemented {
        /// The field.
        field: &'static str,
    },
    /// A field that is wrong.
    #[error("{field}: {message}")]
    Invalid {
        /// The field.
        field: &'static str,
        /// What it must be.
        message: String,
    },

    /// The connection has no address.
    #[error(
        "the address that the exchange came from is not known, and trust policies may ask for it"
    )]
    NoSourceAddress,

    /// The proof is not of the closed form, or its time is over.
    #[error("the proof is refused: {0}")]
    Proof(#[from] ProofError),
    /// The token that is exchanged is no good.
    #[error("the subject token is refused: {0}")]
    SubjectToken(TokenError),
    /// The token that is to act is no good.
    #[error("the actor token is refused: {0}")]
    ActorToken(TokenError),
    /// An actor that is the subject itself, or that acts for somebody already.
    #[error("actor_token: {0}")]
    Actor(&'static str),
    /// The subject's token says who may act for it, and this is not that.
    #[error("actor_token: the subject token's `may_act` names who alone may exchange it: {0}")]
    MayNotAct(&'static str),
    /// What proves that the client holds a key.
    #[error(transparent)]
    Possession(#[from] DpopError),
    /// Nothing of what was asked for is in the scope of the token that came in.
    #[error("scope: nothing of `{asked}` is within the subject token's own scope, `{own}`")]
    NothingInScope {
        /// What was asked for.
        asked: String,
        /// What there is.
        own: String,
    },
    /// An audience that this token cannot be exchanged for.
    #[error("audience: a token for `{own}` cannot become one for `{asked}`: {why}")]
    AudienceNotAllowed {
        /// What the token is for.
        own: String,
        /// What was asked for.
        asked: String,
        /// Why, and what helps.
        why: &'static str,
    },
    /// The caller may not do that with somebody else's token.
    #[error("{caller} is not authorized to perform: {action} on resource: {resource}")]
    TokenDenied {
        /// Who asked.
        caller: String,
        /// What for.
        action: &'static str,
        /// Whose token.
        resource: String,
    },
    /// The caller may not change the gateway's keys.
    #[error("{caller} is not authorized to perform: {action} on resource: *: {because}")]
    KeyDenied {
        /// Who asked.
        caller: String,
        /// What for.
        action: &'static str,
        /// Why, and what helps.
        because: &'static str,
    },
    /// The decision service said no to an exchange of a token.
    #[error("{subject} may not have its token exchanged for audience `{audience}` ({detail})")]
    ExchangeDenied {
        /// Whose token.
        subject: String,
        /// For what.
        audience: String,
        /// The decision's id.
        detail: String,
        /// All of why, for the log.
        cause: String,
    },
    /// The JWT is of nobody whom we know.
    #[error(
        "the issuer `{found}` is not among those that this gateway is configured for (--jwt-issuers)"
    )]
    UnknownIssuer {
        /// Whose it claims to be.
        found: String,
    },
    /// The JWT is no good.
    #[error("the web identity token is refused: {0}")]
    WebIdentity(JwtError),
    /// The keys of an issuer cannot be had.
    #[error("the keys of the issuer `{issuer}` cannot be had now; try again")]
    IssuerUnavailable {
        /// Which.
        issuer: String,
        /// What happened, for the log.
        cause: String,
    },
    /// The instance's document is no good.
    #[error(transparent)]
    Instance(#[from] InstanceError),
    /// It is of an account that is not listed.
    #[error("this gateway does not take instances of account `{account}`")]
    InstanceAccountNotAllowed {
        /// Which.
        account: String,
    },
    /// A document by itself is everybody's who has read it.
    #[error(
        "an instance's document can be read by everybody on it: send a DPoP proof beside it (RFC 9449), to whose key instance and token are bound"
    )]
    NoPossession,
    /// The instance came with another key.
    #[error(
        "`{arn}` came with another key at first; an operator who knows why it has a new one forgets the old one (UnpinPrincipal)"
    )]
    InstanceKeyChanged {
        /// Which.
        arn: String,
    },
    /// The instance has a newer document.
    #[error("`{arn}` was started again since, and has shown a newer document; take that")]
    DocumentSuperseded {
        /// Which.
        arn: String,
    },
    /// The instance was started long ago.
    #[error(
        "`{arn}` was started too long ago to come here for the first time; start it again, or let the gateway's `first_use_within_seconds` be more"
    )]
    FirstUseTooLate {
        /// Which.
        arn: String,
    },
    /// Nothing, or the wrong thing, came in an exchange with a challenge.
    #[error("the stream: {0}")]
    Stream(&'static str),
    /// The proof was made for somebody else.
    #[error("the proof is for audience `{found}`; this gateway is `{issuer}`")]
    WrongAudience {
        /// Its audience.
        found: String,
        /// Ours.
        issuer: String,
    },
    /// The proof was made for another request.
    #[error(
        "the proof's `x-countersign-binding` is of another request: a field was changed after signing, or the binding was computed \
         otherwise than the README of tests/conformance says"
    )]
    BindingMismatch,
    /// The proof's URL leads nowhere.
    #[error(transparent)]
    NoEndpoint(#[from] NoEndpoint),
    /// The proof is in hand, or spent.
    #[error("the proof was used before; make a new one for each exchange")]
    ProofAlreadyUsed,
    /// Too many proofs are in hand.
    #[error("too many exchanges at once; try again")]
    Busy,

    /// The caller's address, or all together, ask too often.
    #[error("too many exchanges from here, or in all; try again later")]
    TooOften {
        /// Then there is room for one more.
        retry_after: Duration,
    },

    /// One more signing key would leave no room for the first key of a gateway that starts.
    #[error(
        "{held} signing keys are still accepted, and no more are made beside them: the oldest is dropped once its last token has expired"
    )]
    TooManySigningKeys {
        /// So many are accepted.
        held: usize,
    },

    /// STS is away, or overloaded.
    #[error("STS at `{origin}` cannot be asked now; try again")]
    StsUnavailable {
        /// Which.
        origin: String,
        /// What happened, for the log.
        cause: String,
    },
    /// STS does not know the caller.
    #[error("STS refused the proof: {message}")]
    StsRefused {
        /// STS's own code, such as `SignatureDoesNotMatch`.
        code: String,
        /// STS's own words.
        message: String,
    },
    /// STS answered something that is no identity.
    #[error("STS at `{origin}` answered what is no identity")]
    StsAnswer {
        /// Which.
        origin: String,
        /// A stable name.
        code: &'static str,
        /// What was wrong, for the log.
        cause: String,
    },
    /// A private endpoint named an account that it may not speak for.
    #[error("STS at `{origin}` may not speak for account `{account}`")]
    AccountNotAllowed {
        /// Which.
        origin: String,
        /// Whom it named.
        account: String,
    },
    /// STS named a principal of another partition.
    #[error("STS at `{origin}` named a principal of partition `{found}`")]
    PartitionMismatch {
        /// Which.
        origin: String,
        /// The partition.
        found: String,
    },
    /// The root of an AWS account.
    #[error(
        "`{arn}` is the root of an AWS account, which may assume no role; use a role or a user"
    )]
    RootNotAllowed {
        /// Who.
        arn: String,
    },
    /// A federated user.
    #[error("`{arn}` is a federated user, who may assume no role; use a role or a user")]
    FederatedUserNotAllowed {
        /// Who.
        arn: String,
    },

    /// The decision service said no.
    #[error("{caller} is not authorized to perform: {action} on resource: {role} ({detail})")]
    Denied {
        /// Who asked.
        caller: String,
        /// `sts:AssumeRole`, or `sts:AssumeRoleWithWebIdentity`.
        action: &'static str,
        /// For which role.
        role: String,
        /// What the caller may know of why, and the decision's id.
        detail: String,
        /// All of why, for the log.
        cause: String,
    },
    /// There is no such role, and the caller may know.
    #[error("{caller} is not authorized to perform: {action} on resource: {role} ({detail})")]
    RoleNotFound {
        /// Who asked.
        caller: String,
        /// `sts:AssumeRole`, or `sts:AssumeRoleWithWebIdentity`.
        action: &'static str,
        /// For which role.
        role: String,
        /// The decision's words and id.
        detail: String,
    },
    /// The decision service found a field that is wrong.
    #[error("{message}")]
    InvalidByDecision {
        /// IAM's code.
        reason: String,
        /// Its words.
        message: String,
    },
    /// The external principal was made again under its old name.
    #[error(
        "`{arn}` is not the principal that it was: its unique id has changed; the role's owner must decide anew"
    )]
    PrincipalIdChanged {
        /// Who.
        arn: String,
    },

    /// A service that is needed is away.
    #[error("{service} cannot be asked now; try again")]
    ServiceUnavailable {
        /// Which.
        service: &'static str,
        /// What happened, for the log.
        cause: String,
    },
    /// A service answered what it may not.
    #[error("{service} answered what it may not")]
    ServiceBroken {
        /// Which.
        service: &'static str,
        /// What, for the log.
        cause: String,
    },
    /// The gateway has no key yet.
    #[error("the gateway's signing key is not published yet; try again")]
    NoSigningKey,
    /// The gateway could not renew its key's lease in time.
    #[error(
        "the lease of the gateway's signing key has ended, and the policy store has not renewed it; try again"
    )]
    KeyLeaseExpired,
    /// The key was revoked.
    #[error(
        "the gateway's signing key was revoked; it signs again once another is asked for, or it has been started anew"
    )]
    SigningKeyRevoked,
    /// The decision and the key are of two stores: one of the two services has not yet seen an import or a restore.
    #[error("the policy store has changed; try again")]
    OtherStore,
    /// The token could not be made.
    #[error("no token was made: {0}")]
    Mint(#[from] MintError),
    /// What is granted must be written down first.
    #[error(
        "the exchange cannot be written into the audit trail, so nothing is granted; try again"
    )]
    NotAudited,
    /// It took too long.
    #[error("the exchange took longer than {} seconds", crate::exchange::DEADLINE.as_secs())]
    TimedOut,
}

impl Refusal {
    /// What the caller does not see.
    #[must_use]
    pub fn cause(&self) -> Option<&str> {
        match self {
            Self::StsUnavailable { cause, .. }
            | Self::StsAnswer { cause, .. }
            | Self::Denied { cause, .. }
            | Self::ExchangeDenied { cause, .. }
            | Self::IssuerUnavailable { cause, .. }
            | Self::ServiceUnavailable { cause, .. }
            | Self::ServiceBroken { cause, .. } => Some(cause),
            Self::MissingProof
            | Self::UnsupportedTokenType { .. }
            | Self::NotImplemented { .. }
            | Self::Invalid { .. }
            | Self::NoSourceAddress
            | Self::Proof(_)
            | Self::SubjectToken(_)
            | Self::ActorToken(_)
            | Self::Actor(_)
            | Self::MayNotAct(_)
            | Self::Possession(_)
            | Self::NothingInScope { .. }
            | Self::TokenDenied { .. }
            | Self::KeyDenied { .. }
            | Self::AudienceNotAllowed { .. }
            | Self::UnknownIssuer { .. }
            | Self::WebIdentity(_)
            | Self::Instance(_)
            | Self::InstanceAccountNotAllowed { .. }
            | Self::NoPossession
            | Self::InstanceKeyChanged { .. }
            | Self::DocumentSuperseded { .. }
            | Self::FirstUseTooLate { .. }
            | Self::Stream(_)
            | Self::WrongAudience { .. }
            | Self::BindingMismatch
            | Self::NoEndpoint(_)
            | Self::ProofAlreadyUsed
            | Self::Busy
            | Self::TooOften { .. }
            | Self::TooManySigningKeys { .. }
            | Self::StsRefused { .. }
            | Self::AccountNotAllowed { .. }
            | Self::PartitionMismatch { .. }
            | Self::RootNotAllowed { .. }
            | Self::FederatedUserNotAllowed { .. }
            | Self::RoleNotFound { .. }
            | Self::InvalidByDecision { .. }
            | Self::PrincipalIdChanged { .. }
            | Self::NoSigningKey
            | Self::KeyLeaseExpired
            | Self::SigningKeyRevoked
            | Self::OtherStore
            | Self::Mint(_)
            | Self::NotAudited
            | Self::TimedOut => None,
        }
    }

    /// Whether nobody could judge the proof, so that it may be sent again.
    #[must_use]
    pub fn is_no_verdict(&self) -> bool {
        matches!(Fault::from(self).code(), Code::Unavailable | Code::ResourceExhausted)
    }
}

impl From<&Refusal> for Fault {
    fn from(refusal: &Refusal) -> Self {
        let message = refusal.to_string();
        match refusal {
            Refusal::MissingProof => Fault::unauthenticated("MissingAuthenticationToken", message),
            Refusal::UnsupportedTokenType { .. } => {
                Fault::new(Code::InvalidArgument, "UnsupportedTokenType", message)
                    .violation("subject_token_type", "not supported")
            }
            Refusal::NotImplemented { field } => Fault::field_not_implemented(*field),
            Refusal::Invalid { field, message } => Fault::invalid(*field, message),
            Refusal::NoSourceAddress => denied("NoSourceAddress", message),
            Refusal::Proof(error) => Fault::unauthenticated(error.code(), message),
            Refusal::SubjectToken(error) => Fault::unauthenticated(error.code(), message),
            Refusal::ActorToken(error) => Fault::unauthenticated(error.code(), message),
            Refusal::Actor(_) => Fault::invalid("actor_token", message),
            Refusal::MayNotAct(_) => denied("ActorNotAllowed", message),
            Refusal::Possession(error @ DpopError::Busy) => {
                Fault::new(Code::ResourceExhausted, error.code(), message).retry_after(SOON)
            }
            Refusal::Possession(error) => Fault::unauthenticated(error.code(), message),
            Refusal::NothingInScope { .. } => {
                Fault::new(Code::InvalidArgument, "InvalidScope", message.clone())
                    .violation("scope", message)
            }
            Refusal::AudienceNotAllowed { .. } => denied("AudienceNotAllowed", message),
            Refusal::TokenDenied { .. } | Refusal::KeyDenied { .. } => {
                denied("AccessDenied", message)
            }
            Refusal::ExchangeDenied { .. } => denied("AccessDenied", message),
            Refusal::UnknownIssuer { .. } => Fault::unauthenticated("UnknownIssuer", message),
            Refusal::WebIdentity(error) => Fault::unauthenticated(error.code(), message),
            Refusal::Instance(error) => Fault::unauthenticated(error.code(), message),
            Refusal::InstanceAccountNotAllowed { .. } => {
                Fault::unauthenticated("AccountNotAllowed", message)
            }
            Refusal::NoPossession => Fault::unauthenticated("ProofOfPossessionRequired", message),
            Refusal::InstanceKeyChanged { .. } => denied("InstanceKeyChanged", message),
            Refusal::DocumentSuperseded { .. } => denied("DocumentSuperseded", message),
            Refusal::FirstUseTooLate { .. } => denied("FirstUseTooLate", message),
            Refusal::IssuerUnavailable { .. } => unavailable("IssuerUnavailable", message),
            Refusal::Stream(_) => Fault::invalid("step", message),
            Refusal::WrongAudience { .. } => Fault::unauthenticated("WrongAudience", message),
            Refusal::BindingMismatch => Fault::unauthenticated("BindingMismatch", message),
            Refusal::NoEndpoint(error) => Fault::unauthenticated(error.code(), message),
            Refusal::ProofAlreadyUsed => Fault::unauthenticated("ProofAlreadyUsed", message),
            Refusal::Busy => {
                Fault::new(Code::ResourceExhausted, "Throttling", message).retry_after(SOON)
            }
            Refusal::TooOften { retry_after } => {
                Fault::new(Code::ResourceExhausted, "Throttling", message).retry_after(*retry_after)
            }
            Refusal::TooManySigningKeys { .. } => {
                Fault::new(Code::ResourceExhausted, "LimitExceeded", message)
            }
            Refusal::StsUnavailable { .. } => unavailable("StsUnavailable", message),
            Refusal::StsRefused { code, .. } => Fault::unauthenticated(code, message),
            Refusal::StsAnswer { code, .. } => Fault::unauthenticated(*code, message),
            Refusal::AccountNotAllowed { .. } => {
                Fault::unauthenticated("AccountNotAllowed", message)
            }
            Refusal::PartitionMismatch { .. } => {
                Fault::unauthenticated("PartitionMismatch", message)
            }
            Refusal::RootNotAllowed { .. } => denied("RootNotAllowed", message),
            Refusal::FederatedUserNotAllowed { .. } => denied("FederatedUserNotAllowed", message),
            Refusal::Denied { .. } => denied("AccessDenied", message),
            Refusal::RoleNotFound { .. } => denied("RoleNotFound", message),
            Refusal::InvalidByDecision { reason, .. } => {
                Fault::new(Code::InvalidArgument, reason, message)
            }
            Refusal::PrincipalIdChanged { .. } => denied("PrincipalIdChanged", message),
            Refusal::ServiceUnavailable { .. } => unavailable("ServiceUnavailable", message),
            Refusal::ServiceBroken { .. } => Fault::new(Code::Internal, "ServiceFailure", message),
            Refusal::NoSigningKey => unavailable("NoSigningKey", message),
            Refusal::KeyLeaseExpired => unavailable("KeyLeaseExpired", message),
            Refusal::SigningKeyRevoked => unavailable("SigningKeyRevoked", message),
            Refusal::OtherStore => unavailable("OtherStore", message),
            Refusal::Mint(MintError::PackedPolicyTooLarge { .. }) => {
                Fault::new(Code::InvalidArgument, "PackedPolicyTooLarge", message)
            }
            Refusal::Mint(
                MintError::Lifetime { .. }
                | MintError::InvalidClaim { .. }
                | MintError::Serialize
                | MintError::Sign
                | MintError::Random,
            ) => Fault::new(Code::Internal, "ServiceFailure", message),
            Refusal::NotAudited => unavailable("AuditUnavailable", message),
            Refusal::TimedOut => Fault::new(Code::DeadlineExceeded, "TimedOut", message),
        }
    }
}

fn unavailable(reason: &str, message: String) -> Fault {
    Fault::new(Code::Unavailable, reason, message).retry_after(SOON)
}

fn denied(reason: &str, message: String) -> Fault {
    Fault::new(Code::PermissionDenied, reason, message)
}

#[cfg(test)]
mod tests;
