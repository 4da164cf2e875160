//! The HTTP port's public half: the keys, and whether the gateway is well. The rest of OAuth comes later.

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    http::{
        StatusCode,
        header::{CACHE_CONTROL, CONTENT_TYPE},
    },
    response::IntoResponse,
    routing::get,
};

use crate::{clock, keys::Keys};

/// The public paths.
pub fn router(keys: Arc<Keys>) -> Router {
    Router::new()
        .route("/.well-known/jwks.json", get(jwks))
        .route("/healthz", get(healthz))
        .with_state(keys)
}

async fn jwks(State(keys): State<Arc<Keys>>) -> impl IntoResponse {
    // A rotated key waits for this long before it signs.
    let cache = format!("public, max-age={}", keys.jwks_max_age());
    let headers = [(CONTENT_TYPE, "application/jwk-set+json".to_owned()), (CACHE_CONTROL, cache)];
    (headers, keys.jwks(clock::now()))
}

async fn healthz(State(keys): State<Arc<Keys>>) -> impl IntoResponse {
    match keys.signer(clock::now()) {
        Ok(_) => (StatusCode::OK, "ok\n".to_owned()),
        Err(refusal) => (StatusCode::SERVICE_UNAVAILABLE, format!("{refusal}\n")),
    }
}
