//! Building time, and bytes that stay allocated.
//!
//! A counting allocator would cost the engines that allocate most while they are timed, so this is measured by a program of its
//! own, `footprint`, which says how many bytes live.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use countersign_evaluator::snapshot::{AccountEntry, Name, PolicyEntry, Snapshot, UserEntry};
use countersign_policy::parse::parse;

use crate::engines::{CANDIDATES, hash, ours};
use crate::report::{count, table, three_digits};
use crate::rng::SplitMix64;
use crate::workload::{Shape, Workload};

/// Bytes that are allocated now.
pub type Live = fn() -> usize;

/// One row an engine: N statements, without requests.
pub fn engines(n: usize, only: &str, live: Live) -> String {
    let mut rows = Vec::new();
    for candidate in CANDIDATES {
        let from_text = candidate.name.contains("building");
        if from_text || candidate.name == hash::NAME || !candidate.name.contains(only) {
            continue;
        }
        let n = if candidate.takes(Shape::Sharded, n) { n } else { n.min(1_000) };
        let mut workload = Workload::new(Shape::Sharded, n);
        workload.queries.clear();
        let text: usize = workload.policies.iter().map(|policy| ours::document(policy).len()).sum();
        let (before, start) = (live(), Instant::now());
        let engine = (candidate.build)(&workload);
        let (bytes, elapsed) = (live().saturating_sub(before), start.elapsed());
        drop(engine);
        rows.push(vec![
            candidate.name.to_owned(),
            count(n),
            three_digits(elapsed.as_secs_f64() * 1e6 / n as f64),
            count(bytes / n),
            count(text / n),
        ]);
    }
    let head =
        ["engine, sharded", "N", "building, us a statement", "bytes a statement", "of IAM's JSON"];
    table(&head.map(str::to_owned), &rows)
}

const LOOKUPS: usize = 100_000;

/// Many principals that share few managed policies, ten each: bytes of the whole snapshot.
pub fn shared(principals: usize, policies: usize, live: Live) -> String {
    let before = live();
    let mut snapshot = Snapshot::new();
    let account = "111122223333".parse().expect("an account");
    snapshot.put_account(AccountEntry::new(account));
    let workload = Workload::new(Shape::Wide, policies);
    let arns: Vec<Arc<str>> = (0..policies)
        .map(|i| Arc::from(format!("arn:aws:iam::111122223333:policy/p{i}")))
        .collect();
    for (arn, policy) in arns.iter().zip(&workload.policies) {
        let document = Arc::new(parse(&ours::document(policy)).expect("a sound document"));
        let version_id = Arc::from("v1");
        snapshot.put_policy(PolicyEntry { arn: Arc::clone(arn), version_id, document });
    }
    let mut rng = SplitMix64::new(11);
    let start = Instant::now();
    for i in 0..principals {
        snapshot.put_user(UserEntry {
            account,
            partition: Name::from("aws"),
            path: Name::from("/"),
            name: format!("user-{i}").into(),
            unique_id: format!("AIDA{i:017}").into(),
            inline: Box::default(),
            // As they are read from records: each a text of its own.
            attached: (0..10).map(|_| Name::from(&**rng.pick(&arns))).collect(),
            boundary: None,
            tags: BTreeMap::new(),
            groups: Box::default(),
        });
    }
    let elapsed = start.elapsed();
    drop(workload);
    let bytes = live().saturating_sub(before);
    let names: Vec<String> =
        (0..LOOKUPS).map(|_| format!("user-{}", rng.below(principals))).collect();
    let start = Instant::now();
    let found = names.iter().filter(|name| snapshot.user(account, name).is_some()).count();
    let lookup = start.elapsed();
    assert_eq!(found, LOOKUPS);
    let row = vec![
        format!("{} users, ten each of {} managed policies", count(principals), count(policies)),
        three_digits(bytes as f64 / 1e6),
        count(bytes / principals),
        three_digits(elapsed.as_secs_f64()),
        three_digits(lookup.as_secs_f64() * 1e6 / LOOKUPS as f64),
    ];
    let head = ["snapshot", "MB", "bytes a user", "building, s", "us a lookup by name"];
    table(&head.map(str::to_owned), &[row])
}
