//! Opening the log: every segment is read whole, and each commit after the base is handed on.
//!
//! Groups are synced one at a time, so at most the last frame can be torn, and it was then never acknowledged: it is
//! dropped. What is damaged anywhere else was acknowledged once, and is an error that says where. A damaged *last* frame
//! cannot be told from a torn one.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::frame::{Frame, PAGE, SegmentHeader};
use super::log::{Log, Place, Segment};
use super::wal::{Disk, SEGMENT_BYTES, Sealed, Wal, segment_path};
use crate::{Change, StoreError, StoreId};

/// Opens the log in `folder` of store `id`; its commits after number `base` go to `apply`, in order.
pub(super) fn open(
    folder: &Path,
    id: &StoreId,
    base: u64,
    disk: Disk,
    mut apply: impl FnMut(Change),
) -> Result<Wal, StoreError> {
    let numbers = segments(folder)?;
    let log = Arc::new(Log::default());
    let mut sealed = VecDeque::new();
    let mut last = None;
    let mut open: Option<(Arc<Segment>, u64)> = None;
    for number in &numbers {
        if let (Some((segment, _)), Some(last)) = (open.take(), last) {
            sealed.push_back(Sealed { last, segment });
        }
        let (segment, header, bytes) = read_segment(folder, id, *number)?;
        match last {
            None if header.first > base + 1 => {
                let missing = format!("changes {} to {}", base + 1, header.first - 1);
                return Err(StoreError::Corrupt(format!(
                    "log segment {number}: {missing} are not there"
                )));
            }
            Some(last) if header.first != last + 1 => {
                let between = format!("{} was expected, and {} found", last + 1, header.first);
                return Err(StoreError::Corrupt(format!("log segment {number}: change {between}")));
            }
            None | Some(_) => {}
        }
        let mut at = header.first - 1;
        let offset = read_frames(&segment, &bytes, &mut at, base, &log, &mut apply)?;
        last = Some(at);
        open = Some((segment, offset));
    }
    let (Some((current, offset)), Some(last)) = (open, last) else {
        return Err(StoreError::Corrupt(format!("`{}` has no log segment", folder.display())));
    };
    if last < base {
        return Err(StoreError::Corrupt(format!(
            "the log ends at change {last}, before the base's {base}"
        )));
    }
    // A frame found may be in memory alone, from a process killed before its sync.
    current
        .file
        .sync_all()
        .and_then(|()| File::open(folder)?.sync_all())
        .map_err(|error| failed(folder, &error))?;
    Ok(Wal { folder: folder.to_owned(), id: id.clone(), log, disk, sealed, current, offset, last })
}

/// Whether any commit can be found in `folder`, which may not be there.
pub(super) fn holds_commits(folder: &Path) -> bool {
    let frame_in = |number: &u64| {
        let bytes = Bytes::from(fs::read(segment_path(folder, *number)).unwrap_or_default());
        let header = SegmentHeader::decode(&bytes);
        header.is_some_and(|header| Frame::decode(&bytes.slice(PAGE..), header.nonce).is_some())
    };
    folder.is_dir() && segments(folder).is_ok_and(|numbers| numbers.iter().any(frame_in))
}

/// The segments' numbers without a gap up to the last. Before a gap are those whose removal did not survive a loss of power;
/// whether anything is missing, the commits' numbers tell.
pub(super) fn segments(folder: &Path) -> Result<Vec<u64>, StoreError> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(folder).map_err(|error| failed(folder, &error))? {
        let name = entry.map_err(|error| failed(folder, &error))?.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".log")?.parse::<u64>().ok());
        numbers.extend(number);
    }
    numbers.sort_unstable_by(|one, other| other.cmp(one));
    let last = numbers.first().copied().unwrap_or_default();
    let mut joined: Vec<u64> = numbers
        .into_iter()
        .zip(0..)
        .take_while(|(number, below)| number + below == last)
        .map(|(number, _)| number)
        .collect();
    joined.reverse();
    Ok(joined)
}

fn read_segment(
    folder: &Path,
    id: &StoreId,
    number: u64,
) -> Result<(Arc<Segment>, SegmentHeader, Bytes), StoreError> {
    let path = segment_path(folder, number);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&path)
        .map_err(|error| failed(&path, &error))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(|error| failed(&path, &error))?;
    let corrupt = |what: String| Err(StoreError::Corrupt(format!("log segment {number}: {what}")));
    if bytes.len() as u64 != SEGMENT_BYTES {
        return corrupt(format!("{} bytes, expected {SEGMENT_BYTES}", bytes.len()));
    }
    let Some(header) = SegmentHeader::decode(&bytes) else {
        return corrupt("offset 0: the header is not as it was written".into());
    };
    if header.segment != number || header.store != *id || header.first == 0 {
        return corrupt(format!(
            "it is segment {} of store {}, expected store {id}",
            header.segment, header.store
        ));
    }
    Ok((Arc::new(Segment { number, nonce: header.nonce, file }), header, bytes.into()))
}

/// Reads a segment's frames, `at` being the last commit before them and then the last in them; returns where they end.
fn read_frames(
    segment: &Arc<Segment>,
    bytes: &Bytes,
    at: &mut u64,
    base: u64,
    log: &Log,
    apply: &mut impl FnMut(Change),
) -> Result<u64, StoreError> {
    let mut offset = PAGE;
    while let Some((frame, taken)) =
        Frame::decode(&bytes.slice(offset.min(bytes.len())..), segment.nonce)
    {
        if frame.first != *at + 1 {
            return Err(StoreError::Corrupt(format!(
                "log segment {}, offset {offset}: change {} was expected, and {} found",
                segment.number,
                *at + 1,
                frame.first
            )));
        }
        *at = frame.last();
        if *at > base {
            frame
                .changes()?
                .into_iter()
                .filter(|change| change.number > base)
                .for_each(&mut *apply);
        }
        log.push(Place {
            first: frame.first,
            last: frame.last(),
            segment: segment.clone(),
            offset: offset as u64,
            bytes: u32::try_from(taken).unwrap_or(u32::MAX),
        });
        offset += taken;
    }
    // Frames begin on pages. With one after this place, what is here was on disk before it.
    let after = (offset + PAGE..bytes.len()).step_by(PAGE);
    for later in after {
        if Frame::decode(&bytes.slice(later..), segment.nonce).is_some() {
            return Err(StoreError::Corrupt(format!(
                "log segment {}, offset {offset}: the commits there are not as they were written, and others follow at {later}",
                segment.number
            )));
        }
    }
    Ok(offset as u64)
}

fn failed(path: &Path, error: &std::io::Error) -> StoreError {
    StoreError::Unavailable(format!("cannot read `{}`: {error}", path.display()))
}
