//! Introspection and revocation: for callers with a token of their own, and no oracle to anybody (ATTACKS 82).

use countersign_proto::{
    decision::v1::{AuthorizeResponse, Decision, authorize_request::Subject, context_value::Kind},
    token::v1::{
        ExchangeRequest, IntrospectRequest, IntrospectResponse, RevokeRequest,
        token_exchange_service_client::TokenExchangeServiceClient,
    },
};
use serde_json::{Value, json};
use tonic::{Code, Request, Status};

use crate::{
    client::Client,
    decision::allow_exchange,
    http_token::{encoded, post},
    proofs::{Workload, request},
    system::{Refused, System},
};

struct World {
    system: System,
    /// A caller's token for Countersign.
    caller: String,
    /// Another session's, for a service.
    token: String,
}

async fn world() -> World {
    let system = System::start().await;
    system.ready().await;
    let caller = token(&system, |asked| asked.audience = "countersign".into()).await;
    let token = token(&system, |asked| asked.scope = "orders:Get*".into()).await;
    World { system, caller, token }
}

async fn token(system: &System, change: impl FnOnce(&mut ExchangeRequest)) -> String {
    let mut asked = request();
    change(&mut asked);
    let local = Workload::local(&system.gateway.issuer);
    system.exchange(local.sign(asked)).await.unwrap().access_token
}

fn by<T>(caller: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    if !caller.is_empty() {
        request.metadata_mut().insert("authorization", format!("Bearer {caller}").parse().unwrap());
    }
    request
}

impl World {
    fn rpc(&self) -> TokenExchangeServiceClient<tonic::transport::Channel> {
        TokenExchangeServiceClient::new(self.system.gateway.channel.clone())
    }

    async fn introspect(&self, caller: &str, token: &str) -> Result<IntrospectResponse, Refused> {
        let message = IntrospectRequest { token: token.into(), token_type_hint: "x".into() };
        Ok(self.rpc().introspect(by(caller, message)).await?.into_inner())
    }

    async fn revoke(&self, caller: &str, token: &str) -> Result<(), Refused> {
        let message = RevokeRequest { token: token.into(), token_type_hint: String::new() };
        Ok(self.rpc().revoke(by(caller, message)).await.map(drop)?)
    }

    async fn http(&self, path: &str, caller: &str, body: &[(&str, &str)]) -> (u16, Value) {
        let authorization = format!("Bearer {caller}");
        let mut headers = vec![("content-type", "application/x-www-form-urlencoded")];
        if !caller.is_empty() {
            headers.push(("authorization", &authorization));
        }
        let body: Vec<_> = body.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        let (status, headers, body) = post(&self.system, path, &headers, &encoded(&body)).await;
        assert_eq!(headers["cache-control"], "no-store");
        assert_eq!(headers.contains_key("www-authenticate"), status == 401);
        (status, body)
    }

    /// What callers may do by their own policies.
    fn policies_allow(&self, allowed: bool) {
        self.system.decision.permits(move |_| {
            let decision = if allowed { Decision::Allow } else { Decision::ImplicitDeny };
            Ok(AuthorizeResponse { decision: decision.into(), allowed, ..Default::default() })
        });
    }
}

fn claim(token: &str, name: &str) -> Value {
    let payload = token.split('.').nth(1).unwrap();
    let payload =
        base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, payload);
    serde_json::from_slice::<Value>(&payload.unwrap()).unwrap()[name].clone()
}

