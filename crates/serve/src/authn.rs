//! The door of every service: each call is authenticated before it is routed, so no RPC can forget to ask.
//!
//! What a caller *is* belongs to each service; here is only the place where the question is put.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use http::{HeaderMap, Request, Response, header::AUTHORIZATION};
use tonic::{body::Body, server::NamedService};
use tower::Service;

use crate::{Fault, incoming::Peer};

/// Tells who calls. An implementation answers for one service.
pub trait Authenticate: Clone + Send + Sync + 'static {
    /// Who calls, put into the request's extensions.
    type Caller: Clone + Send + Sync + 'static;

    /// Who these headers, and the certificate of `peer`, show, for a call of `path`, which is `/<package>.<Service>/<Rpc>`.
    ///
    /// # Errors
    /// UNAUTHENTICATED when there are no credentials, or bad ones.
    fn authenticate(
        &self,
        path: &str,
        headers: &HeaderMap,
        peer: Option<&Peer>,
    ) -> impl Future<Output = Result<Self::Caller, Fault>> + Send;
}

/// A service behind its door.
#[derive(Clone, Debug)]
pub struct Authenticated<S, A> {
    inner: S,
    authenticator: A,
}

impl<S, A> Authenticated<S, A> {
    /// Puts `inner` behind `authenticator`.
    pub fn new(inner: S, authenticator: A) -> Self {
        Self { inner, authenticator }
    }
}

impl<S: NamedService, A> NamedService for Authenticated<S, A> {
    const NAME: &'static str = S::NAME;
}

impl<S, A> Service<Request<Body>> for Authenticated<S, A>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send + 'static,
    A: Authenticate,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        // The clone that was polled ready must be the one that is called.
        let ready = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, ready);
        let authenticator = self.authenticator.clone();
        let peer = request.extensions().get::<Peer>().cloned();
        if let Some(peer) = &peer {
            // What tonic's own `remote_addr` looks for.
            request.extensions_mut().insert(peer.tcp().clone());
        }
        Box::pin(async move {
            let path = request.uri().path();
            match authenticator.authenticate(path, request.headers(), peer.as_ref()).await {
                Ok(caller) => {
                    // Whom the caller wanted, by which name: tonic does not hand it on.
                    let uri = request.uri().clone();
                    request.extensions_mut().insert(uri);
                    request.extensions_mut().insert(caller);
                    inner.call(request).await
                }
                Err(fault) => Ok(tonic::Status::from(fault).into_http()),
            }
        })
    }
}

/// The token of `authorization: Bearer <token>`; `Ok(None)` when there is no such header.
///
/// # Errors
/// When the header is there twice, or is not of that form (RFC 6750, section 2.1).
pub fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Fault> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let malformed = || {
        Fault::unauthenticated(
            "InvalidToken",
            "the `authorization` metadata must be there once, as `Bearer <token>`",
        )
    };
    if values.next().is_some() {
        return Err(malformed());
    }
    let text = value.to_str().map_err(|_| malformed())?;
    let (scheme, token) = text.split_once(' ').ok_or_else(malformed)?;
    if !scheme.eq_ignore_ascii_case("bearer") || token.is_empty() || token.contains(' ') {
        return Err(malformed());
    }
    Ok(Some(token))
}

/// What a caller without credentials is told.
#[must_use]
pub fn missing_credentials() -> Fault {
    Fault::unauthenticated(
        "MissingAuthenticationToken",
        "no credentials; send `authorization: Bearer <token>` metadata with a token whose audience is `countersign` \
         (`countersign up` leaves one in admin.token)",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bearer_tokens() {
        let check = |values: &[&str], expected: Result<Option<&str>, ()>| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(AUTHORIZATION, value.parse().unwrap());
            }
            assert_eq!(bearer(&headers).map_err(|_| ()), expected, "{values:?}");
        };
        check(&[], Ok(None));
        check(&["Bearer abc"], Ok(Some("abc")));
        check(&["bearer abc"], Ok(Some("abc")));
        check(&["Bearer"], Err(()));
        check(&["Bearer "], Err(()));
        check(&["Bearer a b"], Err(()));
        check(&["Basic abc"], Err(()));
        check(&["Bearer abc", "Bearer abc"], Err(()));
    }
}
