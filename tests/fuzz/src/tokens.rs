//! Tokens: nothing but the very token that was signed is accepted.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_token::{
    Caller, Claims, Expected, KeyRecord, KeySet, PublicKey, Realm, Session, SigningKey, mint,
    verify,
};

pub(crate) const WORDS: &[&str] = &[
    ".",
    "{\"typ\":\"at+jwt\",\"alg\":\"none\"}",
    "\"alg\":\"HS256\"",
    "\"crit\":[\"exp\"]",
    "\"exp\":",
    "\"kid\":",
    "\"aud\":[\"orders\"]",
    "eyJhbGciOiJub25lIn0",
    "{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"",
    "\\u0061ud",
    "1e99",
];

const NOW: i64 = 1_800_000_000;
const EXPECTED: Expected<'_> =
    Expected { issuer: "http://127.0.0.1:8080", audience: "orders", leeway: 5 };

struct Signed {
    token: String,
    keyset: KeySet,
}

/// Signed once a run, by a key that nobody else has.
fn signed() -> &'static Signed {
    static SIGNED: OnceLock<Signed> = OnceLock::new();
    SIGNED.get_or_init(|| {
        let key = SigningKey::generate().expect("a key");
        let session = Session {
            account: "111122223333".into(),
            partition: "aws".into(),
            role_name: "Reader".into(),
            role_id: "AROAEXAMPLE".into(),
            session_name: "alice@example.com".into(),
            source_identity: None,
            session_tags: BTreeMap::from([("Team".into(), "größe".into())]),
            transitive_tag_keys: Default::default(),
            session_policies: Vec::new(),
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
        let (issuer, audience) = (EXPECTED.issuer.to_owned(), EXPECTED.audience.to_owned());
        let claims = Claims::for_session(issuer, audience, NOW - 60, NOW + 3_540, session)
            .expect("sound claims");
        let token = mint(&claims, &key).expect("a token");
        let record = KeyRecord { public: key.public(), accept_until: NOW + 86_400, revoked: false };
        Signed { token, keyset: KeySet::from_iter([record]) }
    })
}

/// The bytes as a token, as header and payload of one (by a line feed), as changes of a good one (place, mask, …), as another
/// signature, and as a public key.
///
/// # Panics
/// If anything but the signed token itself is accepted.
pub fn token(bytes: &[u8]) {
    let good = &signed().token;
    let [header, payload, signature] = good.split('.').collect::<Vec<_>>()[..] else {
        panic!("a token has three parts");
    };
    let text = String::from_utf8_lossy(bytes);
    refused_unless_good(&text);
    let encode = |part: &str| URL_SAFE_NO_PAD.encode(part);
    let (first, rest) = text.split_once('\n').unwrap_or((&text, ""));
    refused_unless_good(&format!("{}.{}.{signature}", encode(first), encode(rest)));
    refused_unless_good(&format!("{header}.{}.{signature}", encode(&text)));
    refused_unless_good(&format!("{header}.{payload}.{}", URL_SAFE_NO_PAD.encode(bytes)));
    refused_unless_good(&format!("{header}.{payload}.{text}"));
    let mut changed = good.clone().into_bytes();
    for pair in bytes.chunks_exact(3) {
        let place = usize::from(u16::from_le_bytes([pair[0], pair[1]])) % changed.len();
        changed[place] ^= pair[2];
    }
    refused_unless_good(&String::from_utf8_lossy(&changed));
    if let Ok(key) = PublicKey::from_jwk(&text) {
        assert_eq!(
            PublicKey::from_jwk(&key.to_jwk()).map(|again| again.kid() == key.kid()),
            Ok(true)
        );
    }
}

fn refused_unless_good(token: &str) {
    let Signed { token: good, keyset } = signed();
    let verified = verify(token, keyset, &EXPECTED, NOW);
    assert_eq!(verified.is_ok(), token == good, "{token}");
}
