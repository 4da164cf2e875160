//! What is seen of each call at a server's edge: it is counted, and where it belongs to a trace it gets its span.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Instant,
};

use http::{HeaderMap, Request, Response};
use http_body::{Frame, SizeHint};
use tonic::{Code, Status, body::Body};
use tower::{Layer, Service};
use tracing::Instrument;

use super::{
    metrics::{Calls, Rpc, Rpcs},
    trace,
};

/// Wraps a whole server.
#[derive(Clone)]
pub(crate) struct Observe(pub Rpcs);

/// A server that is seen.
#[derive(Clone)]
pub struct Observed<S> {
    inner: S,
    rpcs: Rpcs,
}

impl<S> Layer<S> for Observe {
    type Service = Observed<S>;

    fn layer(&self, inner: S) -> Observed<S> {
        Observed { inner, rpcs: self.0.clone() }
    }
}

impl<S> Service<Request<Body>> for Observed<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let started = Instant::now();
        let path = request.uri().path();
        let mut call = Call::began(self.rpcs.of(path));
        let is_chosen = request.extensions().get::<Traced>().is_some();
        let span = trace::server_span(path, request.headers(), is_chosen);
        let answering = self.inner.call(request);
        let answer = async move {
            let answer = answering.await?;
            call.rpc.answered(started.elapsed());
            // An error without a body has its code among the headers; with a body it comes after it.
            call.note(answer.headers());
            Ok(answer.map(|body| Body::new(Watched { body, call })))
        };
        match span {
            Some(span) => Box::pin(answer.instrument(span)),
            None => Box::pin(trace::untraced(answer)),
        }
    }
}

/// Among a request's extensions: it was chosen to be traced before it came here.
#[derive(Clone, Copy, Debug)]
pub struct Traced;

impl Calls {
    /// One that came at `started` and is answered by a stream, which counts until it ends.
    #[must_use]
    pub fn streaming(&self, started: Instant, answer: Response<Body>) -> Response<Body> {
        let mut call = Call::began(Arc::clone(&self.0));
        call.rpc.answered(started.elapsed());
        call.note(answer.headers());
        answer.map(|body| Body::new(Watched { body, call }))
    }
}

/// A call until its last byte. It may end by being dropped: then nobody waited for it.
struct Call {
    rpc: Arc<Rpc>,
    code: Code,
    span: tracing::Span,
}

impl Call {
    fn began(rpc: Arc<Rpc>) -> Self {
        rpc.began();
        Self { rpc, code: Code::Cancelled, span: tracing::Span::none() }
    }

    fn note(&mut self, headers: &HeaderMap) {
        self.span = tracing::Span::current();
        if let Some(status) = Status::from_header_map(headers) {
            self.code = status.code();
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        trace::ended(&self.span, self.code);
        self.rpc.ended(self.code);
    }
}

/// A body whose end is looked at.
struct Watched {
    body: Body,
    call: Call,
}

impl http_body::Body for Watched {
    type Data = <Body as http_body::Body>::Data;
    type Error = <Body as http_body::Body>::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let own = self.get_mut();
        let frame = ready!(Pin::new(&mut own.body).poll_frame(context));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(trailers) = frame.trailers_ref()
                    && let Some(status) = Status::from_header_map(trailers)
                {
                    own.call.code = status.code();
                }
            }
            Some(Err(status)) => own.call.code = status.code(),
            None => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
