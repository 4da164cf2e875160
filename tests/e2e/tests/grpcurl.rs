//! A person with grpcurl, and nothing else, does it all: looks around, makes a role, gets a token, asks, is denied, asks why.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "this is a test")]

use std::{fs, process::Command};

use countersign_e2e::{
    operator::{STS_PROOF, user_arn},
    program::{run, venv},
    system::{ACCOUNT, Countersign, binary},
};
use serde_json::{Value, json};

const STORE: &str = "countersign.policy.v1.PolicyStoreService";
const DECISION: &str = "countersign.decision.v1.DecisionService";
const GATEWAY: &str = "countersign.token.v1.TokenExchangeService";
/// Each service, and its name in endpoints.json.
const SERVICES: [(&str, &str); 3] =
    [(STORE, "policy_store"), (DECISION, "decision"), (GATEWAY, "gateway")];

/// `host:port` of `service`.
fn address<'a>(system: &'a Countersign, service: &str) -> &'a str {
    let (_, name) =
        SERVICES.iter().find(|(known, _)| *known == service).expect("it is one of ours");
    system.endpoint(name).strip_prefix("http://").expect("without TLS")
}

/// What grpcurl prints about `service`: `list`, or `describe` and a name.
fn look(system: &Countersign, service: &str, words: &[&str]) -> String {
    let mut command = Command::new(venv("grpcurl"));
    let finished = run(command.arg("-plaintext").arg(address(system, service)).args(words), "");
    assert!(finished.status.success(), "{words:?}: {}", finished.stderr);
    finished.stdout
}

/// Calls `method` of `service` with `request`, whatever text that is; an error is a google.rpc.Status as JSON.
fn call_with_text(
    system: &Countersign,
    token: Option<&str>,
    service: &str,
    method: &str,
    request: &str,
) -> Result<Value, Value> {
    let mut command = Command::new(venv("grpcurl"));
    command.args(["-plaintext", "-format-error", "-d", "@"]);
    if let Some(token) = token {
        // By the environment, so that the token is in no list of processes.
        command
            .args(["-expand-headers", "-H", "authorization: Bearer ${TOKEN}"])
            .env("TOKEN", token);
    }
    // Health and reflection are services of their own, which all three ports have.
    let port = if SERVICES.iter().any(|(known, _)| *known == service) { service } else { STORE };
    command.arg(address(system, port)).arg(format!("{service}/{method}"));
    let finished = run(&mut command, request);
    let parse = |text: &str| {
        serde_json::from_str(text).unwrap_or_else(|error| {
            panic!("{method}: {error}: {}{}", finished.stdout, finished.stderr)
        })
    };
    if finished.status.success() {
        Ok(parse(&finished.stdout))
    } else {
        Err(parse(&finished.stderr))
    }
}

fn call(
    system: &Countersign,
    token: Option<&str>,
    service: &str,
    method: &str,
    request: &Value,
) -> Result<Value, Value> {
    call_with_text(system, token, service, method, &request.to_string())
}

/// Code and reason of a refusal.
fn refusal(answer: Result<Value, Value>) -> (u64, String) {
    let error = answer.expect_err("it is refused");
    let info = detail(&error, "google.rpc.ErrorInfo");
    assert_eq!(info["domain"], "countersign", "{error}");
    (error["code"].as_u64().expect("a code"), info["reason"].as_str().expect("a reason").to_owned())
}

fn detail<'a>(error: &'a Value, message: &str) -> &'a Value {
    let details = error["details"].as_array().unwrap_or_else(|| panic!("no details: {error}"));
    let url = format!("type.googleapis.com/{message}");
    details
        .iter()
        .find(|detail| detail["@type"] == url.as_str())
        .unwrap_or_else(|| panic!("no {message}: {error}"))
}

fn number(revision: &Value) -> u64 {
    let number = revision
        .as_str()
        .and_then(|text| text.rsplit_once(':'))
        .and_then(|(_, number)| number.parse().ok());
    number.unwrap_or_else(|| panic!("{revision} is no revision"))
}

/// As much of reflection's version 1 as it takes to list services.
const REFLECTION: &str = r#"
    syntax = "proto3";
    package grpc.reflection.v1;
    service ServerReflection {
      rpc ServerReflectionInfo(stream ServerReflectionRequest) returns (stream ServerReflectionResponse);
    }
    message ServerReflectionRequest { oneof message_request { string list_services = 7; } }
    message ServerReflectionResponse { oneof message_response { ListServiceResponse list_services_response = 6; } }
    message ListServiceResponse { repeated ServiceResponse service = 1; }
    message ServiceResponse { string name = 1; }
