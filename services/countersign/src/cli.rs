//! The arguments: their names, their defaults, and the help that people read first.

mod up;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use countersign_policy::findings::DocumentKind;
use countersign_serve::telemetry::LogFormat;
use countersign_sigv4::fields::is_region;

pub use up::{StoreArgs, TelemetryArgs, UpArgs};

use crate::{certificates::CertificatesArgs, probe::ProbeArgs, store::StoreCommand};

/// Where `up` keeps everything, unless told otherwise.
pub const DEFAULT_DATA_DIR: &str = "./countersign-data";

const TOP_EXAMPLES: &str = "\
Start here:
  countersign demo                  the five classic use cases, end to end, in seconds
  countersign up                    policy store, decision service and token gateway on this machine
  countersign policy check p.json   what a reviewer would say of a policy

Exit status: 0 it worked, 1 a check failed or something went wrong, 2 the input or the arguments are wrong.";

const DEMO_EXAMPLES: &str = "\
EC2 -> S3, Lambda -> DynamoDB, ECS task -> Secrets Manager, CodeBuild -> ECR, CloudFormation with a service role: for each a
role, its policy, a proof, a token, what it allows and what it denies, and the same call after the policy was detached.

Exit status: 0 when every step came out as it should, else 1.";

const SIMULATE_EXAMPLES: &str = "\
Examples:
  countersign simulate --cases tests/conformance/rules.jsonl --check
  head -3 tests/conformance/sample.jsonl | countersign simulate --cases -

A case is one JSON object a line; tests/conformance has many, and a README of the format. The answer is one
{\"id\":...,\"decision\":...} a case, in the order of the input; with --check, only the cases that came out otherwise.
A line that is no case is reported on standard error as `line N: ...`, and the rest is still answered.

Exit status: 0 all answered, 1 a decision differs from what was expected (--check), 2 a line is malformed.";

const CHECK_EXAMPLES: &str = "\
Examples:
  countersign policy check my-policy.json
  countersign policy check --kind trust ec2-trust-policy.json
  countersign policy check --output json - < my-policy.json

Exit status: 0 no errors (there may be warnings), 1 an error in a document, 2 a file cannot be read.";

const PROOF_EXAMPLES: &str = "\
Example:
  countersign proof --credentials key.json --role-arn arn:aws:iam::000000000000:role/R \\
      --role-session-name me --audience orders |
    grpcurl -plaintext -d @ 127.0.0.1:7403 countersign.token.v1.TokenExchangeService/Exchange

Credentials come from --credentials, else from AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN. The file is of
the form of AWS's credential_process (as root-credentials.json is), or what CreateAccessKey answered. A proof is good once, for a
minute; the output holds it, and is as good as a password for so long.

Exit status: 0 a request was printed, 2 the credentials or the arguments are wrong.";

const EXCHANGE_EXAMPLES: &str = "\
Examples:
  countersign exchange --credentials countersign-data/root-credentials.json --audience countersign \\
      --role-arn arn:aws:iam::000000000000:role/CountersignAdministrator --role-session-name me
  curl -H \"authorization: Bearer $(countersign exchange … --cache ~/.cache/orders.token)\" https://orders.example.com/
  countersign exchange --gateway https://tokens.example.com:7403 --ca ca.pem --issuer https://tokens.example.com \\
      --sts-endpoint https://sts.eu-west-1.amazonaws.com/ --sts-region eu-west-1 \\
      --role-arn arn:aws:iam::000000000000:role/Orders --role-session-name ci --audience orders --scope 'orders:Get*'

On an EC2 instance without credentials:
  countersign exchange --instance-identity --key /var/lib/orders/key.pem --gateway https://tokens.example.com:7403 \\
      --issuer https://tokens.example.com --role-arn arn:aws:iam::000000000000:role/Orders --role-session-name web-1 --audience orders

Credentials come from --credentials, else from AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN; built with the feature
`aws`, else from wherever AWS's own tools find them: profiles, SSO, a container's or an instance's role. They sign a proof of who you are,
for the STS that knows them, and never leave this machine; a token comes back.

With --cache the token is kept in that file, which only you can read, and taken from there while the same is asked for and it lasts for
another minute. The output is as good as a password until it expires.

Exit status: 0 a token was printed, 1 the gateway refused or could not be reached, 2 the credentials or the arguments are wrong.";

const CERTIFICATES_EXAMPLES: &str = "\
Example:
  countersign certificates --out ./certificates --trust-domain example.org \\
      --part policy-store=store-1.example.org,store-2.example.org --part decision=decision.example.org \\
      --part gateway=tokens.example.org

Run again, it uses the authority that is there and makes new certificates; processes that run read them without a restart.";

/// AWS IAM, for the services you write yourself: policies, roles, short-lived tokens, and one answer for every call.
#[derive(Debug, Parser)]
#[command(name = "countersign", version, after_help = TOP_EXAMPLES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const TAIL_EXAMPLES: &str = "Examples:
  countersign audit tail -f
  countersign audit tail -n 100 --event-name AttachRolePolicy
  countersign audit tail --refused --output json | jq .errorMessage

The files are one policy store's. `LookupEvents` asks all of those that share a store, for 90 days back.";

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the policy store, the decision service and the token gateway on this machine, until Ctrl-C
    Up(Box<UpArgs>),
    /// Run everything in a temporary folder and watch five use cases go through it
    Demo(DemoArgs),
    /// Decide conformance cases from a file, without any server
    Simulate(SimulateArgs),
    /// Work with policy documents
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Read the audit trail's files
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Back up, restore and move what a policy store holds
    #[command(subcommand)]
    Store(Box<StoreCommand>),
    /// Sign a proof of who you are, and print the ExchangeRequest for it (grpcurl cannot sign)
    Proof(Box<ProofArgs>),
    /// Trade your AWS credentials for a token, and print it
    Exchange(Box<ExchangeArgs>),
    /// Make an authority, and a certificate for each part of a cluster
    #[command(after_help = CERTIFICATES_EXAMPLES)]
    Certificates(CertificatesArgs),
    /// Ask a service whether it serves, by the gRPC health protocol
    Probe(ProbeArgs),
}

