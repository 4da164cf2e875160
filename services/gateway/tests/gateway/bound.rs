//! Tokens bound to a client's key: asked for by its thumbprint, or by a DPoP proof, and never stripped of it.

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign_proto::token::v1::{
    ExchangeRequest, ExchangeResponse, IntrospectRequest,
    token_exchange_service_client::TokenExchangeServiceClient,
};
use countersign_token::{Claims, Confirmation, KeyRecord, KeySet, PublicKey, check_signature};
use serde_json::{Value, json};
use tonic::{Code, Request};

use crate::{
    client::{Client, grpc_uri},
    http_token::{encoded, post},
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
    // Who acts shows its key in the same way; where both tokens are bound, it is to one key.
    let acting = |subject: &str| ExchangeRequest {
        actor_token: own.clone(),
        actor_token_type: "urn:ietf:params:oauth:token-type:access_token".into(),
        ..narrowing(subject)
    };
    let other_key = Client::new();
    let others = exchange(
        &system,
        local.sign(ExchangeRequest { client_key_thumbprint: other_key.thumbprint(), ..request() }),
        "",
    );
    let others = others.await.unwrap().access_token;
    let check = async |asked: ExchangeRequest, proof: &str, reason: &str| {
        let refused = exchange(&system, asked, proof).await.unwrap_err();
        assert_eq!(refused.reason, reason, "{refused:?}");
    };
    check(acting(&bearer), "", "ProofOfPossessionRequired").await;
    check(acting(&bearer), &thief.proof("act-1", &uri), "ProofOfPossessionMismatch").await;
    check(acting(&others), &client.proof("act-2", &uri), "ProofOfPossessionMismatch").await;
    check(acting(&others), &other_key.proof("act-3", &uri), "ProofOfPossessionMismatch").await;
    let response = exchange(&system, acting(&bearer), &client.proof("act-4", &uri)).await.unwrap();
    assert_eq!(cnf(&system, &response).await, Some(Confirmation::Key(client.thumbprint())));
    assert!(system.decision.exchanges().pop().unwrap().proof_of_possession.is_some());
    let response = exchange(&system, acting(&orders), &client.proof("act-5", &uri)).await.unwrap();
    assert_eq!(cnf(&system, &response).await, Some(Confirmation::Key(client.thumbprint())));
}

// ATTACKS 74, 79, 80: callers' own tokens.
#[tokio::test]
async fn a_bound_caller_shows_its_key() {
    let system = System::start().await;
    system.ready().await;
    let (client, thief) = (Client::new(), Client::new());
    let local = Workload::local(&system.gateway.issuer);
    let own = local.sign(ExchangeRequest {
        client_key_thumbprint: client.thumbprint(),
        audience: "countersign".into(),
        ..request()
    });
    let own = exchange(&system, own, "").await.unwrap().access_token;
    let ath = URL_SAFE_NO_PAD.encode(digest(&SHA256, own.as_bytes()));
    let proof = |by: &Client, name: &str, uri: &str| {
        by.proof_with(json!({"jti": name, "htm": "POST", "htu": uri, "iat": now(), "ath": ath}))
    };
    let rpc = async |authorization: String, proof: &str| {
        let mut rpc = TokenExchangeServiceClient::new(system.gateway.channel.clone());
        let mut asked = Request::new(countersign_proto::token::v1::GetJwksRequest {});
        asked.metadata_mut().insert("authorization", authorization.parse().unwrap());
        if !proof.is_empty() {
            asked.metadata_mut().insert("dpop", proof.parse().unwrap());
        }
        rpc.get_jwks(asked).await.err().map(|status| Refused::from(status).reason)
    };
    let uri = grpc_uri(&system.gateway.origin, "GetJwks");
    let (bearer, dpop) = (format!("Bearer {own}"), format!("DPoP {own}"));
    let required = Some("ProofOfPossessionRequired".to_owned());
    assert_eq!(rpc(bearer.clone(), "").await, required);
    assert_eq!(rpc(bearer.clone(), &proof(&client, "1", &uri)).await, required);
    assert_eq!(rpc(dpop.clone(), "").await, required);
    assert_eq!(rpc(dpop.clone(), &proof(&client, "2", &uri)).await, None);
    assert_eq!(rpc(dpop.clone(), &proof(&client, "2", &uri)).await.unwrap(), "DpopProofReplayed");
    let elsewhere = grpc_uri(&system.gateway.origin, "Revoke");
    assert_eq!(
        rpc(dpop.clone(), &proof(&client, "3", &elsewhere)).await.unwrap(),
        "InvalidDpopProof"
    );
    // RFC 9449 section 4.3, 11: with a token goes its hash.
    assert_eq!(rpc(dpop.clone(), &client.proof("4", &uri)).await.unwrap(), "InvalidDpopProof");
    let mismatch = "ProofOfPossessionMismatch";
    assert_eq!(rpc(dpop.clone(), &proof(&thief, "5", &uri)).await.unwrap(), mismatch);

    // Over HTTP the same, of the issuer's URL; and the decision service is shown it too.
    let path = "/oauth2/introspect";
    let uri = format!("{}{path}", system.gateway.issuer);
    let http = async |authorization: &str, proof: &str| {
        let mut headers = vec![
            ("content-type", "application/x-www-form-urlencoded"),
            ("authorization", authorization),
        ];
        if !proof.is_empty() {
            headers.push(("dpop", proof));
        }
        let body = encoded(&[("token", own.clone())]);
        let (status, headers, body) = post(&system, path, &headers, &body).await;
        let challenges = headers.get_all("www-authenticate").iter().count();
        assert_eq!(challenges, if status == 401 { 2 } else { 0 });
        (status, body)
    };
    let (status, body) = http(&bearer, "").await;
    assert_eq!((status, &body["reason"]), (401, &json!("ProofOfPossessionRequired")));
    let (status, body) = http(&dpop, &proof(&client, "6", &uri)).await;
    assert_eq!((status, &body["active"]), (200, &json!(true)));
    let (status, body) = http(&dpop, &proof(&client, "6", &uri)).await;
    assert_eq!((status, &body["reason"]), (401, &json!("DpopProofReplayed")));
    let other = system.exchange(local.sign(request())).await.unwrap().access_token;
    let mut rpc = TokenExchangeServiceClient::new(system.gateway.channel.clone());
    let message = IntrospectRequest { token: other, ..Default::default() };
    let mut asked = Request::new(message);
    let uri = grpc_uri(&system.gateway.origin, "Introspect");
    let shown = proof(&client, "7", &uri);
    asked.metadata_mut().insert("authorization", dpop.parse().unwrap());
    asked.metadata_mut().insert("dpop", shown.parse().unwrap());
    rpc.introspect(asked).await.unwrap();
    let possession = system.decision.permissions().pop().unwrap().proof_of_possession.unwrap();
    assert_eq!((possession.dpop_proof, possession.uri), (shown, uri));
}
