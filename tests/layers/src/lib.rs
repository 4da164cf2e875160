//! The invariants of the layout, as functions over a small graph of packages: `tests/workspace.rs` makes that graph from what cargo
//! says of this workspace, and the unit tests beside each function make graphs that break it.
//!
//! It knows the table of DESIGN.md section 2 (`table`), and nothing of how cargo resolves. A function returns what is wrong, one
//! sentence each; nothing found is an empty list.

pub mod graph;
pub mod layers;
pub mod manifests;
pub mod purity;
pub mod table;
pub mod versions;
