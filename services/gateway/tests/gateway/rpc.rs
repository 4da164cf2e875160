//! A gRPC service of a few RPCs, without the generated trait's other hundred.

use std::{convert::Infallible, future::Future, pin::Pin, sync::Arc};

use http::{Request, Response};
use tonic::{Status, body::Body};

pub type Answer = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;

/// Answers one RPC by its name.
pub trait Rpcs: Send + Sync + 'static {
    const NAME: &'static str;
    fn call(self: Arc<Self>, rpc: &str, request: Request<Body>) -> Answer;
}

pub struct Served<R>(pub Arc<R>);

impl<R> Clone for Served<R> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<R: Rpcs> tonic::server::NamedService for Served<R> {
    const NAME: &'static str = R::NAME;
}

impl<R: Rpcs> tower::Service<Request<Body>> for Served<R> {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), Infallible>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let rpc = request.uri().path().rsplit('/').next().unwrap().to_owned();
        let answer = self.0.clone().call(&rpc, request);
        Box::pin(async move { Ok(answer.await) })
    }
}

/// Answers a unary RPC with `verb`.
pub fn unary<Q, A>(
    request: Request<Body>,
    verb: impl FnOnce(Q) -> Result<A, Status> + Send + 'static,
) -> Answer
where
    Q: prost::Message + Default + 'static,
    A: prost::Message + Default + 'static,
{
    Box::pin(async move {
        let mut verb = Some(verb);
        let service = tower::service_fn(move |request: tonic::Request<Q>| {
            let verb = verb.take().unwrap();
            async move { verb(request.into_inner()).map(tonic::Response::new) }
        });
        let codec = tonic_prost::ProstCodec::<A, Q>::default();
        tonic::server::Grpc::new(codec).unary(service, request).await
    })
}

pub fn status(status: Status) -> Answer {
    Box::pin(async move { status.into_http() })
}
