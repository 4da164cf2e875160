//! What is measured: each RPC of a decision service and of the echo, in turns, every answer held to the workload's own first.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use countersign_proto::decision::v1::{
    AuthorizeResponse, AuthorizeStreamResponse, BatchAuthorizeResponse,
    authorize_stream_response::Result as Answer,
};
use prost::Message;

use crate::{
    Failed,
    drive::{self, Messages, Outcome, Span},
    orders::{self, By, Orders},
    process::Process,
    serve::hex,
    store::StandIn,
    wire::{self, Target},
};

const SERVICE: &str = "/countersign.decision.v1.DecisionService";
/// Checks of a batch.
pub const BATCH: usize = 100;
/// Questions that wait at once on each stream of AuthorizeStream.
pub const DEPTH: usize = 16;
/// The server's core, and the client's.
pub const SERVER_CORE: usize = 0;
pub const CLIENT_CORE: usize = 1;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rpc {
    Arn,
    Token,
    Batch,
    Stream,
}

impl Rpc {
    pub const ALL: [Rpc; 4] = [Rpc::Arn, Rpc::Token, Rpc::Batch, Rpc::Stream];

    fn path(self) -> String {
        let rpc = match self {
            Rpc::Arn | Rpc::Token => "Authorize",
            Rpc::Batch => "BatchAuthorize",
            Rpc::Stream => "AuthorizeStream",
        };
        format!("{SERVICE}/{rpc}")
    }

    /// Decisions that one answer holds.
    #[must_use]
    pub fn decisions(self) -> usize {
        match self {
            Rpc::Arn | Rpc::Token | Rpc::Stream => 1,
            Rpc::Batch => BATCH,
        }
    }

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Rpc::Arn => "Authorize by ARN",
            Rpc::Token => "Authorize by token",
            Rpc::Batch => "BatchAuthorize of 100, by ARN",
            Rpc::Stream => "AuthorizeStream, by ARN",
        }
    }
}

/// A decision service that follows the stand-in, and the echo.
pub struct Bench {
    pub decision: Process,
    pub echo: Process,
    pub started_in: Duration,
    token: String,
    questions: Questions,
    core: Option<usize>,
    // Ends last.
    store: StandIn,
}

struct Questions {
    arn: Vec<Vec<u8>>,
    token: Vec<Vec<u8>>,
    batch: Vec<Vec<u8>>,
    stream: Vec<Vec<u8>>,
    is_allowed: Vec<bool>,
}

impl Questions {
    fn new(orders: &Orders) -> Result<Self, Failed> {
        let by_arn = orders.questions(By::Arn)?;
        let by_token = orders.questions(By::Token)?;
        Ok(Self {
            arn: by_arn.iter().map(|(question, _)| wire::message(question)).collect(),
            token: by_token.iter().map(|(question, _)| wire::message(question)).collect(),
            batch: orders::batches(&by_arn, BATCH).iter().map(wire::message).collect(),
            stream: orders::streamed(&by_arn).iter().map(wire::message).collect(),
            is_allowed: by_arn.iter().map(|(_, is_allowed)| *is_allowed).collect(),
        })
    }

    fn of(&self, rpc: Rpc) -> &Messages {
        match rpc {
            Rpc::Arn => &self.arn,
            Rpc::Token => &self.token,
            Rpc::Batch => &self.batch,
            Rpc::Stream => &self.stream,
        }
    }
}

/// What one server did in one round.
#[derive(Clone, Copy, Debug)]
pub struct Figures {
    /// Decisions a second.
    pub rate: f64,
    /// Of the server, for one request.
    pub cpu: Duration,
    /// The part of its core that it had.
    pub busy: f64,
    pub p50: Duration,
    pub p99: Duration,
}

/// Seconds since 1970.
#[must_use]
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// A stand-in of the store, and a decision service that follows it.
///
/// # Errors
/// When one of them does not start.
pub fn decision(
    orders: &Arc<Orders>,
    core: Option<usize>,
    snapshot_dir: Option<&Path>,
) -> Result<(StandIn, Process), Failed> {
    let store = StandIn::start(Arc::clone(orders))?;
    let decision = follower(&store.origin, core, snapshot_dir)?;
    Ok((store, decision))
}

