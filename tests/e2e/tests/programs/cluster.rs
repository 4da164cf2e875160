//! The three programs on free ports, with certificates and settings in files.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    net::TcpStream,
    path::PathBuf,
    process::{Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use countersign_e2e::{
    program::{Finished, Running, free_port, run, venv},
    system::{ACCOUNT, binary},
};
use countersign_serve::{
    dial::{Trust, channel},
    tls::trusting,
};
use serde_json::Value;
use tonic::{Request, transport::Channel};

/// In the order of [`Cluster::health`].
pub const PARTS: [&str; 3] = ["policy-store", "decision", "gateway"];
pub const DOMAIN: &str = "example.org";
pub const STORE: &str = "countersign.policy.v1.PolicyStoreService";
pub const DECISION: &str = "countersign.decision.v1.DecisionService";
pub const GATEWAY: &str = "countersign.token.v1.TokenExchangeService";
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Certificates, and a port for everything.
pub struct Cluster {
    folder: tempfile::TempDir,
    pub store: u16,
    pub decision: u16,
    pub gateway: u16,
    pub http: u16,
    /// Of policy store, decision service and gateway.
    pub health: [u16; 3],
}

impl Cluster {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let [store, decision, gateway, http] = std::array::from_fn(|_| free_port());
        let health = std::array::from_fn(|_| free_port());
        let cluster = Self { folder, store, decision, gateway, http, health };
        cluster.certify();
        cluster
    }

    pub fn certify(&self) {
        let mut command = Command::new(binary());
        command.args(["certificates", "--trust-domain", DOMAIN, "--out"]).arg(self.path("tls"));
        for part in ["policy-store", "decision", "gateway"] {
            command.args(["--part", &format!("{part}=localhost,127.0.0.1")]);
        }
        assert!(run(&mut command, "").status.success());
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn issuer(&self) -> String {
        format!("https://localhost:{}", self.http)
    }

    /// Settings that are good.
    pub fn settings(&self, part: &str) -> Vec<(&'static str, String)> {
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
            ("reflection", "true".to_owned()),
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
    pub fn program(&self, part: &str, settings: &[(&str, String)]) -> Command {
        let program = binary().with_file_name(format!("countersign-{part}"));
        assert!(program.exists(), "there is no {}: run tests/run build", program.display());
        let file = self.path(&format!("{part}.toml"));
        // A switch is no text.
        let line = |(key, value): &(&str, String)| match value.as_str() {
            "true" | "false" => format!("{key} = {value}\n"),
            text => format!("{key} = {text:?}\n"),
        };
        let lines: Vec<String> = settings.iter().map(line).collect();
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

    pub fn start(&self, part: &str) -> Running {
        self.start_with(part, &[])
    }

    /// With more settings than the good ones.
    pub fn start_with(&self, part: &str, more: &[(&'static str, String)]) -> Running {
        let log = File::create(self.path(&format!("{part}.log"))).expect("a file can be made");
        let settings = [self.settings(part), more.to_vec()].concat();
        let mut command = self.program(part, &settings);
        let started = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        Running(started.expect("the program starts"))
    }

    pub fn wait_until_serving(&self, part: &str) {
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

    pub fn call(&self, part: u16, method: &str, token: Option<&str>, request: &str) -> Finished {
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
    pub fn token(&self) -> String {
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

pub fn terminate(process: &mut Running) -> Option<i32> {
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

impl Cluster {
    /// Kills the process, without a word to it.
    pub fn kill(process: &mut Running) {
        process.0.kill().expect("it runs");
        process.0.wait().expect("it is ours");
    }

    /// Waits until `/readyz` of the part says that it is, as a balancer asks: every 2 ms.
    pub fn wait_until_ready(&self, part: &str) {
        let started = Instant::now();
        let place = PARTS.iter().position(|name| *name == part).expect("it is a part");
        while !page(self.health[place], "/readyz").is_ok_and(|page| page.contains(" 200 OK")) {
            let log = || fs::read_to_string(self.path(&format!("{part}.log"))).unwrap_or_default();
            assert!(started.elapsed() < PATIENCE, "{part} does not get ready: {}", log());
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// A channel to a part, as everybody else has one: with the authority alone.
    pub fn channel(&self, port: u16) -> Channel {
        let trust = trusting(&self.path("tls/ca.crt")).expect("there is an authority");
        let origin = format!("https://localhost:{port}");
        channel(&origin, Trust::Name(Arc::new(trust))).expect("it is an origin")
    }
}

/// What a page of a part's health port says, its head included.
pub fn page(port: u16, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes())?;
    let mut page = String::new();
    stream.read_to_string(&mut page)?;
    Ok(page)
}

pub fn with_token<T>(message: T, token: &str) -> Request<T> {
    let mut request = Request::new(message);
    let bearer = format!("Bearer {token}").parse().expect("a token is ASCII");
    request.metadata_mut().insert("authorization", bearer);
    request
}
