//! One request: read whole, authenticated, then led to its operation. Nothing is answered before the signature has been checked.

use std::{sync::Arc, time::Duration};

use aws_lc_rs::rand;
use axum::{
    Router,
    body::{Body, to_bytes},
    extract::State,
    http::{
        HeaderMap, HeaderName, Method, Request, StatusCode, Uri,
        header::{CACHE_CONTROL, CONTENT_TYPE},
    },
    response::{IntoResponse, Response},
    routing::get,
};
use countersign_aws_query::{self as aws_query, Call, Fault, STS_NAMESPACE};
use countersign_sigv4::ReceivedRequest;

use crate::aws::{sigv4_auth::SigV4Auth, sts};

/// The longest body.
pub const MAX_BODY_BYTES: usize = 64 * 1024;
/// From the head of the request to its answer.
const DEADLINE: Duration = Duration::from_secs(10);
const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");

/// The root path, where AWS's Query protocol is spoken.
pub fn router(auth: Arc<SigV4Auth>) -> Router {
    Router::new().route("/", get(handle).post(handle)).with_state(auth)
}

async fn handle(State(auth): State<Arc<SigV4Auth>>, request: Request<Body>) -> Response {
    let request_id = request_id();
    let outcome = tokio::time::timeout(DEADLINE, answer(&auth, request, &request_id)).await;
    let outcome = outcome.unwrap_or_else(|_| {
        Err(Fault::receiver("RequestTimeout", "the request took too long", 408))
    });
    let (status, body) = match outcome {
        Ok(body) => (StatusCode::OK, body),
        Err(fault) => {
            tracing::debug!(code = %fault.code, message = %fault.message, request_id, "AWS call refused");
            let status =
                StatusCode::from_u16(fault.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            (status, fault.render(STS_NAMESPACE, &request_id))
        }
    };
    let headers = [
        (CONTENT_TYPE, aws_query::CONTENT_TYPE),
        (CACHE_CONTROL, "no-store"),
        (REQUEST_ID, request_id.as_str()),
    ];
    (status, headers, body).into_response()
}

async fn answer(
    auth: &SigV4Auth,
    request: Request<Body>,
    request_id: &str,
) -> Result<String, Fault> {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, MAX_BODY_BYTES).await.map_err(|_| {
        Fault::sender("RequestEntityTooLarge", "the body is too long, or broke off")
            .with_status(413)
    })?;
    let received =
        Received { method: &parts.method, uri: &parts.uri, headers: &parts.headers, body: &body };
    let caller = received.authenticate(auth).await?;
    let query = parts.uri.query().unwrap_or_default();
    let body = std::str::from_utf8(&body).map_err(|_| Fault::malformed("the body is not UTF-8"))?;
    let call = Call::parse(query, body)?;
    sts::dispatch(&call, &caller, request_id)
}

struct Received<'a> {
    method: &'a Method,
    uri: &'a Uri,
    headers: &'a HeaderMap,
    body: &'a [u8],
}

impl Received<'_> {
    async fn authenticate(
        &self,
        auth: &SigV4Auth,
    ) -> Result<crate::aws::sigv4_auth::LocalCaller, Fault> {
        if !matches!(*self.method, Method::GET | Method::POST) {
            return Err(
                Fault::sender("InvalidAction", "only GET and POST are answered").with_status(405)
            );
        }
        let headers: Vec<_> =
            self.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        let received = ReceivedRequest {
            method: self.method.as_str(),
            path: self.uri.path(),
            query: self.uri.query().unwrap_or_default(),
            headers: &headers,
            body: self.body,
        };
        auth.authenticate(&received).await
    }
}

/// In the form of AWS's: a UUID. Without randomness it is the nil one; it only names a request.
fn request_id() -> String {
    let mut bytes = [0_u8; 16];
    if rand::fill(&mut bytes).is_err() {
        bytes = [0; 16];
    }
    let number = u128::from_be_bytes(bytes);
    let hex = format!("{number:032x}");
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
    format!("{}-{}-{}-{}-{}", part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_look_like_awss() {
        let (one, other) = (request_id(), request_id());
        assert_ne!(one, other);
        let lengths: Vec<_> = one.split('-').map(str::len).collect();
        assert_eq!(lengths, [8, 4, 4, 4, 12]);
    }
}
