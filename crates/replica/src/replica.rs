//! What a follower holds, for those who read it: one view at a time, its age, and waiting for a revision. It knows nothing of how the
//! follower came by it.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use tokio::sync::watch;

use crate::{MalformedRevision, Revision, World, keeping::OnDisk, kept::Stamp};

/// What a follower holds. Cheap to clone; every clone sees the same.
#[derive(Clone)]
pub struct Replica {
    pub(crate) shared: Arc<Shared>,
    pub(crate) reached: watch::Receiver<Option<Revision>>,
    pub(crate) max_staleness: Option<Duration>,
}

/// What the follower writes and the replica reads.
pub struct Shared {
    pub held: ArcSwapOption<View>,
    /// When something of the store's was last applied: measured from `started`, in milliseconds; 0 before the first time, and
    /// negative for what was kept before.
    pub last_word: AtomicI64,
    started: Instant,
    /// Whether what is held was kept on disk, and nothing has been heard of the store since.
    pub is_kept: AtomicBool,
    pub on_disk: Mutex<OnDisk>,
}

/// The world at one revision.
pub struct View {
    revision: Revision,
    world: World,
    serial: u64,
}

/// Of the next view of this process, whichever replica's it is.
static NEXT_SERIAL: AtomicU64 = AtomicU64::new(0);

/// A revision that this replica cannot answer at.
#[derive(Debug, thiserror::Error)]
pub enum Behind {
    /// The text is no revision.
    #[error(transparent)]
    Malformed(#[from] MalformedRevision),
    /// It is of another store: it will never be reached.
    #[error("revision `{asked}` is of another store than `{have}`, which this replica follows")]
    OtherStore {
        /// What was asked for.
        asked: Revision,
        /// What is held.
        have: Revision,
    },
    /// Not yet.
    #[error("revision `{asked}` has not arrived; this replica is at `{have}`")]
    NotYet {
        /// What was asked for.
        asked: Revision,
        /// What is held.
        have: Revision,
    },
    /// There is nothing yet.
    #[error("this replica has no snapshot yet")]
    Empty,
    /// What is held is older than the operator lets anybody answer from.
    #[error("the policy store was last heard {} seconds ago, and at most {} are allowed", age.as_secs(), max_staleness.as_secs())]
    Stale {
        /// How long ago the store was heard.
        age: Duration,
        /// How long ago it may have been.
        max_staleness: Duration,
    },
}

impl Replica {
    /// The same, where nothing is answered from what is older than this.
    #[must_use]
    pub fn with_max_staleness(self, max_staleness: Option<Duration>) -> Self {
        Self { max_staleness, ..self }
    }

    /// What is held now.
    ///
    /// # Errors
    /// [`Behind::Empty`] before the first snapshot; [`Behind::Stale`] when the store was not heard for longer than is allowed.
    pub fn now(&self) -> Result<Arc<View>, Behind> {
        let view = self.held().ok_or(Behind::Empty)?;
        // The clock is read only where there is a limit.
        let Some(max_staleness) = self.max_staleness else { return Ok(view) };
        let age = self.age();
        if age > max_staleness { Err(Behind::Stale { age, max_staleness }) } else { Ok(view) }
    }

    /// What is held, however old it is: to tell of it, not to answer from it.
    #[must_use]
    pub fn held(&self) -> Option<Arc<View>> {
        self.shared.held.load_full()
    }

    /// Whether what is held was kept on disk, and nothing has been heard of the store since.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.shared.is_kept.load(Ordering::Acquire)
    }

    /// Of when the snapshot on disk is; none without one.
    #[must_use]
    pub fn on_disk(&self) -> Option<Stamp> {
        locked(&self.shared.on_disk).stamp()
    }

    /// What is held once `revision` has been reached; waits at most `patience`. An empty text asks for whatever is held. A revision of
    /// another store is waited for as well: the store may have been restored, and its snapshot be on the way.
    ///
    /// # Errors
    /// See [`Behind`].
    pub async fn at_least(&self, revision: &str, patience: Duration) -> Result<Arc<View>, Behind> {
        if revision.is_empty() {
            return self.now();
        }
        let asked: Revision = revision.parse()?;
        let mut reached = self.reached.clone();
        let arrived = reached.wait_for(|have| {
            have.as_ref()
                .is_some_and(|have| have.store_id == asked.store_id && have.number >= asked.number)
        });
        // A time-out, or a follower that ended, leaves what is held; it is looked at below.
        let _ = tokio::time::timeout(patience, arrived).await;
        let view = self.now()?;
        let have = view.revision().clone();
        if have.store_id != asked.store_id {
            return Err(Behind::OtherStore { asked, have });
        }
        if have.number < asked.number {
            return Err(Behind::NotYet { asked, have });
        }
        Ok(view)
    }

    /// Resolves once there is something to answer from.
    pub async fn ready(&self) {
        let mut reached = self.reached.clone();
        let _ = reached.wait_for(Option::is_some).await;
    }

    /// How long ago something of the store's was last applied: a change, a heartbeat, or the last chunk of a snapshot. What was refused,
    /// or is in part, makes nothing younger.
    #[must_use]
    pub fn age(&self) -> Duration {
        let last = self.shared.last_word.load(Ordering::Acquire);
        let age = self.shared.elapsed().saturating_sub(last);
        Duration::from_millis(u64::try_from(age).unwrap_or_default())
    }
}

impl Shared {
    /// Nothing is held.
    pub fn new() -> Self {
        Self {
            held: ArcSwapOption::empty(),
            last_word: AtomicI64::new(0),
            started: Instant::now(),
            is_kept: AtomicBool::new(false),
            on_disk: Mutex::default(),
        }
    }

    /// Milliseconds since `started`.
    pub fn elapsed(&self) -> i64 {
        i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX)
    }
}

/// The lock, whoever panicked with it.
pub fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl View {
    /// A view like no other.
    pub(crate) fn new(revision: Revision, world: World) -> Self {
        Self { revision, world, serial: NEXT_SERIAL.fetch_add(1, Ordering::Relaxed) }
    }

    /// A number that no other view of this process has: what was found out at a view holds where the number is the same.
    #[must_use]
    pub fn serial(&self) -> u64 {
        self.serial
    }

    /// The revision.
    #[must_use]
    pub fn revision(&self) -> &Revision {
        &self.revision
    }

    /// What there is at it.
    #[must_use]
    pub fn world(&self) -> &World {
        &self.world
    }
}