/// Read the audit trail's files.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Follow the chain through all files: any line that was changed, taken out or put in is named
    #[command(
        after_help = "What was cut off at the very end shows in the number and hash of the last line: keep those elsewhere."
    )]
    Verify(VerifyArgs),
    /// Show the newest events, and those that come
    #[command(after_help = TAIL_EXAMPLES)]
    Tail(TailArgs),
}

/// `countersign audit tail`.
#[derive(Args, Debug)]
pub struct TailArgs {
    /// The folder with the files
    #[arg(value_name = "DIR", default_value = "countersign-data/audit")]
    pub folder: PathBuf,
    /// Go on with what comes, until Ctrl-C
    #[arg(short, long)]
    pub follow: bool,
    /// At most so many of what is there
    #[arg(short = 'n', long, value_name = "NUMBER", default_value_t = 10)]
    pub lines: usize,
    /// As a line for people, or as CloudTrail's JSON
    #[arg(short, long, value_enum, default_value_t = Format::Text)]
    pub output: Format,
    /// Only events of this operation: `CreateRole`
    #[arg(long, value_name = "NAME")]
    pub event_name: Option<String>,
    /// Only events of this caller: the session's name, its ARN, or its role's name
    #[arg(long, value_name = "NAME")]
    pub principal: Option<String>,
    /// Only what was refused
    #[arg(long)]
    pub refused: bool,
}

/// `countersign audit verify`.
#[derive(Args, Debug)]
pub struct VerifyArgs {
    /// The folder with the files
    #[arg(value_name = "DIR", default_value = "countersign-data/audit")]
    pub folder: PathBuf,
}

/// Work with policy documents.
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Parse and validate policy documents, and say where what is wrong
    Check(CheckArgs),
}

