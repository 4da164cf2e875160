//! Who may import whom, within the workspace.

use crate::graph::Graph;

/// What is wrong with the imports of `members`, measured against `may_import` (see [`crate::table::MAY_IMPORT`]).
#[must_use]
pub fn wrong_imports(
    graph: &Graph,
    members: &[&str],
    may_import: &[(&str, &[&str])],
) -> Vec<String> {
    let mut wrong = Vec::new();
    for member in members {
        let Some((_, allowed)) = may_import.iter().find(|(name, _)| name == member) else {
            wrong.push(format!("`{member}` is not in the table of tests/layers/src/table.rs: say there what it may import"));
            continue;
        };
        let imports = graph.direct(member).filter(|import| members.contains(import));
        let unlisted = imports.filter(|import| !allowed.contains(import));
        wrong.extend(unlisted.map(|import| format!("`{member}` may not import `{import}`")));
    }
    let gone = may_import.iter().filter(|(name, _)| !members.contains(name));
    wrong.extend(
        gone.map(|(name, _)| format!("`{name}` is in the table, and not in the workspace")),
    );
    wrong
}

/// Which of `members` import one of `services` without being one of `all_in_one`: services talk over the wire.
#[must_use]
pub fn services_imported(
    graph: &Graph,
    members: &[&str],
    services: &[&str],
    all_in_one: &[&str],
) -> Vec<String> {
    let mut wrong = Vec::new();
    for member in members.iter().filter(|member| !all_in_one.contains(member)) {
        let imports = graph.direct(member).filter(|import| services.contains(import));
        wrong.extend(imports.map(|service| format!("`{member}` imports the service `{service}`")));
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMBERS: &[&str] = &["policy", "decision", "gateway", "countersign"];
    const TABLE: &[(&str, &[&str])] = &[
        ("policy", &[]),
        ("decision", &["policy"]),
        ("gateway", &["policy"]),
        ("countersign", &["decision", "gateway"]),
    ];

    fn graph(edges: &[(&str, &str)]) -> Graph {
        let mut graph = Graph::default();
        MEMBERS.iter().for_each(|member| graph.package(member));
        edges.iter().for_each(|(from, to)| graph.depends(from, to));
        graph
    }

    #[test]
    fn only_listed_imports_are_allowed() {
        let check = |edges: &[(&str, &str)], expected: &[&str]| {
            assert_eq!(wrong_imports(&graph(edges), MEMBERS, TABLE), expected, "{edges:?}");
        };
        check(&[("decision", "policy"), ("countersign", "gateway"), ("policy", "serde")], &[]);
        check(&[("policy", "decision")], &["`policy` may not import `decision`"]);
        check(&[("decision", "gateway")], &["`decision` may not import `gateway`"]);
        // Not in its row, though it may be reached through a service.
        check(&[("countersign", "policy")], &["`countersign` may not import `policy`"]);
    }

    #[test]
    fn the_table_and_the_workspace_name_the_same_packages() {
        let check = |members: &[&str], expected: &str| {
            let wrong = wrong_imports(&graph(&[]), members, TABLE);
            assert!(wrong.iter().any(|line| line.contains(expected)), "{wrong:?}");
        };
        check(
            &["policy", "decision", "gateway", "countersign", "new"],
            "`new` is not in the table",
        );
        check(
            &["policy", "decision", "gateway"],
            "`countersign` is in the table, and not in the workspace",
        );
    }

    #[test]
    fn no_service_imports_another() {
        let check = |edges: &[(&str, &str)], expected: &[&str]| {
            let services = ["decision", "gateway"];
            let wrong = services_imported(&graph(edges), MEMBERS, &services, &["countersign"]);
            assert_eq!(wrong, expected, "{edges:?}");
        };
        check(
            &[("countersign", "gateway"), ("countersign", "decision"), ("gateway", "policy")],
            &[],
        );
        check(&[("gateway", "decision")], &["`gateway` imports the service `decision`"]);
        check(&[("policy", "gateway")], &["`policy` imports the service `gateway`"]);
    }
}
