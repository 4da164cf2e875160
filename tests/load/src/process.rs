//! A server process: pinned to a core, watched, and ended with whoever holds it.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::{SocketAddr, TcpStream},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::{Failed, PATIENCE};

/// A process that runs.
pub struct Process {
    child: Child,
    pub address: SocketAddr,
    /// From its start until it said where it listens.
    pub started_in: Duration,
}

impl Process {
    /// Starts this program again, with other arguments, on one core (or on any).
    ///
    /// # Errors
    /// When it does not start, or ends before it listens.
    pub fn start(core: Option<usize>, arguments: &[&str]) -> Result<Self, Failed> {
        let program = std::env::current_exe().map_err(Failed::of("this program"))?;
        let mut command = match core {
            Some(core) => {
                let mut command = Command::new("taskset");
                command.args(["-c", &core.to_string()]).arg(program);
                command
            }
            None => Command::new(program),
        };
        let began = Instant::now();
        let mut child = command
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .map_err(Failed::of("a server process (is `taskset` there?)"))?;
        let mut line = String::new();
        if let Some(stdout) = child.stdout.take() {
            BufReader::new(stdout).read_line(&mut line).map_err(Failed::of("a server process"))?;
        }
        let Ok(address) = line.trim().parse() else {
            let _ = child.kill();
            let _ = child.wait();
            return Err(Failed::because("a server process ended before it listened"));
        };
        Ok(Self { child, address, started_in: began.elapsed() })
    }

    /// Starts another program, which says nothing and listens at `address` once it is ready.
    ///
    /// # Errors
    /// When it does not start, ends, or does not listen in time.
    pub fn listening(mut command: Command, address: SocketAddr) -> Result<Self, Failed> {
        let began = Instant::now();
        let child = command
            .stdout(Stdio::null())
            .spawn()
            .map_err(Failed::of("a program (is `taskset` there?)"))?;
        let mut own = Self { child, address, started_in: Duration::ZERO };
        while TcpStream::connect(address).is_err() {
            if own.child.try_wait().map_err(Failed::of("a program"))?.is_some() {
                return Err(Failed::because("a program ended before it listened"));
            }
            if began.elapsed() > PATIENCE {
                return Err(Failed::because("a program did not listen in time"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        own.started_in = began.elapsed();
        Ok(own)
    }

    /// The system's number of it.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The time that its threads have had on a core.
    #[must_use]
    pub fn cpu(&self) -> Duration {
        let threads = fs::read_dir(format!("/proc/{}/task", self.child.id()));
        let of_thread = |thread: fs::DirEntry| {
            let text = fs::read_to_string(thread.path().join("schedstat")).ok()?;
            text.split(' ').next()?.parse::<u64>().ok()
        };
        let nanoseconds = threads.into_iter().flatten().flatten().filter_map(of_thread).sum();
        Duration::from_nanos(nanoseconds)
    }

    /// Its resident memory in bytes: now, and at most.
    #[must_use]
    pub fn memory(&self) -> (u64, u64) {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.unwrap_or_default();
        let of = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let number = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
            number.unwrap_or_default() * 1024
        };
        (of("VmRSS:"), of("VmHWM:"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Puts this process on one core.
///
/// # Errors
/// When the machine does not have it.
pub fn pin(core: usize) -> Result<(), Failed> {
    let own = std::process::id().to_string();
    let pinned = Command::new("taskset")
        .args(["-a", "-c", "-p", &core.to_string(), &own])
        .stdout(Stdio::null())
        .status()
        .map_err(Failed::of("`taskset`"))?;
    if pinned.success() { Ok(()) } else { Err(Failed::because("`taskset` did not pin the client")) }
}
