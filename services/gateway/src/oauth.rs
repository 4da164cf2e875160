//! The HTTP port's public half: the keys, and whether the gateway is well. The rest of OAuth comes later.

use std::{future::IntoFuture, io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{
        StatusCode,
        header::{CACHE_CONTROL, CONTENT_TYPE},
    },
    response::IntoResponse,
    routing::get,
    serve::Listener as Sockets,
};
use countersign_serve::{
    Listener, Shutdown,
    incoming::{Connection, Incoming},
    tls::Protocol,
};

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
pub async fn serve(router: Router, listener: Listener, shutdown: Shutdown) -> io::Result<()> {
    let signal = shutdown.clone();
    let listener = Accepting(Incoming::new(listener, Protocol::Http));
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

/// Our connections, as axum takes them.
struct Accepting(Incoming);

impl Sockets for Accepting {
    type Io = Connection;
    type Addr = Option<SocketAddr>;

    async fn accept(&mut self) -> (Connection, Option<SocketAddr>) {
        self.0.accept().await
    }

    fn local_addr(&self) -> io::Result<Option<SocketAddr>> {
        self.0.local_addr().map(Some)
    }
}
