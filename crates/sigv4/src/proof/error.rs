//! Every way a proof is refused, each with its own stable name. Messages name members, headers and parameters; of values
//! they show none but the origin, which is no secret.

use thiserror::Error;

use crate::fields::SignatureError;
use crate::url::UrlError;

#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ProofError {
    #[error("the proof is larger than 16 KiB")]
    ProofTooLarge,
    #[error("the proof is not base64url without padding")]
    ProofNotBase64Url,
    #[error("the proof is not a JSON object of strings, with `headers` an object of strings")]
    ProofNotJson,
    #[error("the proof has an unknown member `{0}`")]
    MemberNotAllowed(String),
    #[error("the proof has member `{0}` more than once")]
    RepeatedMember(String),
    #[error("the proof lacks member `{0}`")]
    MissingMember(&'static str),
    #[error("method `{0}` is neither POST nor GET")]
    MethodNotAllowed(String),
    #[error(transparent)]
    Url(#[from] UrlError),
    #[error("the url's path must be exactly `/`")]
    PathNotAllowed,
    #[error("a header-signed proof's url must have no query")]
    QueryNotAllowed,
    #[error(
        "the only action is `GetCallerIdentity`, asked for as `Action=GetCallerIdentity&Version=2011-06-15`"
    )]
    ActionNotAllowed,
    #[error("the only version is `2011-06-15`")]
    VersionNotAllowed,
    #[error("a presigned proof has no body")]
    BodyNotAllowed,
    #[error("header `{0}` is not allowed in a proof")]
    HeaderNotAllowed(String),
    #[error("header `{0}` is repeated")]
    RepeatedHeader(String),
    #[error("header `{0}` is missing")]
    MissingHeader(&'static str),
    #[error("header `x-countersign-audience` is missing")]
    MissingAudienceHeader,
    #[error("header `x-countersign-binding` is missing")]
    MissingBindingHeader,
    #[error("header `x-countersign-challenge` is missing")]
    MissingChallengeHeader,
    #[error(
        "the value of header `{0}` is empty, too long, or holds control characters or spaces that signing would lose"
    )]
    HeaderValueNotAllowed(&'static str),
    #[error("the content type must be a form's")]
    ContentTypeNotAllowed,
    #[error(transparent)]
    Signature(#[from] SignatureError),
    #[error("header `{0}` is signed, but Countersign does not send it: strip it before signing")]
    SignedHeaderNotAllowed(String),
    #[error("header `{0}` is signed but absent")]
    SignedHeaderAbsent(&'static str),
    #[error("header `{0}` must be signed")]
    UnsignedHeader(&'static str),
    #[error("header `x-countersign-audience` must be signed")]
    UnsignedAudienceHeader,
    #[error("header `x-countersign-binding` must be signed")]
    UnsignedBindingHeader,
    #[error("parameter `{0}` is not allowed in a proof")]
    ParameterNotAllowed(String),
    #[error("parameter `{0}` is repeated")]
    RepeatedParameter(String),
    #[error("parameter `{0}` is missing")]
    MissingParameter(&'static str),
    #[error("the query is not in SigV4's own percent-encoding")]
    QueryNotCanonical,
    #[error("the credential scope's service must be `sts`")]
    ServiceNotAllowed,
    #[error("the credential scope's region is malformed")]
    RegionMalformed,
    #[error("the credential scope's day is not the day of the proof's date")]
    ScopeDayMismatch,
    #[error("the proof has expired")]
    ProofExpired,
    #[error("the proof is dated in the future")]
    ProofNotYetValid,
    #[error("`{0}` is not an STS endpoint that proofs may be for")]
    HostNotAllowed(String),
    #[error("the credential scope's region is not the endpoint's")]
    RegionMismatch,
    #[error("the proof was made for another audience")]
    AudienceMismatch,
    #[error("the proof was made for another request")]
    BindingMismatch,
    #[error("the proof answers another challenge")]
    ChallengeMismatch,
    #[error("the proof answers a challenge where none was given")]
    ChallengeNotExpected,
}

impl ProofError {
    /// A stable name for the reason.
    pub fn code(&self) -> &'static str {
        match self {
            ProofError::ProofTooLarge => "ProofTooLarge",
            ProofError::ProofNotBase64Url => "ProofNotBase64Url",
            ProofError::ProofNotJson => "ProofNotJson",
            ProofError::MemberNotAllowed(_) => "MemberNotAllowed",
            ProofError::RepeatedMember(_) => "RepeatedMember",
            ProofError::MissingMember(_) => "MissingMember",
            ProofError::MethodNotAllowed(_) => "MethodNotAllowed",
            ProofError::Url(error) => error.code(),
            ProofError::PathNotAllowed => "PathNotAllowed",
            ProofError::QueryNotAllowed => "QueryNotAllowed",
            ProofError::ActionNotAllowed => "ActionNotAllowed",
            ProofError::VersionNotAllowed => "VersionNotAllowed",
            ProofError::BodyNotAllowed => "BodyNotAllowed",
            ProofError::HeaderNotAllowed(_) => "HeaderNotAllowed",
            ProofError::RepeatedHeader(_) => "RepeatedHeader",
            ProofError::MissingHeader(_) => "MissingHeader",
            ProofError::MissingAudienceHeader => "MissingAudienceHeader",
            ProofError::MissingBindingHeader => "MissingBindingHeader",
            ProofError::MissingChallengeHeader => "MissingChallengeHeader",
            ProofError::HeaderValueNotAllowed(_) => "HeaderValueNotAllowed",
            ProofError::ContentTypeNotAllowed => "ContentTypeNotAllowed",
            ProofError::Signature(error) => error.code(),
            ProofError::SignedHeaderNotAllowed(_) => "SignedHeaderNotAllowed",
            ProofError::SignedHeaderAbsent(_) => "SignedHeaderAbsent",
            ProofError::UnsignedHeader(_) => "UnsignedHeader",
            ProofError::UnsignedAudienceHeader => "UnsignedAudienceHeader",
            ProofError::UnsignedBindingHeader => "UnsignedBindingHeader",
            ProofError::ParameterNotAllowed(_) => "ParameterNotAllowed",
            ProofError::RepeatedParameter(_) => "RepeatedParameter",
            ProofError::MissingParameter(_) => "MissingParameter",
            ProofError::QueryNotCanonical => "QueryNotCanonical",
            ProofError::ServiceNotAllowed => "ServiceNotAllowed",
            ProofError::RegionMalformed => "RegionMalformed",
            ProofError::ScopeDayMismatch => "ScopeDayMismatch",
            ProofError::ProofExpired => "ProofExpired",
            ProofError::ProofNotYetValid => "ProofNotYetValid",
            ProofError::HostNotAllowed(_) => "HostNotAllowed",
            ProofError::RegionMismatch => "RegionMismatch",
            ProofError::AudienceMismatch => "AudienceMismatch",
            ProofError::BindingMismatch => "BindingMismatch",
            ProofError::ChallengeMismatch => "ChallengeMismatch",
            ProofError::ChallengeNotExpected => "ChallengeNotExpected",
        }
    }
}
