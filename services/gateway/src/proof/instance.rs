//! EC2 instances: whose are believed, and by which certificates. What makes a document good is the `token` crate's to say.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use countersign_policy::arn::AccountId;
use countersign_token::instance::{self, CertificateError, Certificates, InstanceDocument};
use serde::Deserialize;

use crate::{convert::INSTANCE, error::Refusal};

/// Whom every instance speaks for, as the decision service says too.
pub const SERVICE: &str = "ec2.amazonaws.com";

const MAX_ACCOUNTS: usize = 1000;
/// A certificate is some 1.5 KB, and a region has one or two.
const MAX_PEM_BYTES: u64 = 64 * 1024;
/// A day: an instance that is set up for this comes soon after it was started.
const DEFAULT_FIRST_USE: i32 = 900;

/// Whose instances are believed. By default nobody's.
#[derive(Clone, Default)]
pub struct Instances {
    accounts: Vec<AccountId>,
    certificates: Certificates,
    /// In seconds; 0 for whenever.
    first_use_within: i32,
}

impl fmt::Debug for Instances {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Instances")
            .field("accounts", &self.accounts)
            .field("regions", &self.certificates.regions().collect::<Vec<_>>())
            .field("first_use_within", &self.first_use_within)
            .finish()
    }
}

/// Why a file of instances is refused.
#[derive(Debug, thiserror::Error)]
pub enum InstancesError {
    /// It, or what it names, cannot be read.
    #[error("the instances' file: `{path}` cannot be read: {error}")]
    Read {
        /// Which.
        path: String,
        /// Why.
        error: io::Error,
    },
    /// It is not of the form.
    #[error("the instances' file `{path}` is malformed: {message}")]
    Form {
        /// Which.
        path: String,
        /// The parser's words.
        message: String,
    },
    /// A field is wrong.
    #[error("the instances' file `{path}`: `{field}` {message}")]
    Field {
        /// Which file.
        path: String,
        /// Which field.
        field: &'static str,
        /// What it must be.
        message: String,
    },
    /// A certificate is wrong.
    #[error("the instances' file: `{path}` {error}")]
    Certificate {
        /// Which file.
        path: String,
        /// What is wrong with it.
        error: CertificateError,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    accounts: Vec<String>,
    certificates: Option<PathBuf>,
    first_use_within_seconds: Option<i32>,
}

impl Instances {
    /// Reads a TOML file. The folder of certificates that it names is relative to it; in it a file `<region>.pem` adds to what is built in.
    ///
    /// # Errors
    /// See [`InstancesError`].
    pub fn read(path: &Path, partition: &str) -> Result<Self, InstancesError> {
        let shown = || path.display().to_string();
        let text = fs::read_to_string(path)
            .map_err(|error| InstancesError::Read { path: shown(), error })?;
        let File { accounts, certificates: folder, first_use_within_seconds } =
            toml::from_str(&text).map_err(|error| InstancesError::Form {
                path: shown(),
                message: error.to_string(),
            })?;
        let wrong =
            |field, message: String| InstancesError::Field { path: shown(), field, message };
        if !(1..=MAX_ACCOUNTS).contains(&accounts.len()) {
            return Err(wrong("accounts", format!("must name 1 to {MAX_ACCOUNTS} accounts")));
        }
        let accounts = accounts.iter().map(|account| account.parse());
        let accounts: Vec<AccountId> = accounts
            .collect::<Result<_, _>>()
            .map_err(|_| wrong("accounts", "must be texts of 12 digits".to_owned()))?;
        let first_use_within = first_use_within_seconds.unwrap_or(DEFAULT_FIRST_USE);
        if first_use_within < 0 {
            return Err(wrong(
                "first_use_within_seconds",
                "must be 0, for whenever, or more".to_owned(),
            ));
        }
        let mut certificates = Certificates::built_in(partition)
            .map_err(|error| InstancesError::Certificate { path: "(built in)".into(), error })?;
        if let Some(folder) = folder {
            let folder = path.parent().unwrap_or(Path::new(".")).join(folder);
            add_all(&mut certificates, &folder)?;
        }
        if certificates.regions().next().is_none() {
            let message = format!("must be given: none of partition `{partition}` are built in");
            return Err(wrong("certificates", message));
        }
        Ok(Self { accounts, certificates, first_use_within })
    }

    /// How soon after it was started an instance must come for the first time, in seconds; 0 for whenever.
    #[must_use]
    pub fn first_use_within(&self) -> i32 {
        self.first_use_within
    }

