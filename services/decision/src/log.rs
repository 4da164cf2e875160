//! The decision log: one JSON object a line for each decision, or for one in so many.
//!
//! It is best effort, and never in the way: an answer hands its line to a queue that has a bound, and goes on. What finds the queue full,
//! or the disk, is lost, and counted: `decision_log_written_count` and `decision_log_lost_count` of GetStatus add up to the decisions
//! that should have a line. When some were lost, the next line that can be written says how many since the start.

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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// Appended to; made if it is not there.
    pub path: PathBuf,
    /// One decision in so many, chosen by its id; 1 is all of them.
    pub one_in: NonZeroU32,
}

/// The file cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("the decision log `{}` cannot be written: {error}", path.display())]
pub struct LogError {
    path: PathBuf,
    error: io::Error,
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
    queue: SyncSender<Message>,
    one_in: NonZeroU32,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    written: AtomicU64,
    lost: AtomicU64,
}

enum Message {
    Line(Box<Line>),
    /// Answered when everything before it has been dealt with.
    Ended(SyncSender<()>),
}

impl DecisionLog {
    /// Opens the file, and begins.
    ///
    /// # Errors
    /// When the file cannot be opened, or there is no thread to write it.
    pub fn open(config: &LogConfig) -> Result<Self, LogError> {
        let LogConfig { path, one_in } = config;
        let failed = |error| LogError { path: path.clone(), error };
        let file = append(path).map_err(failed)?;
        let (queue, messages) = sync_channel(WAITING);
        let counts = Arc::<Counts>::default();
        let own = Arc::clone(&counts);
        thread::Builder::new()
            .name("decision-log".to_owned())
            .spawn(move || Writer::new(file, own).work(&messages))
            .map_err(failed)?;
        Ok(Self(Some(Arc::new(Open { queue, one_in: *one_in, counts }))))
    }

    /// Logs a decision, if it is one of those that are.
    pub fn record(&self, decision_id: &str, line: impl FnOnce() -> Line) {
        let Some(open) = &self.0 else { return };
        if !is_chosen(decision_id, open.one_in) {
            return;
        }
        match open.queue.try_send(Message::Line(Box::new(line()))) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                open.counts.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Lines written and lost since the start.
    pub fn counts(&self) -> (u64, u64) {
        let Some(open) = &self.0 else { return (0, 0) };
        let Counts { written, lost } = &*open.counts;
        (written.load(Ordering::Relaxed), lost.load(Ordering::Relaxed))
    }

    /// Waits, not for long, until what was logged is written.
    pub async fn end(&self) {
        let Some(open) = self.0.clone() else { return };
        let waited = tokio::task::spawn_blocking(move || {
            let (ended, end) = sync_channel(1);
            let _ = open.queue.try_send(Message::Ended(ended));
            end.recv_timeout(LAST_LINES).is_ok()
        });
        if !waited.await.unwrap_or(false) {
            tracing::warn!("the decision log's last lines were not written in time");
        }
    }
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
        while let Ok(first) = messages.recv() {
            let mut lines = Vec::new();
            let mut ended = Vec::new();
            for message in [first].into_iter().chain(messages.try_iter()).take(BATCH) {
                match message {
                    Message::Line(line) => lines.push(line),
                    Message::Ended(answer) => ended.push(answer),
                }
            }
            self.write(&lines);
            for answer in ended {
                let _ = answer.try_send(());
            }
        }
    }

