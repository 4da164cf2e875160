//! F1, F2 and F6 by the policy API: real processes that are killed (-9) while clients write, and the history of it given to a
//! linearizability checker. In full:
//! `COUNTERSIGN_KILL_ROUNDS=200 COUNTERSIGN_KILL_ENTITIES=100000 cargo test --release -p countersign-policy-store --test it killed -- --nocapture`

use std::{
    collections::BTreeMap,
    env, fs,
    net::TcpListener,
    path::Path,
    process::{Child, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use countersign_policy_store::{Place, SERVICE_NAME, transfer::make_store};
use countersign_proto::policy::v1::{policy_store_service_client::PolicyStoreServiceClient, *};
use countersign_serve::grpc;
use countersign_store::{
    Write,
    conformance::linearizability::{self, Call, History, Seen, Value},
};
use countersign_token::{key::SigningKey, mint};
use prost::Message;
use tonic::{Code, Request, Status};

use crate::{
    program::Program,
    support::{ACCOUNT, Bearer, Client, allow, claims},
};

const ROUNDS: &str = "COUNTERSIGN_KILL_ROUNDS";
const ENTITIES: &str = "COUNTERSIGN_KILL_ENTITIES";
const CLIENTS: u64 = 8;
const REGISTERS: u64 = 4;
const PAUSE: Duration = Duration::from_millis(10);
const AWAY: Duration = Duration::from_millis(200);
/// A call that takes longer has no known end.
const PATIENCE: Duration = Duration::from_secs(5);
/// The form of records that are written past the service.
const FORM: u8 = 2;

fn setting(name: &str, default: u64) -> u64 {
    env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// A policy store process, and where it listens.
struct Server {
    program: Program,
    origin: String,
    process: Option<Child>,
}

impl Server {
    fn new(store: &str, more: &[(&'static str, String)]) -> Self {
        let mut program = Program::new();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        program.settings.insert("listen", format!("127.0.0.1:{port}"));
        if !store.is_empty() {
            program.settings.insert("store", store.to_owned());
        }
        program.settings.extend(more.iter().cloned());
        Self { program, origin: format!("http://127.0.0.1:{port}"), process: None }
    }

    async fn start(&mut self) -> Duration {
        let began = Instant::now();
        let log = fs::File::create(self.program.path("log")).unwrap();
        let mut command = self.program.command(&["--insecure-plaintext"], &[]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.process = Some(command.spawn().unwrap());
        grpc::wait_until_serving(&self.origin, SERVICE_NAME, Duration::from_secs(60))
            .await
            .unwrap();
        began.elapsed()
    }

    fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    fn client(&self, bearer: &Bearer) -> Client<Bearer> {
        PolicyStoreServiceClient::with_interceptor(
            grpc::channel(&self.origin).unwrap(),
            bearer.clone(),
        )
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Puts entities and a signing key past the service, and makes an administrator's token.
async fn prepare(place: &Place, data_dir: &Path, entities: u64) -> Bearer {
    let store = make_store(place, data_dir).await.unwrap();
    let users: Vec<Write> = (0..entities).map(user).collect();
    for writes in users.chunks(100) {
        store.commit(Vec::new(), writes.to_vec()).await.unwrap();
    }
    let signing_key = SigningKey::generate().unwrap();
    let tomorrow = Some((SystemTime::now() + Duration::from_secs(86_400)).into());
    let record = SigningKeyRecord {
        kid: signing_key.public().kid().to_owned(),
        jwk: signing_key.public().to_jwk(),
        publisher: "test".to_owned(),
        publish_date: Some(SystemTime::now().into()),
        signs_until: tomorrow,
        accept_until: tomorrow,
        revoked: false,
    };
    let put = put(format!("signing/{}", record.kid), &record);
    let revision = store.commit(Vec::new(), vec![put]).await.unwrap();
    let role = format!("role/{ACCOUNT}/countersignadministrator");
    let role = store.get(role.as_bytes()).await.unwrap().unwrap();
    let role = RoleRecord::decode(&role.value[1..]).unwrap();
    let claims = claims(
        ACCOUNT,
        &role.role_name,
        &role.role_id,
        "countersign",
        40_000,
        &revision.to_string(),
    );
    Bearer(mint(&claims, &signing_key).unwrap())
}

fn put(key: String, record: &impl Message) -> Write {
    Write::Put { key: key.into(), value: [vec![FORM], record.encode_to_vec()].concat().into() }
}

fn user(number: u64) -> Write {
    let record = UserRecord {
        account_id: ACCOUNT.into(),
        path: "/".into(),
        user_name: format!("u{number:07}"),
        user_id: format!("AIDA{number:017}"),
        ..Default::default()
    };
    put(format!("user/{ACCOUNT}/u{number:07}"), &record)
}

/// A register is an inline policy of a user; its value is in an action's name.
fn document(value: u64) -> String {
    allow(&format!("s3:Get{value}"), "*")
}

fn value_in(document: &str) -> u64 {
    document.split_once("s3:Get").unwrap().1.split_once('"').unwrap().0.parse().unwrap()
}

fn register(number: u64) -> String {
    format!("register{number}")
}

fn timed<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(PATIENCE);
    request
}

/// What is there, and its etag. Nothing when nobody answers.
async fn read(iam: &mut Client<Bearer>, user_name: &str) -> Option<(Value, String)> {
    let asked =
        GetUserPolicyRequest { user_name: user_name.to_owned(), policy_name: "p".to_owned() };
    match iam.get_user_policy(timed(asked)).await {
        Ok(found) => {
            let found = found.into_inner();
            Some((Some(value_in(&found.policy_document)), found.etag))
        }
        Err(status) if status.code() == Code::NotFound => Some((None, "none".to_owned())),
        Err(_) => None,
    }
}

/// Writes, on what was read alone if anything was; what was seen of it, and the revision's number. Nothing when it certainly did not happen
/// for a reason that says nothing of the register.
async fn write(
    iam: &mut Client<Bearer>,
    user_name: &str,
    known: Option<(Value, String)>,
    new: Value,
) -> Option<(Seen, u64)> {
    let (user_name, policy_name) = (user_name.to_owned(), "p".to_owned());
    let (expected, etag) = match known {
        Some((value, etag)) => (Some(value), etag),
        None => (None, String::new()),
    };
    let answer: Result<String, Status> = match new {
        Some(value) => {
            let put = PutUserPolicyRequest {
                user_name,
                policy_name,
                policy_document: document(value),
                etag,
                ..Default::default()
            };
            iam.put_user_policy(timed(put)).await.map(|answer| answer.into_inner().revision)
        }
        None => {
            let gone =
                DeleteUserPolicyRequest { user_name, policy_name, etag, ..Default::default() };
            iam.delete_user_policy(timed(gone)).await.map(|answer| answer.into_inner().revision)
        }
    };
    match (answer, expected) {
        (Ok(revision), expected) => {
            let number = revision.rsplit_once(':').unwrap().1.parse().unwrap();
            Some((Seen::Wrote { expected, new }, number))
        }
        (Err(status), expected) => match status.code() {
            Code::Aborted if status.message().contains("changed underneath") => {
                Some((Seen::Refused { expected: expected.unwrap() }, 0))
            }
            // Too many at once, or a delete of what was not there: nothing was written.
            Code::Aborted | Code::NotFound | Code::ResourceExhausted => None,
            Code::Unavailable if never_sent(&status) => None,
            Code::Unavailable
            | Code::Unknown
            | Code::Cancelled
            | Code::DeadlineExceeded
            | Code::Internal => Some((Seen::Unknown { expected, new }, 0)),
            code => panic!("{code:?}: {status:?}"),
        },
    }
}

/// Whether nobody listened, so that nothing was sent.
fn never_sent(status: &Status) -> bool {
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        let refused = error
            .downcast_ref::<std::io::Error>()
            .is_some_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused);
        if refused {
            return true;
        }
        cause = error.source();
    }
    false
}

/// One client: reads, writes and deletes registers until it is told to stop.
async fn run(
    mut iam: Client<Bearer>,
    client: u64,
    began: Instant,
    stop: Arc<AtomicBool>,
) -> Vec<(String, Call)> {
    let now = || u64::try_from(began.elapsed().as_nanos()).unwrap();
    let mut calls = Vec::new();
    // What was read last of each register.
    let mut known: BTreeMap<String, (Value, String)> = BTreeMap::new();
    let mut random = client + 1;
    let mut below = move |bound: u64| {
        // Knuth's MMIX generator.
        random =
            random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % bound
    };
    let mut turn = 0;
    while !stop.load(Ordering::Relaxed) {
        turn += 1;
        let (name, kind) = (register(below(REGISTERS)), below(10));
        let invoked = now();
        let seen = match known.remove(&name) {
            Some(held) if kind >= 2 => {
                let new = (kind != 9 || held.0.is_none()).then_some(client << 32 | turn);
                write(&mut iam, &name, Some(held), new).await
            }
            _ if kind == 0 => write(&mut iam, &name, None, Some(client << 32 | turn)).await,
            _ => read(&mut iam, &name).await.map(|found| {
                let seen = Seen::Read(found.0);
                known.insert(name.clone(), found);
                (seen, 0)
            }),
        };
        let returned = now();
        let is_away = matches!(seen, None | Some((Seen::Unknown { .. }, _)));
        calls.extend(seen.map(|(seen, number)| (name, Call { invoked, returned, seen, number })));
        // Who is away is not asked as often: each write of unknown end may be anywhere in the order, and the checker tries them all.
        tokio::time::sleep(if is_away { AWAY } else { PAUSE }).await;
    }
    calls
}

/// Kills by turns what `kill` knows by number, while clients go on; what they saw, and how long each took to be back.
async fn history(
    servers: &mut [Server],
    bearer: &Bearer,
    rounds: u64,
    mut also: impl FnMut(u64) -> bool,
) -> (History, Vec<Duration>) {
    let mut iam = servers[0].client(bearer);
    for number in 0..REGISTERS {
        let new = CreateUserRequest { user_name: register(number), ..Default::default() };
        iam.create_user(new).await.unwrap();
    }
    let (began, stop) = (Instant::now(), Arc::new(AtomicBool::new(false)));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let server = &servers[usize::try_from(client).unwrap() % servers.len()];
            tokio::spawn(run(server.client(bearer), client, began, stop.clone()))
        })
        .collect();
    let mut starts = Vec::new();
    for round in 0..rounds {
        // Another moment each time.
        tokio::time::sleep(Duration::from_millis(500 + round * 137 % 500)).await;
        if !also(round) {
            let place = usize::try_from(round).unwrap() % servers.len();
            servers[place].kill();
            starts.push(servers[place].start().await);
        }
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    stop.store(true, Ordering::Relaxed);
    let mut history = History::new();
    for client in clients {
        for (key, call) in client.await.unwrap() {
            history.entry(key).or_default().push(call);
        }
    }
    // What is there at the end, by every process: so nothing acknowledged is gone.
    for server in servers.iter() {
        let mut iam = server.client(bearer);
        for (key, calls) in &mut history {
            let invoked = u64::try_from(began.elapsed().as_nanos()).unwrap();
            let found = read(&mut iam, key).await.unwrap().0;
            let returned = u64::try_from(began.elapsed().as_nanos()).unwrap();
            calls.push(Call { invoked, returned, seen: Seen::Read(found), number: 0 });
        }
    }
    (history, starts)
}

fn check(what: &str, history: &History, rounds: u64, starts: &[Duration]) {
    let began = Instant::now();
    linearizability::check(history).unwrap_or_else(|reason| panic!("not linearizable: {reason}"));
    let checked = began.elapsed();
    let calls: Vec<&Call> = history.values().flatten().collect();
    let count = |kind: fn(&Seen) -> bool| calls.iter().filter(|call| kind(&call.seen)).count();
    let wrote = count(|seen| matches!(seen, Seen::Wrote { .. }));
    let unknown = count(|seen| matches!(seen, Seen::Unknown { .. }));
    println!(
        "{what}: {rounds} kills, {} calls, {wrote} writes acknowledged, {unknown} of unknown end: linearizable (checked in {checked:.1?}), \
         0 lost; serving again after at most {:.2?}",
        calls.len(),
        starts.iter().max().copied().unwrap_or_default()
    );
    assert!(wrote as u64 > rounds, "{wrote} writes in {rounds} rounds");
}

/// FAULTS.md F1 and F6, by the API of one process on sled.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_process_keeps_its_word() {
    let (rounds, entities) = (setting(ROUNDS, 4), setting(ENTITIES, 1_000));
    let mut servers = [Server::new("", &[])];
    servers[0].program.init(&[]);
    let data_dir = servers[0].program.path("data");
    let bearer = prepare(&Place::DataFolder, &data_dir, entities).await;
    servers[0].start().await;
    let (history, starts) = history(&mut servers, &bearer, rounds, |_| false).await;
    check(&format!("F1, F6 on sled with {entities} entities"), &history, rounds, &starts);
}

/// FAULTS.md F2 and F6, by the API of two processes on one etcd; each of the three is killed in turn.
#[cfg(feature = "etcd")]
#[tokio::test(flavor = "multi_thread")]
async fn two_killed_processes_on_etcd_keep_their_word() {
    let (rounds, entities) = (setting(ROUNDS, 6), setting(ENTITIES, 1_000));
    let mut etcd = crate::own_etcd::Etcd::new();
    etcd.start("http", &[]);
    let place = etcd.place("http");
    let store = format!("etcd:{}", place.endpoints[0]);
    let secrets = tempfile::tempdir().unwrap();
    let more = [("secrets_dir", secrets.path().display().to_string())];
    let mut servers = [Server::new(&store, &more), Server::new(&store, &more)];
    servers[0].program.init(&[]);
    let bearer = prepare(&Place::Etcd(place), Path::new(""), entities).await;
    for server in &mut servers {
        server.start().await;
    }
    let (history, starts) = history(&mut servers, &bearer, rounds, |round| {
        let is_etcd = round % 3 == 2;
        if is_etcd {
            etcd.kill();
            etcd.start("http", &[]);
        }
        is_etcd
    })
    .await;
    check("F2, F6 on etcd, two processes", &history, rounds, &starts);
}
