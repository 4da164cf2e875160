//! The demo's own story against a system of the harness: every step comes out as it should.

use std::time::Duration;

use countersign::demo::{Table, tell};
use countersign_harness::System;

#[tokio::test(flavor = "multi_thread")]
async fn the_five_use_cases() {
    let system = System::start().await;
    let mut out = Vec::new();
    let mut table = Table::new(&mut out, false);
    tell(&system.running, &mut table).await.unwrap();
    let summary = table.summary(Duration::ZERO);
    let text = String::from_utf8(out).unwrap();
    assert!(summary.good(), "{text}");
    assert!(summary.steps > 60, "{text}");
    system.shutdown().await;
}
