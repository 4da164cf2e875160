//! The HTTP port's public half: the keys, and whether the gateway is well. The rest of OAuth comes later.

use std::{future::IntoFuture, io, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{
        StatusCode,
        header::{CACHE_CONTROL, CONTENT_TYPE},
    },
    response::IntoResponse,
    routing::get,
    serve::ListenerExt,
};
use countersign_serve::Shutdown;
use tokio::net::TcpListener;

use crate::{clock, keys::Keys};

/// A drain that takes longer is cut off.
const DRAIN: Duration = Duration::from_secs(10);

/// The public paths.
pub fn router(keys: Arc<Keys>) -> Router {
    Router::new()
        .route("/.well-known/jwks.json", get(jwks))
        .route("/healthz", get(healthz))
        .with_state(keys)
}

async fn jwks(State(keys): State<Arc<Keys>>) -> impl IntoResponse {
    // A rotated key waits for this long before it signs.
    let headers =
        [(CONTENT_TYPE, "application/jwk-set+json"), (CACHE_CONTROL, "public, max-age=300")];
    (headers, keys.jwks(clock::now()))
}

async fn healthz(State(keys): State<Arc<Keys>>) -> impl IntoResponse {
    match keys.signer(clock::now()) {
        Ok(_) => (StatusCode::OK, "ok\n".to_owned()),
        Err(refusal) => (StatusCode::SERVICE_UNAVAILABLE, format!("{refusal}\n")),
    }
}

/// Serves `router` until `shutdown`, then drains.
///
/// # Errors
/// When the socket fails.
pub async fn serve(router: Router, listener: TcpListener, shutdown: Shutdown) -> io::Result<()> {
    let signal = shutdown.clone();
    // Nagle's algorithm against delayed acknowledgements would cost 40 ms a call. A socket without the option still serves.
    let listener = listener.tap_io(|socket| {
        let _ = socket.set_nodelay(true);
    });
    let serving =
        axum::serve(listener, router).with_graceful_shutdown(async move { signal.wait().await });
    let cut_off = async {
        shutdown.wait().await;
        tokio::time::sleep(DRAIN).await;
    };
    tokio::select! {
        ended = serving.into_future() => ended,
        () = cut_off => Ok(()),
    }
}
