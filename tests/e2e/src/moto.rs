//! A real moto server: an STS of somebody else, which checks signatures.

use std::{
    fs::{self, File},
    net::TcpStream,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::program::{Running, free_port, python, venv};

/// moto's own account, which is external to Countersign.
pub const ACCOUNT: &str = "123456789012";
/// Where moto stands.
pub const REGION: &str = "us-east-1";
/// It imports much.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running moto server; dropped, it is ended.
pub struct Moto {
    _process: Running,
    _folder: TempDir,
    url: String,
    world: Value,
}

impl Moto {
    /// Starts it, makes a user with an access key and a session of a role, then turns the checking of signatures on.
    ///
    /// # Panics
    /// When it does not come up in time.
    #[must_use]
    pub fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let log = folder.path().join("log");
        let output = File::create(&log).expect("a file can be made");
        let port = free_port();
        let mut command = Command::new(venv("moto_server"));
        // So many calls are let through unchecked: those that make the first key.
        command.env("INITIAL_NO_AUTH_ACTION_COUNT", "100").args([
            "-H",
            "127.0.0.1",
            "-p",
            &port.to_string(),
        ]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(output);
        let mut process = Running(command.spawn().expect("moto starts"));
        let started = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let ended = process.0.try_wait().expect("it can be waited for");
            if ended.is_some() || started.elapsed() > PATIENCE {
                panic!(
                    "moto does not serve ({ended:?}):\n{}",
                    fs::read_to_string(&log).unwrap_or_default()
                );
            }
            thread::sleep(Duration::from_millis(50));
        }
        let url = format!("http://127.0.0.1:{port}/");
        let world = python("moto_world.py", &json!({"url": url, "region": REGION}));
        let world = world.unwrap_or_else(|error| panic!("{error}"));
        Self { _process: process, _folder: folder, url, world }
    }

    /// Its address, with a slash at the end.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// As `countersign up` is told of it.
    #[must_use]
    pub fn sts_endpoint(&self) -> String {
        format!("{REGION}={};accounts={ACCOUNT}", self.url)
    }

    /// The ARN of `user`, or of the role that `session` is of.
    ///
    /// # Panics
    /// When there is no such principal.
    #[must_use]
    pub fn arn(&self, principal: &str) -> &str {
        self.world[principal]["arn"].as_str().unwrap_or_else(|| panic!("no `{principal}`"))
    }

    /// Credentials of `user` or `session`.
    #[must_use]
    pub fn credentials(&self, principal: &str) -> Value {
        self.world[principal]["credentials"].clone()
    }
}
