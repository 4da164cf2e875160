//! Callers with a standard retry, who keep a list of what they were told.

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use countersign_proto::{
    decision::v1::{
        AuthorizeRequest, authorize_request::Subject,
        decision_service_client::DecisionServiceClient,
    },
    policy::v1::{
        CreateUserRequest, DeleteUserRequest, GetUserRequest,
        policy_store_service_client::PolicyStoreServiceClient,
    },
    token::v1::token_exchange_service_client::TokenExchangeServiceClient,
};
use countersign_serve::{
    dial::{Trust, channel},
    tls::trusting,
};
use tokio::task::JoinSet;
use tonic::{Code, Request, Status, transport::Channel};

use crate::cluster::{ACCOUNT, DECISIONS, Files, GATEWAYS, STORES, administrator};

/// One attempt; then the next replica.
const ATTEMPT: Duration = Duration::from_secs(1);
/// A proof asks three services in turn.
const EXCHANGE_ATTEMPT: Duration = Duration::from_secs(5);
/// A call that has not succeeded by then has failed.
const DECIDED_WITHIN: Duration = Duration::from_secs(10);
const WRITTEN_WITHIN: Duration = Duration::from_secs(60);

/// A service's replicas, and a standard retry: the next of them after each failure that may pass.
#[derive(Clone)]
pub struct Replicas {
    channels: Vec<Channel>,
    next: Arc<AtomicU64>,
    retried: Arc<AtomicU64>,
}

impl Replicas {
    fn new(ports: &[u16], ca: &Path) -> Self {
        let trust = Trust::Name(Arc::new(trusting(ca).expect("ca.crt is there")));
        let open = |port: &u16| {
            channel(&format!("https://localhost:{port}"), trust.clone()).expect("an address")
        };
        let channels = ports.iter().map(open).collect();
        Self { channels, next: Arc::default(), retried: Arc::default() }
    }

    /// The answer, or what was wrong with the last attempt.
    async fn call<T, F>(
        &self,
        (attempt_within, within): (Duration, Duration),
        attempt: impl Fn(Channel) -> F,
    ) -> Result<T, Status>
    where
        F: Future<Output = Result<T, Status>>,
    {
        let begun = Instant::now();
        loop {
            let next = self.next.fetch_add(1, Ordering::Relaxed);
            let next = usize::try_from(next).expect("a count fits");
            let channel = self.channels[next % self.channels.len()].clone();
            let status = match tokio::time::timeout(attempt_within, attempt(channel)).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(status)) => status,
                Err(_) => Status::deadline_exceeded("no answer to this attempt"),
            };
            let may_pass = matches!(
                status.code(),
                Code::Unavailable
                    | Code::DeadlineExceeded
                    | Code::Cancelled
                    | Code::Unknown
                    | Code::Aborted
            );
            if !may_pass || begun.elapsed() > within {
                return Err(status);
            }
            self.retried.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn retried(&self) -> u64 {
        self.retried.load(Ordering::Relaxed)
    }
}

fn with_token<T>(message: T, token: &str) -> Request<T> {
    let mut request = Request::new(message);
    let bearer = format!("Bearer {token}").parse().expect("a token is ASCII");
    request.metadata_mut().insert("authorization", bearer);
    request
}

/// What the callers were told.
#[derive(Default)]
struct Told {
    over: AtomicBool,
    decisions: AtomicU64,
    slowest: AtomicU64,
    exchanges: AtomicU64,
    failed: Mutex<Vec<String>>,
    acknowledged: Mutex<BTreeSet<String>>,
}

impl Told {
    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    fn failed(&self, what: String) {
        eprintln!("{what}");
        self.failed.lock().expect("nobody panicked").push(what);
    }
}

/// Callers at work: four that ask for decisions, two that create users, and one that exchanges proofs and uses each token once.
pub struct Load {
    stores: Replicas,
    decisions: Replicas,
    gateways: Replicas,
    files: Arc<Files>,
    token: Arc<str>,
    told: Arc<Told>,
    tasks: JoinSet<()>,
}

impl Load {
    pub async fn begun(files: Files) -> Self {
        let ca = files.ca();
        let replicas = |ports: &[u16]| Replicas::new(ports, &ca);
        let (stores, decisions) = (replicas(STORES), replicas(DECISIONS));
        let (gateways, files) = (replicas(GATEWAYS), Arc::new(files));
        let token = exchange(&gateways, &files).await.expect("it is granted").into();
        let told = Arc::<Told>::default();
        let mut load =
            Self { stores, decisions, gateways, files, token, told, tasks: JoinSet::new() };
        for _ in 0..4 {
            let (told, decisions) = (load.told.clone(), load.decisions.clone());
            load.tasks.spawn(ask_on(told, decisions, load.token.clone()));
        }
        for writer in 0..2 {
            let (told, stores) = (load.told.clone(), load.stores.clone());
            load.tasks.spawn(write_on(told, stores, load.token.clone(), writer));
        }
        let (told, decisions) = (load.told.clone(), load.decisions.clone());
        load.tasks.spawn(exchange_on(told, load.gateways.clone(), decisions, load.files.clone()));
        tokio::time::sleep(Duration::from_secs(2)).await;
        load
    }

    /// How far it is, in words.
    pub fn progress(&self) -> String {
        format!(
            "{} decisions, {} writes, {} exchanges, {} failed so far",
            self.told.decisions.load(Ordering::Relaxed),
            self.told.acknowledged.lock().expect("nobody panicked").len(),
            self.told.exchanges.load(Ordering::Relaxed),
            self.told.failed.lock().expect("nobody panicked").len(),
        )
    }

