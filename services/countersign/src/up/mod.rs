//! `countersign up`: the three unchanged services in one process, talking gRPC over loopback.
//!
//! All sockets are bound first; then, each once the one before it is SERVING: policy store → decision service → token gateway →
//! `admin.token` → `endpoints.json`, whose appearance says that everything is there. They end in the reverse order.

mod admin;
mod security;
mod services;
mod welcome;

use std::{
    ffi::OsString,
    fs, io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use countersign_policy::arn::AccountId;
use countersign_policy_store::{
    ADMINISTRATOR, Place as StorePlace, PlaceError, Quotas, SERVICE_NAME as POLICY_STORE,
    SealingKey, SealingKeys, Seeding,
};
use countersign_proto::token::v1::token_exchange_service_server::SERVICE_NAME as GATEWAY;
use countersign_serve::{
    ServiceName,
    grpc::{NotServing, serving_on},
    listener::{BindError, Listener, bind_with},
    shutdown::signal,
    telemetry::{self, Metrics},
    tls::Part,
};
use tokio::task::JoinHandle;
use zeroize::Zeroizing;

use crate::{
    cli::UpArgs,
    credentials::CredentialsError,
    endpoints::{self, Endpoints},
    exit::Exit,
    proof::Place,
};

use countersign_decision::{LogConfig, Mapping, MappingError, SERVICE_NAME as DECISION};
use countersign_gateway::{
    Instances, InstancesError, IssuersError, JwtIssuers, RateLimits, Rates, Rotation, StsEndpoint,
    rotate_on_signal,
};
use security::{ClientError, Security, SecurityError};
use services::Services;
pub use welcome::welcome;

/// The administrator's bearer token, in the data folder.
pub const ADMIN_TOKEN: &str = "admin.token";
/// The certificates, in the data folder.
const TLS: &str = "tls";

/// A store that replays a long log takes its time.
const PATIENCE: Duration = Duration::from_secs(60);

/// What to run, and where.
#[derive(Clone, Debug)]
pub struct UpOptions {
    /// The first account.
    pub account: AccountId,
    /// Where everything is kept.
    pub data_dir: PathBuf,
    /// Where the policy data is kept.
    pub place: StorePlace,
    /// The address to listen on.
    pub listen: IpAddr,
    /// Whether everything is inside TLS, and which names the certificates are for besides the usual ones.
    pub tls: Option<Vec<String>>,
    /// Port 0 takes any free one; so do the others.
    pub policy_store_port: u16,
    /// The decision service's.
    pub decision_port: u16,
    /// The gateway's, gRPC.
    pub gateway_port: u16,
    /// The gateway's, HTTP.
    pub http_port: u16,
    /// The issuer, if it is not the HTTP port's origin.
    pub issuer: Option<String>,
    /// The region of Countersign's own STS.
    pub region: String,
    /// STS endpoints besides AWS's own and Countersign's.
    pub sts_endpoints: Vec<StsEndpoint>,
    /// Whose JWTs are proofs.
    pub jwt_issuers: Option<PathBuf>,
    /// Whose EC2 instances are believed.
    pub ec2_instances: Option<PathBuf>,
    /// How often anybody may ask the gateway.
    pub limits: RateLimits,
    /// Where exchanges are written down, if not in the data folder.
    pub audit_dir: Option<PathBuf>,
    /// When the gateway's signing keys take turns.
    pub rotation: Rotation,
    /// How much an account may hold.
    pub quotas: Quotas,
    /// Where the key is that the policy store's secrets are sealed under.
    pub sealing: SealingKeys,
    /// Which action on which resource a request is that Envoy asks about.
    pub envoy_mapping: Option<PathBuf>,
    /// Whether callers without credentials may ask the decision service about the bearers of tokens.
    pub anonymous_callers: bool,
    /// Where the decision service keeps a snapshot.
    pub snapshot_dir: Option<PathBuf>,
    /// How long ago the store may have been heard for the decision service to answer.
    pub max_staleness: Option<Duration>,
    /// Where decisions are logged.
    pub decision_log: Option<LogConfig>,
    /// Where all of it counts.
    pub metrics: Metrics,
}

impl UpOptions {
    /// Everything on free loopback ports.
    #[must_use]
    pub fn on_free_ports(account: AccountId, data_dir: impl Into<PathBuf>) -> Self {
        Self {
            account,
            data_dir: data_dir.into(),
            place: StorePlace::DataFolder,
            listen: IpAddr::V4(Ipv4Addr::LOCALHOST),
            tls: None,
            policy_store_port: 0,
            decision_port: 0,
            gateway_port: 0,
            http_port: 0,
            issuer: None,
            region: "us-east-1".to_owned(),
            sts_endpoints: Vec::new(),
            jwt_issuers: None,
            ec2_instances: None,
            limits: RateLimits::default(),
            audit_dir: None,
            rotation: Rotation::default(),
            quotas: Quotas::default(),
            sealing: SealingKeys::DataFolder,
            envoy_mapping: None,
            anonymous_callers: false,
            snapshot_dir: None,
            max_staleness: None,
            decision_log: None,
            metrics: Metrics::default(),
        }
    }
}

/// Why it did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum UpError {
    /// A socket.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// A socket that does not know its address.
    #[error("a socket does not know its address: {0}")]
    Address(io::Error),
    /// No place for the policy data.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// How the services know each other.
    #[error(transparent)]
    Security(#[from] SecurityError),
    /// A service that cannot be called.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A service that does not come up.
    #[error(transparent)]
    NotServing(#[from] NotServing),
    /// The policy store failed.
    #[error("the policy store ended: {0}")]
    PolicyStore(#[from] countersign_policy_store::Error),
    /// The file that maps Envoy's requests is wrong.
    #[error(transparent)]
    EnvoyMapping(#[from] MappingError),
    /// The issuers of web identities.
    #[error(transparent)]
    JwtIssuers(#[from] IssuersError),
    /// Whose instances to believe cannot be read.
    #[error(transparent)]
    Instances(#[from] InstancesError),
    /// The decision service failed.
    #[error("the decision service ended: {0}")]
    Decision(#[from] countersign_decision::Error),
    /// The gateway failed.
    #[error("the token gateway ended: {0}")]
    Gateway(#[from] countersign_gateway::Error),
    /// A service that ended without a reason, or panicked.
    #[error("the {0} ended by itself")]
    Ended(&'static str),
    /// The root's access key.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// The administrator's first token.
    #[error("no token for role/{ADMINISTRATOR}: {0}")]
    Admin(#[from] admin::AdminError),
    /// A file in the data folder.
    #[error("cannot write `{}`: {error}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's word.
        error: io::Error,
    },
}

/// Everything, SERVING.
#[derive(Debug)]
pub struct Running {
    /// What listens where.
    pub endpoints: Endpoints,
    /// The issuer of tokens, and the audience of proofs.
    pub issuer: String,
    /// The region of Countersign's own STS.
    pub region: String,
    /// The first account.
    pub account: AccountId,
    /// Where everything is kept.
    pub data_dir: PathBuf,
    /// The administrator's bearer token, renewed.
    pub admin_token_path: PathBuf,
    /// The root's access key.
    pub root_credentials_path: PathBuf,
    services: Services,
    renewal: JoinHandle<()>,
    security: Security,
}

struct Listeners {
    policy_store: Listener,
    decision: Listener,
    gateway: Listener,
    http: Listener,
}

/// Starts everything, and returns once all of it is SERVING.
///
/// # Errors
/// See [`UpError`]. What had been started is drained before.
pub async fn start(options: UpOptions) -> Result<Running, UpError> {
    options.place.check()?;
    let security = match &options.tls {
        // DESIGN.md section 9: secrets that live as long as this process.
        None => Security::by_secrets()?,
        Some(names) => {
            Security::by_certificates(&options.data_dir.join(TLS), options.listen, names)?
        }
    };
    let listeners = bind(&options, &security).await?;
    let mut services = Services::default();
    match start_on(options, listeners, &security, &mut services).await {
        Ok(Started { endpoints, issuer, region, account, data_dir, renewal }) => Ok(Running {
            admin_token_path: data_dir.join(ADMIN_TOKEN),
            root_credentials_path: root_credentials(&data_dir),
            endpoints,
            issuer,
            region,
            account,
            data_dir,
            services,
            renewal,
            security,
        }),
        Err(error) => {
            services.drain().await;
            Err(error)
        }
    }
}

struct Started {
    endpoints: Endpoints,
    issuer: String,
    region: String,
    account: AccountId,
    data_dir: PathBuf,
    renewal: JoinHandle<()>,
}

async fn start_on(
    options: UpOptions,
    listeners: Listeners,
    security: &Security,
    services: &mut Services,
) -> Result<Started, UpError> {
    let UpOptions { account, data_dir, place, issuer, region, sts_endpoints, .. } = options;
    let envoy = options.envoy_mapping.as_deref().map(Mapping::read).transpose()?.map(Arc::new);
    let jwt_issuers = options.jwt_issuers.as_deref().map(|file| JwtIssuers::read(file, "aws"));
    let jwt_issuers = jwt_issuers.transpose()?.unwrap_or_default();
    let instances = options.ec2_instances.as_deref().map(|file| Instances::read(file, "aws"));
    let instances = instances.transpose()?.unwrap_or_default();
    let endpoints = endpoints_of(&listeners).map_err(UpError::Address)?;
    let issuer = issuer.unwrap_or_else(|| endpoints.http.clone());
    let config = countersign_policy_store::Config {
        data_dir: data_dir.clone(),
        place,
        account,
        issuer: issuer.clone(),
        region: region.clone(),
        quotas: options.quotas,
        sealing: options.sealing,
        process: "policy-store".to_owned(),
        metrics: options.metrics.clone(),
        secrets_dir: None,
        seeding: Seeding::Here,
        identities: security.identities(&[ServiceName::Decision, ServiceName::Gateway])?,
    };
    services.start("policy store", |shutdown| async {
        Ok(countersign_policy_store::serve(config, listeners.policy_store, shutdown).await?)
    });
    serving(services, security, &endpoints.policy_store, POLICY_STORE).await?;
    // The store in the folder is ours, so these files are of a process that is gone. (On etcd, each process has its own folder.)
    remove_stale(&data_dir)?;

    let mut config = countersign_decision::Config::new(
        issuer.clone(),
        endpoints.policy_store.clone(),
        security.credential(ServiceName::Decision),
        security.identities(&[ServiceName::Gateway])?,
    );
    (config.envoy, config.anonymous_callers) = (envoy, options.anonymous_callers);
    (config.snapshot_dir, config.max_staleness) = (options.snapshot_dir, options.max_staleness);
    config.decision_log = options.decision_log;
    config.metrics = options.metrics.clone();
    services.start("decision service", |shutdown| async {
        Ok(countersign_decision::serve(config, listeners.decision, shutdown).await?)
    });
    serving(services, security, &endpoints.decision, DECISION).await?;

    let config = countersign_gateway::Config {
        issuer: issuer.clone(),
        region: region.clone(),
        partition: "aws".to_owned(),
        policy_store: endpoints.policy_store.clone(),
        decision: endpoints.decision.clone(),
        credential: security.credential(ServiceName::Gateway),
        identities: security.identities(&[ServiceName::Decision])?,
        sts_endpoints,
        jwt_issuers,
        instances,
        limits: options.limits,
        rotation: options.rotation,
        operator_account: Some(options.account.to_string()),
        audit_dir: Some(options.audit_dir.unwrap_or_else(|| data_dir.join("exchanges"))),
        name: "gateway".to_owned(),
        metrics: options.metrics,
    };
    let sockets = countersign_gateway::Listeners { grpc: listeners.gateway, http: listeners.http };
    services.start("token gateway", |shutdown| async {
        Ok(countersign_gateway::serve(config, sockets, shutdown).await?)
    });
    serving(services, security, &endpoints.gateway, GATEWAY).await?;

    let administrator = admin::Administrator {
        account,
        gateway: security.channel(&endpoints.gateway)?,
        place: Place::own(issuer.clone(), region.clone()),
        root_credentials: root_credentials(&data_dir),
        token_file: data_dir.join(ADMIN_TOKEN),
    };
    let first = administrator.renew().await?;
    let renewal = tokio::spawn(administrator.keep_renewed(first));
    endpoints
        .write(&data_dir)
        .map_err(|error| UpError::Write { path: data_dir.join(endpoints::FILE), error })?;
    Ok(Started { endpoints, issuer, region, account, data_dir, renewal })
}

async fn bind(options: &UpOptions, security: &Security) -> Result<Listeners, BindError> {
    let at =
        |port, part| bind_with(SocketAddr::new(options.listen, port), security.tls(part), false);
    Ok(Listeners {
        policy_store: at(options.policy_store_port, Part::PolicyStore).await?,
        decision: at(options.decision_port, Part::Decision).await?,
        gateway: at(options.gateway_port, Part::Gateway).await?,
        http: at(options.http_port, Part::Gateway).await?,
    })
}

fn endpoints_of(listeners: &Listeners) -> io::Result<Endpoints> {
    Ok(Endpoints {
        policy_store: listeners.policy_store.origin()?,
        decision: listeners.decision.origin()?,
        gateway: listeners.gateway.origin()?,
        http: listeners.http.origin()?,
    })
}

/// A service that ends while it is waited for says why.
async fn serving(
    services: &mut Services,
    security: &Security,
    origin: &str,
    service_name: &str,
) -> Result<(), UpError> {
    let channel = security.channel(origin)?;
    tokio::select! {
        served = serving_on(channel, service_name, PATIENCE) => {
            served.map_err(|last| UpError::NotServing(NotServing::new(service_name, origin, last)))
        }
        error = services.ended() => Err(error),
    }
}

fn root_credentials(data_dir: &Path) -> PathBuf {
    data_dir.join("root-credentials.json")
}

fn remove_stale(data_dir: &Path) -> Result<(), UpError> {
    for name in [ADMIN_TOKEN, endpoints::FILE] {
        let path = data_dir.join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(UpError::Write { path, error });
            }
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

impl Running {
    /// Resolves when a service ends by itself, which none should.
    pub async fn ended(&mut self) -> UpError {
        self.services.ended().await
    }

    /// Drains gateway, decision service and policy store, in this order.
    pub async fn shutdown(mut self) {
        self.renewal.abort();
        // Aborted, or not: after this it writes no more.
        let _ = self.renewal.await;
        if let Err(error) = remove_stale(&self.data_dir) {
            tracing::warn!(%error, "left behind");
        }
        self.services.drain().await;
    }
}

/// The variables of the environment that may hold the sealing key, and the one before it. An argument would be there for all to see.
pub const SEALING_KEY: &str = "COUNTERSIGN_SEALING_KEY";
const PREVIOUS_SEALING_KEY: &str = "COUNTERSIGN_SEALING_KEY_PREVIOUS";

/// The sealing keys of the environment, or the data folder's if there are none. An empty variable is a mistake, and no key.
fn sealing_keys(variable: impl Fn(&str) -> Option<OsString>) -> Result<SealingKeys, String> {
    let key = |name: &str| {
        let Some(text) = variable(name) else { return Ok(None) };
        let text = Zeroizing::new(text.into_string().unwrap_or_default());
        text.parse::<SealingKey>().map(Some).map_err(|error| format!("{name}: {error}"))
    };
    match (key(SEALING_KEY)?, key(PREVIOUS_SEALING_KEY)?) {
        (Some(current), previous) => Ok(SealingKeys::Given { current, previous }),
        (None, None) => Ok(SealingKeys::DataFolder),
        (None, Some(_)) => {
            Err(format!("{PREVIOUS_SEALING_KEY} is set and {SEALING_KEY} is not: give both"))
        }
    }
}

/// `countersign up`.
pub async fn run(args: UpArgs) -> Exit {
    let metrics = Metrics::default();
    telemetry::process::read(&metrics);
    let otlp = match args.telemetry.otlp(&metrics) {
        Ok(otlp) => otlp,
        Err(error) => return Exit::bad_input(error),
    };
    let started = telemetry::start_with(args.logs.filter(), args.logs.log_format.into(), otlp);
    let telemetry = match started {
        Ok(running) => running,
        Err(error) => return Exit::bad_input(error),
    };
    let exit = run_with(args, metrics).await;
    // What is still to be sent is sent from a thread of its own; nothing else runs by now.
    telemetry.end();
    exit
}

async fn run_with(args: UpArgs, metrics: Metrics) -> Exit {
    let collector = match args.telemetry.collector() {
        Ok(collector) => collector.filter(|_| args.decision_log_otlp),
        Err(error) => return Exit::bad_input(error),
    };
    let place = match args.store.place() {
        Ok(place) => place,
        Err(error) => return Exit::bad_input(error),
    };
    if let Err(error) = place.check() {
        return Exit::bad_input(error);
    }
    let sealing = match sealing_keys(|name| std::env::var_os(name)) {
        Ok(sealing) => sealing,
        Err(error) => return Exit::bad_input(error),
    };
    let options = UpOptions {
        account: args.account,
        data_dir: args.data_dir,
        place,
        listen: args.listen,
        tls: args.tls.then_some(args.tls_names),
        policy_store_port: args.policy_store_port,
        decision_port: args.decision_port,
        gateway_port: args.gateway_port,
        http_port: args.http_port,
        issuer: args.issuer,
        region: args.region,
        sts_endpoints: args.sts_endpoints,
        jwt_issuers: args.jwt_issuers,
        ec2_instances: args.ec2_instances,
        audit_dir: args.audit_dir,
        rotation: Rotation::every(Duration::from_secs(args.rotate_every), Arc::default()),
        limits: RateLimits {
            exchanges: Rates { each: args.exchange_rate, all: args.exchange_rate_total },
            ..RateLimits::default()
        },
        quotas: args.quotas.into_iter().fold(Quotas::default(), Quotas::with),
        sealing,
        envoy_mapping: args.envoy_mapping,
        anonymous_callers: args.anonymous_callers,
        snapshot_dir: args.snapshot_dir,
        max_staleness: args.max_staleness.map(Duration::from_secs),
        decision_log: LogConfig::of(args.decision_log, collector, args.decision_log_one_in),
        metrics,
    };
    rotate_on_signal(options.rotation.demand());
    let running = tokio::select! {
        started = start(options) => match started {
            Ok(running) => running,
            Err(error) => return Exit::failed(error),
        },
        () = signal() => return Exit::Done,
    };
    print!("{}", welcome(&running));
    until_told(running).await
}

/// Runs until Ctrl-C or SIGTERM, then drains; a second one ends it at once.
pub async fn until_told(mut running: Running) -> Exit {
    let error = tokio::select! {
        () = signal() => None,
        error = running.ended() => Some(error),
    };
    eprintln!("countersign: ending; once more ends it at once");
    tokio::select! {
        () = running.shutdown() => match error {
            None => Exit::Done,
            Some(error) => Exit::failed(error),
        },
        () = signal() => Exit::failed("ended without draining"),
    }
}

#[cfg(test)]
mod tests;
