//! The first start: the first account, its root's access key, its administrator role, and AWS's managed policies.
//!
//! The root's access key is written to its file before the account is made, so a start that is cut off in between is begun again.
//! Whoever may write in the data folder owns the store: a file that is gone is replaced by one with a new key, and the old key ends.

use std::{path::Path, sync::Arc, time::Duration};

use countersign_policy::arn::AccountId;
use countersign_store::Store;
use zeroize::Zeroizing;

use crate::{
    account::{self, NewAccount},
    error::Error,
    form, layout,
    rpc::access_keys::NewAccessKey,
    seal::{Sealer, write_private},
    view::{self, Mode},
};

/// How long the first account is waited for.
const PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(200);

/// Why there is no first account.
#[derive(Debug, thiserror::Error)]
pub enum SeedError {
    /// The store holds another one.
    #[error(
        "this data folder's first account is `{found}`, not `{asked}`: give --account {found}, or another --data-dir"
    )]
    OtherAccount {
        /// The account that is there.
        found: String,
        /// The one asked for.
        asked: AccountId,
    },
    /// The credentials cannot be written.
    #[error("cannot write `{path}`: {error}")]
    Credentials {
        /// The file.
        path: String,
        /// The system's word.
        error: std::io::Error,
    },
    /// The store is shared, and was begun from another data folder.
    #[error(
        "the store was begun from another data folder: copy sealing.key and root-credentials.json from there to here, since `{path}` is not of this store"
    )]
    OtherFolder {
        /// The file that is missing, or of another store.
        path: String,
    },
    /// Nobody has made the first account.
    #[error(
        "the store is empty: make its first account `{asked}` with `countersign-policy-store --init` and the same settings, once"
    )]
    Empty {
        /// The account asked for.
        asked: AccountId,
    },
    /// The store failed.
    #[error("the store cannot be prepared: {0}")]
    Store(Error),
}

impl From<Error> for SeedError {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

/// Makes what is not there yet.
pub async fn seed(
    store: &Arc<dyn Store>,
    sealer: &Sealer,
    account: AccountId,
    credentials: &Path,
) -> Result<(), SeedError> {
    view::write(store, crate::now(), Mode::Write, |view, plan| {
        form::put(view, plan)?;
        account::put_aws_managed_policies(view, plan)
    })
    .await?;
    match operator(store.as_ref()).await? {
        Some(found) if found != account.as_str() => {
            Err(SeedError::OtherAccount { found, asked: account })
        }
        Some(_) if holds_root_key(store, account, credentials).await? => Ok(()),
        found => {
            let root = NewAccessKey::generate(sealer)?;
            write_credentials(credentials, &root)?;
            match found {
                Some(_) => replace_root_key(store, account, &root).await?,
                None => make_first_account(store, account, &root).await?,
            }
            tracing::info!(%account, path = %credentials.display(), "the root's access key was written");
            Ok(())
        }
    }
}

/// The same on a store that other processes may be serving, each with its own data folder: nothing of theirs is replaced, and this
/// folder's keys must be theirs.
pub async fn seed_shared(
    store: &Arc<dyn Store>,
    sealer: &Sealer,
    account: AccountId,
    credentials: &Path,
) -> Result<(), SeedError> {
    let other = |path: &Path| SeedError::OtherFolder { path: path.display().to_string() };
    if operator(store.as_ref()).await?.is_some_and(|found| found == account.as_str())
        && !holds_root_key(store, account, credentials).await?
    {
        return Err(other(credentials));
    }
    seed(store, sealer, account, credentials).await?;
    // Begun by another process at the same moment, perhaps, with another sealing key.
    let id = root_key_id(credentials).ok_or_else(|| other(credentials))?;
    let key = layout::secret(&id);
    let sealed = view::read(store.as_ref(), crate::now(), |view| view.find(&key)).await?;
    match sealed.map(|sealed| sealer.open(&id, &sealed.sealed)) {
        Some(Ok(_)) => Ok(()),
        Some(Err(_)) | None => Err(other(&credentials.with_file_name("sealing.key"))),
    }
}

/// Waits until another process has made the first account.
pub async fn wait(store: &dyn Store, account: AccountId) -> Result<(), SeedError> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        match operator(store).await? {
            Some(found) if found == account.as_str() => return Ok(()),
            Some(found) => return Err(SeedError::OtherAccount { found, asked: account }),
            None if tokio::time::Instant::now() >= deadline => {
                return Err(SeedError::Empty { asked: account });
            }
            None => tokio::time::sleep(POLL).await,
        }
    }
}

/// The first account, if there is one.
async fn operator(store: &dyn Store) -> Result<Option<String>, Error> {
    use countersign_proto::policy::v1::AccountRecord;
    let page = view::page(store, "account/", "", 1, |account: &AccountRecord| account.operator);
    Ok(page.await?.records.into_iter().next().map(|account| account.account_id))
}

/// Whether the file names an access key of the root that the store has: a start that was cut off while it replaced the key leaves a file
/// that does not, and an old key that must end.
async fn holds_root_key(
    store: &Arc<dyn Store>,
    account: AccountId,
    credentials: &Path,
) -> Result<bool, Error> {
    let Some(id) = root_key_id(credentials) else { return Ok(false) };
    let key = layout::access_key(&id);
    let found = view::read(store.as_ref(), crate::now(), |view| view.find(&key)).await?;
    Ok(found.is_some_and(|key| key.user_id == account.as_str()))
}

/// The id of the access key in the file, if there is one.
fn root_key_id(credentials: &Path) -> Option<String> {
    let text = std::fs::read(credentials).ok()?;
    let file: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
    file.get("AccessKeyId").and_then(|id| id.as_str()).map(str::to_owned)
}

async fn make_first_account(
    store: &Arc<dyn Store>,
    account: AccountId,
    root: &NewAccessKey,
) -> Result<(), Error> {
    view::write(store, crate::now(), Mode::Write, |view, plan| {
        let new = NewAccount {
            account,
            account_name: "first",
            description: "",
            operator: true,
            root_access_key_id: &root.id,
            root_sealed: &root.sealed,
        };
        account::create(view, plan, &new)
    })
    .await?;
    Ok(())
}

/// Ends every access key of the account's root, and gives it this one.
async fn replace_root_key(
    store: &Arc<dyn Store>,
    account: AccountId,
    root: &NewAccessKey,
) -> Result<(), Error> {
    use countersign_proto::policy::v1::AccessKeyRecord;
    let keep = |key: &AccessKeyRecord| key.user_id == account.as_str();
    let old = view::page(store.as_ref(), "key/", "", 1_000, keep).await?.records;
    view::write(store, crate::now(), Mode::Write, |view, plan| {
        for key in &old {
            plan.delete(&layout::access_key(&key.access_key_id));
            plan.delete(&layout::secret(&key.access_key_id));
        }
        account::put_root_key(view, plan, &account, &root.id, &root.sealed)
    })
    .await?;
    Ok(())
}

/// The form of AWS's `credential_process`, so that the aws CLI and every SDK can use the file.
fn write_credentials(path: &Path, root: &NewAccessKey) -> Result<(), SeedError> {
    let text = Zeroizing::new(format!(
        "{{\n  \"Version\": 1,\n  \"AccessKeyId\": \"{}\",\n  \"SecretAccessKey\": \"{}\"\n}}\n",
        root.id,
        root.secret.as_str()
    ));
    write_private(path, text.as_bytes())
        .map_err(|error| SeedError::Credentials { path: path.display().to_string(), error })
}
