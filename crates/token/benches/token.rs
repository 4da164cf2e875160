//! What a token costs beside the bare signature in it, measured in one run: `cargo bench -p countersign-token`.
//!
//! Each round times a batch of every operation, one after the other, so that a busy machine slows all of them alike; what is printed are the
//! medians of the rounds, and of the ratios in each round. The bars are of bench/WORKLOAD.md: minting within 1.5 times the bare signature, verifying
//! within 1.2 times the bare check, and a remembered signature under a twentieth of it.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a benchmark reads the clock, and ends where it cannot go on"
)]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::Instant;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair,
    ParsedPublicKey,
};
use countersign_token::{
    Caller, Claims, Expected, KeyRecord, KeySet, Realm, Session, SigningKey, check_signature, mint,
    verify,
};

const NOW: i64 = 1_800_000_000;
const ISSUER: &str = "https://tokens.example.com";
const AUDIENCE: &str = "orders";
const ROUNDS: usize = 201;

fn claims() -> Claims {
    let session = Session {
        account: "111122223333".into(),
        partition: "aws".into(),
        role_name: "OrdersReader".into(),
        role_id: "AROA1234567890ABCDEF".into(),
        session_name: "i-0123456789abcdef0".into(),
        source_identity: None,
        session_tags: BTreeMap::from([("team".into(), "orders".into())]),
        transitive_tag_keys: Default::default(),
        session_policies: Vec::new(),
        narrowings: Vec::new(),
        parents: Vec::new(),
        proof_type: "urn:countersign:proof:sts-get-caller-identity".into(),
        caller: Caller {
            realm: Realm::Aws,
            account: "444455556666".into(),
            unique_id: "AROAEXAMPLEEXAMPLE12".into(),
            arn: "arn:aws:sts::444455556666:assumed-role/App/i-0123456789abcdef0".into(),
        },
        revision: "0123456789abcdef:123456".into(),
    };
    Claims::for_session(ISSUER.into(), AUDIENCE.into(), NOW, NOW + 900, session).unwrap()
}

/// Nanoseconds an operation, of a batch.
fn batch(times: u32, mut operation: impl FnMut()) -> f64 {
    let start = Instant::now();
    for _ in 0..times {
        operation();
    }
    start.elapsed().as_secs_f64() * 1e9 / f64::from(times)
}

fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples.get(samples.len() / 2).copied().unwrap_or_default()
}

fn main() {
    let key = SigningKey::generate().unwrap();
    let claims = claims();
    let record = KeyRecord { public: key.public(), accept_until: NOW + 86_400, revoked: false };
    let keys = KeySet::from_iter([record]);
    let expected = Expected { issuer: ISSUER, audience: AUDIENCE, leeway: 5 };
    let token = mint(&claims, &key).unwrap();
    let signed = check_signature(&token, &keys).unwrap();
    let (message, _) = token.rsplit_once('.').unwrap();

    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    let random = SystemRandom::new();
    let signature = pair.sign(&random, message.as_bytes()).unwrap();
    let public =
        ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, pair.public_key().as_ref()).unwrap();

    let names = ["bare ES256 signature", "mint", "bare ES256 check", "verify", "remembered"];
    let mut samples: [Vec<f64>; 5] = Default::default();
    for _ in 0..ROUNDS {
        let round = [
            batch(20, || {
                black_box(pair.sign(&random, black_box(message.as_bytes())).unwrap());
            }),
            batch(20, || {
                black_box(mint(black_box(&claims), &key).unwrap());
            }),
            batch(20, || {
                public.verify_sig(black_box(message.as_bytes()), signature.as_ref()).unwrap();
            }),
            batch(20, || {
                black_box(verify(black_box(&token), &keys, &expected, NOW).unwrap());
            }),
            batch(1000, || {
                black_box(black_box(&signed).check(NOW, &expected, &keys).unwrap());
            }),
        ];
        for (samples, sample) in samples.iter_mut().zip(round) {
            samples.push(sample);
        }
    }
    let [sign, mint, check, verify, remembered] = &samples;
    let ratio =
        |of: &[f64], to: &[f64]| median(of.iter().zip(to).map(|(of, to)| of / to).collect());
    let ratios = [ratio(mint, sign), ratio(verify, check), ratio(remembered, check)];
    println!("a token of {} bytes; the median of {ROUNDS} rounds", token.len());
    for (name, nanos) in names.iter().zip(samples.map(median)) {
        println!("{name:>22} {:>9.2} µs", nanos / 1000.0);
    }
    let [mint, verify, remembered] = ratios;
    println!("mint / bare signature        {mint:.2} (bar 1.5)");
    println!("verify / bare check          {verify:.2} (bar 1.2)");
    println!("remembered / bare check      {remembered:.4} (bar 0.05)");
}
