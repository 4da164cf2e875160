//! Secrets at rest: sealed with AES-256-GCM under a key from a file, or one that was given. The name of what is sealed is authenticated with it, so that
//! one secret cannot be put in another's place.

use std::{fmt, fs, io, os::unix::fs::OpenOptionsExt, path::Path, str::FromStr};

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey},
    rand,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

use crate::error::Error;

/// A sealing key that was given, not read from the data folder.
#[derive(Clone, PartialEq, Eq)]
pub struct SealingKey(Zeroizing<[u8; 32]>);

impl fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealingKey(redacted)")
    }
}

/// A text that is no sealing key.
#[derive(Debug, thiserror::Error)]
#[error(
    "a sealing key is 32 bytes in base64, 44 characters: `head -c 32 /dev/urandom | base64` makes one"
)]
pub struct NoSealingKey;

impl FromStr for SealingKey {
    type Err = NoSealingKey;

    fn from_str(text: &str) -> Result<Self, NoSealingKey> {
        let bytes = Zeroizing::new(STANDARD.decode(text.trim()).map_err(|_| NoSealingKey)?);
        let key: [u8; 32] = bytes.as_slice().try_into().map_err(|_| NoSealingKey)?;
        Ok(Self(Zeroizing::new(key)))
    }
}

impl SealingKey {
    /// The key of a file: its 32 bytes, or their base64 in one line.
    ///
    /// # Errors
    /// When it cannot be read, or holds something else.
    pub fn read(path: &Path) -> Result<Self, SealingKeyError> {
        let shown = path.display().to_string();
        let io = |error| SealingKeyError::Io { path: shown.clone(), error };
        let bytes = Zeroizing::new(fs::read(path).map_err(io)?);
        if let Ok(key) = <[u8; 32]>::try_from(bytes.as_slice()) {
            return Ok(Self(Zeroizing::new(key)));
        }
        let text = std::str::from_utf8(&bytes).ok().and_then(|text| text.parse().ok());
        text.ok_or(SealingKeyError::Length { path: shown, length: bytes.len() })
    }
}

/// Where the sealing key is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SealingKeys {
    /// In the data folder: `sealing.key`, made with a new store, and the one before it, if there was one, in `sealing-previous.key`.
    #[default]
    DataFolder,
    /// Given, and nowhere in the data folder.
    Given {
        /// What secrets are sealed under.
        current: SealingKey,
        /// What they were sealed under before.
        previous: Option<SealingKey>,
    },
}

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

    /// With these keys.
    pub fn given(
        current: &SealingKey,
        previous: Option<&SealingKey>,
    ) -> Result<Self, SealingKeyError> {
        let previous = previous.map(|key| key_of(key.0.as_slice())).transpose()?;
        Ok(Self { current: key_of(current.0.as_slice())?, previous })
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
    key_of(&key)
}

fn key_of(key: &[u8]) -> Result<RandomizedNonceKey, SealingKeyError> {
    RandomizedNonceKey::new(&AES_256_GCM, key).map_err(|_| SealingKeyError::NoRandomness)
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
    fn a_key_may_be_given_as_text() {
        let check = |text: &str, good: bool| {
            assert_eq!(text.parse::<SealingKey>().is_ok(), good, "{text:?}");
        };
        let text = STANDARD.encode([7; 32]);
        check(&text, true);
        check(&format!("{text}\n"), true);
        for bad in ["", "AAAA", "not base64", &STANDARD.encode([7; 31]), &STANDARD.encode([7; 33])]
        {
            check(bad, false);
        }
        let key: SealingKey = text.parse().unwrap();
        assert!(!format!("{key:?}").contains('7'));
        let other: SealingKey = STANDARD.encode([8; 32]).parse().unwrap();
        let sealed = Sealer::given(&key, None).unwrap().seal("k", b"secret").unwrap();
        let after = Sealer::given(&other, Some(&key)).unwrap();
        assert_eq!(after.open("k", &sealed).unwrap().as_slice(), b"secret");
        assert!(Sealer::given(&other, None).unwrap().open("k", &sealed).is_err());
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
