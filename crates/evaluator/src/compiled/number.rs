//! Exact decimal numbers, read in place. The rules are [`countersign_policy::scalar::Number`]'s.

use std::cmp::Ordering;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Number<'a> {
    negative: bool,
    /// Without leading zeros.
    whole: &'a str,
    /// Without trailing zeros.
    fraction: &'a str,
}

impl<'a> Number<'a> {
    /// `-?digits[.digits]`; no exponents.
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        let digits = text.strip_prefix('-');
        let negative = digits.is_some();
        let digits = digits.unwrap_or(text);
        let (whole, fraction) = match digits.split_once('.') {
            Some((_, "")) => return None,
            Some(parts) => parts,
            None => (digits, ""),
        };
        let is_number = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
        if whole.is_empty() || !is_number(whole) || !is_number(fraction) {
            return None;
        }
        let whole = whole.trim_start_matches('0');
        let fraction = fraction.trim_end_matches('0');
        let is_zero = whole.is_empty() && fraction.is_empty();
        Some(Self { negative: negative && !is_zero, whole, fraction })
    }

    pub(crate) fn cmp(&self, other: &Number<'_>) -> Ordering {
        let magnitude = self
            .whole
            .len()
            .cmp(&other.whole.len())
            .then_with(|| self.whole.cmp(other.whole))
            // Digit by digit from the point, a shorter one ends in zeros.
            .then_with(|| self.fraction.cmp(other.fraction));
        match (self.negative, other.negative) {
            (false, false) => magnitude,
            (true, true) => magnitude.reverse(),
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
        }
    }
}

#[cfg(test)]
mod tests {
    use countersign_policy::scalar;

    use super::*;

    #[test]
    fn numbers_are_the_models_own() {
        let texts = [
            "0",
            "-0",
            "0.0",
            "1",
            "01",
            "1.0",
            "1.",
            ".5",
            "0.5",
            "-0.5",
            "10",
            "9",
            "-9",
            "-10",
            "",
            "-",
            "--1",
            "+1",
            "1e3",
            "１",
            "0.49",
            "0.05",
            "1.2.3",
            "9007199254740993",
            "9007199254740992",
            "00",
            "-00.10",
            "-0.1",
        ];
        for a in texts {
            for b in texts {
                let expected = scalar::Number::parse(a)
                    .and_then(|a| scalar::Number::parse(b).map(|b| a.cmp(&b)));
                let found = Number::parse(a).and_then(|a| Number::parse(b).map(|b| a.cmp(&b)));
                assert_eq!(found, expected, "{a} {b}");
            }
        }
    }
}
