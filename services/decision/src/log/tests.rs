use countersign_proto::decision::v1::DecisionReason;

use super::*;

pub(super) fn line(number: u64) -> Arc<Line> {
    Arc::new(one(number))
}

pub(super) fn one(number: u64) -> Line {
    Line {
        at: SystemTime::UNIX_EPOCH,
        decision_id: format!("d-{number:016x}"),
        caller: "c".into(),
        principal: "p\n\"".into(),
        action: "orders:Get".into(),
        resource: "*".into(),
        judgement: Judgement::denied(DecisionReason::PrincipalNotFound, "nobody"),
        revision: "aaaa:1".parse().unwrap(),
    }
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
    let config = LogConfig::of(Some(path.clone()), None, NonZeroU32::MIN).unwrap();
    for expected in [20, 40] {
        let log = DecisionLog::open(&config).unwrap();
        for number in 0..20 {
            log.record(&format!("d-{number:016x}"), || one(number));
        }
        log.end().await;
        assert_eq!(log.counts(), (20, 0));
        let lines = parsed(&std::fs::read(&path).unwrap());
        assert_eq!(lines.iter().filter(|line| line.is_ok()).count(), expected);
    }
    let nowhere = LogConfig { path: Some(folder.path().join("no/such")), ..config };
    let refused = DecisionLog::open(&nowhere).err().unwrap().to_string();
    assert!(refused.contains("no/such"), "{refused}");
}

/// Nobody writes: what does not fit is counted, and nobody waits.
#[test]
fn a_full_queue_loses_and_counts() {
    let (queue, _messages) = sync_channel(3);
    let counts = Arc::default();
    let file = Some(Sink { queue, counts });
    let open = Open { one_in: NonZeroU32::MIN, file, collector: None };
    let log = DecisionLog(Some(Arc::new(open)));
    for number in 0..10 {
        log.record(&format!("d-{number:016x}"), || one(number));
    }
    assert_eq!(log.counts(), (0, 7));
}