/// Where logs go is standard error, always.
#[derive(Args, Clone, Debug)]
pub struct LogArgs {
    /// What to log, as a tracing filter: `info`, `warn,countersign_gateway=debug`
    #[arg(long, value_name = "FILTER", conflicts_with = "verbose")]
    pub log: Option<String>,
    /// How a log line looks
    #[arg(long, value_enum, default_value_t = Format::Text, value_name = "FORMAT")]
    pub log_format: Format,
    /// Log what Countersign does (-v), and more of it (-vv)
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

impl LogArgs {
    /// The filter asked for.
    #[must_use]
    pub fn filter(&self) -> &str {
        match (&self.log, self.verbose) {
            (Some(filter), _) => filter,
            (None, 0) => "warn",
            (None, 1) => "warn,countersign=info",
            (None, _) => "warn,countersign=debug",
        }
    }
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    // A docstring here would stretch every page of help: text is for people, json for machines.
    Text,
    Json,
}

impl From<Format> for LogFormat {
    fn from(format: Format) -> Self {
        match format {
            Format::Text => Self::Text,
            Format::Json => Self::Json,
        }
    }
}

/// `countersign demo`.
#[derive(Args, Debug)]
#[command(after_help = DEMO_EXAMPLES)]
pub struct DemoArgs {
    /// Leave everything running afterwards, and say what to try; Ctrl-C ends it
    #[arg(long)]
    pub keep: bool,
    /// Logs.
    #[command(flatten)]
    pub logs: LogArgs,
}

/// `countersign simulate`.
#[derive(Args, Debug)]
#[command(after_help = SIMULATE_EXAMPLES)]
pub struct SimulateArgs {
    /// The cases, one JSON object a line; `-` reads standard input
    #[arg(long, value_name = "FILE")]
    pub cases: PathBuf,
    /// Compare with each case's `expect`, and print only what differs
    #[arg(long)]
    pub check: bool,
}

/// `countersign policy check`.
#[derive(Args, Debug)]
#[command(after_help = CHECK_EXAMPLES)]
pub struct CheckArgs {
    /// The documents; `-` reads standard input
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// What the documents are for: it decides which elements they may hold, and how long they may be
    #[arg(long, value_enum, default_value_t = Kind::Managed)]
    pub kind: Kind,
    /// For people or for machines
    #[arg(short, long, value_enum, default_value_t = Format::Text)]
    pub output: Format,
}

/// What a document is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// A managed policy
    Managed,
    /// A role's trust policy
    Trust,
    /// A resource's own policy
    Resource,
    /// A user's inline policy
    InlineUser,
    /// A role's inline policy
    InlineRole,
    /// A permissions boundary
    Boundary,
    /// A session policy
    Session,
    /// A service control policy
    Scp,
    /// A resource control policy
    Rcp,
}

impl From<Kind> for DocumentKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Managed => Self::ManagedPolicy,
            Kind::Trust => Self::TrustPolicy,
            Kind::Resource => Self::ResourcePolicy,
            Kind::InlineUser => Self::InlineUserPolicy,
            Kind::InlineRole => Self::InlineRolePolicy,
            Kind::Boundary => Self::PermissionsBoundary,
            Kind::Session => Self::SessionPolicy,
            Kind::Scp => Self::ServiceControlPolicy,
            Kind::Rcp => Self::ResourceControlPolicy,
        }
    }
}

