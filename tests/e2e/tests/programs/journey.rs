//! A journey by TLS alone, and what the pages say afterwards.

use std::{collections::BTreeSet, fs, process::Command, thread, time::Duration};

use countersign_e2e::{
    program::{repository, run, venv},
    system::{ACCOUNT, Countersign},
};
use serde_json::json;

use crate::cluster::{Cluster, DECISION, STORE, page, terminate};

#[test]
fn three_programs_know_each_other_by_certificates() {
    let cluster = Cluster::new();
    // In an order that makes the later ones wait.
    let mut gateway = cluster.start("gateway");
    let mut decision = cluster.start("decision");
    let mut store = cluster.start("policy-store");
    for part in ["policy-store", "decision", "gateway"] {
        cluster.wait_until_serving(part);
    }
    let token = cluster.token();
    let listed = cluster.call(cluster.store, &format!("{STORE}/ListRoles"), Some(&token), "{}");
    assert!(listed.stdout.contains("CountersignAdministrator"), "{}", listed.stderr);
    let question = json!({
        "principal_arn": format!("arn:aws:iam::{ACCOUNT}:role/CountersignAdministrator"),
        "action": "s3:GetObject",
        "resource": "arn:aws:s3:::bucket/a",
        "resource_account": ACCOUNT,
    });
    let authorize = format!("{DECISION}/Authorize");
    let decided = cluster.call(cluster.decision, &authorize, Some(&token), &question.to_string());
    assert!(decided.stdout.contains("DECISION_ALLOW"), "{}", decided.stderr);

    // Who shows no certificate and no token is nobody; and what is a service's alone is no session's.
    let keys = format!("{STORE}/ListSigningKeys");
    let nobody = cluster.call(cluster.store, &keys, None, "{}");
    assert!(nobody.stderr.contains("Unauthenticated"), "{}", nobody.stderr);
    let mut plain = Command::new(venv("grpcurl"));
    plain.args(["-plaintext", "-max-time", "2", &format!("127.0.0.1:{}", cluster.store), "list"]);
    assert!(!run(&mut plain, "").status.success());

    every_metric_that_is_written_of_is_there(&cluster);

    // New certificates, and nobody is started anew.
    cluster.certify();
    thread::sleep(Duration::from_secs(5));
    assert!(!cluster.token().is_empty());
    let log = fs::read_to_string(cluster.path("gateway.log")).expect("there is a log");
    assert!(log.contains("the certificates were read again"), "{log}");

    for process in [&mut gateway, &mut decision, &mut store] {
        assert_eq!(terminate(process), Some(0));
    }
}

/// The names that TELEMETRY.md, the dashboard and the alerts speak of are those of the pages, and TELEMETRY.md leaves none out.
fn every_metric_that_is_written_of_is_there(cluster: &Cluster) {
    let mut there = BTreeSet::new();
    for port in cluster.health {
        let page = page(port, "/metrics").expect("it is text");
        assert!(page.trim_end().ends_with("# EOF"), "{page}");
        there.extend(names(&page));
    }
    for file in
        ["deploy/TELEMETRY.md", "deploy/dashboards/grafana.json", "deploy/dashboards/alerts.yaml"]
    {
        let text = fs::read_to_string(repository().join(file)).expect("it is there");
        let written = names(&text);
        assert!(written.len() > 5, "{file}: {written:?}");
        let unknown: Vec<&String> = written.difference(&there).collect();
        assert!(unknown.is_empty(), "{file} speaks of {unknown:?}; there are {there:?}");
        if file.ends_with(".md") {
            let untold: Vec<&String> = there.difference(&written).collect();
            assert!(untold.is_empty(), "{file} does not speak of {untold:?}");
        }
    }
}

/// Of metrics, without what each kind adds.
fn names(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let own = words.filter(|word| word.starts_with("countersign_") && word.len() > 12);
    own.map(|name| {
        let endings = ["_total", "_bucket", "_sum", "_count"];
        endings
            .iter()
            .fold(name, |name, ending| name.strip_suffix(ending).unwrap_or(name))
            .to_owned()
    })
    .collect()
}

#[test]
fn up_speaks_tls_with_an_authority_of_its_own() {
    let system = Countersign::up(&["--tls", "--tls-name", "tokens.example.org"]);
    let call = |trust: &[&str], address: &str| {
        let mut command = Command::new(venv("grpcurl"));
        command.args(trust).args(["-max-time", "5", "-expand-headers"]);
        command.args(["-H", "authorization: Bearer ${TOKEN}"]).env("TOKEN", system.admin_token());
        run(command.arg(address).arg(format!("{STORE}/ListRoles")), "")
    };
    let address = system.endpoint("policy_store").strip_prefix("https://").expect("TLS");
    let ca = system.data_dir().join("tls/ca.crt").display().to_string();
    let listed = call(&["-cacert", &ca], address);
    assert!(listed.stdout.contains("CountersignAdministrator"), "{}", listed.stderr);
    let named = ["-cacert", &ca, "-authority", "tokens.example.org"];
    assert!(call(&named, address).status.success());
    for refused in [&["-plaintext"][..], &["-cacert", &ca, "-authority", "other.example.org"]] {
        assert!(!call(refused, address).status.success(), "{refused:?}");
    }
    assert!(system.issuer().starts_with("https://"));
}
