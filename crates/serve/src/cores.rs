//! One runtime a core, each with the connections that it was handed: no request is moved from one core to another, and none waits for
//! another core's lock.
//!
//! Measured against one runtime over all cores: 1.36 times as many answers (DESIGN.md section 6).

use std::{
    io,
    net::TcpStream,
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
};
use tonic::{body::Body, service::Routes};
use tower::{Layer, Service};

use crate::{
    Shutdown,
    grpc::{DRAIN, ServeError, server},
    incoming::Incoming,
    listener::Listener,
    tls::{Protocol, Tls},
};

/// A connection that is older is asked to end once its calls are answered, so that new ones find the core that has least to do.
const MAX_AGE: Duration = Duration::from_secs(600);
/// Connections that wait for their core.
const WAITING: usize = 1024;
/// After the system has refused a connection (no file descriptors, mostly).
const REFUSED: Duration = Duration::from_millis(50);

/// How many cores this process may use.
#[must_use]
pub fn all() -> NonZeroUsize {
    thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

/// Counts an open connection of a core, until it is dropped.
#[derive(Debug)]
pub(crate) struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection on its way to its core.
pub(crate) struct Handed {
    pub stream: TcpStream,
    pub counted: Counted,
}

struct Core {
    connections: mpsc::Sender<Handed>,
    open: Arc<AtomicUsize>,
    running: Running,
}

struct Running {
    ended: oneshot::Receiver<Result<(), ServeError>>,
    /// Dropped, it ends the core at once: whoever started it is gone.
    _owner: oneshot::Sender<()>,
}

/// Serves `routes` on so many cores until `shutdown`, then drains: each core has a service of its own, which `layer` makes.
pub(crate) async fn serve<L>(
    routes: Routes,
    listener: Listener,
    shutdown: Shutdown,
    cores: NonZeroUsize,
    layer: impl Fn() -> L,
) -> Result<(), ServeError>
where
    L: Layer<Routes> + Clone + Send + 'static,
    L::Service:
        Service<http::Request<Body>, Response = http::Response<Body>> + Clone + Send + 'static,
    <L::Service as Service<http::Request<Body>>>::Future: Send,
    <L::Service as Service<http::Request<Body>>>::Error:
        Into<Box<dyn std::error::Error + Send + Sync>> + Send,
{
    let Listener { socket, tls, .. } = listener;
    let mut started = Vec::with_capacity(cores.get());
    for number in 0..cores.get() {
        started.push(start(number, routes.clone(), tls.clone(), shutdown.clone(), layer())?);
    }
    let (cores, running): (Vec<_>, Vec<_>) = started
        .into_iter()
        .map(|Core { connections, open, running }| ((connections, open), running))
        .unzip();
    tokio::select! {
        () = shutdown.wait() => {}
        () = hand_out(&socket, &cores) => {}
    }
    // New clients are refused at once; those that are there are answered.
    drop(socket);
    drop(cores);
    for one in running {
        // A core whose thread is gone has nobody to answer.
        one.ended
            .await
            .map_err(|_| ServeError::Io(io::Error::other("a core's thread ended")))??;
    }
    Ok(())
}

/// Gives each connection to the core that has fewest. Ends when a core has ended.
async fn hand_out(socket: &TcpListener, cores: &[(mpsc::Sender<Handed>, Arc<AtomicUsize>)]) {
    loop {
        let stream = match socket.accept().await {
            Ok((stream, _)) => stream.into_std(),
            Err(error) => Err(error),
        };
        let stream = match stream {
            Ok(stream) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(REFUSED).await;
                continue;
            }
        };
        let least = cores.iter().min_by_key(|(_, open)| open.load(Ordering::Relaxed));
        let Some((connections, open)) = least else { return };
        let handed = Handed { stream, counted: Counted::new(open) };
        if connections.send(handed).await.is_err() {
            return;
        }
    }
}

fn start<L>(
    number: usize,
    routes: Routes,
    tls: Option<Tls>,
    shutdown: Shutdown,
    layer: L,
) -> Result<Core, ServeError>
where
    L: Layer<Routes> + Clone + Send + 'static,
    L::Service:
        Service<http::Request<Body>, Response = http::Response<Body>> + Clone + Send + 'static,
    <L::Service as Service<http::Request<Body>>>::Future: Send,
    <L::Service as Service<http::Request<Body>>>::Error:
        Into<Box<dyn std::error::Error + Send + Sync>> + Send,
{
    let (connections, handed) = mpsc::channel(WAITING);
    let (end, ended) = oneshot::channel();
    let (owner, owner_gone) = oneshot::channel::<()>();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    thread::Builder::new().name(format!("core-{number}")).spawn(move || {
        let served = runtime.block_on(async {
            let incoming = Incoming::handed(handed, tls, Protocol::Grpc);
            let signal = shutdown.clone();
            let serving = server()
                .max_connection_age(MAX_AGE)
                .layer(layer)
                .add_routes(routes)
                .serve_with_incoming_shutdown(incoming, async move { signal.wait().await });
            let cut_off = async {
                shutdown.wait().await;
                tokio::time::sleep(DRAIN).await;
            };
            tokio::select! {
                served = serving => served,
                () = cut_off => Ok(()),
                _ = owner_gone => Ok(()),
            }
        });
        // What is left, such as streams that nobody reads, is nobody's to wait for.
        runtime.shutdown_background();
        let _ = end.send(served.map_err(ServeError::from));
    })?;
    Ok(Core { connections, open: Arc::default(), running: Running { ended, _owner: owner } })
}
