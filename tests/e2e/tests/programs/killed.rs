//! FAULTS.md F1 and F21, by the programs: the policy store is killed under load, over and over. What it acknowledged is there afterwards,
//! in the audit trail too; and decisions know nothing of it.
//!
//! `COUNTERSIGN_KILL_ROUNDS` says how often (3), `COUNTERSIGN_KILL_ENTITIES` how many users there are besides (200).

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use countersign_e2e::{
    program::{Running, run},
    system::{ACCOUNT, binary},
};
use countersign_proto::{
    decision::v1::{
        AuthorizeRequest, authorize_request::Subject,
        decision_service_client::DecisionServiceClient,
    },
    policy::v1::{
        CreateUserRequest, ListUsersRequest, PutUserPolicyRequest, Tag,
        policy_store_service_client::PolicyStoreServiceClient,
    },
};
use tokio::task::JoinSet;
use tonic::{Code, transport::Channel};

use crate::cluster::{Cluster, with_token};

const WRITERS: usize = 6;
const ALLOW: &str =
    r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"*"}]}"#;

fn setting(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

/// What the callers were told. A write that ended in anything but yes may or may not have happened.
#[derive(Default)]
struct Told {
    over: AtomicBool,
    /// Of each user: whether its policy was acknowledged too.
    acknowledged: Mutex<BTreeMap<String, bool>>,
    decisions: AtomicU64,
    failed: Mutex<Vec<String>>,
}

impl Told {
    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }
}

async fn write_on(told: Arc<Told>, channel: Channel, token: Arc<str>, writer: usize) {
    let mut iam = PolicyStoreServiceClient::new(channel);
    for number in 0.. {
        if told.is_over() {
            return;
        }
        let user_name = format!("w{writer}-{number}");
        let tags = vec![Tag { key: "team".to_owned(), value: user_name.clone() }];
        let create = CreateUserRequest { user_name: user_name.clone(), tags, ..Default::default() };
        if iam.create_user(with_token(create, &token)).await.is_err() {
            // Down, for now.
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        }
        let acknowledged = || told.acknowledged.lock().expect("nobody panicked");
        acknowledged().insert(user_name.clone(), false);
        let put = PutUserPolicyRequest {
            user_name: user_name.clone(),
            policy_name: "own".to_owned(),
            policy_document: ALLOW.to_owned(),
            ..Default::default()
        };
        if iam.put_user_policy(with_token(put, &token)).await.is_ok() {
            acknowledged().insert(user_name, true);
        }
    }
}

