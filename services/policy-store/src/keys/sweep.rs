//! Records that have an end: dropped some time after it.

use countersign_proto::policy::v1::RevokedTokenRecord;
use countersign_store::{Precondition, Store, Write};
use prost::Message;

use crate::{
    error::Error,
    layout::{self, SpentProof},
    request::DoneRequest,
};

/// A record is kept so long past its end, in seconds, whatever the clocks say.
const MARGIN: i64 = 3_600;
/// So many are dropped in one commit.
const AT_ONCE: usize = 64;

/// Drops all records whose end is long past; returns how many.
pub async fn sweep(store: &dyn Store, now: i64) -> Result<usize, Error> {
    let proofs = drop_past(store, layout::SPENT_PROOFS, now, |spent: SpentProof| spent.expires);
    let end = |token: RevokedTokenRecord| token.expires.map_or(i64::MAX, |time| time.seconds);
    let tokens = drop_past(store, layout::REVOKED_TOKENS, now, end);
    let requests = drop_past(store, layout::DONE_REQUESTS, now, |done: DoneRequest| done.expires);
    Ok(proofs.await? + tokens.await? + requests.await?)
}

async fn drop_past<R: Message + Default>(
    store: &dyn Store,
    prefix: &str,
    now: i64,
    end: impl Fn(R) -> i64,
) -> Result<usize, Error> {
    let mut dropped = 0;
    let mut after: Option<Vec<u8>> = None;
    loop {
        let entries = store.range(prefix.as_bytes(), after.as_deref(), AT_ONCE).await?;
        let exhausted = entries.len() < AT_ONCE;
        after = entries.last().map(|entry| entry.key.to_vec());
        let over = entries.into_iter().filter(|entry| {
            layout::decode_at::<R>(&entry.key, &entry.value)
                .is_ok_and(|record| end(record).saturating_add(MARGIN) < now)
        });
        let (checks, writes): (Vec<_>, Vec<_>) = over
            .map(|entry| {
                let check =
                    Precondition::Version { key: entry.key.clone(), version: entry.version };
                (check, Write::Delete { key: entry.key })
            })
            .unzip();
        if !writes.is_empty() {
            dropped += writes.len();
            // Somebody else sweeping at the same time is no harm.
            let _ = store.commit(checks, writes).await;
        }
        if exhausted {
            return Ok(dropped);
        }
    }
}
