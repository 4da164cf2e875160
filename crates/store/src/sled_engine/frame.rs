//! The log's bytes: a segment's header, and the frames after it. Knows no files.
//!
//! | what | bytes |
//! | --- | --- |
//! | header | magic 4, checksum 4, segment 8, nonce 8, first commit 8, store id 16; one page |
//! | frame | magic 4, checksum 4, nonce 8, first commit 8, commits 4, length 4, then the payload; whole pages |
//! | payload | for each commit its length (4 bytes) and its writes (`codec`) |
//!
//! A frame is one group of commits, written and synced at once, and begins and ends on a page: so nothing that was
//! acknowledged is ever written again, not even its disk sector.
//!
//! The nonce is drawn for each segment when it is made and is told to nobody. Without it, bytes that a caller chose, left
//! over from a torn frame or from the segment that the file was before, could be taken for a frame.

use bytes::{Buf, BufMut, Bytes};

use super::codec;
use crate::{Change, StoreError, StoreId, Write};

pub(super) const PAGE: usize = 4096;
const SEGMENT_MAGIC: u32 = 0x4353_5347;
const FRAME_MAGIC: u32 = 0x4353_4652;
const FRAME_HEADER: usize = 32;
/// Magic and checksum are not part of what the checksum covers.
const CHECKED_FROM: usize = 8;

/// The first page of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub store: StoreId,
    pub segment: u64,
    pub nonce: u64,
    /// The number of the first commit in it, or of the next one if it has none yet.
    pub first: u64,
}

impl SegmentHeader {
    pub fn encode(&self) -> Vec<u8> {
        let mut page = Vec::with_capacity(PAGE);
        page.put_u32(SEGMENT_MAGIC);
        page.put_u32(0);
        page.put_u64(self.segment);
        page.put_u64(self.nonce);
        page.put_u64(self.first);
        page.extend_from_slice(self.store.as_str().as_bytes());
        page.resize(PAGE, 0);
        seal(&mut page);
        page
    }

    /// `None` when the page is not a header as it was written.
    pub fn decode(page: &[u8]) -> Option<Self> {
        let page = page.get(..PAGE)?;
        let mut rest = page;
        let magic = rest.try_get_u32().ok()?;
        let checksum = rest.try_get_u32().ok()?;
        if magic != SEGMENT_MAGIC || checksum != crc32fast::hash(rest) {
            return None;
        }
        let (segment, nonce, first) = (rest.get_u64(), rest.get_u64(), rest.get_u64());
        let store = std::str::from_utf8(rest.get(..16)?).ok()?.parse().ok()?;
        Some(Self { store, segment, nonce, first })
    }
}

/// A group of commits as it is on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub first: u64,
    pub commits: u32,
    payload: Bytes,
}

impl Frame {
    /// The bytes of a frame, whole pages of them.
    pub fn encode(nonce: u64, first: u64, commits: &[Vec<Write>]) -> Vec<u8> {
        let mut frame = Vec::with_capacity(PAGE);
        frame.put_u32(FRAME_MAGIC);
        frame.put_u32(0);
        frame.put_u64(nonce);
        frame.put_u64(first);
        frame.put_u32(u32::try_from(commits.len()).unwrap_or(u32::MAX));
        frame.put_u32(0);
        for writes in commits {
            let at = frame.len();
            frame.put_u32(0);
            codec::put_writes(&mut frame, writes);
            let length = frame.len() - at - 4;
            put_length(&mut frame, at, length);
        }
        let length = frame.len() - FRAME_HEADER;
        put_length(&mut frame, FRAME_HEADER - 4, length);
        seal(&mut frame);
        frame.resize(frame.len().next_multiple_of(PAGE), 0);
        frame
    }

