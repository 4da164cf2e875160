//! What holds for any input whatever: reading never panics, and no token has a neighbour that is accepted.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::prelude::*;

use crate::samples::{self, NOW, header, keyset, signed};
use crate::{SigningKey, mint, verify};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let key = SigningKey::generate().unwrap();
        let text = String::from_utf8_lossy(&bytes);
        prop_assert!(verify(&text, &keyset(&key), &samples::expected(), NOW).is_err());
    }

    #[test]
    fn no_three_parts_make_it_panic(head in any::<Vec<u8>>(), payload in any::<Vec<u8>>(), signature in any::<Vec<u8>>(), now in any::<i64>()) {
        let key = SigningKey::generate().unwrap();
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        for first in [&head[..], header(&key).as_bytes()] {
            let text = format!("{}.{}.{}", encode(first), encode(&payload), encode(&signature));
            prop_assert!(verify(&text, &keyset(&key), &samples::expected(), now).is_err());
        }
    }

    #[test]
    fn a_signed_text_of_any_kind_does_not_make_it_panic(payload in ".{0,200}", now in any::<i64>()) {
        let key = SigningKey::generate().unwrap();
        let token = signed(&key, &header(&key), &payload);
        prop_assert!(verify(&token, &keyset(&key), &samples::expected(), now).is_err());
    }
}

#[test]
fn altering_any_byte_is_refused() {
    let key = SigningKey::generate().unwrap();
    let token = mint(&samples::claims(), &key).unwrap();
    let keys = keyset(&key);
    for position in 0..token.len() {
        for other in [b'A', b'Q', b'x', b'9', b'-', b'_', b'.', b'=', b'+', b' ', 0, 0x7f] {
            let mut bytes = token.clone().into_bytes();
            if bytes[position] == other {
                continue;
            }
            bytes[position] = other;
            let altered = String::from_utf8(bytes).unwrap();
            assert!(
                verify(&altered, &keys, &samples::expected(), NOW).is_err(),
                "{position}: {altered}"
            );
        }
        let without = format!("{}{}", &token[..position], &token[position + 1..]);
        assert!(verify(&without, &keys, &samples::expected(), NOW).is_err(), "{position} removed");
        let doubled = format!("{}{}", &token[..=position], &token[position..]);
        assert!(verify(&doubled, &keys, &samples::expected(), NOW).is_err(), "{position} doubled");
    }
}
