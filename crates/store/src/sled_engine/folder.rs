//! The store's folder: its lock, its root, the ballast, and what must be synced.
//!
//! | name | what |
//! | --- | --- |
//! | `lock` | locked while a process has the store open |
//! | `store` | the root: the store's id, and the [`Seal`] of its base; replaced whole, by a rename |
//! | `base-`number | the base at that commit; any other than the root's is a leftover, and removed at the next start |
//! | `log/` | the segments of the write-ahead log |
//! | `ballast` | room on the disk, given back when sled needs it to open the base on a full one |

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::base::Seal;
use super::recover;
use crate::{StoreError, StoreId};

const ROOT: &str = "store";
const TITLE: &str = "countersign store, format 2";
/// Without its number, which is this one.
const TITLE_OF_ANY: &str = "countersign store, format ";
const FORMAT: u64 = 2;

/// What the store is, in the folder: who, and from which base its log goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Root {
    pub id: StoreId,
    pub base: Seal,
}

/// Whether there is a store in the folder `path`. Nothing is made or locked.
pub(super) fn holds_store(path: &Path) -> bool {
    path.join(ROOT).is_file()
}

impl Root {
    fn encode(&self) -> String {
        let Seal { number, entries, blocks, bytes, digest } = self.base;
        let id = &self.id;
        let text = format!(
            "{TITLE}\nid {id}\nbase {number}\nentries {entries}\nblocks {blocks}\nbytes {bytes}\ndigest {digest}\n"
        );
        let checksum = crc32fast::hash(text.as_bytes());
        format!("{text}checksum {checksum}\n")
    }

    /// Only what [`Root::encode`] writes is accepted.
    fn decode(text: &str) -> Option<Self> {
        let mut lines = text.lines().skip(1);
        let mut field =
            |name: &str| lines.next()?.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned);
        let root = Self {
            id: field("id")?.parse().ok()?,
            base: Seal {
                number: field("base")?.parse().ok()?,
                entries: field("entries")?.parse().ok()?,
                blocks: field("blocks")?.parse().ok()?,
                bytes: field("bytes")?.parse().ok()?,
                digest: field("digest")?.parse().ok()?,
            },
        };
        (root.encode() == text).then_some(root)
    }

    /// The root of the store in `folder`; `None` without one.
    pub fn read(folder: &Path) -> Result<Option<Self>, StoreError> {
        let path = folder.join(ROOT);
        let corrupt =
            |what: String| Err(StoreError::Corrupt(format!("`{}`: {what}", path.display())));
        match fs::read_to_string(&path) {
            Ok(text) => match Root::decode(&text) {
                Some(root) => Ok(Some(root)),
                None => match format_of(&text) {
                    Some(FORMAT) => corrupt("it is not as it was written".into()),
                    Some(found) if found > FORMAT => Err(StoreError::Later {
                        what: format!("`{}`", folder.display()),
                        found,
                        known: FORMAT,
                    }),
                    Some(_) | None => corrupt("its format is not one this version knows".into()),
                },
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                corrupt("it is not text".into())
            }
            Err(error) => Err(failed("read", &path, &error)),
        }
    }

    /// Makes this the root of the folder, durably, in one step.
    pub fn write(&self, folder: &Path) -> Result<(), StoreError> {
        let (path, new) = (folder.join(ROOT), folder.join("store.new"));
        let write = || {
            let mut file = File::create(&new)?;
            file.write_all(self.encode().as_bytes())?;
            file.sync_all()?;
            fs::rename(&new, &path)?;
            File::open(folder)?.sync_all()
        };
        write().map_err(|error| failed("write", &path, &error))
    }
}

/// The format that a root's first line names.
fn format_of(text: &str) -> Option<u64> {
    text.lines().next()?.strip_prefix(TITLE_OF_ANY)?.parse().ok()
}

/// The folder, locked for this process until dropped.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    _lock: File,
}

