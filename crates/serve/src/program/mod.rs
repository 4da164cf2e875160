//! A service as a program: settings in, an exit status out.
//!
//! Everything that can be wrong with settings and certificates is found before a socket is bound. SIGTERM and Ctrl-C end a process in
//! order: health says NOT_SERVING, balancers get their time to see it, then connections are told to go, what is under way is finished, and
//! what is to be written is written. A second signal ends it at once.

mod health;
mod probe;

use std::{
    env, fmt::Display, net::SocketAddr, num::NonZeroU16, process::ExitCode, sync::Arc,
    time::Duration,
};

use clap::{Arg, ArgAction, ArgMatches};

use crate::{
    Listener, ServiceCredential, Shutdown,
    dial::{self, Trust},
    listener::{BindError, bind_with},
    memory,
    settings::{self, Setting, Settings, SettingsError},
    shutdown::{self, signal},
    telemetry::{self, Collector, LogFormat, Metrics, Otlp, process},
    tls::{self, ClientCertificates, Part, Tls, TlsError, TlsFiles, TlsSettings, TrustDomain},
};

pub use probe::Probe;

const STATUSES: &str = "\
Exit status: 0 it was told to end and did, 1 it ended by itself, 2 a setting is wrong, 3 a certificate is, 4 an address cannot be listened
on, 5 the store cannot be opened, 6 a later version of Countersign wrote it. --probe: 0 serving, 1 not.";

const CHECK: &str = "check-config";
const PRINT: &str = "print-config";
const PROBE: &str = "probe";

/// The settings that every service has. The port's default is each service's own.
const COMMON: &[Setting] = &[
    Setting::one(
        "tls-certificate",
        "FILE",
        "The certificate of this process, PEM, with what leads to its authority after it",
    ),
    Setting::one("tls-key", "FILE", "The certificate's key, PEM"),
    Setting::one("tls-ca", "FILE", "The authorities of the other services' certificates, PEM"),
    Setting::one(
        "trust-domain",
        "NAME",
        "The trust domain: certificates name services as spiffe://NAME/countersign/SERVICE",
    ),
    Setting::many(
        "tls-name",
        "NAME",
        "A name that callers use, which the certificate must be good for",
    ),
    Setting::one(
        "client-certificates",
        "optional|required",
        "Whether every caller of the gRPC port must show a certificate",
    )
    .or("optional"),
    Setting::switch(
        "insecure-plaintext",
        "Listen in clear, also beyond loopback, where something else encrypts; no caller can then be a service",
    ),
    Setting::switch(
        "reflection",
        "Tell everybody, without credentials, what there is to call (gRPC reflection, which grpcurl asks)",
    ),
    Setting::one(
        "health-listen",
        "ADDRESS:PORT",
        "Where /livez, /readyz and /metrics are answered, over HTTP, in clear",
    ),
    Setting::one(
        "drain-seconds",
        "SECONDS",
        "After SIGTERM, how long to answer as before with health NOT_SERVING",
    )
    .or("5"),
    Setting::one(
        "otlp-endpoint",
        "URL",
        "Send traces and metrics by OTLP over gRPC to this collector; https, or on this machine",
    ),
    Setting::one(
        "otlp-ca",
        "FILE",
        "The authority of the collector's certificate, PEM; without, that of the other services",
    ),
    Setting::one(
        "trace-share",
        "SHARE",
        "Of the calls that do not say whether they are traced, the share that is: 0 to 1",
    )
    .or("0.001"),
    Setting::one("metrics-every", "SECONDS", "Between two reports of metrics by OTLP").or("15"),
    Setting::one("log", "FILTER", "What to log, to standard error")
        .or("warn,countersign=info,countersign_decision=warn"),
    Setting::one("log-format", "text|json", "How a log line looks").or("json"),
];

