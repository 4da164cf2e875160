//! The changes that are kept for followers: where in the log's segments each commit is, and reading them there.
//!
//! The writer adds and trims; readers look up places under the lock, and read the files without it. A segment's file lives
//! as long as somebody holds its place, whatever became of its name.

use std::collections::VecDeque;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;

use super::SledOptions;
use super::frame::Frame;
use crate::{Change, StoreError};

/// Changes returned at once, in bytes on the disk; a group of commits is never cut by it.
const CHANGES_BYTES: u64 = 8 << 20;

/// One segment's file, as readers and the writer share it.
#[derive(Debug)]
pub(super) struct Segment {
    pub number: u64,
    pub nonce: u64,
    pub file: File,
}

/// Where a frame is.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub first: u64,
    pub last: u64,
    pub segment: Arc<Segment>,
    pub offset: u64,
    pub bytes: u32,
}

#[derive(Debug, Default)]
pub(super) struct Log {
    kept: RwLock<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    frames: VecDeque<Place>,
    bytes: u64,
    /// Changes up to and with this number are no longer kept.
    trimmed: u64,
}

impl Log {
    /// Adds the next frame. The first one ever added says where the log begins.
    pub fn push(&self, place: Place) {
        let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
        if kept.frames.is_empty() {
            kept.trimmed = place.first - 1;
        }
        kept.bytes += u64::from(place.bytes);
        kept.frames.push_back(place);
    }

    /// Lets go of old changes beyond the bounds, never of the last frame, and says up to which number.
    pub fn trim(&self, options: &SledOptions) -> u64 {
        let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
        let head = kept.frames.back().map_or(0, |place| place.last);
        kept.trimmed = kept.trimmed.max(head.saturating_sub(options.change_log_commits.max(1)));
        while kept.frames.len() > 1
            && let Some((last, bytes)) =
                kept.frames.front().map(|place| (place.last, u64::from(place.bytes)))
            && (last <= kept.trimmed || kept.bytes > options.change_log_bytes)
        {
            kept.frames.pop_front();
            kept.bytes = kept.bytes.saturating_sub(bytes);
            kept.trimmed = kept.trimmed.max(last);
        }
        kept.trimmed
    }

    /// The bytes of the frames that hold a commit after `number`, of those that are kept.
    pub fn bytes_since(&self, number: u64) -> u64 {
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        let since = kept.frames.iter().rev().take_while(|place| place.last > number);
        since.map(|place| u64::from(place.bytes)).sum()
    }

    /// The commits after `after` and up to `head`, at most `limit` of them.
    pub fn changes_since(
        &self,
        after: u64,
        head: u64,
        limit: usize,
    ) -> Result<Vec<Change>, StoreError> {
        let mut changes = Vec::new();
        for place in self.places(after, head, limit)? {
            let frame = read_frame(&place)?;
            changes.extend(frame.changes()?.into_iter().filter(|change| change.number > after));
        }
        changes.truncate(limit);
        Ok(changes)
    }

    fn places(&self, after: u64, head: u64, limit: usize) -> Result<Vec<Place>, StoreError> {
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        if after < kept.trimmed {
            return Err(StoreError::TooOld { oldest: kept.trimmed + 1 });
        }
        let from = kept.frames.partition_point(|place| place.last <= after);
        let (mut bytes, mut commits) = (0, 0);
        let wanted = kept.frames.range(from..).take_while(|place| {
            let more = bytes < CHANGES_BYTES && commits < limit as u64 && place.last <= head;
            bytes += u64::from(place.bytes);
            commits += place.last - place.first.max(after + 1) + 1;
            more
        });
        Ok(wanted.cloned().collect())
    }
}

fn read_frame(place: &Place) -> Result<Frame, StoreError> {
    let mut bytes = vec![0; place.bytes as usize];
    let damaged = |what: &dyn std::fmt::Display| {
        StoreError::Corrupt(format!(
            "log segment {}, offset {}: {what}",
            place.segment.number, place.offset
        ))
    };
    place
        .segment
        .file
        .read_exact_at(&mut bytes, place.offset)
        .map_err(|error| damaged(&format!("cannot be read: {error}")))?;
    match Frame::decode(&Bytes::from(bytes), place.segment.nonce) {
        Some((frame, _)) if frame.first == place.first => Ok(frame),
        _ => Err(damaged(&"the commits there are not as they were written")),
    }
}
