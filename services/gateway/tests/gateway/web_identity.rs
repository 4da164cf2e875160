//! JWTs of configured issuers, as the gateway takes them: whom it believes, whom it asks, and how often.

use std::sync::Arc;

use countersign_proto::{decision::v1::AuthorizeAssumeRoleResponse, token::v1::ExchangeRequest};
use countersign_token::Realm;
use serde_json::json;
use tonic::Code;

use crate::{
    decision::{allow, deny},
    granted::verified,
    idp::Idp,
    proofs::{Workload, request},
    system::System,
};

const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";
const AUDIENCE: &str = "https://tokens.example.com";

async fn start(kind: &str, more: &str) -> (System, Arc<Idp>) {
    let idp = Idp::start().await;
    let issuers = idp.configured(kind, &format!("audience = \"{AUDIENCE}\"\n{more}"));
    let system =
        System::start_as(|_| {}, ";format=xml", |config| config.jwt_issuers = issuers).await;
    system.ready().await;
    (system, idp)
}

fn shown(token: &str) -> ExchangeRequest {
    ExchangeRequest {
        subject_token: token.into(),
        subject_token_type: JWT.into(),
        external_id: String::new(),
        ..request()
    }
}

async fn refused(system: &System, token: &str) -> (Code, String) {
    let refused = system.exchange(shown(token)).await.unwrap_err();
    (refused.code, refused.reason)
}

#[tokio::test]
async fn a_pod_exchanges_its_token() {
    let (system, idp) = start("eks", "").await;
    let response = system.exchange(shown(&idp.good(AUDIENCE))).await.unwrap();
    let token = verified(&system, &response, "orders").await;
    let session = &token.claims().session;
    let provider = idp.issuer.trim_start_matches("http://");
    assert_eq!(session.proof_type, JWT);
    assert_eq!(session.caller.realm, Realm::WebIdentity);
    assert_eq!(session.caller.unique_id, "system:serviceaccount:shop:orders");
    assert_eq!(session.caller.arn, format!("arn:aws:iam::000000000000:oidc-provider/{provider}"));
    let asked = system.decision.asked().pop().unwrap();
    assert_eq!((asked.identity, asked.subject_token.as_str()), (None, ""));
    assert_eq!((asked.proof_bound, asked.proof_challenged), (false, false));
    let shown_to_decision = asked.web_identity.unwrap();
    assert_eq!(shown_to_decision.provider, provider);
    assert_eq!(shown_to_decision.audience, AUDIENCE);
    assert_eq!(shown_to_decision.aws_principal, None);
    // Nobody else is asked, and nothing is spent; the token lasts, and the keys are kept.
    assert_eq!((system.store.calls("ConsumeProof"), system.sts.asked()), (0, 0));
    system.exchange(shown(&idp.good(AUDIENCE))).await.unwrap();
    assert_eq!(idp.asked(), 2, "metadata and keys, once");
}

// ATTACKS 67.
#[tokio::test]
async fn what_aws_says_goes_on_and_what_its_caller_says_does_not() {
    let (system, idp) = start("aws-sts", "account = \"123456789012\"").await;
    let mut claims = idp.claims(AUDIENCE);
    claims["sub"] = json!("arn:aws:iam::123456789012:role/App");
    claims["https://sts.amazonaws.com/"] = json!({
        "aws_account": "123456789012", "org_id": "o-1", "principal_tags": {"team": "data"},
        "request_tags": {"team": "root", "admin": "true"},
        "lambda_source_function_arn": "arn:aws:lambda:us-east-1:123456789012:function:f",
    });
    system.exchange(shown(&idp.sign(&claims))).await.unwrap();
    let asked = system.decision.asked().pop().unwrap();
    assert!(!format!("{asked:?}").contains("root"), "{asked:?}");
    let principal = asked.web_identity.unwrap().aws_principal.unwrap();
    assert_eq!(principal.account_id, "123456789012");
    assert_eq!(principal.org_id, "o-1");
    assert_eq!(principal.principal_tags.len(), 1);
    assert!(principal.lambda_source_function_arn.ends_with(":f"));
    // ATTACKS 65: the same issuer, another account.
    claims["sub"] = json!("arn:aws:iam::210987654321:role/App");
    let expected = (Code::Unauthenticated, "AccountNotAllowed".to_owned());
    assert_eq!(refused(&system, &idp.sign(&claims)).await, expected);
}

// ATTACKS 63 to 71, as far as they reach the gateway; the crate has the whole list.
#[tokio::test]
async fn tokens_that_show_nobody() {
    let (system, idp) = start("oidc", "").await;
    let stranger = Idp::start().await;
    let proof = Workload::local(&system.gateway.issuer).sign(request()).subject_token;
    let own = {
        let local = Workload::local(&system.gateway.issuer);
        system.exchange(local.sign(request())).await.unwrap().access_token
    };
    let with = |name: &str, value: serde_json::Value| {
        let mut claims = idp.claims(AUDIENCE);
        claims[name] = value;
        idp.sign(&claims)
    };
    let (questions, strangers) = (system.decision.asked().len(), stranger.asked());
    for (token, reason) in [
        (stranger.good(AUDIENCE), "UnknownIssuer"),
        (with("iss", json!("http://169.254.169.254")), "UnknownIssuer"),
        (with("iss", json!(format!("{}/", idp.issuer))), "UnknownIssuer"),
        (with("aud", json!("sts.amazonaws.com")), "WrongAudience"),
        (with("aud", json!([AUDIENCE, "b"])), "WrongAudience"),
        (with("aud", json!(system.gateway.issuer)), "WrongAudience"),
        (with("exp", json!(4_102_444_800_i64)), "InvalidIdentityToken"),
        (with("exp", json!(1)), "InvalidIdentityToken"),
        (with("iat", json!("1")), "InvalidIdentityToken"),
        (format!("{}x", idp.good(AUDIENCE)), "InvalidIdentityToken"),
        (proof, "InvalidIdentityToken"),
        (own, "UnknownIssuer"),
        ("a".repeat(20 * 1024), "InvalidIdentityToken"),
    ] {
        let found = refused(&system, &token).await;
        assert_eq!(found, (Code::Unauthenticated, reason.to_owned()), "{token}");
    }
    assert_eq!(system.decision.asked().len(), questions, "nobody was asked");
    assert_eq!(stranger.asked(), strangers, "nobody was fetched from");
    // ATTACKS 78: the type chooses, and nothing is tried besides.
    let lies = ExchangeRequest {
        subject_token_type: "urn:ietf:params:oauth:token-type:access_token".into(),
        ..shown(&idp.good(AUDIENCE))
    };
    assert_eq!(system.exchange(lies).await.unwrap_err().reason, "InvalidToken");
}

