//! Looking at every byte of an export before anything is done with it.

use std::path::{Path, PathBuf};

use super::{
    Contents, Origin, Phase, Progress, TransferError,
    file::{Chunk, Reader, Tally},
    mark,
};
use crate::{layout, seal::Sealer};

/// A file that was read from beginning to end and is what it says it is. Only [`check`] makes one.
#[derive(Clone, Debug)]
pub struct Checked {
    path: PathBuf,
    origin: Origin,
    contents: Contents,
}

impl Checked {
    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it is an export of.
    #[must_use]
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// What is in it.
    #[must_use]
    pub fn contents(&self) -> &Contents {
        &self.contents
    }
}

/// Reads the whole file: every digest, the form of every record, and with a sealing key, whether it opens every secret.
///
/// # Errors
/// See [`TransferError`]: damage is said with the number of its chunk.
pub fn check(
    path: &Path,
    sealing_key: Option<&Path>,
    progress: Progress<'_>,
) -> Result<Checked, TransferError> {
    let examiner = Examiner::new(sealing_key)?;
    let mut reader = Reader::open(path)?;
    let mut tally = Tally::default();
    loop {
        match reader.next()? {
            Chunk::Entries(entries) => {
                for (key, value) in &entries {
                    examiner.examine(key, value)?;
                    tally.add(key, value);
                }
                progress(Phase::Checking, tally.entries(), None);
            }
            Chunk::Trailer(contents) => {
                let found = tally.finish();
                if found != contents {
                    let what = format!("it speaks of {contents:?}, and the file holds {found:?}");
                    return Err(reader.damaged(what));
                }
                progress(Phase::Checking, contents.entries, Some(contents.entries));
                let origin = reader.origin().clone();
                return Ok(Checked { path: path.to_owned(), origin, contents });
            }
        }
    }
}

/// Whether this version can work with an entry.
pub struct Examiner {
    sealer: Option<(Sealer, PathBuf)>,
}

impl Examiner {
    pub fn new(sealing_key: Option<&Path>) -> Result<Self, TransferError> {
        let open = |path: &Path| {
            Ok::<_, TransferError>((Sealer::from_file(path, false)?, path.to_owned()))
        };
        Ok(Self { sealer: sealing_key.map(open).transpose()? })
    }

    pub fn examine(&self, key: &[u8], value: &[u8]) -> Result<(), TransferError> {
        let unknown = || TransferError::UnknownKind { key: String::from_utf8_lossy(key).into() };
        if mark::is(key) {
            return Err(unknown());
        }
        if let Some(access_key_id) = layout::secret_of(key) {
            return self.open_secret(access_key_id, key, value);
        }
        // The version is of no account here. A record that Watch carries is read to its end; of what only this service reads, the form has to be known.
        if layout::record(key, value, 0)?.is_none() {
            if !key.starts_with(layout::UNWATCHED.as_bytes()) {
                return Err(unknown());
            }
            layout::check_form(key, value)?;
        }
        Ok(())
    }

    fn open_secret(
        &self,
        access_key_id: &str,
        key: &[u8],
        value: &[u8],
    ) -> Result<(), TransferError> {
        let secret: layout::SealedSecret = layout::decode_at(key, value)?;
        let Some((sealer, path)) = &self.sealer else { return Ok(()) };
        sealer.open(access_key_id, &secret.sealed).map(drop).map_err(|_| {
            TransferError::WrongSealingKey {
                path: path.clone(),
                secret: String::from_utf8_lossy(key).into(),
            }
        })
    }
}