    fn write(&mut self, lines: &[Box<Line>]) {
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
        self.count(written, lines.len() - written);
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

    fn count(&self, written: usize, lost: usize) {
        let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        self.counts.written.fetch_add(number(written), Ordering::Relaxed);
        self.counts.lost.fetch_add(number(lost), Ordering::Relaxed);
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
mod tests {
    use countersign_proto::decision::v1::DecisionReason;

    use super::*;

    fn line(number: u64) -> Box<Line> {
        Box::new(Line {
            at: SystemTime::UNIX_EPOCH,
            decision_id: format!("d-{number:016x}"),
            caller: "c".into(),
            principal: "p\n\"".into(),
            action: "orders:Get".into(),
            resource: "*".into(),
            judgement: Judgement::denied(DecisionReason::PrincipalNotFound, "nobody"),
            revision: "aaaa:1".parse().unwrap(),
        })
    }

    /// A disk that has room for so many bytes.
    struct Disk {
        content: Vec<u8>,
        room: usize,
    }

    impl Write for &mut Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let taken = bytes.len().min(self.room);
            if taken == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.content.extend(&bytes[..taken]);
            self.room -= taken;
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn parsed(content: &[u8]) -> Vec<Result<serde_json::Value, serde_json::Error>> {
        let text = String::from_utf8(content.to_vec()).unwrap();
        text.lines().map(serde_json::from_str).collect()
    }

    /// Wherever the disk becomes full, written and lost add up, and the file says the same.
    #[test]
    fn what_is_lost_is_counted() {
        let whole = rendered(&line(0)).len() + 1;
        for room in 0..=4 * whole {
            let mut disk = Disk { content: Vec::new(), room };
            let counts = Arc::<Counts>::default();
            let mut writer = Writer::new(&mut disk, Arc::clone(&counts));
            writer.write(&[line(0), line(1), line(2)]);
            let first = counts.lost.load(Ordering::Relaxed);
            writer.file.room = 100_000;
            writer.write(&[line(3)]);
            writer.write(&[line(4)]);
            let (written, lost) =
                (counts.written.load(Ordering::Relaxed), counts.lost.load(Ordering::Relaxed));
            assert_eq!((written + lost, lost), (5, first), "{room}");
            assert_eq!(lost, 3 - u64::try_from(room / whole).unwrap().min(3), "{room}");
            let lines: Vec<_> = parsed(&disk.content).into_iter().flatten().collect();
            let decisions = lines.iter().filter(|line| line.get("decision_id").is_some()).count();
            let told = lines.iter().find_map(|line| line.get("lost_count")?.as_u64());
            // A line that lacks its end alone can be read, and counts as lost: it had no end when it was lost.
            let unended = usize::from(room < 3 * whole && room % whole == whole - 1);
            assert_eq!(decisions - unended, usize::try_from(written).unwrap(), "{room}");
            assert_eq!(told, (lost > 0).then_some(lost), "{room}");
        }
    }

    #[test]
    fn a_line() {
        let line = parsed(rendered(&line(7)).as_bytes()).remove(0).unwrap();
        let expected = json!({
            "time": "1970-01-01T00:00:00Z",
            "decision_id": "d-0000000000000007",
            "decision": "DECISION_IMPLICIT_DENY",
            "reason": "DECISION_REASON_PRINCIPAL_NOT_FOUND",
            "caller": "c",
            "principal": "p\n\"",
            "action": "orders:Get",
            "resource": "*",
            "statements": [],
            "statement_count": 0,
            "revision": "aaaa:1",
        });
        assert_eq!(line, expected);
    }

    #[test]
    fn one_in_so_many() {
        fn check(decision_id: &str, one_in: u32, expected: bool) {
            let one_in = NonZeroU32::new(one_in).unwrap();
            assert_eq!(is_chosen(decision_id, one_in), expected, "{decision_id} {one_in}");
        }
        check("d-0000000000000000", 10, true);
        check("d-0000000000000009", 10, false);
        check("d-000000000000000a", 10, true);
        check("d-ffffffffffffffff", 1, true);
        check("odd", 10, true);
    }

    #[tokio::test]
    async fn it_is_written_before_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("decisions");
        let config = LogConfig { path: path.clone(), one_in: NonZeroU32::MIN };
        for expected in [20, 40] {
            let log = DecisionLog::open(&config).unwrap();
            for number in 0..20 {
                log.record(&format!("d-{number:016x}"), || *line(number));
            }
            log.end().await;
            assert_eq!(log.counts(), (20, 0));
            let lines = parsed(&std::fs::read(&path).unwrap());
            assert_eq!(lines.iter().filter(|line| line.is_ok()).count(), expected);
        }
        let nowhere = LogConfig { path: folder.path().join("no/such"), ..config };
        let refused = DecisionLog::open(&nowhere).err().unwrap().to_string();
        assert!(refused.contains("no/such"), "{refused}");
    }

    /// Nobody writes: what does not fit is counted, and nobody waits.
    #[test]
    fn a_full_queue_loses_and_counts() {
        let (queue, _messages) = sync_channel(3);
        let counts = Arc::default();
        let log = DecisionLog(Some(Arc::new(Open { queue, one_in: NonZeroU32::MIN, counts })));
        for number in 0..10 {
            log.record(&format!("d-{number:016x}"), || *line(number));
        }
        assert_eq!(log.counts(), (0, 7));
    }
}
