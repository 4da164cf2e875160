//! Figures as tables for people.

use std::{fmt::Write, time::Duration};

use crate::measure::Figures;

/// A table in Markdown: names to the left, numbers to the right.
#[must_use]
pub fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut text = format!("| {} |\n| ---", head.join(" | "));
    for _ in head.iter().skip(1) {
        text.push_str(" | ---:");
    }
    text.push_str(" |\n");
    for row in rows {
        let _ = writeln!(text, "| {} |", row.join(" | "));
    }
    text
}

/// Microseconds.
#[must_use]
pub fn microseconds(time: Duration) -> String {
    let number = time.as_secs_f64() * 1e6;
    if number < 100.0 { format!("{number:.1}") } else { format!("{number:.0}") }
}

/// `12,345`
#[must_use]
pub fn count(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `123 MB`
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "to the megabyte")]
pub fn megabytes(bytes: u64) -> String {
    format!("{} MB", count(bytes as f64 / 1e6))
}

/// By each figure for itself.
#[must_use]
pub fn median(rounds: &[Figures]) -> Option<Figures> {
    let of = |value: fn(&Figures) -> f64| {
        let mut values: Vec<f64> = rounds.iter().map(value).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied()
    };
    let time = |value| of(value).map(Duration::from_secs_f64);
    Some(Figures {
        rate: of(|round| round.rate)?,
        cpu: time(|round| round.cpu.as_secs_f64())?,
        busy: of(|round| round.busy)?,
        p50: time(|round| round.p50.as_secs_f64())?,
        p99: time(|round| round.p99.as_secs_f64())?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        fn check(number: f64, expected: &str) {
            assert_eq!(count(number), expected);
        }
        check(0.0, "0");
        check(999.4, "999");
        check(1000.0, "1,000");
        check(1_234_567.0, "1,234,567");
        assert_eq!(microseconds(Duration::from_nanos(1_234)), "1.2");
        assert_eq!(microseconds(Duration::from_micros(1_234)), "1234");
        assert_eq!(megabytes(1_234_567_890), "1,235 MB");
    }
}
