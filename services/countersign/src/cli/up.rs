//! The arguments of `countersign up`: all that the three services are told, in one list.

use std::{net::IpAddr, num::NonZeroU32, path::PathBuf, time::Duration};

use clap::Args;
use countersign_gateway::{Rate, RateLimits, StsEndpoint};
use countersign_policy::arn::AccountId;
use countersign_policy_store::{EtcdPlace, Place, QuotaSetting};
use countersign_serve::{
    dial::{self, DialError, Trust},
    telemetry::{Collector, Metrics, Otlp},
};

use super::{DEFAULT_DATA_DIR, LogArgs, region};

const UP_EXAMPLES: &str = "\
Examples:
  countersign up
  countersign up --account 123456789012 --data-dir /tmp/cs
  countersign up --policy-store-port 0 --decision-port 0 --gateway-port 0 --http-port 0
  countersign up --store etcd:http://127.0.0.1:2379
  countersign up --sts-endpoint 'us-east-1=http://127.0.0.1:5000/;accounts=123456789012'

The data folder then holds root-credentials.json (the account root's access key, in the form of AWS's credential_process),
admin.token (a bearer token of the administrator role, renewed while this runs) and endpoints.json (what listens where).

Exit status: 0 after Ctrl-C or SIGTERM, 1 when a service ended by itself or could not start, 2 for wrong arguments.";

