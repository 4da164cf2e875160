//! Whoever can set an environment variable must not thereby answer for STS.

use std::{io::ErrorKind, net::TcpListener, process::Command};

use crate::{
    proofs::{Workload, request},
    system::System,
};

const INNER: &str = "COUNTERSIGN_TEST_PROXIED";

/// What the other test runs, in an environment of its own.
#[tokio::test]
async fn an_exchange_of_its_own() {
    if std::env::var_os(INNER).is_none() {
        return;
    }
    let system = System::start().await;
    system.ready().await;
    let external = Workload::external(&system.gateway.issuer, &system.sts.origin);
    system.exchange(external.sign(request())).await.unwrap();
    assert_eq!(system.sts.asked(), 1);
}

// ATTACKS 9.
#[test]
fn no_proxy_is_read_from_the_environment() {
    let trap = TcpListener::bind("127.0.0.1:0").unwrap();
    trap.set_nonblocking(true).unwrap();
    let proxy = format!("http://{}", trap.local_addr().unwrap());
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "proxied::an_exchange_of_its_own"]).env(INNER, "1");
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
        child.env(name, &proxy).env(name.to_lowercase(), &proxy);
    }
    let output = child.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
    assert_eq!(trap.accept().unwrap_err().kind(), ErrorKind::WouldBlock, "the proxy was asked");
}