impl Folder {
    /// Makes the folder if need be, durably, and locks it.
    pub fn lock(path: &Path) -> Result<Self, StoreError> {
        make_folder(path).map_err(|error| failed("create", path, &error))?;
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

    pub fn log(&self) -> PathBuf {
        self.path.join("log")
    }

    pub fn base(&self, number: u64) -> PathBuf {
        self.path.join(format!("base-{number}"))
    }

    /// The root; `None` for a folder that holds no store yet.
    pub fn root(&self) -> Result<Option<Root>, StoreError> {
        match Root::read(&self.path)? {
            Some(root) => Ok(Some(root)),
            None => self.refuse_others().map(|()| None),
        }
    }

    /// Without a root, a folder may hold what a first start left that did not come to its end, and nothing else.
    fn refuse_others(&self) -> Result<(), StoreError> {
        for entry in fs::read_dir(&self.path).map_err(|error| failed("read", &self.path, &error))? {
            let name = entry.map_err(|error| failed("read", &self.path, &error))?.file_name();
            if !["lock", "log", "store.new"].iter().any(|own| name == *own)
                || recover::holds_commits(&self.log())
            {
                let what = format!(
                    "`{}` holds `{}` but no `{ROOT}`",
                    self.path.display(),
                    name.to_string_lossy()
                );
                return Err(StoreError::Corrupt(what));
            }
        }
        Ok(())
    }

    /// Makes `root` the root, durably, in one step.
    pub fn write_root(&self, root: &Root) -> Result<(), StoreError> {
        root.write(&self.path)
    }

    /// Makes the log's folder anew, durably.
    pub fn make_log(&self) -> Result<PathBuf, StoreError> {
        let log = self.log();
        let make = || {
            remove_folder(&log)?;
            make_folder(&log)
        };
        make().map_err(|error| failed("create", &log, &error)).map(|()| log)
    }

    /// Removes every base but the one at `number`.
    pub fn remove_other_bases(&self, number: u64) {
        let kept = self.base(number);
        for entry in fs::read_dir(&self.path).into_iter().flatten().flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            if name.to_string_lossy().starts_with("base-")
                && path != kept
                && let Err(error) = remove_folder(&path)
            {
                tracing::warn!(%error, path = %path.display(), "an old base stays behind");
            }
        }
    }

    /// Makes sure of room on the disk, which [`Folder::drop_ballast`] gives back when sled needs it.
    pub fn take_ballast(&self, bytes: u64) -> Result<(), StoreError> {
        let path = self.path.join("ballast");
        if bytes == 0 || fs::metadata(&path).is_ok_and(|found| found.len() == bytes) {
            return Ok(());
        }
        write_ballast(&path, bytes).map_err(|error| {
            self.drop_ballast();
            failed("write", &path, &error)
        })
    }

    /// Whether there was any.
    pub fn drop_ballast(&self) -> bool {
        fs::remove_file(self.path.join("ballast")).is_ok()
    }
}

pub(super) fn refuse_blobs(base: &Path) -> Result<(), StoreError> {
    let path = base.join("blobs");
    match fs::read_dir(&path).map(|mut entries| entries.next().is_none()) {
        Ok(true) => Ok(()),
        Ok(false) => Err(StoreError::BlobsNotEmpty { path }),
        Err(error) => Err(failed("read", &path, &error)),
    }
}

/// Makes a folder's files and all names durable.
pub(super) fn sync_all(path: &Path) -> Result<(), StoreError> {
    let sync = || {
        for entry in fs::read_dir(path)? {
            File::open(entry?.path())?.sync_all()?;
        }
        File::open(path)?.sync_all()?;
        File::open(path.parent().unwrap_or(path))?.sync_all()
    };
    sync().map_err(|error| failed("sync", path, &error))
}

/// Removes a folder if it is there.
pub(super) fn remove_folder(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
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

/// A full disk by its own name, the rest as text.
pub(super) fn failed(what: &str, path: &Path, error: &io::Error) -> StoreError {
    if super::is_full(error.kind()) {
        return StoreError::Full;
    }
    StoreError::Unavailable(format!("cannot {what} `{}`: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_comes_back_whole_or_not_at_all() {
        let base = Seal { number: 7, entries: 5, blocks: 2, bytes: 400, digest: 99 };
        let root = Root { id: StoreId::fresh(), base };
        let text = root.encode();
        assert_eq!(Root::decode(&text), Some(root));
        for at in 0..text.len() {
            let mut damaged = text.clone().into_bytes();
            damaged[at] ^= 1;
            assert_eq!(Root::decode(&String::from_utf8_lossy(&damaged)), None, "byte {at}");
            assert_eq!(Root::decode(&text[..at]), None, "cut at {at}");
        }
    }
}
