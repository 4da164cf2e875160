//! The server processes, as the program starts itself: the decision service, and the bare echo. Each says on its first line where it
//! listens, and ends with the one that started it.

use std::{io::Write, net::SocketAddr, path::PathBuf, pin::Pin, sync::Mutex};

use clap::Args;
use countersign_decision::{Config, LogConfig, SERVICE_NAME};
use countersign_proto::decision::v1::{
    AuthorizeAssumeRoleRequest, AuthorizeAssumeRoleResponse, AuthorizeExchangeRequest,
    AuthorizeExchangeResponse, AuthorizeRequest, AuthorizeResponse, AuthorizeStreamRequest,
    AuthorizeStreamResponse, BatchAuthorizeRequest, BatchAuthorizeResponse, ExplainRequest,
    ExplainResponse, FilterResourcesRequest, FilterResourcesResponse, GetStatusRequest,
    GetStatusResponse, WhoCanRequest, WhoCanResponse,
    authorize_stream_response::Result as Answer,
    decision_service_server::{DecisionService, DecisionServiceServer},
};
use countersign_serve::{
    ServiceCredential, ServiceIdentities, ServiceSecret,
    grpc::{origin, wait_until_serving},
    shutdown,
};
use prost::Message;
use tokio::net::TcpListener;
use tokio_stream::{Stream, StreamExt};
use tonic::{
    Request, Response, Status, Streaming,
    transport::{Server, server::TcpIncoming},
};

use crate::{Failed, PATIENCE, orders::ISSUER, telemetry};

/// The decision service.
#[derive(Args, Debug)]
pub struct DecisionArgs {
    /// The policy store's origin.
    #[arg(long)]
    store: String,
    /// Where it keeps a snapshot.
    #[arg(long)]
    snapshot_dir: Option<PathBuf>,
    /// Where it logs decisions.
    #[arg(long)]
    decision_log: Option<PathBuf>,
    /// Where it sends telemetry, by OTLP in clear; without, it tells nothing.
    #[arg(long)]
    collector: Option<String>,
}

/// A server that answers at once.
#[derive(Args, Debug)]
pub struct EchoArgs {
    /// Answers in hexadecimal digits, given in turn.
    #[arg(long, required = true)]
    answer: Vec<String>,
}

/// Serves decisions until it is ended.
///
/// # Errors
/// When it does not start, or fails.
pub fn decision(args: DecisionArgs) -> Result<(), Failed> {
    runtime()?.block_on(async {
        let secret = ServiceSecret::generate().map_err(Failed::of("a secret"))?;
        let identities = ServiceIdentities::default();
        let mut config =
            Config::new(ISSUER, args.store, ServiceCredential::new(&secret), identities);
        config.snapshot_dir = args.snapshot_dir;
        config.decision_log = LogConfig::of(args.decision_log, None, std::num::NonZeroU32::MIN);
        let running =
            args.collector.map(|origin| telemetry::start(origin, &config.metrics)).transpose()?;
        let scraped = telemetry::scrape(config.metrics.clone(), running.is_some());
        let listener = listener().await?;
        let origin = origin(&listener).map_err(Failed::of("a socket"))?;
        let address = listener.local_addr().map_err(Failed::of("a socket"))?;
        let (_trigger, shutdown) = shutdown::channel();
        let serving = countersign_decision::serve(config, listener, shutdown);
        let told = async {
            let ready = wait_until_serving(&origin, SERVICE_NAME, PATIENCE).await;
            match ready {
                Ok(()) => tell(address),
                Err(error) => eprintln!("{error}"),
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            served = serving => served.map_err(Failed::of("the decision service")),
            () = told => Ok(()),
            () = scraped => Ok(()),
        }
    })
}

/// Serves the echo until it is ended: tonic, and nothing else.
///
/// # Errors
/// When it does not start, or fails.
pub fn echo(args: EchoArgs) -> Result<(), Failed> {
    let decoded = args.answer.iter().map(|text| {
        AuthorizeResponse::decode(unhex(text).as_slice()).map_err(Failed::of("an answer"))
    });
    let answers = decoded.collect::<Result<Vec<_>, _>>()?;
    runtime()?.block_on(async {
        let listener = listener().await?;
        tell(listener.local_addr().map_err(Failed::of("a socket"))?);
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        Server::builder()
            .max_concurrent_streams(1024)
            .add_service(DecisionServiceServer::new(Echo::new(answers)))
            .serve_with_incoming(incoming)
            .await
            .map_err(Failed::of("the echo"))
    })
}

/// One thread: whoever is measured has one core.
fn runtime() -> Result<tokio::runtime::Runtime, Failed> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(Failed::of("a runtime"))
}

