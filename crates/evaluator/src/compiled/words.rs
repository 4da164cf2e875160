//! Texts, read eight bytes at a time: what a decision does with each text of a request, and so what it costs.
//!
//! Knows bytes alone. Whatever is found here by a trick is what the plain way finds, and the tests hold it to that.

use std::net::Ipv4Addr;

/// What stands between the first five colons, and after them. `None` if there are fewer.
pub(crate) fn six_parts(text: &str) -> Option<[&str; 6]> {
    let (eights, rest) = text.as_bytes().as_chunks::<8>();
    let in_eights = (0..).step_by(8).zip(eights).flat_map(|(start, eight)| {
        let mut colons = colons_of(u64::from_le_bytes(*eight));
        std::iter::from_fn(move || {
            let place = (colons != 0).then(|| start + colons.trailing_zeros() as usize / 8)?;
            colons &= colons - 1;
            Some(place)
        })
    });
    let in_rest = (eights.len() * 8..).zip(rest).filter(|(_, byte)| **byte == b':');
    let mut colons = in_eights.chain(in_rest.map(|(place, _)| place));
    let mut next = || colons.next();
    let [a, b, c, d, e] = [next()?, next()?, next()?, next()?, next()?];
    Some([
        text.get(..a)?,
        text.get(a + 1..b)?,
        text.get(b + 1..c)?,
        text.get(c + 1..d)?,
        text.get(d + 1..e)?,
        text.get(e + 1..)?,
    ])
}

/// The high bit of each of the eight bytes that is a colon; no other bit.
fn colons_of(eight: u64) -> u64 {
    let other = eight ^ (u64::from(b':') * EACH);
    // A byte's low bits carry into its own high bit unless they are all zero.
    !(((other & !HIGH) + !HIGH) | other) & HIGH
}

/// Whether `text` is `lower`, whatever the case of its ASCII letters. `lower` has none that are capitals.
pub(crate) fn is_in_lower_case(text: &[u8], lower: &[u8]) -> bool {
    if text.len() != lower.len() {
        return false;
    }
    let (Some(last), Some(last_lower)) = (text.last_chunk::<8>(), lower.last_chunk::<8>()) else {
        return text.eq_ignore_ascii_case(lower);
    };
    // The last eight may overlap those before.
    let pairs = text.as_chunks::<8>().0.iter().zip(lower.as_chunks::<8>().0);
    pairs.chain([(last, last_lower)]).fold(true, |all, (text, lower)| {
        all & (eight_in_lower_case(u64::from_le_bytes(*text)) == u64::from_le_bytes(*lower))
    })
}

/// A bit for each of eight bytes: its lowest, and its highest.
const EACH: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x80 * EACH;

/// Eight bytes, their ASCII capitals in lower case; all others as they are.
fn eight_in_lower_case(eight: u64) -> u64 {
    let low = eight & !HIGH;
    // The high bit of each byte says: at least `A`, and more than `Z`. No sum carries into the next byte.
    let (from_a, past_z) = (low + (0x80 - 0x41) * EACH, low + (0x80 - 0x5B) * EACH);
    let is_capital = from_a & !past_z & !eight & HIGH;
    eight | is_capital >> 2
}

/// What the standard library reads too, at a third of the time. `None` for anything else than four numbers of a dotted quad.
pub(crate) fn dotted_quad(text: &str) -> Option<Ipv4Addr> {
    let mut octets = [0_u8; 4];
    let mut bytes = text.bytes();
    for (place, octet) in (0..).zip(&mut octets) {
        let mut number = u32::from(digit(bytes.next()?)?);
        let mut ended = None;
        for _ in 0..3 {
            let next = bytes.next();
            let Some(digit) = next.and_then(digit) else {
                ended = Some(next);
                break;
            };
            // A number does not begin with a zero, and has three digits.
            if number == 0 {
                return None;
            }
            number = number * 10 + u32::from(digit);
        }
        *octet = u8::try_from(number).ok()?;
        match (ended?, place) {
            (Some(b'.'), 0..3) | (None, 3) => {}
            (_, _) => return None,
        }
    }
    Some(Ipv4Addr::from(octets))
}

fn digit(byte: u8) -> Option<u8> {
    byte.is_ascii_digit().then_some(byte.wrapping_sub(b'0'))
}

// Of the golden ratio, and of two square roots: numbers without a pattern.
const MULTIPLIER: u64 = 0x9E37_79B9_7F4A_7C15;
const FIRST: u64 = 0x6A09_E667_F3BC_C908;
const SECOND: u64 = 0xBB67_AE85_84CA_A73B;

/// Equal texts have equal hashes; unequal ones may, and are compared wherever a hash is used.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    hash_of(bytes, 0)
}

/// Sees no case in ASCII letters.
pub(crate) fn key_hash(key: &[u8]) -> u16 {
    let [low, high, ..] = hash_of(key, 0x2020_2020_2020_2020).to_le_bytes();
    u16::from_le_bytes([low, high])
}

