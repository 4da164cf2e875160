//! When access keys and roles were last used, as gateways tell: for people who look for what nobody uses.
//!
//! It is lossy on purpose. A gateway that ends takes what it has not told with it, and of uses close together one is written. Nothing is
//! decided by it.

use countersign_proto::policy::v1::{AccessKeyRecord, Use};

use crate::{
    error::Error,
    layout::{self, LastUse},
    view::{Plan, View},
};

/// So many in one request.
const MOST: usize = 1_000;
/// So many in one commit.
pub const AT_ONCE: usize = 64;
/// A use is not written so soon after the last, in seconds.
const EVERY: i64 = 300;

/// Whether a request may hold these.
pub fn check(uses: &[Use]) -> Result<(), Error> {
    if uses.len() > MOST {
        return Err(Error::validation("uses", format!("at most {MOST} are expected")));
    }
    for Use { id, last_used_date, service_name } in uses {
        let is_id =
            (16..=128).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let is_service =
            service_name.len() <= 64 && service_name.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_id || !is_service || last_used_date.is_none() {
            let rule = format!(
                "`{}`: an AKIA… or AROA… id, a time and a service's short name are expected",
                id.escape_default()
            );
            return Err(Error::validation("uses", rule));
        }
    }
    Ok(())
}

/// Writes those that say something new of what is there; how many.
pub fn record(view: &View, plan: &mut Plan, uses: &[Use], region: &str) -> Result<i32, Error> {
    let keys: Vec<_> = uses.iter().map(|it| layout::access_key(&it.id)).collect();
    let ids: Vec<_> = uses.iter().map(|it| layout::unique_id(&it.id)).collect();
    let known: Vec<_> = uses.iter().map(|it| layout::last_use(&it.id)).collect();
    let access_keys: Vec<Option<AccessKeyRecord>> = view.peek_all(&keys)?;
    let entities = view.peek_all(&ids)?;
    let known = view.peek_all(&known)?;
    let mut recorded = 0;
    let mut seen = Vec::new();
    for (((it, access_key), entity), last) in uses.iter().zip(access_keys).zip(entities).zip(known)
    {
        let is_role = entity.is_some_and(|entity| entity.key.starts_with("role/"));
        let time = it.last_used_date.map_or(0, |time| time.seconds).min(view.now().seconds);
        let is_news = last.is_none_or(|last| time >= last.seconds.saturating_add(EVERY));
        if !(is_role || access_key.is_some()) || !is_news || seen.contains(&&it.id) {
            continue;
        }
        seen.push(&it.id);
        let last_use = LastUse {
            seconds: time,
            service_name: it.service_name.clone(),
            region: region.to_owned(),
        };
        plan.put(&layout::last_use(&it.id), &last_use);
        recorded += 1;
    }
    Ok(recorded)
}
