//! The three services as programs of their own, each with a certificate: what they refuse to start with, and a journey by TLS alone.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "this is a test")]

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use countersign_e2e::{
    program::{Finished, Running, free_port, repository, run, venv},
    system::{ACCOUNT, Countersign, binary},
};
use serde_json::{Value, json};

const DOMAIN: &str = "example.org";
const STORE: &str = "countersign.policy.v1.PolicyStoreService";
const DECISION: &str = "countersign.decision.v1.DecisionService";
const GATEWAY: &str = "countersign.token.v1.TokenExchangeService";
const PATIENCE: Duration = Duration::from_secs(60);

/// Certificates, and a port for everything.
struct Cluster {
    folder: tempfile::TempDir,
    store: u16,
    decision: u16,
    gateway: u16,
    http: u16,
    /// Of policy store, decision service and gateway.
    health: [u16; 3],
}

impl Cluster {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let [store, decision, gateway, http] = std::array::from_fn(|_| free_port());
        let health = std::array::from_fn(|_| free_port());
        let cluster = Self { folder, store, decision, gateway, http, health };
        cluster.certify();
        cluster
    }

    fn certify(&self) {
        let mut command = Command::new(binary());
        command.args(["certificates", "--trust-domain", DOMAIN, "--out"]).arg(self.path("tls"));
        for part in ["policy-store", "decision", "gateway"] {
            command.args(["--part", &format!("{part}=localhost,127.0.0.1")]);
        }
        assert!(run(&mut command, "").status.success());
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn issuer(&self) -> String {
        format!("https://localhost:{}", self.http)
    }

    /// Settings that are good.
    fn settings(&self, part: &str) -> Vec<(&'static str, String)> {
        let tls = |name: &str| self.path("tls").join(part).join(name).display().to_string();
        let at = |port: u16| format!("127.0.0.1:{port}");
        let by = |port: u16| format!("https://localhost:{port}");
        let mut settings = vec![
            ("tls_certificate", tls("tls.crt")),
            ("tls_key", tls("tls.key")),
            ("tls_ca", tls("ca.crt")),
            ("trust_domain", DOMAIN.to_owned()),
            ("issuer", self.issuer()),
            ("drain_seconds", "1".to_owned()),
        ];
        let [of_store, of_decision, of_gateway] = self.health;
        settings.extend(match part {
            "policy-store" => vec![
                ("listen", at(self.store)),
                ("account", ACCOUNT.to_owned()),
                ("data_dir", self.path("data").display().to_string()),
                ("health_listen", at(of_store)),
            ],
            "decision" => vec![
                ("listen", at(self.decision)),
                ("policy_store", by(self.store)),
                ("health_listen", at(of_decision)),
            ],
            _ => vec![
                ("listen", at(self.gateway)),
                ("http_listen", at(self.http)),
                ("policy_store", by(self.store)),
                ("decision", by(self.decision)),
                ("health_listen", at(of_gateway)),
            ],
        });
        settings
    }

    /// The program of a part, with settings in its file.
    fn program(&self, part: &str, settings: &[(&str, String)]) -> Command {
        let program = binary().with_file_name(format!("countersign-{part}"));
        assert!(program.exists(), "there is no {}: run tests/run build", program.display());
        let file = self.path(&format!("{part}.toml"));
        let lines: Vec<String> =
            settings.iter().map(|(key, value)| format!("{key} = {value:?}\n")).collect();
        fs::write(&file, lines.concat()).expect("the file can be written");
        let mut command = Command::new(program);
        // No settings of the person who runs the tests.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("COUNTERSIGN_") {
                command.env_remove(name);
            }
        }
        command.arg("--config").arg(file);
        command
    }

    fn start(&self, part: &str) -> Running {
        let log = File::create(self.path(&format!("{part}.log"))).expect("a file can be made");
        let mut command = self.program(part, &self.settings(part));
        let started = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        Running(started.expect("the program starts"))
    }

    fn wait_until_serving(&self, part: &str) {
        let started = Instant::now();
        loop {
            let mut probe = self.program(part, &self.settings(part));
            let probed = run(probe.arg("--probe"), "");
            if probed.status.success() {
                return;
            }
            let log = fs::read_to_string(self.path(&format!("{part}.log"))).unwrap_or_default();
            assert!(started.elapsed() < PATIENCE, "{part}: {}{log}", probed.stderr);
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn call(&self, part: u16, method: &str, token: Option<&str>, request: &str) -> Finished {
        let mut command = Command::new(venv("grpcurl"));
        command.arg("-cacert").arg(self.path("tls/ca.crt")).args(["-d", "@"]);
        if let Some(token) = token {
            command
                .args(["-expand-headers", "-H", "authorization: Bearer ${TOKEN}"])
                .env("TOKEN", token);
        }
        run(command.arg(format!("localhost:{part}")).arg(method), request)
    }

    /// A token of the administrator, for Countersign itself.
    fn token(&self) -> String {
        let role = format!("arn:aws:iam::{ACCOUNT}:role/CountersignAdministrator");
        let mut command = Command::new(binary());
        command.args(["proof", "--role-session-name", "me", "--audience", "countersign"]);
        command.args(["--role-arn", &role, "--issuer", &self.issuer(), "--credentials"]);
        let proof = run(command.arg(self.path("data/root-credentials.json")), "");
        assert!(proof.status.success(), "{}", proof.stderr);
        let answer = self.call(self.gateway, &format!("{GATEWAY}/Exchange"), None, &proof.stdout);
        assert!(answer.status.success(), "{}", answer.stderr);
        let answer: Value = serde_json::from_str(&answer.stdout).expect("grpcurl prints JSON");
        answer["accessToken"].as_str().expect("there is a token").to_owned()
    }
}

fn terminate(process: &mut Running) -> Option<i32> {
    let id = process.0.id().to_string();
    assert!(run(Command::new("kill").args(["-TERM", &id]), "").status.success());
    let started = Instant::now();
    loop {
        if let Some(status) = process.0.try_wait().expect("it can be waited for") {
            return status.code();
        }
        assert!(started.elapsed() < PATIENCE, "it does not end");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn three_programs_know_each_other_by_certificates() {
    let cluster = Cluster::new();
    // In an order that makes the later ones wait.
    let mut gateway = cluster.start("gateway");
    let mut decision = cluster.start("decision");
    let mut store = cluster.start("policy-store");
    for part in ["policy-store", "decision", "gateway"] {
        cluster.wait_until_serving(part);
    }
    let token = cluster.token();
    let listed = cluster.call(cluster.store, &format!("{STORE}/ListRoles"), Some(&token), "{}");
    assert!(listed.stdout.contains("CountersignAdministrator"), "{}", listed.stderr);
    let question = json!({
        "principal_arn": format!("arn:aws:iam::{ACCOUNT}:role/CountersignAdministrator"),
        "action": "s3:GetObject",
        "resource": "arn:aws:s3:::bucket/a",
        "resource_account": ACCOUNT,
    });
    let authorize = format!("{DECISION}/Authorize");
    let decided = cluster.call(cluster.decision, &authorize, Some(&token), &question.to_string());
    assert!(decided.stdout.contains("DECISION_ALLOW"), "{}", decided.stderr);

    // Who shows no certificate and no token is nobody; and what is a service's alone is no session's.
    let keys = format!("{STORE}/ListSigningKeys");
    let nobody = cluster.call(cluster.store, &keys, None, "{}");
    assert!(nobody.stderr.contains("Unauthenticated"), "{}", nobody.stderr);
    let mut plain = Command::new(venv("grpcurl"));
    plain.args(["-plaintext", "-max-time", "2", &format!("127.0.0.1:{}", cluster.store), "list"]);
    assert!(!run(&mut plain, "").status.success());

    every_metric_that_is_written_of_is_there(&cluster);

    // New certificates, and nobody is started anew.
    cluster.certify();
    thread::sleep(Duration::from_secs(5));
    assert!(!cluster.token().is_empty());
    let log = fs::read_to_string(cluster.path("gateway.log")).expect("there is a log");
    assert!(log.contains("the certificates were read again"), "{log}");

    for process in [&mut gateway, &mut decision, &mut store] {
        assert_eq!(terminate(process), Some(0));
    }
    let root = fs::read_to_string(cluster.path("data/root-credentials.json")).expect("it is there");
    let root: Value = serde_json::from_str(&root).expect("it is JSON");
    let secret = root["SecretAccessKey"].as_str().expect("there is a secret");
    for part in ["policy-store", "decision", "gateway"] {
        let log = fs::read_to_string(cluster.path(&format!("{part}.log"))).expect("there is a log");
        assert!(!log.contains(secret) && !log.contains(&token), "{part}");
    }
}

/// The names that TELEMETRY.md, the dashboard and the alerts speak of are those of the pages, and TELEMETRY.md leaves none out.
fn every_metric_that_is_written_of_is_there(cluster: &Cluster) {
    let mut there = BTreeSet::new();
    for port in cluster.health {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").expect("it is read");
        let mut page = String::new();
        stream.read_to_string(&mut page).expect("it is text");
        assert!(page.trim_end().ends_with("# EOF"), "{page}");
        there.extend(names(&page));
    }
    for file in
        ["deploy/TELEMETRY.md", "deploy/dashboards/grafana.json", "deploy/dashboards/alerts.yaml"]
    {
        let text = fs::read_to_string(repository().join(file)).expect("it is there");
        let written = names(&text);
        assert!(written.len() > 5, "{file}: {written:?}");
        let unknown: Vec<&String> = written.difference(&there).collect();
        assert!(unknown.is_empty(), "{file} speaks of {unknown:?}; there are {there:?}");
        if file.ends_with(".md") {
            let untold: Vec<&String> = there.difference(&written).collect();
            assert!(untold.is_empty(), "{file} does not speak of {untold:?}");
        }
    }
}

/// Of metrics, without what each kind adds.
fn names(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let own = words.filter(|word| word.starts_with("countersign_") && word.len() > 12);
    own.map(|name| {
        let endings = ["_total", "_bucket", "_sum", "_count"];
        endings
            .iter()
            .fold(name, |name, ending| name.strip_suffix(ending).unwrap_or(name))
            .to_owned()
    })
    .collect()
}

#[test]
fn what_a_program_does_not_start_with_is_said() {
    let cluster = Cluster::new();
    let tls = |name: &str| cluster.path("tls").join(name).display().to_string();
    let check = |part: &str, change: &[(&'static str, String)], status: i32, expected: &str| {
        let mut settings = cluster.settings(part);
        settings.retain(|(key, _)| change.iter().all(|(changed, _)| changed != key));
        settings.extend(change.iter().filter(|(_, value)| !value.is_empty()).cloned());
        let mut command = cluster.program(part, &settings);
        let finished = run(command.arg("--check-config"), "");
        assert_eq!(finished.status.code(), Some(status), "{change:?}: {}", finished.stderr);
        let said = format!("{}{}", finished.stdout, finished.stderr);
        assert!(said.contains(expected), "{change:?}: {said}");
        // Nothing was opened.
        assert!(!Path::new(&cluster.path("data")).exists());
    };
    let one = |key: &'static str, value: &str| [(key, value.to_owned())];
    for part in ["policy-store", "decision", "gateway"] {
        check(part, &[], 0, "are good");
        check(part, &one("colour", "red"), 2, "has `colour`, which is no setting");
        check(part, &one("isuer", "x"), 2, "did you mean `issuer`?");
        check(part, &one("issuer", ""), 2, "`issuer` is not set: give --issuer");
        check(part, &one("listen", "here"), 2, "`listen` in");
        check(part, &one("trust_domain", "Example"), 2, "is no trust domain");
        check(part, &one("trust_domain", "example.com"), 3, "spiffe://example.com/countersign");
        check(part, &one("tls_key", &tls("policy-store/ca.crt")), 3, "no private key");
        check(part, &one("tls_certificate", "/nowhere"), 3, "cannot read `/nowhere`");
    }
    check(
        "decision",
        &one("tls_key", &tls("gateway/tls.key")),
        3,
        "is not the one of the certificate",
    );
    check("decision", &one("policy_store", "http://10.0.0.1:1"), 2, "in clear");
    check("decision", &one("max_staleness", "2"), 2, "give at least 3");
    check("gateway", &one("decision", "decision:7402"), 2, "is no address of a service");
    check("gateway", &one("issuer", "https://x/"), 2, "must be an http or https origin");
    check("policy-store", &one("account", "12"), 2, "`account` in");
    check("policy-store", &one("etcd_user", "ann"), 2, "belong together");
    check("policy-store", &one("etcd_ca", "/x"), 2, "`etcd-` are for");

    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    let address = taken.local_addr().expect("it has an address").to_string();
    let mut command = cluster.program("decision", &cluster.settings("decision"));
    let finished = run(command.args(["--listen", &address]), "");
    assert_eq!(finished.status.code(), Some(4), "{}", finished.stderr);
    assert!(finished.stderr.contains(&address), "{}", finished.stderr);
}

#[test]
fn up_speaks_tls_with_an_authority_of_its_own() {
    let system = Countersign::up(&["--tls", "--tls-name", "tokens.example.org"]);
    let call = |trust: &[&str], address: &str| {
        let mut command = Command::new(venv("grpcurl"));
        command.args(trust).args(["-max-time", "5", "-expand-headers"]);
        command.args(["-H", "authorization: Bearer ${TOKEN}"]).env("TOKEN", system.admin_token());
        run(command.arg(address).arg(format!("{STORE}/ListRoles")), "")
    };
    let address = system.endpoint("policy_store").strip_prefix("https://").expect("TLS");
    let ca = system.data_dir().join("tls/ca.crt").display().to_string();
    let listed = call(&["-cacert", &ca], address);
    assert!(listed.stdout.contains("CountersignAdministrator"), "{}", listed.stderr);
    let named = ["-cacert", &ca, "-authority", "tokens.example.org"];
    assert!(call(&named, address).status.success());
    for refused in [&["-plaintext"][..], &["-cacert", &ca, "-authority", "other.example.org"]] {
        assert!(!call(refused, address).status.success(), "{refused:?}");
    }
    assert!(system.issuer().starts_with("https://"));
}
