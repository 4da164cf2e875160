//! The sealing key, changed: secrets that another key sealed are found at the start, and sealed again under the present one while the
//! store serves.
//!
//! It knows access keys' secrets. The remembered answers of named writes (`request`) stay as they are and end within a day: their
//! versions are revisions that callers were told.

use countersign_store::{CommitError, Entry, Precondition, Store, Write};

use crate::{
    error::Error,
    layout::{self, SealedSecret},
    seal::{OpenedBy, Sealer},
};

/// Secrets that are looked at before the store serves.
const FIRST: usize = 64;
/// Secrets of one commit.
const AT_ONCE: usize = 64;

/// Why the secrets cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SealedError {
    /// The key is another.
    #[error(
        "the sealing key is not the one that the secret of access key `{access_key_id}` was sealed under: put the right one back as \
         `sealing.key` (or COUNTERSIGN_SEALING_KEY, or the file of --sealing-key-file), or put it beside the new one as `sealing-previous.key` (or \
         COUNTERSIGN_SEALING_KEY_PREVIOUS), and all secrets are sealed again"
    )]
    OtherKey {
        /// Whose secret.
        access_key_id: String,
    },
    /// They cannot be read.
    #[error("the store's secrets cannot be read: {0}")]
    Store(Error),
}

/// What was found, and done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resealed {
    /// Sealed again.
    pub resealed: usize,
    /// Under the present key already.
    pub current: usize,
    /// Under neither key.
    pub unreadable: usize,
}

/// Holds the sealing key to the first secrets, so that a wrong one is found out before anybody needs it.
pub async fn check(store: &dyn Store, sealer: &Sealer) -> Result<(), SealedError> {
    let entries = store.range(layout::SECRETS.as_bytes(), None, FIRST).await;
    for entry in entries.map_err(|error| SealedError::Store(error.into()))? {
        let access_key_id = name(&entry);
        match sealed(&entry).and_then(|sealed| sealer.open_by(&access_key_id, &sealed)) {
            Ok(_) => {}
            Err(Error::Unsealed) => return Err(SealedError::OtherKey { access_key_id }),
            Err(error) => return Err(SealedError::Store(error)),
        }
    }
    Ok(())
}

/// Seals every secret again that the present key did not seal. One that changes meanwhile is left to whoever changed it.
pub async fn reseal(store: &dyn Store, sealer: &Sealer) -> Result<Resealed, Error> {
    let mut done = Resealed::default();
    let mut after: Option<Vec<u8>> = None;
    loop {
        let entries = store.range(layout::SECRETS.as_bytes(), after.as_deref(), AT_ONCE).await?;
        let exhausted = entries.len() < AT_ONCE;
        after = entries.last().map(|entry| entry.key.to_vec());
        for entry in &entries {
            again(store, sealer, entry, &mut done).await?;
        }
        if exhausted {
            return Ok(done);
        }
    }
}

async fn again(
    store: &dyn Store,
    sealer: &Sealer,
    entry: &Entry,
    done: &mut Resealed,
) -> Result<(), Error> {
    let access_key_id = name(entry);
    let secret = match sealed(entry).and_then(|sealed| sealer.open_by(&access_key_id, &sealed)) {
        Ok((_, OpenedBy::Current)) => {
            done.current += 1;
            return Ok(());
        }
        Ok((secret, OpenedBy::Previous)) => secret,
        Err(error) => {
            tracing::error!(%access_key_id, %error, "a secret cannot be opened");
            done.unreadable += 1;
            return Ok(());
        }
    };
    let record = SealedSecret { sealed: sealer.seal(&access_key_id, &secret)? };
    let unchanged = Precondition::Version { key: entry.key.clone(), version: entry.version };
    let write = Write::Put { key: entry.key.clone(), value: layout::encode(&record).into() };
    match store.commit(vec![unchanged], vec![write]).await {
        Ok(_) => done.resealed += 1,
        Err(CommitError::Conflict { .. }) => {}
        Err(CommitError::Store(error)) => return Err(error.into()),
    }
    Ok(())
}

fn sealed(entry: &Entry) -> Result<Vec<u8>, Error> {
    layout::decode_at::<SealedSecret>(&entry.key, &entry.value).map(|secret| secret.sealed)
}

/// What the secret is of, which is authenticated with it.
fn name(entry: &Entry) -> String {
    let name = entry.key.get(layout::SECRETS.len()..).unwrap_or_default();
    String::from_utf8_lossy(name).into_owned()
}
