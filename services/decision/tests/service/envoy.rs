//! What Envoy asks, over real gRPC.

use std::{collections::HashMap, sync::Arc};

use countersign_decision::Mapping;
use countersign_proto::{
    envoy::v3::{
        Address, AttributeContext, CheckRequest, CheckResponse, SocketAddress, address,
        attribute_context::{HttpRequest, Peer, Request as Inner},
        authorization_client::AuthorizationClient,
        check_response::HttpResponse,
    },
    policy::v1::record::Record as Kind,
};
use countersign_serve::grpc::channel;
use countersign_token::Confirmation;
use tonic::{Code, Request, Status};

use super::bound::Client;
use super::harness::{OURS, System, by, record, refused, role};

const MAPPING: &str = r#"
audience = "orders"

[[rule]]
method = "GET"
path = "/orders/{id}"
action = "orders:GetOrder"
resource = "arn:aws:orders:eu-west-1:111122223333:order/{id}"

[[rule]]
method = "DELETE"
path = "/orders/{id}"
action = "orders:DeleteOrder"
resource = "arn:aws:orders:eu-west-1:111122223333:order/{id}"
[rule.context]
"orders:Tenant" = "{header:x-tenant}"

[spiffe]
"spiffe://example.org/shop" = "arn:aws:iam::111122223333:role/App"
"#;

async fn system() -> System {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mapping.toml");
    std::fs::write(&file, MAPPING).unwrap();
    let mapping = Mapping::read(&file).unwrap();
    let system = System::start_with(|config| config.envoy = Some(Arc::new(mapping))).await;
    // Orders of 40 to 49; those of tenant acme may be deleted, from one address.
    let statements = r#"{"Effect":"Allow","Action":"orders:GetOrder","Resource":"arn:aws:orders:*:*:order/4?"},
        {"Effect":"Allow","Action":"orders:DeleteOrder","Resource":"*","Condition":{
            "StringEquals":{"orders:Tenant":"acme"},"IpAddress":{"aws:SourceIp":"192.0.2.7"}}}"#;
    system.store.put(record("r/App", Kind::Role(role(OURS, "App", Some(statements)))));
    system
}

/// What Envoy sends of a request.
fn http(method: &str, path: &str, headers: &[(&str, &str)]) -> HttpRequest {
    HttpRequest {
        method: method.into(),
        path: path.into(),
        host: "shop.example.com".into(),
        headers: headers.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
        ..Default::default()
    }
}

fn asked(http: HttpRequest, principal: &str) -> CheckRequest {
    let socket = SocketAddress { address: "192.0.2.7".into() };
    let peer = Peer {
        address: Some(Address { address: Some(address::Address::SocketAddress(socket)) }),
        principal: principal.into(),
    };
    let attributes =
        AttributeContext { source: Some(peer), request: Some(Inner { http: Some(http) }) };
    CheckRequest { attributes: Some(attributes) }
}

async fn ask(system: &System, request: Request<CheckRequest>) -> Result<CheckResponse, Status> {
    let mut client = AuthorizationClient::new(channel(&system.origin).unwrap());
    client.check(request).await.map(tonic::Response::into_inner)
}

/// Status, headers and body of what Envoy is told; 200 for a request that may pass.
fn told(answer: CheckResponse) -> (i32, HashMap<String, String>, String) {
    let status = answer.status.unwrap();
    let (code, headers, body) = match answer.http_response.unwrap() {
        HttpResponse::OkResponse(ok) => {
            assert_eq!(status.code, 0);
            (200, ok.headers, String::new())
        }
        HttpResponse::DeniedResponse(denied) => {
            assert_ne!(status.code, 0, "{denied:?}");
            (denied.status.unwrap().code, denied.headers, denied.body)
        }
    };
    let headers = headers.into_iter().map(|option| {
        assert_eq!(option.append, Some(false), "a header of the client's would stay");
        let header = option.header.unwrap();
        (header.key, header.value)
    });
    (code, headers.collect(), body)
}

