//! What this replica holds, and how much memory that takes.

use std::fs;

use countersign_proto::decision::v1::GetStatusResponse;
use countersign_replica::View;

use crate::{
    authn::Caller,
    check,
    convert::duration,
    decider::{self, Decider},
    error::Refusal,
};

/// Answers GetStatus.
pub fn status(decider: &Decider, caller: &Caller) -> Result<GetStatusResponse, Refusal> {
    // A service may ask before the first snapshot; a session cannot be judged before it.
    let view = decider.replica().now().ok();
    if let Caller::Session(_) = caller {
        let view = decider.replica().now()?;
        check::require(
            view.world(),
            caller,
            "countersign:GetStatus",
            &check::anything(),
            decider::now(),
        )?;
    }
    let age = duration(decider.replica().age());
    let resident_memory_bytes = resident_memory_bytes();
    Ok(match view {
        Some(view) => {
            GetStatusResponse { snapshot_age: Some(age), resident_memory_bytes, ..counts(&view) }
        }
        None => GetStatusResponse {
            snapshot_age: Some(age),
            resident_memory_bytes,
            ..Default::default()
        },
    })
}

fn counts(view: &View) -> GetStatusResponse {
    let counts = view.world().snapshot().counts();
    let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    GetStatusResponse {
        revision: view.revision().to_string(),
        account_count: number(counts.accounts),
        user_count: number(counts.users),
        role_count: number(counts.roles),
        policy_count: number(counts.policies),
        signing_key_count: number(view.world().signing_keys().count()),
        ..Default::default()
    }
}

/// `VmRSS` of Linux's `/proc/self/status`; 0 elsewhere.
fn resident_memory_bytes() -> i64 {
    let text = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kibibytes = text
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.trim().strip_suffix("kB"))
        .and_then(|number| number.trim().parse::<i64>().ok());
    kibibytes.unwrap_or(0).saturating_mul(1024)
}
