//! What a program does not start with: each its own message and exit status, before it listens.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    path::Path,
};

use countersign_e2e::program::run;

use crate::cluster::{Cluster, DOMAIN, PARTS, terminate};

#[test]
fn what_a_program_does_not_start_with_is_said() {
    let cluster = Cluster::new();
    let tls = |name: &str| cluster.path("tls").join(name).display().to_string();
    let check = |part: &str, change: &[(&'static str, String)], status: i32, expected: &str| {
        let mut settings = cluster.settings(part);
        settings.retain(|(key, _)| change.iter().all(|(changed, _)| changed != key));
        settings.extend(change.iter().filter(|(_, value)| !value.is_empty()).cloned());
        let mut command = cluster.program(part, &settings);
        let finished = run(command.arg("--check-config"), "");
        assert_eq!(finished.status.code(), Some(status), "{change:?}: {}", finished.stderr);
        let said = format!("{}{}", finished.stdout, finished.stderr);
        assert!(said.contains(expected), "{change:?}: {said}");
        // Nothing was opened.
        assert!(!Path::new(&cluster.path("data")).exists());
    };
    let one = |key: &'static str, value: &str| [(key, value.to_owned())];
    for part in ["policy-store", "decision", "gateway"] {
        check(part, &[], 0, "are good");
        check(part, &one("colour", "red"), 2, "has `colour`, which is no setting");
        check(part, &one("isuer", "x"), 2, "did you mean `issuer`?");
        check(part, &one("issuer", ""), 2, "`issuer` is not set: give --issuer");
        check(part, &one("listen", "here"), 2, "`listen` in");
        check(part, &one("trust_domain", "Example"), 2, "is no trust domain");
        check(part, &one("trust_domain", "example.com"), 3, "spiffe://example.com/countersign");
        check(part, &one("tls_key", &tls("policy-store/ca.crt")), 3, "no private key");
        check(part, &one("tls_certificate", "/nowhere"), 3, "cannot read `/nowhere`");
        let other = if part == "gateway" { "decision" } else { "gateway" };
        let [key, certificate] = ["tls.key", "tls.crt"].map(|file| tls(&format!("{other}/{file}")));
        check(part, &one("tls_key", &key), 3, "is not the one of the certificate");
        // Good, and another service's.
        let whole = [("tls_key", key), ("tls_certificate", certificate)];
        check(part, &whole, 3, &format!("spiffe://{DOMAIN}/countersign/{part}"));
    }
    check("decision", &one("policy_store", "http://10.0.0.1:1"), 2, "in clear");
    check("decision", &one("max_staleness", "2"), 2, "give at least 3");
    check("gateway", &one("decision", "decision:7402"), 2, "is no address of a service");
    check("gateway", &one("issuer", "https://x/"), 2, "must be an http or https origin");
    check("policy-store", &one("account", "12"), 2, "`account` in");
    check("policy-store", &one("etcd_user", "ann"), 2, "belong together");
    check("policy-store", &one("etcd_ca", "/x"), 2, "`etcd-` are for");
}

#[test]
fn a_port_that_is_taken_is_said() {
    let cluster = Cluster::new();
    let taken = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    let address = taken.local_addr().expect("it has an address").to_string();
    let check = |part: &str, flag: &str| {
        let mut command = cluster.program(part, &cluster.settings(part));
        let finished = run(command.args([flag, &address]), "");
        assert_eq!(finished.status.code(), Some(4), "{part} {flag}: {}", finished.stderr);
        assert!(finished.stderr.contains(&address), "{part} {flag}: {}", finished.stderr);
        assert!(finished.stderr.contains("choose another port"), "{part}: {}", finished.stderr);
    };
    for part in PARTS {
        check(part, "--listen");
        check(part, "--health-listen");
    }
    check("gateway", "--http-listen");
}

/// Also what only the store knows is said before anybody can connect.
#[test]
fn a_store_that_cannot_be_opened_is_said_before_it_listens() {
    let cluster = Cluster::new();
    let mut store = cluster.start("policy-store");
    cluster.wait_until_ready("policy-store");
    assert_eq!(terminate(&mut store), Some(0));
    let check = |change: &dyn Fn(), mend: &dyn Fn(), expected: &str| {
        change();
        let mut refused = cluster.start("policy-store");
        let mut ended = None;
        while ended.is_none() {
            let connected = TcpStream::connect(("127.0.0.1", cluster.store));
            assert!(connected.is_err(), "it listens, and cannot serve");
            ended = refused.0.try_wait().expect("it can be waited for");
        }
        let log = fs::read_to_string(cluster.path("policy-store.log")).expect("there is a log");
        assert_eq!(ended.and_then(|status| status.code()), Some(5), "{log}");
        assert!(log.contains(expected), "{log}");
        mend();
    };
    let path = |name: &str| cluster.path("data").join(name);
    let moved = |from: &str, to: &str| fs::rename(path(from), path(to)).expect("it can be moved");
    check(
        &|| moved("sealing.key", "kept.key"),
        &|| moved("kept.key", "sealing.key"),
        "sealing.key",
    );
    check(
        &|| {
            moved("sealing.key", "kept.key");
            fs::write(path("sealing.key"), [7; 32]).expect("it can be written");
            let private = fs::Permissions::from_mode(0o600);
            fs::set_permissions(path("sealing.key"), private).expect("it is ours");
        },
        &|| moved("kept.key", "sealing.key"),
        "sealing key",
    );
    // It was not touched meanwhile.
    let _again = cluster.start("policy-store");
    cluster.wait_until_ready("policy-store");
}
