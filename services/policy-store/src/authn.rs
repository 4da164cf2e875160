//! Who calls: another part of Countersign, or a role session with a token for Countersign itself.

use std::sync::Arc;

use countersign_replica::World;
use countersign_serve::{
    Fault, ServiceIdentities, ServiceName,
    authn::{Authenticate, bearer, missing_credentials},
};
use countersign_store::Store;
use countersign_token::{Claims, Expected, keyset::KeySet, verify};
use http::HeaderMap;

use crate::{error::Error, layout};

/// The audience of tokens for Countersign's own RPCs.
pub const AUDIENCE: &str = "countersign";

/// More signing keys than there ever are.
const MOST_KEYS: usize = 1_000;

/// Who calls.
#[derive(Clone)]
pub enum Caller {
    /// Another part of Countersign.
    Service(ServiceName),
    /// A role session, by its verified token.
    Session(Arc<Claims>),
}

/// Tells who calls the policy store.
#[derive(Clone)]
pub struct Authenticator {
    pub identities: ServiceIdentities,
    pub issuer: Arc<str>,
    pub store: Arc<dyn Store>,
}

impl Authenticate for Authenticator {
    type Caller = Caller;

    async fn authenticate(&self, _path: &str, headers: &HeaderMap) -> Result<Caller, Fault> {
        let service = self
            .identities
            .identify(headers)
            .map_err(|error| Fault::unauthenticated("InvalidClientTokenId", error.to_string()))?;
        let token = bearer(headers)?;
        match (service, token) {
            (Some(_), Some(_)) => Err(Fault::unauthenticated(
                "InvalidClientTokenId",
                "a service secret and a token at once; send one of them",
            )),
            (Some(name), None) => Ok(Caller::Service(name)),
            (None, Some(token)) => self.session(token).await,
            (None, None) => Err(missing_credentials()),
        }
    }
}

impl Authenticator {
    async fn session(&self, token: &str) -> Result<Caller, Fault> {
        let keys = signing_keys(self.store.as_ref()).await?;
        let expected = Expected { issuer: &self.issuer, audience: AUDIENCE, leeway: 5 };
        let verified = verify(token, &keys, &expected, crate::now().seconds)
            .map_err(|error| Fault::unauthenticated(error.code(), error.to_string()))?;
        Ok(Caller::Session(Arc::new(verified.claims().clone())))
    }
}

/// The keys that tokens are verified with, as they are at this moment.
async fn signing_keys(store: &dyn Store) -> Result<KeySet, Error> {
    let entries = store.range(layout::SIGNING_KEYS.as_bytes(), None, MOST_KEYS).await?;
    let mut world = World::default();
    for entry in &entries {
        let damaged = |error: String| Error::Damaged {
            key: String::from_utf8_lossy(&entry.key).into_owned(),
            error,
        };
        let record =
            layout::record(&entry.key, &entry.value).map_err(|e| damaged(e.to_string()))?;
        if let Some(record) = record {
            world.put(&record).map_err(|error| damaged(error.to_string()))?;
        }
    }
    Ok(world.keys().clone())
}
