//! `/livez`, `/readyz` and `/metrics`, for those who look after processes and speak HTTP alone. Nothing else is answered on this port, and nothing of
//! what it says is secret, so it is in clear.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};

use crate::{Shutdown, telemetry::Metrics};

use super::probe::Probe;

/// A request is a line and some headers.
const MAX_REQUEST_BYTES: usize = 8192;
/// From the first byte to the last.
const DEADLINE: Duration = Duration::from_secs(5);
/// What prometheus-client writes.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// More wait.
const AT_ONCE: usize = 16;

/// What is said of the process.
#[derive(Clone)]
pub struct Said {
    /// Asks whether it serves.
    pub probe: Probe,
    /// What it counts.
    pub metrics: Metrics,
}

/// Answers until the process ends.
pub async fn serve(listener: TcpListener, said: Said, shutdown: Shutdown) {
    let permits = std::sync::Arc::new(Semaphore::new(AT_ONCE));
    loop {
        let Ok(permit) = permits.clone().acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let (said, shutdown) = (said.clone(), shutdown.clone());
        tokio::spawn(async move {
            // Who goes away, or is slow, hears nothing.
            let _ = tokio::time::timeout(DEADLINE, answer(stream, &said, &shutdown)).await;
            drop(permit);
        });
    }
}

async fn answer(mut stream: TcpStream, said: &Said, shutdown: &Shutdown) -> io::Result<()> {
    let mut request = Vec::new();
    while !request.windows(4).any(|window| window == b"\r\n\r\n") {
        if request.len() > MAX_REQUEST_BYTES || stream.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    let line = request.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let (status, body) = match line {
        b"GET /livez HTTP/1.1" | b"GET /livez HTTP/1.0" => ("200 OK", "ok".to_owned()),
        b"GET /readyz HTTP/1.1" | b"GET /readyz HTTP/1.0" => {
            match ready(&said.probe, shutdown).await {
                Ok(()) => ("200 OK", "ok".to_owned()),
                Err(why) => ("503 Service Unavailable", why),
            }
        }
        b"GET /metrics HTTP/1.1" | b"GET /metrics HTTP/1.0" => ("200 OK", said.metrics.page()),
        _ => ("404 Not Found", "there are /livez, /readyz and /metrics".to_owned()),
    };
    let kind = if body.starts_with('#') { OPEN_METRICS } else { "text/plain; charset=utf-8" };
    let body = body.trim_end();
    let length = body.len() + 1;
    let answer = format!(
        "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}\n"
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}

async fn ready(probe: &Probe, shutdown: &Shutdown) -> Result<(), String> {
    if shutdown.is_announced() {
        return Err("the process is ending".to_owned());
    }
    probe.ask(Duration::from_secs(1)).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shutdown;

    #[tokio::test]
    async fn two_words_and_nothing_else() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        // Nobody is there who could be ready.
        let probe = Probe::plain("127.0.0.1:9".parse().unwrap(), "x");
        let (_trigger, shutdown) = shutdown::channel();
        let metrics = Metrics::default();
        metrics.read_gauge("answer", "The answer", || Some(42.0));
        let serving = tokio::spawn(serve(listener, Said { probe, metrics }, shutdown));
        let check = async |request: &str, expected: &str| {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            assert!(answer.contains(expected), "{request}: {answer}");
        };
        check("GET /livez HTTP/1.1\r\nhost: x\r\n\r\n", "HTTP/1.1 200 OK").await;
        check("GET /readyz HTTP/1.1\r\nhost: x\r\n\r\n", "HTTP/1.1 503 ").await;
        check("GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n", "countersign_answer 42").await;
        check("GET /nothing HTTP/1.1\r\nhost: x\r\n\r\n", "HTTP/1.1 404 ").await;
        check("POST /livez HTTP/1.1\r\nhost: x\r\n\r\n", "HTTP/1.1 404 ").await;
        serving.abort();
    }
}
