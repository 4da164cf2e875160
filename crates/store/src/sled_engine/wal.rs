//! The write-ahead log: what makes a commit durable.
//!
//! A group of commits is one frame (`frame`), written with one call and synced with one `fdatasync`. Segments are files of
//! a fixed size, filled with zeros and synced before they get their name: writing a frame changes no length and allocates
//! nothing, so the sync has the frame alone to write, and a full disk shows when a segment is made, before anything of a
//! group is written. A segment that is no longer needed becomes the next one, under a new nonce.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::frame::{Frame, PAGE, SegmentHeader};
use super::log::{Log, Place, Segment};
use crate::{StoreId, Write};

/// Holds the largest group (2 MiB of keys and values, and their lengths) with room to spare.
pub(super) const SEGMENT_BYTES: u64 = 4 << 20;

/// The steps to disk, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Roll,
    Write,
    Sync,
}

/// Every step to the log's files goes through here, where tests put faults.
#[derive(Default)]
pub(super) struct Disk {
    #[cfg(test)]
    pub before: Option<Box<dyn Fn(Step) -> io::Result<()> + Send>>,
}

impl Disk {
    fn step<T>(&self, step: Step, run: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        #[cfg(test)]
        if let Some(before) = &self.before {
            before(step)?;
        }
        tracing::trace!(?step);
        run()
    }
}

/// How appending can fail.
#[derive(Debug)]
pub(super) enum AppendError {
    /// Nothing of the group is on disk, nor will be.
    Nothing(io::Error),
    /// What is on disk is unknown.
    Unknown(io::Error),
}

/// A segment that is written no more.
#[derive(Debug)]
pub(super) struct Sealed {
    pub last: u64,
    pub segment: Arc<Segment>,
}

/// The writer's end of the log.
pub(super) struct Wal {
    pub(super) folder: PathBuf,
    pub(super) id: StoreId,
    pub(super) log: Arc<Log>,
    pub(super) disk: Disk,
    /// Oldest first.
    pub(super) sealed: VecDeque<Sealed>,
    pub(super) current: Arc<Segment>,
    /// Where the next frame goes.
    pub(super) offset: u64,
    /// The last commit in the log.
    pub(super) last: u64,
}

impl Wal {
    /// The log of a store that has no commits yet, in a folder made for it.
    pub fn create(folder: &Path, id: StoreId, disk: Disk) -> io::Result<Self> {
        let current = make_segment(folder, &id, 1, 1)?;
        Ok(Self {
            folder: folder.to_owned(),
            id,
            log: Arc::default(),
            disk,
            sealed: VecDeque::new(),
            current,
            offset: PAGE as u64,
            last: 0,
        })
    }

    /// Puts a group on disk, and says how many bytes it takes. Its first commit is the one after [`Wal::last`].
    pub fn append(&mut self, commits: &[Vec<Write>]) -> Result<u64, AppendError> {
        let first = self.last + 1;
        let mut frame = Frame::encode(self.current.nonce, first, commits);
        if self.offset + frame.len() as u64 > SEGMENT_BYTES {
            self.roll(first).map_err(AppendError::Nothing)?;
            frame = Frame::encode(self.current.nonce, first, commits);
        }
        let file = &self.current.file;
        self.disk
            .step(Step::Write, || file.write_all_at(&frame, self.offset))
            .or_else(|error| self.blank(error))?;
        // After a failed sync the system may count pages as written that are not, so that trying again proves nothing.
        self.disk.step(Step::Sync, || file.sync_data()).map_err(AppendError::Unknown)?;
        self.last = first + commits.len() as u64 - 1;
        self.log.push(Place {
            first,
            last: self.last,
            segment: self.current.clone(),
            offset: self.offset,
            bytes: u32::try_from(frame.len()).unwrap_or(u32::MAX),
        });
        self.offset += frame.len() as u64;
        Ok(frame.len() as u64)
    }

    /// After a write that failed: takes away what may be there of the frame, so that no later start finds it.
    fn blank(&self, error: io::Error) -> Result<(), AppendError> {
        let blanked = self
            .current
            .file
            .write_all_at(&[0; PAGE], self.offset)
            .and_then(|()| self.current.file.sync_data());
        Err(match blanked {
            Ok(()) => AppendError::Nothing(error),
            Err(_) => AppendError::Unknown(error),
        })
    }

    /// Goes on in a new segment.
    fn roll(&mut self, first: u64) -> io::Result<()> {
        let number = self.current.number + 1;
        let make = || make_segment(&self.folder, &self.id, number, first);
        let next = self.disk.step(Step::Roll, make)?;
        let sealed = std::mem::replace(&mut self.current, next);
        self.sealed.push_back(Sealed { last: self.last, segment: sealed });
        self.offset = PAGE as u64;
        Ok(())
    }

    /// Lets go of the segments whose commits are all of number `floor` or older. One is kept to become the next segment.
    pub fn retire(&mut self, floor: u64) {
        while self.sealed.front().is_some_and(|sealed| sealed.last <= floor)
            && let Some(Sealed { segment, .. }) = self.sealed.pop_front()
        {
            let path = segment_path(&self.folder, segment.number);
            let spare = self.folder.join(SPARE);
            // A reader's handle would see the segment change under it.
            let reusable = Arc::strong_count(&segment) == 1 && !spare.exists();
            let done = if reusable { fs::rename(&path, &spare) } else { fs::remove_file(&path) };
            if let Err(error) = done {
                tracing::warn!(%error, path = %path.display(), "an old log segment stays behind");
            }
        }
    }
}

const SPARE: &str = "spare";
const MAKING: &str = "new";

pub(super) fn segment_path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:020}.log"))
}

/// A segment that is wholly on disk, its name too, and has no frames.
fn make_segment(folder: &Path, id: &StoreId, number: u64, first: u64) -> io::Result<Arc<Segment>> {
    let making = folder.join(MAKING);
    let header =
        SegmentHeader { store: id.clone(), segment: number, nonce: StoreId::noise(), first };
    let made = fill_segment(folder, &making, &header).and_then(|file| {
        fs::rename(&making, segment_path(folder, number))?;
        File::open(folder)?.sync_all()?;
        Ok(file)
    });
    if made.is_err() {
        // Room for others; if it cannot be removed, the next one takes its place.
        let _ = fs::remove_file(&making);
        let _ = fs::remove_file(segment_path(folder, number));
    }
    Ok(Arc::new(Segment { number, nonce: header.nonce, file: made? }))
}

fn fill_segment(folder: &Path, making: &Path, header: &SegmentHeader) -> io::Result<File> {
    let spared = fs::rename(folder.join(SPARE), making).is_ok();
    if spared {
        // Its old name must be gone for good before it holds anything else.
        File::open(folder)?.sync_all()?;
    }
    let mut file =
        OpenOptions::new().create(true).truncate(!spared).read(true).write(true).open(making)?;
    if !spared || file.metadata()?.len() != SEGMENT_BYTES {
        file.set_len(0)?;
        let zeros = vec![0; 1 << 20];
        for _ in 0..SEGMENT_BYTES >> 20 {
            file.write_all(&zeros)?;
        }
    }
    file.write_all_at(&header.encode(), 0)?;
    file.sync_all()?;
    Ok(file)
}
