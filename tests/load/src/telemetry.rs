//! Telemetry on against off: two decision services of one store, in turns. The one that tells sends a thousandth of its calls as traces and
//! its metrics every second by OTLP, logs JSON at `info`, and has its page of metrics read every second; the other tells nothing.
//!
//! The collector is a stand-in on loopback, which takes everything and keeps nothing; that it was sent something is checked.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use countersign_serve::telemetry::{self, LogFormat, Metrics, Otlp, Running};
use tokio::{net::TcpListener, sync::oneshot};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    Response, Status,
    body::Body,
    server::NamedService,
    transport::{Channel, Endpoint, Server},
};
use tower::Service;

use crate::{
    Failed,
    drive::Span,
    measure::{Bench, Figures, Rpc},
    report::{count, median, microseconds, table},
};

/// Between two reports, and two readings of the page.
const EVERY: Duration = Duration::from_secs(1);
/// What the programs have, unless told otherwise.
const SHARE: f64 = 0.001;

/// Tells of everything, as the programs do.
///
/// # Errors
/// When it does not start.
pub fn start(collector: String, metrics: &Metrics) -> Result<Running, Failed> {
    let connect = move || -> Result<Channel, String> {
        let endpoint =
            Endpoint::from_shared(collector.clone()).map_err(|error| error.to_string())?;
        Ok(endpoint.connect_lazy())
    };
    let otlp = Otlp {
        collector: telemetry::Collector::new(connect, "countersign-decision", "load"),
        share: SHARE,
        metrics: metrics.clone(),
        every: EVERY,
    };
    telemetry::start_with("info", LogFormat::Json, Some(otlp)).map_err(Failed::of("telemetry"))
}

/// Reads the page of metrics as a scraper does, if anybody does.
pub async fn scrape(metrics: Metrics, is_read: bool) {
    if !is_read {
        std::future::pending::<()>().await;
    }
    loop {
        tokio::time::sleep(EVERY).await;
        drop(metrics.page());
    }
}

/// Takes whatever OTLP sends.
struct Collector {
    origin: String,
    exports: Arc<AtomicU64>,
    _end: oneshot::Sender<()>,
}

/// A message of which nothing is read.
#[derive(Clone, PartialEq, prost::Message)]
struct Nothing {}

/// One of the collector's services: that of metrics, or that of traces.
#[derive(Clone)]
struct Taken<const METRICS: bool>(Arc<AtomicU64>);

impl NamedService for Taken<true> {
    const NAME: &'static str = "opentelemetry.proto.collector.metrics.v1.MetricsService";
}

impl NamedService for Taken<false> {
    const NAME: &'static str = "opentelemetry.proto.collector.trace.v1.TraceService";
}

impl<const METRICS: bool> Service<http::Request<Body>> for Taken<METRICS> {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        self.0.fetch_add(1, Ordering::Relaxed);
        let take = tower::service_fn(async |_: tonic::Request<Nothing>| {
            Ok::<_, Status>(Response::new(Nothing {}))
        });
        Box::pin(async move {
            let codec: tonic_prost::ProstCodec<Nothing, Nothing> =
                tonic_prost::ProstCodec::default();
            Ok(tonic::server::Grpc::new(codec).unary(take, request).await)
        })
    }
}

impl Collector {
    fn start() -> Result<Self, Failed> {
        let failed = || Failed::of("the collector");
        let listener = std::net::TcpListener::bind("127.0.0.1:0").map_err(failed())?;
        listener.set_nonblocking(true).map_err(failed())?;
        let origin = format!("http://{}", listener.local_addr().map_err(failed())?);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(failed())?;
        let (end, ended) = oneshot::channel::<()>();
        let exports = Arc::new(AtomicU64::new(0));
        let (metrics, traces) =
            (Taken::<true>(Arc::clone(&exports)), Taken::<false>(Arc::clone(&exports)));
        std::thread::spawn(move || {
            runtime.block_on(async {
                let Ok(listener) = TcpListener::from_std(listener) else { return };
                let server = Server::builder().add_service(metrics).add_service(traces);
                tokio::select! {
                    _ = server.serve_with_incoming(TcpListenerStream::new(listener)) => {}
                    _ = ended => {}
                }
            });
        });
        Ok(Self { origin, exports, _end: end })
    }
}

/// Both services in turn, as a table and a sentence.
///
/// # Errors
/// When one does not start, a question has no answer, or nothing was told.
pub async fn compared(principals: usize, rounds: usize, span: Span) -> Result<String, Failed> {
    let bench = Bench::start(principals, true).await?;
    let collector = Collector::start()?;
    let telling = bench.another(&["--collector", &collector.origin]).await?;
    let mut rows = Vec::new();
    for (rpc, streams) in [(Rpc::Arn, 64), (Rpc::Token, 64)] {
        let (mut off, mut on) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            off.push(bench.closed(&bench.decision, rpc, streams, span).await?);
            on.push(bench.closed(&telling, rpc, streams, span).await?);
        }
        if let (Some(off), Some(on)) = (median(&off), median(&on)) {
            rows.push(row(rpc, streams, &off, &on));
        }
    }
    let exports = collector.exports.load(Ordering::Relaxed);
    if exports == 0 {
        return Err(Failed::because("the collector was sent nothing"));
    }
    let head = ["what", "streams", "decisions/s: off", "on", "ratio", "CPU us: off", "on", "ratio"];
    Ok(format!("{}\nThe collector was sent {exports} reports.\n", table(&head, &rows)))
}

fn row(rpc: Rpc, streams: usize, off: &Figures, on: &Figures) -> Vec<String> {
    vec![
        rpc.name().to_owned(),
        streams.to_string(),
        count(off.rate),
        count(on.rate),
        format!("{:.2}", on.rate / off.rate),
        microseconds(off.cpu),
        microseconds(on.cpu),
        format!("{:.2}", on.cpu.as_secs_f64() / off.cpu.as_secs_f64()),
    ]
}
