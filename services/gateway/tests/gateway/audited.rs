//! The audit of exchanges: each one is there before it is answered, none that is not there grants anything, and no secret is in it.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

use countersign_serve::chain::verify;
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

/// A small file system in memory, unmounted when dropped.
struct Mount<'a>(&'a Path);

impl<'a> Mount<'a> {
    /// `None`, with the reason printed, where this process may not mount.
    fn new(folder: &'a Path) -> Option<Self> {
        std::fs::create_dir_all(folder).unwrap();
        let arguments = ["-t", "tmpfs", "-o", "size=1m", "countersign-test"];
        let run = Command::new("mount").args(arguments).arg(folder).output().unwrap();
        if run.status.success() {
            return Some(Self(folder));
        }
        println!("skipped: a full disk needs a file system of its own: {run:?}");
        None
    }
}

impl Drop for Mount<'_> {
    fn drop(&mut self) {
        // The gateway's thread may still hold a file.
        let _ = Command::new("umount").arg("--lazy").arg(self.0).status();
    }
}

/// FAULTS F10 and F21: a full disk grants nothing, refuses as before, heals by itself, and leaves a chain that holds.
#[tokio::test]
async fn a_full_disk_grants_nothing() {
    let folder = Folder::new("disk");
    let Some(mount) = Mount::new(&folder.0) else { return };
    let system = start(&folder.0).await;
    let external = Workload::external(&system.gateway.issuer, &system.sts.origin);
    system.exchange(external.sign(request())).await.unwrap();
    let filler = folder.0.join("filler");
    let mut fill = std::fs::File::create(&filler).unwrap();
    // Until not even a byte goes in.
    let block = [1; 4096];
    while fill.write_all(&block).is_ok() {}
    let mut granted = 1;
    let refused = loop {
        match system.exchange(external.sign(request())).await {
            // What is left of the last page.
            Ok(_) => granted += 1,
            Err(refused) => break refused,
        }
        assert!(granted < 20, "the disk does not become full");
    };
    assert_eq!(
        (refused.code, refused.reason.as_str(), refused.retry),
        (Code::Unavailable, "AuditUnavailable", true)
    );
    let stale = external.with(|w| w.now -= 120).sign(request());
    assert_eq!(system.exchange(stale).await.unwrap_err().reason, "ProofExpired");
    drop(fill);
    std::fs::remove_file(&filler).unwrap();
    system.exchange(external.sign(request())).await.unwrap();
    granted += 1;
    let text = folder.text();
    let written = text.lines().filter(|line| line.contains("\"tokenId\"")).count();
    assert_eq!(written, granted, "what was granted is written, and nothing else");
    let head = verify(&folder.0).unwrap();
    assert_eq!(head.sequence, u64::try_from(text.lines().count()).unwrap());
    drop((system, mount));
}
