//! The gateway's own signing key: made at start, published, and used once every live follower of the policy store knows it (or five
//! seconds have passed); its lease is renewed as long as the store lets us, and without a lease nothing is signed.
//!
//! The private half never leaves this process's memory. There is no daily rotation yet: a key lives as long as the process, and a
//! revoked one ends signing until the gateway is started anew.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use countersign_proto::policy::v1::{
    ListSigningKeysRequest, PublishSigningKeyRequest, PublishSigningKeyResponse, SigningKeyRecord,
};
use countersign_replica::{Replica, Revision};
use countersign_serve::grpc::Health;
use countersign_token::{Claims, KeyError, KeySet, PublicKey, SigningKey, jwks, mint};
use tonic::{Code, Request, Status};

use crate::{StoreClient, clock, error::Refusal};

/// How long a new key waits for followers.
const ACKNOWLEDGEMENT: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(20);
const CALL: Duration = Duration::from_secs(5);
/// After a failure to publish or to renew.
const RETRY: Duration = Duration::from_secs(2);
/// The most pages of signing keys that are read in search of ours.
const MAX_PAGES: usize = 16;

/// The keys that this gateway knows: its own, and through the replica everybody's.
pub struct Keys {
    replica: Replica,
    signer: OnceLock<Signer>,
}

/// The gateway's own key, with its lease.
pub struct Signer {
    key: SigningKey,
    /// Of its first publication: a verifier that has reached it knows the key.
    revision: Revision,
    signs_until: AtomicI64,
    accept_until: AtomicI64,
}

