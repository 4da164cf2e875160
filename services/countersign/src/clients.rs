//! gRPC clients as users have them: a channel, and a bearer token in the metadata.

use std::{fmt, fs, io, path::Path};

use countersign_proto::{
    decision::v1::decision_service_client::DecisionServiceClient,
    policy::v1::policy_store_service_client::PolicyStoreServiceClient,
    token::v1::token_exchange_service_client::TokenExchangeServiceClient,
};
use countersign_serve::grpc::channel;
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};

/// A policy store's client.
pub type PolicyStore = PolicyStoreServiceClient<InterceptedService<Channel, Bearer>>;
/// A decision service's client.
pub type Decision = DecisionServiceClient<InterceptedService<Channel, Bearer>>;
/// A token gateway's client.
pub type Gateway = TokenExchangeServiceClient<InterceptedService<Channel, Bearer>>;

/// Sends `authorization: Bearer <token>` with every call, or nothing.
#[derive(Clone)]
pub struct Bearer(Option<MetadataValue<Ascii>>);

/// A text that cannot be sent as a bearer token.
#[derive(Debug, thiserror::Error)]
#[error("the token holds characters that no token has")]
pub struct NoToken;

impl Bearer {
    /// A caller without credentials.
    #[must_use]
    pub fn nobody() -> Self {
        Self(None)
    }

    /// The bearer of `token`.
    ///
    /// # Errors
    /// When the text cannot be sent.
    pub fn new(token: &str) -> Result<Self, NoToken> {
        let mut value =
            MetadataValue::try_from(format!("Bearer {}", token.trim())).map_err(|_| NoToken)?;
        value.set_sensitive(true);
        Ok(Self(Some(value)))
    }

    /// The bearer of the token in a file, such as admin.token.
    ///
    /// # Errors
    /// When the file cannot be read, or holds no token.
    pub fn from_file(path: &Path) -> io::Result<Self> {
        Self::new(&fs::read_to_string(path)?).map_err(io::Error::other)
    }
}

impl fmt::Debug for Bearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Bearer(redacted)" } else { "Bearer(nobody)" })
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request.metadata_mut().insert("authorization", value.clone());
        }
        Ok(request)
    }
}

/// The policy store at `origin`, called as `bearer`.
///
/// # Errors
/// When `origin` is no URI.
pub fn policy_store(origin: &str, bearer: &Bearer) -> Result<PolicyStore, tonic::transport::Error> {
    Ok(PolicyStoreServiceClient::with_interceptor(channel(origin)?, bearer.clone()))
}

/// The decision service at `origin`, called as `bearer`.
///
/// # Errors
/// When `origin` is no URI.
pub fn decision(origin: &str, bearer: &Bearer) -> Result<Decision, tonic::transport::Error> {
    Ok(DecisionServiceClient::with_interceptor(channel(origin)?, bearer.clone()))
}

/// The token gateway at `origin`, called as `bearer`.
///
/// # Errors
/// When `origin` is no URI.
pub fn gateway(origin: &str, bearer: &Bearer) -> Result<Gateway, tonic::transport::Error> {
    Ok(TokenExchangeServiceClient::with_interceptor(channel(origin)?, bearer.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bearer_shows_no_token() {
        let mut bearer = Bearer::new("the-secret\n").unwrap();
        assert_eq!(format!("{bearer:?}"), "Bearer(redacted)");
        let request = bearer.call(Request::new(())).unwrap();
        let value = request.metadata().get("authorization").unwrap();
        assert_eq!(value.to_str().unwrap(), "Bearer the-secret");
        assert!(!format!("{:?}", request.metadata()).contains("the-secret"));
        assert!(Bearer::new("a\u{0}b").is_err());
    }
}
