//! What is granted, and what the token says.

use countersign_proto::{
    decision::v1::ProvenIdentity,
    token::v1::{
        ExchangeRequest, ExchangeResponse, GetJwksRequest,
        token_exchange_service_client::TokenExchangeServiceClient,
    },
};
use countersign_token::{Expected, KeyRecord, KeySet, PublicKey, Realm, VerifiedToken, verify};
use serde_json::Value;

use crate::{
    decision::{ROLE_ID, allow},
    proofs::{Form, Workload, open, request},
    store::STORE_ID,
    sts,
    system::{System, log, now},
};

pub async fn verified(
    system: &System,
    response: &ExchangeResponse,
    audience: &str,
) -> VerifiedToken {
    let (status, headers, jwks) = system.gateway.http_get("/.well-known/jwks.json").await;
    let cache = headers["cache-control"].to_str().unwrap();
    assert!(status == 200 && cache.starts_with("public, max-age="), "{status} {cache}");
    let jwks: Value = serde_json::from_str(&jwks).unwrap();
    let keys = jwks["keys"].as_array().unwrap().iter().map(|jwk| KeyRecord {
        public: PublicKey::from_jwk(&jwk.to_string()).unwrap(),
        accept_until: i64::MAX,
        revoked: false,
    });
    let keys: KeySet = keys.collect();
    let expected = Expected { issuer: &system.gateway.issuer, audience, leeway: 5 };
    verify(&response.access_token, &keys, &expected, now()).unwrap()
}

#[tokio::test]
async fn a_local_user_is_granted_a_session() {
    let system = System::start().await;
    system.ready().await;
    for form in [Form::Post, Form::Presigned] {
        let workload =
            Workload::local(&system.gateway.issuer).with(|workload| workload.form = form);
        let asked = request();
        let session = asked.role_session_name.clone();
        let response = system.exchange(workload.sign(asked)).await.unwrap();
        assert_eq!(response.token_type, "Bearer");
        assert_eq!(response.issued_token_type, "urn:ietf:params:oauth:token-type:access_token");
        assert_eq!((response.expires_in, response.scope.as_str()), (900, ""));
        let user = response.assumed_role_user.clone().unwrap();
        let arn = format!("arn:aws:sts::000000000000:assumed-role/R/{session}");
        assert_eq!((user.arn, user.assumed_role_id), (arn.clone(), format!("{ROLE_ID}:{session}")));

        let token = verified(&system, &response, "orders").await;
        let claims = token.claims();
        assert_eq!((claims.sub.as_str(), claims.exp - claims.iat), (arn.as_str(), 900));
        assert_eq!(claims.session.role_id, ROLE_ID);
        assert_eq!(claims.session.proof_type, "urn:countersign:proof:sts-get-caller-identity");
        assert_eq!(claims.session.caller.realm, Realm::Countersign);
        assert_eq!(claims.session.caller.arn, "arn:aws:iam::000000000000:user/team/alice");
        // The later of the key's revision and the decision's.
        assert_eq!(claims.session.revision, format!("{STORE_ID}:1000"));

        let question = system.decision.asked().pop().unwrap();
        assert_eq!(
            question.identity.unwrap(),
            ProvenIdentity {
                realm: "countersign".into(),
                partition: "aws".into(),
                account_id: "000000000000".into(),
                unique_id: "AIDALOCAL123456789012".into(),
                arn: "arn:aws:iam::000000000000:user/team/alice".into(),
            }
        );
        assert_eq!(question.role_arn, "arn:aws:iam::000000000000:role/R");
        assert_eq!((question.role_session_name, question.duration_seconds), (session, 900));
        assert_eq!(
            (question.external_id.as_str(), question.source_address.as_str()),
            ("external-id", "127.0.0.1")
        );
        assert_eq!((question.proof_bound, question.proof_challenged), (true, false));
        assert_eq!(question.proof_type, "urn:countersign:proof:sts-get-caller-identity");
    }
    assert_eq!(system.store.calls("ConsumeProof"), 2);
    assert_eq!(system.store.calls("PinPrincipal"), 0);
    system.stop().await;
}

