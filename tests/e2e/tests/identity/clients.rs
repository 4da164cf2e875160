//! Clients as people have them: the page's Python, `countersign exchange`, and a token's life over HTTP by PyJWT.

use std::{fs, process::Command};

use countersign_e2e::{
    operator::{Operator, user_arn},
    program::{Finished, python, repository, run, venv},
    system::{ACCOUNT, Countersign, binary},
};
use countersign_proto::policy::v1::AccessKey;
use serde_json::{Value, json};

use crate::credentials;

const REGION: &str = "us-east-1";

async fn worker(system: &Countersign) -> (AccessKey, String, Operator) {
    let mut operator = Operator::of(system).await;
    let key = operator.user("worker").await;
    let role = operator.role("Orders", &user_arn("worker")).await;
    (key, role, operator)
}

fn verified(system: &Countersign, token: &str, audience: &str) -> Value {
    let input = json!({"token": token, "jwks_of": system.issuer(), "issuer": system.issuer(), "audience": audience});
    python("verify_token.py", &input).expect("the token is good")["claims"].clone()
}

#[tokio::test]
async fn the_pages_python_prints_a_token() {
    let page = repository().join("services/gateway/CLIENTS.md");
    let page = fs::read_to_string(page).expect("the page is there");
    let (_, rest) = page.split_once("```python\n").expect("it has Python");
    let (script, _) = rest.split_once("```").expect("it ends");
    assert!(script.lines().count() < 30, "{} lines", script.lines().count());

    let system = Countersign::up(&[]);
    let (key, role, _) = worker(&system).await;
    let path = system.scratch("exchange.py");
    fs::write(&path, script).expect("it can be written");
    let mut command = Command::new(venv("python"));
    command
        .arg(path)
        .env("AWS_ACCESS_KEY_ID", &key.access_key_id)
        .env("AWS_SECRET_ACCESS_KEY", &key.secret_access_key)
        .env("COUNTERSIGN_ISSUER", system.issuer())
        .env("COUNTERSIGN_STS", format!("{}/", system.issuer()))
        .env("COUNTERSIGN_STS_REGION", REGION)
        .env("COUNTERSIGN_ROLE", &role);
    let Finished { status, stdout, stderr } = run(&mut command, "");
    assert!(status.success(), "{stderr}");
    let claims = verified(&system, stdout.trim(), "orders");
    assert_eq!(claims["sub"], format!("arn:aws:sts::{ACCOUNT}:assumed-role/Orders/me"));
}

#[tokio::test]
async fn the_command_prints_a_token_and_keeps_it() {
    let system = Countersign::up(&[]);
    let (key, role, _) = worker(&system).await;
    let (file, cache) = (system.scratch("key.json"), system.scratch("token"));
    let exchange = |secret: &str, audience: &str, more: &[&str]| {
        let key = json!({"AccessKeyId": key.access_key_id, "SecretAccessKey": secret});
        fs::write(&file, key.to_string()).expect("it can be written");
        let mut command = Command::new(binary());
        command
            .args(["exchange", "--role-session-name", "me", "--scope", "orders:Get*"])
            .args(["--audience", audience, "--role-arn", &role])
            .arg("--credentials")
            .arg(&file)
            .arg("--data-dir")
            .arg(system.data_dir())
            .args(more);
        run(&mut command, "")
    };
    let good = exchange(&key.secret_access_key, "orders", &[]);
    assert!(good.status.success(), "{}", good.stderr);
    let claims = verified(&system, good.stdout.trim(), "orders");
    assert_eq!(claims["scope"], "orders:Get*");
    assert!(!good.stderr.contains(good.stdout.trim()));

    let kept = ["--cache", cache.to_str().expect("it is UTF-8"), "-o", "json"];
    let read = |finished: &Finished| -> Value {
        serde_json::from_str(&finished.stdout).unwrap_or_else(|_| panic!("{}", finished.stderr))
    };
    let first = read(&exchange(&key.secret_access_key, "orders", &kept));
    assert_eq!((&first["token_type"], &first["scope"]), (&json!("Bearer"), &json!("orders:Get*")));
    // No credentials are needed for what is kept, and for anything else they are.
    let again = read(&exchange("wrong", "orders", &kept));
    assert_eq!(again["access_token"], first["access_token"]);
    let other = exchange("wrong", "billing", &kept);
    assert_eq!(other.status.code(), Some(1), "{}", other.stderr);
    assert!(other.stderr.contains("SignatureDoesNotMatch"), "{}", other.stderr);
    let nothing = exchange("", "billing", &kept);
    assert_eq!(nothing.status.code(), Some(2), "{}", nothing.stderr);
}

// ATTACKS 72, 74, 79, 82, 91, by somebody else's JWTs.
#[tokio::test]
async fn a_tokens_life_over_http() {
    let system = Countersign::up(&[]);
    let (key, role, mut operator) = worker(&system).await;
    operator
        .allow(
            "Orders",
            &json!({"Effect": "Allow", "Action": ["countersign:IntrospectToken", "countersign:RevokeToken"], "Resource": "*"}),
        )
        .await;
    let input = json!({
        "credentials": credentials(&key), "role_arn": role, "sts_url": format!("{}/", system.issuer()),
        "region": REGION, "audience": system.issuer(),
    });
    let found = python("token_life.py", &input).expect("each step has an end");
    let expected = json!({
        "bound": 200,
        "stolen": [400, "invalid_request", "ProofOfPossessionRequired"],
        "narrowed": [200, "DPoP", "orders:GetOrder"],
        "jkt": true,
        "before": [true, true, "orders:GetOrder"],
        "revoked": 200,
        "after": {"active": false},
        "own": true,
    });
    assert_eq!(found, expected);
}
