//! A copy of a folder that another process has open: everything that was acknowledged before the copy began is in it.
//!
//! The engine's own files allow that, without a word to the process. A base is written once, and only read. A segment of the log is written
//! from its beginning to its end, so whoever reads it from its end to its beginning, and segments from the newest to the oldest, has read
//! all that comes before whatever it has read: at most the last frame is cut off, as a crash leaves it. A base or a segment may be gone, or
//! have become another, while it is copied; then the copy does not open, as no damaged store does, and is made again.

use std::fs::{self, File};
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::Path;

use super::folder::{self, Root, failed};
use super::recover;
use super::wal::{SEGMENT_BYTES, segment_path};
use crate::StoreError;

/// Read at once.
const PIECE: usize = 64 << 10;

/// Copies the store in `from` into the folder `to`, which is made anew. Whether it is whole is seen when it is opened.
pub(super) fn copy(from: &Path, to: &Path) -> Result<(), StoreError> {
    folder::remove_folder(to)
        .and_then(|()| make(to))
        .and_then(|()| make(&to.join("log")))
        .map_err(|error| failed("make", to, &error))?;
    let root = Root::read(from)?
        .ok_or_else(|| StoreError::Unavailable(format!("`{}` holds no store", from.display())))?;
    if root.base.number > 0 {
        let name = format!("base-{}", root.base.number);
        copy_base(&from.join(&name), &to.join(&name))?;
    }
    let log = from.join("log");
    for number in recover::segments(&log)?.into_iter().rev() {
        let (from, to) = (segment_path(&log, number), segment_path(&to.join("log"), number));
        let bytes = read_backwards(&from).map_err(|error| failed("read", &from, &error))?;
        fs::write(&to, bytes).map_err(|error| failed("write", &to, &error))?;
    }
    root.write(to)
}

/// For its owner alone: everything is in it.
fn make(folder: &Path) -> std::io::Result<()> {
    fs::DirBuilder::new().mode(0o700).create(folder)
}

fn copy_base(from: &Path, to: &Path) -> Result<(), StoreError> {
    let copy = || {
        fs::create_dir(to)?;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            let to = to.join(entry.file_name());
            // `blobs`, which is empty.
            if entry.file_type()?.is_dir() {
                fs::create_dir(to)?
            } else {
                fs::copy(entry.path(), to).map(drop)?
            }
        }
        Ok(())
    };
    copy().map_err(|error| failed("copy", from, &error))
}

fn read_backwards(path: &Path) -> std::io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let mut bytes = vec![0; usize::try_from(SEGMENT_BYTES).unwrap_or_default()];
    for (index, piece) in bytes.chunks_mut(PIECE).enumerate().rev() {
        let offset = u64::try_from(index * PIECE).unwrap_or_default();
        file.read_exact_at(piece, offset)?;
    }
    Ok(bytes)
}