/// One program.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    /// What people type.
    pub name: &'static str,
    /// One line of help.
    pub about: &'static str,
    /// Which part it is.
    pub part: Part,
    /// The name that health knows it by.
    pub service_name: &'static str,
    /// Its own settings. One is `listen`.
    pub settings: &'static [Setting],
    /// What it may be told to do instead of serving: a flag, and its help.
    pub mode: Option<(&'static str, &'static str)>,
}

/// What every service is told.
#[derive(Clone, Debug)]
pub struct Common {
    /// Where gRPC is spoken.
    pub listen: SocketAddr,
    /// The certificates.
    pub tls: Tls,
    /// The trust domain of all parts.
    pub trust_domain: TrustDomain,
    /// Where all of it counts.
    pub metrics: Metrics,
    /// Where telemetry is sent; none where that was not said.
    pub collector: Option<Collector>,
    insecure_plaintext: bool,
    is_described: bool,
    health_listen: Option<SocketAddr>,
    drain: Duration,
}

/// A process that is about to serve.
pub struct Process {
    /// The listener of gRPC.
    pub grpc: Listener,
    /// What every service is told.
    pub common: Common,
    /// The word that ends it.
    pub shutdown: Shutdown,
}

/// What a program is told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// To serve.
    Serve,
    /// What it has a mode for, and no more.
    Mode,
}

