//! Who may call: everybody with a proof one RPC, and nobody without credentials any other.

use countersign_proto::token::v1::{
    ExchangeRequest, ExchangeWithChallengeRequest, GetJwksRequest, IntrospectRequest,
    RevokeRequest, RotateSigningKeyRequest,
    token_exchange_service_client::TokenExchangeServiceClient,
};
use tonic::{Code, Request};

use crate::{
    proofs::{Workload, request},
    system::{Refused, System},
};

#[tokio::test]
async fn every_rpc_refuses_who_shows_nothing() {
    let system = System::start().await;
    system.ready().await;
    let mut client = TokenExchangeServiceClient::new(system.gateway.channel.clone());
    let stream = tokio_stream::iter([ExchangeWithChallengeRequest::default()]);
    let mut answers = client.exchange_with_challenge(stream).await.unwrap().into_inner();
    let statuses = [
        client.exchange(ExchangeRequest::default()).await.unwrap_err(),
        answers.message().await.unwrap_err(),
        client.introspect(IntrospectRequest::default()).await.unwrap_err(),
        client.revoke(RevokeRequest::default()).await.unwrap_err(),
        client.get_jwks(GetJwksRequest {}).await.unwrap_err(),
        client.rotate_signing_key(RotateSigningKeyRequest {}).await.unwrap_err(),
    ];
    for status in statuses {
        let refused = Refused::from(status);
        assert_eq!(
            (refused.code, refused.reason.as_str()),
            (Code::Unauthenticated, "MissingAuthenticationToken")
        );
    }

    let mut service = TokenExchangeServiceClient::with_interceptor(
        system.gateway.channel.clone(),
        system.service_credential(),
    );
    service.get_jwks(GetJwksRequest {}).await.unwrap();
}

// ATTACKS 88.
#[tokio::test]
async fn a_token_opens_the_door_if_it_is_for_countersign() {
    let system = System::start().await;
    system.ready().await;
    let local = Workload::local(&system.gateway.issuer);
    let mut client = TokenExchangeServiceClient::new(system.gateway.channel.clone());
    let mut check = async |audience: &str, change: fn(&mut String), expected: Result<(), &str>| {
        let asked = ExchangeRequest { audience: audience.into(), ..request() };
        let mut token = system.exchange(local.sign(asked)).await.unwrap().access_token;
        change(&mut token);
        let mut ask = Request::new(GetJwksRequest {});
        ask.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        let found =
            client.get_jwks(ask).await.map(|_| ()).map_err(|status| Refused::from(status).reason);
        assert_eq!(found.as_ref().copied().map_err(String::as_str), expected, "{audience}");
    };
    check("countersign", |_| {}, Ok(())).await;
    check("orders", |_| {}, Err("WrongAudience")).await;
    check(
        "countersign",
        |token| {
            token.pop();
        },
        Err("InvalidToken"),
    )
    .await;
}
