//! What this replica holds, and how much memory that takes. How much there is of everybody's is for Countersign's own services alone:
//! to one tenant it would tell what the others do.

use std::{fs, time::SystemTime};

use countersign_proto::decision::v1::GetStatusResponse;
use countersign_replica::View;

use crate::{
    authn::{Call, Caller},
    check,
    convert::duration,
    decider::{self, Decider},
    error::Refusal,
};

/// Answers GetStatus.
pub fn status(decider: &Decider, call: &Call) -> Result<GetStatusResponse, Refusal> {
    let snapshot_age = Some(duration(decider.replica().age()));
    match call.caller {
        // Without a session nothing is allowed, and that is what is said.
        Caller::Session(_) | Caller::Anonymous => {
            let view = decider.replica().now()?;
            let action = "countersign:GetStatus";
            check::require(view.world(), call, action, &check::anything(), decider::now())?;
            let revision = view.revision().to_string();
            Ok(GetStatusResponse { revision, snapshot_age, ..Default::default() })
        }
        // A service may ask before the first snapshot; a session cannot be judged before it.
        Caller::Service(_) => {
            let replica = decider.replica();
            let on_disk = replica.on_disk();
            let (written, lost) = decider.log().counts();
            let count = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
            let age = on_disk.as_ref().and_then(|stamp| stamp.age(SystemTime::now()));
            Ok(GetStatusResponse {
                snapshot_age,
                resident_memory_bytes: resident_memory_bytes(),
                is_kept: replica.is_kept(),
                kept_snapshot_age: age.map(duration),
                kept_revision: on_disk.map(|stamp| stamp.revision.to_string()).unwrap_or_default(),
                decision_log_written_count: count(written),
                decision_log_lost_count: count(lost),
                ..replica.held().map(|view| counts(&view)).unwrap_or_default()
            })
        }
    }
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