/// `countersign up`.
#[derive(Args, Debug)]
#[command(after_help = UP_EXAMPLES)]
pub struct UpArgs {
    /// The first account, whose administrator is the operator; fixed at the first start of a data folder
    #[arg(long, value_name = "12-DIGITS", default_value = "000000000000")]
    pub account: AccountId,
    /// Where everything is kept
    #[arg(long, value_name = "DIR", default_value = DEFAULT_DATA_DIR)]
    pub data_dir: PathBuf,
    /// Where the policy data is kept, if not in the data folder
    #[command(flatten)]
    pub store: StoreArgs,
    /// The address to listen on; beyond loopback with --tls alone
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    pub listen: IpAddr,
    /// Speak TLS on every port, with certificates of an authority of the data folder's own (tls/ca.crt), made at each start; the services
    /// know each other by them. Allows --listen beyond loopback
    #[arg(long)]
    pub tls: bool,
    /// A name or an address that callers use, for the certificates; localhost and the address to listen on are there anyway; may be
    /// repeated
    #[arg(long = "tls-name", value_name = "NAME", requires = "tls")]
    pub tls_names: Vec<String>,
    /// The policy store's gRPC port; 0 takes any free one
    #[arg(long, value_name = "PORT", default_value_t = 7401)]
    pub policy_store_port: u16,
    /// The decision service's gRPC port; 0 takes any free one
    #[arg(long, value_name = "PORT", default_value_t = 7402)]
    pub decision_port: u16,
    /// The token gateway's gRPC port; 0 takes any free one
    #[arg(long, value_name = "PORT", default_value_t = 7403)]
    pub gateway_port: u16,
    /// The token gateway's HTTP port (JWKS, and AWS's STS); 0 takes any free one
    #[arg(long, value_name = "PORT", default_value_t = 7400)]
    pub http_port: u16,
    /// The issuer of tokens and the audience of proofs, without a slash at the end; the HTTP port must answer there
    /// [default: http://ADDRESS:HTTP-PORT, with --tls https]
    #[arg(long, value_name = "URL")]
    pub issuer: Option<String>,
    /// The region of Countersign's own STS
    #[arg(long, value_name = "REGION", default_value = "us-east-1", value_parser = region)]
    pub region: String,
    /// An STS besides AWS's own, which speaks for the listed accounts alone:
    /// `us-east-1=http://127.0.0.1:5000/;accounts=123456789012[,...][;format=json]`; may be repeated
    #[arg(long = "sts-endpoint", value_name = "ENDPOINT")]
    pub sts_endpoints: Vec<StsEndpoint>,
    /// Whose JWTs the gateway takes for proofs (AWS STS's, EKS clusters', other OIDC issuers'): a TOML or JSON file; deploy/WEB_IDENTITY.md
    #[arg(long, value_name = "FILE")]
    pub jwt_issuers: Option<PathBuf>,
    /// Whose EC2 instances the gateway believes, by their identity documents: a TOML file; deploy/EC2.md
    #[arg(long, value_name = "FILE")]
    pub ec2_instances: Option<PathBuf>,
    /// Where each exchange is written down before it is answered (`countersign audit verify` reads it)
    /// [default: `exchanges` in the data folder]
    #[arg(long, value_name = "FOLDER")]
    pub audit_dir: Option<PathBuf>,
    /// How often another signing key takes the place of the one before, in seconds; on SIGUSR1 it does so at once
    #[arg(long, value_name = "SECONDS", default_value_t = 86_400, value_parser = clap::value_parser!(u64).range(2..))]
    pub rotate_every: u64,
    /// How many exchanges one source address may ask for, a second and at once
    #[arg(long, value_name = "RATE[:BURST]", default_value_t = RateLimits::default().exchanges.each)]
    pub exchange_rate: Rate,
    /// The same of all sources together
    #[arg(long, value_name = "RATE[:BURST]", default_value_t = RateLimits::default().exchanges.all)]
    pub exchange_rate_total: Rate,
    /// How much an account may hold, where IAM's own quota does not do: `users=20000`; may be repeated. Of users (5000), groups (300),
    /// roles (1000), policies (1500), policy-versions-in-use (10000), groups-per-user (10), attached-policies (10)
    #[arg(long = "quota", value_name = "NAME=NUMBER")]
    pub quotas: Vec<QuotaSetting>,
    /// Lets Envoy ask (ext_authz): a TOML file that says which action on which resource each HTTP request is; deploy/ENVOY.md
    #[arg(long, value_name = "FILE")]
    pub envoy_mapping: Option<PathBuf>,
    /// Callers without credentials may ask the decision service about the bearers of tokens that they send, and nothing else; for a
    /// network where all callers are trusted
    #[arg(long)]
    pub anonymous_callers: bool,
    /// The decision service keeps a snapshot of the policies here, for a start while the policy store is away
    #[arg(long, value_name = "FOLDER")]
    pub snapshot_dir: Option<PathBuf>,
    /// The decision service answers UNAVAILABLE once the policy store was not heard for so many seconds, instead of from what it has; at
    /// least 3
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(3..))]
    pub max_staleness: Option<u64>,
    /// The decision service appends every decision to this file, one JSON object a line
    #[arg(long, value_name = "FILE")]
    pub decision_log: Option<PathBuf>,
    /// The decision service sends every decision to the collector too, as a log record
    #[arg(long, requires = "otlp_endpoint")]
    pub decision_log_otlp: bool,
    /// One decision in so many is logged
    #[arg(long, value_name = "NUMBER", default_value = "1")]
    pub decision_log_one_in: NonZeroU32,
    /// Traces and metrics.
    #[command(flatten)]
    pub telemetry: TelemetryArgs,
    /// Logs.
    #[command(flatten)]
    pub logs: LogArgs,
}

/// Where traces and metrics are sent.
#[derive(Args, Clone, Debug)]
pub struct TelemetryArgs {
    /// Send traces and metrics by OTLP over gRPC to this collector, which is on this machine (deploy/TELEMETRY.md)
    #[arg(long, value_name = "URL", env = "OTEL_EXPORTER_OTLP_ENDPOINT")]
    pub otlp_endpoint: Option<String>,
    /// Of the calls that do not say whether they are traced, the share that is: 0 to 1
    #[arg(long, value_name = "SHARE", default_value_t = 1.0, value_parser = share)]
    pub trace_share: f64,
    /// Seconds between two reports of metrics by OTLP
    #[arg(long, value_name = "SECONDS", default_value_t = 15, value_parser = clap::value_parser!(u16).range(1..))]
    pub metrics_every: u16,
}