/// A decision service that follows the store at `origin`.
///
/// # Errors
/// When it does not start.
pub fn follower(
    origin: &str,
    core: Option<usize>,
    snapshot_dir: Option<&Path>,
) -> Result<Process, Failed> {
    let folder = snapshot_dir.map(|folder| folder.display().to_string());
    let mut arguments = vec!["serve-decision", "--store", origin];
    if let Some(folder) = &folder {
        arguments.extend(["--snapshot-dir", folder]);
    }
    Process::start(core, &arguments)
}

/// One round of another server: so many streams, each of which asks again once it is answered. An answer counts as one.
///
/// # Errors
/// When a question has no answer.
pub async fn round(
    process: &Process,
    target: &Target,
    messages: &Messages,
    streams: usize,
    span: Span,
) -> Result<Figures, Failed> {
    let mut marks = Vec::new();
    let mark = || marks.push(process.cpu());
    let outcome = drive::closed(target, messages, streams, span, mark).await?;
    figures(Rpc::Arn, &outcome, &marks)
}

impl Bench {
    /// Both servers, for so many principals; on [`SERVER_CORE`] if they are pinned.
    ///
    /// # Errors
    /// When one does not start, or an answer is not the workload's.
    pub async fn start(principals: usize, pinned: bool) -> Result<Self, Failed> {
        let core = pinned.then_some(SERVER_CORE);
        let orders = Arc::new(Orders::new(principals, now())?);
        let (store, decision) = decision(&orders, core, None)?;
        let token = orders.checker()?;
        let questions = Questions::new(&orders)?;
        let answers = check_all(&decision, &token, &questions).await?;
        let mut arguments = vec!["serve-echo".to_owned()];
        for answer in answers {
            arguments.extend(["--answer".to_owned(), hex(&answer)]);
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let echo = Process::start(core, &arguments)?;
        let started_in = decision.started_in;
        Ok(Self { decision, echo, started_in, token, questions, core, store })
    }

    /// Another decision service of the same store, told more, whose every answer is held to the workload's as well.
    ///
    /// # Errors
    /// When it does not start, or an answer is not the workload's.
    pub async fn another(&self, more: &[&str]) -> Result<Process, Failed> {
        let arguments = [&["serve-decision", "--store", &self.store.origin], more].concat();
        let process = Process::start(self.core, &arguments)?;
        check_all(&process, &self.token, &self.questions).await?;
        Ok(process)
    }

    fn target(&self, process: &Process, rpc: Rpc) -> Target {
        Target { address: process.address, path: rpc.path(), token: self.token.clone() }
    }

    /// One round: so many streams, each of which asks again once it is answered.
    ///
    /// # Errors
    /// When a question has no answer.
    pub async fn closed(
        &self,
        process: &Process,
        rpc: Rpc,
        streams: usize,
        span: Span,
    ) -> Result<Figures, Failed> {
        let target = self.target(process, rpc);
        let mut marks = Vec::new();
        let mark = || marks.push(process.cpu());
        let messages = self.questions.of(rpc);
        let outcome = match rpc {
            Rpc::Arn | Rpc::Token | Rpc::Batch => {
                drive::closed(&target, messages, streams, span, mark).await?
            }
            Rpc::Stream => {
                drive::streaming(&target, messages, (streams, DEPTH), span, mark).await?
            }
        };
        figures(rpc, &outcome, &marks)
    }

    /// One round at a rate that does not wait for answers.
    ///
    /// # Errors
    /// When a question has no answer.
    pub async fn open(
        &self,
        process: &Process,
        rpc: Rpc,
        rate: f64,
        span: Span,
    ) -> Result<Outcome, Failed> {
        let target = self.target(process, rpc);
        drive::open(&target, self.questions.of(rpc), rate, span, || {}).await
    }
}

fn figures(rpc: Rpc, outcome: &Outcome, marks: &[Duration]) -> Result<Figures, Failed> {
    if outcome.failed > 0 {
        return Err(Failed::because(format!("{} questions had no answer", outcome.failed)));
    }
    let [began, ended] = marks else {
        return Err(Failed::because("the round was not measured whole"));
    };
    let cpu = ended.saturating_sub(*began);
    let answered = u32::try_from(outcome.answered.max(1)).unwrap_or(u32::MAX);
    Ok(Figures {
        rate: outcome.rate() * f64::from(u32::try_from(rpc.decisions()).unwrap_or_default()),
        cpu: cpu / answered,
        busy: cpu.as_secs_f64() / outcome.elapsed.as_secs_f64(),
        p50: outcome.percentile(50.0),
        p99: outcome.percentile(99.0),
    })
}

/// Asks everything once, in each way: each answer must be the workload's. Answers with an allowed and a denied answer, encoded.
async fn check_all(
    process: &Process,
    token: &str,
    questions: &Questions,
) -> Result<Vec<Vec<u8>>, Failed> {
    let target =
        |rpc: Rpc| Target { address: process.address, path: rpc.path(), token: token.to_owned() };
    let mut examples = [None, None];
    for rpc in [Rpc::Arn, Rpc::Token] {
        let answers = drive::once(&target(rpc), questions.of(rpc), 64).await?;
        for (place, (answer, expected)) in answers.iter().zip(&questions.is_allowed).enumerate() {
            let answer = decoded::<AuthorizeResponse>(answer.as_deref(), rpc, place)?;
            same(rpc, place, &answer, *expected)?;
            if rpc == Rpc::Arn
                && let Some(slot) = examples.get_mut(usize::from(*expected))
            {
                *slot = Some(answer.encode_to_vec());
            }
        }
    }
    let answers = drive::once(&target(Rpc::Batch), &questions.batch, 4).await?;
    for (place, answer) in answers.iter().enumerate() {
        let answer = decoded::<BatchAuthorizeResponse>(answer.as_deref(), Rpc::Batch, place)?;
        if answer.answers.len() != BATCH {
            return Err(Failed::because(format!(
                "batch {place}: {} answers",
                answer.answers.len()
            )));
        }
        // All of a batch ask about the first one's subject; of that one the workload knows the answer.
        let expected = questions.is_allowed.get(place * BATCH).copied().unwrap_or_default();
        if let Some(first) = answer.answers.first() {
            same(Rpc::Batch, place, first, expected)?;
        }
    }
    let answers = drive::once(&target(Rpc::Stream), &questions.stream, 64).await?;
    for (place, (answer, expected)) in answers.iter().zip(&questions.is_allowed).enumerate() {
        let answer = decoded::<AuthorizeStreamResponse>(answer.as_deref(), Rpc::Stream, place)?;
        match answer.result {
            Some(Answer::Answer(own)) if answer.id == place.to_string() => {
                same(Rpc::Stream, place, &own, *expected)?;
            }
            Some(Answer::Answer(_) | Answer::Error(_)) | None => {
                return Err(Failed::because(format!("question {place} of a stream has no answer")));
            }
        }
    }
    examples
        .into_iter()
        .map(|example| example.ok_or_else(|| Failed::because("the workload allows or denies all")))
        .collect()
}

fn decoded<M: Message + Default>(
    answer: Option<&[u8]>,
    rpc: Rpc,
    place: usize,
) -> Result<M, Failed> {
    let answer = answer
        .ok_or_else(|| Failed::because(format!("{}: question {place} was refused", rpc.name())))?;
    M::decode(answer).map_err(Failed::of("an answer"))
}

fn same(rpc: Rpc, place: usize, answer: &AuthorizeResponse, expected: bool) -> Result<(), Failed> {
    if answer.allowed == expected {
        return Ok(());
    }
    Err(Failed::because(format!(
        "{}: question {place} must be {expected}, and was {}: {}",
        rpc.name(),
        answer.allowed,
        answer.message
    )))
}
