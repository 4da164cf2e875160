//! The attacks on the token gateway, in one table: what is sent, the reason of the refusal, and how far it got. `ATTACKS.md` of this
//! package is the table; `COUNTERSIGN_BLESS=1 cargo test -p countersign-gateway --test gateway attacks` writes it anew.
//!
//! A line's number is the one that comments `ATTACKS n` in the tree go by. Each line is sent here, or is covered by tests that are named
//! and looked for, or is said to be open; no line is left out. All that is sent here must be refused, with a reason of its own, and mint
//! nothing.

mod elsewhere;
mod sent;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    path::Path,
};

use countersign_gateway::Config;
use countersign_proto::token::v1::ExchangeRequest;

use crate::{
    attacks::{
        elsewhere::{ELSEWHERE, Elsewhere, TITLES},
        sent::{Row, Shape, rows},
    },
    bound,
    client::Client,
    ec2::{self, Ec2},
    idp::Idp,
    proofs::{Form, Workload, request, spoil},
    system::{System, now},
};

const LINES: u8 = 92;
const GOLDEN: &str = "ATTACKS.md";
pub const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";

/// What a table's row says of one that was sent.
struct Seen {
    sent: &'static str,
    code: String,
    reason: String,
    reached: &'static str,
}

struct Field {
    system: System,
    idp: std::sync::Arc<Idp>,
    ec2: Ec2,
    client: Client,
}

impl Field {
    async fn new() -> Self {
        let idp = Idp::start().await;
        let issuers = idp.configured("aws-sts", "account = \"123456789012\"");
        let ec2 = Ec2::new();
        let instances = ec2.instances();
        let configure = |config: &mut Config| {
            (config.jwt_issuers, config.instances) = (issuers, instances);
        };
        let system = System::start_as(|_| {}, ";format=xml", configure).await;
        system.ready().await;
        Self { system, idp, ec2, client: Client::new() }
    }

    fn workload(&self, form: Form) -> Workload {
        let system = &self.system;
        Workload::external(&system.gateway.issuer, &system.sts.origin).with(|w| {
            w.form = form;
            w.now = now();
        })
    }

    fn request(&self, shape: &Shape) -> ExchangeRequest {
        match shape {
            Shape::Post(change) => spoil(self.workload(Form::Post).sign(request()), change),
            Shape::Presigned(change) => {
                spoil(self.workload(Form::Presigned).sign(request()), change)
            }
            Shape::Signed(change) => self.workload(Form::Post).with(change).sign(request()),
            Shape::Altered(change) => {
                let mut request = self.workload(Form::Post).sign(request());
                change(&mut request);
                request
            }
            Shape::Answer(change) => {
                self.system.sts.answers(change(&self.system));
                self.workload(Form::Post).sign(request())
            }
            Shape::Jwt(change) => {
                let (mut header, mut claims) = self.idp.aws_token(&self.system.gateway.issuer);
                change(&mut header, &mut claims);
                self.shown(self.idp.sign_as(&header, &claims.to_string()))
            }
            Shape::Envelope(make) => ec2::shown(&make(&self.ec2)),
            Shape::JwtText(make) => {
                let (header, claims) = self.idp.aws_token(&self.system.gateway.issuer);
                self.shown(make(&self.idp, &header, &claims.to_string()))
            }
        }
    }

    fn shown(&self, token: String) -> ExchangeRequest {
        ExchangeRequest {
            subject_token: token,
            subject_token_type: JWT.into(),
            external_id: String::new(),
            ..request()
        }
    }

    /// How often each was reached: STS, the decision service, the store for spending or pinning.
    fn counts(&self) -> [usize; 3] {
        let store = &self.system.store;
        [
            self.system.sts.asked(),
            self.system.decision.asked().len(),
            store.calls("ConsumeProof") + store.calls("PinPrincipal"),
        ]
    }

    async fn send(&self, row: &Row) -> Seen {
        let request = self.request(&row.shape);
        let before = self.counts();
        let fetched = self.idp.asked();
        // An instance's document comes with a key, so that it is not for want of one that it is refused.
        let possession = match &row.shape {
            Shape::Envelope(_) => ec2::possession(&self.system, &self.client),
            Shape::Post(_)
            | Shape::Presigned(_)
            | Shape::Signed(_)
            | Shape::Altered(_)
            | Shape::Answer(_)
            | Shape::Jwt(_)
            | Shape::JwtText(_) => String::new(),
        };
        let refused = match bound::exchange(&self.system, request, &possession).await {
            Ok(_) => panic!("{} `{}`: it was granted", row.line, row.sent),
            Err(refused) => refused,
        };
        assert!(!refused.reason.is_empty(), "{} `{}`: {refused:?}", row.line, row.sent);
        let after = self.counts();
        let [sts, decision, store] = [0, 1, 2].map(|which| after[which] > before[which]);
        assert!(!store, "{} `{}`: something was spent", row.line, row.sent);
        let reached = match (sts, decision, self.idp.asked() > fetched) {
            (false, false, false) => "nobody",
            (true, false, _) => "STS",
            (false, false, true) => "the issuer's keys",
            (_, true, _) => "the decision service",
        };
        let code = format!("{:?}", refused.code);
        Seen { sent: row.sent, code, reason: refused.reason, reached }
    }
}

