//! The gateway and what stands around it, on free ports.

use std::{
    sync::{Arc, Mutex, OnceLock},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use countersign_gateway::{
    Config, Error, Instances, JwtIssuers, Listeners, RateLimits, Rotation, serve,
};
use countersign_proto::{
    policy::v1::{AccessKeyRecord, AccessKeyState},
    token::v1::{
        ExchangeRequest, ExchangeResponse,
        token_exchange_service_client::TokenExchangeServiceClient,
    },
};
use countersign_serve::{
    ServiceCredential, ServiceIdentities, ServiceName, ServiceSecret,
    grpc::{channel, origin, wait_until_serving},
    shutdown,
    telemetry::Metrics,
};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Code, Status, transport::Channel};
use tonic_types::StatusExt;

use crate::{
    decision::DecisionService,
    proofs::{INACTIVE_KEY, LOCAL_KEY, LOCAL_SECRET},
    rpc::{Rpcs, Served},
    store::Store,
    sts::{self, Sts},
};

pub const SERVICE: &str = "countersign.token.v1.TokenExchangeService";

pub fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().try_into().unwrap()
}

pub struct System {
    pub store: Arc<Store>,
    pub decision: Arc<DecisionService>,
    pub sts: Arc<Sts>,
    pub gateway: Gateway,
    gateway_secret: ServiceSecret,
    decision_secret: ServiceSecret,
    origins: (String, String),
}

pub struct Gateway {
    pub issuer: String,
    pub origin: String,
    pub channel: Channel,
    trigger: shutdown::Trigger,
    task: JoinHandle<Result<(), Error>>,
}

async fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = origin(&listener).unwrap();
    (listener, origin)
}

async fn run<R: Rpcs>(rpcs: Arc<R>) -> String {
    let (listener, origin) = listen().await;
    let server = tonic::transport::Server::builder().add_service(Served(rpcs));
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    origin
}

impl System {
    pub async fn start() -> Self {
        Self::start_with(|_| {}, ";format=xml").await
    }

    /// `prepare` sees the store before the gateway does; `options` are the STS endpoint's.
    pub async fn start_with(prepare: impl FnOnce(&Store), options: &str) -> Self {
        Self::start_as(prepare, options, |_| {}).await
    }

    /// `configure` has the last word on the gateway's configuration.
    pub async fn start_as(
        prepare: impl FnOnce(&Store),
        options: &str,
        configure: impl FnOnce(&mut Config),
    ) -> Self {
        log();
        let gateway_secret = ServiceSecret::generate().unwrap();
        let decision_secret = ServiceSecret::generate().unwrap();
        let identities =
            ServiceIdentities::default().accept(ServiceName::Gateway, gateway_secret.clone());
        let store = Store::new(identities.clone());
        let decision = DecisionService::new(identities);
        for (id, state) in
            [(LOCAL_KEY, AccessKeyState::Active), (INACTIVE_KEY, AccessKeyState::Inactive)]
        {
            let record = AccessKeyRecord {
                access_key_id: id.into(),
                account_id: "000000000000".into(),
                user_name: "alice".into(),
                user_id: "AIDALOCAL123456789012".into(),
                state: state.into(),
                create_date: None,
            };
            store.add_key(LOCAL_SECRET, record, "arn:aws:iam::000000000000:user/team/alice");
        }
        prepare(&store);
        let origins = (run(store.clone()).await, run(decision.clone()).await);
        let sts = Sts::start().await;
        let gateway =
            start_gateway(&gateway_secret, &decision_secret, &origins, &sts, options, configure)
                .await;
        Self { store, decision, sts, gateway, gateway_secret, decision_secret, origins }
    }

    /// Another gateway beside the first, on the same store.
    pub async fn another_gateway(&self) -> Gateway {
        start_gateway(
            &self.gateway_secret,
            &self.decision_secret,
            &self.origins,
            &self.sts,
            "",
            |_| {},
        )
        .await
    }

    /// How another service of Countersign shows itself to the gateway.
    pub fn service_credential(&self) -> ServiceCredential {
        ServiceCredential::new(&self.decision_secret)
    }

