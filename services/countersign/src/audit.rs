//! `countersign audit verify`: whether the audit trail's files are as they were written.

use countersign_policy_store::audit::trail;

use crate::{cli::VerifyArgs, exit::Exit};

/// Prints where the chain ends, or the first place where it does not hold.
pub fn run(args: &VerifyArgs) -> Exit {
    match trail::verify(&args.folder) {
        Ok(head) => {
            println!(
                "{} events, an unbroken chain; the last has the hash {}",
                head.sequence, head.hash
            );
            Exit::Done
        }
        Err(error) => Exit::failed(error),
    }
}
