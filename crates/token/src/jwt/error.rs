//! Why a JWT, or a set of keys, is refused.

use crate::verify::Part;

use super::MAX_JWT_BYTES;

/// Why a JWT is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JwtError {
    #[error("the token is {bytes} bytes long; the limit is {MAX_JWT_BYTES}")]
    TooLarge { bytes: usize },
    #[error("the token does not have three parts")]
    NotThreeParts,
    #[error("the token's {part} cannot be read")]
    Malformed { part: Part },
    #[error("the token's {part} has the member `{name}` twice")]
    DuplicateMember { part: Part, name: String },
    #[error("the token's {part} is nested too deeply")]
    TooDeep { part: Part },
    #[error("the token's header has the member `{name}`, which is refused")]
    UnknownHeaderMember { name: String },
    #[error("the token's `typ` is not that of a web identity, `JWT`")]
    WrongType,
    #[error("the token's `alg` must be {expected}")]
    WrongAlgorithm { expected: &'static str },
    #[error(
        "the token's `kid` is missing, or is not 1 to 128 letters, digits, `-`, `_`, `.` and `=`"
    )]
    InvalidKeyId,
    #[error("the token was signed with the key `{kid}`, which its issuer does not have")]
    UnknownKey { kid: String },
    #[error("the token's signature does not hold")]
    InvalidSignature,
    #[error("the token is from another issuer")]
    WrongIssuer,
    #[error("the token must be for the audience `{expected}`, and for no other beside it")]
    WrongAudience { expected: String },
    #[error(
        "the token is for AWS's own STS; ask its issuer for one with the audience `{expected}`"
    )]
    AudienceOfAws { expected: String },
    #[error("the token's claim `{name}` is missing, or of the wrong kind")]
    MissingClaim { name: &'static str },
    #[error("the token's claim `{name}` {must}")]
    InvalidClaim { name: &'static str, must: &'static str },
    #[error("the token's claim `{name}` is not implemented")]
    UnsupportedClaim { name: &'static str },
    #[error("the token's issuer speaks for account `{expected}` alone, and `{name}` is of another")]
    WrongAccount { name: &'static str, expected: String },
    #[error("the token expired at `{exp}`")]
    Expired { exp: i64 },
    #[error("the token is not valid before `{nbf}`")]
    NotYetValid { nbf: i64 },
    #[error("the token was issued in the future, at `{iat}`")]
    IssuedInTheFuture { iat: i64 },
    #[error("the token lasts from `{iat}` to `{exp}`; its issuer's may last 1 to {most} seconds")]
    Lifetime { iat: i64, exp: i64, most: i64 },
}

impl JwtError {
    /// The reason's name, for `ErrorInfo.reason` and for metrics: a small closed set, IAM's where it has one.
    pub fn code(&self) -> &'static str {
        match self {
            JwtError::TooLarge { .. }
            | JwtError::NotThreeParts
            | JwtError::Malformed { .. }
            | JwtError::DuplicateMember { .. }
            | JwtError::TooDeep { .. }
            | JwtError::UnknownHeaderMember { .. }
            | JwtError::WrongType
            | JwtError::WrongAlgorithm { .. }
            | JwtError::InvalidKeyId
            | JwtError::MissingClaim { .. }
            | JwtError::InvalidClaim { .. }
            | JwtError::UnsupportedClaim { .. }
            | JwtError::NotYetValid { .. }
            | JwtError::IssuedInTheFuture { .. }
            | JwtError::Lifetime { .. } => "InvalidIdentityToken",
            JwtError::InvalidSignature => "InvalidSignature",
            JwtError::UnknownKey { .. } => "UnknownKey",
            JwtError::WrongIssuer => "WrongIssuer",
            JwtError::WrongAudience { .. } | JwtError::AudienceOfAws { .. } => "WrongAudience",
            JwtError::WrongAccount { .. } => "AccountNotAllowed",
            JwtError::Expired { .. } => "ExpiredTokenException",
        }
    }
}

/// Why a text is no set of keys.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeySetError {
    #[error("longer than {} bytes", super::MAX_JWKS_BYTES)]
    TooLarge,
    #[error("no JSON object with distinct members and a list `keys`")]
    Malformed,
    #[error("more than {} keys", super::jwks::MAX_KEYS)]
    TooMany,
    #[error("two keys are named `{kid}`")]
    DuplicateKey { kid: String },
    #[error("no key that signs with {algorithms}")]
    NoUsableKey { algorithms: String },
}

/// What a stranger wrote, made fit for a message: escaped, and at most 96 characters.
pub(super) fn shown(text: &str) -> String {
    text.escape_debug().take(96).collect()
}
