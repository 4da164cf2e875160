//! A gRPC server as every service runs one: its own services, reflection, health, limits, and a drain that ends.

use std::{
    future::Future,
    io, mem,
    net::SocketAddr,
    num::NonZeroUsize,
    sync::Arc,
    time::{Duration, Instant},
};

use prost::Message;
use prost_types::FileDescriptorSet;
use tokio::{net::TcpListener, sync::Mutex};
use tonic::{
    body::Body,
    service::{Routes, RoutesBuilder},
    transport::{Channel, Endpoint, Server},
};
use tonic_health::{
    ServingStatus,
    pb::{HealthCheckRequest, health_check_response, health_client::HealthClient},
    server::HealthReporter,
};

use crate::{
    Shutdown, cores,
    incoming::Incoming,
    listener::Listener,
    telemetry::{Metrics, Observe, Observed},
    tls::Protocol,
};
use tower::{Layer, Service, layer::util::Stack};

/// A drain that takes longer is cut off.
pub(crate) const DRAIN: Duration = Duration::from_secs(10);

/// What a service adds to, before it is served.
pub struct GrpcServer {
    routes: RoutesBuilder,
    health: Health,
    descriptors: &'static [u8],
    service_names: Vec<String>,
    /// Of every RPC that is served: `/package.Service/Rpc`.
    paths: Vec<String>,
    metrics: Metrics,
}

