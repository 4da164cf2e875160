//! The instance's side of an exchange: a key that it keeps, and its identity document from EC2's metadata service.
//! Source: <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/configuring-instance-metadata-service.html>

use std::{fs, io, path::Path, time::Duration};

use bytes::Bytes;
use countersign_token::{
    dpop::{self, ClientKey, ClientKeyError},
    instance::MAX_ENVELOPE_BYTES,
};
use http::{Method, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};

/// The proof that comes of it.
pub const INSTANCE: &str = "urn:countersign:proof:ec2-instance-identity";
/// Where every instance finds it.
pub const METADATA: &str = "http://169.254.169.254";
/// The service is on the machine, or nowhere.
const TIMEOUT: Duration = Duration::from_secs(5);
const TOKEN_PATH: &str = "/latest/api/token";
const DOCUMENT_PATH: &str = "/latest/dynamic/instance-identity/rsa2048";

/// Why an instance has nothing to show.
#[derive(Debug, thiserror::Error)]
pub enum InstanceError {
    /// The key's file cannot be read or made.
    #[error("the key `{path}` cannot be read or made: {error}")]
    File {
        /// Which.
        path: String,
        /// The system's word.
        error: io::Error,
    },
    /// It holds no key.
    #[error("the key `{path}` {error}")]
    Key {
        /// Which.
        path: String,
        /// What is wrong with it.
        error: ClientKeyError,
    },
    /// The proof of the key could not be made.
    #[error("the proof of the key: {0}")]
    Proof(#[from] ClientKeyError),
    /// The metadata service is not there, or gives nothing.
    #[error(
        "the metadata service `{endpoint}` {message}; is this an EC2 instance with IMDSv2 on, within its hop limit?"
    )]
    Metadata {
        /// Where.
        endpoint: String,
        /// What happened.
        message: String,
    },
}

/// The key in `path`; made there, for its owner alone to read, if there is none. Of two that make one at once both use the same.
///
/// # Errors
/// When it cannot be read or made, or is none.
pub fn key(path: &Path) -> Result<ClientKey, InstanceError> {
    let shown = || path.display().to_string();
    let file = |error| InstanceError::File { path: shown(), error };
    let wrong = |error| InstanceError::Key { path: shown(), error };
    match fs::read_to_string(path) {
        Ok(text) => ClientKey::from_pem(&text).map_err(wrong),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let key = ClientKey::generate().map_err(wrong)?;
            write_new(path, key.to_pem().map_err(wrong)?.as_bytes()).map_err(file)?;
            let text = fs::read_to_string(path).map_err(file)?;
            ClientKey::from_pem(&text).map_err(wrong)
        }
        Err(error) => Err(file(error)),
    }
}

/// Writes a file that its owner alone may read, unless there is one already.
fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    use std::io::Write;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    // Its mode is 0600.
    let mut file = tempfile::NamedTempFile::new_in(folder.unwrap_or(Path::new(".")))?;
    file.write_all(content)?;
    file.as_file().sync_all()?;
    match file.persist_noclobber(path) {
        Ok(_) => Ok(()),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error.error),
    }
}

/// A proof of `key` for an exchange at the gateway whose gRPC port is at `origin`.
///
/// # Errors
/// When it cannot be signed.
pub fn possession(key: &ClientKey, origin: &str, now: i64) -> Result<String, InstanceError> {
    let authority = origin.split_once("://").map_or(origin, |(_, authority)| authority);
    let uri = format!("https://{authority}/countersign.token.v1.TokenExchangeService/Exchange");
    let request = dpop::Request { method: "POST", uri: &uri, access_token: None };
    Ok(key.prove(&request, now)?)
}

/// The document in its envelope, as the metadata service gives it.
///
/// # Errors
/// When it does not, within some seconds.
pub async fn document(endpoint: &str) -> Result<String, InstanceError> {
    let endpoint = endpoint.trim_end_matches('/');
    let asked = async {
        let ttl = ("x-aws-ec2-metadata-token-ttl-seconds", "60");
        let token = ask(Method::PUT, endpoint, TOKEN_PATH, ttl).await?;
        let token = ("x-aws-ec2-metadata-token", token.trim());
        ask(Method::GET, endpoint, DOCUMENT_PATH, token).await
    };
    let answer = tokio::time::timeout(TIMEOUT, asked).await;
    let answer = answer.unwrap_or_else(|_| Err("does not answer".to_owned()));
    answer.map_err(|message| InstanceError::Metadata { endpoint: endpoint.to_owned(), message })
}

/// One question. No redirect is followed, and no proxy asked.
async fn ask(
    method: Method,
    endpoint: &str,
    path: &str,
    (header, value): (&str, &str),
) -> Result<String, String> {
    let uri: Uri = format!("{endpoint}{path}").parse().map_err(|error| format!("{error}"))?;
    let request = http::Request::builder()
        .method(method)
        .uri(uri)
        .header(header, value)
        .body(Empty::<Bytes>::new())
        .map_err(|error| format!("cannot be asked: {error}"))?;
    let client = Client::builder(TokioExecutor::new()).build_http();
    let answer =
        client.request(request).await.map_err(|error| format!("cannot be reached: {error}"))?;
    let status = answer.status();
    if status != http::StatusCode::OK {
        return Err(format!("answers `{path}` with {status}"));
    }
    let body = Limited::new(answer.into_body(), MAX_ENVELOPE_BYTES).collect().await;
    let body = body.map_err(|error| format!("breaks off: {error}"))?.to_bytes();
    String::from_utf8(body.to_vec()).map_err(|_| format!("answers `{path}` with no text"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_kept() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pem");
        let made = key(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(key(&path).unwrap().thumbprint(), made.thumbprint());
        write_new(&path, b"another").unwrap();
        assert_eq!(key(&path).unwrap().thumbprint(), made.thumbprint());
        fs::write(&path, "no key").unwrap();
        assert!(key(&path).unwrap_err().to_string().contains("is no private key"));
        assert!(key(&folder.path().join("no/such")).unwrap_err().to_string().contains("cannot"));
    }

    #[tokio::test]
    async fn a_machine_without_the_service_is_told_so() {
        let check = async |endpoint: &str, expected: &str| {
            let error = document(endpoint).await.unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check("http://127.0.0.1:1", "cannot be reached").await;
        check("not a url", "the metadata service `not a url`").await;
    }
}