    /// Stops the callers, prints their figures, and holds that nothing failed, and that each store has every acknowledged write.
    pub async fn ended(mut self, what: &str) {
        tokio::time::sleep(Duration::from_secs(2)).await;
        self.told.over.store(true, Ordering::Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended.expect("no task panics");
        }
        let acknowledged = self.told.acknowledged.lock().expect("nobody panicked").clone();
        let lost = self.lost(&acknowledged).await;
        let (decisions, exchanges) = (&self.told.decisions, &self.told.exchanges);
        let (decisions, exchanges) =
            (decisions.load(Ordering::Relaxed), exchanges.load(Ordering::Relaxed));
        println!(
            "{what}: {decisions} decisions ({} attempts retried, the slowest {} ms), {} writes acknowledged ({} attempts retried), \
             {exchanges} exchanges ({} attempts retried), {} failed, {} lost",
            self.decisions.retried(),
            self.told.slowest.load(Ordering::Relaxed),
            acknowledged.len(),
            self.stores.retried(),
            self.gateways.retried(),
            self.told.failed.lock().expect("nobody panicked").len(),
            lost.len(),
        );
        assert!(lost.is_empty(), "{lost:?}");
        let failed = self.told.failed.lock().expect("nobody panicked");
        assert!(failed.is_empty(), "{} failed; the first: {:?}", failed.len(), failed.first());
        assert!(acknowledged.len() > 100 && decisions > 1_000 && exchanges > 10);
    }

    /// Of what was acknowledged, what one of the stores does not have.
    async fn lost(&self, acknowledged: &BTreeSet<String>) -> Vec<String> {
        let mut lost = Vec::new();
        for name in acknowledged {
            for channel in &self.stores.channels {
                let message = GetUserRequest { user_name: name.clone() };
                let mut client = PolicyStoreServiceClient::new(channel.clone());
                if let Err(status) = client.get_user(with_token(message, &self.token)).await {
                    lost.push(format!("{name}: {status}"));
                }
            }
            // An account has 5,000 users at most, and the next test makes its own.
            let message = DeleteUserRequest { user_name: name.clone(), ..Default::default() };
            let mut client = PolicyStoreServiceClient::new(self.stores.channels[0].clone());
            if let Err(status) = client.delete_user(with_token(message, &self.token)).await {
                lost.push(format!("{name}, when it was deleted: {status}"));
            }
        }
        lost
    }
}

async fn ask(decisions: &Replicas, token: &str) -> Result<bool, Status> {
    let question = AuthorizeRequest {
        subject: Some(Subject::PrincipalArn(administrator())),
        action: "s3:GetObject".to_owned(),
        resource: "arn:aws:s3:::bucket/a".to_owned(),
        resource_account: ACCOUNT.to_owned(),
        ..AuthorizeRequest::default()
    };
    let answer = decisions.call((ATTEMPT, DECIDED_WITHIN), async |channel| {
        let request = with_token(question.clone(), token);
        Ok(DecisionServiceClient::new(channel).authorize(request).await?.into_inner().allowed)
    });
    answer.await
}

async fn ask_on(told: Arc<Told>, decisions: Replicas, token: Arc<str>) {
    while !told.is_over() {
        let begun = Instant::now();
        match ask(&decisions, &token).await {
            Ok(true) => {}
            Ok(false) => told.failed("a decision was DENY".to_owned()),
            Err(status) => told.failed(format!("a decision: {status}")),
        }
        let took = u64::try_from(begun.elapsed().as_millis()).expect("no time is as long");
        told.slowest.fetch_max(took, Ordering::Relaxed);
        told.decisions.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn write_on(told: Arc<Told>, stores: Replicas, token: Arc<str>, writer: u32) {
    let run = std::process::id();
    let begun = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let begun = begun.expect("it is later").as_secs();
    for number in 0.. {
        if told.is_over() {
            return;
        }
        let name = format!("w{writer}-{run}-{begun}-{number}");
        // Named, so that an attempt after one whose answer was lost finds what that one did.
        let message = CreateUserRequest {
            user_name: name.clone(),
            request_id: name.clone(),
            ..CreateUserRequest::default()
        };
        let answer = stores.call((ATTEMPT, WRITTEN_WITHIN), async |channel| {
            let request = with_token(message.clone(), &token);
            PolicyStoreServiceClient::new(channel).create_user(request).await
        });
        match answer.await {
            Ok(_) => {
                told.acknowledged.lock().expect("nobody panicked").insert(name);
            }
            Err(status) => told.failed(format!("a write: {status}")),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A token for a proof. Each attempt is a proof of its own, since one is good once.
async fn exchange(gateways: &Replicas, files: &Arc<Files>) -> Result<String, Status> {
    let answer = gateways.call((EXCHANGE_ATTEMPT, WRITTEN_WITHIN), async |channel| {
        let files = files.clone();
        let request = tokio::task::spawn_blocking(move || files.exchange_request());
        let request = request.await.expect("a proof is made");
        let mut client = TokenExchangeServiceClient::new(channel);
        Ok(client.exchange(request).await?.into_inner().access_token)
    });
    answer.await
}

async fn exchange_on(told: Arc<Told>, gateways: Replicas, decisions: Replicas, files: Arc<Files>) {
    while !told.is_over() {
        let used = match exchange(&gateways, &files).await {
            Ok(token) => ask(&decisions, &token).await,
            Err(status) => Err(status),
        };
        match used {
            Ok(true) => {}
            Ok(false) => told.failed("a new token's decision was DENY".to_owned()),
            Err(status) => told.failed(format!("an exchange, or its token: {status}")),
        }
        told.exchanges.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
