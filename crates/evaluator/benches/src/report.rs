//! Figures as Markdown.

use crate::timing::Figure;

/// A table's text: the first column is left, the others right.
pub fn table(head: &[String], rows: &[Vec<String>]) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let mut rule = vec!["---".to_owned()];
    rule.resize(head.len(), "---:".to_owned());
    let mut text = line(head) + &line(&rule);
    for row in rows {
        text += &line(row);
    }
    text
}

/// `21.4 (20.9–22.8)`, in microseconds.
pub fn microseconds(figure: Figure) -> String {
    let of = |ns: f64| three_digits(ns / 1_000.0);
    format!("{} ({}–{})", of(figure.median), of(figure.min), of(figure.max))
}

/// Three figures that count.
pub fn three_digits(value: f64) -> String {
    let places = match value.abs() {
        v if v >= 100.0 => 0,
        v if v >= 10.0 => 1,
        v if v >= 1.0 => 2,
        _ => 3,
    };
    thousands(&format!("{value:.places$}"))
}

fn thousands(text: &str) -> String {
    let (whole, rest) = match text.split_once('.') {
        Some((whole, rest)) => (whole, format!(".{rest}")),
        None => (text, String::new()),
    };
    let mut grouped = String::new();
    for (i, c) in whole.chars().enumerate() {
        if i > 0 && (whole.len() - i) % 3 == 0 && c.is_ascii_digit() {
            grouped.push(',');
        }
        grouped.push(c);
    }
    grouped + &rest
}

pub fn count(n: usize) -> String {
    thousands(&n.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        for (value, expected) in [
            (0.0804, "0.080"),
            (1.119, "1.12"),
            (45.71, "45.7"),
            (783.6, "784"),
            (366_000.0, "366,000"),
        ] {
            assert_eq!(three_digits(value), expected);
        }
        assert_eq!(count(1_000_000), "1,000,000");
    }
}
