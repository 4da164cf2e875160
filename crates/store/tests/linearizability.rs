//! What 100 tasks see of the embedded engine, while they get in each other's way, is linearizable. (tests/etcd does it on a cluster.)
#![cfg(feature = "sled")]
#![allow(clippy::unwrap_used, reason = "this is a test")]

use std::sync::Arc;

use countersign_store::conformance::linearizability;
use countersign_store::{SledOptions, SledStore, Store};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn conflicting_writers_are_linearizable() {
    let folder = tempfile::TempDir::new().unwrap();
    let options = SledOptions { ballast_bytes: 0, ..SledOptions::default() };
    let store: Arc<dyn Store> = Arc::new(SledStore::open(folder.path(), options).unwrap());
    linearizability::conflicting_writers_are_linearizable(vec![store]).await;
}
