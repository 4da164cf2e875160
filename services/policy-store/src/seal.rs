//! Secrets at rest: sealed with AES-256-GCM under a key from a file. The name of what is sealed is authenticated with it, so that
//! one secret cannot be put in another's place.

use std::{fmt, fs, io, os::unix::fs::OpenOptionsExt, path::Path};

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey},
    rand,
};
use zeroize::Zeroizing;

use crate::error::Error;

/// Seals under one key; opens what it sealed, and what the key before it did.
pub struct Sealer {
    current: RandomizedNonceKey,
    previous: Option<RandomizedNonceKey>,
}

/// Which key opened a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenedBy {
    Current,
    Previous,
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer(redacted)")
    }
}

/// Why there is no sealing key.
#[derive(Debug, thiserror::Error)]
pub enum SealingKeyError {
    /// The file cannot be read or written.
    #[error("the sealing key `{path}`: {error}")]
    Io {
        /// The file.
        path: String,
        /// The system's word.
        error: io::Error,
    },
    /// The file holds something else.
    #[error(
        "the sealing key `{path}` holds {length} bytes, not 32: it is damaged; put the right one back, since without it the access keys in the store are lost"
    )]
    Length {
        /// The file.
        path: String,
        /// Its length.
        length: usize,
    },
    /// No randomness.
    #[error("the system's random generator failed")]
    NoRandomness,
}

impl Sealer {
    /// The key in the file at `path`. Without a file, and with `create`, a new one is made (mode 0600, on disk before it is used).
    pub fn from_file(path: &Path, create: bool) -> Result<Self, SealingKeyError> {
        let shown = path.display().to_string();
        let io = |error| SealingKeyError::Io { path: shown.clone(), error };
        if create && !path.exists() {
            let mut key = Zeroizing::new([0_u8; 32]);
            rand::fill(key.as_mut()).map_err(|_| SealingKeyError::NoRandomness)?;
            write_private(path, key.as_ref()).map_err(io)?;
        }
        Ok(Self { current: key_from(path)?, previous: None })
    }

    /// With the key in use before, if there is a file at `path`.
    pub fn with_previous(self, path: &Path) -> Result<Self, SealingKeyError> {
        if !path.exists() {
            return Ok(self);
        }
        Ok(Self { previous: Some(key_from(path)?), ..self })
    }

    /// Whether what another key sealed opens too.
    pub fn has_previous(&self) -> bool {
        self.previous.is_some()
    }

    /// Seals `secret` as the secret of `name`.
    pub fn seal(&self, name: &str, secret: &[u8]) -> Result<Vec<u8>, Error> {
        let mut sealed = Zeroizing::new(secret.to_vec());
        let nonce = self
            .current
            .seal_in_place_append_tag(Aad::from(name.as_bytes()), &mut *sealed)
            .map_err(|_| Error::NoRandomness)?;
        Ok(nonce.as_ref().iter().copied().chain(sealed.iter().copied()).collect())
    }

    /// Opens what was sealed as the secret of `name`.
    pub fn open(&self, name: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
        self.open_by(name, sealed).map(|(secret, _)| secret)
    }

    /// The same, and which key opened it.
    pub fn open_by(
        &self,
        name: &str,
        sealed: &[u8],
    ) -> Result<(Zeroizing<Vec<u8>>, OpenedBy), Error> {
        let refused = match open_with(&self.current, name, sealed) {
            Ok(secret) => return Ok((secret, OpenedBy::Current)),
            Err(error) => error,
        };
        let previous = self.previous.as_ref().ok_or(refused)?;
        open_with(previous, name, sealed).map(|secret| (secret, OpenedBy::Previous))
    }
}

fn key_from(path: &Path) -> Result<RandomizedNonceKey, SealingKeyError> {
    let shown = path.display().to_string();
    let io = |error| SealingKeyError::Io { path: shown.clone(), error };
    let key = Zeroizing::new(fs::read(path).map_err(io)?);
    if key.len() != 32 {
        return Err(SealingKeyError::Length { path: shown, length: key.len() });
    }
    RandomizedNonceKey::new(&AES_256_GCM, &key).map_err(|_| SealingKeyError::NoRandomness)
}

fn open_with(
    key: &RandomizedNonceKey,
    name: &str,
    sealed: &[u8],
) -> Result<Zeroizing<Vec<u8>>, Error> {
    let (nonce, ciphertext) = sealed.split_at_checked(NONCE_LEN).ok_or(Error::Unsealed)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| Error::Unsealed)?;
    let mut opened = Zeroizing::new(ciphertext.to_vec());
    let length = key
        .open_in_place(nonce, Aad::from(name.as_bytes()), &mut opened)
        .map_err(|_| Error::Unsealed)?
        .len();
    opened.truncate(length);
    Ok(opened)
}

/// Writes a file that its owner alone may read, whole or not at all, and on disk when this returns.
pub fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    use std::io::Write;
    let partial = path.with_extension("partial");
    // A left-over could be readable by others; a new file is made in its place.
    match fs::remove_file(&partial) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file =
        fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&partial, path)?;
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => fs::File::open(folder)?.sync_all(),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_is_sealed_opens_under_its_own_name_and_key_alone() {
        let key = |byte| RandomizedNonceKey::new(&AES_256_GCM, &[byte; 32]).unwrap();
        let sealer = Sealer { current: key(7), previous: None };
        let other = Sealer { current: key(8), previous: None };
        let sealed = sealer.seal("AKIAONE", b"secret").unwrap();
        assert!(!sealed.windows(6).any(|window| window == b"secret"));
        assert_eq!(sealer.open("AKIAONE", &sealed).unwrap().as_slice(), b"secret");
        assert!(sealer.open("AKIATWO", &sealed).is_err());
        assert!(other.open("AKIAONE", &sealed).is_err());
        let both = Sealer { current: key(8), previous: Some(key(7)) };
        let (secret, by) = both.open_by("AKIAONE", &sealed).unwrap();
        assert_eq!((secret.as_slice(), by), (b"secret".as_slice(), OpenedBy::Previous));
        assert!(both.open("AKIATWO", &sealed).is_err());
        let again = both.seal("AKIAONE", &secret).unwrap();
        assert_eq!(both.open_by("AKIAONE", &again).unwrap().1, OpenedBy::Current);
        assert!(sealer.open("AKIAONE", &again).is_err());
        assert!(sealer.open("AKIAONE", sealed.get(1..).unwrap()).is_err());
        assert!(sealer.open("AKIAONE", &[]).is_err());
        assert!(!format!("{sealer:?}").contains('7'));
    }

    #[test]
    fn the_key_file_is_private_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sealing.key");
        assert!(Sealer::from_file(&path, false).is_err());
        let sealed = Sealer::from_file(&path, true).unwrap().seal("k", b"secret").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let again = Sealer::from_file(&path, true).unwrap();
        assert_eq!(again.open("k", &sealed).unwrap().as_slice(), b"secret");
        fs::write(&path, b"short").unwrap();
        assert!(matches!(Sealer::from_file(&path, true), Err(SealingKeyError::Length { .. })));
    }
}
