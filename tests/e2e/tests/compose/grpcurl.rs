//! A person with grpcurl, and nothing else: an exchange, a write, a decision that follows from it.

use std::process::Command;

use countersign_e2e::program::{Finished, run, venv};
use serde_json::{Value, json};

use crate::cluster::{ACCOUNT, Files};

const STORE: &str = "countersign.policy.v1.PolicyStoreService";
const DECISION: &str = "countersign.decision.v1.DecisionService";
const GATEWAY: &str = "countersign.token.v1.TokenExchangeService";

fn grpcurl(files: &Files, port: u16, method: &str, token: &str, request: &str) -> Finished {
    let mut command = Command::new(venv("grpcurl"));
    command.arg("-cacert").arg(files.ca()).args(["-max-time", "20", "-d", "@"]);
    if !token.is_empty() {
        command.args(["-expand-headers", "-H", "authorization: Bearer ${TOKEN}"]);
        command.env("TOKEN", token);
    }
    run(command.arg(format!("localhost:{port}")).arg(method), request)
}

fn answer(finished: Finished) -> Value {
    assert!(finished.status.success(), "{}", finished.stderr);
    serde_json::from_str(&finished.stdout).expect("grpcurl prints JSON")
}

#[test]
fn a_person_with_grpcurl_exchanges_writes_and_asks() {
    let files = Files::copied();
    let exchanged = grpcurl(&files, 7403, &format!("{GATEWAY}/Exchange"), "", &files.proof());
    let token = answer(exchanged)["accessToken"].as_str().expect("there is a token").to_owned();
    let call = |port: u16, method: String, request: Value| {
        answer(grpcurl(&files, port, &method, &token, &request.to_string()))
    };

    // Written at one store, read at the other, and decided by each decision service at the write's revision.
    let name = format!("Smoke-{}", std::process::id());
    let trust = json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}]});
    let role = json!({"role_name": name, "assume_role_policy_document": trust.to_string()});
    let role = call(7401, format!("{STORE}/CreateRole"), role);
    let policy = json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Action": "orders:Get*", "Resource": "*"}]});
    let put =
        json!({"role_name": name, "policy_name": "own", "policy_document": policy.to_string()});
    let put = call(17401, format!("{STORE}/PutRolePolicy"), put);
    let read = call(7401, format!("{STORE}/GetRole"), json!({"role_name": name}));
    assert_eq!(read["role"]["roleName"], name.as_str(), "{read}");
    for (port, action, expected) in [
        (7402, "orders:GetOrder", "DECISION_ALLOW"),
        (17402, "orders:GetOrder", "DECISION_ALLOW"),
        (27402, "orders:DeleteOrder", "DECISION_IMPLICIT_DENY"),
    ] {
        let question = json!({
            "principal_arn": role["role"]["arn"],
            "action": action,
            "resource": format!("arn:aws:orders:eu-west-1:{ACCOUNT}:order/1"),
            "at_least_revision": put["revision"],
        });
        let decided = call(port, format!("{DECISION}/Authorize"), question);
        assert_eq!(decided["decision"], expected, "{decided}");
    }
}