async fn ask_on(told: Arc<Told>, channel: Channel, token: Arc<str>) {
    let mut decisions = DecisionServiceClient::new(channel);
    while !told.is_over() {
        let question = AuthorizeRequest {
            subject: Some(Subject::PrincipalArn(format!(
                "arn:aws:iam::{ACCOUNT}:role/CountersignAdministrator"
            ))),
            action: "s3:GetObject".to_owned(),
            resource: "arn:aws:s3:::bucket/a".to_owned(),
            resource_account: ACCOUNT.to_owned(),
            ..Default::default()
        };
        let failed = match decisions.authorize(with_token(question, &token)).await {
            Ok(answer) if answer.get_ref().allowed && !answer.get_ref().revision.is_empty() => None,
            Ok(answer) => Some(format!("{answer:?}")),
            Err(status) => Some(status.to_string()),
        };
        if let Some(what) = failed {
            told.failed.lock().expect("nobody panicked").push(what);
        }
        told.decisions.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Users that are there all the while, and must stay.
async fn fill(channel: &Channel, token: &Arc<str>, entities: usize) {
    let mut tasks = JoinSet::new();
    for task in 0..64 {
        let (mut iam, token) = (PolicyStoreServiceClient::new(channel.clone()), token.clone());
        tasks.spawn(async move {
            for number in (task..entities).step_by(64) {
                let user_name = format!("there-{number}");
                let create = CreateUserRequest { user_name, ..Default::default() };
                iam.create_user(with_token(create, &token)).await.expect("it is created");
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.expect("no task panics");
    }
}

/// Every user, and whether the policy `own` is there: what the store says now.
async fn users(channel: &Channel, token: &str) -> BTreeSet<String> {
    let mut iam = PolicyStoreServiceClient::new(channel.clone());
    let (mut found, mut marker) = (BTreeSet::new(), String::new());
    loop {
        let list = ListUsersRequest { marker, max_items: 1000, ..Default::default() };
        let page = iam.list_users(with_token(list, token)).await.expect("it answers").into_inner();
        found.extend(page.users.into_iter().map(|user| user.user_name));
        marker = page.marker;
        if !page.is_truncated {
            return found;
        }
    }
}

async fn has_policy(channel: &Channel, token: &str, user_name: &str) -> bool {
    use countersign_proto::policy::v1::GetUserPolicyRequest;

    let mut iam = PolicyStoreServiceClient::new(channel.clone());
    let get =
        GetUserPolicyRequest { user_name: user_name.to_owned(), policy_name: "own".to_owned() };
    match iam.get_user_policy(with_token(get, token)).await {
        Ok(answer) => answer.into_inner().policy_document.contains("s3:*"),
        Err(status) => {
            assert_eq!(status.code(), Code::NotFound, "{status}");
            false
        }
    }
}

/// Of each event of the trail's files: the name of what was done, and the user that it was done to.
fn events(cluster: &Cluster) -> BTreeMap<(String, String), usize> {
    let mut found = BTreeMap::new();
    let files = fs::read_dir(cluster.path("data/audit")).expect("there is a trail");
    for file in files {
        let text = fs::read_to_string(file.expect("it can be listed").path()).unwrap_or_default();
        for line in text.lines() {
            let Ok(line) = serde_json::from_str::<serde_json::Value>(line) else { continue };
            let event = line.get("event").unwrap_or(&line);
            let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
            let key = (text(&event["eventName"]), text(&event["requestParameters"]["userName"]));
            *found.entry(key).or_default() += 1;
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_store_acknowledged_is_there_and_in_the_trail() {
    let rounds = setting("COUNTERSIGN_KILL_ROUNDS", 3);
    let entities = setting("COUNTERSIGN_KILL_ENTITIES", 200);
    let cluster = Cluster::new();
    let mut store = cluster.start("policy-store");
    let _decision = cluster.start("decision");
    let _gateway = cluster.start("gateway");
    for part in ["policy-store", "decision", "gateway"] {
        cluster.wait_until_ready(part);
    }
    let token: Arc<str> = cluster.token().into();
    let channel = cluster.channel(cluster.store);
    fill(&channel, &token, entities).await;

    let told = Arc::new(Told::default());
    let mut tasks = JoinSet::new();
    for writer in 0..WRITERS {
        let channel = cluster.channel(cluster.store);
        tasks.spawn(write_on(told.clone(), channel, token.clone(), writer));
    }
    let decisions = cluster.channel(cluster.decision);
    tasks.spawn(ask_on(told.clone(), decisions, token.clone()));
    let mut slowest = Duration::ZERO;
    for round in 0..rounds {
        // Some time within a second, another each round.
        let pause = Duration::from_millis(150 + (round as u64 * 397) % 850);
        tokio::time::sleep(pause).await;
        slowest = slowest.max(killed_and_back(&cluster, &mut store));
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    told.over.store(true, Ordering::Relaxed);
    while let Some(ended) = tasks.join_next().await {
        ended.expect("no task panics");
    }

    let there = users(&channel, &token).await;
    let acknowledged = told.acknowledged.lock().expect("nobody panicked").clone();
    let mut lost: Vec<&String> =
        acknowledged.keys().filter(|name| !there.contains(*name)).collect();
    for (name, with_policy) in &acknowledged {
        if *with_policy && !has_policy(&channel, &token, name).await {
            lost.push(name);
        }
    }
    let kept = there.iter().filter(|name| name.starts_with("there-")).count();
    assert_eq!(crate::cluster::terminate(&mut store), Some(0));
    let verified = Command::new(binary())
        .args(["audit", "verify"])
        .arg(cluster.path("data/audit"))
        .output()
        .expect("it runs");
    let events = events(&cluster);
    let of = |what: &str, name: &String| {
        events.get(&(what.to_owned(), name.clone())).copied().unwrap_or_default()
    };
    // A user and its event are one commit: whoever is there has one event, acknowledged or not, and no event is of nobody.
    let half: Vec<&String> = there.iter().filter(|name| of("CreateUser", name) != 1).collect();
    let created = events.keys().filter(|(what, _)| what == "CreateUser");
    let of_nobody: Vec<_> = created.filter(|(_, name)| !there.contains(name)).collect();
    let missing: Vec<_> = acknowledged
        .iter()
        .filter(|(name, with_policy)| **with_policy && of("PutUserPolicy", name) != 1)
        .collect();
    let failed = told.failed.lock().expect("nobody panicked").clone();
    println!(
        "F1: {rounds} kills (-9) of the policy store at {entities} users: {} writes acknowledged, {} lost, {} half there; serving again \
         after at most {slowest:.2?}; {} decisions meanwhile, {} failed",
        acknowledged.len() + acknowledged.values().filter(|with_policy| **with_policy).count(),
        lost.len(),
        half.len() + of_nobody.len(),
        told.decisions.load(Ordering::Relaxed),
        failed.len(),
    );
    println!(
        "F21: {} events of the same, chained: {}; {} of what was acknowledged missing",
        events.values().sum::<usize>(),
        String::from_utf8_lossy(&verified.stdout).trim(),
        missing.len(),
    );
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
    assert_eq!(lost, Vec::<&String>::new());
    assert_eq!(half, Vec::<&String>::new());
    assert!(of_nobody.is_empty() && missing.is_empty(), "{of_nobody:?} {missing:?}");
    assert_eq!(failed, Vec::<String>::new());
    assert_eq!(kept, entities);
    assert!(acknowledged.len() > rounds, "it was killed while it worked");

    // And one byte that is changed is found.
    let file = first_file(&cluster);
    let mut bytes = fs::read(&file).expect("there is a file");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&file, bytes).expect("it can be written");
    let mut verify = Command::new(binary());
    let verified = run(verify.args(["audit", "verify"]).arg(cluster.path("data/audit")), "");
    assert!(!verified.status.success(), "{}", verified.stdout);
}

fn first_file(cluster: &Cluster) -> std::path::PathBuf {
    let files = fs::read_dir(cluster.path("data/audit")).expect("there is a trail");
    let mut paths: Vec<_> = files.map(|file| file.expect("it can be listed").path()).collect();
    paths.sort();
    paths
        .into_iter()
        .find(|path| fs::metadata(path).is_ok_and(|it| it.len() > 100))
        .expect("a file")
}

/// Returns how long it took from the start until it was ready again.
fn killed_and_back(cluster: &Cluster, store: &mut Running) -> Duration {
    Cluster::kill(store);
    let begun = Instant::now();
    *store = cluster.start("policy-store");
    cluster.wait_until_ready("policy-store");
    begun.elapsed()
}