    /// The frame at the beginning of `bytes`, and the bytes it takes; `None` when there is none as it was written.
    pub fn decode(bytes: &Bytes, nonce: u64) -> Option<(Self, usize)> {
        let mut rest = bytes.get(..FRAME_HEADER)?;
        let magic = rest.get_u32();
        let checksum = rest.get_u32();
        if magic != FRAME_MAGIC || rest.get_u64() != nonce {
            return None;
        }
        let (first, commits) = (rest.get_u64(), rest.get_u32());
        let end = FRAME_HEADER.checked_add(usize::try_from(rest.get_u32()).ok()?)?;
        if checksum != crc32fast::hash(bytes.get(CHECKED_FROM..end)?) || commits == 0 {
            return None;
        }
        let frame = Self { first, commits, payload: bytes.slice(FRAME_HEADER..end) };
        Some((frame, end.next_multiple_of(PAGE)))
    }

    /// The number of the last commit.
    pub fn last(&self) -> u64 {
        self.first + u64::from(self.commits) - 1
    }

    pub fn changes(&self) -> Result<Vec<Change>, StoreError> {
        let mut rest = self.payload.clone();
        let mut changes = Vec::new();
        for number in self.first..=self.last() {
            let Some(encoded) = codec::take_sized(&mut rest) else {
                return Err(StoreError::Corrupt(format!("change {number} is cut short")));
            };
            changes.push(Change { number, writes: codec::take_writes(number, encoded)? });
        }
        if rest.has_remaining() {
            return Err(StoreError::Corrupt(format!("after change {} is more", self.last())));
        }
        Ok(changes)
    }
}

fn put_length(frame: &mut [u8], at: usize, length: usize) {
    if let Some(place) = frame.get_mut(at..at + 4) {
        place.copy_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    }
}

fn seal(bytes: &mut [u8]) {
    let checksum = crc32fast::hash(bytes.get(CHECKED_FROM..).unwrap_or_default());
    if let Some(place) = bytes.get_mut(4..CHECKED_FROM) {
        place.copy_from_slice(&checksum.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sled_engine::codec::tests::a_write;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn a_frame_comes_back_whole_or_not_at_all(
            commits in prop::collection::vec(prop::collection::vec(a_write(), 1..4), 1..4),
            first in 1..u64::MAX / 2, nonce: u64, flipped: prop::sample::Index, bit in 0..8,
        ) {
            let encoded = Frame::encode(nonce, first, &commits);
            prop_assert_eq!(encoded.len() % PAGE, 0);
            let (frame, taken) = Frame::decode(&encoded.clone().into(), nonce).unwrap();
            prop_assert_eq!(taken, encoded.len());
            prop_assert_eq!(frame.last(), first + commits.len() as u64 - 1);
            let changes = frame.changes().unwrap();
            prop_assert!(changes.iter().zip(first..).all(|(change, number)| change.number == number));
            let writes: Vec<_> = changes.into_iter().map(|change| change.writes).collect();
            prop_assert_eq!(writes, commits);
            prop_assert_eq!(Frame::decode(&encoded.clone().into(), nonce ^ 1), None);
            // One bit anywhere but in the padding, or an end missing, and it is no frame.
            let length = FRAME_HEADER + frame.payload.len();
            let mut damaged = encoded.clone();
            damaged[flipped.index(length)] ^= 1_u8 << bit;
            prop_assert_eq!(Frame::decode(&damaged.into(), nonce), None);
            prop_assert_eq!(Frame::decode(&Bytes::from(encoded).slice(..length - 1), nonce), None);
        }

        #[test]
        fn any_bytes_are_no_frame(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(Frame::decode(&bytes.clone().into(), 0), None);
            prop_assert_eq!(SegmentHeader::decode(&bytes), None);
        }
    }

    #[test]
    fn a_header_comes_back_whole_or_not_at_all() {
        let header = SegmentHeader { store: StoreId::fresh(), segment: 3, nonce: 7, first: 11 };
        let page = header.encode();
        assert_eq!(SegmentHeader::decode(&page), Some(header));
        for at in 0..PAGE {
            let mut damaged = page.clone();
            damaged[at] ^= 1;
            assert_eq!(SegmentHeader::decode(&damaged), None, "byte {at}");
        }
        assert_eq!(SegmentHeader::decode(&page[..PAGE - 1]), None);
    }
}
