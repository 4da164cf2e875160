//! `countersign exchange --instance-identity`, with a stand-in for the instance's metadata service.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops here")]

#[path = "../../../crates/token/src/instance/forged.rs"]
mod forged;

use std::path::PathBuf;

use axum::{
    Router,
    http::{HeaderMap, StatusCode},
    routing::{get, put},
};
use countersign::{
    cli::{ExchangeArgs, Format, ProofArgs},
    exchange,
};
use countersign_harness::System;
use countersign_proto::policy::v1::CreateRoleRequest;
use forged::{Parts, Region, document};
use serde_json::json;

const FOREIGN: &str = "210987654321";

/// IMDSv2: a token by PUT, and nothing without it.
async fn metadata(envelope: String) -> String {
    let token = async |headers: HeaderMap| match headers.get("x-aws-ec2-metadata-token-ttl-seconds")
    {
        Some(_) => (StatusCode::OK, "a-token"),
        None => (StatusCode::BAD_REQUEST, ""),
    };
    let shown = async move |headers: HeaderMap| match headers.get("x-aws-ec2-metadata-token") {
        Some(token) if token == "a-token" => (StatusCode::OK, envelope.clone()),
        Some(_) | None => (StatusCode::UNAUTHORIZED, String::new()),
    };
    let router = Router::new()
        .route("/latest/api/token", put(token))
        .route("/latest/dynamic/instance-identity/rsa2048", get(shown));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    origin
}

fn args(system: &System, metadata_endpoint: &str, key: PathBuf) -> ExchangeArgs {
    ExchangeArgs {
        proof: ProofArgs {
            role_arn: format!("arn:aws:iam::{}:role/Machines", system.running.account),
            role_session_name: "web-1".into(),
            audience: "orders".into(),
            duration_seconds: None,
            external_id: None,
            issuer: Some(system.running.issuer.clone()),
            data_dir: PathBuf::new(),
            sts_endpoint: None,
            sts_region: "us-east-1".into(),
            credentials: None,
            scope: None,
            policy: None,
            policy_arns: Vec::new(),
            source_identity: None,
            client_key_thumbprint: None,
            may_act: None,
            presigned: false,
        },
        gateway: Some(system.running.endpoints.gateway.clone()),
        ca: None,
        instance_identity: true,
        key: Some(key),
        metadata_endpoint: metadata_endpoint.into(),
        output: Format::Text,
        cache: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_asks_by_itself() {
    let region = Region::new("eu-west-1", 1);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("instances.toml");
    std::fs::write(folder.path().join("eu-west-1.pem"), region.pem()).unwrap();
    let text =
        format!("accounts = [\"{FOREIGN}\"]\ncertificates = \".\"\nfirst_use_within_seconds = 0\n");
    std::fs::write(&file, text).unwrap();
    let system = System::with(|options| options.ec2_instances = Some(file)).await;
    let trust = json!({"Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": "ec2.amazonaws.com"},
        "Condition": {"ArnLike": {"ec2:SourceInstanceArn": format!("arn:aws:ec2:eu-west-1:{FOREIGN}:instance/*")}}}]});
    let role = CreateRoleRequest {
        role_name: "Machines".into(),
        assume_role_policy_document: trust.to_string(),
        ..Default::default()
    };
    let revision = system.policy_store().create_role(role).await.unwrap().into_inner().revision;
    system.reached(&revision).await;

    let text = document(FOREIGN, "eu-west-1", "i-1234abcd", "2026-01-31T12:00:00Z");
    let imds = metadata(Parts::of(&region, &text).text()).await;
    let key = folder.path().join("key.pem");
    let now = countersign::proof::now();
    // The key is made, kept, and used again.
    let mut tokens = Vec::new();
    for _ in 0..2 {
        let kept = exchange::token(&args(&system, &imds, key.clone()), now).await.unwrap();
        tokens.push(kept.access_token().to_owned());
    }
    assert!(tokens.iter().all(|token| token.split('.').count() == 3));
    assert!(tokens.first() != tokens.last());
    // Another key is not the instance's, and a machine that is none is told so.
    let other = folder.path().join("other.pem");
    let error = exchange::token(&args(&system, &imds, other), now).await.unwrap_err();
    assert!(error.to_string().contains("InstanceKeyChanged"), "{error}");
    let nowhere = args(&system, "http://127.0.0.1:1", key);
    let error = exchange::token(&nowhere, now).await.unwrap_err();
    assert!(error.to_string().contains("is this an EC2 instance"), "{error}");
}
