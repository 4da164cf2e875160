//! Percent and hexadecimal text, in SigV4's one spelling each. Decoding is strict: what it cannot read exactly, it refuses.

/// SigV4's UriEncode: every byte but `A-Z a-z 0-9 - . _ ~` becomes `%XX` in upper case.
pub fn percent_encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    push_encoded(&mut encoded, text.bytes());
    encoded
}

pub(crate) fn push_encoded(encoded: &mut String, bytes: impl Iterator<Item = u8>) {
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
}

/// Decodes `%XX` once. Refuses a broken escape, text that is not UTF-8, NUL, and raw bytes that two parsers may read
/// differently: `+`, `;`, `#`, white space, control and non-ASCII characters.
pub fn percent_decode(text: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let value = match byte {
            b'%' => hex_digit(bytes.next()?)? << 4 | hex_digit(bytes.next()?)?,
            b'+' | b';' | b'#' => return None,
            0x21..=0x7e => byte,
            _ => return None,
        };
        if value == 0 {
            return None;
        }
        decoded.push(value);
    }
    String::from_utf8(decoded).ok()
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads exactly 64 lower-case hexadecimal digits.
pub fn parse_hex_32(text: &str) -> Option<[u8; 32]> {
    let mut digits = text.bytes();
    let mut parsed = [0; 32];
    for byte in &mut parsed {
        *byte = lower_hex_digit(digits.next()?)? << 4 | lower_hex_digit(digits.next()?)?;
    }
    digits.next().is_none().then_some(parsed)
}

fn hex_digit(byte: u8) -> Option<u8> {
    match byte {
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => lower_hex_digit(byte),
    }
}

fn lower_hex_digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, expected: Option<&str>) {
        assert_eq!(percent_decode(text).as_deref(), expected, "{text:?}");
    }

    #[test]
    fn decodes_strictly() {
        check("a%20b", Some("a b"));
        check("%E1%88%B4", Some("ሴ"));
        check("%e1%88%b4", Some("ሴ"));
        check("a:b/c", Some("a:b/c"));
        check("%2", None);
        check("%", None);
        check("%zz", None);
        check("%00", None);
        check("%C0%AF", None); // overlong UTF-8
        check("%ff", None);
        check("a+b", None);
        check("a;b", None);
        check("a b", None);
        check("ሴ", None);
        check("a\r\n", None);
    }

    proptest! {
        #[test]
        fn decoding_undoes_encoding(text in "[^\0]*") {
            prop_assert_eq!(percent_decode(&percent_encode(&text)), Some(text));
        }

        #[test]
        fn hex_has_one_spelling(bytes: [u8; 32]) {
            prop_assert_eq!(parse_hex_32(&hex(&bytes)), Some(bytes));
            let upper = hex(&bytes).to_uppercase();
            prop_assert_eq!(parse_hex_32(&upper).is_some(), upper == hex(&bytes));
        }
    }
}
