//! FAULTS.md F24, by the programs at their most talkative: no secret is in what they log, count, write down, or answer; and a crash leaves
//! no memory behind.

use std::{
    fs,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use countersign_e2e::{
    program::{Running, run},
    system::{ACCOUNT, binary},
};
use serde_json::{Value, json};

use crate::cluster::{Cluster, DECISION, GATEWAY, PARTS, STORE, page, terminate};

/// What is searched, by where it is from; and what is searched for.
struct Search<'a> {
    cluster: &'a Cluster,
    texts: Vec<(String, Vec<u8>)>,
    secrets: Vec<(&'static str, Vec<u8>)>,
}

impl Search<'_> {
    fn secret(&mut self, what: &'static str, secret: impl Into<Vec<u8>>) {
        let secret = secret.into();
        assert!(secret.len() >= 16, "{what} is too short to be searched for");
        self.secrets.push((what, secret));
    }

    /// What was answered, or refused, in words: kept to be searched.
    fn call(&mut self, port: u16, method: &str, token: Option<&str>, request: &str) -> Value {
        let finished = self.cluster.call(port, method, token, request);
        self.texts.push((format!("the refusal of {method}"), finished.stderr.into()));
        serde_json::from_str(&finished.stdout).unwrap_or_default()
    }

    fn proof(&mut self, credentials: &Path, audience: &str) -> String {
        let role = format!("arn:aws:iam::{ACCOUNT}:role/CountersignAdministrator");
        let mut command = Command::new(binary());
        command.args(["proof", "--role-session-name", "me", "--audience", audience]);
        command.args(["--role-arn", &role, "--issuer", &self.cluster.issuer(), "--credentials"]);
        let proof = run(command.arg(credentials), "");
        assert!(proof.status.success(), "{}", proof.stderr);
        let json: Value = serde_json::from_str(&proof.stdout).expect("proof prints JSON");
        self.secret("a proof", text(&json["subject_token"]));
        proof.stdout
    }

    fn files(&mut self, folder: &Path, leave_out: &[&str]) {
        for entry in fs::read_dir(folder).expect("it can be listed") {
            let path = entry.expect("it can be listed").path();
            let name = path.file_name().expect("it has a name").to_string_lossy().into_owned();
            if leave_out.contains(&name.as_str()) {
                continue;
            }
            if path.is_dir() {
                self.files(&path, leave_out);
            } else {
                self.texts.push((path.display().to_string(), fs::read(&path).expect("a file")));
            }
        }
    }

    /// The names of secrets, and of where they are.
    fn found(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (place, text) in &self.texts {
            for (what, secret) in &self.secrets {
                if text.windows(secret.len()).any(|window| window == secret) {
                    found.push(format!("{what} is in {place}"));
                }
            }
        }
        found
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}

/// Each line that is long enough to be a secret of a PEM file.
fn lines_of(path: PathBuf) -> Vec<String> {
    let pem = fs::read_to_string(path).expect("a key");
    let lines = pem.lines().filter(|line| !line.starts_with('-') && line.len() >= 16);
    lines.map(str::to_owned).collect()
}

#[test]
fn no_secret_is_logged_counted_written_down_or_answered() {
    let cluster = Cluster::new();
    let path = |name: &str| cluster.path(name).display().to_string();
    let more = |part: &str| {
        let log = ("log", "trace".to_owned());
        match part {
            "gateway" => vec![log, ("audit_dir", path("exchanges"))],
            "decision" => vec![log, ("decision_log", path("decisions.jsonl"))],
            _ => vec![log],
        }
    };
    let mut running: Vec<Running> =
        PARTS.iter().map(|part| cluster.start_with(part, &more(part))).collect();
    for part in PARTS {
        cluster.wait_until_ready(part);
    }
    let root = cluster.path("data/root-credentials.json");
    let mut search = Search { cluster: &cluster, texts: Vec::new(), secrets: Vec::new() };
    let credentials = fs::read_to_string(&root).expect("it is there");
    let credentials: Value = serde_json::from_str(&credentials).expect("it is JSON");
    search.secret("the root's secret", text(&credentials["SecretAccessKey"]));
    search.secret("the sealing key", fs::read(cluster.path("data/sealing.key")).expect("a key"));
    for part in PARTS {
        for line in lines_of(cluster.path("tls").join(part).join("tls.key")) {
            search.secret("a certificate's key", line);
        }
    }

    // An exchange, used and shown where it does not belong; one that is refused; a token that is none.
    let exchange = format!("{GATEWAY}/Exchange");
    let proof = search.proof(&root, "countersign");
    let granted = search.call(cluster.gateway, &exchange, None, &proof);
    let token = text(&granted["accessToken"]);
    search.secret("a token", token.as_str());
    search.secret("a token's signature", token.rsplit('.').next().expect("it has one"));
    let replayed = search.call(cluster.gateway, &exchange, None, &proof);
    assert_eq!(replayed, Value::Null);
    let other = search.proof(&root, "orders");
    let other = search.call(cluster.gateway, &exchange, None, &other);
    let other = text(&other["accessToken"]);
    search.secret("another token", other.as_str());
    let broken = format!("{token}A");
    for bearer in [&token, &other, &broken] {
        search.call(cluster.store, &format!("{STORE}/ListRoles"), Some(bearer), "{}");
        let question = json!({
            "token": other, "audience": "orders", "action": "s3:GetObject",
            "resource": "arn:aws:s3:::b/k", "resource_account": ACCOUNT,
        });
        let question = question.to_string();
        search.call(cluster.decision, &format!("{DECISION}/Authorize"), Some(bearer), &question);
        search.call(cluster.decision, &format!("{DECISION}/Explain"), Some(bearer), &question);
        search.call(cluster.gateway, &format!("{GATEWAY}/GetJwks"), Some(bearer), "{}");
    }
    // An access key: shown once, and never again.
    let user = json!({"user_name": "ann"}).to_string();
    search.call(cluster.store, &format!("{STORE}/CreateUser"), Some(&token), &user);
    let key = search.call(cluster.store, &format!("{STORE}/CreateAccessKey"), Some(&token), &user);
    search.secret("an access key's secret", text(&key["accessKey"]["secretAccessKey"]));
    for method in ["ListAccessKeys", "GetUser", "LookupEvents"] {
        let answer = search.call(cluster.store, &format!("{STORE}/{method}"), Some(&token), "{}");
        search.texts.push((format!("the answer of {method}"), answer.to_string().into()));
    }

    for (part, port) in PARTS.iter().zip(cluster.health) {
        let page = page(port, "/metrics").expect("it is text");
        search.texts.push((format!("the metrics of {part}"), page.into()));
    }
    for process in &mut running {
        assert_eq!(terminate(process), Some(0));
    }
    for part in PARTS {
        let log = fs::read(cluster.path(&format!("{part}.log"))).expect("there is a log");
        assert!(log.len() > 1_000, "{part} logs little");
        search.texts.push((format!("the log of {part}"), log));
    }
    search.files(&cluster.path("data"), &["sealing.key", "root-credentials.json"]);
    search.files(&cluster.path("exchanges"), &[]);
    search.texts.push((
        "the decision log".to_owned(),
        fs::read(cluster.path("decisions.jsonl")).expect("there is a decision log"),
    ));
    let bytes: usize = search.texts.iter().map(|(_, text)| text.len()).sum();
    let found = search.found();
    println!(
        "F24: {} secrets searched for in {} logs, pages, trails and answers ({bytes} bytes): {} found",
        search.secrets.len(),
        search.texts.len(),
        found.len()
    );
    assert_eq!(found, Vec::<String>::new());
}

/// A core file would have every key and token.
#[test]
fn a_crash_leaves_no_core_file() {
    let cluster = Cluster::new();
    // With nothing in the way of core files but the program itself.
    let crash = |command: &Command| {
        let mut unlimited = Command::new("sh");
        unlimited.args(["-c", "ulimit -c unlimited; exec \"$@\"", "sh"]);
        unlimited.arg(command.get_program()).args(command.get_args());
        let folder = cluster.path("crash");
        fs::create_dir_all(&folder).expect("a folder can be made");
        unlimited.current_dir(&folder).stdin(Stdio::null()).stdout(Stdio::null());
        Running(unlimited.stderr(Stdio::null()).spawn().expect("it starts"))
    };
    let end = |process: &mut Running| {
        let id = process.0.id().to_string();
        assert!(run(Command::new("kill").args(["-ABRT", &id]), "").status.success());
        process.0.wait().expect("it ends")
    };
    let mut sleeping = Command::new("sleep");
    let mut other = crash(sleeping.arg("60"));
    std::thread::sleep(std::time::Duration::from_millis(200));
    let leaves_one = end(&mut other).core_dumped();
    for part in PARTS {
        let mut process = crash(&cluster.program(part, &cluster.settings(part)));
        let place = PARTS.iter().position(|name| *name == part).expect("it is a part");
        while page(cluster.health[place], "/livez").is_err() {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let ended = end(&mut process);
        assert_eq!((ended.signal(), ended.core_dumped()), (Some(6), false), "{part}");
    }
    let files = fs::read_dir(cluster.path("crash")).expect("it can be listed").count();
    println!(
        "F24: three programs crashed: 0 core files (another program leaves one here: {leaves_one}, {files} files)"
    );
}
