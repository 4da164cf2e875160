//! `POST /oauth2/token`, what there is, and the keys, over HTTP.

use bytes::Bytes;
use countersign_proto::token::v1::{ExchangeRequest, ExchangeResponse, Tag};
use http::{HeaderMap, Request};
use http_body_util::Full;
use serde_json::{Value, json};

use crate::{
    client::Client,
    granted::verified,
    narrowed::narrowing,
    proofs::{Workload, request},
    system::System,
};

const GRANT: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const FORM: &str = "application/x-www-form-urlencoded";

/// The form of a request.
fn form(request: &ExchangeRequest) -> Vec<(&'static str, String)> {
    let ExchangeRequest {
        subject_token,
        subject_token_type,
        actor_token,
        actor_token_type,
        role_arn,
        role_session_name,
        audience,
        scope,
        duration_seconds,
        policy,
        policy_arns,
        tags,
        transitive_tag_keys,
        external_id,
        source_identity,
        requested_token_type,
        client_key_thumbprint,
        may_act,
    } = request.clone();
    let tags: Vec<_> = tags.iter().map(|tag| json!({"key": tag.key, "value": tag.value})).collect();
    let mut pairs = vec![
        ("grant_type", GRANT.to_owned()),
        ("subject_token", subject_token),
        ("subject_token_type", subject_token_type),
        ("actor_token", actor_token),
        ("actor_token_type", actor_token_type),
        ("role_arn", role_arn),
        ("role_session_name", role_session_name),
        ("audience", audience),
        ("scope", scope),
        ("duration_seconds", duration_seconds.to_string()),
        ("policy", policy),
        ("tags", if tags.is_empty() { String::new() } else { json!(tags).to_string() }),
        ("external_id", external_id),
        ("source_identity", source_identity),
        ("requested_token_type", requested_token_type),
        ("client_key_thumbprint", client_key_thumbprint),
        ("may_act", may_act),
    ];
    pairs.extend(policy_arns.into_iter().map(|arn| ("policy_arns", arn)));
    pairs.extend(transitive_tag_keys.into_iter().map(|key| ("transitive_tag_keys", key)));
    pairs
}

pub fn encoded(pairs: &[(&str, String)]) -> String {
    let escape = |text: &str| -> String {
        text.bytes()
            .map(|byte| match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
                other => format!("%{other:02X}"),
            })
            .collect()
    };
    pairs.iter().map(|(n, v)| format!("{}={}", escape(n), escape(v))).collect::<Vec<_>>().join("&")
}

pub async fn post(
    system: &System,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> (u16, HeaderMap, Value) {
    let mut request = Request::post(format!("{}{path}", system.gateway.issuer));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(Bytes::from(body.to_owned()))).unwrap();
    let (status, headers, body) = system.gateway.http(request).await;
    (status, headers, serde_json::from_str(&body).unwrap_or(Value::String(body)))
}

async fn token(system: &System, asked: &ExchangeRequest) -> (u16, HeaderMap, Value) {
    post(system, "/oauth2/token", &[("content-type", FORM)], &encoded(&form(asked))).await
}

async fn check(system: &System, asked: &ExchangeRequest, error: &str, reason: &str) {
    let (status, headers, body) = token(system, asked).await;
    assert_eq!((status, body["error"].as_str().unwrap()), (400, error), "{body}");
    assert_eq!(body["reason"], reason, "{body}");
    assert!(!body["error_description"].as_str().unwrap().is_empty());
    assert_eq!(headers["cache-control"], "no-store");
    assert_eq!(headers["content-type"], "application/json");
}