/// Why a server ended before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The reflection service could not be made from the descriptors.
    #[error("the descriptors do not make a reflection service: {0}")]
    Reflection(String),
    /// The transport failed.
    #[error("the server failed: {0}")]
    Transport(#[from] tonic::transport::Error),
    /// The socket failed.
    #[error("the socket failed: {0}")]
    Io(#[from] io::Error),
}

impl GrpcServer {
    /// A server with health, and with reflection where its listener is described. Each name of `service_names` is NOT_SERVING until it is
    /// said to serve.
    ///
    /// # Errors
    /// When the descriptors are not well formed.
    pub async fn new(
        descriptors: &'static [u8],
        service_names: &[&str],
    ) -> Result<Self, ServeError> {
        let (health, health_service) = tonic_health::server::health_reporter();
        for name in service_names {
            health.set_service_status(*name, ServingStatus::NotServing).await;
        }
        // The empty name stands for the whole server (the health protocol's own rule).
        health.set_service_status("", ServingStatus::NotServing).await;

        let mut routes = Routes::builder();
        routes.add_service(health_service);
        let service_names: Vec<String> =
            service_names.iter().map(|name| (*name).to_owned()).collect();
        let paths = paths(&[
            descriptors,
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
        ])?;
        let health = Health::new(health);
        let metrics = Metrics::default();
        Ok(Self { routes, health, descriptors, service_names, paths, metrics })
    }

    /// Counts its calls among `metrics`.
    #[must_use]
    pub fn counted_in(self, metrics: &Metrics) -> Self {
        Self { metrics: metrics.clone(), ..self }
    }

    /// Where the service's own routes are added.
    pub fn routes(&mut self) -> &mut RoutesBuilder {
        &mut self.routes
    }

    /// Tells health what is served.
    #[must_use]
    pub fn health(&self) -> Health {
        self.health.clone()
    }

    /// Serves until `shutdown`, then drains. Health says NOT_SERVING as soon as it is announced.
    ///
    /// # Errors
    /// When the transport fails.
    pub async fn serve(
        mut self,
        listener: impl Into<Listener>,
        shutdown: Shutdown,
    ) -> Result<(), ServeError> {
        let signal = shutdown.clone();
        let listener = listener.into();
        let (routes, observe) = (self.taken_routes(&listener)?, self.observe());
        let incoming = Incoming::new(listener, Protocol::Grpc);
        let serving = server().layer(observe).add_routes(routes).serve_with_incoming_shutdown(
            incoming,
            async move {
                signal.wait().await;
            },
        );
        self.until(shutdown, async { serving.await.map_err(ServeError::from) }).await
    }

    /// The same with one runtime for each of so many cores. Each has a service of its own, which `layer` puts before the routes.
    ///
    /// # Errors
    /// When the transport fails, or there are no threads.
    pub async fn serve_on_cores<L>(
        mut self,
        listener: impl Into<Listener>,
        shutdown: Shutdown,
        cores: NonZeroUsize,
        layer: impl Fn() -> L,
    ) -> Result<(), ServeError>
    where
        L: Layer<Observed<Routes>> + Clone + Send + 'static,
        L::Service:
            Service<http::Request<Body>, Response = http::Response<Body>> + Clone + Send + 'static,
        <L::Service as Service<http::Request<Body>>>::Future: Send + 'static,
        <L::Service as Service<http::Request<Body>>>::Error:
            Into<Box<dyn std::error::Error + Send + Sync>> + Send,
    {
        let listener = listener.into();
        let routes = self.taken_routes(&listener)?;
        // What `layer` answers by itself it counts by itself.
        let layer = || Stack::new(self.observe(), layer());
        let serving = cores::serve(routes, listener, shutdown.clone(), cores, layer);
        self.until(shutdown, serving).await
    }

    /// Reflection, v1 and v1alpha, google.rpc's error details included.
    fn describe(&mut self) -> Result<(), ServeError> {
        let reflection = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(self.descriptors)
                .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
                .register_encoded_file_descriptor_set(tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET)
                .register_encoded_file_descriptor_set(
                    tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
                )
                .include_reflection_service(false)
                .with_service_name("grpc.health.v1.Health")
                .with_service_name("grpc.reflection.v1.ServerReflection")
                .with_service_name("grpc.reflection.v1alpha.ServerReflection")
        };
        let mut v1 = reflection();
        let mut v1alpha = reflection();
        for name in &self.service_names {
            v1 = v1.with_service_name(name);
            v1alpha = v1alpha.with_service_name(name);
        }
        let v1 = v1.build_v1().map_err(|error| ServeError::Reflection(error.to_string()))?;
        let v1alpha =
            v1alpha.build_v1alpha().map_err(|error| ServeError::Reflection(error.to_string()))?;
        self.routes.add_service(v1).add_service(v1alpha);
        Ok(())
    }

    fn taken_routes(&mut self, listener: &Listener) -> Result<Routes, ServeError> {
        if listener.is_described {
            self.describe()?;
        }
        Ok(mem::take(&mut self.routes).routes())
    }

    fn observe(&self) -> Observe {
        Observe(self.metrics.rpcs(self.paths.iter().map(String::as_str)))
    }

    /// Until it ends, or must.
    async fn until(
        &self,
        shutdown: Shutdown,
        serving: impl Future<Output = Result<(), ServeError>>,
    ) -> Result<(), ServeError> {
        let cut_off = async {
            shutdown.wait().await;
            tokio::time::sleep(DRAIN).await;
        };
        let leaving = async {
            shutdown.announced().await;
            self.health.leave(&self.service_names).await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            ended = serving => ended,
            () = leaving => Ok(()),
            () = cut_off => {
                tracing::warn!("connections were still open {}s after the drain began", DRAIN.as_secs());
                Ok(())
            }
        }
    }
}

/// The path of every RPC that some file describes. Not all of them are served here: they have no calls.
fn paths(files: &[&[u8]]) -> Result<Vec<String>, ServeError> {
    let mut paths = Vec::new();
    for file in files {
        let set = FileDescriptorSet::decode(*file)
            .map_err(|error| ServeError::Reflection(error.to_string()))?;
        for file in &set.file {
            for service in &file.service {
                let own = service.method.iter().map(|method| {
                    format!("/{}.{}/{}", file.package(), service.name(), method.name())
                });
                paths.extend(own);
            }
        }
    }
    Ok(paths)
}

/// What every server has.
pub(crate) fn server() -> Server {
    Server::builder()
        .max_concurrent_streams(1024)
        .http2_keepalive_interval(Some(Duration::from_secs(30)))
        .http2_keepalive_timeout(Some(Duration::from_secs(10)))
}