/// Of a value that a key has; the key is told by its hash.
pub(crate) fn value_hash(key: u16, value: &str) -> u64 {
    hash_of(value.as_bytes(), 0) ^ u64::from(key).wrapping_mul(MULTIPLIER)
}

fn hash_of(bytes: &[u8], fold: u64) -> u64 {
    // A multiplication for sixteen bytes, both halves of its product: most texts here are shorter.
    let mix = |state: u64, first: u64, second: u64| {
        let product = u128::from((first | fold) ^ state) * u128::from((second | fold) ^ SECOND);
        let [low, high] = [product, product >> 64].map(|half| half as u64);
        low ^ high
    };
    let state = (bytes.len() as u64).wrapping_mul(MULTIPLIER) ^ FIRST;
    // Two words may hold the same bytes: lengths differ or they are equal, so that nothing is lost.
    if let (Some(first), Some(last)) = (bytes.first_chunk::<8>(), bytes.last_chunk::<8>()) {
        let last = u64::from_le_bytes(*last);
        if bytes.len() <= 16 {
            return mix(state, u64::from_le_bytes(*first), last);
        }
        let state = bytes
            .as_chunks::<8>()
            .0
            .iter()
            .fold(state, |state, word| mix(state, u64::from_le_bytes(*word), MULTIPLIER));
        mix(state, last, MULTIPLIER)
    } else if let (Some(first), Some(last)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        let (first, last) = (u32::from_le_bytes(*first), u32::from_le_bytes(*last));
        mix(state, u64::from(first) | u64::from(last) << 32, 0)
    } else {
        mix(state, bytes.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)), 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn split(text: &str) -> Option<[&str; 6]> {
        text.splitn(6, ':').collect::<Vec<_>>().try_into().ok()
    }

    #[test]
    fn every_byte_has_the_lower_case_that_ascii_gives_it() {
        for byte in 0..=u8::MAX {
            // In each place, beside each extreme.
            for other in [0, b'A', b'Z', b'z', 0x7F, 0x80, 0xFF] {
                for place in 0..8 {
                    let mut eight = [other; 8];
                    eight[place] = byte;
                    let lower = eight_in_lower_case(u64::from_le_bytes(eight)).to_le_bytes();
                    assert_eq!(lower, eight.map(|byte| byte.to_ascii_lowercase()), "{eight:?}");
                }
            }
        }
    }

    #[test]
    fn quads_are_those_of_the_standard_library() {
        for text in [
            "0.0.0.0",
            "1.2.3.4",
            "255.255.255.255",
            "256.1.1.1",
            "1.2.3",
            "1.2.3.4.5",
            "01.2.3.4",
            "1.2.3.04",
            "00.0.0.0",
            "1..2.3",
            ".1.2.3.4",
            "1.2.3.4.",
            "1.2.3.4 ",
            " 1.2.3.4",
            "1.2.3.1000",
            "+1.2.3.4",
            "1.2.3.a",
            "",
            "1",
            "::1",
            "10.0.0.255\0",
            "1,2,3,4",
            "999.0.0.0",
            "1.2.3.300",
        ] {
            assert_eq!(dotted_quad(text), text.parse().ok(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn parts_are_those_of_a_plain_split(text in "[a:é/0-]{0,40}") {
            prop_assert_eq!(six_parts(&text), split(&text));
        }

        #[test]
        fn parts_of_bytes_near_a_colon(text in "[9:;\u{3a}\u{ba}\u{80}\u{0}]{0,40}") {
            prop_assert_eq!(six_parts(&text), split(&text));
        }

        #[test]
        fn case_is_ascii_alone(text in "[@A-Za-z\\[`{éK\u{212a}ſ:/]{0,30}", other in "[@a-z\\[`{é]{0,30}") {
            let lower = text.to_ascii_lowercase();
            prop_assert!(is_in_lower_case(text.as_bytes(), lower.as_bytes()));
            prop_assert_eq!(
                is_in_lower_case(text.as_bytes(), other.as_bytes()),
                text.eq_ignore_ascii_case(&other)
            );
        }

        #[test]
        fn one_byte_makes_another_text(text in "[@A-Z\\[`{a-z]{1,30}", place in 0_usize..30, byte in 0_u8..128) {
            let mut other = text.to_ascii_lowercase().into_bytes();
            let place = place % other.len();
            other[place] = byte.to_ascii_lowercase();
            prop_assert_eq!(
                is_in_lower_case(text.as_bytes(), &other),
                text.as_bytes().eq_ignore_ascii_case(&other)
            );
        }

        #[test]
        fn quads_of_any_digits(text in "[0-9.]{0,16}", octets: [u16; 4]) {
            prop_assert_eq!(dotted_quad(&text), text.parse().ok());
            let text = octets.map(|octet| (octet % 300).to_string()).join(".");
            prop_assert_eq!(dotted_quad(&text), text.parse().ok());
        }

        #[test]
        fn a_key_has_one_hash_whatever_its_case(text in "[A-Za-z:/-]{0,40}") {
            prop_assert_eq!(
                key_hash(text.to_ascii_uppercase().as_bytes()),
                key_hash(text.to_ascii_lowercase().as_bytes())
            );
        }
    }
}
