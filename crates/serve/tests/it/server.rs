//! A server that tells each caller who it is, and a caller that asks.

use countersign_serve::{
    Fault, Listener, ServiceIdentities, ServiceName, Tls,
    authn::{Authenticate, Authenticated},
    dial::{self, Trust},
    incoming::{Incoming, Peer},
    listener::bind_with,
    tls::Protocol,
};
use http::{HeaderMap, Uri};
use tonic::{
    Code,
    transport::{Channel, Server},
};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::authority::DOMAIN;

#[derive(Clone)]
struct Who(ServiceIdentities);

impl Authenticate for Who {
    type Caller = ();

    async fn authenticate(
        &self,
        _uri: &Uri,
        headers: &HeaderMap,
        peer: Option<&Peer>,
    ) -> Result<(), Fault> {
        let who = self
            .0
            .identify(headers, peer)
            .map_err(|error| Fault::invalid("who", error.to_string()))?;
        let who = who.map_or_else(|| "nobody".to_owned(), |name| name.to_string());
        Err(Fault::unauthenticated("Who", who))
    }
}

/// Serves for as long as the test runs. Returns its address.
pub async fn serve(tls: Option<Tls>) -> String {
    let listener: Listener = bind_with("127.0.0.1:0".parse().unwrap(), tls, false).await.unwrap();
    let origin = listener.origin().unwrap().replace("127.0.0.1", "localhost");
    let domain = DOMAIN.parse().unwrap();
    let identities = ServiceIdentities::default()
        .accept_certificate(ServiceName::Gateway, &domain)
        .accept_certificate(ServiceName::Decision, &domain);
    let (_, health) = tonic_health::server::health_reporter();
    let service = Authenticated::new(health, Who(identities));
    let incoming = Incoming::new(listener, Protocol::Grpc);
    tokio::spawn(Server::builder().add_service(service).serve_with_incoming(incoming));
    origin
}

/// Who the server says that we are, or what kept us from hearing it.
pub async fn ask(origins: &str, trust: Trust) -> Result<String, String> {
    ask_over(dial::channel(origins, trust).map_err(|error| error.to_string())?).await
}

pub async fn ask_over(channel: Channel) -> Result<String, String> {
    let status = HealthClient::new(channel).check(HealthCheckRequest::default()).await.unwrap_err();
    match status.code() {
        Code::Unauthenticated => Ok(status.message().to_owned()),
        _ => Err(causes(&status)),
    }
}

fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}