/// Tells health what is served.
#[derive(Clone)]
pub struct Health {
    reporter: HealthReporter,
    /// Once the process is on its way out, nothing serves again.
    leaving: Arc<Mutex<bool>>,
}

impl Health {
    fn new(reporter: HealthReporter) -> Self {
        Self { reporter, leaving: Arc::default() }
    }

    /// The named services, and so the server, answer from now on.
    pub async fn serving(&self, service_names: &[&str]) {
        let leaving = self.leaving.lock().await;
        if !*leaving {
            self.set(service_names, ServingStatus::Serving).await;
        }
    }

    /// They do not.
    pub async fn not_serving(&self, service_names: &[&str]) {
        self.set(service_names, ServingStatus::NotServing).await;
    }

    async fn leave(&self, service_names: &[String]) {
        let mut leaving = self.leaving.lock().await;
        *leaving = true;
        let names: Vec<&str> = service_names.iter().map(String::as_str).collect();
        self.set(&names, ServingStatus::NotServing).await;
    }

    /// A part of a service, under a name of its own, answers or does not: the service and the server stay as they are.
    pub async fn part(&self, name: &str, serving: bool) {
        let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
        self.reporter.set_service_status(name, status).await;
    }

    async fn set(&self, service_names: &[&str], status: ServingStatus) {
        for name in service_names {
            self.reporter.set_service_status(*name, status).await;
        }
        self.reporter.set_service_status("", status).await;
    }
}

/// A channel to a Countersign service, connected when it is first used.
///
/// # Errors
/// When `origin` is no URI.
pub fn channel(origin: &str) -> Result<Channel, tonic::transport::Error> {
    Ok(Endpoint::from_shared(origin.to_owned())?
        .tcp_nodelay(true)
        .connect_timeout(Duration::from_secs(5))
        .http2_keep_alive_interval(Duration::from_secs(20))
        .keep_alive_while_idle(true)
        .connect_lazy())
}

/// Waits until `service_name` at `origin` says SERVING.
///
/// # Errors
/// With its last word, when it has not said so within `patience`.
pub async fn wait_until_serving(
    origin: &str,
    service_name: &str,
    patience: Duration,
) -> Result<(), NotServing> {
    let not_serving = |last: String| NotServing {
        service_name: service_name.to_owned(),
        origin: origin.to_owned(),
        last,
    };
    let channel = channel(origin).map_err(|error| not_serving(error.to_string()))?;
    serving_on(channel, service_name, patience).await.map_err(not_serving)
}

/// Waits until `service_name` says SERVING over `channel`.
///
/// # Errors
/// Its last word, when it has not said so within `patience`.
pub async fn serving_on(
    channel: Channel,
    service_name: &str,
    patience: Duration,
) -> Result<(), String> {
    let deadline = Instant::now() + patience;
    let mut health = HealthClient::new(channel);
    loop {
        let request = HealthCheckRequest { service: service_name.to_owned() };
        let mut request = tonic::Request::new(request);
        request.set_timeout(patience.max(Duration::from_millis(100)));
        let last = match health.check(request).await {
            Ok(answer)
                if answer.get_ref().status() == health_check_response::ServingStatus::Serving =>
            {
                return Ok(());
            }
            Ok(answer) => answer.get_ref().status().as_str_name().to_owned(),
            Err(status) => status.message().to_owned(),
        };
        if Instant::now() >= deadline {
            return Err(last);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A service that did not come up in time.
#[derive(Debug, thiserror::Error)]
#[error("`{service_name}` at {origin} is not serving: {last}")]
pub struct NotServing {
    service_name: String,
    origin: String,
    last: String,
}

impl NotServing {
    /// `service_name` at `origin`, whose last word this was.
    #[must_use]
    pub fn new(service_name: &str, origin: &str, last: String) -> Self {
        Self { service_name: service_name.to_owned(), origin: origin.to_owned(), last }
    }
}

/// `http://` and the address that a listener took.
///
/// # Errors
/// When the socket does not know its address.
pub fn origin(listener: &TcpListener) -> io::Result<String> {
    let address: SocketAddr = listener.local_addr()?;
    Ok(format!("http://{address}"))
}
