//! The HTTP port's OAuth half: exchanges, what becomes of tokens, the public keys, what there is, and whether the gateway is well.

mod discovery;
pub mod fault;
pub mod form;
pub mod token;
pub mod tokens;

use std::{sync::Arc, time::Duration};

use aws_lc_rs::digest::{SHA256, digest};
use axum::{
    Json, Router,
    extract::State,
    http::{
        HeaderMap, StatusCode,
        header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH},
    },
    response::{IntoResponse, Response},
    routing::{get, post},
};

use crate::{authn::Door, clock, exchange::Exchange, keys::Keys};

/// From the head of a request to the end of its body.
const DEADLINE: Duration = Duration::from_secs(10);
/// As much as a gRPC request may have.
const MAX_BODY_BYTES: usize = 64 * 1024;
const JWKS_PATH: &str = "/.well-known/jwks.json";

/// What the paths need.
#[derive(Clone)]
pub struct Face {
    /// The verb.
    pub exchange: Arc<Exchange>,
    /// The keys.
    pub keys: Arc<Keys>,
    /// Who calls, where it is not a proof that says so.
    pub door: Door,
}

/// The paths.
pub fn router(face: Face) -> Router {
    Router::new()
        .route(token::PATH, post(token::exchange))
        .route(tokens::INTROSPECT, post(tokens::introspect))
        .route(tokens::REVOKE, post(tokens::revoke))
        .route(JWKS_PATH, get(jwks))
        .route("/.well-known/openid-configuration", get(metadata))
        .route("/.well-known/oauth-authorization-server", get(metadata))
        .route("/healthz", get(healthz))
        .with_state(face)
}

async fn jwks(State(face): State<Face>, headers: HeaderMap) -> Response {
    let jwks = face.keys.jwks(clock::now());
    let hash = digest(&SHA256, jwks.as_bytes());
    let digits: String = hash.as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    let etag = format!("\"{digits}\"");
    let known =
        headers.get_all(IF_NONE_MATCH).iter().any(|value| value.as_bytes() == etag.as_bytes());
    let headers = [(CACHE_CONTROL, cache(&face.keys)), (ETAG, etag.clone())];
    if known {
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    (headers, [(CONTENT_TYPE, "application/jwk-set+json")], jwks).into_response()
}

/// How long the keys, and what there is, may be kept by whoever has read them: a rotated key waits for as long before it signs.
fn cache(keys: &Keys) -> String {
    format!("public, max-age={}", keys.jwks_max_age())
}

async fn metadata(State(face): State<Face>) -> impl IntoResponse {
    ([(CACHE_CONTROL, cache(&face.keys))], Json(discovery::metadata(&face.exchange.issuer)))
}

async fn healthz(State(face): State<Face>) -> impl IntoResponse {
    match face.keys.signer(clock::now()) {
        Ok(_) => (StatusCode::OK, "ok\n".to_owned()),
        Err(refusal) => (StatusCode::SERVICE_UNAVAILABLE, format!("{refusal}\n")),
    }
}
