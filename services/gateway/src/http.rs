//! The HTTP port itself: connections bounded in number, heads bounded in time, and a rate for each source. What is answered is elsewhere.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Router,
    extract::{ConnectInfo, Request, State},
    http::{
        HeaderValue, StatusCode,
        header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER},
    },
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
};
use countersign_aws_query::{self as aws_query, Fault, STS_NAMESPACE};
use countersign_serve::{
    Listener, Shutdown,
    incoming::{Connection, Incoming},
    tls::Protocol,
};
use hyper::{body::Incoming as Body, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{sync::Semaphore, task::JoinSet};
use tower::Service;

use crate::limits::{Limits, TooOften};

/// From the connection, or the answer before, to the end of the next head.
const HEAD: Duration = Duration::from_secs(10);
/// A drain that takes longer is cut off.
const DRAIN: Duration = Duration::from_secs(10);
const MAX_CONNECTIONS: usize = 4096;
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// Exchanges are counted where they are made; the others here. Whether the gateway is well, and with which keys it signs, anybody may ask.
const UNCOUNTED: [&str; 5] = [
    "/healthz",
    "/.well-known/jwks.json",
    "/.well-known/openid-configuration",
    "/.well-known/oauth-authorization-server",
    "/oauth2/token",
];

/// `router`, with each source's requests counted.
pub fn limited(router: Router, limits: Arc<Limits>) -> Router {
    router.layer(from_fn_with_state(limits, admit))
}

async fn admit(State(limits): State<Arc<Limits>>, request: Request, next: Next) -> Response {
    if UNCOUNTED.contains(&request.uri().path()) {
        return next.run(request).await;
    }
    // Every connection has an address; one without would not be counted, so it is not served.
    let Some(ConnectInfo(address)) = request.extensions().get::<ConnectInfo<SocketAddr>>() else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    match limits.admit(address.ip(), Instant::now()) {
        Ok(()) => next.run(request).await,
        Err(TooOften { retry_after }) => throttled(retry_after),
    }
}

/// In AWS's words, which its SDKs wait upon.
fn throttled(retry_after: Duration) -> Response {
    let fault = Fault::sender("Throttling", "Rate exceeded").with_status(429);
    let headers = [(CONTENT_TYPE, aws_query::CONTENT_TYPE), (CACHE_CONTROL, "no-store")];
    let body = fault.render(STS_NAMESPACE, "00000000-0000-0000-0000-000000000000");
    let mut response = (StatusCode::TOO_MANY_REQUESTS, headers, body).into_response();
    response.headers_mut().insert(RETRY_AFTER, seconds(retry_after));
    response
}

/// Whole seconds, rounded up (RFC 9110 section 10.2.3).
fn seconds(duration: Duration) -> HeaderValue {
    let whole = duration.as_secs();
    HeaderValue::from(if duration.subsec_nanos() == 0 { whole } else { whole.saturating_add(1) })
}

/// The thumbprint of the certificate that a connection's client has shown (RFC 8705), for handlers.
#[derive(Clone)]
pub struct ClientCertificate(pub Arc<str>);

/// Serves `router` until `shutdown`, then drains. Handlers find the peer's address as `ConnectInfo<SocketAddr>`.
///
/// # Errors
/// When the socket fails for good, which it does not.
pub async fn serve(router: Router, listener: Listener, shutdown: Shutdown) -> io::Result<()> {
    serve_with(router, listener, shutdown, HEAD).await
}

async fn serve_with(
    router: Router,
    listener: Listener,
    shutdown: Shutdown,
    head: Duration,
) -> io::Result<()> {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut incoming = Incoming::new(listener, Protocol::Http);
    let mut connections = JoinSet::new();
    loop {
        let accepted = async {
            let permit = permits.clone().acquire_owned().await;
            (permit, incoming.accept().await)
        };
        tokio::select! {
            (permit, (stream, peer)) = accepted => {
                let serving = connection(stream, peer, router.clone(), shutdown.clone(), head);
                connections.spawn(async move {
                    serving.await;
                    drop(permit);
                });
            }
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            () = shutdown.wait() => break,
        }
    }
    drop(incoming);
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN, drained).await.is_err() {
        tracing::warn!(open = connections.len(), "HTTP connections are cut off");
    }
    Ok(())
}

async fn connection(
    stream: Connection,
    peer: Option<SocketAddr>,
    router: Router,
    shutdown: Shutdown,
    head: Duration,
) {
    let shown = stream.peer().certificate().cloned().map(ClientCertificate);
    let service = service_fn(move |mut request: Request<Body>| {
        if let Some(peer) = peer {
            request.extensions_mut().insert(ConnectInfo(peer));
        }
        if let Some(shown) = &shown {
            request.extensions_mut().insert(shown.clone());
        }
        let mut router = router.clone();
        async move { Ok::<_, Infallible>(router.call(request).await.into_response()) }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let mut serving = pin!(serving);
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = shutdown.wait() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "an HTTP connection ended");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever sends a head a byte at a time, or none at all, is hung up on.
    #[tokio::test]
    async fn a_head_that_does_not_end() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        use tokio::net::{TcpListener, TcpStream};
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (trigger, shutdown) = countersign_serve::shutdown::channel();
        let router = Router::new().route("/", axum::routing::get(async || "ok"));
        let head = Duration::from_millis(50);
        let serving = tokio::spawn(serve_with(router, listener.into(), shutdown, head));
        for sent in ["", "GET / HTTP/1.1\r\nhost: x\r\nx-slow: "] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(sent.as_bytes()).await.unwrap();
            let mut answer = String::new();
            let _ = stream.read_to_string(&mut answer).await;
            assert!(!answer.contains("200"), "{answer}");
        }
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer).await;
        assert!(answer.ends_with("ok"), "{answer}");
        trigger.fire();
        serving.await.unwrap().unwrap();
    }

    #[test]
    fn seconds_are_rounded_up() {
        let check = |millis: u64, expected: &str| {
            assert_eq!(seconds(Duration::from_millis(millis)), expected, "{millis}");
        };
        check(0, "0");
        check(1, "1");
        check(1000, "1");
        check(1001, "2");
    }
}
