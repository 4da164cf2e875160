//! The decision log, as the service writes it.

use std::{fs, num::NonZeroU32};

use countersign_decision::LogConfig;
use countersign_proto::decision::v1::GetStatusRequest;
use serde_json::Value;

use super::harness::{ORDER, OURS, System, assume, eventually, question};

#[tokio::test]
async fn every_decision_has_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("decisions");
    let config = LogConfig::of(Some(path.clone()), None, NonZeroU32::MIN);
    let system = System::start_with(|of| of.decision_log = config).await;
    let answer = system.authorize(question(system.token("App", "orders"))).await.unwrap();
    let alice = format!("arn:aws:iam::{OURS}:user/alice");
    let assumed = system.by_gateway(assume("countersign", &alice, "AIDAALICE", "App"));
    let assumed = system.client.clone().authorize_assume_role(assumed).await.unwrap().into_inner();
    let lines = eventually(async || {
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<Value> = text.lines().filter_map(|l| serde_json::from_str(l).ok()).collect();
        (lines.len() == 2).then_some(lines)
    })
    .await;
    let said = |line: &Value, key: &str| line[key].as_str().unwrap().to_owned();
    assert_eq!(said(&lines[0], "decision_id"), answer.decision_id);
    assert_eq!(said(&lines[0], "decision"), "DECISION_ALLOW");
    assert_eq!(said(&lines[0], "principal"), answer.principal_arn);
    assert_eq!(said(&lines[0], "resource"), ORDER);
    assert!(said(&lines[0], "caller").contains("Checker"));
    assert_eq!(lines[0]["statements"][0]["sid"], "Read");
    assert_eq!(said(&lines[1], "decision_id"), assumed.decision_id);
    assert_eq!(said(&lines[1], "action"), "sts:AssumeRole");
    let request = system.by_gateway(GetStatusRequest {});
    let status = system.client.clone().get_status(request).await.unwrap().into_inner();
    assert_eq!((status.decision_log_written_count, status.decision_log_lost_count), (2, 0));
    // No token is in it.
    assert!(!fs::read_to_string(&path).unwrap().contains("eyJ"));
}
