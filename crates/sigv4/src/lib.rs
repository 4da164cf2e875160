//! AWS Signature Version 4, made and verified; the GetCallerIdentity proof, read as a closed form; and STS's answer,
//! read strictly.
//!
//! One proof travels like this: the workload calls [`StsProof::sign_post`]; the gateway calls [`StsProof::parse`], checks
//! host, time, audience and binding, and sends what [`StsProof::rebuild`] returns (never the client's text) to STS; STS's
//! reply becomes a [`CallerIdentity`] through [`parse_answer`], and through nothing else. Countersign's own AWS face
//! verifies what SDKs sign with [`ParsedSignature`].
//!
//! This crate is pure: no clock (`now` is an argument, in seconds since 1970), no network, no environment, no logging. It
//! does not know which endpoints an operator configured, nor which proofs were spent: the gateway does.

pub mod answer;
pub mod canonical;
pub mod date;
pub mod encoding;
pub mod fields;
pub mod key;
pub mod proof;
pub mod sign;
pub mod sts_hosts;
pub mod url;
pub mod verify;

pub use answer::{
    AnswerError, AnswerFormat, CallerArn, CallerIdentity, CallerKind, UniqueIds, parse_answer,
};
pub use date::AmzDate;
pub use fields::{CredentialScope, SignatureError};
pub use key::{DerivedKey, SecretKey, derive};
pub use proof::{OutgoingRequest, ProofError, ProofRequest, StsProof};
pub use sign::{Credentials, SignError, SignedHeaders, UnsignedRequest, presign, sign_headers};
pub use sts_hosts::StsHost;
pub use url::{Url, UrlError};
pub use verify::{ClockWindow, ParsedSignature, ReceivedRequest, Verified};

#[cfg(test)]
mod golden;
#[cfg(test)]
mod oracle;
