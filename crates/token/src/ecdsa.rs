//! P-256 signatures in JOSE's form (RFC 7518 section 3.4: r, then s, 32 bytes each, big-endian), and their two spellings.
//!
//! (r, s) and (r, n − s) verify alike. Countersign mints the one with the smaller s and refuses the other, so that a token
//! has a single spelling.

/// The length of a signature in bytes.
pub(crate) const SIGNATURE_BYTES: usize = 64;

/// The order n of the P-256 group (FIPS 186-4, D.1.2.3).
const ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xbc, 0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];

/// (n − 1) / 2: the largest s that is low.
const HALF_ORDER: [u8; 32] = [
    0x7f, 0xff, 0xff, 0xff, 0x80, 0x00, 0x00, 0x00, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xde, 0x73, 0x7d, 0x56, 0xd3, 0x8b, 0xcf, 0x42, 0x79, 0xdc, 0xe5, 0x61, 0x7e, 0x31, 0x92, 0xa8,
];

/// Whether s is at most (n − 1) / 2. False for anything that is not 64 bytes.
pub(crate) fn is_low_s(signature: &[u8]) -> bool {
    signature.len() == SIGNATURE_BYTES
        && signature.last_chunk::<32>().is_some_and(|s| *s <= HALF_ORDER)
}

/// The signature's low-s spelling. None if it is not 64 bytes.
pub(crate) fn to_low_s(signature: &[u8]) -> Option<[u8; SIGNATURE_BYTES]> {
    let mut out: [u8; SIGNATURE_BYTES] = signature.try_into().ok()?;
    if !is_low_s(&out) {
        negate_s(&mut out);
    }
    Some(out)
}

/// Replaces s with n − s.
pub(crate) fn negate_s(signature: &mut [u8; SIGNATURE_BYTES]) {
    let mut borrow = 0;
    for (digit, order) in signature.iter_mut().rev().zip(ORDER.iter().rev()) {
        let difference = i16::from(*order) - i16::from(*digit) - borrow;
        borrow = i16::from(difference < 0);
        // `rem_euclid(256)` lies in 0..=255.
        *digit = difference.rem_euclid(256) as u8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signature(s: [u8; 32]) -> [u8; 64] {
        let mut out = [7; 64];
        out[32..].copy_from_slice(&s);
        out
    }

    fn small(value: u8) -> [u8; 32] {
        let mut s = [0; 32];
        s[31] = value;
        s
    }

    #[test]
    fn the_boundary_between_low_and_high() {
        let mut above = HALF_ORDER;
        above[31] += 1;
        for (s, low) in [(small(1), true), (HALF_ORDER, true), (above, false), (ORDER, false)] {
            assert_eq!(is_low_s(&signature(s)), low, "{s:x?}");
        }
        // n − (n − 1) / 2 = (n + 1) / 2.
        assert_eq!(to_low_s(&signature(above)), Some(signature(HALF_ORDER)));
        assert_eq!(to_low_s(&signature(HALF_ORDER)), Some(signature(HALF_ORDER)));
        assert!(!is_low_s(&[0; 63]) && !is_low_s(&[0; 65]) && !is_low_s(&[]));
        assert_eq!(to_low_s(&[0; 63]), None);
    }

    #[test]
    fn subtraction_borrows() {
        let mut top = ORDER;
        top[31] -= 1;
        assert_eq!(to_low_s(&signature(top)), Some(signature(small(1))));
        let mut twice = signature(small(0xff));
        negate_s(&mut twice);
        assert_eq!(twice[..32], [7; 32], "r is left alone");
        negate_s(&mut twice);
        assert_eq!(twice, signature(small(0xff)));
    }
}
