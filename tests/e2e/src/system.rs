//! `countersign up`, the real binary, on free ports with its data in a temporary folder.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::program::Running;

/// From the start of the process to `endpoints.json`, which `up` writes last.
const PATIENCE: Duration = Duration::from_secs(60);

/// The local account of every journey: the default.
pub const ACCOUNT: &str = "000000000000";

/// A running `countersign up`; dropped, it is ended.
pub struct Countersign {
    // The process ends before its folder does.
    process: Running,
    folder: TempDir,
    endpoints: Value,
}

impl Countersign {
    /// Starts it with `options` beside the free ports, and waits until it serves.
    ///
    /// # Panics
    /// When it does not serve in time; its log is shown.
    #[must_use]
    pub fn up(options: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let data_dir = folder.path().join("data");
        let log = |name: &str| File::create(folder.path().join(name)).expect("a file can be made");
        let mut command = Command::new(binary());
        command.arg("up").arg("--data-dir").arg(&data_dir);
        for port in ["--policy-store-port", "--decision-port", "--gateway-port", "--http-port"] {
            command.args([port, "0"]);
        }
        command.args(options).stdin(Stdio::null()).stdout(log("stdout")).stderr(log("stderr"));
        let mut process = Running(command.spawn().expect("the binary starts"));
        let started = Instant::now();
        let endpoints = loop {
            if let Some(endpoints) = read_endpoints(&data_dir) {
                break endpoints;
            }
            let ended = process.0.try_wait().expect("it can be waited for");
            if ended.is_some() || started.elapsed() > PATIENCE {
                panic!("countersign up does not serve ({ended:?}):\n{}", read_log(folder.path()));
            }
            thread::sleep(Duration::from_millis(20));
        };
        Self { process, folder, endpoints }
    }

    /// Kills it (-9). Its data stay.
    ///
    /// # Panics
    /// When it cannot be killed.
    pub fn kill(&mut self) {
        self.process.0.kill().expect("it can be killed");
        self.process.0.wait().expect("it can be waited for");
    }

    /// Its data folder.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// A place for a test's own files, gone with the system.
    #[must_use]
    pub fn scratch(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `http://…` of `policy_store`, `decision`, `gateway` or `http`.
    ///
    /// # Panics
    /// When `endpoints.json` has no such member.
    #[must_use]
    pub fn endpoint(&self, name: &str) -> &str {
        self.endpoints
            .get(name)
            .and_then(Value::as_str)
            .unwrap_or_else(|| panic!("no `{name}` in endpoints.json"))
    }

    /// The gateway's name, which proofs are made for: by default its HTTP address.
    #[must_use]
    pub fn issuer(&self) -> &str {
        self.endpoint("http")
    }

    /// What `up` keeps in `admin.token`.
    ///
    /// # Panics
    /// When the file is not there.
    #[must_use]
    pub fn admin_token(&self) -> String {
        let path = self.data_dir().join("admin.token");
        fs::read_to_string(path).expect("up has written admin.token").trim().to_owned()
    }

    /// The file of the root's access key, in the form of `credential_process`.
    #[must_use]
    pub fn root_credentials(&self) -> PathBuf {
        self.data_dir().join("root-credentials.json")
    }

    /// All that it has printed and logged.
    #[must_use]
    pub fn log(&self) -> String {
        read_log(self.folder.path())
    }
}

/// The binary of the build that this test is of: `target/debug/countersign` beside `target/debug/deps/…`.
///
/// # Panics
/// When it was not built.
#[must_use]
pub fn binary() -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its file");
    let folder = test.parent().and_then(Path::parent).expect("a test is in target/debug/deps");
    let binary = folder.join("countersign");
    assert!(binary.exists(), "there is no {}: run tests/run build", binary.display());
    binary
}

fn read_endpoints(data_dir: &Path) -> Option<Value> {
    let text = fs::read_to_string(data_dir.join("endpoints.json")).ok()?;
    serde_json::from_str(&text).ok()
}

fn read_log(folder: &Path) -> String {
    let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap_or_default();
    format!("{}\n{}", read("stdout"), read("stderr"))
}
