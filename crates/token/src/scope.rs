//! What is left of a scope when it is asked to be narrowed: `requested ∩ granted` (RFC 8693 section 2.2.1), as text.
//!
//! A scope is action patterns, separated by single spaces; `*` stands for any text, `?` for one character, and case does not count.
//! Declines to know what a scope allows: policies say that, and both of the two limit the session whatever is written here.

/// The patterns of `requested` that lie within `granted`, and those of `granted` that lie within `requested`, each once. Empty when
/// neither holds of any; two patterns that overlap without one lying within the other have nothing in common here, which is less.
pub fn intersection(requested: &str, granted: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let of_requested = requested.split(' ').filter(|asked| is_within_any(asked, granted));
    let of_granted = granted.split(' ').filter(|given| is_within_any(given, requested));
    for pattern in of_requested.chain(of_granted) {
        if !kept.iter().any(|one| one.eq_ignore_ascii_case(pattern)) {
            kept.push(pattern);
        }
    }
    kept.join(" ")
}

fn is_within_any(pattern: &str, scope: &str) -> bool {
    scope.split(' ').any(|outer| is_within(pattern, outer))
}

/// Whether all that `inner` matches is matched by `outer` too. True only if so; of some odd pairs that are so it says no.
fn is_within(inner: &str, outer: &str) -> bool {
    let (inner, outer) = (inner.as_bytes(), outer.as_bytes());
    let (mut at, mut of) = (0, 0);
    // Where the last `*` of `outer` stood, and how far `inner` had come: a `*` takes any text, wildcards of `inner` among it.
    let mut star: Option<(usize, usize)> = None;
    while let Some(byte) = inner.get(at) {
        let step = match outer.get(of) {
            Some(b'*') => {
                star = Some((of, at));
                of += 1;
                continue;
            }
            Some(b'?') => *byte != b'*',
            Some(wanted) => wanted.eq_ignore_ascii_case(byte),
            None => false,
        };
        if step {
            (at, of) = (at + 1, of + 1);
        } else if let Some((star_at, from)) = star {
            star = Some((star_at, from + 1));
            (at, of) = (from + 1, star_at + 1);
        } else {
            return false;
        }
    }
    outer.get(of..).is_some_and(|rest| rest.iter().all(|byte| *byte == b'*'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    // ATTACKS 72.
    #[test]
    fn what_is_left() {
        fn check(requested: &str, granted: &str, expected: &str) {
            assert_eq!(intersection(requested, granted), expected, "{requested} of {granted}");
        }
        check("s3:Get* s3:Put*", "s3:Get*", "s3:Get*");
        check("s3:GetObject s3:PutObject", "s3:Get*", "s3:GetObject");
        check("s3:*", "s3:Get* s3:List*", "s3:Get* s3:List*");
        check("s3:* orders:GetOrder", "s3:Get* orders:*", "orders:GetOrder s3:Get*");
        check("S3:getobject", "s3:GetObject", "S3:getobject");
        check("s3:Put*", "s3:Get*", "");
        check("s3:?et", "s3:Get s3:?et", "s3:?et s3:Get");
        check("s3:*", "s3:?et", "s3:?et");
        check("s3:?et", "s3:Get", "s3:Get");
        check("*", "s3:Get", "s3:Get");
        check("s3:Get", "*", "s3:Get");
        // They overlap, and neither lies within the other.
        check("s3:Get*", "s3:*Object", "");
        check("s3:G*t*t", "s3:G*t", "s3:G*t*t");
    }

    fn matches(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern.split_first(), text.split_first()) {
            (None, None) => true,
            (None, Some(_)) => false,
            (Some((b'*', rest)), None) => matches(rest, text),
            (Some((b'*', rest)), Some((_, after))) => {
                matches(rest, text) || matches(pattern, after)
            }
            (Some(_), None) => false,
            (Some((wanted, rest)), Some((byte, after))) => {
                (*wanted == b'?' || wanted == byte) && matches(rest, after)
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        // Never more than what came in, and never more than what was asked for.
        #[test]
        fn nothing_is_in_it_that_is_not_in_both(
            requested in "[ab*?]{1,5}( [ab*?]{1,5})?",
            granted in "[ab*?]{1,5}( [ab*?]{1,5})?",
            text in "[ab]{0,6}",
        ) {
            let allows = |scope: &str| {
                !scope.is_empty() && scope.split(' ').any(|one| matches(one.as_bytes(), text.as_bytes()))
            };
            if allows(&intersection(&requested, &granted)) {
                prop_assert!(allows(&requested) && allows(&granted));
            }
        }
    }
}
