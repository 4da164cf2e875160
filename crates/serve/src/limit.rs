//! How many calls are under way at once: a service that has as many as it can answer in time says so to the rest at once, and when to come
//! again. A call that waits too long is work for nobody.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::{Request, Response};
use tokio::sync::Semaphore;
use tonic::{Code, body::Body, server::NamedService};
use tower::{Layer, Service};

use crate::Fault;

/// When those who were turned away may come again.
const AGAIN: Duration = Duration::from_secs(1);

/// Lets so many calls through at once, of all connections together. A stream counts until its answer begins: what it carries later is bounded
/// by whoever sends it.
#[derive(Clone, Debug)]
pub struct Limit(Arc<Semaphore>);

impl Limit {
    /// At most `most` at once.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self(Arc::new(Semaphore::new(most)))
    }
}

impl<S> Layer<S> for Limit {
    type Service = Limited<S>;

    fn layer(&self, inner: S) -> Limited<S> {
        Limited { inner, limit: self.clone() }
    }
}

/// A service behind its limit.
#[derive(Clone, Debug)]
pub struct Limited<S> {
    inner: S,
    limit: Limit,
}

impl<S: NamedService> NamedService for Limited<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request<Body>> for Limited<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Send + 'static,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let Ok(permit) = self.limit.0.clone().try_acquire_owned() else {
            return Box::pin(async { Ok(tonic::Status::from(too_many()).into_http()) });
        };
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await;
            drop(permit);
            answer
        })
    }
}

/// What a caller is told that comes on top.
#[must_use]
pub fn too_many() -> Fault {
    let message = "more calls are under way than can be answered soon; try again later";
    Fault::new(Code::ResourceExhausted, "Throttling", message).retry_after(AGAIN)
}

#[cfg(test)]
mod tests {
    use tokio::sync::watch;
    use tonic_types::StatusExt;
    use tower::service_fn;

    use super::*;

    /// What waits is let through once there is room; what comes on top is told so at once, and when to come again.
    #[tokio::test]
    async fn what_comes_on_top_is_turned_away_at_once() {
        let (go, going) = watch::channel(false);
        let inner = service_fn(move |_request: Request<Body>| {
            let mut going = going.clone();
            async move {
                going.wait_for(|go| *go).await.unwrap();
                Ok::<_, Infallible>(Response::new(Body::empty()))
            }
        });
        let mut limited = Limit::new(2).layer(inner);
        let mut other = limited.clone();
        let under_way = [
            tokio::spawn(limited.call(Request::default())),
            tokio::spawn(other.call(Request::default())),
        ];
        let refused = other.call(Request::default()).await.unwrap();
        let status = tonic::Status::from_header_map(refused.headers()).unwrap();
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert_eq!(status.get_details_error_info().unwrap().reason, "Throttling");
        assert_eq!(status.get_details_retry_info().unwrap().retry_delay, Some(AGAIN));
        go.send_replace(true);
        for call in under_way {
            let answered = call.await.unwrap().unwrap();
            assert!(tonic::Status::from_header_map(answered.headers()).is_none());
        }
        assert!(other.call(Request::default()).await.unwrap().headers().is_empty());
    }
}
