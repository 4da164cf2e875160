//! What the pure packages may not reach, and that clippy bans the clock in each.

use crate::graph::Graph;

/// The methods that a pure package's `clippy.toml` must ban.
const BANNED: &[&str] = &["std::time::SystemTime::now", "std::time::Instant::now"];

/// Which of `pure` reach one of `impure`, and by which way.
#[must_use]
pub fn impurities(graph: &Graph, pure: &[&str], impure: &[&str]) -> Vec<String> {
    let mut wrong = Vec::new();
    for name in pure {
        if !graph.contains(name) {
            wrong.push(format!("the pure package `{name}` is not in the workspace"));
        }
        let ways = impure.iter().filter_map(|target| graph.path(name, target));
        wrong.extend(ways.map(|way| format!("`{name}` is not pure: {}", way.join(" → "))));
    }
    wrong
}

/// What the text of the `clippy.toml` of `name` fails to ban. Clippy itself enforces what stands there.
#[must_use]
pub fn clock_not_banned(name: &str, clippy_toml: &str) -> Vec<String> {
    let lines: Vec<&str> = clippy_toml
        .lines()
        .map(str::trim)
        .skip_while(|line| !line.starts_with("disallowed-methods"))
        .collect();
    let bans = |method: &&&str| {
        !lines.iter().any(|line| !line.starts_with('#') && line.contains(&format!("\"{method}\"")))
    };
    BANNED
        .iter()
        .filter(bans)
        .map(|method| format!("crates/{name}/clippy.toml does not ban `{method}`"))
        .collect()
}

/// Whether the source text of a pure package lifts the ban.
#[must_use]
pub fn lifts_the_ban(source: &str) -> bool {
    source.contains("disallowed_methods")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pure_package_reaches_nothing_impure() {
        let check = |edges: &[(&str, &str)], expected: &[&str]| {
            let mut graph = Graph::default();
            graph.package("policy");
            edges.iter().for_each(|(from, to)| graph.depends(from, to));
            assert_eq!(impurities(&graph, &["policy"], &["tokio", "clap"]), expected, "{edges:?}");
        };
        check(&[], &[]);
        check(&[("policy", "time"), ("serve", "tokio")], &[]);
        check(&[("policy", "tokio")], &["`policy` is not pure: policy → tokio"]);
        check(
            &[("policy", "a"), ("a", "b"), ("b", "clap")],
            &["`policy` is not pure: policy → a → b → clap"],
        );
    }

    #[test]
    fn a_pure_package_must_be_there() {
        let wrong = impurities(&Graph::default(), &["policy"], &["tokio"]);
        assert_eq!(wrong, ["the pure package `policy` is not in the workspace"]);
    }

    #[test]
    fn a_ban_must_stand_in_the_list_and_not_in_a_comment() {
        let check = |text: &str, missing: usize| {
            assert_eq!(clock_not_banned("policy", text).len(), missing, "{text}");
        };
        let system = r#"{ path = "std::time::SystemTime::now" }"#;
        let instant = r#"{ path = "std::time::Instant::now" }"#;
        check(&format!("disallowed-methods = [\n{system},\n{instant},\n]"), 0);
        check(&format!("disallowed-methods = [{system}, {instant}]"), 0);
        check(&format!("disallowed-methods = [\n{system},\n]"), 1);
        check(&format!("disallowed-methods = [\n# {system},\n {instant},\n]"), 1);
        check(&format!("# {system}\n# {instant}\ndisallowed-methods = []"), 2);
        check("", 2);
    }

    #[test]
    fn an_exception_is_seen() {
        assert!(lifts_the_ban("#[expect(clippy::disallowed_methods, reason = \"just once\")]"));
        assert!(!lifts_the_ban("let now = arguments.now;"));
    }
}