#[tokio::test]
async fn an_external_role_is_granted_a_session() {
    for options in [";format=xml", ";format=json"] {
        let system = System::start_with(|_| {}, options).await;
        system.ready().await;
        system.decision.answers(|request| {
            Ok(countersign_proto::decision::v1::AuthorizeAssumeRoleResponse {
                pin_required: true,
                ..allow(request)
            })
        });
        for form in [Form::Post, Form::Presigned] {
            let workload = Workload::external(&system.gateway.issuer, &system.sts.origin)
                .with(|w| w.form = form);
            let asked = ExchangeRequest { duration_seconds: 0, ..request() };
            let response = system.exchange(workload.sign(asked)).await.unwrap();
            assert_eq!(response.expires_in, 3600);
            let token = verified(&system, &response, "orders").await;
            let caller = &token.claims().session.caller;
            assert_eq!((caller.realm, caller.arn.as_str()), (Realm::Aws, sts::ARN));
            assert_eq!(caller.unique_id, "AROAEXTERNAL123456789");
        }
        let pins = system.store.with(|inner| inner.pins.clone());
        assert_eq!(
            pins.get("aws:123456789012:role/App").map(String::as_str),
            Some("AROAEXTERNAL123456789")
        );

        // ATTACKS 46: the role was deleted and made again.
        system.sts.answers(sts::identity(sts::ARN, "AROASOMEBODYELSE12345:i-0abc"));
        let workload = Workload::external(&system.gateway.issuer, &system.sts.origin);
        let refused = system.exchange(workload.sign(request())).await.unwrap_err();
        assert_eq!(
            (refused.code, refused.reason.as_str()),
            (tonic::Code::PermissionDenied, "PrincipalIdChanged")
        );
    }
}

#[tokio::test]
async fn keys_over_grpc_and_http_are_the_same() {
    let system = System::start().await;
    system.ready().await;
    let other = system.another_gateway().await;
    countersign_serve::grpc::wait_until_serving(
        &other.origin,
        crate::system::SERVICE,
        std::time::Duration::from_secs(20),
    )
    .await
    .unwrap();
    let mut client = TokenExchangeServiceClient::with_interceptor(
        system.gateway.channel.clone(),
        system.service_credential(),
    );
    let jwks = client.get_jwks(GetJwksRequest {}).await.unwrap().into_inner().jwks;
    assert_eq!(jwks, system.gateway.http_get("/.well-known/jwks.json").await.2);
    // The union of both gateways' keys, at either.
    assert_eq!(jwks, other.http_get("/.well-known/jwks.json").await.2);
    assert_eq!(serde_json::from_str::<Value>(&jwks).unwrap()["keys"].as_array().unwrap().len(), 2);
    assert_eq!(system.gateway.http_get("/healthz").await.0, 200);
}

// ATTACKS 83.
#[tokio::test]
async fn no_secret_is_logged() {
    let system = System::start().await;
    system.ready().await;
    let mut secrets = vec![
        crate::proofs::LOCAL_SECRET.to_owned(),
        sts::SECRET.to_owned(),
        sts::SESSION_TOKEN.to_owned(),
    ];
    for form in [Form::Post, Form::Presigned] {
        for workload in [
            Workload::local(&system.gateway.issuer),
            Workload::external(&system.gateway.issuer, &system.sts.origin),
        ] {
            let workload = workload.with(|workload| workload.form = form);
            let good = workload.sign(request());
            let bad = workload.with(|workload| workload.secret.push('x')).sign(request());
            for request in [good, bad] {
                let envelope = open(&request).to_string();
                let signature =
                    envelope.split("Signature=").nth(1).unwrap().get(..64).unwrap().to_owned();
                secrets.extend([request.subject_token.clone(), signature]);
                if let Ok(response) = system.exchange(request).await {
                    secrets.push(response.access_token);
                }
            }
        }
    }
    let log = log();
    assert!(
        log.contains("exchange granted") && log.contains("exchange refused"),
        "the log is there"
    );
    assert!(log.contains("SignatureDoesNotMatch"), "with reasons");
    for secret in secrets {
        assert!(!log.contains(&secret), "{secret} is in the log");
    }
}

/// For people who look for keys and roles that nobody uses; only what was right counts as a use.
#[tokio::test]
async fn the_store_is_told_what_was_used() {
    let system = System::start().await;
    system.ready().await;
    let workload = Workload::local(&system.gateway.issuer);
    system.exchange(workload.sign(request())).await.unwrap();
    let mut told = Vec::new();
    while told.len() < 2 {
        told = system.store.with(|inner| inner.uses.clone());
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    told.sort_by_key(|it| it.id.clone());
    let said: Vec<_> = told.iter().map(|it| (it.id.as_str(), it.service_name.as_str())).collect();
    assert_eq!(said, [("AKIALOCAL00000000001", "sts"), (ROLE_ID, "")]);
    assert!(
        told.iter().all(|it| (now() - it.last_used_date.unwrap().seconds).abs() < 60),
        "{told:?}"
    );
}
