//! Other programs: run to their end, or kept while a test needs them.

use std::{
    io::{Read, Write},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use serde_json::Value;

/// No program of these tests takes as long, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a program left.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// What it printed.
    pub stdout: String,
    /// What it complained of.
    pub stderr: String,
}

/// Runs `command` to its end with `input` on its standard input.
///
/// # Panics
/// When it does not start, or does not end in time.
#[must_use]
pub fn run(command: &mut Command, input: &str) -> Finished {
    let name = command.get_program().to_owned();
    let streams = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = streams.spawn().unwrap_or_else(|error| panic!("{}: {error}", name.display()));
    let stdout = read(child.stdout.take().expect("it is piped"));
    let stderr = read(child.stderr.take().expect("it is piped"));
    // A program that ends without reading its input breaks the pipe, and tells why by its exit status.
    let _ = child.stdin.take().expect("it is piped").write_all(input.as_bytes());
    let started = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("it can be waited for") {
            break status;
        }
        if started.elapsed() > PATIENCE {
            let _ = child.kill();
            panic!("{} did not end within {PATIENCE:?}", name.display());
        }
        thread::sleep(Duration::from_millis(5));
    };
    let text = |reader: JoinHandle<String>| reader.join().expect("it is UTF-8");
    Finished { status, stdout: text(stdout), stderr: text(stderr) }
}

fn read(mut stream: impl Read + Send + 'static) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("it is UTF-8");
        text
    })
}

/// A program that is ended when this is dropped.
#[derive(Debug)]
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The root of the repository.
#[must_use]
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A program of the virtual environment that tests/run makes.
///
/// # Panics
/// When it is not there.
#[must_use]
pub fn venv(name: &str) -> PathBuf {
    let program = repository().join("target/venv/bin").join(name);
    assert!(program.exists(), "there is no {}: run tests/run python", program.display());
    program
}

/// Runs a script of `py/` with `input`. What it prints is JSON: `Ok` if it ended well, `Err` if not.
///
/// # Panics
/// When it prints something else.
pub fn python(script: &str, input: &Value) -> Result<Value, Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("py").join(script);
    let mut command = Command::new(venv("python"));
    // No settings of the person who runs the tests, and no questions to an instance metadata service.
    for (name, _) in
        std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("AWS_"))
    {
        command.env_remove(name);
    }
    command.env("AWS_EC2_METADATA_DISABLED", "true").env("PYTHONDONTWRITEBYTECODE", "1").arg(path);
    let finished = run(&mut command, &input.to_string());
    let answer = serde_json::from_str(&finished.stdout).unwrap_or_else(|error| {
        panic!("{script}: {error}\n{}\n{}", finished.stdout, finished.stderr)
    });
    if finished.status.success() { Ok(answer) } else { Err(answer) }
}

/// A port that was free a moment ago, for programs that cannot take any free one by themselves.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("there is a free port");
    listener.local_addr().expect("it has an address").port()
}
