//! The door of every service: each call is authenticated before it is routed, so no RPC can forget to ask.
//!
//! What a caller *is* belongs to each service; here is only the place where the question is put.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use http::{HeaderMap, HeaderName, Request, Response, Uri, header::AUTHORIZATION, uri::Authority};
use tonic::{body::Body, server::NamedService};
use tower::Service;

use crate::{Fault, incoming::Peer};

/// Tells who calls. An implementation answers for one service.
pub trait Authenticate: Clone + Send + Sync + 'static {
    /// Who calls, put into the request's extensions.
    type Caller: Clone + Send + Sync + 'static;

    /// Who these headers, and the certificate of `peer`, show, for a call of `uri`, whose path is `/<package>.<Service>/<Rpc>`.
    ///
    /// # Errors
    /// UNAUTHENTICATED when there are no credentials, or bad ones.
    fn authenticate(
        &self,
        uri: &Uri,
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
            let uri = request.uri();
            match authenticator.authenticate(uri, request.headers(), peer.as_ref()).await {
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

/// RFC 9449 section 4.1.
pub const DPOP: HeaderName = HeaderName::from_static("dpop");

/// A token that a caller shows of its own, and what it shows that it may.
#[derive(Clone, Copy)]
pub struct Credential<'a> {
    /// A secret.
    pub token: &'a str,
    /// With the scheme `DPoP`, the proof that came along, not looked at yet. A token that is bound to a key is good in no other way (RFC
    /// 9449 section 7.2), and a token that is bound to none is not good in this one.
    pub dpop: Option<&'a str>,
}

/// The token of `authorization: Bearer <token>`, or of `authorization: DPoP <token>` and the proof of the header `dpop`; `Ok(None)` when
/// there is no `authorization`.
///
/// # Errors
/// When a header is there twice, or is not of that form (RFC 6750 section 2.1, RFC 9449 section 7.1).
pub fn credential(headers: &HeaderMap) -> Result<Option<Credential<'_>>, Fault> {
    match authorization(headers)? {
        None => Ok(None),
        Some((Scheme::Bearer, token)) => Ok(Some(Credential { token, dpop: None })),
        Some((Scheme::Dpop, token)) => {
            Ok(Some(Credential { token, dpop: Some(dpop_proof(headers)?) }))
        }
    }
}

/// The token of `authorization: Bearer <token>`; `Ok(None)` when there is no such header.
///
/// # Errors
/// When the header is there twice, or is not of that form (RFC 6750, section 2.1).
pub fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Fault> {
    match authorization(headers)? {
        None => Ok(None),
        Some((Scheme::Bearer, token)) => Ok(Some(token)),
        Some((Scheme::Dpop, _)) => Err(malformed()),
    }
}

/// What a DPoP proof for a gRPC call of `uri` names as `htu`: `https`, whatever carries the call.
#[must_use]
pub fn called(uri: &Uri) -> String {
    let authority = uri.authority().map(Authority::as_str).unwrap_or_default();
    format!("https://{authority}{}", uri.path())
}

enum Scheme {
    Bearer,
    Dpop,
}

fn malformed() -> Fault {
    Fault::unauthenticated(
        "InvalidToken",
        "the `authorization` metadata must be there once, as `Bearer <token>`, or as `DPoP <token>` beside a `dpop` proof",
    )
}

fn authorization(headers: &HeaderMap) -> Result<Option<(Scheme, &str)>, Fault> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(malformed());
    }
    let text = value.to_str().map_err(|_| malformed())?;
    let (scheme, token) = text.split_once(' ').ok_or_else(malformed)?;
    if token.is_empty() || token.contains(' ') {
        return Err(malformed());
    }
    match scheme {
        _ if scheme.eq_ignore_ascii_case("bearer") => Ok(Some((Scheme::Bearer, token))),
        _ if scheme.eq_ignore_ascii_case("dpop") => Ok(Some((Scheme::Dpop, token))),
        _ => Err(malformed()),
    }
}

fn dpop_proof(headers: &HeaderMap) -> Result<&str, Fault> {
    let mut proofs = headers.get_all(DPOP).iter();
    match (proofs.next().map(|proof| proof.to_str()), proofs.next()) {
        (Some(Ok(proof)), None) => Ok(proof),
        (None, _) => Err(Fault::unauthenticated(
            "ProofOfPossessionRequired",
            "`authorization: DPoP` comes with a proof in the header `dpop`, made for this call and this token (RFC 9449 section 7.1)",
        )),
        (Some(_), _) => Err(Fault::unauthenticated(
            "InvalidDpopProof",
            "the `dpop` metadata must be there once, as a JWT",
        )),
    }
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
        check(&["DPoP abc"], Err(()));
    }

    // RFC 9449 section 7.1.
    #[test]
    fn a_token_and_its_proof() {
        type Found<'a> = Result<Option<(&'a str, Option<&'a str>)>, &'a str>;
        let check = |authorization: &[&str], proofs: &[&str], expected: Found<'_>| {
            let mut headers = HeaderMap::new();
            for value in authorization {
                headers.append(AUTHORIZATION, value.parse().unwrap());
            }
            for proof in proofs {
                headers.append(DPOP, proof.parse().unwrap());
            }
            let found = credential(&headers);
            let found = found.as_ref().map(|it| it.map(|it| (it.token, it.dpop)));
            assert_eq!(found.map_err(Fault::reason), expected, "{authorization:?} {proofs:?}");
        };
        check(&[], &["p"], Ok(None));
        check(&["Bearer abc"], &[], Ok(Some(("abc", None))));
        // What nobody asked for proves nothing: a bound token that comes so is refused.
        check(&["Bearer abc"], &["p"], Ok(Some(("abc", None))));
        check(&["DPoP abc"], &["p"], Ok(Some(("abc", Some("p")))));
        check(&["dpop abc"], &["p"], Ok(Some(("abc", Some("p")))));
        check(&["DPoP abc"], &[], Err("ProofOfPossessionRequired"));
        check(&["DPoP abc"], &["p", "p"], Err("InvalidDpopProof"));
        check(&["DPoP"], &["p"], Err("InvalidToken"));
        check(&["DPoP abc", "Bearer abc"], &["p"], Err("InvalidToken"));
        check(&["Basic abc"], &["p"], Err("InvalidToken"));
    }

    // ATTACKS 79.
    #[test]
    fn what_a_proof_is_made_for() {
        let check = |uri: &str, expected: &str| assert_eq!(called(&uri.parse().unwrap()), expected);
        check("http://a.example:7300/p.S/M", "https://a.example:7300/p.S/M");
        check("/p.S/M", "https:///p.S/M");
    }
}
