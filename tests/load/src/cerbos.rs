//! The same checks asked of Cerbos, whose policies say what workload "orders" says. Each principal has a principal policy with its nine or
//! ten rules, which is the form in which Cerbos finds them by the principal's name.
//!
//! Knows of Cerbos what its pages say: CheckResources over gRPC (<https://docs.cerbos.dev/cerbos/0.55.0/api>), policies and CEL
//! (<https://docs.cerbos.dev/cerbos/0.55.0/policies/principal_policies>). It has one core as the decision service has, in turns with it;
//! its audit log, its telemetry and its request log are off, and its caller shows nothing, where ours is authenticated.

use std::{
    collections::HashMap,
    fmt::Write,
    fs,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Command,
};

use clap::Args;
use prost::Message;
use prost_types::{Value, value::Kind};
use tempfile::TempDir;

use crate::{
    Failed,
    drive::{self, Span},
    measure::{self, Bench, Figures, Rpc, SERVER_CORE},
    orders::Orders,
    process::Process,
    report::{count, median, megabytes, microseconds, table},
    wire::{self, Target},
    workload::{ACTIONS, Policy, Query},
};

/// `tests/load/cerbos` puts it there.
const PROGRAM: &str = "target/cerbos/package/cerbos-linux-x64";
const CHECK_RESOURCES: &str = "/cerbos.svc.v1.CerbosService/CheckResources";
const ALLOW: i32 = 1;

/// What is compared.
#[derive(Args, Debug)]
pub struct CerbosArgs {
    /// Cerbos' program; `tests/load/cerbos` fetches it.
    #[arg(long, default_value = PROGRAM)]
    pub program: PathBuf,
    /// Policies of the workload, a multiple of ten. Cerbos compiles 10,000 of them for minutes before it answers.
    #[arg(long, default_value_t = 1_000)]
    pub policies: usize,
    /// What counts of each round.
    #[arg(long, default_value_t = 1.5)]
    pub seconds: f64,
    /// Of each server in turn.
    #[arg(long, default_value_t = 5)]
    pub rounds: usize,
}

impl CerbosArgs {
    /// As `all` has it.
    #[must_use]
    pub fn usual(rounds: usize) -> Self {
        Self { program: PROGRAM.into(), policies: 1_000, seconds: 1.5, rounds }
    }
}

#[derive(Clone, PartialEq, Message)]
struct CheckResourcesRequest {
    #[prost(message, optional, tag = "3")]
    principal: Option<Principal>,
    #[prost(message, repeated, tag = "4")]
    resources: Vec<ResourceEntry>,
}

#[derive(Clone, PartialEq, Message)]
struct Principal {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(string, repeated, tag = "3")]
    roles: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
struct ResourceEntry {
    #[prost(string, repeated, tag = "1")]
    actions: Vec<String>,
    #[prost(message, optional, tag = "2")]
    resource: Option<Resource>,
}

#[derive(Clone, PartialEq, Message)]
struct Resource {
    #[prost(string, tag = "1")]
    kind: String,
    #[prost(string, tag = "3")]
    id: String,
    #[prost(map = "string, message", tag = "4")]
    attr: HashMap<String, Value>,
}

#[derive(Clone, PartialEq, Message)]
struct CheckResourcesResponse {
    #[prost(message, repeated, tag = "2")]
    results: Vec<ResultEntry>,
}

#[derive(Clone, PartialEq, Message)]
struct ResultEntry {
    /// Effects by action.
    #[prost(map = "string, int32", tag = "2")]
    actions: HashMap<String, i32>,
}

fn request(query: &Query) -> CheckResourcesRequest {
    let text = |text: &str| Value { kind: Some(Kind::StringValue(text.to_owned())) };
    let attr = [("ip", &query.ip), ("team", &query.team), ("hold", &query.hold)];
    let resource = Resource {
        kind: "order".to_owned(),
        id: query.resource.clone(),
        attr: attr.map(|(key, value)| (key.to_owned(), text(value))).into(),
    };
    CheckResourcesRequest {
        principal: Some(Principal { id: query.principal.clone(), roles: vec!["user".to_owned()] }),
        resources: vec![ResourceEntry {
            actions: vec![query.action.to_owned()],
            resource: Some(resource),
        }],
    }
}