#[tokio::test]
async fn what_is_told_of_a_token() {
    let world = world().await;
    let World { system, caller, token } = &world;
    let inactive = IntrospectResponse::default();
    // Without leave it is as if the token were none.
    assert_eq!(world.introspect(caller, token).await.unwrap(), inactive);
    world.policies_allow(true);
    let told = world.introspect(caller, token).await.unwrap();
    assert!(told.active);
    assert_eq!((told.aud.as_str(), told.scope.as_str()), ("orders", "orders:Get*"));
    assert_eq!(
        (told.iss.as_str(), told.token_type.as_str()),
        (system.gateway.issuer.as_str(), "Bearer")
    );
    assert_eq!(told.sub, claim(token, "sub"));
    assert_eq!(
        (json!(told.jti), json!(told.client_id)),
        (claim(token, "jti"), claim(token, "client_id"))
    );
    assert_eq!(json!(told.exp.unwrap().seconds), claim(token, "exp"));
    // What was asked of the caller's policies, and by whose token.
    let question = system.decision.permissions().pop().unwrap();
    assert_eq!(question.subject, Some(Subject::Token(caller.clone())));
    assert_eq!(
        (question.action.as_str(), question.resource.as_str()),
        ("countersign:IntrospectToken", "*")
    );
    assert_eq!(question.audience, "countersign");
    let key = |name: &str| match question.context[name].kind.clone().unwrap() {
        Kind::Value(value) => value,
        Kind::Values(values) => panic!("{values:?}"),
    };
    assert_eq!(
        (key("countersign:Audience").as_str(), key("aws:SourceIp").as_str()),
        ("orders", "127.0.0.1")
    );
    let question = system.decision.exchanges().pop().unwrap();
    assert!(question.is_introspection && question.subject_token == *token);

    // One's own session needs no leave.
    world.policies_allow(false);
    assert!(world.introspect(caller, caller).await.unwrap().active);
    world.policies_allow(true);

    // A bound one is told of without its key, which its holder has.
    let client = Client::new();
    let bound =
        self::token(system, |asked| asked.client_key_thumbprint = client.thumbprint()).await;
    let told = world.introspect(caller, &bound).await.unwrap();
    assert_eq!(
        (told.client_key_thumbprint, told.token_type.as_str()),
        (client.thumbprint(), "DPoP")
    );

    // Whatever is no token, or none of ours, or over.
    let other = System::start().await;
    other.ready().await;
    let strange = self::token(&other, |_| {}).await;
    for token in ["", "x", "a.b.c", &strange, &token[..token.len() - 1], &token.repeat(5)] {
        assert_eq!(world.introspect(caller, token).await.unwrap(), inactive, "{token}");
    }
    let refusals: [fn() -> Status; 2] = [
        || Status::invalid_argument("token: it was revoked"),
        || Status::failed_precondition("another store"),
    ];
    for refusal in refusals {
        system.decision.exchange_answers(move |_| Err(refusal()));
        assert_eq!(world.introspect(caller, token).await.unwrap(), inactive);
    }
    system.decision.exchange_answers(|request| {
        let mut answer = allow_exchange(request);
        (answer.allowed, answer.decision) = (false, Decision::ImplicitDeny.into());
        Ok(answer)
    });
    assert_eq!(world.introspect(caller, token).await.unwrap(), inactive, "its role is gone");
    // Nobody could say: that is no answer.
    system.decision.exchange_answers(|_| Err(Status::unavailable("away")));
    assert_eq!(world.introspect(caller, token).await.unwrap_err().code, Code::Unavailable);
    system.decision.permits(|_| Err(Status::unavailable("away")));
    assert_eq!(world.introspect(caller, token).await.unwrap_err().code, Code::Unavailable);
}

#[tokio::test]
async fn who_may_end_a_token() {
    let world = world().await;
    let World { system, caller, token } = &world;
    let refused = world.revoke(caller, token).await.unwrap_err();
    assert_eq!((refused.code, refused.reason.as_str()), (Code::PermissionDenied, "AccessDenied"));
    assert!(refused.message.contains("countersign:RevokeToken"), "{}", refused.message);
    assert_eq!(system.store.calls("RevokeToken"), 0);
    world.policies_allow(true);
    world.revoke(caller, token).await.unwrap();
    let question = system.decision.permissions().pop().unwrap();
    assert_eq!(json!(question.resource), claim(token, "sub"));
    assert_eq!(question.action, "countersign:RevokeToken");
    let jti = |token: &str| claim(token, "jti").as_str().unwrap().to_owned();
    assert_eq!(system.store.with(|inner| inner.revoked.clone()), [jti(token)]);

    // One's own session's: the token itself, and another that was made of it.
    world.policies_allow(false);
    let narrowed = system.exchange(crate::narrowed::narrowing(caller)).await.unwrap().access_token;
    world.revoke(caller, &narrowed).await.unwrap();
    world.revoke(caller, caller).await.unwrap();
    let revoked = system.store.with(|inner| inner.revoked.clone());
    assert_eq!(revoked[1..], [jti(&narrowed), jti(caller)]);

    // RFC 7009 section 2.2: what is none is as good as revoked.
    for none in ["", "x", "a.b.c", &token[..token.len() - 1]] {
        world.revoke(caller, none).await.unwrap();
    }
    assert_eq!(system.store.calls("RevokeToken"), 3);
    // A revocation that was not written down did not happen.
    system.store.with(|inner| inner.away.insert("RevokeToken"));
    let refused = world.revoke(caller, caller).await.unwrap_err();
    assert_eq!((refused.code, refused.retry), (Code::Unavailable, true));
}

