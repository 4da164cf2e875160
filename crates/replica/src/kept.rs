//! The snapshot that is kept on disk, for a start while the store is away.
//!
//! One file, replaced as a whole: written beside it, synced, renamed over it, and the folder synced. It holds what this version read of the
//! records, which of a later form is not all of them: so it says which forms its writer knew, and is read by no other. At its end is a
//! SHA-256 over all of it: a file that does not match is refused by name, and the replica starts without it. It is no defence against
//! whoever can write in the folder; whoever can, decides.
//!
//! ```text
//! "countersign kept snapshot 1\n"
//! the newest form of records that its writer read: 4 bytes, big endian
//! heard at: seconds since 1970, 8 bytes, big endian
//! chunks: length, 4 bytes, big endian; then a WatchSnapshotChunk, the last with `last`
//! SHA-256 of everything before, 32 bytes
//! ```
//!
//! Records are in the order of their keys, so that a newer file is made of an older one and the changes since by reading on, one chunk
//! in memory at a time. It knows nothing of who may be let in by them.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, BufReader, BufWriter, Read, Write},
    panic,
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::digest::{Context, SHA256};
use countersign_proto::policy::v1::{Record, WatchSnapshotChunk};
use prost::Message as _;

use crate::{
    MalformedRevision, Revision, Unreadable, World, arriving::Arriving, plain, records::FORMAT,
};

const MAGIC: &[u8] = b"countersign kept snapshot 1\n";
/// The name of the file in its folder.
pub const FILE: &str = "snapshot";
const NEW_FILE: &str = "snapshot.new";
/// What a chunk of the store's has at most.
const MAX_CHUNK_BYTES: u32 = 16 << 20;
const RECORDS_A_CHUNK: usize = 256;
/// Chunks that are decoded, and not yet in the world.
const CHUNKS_AHEAD: usize = 4;
const DIGEST_BYTES: usize = 32;
const UNREAD: &str = "a record cannot be read";

/// Why a kept snapshot cannot be used, or not be kept.
#[derive(Debug, thiserror::Error)]
pub enum Damaged {
    /// The system says no.
    #[error("the kept snapshot `{}` cannot be used: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's word.
        error: io::Error,
    },
    /// It is none, or none of this version.
    #[error("`{}` is no kept snapshot, or one of another version; delete it, and a new one is kept", .0.display())]
    Foreign(PathBuf),
    /// It is not what was written.
    #[error("the kept snapshot `{}` is damaged ({what}); it is not used; a new one is kept once the store is heard", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
}

/// What a file says of itself, once its checksum has been seen to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The revision of all of it.
    pub revision: Revision,
    /// When the store was last heard to be at that revision; seconds since 1970.
    pub heard_at: u64,
}

impl Stamp {
    /// How long ago the store was heard. None if that is yet to come: then the clock was changed, and nobody knows.
    #[must_use]
    pub fn age(&self, now: SystemTime) -> Option<Duration> {
        let heard = UNIX_EPOCH.checked_add(Duration::from_secs(self.heard_at))?;
        now.duration_since(heard).ok()
    }
}

/// A kept snapshot that was read.
pub struct Kept {
    /// Of when it is.
    pub stamp: Stamp,
    /// What it holds.
    pub world: World,
    /// Records that this version cannot read, and that are left out, which denies.
    pub unreadable: Vec<Unreadable>,
}

/// Changes by key, in the order of keys; none is a deletion.
pub type Changes = BTreeMap<String, Option<Record>>;