/// Cerbos, with the workload's policies.
struct Cerbos {
    process: Process,
    target: Target,
    messages: Vec<Vec<u8>>,
    // Ends last.
    _policies: TempDir,
}

impl Cerbos {
    /// Starts it, and holds its every answer to the workload's.
    async fn start(program: &Path, orders: &Orders) -> Result<Self, Failed> {
        let folder = tempfile::tempdir().map_err(Failed::of("a folder"))?;
        for (number, policies) in orders.workload().by_principal().iter().enumerate() {
            let file = folder.path().join(format!("u{number}.json"));
            fs::write(file, principal_policy(number, policies)).map_err(Failed::of("a policy"))?;
        }
        let (grpc, http) = (free_port()?, free_port()?);
        let mut command = Command::new("taskset");
        command.args(["-c", &SERVER_CORE.to_string()]).arg(program).args([
            "server",
            "--log-level=error",
            "--set=storage.driver=disk",
            "--set=audit.enabled=false",
            "--set=telemetry.disabled=true",
            &format!("--set=storage.disk.directory={}", folder.path().display()),
            &format!("--set=server.grpcListenAddr={grpc}"),
            &format!("--set=server.httpListenAddr={http}"),
        ]);
        command.env("GOMAXPROCS", "1");
        let process = Process::listening(command, grpc)?;
        let path = CHECK_RESOURCES.to_owned();
        let target = Target { address: grpc, path, token: String::new() };
        let queries = &orders.workload().queries;
        let messages: Vec<_> = queries.iter().map(|query| wire::message(&request(query))).collect();
        let answers = drive::once(&target, &messages, 16).await?;
        for (place, (answer, query)) in answers.iter().zip(queries).enumerate() {
            let answer = answer
                .as_deref()
                .ok_or_else(|| Failed::because(format!("Cerbos: question {place} was refused")))?;
            let answer = CheckResourcesResponse::decode(answer).map_err(Failed::of("an answer"))?;
            let effects: Vec<i32> =
                answer.results.iter().flat_map(|entry| entry.actions.values().copied()).collect();
            if effects.len() != 1 || effects.contains(&ALLOW) != query.is_allowed {
                return Err(Failed::because(format!(
                    "Cerbos: question {place} must be {}, and was {effects:?}",
                    query.is_allowed
                )));
            }
        }
        Ok(Self { process, target, messages, _policies: folder })
    }
}

fn free_port() -> Result<SocketAddr, Failed> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(Failed::of("a port"))?;
    listener.local_addr().map_err(Failed::of("a port"))
}

/// A principal's policies in one of Cerbos'; a rule for each action, since a rule has one.
fn principal_policy(number: usize, policies: &[&Policy]) -> String {
    let mut rules = String::new();
    for policy in policies {
        let effect = if policy.allows { "EFFECT_ALLOW" } else { "EFFECT_DENY" };
        for action in policy.actions {
            let action = ACTIONS.get(action).copied().unwrap_or_default();
            let comma = if rules.is_empty() { "" } else { "," };
            let condition = condition(policy);
            let _ = write!(
                rules,
                r#"{comma}{{"action":"{action}","effect":"{effect}","condition":{{"match":{{"expr":"{condition}"}}}}}}"#
            );
        }
    }
    format!(
        r#"{{"apiVersion":"api.cerbos.dev/v1","principalPolicy":{{"principal":"u{number}","version":"default","rules":[{{"resource":"order","actions":[{rules}]}}]}}}}"#
    )
}

