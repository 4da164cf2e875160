//! An etcd that refuses: the policy store's image says which and why, and ends with an exit status of its own.

use std::process::Command;

use countersign_e2e::program::run;

use crate::cluster::ACCOUNT;

/// One more policy store in the cluster's network, with these settings for etcd.
fn started(etcd: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new("docker");
    command.args(["run", "--rm", "--network", "countersign_cluster", "--read-only", "--tmpfs"]);
    command.arg("/data:uid=65532,mode=0700");
    for volume in ["policy-store-tls:/tls", "secrets:/secrets", "etcd-client-tls:/etcd-tls"] {
        command.args(["-v", &format!("countersign_{volume}:ro")]);
    }
    let tag = std::env::var("COUNTERSIGN_TAG").unwrap_or_else(|_| "dev".to_owned());
    command.arg(format!("countersign-policy-store:{tag}"));
    command.args(["--listen", "0.0.0.0:7401", "--data-dir", "/data"]);
    command.args(["--account", ACCOUNT]);
    command.args(["--issuer", "https://gateway:7400", "--secrets-dir", "/secrets"]);
    command.args(["--trust-domain", "countersign.internal", "--tls-ca", "/tls/ca.crt"]);
    command.args(["--tls-certificate", "/tls/tls.crt", "--tls-key", "/tls/tls.key"]);
    let finished = run(command.args(etcd), "");
    (finished.status.code(), finished.stderr)
}

#[test]
fn an_etcd_that_refuses_is_said() {
    let client = ["--etcd-cert", "/etcd-tls/tls.crt", "--etcd-key", "/etcd-tls/tls.key"];
    let services = ["--etcd-cert", "/tls/tls.crt", "--etcd-key", "/tls/tls.key"];
    let check = |store: &str, more: &[&str], expected: &str| {
        let (ended, said) = started(&[&["--store", store], more].concat());
        assert_eq!(ended, Some(5), "{store}: {said}");
        assert!(said.contains(expected), "{store}: {said}");
        println!("{store}: {}", said.lines().last().unwrap_or_default());
    };
    let ca = ["--etcd-ca", "/etcd-tls/ca.crt"];
    // Nobody is there; a certificate of another authority is shown; etcd's own is not believed.
    check("etcd:https://etcd-1:2399", &[&ca[..], &client].concat(), "2399");
    check("etcd:https://etcd-1:2379", &[&ca[..], &services].concat(), "certificate");
    let own = ["--etcd-ca", "/tls/ca.crt"];
    check("etcd:https://etcd-1:2379", &[&own[..], &client].concat(), "certificate");
}