// ATTACKS 60.
#[tokio::test]
async fn an_unknown_key_costs_one_question() {
    let (system, idp) = start("oidc", "").await;
    system.exchange(shown(&idp.good(AUDIENCE))).await.unwrap();
    assert_eq!(idp.asked(), 2);
    // Its keys are turned over: it was asked a moment ago, so the new one is not known for the next seconds, whatever is sent.
    idp.add_key("k2");
    for _ in 0..20 {
        let found = refused(&system, &idp.good(AUDIENCE)).await;
        assert_eq!(found, (Code::Unauthenticated, "UnknownKey".to_owned()));
    }
    assert_eq!(idp.asked(), 2);
}

/// What makes an issuer answer badly.
type Spoil = Box<dyn Fn(&Idp)>;

// ATTACKS 66.
#[tokio::test]
async fn an_issuer_that_answers_badly() {
    let elsewhere = Idp::start().await;
    let own = |idp: &Idp| idp.issuer.clone();
    let cases: [(&str, Spoil); 7] = [
        (
            "redirects",
            Box::new(|idp| {
                *idp.metadata.lock().unwrap() = Some((302, format!("{}/keys", idp.issuer)));
            }),
        ),
        ("names another origin", {
            let uri = format!("{}/keys", elsewhere.issuer);
            Box::new(move |idp| {
                let body = json!({"issuer": own(idp), "jwks_uri": uri}).to_string();
                *idp.metadata.lock().unwrap() = Some((200, body));
            })
        }),
        (
            "is another's",
            Box::new(|idp| {
                let uri = format!("{}/keys", idp.issuer);
                let body =
                    json!({"issuer": "https://other.example.com", "jwks_uri": uri}).to_string();
                *idp.metadata.lock().unwrap() = Some((200, body));
            }),
        ),
        (
            "redirects to keys",
            Box::new(|idp| {
                *idp.jwks.lock().unwrap() = Some((307, "http://169.254.169.254/".to_owned()));
            }),
        ),
        ("fails", Box::new(|idp| *idp.jwks.lock().unwrap() = Some((500, "{}".to_owned())))),
        (
            "is too long",
            Box::new(|idp| {
                *idp.jwks.lock().unwrap() = Some((200, " ".repeat(65 * 1024)));
            }),
        ),
        (
            "has no keys",
            Box::new(|idp| {
                *idp.jwks.lock().unwrap() = Some((200, r#"{"keys":[]}"#.to_owned()));
            }),
        ),
    ];
    for (name, spoil) in cases {
        let (system, idp) = start("oidc", "").await;
        spoil(&idp);
        let refused = system.exchange(shown(&idp.good(AUDIENCE))).await.unwrap_err();
        let found = (refused.code, refused.reason.as_str(), refused.retry);
        assert_eq!(found, (Code::Unavailable, "IssuerUnavailable", true), "{name}");
        let asked = idp.asked();
        system.exchange(shown(&idp.good(AUDIENCE))).await.unwrap_err();
        assert_eq!(idp.asked(), asked, "{name}: asked again at once");
    }
    assert_eq!(elsewhere.asked(), 0);
}

#[tokio::test]
async fn the_decision_is_the_decision_services() {
    let (system, idp) = start("eks", "").await;
    system
        .decision
        .answers(|_| Ok(deny(countersign_proto::decision::v1::DecisionReason::NoTrustAllow)));
    let refused = system.exchange(shown(&idp.good(AUDIENCE))).await.unwrap_err();
    assert_eq!((refused.code, refused.reason.as_str()), (Code::PermissionDenied, "AccessDenied"));
    assert!(refused.message.contains("sts:AssumeRoleWithWebIdentity"), "{}", refused.message);
    assert!(!refused.message.contains("words-of-the-decision"), "{}", refused.message);
    // Nothing is pinned for a web identity, and it speaks for nobody: whoever says so is broken.
    for (pin_required, service) in [(true, ""), (false, "ec2.amazonaws.com")] {
        system.decision.answers(move |request| {
            let service_principal = service.to_owned();
            Ok(AuthorizeAssumeRoleResponse { pin_required, service_principal, ..allow(request) })
        });
        let refused = system.exchange(shown(&idp.good(AUDIENCE))).await.unwrap_err();
        assert_eq!((refused.code, refused.reason.as_str()), (Code::Internal, "ServiceFailure"));
    }
}

// ATTACKS 83.
#[tokio::test]
async fn a_web_identity_token_is_in_no_log() {
    let (system, idp) = start("eks", "").await;
    let token = idp.good(AUDIENCE);
    system.exchange(shown(&token)).await.unwrap();
    let signature = token.rsplit('.').next().unwrap();
    assert!(!crate::system::log().contains(signature));
}