/// Reads what is kept in `folder`; none if nothing is.
///
/// # Errors
/// When the file cannot be read, is none, or is damaged.
pub fn read(folder: &Path) -> Result<Option<Kept>, Damaged> {
    let Some(mut reader) = Reader::open(folder)? else { return Ok(None) };
    let (chunks, arrived) = mpsc::sync_channel(CHUNKS_AHEAD);
    let mut arriving = Arriving::default();
    let mut unreadable = Vec::new();
    let path = reader.path.clone();
    // One thread reads and sums; this one makes a world of it.
    let stamp = thread::scope(|scope| {
        let reading = scope.spawn(move || {
            while let Some(chunk) = reader.next_bytes()? {
                // Nobody listens where a record cannot be read.
                if chunks.send(chunk).is_err() {
                    break;
                }
            }
            reader.stamp()
        });
        for chunk in arrived {
            for record in plain::chunk(&chunk).into_iter().flat_map(|chunk| chunk.records) {
                let taken = arriving.take_bytes(record);
                let not_read = || Damaged::Content { path: path.clone(), what: UNREAD };
                unreadable.extend(taken.ok_or_else(not_read)?.err());
            }
        }
        reading.join().unwrap_or_else(|panic| panic::resume_unwind(panic))
    });
    // Nothing of it is anybody's before the checksum was seen to hold.
    let stamp = stamp?;
    Ok(Some(Kept { stamp, world: arriving.finish(), unreadable }))
}

/// Writes a snapshot of the store's own, chunk by chunk as it arrives. It replaces what is kept when it is finished, and not before.
pub struct Fresh {
    writer: Writer,
}

impl Fresh {
    /// Begins.
    ///
    /// # Errors
    /// When the folder cannot be written in.
    pub fn begin(folder: &Path) -> Result<Self, Damaged> {
        Ok(Self { writer: Writer::create(folder, now())? })
    }

    /// Takes the records of one chunk.
    ///
    /// # Errors
    /// When the disk is full, or the like.
    pub fn take(&mut self, revision: &Revision, records: Vec<Record>) -> Result<(), Damaged> {
        self.writer.chunk(revision, records, false)
    }

    /// The snapshot is whole.
    ///
    /// # Errors
    /// When the disk is full, or the like; what was kept before is then kept still.
    pub fn finish(self, revision: &Revision) -> Result<Stamp, Damaged> {
        self.writer.finish(revision)
    }
}

