//! The short way: plain questions, answered from the bytes they come in, by what was remembered.
//!
//! Almost every question is of one form: a caller that was seen before and may ask everything in its account, about a principal of that
//! account and a resource of it. What such a question needs is little, and here nothing else is done. It stands before the general way (the
//! door, [`crate::grpc`], [`crate::convert`], [`crate::check`]) and gives the very same answers, which `tests.rs` holds it to; whatever is
//! not plain, not remembered, or not allowed, it hands on untouched.
//!
//! `message` reads, `memory` knows callers and sessions, `policies` what they may, `decide` decides, `answer` writes, `body` is gRPC's framing, `streaming`
//! a stream of questions.

mod answer;
mod body;
mod decide;
mod memory;
pub(crate) mod message;
mod policies;
mod remembered;
mod streaming;
#[cfg(test)]
mod tests;

use std::{
    convert::Infallible,
    future::{Future, ready},
    net::IpAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use countersign_serve::{
    Fault,
    incoming::Peer,
    telemetry::{self, Calls, Metrics, Traced},
};
use http::{HeaderValue, Method, Request, Response, header::CONTENT_TYPE};
use tonic::{Code, Status, body::Body};
use tower::{Layer, Service};

use crate::{decider::Decider, grpc::source};
use body::{Whole, read, unary};
use decide::Direct;

const AUTHORIZE: &str = "/countersign.decision.v1.DecisionService/Authorize";
const BATCH: &str = "/countersign.decision.v1.DecisionService/BatchAuthorize";
const STREAM: &str = "/countersign.decision.v1.DecisionService/AuthorizeStream";

/// Calls that may wait for their core, each some ten microseconds of its time. What comes beyond is told so at once, while it is cheap:
/// an answer that comes too late is work for nobody.
const WAITING: usize = 2048;
/// When those may come again.
const AGAIN: Duration = Duration::from_secs(1);

/// Puts the short way before a service. One for each core.
#[derive(Clone)]
pub struct ShortWay {
    direct: Arc<Direct>,
    counts: Counts,
}

impl ShortWay {
    /// Answers with `decider`, and counts what it answers in `metrics`.
    pub fn new(decider: Decider, metrics: &Metrics) -> Self {
        Self { direct: Arc::new(Direct::new(decider)), counts: Counts::new(metrics) }
    }
}

/// Where calls are counted that the server behind does not see.
#[derive(Clone)]
struct Counts {
    authorize: Calls,
    batch: Calls,
    stream: Calls,
}

impl Counts {
    fn new(metrics: &Metrics) -> Self {
        let [authorize, batch, stream] = [AUTHORIZE, BATCH, STREAM].map(|path| metrics.calls(path));
        Self { authorize, batch, stream }
    }

    fn of(&self, rpc: Rpc) -> Calls {
        match rpc {
            Rpc::Authorize => self.authorize.clone(),
            Rpc::Batch => self.batch.clone(),
            Rpc::Stream => self.stream.clone(),
        }
    }
}

impl<S> Layer<S> for ShortWay {
    type Service = Short<S>;

    fn layer(&self, general: S) -> Short<S> {
        Short {
            direct: Arc::clone(&self.direct),
            counts: self.counts.clone(),
            waiting: Arc::default(),
            general,
        }
    }
}

/// A service with the short way before it.
#[derive(Clone)]
pub struct Short<S> {
    direct: Arc<Direct>,
    counts: Counts,
    /// Calls that have arrived, and were not looked at. What waits for something else than its core, such as a revision, is not among them.
    waiting: Arc<AtomicUsize>,
    general: S,
}

/// A call that waits for its core.
struct Waiting(Arc<AtomicUsize>);

impl Waiting {
    fn new(waiting: &Arc<AtomicUsize>) -> Option<Self> {
        let before = waiting.fetch_add(1, Ordering::Relaxed);
        // Dropped here, it is no longer counted.
        let own = Self(Arc::clone(waiting));
        (before < WAITING).then_some(own)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn overloaded() -> Response<Body> {
    let message = "more questions wait than can be answered soon; ask again later, or elsewhere";
    let fault = Fault::new(Code::ResourceExhausted, "Throttling", message).retry_after(AGAIN);
    Status::from(fault).into_http()
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

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let started = Instant::now();
        // The clone that was polled ready must be the one that is called.
        let next = self.general.clone();
        let mut general = std::mem::replace(&mut self.general, next);
        let rpc = rpc(&request);
        // Whether the service is there is not for the crowd to say.
        let is_health = request.uri().path().starts_with("/grpc.health.");
        let waiting = Waiting::new(&self.waiting);
        if waiting.is_none() && !is_health {
            if let Some(rpc) = rpc {
                self.counts.of(rpc).refused(Code::ResourceExhausted);
            }
            return Box::pin(ready(Ok(overloaded())));
        }
        // A span is begun, and passed on, by the general way.
        let is_traced = telemetry::is_traced(request.headers());
        if is_traced {
            request.extensions_mut().insert(Traced);
        }
        let (Some(rpc), Some(source), false) = (rpc, asker(&request), is_traced) else {
            return Box::pin(async move {
                drop(waiting);
                general.call(request).await
            });
        };
        let (direct, counts) = (Arc::clone(&self.direct), self.counts.of(rpc));
        Box::pin(async move {
            drop(waiting);
            let (parts, body) = request.into_parts();
            if rpc == Rpc::Stream {
                return match direct.streamer(&parts.headers, source) {
                    Some(asker) => {
                        let answers = streaming::answers(direct, parts.headers, asker, body);
                        Ok(counts.streaming(started, answers))
                    }
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
                        counts.answered(started);
                        return Ok(response);
                    }
                    Body::new(again)
                }
                Whole::Other(again) => again,
            };
            general.call(Request::from_parts(parts, body)).await
        })
    }
}
