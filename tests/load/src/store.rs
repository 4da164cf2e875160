//! A stand-in for the policy store: it knows Watch alone, and what workload "orders" needs. Its snapshot comes in chunks of the real
//! one's size, made as they are sent.

use std::{
    convert::Infallible,
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use countersign_proto::policy::v1::{
    WatchHeartbeat, WatchRequest, WatchResponse, WatchSnapshotChunk, watch_request,
    watch_response::Event,
};
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Response, Status, Streaming, body::Body, server::NamedService, transport::Server};
use tower::Service;

use crate::{
    Failed,
    orders::{Orders, REVISION},
};

/// As the real store has it.
const CHUNK_RECORDS: usize = 500;

type Events = ReceiverStream<Result<WatchResponse, Status>>;

/// A store that serves until it is dropped, on a thread of its own.
pub struct StandIn {
    /// `http://127.0.0.1:…`
    pub origin: String,
    _end: oneshot::Sender<()>,
}

impl StandIn {
    /// Serves `orders` on a free port.
    ///
    /// # Errors
    /// When there is no port, or no thread.
    pub fn start(orders: Arc<Orders>) -> Result<Self, Failed> {
        let failed = || Failed::of("the stand-in of the store");
        let listener = std::net::TcpListener::bind("127.0.0.1:0").map_err(failed())?;
        listener.set_nonblocking(true).map_err(failed())?;
        let origin = format!("http://{}", listener.local_addr().map_err(failed())?);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(failed())?;
        let (end, ended) = oneshot::channel::<()>();
        std::thread::spawn(move || {
            let served = runtime.block_on(async {
                let incoming = TcpListenerStream::new(TcpListener::from_std(listener)?);
                let server = Server::builder().add_service(Watched(orders));
                tokio::select! {
                    served = server.serve_with_incoming(incoming) => served.map_err(io::Error::other),
                    _ = ended => Ok(()),
                }
            });
            if let Err(error) = served {
                eprintln!("the stand-in of the store ended: {error}");
            }
        });
        Ok(Self { origin, _end: end })
    }
}

#[derive(Clone)]
struct Watched(Arc<Orders>);

/// Whether somebody listened to the end.
fn snapshot(orders: &Orders, send: &impl Fn(Event) -> bool) -> bool {
    let mut records = orders.records().peekable();
    let mut first = true;
    while records.peek().is_some() {
        let chunk: Vec<_> = records.by_ref().take(CHUNK_RECORDS).collect();
        let last = records.peek().is_none();
        let chunk =
            WatchSnapshotChunk { revision: REVISION.to_owned(), first, last, records: chunk };
        if !send(Event::SnapshotChunk(chunk)) {
            return false;
        }
        first = false;
    }
    true
}

/// A snapshot, for whoever does not hold one, then heartbeats. Ends when nobody listens.
fn follow(
    orders: &Orders,
    holds_all: bool,
    responses: mpsc::Sender<Result<WatchResponse, Status>>,
) {
    let send = move |event| {
        let response = WatchResponse { event: Some(event) };
        responses.blocking_send(Ok(response)).is_ok()
    };
    if !holds_all && !snapshot(orders, &send) {
        return;
    }
    loop {
        let beat = WatchHeartbeat { revision: REVISION.to_owned(), digest: None };
        if !send(Event::Heartbeat(beat)) {
            return;
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}

impl NamedService for Watched {
    const NAME: &'static str = "countersign.policy.v1.PolicyStoreService";
}

impl Service<http::Request<Body>> for Watched {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let orders = Arc::clone(&self.0);
        let watch = tower::service_fn(move |asked: tonic::Request<Streaming<WatchRequest>>| {
            let orders = Arc::clone(&orders);
            async move {
                let holds_all = match asked.into_inner().message().await?.and_then(|it| it.request)
                {
                    Some(watch_request::Request::Start(start)) => start.revision == REVISION,
                    Some(watch_request::Request::Ack(_)) | None => false,
                };
                let (sender, receiver) = mpsc::channel(4);
                // A thread of its own: the snapshot of a million is made while it is sent.
                std::thread::spawn(move || follow(&orders, holds_all, sender));
                Ok::<Response<Events>, Status>(Response::new(ReceiverStream::new(receiver)))
            }
        });
        Box::pin(async move {
            let codec: tonic_prost::ProstCodec<WatchResponse, WatchRequest> =
                tonic_prost::ProstCodec::default();
            Ok(tonic::server::Grpc::new(codec).streaming(watch, request).await)
        })
    }
}
