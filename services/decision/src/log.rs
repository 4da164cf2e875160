//! The decision log: one JSON object a line for each decision, or for one in so many; in a file, or at a collector ([`collector`]), or
//! both.
//!
//! It is best effort, and never in the way: an answer hands its line to a queue that has a bound, and goes on. What finds the queue full,
//! or the disk, is lost, and counted: `decision_log_written_count` and `decision_log_lost_count` of GetStatus add up to the decisions
//! that should have a line. When some were lost, the next line that can be written says how many since the start.

mod collector;

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    num::NonZeroU32,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::{Duration, SystemTime},
};

use countersign_evaluator::Determining;
use countersign_replica::Revision;
use countersign_serve::telemetry::Collector;
use serde_json::json;

use crate::{check::Judgement, convert::decision_name};

/// Lines that wait to be written.
const WAITING: usize = 8192;
/// Lines written at once.
const BATCH: usize = 512;
const MAX_STATEMENTS: usize = 16;
/// How long the last lines may take when the service ends.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Where decisions are logged.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// Appended to; made if it is not there.
    pub path: Option<PathBuf>,
    /// Sent to.
    pub collector: Option<Collector>,
    /// One decision in so many, chosen by its id; 1 is all of them.
    pub one_in: NonZeroU32,
}

impl LogConfig {
    /// None where decisions are logged nowhere.
    #[must_use]
    pub fn of(
        path: Option<PathBuf>,
        collector: Option<Collector>,
        one_in: NonZeroU32,
    ) -> Option<Self> {
        let is_any = path.is_some() || collector.is_some();
        is_any.then_some(Self { path, collector, one_in })
    }
}

/// Why decisions cannot be logged.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The file cannot be opened.
    #[error("the decision log `{}` cannot be written: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's word.
        error: io::Error,
    },
    /// There is no thread or no runtime to send them.
    #[error("decisions cannot be sent to the collector: {0}")]
    Collector(io::Error),
}

/// One decision.
#[derive(Debug)]
pub struct Line {
    /// When it was made.
    pub at: SystemTime,
    /// As the answer carries it.
    pub decision_id: String,
    /// Who asked.
    pub caller: String,
    /// About whom.
    pub principal: String,
    /// What they want to do.
    pub action: String,
    /// On what.
    pub resource: String,
    /// What was decided, and why.
    pub judgement: Judgement,
    /// At which revision.
    pub revision: Revision,
}

/// The answering end. Cheap to clone; logs nothing unless it was opened.
#[derive(Clone, Default)]
pub struct DecisionLog(Option<Arc<Open>>);

struct Open {
    one_in: NonZeroU32,
    file: Option<Sink>,
    collector: Option<Sink>,
}

/// One place where decisions go, on a thread of its own.
struct Sink {
    queue: SyncSender<Message>,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    written: AtomicU64,
    lost: AtomicU64,
}

enum Message {
    Line(Arc<Line>),
    /// Answered when everything before it has been dealt with.
    Ended(SyncSender<()>),
}

impl DecisionLog {
    /// Opens the file, and begins.
    ///
    /// # Errors
    /// When the file cannot be opened, or there is no thread to write it.
    pub fn open(config: &LogConfig) -> Result<Self, LogError> {
        let LogConfig { path, collector, one_in } = config;
        let file = path.as_deref().map(Sink::of_file).transpose()?;
        let collector = collector.as_ref().map(collector::sink).transpose();
        let collector = collector.map_err(LogError::Collector)?;
        Ok(Self(Some(Arc::new(Open { one_in: *one_in, file, collector }))))
    }

    /// Logs a decision, if it is one of those that are.
    pub fn record(&self, decision_id: &str, line: impl FnOnce() -> Line) {
        let Some(open) = &self.0 else { return };
        if !is_chosen(decision_id, open.one_in) {
            return;
        }
        let line = Arc::new(line());
        for sink in open.sinks() {
            sink.hand(Arc::clone(&line));
        }
    }

    /// Lines written and lost since the start.
    pub fn counts(&self) -> (u64, u64) {
        self.counts_of(|open| open.file.as_ref())
    }

    /// Decisions that the collector took, and that it did not, since the start.
    pub fn sent_counts(&self) -> (u64, u64) {
        self.counts_of(|open| open.collector.as_ref())
    }

    fn counts_of(&self, sink: impl FnOnce(&Open) -> Option<&Sink>) -> (u64, u64) {
        let Some(sink) = self.0.as_deref().and_then(sink) else { return (0, 0) };
        let Counts { written, lost } = &*sink.counts;
        (written.load(Ordering::Relaxed), lost.load(Ordering::Relaxed))
    }

    /// Waits, not for long, until what was logged is written.
    pub async fn end(&self) {
        let Some(open) = self.0.clone() else { return };
        let waited = tokio::task::spawn_blocking(move || {
            let asked = open.sinks().map(|sink| {
                let (ended, end) = sync_channel(1);
                let _ = sink.queue.try_send(Message::Ended(ended));
                end
            });
            let asked: Vec<_> = asked.collect();
            asked.iter().all(|end| end.recv_timeout(LAST_LINES).is_ok())
        });
        if !waited.await.unwrap_or(false) {
            tracing::warn!("the decision log's last lines were not written in time");
        }
    }
}

impl Open {
    fn sinks(&self) -> impl Iterator<Item = &Sink> {
        self.file.iter().chain(&self.collector)
    }
}

impl Sink {
    /// Whatever `work` does with what comes.
    fn new(
        name: &str,
        work: impl FnOnce(Receiver<Message>, Arc<Counts>) + Send + 'static,
    ) -> io::Result<Self> {
        let (queue, messages) = sync_channel(WAITING);
        let counts = Arc::<Counts>::default();
        let own = Arc::clone(&counts);
        thread::Builder::new().name(name.to_owned()).spawn(move || work(messages, own))?;
        Ok(Self { queue, counts })
    }

