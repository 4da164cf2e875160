//! Base64, recognized in place.

/// Whether the text is base64 in the one spelling that its bytes have (RFC 4648, section 4, padded, no stray bits): then equal
/// texts are equal bytes, and nothing need be decoded.
pub(crate) fn is_canonical(text: &str) -> bool {
    let bytes = text.as_bytes();
    let digits = bytes.strip_suffix(b"==").or(bytes.strip_suffix(b"=")).unwrap_or(bytes);
    // What the last digit has beyond whole bytes.
    let stray_bits = match bytes.len() - digits.len() {
        0 => 0,
        1 => 0b11,
        _ => 0b1111,
    };
    let last = digits.last().and_then(|digit| value(*digit)).unwrap_or_default();
    bytes.len().is_multiple_of(4)
        && (digits.is_empty() == bytes.is_empty())
        && digits.iter().all(|digit| value(*digit).is_some())
        && last & stray_bits == 0
}

fn value(digit: u8) -> Option<u8> {
    match digit {
        b'A'..=b'Z' => Some(digit - b'A'),
        b'a'..=b'z' => Some(digit - b'a' + 26),
        b'0'..=b'9' => Some(digit - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    #[test]
    fn it_knows_what_the_decoder_takes() {
        let digits = ["A", "B", "Q", "g", "/", "+", "=", "-", "é", " "];
        let mut texts = vec![String::new()];
        for length in 0..5 {
            let longest: Vec<String> =
                texts.iter().filter(|text| text.chars().count() == length).cloned().collect();
            for text in longest {
                texts.extend(digits.iter().map(|digit| format!("{text}{digit}")));
            }
        }
        texts.extend(
            ["QUJDRA==", "QUJDRB==", "QUJDRA=", "QUJD====", "====", "QUJDREU="].map(String::from),
        );
        for text in texts {
            assert_eq!(is_canonical(&text), STANDARD.decode(&text).is_ok(), "{text}");
        }
    }
}
