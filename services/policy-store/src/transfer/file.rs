//! The file of an export. Knows bytes alone.
//!
//! A line `countersign-export 1`, then chunks: the length of the payload (4 bytes, big-endian), its SHA-256 (32 bytes), the payload. The
//! first byte of a payload says what it is:
//!
//! | payload | content |
//! | --- | --- |
//! | `H` | the first: [`super::Origin`], in JSON |
//! | `E` | the chunk's number (8 bytes, big-endian), then entries in key order, each as in [`super::Contents::sha256`] |
//! | `T` | the last, and nothing after it: [`super::Contents`], in JSON |

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufReader, BufWriter, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use aws_lc_rs::digest::{Context, SHA256, SHA256_OUTPUT_LEN, digest};
use bytes::{Buf as _, Bytes};
use countersign_sigv4::encoding::hex;

use super::{Contents, Origin, TransferError};
use crate::layout;

const MAGIC: &[u8] = b"countersign-export 1\n";
/// A chunk is closed once it is so long; with one more entry it is still far from [`MOST_PAYLOAD`].
const CHUNK_BYTES: usize = 256 << 10;
/// No payload is longer: what says so is damaged, and is not read into memory.
const MOST_PAYLOAD: usize = 1 << 20;
const HEADER: u8 = b'H';
const ENTRIES: u8 = b'E';
const TRAILER: u8 = b'T';

/// What is left of a list of entries once all were seen.
pub struct Tally {
    contents: Contents,
    context: Context,
}

impl Default for Tally {
    fn default() -> Self {
        Self { contents: Contents::default(), context: Context::new(&SHA256) }
    }
}

impl Tally {
    /// Counts an entry, whose encoding this returns.
    pub fn add(&mut self, key: &[u8], value: &[u8]) -> Vec<u8> {
        let encoded = encode(key, value);
        self.context.update(&encoded);
        self.contents.entries += 1;
        self.contents.bytes += (key.len() + value.len()) as u64;
        *self.contents.counts.entry(layout::room(key)).or_default() += 1;
        encoded
    }

    pub fn entries(&self) -> u64 {
        self.contents.entries
    }

    pub fn finish(self) -> Contents {
        Contents { sha256: hex(self.context.finish().as_ref()), ..self.contents }
    }
}

/// Keys are at most 1 KB and values at most 64 KB, which every engine holds to: the lengths fit.
fn encode(key: &[u8], value: &[u8]) -> Vec<u8> {
    let mut encoded = Vec::with_capacity(6 + key.len() + value.len());
    encoded.extend(u16::try_from(key.len()).unwrap_or(u16::MAX).to_be_bytes());
    encoded.extend(key);
    encoded.extend(u32::try_from(value.len()).unwrap_or(u32::MAX).to_be_bytes());
    encoded.extend(value);
    encoded
}

/// Writes an export beside its name, and gives it its name when it is whole and on disk.
pub struct Writer {
    path: PathBuf,
    partial: PathBuf,
    file: BufWriter<File>,
    chunk: Vec<u8>,
    chunks: u64,
    tally: Tally,
}

impl Writer {
    pub fn create(path: &Path, origin: &Origin) -> Result<Self, TransferError> {
        if path.exists() {
            return Err(TransferError::Exists(path.to_owned()));
        }
        let mut partial = path.as_os_str().to_owned();
        partial.push(".partial");
        let partial = PathBuf::from(partial);
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::AlreadyExists => TransferError::Exists(partial.clone()),
            _ => TransferError::File { what: "create", path: partial.clone(), error },
        };
        // Who may read it may read every policy, and try the sealed secrets.
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&partial)
            .map_err(failed)?;
        let mut writer = Self {
            path: path.to_owned(),
            partial,
            file: BufWriter::new(file),
            chunk: Vec::new(),
            chunks: 0,
            tally: Tally::default(),
        };
        writer.file.write_all(MAGIC).map_err(|error| writer.failed("write", error))?;
        writer.put_json(HEADER, origin)?;
        Ok(writer)
    }

    pub fn add(&mut self, key: &[u8], value: &[u8]) -> Result<(), TransferError> {
        if self.chunk.is_empty() {
            self.chunk.push(ENTRIES);
            self.chunk.extend(self.chunks.to_be_bytes());
        }
        self.chunk.extend(self.tally.add(key, value));
        if self.chunk.len() >= CHUNK_BYTES { self.close_chunk() } else { Ok(()) }
    }

    pub fn entries(&self) -> u64 {
        self.tally.entries()
    }

    /// Ends the file, and gives it its name.
    pub fn finish(mut self) -> Result<Contents, TransferError> {
        self.close_chunk()?;
        let contents = std::mem::take(&mut self.tally).finish();
        self.put_json(TRAILER, &contents)?;
        self.file.flush().map_err(|error| self.failed("write", error))?;
        self.file.get_ref().sync_all().map_err(|error| self.failed("sync", error))?;
        // Not `rename`, which would replace what somebody put there meanwhile.
        fs::hard_link(&self.partial, &self.path).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => TransferError::Exists(self.path.clone()),
            _ => self.failed("name", error),
        })?;
        let folder = match self.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        File::open(folder)
            .and_then(|folder| folder.sync_all())
            .map_err(|error| self.failed("sync the folder of", error))?;
        Ok(contents)
    }

    fn close_chunk(&mut self) -> Result<(), TransferError> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        let payload = std::mem::take(&mut self.chunk);
        self.put(&payload)
    }

    fn put_json<T: serde::Serialize>(&mut self, tag: u8, value: &T) -> Result<(), TransferError> {
        let mut payload = vec![tag];
        serde_json::to_writer(&mut payload, value)
            .map_err(|error| self.failed("write", error.into()))?;
        self.put(&payload)
    }

    fn put(&mut self, payload: &[u8]) -> Result<(), TransferError> {
        let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
        let sum = digest(&SHA256, payload);
        for part in [length.as_slice(), sum.as_ref(), payload] {
            self.file.write_all(part).map_err(|error| self.failed("write", error))?;
        }
        self.chunks += 1;
        Ok(())
    }

    fn failed(&self, what: &'static str, error: io::Error) -> TransferError {
        TransferError::File { what, path: self.partial.clone(), error }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Of a finished file this is a second name; an unfinished one is of no use to anybody.
        let _ = fs::remove_file(&self.partial);
    }
}

