//! Why an instance's document is refused.

use super::der::DerFault;
use super::{MAX_DOCUMENT_BYTES, MAX_ENVELOPE_BYTES};

/// Why a document is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InstanceError {
    #[error("the envelope is {bytes} bytes long; the limit is {MAX_ENVELOPE_BYTES}")]
    TooLarge { bytes: usize },
    #[error("the envelope is not base64, as the metadata service's `rsa2048` gives it")]
    NotBase64,
    #[error("the envelope is no PKCS #7 `SignedData`: {0}")]
    Envelope(#[from] DerFault),
    #[error("the envelope's `{field}` {must}")]
    Form { field: &'static str, must: &'static str },
    #[error(
        "the envelope's `{field}` is not {expected}: take the document from `instance-identity/rsa2048`, not from `pkcs7` or `signature`"
    )]
    WeakAlgorithm { field: &'static str, expected: &'static str },
    #[error("the envelope must have one signer, and has {found}")]
    Signers { found: usize },
    #[error(
        "the envelope holds no content: a document that stands beside its signature is not taken"
    )]
    Detached,
    #[error(
        "the envelope's signer is none of AWS's certificates that are known here; `certificates` in the instances' file adds one"
    )]
    UnknownSigner,
    #[error("the document is not the one that the envelope's signer signed")]
    WrongDigest,
    #[error("the envelope's signature does not hold")]
    InvalidSignature,
    #[error("the document is of the region `{found}`, and its signer's certificate is not")]
    WrongRegion { found: String },
    #[error("the document is longer than {MAX_DOCUMENT_BYTES} bytes, or no JSON object")]
    NotJson,
    #[error("the document has the member `{name}` twice")]
    DuplicateMember { name: String },
    #[error("the document's `{field}` {must}")]
    Field { field: &'static str, must: &'static str },
    #[error("the document's `pendingTime` lies in the future")]
    LaunchedInTheFuture,
}

impl InstanceError {
    /// A stable name, for callers.
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "DocumentTooLarge",
            Self::NotBase64 | Self::Envelope(_) | Self::Form { .. } => "DocumentMalformed",
            Self::WeakAlgorithm { .. } => "AlgorithmNotAllowed",
            Self::Signers { .. } => "OneSignerRequired",
            Self::Detached => "DocumentDetached",
            Self::UnknownSigner => "UnknownSigner",
            Self::WrongDigest => "DocumentDigestMismatch",
            Self::InvalidSignature => "SignatureDoesNotMatch",
            Self::WrongRegion { .. } => "RegionMismatch",
            Self::NotJson
            | Self::DuplicateMember { .. }
            | Self::Field { .. }
            | Self::LaunchedInTheFuture => "InvalidInstanceDocument",
        }
    }
}

/// Why a certificate cannot be pinned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    #[error("holds no certificate between `-----BEGIN CERTIFICATE-----` and its end")]
    NotPem,
    #[error("is no X.509 certificate: {0}")]
    Malformed(#[from] DerFault),
    #[error(
        "must hold an RSA key of 2048 to 8192 bits: it is AWS's RSA-2048 certificate that is wanted"
    )]
    NotRsa2048,
    #[error("is of `{0}`, which is no name of a region")]
    NotARegion(String),
}