#[tokio::test]
async fn a_request_passes_by_the_policies_of_its_bearer() {
    let system = system().await;
    let bearer = format!("Bearer {}", system.token("App", "orders"));
    let check =
        async |method: &str, path: &str, more: &[(&str, &str)], expected: i32, said: &str| {
            let mut headers = vec![("authorization", bearer.as_str())];
            headers.extend_from_slice(more);
            let request = system.by_checker(asked(http(method, path, &headers), ""));
            let (code, headers, body) = told(ask(&system, request).await.unwrap());
            assert_eq!(code, expected, "{method} {path}: {body}");
            assert!(body.contains(said), "{method} {path}: {body}");
            headers
        };
    let headers = check("GET", "/orders/42?verbose=1", &[], 200, "").await;
    assert_eq!(headers["x-countersign-principal"], "arn:aws:sts::111122223333:assumed-role/App/s1");
    assert!(headers["x-countersign-decision-id"].starts_with("d-"));
    let headers = check("GET", "/orders/7", &[], 403, "not authorized").await;
    assert!(headers["x-countersign-decision-id"].starts_with("d-"));
    check("DELETE", "/orders/42", &[("x-tenant", "acme")], 200, "").await;
    check("DELETE", "/orders/42", &[("x-tenant", "other")], 403, "not authorized").await;
    check("DELETE", "/orders/42", &[], 403, "not authorized").await;
    check("POST", "/orders/42", &[], 403, "no rule").await;
    check("GET", "/orders/42/items", &[], 403, "no rule").await;
    check("GET", "/orders/42/../43", &[], 400, "..").await;
    check("GET", "/orders/4%2F2", &[], 400, "slash").await;
    check("GET", "/orders//42", &[], 400, "empty segment").await;
}

#[tokio::test]
async fn nobody_passes_without_one_good_token() {
    let system = system().await;
    let check = async |authorization: Option<&str>, expected: i32| {
        let headers: Vec<_> = authorization.iter().map(|value| ("authorization", *value)).collect();
        let request = system.by_checker(asked(http("GET", "/orders/42", &headers), ""));
        let (code, headers, body) = told(ask(&system, request).await.unwrap());
        assert_eq!(code, expected, "{authorization:?}: {body}");
        if code == 401 {
            assert!(headers["www-authenticate"].starts_with("Bearer, DPoP"));
        }
    };
    let good = system.token("App", "orders");
    check(Some(&format!("bearer {good}")), 200).await;
    check(None, 401).await;
    check(Some(&good), 401).await;
    check(Some("Bearer "), 401).await;
    check(Some("Basic eDp5"), 401).await;
    check(Some(&format!("Bearer {good},Bearer {good}")), 401).await;
    check(Some(&format!("Bearer {good} ")), 401).await;
    check(Some(&format!("Bearer {}x", good)), 401).await;
    check(Some(&format!("Bearer {}", system.token("App", "invoices"))), 401).await;
    let old = system.minted("App", "orders", |claims| {
        claims.iat -= 2000;
        claims.exp -= 2000;
    });
    check(Some(&format!("Bearer {old}")), 401).await;
}

#[tokio::test]
async fn a_peers_spiffe_id_stands_for_the_principal_it_is_mapped_to() {
    let system = system().await;
    let check = async |principal: &str, path: &str, expected: i32| {
        let request = system.by_checker(asked(http("GET", path, &[]), principal));
        let (code, _, body) = told(ask(&system, request).await.unwrap());
        assert_eq!(code, expected, "{principal} {path}: {body}");
    };
    check("spiffe://example.org/shop", "/orders/42", 200).await;
    check("spiffe://example.org/shop", "/orders/7", 403).await;
    check("spiffe://example.org/shop/", "/orders/42", 401).await;
    check("spiffe://example.org/SHOP", "/orders/42", 401).await;
    check("", "/orders/42", 401).await;
}

