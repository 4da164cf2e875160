//! Where the cluster is and how this process shows who it is, checked before anything is sent.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use etcd_client::{Certificate, ConnectOptions, Identity, TlsOptions};
use thiserror::Error;

use crate::StoreError;

/// Where a store's keys begin unless told otherwise.
pub const DEFAULT_PREFIX: &str = "countersign/";
const MAX_PREFIX_BYTES: usize = 128;
/// etcd ends connections that ping more often than every 5 s (--grpc-keepalive-min-time).
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// How the engine is run.
#[derive(Clone, Debug)]
pub struct EtcdOptions {
    /// `http://host:2379` or `https://host:2379`, one or more members of one cluster. One is used at a time, and another
    /// when it fails.
    pub endpoints: Vec<String>,
    /// What every key of this store begins with: printable ASCII, with a `/` at the end.
    pub prefix: String,
    /// The user and password, when the cluster has authentication on.
    pub user: Option<EtcdUser>,
    /// Certificates, for `https` endpoints.
    pub tls: EtcdTls,
    /// Where newer certificates and a newer user come from: asked before each connection is made, so that what was renewed meanwhile is
    /// used without a start. Without, `tls` and `user` stand.
    pub renewed: Option<EtcdCredentials>,
    /// How long one request may take. A commit that takes longer may or may not have happened.
    pub request_timeout: Duration,
    /// Revisions of the cluster that are kept: what is older is compacted, for everything in the cluster. `None` leaves
    /// compaction to the cluster, whose space runs out without it.
    pub keep_revisions: Option<u64>,
    /// Commits whose changes are held in memory for those who follow; older ones are read from etcd's history.
    pub recent_commits: usize,
    /// Bytes of the same.
    pub recent_bytes: usize,
    /// How often the watch is compared with a linearizable read.
    pub check_every: Duration,
}

impl EtcdOptions {
    /// The defaults, for these members.
    pub fn new<E: Into<String>>(endpoints: impl IntoIterator<Item = E>) -> Self {
        Self {
            endpoints: endpoints.into_iter().map(Into::into).collect(),
            prefix: DEFAULT_PREFIX.to_owned(),
            user: None,
            tls: EtcdTls::default(),
            renewed: None,
            request_timeout: Duration::from_secs(2),
            keep_revisions: Some(100_000),
            recent_commits: 10_000,
            recent_bytes: 32 << 20,
            check_every: Duration::from_secs(1),
        }
    }

    /// Holds the options to the rules; [`super::EtcdStore::open`] does so too.
    pub fn check(&self) -> Result<(), InvalidEtcdOptions> {
        if self.endpoints.is_empty() {
            return Err(InvalidEtcdOptions::NoEndpoint);
        }
        for endpoint in &self.endpoints {
            self.check_endpoint(endpoint)?;
        }
        if !self.prefix.ends_with('/')
            || self.prefix.len() > MAX_PREFIX_BYTES
            || !self.prefix.bytes().all(|byte| byte.is_ascii_graphic())
        {
            return Err(InvalidEtcdOptions::Prefix(self.prefix.clone()));
        }
        Ok(())
    }

    fn check_endpoint(&self, endpoint: &str) -> Result<(), InvalidEtcdOptions> {
        let named = || endpoint.to_owned();
        let uri: tonic::transport::Uri =
            endpoint.parse().map_err(|_| InvalidEtcdOptions::Endpoint(named()))?;
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let plain = match uri.scheme_str() {
            Some("http") => true,
            Some("https") => false,
            Some(_) | None => return Err(InvalidEtcdOptions::Endpoint(named())),
        };
        // User and password in the address would end in logs.
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        if uri.port_u16().is_none() || path != "/" || authority.contains('@') {
            return Err(InvalidEtcdOptions::Endpoint(named()));
        }
        if plain && self.tls != EtcdTls::default() {
            return Err(InvalidEtcdOptions::CertificateWithoutTls(named()));
        }
        if plain && self.user.is_some() && !uri.host().is_some_and(is_loopback) {
            return Err(InvalidEtcdOptions::PasswordInClear(named()));
        }
        Ok(())
    }

    pub(super) fn connect_options(&self) -> ConnectOptions {
        let mut options = ConnectOptions::new()
            .with_connect_timeout(self.request_timeout)
            .with_keep_alive(KEEP_ALIVE, self.request_timeout)
            // A member without a leader says so, rather than keep a watch that hears of nothing.
            .with_require_leader(true)
            .with_auto_token_refresh(true);
        // What cannot be read at this moment is perhaps being written: then it is as it was at the start.
        let renewed = self.renewed.as_ref().and_then(|credentials| (credentials.0)());
        let (tls, user) = match &renewed {
            Some((tls, user)) => (tls, user),
            None => (&self.tls, &self.user),
        };
        if let Some(user) = user {
            options = options.with_user(&user.name, &user.password);
        }
        if self.endpoints.iter().any(|endpoint| endpoint.starts_with("https:")) {
            options = options.with_tls(tls.tls_options());
        }
        options
    }
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// Who this process is to etcd.
#[derive(Clone, PartialEq, Eq)]
pub struct EtcdUser {
    /// The user's name.
    pub name: String,
    /// Its password.
    pub password: String,
}

impl fmt::Debug for EtcdUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdUser").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What a process shows to etcd: certificates, and its user.
type Shown = (EtcdTls, Option<EtcdUser>);

/// Where certificates and the user are read anew.
#[derive(Clone)]
pub struct EtcdCredentials(Arc<dyn Fn() -> Option<Shown> + Send + Sync>);

impl EtcdCredentials {
    /// `read` answers them as they are at that moment, or nothing when they cannot be read.
    pub fn new(read: impl Fn() -> Option<Shown> + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }
}

impl fmt::Debug for EtcdCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EtcdCredentials(redacted)")
    }
}

