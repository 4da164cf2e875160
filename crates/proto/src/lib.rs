//! The contract, generated from `proto/` when this crate is built. It knows no rule of its own, but two: a message that carries a
//! secret does not show it in its `Debug`, and a request with a field that this version does not know is refused ([`codec`]).

pub mod codec;
mod known;

use std::fmt;

pub use known::{NotKnown, check_known, is_request};

/// Users, roles, policies, keys, and the Watch that follows them.
pub mod policy {
    #[allow(clippy::all, clippy::pedantic, missing_docs, reason = "generated code")]
    pub mod v1 {
        tonic::include_proto!("countersign.policy.v1");
    }
}

/// Decisions and their reasons.
pub mod decision {
    #[allow(clippy::all, clippy::pedantic, missing_docs, reason = "generated code")]
    pub mod v1 {
        tonic::include_proto!("countersign.decision.v1");
    }
}

/// Tokens.
pub mod token {
    #[allow(clippy::all, clippy::pedantic, missing_docs, reason = "generated code")]
    pub mod v1 {
        tonic::include_proto!("countersign.token.v1");
    }
}

/// What Envoy asks: see `proto/envoy`.
pub mod envoy {
    #[allow(clippy::all, clippy::pedantic, missing_docs, reason = "generated code")]
    pub mod v3 {
        tonic::include_proto!("envoy.service.auth.v3");
    }
}

/// All of the contract's files, with their comments, as an encoded `google.protobuf.FileDescriptorSet`: for reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/countersign.bin"));

macro_rules! redacted {
    ($($message:ty),* $(,)?) => {$(
        impl fmt::Debug for $message {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($message), " { redacted }"))
            }
        }
    )*};
}

redacted![
    token::v1::ExchangeWithChallengeRequest,
    decision::v1::FilterResourcesRequest,
    decision::v1::AuthorizeAssumeRoleRequest,
    decision::v1::AuthorizeExchangeRequest,
    decision::v1::ProofOfPossession,
    token::v1::ExchangeRequest,
    token::v1::ExchangeResponse,
    token::v1::exchange_with_challenge_request::Step,
    token::v1::IntrospectRequest,
    token::v1::RevokeRequest,
    policy::v1::AccessKey,
    policy::v1::DeriveSigningKeyResponse,
    decision::v1::AuthorizeRequest,
    decision::v1::authorize_request::Subject,
    decision::v1::ExplainRequest,
    decision::v1::explain_request::Subject,
    decision::v1::BatchAuthorizeRequest,
    decision::v1::batch_authorize_request::Subject,
    decision::v1::filter_resources_request::Subject,
    envoy::v3::attribute_context::HttpRequest,
];

#[cfg(test)]
mod tests {
    #[test]
    fn a_message_with_a_secret_does_not_show_it() {
        let request = super::token::v1::ExchangeRequest {
            subject_token: "the-secret".into(),
            ..Default::default()
        };
        let response = super::policy::v1::DeriveSigningKeyResponse {
            derived_key: b"the-secret".to_vec(),
            ..Default::default()
        };
        let subject = super::decision::v1::authorize_request::Subject::Token("the-secret".into());
        for shown in [format!("{request:?}"), format!("{response:?}"), format!("{subject:?}")] {
            assert!(!shown.contains("secret") && shown.contains("redacted"), "{shown}");
            assert!(!shown.contains("116, 104, 101"), "{shown}");
        }
    }
}
