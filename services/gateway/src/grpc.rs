//! The RPCs: unwrap, call the verb, wrap.

use std::{net::IpAddr, sync::Arc};

use countersign_proto::token::v1::{
    ExchangeRequest, ExchangeResponse, ExchangeWithChallengeRequest, GetJwksRequest,
    GetJwksResponse, IntrospectRequest, IntrospectResponse, RevokeRequest, RevokeResponse,
    RotateSigningKeyRequest, RotateSigningKeyResponse,
    token_exchange_service_server::TokenExchangeService,
};
use countersign_serve::{
    Fault,
    authn::{called, missing_credentials},
    incoming::Peer,
};
use http::Uri;
use tonic::{Request, Response, Status, Streaming};

use crate::{
    authn::Caller,
    beside::Beside,
    challenge::{self, Challenges},
    clock,
    error::Refusal,
    exchange::Exchange,
    keys::Keys,
    life,
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

/// A proof of possession in a call's metadata, and its connection's certificate (ATTACKS 79, 80).
fn beside<T>(request: &Request<T>) -> Result<Beside, Refusal> {
    let uri = || request.extensions().get::<Uri>().map(called).unwrap_or_default();
    let certificate = request.extensions().get::<Peer>().and_then(Peer::certificate).cloned();
    Beside::of(request.metadata().as_ref(), uri, certificate)
}

/// Who has passed the door.
fn caller<T>(request: &Request<T>) -> Result<Caller, Fault> {
    request.extensions().get::<Caller>().cloned().ok_or_else(missing_credentials)
}

fn source<T>(request: &Request<T>) -> Option<IpAddr> {
    request.remote_addr().map(|address| address.ip())
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
        let beside = beside(&request).map_err(|refusal| Fault::from(&refusal))?;
        match self.challenges.open(request.into_inner(), beside, source) {
            Ok(answers) => Ok(Response::new(answers)),
            Err(refusal) => Err(Fault::from(&refusal).into()),
        }
    }

    async fn introspect(
        &self,
        request: Request<IntrospectRequest>,
    ) -> Result<Response<IntrospectResponse>, Status> {
        let (caller, source) = (caller(&request)?, source(&request));
        let IntrospectRequest { token, token_type_hint: _ } = request.into_inner();
        let claims = self.exchange.introspect(&caller, &token, source).await;
        let claims = claims.map_err(|refusal| Fault::from(&refusal))?;
        Ok(Response::new(life::introspected(claims.as_ref())))
    }

    async fn revoke(
        &self,
        request: Request<RevokeRequest>,
    ) -> Result<Response<RevokeResponse>, Status> {
        let (caller, source) = (caller(&request)?, source(&request));
        let RevokeRequest { token, token_type_hint: _ } = request.into_inner();
        let ended = self.exchange.revoke(&caller, &token, source).await;
        ended.map_err(|refusal| Fault::from(&refusal))?;
        Ok(Response::new(RevokeResponse {}))
    }

    async fn rotate_signing_key(
        &self,
        request: Request<RotateSigningKeyRequest>,
    ) -> Result<Response<RotateSigningKeyResponse>, Status> {
        let (caller, source) = (caller(&request)?, source(&request));
        let RotateSigningKeyRequest {} = request.into_inner();
        let kid = self.exchange.rotate(&caller, source).await;
        let kid = kid.map_err(|refusal| Fault::from(&refusal))?;
        Ok(Response::new(RotateSigningKeyResponse { kid }))
    }

    async fn get_jwks(
        &self,
        request: Request<GetJwksRequest>,
    ) -> Result<Response<GetJwksResponse>, Status> {
        let GetJwksRequest {} = request.into_inner();
        Ok(Response::new(GetJwksResponse { jwks: self.keys.jwks(clock::now()) }))
    }
}
