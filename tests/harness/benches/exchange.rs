//! What a whole exchange costs, through gRPC, against the real store, decision service and gateway with an STS stand-in on loopback: one shot
//! (one durable write) and by challenge (none), one at a time and many at once, and the parts of it by name.
//! `cargo bench -p countersign-harness --bench exchange -- 10`, the number being the seconds of each measurement. It prints tables, and
//! writes them to services/gateway/BENCHMARKS.md (to the file that COUNTERSIGN_BENCH_OUTPUT names, if it is set).

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a measurement that fails is none"
)]

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    sync::Arc,
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use countersign::{
    clients::Gateway,
    proof::{Form, STS_PROOF},
};
use countersign_gateway::{RateLimits, Rates};
use countersign_harness::{
    Ask, System,
    sts_stand_in::{Identity, StsStandIn},
};
use countersign_proto::token::v1::{
    ExchangeRequest, ExchangeWithChallengeRequest, exchange_with_challenge_request::Step as Said,
    exchange_with_challenge_response::Step as Heard,
};
use countersign_serve::{chain::Chain, telemetry::Metrics};
use countersign_sigv4::{Credentials, ProofRequest, StsProof, key::SecretKey};
use countersign_token::{Caller, Claims, Realm, Session, SigningKey, mint};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
    task::JoinSet,
};

const ACCOUNT: &str = "111122223333";
const MANY: usize = 32;
const WARM: usize = 50;
/// Of what is measured by itself.
const TIMES: u32 = 2_000;

/// How an exchange is made.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    OneShot,
    ByChallenge,
}

struct Bench {
    system: System,
    sts: StsStandIn,
    role: String,
    credentials: Credentials,
    metrics: Metrics,
    number: AtomicUsize,
}

impl Bench {
    async fn new() -> Self {
        let sts = StsStandIn::start(Identity {
            account: ACCOUNT.to_owned(),
            arn: format!("arn:aws:sts::{ACCOUNT}:assumed-role/Worker/i-1"),
            user_id: "AROAEXAMPLEEXAMPLE001:i-1".to_owned(),
        })
        .await;
        let endpoint = sts.endpoint("xml").parse().unwrap();
        let rate = "1000000:1000000".parse().unwrap();
        let rates = Rates { each: rate, all: rate };
        let metrics = Metrics::default();
        let system = System::with(|options| {
            options.sts_endpoints.push(endpoint);
            options.limits = RateLimits { exchanges: rates, http: rates, ..RateLimits::default() };
            options.metrics = metrics.clone();
        })
        .await;
        let principal = format!(r#"{{"AWS":"arn:aws:iam::{ACCOUNT}:role/Worker"}}"#);
        let role = system.create_role("ForWorkers", &principal, &[], "").await;
        let secret = SecretKey::new("anything");
        let credentials = Credentials::new("ASIAEXAMPLE", secret, Some("token".to_owned()));
        Self { system, sts, role, credentials, metrics, number: AtomicUsize::new(0) }
    }

    fn ask(&self) -> Ask {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        Ask::new(&self.role, format!("s-{number}"), "orders")
    }

    fn request(&self) -> ExchangeRequest {
        let place = self.system.sts_at(&self.sts.origin());
        self.system.request_at(&place, &self.credentials, &self.ask(), Form::Headers)
    }

    /// How long one took, the making of its proof apart, which is the client's.
    async fn one(&self, kind: Kind, gateway: &mut Gateway) -> Duration {
        match kind {
            Kind::OneShot => {
                let request = self.request();
                let began = Instant::now();
                gateway.exchange(request).await.unwrap();
                began.elapsed()
            }
            Kind::ByChallenge => {
                let place = self.system.sts_at(&self.sts.origin());
                let ask = self.ask();
                let (say, said) = mpsc::channel(2);
                let request = ExchangeRequest {
                    subject_token_type: STS_PROOF.to_owned(),
                    role_arn: ask.role_arn.clone(),
                    role_session_name: ask.role_session_name.clone(),
                    audience: ask.audience.clone(),
                    ..Default::default()
                };
                let began = Instant::now();
                let first = ExchangeWithChallengeRequest { step: Some(Said::Request(request)) };
                say.send(first).await.unwrap();
                let said = tokio_stream::wrappers::ReceiverStream::new(said);
                let mut heard = gateway.exchange_with_challenge(said).await.unwrap().into_inner();
                let Some(Heard::Challenge(challenge)) =
                    heard.message().await.unwrap().unwrap().step
                else {
                    return Duration::MAX;
                };
                let proof = ProofRequest {
                    origin: &place.sts_origin,
                    region: &place.sts_region,
                    audience: &place.issuer,
                    binding: ask.binding().as_str(),
                    challenge: Some(&challenge),
                }
                .sign_post(&self.credentials, countersign::proof::now())
                .unwrap();
                let proof = ExchangeWithChallengeRequest { step: Some(Said::SubjectToken(proof)) };
                say.send(proof).await.unwrap();
                let last = heard.message().await.unwrap().unwrap().step;
                assert!(matches!(last, Some(Heard::Response(_))));
                began.elapsed()
            }
        }
    }

    /// Seconds in all, and calls, of an RPC so far.
    fn spent(&self, method: &str) -> (f64, f64) {
        let page = self.metrics.page();
        let value = |name: &str| -> f64 {
            let is_it = |line: &&str| {
                line.starts_with(&format!("countersign_rpc_seconds_{name}{{"))
                    && line.contains(&format!("method=\"{method}\""))
            };
            let line = page.lines().find(is_it);
            line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or_default()
        };
        (value("sum"), value("count"))
    }
}

struct Measured {
    each: Vec<Duration>,
    took: Duration,
}

impl Measured {
    fn at(&self, percent: usize) -> f64 {
        self.each[(self.each.len() - 1) * percent / 100].as_secs_f64() * 1e3
    }

