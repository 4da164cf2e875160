//! `POST /oauth2/introspect` (RFC 7662) and `POST /oauth2/revoke` (RFC 7009). The caller shows a token of its own, as for every RPC.

use std::net::SocketAddr;

use axum::{
    Json,
    extract::{ConnectInfo, Request, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use countersign_token::Claims;
use serde_json::{Value, json};

use super::{
    Face,
    fault::{OAuthFault, no_store},
    token::read,
};
use crate::{
    authn::{Call, Caller},
    clock, convert,
    http::ClientCertificate,
};

/// RFC 7662 section 2.
pub const INTROSPECT: &str = "/oauth2/introspect";
/// RFC 7009 section 2.
pub const REVOKE: &str = "/oauth2/revoke";

/// Says whether a token is good.
pub async fn introspect(
    State(face): State<Face>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
) -> Response {
    let source = Some(peer.ip());
    let answer = async {
        let (caller, token) = asked(&face, INTROSPECT, request).await?;
        let claims = face.exchange.introspect(&caller, &token, source).await;
        claims.map_err(|refusal| OAuthFault::from(&refusal))
    };
    match answer.await {
        Ok(claims) => (no_store(), Json(rendered(claims.as_ref()))).into_response(),
        Err(fault) => fault.into_response(),
    }
}

/// Ends a token.
pub async fn revoke(
    State(face): State<Face>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
) -> Response {
    let source = Some(peer.ip());
    let answer = async {
        let (caller, token) = asked(&face, REVOKE, request).await?;
        let ended = face.exchange.revoke(&caller, &token, source).await;
        ended.map_err(|refusal| OAuthFault::from(&refusal))
    };
    match answer.await {
        Ok(()) => (StatusCode::OK, no_store()).into_response(),
        Err(fault) => fault.into_response(),
    }
}

/// Who asks, and about which token. Who shows nothing learns nothing of the form.
async fn asked(face: &Face, path: &str, request: Request) -> Result<(Caller, String), OAuthFault> {
    let caller = caller(face, path, &request)?;
    let (_, mut form) = read(request).await?;
    let token = form.take("token");
    // RFC 7009 section 2.1: there is one type, and a wrong hint must not stand in the way.
    form.take("token_type_hint");
    form.finish()?;
    match token.is_empty() {
        false => Ok((caller, token)),
        true => Err(OAuthFault::invalid_request("`token` is missing")),
    }
}

fn caller(face: &Face, path: &str, request: &Request) -> Result<Caller, OAuthFault> {
    let certificate = request.extensions().get::<ClientCertificate>().map(|it| it.0.as_ref());
    let uri = &format!("{}{path}", face.exchange.issuer);
    // A service shows itself on the gRPC port.
    let call = Call { path, uri, headers: request.headers(), peer: None, certificate };
    face.door.caller(call, clock::now()).map_err(|fault| OAuthFault::of_caller(&fault))
}

fn rendered(claims: Option<&Claims>) -> Value {
    let Some(claims) = claims else { return json!({ "active": false }) };
    let Claims { iss, sub, aud, exp, iat, jti, client_id, scope, cnf, act, may_act, session: _ } =
        claims;
    let mut body = json!({
        "active": true,
        "iss": iss,
        "sub": sub,
        "aud": aud,
        "exp": exp,
        "iat": iat,
        "jti": jti,
        "client_id": client_id,
        "token_type": convert::token_type(claims),
    });
    let more = [
        ("scope", json!(scope)),
        ("cnf", json!(cnf)),
        ("act", json!(act)),
        ("may_act", json!(may_act)),
    ];
    if let Some(members) = body.as_object_mut() {
        for (name, value) in more.into_iter().filter(|(_, value)| !value.is_null()) {
            members.insert(name.to_owned(), value);
        }
    }
    body
}