impl TelemetryArgs {
    /// To whom everything is sent, if to anybody.
    ///
    /// # Errors
    /// When the collector's address is none, or would be called in clear over a network.
    pub fn collector(&self) -> Result<Option<Collector>, DialError> {
        let Some(endpoint) = &self.otlp_endpoint else { return Ok(None) };
        dial::check(endpoint, &Trust::Nobody)?;
        let endpoint = endpoint.clone();
        let connect =
            move || dial::channel(&endpoint, Trust::Nobody).map_err(|error| error.to_string());
        Ok(Some(Collector::new(connect, "countersign", std::process::id().to_string())))
    }

    /// What is to be sent, if anything.
    ///
    /// # Errors
    /// When the collector's address is none, or would be called in clear over a network.
    pub fn otlp(&self, metrics: &Metrics) -> Result<Option<Otlp>, DialError> {
        Ok(self.collector()?.map(|collector| Otlp {
            collector,
            share: self.trace_share,
            metrics: metrics.clone(),
            every: Duration::from_secs(self.metrics_every.into()),
        }))
    }
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        Ok(_) | Err(_) => Err("a share is a number from 0 (none) to 1 (all)".to_owned()),
    }
}

/// Where policy data is kept.
#[derive(Args, Clone, Debug, Default)]
pub struct StoreArgs {
    /// Where the policy data is kept: `sled:FOLDER`, or `etcd:http://HOST:2379[,...]` for more than one machine (deploy/ETCD.md)
    /// [default: sled:DATA-DIR/store]
    #[arg(long = "store", value_name = "STORE")]
    pub place: Option<Place>,
    /// What every key in etcd begins with [default: countersign/]
    #[arg(long, value_name = "PREFIX", requires = "place")]
    pub etcd_prefix: Option<String>,
    /// The user that this is to etcd
    #[arg(long, value_name = "NAME", requires = "etcd_password_file", requires = "place")]
    pub etcd_user: Option<String>,
    /// A file that holds the user's password
    #[arg(long, value_name = "FILE", requires = "etcd_user")]
    pub etcd_password_file: Option<PathBuf>,
    /// The authority of etcd's certificates, PEM
    #[arg(long, value_name = "FILE", requires = "place")]
    pub etcd_ca: Option<PathBuf>,
    /// The certificate that this shows to etcd, PEM
    #[arg(long, value_name = "FILE", requires = "etcd_key", requires = "place")]
    pub etcd_cert: Option<PathBuf>,
    /// The certificate's key, PEM
    #[arg(long, value_name = "FILE", requires = "etcd_cert")]
    pub etcd_key: Option<PathBuf>,
    /// Revisions that etcd keeps, of everything in the cluster; 0 leaves compaction to the cluster [default: 100000]
    #[arg(long, value_name = "REVISIONS", requires = "place")]
    pub etcd_keep_revisions: Option<u64>,
}

impl StoreArgs {
    /// The place asked for.
    ///
    /// # Errors
    /// Options of etcd for another place.
    pub fn place(self) -> Result<Place, String> {
        let etcd = EtcdPlace {
            endpoints: Vec::new(),
            prefix: self.etcd_prefix,
            user: self.etcd_user.zip(self.etcd_password_file),
            ca: self.etcd_ca,
            identity: self.etcd_cert.zip(self.etcd_key),
            keep_revisions: self.etcd_keep_revisions,
        };
        match self.place.unwrap_or(Place::DataFolder) {
            Place::Etcd(EtcdPlace { endpoints, .. }) => {
                Ok(Place::Etcd(EtcdPlace { endpoints, ..etcd }))
            }
            place @ (Place::DataFolder | Place::Sled(_)) if etcd == EtcdPlace::default() => {
                Ok(place)
            }
            Place::DataFolder | Place::Sled(_) => {
                Err("the options that begin with `--etcd-` are for `--store etcd:http://HOST:2379`"
                    .to_owned())
            }
        }
    }
}
