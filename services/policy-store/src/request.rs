//! A write that its caller named happens once: a retry gets the answer of the first, with its revision.
//!
//! The name is the caller's own. What is remembered is sealed, since an answer may hold a new secret, and is part of the write's own
//! transaction: it is there exactly if the write happened.

use aws_lc_rs::digest;
use prost::Message;

use crate::{
    authn::Caller,
    digest::sha256_hex,
    error::Error,
    layout::{self, Key},
    rpc::{Call, Written},
    seal::Sealer,
    view::{Plan, View},
};

/// So long a write is remembered, in seconds.
const REMEMBERED: i64 = 24 * 3_600;
const LONGEST: usize = 128;

/// A write that was done.
#[derive(Clone, PartialEq, Message)]
pub struct DoneRequest {
    /// SHA-256 of the operation and the whole request.
    #[prost(bytes = "vec", tag = "1")]
    pub digest: Vec<u8>,
    /// The answer, sealed.
    #[prost(bytes = "vec", tag = "2")]
    pub sealed: Vec<u8>,
    /// Seconds since 1970, after which it may be forgotten.
    #[prost(int64, tag = "3")]
    pub expires: i64,
}

/// Whether the options of a write go together.
pub fn check(call: &Call) -> Result<(), Error> {
    let id = &call.options.request_id;
    if id.is_empty() {
        return Ok(());
    }
    if call.options.validate_only {
        let rule =
            "`validate_only` writes nothing, so there is nothing to do once; leave one of them out";
        return Err(Error::validation("request_id", rule));
    }
    if id.len() > LONGEST || !id.bytes().all(|byte| byte.is_ascii_graphic()) {
        let rule = "1 to 128 visible ASCII characters are expected";
        return Err(Error::validation("request_id", rule));
    }
    Ok(())
}

/// The answer of the first, and the revision of its write, if this is a retry.
///
/// # Errors
/// When the name was used for another write.
pub fn done<A: Written>(
    view: &View,
    call: &Call,
    sealer: &Sealer,
) -> Result<Option<(A, u64)>, Error> {
    let Some(key) = key(call) else { return Ok(None) };
    let Some(record) = view.find(&key)?.filter(|record| record.expires > view.now().seconds) else {
        return Ok(None);
    };
    if record.digest != digest_of(call) {
        let message = "request_id: was used for another request; choose a new one";
        return Err(Error::named("IdempotentParameterMismatch", message));
    }
    let bytes = sealer.open(&key.to_string(), &record.sealed)?;
    let damaged = |error: prost::DecodeError| Error::Damaged {
        key: key.to_string(),
        error: error.to_string(),
    };
    let answer = A::decode(bytes.as_slice()).map_err(damaged)?;
    Ok(Some((answer, view.version(&key))))
}

/// Remembers the answer of a write that was named.
pub fn remember(
    view: &View,
    plan: &mut Plan,
    call: &Call,
    answer: &[u8],
    sealer: &Sealer,
) -> Result<(), Error> {
    let Some(key) = key(call) else { return Ok(()) };
    let record = DoneRequest {
        digest: digest_of(call),
        sealed: sealer.seal(&key.to_string(), answer)?,
        expires: view.now().seconds + REMEMBERED,
    };
    plan.put(&key, &record);
    Ok(())
}

/// Of the caller, not of its session: a retry may come with a new token.
fn key(call: &Call) -> Option<Key<DoneRequest>> {
    let id = &call.options.request_id;
    if id.is_empty() {
        return None;
    }
    let caller = match &call.caller {
        Caller::Service(name) => name.to_string(),
        Caller::Session(session) => {
            let own = &session.claims.session;
            format!("{}:{}:{}", own.account, own.role_id, own.session_name)
        }
    };
    Some(layout::done_request(&sha256_hex(format!("{caller}\n{id}").as_bytes())))
}

fn digest_of(call: &Call) -> Vec<u8> {
    let mut text = call.event_name.as_bytes().to_vec();
    text.push(b'\n');
    text.extend_from_slice(&call.request);
    digest::digest(&digest::SHA256, &text).as_ref().to_vec()
}
