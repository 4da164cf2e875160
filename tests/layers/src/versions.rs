//! How many versions of a package a binary holds.

use std::collections::{BTreeMap, BTreeSet};

/// Package names, each with its versions.
pub type Versions = BTreeMap<String, BTreeSet<String>>;

/// Reads what `cargo tree --prefix none --format {p}` prints: `name vVERSION`, then perhaps more, one package a line.
#[must_use]
pub fn parse_tree(tree: &str) -> Versions {
    let mut versions = Versions::new();
    for line in tree.lines() {
        let mut words = line.split_whitespace();
        if let (Some(name), Some(version)) =
            (words.next(), words.next().and_then(|word| word.strip_prefix('v')))
        {
            versions.entry(name.to_owned()).or_default().insert(version.to_owned());
        }
    }
    versions
}

/// Which of `names` are not there exactly once, and which of `absent` are there.
#[must_use]
pub fn not_single(versions: &Versions, names: &[&str], absent: &[&str]) -> Vec<String> {
    let found =
        |name: &&str| versions.get(*name).into_iter().flatten().cloned().collect::<Vec<_>>();
    let not_one = names.iter().filter(|name| found(name).len() != 1);
    let not_one =
        not_one.map(|name| format!("there must be one version of `{name}`, not {:?}", found(name)));
    let there = absent.iter().filter(|name| !found(name).is_empty());
    let there = there.map(|name| format!("`{name}` must not be there: {:?}", found(name)));
    not_one.chain(there).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TREE: &str = "countersign v0.1.0 (/somewhere/services/countersign)\ntonic v0.14.9\nhyper v1.12.0\n\
                        thiserror-impl v2.0.20 (proc-macro)\ntonic v0.14.9 (*)\n";

    #[test]
    fn a_tree_is_read() {
        let versions = parse_tree(TREE);
        let names: Vec<&str> = versions.keys().map(String::as_str).collect();
        assert_eq!(names, ["countersign", "hyper", "thiserror-impl", "tonic"]);
        assert_eq!(versions["tonic"], BTreeSet::from(["0.14.9".to_owned()]));
    }

    #[test]
    fn a_second_version_is_seen_and_so_is_none() {
        let check = |more: &str, names: &[&str], absent: &[&str], expected: &[&str]| {
            let versions = parse_tree(&format!("{TREE}{more}"));
            assert_eq!(not_single(&versions, names, absent), expected, "{more}");
        };
        check("", &["tonic", "hyper"], &["ring"], &[]);
        check(
            "tonic v0.13.1\n",
            &["tonic"],
            &[],
            &[r#"there must be one version of `tonic`, not ["0.13.1", "0.14.9"]"#],
        );
        check("", &["rustls"], &[], &["there must be one version of `rustls`, not []"]);
        check(
            "ring v0.17.14\n",
            &["tonic"],
            &["ring"],
            &[r#"`ring` must not be there: ["0.17.14"]"#],
        );
    }
}