/// `countersign proof`.
#[derive(Args, Debug)]
#[command(after_help = PROOF_EXAMPLES)]
pub struct ProofArgs {
    /// The role to assume
    #[arg(long, value_name = "ARN")]
    pub role_arn: String,
    /// A name for the session: 2 to 64 letters, digits and `_+=,.@-`
    #[arg(long, value_name = "NAME")]
    pub role_session_name: String,
    /// The service that the token will be for; `countersign` for Countersign's own RPCs
    #[arg(long, value_name = "NAME")]
    pub audience: String,
    /// How long the session lasts, 900 to the role's maximum [default: 3600]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(i32).range(900..=43_200))]
    pub duration_seconds: Option<i32>,
    /// What the trust policy's sts:ExternalId is compared with
    #[arg(long, value_name = "ID")]
    pub external_id: Option<String>,
    /// The gateway's own name, which the proof is made for [default: `http` of the data folder's endpoints.json]
    #[arg(long, value_name = "URL", conflicts_with = "data_dir")]
    pub issuer: Option<String>,
    /// The data folder of a running `up`, whose endpoints.json is read
    #[arg(long, value_name = "DIR", default_value = DEFAULT_DATA_DIR)]
    pub data_dir: PathBuf,
    /// The STS that knows the credentials: `https://sts.eu-west-1.amazonaws.com/` for AWS's [default: Countersign's own]
    #[arg(long, value_name = "URL")]
    pub sts_endpoint: Option<String>,
    /// That STS's region
    #[arg(long, value_name = "REGION", default_value = "us-east-1", value_parser = region)]
    pub sts_region: String,
    /// A file with the access key [default: the environment's AWS_ACCESS_KEY_ID, ...]
    #[arg(long, value_name = "FILE")]
    pub credentials: Option<PathBuf>,
    /// Action patterns that alone the session may do, separated by single spaces: `orders:GetOrder orders:List*`
    #[arg(long, value_name = "PATTERNS")]
    pub scope: Option<String>,
    /// A file with a session policy
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// A managed policy as session policy; may be repeated
    #[arg(long = "policy-arn", value_name = "ARN")]
    pub policy_arns: Vec<String>,
    /// Who is behind the session (`aws:SourceIdentity`)
    #[arg(long, value_name = "NAME")]
    pub source_identity: Option<String>,
    /// The key that the token is bound to: a DPoP key's RFC 7638 thumbprint, or `x5t#S256:` and a certificate's
    #[arg(long, value_name = "THUMBPRINT")]
    pub client_key_thumbprint: Option<String>,
    /// Who alone may act for the session: a session's ARN, or `<role id>:<session>`
    #[arg(long, value_name = "SESSION")]
    pub may_act: Option<String>,
    /// Make the presigned form (a GET whose signature is in the query) instead of the header-signed one
    #[arg(long)]
    pub presigned: bool,
}

/// `countersign exchange`.
#[derive(Args, Debug)]
#[command(after_help = EXCHANGE_EXAMPLES)]
pub struct ExchangeArgs {
    /// What is asked for, and who vouches.
    #[command(flatten)]
    pub proof: ProofArgs,
    /// The gateway's gRPC port [default: `gateway` of the data folder's endpoints.json]
    #[arg(long, value_name = "URL")]
    pub gateway: Option<String>,
    /// The authority of the gateway's certificate, PEM
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Show this EC2 instance's identity document, and the key in --key, instead of credentials (deploy/EC2.md)
    #[arg(long, requires = "key", conflicts_with_all = ["credentials", "presigned", "sts_endpoint", "client_key_thumbprint"])]
    pub instance_identity: bool,
    /// The instance's key, PEM; made there if there is none. The instance is known by it: lose it, and an operator must let it in again
    #[arg(long, value_name = "FILE", requires = "instance_identity")]
    pub key: Option<PathBuf>,
    /// Where the instance's metadata service is
    #[arg(long, value_name = "URL", default_value = crate::instance::METADATA)]
    pub metadata_endpoint: String,
    /// The token alone, or all that is known of it
    #[arg(short, long, value_enum, default_value_t = Format::Text, value_name = "FORMAT")]
    pub output: Format,
    /// Keep the token in this file, and take it from there while it is good
    #[arg(long, value_name = "FILE")]
    pub cache: Option<PathBuf>,
}