/// In CEL. A pattern with a wildcard at its end alone is a prefix; the others are matched as RE2 matches.
fn condition(policy: &Policy) -> String {
    let Policy { pattern, cidr, key, value, .. } = policy;
    let prefix = pattern.strip_suffix('*').unwrap_or(pattern);
    let names = match prefix.split_once('*') {
        None => format!("R.id.startsWith('{prefix}')"),
        Some((before, after)) => format!("R.id.matches('^{before}.*{after}')"),
    };
    format!("{names} && R.attr.ip.inIPAddrRange('{cidr}') && R.attr.{key} == '{value}'")
}

/// Both servers in turn, as a table and a sentence.
///
/// # Errors
/// When one does not start, or an answer is not the workload's.
pub async fn compared(args: &CerbosArgs, span: Span) -> Result<String, Failed> {
    if !args.program.exists() {
        return Err(Failed::because(format!(
            "`{}` is not there: tests/load/cerbos fetches it",
            args.program.display()
        )));
    }
    // So many principals have all of the policies, and nobody shares any.
    let principals = args.policies / 10 + 1;
    let orders = Orders::new(principals, measure::now())?;
    let bench = Bench::start(principals, true).await?;
    let cerbos = Cerbos::start(&args.program, &orders).await?;
    let mut rows = Vec::new();
    for streams in [64, 1] {
        let (mut theirs, mut ours) = (Vec::new(), Vec::new());
        for _ in 0..args.rounds {
            let Cerbos { process, target, messages, .. } = &cerbos;
            theirs.push(measure::round(process, target, messages, streams, span).await?);
            ours.push(bench.closed(&bench.decision, Rpc::Arn, streams, span).await?);
        }
        if let (Some(theirs), Some(ours)) = (median(&theirs), median(&ours)) {
            rows.push(row(streams, &theirs, &ours));
        }
    }
    let head = [
        "streams",
        "checks/s: Cerbos",
        "decision",
        "ratio",
        "CPU us: Cerbos",
        "decision",
        "p50 us: Cerbos",
        "decision",
        "p99 us: Cerbos",
        "decision",
    ];
    let ((theirs, _), (ours, _)) = (cerbos.process.memory(), bench.decision.memory());
    Ok(format!(
        "{}\nMemory, resident after all of it: Cerbos {}, the decision service {} ({:.2} of it). Cerbos answered {:.1} s after its start, the \
         decision service {:.1} s after its own.\n",
        table(&head, &rows),
        megabytes(theirs),
        megabytes(ours),
        part(ours, theirs),
        cerbos.process.started_in.as_secs_f64(),
        bench.started_in.as_secs_f64()
    ))
}

#[expect(clippy::cast_precision_loss, reason = "to a hundredth")]
fn part(of: u64, whole: u64) -> f64 {
    of as f64 / whole as f64
}

fn row(streams: usize, theirs: &Figures, ours: &Figures) -> Vec<String> {
    vec![
        streams.to_string(),
        count(theirs.rate),
        count(ours.rate),
        format!("{:.1}", ours.rate / theirs.rate),
        microseconds(theirs.cpu),
        microseconds(ours.cpu),
        microseconds(theirs.p50),
        microseconds(ours.p50),
        microseconds(theirs.p99),
        microseconds(ours.p99),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_said_in_their_words() {
        fn check(pattern: &str, expected: &str) {
            let policy = Policy {
                allows: true,
                principal: 0,
                actions: [0, 1, 2],
                pattern: pattern.to_owned(),
                cidr: "10.7.0.0/16".to_owned(),
                key: "team",
                value: "team-7".to_owned(),
            };
            let rest = " && R.attr.ip.inIPAddrRange('10.7.0.0/16') && R.attr.team == 'team-7'";
            assert_eq!(condition(&policy), format!("{expected}{rest}"));
        }
        check("order/*", "R.id.startsWith('order/')");
        check("order/tenant-7/*", "R.id.startsWith('order/tenant-7/')");
        check("order/*-13/*", "R.id.matches('^order/.*-13/')");
    }
}