/// Makes a newer file of the kept one and the `changes` since, at `revision`.
///
/// # Errors
/// When the kept one is damaged, or the system says no; what was kept before is then kept still.
pub fn renew(folder: &Path, mut changes: Changes, revision: &Revision) -> Result<Stamp, Damaged> {
    let heard_at = now();
    let Some(mut reader) = Reader::open(folder)? else {
        return Err(Damaged::Content { path: folder.join(FILE), what: "it is gone" });
    };
    let mut writer = Writer::create(folder, heard_at)?;
    let mut batch = Vec::new();
    while let Some(records) = reader.next()? {
        for record in records {
            // What stands before it in the order of keys, and is new.
            while let Some(first) = changes.first_entry()
                && *first.key() < record.key
            {
                batch.extend(first.remove());
            }
            match changes.remove(&record.key) {
                Some(changed) => batch.extend(changed),
                None => batch.push(record),
            }
            if batch.len() >= RECORDS_A_CHUNK {
                writer.chunk(revision, std::mem::take(&mut batch), false)?;
            }
        }
    }
    // Its checksum is known only now; a damaged one makes no newer one.
    reader.stamp()?;
    for changed in changes.into_values().flatten() {
        batch.push(changed);
        if batch.len() >= RECORDS_A_CHUNK {
            writer.chunk(revision, std::mem::take(&mut batch), false)?;
        }
    }
    writer.chunk(revision, batch, false)?;
    writer.finish(revision)
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

struct Writer {
    folder: PathBuf,
    file: BufWriter<File>,
    digest: Context,
    heard_at: u64,
}

impl Writer {
    fn create(folder: &Path, heard_at: u64) -> Result<Self, Damaged> {
        let path = folder.join(NEW_FILE);
        let create = || {
            private_folder(folder)?;
            private_file(&path)
        };
        let file = create().map_err(|error| Damaged::Io { path: path.clone(), error })?;
        let mut writer = Self {
            folder: folder.to_owned(),
            file: BufWriter::with_capacity(1 << 16, file),
            digest: Context::new(&SHA256),
            heard_at,
        };
        writer.write(MAGIC)?;
        writer.write(&FORMAT.to_be_bytes())?;
        writer.write(&heard_at.to_be_bytes())?;
        Ok(writer)
    }

    fn chunk(
        &mut self,
        revision: &Revision,
        records: Vec<Record>,
        last: bool,
    ) -> Result<(), Damaged> {
        let revision = revision.to_string();
        let bytes = WatchSnapshotChunk { revision, first: false, last, records }.encode_to_vec();
        let length = u32::try_from(bytes.len()).ok().filter(|length| *length <= MAX_CHUNK_BYTES);
        let length = length.ok_or_else(|| Damaged::Content {
            path: self.folder.join(NEW_FILE),
            what: "a chunk is too long to be read again",
        })?;
        self.write(&length.to_be_bytes())?;
        self.write(&bytes)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Damaged> {
        self.digest.update(bytes);
        self.io(|file| file.write_all(bytes))
    }

    fn io(
        &mut self,
        act: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
    ) -> Result<(), Damaged> {
        act(&mut self.file).map_err(|error| Damaged::Io { path: self.folder.join(NEW_FILE), error })
    }

    fn finish(mut self, revision: &Revision) -> Result<Stamp, Damaged> {
        self.chunk(revision, Vec::new(), true)?;
        let digest = self.digest.clone().finish();
        let (new, kept) = (self.folder.join(NEW_FILE), self.folder.join(FILE));
        let folder = self.folder.clone();
        self.io(|file| {
            file.write_all(digest.as_ref())?;
            file.flush()?;
            file.get_ref().sync_all()?;
            fs::rename(&new, &kept)?;
            // A rename is on disk once its folder is.
            File::open(&folder)?.sync_all()
        })?;
        Ok(Stamp { revision: revision.clone(), heard_at: self.heard_at })
    }
}

fn private_folder(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

fn private_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

struct Reader {
    path: PathBuf,
    file: BufReader<File>,
    digest: Context,
    heard_at: u64,
    revision: Option<String>,
}

impl Reader {
    fn open(folder: &Path) -> Result<Option<Self>, Damaged> {
        let path = folder.join(FILE);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Damaged::Io { path, error }),
        };
        let mut reader = Self {
            path,
            file: BufReader::with_capacity(1 << 16, file),
            digest: Context::new(&SHA256),
            heard_at: 0,
            revision: None,
        };
        let (mut magic, mut form) = ([0; MAGIC.len()], [0; 4]);
        match reader.fill(&mut magic).and_then(|()| reader.fill(&mut form)) {
            // What a writer of an earlier version did not know of a record is not in the file, and nothing else says so.
            Ok(()) if magic == MAGIC && form == FORMAT.to_be_bytes() => {}
            Err(error @ Damaged::Io { .. }) => return Err(error),
            Ok(()) | Err(Damaged::Foreign(_) | Damaged::Content { .. }) => {
                return Err(Damaged::Foreign(reader.path));
            }
        }
        let mut heard_at = [0; 8];
        reader.fill(&mut heard_at)?;
        reader.heard_at = u64::from_be_bytes(heard_at);
        Ok(Some(reader))
    }

    fn damaged(&self, what: &'static str) -> Damaged {
        Damaged::Content { path: self.path.clone(), what }
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), Damaged> {
        self.file.read_exact(bytes).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => self.damaged("it is cut short"),
            _ => Damaged::Io { path: self.path.clone(), error },
        })?;
        self.digest.update(bytes);
        Ok(())
    }

    /// The next chunk; none after the last. Nothing of it is to be believed before [`Self::stamp`].
    fn next_bytes(&mut self) -> Result<Option<Vec<u8>>, Damaged> {
        let mut length = [0; 4];
        self.fill(&mut length)?;
        let length = u32::from_be_bytes(length);
        if length > MAX_CHUNK_BYTES {
            return Err(self.damaged("a chunk is too long"));
        }
        let mut bytes = vec![0; usize::try_from(length).unwrap_or_default()];
        self.fill(&mut bytes)?;
        let chunk = plain::chunk(&bytes).ok_or_else(|| self.damaged("a chunk cannot be read"))?;
        if self.revision.as_ref().is_some_and(|known| *known != chunk.revision) {
            return Err(self.damaged("its chunks are of different revisions"));
        }
        self.revision = Some(chunk.revision.to_owned());
        match (chunk.last, chunk.records.is_empty()) {
            (false, _) => Ok(Some(bytes)),
            (true, true) => Ok(None),
            (true, false) => Err(self.damaged("its end holds records")),
        }
    }

    /// The next records; none after the last. Nothing of them is to be believed before [`Self::stamp`].
    fn next(&mut self) -> Result<Option<Vec<Record>>, Damaged> {
        let Some(bytes) = self.next_bytes()? else { return Ok(None) };
        let chunk = WatchSnapshotChunk::decode(bytes.as_slice());
        Ok(Some(chunk.map_err(|_| self.damaged(UNREAD))?.records))
    }

    /// Called after the last chunk: whether the checksum holds, and then what the file says of itself.
    fn stamp(mut self) -> Result<Stamp, Damaged> {
        let computed = self.digest.clone().finish();
        let mut written = [0; DIGEST_BYTES];
        self.fill(&mut written)?;
        if computed.as_ref() != written {
            return Err(self.damaged("its checksum does not hold"));
        }
        let more = self.file.read(&mut [0; 1]);
        match more {
            Ok(0) => {}
            Ok(_) => return Err(self.damaged("there is more behind its end")),
            Err(error) => return Err(Damaged::Io { path: self.path, error }),
        }
        let revision = self.revision.clone().unwrap_or_default().parse();
        let revision =
            revision.map_err(|_: MalformedRevision| self.damaged("its revision is none"))?;
        Ok(Stamp { revision, heard_at: self.heard_at })
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::panic,
        clippy::indexing_slicing,
        reason = "a test may fail"
    )]

    use countersign_proto::policy::v1::{AccountRecord, record::Record as Kind};

    use super::*;

    fn account(number: u64) -> Record {
        let account_id = format!("{number:012}");
        let account = AccountRecord { account_id: account_id.clone(), ..Default::default() };
        Record {
            key: format!("a/{account_id}"),
            record: Some(Kind::Account(account)),
            format: 1,
            version: number,
        }
    }

    fn at(text: &str) -> Revision {
        text.parse().unwrap()
    }

    fn keep(folder: &Path, revision: &str, numbers: &[u64]) {
        let mut fresh = Fresh::begin(folder).unwrap();
        for chunk in numbers.chunks(2) {
            fresh.take(&at(revision), chunk.iter().map(|n| account(*n)).collect()).unwrap();
        }
        fresh.finish(&at(revision)).unwrap();
    }

    fn accounts(folder: &Path) -> (String, Vec<u64>) {
        let kept = read(folder).unwrap().unwrap();
        assert!(kept.unreadable.is_empty());
        let accounts = kept.world.snapshot().accounts();
        let numbers = accounts.map(|entry| entry.account.as_str().parse().unwrap()).collect();
        (kept.stamp.revision.to_string(), numbers)
    }

    #[test]
    fn what_is_kept_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        assert!(read(folder.path()).unwrap().is_none());
        keep(folder.path(), "aaaa:5", &[1, 3, 5, 7, 9]);
        assert_eq!(accounts(folder.path()), ("aaaa:5".into(), vec![1, 3, 5, 7, 9]));
        keep(folder.path(), "bbbb:1", &[]);
        assert_eq!(accounts(folder.path()), ("bbbb:1".into(), vec![]));
        // Begun, and never finished: what was kept is kept.
        let mut fresh = Fresh::begin(folder.path()).unwrap();
        fresh.take(&at("cccc:1"), vec![account(1)]).unwrap();
        drop(fresh);
        assert_eq!(accounts(folder.path()).0, "bbbb:1");
    }

    #[test]
    fn a_newer_one_is_made_of_the_older_and_the_changes() {
        fn check(changes: &[(u64, bool)], expected: &[u64]) {
            let folder = tempfile::tempdir().unwrap();
            keep(folder.path(), "aaaa:5", &[1, 3, 5, 7, 9]);
            let changes = changes.iter().map(|(number, stays)| {
                let record = account(*number);
                (record.key.clone(), stays.then_some(record))
            });
            renew(folder.path(), changes.collect(), &at("aaaa:9")).unwrap();
            assert_eq!(accounts(folder.path()), ("aaaa:9".into(), expected.to_vec()));
            // It can be made newer again: its keys are in order.
            let one = account(4);
            renew(folder.path(), [(one.key.clone(), Some(one))].into(), &at("aaaa:10")).unwrap();
            let mut more = expected.to_vec();
            more.push(4);
            more.sort_unstable();
            more.dedup();
            assert_eq!(accounts(folder.path()), ("aaaa:10".into(), more));
        }
        check(&[], &[1, 3, 5, 7, 9]);
        check(&[(0, true), (2, true), (10, true)], &[0, 1, 2, 3, 5, 7, 9, 10]);
        check(&[(1, false), (9, false)], &[3, 5, 7]);
        check(&[(5, true), (6, false)], &[1, 3, 5, 7, 9]);
        check(&[(1, false), (3, false), (5, false), (7, false), (9, false)], &[]);
    }

    /// Whatever byte is lost or changed, the file is refused.
    #[test]
    fn a_damaged_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        keep(folder.path(), "aaaa:5", &[1, 3, 5]);
        let path = folder.path().join(FILE);
        let sound = fs::read(&path).unwrap();
        let refused = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            let Err(error) = read(folder.path()) else { panic!("{} bytes were read", bytes.len()) };
            assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
            let changes = Changes::new();
            assert!(renew(folder.path(), changes, &at("aaaa:6")).is_err());
        };
        for index in 0..sound.len() {
            refused(&sound[..index]);
            let mut changed = sound.clone();
            changed[index] ^= 1;
            refused(&changed);
        }
        refused(&[sound.as_slice(), b"x"].concat());
        // Whole, and by one who read fewer forms of records, or more.
        for form in [FORMAT - 1, FORMAT + 1] {
            let end = sound.len() - DIGEST_BYTES;
            let body = [MAGIC, &form.to_be_bytes(), &sound[MAGIC.len() + 4..end]].concat();
            let digest = aws_lc_rs::digest::digest(&SHA256, &body);
            fs::write(&path, [&body, digest.as_ref()].concat()).unwrap();
            assert!(matches!(read(folder.path()), Err(Damaged::Foreign(_))));
        }
        fs::write(&path, &sound).unwrap();
        assert_eq!(accounts(folder.path()).1, [1, 3, 5]);
    }

    #[test]
    fn ages() {
        let stamp = Stamp { revision: at("aaaa:5"), heard_at: 1000 };
        let now = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        assert_eq!(stamp.age(now(1060)), Some(Duration::from_secs(60)));
        // The clock was changed.
        assert_eq!(stamp.age(now(999)), None);
    }

    #[cfg(unix)]
    #[test]
    fn nobody_else_may_read_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("kept");
        keep(&inner, "aaaa:5", &[1]);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&inner), mode(&inner.join(FILE))), (0o700, 0o600));
    }
}