#[tokio::test]
async fn a_form_is_the_same_exchange() {
    let system = System::start().await;
    system.ready().await;
    let local = Workload::local(&system.gateway.issuer);
    let asked = local.sign(ExchangeRequest {
        scope: "orders:Get* orders:List*".into(),
        policy: "{\"a\": \"ö+&=%\"}".into(),
        policy_arns: vec!["arn:aws:iam::aws:policy/B".into(), "arn:aws:iam::aws:policy/A".into()],
        tags: vec![
            Tag { key: "Team".into(), value: "größe & co".into() },
            Tag { key: "Empty".into(), value: String::new() },
        ],
        transitive_tag_keys: vec!["Team".into()],
        source_identity: "alice".into(),
        ..request()
    });
    let (status, headers, body) = token(&system, &asked).await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(
        (&headers["cache-control"], &headers["pragma"]),
        (&"no-store".parse().unwrap(), &"no-cache".parse().unwrap())
    );
    assert_eq!(body["issued_token_type"], "urn:ietf:params:oauth:token-type:access_token");
    assert_eq!((&body["token_type"], &body["expires_in"]), (&json!("Bearer"), &json!(900)));
    assert_eq!(body["scope"], "orders:Get* orders:List*");
    let response = ExchangeResponse {
        access_token: body["access_token"].as_str().unwrap().to_owned(),
        ..Default::default()
    };
    let claims = verified(&system, &response, "orders").await.claims().clone();
    assert_eq!(body["assumed_role_user"]["arn"], claims.sub);
    assert_eq!(body["assumed_role_user"]["assumed_role_id"], claims.client_id);
    assert_eq!(claims.session.session_tags["Team"], "größe & co");
    assert_eq!(claims.session.transitive_tag_keys.iter().collect::<Vec<_>>(), ["Team"]);
    let question = system.decision.asked().pop().unwrap();
    assert_eq!(question.policy_arns, asked.policy_arns);
    assert_eq!(question.source_address, "127.0.0.1");

    // What the binding is of, in a form as elsewhere; and a proof is good once, whichever way it comes.
    check(&system, &asked, "invalid_request", "ProofAlreadyUsed").await;
    assert_eq!(system.exchange(asked.clone()).await.unwrap_err().reason, "ProofAlreadyUsed");
    let other = ExchangeRequest { audience: "billing".into(), ..local.sign(request()) };
    check(&system, &other, "invalid_request", "BindingMismatch").await;
    // Narrowing by form.
    let narrower = ExchangeRequest {
        scope: "orders:GetOrder s3:*".into(),
        ..narrowing(&response.access_token)
    };
    let (status, _, body) = token(&system, &narrower).await;
    assert_eq!((status, &body["scope"]), (200, &json!("orders:GetOrder")), "{body}");
    let (status, _, body) = token(&system, &narrowing(&response.access_token)).await;
    assert_eq!((status, &body["scope"]), (200, &json!("orders:Get* orders:List*")));
}

#[tokio::test]
async fn errors_are_oauths() {
    let system = System::start().await;
    system.ready().await;
    let local = Workload::local(&system.gateway.issuer);
    let check = async |change: fn(&mut ExchangeRequest), error: &str, reason: &str| {
        let mut asked = local.sign(request());
        change(&mut asked);
        check(&system, &asked, error, reason).await;
    };
    let invalid = "invalid_request";
    check(|r| r.subject_token.clear(), invalid, "MissingAuthenticationToken").await;
    check(|r| r.subject_token_type = "urn:x".into(), invalid, "UnsupportedTokenType").await;
    check(|r| r.requested_token_type = "urn:x".into(), invalid, "ValidationError").await;
    check(|r| r.role_arn = "x".into(), invalid, "ValidationError").await;
    check(|r| r.audience.clear(), "invalid_target", "ValidationError").await;
    check(|r| r.scope = "x".repeat(2000), "invalid_scope", "ValidationError").await;
    check(|r| r.subject_token.insert(0, '='), invalid, "ProofNotBase64Url").await;
    let scoped = ExchangeRequest { scope: "orders:Get*".into(), ..request() };
    let scoped = system.exchange(local.sign(scoped)).await.unwrap().access_token;
    let wider = ExchangeRequest { scope: "orders:Put*".into(), ..narrowing(&scoped) };
    super::http_token::check(&system, &wider, "invalid_scope", "InvalidScope").await;
    let elsewhere = ExchangeRequest { audience: "billing".into(), ..narrowing(&scoped) };
    super::http_token::check(&system, &elsewhere, "invalid_target", "AudienceNotAllowed").await;
    system.decision.answers(|_| {
        Ok(crate::decision::deny(countersign_proto::decision::v1::DecisionReason::NoTrustAllow))
    });
    check(|_| {}, invalid, "AccessDenied").await;
    system.decision.answers(|_| Err(tonic::Status::unavailable("away")));
    let (status, headers, body) = token(&system, &local.sign(request())).await;
    assert_eq!((status, &body["error"]), (503, &json!("temporarily_unavailable")), "{body}");
    assert_eq!(headers["retry-after"], "1");
    assert_eq!(headers["cache-control"], "no-store");

    // What is no token request at all.
    let good = encoded(&form(&local.sign(request())));
    let asked = system.decision.asked().len();
    let form_type = ("content-type", FORM);
    let long = format!("{good}&policy={}", "x".repeat(64 * 1024));
    let no_grant = good.replacen("grant", "grunt", 1);
    let twice = format!("{good}&audience=x");
    let unknown = format!("{good}&resource=x");
    let password = good.replacen("token%2Dexchange", "password", 1);
    let json_type = ("content-type", "application/json");
    let basic = ("authorization", "Basic eDp5");
    for (path, headers, body, status, error) in [
        ("/oauth2/token", vec![form_type], "", 400, invalid),
        ("/oauth2/token", vec![form_type], &no_grant, 400, invalid),
        ("/oauth2/token", vec![form_type], &twice, 400, invalid),
        ("/oauth2/token", vec![form_type], &unknown, 400, invalid),
        ("/oauth2/token", vec![form_type], &password, 400, "unsupported_grant_type"),
        ("/oauth2/token", vec![json_type], &good, 400, invalid),
        ("/oauth2/token", vec![], &good, 400, invalid),
        ("/oauth2/token?audience=x", vec![form_type], &good, 400, invalid),
        ("/oauth2/token", vec![form_type, basic], &good, 400, invalid),
        ("/oauth2/token", vec![form_type], &long, 413, invalid),
    ] {
        let (found, _, answer) = post(&system, path, &headers, body).await;
        assert_eq!((found, answer["error"].as_str().unwrap()), (status, error), "{answer}");
    }
    assert_eq!(system.gateway.http_get("/oauth2/token").await.0, 405);
    assert_eq!(system.decision.asked().len(), asked, "nobody was asked");
}