/// Certificates and keys, all PEM.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct EtcdTls {
    /// The authority that the members' certificates are checked against. Without one, no member is believed.
    pub ca: Option<Vec<u8>>,
    /// This process's certificate and its key, for a cluster that asks for one.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
}

impl EtcdTls {
    fn tls_options(&self) -> TlsOptions {
        let mut options = TlsOptions::new();
        if let Some(ca) = &self.ca {
            options = options.ca_certificate(Certificate::from_pem(ca));
        }
        if let Some((certificate, key)) = &self.identity {
            options = options.identity(Identity::from_pem(certificate, key));
        }
        options
    }
}

impl fmt::Debug for EtcdTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdTls")
            .field("ca", &self.ca.is_some())
            .field("identity", &self.identity.is_some())
            .finish()
    }
}

/// What is wrong with the options.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum InvalidEtcdOptions {
    #[error("no endpoint of etcd: give `http://host:2379` or `https://host:2379`")]
    NoEndpoint,
    #[error(
        "`{0}` is no endpoint of etcd: give scheme, host and port alone, as in `https://host:2379`"
    )]
    Endpoint(String),
    #[error(
        "`{0}` is no prefix of keys: give printable ASCII of at most {MAX_PREFIX_BYTES} bytes that ends in `/`"
    )]
    Prefix(String),
    #[error("certificates for `{0}`, which is not https: give https endpoints")]
    CertificateWithoutTls(String),
    #[error("a password for `{0}`, which would send it in clear: give an https endpoint")]
    PasswordInClear(String),
}

/// Why the store was not opened.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EtcdOpenError {
    #[error(transparent)]
    Options(#[from] InvalidEtcdOptions),
    #[error(transparent)]
    Store(#[from] StoreError),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(options: EtcdOptions, expected: Option<&str>) {
        let outcome = options.check().err().map(|error| error.to_string());
        match expected {
            None => assert_eq!(outcome, None),
            Some(part) => {
                let message = outcome.unwrap_or_else(|| panic!("{options:?} was taken"));
                assert!(message.contains(part), "{message}");
            }
        }
    }

    fn user() -> Option<EtcdUser> {
        Some(EtcdUser { name: "ann".into(), password: "hunter2".into() })
    }

    #[test]
    fn options_are_checked_by_name() {
        let at = |endpoint: &str| EtcdOptions::new([endpoint]);
        check(at("http://10.0.0.1:2379"), None);
        check(at("https://etcd.example:2379"), None);
        check(at("http://[::1]:2379"), None);
        check(EtcdOptions::new(Vec::<String>::new()), Some("no endpoint"));
        for broken in [
            "",
            "10.0.0.1:2379",
            "ftp://a:1",
            "http://a",
            "http://a:1/x",
            "http://a:1?x",
            "http://u:p@a:1",
            "http://:1:1",
        ] {
            check(at(broken), Some("no endpoint of etcd"));
        }
        for broken in ["", "a", "a b/", "ä/", &format!("{}/", "a".repeat(200))] {
            check(EtcdOptions { prefix: broken.to_owned(), ..at("http://a:1") }, Some("no prefix"));
        }
        let ca = EtcdTls { ca: Some(b"x".to_vec()), identity: None };
        check(EtcdOptions { tls: ca.clone(), ..at("http://a:1") }, Some("not https"));
        check(EtcdOptions { tls: ca, ..at("https://a:1") }, None);
        check(EtcdOptions { user: user(), ..at("http://10.0.0.1:1") }, Some("in clear"));
        for safe in ["http://127.0.0.1:1", "http://[::1]:1", "http://localhost:1", "https://a:1"] {
            check(EtcdOptions { user: user(), ..at(safe) }, None);
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        let identity = Some((b"certificate".to_vec(), b"secret key".to_vec()));
        let tls = EtcdTls { ca: None, identity };
        let shown =
            format!("{:?}", EtcdOptions { user: user(), tls, ..EtcdOptions::new(["https://a:1"]) });
        assert!(shown.contains("ann") && !shown.contains("hunter2"), "{shown}");
        assert!(!shown.contains("115, 101, 99"), "{shown}");
    }
}
