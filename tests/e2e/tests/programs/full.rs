//! FAULTS.md F10 and F21, by the programs: no room under the policy store and its audit trail, on a small file system of their own.

use std::{fs, path::Path, process::Command, time::Duration};

use countersign_e2e::program::run;
use countersign_e2e::system::{ACCOUNT, binary};
use countersign_proto::{
    decision::v1::{
        AuthorizeRequest, authorize_request::Subject,
        decision_service_client::DecisionServiceClient,
    },
    policy::v1::{
        CreateUserRequest, GetUserRequest, Tag,
        policy_store_service_client::PolicyStoreServiceClient,
    },
};
use tonic::{Code, transport::Channel};

use crate::cluster::{Cluster, PARTS, page, terminate, with_token};

/// A small file system in memory, unmounted when dropped.
struct Mount<'a>(&'a Path);

impl<'a> Mount<'a> {
    /// `None`, with the reason printed, where this process may not mount.
    fn new(folder: &'a Path) -> Option<Self> {
        fs::create_dir_all(folder).expect("a folder can be made");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=64m,mode=0700", "countersign-test"]).arg(folder);
        let mounted = run(&mut mount, "");
        if mounted.status.success() {
            return Some(Self(folder));
        }
        println!("skipped: a full disk needs a file system of its own: {}", mounted.stderr);
        None
    }
}

impl Drop for Mount<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0).status();
    }
}

struct Asking<'a> {
    channel: Channel,
    token: &'a str,
    answered: u32,
}

impl Asking<'_> {
    /// Decisions go on, whatever the disk.
    async fn ask(&mut self) {
        let question = AuthorizeRequest {
            subject: Some(Subject::PrincipalArn(format!(
                "arn:aws:iam::{ACCOUNT}:role/CountersignAdministrator"
            ))),
            action: "s3:GetObject".to_owned(),
            resource: "arn:aws:s3:::bucket/a".to_owned(),
            resource_account: ACCOUNT.to_owned(),
            ..Default::default()
        };
        let mut decisions = DecisionServiceClient::new(self.channel.clone());
        let answer = decisions.authorize(with_token(question, self.token)).await;
        assert!(answer.expect("it decides").into_inner().allowed);
        self.answered += 1;
    }
}

fn metric(cluster: &Cluster, name: &str) -> String {
    let page = page(cluster.health[0], "/metrics").expect("it is text");
    let line = page.lines().find(|line| line.starts_with(name)).expect("it is there");
    line.rsplit(' ').next().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_said_and_heals_and_decisions_go_on() {
    let cluster = Cluster::new();
    let data = cluster.path("data");
    let Some(mount) = Mount::new(&data) else { return };
    let mut running: Vec<_> = PARTS.iter().map(|part| cluster.start(part)).collect();
    for part in PARTS {
        cluster.wait_until_ready(part);
    }
    let token = cluster.token();
    let mut iam = PolicyStoreServiceClient::new(cluster.channel(cluster.store));
    let mut asking =
        Asking { channel: cluster.channel(cluster.decision), token: &token, answered: 0 };
    let filler = data.join("filler");
    let mut size = 60 << 20;
    while fs::write(&filler, vec![1; size]).is_err() {
        size -= 1 << 20;
    }
    let create = |number: u32| {
        let tag = |key: usize| Tag { key: format!("k{key}"), value: "x".repeat(250) };
        let tags = (0..40).map(tag).collect();
        let user_name = format!("full-{number}");
        with_token(CreateUserRequest { user_name, tags, ..Default::default() }, &token)
    };
    let mut written = 0;
    let refused = loop {
        match iam.create_user(create(written)).await {
            Ok(_) => written += 1,
            Err(status) => break status,
        }
        if written % 10 == 0 {
            asking.ask().await;
        }
        assert!(written < 10_000, "the disk never filled up");
    };
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
    assert!(refused.message().contains("full"), "{refused:?}");
    // Refused again and again, and what is there can be read; within moments the page says so.
    let is_full = || {
        ["countersign_store_full", "countersign_trail_full"]
            .iter()
            .any(|name| metric(&cluster, name).starts_with('1'))
    };
    for _ in 0..100 {
        if is_full() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(is_full(), "the page does not say that it is full");
    let get =
        |number: u32| with_token(GetUserRequest { user_name: format!("full-{number}") }, &token);
    iam.get_user(get(written - 1)).await.expect("it is there");
    for _ in 0..20 {
        asking.ask().await;
    }

    fs::remove_file(&filler).expect("it is there");
    let mut healed = false;
    for _ in 0..300 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        if iam.create_user(create(written)).await.is_ok() {
            healed = true;
            break;
        }
    }
    assert!(healed, "it does not heal without a restart");
    asking.ask().await;
    while let Some(mut process) = running.pop() {
        assert_eq!(terminate(&mut process), Some(0));
    }
    let mut verify = Command::new(binary());
    let verified = run(verify.args(["audit", "verify"]).arg(data.join("audit")), "");
    assert!(verified.status.success(), "{}", verified.stderr);

    // Nothing that was acknowledged is gone, and a process that is started anew knows it.
    let store = cluster.start("policy-store");
    cluster.wait_until_ready("policy-store");
    for number in 0..=written {
        iam.get_user(get(number)).await.expect("what was acknowledged is there");
    }
    println!(
        "F10: {} writes acknowledged before and after the disk was full, 0 lost; {} decisions meanwhile, 0 failed; healed without a restart",
        written + 1,
        asking.answered
    );
    drop(store);
    drop(mount);
}
