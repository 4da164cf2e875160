//! A base: every entry as it stood at one revision, in a sled folder of its own, written once and only read thereafter.
//!
//! Written once, because sled in use gives no promise that we could lean on when the power goes: it writes anew where old
//! data was, and orders those writes by `sync_file_range` alone. A base is named by the store (`folder`) only after it was
//! closed, synced, opened again, read back whole and found equal to what was put in; until then the old one stands.
//!
//! Entries are packed in key order into blocks, and blocks into trees, eight to a tree. sled writes each insert to its log
//! as a piece, and rewrites a leaf at its tenth piece and whenever it is split, at more than sixteen cells; a leaf of eight
//! cells is therefore written once, and sled's file is 1.04 times the data. (With all blocks in one tree it measured 3.2.)
//!
//! | tree | cells |
//! | --- | --- |
//! | sled's default | `format`, `store`, `seal`: the layout, the store's id, and a [`Seal`] |
//! | its place (8 bytes, big-endian) | block number (8 bytes) → entries (`codec`) |

use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ::sled::{Db, Tree};
use bytes::{Buf, BufMut, Bytes};

use super::view::{Entries, Held};
use super::{SledOptions, codec, folder, store_error};
use crate::{Entry, StoreError, StoreId};

const FORMAT: &[u8] = b"2";
/// sled writes a node over a quarter of a segment to `blobs/`, which it never syncs. A leaf here has 8 cells of at most 64
/// KB and a key, half a megabyte: far from a quarter of 8.
const SEGMENT_BYTES: usize = 8 << 20;
/// A block is closed when the next entry would take it over this; an entry larger than it is a block by itself.
const BLOCK_BYTES: usize = 32 << 10;
/// Entries that are handed over at once when a base is read, and how many of such batches may wait.
const BATCH: usize = 512;
const BATCHES_AHEAD: usize = 32;
const TREE_BLOCKS: u64 = 8;
/// A handle of this process's own that sled is still giving up holds the file this long at most.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a base holds, in short: two with the same seal are the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seal {
    /// The last commit in it; 0 is the base without entries, which has no folder.
    pub number: u64,
    pub entries: u64,
    pub blocks: u64,
    pub bytes: u64,
    /// CRC-32 of all blocks, one after the other.
    pub digest: u32,
}

impl Seal {
    fn encode(&self) -> Vec<u8> {
        let mut cell = Vec::new();
        for number in [self.number, self.entries, self.blocks, self.bytes] {
            cell.put_u64(number);
        }
        cell.put_u32(self.digest);
        cell
    }

    fn decode(mut cell: &[u8]) -> Option<Self> {
        let mut next = || cell.try_get_u64().ok();
        let (number, entries, blocks, bytes) = (next()?, next()?, next()?, next()?);
        let digest = cell.try_get_u32().ok()?;
        cell.is_empty().then_some(Self { number, entries, blocks, bytes, digest })
    }
}

/// Writes `entries` as the base at `number` into the folder `path`, which must not be there, and makes all of it durable.
///
/// Ends early when `stop` is set. On any error the caller removes the folder.
pub(super) fn write(
    path: &Path,
    id: &StoreId,
    number: u64,
    entries: &Entries,
    options: &SledOptions,
    stop: &AtomicBool,
) -> Result<Seal, StoreError> {
    let db = open(path, options)?;
    let mut filling = Filling {
        db: &db,
        tree: None,
        seal: Seal { number, ..Seal::default() },
        digest: crc32fast::Hasher::new(),
    };
    let mut block = Vec::with_capacity(BLOCK_BYTES);
    for (key, held) in entries {
        if !block.is_empty() && block.len() + key.len() + held.value.len() + 16 > BLOCK_BYTES {
            if stop.load(Ordering::Relaxed) {
                return Err(StoreError::Unavailable("the store is being closed".into()));
            }
            filling.put(&block)?;
            block.clear();
        }
        codec::put_entry(&mut block, key, held.version, &held.value);
        filling.seal.entries += 1;
    }
    if !block.is_empty() {
        filling.put(&block)?;
    }
    let Filling { tree, mut seal, digest, .. } = filling;
    // sled closes once no handle is left.
    drop(tree);
    seal.digest = digest.finalize();
    let cells: [(&[u8], &[u8]); 3] =
        [(b"format", FORMAT), (b"store", id.as_str().as_bytes()), (b"seal", &seal.encode())];
    for (key, cell) in cells {
        db.insert(key, cell).map_err(|error| store_error(&error))?;
    }
    db.flush().map_err(|error| store_error(&error))?;
    close(path, db)?;
    folder::refuse_blobs(path)?;
    Ok(seal)
}

struct Filling<'a> {
    db: &'a Db,
    tree: Option<Tree>,
    seal: Seal,
    digest: crc32fast::Hasher,
}

impl Filling<'_> {
    fn put(&mut self, block: &[u8]) -> Result<(), StoreError> {
        let number = self.seal.blocks;
        let tree = match self.tree.take() {
            Some(tree) if !number.is_multiple_of(TREE_BLOCKS) => tree,
            _ => self
                .db
                .open_tree((number / TREE_BLOCKS).to_be_bytes())
                .map_err(|error| store_error(&error))?,
        };
        tree.insert(number.to_be_bytes(), block).map_err(|error| store_error(&error))?;
        self.tree = Some(tree);
        self.digest.update(block);
        self.seal.blocks += 1;
        self.seal.bytes += block.len() as u64;
        Ok(())
    }
}