    /// Which instance `envelope` shows at `now`, in seconds since 1970.
    ///
    /// # Errors
    /// When no instances are believed, the envelope is no good, or it is of an account that is not listed.
    pub fn verify(&self, envelope: &str, now: i64) -> Result<InstanceDocument, Refusal> {
        if self.accounts.is_empty() {
            return Err(Refusal::UnsupportedTokenType { found: INSTANCE.to_owned() });
        }
        let document = instance::verify(envelope, &self.certificates, now)?;
        if !self.accounts.iter().any(|account| account.as_str() == document.account()) {
            let account = document.account().to_owned();
            return Err(Refusal::InstanceAccountNotAllowed { account });
        }
        Ok(document)
    }
}

fn add_all(certificates: &mut Certificates, folder: &Path) -> Result<(), InstancesError> {
    let read =
        |path: &Path, error| InstancesError::Read { path: path.display().to_string(), error };
    let entries = fs::read_dir(folder).map_err(|error| read(folder, error))?;
    for entry in entries {
        let path = entry.map_err(|error| read(folder, error))?.path();
        if path.extension().is_none_or(|extension| extension != "pem") {
            continue;
        }
        let length = fs::metadata(&path).map_err(|error| read(&path, error))?.len();
        if length > MAX_PEM_BYTES {
            return Err(read(&path, io::Error::other("longer than 64 KiB")));
        }
        let pem = fs::read_to_string(&path).map_err(|error| read(&path, error))?;
        let region = path.file_stem().unwrap_or_default().to_string_lossy();
        certificates.add(&region, &pem).map_err(|error| InstancesError::Certificate {
            path: path.display().to_string(),
            error,
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, files: &[(&str, &str)], partition: &str) -> Result<Instances, String> {
        let folder = std::env::temp_dir().join(format!(
            "countersign-instances-{}-{:?}",
            std::process::id(),
            std::thread::current().id()
        ));
        fs::create_dir_all(folder.join("certs")).unwrap();
        for (name, text) in files {
            fs::write(folder.join("certs").join(name), text).unwrap();
        }
        fs::write(folder.join("instances.toml"), text).unwrap();
        let found = Instances::read(&folder.join("instances.toml"), partition);
        fs::remove_dir_all(&folder).unwrap();
        found.map_err(|error| error.to_string())
    }

    // ATTACKS 55.
    #[test]
    fn files() {
        fn check(text: &str, files: &[(&str, &str)], expected: Result<(usize, i32), &str>) {
            match (read(text, files, "aws"), expected) {
                (Ok(found), expected) => {
                    assert_eq!(Ok((found.accounts.len(), found.first_use_within)), expected);
                }
                (Err(error), Err(part)) => assert!(error.contains(part), "{error} {part}"),
                (Err(error), Ok(_)) => panic!("{text}: {error}"),
            }
        }
        let one = "accounts = [\"123456789012\"]\n";
        let with = |more: &str| format!("{one}{more}");
        check(one, &[], Ok((1, 900)));
        check("accounts = [\"123456789012\", \"210987654321\"]", &[], Ok((2, 900)));
        check(&with("first_use_within_seconds = 0"), &[], Ok((1, 0)));
        check(&with("first_use_within_seconds = -1"), &[], Err("`first_use_within_seconds`"));
        check("", &[], Err("missing field `accounts`"));
        check("accounts = []", &[], Err("`accounts` must name 1 to 1000"));
        check("accounts = [\"*\"]", &[], Err("`accounts` must be texts of 12 digits"));
        check("accounts = [123456789012]", &[], Err("malformed"));
        check(&with("regions = [\"us-east-1\"]"), &[], Err("unknown field `regions`"));
        check(&with("certificates = \"nowhere\""), &[], Err("nowhere` cannot be read"));
        check(&with("certificates = \"certs\""), &[("README", "x")], Ok((1, 900)));
        check(&with("certificates = \"certs\""), &[("us-x.pem", "x")], Err("no name of a region"));
        check(
            &with("certificates = \"certs\""),
            &[("us-east-9.pem", "x")],
            Err("us-east-9.pem` holds no certificate"),
        );
        let long = "x".repeat(70_000);
        check(&with("certificates = \"certs\""), &[("us-east-9.pem", &long)], Err("64 KiB"));
        assert!(read(one, &[], "aws-iso").unwrap_err().contains("none of partition `aws-iso`"));
    }

    #[test]
    fn without_a_file_no_instance_is_believed() {
        let refused = Instances::default().verify("x", 0).unwrap_err();
        assert!(matches!(refused, Refusal::UnsupportedTokenType { .. }), "{refused}");
    }
}
