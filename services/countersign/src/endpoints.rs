//! What listens where: `endpoints.json` in the data folder.

use std::{fs, io, path::Path};

use countersign_policy_store::write_private;
use serde::{Deserialize, Serialize};

/// The file's name in the data folder.
pub const FILE: &str = "endpoints.json";

/// What listens where, each as `http://<address>:<port>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoints {
    /// The policy store's gRPC.
    pub policy_store: String,
    /// The decision service's gRPC.
    pub decision: String,
    /// The token gateway's gRPC.
    pub gateway: String,
    /// The token gateway's HTTP.
    pub http: String,
}

/// Why there are no endpoints.
#[derive(Debug, thiserror::Error)]
pub enum EndpointsError {
    /// The file cannot be read.
    #[error("cannot read `{path}`: {error} (is `countersign up` running with this data folder?)")]
    Read {
        /// The file.
        path: String,
        /// The system's word.
        error: io::Error,
    },
    /// The file holds something else.
    #[error("`{path}` does not say what listens where: {error}")]
    Content {
        /// The file.
        path: String,
        /// What is wrong.
        error: serde_json::Error,
    },
}

impl Endpoints {
    /// Reads the file in `data_dir`.
    ///
    /// # Errors
    /// When it is not there, or is something else.
    pub fn read(data_dir: &Path) -> Result<Self, EndpointsError> {
        let path = data_dir.join(FILE);
        let shown = path.display().to_string();
        let text = fs::read_to_string(&path)
            .map_err(|error| EndpointsError::Read { path: shown.clone(), error })?;
        serde_json::from_str(&text).map_err(|error| EndpointsError::Content { path: shown, error })
    }

    /// Writes the file in `data_dir`, whole or not at all.
    ///
    /// # Errors
    /// The system's word.
    pub fn write(&self, data_dir: &Path) -> io::Result<()> {
        let text = serde_json::to_string(self).map_err(io::Error::other)?;
        write_private(&data_dir.join(FILE), format!("{text}\n").as_bytes())
    }
}

/// `127.0.0.1:7401` of `http://127.0.0.1:7401`, as grpcurl wants it.
#[must_use]
pub fn authority(origin: &str) -> &str {
    origin.split_once("://").map_or(origin, |(_, authority)| authority)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(Endpoints::read(folder.path()), Err(EndpointsError::Read { .. })));
        let endpoints = Endpoints {
            policy_store: "http://127.0.0.1:1".into(),
            decision: "http://127.0.0.1:2".into(),
            gateway: "http://127.0.0.1:3".into(),
            http: "http://127.0.0.1:4".into(),
        };
        endpoints.write(folder.path()).unwrap();
        assert_eq!(Endpoints::read(folder.path()).unwrap(), endpoints);
        assert_eq!(
            fs::read_to_string(folder.path().join(FILE)).unwrap(),
            "{\"policy_store\":\"http://127.0.0.1:1\",\"decision\":\"http://127.0.0.1:2\",\
             \"gateway\":\"http://127.0.0.1:3\",\"http\":\"http://127.0.0.1:4\"}\n"
        );
        fs::write(folder.path().join(FILE), "{}").unwrap();
        assert!(matches!(Endpoints::read(folder.path()), Err(EndpointsError::Content { .. })));
    }

    #[test]
    fn authorities() {
        assert_eq!(authority("http://127.0.0.1:7401"), "127.0.0.1:7401");
        assert_eq!(authority("http://[::1]:7401"), "[::1]:7401");
    }
}