/// Reads the base in the folder `path` whole; each entry goes to `take`, in key order.
///
/// [`StoreError::Corrupt`] when it is not, to the byte, the one that `seal` was made of. sled writes to the end of a file
/// that it opens: that is on disk too when this returns.
pub(super) fn read(
    path: &Path,
    id: &StoreId,
    seal: &Seal,
    options: &SledOptions,
    mut take: impl FnMut(Entry),
) -> Result<(), StoreError> {
    let corrupt =
        |what: &str| Err(StoreError::Corrupt(format!("base `{}`: {what}", path.display())));
    if !path.join("db").is_file() {
        return corrupt("it is not there");
    }
    folder::refuse_blobs(path)?;
    let db = open(path, options)?;
    let cell = |key: &[u8]| db.get(key).map_err(|error| store_error(&error));
    match (cell(b"format")?, cell(b"store")?, cell(b"seal")?) {
        (Some(format), _, _) if format != FORMAT => {
            return corrupt(&format!(
                "format `{}` is not one this version knows",
                String::from_utf8_lossy(&format)
            ));
        }
        (Some(_), Some(store), Some(found))
            if store == id.as_str().as_bytes() && Seal::decode(&found) == Some(*seal) => {}
        _ => return corrupt("it is not the one that the store's root names"),
    }
    let mut digest = crc32fast::Hasher::new();
    let mut entries = 0;
    for place in 0..seal.blocks.div_ceil(TREE_BLOCKS) {
        let tree = db.open_tree(place.to_be_bytes()).map_err(|error| store_error(&error))?;
        for number in place * TREE_BLOCKS..seal.blocks.min((place + 1) * TREE_BLOCKS) {
            let Some(block) =
                tree.get(number.to_be_bytes()).map_err(|error| store_error(&error))?
            else {
                return corrupt(&format!("block {number} is missing"));
            };
            digest.update(&block);
            let mut rest = Bytes::copy_from_slice(&block);
            while rest.has_remaining() {
                let Some(entry) = codec::take_entry(&mut rest) else {
                    return corrupt(&format!("block {number} is damaged"));
                };
                entries += 1;
                take(entry);
            }
        }
    }
    if entries != seal.entries || digest.finalize() != seal.digest {
        return corrupt("its entries are not those that were written");
    }
    close(path, db)
}

/// The entries of a base, for readers.
pub(super) fn load(
    path: &Path,
    id: &StoreId,
    seal: &Seal,
    options: &SledOptions,
) -> Result<Entries, StoreError> {
    let (batches, taken) = std::sync::mpsc::sync_channel::<Vec<(Bytes, Held)>>(BATCHES_AHEAD);
    let (outcome, entries) = std::thread::scope(|scope| {
        // One thread reads and verifies, and another one puts the entries in their places.
        let placing = scope.spawn(move || {
            let mut entries = Entries::new();
            for batch in taken {
                entries.extend(batch);
            }
            entries
        });
        let mut batch = Vec::with_capacity(BATCH);
        let outcome = read(path, id, seal, options, |Entry { key, value, version }| {
            // Copies, so that a block's memory is not held by the last of its entries.
            let held = Held { version, value: Bytes::copy_from_slice(&value) };
            batch.push((Bytes::copy_from_slice(&key), held));
            if batch.len() == BATCH {
                let full = std::mem::replace(&mut batch, Vec::with_capacity(BATCH));
                // Whoever places goes only if it panics, which is said below.
                let _ = batches.send(full);
            }
        });
        let _ = batches.send(batch);
        drop(batches);
        (outcome, placing.join())
    });
    outcome?;
    entries.map_err(|_| StoreError::Unavailable("placing the base's entries failed".into()))
}

fn open(path: &Path, options: &SledOptions) -> Result<Db, StoreError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let opened = ::sled::Config::new()
            .path(path)
            .segment_size(SEGMENT_BYTES)
            .cache_capacity(options.cache_capacity)
            .flush_every_ms(None)
            .open();
        match opened {
            Ok(db) => return Ok(db),
            Err(::sled::Error::Io(error))
                if error.to_string().contains("could not acquire lock") =>
            {
                if Instant::now() > deadline {
                    return Err(StoreError::Locked { path: path.to_owned() });
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(error) => return Err(store_error(&error)),
        }
    }
}

/// Closes sled and makes all that it wrote durable. Threads of its own may hold the file a little longer, locked.
fn close(path: &Path, db: Db) -> Result<(), StoreError> {
    drop(db);
    let deadline = Instant::now() + PATIENCE;
    let db = path.join("db");
    let file = File::open(&db).map_err(|error| folder::failed("open", &db, &error))?;
    while file.try_lock().is_err() {
        if Instant::now() > deadline {
            return Err(StoreError::Locked { path: path.to_owned() });
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    folder::sync_all(path)
}