"#;

#[test]
fn a_newcomer_looks_around() {
    let system = Countersign::up(&[]);
    fs::write(system.scratch("reflection.proto"), REFLECTION).expect("the file can be written");
    for (service, _) in SERVICES {
        let list = look(&system, service, &["list"]);
        for name in [service, "grpc.health.v1.Health"] {
            assert!(list.lines().any(|line| line == name), "{list}");
        }
        for (other, _) in SERVICES.iter().filter(|(other, _)| *other != service) {
            assert!(!list.contains(other), "{list}");
        }
        assert!(look(&system, service, &["describe", service]).contains("rpc "));
        // So that a client can print the details of an error.
        for name in ["google.rpc.ErrorInfo", "google.rpc.BadRequest", "google.rpc.RetryInfo"] {
            assert!(look(&system, service, &["describe", name]).contains("message"), "{name}");
        }
    }
    let request = look(&system, GATEWAY, &["describe", "countersign.token.v1.ExchangeRequest"]);
    for field in ["string subject_token = 1", "string role_arn = 5", "int32 duration_seconds = 9"] {
        assert!(request.contains(field), "{request}");
    }

    for (service, _) in SERVICES {
        let mut command = Command::new(venv("grpcurl"));
        command.args([
            "-plaintext",
            "-d",
            "@",
            address(&system, service),
            "grpc.health.v1.Health/Check",
        ]);
        let finished = run(&mut command, &json!({"service": service}).to_string());
        let health: Value = serde_json::from_str(&finished.stdout).expect("it is JSON");
        assert_eq!(health["status"], "SERVING", "{service}: {}", finished.stderr);

        // This grpcurl reflects by v1alpha; v1 it calls like any other service.
        let mut command = Command::new(venv("grpcurl"));
        command
            .arg("-plaintext")
            .arg("-import-path")
            .arg(system.scratch(""))
            .args(["-proto", "reflection.proto"]);
        command.args([
            "-d",
            "@",
            address(&system, service),
            "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        ]);
        let finished = run(&mut command, &json!({"list_services": ""}).to_string());
        assert!(finished.status.success() && finished.stdout.contains(service), "{finished:?}");
    }
}

#[test]
fn every_rpc_refuses_a_stranger() {
    let system = Countersign::up(&[]);
    let forged = system.admin_token().replace('.', "_");
    let mut methods = 0;
    for (service, _) in SERVICES {
        let list = look(&system, service, &["list", service]);
        for method in list.lines().filter_map(|line| line.rsplit('.').next()) {
            let refuse = |token: Option<&str>| {
                let error = call(&system, token, service, method, &json!({})).expect_err(method);
                assert_eq!(error["code"], 16, "{service}/{method} with {token:?}: {error}");
            };
            refuse(None);
            // One door is before all methods of a service, so some of them will do for these.
            if methods % 16 == 0 {
                [Some(""), Some("not-a-token"), Some(forged.as_str())].into_iter().for_each(refuse);
            }
            methods += 1;
        }
    }
    // As many as the contract has: reflection lists them all.
    assert!(methods > 100, "{methods}");
}

#[test]
fn the_whole_journey() {
    // At `trace`, whatever would leak a secret has its chance.
    let system = Countersign::up(&["--log", "trace"]);
    let admin = system.admin_token();
    let store = |method: &str, request: Value| {
        call(&system, Some(&admin), STORE, method, &request)
            .unwrap_or_else(|error| panic!("{method}: {error}"))
    };
    let decide = |method: &str, request: &Value| {
        call(&system, Some(&admin), DECISION, method, request)
            .unwrap_or_else(|error| panic!("{method}: {error}"))
    };

    // A workload, which shows who it is by an access key; and a role that it may assume.
    let user = store("CreateUser", json!({"user_name": "worker"}));
    assert_eq!(user["user"]["arn"], user_arn("worker").as_str());
    let key = store("CreateAccessKey", json!({"user_name": "worker"}))["accessKey"].clone();
    let trust = json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Principal": {"AWS": user_arn("worker")}, "Action": "sts:AssumeRole"},
    ]});
    let role = store(
        "CreateRole",
        json!({"role_name": "OrdersReader", "assume_role_policy_document": trust.to_string()}),
    );
    let role_arn = role["role"]["arn"].as_str().expect("the role has an ARN").to_owned();
    assert_eq!(role_arn, format!("arn:aws:iam::{ACCOUNT}:role/OrdersReader"));
    let document = json!({"Version": "2012-10-17", "Statement": [{
        "Sid": "ReadOrders", "Effect": "Allow", "Action": "orders:GetOrder",
        "Resource": format!("arn:aws:orders:eu-west-1:{ACCOUNT}:order/*"),
    }]});
    let policy = store(
        "CreatePolicy",
        json!({"policy_name": "ReadOrders", "policy_document": document.to_string()}),
    );
    let policy_arn = policy["policy"]["arn"].clone();
    let attachment = json!({"role_name": "OrdersReader", "policy_arn": policy_arn});
    let attached = store("AttachRolePolicy", attachment.clone())["revision"].clone();

    // By ARN, at the revision of that last write: the decision service now knows all of it.
    let order = format!("arn:aws:orders:eu-west-1:{ACCOUNT}:order/42");
    let by_arn = json!({
        "principal_arn": role_arn, "action": "orders:GetOrder", "resource": order, "at_least_revision": attached,
    });
    assert_eq!(decide("Authorize", &by_arn)["allowed"], true);

    // `countersign proof … | grpcurl -d @ … Exchange`
    let credentials = system.scratch("worker.json");
    let process_form = json!({
        "Version": 1, "AccessKeyId": key["accessKeyId"], "SecretAccessKey": key["secretAccessKey"],
    });
    fs::write(&credentials, process_form.to_string()).expect("the file can be written");
    let mut proof = Command::new(binary());
    proof.args([
        "proof",
        "--role-arn",
        &role_arn,
        "--role-session-name",
        "worker-1",
        "--audience",
        "orders",
    ]);
    proof.arg("--credentials").arg(&credentials).arg("--data-dir").arg(system.data_dir());
    let proof = run(&mut proof, "");
    assert!(proof.status.success(), "{}", proof.stderr);
    let exchange = call_with_text(&system, None, GATEWAY, "Exchange", &proof.stdout);
    let session = exchange.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(session["tokenType"], "Bearer");
    let session_arn = format!("arn:aws:sts::{ACCOUNT}:assumed-role/OrdersReader/worker-1");
    assert_eq!(session["assumedRoleUser"]["arn"], session_arn.as_str());
    let token = session["accessToken"].as_str().expect("there is a token");

    // The same proof again.
    let again = call_with_text(&system, None, GATEWAY, "Exchange", &proof.stdout);
    assert_eq!(refusal(again), (16, "ProofAlreadyUsed".to_owned()));

    // What the service `orders` asks.
    let question = |action: &str, resource: &str| json!({"token": token, "audience": "orders", "action": action, "resource": resource});
    let allowed = decide("Authorize", &question("orders:GetOrder", &order));
    assert_eq!(allowed["decision"], "DECISION_ALLOW", "{allowed}");
    assert_eq!(allowed["allowed"], true);
    assert_eq!(allowed["reason"], "DECISION_REASON_ALLOWED_BY_IDENTITY_POLICY");
    assert_eq!(allowed["principalArn"], session_arn.as_str());
    assert_eq!(allowed["determiningStatements"][0]["sid"], "ReadOrders");
    assert_eq!(allowed["determiningStatements"][0]["policy"], policy_arn);

    let denied = decide("Authorize", &question("orders:DeleteOrder", &order));
    assert_eq!(denied["decision"], "DECISION_IMPLICIT_DENY", "{denied}");
    assert_eq!(denied["allowed"], Value::Null, "false is left out");
    assert_eq!(denied["reason"], "DECISION_REASON_NO_IDENTITY_ALLOW");
    assert!(
        denied["message"].as_str().is_some_and(|message| message.contains("orders:DeleteOrder")),
        "{denied}"
    );

    // Why? The Resource alone did not match.
    let invoice = format!("arn:aws:orders:eu-west-1:{ACCOUNT}:invoice/42");
    let explained = decide("Explain", &question("orders:GetOrder", &invoice));
    assert_eq!(explained["answer"]["decision"], "DECISION_IMPLICIT_DENY", "{explained}");
    assert_eq!(explained["nearestMisses"][0]["statement"]["sid"], "ReadOrders", "{explained}");
    assert_eq!(explained["nearestMisses"][0]["element"], "Resource", "{explained}");

    // A token is for one service: another one's question is refused, and it opens none of Countersign's own doors.
    let mut elsewhere = question("orders:GetOrder", &order);
    elsewhere["audience"] = json!("payments");
    let (code, _) = refusal(call(&system, Some(&admin), DECISION, "Authorize", &elsewhere));
    assert_eq!(code, 3);
    let (code, _) = refusal(call(&system, Some(token), STORE, "ListRoles", &json!({})));
    assert_eq!(code, 16);

    // Detached, the same call is denied at the new revision, with the token as good as before.
    let detached = store("DetachRolePolicy", attachment)["revision"].clone();
    assert!(number(&detached) > number(&attached), "{detached} after {attached}");
    let mut later = question("orders:GetOrder", &order);
    later["at_least_revision"] = detached.clone();
    let denied = decide("Authorize", &later);
    assert_eq!(denied["decision"], "DECISION_IMPLICIT_DENY", "{denied}");
    assert!(number(&denied["revision"]) >= number(&detached), "{denied}");

    // Nothing of all this is secret in what was printed and logged, but these are.
    let root = fs::read_to_string(system.root_credentials()).expect("up has written it");
    let root: Value = serde_json::from_str(&root).expect("it is JSON");
    let request: Value = serde_json::from_str(&proof.stdout).expect("it is JSON");
    let log = system.log();
    assert!(log.contains("OrdersReader"), "the log is read, and says what happened:\n{log}");
    let secrets = [
        &key["secretAccessKey"],
        &root["SecretAccessKey"],
        &session["accessToken"],
        &request["subject_token"],
        &json!(admin),
    ];
    for secret in secrets {
        let secret = secret.as_str().filter(|secret| secret.len() >= 20).expect("it is a secret");
        assert!(!log.contains(secret), "a secret is in the log");
        // A token without its signature is no secret, but a sign that tokens are logged.
        let signature = secret.rsplit('.').next().expect("there is a last part");
        assert!(!log.contains(signature), "a signature is in the log");
    }
}