#[tokio::test]
async fn the_reason_is_for_those_who_may_see_policy() {
    let system = system().await;
    // The subject's own role may explain.
    let statements = r#"{"Effect":"Allow","Action":"countersign:Explain","Resource":"*"}"#;
    system.store.put(record("r/App", Kind::Role(role(OURS, "App", Some(statements)))));
    let bearer = format!("Bearer {}", system.token("App", "orders"));
    let request = http("GET", "/orders/42", &[("authorization", &bearer)]);
    let (code, _, body) = told(ask(&system, system.by_checker(asked(request, ""))).await.unwrap());
    assert_eq!(code, 403);
    assert!(body.contains("no identity policy of role App allows orders:GetOrder"), "{body}");
}

#[tokio::test]
async fn envoy_itself_needs_a_right_to_ask() {
    let system = system().await;
    let bearer = format!("Bearer {}", system.token("App", "orders"));
    let question = || asked(http("GET", "/orders/42", &[("authorization", &bearer)]), "");
    let (code, _, message) = refused(ask(&system, Request::new(question())).await);
    assert_eq!(code, Code::Unauthenticated, "{message}");
    // A session that has no countersign:Authorize.
    let (code, _, message) =
        refused(ask(&system, by(&system.token("App", "countersign"), question())).await);
    assert_eq!(code, Code::PermissionDenied, "{message}");
    // Without a mapping nothing passes.
    let bare = System::start().await;
    let (code, reason, message) = refused(ask(&bare, bare.by_checker(question())).await);
    assert_eq!((code, reason.as_str()), (Code::FailedPrecondition, "NoMapping"), "{message}");
}

// ATTACKS 74, 79.
#[tokio::test]
async fn a_bound_token_passes_with_a_proof_of_its_key() {
    let system = system().await;
    let (client, thief) = (Client::new(), Client::new());
    let token = system.minted("App", "orders", |claims| {
        claims.cnf = Some(Confirmation::Key(client.thumbprint()));
    });
    let uri = "https://shop.example.com/orders/42";
    let proof =
        |by: &Client, name: &str, uri: &str| by.proof_of(name, "GET", uri, &token).dpop_proof;
    let (dpop, bearer) = (format!("DPoP {token}"), format!("Bearer {token}"));
    let check = async |authorization: &str, proof: &str, expected: i32, said: &str| {
        let mut headers = vec![("authorization", authorization)];
        if !proof.is_empty() {
            headers.push(("dpop", proof));
        }
        let mut http = http("GET", "/orders/42?page=1", &headers);
        http.scheme = "https".into();
        let answer = ask(&system, system.by_checker(asked(http, ""))).await.unwrap();
        let (status, headers, body) = told(answer);
        assert_eq!(status, expected, "{body}");
        assert!(body.contains(said), "{body}");
        let challenge = headers.get("www-authenticate").map(String::as_str);
        assert_eq!(challenge.is_some_and(|it| it.contains("DPoP")), status == 401);
    };
    check(&bearer, "", 401, "refused").await;
    check(&bearer, &proof(&client, "1", uri), 401, "refused").await;
    check(&dpop, "", 401, "one proof").await;
    let good = proof(&client, "2", uri);
    check(&dpop, &good, 200, "").await;
    check(&dpop, &good, 401, "used before").await;
    check(&dpop, &format!("{good},{good}"), 401, "one proof").await;
    check(&dpop, &proof(&thief, "3", uri), 401, "refused").await;
    check(&dpop, &proof(&client, "4", "https://shop.example.com/orders/43"), 401, "URI").await;
    check(&dpop, &client.proof_of("5", "PUT", uri, &token).dpop_proof, 401, "method").await;
    check(&dpop, &client.proof_of("6", "GET", uri, "other").dpop_proof, 401, "token").await;
    let free = format!("DPoP {}", system.token("App", "orders"));
    check(&free, &proof(&client, "7", uri), 401, "refused").await;
}
