//! The arguments of `countersign store`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::cli::{DEFAULT_DATA_DIR, StoreArgs};

const STORE_EXAMPLES: &str = "\
Examples:
  countersign store backup --data-dir /var/lib/countersign monday.cse
  countersign store verify monday.cse --sealing-key /safe/sealing.key
  countersign store restore monday.cse --data-dir /var/lib/new --sealing-key /safe/sealing.key
  countersign store backup --data-dir /var/lib/countersign --store etcd:https://a:2379 --etcd-ca ca.pem monday.cse
  countersign store import monday.cse --store etcd:http://127.0.0.1:2379 --sealing-key /safe/sealing.key

deploy/RUNBOOK.md has the procedures: backup, restore, moving to another engine, and what to do when something is lost.

Exit status: 0 it worked, 1 something went wrong (nothing half-done is ever served), 2 the arguments are wrong.";

/// Back up, restore and move what a policy store holds.
#[derive(Debug, Subcommand)]
#[command(after_help = STORE_EXAMPLES)]
pub enum StoreCommand {
    /// Write everything that the store of a data folder holds (or the one in etcd) into one file; the sealing key is not in it
    Backup(BackupArgs),
    /// Make a data folder's store (or one in etcd) from a backup; there must be none
    Restore(RestoreArgs),
    /// Write everything that a store holds into one file
    Export(ExportArgs),
    /// Fill an empty store from such a file
    Import(ImportArgs),
    /// Read such a file from beginning to end, and say what is in it and whether it is whole
    Verify(VerifyArgs),
}

/// `countersign store backup`.
#[derive(Args, Debug)]
pub struct BackupArgs {
    /// The file to make; it must not be there
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The data folder; a policy store may be running on it
    #[arg(long, value_name = "DIR", default_value = DEFAULT_DATA_DIR)]
    pub data_dir: PathBuf,
    /// The store, if it is not in the data folder.
    #[command(flatten)]
    pub store: StoreArgs,
}

/// `countersign store restore`.
#[derive(Args, Debug)]
pub struct RestoreArgs {
    /// The backup
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The data folder; made if it is not there
    #[arg(long, value_name = "DIR", default_value = DEFAULT_DATA_DIR)]
    pub data_dir: PathBuf,
    /// The sealing key of the store that was backed up, which is copied into the data folder [default: the one that is there]
    #[arg(long, value_name = "FILE")]
    pub sealing_key: Option<PathBuf>,
    /// Go on where an earlier restore of the same file was cut off
    #[arg(long)]
    pub resume: bool,
    /// Where the store is made, if not in the data folder; it must be empty.
    #[command(flatten)]
    pub store: StoreArgs,
}

/// `countersign store export`.
#[derive(Args, Debug)]
pub struct ExportArgs {
    /// The file to make; it must not be there
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The store.
    #[command(flatten)]
    pub store: StoreArgs,
    /// The store's sealing key, to be sure that it opens every secret; it is not in the file
    #[arg(long, value_name = "FILE")]
    pub sealing_key: Option<PathBuf>,
}

/// `countersign store import`.
#[derive(Args, Debug)]
pub struct ImportArgs {
    /// The file
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The store, which must be empty.
    #[command(flatten)]
    pub store: StoreArgs,
    /// The sealing key of the store that was exported: it must open every secret, and the new store is served with it
    #[arg(long, value_name = "FILE")]
    pub sealing_key: PathBuf,
    /// Go on where an earlier import of the same file was cut off
    #[arg(long)]
    pub resume: bool,
}

/// `countersign store verify`.
#[derive(Args, Debug)]
pub struct VerifyArgs {
    /// The file
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The sealing key, to be sure that it opens every secret
    #[arg(long, value_name = "FILE")]
    pub sealing_key: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::cli::Cli;

    fn check(line: &str, good: bool) {
        let words = ["countersign", "store"].into_iter().chain(line.split_whitespace());
        let parsed = Cli::try_parse_from(words).map(drop).map_err(|error| error.to_string());
        assert_eq!(parsed.is_ok(), good, "{line}: {parsed:?}");
    }

    #[test]
    fn lines_that_people_type() {
        check("backup b", true);
        check("backup b --data-dir d", true);
        check("backup b --data-dir d --store etcd:https://a:1 --etcd-prefix x/", true);
        check("restore b --data-dir d --store etcd:https://a:1", true);
        check("backup", false);
        check("backup b --sealing-key k", false);
        check("restore b --data-dir d --sealing-key k --resume", true);
        check("export f --store sled:d/store --sealing-key k", true);
        check("export f --store etcd:https://a:1 --etcd-prefix x/ --etcd-ca c", true);
        check("export f --store d/store", false);
        check("export --store sled:d", false);
        check("import f --store sled:d/store --sealing-key k --resume", true);
        // Whoever has lost the key learns it before the import, not after.
        check("import f --store sled:d/store", false);
        check("verify f", true);
        check("verify f --sealing-key k", true);
        check("", false);
    }
}
