//! What somebody meant to write: the known word that is nearest to an unknown one.

/// The candidate within three edits (case does not count), and fewer than half the word; the nearest one wins.
pub(crate) fn nearest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    if word.is_empty() || word.len() > 64 {
        return None;
    }
    let word = word.to_ascii_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (distance(&word, &candidate.to_ascii_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance <= 3 && distance * 2 < candidate.len().max(2))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Levenshtein's distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut left = i + 1;
        let mut next = vec![left];
        for ((y, diagonal), above) in b.iter().zip(&row).zip(row.iter().skip(1)) {
            left = (diagonal + usize::from(x != *y)).min(above + 1).min(left + 1);
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word() {
        fn check(word: &str, expected: Option<&str>) {
            assert_eq!(nearest(word, ["Action", "NotAction", "Effect", "Sid"]), expected, "{word}");
        }
        check("Actions", Some("Action"));
        check("action", Some("Action"));
        check("NotActoin", Some("NotAction"));
        check("Efect", Some("Effect"));
        check("Sit", Some("Sid"));
        check("Zebra", None);
        check("", None);
    }
}
