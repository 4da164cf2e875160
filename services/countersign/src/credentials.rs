//! An access key, from a file or the environment; never from the arguments, which every process list shows.
//!
//! What is wrong with a file is told by its place alone: the text itself may hold the secret.

#[cfg(feature = "aws")]
pub mod aws;

use std::{env, fmt, fs, io, path::Path};

use countersign_sigv4::{Credentials, key::SecretKey};
use serde::Deserialize;

/// Why there are no credentials.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// The file cannot be read.
    #[error("cannot read the credentials `{path}`: {error}")]
    Read {
        /// The file.
        path: String,
        /// The system's word.
        error: io::Error,
    },
    /// The file holds something else.
    #[error(
        "`{path}` holds no access key: expected JSON of the form of AWS's credential_process \
         ({{\"Version\":1,\"AccessKeyId\":…,\"SecretAccessKey\":…}}), or what CreateAccessKey answered"
    )]
    Content {
        /// The file.
        path: String,
    },
    /// Nothing anywhere.
    #[error(
        "no credentials: give --credentials FILE (root-credentials.json, or what CreateAccessKey answered), or set \
         AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    )]
    None,
    /// AWS's own ways led nowhere.
    #[cfg(feature = "aws")]
    #[error("no AWS credentials: {0}; or give --credentials FILE")]
    Aws(String),
    /// Half of them.
    #[error("`{0}` is not set, though the other half of the access key is")]
    Half(&'static str),
}

/// An access key as files spell it: AWS's way, and proto's two JSON ways.
#[derive(Deserialize)]
struct Key {
    #[serde(rename = "AccessKeyId", alias = "accessKeyId", alias = "access_key_id")]
    id: String,
    #[serde(rename = "SecretAccessKey", alias = "secretAccessKey", alias = "secret_access_key")]
    secret: String,
    #[serde(rename = "SessionToken", default)]
    session_token: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum File {
    Created {
        #[serde(rename = "AccessKey", alias = "accessKey", alias = "access_key")]
        access_key: Key,
    },
    Process(Key),
}

impl From<Key> for Credentials {
    fn from(key: Key) -> Self {
        Self::new(
            key.id,
            SecretKey::new(key.secret),
            key.session_token.filter(|token| !token.is_empty()),
        )
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({}, redacted)", self.id)
    }
}

/// The access key in `file`, or, without one, in the environment.
///
/// # Errors
/// See [`CredentialsError`].
pub fn find(file: Option<&Path>) -> Result<Credentials, CredentialsError> {
    match file {
        Some(path) => read(path),
        None => from_lookup(|name| env::var(name).ok().filter(|value| !value.is_empty())),
    }
}

/// The access key in a file.
///
/// # Errors
/// When it cannot be read, or holds none.
pub fn read(path: &Path) -> Result<Credentials, CredentialsError> {
    let shown = path.display().to_string();
    let text = fs::read_to_string(path)
        .map_err(|error| CredentialsError::Read { path: shown.clone(), error })?;
    parse(&text).ok_or(CredentialsError::Content { path: shown })
}

fn parse(text: &str) -> Option<Credentials> {
    let key = match serde_json::from_str(text).ok()? {
        File::Created { access_key } => access_key,
        File::Process(key) => key,
    };
    (!key.id.is_empty() && !key.secret.is_empty()).then(|| key.into())
}

fn from_lookup(variable: impl Fn(&str) -> Option<String>) -> Result<Credentials, CredentialsError> {
    const ID: &str = "AWS_ACCESS_KEY_ID";
    const SECRET: &str = "AWS_SECRET_ACCESS_KEY";
    match (variable(ID), variable(SECRET)) {
        (Some(id), Some(secret)) => {
            Ok(Credentials::new(id, SecretKey::new(secret), variable("AWS_SESSION_TOKEN")))
        }
        (None, None) => Err(CredentialsError::None),
        (Some(_), None) => Err(CredentialsError::Half(SECRET)),
        (None, Some(_)) => Err(CredentialsError::Half(ID)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files() {
        let check = |text: &str, expected: Option<&str>| {
            let found = parse(text);
            assert_eq!(found.as_ref().map(Credentials::access_key_id), expected, "{text}");
        };
        check(r#"{"Version":1,"AccessKeyId":"AKIA1","SecretAccessKey":"s"}"#, Some("AKIA1"));
        check(
            r#"{"Version":1,"AccessKeyId":"ASIA1","SecretAccessKey":"s","SessionToken":"t","Expiration":"2026-01-01T00:00:00Z"}"#,
            Some("ASIA1"),
        );
        check(
            r#"{"accessKey":{"userName":"u","accessKeyId":"AKIA2","status":"ACTIVE","secretAccessKey":"s"},"revision":"r:1"}"#,
            Some("AKIA2"),
        );
        check(r#"{"access_key":{"access_key_id":"AKIA3","secret_access_key":"s"}}"#, Some("AKIA3"));
        check(
            r#"{"AccessKey":{"UserName":"u","AccessKeyId":"AKIA4","SecretAccessKey":"s"}}"#,
            Some("AKIA4"),
        );
        check(r#"{"AccessKeyId":"AKIA1"}"#, None);
        check(r#"{"AccessKeyId":"AKIA1","SecretAccessKey":""}"#, None);
        check(r#"{"AccessKeyId":"AKIA1","SecretAccessKey":5}"#, None);
        check("AKIA1 s", None);
    }

    #[test]
    fn the_environment() {
        let check = |set: &[&str], expected: Result<&str, &str>| {
            let found = from_lookup(|name| set.contains(&name).then(|| "value".to_owned()));
            let found = found.as_ref().map(Credentials::access_key_id).map_err(ToString::to_string);
            match (found, expected) {
                (Ok(id), Ok(expected)) => assert_eq!(id, expected),
                (Err(error), Err(expected)) => assert!(error.contains(expected), "{error}"),
                (found, expected) => panic!("{found:?} {expected:?}"),
            }
        };
        check(&["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"], Ok("value"));
        check(&["AWS_ACCESS_KEY_ID"], Err("`AWS_SECRET_ACCESS_KEY` is not set"));
        check(&["AWS_SECRET_ACCESS_KEY"], Err("`AWS_ACCESS_KEY_ID` is not set"));
        check(&["AWS_SESSION_TOKEN"], Err("--credentials FILE"));
        check(&[], Err("--credentials FILE"));
    }

    #[test]
    fn no_error_shows_a_secret() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.json");
        fs::write(&path, r#"{"AccessKeyId":7,"SecretAccessKey":"the-secret"}"#).unwrap();
        let error = read(&path).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("the-secret"));
        let key = Key { id: "AKIA1".into(), secret: "the-secret".into(), session_token: None };
        assert!(!format!("{key:?}").contains("the-secret"));
    }
}