    fn rate(&self) -> f64 {
        self.each.len() as f64 / self.took.as_secs_f64()
    }
}

async fn measure(bench: &Arc<Bench>, kind: Kind, at_once: usize, lasts: Duration) -> Measured {
    let mut tasks = JoinSet::new();
    let began = Instant::now();
    for _ in 0..at_once {
        let bench = bench.clone();
        tasks.spawn(async move {
            let mut gateway = bench.system.gateway();
            let mut each = Vec::new();
            while began.elapsed() < lasts {
                each.push(bench.one(kind, &mut gateway).await);
            }
            each
        });
    }
    let mut each: Vec<Duration> = tasks.join_all().await.into_iter().flatten().collect();
    let took = began.elapsed();
    each.sort_unstable();
    Measured { each, took }
}

/// The mean, in milliseconds.
fn mean(mut work: impl FnMut()) -> f64 {
    let began = Instant::now();
    for _ in 0..TIMES {
        work();
    }
    began.elapsed().as_secs_f64() * 1e3 / f64::from(TIMES)
}

/// The stand-in asked directly, on a connection that is kept, as the gateway keeps its own.
async fn sts_call(origin: &str) -> f64 {
    let address = origin.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let body = "Action=GetCallerIdentity&Version=2011-06-15";
    let request = format!(
        "POST / HTTP/1.1\r\nhost: {address}\r\naccept: text/xml\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut answer = vec![0; 16 * 1024];
    let began = Instant::now();
    for _ in 0..TIMES {
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut have = 0;
        while !answer[..have].ends_with(b"</GetCallerIdentityResponse>") {
            have += stream.read(&mut answer[have..]).await.unwrap();
        }
    }
    began.elapsed().as_secs_f64() * 1e3 / f64::from(TIMES)
}

fn claims() -> Claims {
    let session = Session {
        account: "123456789012".into(),
        partition: "aws".into(),
        role_name: "ForWorkers".into(),
        role_id: "AROA1234567890ABCDEF".into(),
        session_name: "s-1".into(),
        source_identity: None,
        session_tags: Default::default(),
        transitive_tag_keys: Default::default(),
        session_policies: Vec::new(),
        narrowings: Vec::new(),
        parents: Vec::new(),
        proof_type: STS_PROOF.into(),
        caller: Caller {
            realm: Realm::Aws,
            account: ACCOUNT.into(),
            unique_id: "AROAEXAMPLEEXAMPLE001".into(),
            arn: format!("arn:aws:sts::{ACCOUNT}:assumed-role/Worker/i-1"),
        },
        revision: "0123456789abcdef:123456".into(),
    };
    let now = countersign::proof::now();
    Claims::for_session("http://127.0.0.1:7400".into(), "orders".into(), now, now + 900, session)
        .unwrap()
}

fn audit() -> f64 {
    let folder = tempfile::tempdir().unwrap();
    let mut chain = Chain::open(folder.path(), "exchanges").unwrap();
    let event = format!("{{\"event\":\"{}\"}}", "x".repeat(700));
    let now = countersign::proof::now();
    let began = Instant::now();
    for _ in 0..200 {
        chain.append([(0, event.as_str())], now).unwrap();
    }
    began.elapsed().as_secs_f64() * 1e3 / 200.0
}

fn output() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../services/gateway/BENCHMARKS.md");
    std::env::var_os("COUNTERSIGN_BENCH_OUTPUT").map_or(own, PathBuf::from)
}

fn main() {
    // Else the harness keeps every line.
    let _ = tracing_subscriber::util::SubscriberInitExt::try_init(tracing_subscriber::registry());
    let seconds = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(10);
    let lasts = Duration::from_secs(seconds);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let text = runtime.block_on(run(lasts));
    println!("{text}");
    std::fs::write(output(), text).unwrap();
}

async fn run(lasts: Duration) -> String {
    let bench = Arc::new(Bench::new().await);
    let mut gateway = bench.system.gateway();
    for kind in [Kind::OneShot, Kind::ByChallenge] {
        for _ in 0..WARM {
            bench.one(kind, &mut gateway).await;
        }
    }
    let mut text = format!(
        "# What an exchange costs\n\n    cargo bench -p countersign-harness --bench exchange -- {}\n\n\
         The whole system in one process (`up`), its store on disk, an STS stand-in on loopback, and the clients in the same process, which sign the \
         proofs: of {} cores. One shot: one durable write of the proof that is spent, and one of the audit trail. By challenge: one of the audit \
         trail.\n\n| exchange | at once | a second | p50, ms | p99, ms | exchanges |\n| --- | --- | --- | --- | --- | --- |\n",
        lasts.as_secs(),
        std::thread::available_parallelism().map_or(0, usize::from),
    );
    let mut parts = Vec::new();
    for (kind, name) in [(Kind::OneShot, "one shot"), (Kind::ByChallenge, "by challenge")] {
        for at_once in [1, MANY] {
            let rpcs = ["AuthorizeAssumeRole", "ConsumeProof"];
            let before = rpcs.map(|rpc| bench.spent(rpc));
            let measured = measure(&bench, kind, at_once, lasts).await;
            let after = rpcs.map(|rpc| bench.spent(rpc));
            let count = measured.each.len() as f64;
            let (p50, p99) = (measured.at(50), measured.at(99));
            let _ = writeln!(
                text,
                "| {name} | {at_once} | {:.0} | {p50:.2} | {p99:.2} | {count} |",
                measured.rate(),
            );
            if at_once == 1 {
                let of = |index: usize| {
                    let (sum, calls) =
                        (after[index].0 - before[index].0, after[index].1 - before[index].1);
                    (sum * 1e3 / count, calls / count)
                };
                let mean = measured.each.iter().sum::<Duration>().as_secs_f64() * 1e3 / count;
                parts.push((name, mean, of(0), of(1)));
            }
        }
    }
    let proof = bench.request().subject_token;
    let parse = mean(|| drop(StsProof::parse(&proof).unwrap()));
    let (key, claims) = (SigningKey::generate().unwrap(), claims());
    let minted = mean(|| drop(mint(&claims, &key).unwrap()));
    let sts = sts_call(&bench.sts.origin()).await;
    let audited = audit();
    text.push_str(
        "\nThe parts of one, one at a time; means, in ms. Decisions and the store's write as these services measure them; the others measured by \
         themselves.\n\n| part | one shot | by challenge |\n| --- | --- | --- |\n",
    );
    let row = |text: &mut String, name: &str, values: [String; 2]| {
        let _ = writeln!(text, "| {name} | {} | {} |", values[0], values[1]);
    };
    let same = |value: f64| [format!("{value:.3}"), format!("{value:.3}")];
    row(&mut text, "parse: the proof into its closed form", same(parse));
    row(&mut text, "STS: asked on a kept connection", same(sts));
    let of = |part: fn(&(f64, f64)) -> String, index: usize| {
        [0, 1].map(|kind: usize| part(if index == 0 { &parts[kind].2 } else { &parts[kind].3 }))
    };
    let shown = |(ms, calls): &(f64, f64)| format!("{ms:.3} ({calls:.1} calls)");
    row(&mut text, "decision: AuthorizeAssumeRole", of(shown, 0));
    row(&mut text, "store: ConsumeProof, on disk", of(shown, 1));
    row(&mut text, "mint: claims into a signed token", same(minted));
    row(&mut text, "audit: the exchange, on disk", same(audited));
    let rest = [0, 1].map(|kind: usize| {
        let (_, mean, decision, store) = parts[kind];
        format!("{:.3}", mean - parse - sts - decision.0 - store.0 - minted - audited)
    });
    row(&mut text, "the rest: four or five hops of gRPC and HTTP, and the client", rest);
    row(&mut text, "all of it", [0, 1].map(|kind: usize| format!("{:.3}", parts[kind].1)));
    text
}