#[tokio::test]
async fn every_line_is_sent_or_named_or_open() {
    let field = Field::new().await;
    // The good ones go through, or the table would prove nothing; and the issuer's keys are then known.
    let envelope = ec2::shown(&field.ec2.spoilt(|_| {}));
    let possession = ec2::possession(&field.system, &field.client);
    bound::exchange(&field.system, envelope, &possession).await.unwrap();
    for shape in [Shape::Post(|_| {}), Shape::Presigned(|_| {}), Shape::Jwt(|_, _| {})] {
        field.system.exchange(field.request(&shape)).await.unwrap();
    }
    let mut seen: BTreeMap<u8, Vec<Seen>> = BTreeMap::new();
    for row in rows() {
        seen.entry(row.line).or_default().push(field.send(&row).await);
        field.system.sts.answers(crate::sts::identity(crate::sts::ARN, crate::sts::USER_ID));
    }
    let table = render(&seen);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(GOLDEN);
    if std::env::var_os("COUNTERSIGN_BLESS").is_some() {
        std::fs::write(&path, &table).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == table, "COUNTERSIGN_BLESS=1 writes {GOLDEN} anew; it would be:\n{table}");
}

fn render(seen: &BTreeMap<u8, Vec<Seen>>) -> String {
    let open: Vec<_> = ELSEWHERE
        .iter()
        .filter_map(|(line, what)| matches!(what, Elsewhere::Open(_)).then_some(*line))
        .filter(|line| !seen.contains_key(line))
        .collect();
    let mut text = String::from(
        "# Attacks on the token gateway\n\nWritten by `COUNTERSIGN_BLESS=1 cargo test -p countersign-gateway --test gateway attacks`, which \
         sends every row and fails when an\nanswer differs from this page. *Reached* is the last of those who were asked before the refusal; \
         nothing below mints a token, spends a\nproof or pins a name. Tests are named where they show what one exchange cannot; a name \
         that does not exist fails the test too.\n\n",
    );
    writeln!(text, "{LINES} lines; {} of them open: {open:?}.\n", open.len()).unwrap();
    text.push_str(
        "| # | what is sent | code | reason | reached |\n| --- | --- | --- | --- | --- |\n",
    );
    for line in 1..=LINES {
        for Seen { sent, code, reason, reached } in seen.get(&line).into_iter().flatten() {
            let sent = sent.replace('|', "\\|");
            writeln!(text, "| {line} | {sent} | {code} | {reason} | {reached} |").unwrap();
        }
        let title = TITLES[usize::from(line) - 1];
        for (_, what) in ELSEWHERE.iter().filter(|(number, _)| *number == line) {
            match what {
                Elsewhere::Test(file, name) => {
                    writeln!(text, "| {line} | {title} | | | test `{name}` in {file} |").unwrap();
                }
                Elsewhere::Open(why) => {
                    writeln!(text, "| {line} | {title} | | | **open**: {why} |").unwrap();
                }
            }
        }
    }
    text
}

#[test]
fn no_line_is_left_out() {
    let sent: Vec<u8> = rows().iter().map(|row| row.line).collect();
    for line in 1..=LINES {
        let named = ELSEWHERE.iter().any(|(number, _)| *number == line);
        assert!(named || sent.contains(&line), "line {line} is neither sent nor named nor open");
    }
    assert_eq!(TITLES.len(), usize::from(LINES));
}

/// A reference that leads nowhere would be a promise that nobody keeps.
#[test]
fn every_test_that_is_named_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut named = BTreeSet::new();
    for (line, what) in ELSEWHERE {
        let Elsewhere::Test(file, name) = what else { continue };
        assert!(named.insert((line, file, name)), "line {line}: {name} in {file} is there twice");
        let text = std::fs::read_to_string(root.join(file))
            .unwrap_or_else(|error| panic!("line {line}: {file}: {error}"));
        let at = text
            .find(&format!("fn {name}("))
            .unwrap_or_else(|| panic!("line {line}: {file} has no {name}"));
        let before = &text[..at];
        let head = before.rsplit("\n\n").next().unwrap();
        assert!(
            head.contains("#[test]")
                || head.contains("#[tokio::test")
                || head.contains("proptest!"),
            "line {line}: {name} in {file} is no test"
        );
    }
}