/// Why a program ended. Each kind has its exit status.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    /// A setting.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// A certificate.
    #[error(transparent)]
    Certificates(#[from] TlsError),
    /// An address.
    #[error(transparent)]
    Address(#[from] BindError),
    /// The store.
    #[error("{0}")]
    Store(String),
    /// The store is a later version's.
    #[error("{0}")]
    Later(String),
    /// Anything else.
    #[error("{0}")]
    Failed(String),
}

impl Ended {
    /// Something that only happens once it runs.
    pub fn failed(error: impl Display) -> Self {
        Self::Failed(error.to_string())
    }

    /// The store cannot be opened.
    pub fn store(error: impl Display) -> Self {
        Self::Store(error.to_string())
    }

    fn status(&self) -> u8 {
        match self {
            Self::Failed(_) => 1,
            Self::Settings(_) => 2,
            Self::Certificates(_) => 3,
            Self::Address(_) => 4,
            Self::Store(_) => 5,
            Self::Later(_) => 6,
        }
    }
}

impl Common {
    fn read(settings: &Settings, program: &Program) -> Result<Self, Ended> {
        let clients = match settings.required("client-certificates")? {
            "optional" => ClientCertificates::Optional,
            "required" => ClientCertificates::Required,
            _ => {
                return Err(settings
                    .wrong("client-certificates", "give `optional` or `required`")
                    .into());
            }
        };
        let trust_domain: TrustDomain = settings.required_parsed("trust-domain")?;
        let listen = settings.required_parsed("listen")?;
        let health_listen = settings.parsed("health-listen")?;
        let drain = Duration::from_secs(settings.required_parsed::<u16>("drain-seconds")?.into());
        let tls = Tls::load(TlsSettings {
            files: TlsFiles {
                certificate: settings.required("tls-certificate")?.into(),
                key: settings.required("tls-key")?.into(),
                ca: Some(settings.required("tls-ca")?.into()),
            },
            identity: Some((trust_domain.clone(), program.part)),
            names: settings.all("tls-name").to_vec(),
            clients,
        })?;
        let insecure_plaintext = settings.is_on("insecure-plaintext");
        let is_described = settings.is_on("reflection");
        let metrics = Metrics::default();
        process::read(&metrics);
        process::read_certificate(&metrics, &tls);
        let collector = collector(settings, program.name, listen)?;
        Ok(Self {
            listen,
            tls,
            trust_domain,
            metrics,
            collector,
            insecure_plaintext,
            is_described,
            health_listen,
            drain,
        })
    }

    /// Who we are, towards the other parts.
    #[must_use]
    pub fn credential(&self) -> ServiceCredential {
        ServiceCredential::certificate(self.tls.clone())
    }

    /// Binds one more address, as the first is bound.
    ///
    /// # Errors
    /// When the address is taken, or not this machine's.
    pub async fn bind(&self, address: SocketAddr) -> Result<Listener, BindError> {
        let tls = (!self.insecure_plaintext).then(|| self.tls.clone());
        let listener = bind_with(address, tls, self.insecure_plaintext).await?;
        Ok(if self.is_described { listener } else { listener.undescribed() })
    }

    fn probe(&self, address: SocketAddr, program: &Program) -> Probe {
        if self.insecure_plaintext {
            return Probe::plain(address, program.service_name);
        }
        Probe::encrypted(address, program.part, self.tls.clone(), program.service_name)
    }
}

fn collector(
    settings: &Settings,
    name: &'static str,
    listen: SocketAddr,
) -> Result<Option<Collector>, Ended> {
    let Some(endpoint) = settings.text("otlp-endpoint").map(str::to_owned) else {
        return Ok(None);
    };
    let ca = settings.path("otlp-ca").or_else(|| settings.path("tls-ca"));
    let trust = match ca {
        Some(ca) => Trust::Name(Arc::new(tls::trusting(&ca)?)),
        None => Trust::Nobody,
    };
    dial::check(&endpoint, &trust).map_err(|error| settings.wrong("otlp-endpoint", error))?;
    let connect =
        move || dial::channel(&endpoint, trust.clone()).map_err(|error| error.to_string());
    Ok(Some(Collector::new(connect, name, format!("{listen}-{}", std::process::id()))))
}

impl Program {
    /// Does what the arguments say. `configure` makes the service's own configuration of the settings, and `serve` runs it until the word.
    pub fn run<C>(
        self,
        configure: impl FnOnce(&Settings, &Common) -> Result<C, Ended>,
        serve: impl AsyncFnOnce(C, Process) -> Result<(), Ended>,
    ) -> ExitCode {
        self.run_prepared(configure, async |config, _| Ok(config), serve)
    }

    /// The same, where there is something to be done before anything listens. `prepare` is all of it where the program is told to do what
    /// it has a mode for.
    pub fn run_prepared<C, P>(
        self,
        configure: impl FnOnce(&Settings, &Common) -> Result<C, Ended>,
        prepare: impl AsyncFnOnce(C, Told) -> Result<P, Ended>,
        serve: impl AsyncFnOnce(P, Process) -> Result<(), Ended>,
    ) -> ExitCode {
        memory::keep_or_say(self.name);
        match self.try_run(configure, prepare, serve) {
            Ok(()) => ExitCode::SUCCESS,
            Err(ended) => {
                eprintln!("{}: {ended}", self.name);
                ExitCode::from(ended.status())
            }
        }
    }

    fn try_run<C, P>(
        self,
        configure: impl FnOnce(&Settings, &Common) -> Result<C, Ended>,
        prepare: impl AsyncFnOnce(C, Told) -> Result<P, Ended>,
        serve: impl AsyncFnOnce(P, Process) -> Result<(), Ended>,
    ) -> Result<(), Ended> {
        let table: Vec<Setting> = self.settings.iter().chain(COMMON).copied().collect();
        let flags = self.flags(&table);
        let settings = Settings::read(table, &flags, env::vars_os())?;
        if flags.get_flag(PRINT) {
            print!("{}", settings.print());
            return Ok(());
        }
        let common = Common::read(&settings, &self)?;
        if flags.get_flag(PROBE) {
            let probe = common.probe(common.listen, &self);
            return on_runtime(probe.ask(Duration::from_secs(2)))?.map_err(Ended::failed);
        }
        let config = configure(&settings, &common)?;
        if flags.get_flag(CHECK) {
            println!("the settings and the certificates are good");
            return Ok(());
        }
        let telemetry = self.start_telemetry(&settings, &common)?;
        if self.mode.is_some_and(|(mode, _)| flags.get_flag(mode)) {
            return on_runtime(prepare(config, Told::Mode))?.map(drop);
        }
        let ended = on_runtime(async {
            tokio::select! {
                prepared = prepare(config, Told::Serve) => self.live(prepared?, common, serve).await,
                () = signal() => Ok(()),
            }
        });
        // What is still to be sent is sent by a thread of its own; nothing else runs by now.
        telemetry.end();
        ended?
    }

    fn start_telemetry(
        &self,
        settings: &Settings,
        common: &Common,
    ) -> Result<telemetry::Running, Ended> {
        let format = match settings.required("log-format")? {
            "text" => LogFormat::Text,
            "json" => LogFormat::Json,
            _ => return Err(settings.wrong("log-format", "give `text` or `json`").into()),
        };
        let otlp = self.otlp(settings, common)?;
        telemetry::start_with(settings.required("log")?, format, otlp)
            .map_err(|error| settings.wrong("log", error).into())
    }

    fn otlp(&self, settings: &Settings, common: &Common) -> Result<Option<Otlp>, Ended> {
        let share: f64 = settings.required_parsed("trace-share")?;
        if !(0.0..=1.0).contains(&share) {
            return Err(settings.wrong("trace-share", "give a number from 0 to 1").into());
        }
        let every: NonZeroU16 = settings.required_parsed("metrics-every")?;
        Ok(common.collector.clone().map(|collector| Otlp {
            collector,
            share,
            metrics: common.metrics.clone(),
            every: Duration::from_secs(every.get().into()),
        }))
    }

    fn flags(&self, table: &[Setting]) -> ArgMatches {
        let flag = |name: &'static str, help: &'static str| {
            Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
        };
        settings::command(self.name, self.about, table)
            .version(env!("CARGO_PKG_VERSION"))
            .after_help(STATUSES)
            .arg(flag(PRINT, "Print the settings, each with where it comes from, and end"))
            .arg(flag(CHECK, "Check the settings and the certificates, and end"))
            .arg(flag(
                PROBE,
                "Ask the process that runs with these settings whether it serves, and end",
            ))
            .args(self.mode.map(|(name, help)| flag(name, help)))
            .get_matches()
    }

    async fn live<P>(
        self,
        prepared: P,
        common: Common,
        serve: impl AsyncFnOnce(P, Process) -> Result<(), Ended>,
    ) -> Result<(), Ended> {
        let grpc = common.bind(common.listen).await?;
        let address = grpc.local_addr().map_err(Ended::failed)?;
        let (trigger, shutdown) = shutdown::channel();
        if let Some(health_listen) = common.health_listen {
            // What it says is no secret, and who asks cannot speak TLS.
            let Listener { socket, .. } = bind_with(health_listen, None, true).await?;
            let probe = common.probe(address, &self);
            let said = health::Said { probe, metrics: common.metrics.clone() };
            tokio::spawn(health::serve(socket, said, shutdown.clone()));
        }
        common.tls.keep_fresh();
        tracing::info!(%address, version = env!("CARGO_PKG_VERSION"), "{} starts", self.name);
        let drain = common.drain;
        let serving = serve(prepared, Process { grpc, common, shutdown });
        let told = async {
            signal().await;
            tracing::info!(seconds = drain.as_secs(), "told to end: health says NOT_SERVING");
            trigger.announce();
            tokio::select! {
                () = tokio::time::sleep(drain) => {}
                () = signal() => return,
            }
            tracing::info!("draining");
            trigger.fire();
            signal().await;
        };
        tokio::select! {
            ended = serving => {
                tracing::info!("ended");
                ended
            }
            () = told => Err(Ended::failed("told twice to end: ended without draining")),
        }
    }
}

fn on_runtime<T>(future: impl Future<Output = T>) -> Result<T, Ended> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(Ended::failed)?;
    let outcome = runtime.block_on(future);
    // Everything was drained, or is to end at once: no task is waited for.
    runtime.shutdown_background();
    Ok(outcome)
}
