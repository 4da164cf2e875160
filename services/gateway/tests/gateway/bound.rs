//! Tokens bound to a client's key: asked for by its thumbprint, or by a DPoP proof, and never stripped of it.

use countersign_proto::token::v1::{
    ExchangeRequest, ExchangeResponse, token_exchange_service_client::TokenExchangeServiceClient,
};
use countersign_token::{Claims, Confirmation, KeyRecord, KeySet, PublicKey, check_signature};
use serde_json::{Value, json};
use tonic::{Code, Request};

use crate::{
    client::{Client, grpc_uri},
    narrowed::narrowing,
    proofs::{Workload, request},
    system::{Refused, System, now},
};

/// The exchange with a DPoP header; none where the text is empty.
pub async fn exchange(
    system: &System,
    asked: ExchangeRequest,
    proof: &str,
) -> Result<ExchangeResponse, Refused> {
    let mut client = TokenExchangeServiceClient::new(system.gateway.channel.clone());
    let mut asked = Request::new(asked);
    if !proof.is_empty() {
        asked.metadata_mut().insert("dpop", proof.parse().unwrap());
    }
    Ok(client.exchange(asked).await?.into_inner())
}

async fn cnf(system: &System, response: &ExchangeResponse) -> Option<Confirmation> {
    let (_, _, jwks) = system.gateway.http_get("/.well-known/jwks.json").await;
    let jwks: Value = serde_json::from_str(&jwks).unwrap();
    let keys: KeySet = jwks["keys"]
        .as_array()
        .unwrap()
        .iter()
        .map(|jwk| KeyRecord {
            public: PublicKey::from_jwk(&jwk.to_string()).unwrap(),
            accept_until: i64::MAX,
            revoked: false,
        })
        .collect();
    assert!(check_signature(&response.access_token, &keys).is_ok());
    let payload = response.access_token.split('.').nth(1).unwrap();
    let payload =
        base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, payload);
    serde_json::from_slice::<Claims>(&payload.unwrap()).unwrap().cnf
}

// ATTACKS 74, 79.
#[tokio::test]
async fn a_token_is_bound_on_request() {
    let system = System::start().await;
    system.ready().await;
    let (client, thief) = (Client::new(), Client::new());
    let local = Workload::local(&system.gateway.issuer);
    let uri = grpc_uri(&system.gateway.origin, "Exchange");
    let key = |client: &Client| Some(Confirmation::Key(client.thumbprint()));
    let named = |client: &Client| ExchangeRequest {
        client_key_thumbprint: client.thumbprint(),
        ..request()
    };

    // The proof of who asks signs the thumbprint, so the key need not be shown.
    let response = exchange(&system, local.sign(named(&client)), "").await.unwrap();
    assert_eq!(
        (cnf(&system, &response).await, response.token_type.as_str()),
        (key(&client), "DPoP")
    );
    // A header says it too; then the binding is the one of the request that names it.
    let mut signed = local.sign(named(&client));
    signed.client_key_thumbprint.clear();
    let response = exchange(&system, signed, &client.proof("1", &uri)).await.unwrap();
    assert_eq!(cnf(&system, &response).await, key(&client));
    // By a certificate, without one at hand.
    let by_certificate = ExchangeRequest {
        client_key_thumbprint: format!("x5t#S256:{}", client.thumbprint()),
        ..request()
    };
    let response = exchange(&system, local.sign(by_certificate), "").await.unwrap();
    let expected = Some(Confirmation::Certificate(client.thumbprint()));
    assert_eq!((cnf(&system, &response).await, response.token_type.as_str()), (expected, "Bearer"));

    let check = async |asked: ExchangeRequest, proof: &str, code: Code, reason: &str| {
        let refused = exchange(&system, asked, proof).await.unwrap_err();
        assert_eq!((refused.code, refused.reason.as_str()), (code, reason), "{refused:?}");
    };
    let (bad, dpop) = (Code::Unauthenticated, "InvalidDpopProof");
    // A stolen proof of identity, with another's key.
    let mut stolen = local.sign(named(&client));
    stolen.client_key_thumbprint = thief.thumbprint();
    check(stolen.clone(), "", bad, "BindingMismatch").await;
    check(stolen, &thief.proof("1", &uri), bad, "BindingMismatch").await;
    check(local.sign(request()), &thief.proof("2", &uri), bad, "BindingMismatch").await;
    let both = local.sign(named(&client));
    check(both, &thief.proof("3", &uri), Code::InvalidArgument, "ValidationError").await;
    for proof in [
        "x",
        "a.b.c",
        &client.proof("4", &uri.replace("https", "http")),
        &client.proof("5", &uri.replace("Exchange", "Revoke")),
        &client.proof_with(json!({"jti": "6", "htm": "GET", "htu": uri, "iat": now()})),
        &client.proof_with(json!({"jti": "7", "htm": "POST", "htu": uri, "iat": now() - 120})),
    ] {
        check(local.sign(named(&client)), proof, bad, dpop).await;
    }
    // A proof that was used.
    let again = client.proof("1", &uri);
    check(local.sign(named(&client)), &again, bad, "DpopProofReplayed").await;
}

