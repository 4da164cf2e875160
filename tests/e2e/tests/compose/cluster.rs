//! The running cluster: its ports, its containers, and what its operator has.

use std::{
    path::PathBuf,
    process::Command,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use countersign_e2e::{
    program::{repository, run},
    system::binary,
};
use countersign_proto::token::v1::ExchangeRequest;

pub const ACCOUNT: &str = "000000000000";
/// The origin that proofs name.
pub const ISSUER: &str = "https://gateway:7400";
pub const STORES: &[u16] = &[7401, 17401];
pub const DECISIONS: &[u16] = &[7402, 17402, 27402];
pub const GATEWAYS: &[u16] = &[7403, 17403];

/// What an operator copies out of the cluster: the authority's certificate, and the root's key.
pub struct Files {
    folder: tempfile::TempDir,
}

impl Files {
    pub fn copied() -> Self {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let path = folder.path().display().to_string();
        cluster(&["files", &path]);
        Self { folder }
    }

    pub fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.crt")
    }

    pub fn root_credentials(&self) -> PathBuf {
        self.folder.path().join("root-credentials.json")
    }

    /// A proof of the root's, good once, for the administrator's role at Countersign itself: as JSON, as grpcurl takes it.
    pub fn proof(&self) -> String {
        // Two of one second would be the same proof, but for the session's name.
        static PROOFS: AtomicU64 = AtomicU64::new(0);
        let session = format!("compose-{}", PROOFS.fetch_add(1, Ordering::Relaxed));
        let mut command = Command::new(binary());
        command.args(["proof", "--role-session-name", &session, "--audience", "countersign"]);
        command.args(["--role-arn", &administrator(), "--issuer", ISSUER, "--credentials"]);
        let proof = run(command.arg(self.root_credentials()), "");
        assert!(proof.status.success(), "{}", proof.stderr);
        proof.stdout
    }

    pub fn exchange_request(&self) -> ExchangeRequest {
        let json: serde_json::Value =
            serde_json::from_str(&self.proof()).expect("proof prints JSON");
        let field = |name: &str| json[name].as_str().unwrap_or_default().to_owned();
        ExchangeRequest {
            subject_token: field("subject_token"),
            subject_token_type: field("subject_token_type"),
            role_arn: field("role_arn"),
            role_session_name: field("role_session_name"),
            audience: field("audience"),
            ..Default::default()
        }
    }
}

pub fn administrator() -> String {
    format!("arn:aws:iam::{ACCOUNT}:role/CountersignAdministrator")
}

/// Runs `deploy/compose/cluster`.
pub fn cluster(arguments: &[&str]) {
    let mut command = Command::new(repository().join("deploy/compose/cluster"));
    let finished = run(command.args(arguments), "");
    assert!(finished.status.success(), "cluster {arguments:?}: {}", finished.stderr);
}

pub fn docker(arguments: &[&str]) -> String {
    let finished = run(Command::new("docker").args(arguments), "");
    assert!(finished.status.success(), "docker {arguments:?}: {}", finished.stderr);
    finished.stdout.trim().to_owned()
}

/// The container of a service.
pub fn container(service: &str) -> String {
    let project = "label=com.docker.compose.project=countersign";
    let service = format!("label=com.docker.compose.service={service}");
    docker(&["ps", "-aq", "--filter", project, "--filter", &service])
}

/// Back, and healthy.
pub async fn wait_until_well(service: &str) {
    const FORMAT: &str = "{{.State.Status}} {{.State.Health.Status}}";
    let begun = Instant::now();
    while docker(&["inspect", "-f", FORMAT, &container(service)]) != "running healthy" {
        assert!(begun.elapsed() < Duration::from_secs(60), "{service} does not get well");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
