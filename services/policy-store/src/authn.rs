//! Who calls: another part of Countersign, or a role session with a token for Countersign itself.

use std::{sync::Arc, time::Duration};

use countersign_replica::{Revision, records};
use countersign_serve::{
    Fault, ServiceIdentities, ServiceName,
    authn::{Authenticate, Credential, called, credential, missing_credentials},
    incoming::Peer,
};
use countersign_store::Store;
use countersign_token::{
    Claims, DpopError, Expected, Shown, TokenError, check_signature,
    dpop::{self, SeenProofs},
    keyset::{KeyRecord, KeySet},
};
use http::{HeaderMap, Uri};
use tonic::Code;

use crate::{error::Error, layout};

/// The audience of tokens for Countersign's own RPCs.
pub const AUDIENCE: &str = "countersign";

/// Who calls.
#[derive(Clone)]
pub enum Caller {
    /// Another part of Countersign.
    Service(ServiceName),
    /// A role session.
    Session(SessionCaller),
}

/// A role session, by its verified token.
#[derive(Clone)]
pub struct SessionCaller {
    pub claims: Arc<Claims>,
    /// The key that signed the token.
    pub kid: Arc<str>,
}

/// Tells who calls the policy store.
#[derive(Clone)]
pub struct Authenticator {
    pub identities: ServiceIdentities,
    pub issuer: Arc<str>,
    pub store: Arc<dyn Store>,
    /// The DPoP proofs that callers have shown.
    pub seen_proofs: Arc<SeenProofs>,
}

/// So many proofs are remembered at once; more are told to come again.
pub const MAX_SEEN_PROOFS: usize = 100_000;

impl Authenticate for Authenticator {
    type Caller = Caller;

    async fn authenticate(
        &self,
        uri: &Uri,
        headers: &HeaderMap,
        peer: Option<&Peer>,
    ) -> Result<Caller, Fault> {
        let service = self
            .identities
            .identify(headers, peer)
            .map_err(|error| Fault::unauthenticated("InvalidServiceIdentity", error.to_string()))?;
        match (service, credential(headers)?) {
            (Some(_), Some(_)) => Err(Fault::unauthenticated(
                "InvalidToken",
                "a service identity and a bearer token at once; send one of them",
            )),
            (Some(name), None) => Ok(Caller::Service(name)),
            (None, Some(shown)) => {
                let certificate = peer.and_then(Peer::certificate).map(AsRef::as_ref);
                self.session(shown, uri, certificate).await.map(Caller::Session)
            }
            (None, None) => Err(missing_credentials()),
        }
    }
}

impl Authenticator {
    async fn session(
        &self,
        Credential { token, dpop: proof }: Credential<'_>,
        uri: &Uri,
        certificate: Option<&str>,
    ) -> Result<SessionCaller, Fault> {
        let refused = |error: TokenError| Fault::unauthenticated(error.code(), error.to_string());
        // The token's form is looked at before the store is: with no keys, one of the right form ends here by the name of its key.
        let kid = match check_signature(token, &KeySet::default()) {
            Err(TokenError::UnknownKey { kid }) => kid,
            Err(error) => return Err(refused(error)),
            Ok(_) => return Err(missing_credentials()),
        };
        let key = self.signing_key(&kid).await?;
        let keys: KeySet = key.into_iter().collect();
        let expected = Expected { issuer: &self.issuer, audience: AUDIENCE, leeway: 5 };
        let now = crate::now().seconds;
        let signed = check_signature(token, &keys).map_err(refused)?;
        // RFC 9449 section 7.1: made for this call, and for this token.
        let uri = called(uri);
        let request = dpop::Request { method: "POST", uri: &uri, access_token: Some(token) };
        let key = proof.map(|proof| dpop::check(proof, &request, now)).transpose();
        let key = key.map_err(no_proof)?;
        let shown = Shown { key: key.as_ref(), certificate };
        let verified = signed.check_shown(now, &expected, &keys, &shown).map_err(refused)?;
        // Only once the token is good: else strangers would fill the memory.
        if let Some(key) = &key {
            let account = &verified.claims().session.account;
            self.seen_proofs.take(key, account, now).map_err(no_proof)?;
        }
        let claims = verified.claims();
        self.of_this_store(&claims.session.revision).await?;
        Ok(SessionCaller { claims: Arc::new(claims.clone()), kid: verified.kid().into() })
    }

    /// The key of that name, as it is at this moment.
    async fn signing_key(&self, kid: &str) -> Result<Option<KeyRecord>, Error> {
        let key = layout::signing_key(kid);
        let Some(entry) = self.store.get(key.as_bytes()).await? else { return Ok(None) };
        let damaged = |error: String| Error::Damaged { key: key.to_string(), error };
        let record = layout::decode(&key, &entry.value)?;
        records::signing_key(&record).map(Some).map_err(|error| damaged(error.to_string()))
    }

    /// A token of another store, or of a future that this one has not had (a restore lost it), speaks of another world.
    async fn of_this_store(&self, revision: &str) -> Result<(), Fault> {
        let foreign = || {
            Fault::unauthenticated(
                "InvalidToken",
                "the token was made for another store, or before a restore; get a new one",
            )
        };
        let revision: Revision = revision.parse().map_err(|_| foreign())?;
        let head = self.store.head().await.map_err(Error::from)?;
        if *revision.store_id == *self.store.id().as_str() && revision.number <= head {
            return Ok(());
        }
        Err(foreign())
    }
}

/// Of a full memory nobody could judge the proof.
fn no_proof(error: DpopError) -> Fault {
    let message = error.to_string();
    match error {
        DpopError::Busy => Fault::new(Code::ResourceExhausted, error.code(), message)
            .retry_after(Duration::from_secs(1)),
        _ => Fault::unauthenticated(error.code(), message),
    }
}
