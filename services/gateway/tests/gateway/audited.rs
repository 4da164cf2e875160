//! The audit of exchanges: each one is there before it is answered, none that is not there grants anything, and no secret is in it.

use std::path::{Path, PathBuf};

use serde_json::Value;
use tonic::Code;

use crate::{
    decision::deny,
    proofs::{Workload, request},
    sts,
    system::System,
};

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let name = format!("countersign-exchanges-{name}-{}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        let _ = std::fs::remove_dir_all(&folder);
        Self(folder)
    }

    fn text(&self) -> String {
        let mut files: Vec<_> =
            std::fs::read_dir(&self.0).unwrap().map(|file| file.unwrap().path()).collect();
        files.sort();
        files.iter().map(|file| std::fs::read_to_string(file).unwrap()).collect()
    }

    fn last(&self) -> Value {
        let text = self.text();
        let line: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        line["event"].clone()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

async fn start(folder: &Path) -> System {
    let folder = folder.to_owned();
    let system = System::start_as(|_| {}, "", |config| config.audit_dir = Some(folder)).await;
    system.ready().await;
    system
}

#[tokio::test]
async fn each_exchange_is_there_before_its_answer() {
    let folder = Folder::new("each");
    let system = start(&folder.0).await;
    let external = Workload::external(&system.gateway.issuer, &system.sts.origin);
    let asked = request();
    let response = system.exchange(external.sign(asked.clone())).await.unwrap();
    let event = folder.last();
    assert_eq!(event["eventName"], "AssumeRole");
    assert_eq!(event["userIdentity"]["principalId"], sts::ARN);
    assert_eq!(event["sourceIPAddress"], "127.0.0.1");
    assert_eq!(event["requestParameters"]["roleArn"], asked.role_arn);
    assert_eq!(event["requestParameters"]["roleSessionName"], asked.role_session_name);
    let session = response.assumed_role_user.clone().unwrap().arn;
    assert_eq!(event["responseElements"]["assumedRoleUser"]["arn"], session);
    assert_eq!(event["additionalEventData"]["decisionId"], "d-1");
    assert_eq!(event["errorCode"], Value::Null);

    // Refused by ourselves, by STS, by the decision service.
    let check = async |workload: Workload, reason: &str, principal: &str| {
        let refused = system.exchange(workload.sign(request())).await.unwrap_err();
        assert_eq!(refused.reason, reason);
        let event = folder.last();
        assert_eq!(
            (&event["errorCode"], &event["responseElements"]),
            (&reason.into(), &Value::Null)
        );
        assert_eq!(event["userIdentity"]["principalId"], principal);
    };
    check(external.with(|w| w.now -= 120), "ProofExpired", "").await;
    check(external.with(|w| w.secret.push('x')), "SignatureDoesNotMatch", "").await;
    system
        .decision
        .answers(|_| Ok(deny(countersign_proto::decision::v1::DecisionReason::NoTrustAllow)));
    check(external.clone(), "AccessDenied", sts::ARN).await;

    let text = folder.text();
    assert_eq!(text.lines().count(), 4);
    for secret in [&response.access_token, &external.secret, &external.session_token.unwrap()] {
        assert!(!text.contains(secret.as_str()));
    }
    assert!(!text.contains("\"eyJ"), "a token");
}

#[tokio::test]
async fn what_cannot_be_written_down_is_not_granted() {
    let folder = Folder::new("full");
    let system = start(&folder.0).await;
    let external = Workload::external(&system.gateway.issuer, &system.sts.origin);
    // The folder goes before the first file is begun.
    std::fs::remove_dir_all(&folder.0).unwrap();
    std::fs::write(&folder.0, "a file").unwrap();
    let refused = system.exchange(external.sign(request())).await.unwrap_err();
    assert_eq!(
        (refused.code, refused.reason.as_str(), refused.retry),
        (Code::Unavailable, "AuditUnavailable", true)
    );
    // A refusal stays what it is.
    let stale = external.with(|w| w.now -= 120).sign(request());
    assert_eq!(system.exchange(stale).await.unwrap_err().reason, "ProofExpired");
    // It is writable again, and so are exchanges.
    std::fs::remove_file(&folder.0).unwrap();
    std::fs::create_dir_all(&folder.0).unwrap();
    system.exchange(external.sign(request())).await.unwrap();
    assert_eq!(folder.text().lines().count(), 1);
}
