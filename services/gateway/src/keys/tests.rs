use countersign_token::{Caller, Realm, Session};

use super::*;

fn signer(signs_until: i64, accept_until: i64) -> Signer {
    Signer {
        key: SigningKey::generate().unwrap(),
        revision: "s:1".parse().unwrap(),
        signs_until: AtomicI64::new(signs_until),
        accept_until: AtomicI64::new(accept_until),
        renew_at: AtomicI64::new(0),
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
    Claims::for_session("http://127.0.0.1:7400".into(), "orders".into(), iat, exp, session).unwrap()
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
    let keys = Keys::new(replica, Rotation::default());
    assert!(matches!(keys.signer(0), Err(Refusal::NoSigningKey)));
    assert_eq!(keys.jwks(0), r#"{"keys":[]}"#);
    keys.change(|own| own.signs = Some(Arc::new(signer(1000, 2000))));
    assert!(keys.signer(999).is_ok());
    assert!(matches!(keys.signer(1000), Err(Refusal::KeyLeaseExpired)));
    assert!(keys.jwks(0).contains("ES256"));
}

// ATTACKS 81: it is published before it signs.
#[test]
fn the_next_key_is_among_the_published_and_does_not_sign() {
    let (replica, _follower) = Replica::new("test", &[]);
    let keys = Keys::new(replica, Rotation::default());
    let (signs, next) = (Arc::new(signer(1000, 2000)), Arc::new(signer(1000, 2000)));
    keys.change(|own| {
        *own = Own { signs: Some(signs.clone()), next: Some(next.clone()) };
    });
    assert_eq!(keys.signer(0).unwrap().key.kid(), signs.key.kid());
    let jwks = keys.jwks(0);
    assert!(jwks.contains(signs.key.kid()) && jwks.contains(next.key.kid()), "{jwks}");
}

#[test]
fn a_third_of_the_lease() {
    let signer = signer(3600, 9999);
    let check = |now: i64, due: i64| {
        signer.renew_after_a_third(now);
        assert!(!signer.is_due(due - 1) && signer.is_due(due), "{now}");
    };
    check(0, 1200);
    check(3599, 3600);
    check(4000, 4001);
}

#[test]
fn a_jwks_is_never_cached_for_longer_than_a_key_waits() {
    let check = |every: u64, max_age: u64| {
        let (replica, _follower) = Replica::new("test", &[]);
        let rotation = Rotation::every(Duration::from_secs(every), Arc::default());
        assert_eq!(Keys::new(replica, rotation).jwks_max_age(), max_age, "{every}");
    };
    check(24 * 3600, 300);
    check(600, 300);
    check(10, 5);
    check(1, 0);
}
