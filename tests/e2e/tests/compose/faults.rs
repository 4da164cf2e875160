//! The cluster of deploy/compose under load, while each of its containers is restarted, killed, and cut off from the network, in turn. It
//! takes the images and Docker: `tests/run compose` makes both and starts the cluster.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "this is a test")]

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use countersign_e2e::{
    program::{repository, run},
    system::binary,
};
use countersign_proto::{
    decision::v1::{AuthorizeRequest, decision_service_client::DecisionServiceClient},
    policy::v1::{
        CreateUserRequest, GetUserRequest, policy_store_service_client::PolicyStoreServiceClient,
    },
    token::v1::token_exchange_service_client::TokenExchangeServiceClient,
};
use countersign_serve::{
    dial::{Trust, channel},
    tls::trusting,
};
use tonic::{Code, Request, Status, transport::Channel};

const ACCOUNT: &str = "000000000000";
const STORES: &[u16] = &[7401, 17401];
const DECISIONS: &[u16] = &[7402, 17402, 27402];
const GATEWAYS: &[u16] = &[7403, 17403];
const CONTAINERS: &[&str] = &[
    "decision-1",
    "decision-2",
    "decision-3",
    "gateway-1",
    "gateway-2",
    "policy-store-1",
    "policy-store-2",
    "etcd-1",
    "etcd-2",
    "etcd-3",
];
/// One attempt; then the next replica.
const ATTEMPT: Duration = Duration::from_secs(1);
/// A call that has not succeeded by then has failed.
const DECIDED_WITHIN: Duration = Duration::from_secs(10);
const WRITTEN_WITHIN: Duration = Duration::from_secs(60);

/// A service's replicas, and a standard retry: the next of them after each failure that may pass.
#[derive(Clone)]
struct Replicas {
    channels: Vec<Channel>,
    next: Arc<AtomicU64>,
    retried: Arc<AtomicU64>,
}

impl Replicas {
    fn new(ports: &[u16], ca: &Path) -> Self {
        let trust = Trust::Name(Arc::new(trusting(ca).expect("ca.crt is there")));
        let open = |port: &u16| {
            channel(&format!("https://localhost:{port}"), trust.clone()).expect("an address")
        };
        let channels = ports.iter().map(open).collect();
        Self { channels, next: Arc::default(), retried: Arc::default() }
    }

