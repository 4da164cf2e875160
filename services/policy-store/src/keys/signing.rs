//! Signing keys: published by the gateway that made them, leased, and ended at once when they must be.

use countersign_proto::policy::v1::SigningKeyRecord;
use countersign_token::key::PublicKey;
use prost_types::Timestamp;

use crate::{
    error::Error,
    layout,
    view::{Plan, View},
};

/// A publisher signs so long after it last renewed, in seconds.
pub const LEASE: i64 = 3_600;
/// The longest life of a token, in seconds: a key is accepted so long after it last signed.
const LONGEST_TOKEN: i64 = 43_200;
/// Keys that are kept at once, of all gateways. A gateway rotates only up to 72, so that one that starts finds room. All are read for one
/// write, and a commit has 128 preconditions at most.
const QUOTA: usize = 96;

/// Publishes a key, or renews the lease of one that the same publisher published.
pub fn publish(
    view: &View,
    plan: &mut Plan,
    publisher: &str,
    jwk: &str,
) -> Result<SigningKeyRecord, Error> {
    let public =
        PublicKey::from_jwk(jwk).map_err(|error| Error::validation("jwk", error.to_string()))?;
    let key = layout::signing_key(public.kid());
    let now = view.now();
    let signs_until = Timestamp { seconds: now.seconds + LEASE, nanos: 0 };
    let accept_until = Timestamp { seconds: now.seconds + LEASE + LONGEST_TOKEN, nanos: 0 };
    let publish_date = match view.find(&key)? {
        Some(known) if known.revoked => {
            return Err(Error::AccessDenied {
                message: format!("the signing key `{}` was revoked; make another", public.kid()),
            });
        }
        Some(known) if known.publisher != publisher => {
            return Err(Error::exists("signing key", public.kid()));
        }
        Some(known) => known.publish_date,
        None => {
            make_room(view, plan)?;
            Some(now)
        }
    };
    let record = SigningKeyRecord {
        kid: public.kid().to_owned(),
        jwk: public.to_jwk(),
        publisher: publisher.to_owned(),
        publish_date,
        signs_until: Some(signs_until),
        accept_until: Some(accept_until),
        revoked: false,
    };
    plan.put(&key, &record);
    Ok(record)
}

/// Drops keys whose last token has expired. Revoked ones stay as long, so that none is published again meanwhile.
fn make_room(view: &View, plan: &mut Plan) -> Result<(), Error> {
    let keys = view.keys(layout::SIGNING_KEYS, QUOTA + 1)?.to_vec();
    let mut kept = 0;
    for key in keys {
        let kid = String::from_utf8_lossy(&key);
        let kid = kid.strip_prefix(layout::SIGNING_KEYS).unwrap_or_default();
        let key = layout::signing_key(kid);
        let Some(record) = view.find(&key)? else { continue };
        let over = record.accept_until.is_none_or(|until| until.seconds < view.now().seconds);
        if over {
            plan.delete(&key);
        } else {
            kept += 1;
        }
    }
    if kept >= QUOTA {
        return Err(Error::LimitExceeded { what: "signing keys".to_owned(), limit: QUOTA });
    }
    Ok(())
}

/// Ends a key: its tokens are refused from this revision on.
pub fn revoke(view: &View, plan: &mut Plan, kid: &str) -> Result<(), Error> {
    let thumbprint = kid.len() == 43
        && kid.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    if !thumbprint {
        return Err(Error::validation(
            "kid",
            "an RFC 7638 thumbprint is expected: 43 characters of base64url",
        ));
    }
    let key = layout::signing_key(kid);
    let record = view.find(&key)?.ok_or_else(|| Error::no_such("signing key", kid))?;
    plan.put(&key, &SigningKeyRecord { revoked: true, ..record });
    Ok(())
}
