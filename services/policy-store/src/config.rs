//! What the policy store is told when it starts.

use std::path::{Path, PathBuf};

use countersign_policy::arn::AccountId;
use countersign_serve::{ServiceIdentities, telemetry::Metrics};

use crate::place::Place;

use crate::{iam::quota::Quotas, seal::SealingKeys};

/// What the policy store is told when it starts.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where keys and credentials are kept, and the data itself unless `place` says otherwise. Made if it is not there.
    pub data_dir: PathBuf,
    /// Where the data is kept.
    pub place: Place,
    /// The first account; the administrator of this one is the operator. Fixed at the first start.
    pub account: AccountId,
    /// The issuer of the tokens that callers show: the gateway's.
    pub issuer: String,
    /// The one region of credential scopes.
    pub region: String,
    /// The parts of Countersign that may call as such.
    pub identities: ServiceIdentities,
    /// The name of this process in the audit trail; another one in each process on one store.
    pub process: String,
    /// Where the key is that secrets are sealed under.
    pub sealing: SealingKeys,
    /// How much an account may hold; IAM's own quotas by default.
    pub quotas: Quotas,
    /// Where it counts.
    pub metrics: Metrics,
    /// Where keys and credentials are kept, if not in the data folder: processes on one store have them in common.
    pub secrets_dir: Option<PathBuf>,
    /// Who makes the first account.
    pub seeding: Seeding,
}

/// Who makes the first account of an empty store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seeding {
    /// This process, when it starts.
    Here,
    /// [`crate::init`]; this process waits for it, and makes no key.
    Elsewhere,
}

impl Config {
    /// The audit trail's folder.
    pub fn audit_folder(&self) -> PathBuf {
        self.data_dir.join("audit")
    }

    fn secrets_dir(&self) -> &Path {
        self.secrets_dir.as_deref().unwrap_or(&self.data_dir)
    }

    /// The key that secrets are sealed under.
    pub fn sealing_key(&self) -> PathBuf {
        self.secrets_dir().join("sealing.key")
    }

    /// The key that was in use before. While it is there, what it sealed opens too, and is sealed again.
    pub fn previous_sealing_key(&self) -> PathBuf {
        self.secrets_dir().join("sealing-previous.key")
    }

    /// The root's access key, in the form of AWS's `credential_process`.
    pub fn root_credentials(&self) -> PathBuf {
        self.secrets_dir().join("root-credentials.json")
    }
}