    /// The answer, or what was wrong with the last attempt.
    async fn call<T, F>(
        &self,
        within: Duration,
        attempt: impl Fn(Channel) -> F,
    ) -> Result<T, Status>
    where
        F: Future<Output = Result<T, Status>>,
    {
        let begun = Instant::now();
        loop {
            let next = self.next.fetch_add(1, Ordering::Relaxed);
            let next = usize::try_from(next).expect("a count fits");
            let channel = self.channels[next % self.channels.len()].clone();
            let status = match tokio::time::timeout(ATTEMPT, attempt(channel)).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(status)) => status,
                Err(_) => Status::deadline_exceeded("no answer to this attempt"),
            };
            let may_pass = matches!(
                status.code(),
                Code::Unavailable
                    | Code::DeadlineExceeded
                    | Code::Cancelled
                    | Code::Unknown
                    | Code::Aborted
            );
            if !may_pass || begun.elapsed() > within {
                return Err(status);
            }
            self.retried.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn with_token<T>(message: T, token: &str) -> Request<T> {
    let mut request = Request::new(message);
    let bearer = format!("Bearer {token}").parse().expect("a token is ASCII");
    request.metadata_mut().insert("authorization", bearer);
    request
}

#[derive(Default)]
struct Load {
    over: AtomicBool,
    decisions: AtomicU64,
    slowest: AtomicU64,
    failed: Mutex<Vec<String>>,
    acknowledged: Mutex<BTreeSet<String>>,
}

async fn ask(load: Arc<Load>, decisions: Replicas, token: Arc<str>) {
    let question = AuthorizeRequest {
        subject: Some(countersign_proto::decision::v1::authorize_request::Subject::PrincipalArn(
            format!("arn:aws:iam::{ACCOUNT}:role/CountersignAdministrator"),
        )),
        action: "s3:GetObject".to_owned(),
        resource: "arn:aws:s3:::bucket/a".to_owned(),
        resource_account: ACCOUNT.to_owned(),
        ..AuthorizeRequest::default()
    };
    while !load.over.load(Ordering::Relaxed) {
        let begun = Instant::now();
        let answer = decisions.call(DECIDED_WITHIN, async |channel| {
            let request = with_token(question.clone(), &token);
            Ok(DecisionServiceClient::new(channel).authorize(request).await?.into_inner().allowed)
        });
        match answer.await {
            Ok(true) => {}
            Ok(false) => fail(&load, "a decision was DENY".to_owned()),
            Err(status) => fail(&load, format!("a decision: {status}")),
        }
        let took = u64::try_from(begun.elapsed().as_millis()).expect("no time is as long");
        load.slowest.fetch_max(took, Ordering::Relaxed);
        load.decisions.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn write(load: Arc<Load>, stores: Replicas, token: Arc<str>, writer: u32) {
    for number in 0.. {
        if load.over.load(Ordering::Relaxed) {
            return;
        }
        let name = format!("w{writer}-{}-{number}", std::process::id());
        // Named, so that an attempt after one whose answer was lost finds what that one did.
        let message = CreateUserRequest {
            user_name: name.clone(),
            request_id: name.clone(),
            ..CreateUserRequest::default()
        };
        let answer = stores.call(WRITTEN_WITHIN, async |channel| {
            let request = with_token(message.clone(), &token);
            PolicyStoreServiceClient::new(channel).create_user(request).await
        });
        match answer.await {
            Ok(_) => {
                load.acknowledged.lock().expect("nobody panicked").insert(name);
            }
            Err(status) => fail(&load, format!("a write: {status}")),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn fail(load: &Load, what: String) {
    eprintln!("{what}");
    load.failed.lock().expect("nobody panicked").push(what);
}

fn docker(arguments: &[&str]) -> String {
    let finished = run(Command::new("docker").args(arguments), "");
    assert!(finished.status.success(), "docker {arguments:?}: {}", finished.stderr);
    finished.stdout.trim().to_owned()
}

/// The container of a service.
fn container(service: &str) -> String {
    let project = "label=com.docker.compose.project=countersign";
    let service = format!("label=com.docker.compose.service={service}");
    docker(&["ps", "-aq", "--filter", project, "--filter", &service])
}

/// Back, and healthy, where it has a health.
async fn wait_until_well(service: &str) {
    const FORMAT: &str =
        "{{.State.Status}} {{if .State.Health}}{{.State.Health.Status}}{{else}}healthy{{end}}";
    let begun = Instant::now();
    while docker(&["inspect", "-f", FORMAT, &container(service)]) != "running healthy" {
        assert!(begun.elapsed() < Duration::from_secs(60), "{service} does not get well");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn token(gateways: &Replicas, folder: &Path) -> Arc<str> {
    let role = format!("arn:aws:iam::{ACCOUNT}:role/CountersignAdministrator");
    let mut command = Command::new(binary());
    command.args(["proof", "--role-session-name", "faults", "--audience", "countersign"]);
    command.args(["--role-arn", &role, "--issuer", "https://gateway:7400", "--credentials"]);
    let proof = run(command.arg(folder.join("root-credentials.json")), "");
    assert!(proof.status.success(), "{}", proof.stderr);
    let json: serde_json::Value = serde_json::from_str(&proof.stdout).expect("proof prints JSON");
    let field = |name: &str| json[name].as_str().unwrap_or_default().to_owned();
    let request = countersign_proto::token::v1::ExchangeRequest {
        subject_token: field("subject_token"),
        subject_token_type: field("subject_token_type"),
        role_arn: field("role_arn"),
        role_session_name: field("role_session_name"),
        audience: field("audience"),
        ..Default::default()
    };
    // A proof is good once, so this is not retried.
    let mut client = TokenExchangeServiceClient::new(gateways.channels[0].clone());
    client.exchange(request).await.expect("it is granted").into_inner().access_token.into()
}

fn files() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let mut command = Command::new(repository().join("deploy/compose/cluster"));
    let finished = run(command.arg("files").arg(folder.path()), "");
    assert!(finished.status.success(), "{}", finished.stderr);
    let ca = folder.path().join("ca.crt");
    (folder, ca)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it takes Docker and the images: tests/run compose"]
async fn each_container_is_restarted_killed_and_cut_off_under_load() {
    let (folder, ca) = files();
    let (stores, decisions) = (Replicas::new(STORES, &ca), Replicas::new(DECISIONS, &ca));
    let gateways = Replicas::new(GATEWAYS, &ca);
    let token = token(&gateways, folder.path()).await;
    let load = Arc::new(Load::default());
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..4 {
        tasks.spawn(ask(load.clone(), decisions.clone(), token.clone()));
    }
    for writer in 0..2 {
        tasks.spawn(write(load.clone(), stores.clone(), token.clone(), writer));
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    for service in CONTAINERS {
        for fault in ["restarted", "killed", "cut off"] {
            let begun = Instant::now();
            let id = container(service);
            if fault == "restarted" {
                // Told to end, which drains it.
                docker(&["restart", &id]);
            } else if fault == "killed" {
                docker(&["kill", "--signal", "KILL", &id]);
                tokio::time::sleep(Duration::from_secs(3)).await;
                docker(&["start", &id]);
            } else {
                docker(&["network", "disconnect", "countersign_cluster", &id]);
                tokio::time::sleep(Duration::from_secs(8)).await;
                let mut connect = vec!["network", "connect", "--alias", service];
                if service.starts_with("gateway") {
                    connect.extend(["--alias", "gateway"]);
                }
                connect.extend(["countersign_cluster", &id]);
                docker(&connect);
            }
            wait_until_well(service).await;
            let failed = load.failed.lock().expect("nobody panicked").len();
            println!(
                "{service:>14} {fault:<9} well again after {:>4.1} s; {} decisions, {} writes, {failed} failed so far",
                begun.elapsed().as_secs_f32(),
                load.decisions.load(Ordering::Relaxed),
                load.acknowledged.lock().expect("nobody panicked").len(),
            );
        }
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    load.over.store(true, Ordering::Relaxed);
    while let Some(ended) = tasks.join_next().await {
        ended.expect("no task panics");
    }

    let acknowledged = load.acknowledged.lock().expect("nobody panicked").clone();
    let mut lost = Vec::new();
    for name in &acknowledged {
        for channel in &stores.channels {
            let message = GetUserRequest { user_name: name.clone() };
            let mut client = PolicyStoreServiceClient::new(channel.clone());
            if let Err(status) = client.get_user(with_token(message, &token)).await {
                lost.push(format!("{name}: {status}"));
            }
        }
    }
    println!(
        "{} decisions ({} attempts retried, the slowest {} ms), {} writes acknowledged ({} attempts retried), {} lost",
        load.decisions.load(Ordering::Relaxed),
        decisions.retried.load(Ordering::Relaxed),
        load.slowest.load(Ordering::Relaxed),
        acknowledged.len(),
        stores.retried.load(Ordering::Relaxed),
        lost.len(),
    );
    assert!(lost.is_empty(), "{lost:?}");
    let failed = load.failed.lock().expect("nobody panicked");
    assert!(failed.is_empty(), "{failed:?}");
    assert!(acknowledged.len() > 100 && load.decisions.load(Ordering::Relaxed) > 1_000);
}