// ATTACKS 74.
#[tokio::test]
async fn a_bound_token_stays_bound() {
    let system = System::start().await;
    system.ready().await;
    let (client, thief) = (Client::new(), Client::new());
    let local = Workload::local(&system.gateway.issuer);
    let uri = grpc_uri(&system.gateway.origin, "Exchange");
    let first = |audience: &str| {
        local.sign(ExchangeRequest {
            client_key_thumbprint: client.thumbprint(),
            audience: audience.into(),
            ..request()
        })
    };
    let orders = exchange(&system, first("orders"), "").await.unwrap().access_token;
    let own = exchange(&system, first("countersign"), "").await.unwrap().access_token;
    let chaining = ExchangeRequest {
        subject_token: own.clone(),
        subject_token_type: "urn:ietf:params:oauth:token-type:access_token".into(),
        ..request()
    };
    let mut number = 0;
    for asked in [narrowing(&orders), narrowing(&own), chaining] {
        let mut proof = |client: &Client| {
            number += 1;
            client.proof(&format!("j-{number}"), &uri)
        };
        let check = async |asked: ExchangeRequest, proof: &str, code: Code, reason: &str| {
            let refused = exchange(&system, asked, proof).await.unwrap_err();
            assert_eq!((refused.code, refused.reason.as_str()), (code, reason), "{refused:?}");
        };
        let bad = Code::Unauthenticated;
        check(asked.clone(), "", bad, "ProofOfPossessionRequired").await;
        check(asked.clone(), &proof(&thief), bad, "ProofOfPossessionMismatch").await;
        // Nor is it bound anew, not even by whoever holds the key.
        let rebound = |thumbprint: String| ExchangeRequest {
            client_key_thumbprint: thumbprint,
            ..asked.clone()
        };
        let other = rebound(thief.thumbprint());
        check(other.clone(), "", bad, "ProofOfPossessionRequired").await;
        check(other, &proof(&client), Code::InvalidArgument, "ValidationError").await;
        let response = exchange(&system, asked.clone(), &proof(&client)).await.unwrap();
        let expected = Some(Confirmation::Key(client.thumbprint()));
        assert_eq!(cnf(&system, &response).await, expected);
        assert_eq!(response.token_type, "DPoP");
        let same = rebound(client.thumbprint());
        let response = exchange(&system, same, &proof(&client)).await.unwrap();
        assert_eq!(cnf(&system, &response).await, expected);
    }
    // The decision service is shown what the gateway was shown.
    let shown = system.decision.exchanges().pop().unwrap().proof_of_possession.unwrap();
    assert_eq!((shown.method.as_str(), shown.uri.as_str()), ("POST", uri.as_str()));
    assert!(system.decision.asked().pop().unwrap().proof_of_possession.is_some());

    // A bearer token may be bound when it is exchanged; a bound one is no bearer's anywhere.
    let bearer = system
        .exchange(local.sign(ExchangeRequest { audience: "countersign".into(), ..request() }))
        .await
        .unwrap()
        .access_token;
    let response =
        exchange(&system, narrowing(&bearer), &client.proof("bind", &uri)).await.unwrap();
    assert_eq!(cnf(&system, &response).await, Some(Confirmation::Key(client.thumbprint())));
    assert!(system.decision.exchanges().pop().unwrap().proof_of_possession.is_none());
    let actor = ExchangeRequest {
        actor_token: own.clone(),
        actor_token_type: "urn:ietf:params:oauth:token-type:access_token".into(),
        ..narrowing(&bearer)
    };
    assert_eq!(system.exchange(actor).await.unwrap_err().reason, "ProofOfPossessionRequired");
    let mut rpc = TokenExchangeServiceClient::new(system.gateway.channel.clone());
    let mut asked = Request::new(countersign_proto::token::v1::GetJwksRequest {});
    asked.metadata_mut().insert("authorization", format!("Bearer {own}").parse().unwrap());
    let refused = Refused::from(rpc.get_jwks(asked).await.unwrap_err());
    assert_eq!(refused.reason, "ProofOfPossessionRequired");
}