    pub async fn exchange(&self, request: ExchangeRequest) -> Result<ExchangeResponse, Refused> {
        self.gateway.exchange(request).await
    }

    pub async fn ready(&self) {
        wait_until_serving(&self.gateway.origin, SERVICE, Duration::from_secs(20)).await.unwrap();
    }

    pub async fn stop(self) {
        self.gateway.trigger.fire();
        let ended = tokio::time::timeout(Duration::from_secs(20), self.gateway.task).await;
        ended.expect("the drain ends").unwrap().unwrap();
    }
}

async fn start_gateway(
    gateway_secret: &ServiceSecret,
    decision_secret: &ServiceSecret,
    (store, decision): &(String, String),
    sts: &Sts,
    options: &str,
    configure: impl FnOnce(&mut Config),
) -> Gateway {
    let (grpc, origin) = listen().await;
    let (http, issuer) = listen().await;
    let endpoint = format!("us-east-1={}/;accounts={}{options}", sts.origin, sts::ACCOUNT);
    let mut config = Config {
        issuer: issuer.clone(),
        region: "us-east-1".into(),
        partition: "aws".into(),
        policy_store: store.clone(),
        decision: decision.clone(),
        credential: ServiceCredential::new(gateway_secret),
        identities: ServiceIdentities::default()
            .accept(ServiceName::Decision, decision_secret.clone()),
        sts_endpoints: vec![endpoint.parse().unwrap()],
        jwt_issuers: JwtIssuers::default(),
        instances: Instances::default(),
        limits: RateLimits::default(),
        rotation: Rotation::default(),
        operator_account: Some("000000000000".into()),
        audit_dir: None,
        name: "gateway".into(),
        metrics: Metrics::default(),
    };
    configure(&mut config);
    let (trigger, shutdown) = shutdown::channel();
    let task =
        tokio::spawn(serve(config, Listeners { grpc: grpc.into(), http: http.into() }, shutdown));
    let channel = channel(&origin).unwrap();
    Gateway { issuer, origin, channel, trigger, task }
}

/// A gRPC refusal, as far as tests look at it.
#[derive(Debug)]
pub struct Refused {
    pub code: Code,
    pub reason: String,
    pub message: String,
    pub retry: bool,
}

impl From<Status> for Refused {
    fn from(status: Status) -> Self {
        let details = status.get_error_details();
        let reason = details.error_info().map(|info| info.reason.clone()).unwrap_or_default();
        Self {
            code: status.code(),
            reason,
            message: status.message().to_owned(),
            retry: details.retry_info().is_some(),
        }
    }
}

impl Gateway {
    pub async fn exchange(&self, request: ExchangeRequest) -> Result<ExchangeResponse, Refused> {
        let mut client = TokenExchangeServiceClient::new(self.channel.clone());
        Ok(client.exchange(request).await?.into_inner())
    }

    pub async fn http(&self, request: Request<Full<Bytes>>) -> (u16, http::HeaderMap, String) {
        let client = Client::builder(TokioExecutor::new()).build_http();
        let response: Response<_> = client.request(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (parts.status.as_u16(), parts.headers, String::from_utf8(body.to_vec()).unwrap())
    }

    pub async fn http_get(&self, path: &str) -> (u16, http::HeaderMap, String) {
        let request = Request::get(format!("{}{path}", self.issuer)).body(Full::default()).unwrap();
        self.http(request).await
    }
}

static LOG: OnceLock<Arc<Mutex<Vec<u8>>>> = OnceLock::new();

struct Lines(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Everything that was logged by this process, at the level `trace`.
pub fn log() -> String {
    let lines = LOG.get_or_init(|| {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let sink = lines.clone();
        tracing_subscriber::fmt()
            .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
            .with_ansi(false)
            .with_writer(move || Lines(sink.clone()))
            .init();
        lines
    });
    let lines = lines.lock().unwrap();
    String::from_utf8_lossy(&lines).into_owned()
}
