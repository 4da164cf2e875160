//! Why a token is refused.

use std::fmt;

use crate::{MAX_LIFETIME_SECONDS, MAX_TOKEN_BYTES};

/// One of the three parts of a compact JWS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Header,
    Payload,
    Signature,
}

impl fmt::Display for Part {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Part::Header => "header",
            Part::Payload => "payload",
            Part::Signature => "signature",
        })
    }
}

/// Why a token is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("the token is {bytes} bytes long; the limit is {MAX_TOKEN_BYTES}")]
    TooLarge { bytes: usize },
    #[error("the token does not have three parts")]
    NotThreeParts,
    #[error("the token's {part} cannot be read")]
    Malformed { part: Part },
    #[error("the token's {part} has the member `{name}` twice")]
    DuplicateMember { part: Part, name: String },
    #[error("the token's {part} is nested too deeply")]
    TooDeep { part: Part },
    #[error("the token's header has the member `{name}`, which is not implemented")]
    UnknownHeaderMember { name: String },
    #[error("the token's `typ` is not `at+jwt`")]
    WrongType,
    #[error("the token's `alg` is not `ES256`")]
    WrongAlgorithm,
    #[error("the token's `kid` is missing, or is not 1 to 128 letters, digits, `-` and `_`")]
    InvalidKeyId,
    #[error("the token was signed with the key `{kid}`, which is not known")]
    UnknownKey { kid: String },
    #[error("the token was signed with the key `{kid}`, which is revoked")]
    RevokedKey { kid: String },
    #[error("the token was signed with the key `{kid}`, which is no longer accepted")]
    RetiredKey { kid: String },
    #[error("the token's signature does not hold")]
    InvalidSignature,
    #[error("the token's signature is the twin of one that is minted")]
    HighSignature,
    #[error("the token's claim `{name}` is missing, or of the wrong kind")]
    MissingClaim { name: String },
    #[error("the token's claims are not Countersign's: {reason}")]
    InvalidClaims { reason: String },
    #[error("the token's claim `{name}` is empty, malformed, or contradicts another")]
    ContradictoryClaim { name: &'static str },
    #[error("the token is from another issuer")]
    WrongIssuer,
    #[error("the token is for another audience")]
    WrongAudience,
    #[error(
        "the token is bound to a key: whoever shows it must prove, with each request, to hold that key"
    )]
    NoProofOfPossession,
    #[error("the token is bound to another key than the one that was proven")]
    WrongKey,
    #[error("a DPoP proof came with the token, which is bound to no DPoP key")]
    NotBound,
    #[error("the token expired at `{exp}`")]
    Expired { exp: i64 },
    #[error("the token was issued in the future, at `{iat}`")]
    IssuedInTheFuture { iat: i64 },
    #[error("the token lasts from `{iat}` to `{exp}`; the limit is {MAX_LIFETIME_SECONDS} seconds")]
    Lifetime { iat: i64, exp: i64 },
}

impl TokenError {
    /// The reason's name, for `ErrorInfo.reason` and for metrics: a small closed set.
    pub fn code(&self) -> &'static str {
        match self {
            TokenError::TooLarge { .. }
            | TokenError::NotThreeParts
            | TokenError::Malformed { .. }
            | TokenError::DuplicateMember { .. }
            | TokenError::TooDeep { .. }
            | TokenError::UnknownHeaderMember { .. }
            | TokenError::WrongType
            | TokenError::WrongAlgorithm
            | TokenError::InvalidKeyId
            | TokenError::MissingClaim { .. }
            | TokenError::InvalidClaims { .. }
            | TokenError::ContradictoryClaim { .. }
            | TokenError::IssuedInTheFuture { .. }
            | TokenError::Lifetime { .. } => "InvalidToken",
            TokenError::InvalidSignature | TokenError::HighSignature => "InvalidSignature",
            TokenError::UnknownKey { .. } => "UnknownKey",
            TokenError::RevokedKey { .. } => "RevokedKey",
            TokenError::RetiredKey { .. } => "RetiredKey",
            TokenError::NoProofOfPossession => "ProofOfPossessionRequired",
            TokenError::WrongKey => "ProofOfPossessionMismatch",
            TokenError::NotBound => "TokenNotBound",
            TokenError::WrongIssuer => "WrongIssuer",
            TokenError::WrongAudience => "WrongAudience",
            TokenError::Expired { .. } => "ExpiredToken",
        }
    }
}

/// What a stranger wrote, made fit for a message: escaped, and at most 96 characters.
pub(super) fn shown(text: &str) -> String {
    text.escape_debug().take(96).collect()
}