// ATTACKS 74, 79.
#[tokio::test]
async fn a_header_binds_the_token() {
    let system = System::start().await;
    system.ready().await;
    let local = Workload::local(&system.gateway.issuer);
    let client = Client::new();
    let uri = format!("{}/oauth2/token", system.gateway.issuer);
    let named = || ExchangeRequest { client_key_thumbprint: client.thumbprint(), ..request() };
    let exchange = async |asked: &ExchangeRequest, proofs: &[String]| {
        let mut headers = vec![("content-type", FORM)];
        headers.extend(proofs.iter().map(|proof| ("dpop", proof.as_str())));
        post(&system, "/oauth2/token", &headers, &encoded(&form(asked))).await
    };
    let mut asked = local.sign(named());
    asked.client_key_thumbprint.clear();
    let (status, _, body) = exchange(&asked, &[client.proof("1", &uri)]).await;
    assert_eq!((status, &body["token_type"]), (200, &json!("DPoP")), "{body}");
    let bound = narrowing(body["access_token"].as_str().unwrap());
    let (status, _, body) = exchange(&bound, &[client.proof("2", &uri)]).await;
    assert_eq!((status, &body["token_type"]), (200, &json!("DPoP")), "{body}");
    let refused = async |asked: &ExchangeRequest, proofs: &[String], error: &str, reason: &str| {
        let (status, _, body) = exchange(asked, proofs).await;
        assert_eq!((status, &body["error"]), (400, &json!(error)), "{body}");
        assert_eq!(body["reason"], reason, "{body}");
    };
    let (invalid, dpop) = ("invalid_request", "invalid_dpop_proof");
    refused(&bound, &[], invalid, "ProofOfPossessionRequired").await;
    refused(&bound, &[client.proof("2", &uri)], dpop, "DpopProofReplayed").await;
    let elsewhere = client.proof("3", &uri.replace("token", "revoke"));
    refused(&bound, &[elsewhere], dpop, "InvalidDpopProof").await;
    let two = [client.proof("4", &uri), client.proof("5", &uri)];
    refused(&bound, &two, dpop, "InvalidDpopProof").await;
    let thief = Client::new().proof("1", &uri);
    refused(&bound, std::slice::from_ref(&thief), invalid, "ProofOfPossessionMismatch").await;
    refused(&local.sign(request()), &[thief], invalid, "BindingMismatch").await;
}

#[tokio::test]
async fn what_there_is() {
    let system = System::start().await;
    system.ready().await;
    let issuer = system.gateway.issuer.clone();
    let paths = ["/.well-known/openid-configuration", "/.well-known/oauth-authorization-server"];
    for path in paths {
        let (status, headers, body) = system.gateway.http_get(path).await;
        assert_eq!((status, &headers["content-type"]), (200, &"application/json".parse().unwrap()));
        assert_eq!(headers["cache-control"], "public, max-age=300");
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(body["issuer"], issuer);
        assert_eq!(body["grant_types_supported"], json!([GRANT]));
        // Each endpoint that is named is there.
        for (name, at) in body.as_object().unwrap() {
            if !name.ends_with("_endpoint") && name != "jwks_uri" {
                continue;
            }
            let path = at.as_str().unwrap().strip_prefix(&issuer).unwrap();
            let (status, _, _) = system.gateway.http_get(path).await;
            assert_eq!(status, if name == "jwks_uri" { 200 } else { 405 }, "{name}");
        }
    }
    // RFC 9110 section 13.1.2.
    let (_, headers, jwks) = system.gateway.http_get("/.well-known/jwks.json").await;
    let etag = headers["etag"].clone();
    assert_eq!(headers["content-type"], "application/jwk-set+json");
    let ask = async |value: &str| {
        let request = Request::get(format!("{issuer}/.well-known/jwks.json"))
            .header("if-none-match", value)
            .body(Full::default())
            .unwrap();
        system.gateway.http(request).await
    };
    let (status, headers, body) = ask(etag.to_str().unwrap()).await;
    assert_eq!((status, body.as_str(), &headers["etag"]), (304, "", &etag));
    assert_eq!(headers["cache-control"], "public, max-age=300");
    let (status, _, body) = ask("\"other\"").await;
    assert_eq!((status, body), (200, jwks));
}
