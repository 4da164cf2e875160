//! The RPCs: unwrap, call the verb, wrap.

use std::sync::Arc;

use countersign_proto::token::v1::{
    ExchangeRequest, ExchangeResponse, ExchangeWithChallengeRequest, GetJwksRequest,
    GetJwksResponse, IntrospectRequest, IntrospectResponse, RevokeRequest, RevokeResponse,
    token_exchange_service_server::TokenExchangeService,
};
use countersign_serve::Fault;
use http::{Uri, uri::Authority};
use tonic::{Request, Response, Status, Streaming};

use crate::{
    beside::Beside,
    challenge::{self, Challenges},
    clock,
    error::Refusal,
    exchange::Exchange,
    keys::Keys,
};

/// The service. It stands behind [`crate::authn::Door`].
pub struct Grpc {
    /// The verb.
    pub exchange: Arc<Exchange>,
    /// The verb, with a challenge.
    pub challenges: Challenges,
    /// The keys.
    pub keys: Arc<Keys>,
}

/// A proof of possession in a call's metadata. Of gRPC the URI is written `https`, whatever carries it (ATTACKS 79).
fn beside<T>(request: &Request<T>) -> Result<Beside, Refusal> {
    let called = request.extensions().get::<Uri>();
    let uri = || {
        let authority = called.and_then(Uri::authority).map(Authority::as_str).unwrap_or_default();
        format!("https://{authority}{}", called.map(Uri::path).unwrap_or_default())
    };
    Beside::of(request.metadata().as_ref(), uri)
}

#[tonic::async_trait]
impl TokenExchangeService for Grpc {
    async fn exchange(
        &self,
        request: Request<ExchangeRequest>,
    ) -> Result<Response<ExchangeResponse>, Status> {
        let source = request.remote_addr().map(|address| address.ip());
        let beside = beside(&request).map_err(|refusal| Fault::from(&refusal))?;
        match self.exchange.exchange_beside(request.into_inner(), &beside, source).await {
            Ok(response) => Ok(Response::new(response)),
            Err(refusal) => Err(Fault::from(&refusal).into()),
        }
    }

    type ExchangeWithChallengeStream = challenge::Answers;

    async fn exchange_with_challenge(
        &self,
        request: Request<Streaming<ExchangeWithChallengeRequest>>,
    ) -> Result<Response<Self::ExchangeWithChallengeStream>, Status> {
        let source = request.remote_addr().map(|address| address.ip());
        let beside = beside(&request).and_then(Beside::nothing);
        beside.map_err(|refusal| Fault::from(&refusal))?;
        match self.challenges.open(request.into_inner(), source) {
            Ok(answers) => Ok(Response::new(answers)),
            Err(refusal) => Err(Fault::from(&refusal).into()),
        }
    }

    async fn introspect(
        &self,
        _request: Request<IntrospectRequest>,
    ) -> Result<Response<IntrospectResponse>, Status> {
        Err(Fault::rpc_not_implemented("Introspect").into())
    }

    async fn revoke(
        &self,
        _request: Request<RevokeRequest>,
    ) -> Result<Response<RevokeResponse>, Status> {
        Err(Fault::rpc_not_implemented("Revoke").into())
    }

    async fn get_jwks(
        &self,
        request: Request<GetJwksRequest>,
    ) -> Result<Response<GetJwksResponse>, Status> {
        let GetJwksRequest {} = request.into_inner();
        Ok(Response::new(GetJwksResponse { jwks: self.keys.jwks(clock::now()) }))
    }
}
