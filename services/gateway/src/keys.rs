//! The gateway's own signing keys: one signs at a time. The first is published at the start, and used once every live follower of the
//! policy store knows it (or five seconds have passed). Each day, or when it is asked for, another takes its place: that one also waits for
//! as long as a JWKS may be cached, while the one before goes on signing. Leases are renewed as long as the store lets us, and without a
//! lease nothing is signed. What a key has signed is accepted until the last of it has expired; then the store forgets the key.
//!
//! The private half never leaves this process's memory. A revoked key ends signing until another is asked for, or the gateway is started
//! anew: whoever revoked it decides.

use std::{
    convert::Infallible,
    sync::{
        Arc, PoisonError, RwLock,
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
use tokio::sync::Notify;
use tonic::{Code, Request, Status};

use crate::{StoreClient, clock, error::Refusal, exchange::STORE};

/// How long a new key waits for followers.
const ACKNOWLEDGEMENT: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(20);
const CALL: Duration = Duration::from_secs(5);
/// After a failure to publish or to renew.
const RETRY: Duration = Duration::from_secs(2);
/// After a rotation that failed.
const LATER: Duration = Duration::from_secs(60);
/// The policy store keeps 96 keys at most, each for thirteen hours. Where there are so many, none takes another's place: a gateway that
/// starts needs room for its first.
const MOST_BESIDE: usize = 72;
/// How often leases and revocations are looked at.
const TICK: Duration = Duration::from_millis(500);
/// How long a JWKS may be cached, if keys do not rotate faster.
const JWKS_CACHE: Duration = Duration::from_secs(300);
/// The most pages of signing keys that are read in search of ours.
const MAX_PAGES: usize = 16;

/// When another key takes the place of the one that signs.
#[derive(Clone, Debug)]
pub struct Rotation {
    every: Duration,
    ahead: Duration,
    demand: Arc<Notify>,
}

impl Rotation {
    /// So often, and whenever `demand` says so. A JWKS may be cached for half of it, and at most for five minutes; so long is a rotated key
    /// known before it signs.
    #[must_use]
    pub fn every(every: Duration, demand: Arc<Notify>) -> Self {
        let half = every.checked_div(2).unwrap_or_default();
        Self { every, ahead: half.min(JWKS_CACHE), demand }
    }

    /// What asks for a turn at once.
    #[must_use]
    pub fn demand(&self) -> Arc<Notify> {
        self.demand.clone()
    }
}

impl Default for Rotation {
    /// Each day.
    fn default() -> Self {
        Self::every(Duration::from_secs(24 * 3600), Arc::default())
    }
}

/// The keys that this gateway knows: its own, and through the replica everybody's.
pub struct Keys {
    replica: Replica,
    rotation: Rotation,
    own: RwLock<Own>,
}

#[derive(Default)]
struct Own {
    signs: Option<Arc<Signer>>,
    /// Published, and not signing yet.
    next: Option<Arc<Signer>>,
}

/// A key of the gateway's own, with its lease.
pub struct Signer {
    key: SigningKey,
    /// Of its first publication: a verifier that has reached it knows the key.
    revision: Revision,
    signs_until: AtomicI64,
    accept_until: AtomicI64,
    renew_at: AtomicI64,
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

/// Why another key has not taken the place of the one before.
#[derive(Debug, thiserror::Error)]
enum NotRotated {
    #[error(transparent)]
    NoKey(#[from] NoKey),
    #[error("the policy store did not publish it: {0}")]
    Store(String),
    #[error("it was revoked before it signed")]
    Revoked,
    #[error("{0} signing keys are still accepted")]
    Many(usize),
}

impl Keys {
    /// No key of its own yet.
    #[must_use]
    pub fn new(replica: Replica, rotation: Rotation) -> Self {
        Self { replica, rotation, own: RwLock::default() }
    }

    /// The key to sign with.
    ///
    /// # Errors
    /// When there is none yet, its lease has ended, or it was revoked.
    pub fn signer(&self, now: i64) -> Result<Arc<Signer>, Refusal> {
        let signer = self.own(|own| own.signs.clone()).ok_or(Refusal::NoSigningKey)?;
        if now >= signer.signs_until.load(Ordering::Acquire) {
            return Err(Refusal::KeyLeaseExpired);
        }
        if self.is_revoked(&signer) {
            return Err(Refusal::SigningKeyRevoked);
        }
        Ok(signer)
    }

    /// For how many seconds a JWKS may be cached.
    #[must_use]
    pub fn jwks_max_age(&self) -> u64 {
        self.rotation.ahead.as_secs()
    }

    /// Asks for another key in the place of the one that signs, and returns the name of the next one once it is published. While one is on
    /// its way, there is nothing more to ask for.
    ///
    /// # Errors
    /// When the policy store has not published it within five seconds.
    pub async fn another(&self) -> Result<String, Refusal> {
        let names = || {
            self.own(|own| {
                let name = |signer: &Option<Arc<Signer>>| {
                    signer.as_ref().map(|signer| signer.key.kid().to_owned())
                };
                (name(&own.signs), name(&own.next))
            })
        };
        let (before, next) = names();
        if let Some(next) = next {
            return Ok(next);
        }
        self.room()?;
        self.rotation.demand.notify_one();
        let deadline = Instant::now() + CALL;
        while Instant::now() < deadline {
            match names() {
                (_, Some(next)) => return Ok(next),
                // It was so quick that it signs already.
                (Some(signs), None) if Some(&signs) != before.as_ref() => return Ok(signs),
                (_, None) => tokio::time::sleep(POLL).await,
            }
        }
        let cause = "no other signing key was published".to_owned();
        Err(Refusal::ServiceUnavailable { service: STORE, cause })
    }

    /// Whether a key may be made beside those that are there. Where none of our own signs, one must.
    fn room(&self) -> Result<(), Refusal> {
        let held = self.known().len();
        if held < MOST_BESIDE || self.signer(clock::now()).is_err() {
            return Ok(());
        }
        Err(Refusal::TooManySigningKeys { held })
    }

    fn own<T>(&self, look: impl FnOnce(&Own) -> T) -> T {
        look(&self.own.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn change(&self, change: impl FnOnce(&mut Own)) {
        change(&mut self.own.write().unwrap_or_else(PoisonError::into_inner));
    }

    fn is_revoked(&self, signer: &Signer) -> bool {
        self.known().lookup(signer.key.kid()).is_some_and(|record| record.revoked)
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
        for signer in self.signers() {
            if known.lookup(signer.key.kid()).is_none() {
                keys.push(signer.key.public());
            }
        }
        keys.sort_by(|one, other| one.kid().cmp(other.kid()));
        jwks(&keys)
    }

    fn signers(&self) -> Vec<Arc<Signer>> {
        self.own(|own| own.signs.iter().chain(&own.next).cloned().collect())
    }

    /// Makes a key, publishes it, and for ever after renews leases, tells health whether anything is signed, and rotates.
    ///
    /// # Errors
    /// When the store refuses the first key; while the store is merely away, it waits.
    pub async fn run(
        self: Arc<Self>,
        mut store: StoreClient,
        health: Health,
        service_name: &'static str,
    ) -> NoKey {
        let first = match self.begin(&mut store).await {
            Ok(first) => first,
            Err(no_key) => return no_key,
        };
        tracing::info!(kid = first.key.kid(), revision = %first.revision, "the signing key is published");
        self.change(|own| own.signs = Some(Arc::new(first)));
        let never = tokio::select! {
            never = self.keep(store.clone(), health, service_name) => never,
            never = self.rotate(store) => never,
        };
        match never {}
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
        let signer = Signer::published(key, response)?;
        wait_acknowledged(store, signer.key.kid()).await;
        Ok(signer)
    }

    /// Renews leases when they are due, and keeps health true.
    async fn keep(
        &self,
        mut store: StoreClient,
        health: Health,
        service_name: &'static str,
    ) -> Infallible {
        let mut well = None;
        loop {
            let now = clock::now();
            for signer in self.signers().iter().filter(|signer| signer.is_due(now)) {
                // One that was revoked gets no lease any more.
                if !self.is_revoked(signer)
                    && let Err(status) = signer.renew(&mut store, now).await
                {
                    tracing::warn!(error = %status.message(), "the lease of the signing key was not renewed; trying again");
                }
            }
            match self.signer(clock::now()) {
                Ok(_) if well == Some(true) => {}
                Ok(_) => {
                    well = Some(true);
                    health.serving(&[service_name]).await;
                }
                Err(_) if well == Some(false) => {}
                Err(refusal) => {
                    well = Some(false);
                    tracing::error!(error = %refusal, "nothing is signed");
                    health.not_serving(&[service_name]).await;
                }
            }
            tokio::time::sleep(TICK).await;
        }
    }

    /// Puts another key in the place of the one before, on schedule and on demand. When that fails, the one before signs on.
    async fn rotate(&self, mut store: StoreClient) -> Infallible {
        let Rotation { every, ahead: _, demand } = &self.rotation;
        let mut wait = *every;
        loop {
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = demand.notified() => {}
            }
            let began = Instant::now();
            match self.turn_over(&mut store).await {
                Ok(signer) => {
                    // A turn takes its time, which is part of the one before the next.
                    wait = every.saturating_sub(began.elapsed());
                    tracing::info!(kid = signer.key.kid(), revision = %signer.revision, "the signing key is another");
                }
                Err(error) => {
                    wait = (*every).min(LATER);
                    tracing::warn!(%error, "the signing key was not rotated; the one before signs on");
                }
            }
        }
    }

    async fn turn_over(&self, store: &mut StoreClient) -> Result<Arc<Signer>, NotRotated> {
        self.room().map_err(|_| NotRotated::Many(self.known().len()))?;
        let key = SigningKey::generate().map_err(NoKey::from)?;
        let response = publish(store, &key.public().to_jwk()).await;
        let response = response.map_err(|status| NotRotated::Store(status.message().to_owned()))?;
        let next = Arc::new(Signer::published(key, response)?);
        self.change(|own| own.next = Some(next.clone()));
        wait_acknowledged(store, next.key.kid()).await;
        // Whoever has read the keys just before may not read them again for so long. If nothing signs, nobody is served by waiting.
        let ready = Instant::now() + self.rotation.ahead;
        while Instant::now() < ready && self.signer(clock::now()).is_ok() {
            tokio::time::sleep(TICK.min(ready.saturating_duration_since(Instant::now()))).await;
        }
        let revoked = self.is_revoked(&next);
        self.change(|own| {
            own.next = None;
            if !revoked {
                own.signs = Some(next.clone());
            }
        });
        if revoked { Err(NotRotated::Revoked) } else { Ok(next) }
    }
}

impl Signer {
    fn published(key: SigningKey, response: PublishSigningKeyResponse) -> Result<Self, NoKey> {
        let revision = response.revision.parse().map_err(|_| NoKey::Answer("revision"))?;
        let record = response.signing_key.ok_or(NoKey::Answer("signing_key"))?;
        if record.kid != key.kid() {
            return Err(NoKey::Answer("kid"));
        }
        let (signs_until, accept_until) = lease(&record).ok_or(NoKey::Answer("signs_until"))?;
        let signer = Self {
            key,
            revision,
            signs_until: AtomicI64::new(signs_until),
            accept_until: AtomicI64::new(accept_until),
            renew_at: AtomicI64::new(0),
        };
        signer.renew_after_a_third(clock::now());
        Ok(signer)
    }

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

    fn is_due(&self, now: i64) -> bool {
        now >= self.renew_at.load(Ordering::Acquire)
    }

    async fn renew(&self, store: &mut StoreClient, now: i64) -> Result<(), Status> {
        self.renew_at.store(now.saturating_add(seconds(RETRY)), Ordering::Release);
        let response = publish(store, &self.key.public().to_jwk()).await?;
        let record =
            response.signing_key.filter(|record| record.kid == self.key.kid() && !record.revoked);
        let lease = record.as_ref().and_then(lease);
        let (signs_until, accept_until) =
            lease.ok_or_else(|| Status::internal("the policy store's answer has no lease"))?;
        self.accept_until.store(accept_until, Ordering::Release);
        self.signs_until.store(signs_until, Ordering::Release);
        self.renew_after_a_third(now);
        Ok(())
    }

    /// Two renewals may fail.
    fn renew_after_a_third(&self, now: i64) {
        let left = self.signs_until.load(Ordering::Acquire).saturating_sub(now);
        self.renew_at.store(now.saturating_add((left / 3).max(1)), Ordering::Release);
    }
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
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
mod tests;
