//! This workspace, held against the invariants of crates/README.md.
#![allow(clippy::expect_used, clippy::panic, reason = "this is a test")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand};
use countersign_layers::{graph::Graph, layers, manifests, purity, table, versions};

/// The root of the workspace.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .expect("the root is two folders up")
}

/// What cargo says, of the platform that the tests run on: packages of others need not be on this machine.
fn metadata() -> Metadata {
    let rustc = Command::new("rustc").arg("-vV").output().expect("rustc runs");
    let words = String::from_utf8(rustc.stdout).expect("rustc writes UTF-8");
    let host =
        words.lines().find_map(|line| line.strip_prefix("host: ")).expect("rustc names its host");
    let options = ["--offline", "--locked", "--filter-platform", host];
    MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .other_options(options.map(str::to_owned))
        .exec()
        .unwrap_or_else(|error| panic!("cargo metadata: {error}"))
}

/// The name of a package in the table: its folder's.
fn short(name: &str) -> &str {
    name.strip_prefix("countersign-").unwrap_or(name)
}

fn member_names(metadata: &Metadata) -> Vec<String> {
    metadata.workspace_packages().iter().map(|package| short(&package.name).to_owned()).collect()
}

/// Normal dependencies alone, by name. Two versions of one package are one node: then more is reachable, never less.
fn graph(metadata: &Metadata) -> Graph {
    let name = |id| short(&metadata[id].name).to_owned();
    let mut graph = Graph::default();
    for node in &metadata.resolve.as_ref().expect("cargo resolves").nodes {
        graph.package(&name(&node.id));
        for dependency in &node.deps {
            if dependency.dep_kinds.iter().any(|kind| kind.kind == DependencyKind::Normal) {
                graph.depends(&name(&node.id), &name(&dependency.pkg));
            }
        }
    }
    graph
}

#[track_caller]
fn nothing(wrong: &[String]) {
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
fn pure_packages_reach_no_runtime_network_or_log() {
    nothing(&purity::impurities(&graph(&metadata()), table::PURE, table::IMPURE));
}

#[test]
fn the_graph_is_not_empty() {
    // Without this, a graph read wrongly would pass every test here.
    let graph = graph(&metadata());
    for (from, to) in [
        ("countersign", "tokio"),
        ("gateway", "token"),
        ("evaluator", "policy"),
        ("sigv4", "aws-lc-rs"),
    ] {
        assert!(
            graph.path(from, to).is_some(),
            "`{from}` depends on `{to}`, and the graph does not say so"
        );
    }
}

#[test]
fn packages_import_what_the_table_allows() {
    let metadata = metadata();
    let members = member_names(&metadata);
    let members: Vec<&str> = members.iter().map(String::as_str).collect();
    nothing(&layers::wrong_imports(&graph(&metadata), &members, table::MAY_IMPORT));
}

#[test]
fn no_service_imports_another() {
    let metadata = metadata();
    let members = member_names(&metadata);
    let members: Vec<&str> = members.iter().map(String::as_str).collect();
    nothing(&layers::services_imported(
        &graph(&metadata),
        &members,
        table::SERVICES,
        table::ALL_IN_ONE,
    ));
}

#[test]
fn the_binary_holds_one_version_of_each_heavy_package() {
    // `cargo tree` resolves features as the build does; in `cargo metadata` a weak feature (`ring?/alloc`) makes an edge.
    let options = [
        "tree",
        "--offline",
        "--locked",
        "-p",
        "countersign",
        "-e",
        "normal",
        "--prefix",
        "none",
        "--format",
        "{p}",
    ];
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output =
        Command::new(cargo).args(options).current_dir(root()).output().expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let versions = versions::parse_tree(&String::from_utf8_lossy(&output.stdout));
    nothing(&versions::not_single(&versions, table::ONE_VERSION, table::ABSENT));
}

#[test]
fn every_package_opts_into_the_workspace_lints() {
    let metadata = metadata();
    let without = metadata.workspace_packages().into_iter().filter(|package| {
        let manifest =
            fs::read_to_string(&package.manifest_path).expect("the manifest can be read");
        !manifests::opts_into_workspace_lints(&manifest)
    });
    let wrong: Vec<String> = without
        .map(|package| format!("{} has no `[lints] workspace = true`", package.manifest_path))
        .collect();
    nothing(&wrong);
}

#[test]
fn clippy_bans_the_clock_in_the_pure_packages() {
    let mut wrong = Vec::new();
    for name in table::PURE {
        let folder = root().join("crates").join(name);
        let clippy_toml = fs::read_to_string(folder.join("clippy.toml")).unwrap_or_default();
        wrong.extend(purity::clock_not_banned(name, &clippy_toml));
        let mut sources = Vec::new();
        rust_files(&folder.join("src"), &mut sources);
        assert!(!sources.is_empty(), "{} holds no source", folder.display());
        let lifting = sources.iter().filter(|path| {
            purity::lifts_the_ban(&fs::read_to_string(path).expect("the source can be read"))
        });
        wrong.extend(lifting.map(|path| format!("{} lifts the ban of the clock", path.display())));
    }
    nothing(&wrong);
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("the folder can be read") {
        let path = entry.expect("the folder can be read").path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}
