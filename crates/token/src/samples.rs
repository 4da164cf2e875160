//! The claims, keys and tokens that this crate's tests begin with.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::{Actor, Caller, Claims, Expected, KeyRecord, KeySet, Realm, Session, SigningKey};

pub(crate) const NOW: i64 = 1_800_000_000;
pub(crate) const ISSUER: &str = "http://127.0.0.1:8080";
pub(crate) const AUDIENCE: &str = "orders";

/// A session of an hour that began a minute ago.
pub(crate) fn claims() -> Claims {
    let session = Session {
        account: "111122223333".into(),
        partition: "aws".into(),
        role_name: "Reader".into(),
        role_id: "AROAEXAMPLE".into(),
        session_name: "alice@example.com".into(),
        source_identity: None,
        session_tags: BTreeMap::from([("Team".into(), "größe".into())]),
        transitive_tag_keys: Default::default(),
        session_policies: vec![r#"{"Version":"2012-10-17","Statement":[]}"#.into()],
        narrowings: Vec::new(),
        parents: Vec::new(),
        proof_type: "sts-get-caller-identity".into(),
        caller: Caller {
            realm: Realm::Aws,
            account: "444455556666".into(),
            unique_id: "AIDAEXAMPLE".into(),
            arn: "arn:aws:iam::444455556666:user/alice".into(),
        },
        revision: "store:7".into(),
    };
    Claims::for_session(ISSUER.into(), AUDIENCE.into(), NOW - 60, NOW + 3540, session).unwrap()
}

/// RFC 7638's own.
pub(crate) const THUMBPRINT: &str = "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs";

/// So many, each acting after the one inside.
pub(crate) fn actors(count: usize) -> Actor {
    let one = |act| Actor { sub: "arn:x".into(), client_id: "AROA:x".into(), act };
    (1..count).fold(one(None), |inner, _| one(Some(Box::new(inner))))
}

pub(crate) fn expected() -> Expected<'static> {
    Expected { issuer: ISSUER, audience: AUDIENCE, leeway: 5 }
}

pub(crate) fn record(key: &SigningKey) -> KeyRecord {
    KeyRecord { public: key.public(), accept_until: NOW + 86_400, revoked: false }
}

pub(crate) fn keyset(key: &SigningKey) -> KeySet {
    KeySet::from_iter([record(key)])
}

/// A token with any header and any payload, truly signed: what only the holder of a key could send.
pub(crate) fn signed(key: &SigningKey, header: &str, payload: &str) -> String {
    let input = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
    let signature = key.sign(input.as_bytes()).unwrap();
    format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature))
}

pub(crate) fn header(key: &SigningKey) -> String {
    format!(r#"{{"typ":"at+jwt","alg":"ES256","kid":"{}"}}"#, key.kid())
}