/// The gateway will not get a signing key.
#[derive(Debug, thiserror::Error)]
pub enum NoKey {
    /// The library could not make one.
    #[error("no signing key could be made: {0}")]
    Generate(#[from] KeyError),
    /// The store will not have it.
    #[error("the policy store refused the signing key: {0}")]
    Refused(String),
    /// The store's answer makes no sense.
    #[error("the policy store published the signing key, but its answer has no good `{0}`")]
    Answer(&'static str),
}

impl Keys {
    /// No key of its own yet.
    #[must_use]
    pub fn new(replica: Replica) -> Self {
        Self { replica, signer: OnceLock::new() }
    }

    /// The key to sign with.
    ///
    /// # Errors
    /// When there is none yet, its lease has ended, or it was revoked.
    pub fn signer(&self, now: i64) -> Result<&Signer, Refusal> {
        let signer = self.signer.get().ok_or(Refusal::NoSigningKey)?;
        if now >= signer.signs_until.load(Ordering::Acquire) {
            return Err(Refusal::KeyLeaseExpired);
        }
        if self.known().lookup(signer.key.kid()).is_some_and(|record| record.revoked) {
            return Err(Refusal::SigningKeyRevoked);
        }
        Ok(signer)
    }

    /// The store's revision that this gateway has heard of; none before its first snapshot.
    pub fn heard(&self) -> Option<Revision> {
        self.replica.now().ok().map(|view| view.revision().clone())
    }

    /// All gateways' keys, as the replica has them; none before its first snapshot.
    #[must_use]
    pub fn known(&self) -> KeySet {
        self.replica.now().map(|view| view.world().keys().clone()).unwrap_or_default()
    }

    /// The JWK Set of all keys whose tokens are accepted at `now`.
    #[must_use]
    pub fn jwks(&self, now: i64) -> String {
        let known = self.known();
        let mut keys: Vec<PublicKey> = known
            .records()
            .filter(|record| !record.revoked && record.accept_until > now)
            .map(|record| record.public.clone())
            .collect();
        // Our own may be published and not yet have come back.
        if let Some(signer) = self.signer.get()
            && known.lookup(signer.key.kid()).is_none()
        {
            keys.push(signer.key.public());
        }
        keys.sort_by(|one, other| one.kid().cmp(other.kid()));
        jwks(&keys)
    }

    /// Makes a key, publishes it, tells health once it signs, and renews its lease for ever after.
    ///
    /// # Errors
    /// When the store refuses the key; while the store is merely away, it waits.
    pub async fn run(
        self: Arc<Self>,
        mut store: StoreClient,
        health: Health,
        service_name: &'static str,
    ) -> NoKey {
        let signer = match self.begin(&mut store).await {
            Ok(signer) => signer,
            Err(no_key) => return no_key,
        };
        tracing::info!(kid = signer.key.kid(), revision = %signer.revision, "the signing key is published");
        let signer = self.signer.get_or_init(|| signer);
        let jwk = signer.key.public().to_jwk();
        loop {
            let now = clock::now();
            let renewed = match self.signer(now) {
                Ok(_) => {
                    health.serving(&[service_name]).await;
                    true
                }
                Err(refusal) => {
                    tracing::error!(error = %refusal, "nothing is signed");
                    health.not_serving(&[service_name]).await;
                    false
                }
            };
            tokio::time::sleep(if renewed { signer.third(now) } else { RETRY }).await;
            while let Err(status) = signer.renew(&mut store, &jwk).await {
                tracing::warn!(error = %status.message(), "the lease of the signing key was not renewed; trying again");
                if self.signer(clock::now()).is_err() {
                    break;
                }
                tokio::time::sleep(RETRY).await;
            }
        }
    }

    async fn begin(&self, store: &mut StoreClient) -> Result<Signer, NoKey> {
        // Our own Watch first: what is published must come back to us.
        self.replica.ready().await;
        let key = SigningKey::generate()?;
        let jwk = key.public().to_jwk();
        let response = loop {
            match publish(store, &jwk).await {
                Ok(response) => break response,
                Err(status) if is_final(status.code()) => {
                    return Err(NoKey::Refused(status.message().to_owned()));
                }
                Err(status) => {
                    tracing::warn!(error = %status.message(), "the signing key was not published; trying again");
                    tokio::time::sleep(RETRY).await;
                }
            }
        };
        let revision = response.revision.parse().map_err(|_| NoKey::Answer("revision"))?;
        let record = response.signing_key.ok_or(NoKey::Answer("signing_key"))?;
        if record.kid != key.kid() {
            return Err(NoKey::Answer("kid"));
        }
        let (signs_until, accept_until) = lease(&record).ok_or(NoKey::Answer("signs_until"))?;
        wait_acknowledged(store, key.kid()).await;
        Ok(Signer {
            key,
            revision,
            signs_until: AtomicI64::new(signs_until),
            accept_until: AtomicI64::new(accept_until),
        })
    }
}

impl Signer {
    /// The revision of its publication.
    #[must_use]
    pub fn revision(&self) -> &Revision {
        &self.revision
    }

    /// Signs `claims`.
    ///
    /// # Errors
    /// When the lease has ended by `claims.iat`, or would end before the token may be accepted to its end.
    pub fn mint(&self, claims: &Claims) -> Result<String, Refusal> {
        if claims.iat >= self.signs_until.load(Ordering::Acquire)
            || claims.exp > self.accept_until.load(Ordering::Acquire)
        {
            return Err(Refusal::KeyLeaseExpired);
        }
        Ok(mint(claims, &self.key)?)
    }

    async fn renew(&self, store: &mut StoreClient, jwk: &str) -> Result<(), Status> {
        let response = publish(store, jwk).await?;
        let record =
            response.signing_key.filter(|record| record.kid == self.key.kid() && !record.revoked);
        let lease = record.as_ref().and_then(lease);
        let (signs_until, accept_until) =
            lease.ok_or_else(|| Status::internal("the policy store's answer has no lease"))?;
        self.accept_until.store(accept_until, Ordering::Release);
        self.signs_until.store(signs_until, Ordering::Release);
        Ok(())
    }

    /// A third of what is left of the lease: two renewals may fail.
    fn third(&self, now: i64) -> Duration {
        let left = self.signs_until.load(Ordering::Acquire).saturating_sub(now);
        Duration::from_secs(u64::try_from(left / 3).unwrap_or(0)).max(Duration::from_secs(1))
    }
}

fn lease(record: &SigningKeyRecord) -> Option<(i64, i64)> {
    Some((record.signs_until.as_ref()?.seconds, record.accept_until.as_ref()?.seconds))
}

async fn publish(store: &mut StoreClient, jwk: &str) -> Result<PublishSigningKeyResponse, Status> {
    let mut request = Request::new(PublishSigningKeyRequest { jwk: jwk.to_owned() });
    request.set_timeout(CALL);
    Ok(store.publish_signing_key(request).await?.into_inner())
}

/// Whether trying again would change nothing.
fn is_final(code: Code) -> bool {
    matches!(
        code,
        Code::InvalidArgument
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::Unimplemented
            | Code::FailedPrecondition
    )
}

/// Waits until the store says that all live followers have the key, but not for ever: a follower that hangs must not stop us.
async fn wait_acknowledged(store: &mut StoreClient, kid: &str) {
    let deadline = Instant::now() + ACKNOWLEDGEMENT;
    while Instant::now() < deadline {
        match acknowledged(store, kid).await {
            Ok(true) => return,
            Ok(false) => {}
            Err(status) => {
                tracing::debug!(error = %status.message(), "the signing keys cannot be listed")
            }
        }
        tokio::time::sleep(POLL).await;
    }
    tracing::warn!(
        kid,
        "not every follower has acknowledged the signing key within {}s; signing all the same",
        ACKNOWLEDGEMENT.as_secs()
    );
}

async fn acknowledged(store: &mut StoreClient, kid: &str) -> Result<bool, Status> {
    let mut marker = String::new();
    for _ in 0..MAX_PAGES {
        let mut request = Request::new(ListSigningKeysRequest { max_items: 1000, marker });
        request.set_timeout(CALL);
        let page = store.list_signing_keys(request).await?.into_inner();
        let ours = page
            .signing_keys
            .iter()
            .find(|status| status.signing_key.as_ref().is_some_and(|record| record.kid == kid));
        if let Some(status) = ours {
            return Ok(status.acknowledged);
        }
        if !page.is_truncated {
            return Ok(false);
        }
        marker = page.marker;
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use countersign_token::{Caller, Realm, Session};

    use super::*;

    fn signer(signs_until: i64, accept_until: i64) -> Signer {
        Signer {
            key: SigningKey::generate().unwrap(),
            revision: "s:1".parse().unwrap(),
            signs_until: AtomicI64::new(signs_until),
            accept_until: AtomicI64::new(accept_until),
        }
    }

    fn claims(iat: i64, exp: i64) -> Claims {
        let session = Session {
            account: "000000000000".into(),
            partition: "aws".into(),
            role_name: "R".into(),
            role_id: "AROA1234567890ABCDEF".into(),
            session_name: "s1".into(),
            source_identity: None,
            session_tags: Default::default(),
            transitive_tag_keys: Default::default(),
            session_policies: Vec::new(),
            narrowings: Vec::new(),
            parents: Vec::new(),
            proof_type: "p".into(),
            caller: Caller {
                realm: Realm::Aws,
                account: "123456789012".into(),
                unique_id: "AIDA1234567890ABCDEF".into(),
                arn: "arn:aws:iam::123456789012:user/alice".into(),
            },
            revision: "s:1".into(),
        };
        Claims::for_session("http://127.0.0.1:7400".into(), "orders".into(), iat, exp, session)
            .unwrap()
    }

    // ATTACKS 81.
    #[test]
    fn nothing_is_signed_without_a_lease() {
        let signer = signer(1000, 2000);
        let check = |iat: i64, exp: i64, good: bool| {
            assert_eq!(signer.mint(&claims(iat, exp)).is_ok(), good, "{iat} {exp}");
        };
        check(999, 1900, true);
        check(999, 2000, true);
        check(999, 2001, false);
        check(1000, 1900, false);
        check(1500, 1900, false);
    }

    #[test]
    fn without_a_key_there_is_no_signer() {
        let (replica, _follower) = Replica::new("test", &[]);
        let keys = Keys::new(replica);
        assert!(matches!(keys.signer(0), Err(Refusal::NoSigningKey)));
        assert_eq!(keys.jwks(0), r#"{"keys":[]}"#);
        keys.signer.set(signer(1000, 2000)).ok().unwrap();
        assert!(keys.signer(999).is_ok());
        assert!(matches!(keys.signer(1000), Err(Refusal::KeyLeaseExpired)));
        assert!(keys.jwks(0).contains("ES256"));
    }

    #[test]
    fn a_third_of_the_lease() {
        let signer = signer(3600, 9999);
        let check = |now: i64, seconds: u64| {
            assert_eq!(signer.third(now), Duration::from_secs(seconds), "{now}")
        };
        check(0, 1200);
        check(3599, 1);
        check(4000, 1);
    }
}
