//! The store's folder: its lock, what must be synced in it, the ballast, and opening sled there.
//!
//! sled's own files are `db` (the log), `conf`, `snap.*` and the folder `blobs`; ours are `lock` and `ballast`.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::SledOptions;
use crate::StoreError;

/// sled writes a node over a quarter of a segment to `blobs/`, which it never syncs. A leaf holds up to 16 cells, one more
/// until it is next visited, and 3 more while it takes in a neighbour: 20 of 64 KB and a key of 1 KB make 1.3 MB, more than
/// a quarter of 4 MB, so segments are of 8.
const SEGMENT_BYTES: usize = 8 << 20;
/// A handle of this process's own that sled is still giving up holds the file this long at most.
const PATIENCE: Duration = Duration::from_secs(5);

/// The folder, locked for this process until dropped.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    _lock: File,
}

impl Folder {
    /// Makes the folder if need be, durably, and locks it.
    pub fn lock(path: &Path) -> Result<Self, StoreError> {
        make_folder(&path.join("blobs")).map_err(|error| failed("create", path, &error))?;
        let lock_path = path.join("lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .map_err(|error| failed("open", &lock_path, &error))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(StoreError::Locked { path: path.to_owned() }),
            Err(TryLockError::Error(error)) => Err(failed("lock", &lock_path, &error)),
        }
    }

    pub fn open_sled(&self, options: &SledOptions) -> Result<::sled::Db, StoreError> {
        self.refuse_blobs()?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let opened = ::sled::Config::new()
                .path(&self.path)
                .segment_size(SEGMENT_BYTES)
                .cache_capacity(options.cache_capacity)
                // Only the writer flushes: what is on disk is then what it acknowledged.
                .flush_every_ms(None)
                .open();
            match opened {
                Ok(db) => return Ok(db),
                Err(::sled::Error::Io(error))
                    if error.to_string().contains("could not acquire lock") =>
                {
                    if Instant::now() > deadline {
                        return Err(StoreError::Locked { path: self.path.clone() });
                    }
                    std::thread::sleep(Duration::from_millis(10));
                }
                Err(error) => return Err(super::store_error(&error)),
            }
        }
    }

    /// sled's own log file, to be synced by its own handle.
    pub fn open_log(&self) -> Result<File, StoreError> {
        let path = self.path.join("db");
        OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .map_err(|error| failed("open", &path, &error))
    }

    /// Makes sled's files and their names durable: sled leaves that to the file system.
    pub fn sync(&self) -> Result<(), StoreError> {
        let sync = || {
            for entry in fs::read_dir(&self.path)? {
                File::open(entry?.path())?.sync_all()?;
            }
            File::open(&self.path)?.sync_all()
        };
        sync().map_err(|error| failed("sync", &self.path, &error))
    }

    pub fn refuse_blobs(&self) -> Result<(), StoreError> {
        let path = self.path.join("blobs");
        match fs::read_dir(&path).map(|mut entries| entries.next().is_none()) {
            Ok(true) => Ok(()),
            Ok(false) => Err(StoreError::BlobsNotEmpty { path }),
            Err(error) => Err(failed("read", &path, &error)),
        }
    }

    /// Makes sure of room on the disk, which [`Folder::drop_ballast`] gives back when sled needs it to be opened again.
    pub fn take_ballast(&self, bytes: u64) -> io::Result<()> {
        let path = self.ballast_path();
        if bytes == 0 || fs::metadata(&path).is_ok_and(|found| found.len() == bytes) {
            return Ok(());
        }
        let written = write_ballast(&path, bytes);
        if written.is_err() {
            self.drop_ballast();
        }
        written
    }

    pub fn drop_ballast(&self) {
        // If it cannot be removed there is merely less room, and opening says so.
        let _ = fs::remove_file(self.ballast_path());
    }

    fn ballast_path(&self) -> PathBuf {
        self.path.join("ballast")
    }
}

fn write_ballast(path: &Path, bytes: u64) -> io::Result<()> {
    let mut file = File::create(path)?;
    // Noise, since a file system that compresses would keep no room for zeros.
    let mut seed: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut left = bytes;
    while left > 0 {
        let block: Vec<u8> = std::iter::repeat_with(|| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed.to_ne_bytes()
        })
        .take(8 << 10)
        .flatten()
        .collect();
        let size = usize::try_from(left).unwrap_or(usize::MAX).min(block.len());
        file.write_all(block.get(..size).unwrap_or_default())?;
        left -= size as u64;
    }
    file.sync_all()
}

/// Creates a folder and what leads to it, and syncs each new name.
fn make_folder(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    make_folder(parent)?;
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
        created => created?,
    }
    File::open(parent)?.sync_all()
}

fn failed(what: &str, path: &Path, error: &io::Error) -> StoreError {
    StoreError::Unavailable(format!("cannot {what} `{}`: {error}", path.display()))
}
