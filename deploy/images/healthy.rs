//! The health of an etcd, asked from inside its image, which has no shell: status 0 if `/health` says that it is well, else 1.
//!
//! It knows one address, and nothing of etcd but the first line of that answer.

use std::{
    io::{Error, Read, Write},
    net::TcpStream,
    process::ExitCode,
    time::Duration,
};

/// ETCD_LISTEN_METRICS_URLS of deploy/compose.
const ADDRESS: &str = "127.0.0.1:2381";
const PATIENCE: Duration = Duration::from_secs(4);

fn main() -> ExitCode {
    match ask() {
        Ok(answer) if answer.starts_with("HTTP/1.1 200 ") => ExitCode::SUCCESS,
        Ok(answer) => said(answer.lines().last().unwrap_or("nothing")),
        Err(error) => said(&error.to_string()),
    }
}

fn said(what: &str) -> ExitCode {
    eprintln!("etcd at {ADDRESS}: {what}");
    ExitCode::FAILURE
}

fn ask() -> Result<String, Error> {
    let mut stream = TcpStream::connect(ADDRESS)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
