//! Packages, and what each depends on.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// The normal dependencies of a set of packages: what runs in production. Build scripts and tests may depend on anything.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    edges: BTreeMap<String, BTreeSet<String>>,
}

impl Graph {
    /// A package; it is in the graph even if it depends on nothing.
    pub fn package(&mut self, name: &str) {
        self.edges.entry(name.to_owned()).or_default();
    }

    /// `from` depends on `to`.
    pub fn depends(&mut self, from: &str, to: &str) {
        self.package(to);
        self.edges.entry(from.to_owned()).or_default().insert(to.to_owned());
    }

    /// Whether `name` is in the graph.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.edges.contains_key(name)
    }

    /// What `name` depends on by itself.
    pub fn direct(&self, name: &str) -> impl Iterator<Item = &str> {
        self.edges.get(name).into_iter().flatten().map(String::as_str)
    }

    /// The shortest way from `from` to `to`, both included, if there is one.
    #[must_use]
    pub fn path(&self, from: &str, to: &str) -> Option<Vec<String>> {
        let mut came_from: BTreeMap<&str, &str> = BTreeMap::new();
        let mut waiting = VecDeque::from([from]);
        while let Some(here) = waiting.pop_front() {
            if here == to {
                return Some(walk_back(&came_from, from, to));
            }
            for next in self.direct(here) {
                if next != from && !came_from.contains_key(next) {
                    came_from.insert(next, here);
                    waiting.push_back(next);
                }
            }
        }
        None
    }
}

fn walk_back(came_from: &BTreeMap<&str, &str>, from: &str, to: &str) -> Vec<String> {
    let mut path = vec![to.to_owned()];
    let mut here = to;
    while here != from {
        match came_from.get(here) {
            Some(before) => here = before,
            None => break,
        }
        path.push(here.to_owned());
    }
    path.reverse();
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_found_through_others_and_round_cycles() {
        let mut graph = Graph::default();
        for (from, to) in [
            ("a", "b"),
            ("b", "c"),
            ("c", "a"),
            ("a", "long"),
            ("long", "way"),
            ("way", "d"),
            ("c", "d"),
        ] {
            graph.depends(from, to);
        }
        let check = |from: &str, to: &str, expected: Option<&[&str]>| {
            let found = graph.path(from, to);
            let expected =
                expected.map(|path| path.iter().map(|name| (*name).to_owned()).collect());
            assert_eq!(found, expected, "{from} to {to}");
        };
        check("a", "b", Some(&["a", "b"]));
        check("a", "d", Some(&["a", "b", "c", "d"]));
        check("b", "long", Some(&["b", "c", "a", "long"]));
        check("d", "a", None);
        check("a", "elsewhere", None);
        check("elsewhere", "a", None);
    }
}