#[tokio::test]
async fn nobody_without_a_token_of_their_own() {
    let world = world().await;
    let World { system, token, .. } = &world;
    world.policies_allow(true);
    for (caller, reason) in
        [("", "MissingAuthenticationToken"), (token, "WrongAudience"), ("x.y.z", "InvalidToken")]
    {
        for refused in [
            world.introspect(caller, token).await.unwrap_err(),
            world.revoke(caller, token).await.unwrap_err(),
        ] {
            assert_eq!((refused.code, refused.reason.as_str()), (Code::Unauthenticated, reason));
        }
        for path in ["/oauth2/introspect", "/oauth2/revoke"] {
            let (status, body) = world.http(path, caller, &[("token", token)]).await;
            assert_eq!((status, &body["error"]), (401, &json!("invalid_client")), "{body}");
            assert_eq!(body["reason"], reason);
        }
    }
    let mut service = TokenExchangeServiceClient::with_interceptor(
        system.gateway.channel.clone(),
        system.service_credential(),
    );
    let statuses = [
        service.introspect(IntrospectRequest::default()).await.unwrap_err(),
        service.revoke(RevokeRequest::default()).await.unwrap_err(),
    ];
    for status in statuses {
        assert_eq!(Refused::from(status).reason, "AccessDenied");
    }
    assert_eq!(system.store.calls("RevokeToken"), 0);
}

#[tokio::test]
async fn over_http() {
    let world = world().await;
    let World { system, caller, token } = &world;
    let introspect = "/oauth2/introspect";
    let none = (200, json!({"active": false}));
    assert_eq!(world.http(introspect, caller, &[("token", token)]).await, none);
    world.policies_allow(true);
    let (status, told) = world
        .http(introspect, caller, &[("token", token), ("token_type_hint", "refresh_token")])
        .await;
    assert_eq!((status, &told["active"]), (200, &json!(true)));
    for name in ["iss", "sub", "aud", "exp", "iat", "jti", "client_id", "scope"] {
        assert_eq!(told[name], claim(token, name), "{name}");
    }
    assert!(told.get("cnf").is_none() && told.get("countersign").is_none());
    assert_eq!(world.http(introspect, caller, &[("token", "x")]).await, none);
    let (status, body) = world.http(introspect, caller, &[]).await;
    assert_eq!((status, &body["error"]), (400, &json!("invalid_request")));
    let (status, body) = world.http(introspect, caller, &[("token", token), ("x", "y")]).await;
    assert_eq!((status, &body["error"]), (400, &json!("invalid_request")));

    let revoke = "/oauth2/revoke";
    assert_eq!(world.http(revoke, caller, &[("token", token)]).await, (200, json!("")));
    assert_eq!(world.http(revoke, caller, &[("token", "x")]).await, (200, json!("")));
    assert_eq!(system.store.calls("RevokeToken"), 1);
    world.policies_allow(false);
    let (status, body) = world.http(revoke, caller, &[("token", token)]).await;
    assert_eq!((status, &body["error"]), (400, &json!("unauthorized_client")));
    system.store.with(|inner| inner.away.insert("RevokeToken"));
    let (status, body) = world.http(revoke, caller, &[("token", caller)]).await;
    assert_eq!((status, &body["error"]), (503, &json!("temporarily_unavailable")));
}