/// One entry of a file.
pub type KeyValue = (Bytes, Bytes);

/// What comes next in a file.
pub enum Chunk {
    Entries(Vec<KeyValue>),
    /// The end, where the file is as long as it should be.
    Trailer(Contents),
}

/// Reads an export from its beginning to its end.
pub struct Reader {
    path: PathBuf,
    file: BufReader<File>,
    chunk: u64,
    offset: u64,
    last_key: Bytes,
    origin: Origin,
}

impl Reader {
    pub fn open(path: &Path) -> Result<Self, TransferError> {
        let failed = |what, error| TransferError::File { what, path: path.to_owned(), error };
        let mut file = BufReader::new(File::open(path).map_err(|error| failed("open", error))?);
        let mut magic = Vec::new();
        (&mut file)
            .take(MAGIC.len() as u64)
            .read_to_end(&mut magic)
            .map_err(|error| failed("read", error))?;
        if magic != MAGIC {
            return Err(TransferError::NotAnExport(path.to_owned()));
        }
        let mut reader = Self {
            path: path.to_owned(),
            file,
            chunk: 0,
            offset: MAGIC.len() as u64,
            last_key: Bytes::new(),
            origin: Origin { store_id: String::new(), revision: 0, record_form: 0 },
        };
        let payload = reader.payload()?;
        reader.origin = match payload.split_first() {
            Some((&HEADER, json)) => {
                serde_json::from_slice(json).map_err(|error| reader.damaged(error.to_string()))?
            }
            Some(_) | None => return Err(reader.damaged("it is not the header")),
        };
        reader.advance(&payload);
        Ok(reader)
    }

    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    pub fn next(&mut self) -> Result<Chunk, TransferError> {
        let payload = self.payload()?;
        let chunk = match payload.split_first() {
            Some((&ENTRIES, rest)) => Chunk::Entries(self.entries(payload.slice_ref(rest))?),
            Some((&TRAILER, json)) => {
                let contents = serde_json::from_slice(json)
                    .map_err(|error| self.damaged(error.to_string()))?;
                Chunk::Trailer(contents)
            }
            Some((tag, _)) => return Err(self.damaged(format!("it is of no kind: {tag}"))),
            None => return Err(self.damaged("it is empty")),
        };
        self.advance(&payload);
        if matches!(chunk, Chunk::Trailer(_)) {
            let mut rest = [0; 1];
            match self.file.read(&mut rest) {
                Ok(0) => {}
                Ok(_) => return Err(self.damaged("it follows the end of the export")),
                Err(error) => return Err(self.failed(error)),
            }
        }
        Ok(chunk)
    }

    /// What is wrong with the chunk that is being read.
    pub fn damaged(&self, what: impl Into<String>) -> TransferError {
        TransferError::Damaged {
            path: self.path.clone(),
            chunk: self.chunk,
            offset: self.offset,
            what: what.into(),
        }
    }

    fn failed(&self, error: io::Error) -> TransferError {
        TransferError::File { what: "read", path: self.path.clone(), error }
    }

    fn advance(&mut self, payload: &Bytes) {
        self.chunk += 1;
        self.offset += (4 + SHA256_OUTPUT_LEN + payload.len()) as u64;
    }

    /// The next payload, whose digest is right.
    fn payload(&mut self) -> Result<Bytes, TransferError> {
        let mut length = [0; 4];
        let mut sum = [0; SHA256_OUTPUT_LEN];
        self.fill(&mut length)?;
        self.fill(&mut sum)?;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if length > MOST_PAYLOAD {
            return Err(self.damaged(format!("its length, {length}, is more than any chunk's")));
        }
        let mut payload = vec![0; length];
        self.fill(&mut payload)?;
        if digest(&SHA256, &payload).as_ref() != sum {
            return Err(self.damaged("its SHA-256 is not the one written beside it"));
        }
        Ok(payload.into())
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<(), TransferError> {
        match self.file.read_exact(buffer) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(self.damaged("the file ends in it, or before it"))
            }
            Err(error) => Err(self.failed(error)),
        }
    }

    fn entries(&mut self, mut rest: Bytes) -> Result<Vec<KeyValue>, TransferError> {
        if rest.try_get_u64().ok() != Some(self.chunk) {
            return Err(self.damaged("it is of another place in the file"));
        }
        let mut entries = Vec::new();
        while !rest.is_empty() {
            let entry = key_value(&mut rest).ok_or_else(|| self.damaged("an entry is cut off"))?;
            if entry.0 <= self.last_key {
                return Err(self.damaged("its keys are out of order"));
            }
            self.last_key = entry.0.clone();
            entries.push(entry);
        }
        Ok(entries)
    }
}

fn key_value(rest: &mut Bytes) -> Option<KeyValue> {
    let take =
        |rest: &mut Bytes, length: usize| (rest.len() >= length).then(|| rest.split_to(length));
    let length = rest.try_get_u16().ok()?;
    let key = take(rest, length.into())?;
    let length = rest.try_get_u32().ok()?;
    let value = take(rest, usize::try_from(length).ok()?)?;
    Some((key, value))
}
