//! Tokens that were revoked before their time. Replicas hear of them through the Watch; past its own end a token needs no record.

use countersign_proto::policy::v1::RevokedTokenRecord;
use prost_types::Timestamp;

use crate::{
    error::Error,
    layout,
    view::{Plan, View},
};

/// No token lives longer, in seconds: a role's longest session.
const LONGEST: i64 = 43_200;

/// Revokes a token. It is kept for as long as any token may last, whatever the caller says of this one's end: a revocation that is
/// dropped too early would bring the token back.
pub fn revoke(
    view: &View,
    plan: &mut Plan,
    token_id: &str,
    expire_time: Option<Timestamp>,
) -> Result<(), Error> {
    let sound = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if token_id.is_empty() || token_id.len() > 128 || !token_id.bytes().all(sound) {
        let rule = "the token's `jti` is expected: 1 to 128 letters, digits, `-` and `_`";
        return Err(Error::validation("token_id", rule));
    }
    let now = view.now().seconds;
    let near = now..=now + LONGEST + 60;
    if !expire_time.is_some_and(|time| near.contains(&time.seconds)) {
        let rule = "the token's own end is expected: not past, and at most twelve hours ahead";
        return Err(Error::validation("expire_time", rule));
    }
    let key = layout::revoked_token(token_id);
    if view.find(&key)?.is_none() {
        let expires = Some(Timestamp { seconds: now + LONGEST, nanos: 0 });
        let record = RevokedTokenRecord { jti: token_id.to_owned(), expires };
        plan.put(&key, &record);
    }
    Ok(())
}