fn region(text: &str) -> Result<String, String> {
    if is_region(text) {
        Ok(text.to_owned())
    } else {
        Err(format!("`{text}` is no region; a region looks like `us-east-1`"))
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn check(line: &str, good: bool) {
        let words = line.split_whitespace();
        let parsed = Cli::try_parse_from(std::iter::once("countersign").chain(words));
        assert_eq!(
            parsed.is_ok(),
            good,
            "{line}: {:?}",
            parsed.err().map(|error| error.to_string())
        );
    }

    #[test]
    fn the_definition_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn lines_that_people_type() {
        check("up", true);
        check("up --account 123456789012 --data-dir /tmp/x --http-port 0 -v", true);
        check("up --sts-endpoint us-east-1=http://127.0.0.1:5000/;accounts=123456789012", true);
        check(
            "up --sts-endpoint us-east-1=http://127.0.0.1:5000/;accounts=1 --region us-east-1",
            false,
        );
        check("up --account 12345678901", false);
        check("up --listen localhost", false);
        check("up --listen ::1", true);
        check("up --region moon", false);
        check("up --http-port 65536", false);
        check("up --log info --verbose", false);
        check("up --store sled:/tmp/x", true);
        check("up --store etcd:http://a:1,http://b:2 --etcd-prefix x/", true);
        check("up --store etcd:https://a:1 --etcd-user u --etcd-password-file f --etcd-ca c", true);
        check("up --store etcd:https://a:1 --etcd-user u", false);
        check("up --store etcd:https://a:1 --etcd-cert c", false);
        check("up --store redis:x", false);
        check("up --etcd-ca c", false);
        check("demo", true);
        check("demo --keep --log debug", true);
        check("simulate --cases -", true);
        check("simulate --cases f.jsonl --check", true);
        check("simulate f.jsonl", false);
        check("policy check a.json b.json --kind trust -o json", true);
        check("policy check", false);
        check("policy check a.json --kind group", false);
        check("proof --role-arn r --role-session-name s --audience a", true);
        check("proof --role-arn r --role-session-name s", false);
        check("proof --role-arn r --role-session-name s --audience a --duration-seconds 60", false);
        check(
            "proof --role-arn r --role-session-name s --audience a --issuer http://x --data-dir d",
            false,
        );
        // A secret in the arguments would be in every process list.
        check("proof --role-arn r --role-session-name s --audience a --secret-access-key x", false);
        check("", false);
        check("serve", false);
    }

    #[test]
    fn stores() {
        let check = |line: &str, expected: Result<&str, &str>| {
            let words = ["countersign", "up"].into_iter().chain(line.split_whitespace());
            let Command::Up(args) = Cli::try_parse_from(words).unwrap().command else {
                panic!("no up")
            };
            let shown = args.store.place().map(|place| format!("{place:?}"));
            match (shown, expected) {
                (Ok(place), Ok(part)) => assert!(place.contains(part), "{place}"),
                (Err(error), Err(part)) => assert!(error.contains(part), "{error}"),
                (shown, _) => panic!("{line}: {shown:?}"),
            }
        };
        check("", Ok("DataFolder"));
        check("--store sled:/tmp/x", Ok("/tmp/x"));
        check("--store etcd:http://a:1 --etcd-keep-revisions 0", Ok("keep_revisions: Some(0)"));
        check("--store etcd:https://a:1 --etcd-cert c --etcd-key k", Ok("Some((\"c\", \"k\"))"));
        check("--store sled:/tmp/x --etcd-ca c", Err("--store etcd:"));
    }

    #[test]
    fn filters() {
        let check = |line: &[&str], expected: &str| {
            let parsed = Cli::try_parse_from(["countersign", "demo"].iter().chain(line)).unwrap();
            let Command::Demo(args) = parsed.command else { panic!("no demo") };
            assert_eq!(args.logs.filter(), expected);
        };
        check(&[], "warn");
        check(&["-v"], "warn,countersign=info");
        check(&["-vv"], "warn,countersign=debug");
        check(&["--log", "trace"], "trace");
    }
}
