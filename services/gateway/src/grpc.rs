//! The RPCs: unwrap, call the verb, wrap.

use std::sync::Arc;

use countersign_proto::token::v1::{
    ExchangeRequest, ExchangeResponse, ExchangeWithChallengeRequest, GetJwksRequest,
    GetJwksResponse, IntrospectRequest, IntrospectResponse, RevokeRequest, RevokeResponse,
    token_exchange_service_server::TokenExchangeService,
};
use countersign_serve::Fault;
use tonic::{Request, Response, Status, Streaming};

use crate::{
    challenge::{self, Challenges},
    clock,
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

#[tonic::async_trait]
impl TokenExchangeService for Grpc {
    async fn exchange(
        &self,
        request: Request<ExchangeRequest>,
    ) -> Result<Response<ExchangeResponse>, Status> {
        let source = request.remote_addr().map(|address| address.ip());
        match self.exchange.exchange(request.into_inner(), source).await {
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