    fn of_file(path: &Path) -> Result<Self, LogError> {
        let failed = |error| LogError::File { path: path.to_owned(), error };
        let file = append(path).map_err(failed)?;
        let work = |messages, counts| Writer::new(file, counts).work(&messages);
        Self::new("decision-log", work).map_err(failed)
    }

    fn hand(&self, line: Arc<Line>) {
        match self.queue.try_send(Message::Line(line)) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => self.counts.add(0, 1),
        }
    }
}

impl Counts {
    fn add(&self, written: usize, lost: usize) {
        let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        self.written.fetch_add(number(written), Ordering::Relaxed);
        self.lost.fetch_add(number(lost), Ordering::Relaxed);
    }
}

/// Decisions, and who waits until they are dealt with.
type Batch = (Vec<Arc<Line>>, Vec<SyncSender<()>>);

/// What has come, at least one message; none when nobody can log any more.
fn batch(messages: &Receiver<Message>) -> Option<Batch> {
    let (mut lines, mut ended) = (Vec::new(), Vec::new());
    let first = messages.recv().ok()?;
    for message in [first].into_iter().chain(messages.try_iter()).take(BATCH) {
        match message {
            Message::Line(line) => lines.push(line),
            Message::Ended(answer) => ended.push(answer),
        }
    }
    Some((lines, ended))
}

/// A decision's id is random, so this is a fair choice, and whoever has an id can tell whether it has a line.
fn is_chosen(decision_id: &str, one_in: NonZeroU32) -> bool {
    let number = decision_id.strip_prefix("d-").map(|hex| u64::from_str_radix(hex, 16));
    match number {
        Some(Ok(number)) => number % u64::from(one_in.get()) == 0,
        Some(Err(_)) | None => true,
    }
}

fn append(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

struct Writer<W> {
    file: W,
    counts: Arc<Counts>,
    /// What the last line about losses said.
    told_lost: u64,
    /// A line was written in part: the next begins on a new one.
    is_torn: bool,
    is_failing: bool,
}

impl<W: Write> Writer<W> {
    fn new(file: W, counts: Arc<Counts>) -> Self {
        Self { file, counts, told_lost: 0, is_torn: false, is_failing: false }
    }

    /// Until nobody can log any more.
    fn work(mut self, messages: &Receiver<Message>) {
        while let Some((lines, ended)) = batch(messages) {
            self.write(&lines);
            for answer in ended {
                let _ = answer.try_send(());
            }
        }
    }

    fn write(&mut self, lines: &[Arc<Line>]) {
        let (mut bytes, mut others) = (Vec::new(), 0);
        if self.is_torn {
            bytes.push(b'\n');
            others += 1;
        }
        let lost = self.counts.lost.load(Ordering::Relaxed);
        if lost != self.told_lost {
            bytes.extend(json!({ "lost_count": lost }).to_string().into_bytes());
            bytes.push(b'\n');
            others += 1;
        }
        for line in lines {
            bytes.extend(rendered(line).into_bytes());
            bytes.push(b'\n');
        }
        let (taken, error) = write_all(&mut self.file, &bytes);
        let done = bytes.get(..taken).unwrap_or(&bytes);
        let ended = done.iter().filter(|byte| **byte == b'\n').count();
        let written = ended.saturating_sub(others).min(lines.len());
        self.counts.add(written, lines.len() - written);
        self.is_torn = match done.last() {
            None => self.is_torn,
            Some(byte) => *byte != b'\n',
        };
        // What is written of the losses is written first.
        if ended >= others {
            self.told_lost = lost;
        }
        self.tell(error);
    }

    /// Once when it begins, and once when it ends.
    fn tell(&mut self, error: Option<io::Error>) {
        match (&error, self.is_failing) {
            (Some(error), false) => {
                tracing::error!(%error, "the decision log cannot be written; what is lost is counted");
            }
            (None, true) => tracing::info!("the decision log can be written again"),
            (Some(_), true) | (None, false) => {}
        }
        self.is_failing = error.is_some();
    }
}

/// How many bytes were written, and why not more.
fn write_all(file: &mut impl Write, bytes: &[u8]) -> (usize, Option<io::Error>) {
    let mut taken = 0;
    while let Some(rest) = bytes.get(taken..).filter(|rest| !rest.is_empty()) {
        match file.write(rest) {
            Ok(0) => return (taken, Some(io::ErrorKind::WriteZero.into())),
            Ok(more) => taken += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (taken, Some(error)),
        }
    }
    (taken, None)
}

fn rendered(line: &Line) -> String {
    let Line { at, decision_id, caller, principal, action, resource, judgement, revision } = line;
    let statements = judgement.determining.iter().take(MAX_STATEMENTS).map(|statement| {
        let Determining { policy_type, policy, version_id, sid, index, pointer: _ } = statement;
        json!({
            "policy_type": policy_type.to_string(),
            "policy": &**policy,
            "version_id": version_id.as_deref(),
            "sid": sid,
            "index": index,
        })
    });
    json!({
        "time": prost_types::Timestamp::from(*at).to_string(),
        "decision_id": decision_id,
        "decision": decision_name(judgement.decision),
        "reason": judgement.reason.as_str_name(),
        "caller": caller,
        "principal": principal,
        "action": action,
        "resource": resource,
        "statements": statements.collect::<Vec<_>>(),
        "statement_count": judgement.determining.len(),
        "revision": revision.to_string(),
    })
    .to_string()
}

#[cfg(test)]
mod tests;
