//! The short way: plain questions, answered from the bytes they come in, by what was remembered.
//!
//! Almost every question is of one form: a caller that was seen before and may ask everything in its account, about a principal of that
//! account and a resource of it. What such a question needs is little, and here nothing else is done. It stands before the general way (the
//! door, [`crate::grpc`], [`crate::convert`], [`crate::check`]) and gives the very same answers, which `tests.rs` holds it to; whatever is
//! not plain, not remembered, or not allowed, it hands on untouched.
//!
//! `message` reads, `memory` knows callers, sessions and policies, `decide` decides, `answer` writes, `body` is gRPC's framing.

mod answer;
mod body;
mod decide;
mod memory;
mod message;
mod remembered;
#[cfg(test)]
mod tests;

use std::{
    convert::Infallible,
    future::Future,
    net::IpAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use countersign_serve::incoming::Peer;
use http::{HeaderValue, Method, Request, Response, header::CONTENT_TYPE};
use tonic::body::Body;
use tower::{Layer, Service};

use crate::{decider::Decider, grpc::source};
use body::{Whole, read, unary};
use decide::Direct;

const AUTHORIZE: &str = "/countersign.decision.v1.DecisionService/Authorize";
const BATCH: &str = "/countersign.decision.v1.DecisionService/BatchAuthorize";
const STREAM: &str = "/countersign.decision.v1.DecisionService/AuthorizeStream";

/// Puts the short way before a service. One for each core.
#[derive(Clone)]
pub struct ShortWay(Arc<Direct>);

impl ShortWay {
    /// Answers with `decider`.
    pub fn new(decider: Decider) -> Self {
        Self(Arc::new(Direct::new(decider)))
    }
}

impl<S> Layer<S> for ShortWay {
    type Service = Short<S>;

    fn layer(&self, general: S) -> Short<S> {
        Short { direct: Arc::clone(&self.0), general }
    }
}

/// A service with the short way before it.
#[derive(Clone)]
pub struct Short<S> {
    direct: Arc<Direct>,
    general: S,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Rpc {
    Authorize,
    Batch,
    Stream,
}

/// Which of the RPCs it is, in the plain form of a call.
fn rpc(request: &Request<Body>) -> Option<Rpc> {
    let rpc = match request.uri().path() {
        AUTHORIZE => Rpc::Authorize,
        BATCH => Rpc::Batch,
        STREAM => Rpc::Stream,
        _ => return None,
    };
    let headers = request.headers();
    let is_grpc = headers.get(CONTENT_TYPE).is_some_and(|kind| {
        kind == HeaderValue::from_static("application/grpc")
            || kind == HeaderValue::from_static("application/grpc+proto")
    });
    let is_plain = !headers.contains_key("grpc-encoding");
    (is_grpc && is_plain && request.method() == Method::POST).then_some(rpc)
}

/// Where the call comes from, which must be known, or its caller may ask nothing; none where a certificate says who calls.
fn asker(request: &Request<Body>) -> Option<IpAddr> {
    let peer = request.extensions().get::<Peer>()?;
    peer.spiffe_id().is_none().then(|| source(peer.tcp()))?
}

type Answering<E> = Pin<Box<dyn Future<Output = Result<Response<Body>, E>> + Send>>;

impl<S> Service<Request<Body>> for Short<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answering<Infallible>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.general.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        // The clone that was polled ready must be the one that is called.
        let ready = self.general.clone();
        let mut general = std::mem::replace(&mut self.general, ready);
        let (Some(rpc), Some(source)) = (rpc(&request), asker(&request)) else {
            return Box::pin(general.call(request));
        };
        let direct = Arc::clone(&self.direct);
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            if rpc == Rpc::Stream {
                return match direct.streamer(&parts.headers, source) {
                    Some(asker) => Ok(body::streaming(direct, parts.headers, asker, body)),
                    None => general.call(Request::from_parts(parts, body)).await,
                };
            }
            let body = match read(body).await {
                Whole::Message { message, again } => {
                    let answer = |out: &mut Vec<u8>| match rpc {
                        Rpc::Authorize => direct.authorize(&parts.headers, &message, out),
                        Rpc::Batch => direct.batch(&parts.headers, &message, out),
                        Rpc::Stream => None,
                    };
                    if let Some(response) = unary(answer) {
                        return Ok(response);
                    }
                    again
                }
                Whole::Other(again) => again,
            };
            general.call(Request::from_parts(parts, body)).await
        })
    }
}