async fn listener() -> Result<TcpListener, Failed> {
    TcpListener::bind("127.0.0.1:0").await.map_err(Failed::of("a socket"))
}

fn tell(address: SocketAddr) {
    println!("{address}");
    let _ = std::io::stdout().flush();
}

/// Hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        text.chars().filter_map(|c| c.to_digit(16)).filter_map(|d| u8::try_from(d).ok()).collect();
    digits.as_chunks::<2>().0.iter().map(|[high, low]| high << 4 | low).collect()
}

/// Whatever it is asked, it gives the same answers in turn. Each is copied, as a real one would be made.
struct Echo {
    answers: Vec<AuthorizeResponse>,
    next: Mutex<usize>,
}

impl Echo {
    fn new(answers: Vec<AuthorizeResponse>) -> Self {
        Self { answers, next: Mutex::new(0) }
    }

    fn answer(&self) -> AuthorizeResponse {
        let mut next = self.next.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *next = if *next + 1 < self.answers.len() { *next + 1 } else { 0 };
        self.answers.get(*next).cloned().unwrap_or_default()
    }
}

type Answers = Pin<Box<dyn Stream<Item = Result<AuthorizeStreamResponse, Status>> + Send>>;

#[tonic::async_trait]
impl DecisionService for Echo {
    async fn authorize(
        &self,
        _: Request<AuthorizeRequest>,
    ) -> Result<Response<AuthorizeResponse>, Status> {
        Ok(Response::new(self.answer()))
    }

    async fn batch_authorize(
        &self,
        request: Request<BatchAuthorizeRequest>,
    ) -> Result<Response<BatchAuthorizeResponse>, Status> {
        let answers = request.get_ref().checks.iter().map(|_| self.answer()).collect();
        Ok(Response::new(BatchAuthorizeResponse { answers }))
    }

    type AuthorizeStreamStream = Answers;

    async fn authorize_stream(
        &self,
        request: Request<Streaming<AuthorizeStreamRequest>>,
    ) -> Result<Response<Answers>, Status> {
        let own = Self::new(self.answers.clone());
        let answers = request.into_inner().map(move |question| {
            let AuthorizeStreamRequest { id, question: _ } = question?;
            Ok(AuthorizeStreamResponse { id, result: Some(Answer::Answer(own.answer())) })
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn explain(
        &self,
        _: Request<ExplainRequest>,
    ) -> Result<Response<ExplainResponse>, Status> {
        Err(unmeasured())
    }

    async fn authorize_assume_role(
        &self,
        _: Request<AuthorizeAssumeRoleRequest>,
    ) -> Result<Response<AuthorizeAssumeRoleResponse>, Status> {
        Err(unmeasured())
    }

    async fn authorize_exchange(
        &self,
        _: Request<AuthorizeExchangeRequest>,
    ) -> Result<Response<AuthorizeExchangeResponse>, Status> {
        Err(unmeasured())
    }

    async fn who_can(&self, _: Request<WhoCanRequest>) -> Result<Response<WhoCanResponse>, Status> {
        Err(unmeasured())
    }

    async fn filter_resources(
        &self,
        _: Request<FilterResourcesRequest>,
    ) -> Result<Response<FilterResourcesResponse>, Status> {
        Err(unmeasured())
    }

    async fn get_status(
        &self,
        _: Request<GetStatusRequest>,
    ) -> Result<Response<GetStatusResponse>, Status> {
        Err(unmeasured())
    }
}

fn unmeasured() -> Status {
    Status::unimplemented("the echo answers what is measured, and nothing else")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_survive_the_command_line() {
        let bytes: Vec<u8> = (0..=255).collect();
        assert_eq!(unhex(&hex(&bytes)), bytes);
    }
}