#[test]
fn errors_say_what_to_fix() {
    let system = Countersign::up(&[]);
    let admin = system.admin_token();
    let store = |method: &str, request: &Value| call(&system, Some(&admin), STORE, method, request);
    let check = |answer: Result<Value, Value>, code: u64, reason: &str| {
        assert_eq!(refusal(answer), (code, reason.to_owned()));
    };
    let trust = json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"},
    ]});
    let role = json!({"role_name": "Twice", "assume_role_policy_document": trust.to_string()});
    store("CreateRole", &role).expect("the role is created");
    check(store("CreateRole", &role), 6, "EntityAlreadyExists");
    check(store("GetRole", &json!({"role_name": "Nobody"})), 5, "NoSuchEntity");
    check(store("GetRole", &json!({"role_name": "no/name"})), 3, "ValidationError");
    let attachment =
        json!({"role_name": "Twice", "policy_arn": "arn:aws:iam::aws:policy/AmazonS3FullAccess"});
    store("AttachRolePolicy", &attachment).expect("the policy is attached");
    check(store("DeleteRole", &json!({"role_name": "Twice"})), 9, "DeleteConflict");
    check(
        call(&system, Some(&admin), GATEWAY, "Exchange", &json!({})),
        16,
        "MissingAuthenticationToken",
    );
    let exchange = json!({"subject_token": "e30", "subject_token_type": "urn:something:else"});
    check(call(&system, None, GATEWAY, "Exchange", &exchange), 3, "UnsupportedTokenType");
    let exchange = json!({
        "subject_token": "e30", "subject_token_type": STS_PROOF, "role_arn": format!("arn:aws:iam::{ACCOUNT}:role/R"),
        "role_session_name": "me", "audience": "orders", "client_key_thumbprint": "x",
    });
    let error = call(&system, None, GATEWAY, "Exchange", &exchange)
        .expect_err("a thumbprint has 43 characters");
    assert!(
        error["message"].as_str().is_some_and(|message| message.contains("client_key_thumbprint")),
        "{error}"
    );

    // A document that is wrong on its third line.
    let document = "{\"Version\": \"2012-10-17\",\n \"Statement\": [{\"Effect\": \"Allow\",\n  \"Acton\": \"s3:*\"}]}";
    let policy = json!({"policy_name": "Typo", "policy_document": document});
    let error = store("CreatePolicy", &policy).expect_err("`Acton` is no element");
    assert_eq!(refusal(Err(error.clone())), (3, "MalformedPolicyDocument".to_owned()));
    let violation = &detail(&error, "google.rpc.BadRequest")["fieldViolations"][0];
    let description = violation["description"].as_str().expect("there is a description");
    assert!(
        violation["field"].as_str().is_some_and(|field| field.starts_with("policy_document")),
        "{violation}"
    );
    assert!(description.contains("Acton") && violation.to_string().contains('3'), "{violation}");
}
