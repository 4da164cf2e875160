//! Certificates, keys and authorities as files have them: read, and held to everything that can be wrong with them before anybody
//! connects.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use aws_lc_rs::digest::{SHA256, digest};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::CryptoProvider,
    pki_types::{
        CertificateDer, PrivateKeyDer, ServerName, UnixTime,
        pem::{self, PemObject},
    },
    server::{
        NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier, danger::ClientCertVerifier,
    },
    sign::{CertifiedKey, SingleCertAndKey},
};
use webpki::EndEntityCert;
use zeroize::Zeroizing;

use super::{
    spiffe::{self, Part, TrustDomain},
    validity,
};

/// Where the parts are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, PEM, with those that lead to the authority after it.
    pub certificate: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
    /// The authorities of the other side's certificates, PEM: of those who call us with one, and of those whom we call.
    pub ca: Option<PathBuf>,
}

/// Whether callers of the gRPC port show certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCertificates {
    /// Who has one may show it; what is shown must be good.
    Optional,
    /// Nobody without one is spoken to.
    Required,
}

/// What certificates must be like.
#[derive(Clone, Debug)]
pub struct TlsSettings {
    /// Where they are.
    pub files: TlsFiles,
    /// What we are: our certificate must name it, and those whom we call must name theirs, in the same trust domain.
    pub identity: Option<(TrustDomain, Part)>,
    /// Names of ours that our certificate must be good for.
    pub names: Vec<String>,
    /// Whether callers show certificates. Without authorities none are asked for.
    pub clients: ClientCertificates,
}

/// Why certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file.
    #[error("cannot read `{}`: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's word.
        error: io::Error,
    },
    /// A file that holds something else.
    #[error("`{}` holds no {expected} in PEM: {error}", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        expected: &'static str,
        /// What is wrong with it.
        error: String,
    },
    /// Of two different pairs.
    #[error(
        "the key `{}` is not the one of the certificate `{}`: give both files of one pair", key.display(), certificate.display()
    )]
    KeyMismatch {
        /// The certificate.
        certificate: PathBuf,
        /// The key.
        key: PathBuf,
    },
    /// Too old.
    #[error("the certificate `{}` expired {ago:?} ago: have a new one made", path.display())]
    Expired {
        /// The file.
        path: PathBuf,
        /// How long ago, in whole seconds.
        ago: Duration,
    },
    /// Too young.
    #[error(
        "the certificate `{}` is good only in {wait:?}: set the clock right, or have another one made", path.display()
    )]
    NotYetValid {
        /// The file.
        path: PathBuf,
        /// How long until then, in whole seconds.
        wait: Duration,
    },
    /// The certificate is of something else.
    #[error(
        "the certificate `{}` must name `{expected}` as its one URI, and names {}: have one made with that SPIFFE id, or set the trust domain right",
        path.display(), found.as_deref().unwrap_or("none")
    )]
    Identity {
        /// The file.
        path: PathBuf,
        /// The SPIFFE id that it should have.
        expected: String,
        /// The one that it has.
        found: Option<String>,
    },
    /// The certificate is for other names.
    #[error(
        "the certificate `{}` is not for `{name}`: have one made that names it too, or give the name that callers use", path.display()
    )]
    Name {
        /// The file.
        path: PathBuf,
        /// The name that it lacks.
        name: String,
    },
    /// Nobody would believe it.
    #[error(
        "the certificate `{}` would be refused by those who trust `{}`: {error}; have one made by that authority", path.display(), ca.display()
    )]
    Untrusted {
        /// The certificate.
        path: PathBuf,
        /// The authorities.
        ca: PathBuf,
        /// The verifier's word.
        error: rustls::Error,
    },
    /// Whatever else the library finds.
    #[error("the certificate `{}` cannot be used: {error}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// The library's word.
        error: String,
    },
    /// A trust domain without authorities.
    #[error(
        "services know each other by certificates of one authority: give its certificate (`ca`) beside the trust domain"
    )]
    NoAuthority,
}

/// Everything read and checked.
pub struct Material {
    /// Of the files' contents, to see whether they changed.
    pub digest: Vec<u8>,
    /// For the gRPC port.
    pub grpc: Arc<ServerConfig>,
    /// For the HTTP port, where nobody shows a certificate.
    pub http: Arc<ServerConfig>,
    /// What we show where we call.
    pub certified: Arc<CertifiedKey>,
    /// Whom we believe.
    pub roots: Arc<RootCertStore>,
    /// When our certificate ends, in seconds since 1970.
    pub not_after: i64,
}

/// The one provider of cryptography. Nothing is installed for the process.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

impl Material {
    /// Reads the files of `settings`, and checks all of them at `now`.
    ///
    /// # Errors
    /// See [`TlsError`].
    pub fn load(settings: &TlsSettings, now: SystemTime) -> Result<Self, TlsError> {
        let TlsSettings { files, identity, names, clients } = settings;
        let certificate_text = read(&files.certificate)?;
        let key_text = Zeroizing::new(read(&files.key)?);
        let ca_text = files.ca.as_deref().map(read).transpose()?;
        let chain = certificates(&files.certificate, &certificate_text)?;
        let leaf = chain.first().cloned().ok_or_else(|| none(&files.certificate))?;
        let not_after = check_dates(&files.certificate, &leaf, now)?;
        let certified = Arc::new(pair(files, chain, &key_text)?);
        check_names(&files.certificate, &leaf, identity.as_ref(), names)?;
        let roots = Arc::new(match (&files.ca, &ca_text) {
            (Some(path), Some(text)) => authorities(path, text)?,
            (None, _) | (_, None) => RootCertStore::empty(),
        });
        if identity.is_some() {
            let ca = files.ca.as_deref().ok_or(TlsError::NoAuthority)?;
            check_trusted(files, ca, &certified, &roots, now)?;
        }
        let all = [&certificate_text[..], &key_text[..], ca_text.as_deref().unwrap_or_default()];
        Ok(Self {
            digest: all.iter().flat_map(|text| digest(&SHA256, text).as_ref().to_vec()).collect(),
            grpc: Arc::new(server(files, &certified, &roots, Some(*clients), b"h2")?),
            http: Arc::new(server(files, &certified, &roots, None, b"http/1.1")?),
            certified,
            roots,
            not_after,
        })
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|error| TlsError::Read { path: path.to_owned(), error })
}

fn none(path: &Path) -> TlsError {
    let error = "there is none".to_owned();
    TlsError::Pem { path: path.to_owned(), expected: "certificate", error }
}

fn certificates(path: &Path, text: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let all: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(text).collect();
    all.map_err(|error| TlsError::Pem {
        path: path.to_owned(),
        expected: "certificate",
        error: error.to_string(),
    })
}

/// The authorities in a file.
///
/// # Errors
/// When it holds none.
pub fn read_authorities(path: &Path) -> Result<RootCertStore, TlsError> {
    authorities(path, &read(path)?)
}

fn authorities(path: &Path, text: &[u8]) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path, text)? {
        roots.add(certificate).map_err(|error| TlsError::Unusable {
            path: path.to_owned(),
            error: error.to_string(),
        })?;
    }
    if roots.is_empty() { Err(none(path)) } else { Ok(roots) }
}

fn pair(
    files: &TlsFiles,
    chain: Vec<CertificateDer<'static>>,
    key: &[u8],
) -> Result<CertifiedKey, TlsError> {
    // The library's word on a key's text may quote it.
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| TlsError::Pem {
        path: files.key.clone(),
        expected: "private key",
        error: "expected PKCS #8, PKCS #1 or SEC1".to_owned(),
    })?;
    CertifiedKey::from_der(chain, key, &provider()).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            TlsError::KeyMismatch { certificate: files.certificate.clone(), key: files.key.clone() }
        }
        error => TlsError::Unusable { path: files.certificate.clone(), error: error.to_string() },
    })
}

/// When it ends.
fn check_dates(path: &Path, leaf: &CertificateDer<'_>, now: SystemTime) -> Result<i64, TlsError> {
    let unreadable = || TlsError::Unusable {
        path: path.to_owned(),
        error: "its dates cannot be read".to_owned(),
    };
    let validity = validity::of(leaf).ok_or_else(unreadable)?;
    let now = i64::try_from(unix(now).as_secs()).map_err(|_| unreadable())?;
    let seconds = |difference: i64| Duration::from_secs(difference.unsigned_abs());
    if now > validity.not_after {
        return Err(TlsError::Expired {
            path: path.to_owned(),
            ago: seconds(now - validity.not_after),
        });
    }
    if now < validity.not_before {
        return Err(TlsError::NotYetValid {
            path: path.to_owned(),
            wait: seconds(validity.not_before - now),
        });
    }
    Ok(validity.not_after)
}

fn check_names(
    path: &Path,
    leaf: &CertificateDer<'_>,
    identity: Option<&(TrustDomain, Part)>,
    names: &[String],
) -> Result<(), TlsError> {
    if let Some((domain, part)) = identity {
        let expected = domain.id_of(*part);
        let found = spiffe::id_in(leaf);
        if found.as_deref() != Some(expected.as_str()) {
            let found = found.map(|found| format!("`{found}`"));
            return Err(TlsError::Identity { path: path.to_owned(), expected, found });
        }
    }
    let certificate = EndEntityCert::try_from(leaf)
        .map_err(|error| TlsError::Unusable { path: path.to_owned(), error: error.to_string() })?;
    for name in names {
        let wrong = || TlsError::Name { path: path.to_owned(), name: name.clone() };
        let server_name = ServerName::try_from(name.as_str()).map_err(|_| wrong())?;
        certificate.verify_is_valid_for_subject_name(&server_name).map_err(|_| wrong())?;
    }
    Ok(())
}

/// As the others will judge it, when it calls them and when they call it.
fn check_trusted(
    files: &TlsFiles,
    ca: &Path,
    certified: &CertifiedKey,
    roots: &Arc<RootCertStore>,
    now: SystemTime,
) -> Result<(), TlsError> {
    let untrusted =
        |error| TlsError::Untrusted { path: files.certificate.clone(), ca: ca.to_owned(), error };
    let now = UnixTime::since_unix_epoch(unix(now));
    let Some((leaf, more)) = certified.cert.split_first() else {
        return Err(none(&files.certificate));
    };
    client_verifier(ca, roots, ClientCertificates::Required)?
        .verify_client_cert(leaf, more, now)
        .map_err(untrusted)?;
    let parsed = ParsedCertificate::try_from(leaf).map_err(untrusted)?;
    let algorithms = provider().signature_verification_algorithms;
    rustls::client::verify_server_cert_signed_by_trust_anchor(
        &parsed,
        roots,
        more,
        now,
        algorithms.all,
    )
    .map_err(untrusted)
}

fn client_verifier(
    ca: &Path,
    roots: &Arc<RootCertStore>,
    clients: ClientCertificates,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let builder = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider());
    let builder = match clients {
        ClientCertificates::Optional => builder.allow_unauthenticated(),
        ClientCertificates::Required => builder,
    };
    builder
        .build()
        .map_err(|error| TlsError::Unusable { path: ca.to_owned(), error: error.to_string() })
}

fn server(
    files: &TlsFiles,
    certified: &Arc<CertifiedKey>,
    roots: &Arc<RootCertStore>,
    clients: Option<ClientCertificates>,
    protocol: &[u8],
) -> Result<ServerConfig, TlsError> {
    let unusable = |error: rustls::Error| TlsError::Unusable {
        path: files.certificate.clone(),
        error: error.to_string(),
    };
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(unusable)?;
    let builder = match (clients, &files.ca) {
        (Some(clients), Some(ca)) => {
            builder.with_client_cert_verifier(client_verifier(ca, roots, clients)?)
        }
        (None, _) | (_, None) => builder.with_no_client_auth(),
    };
    let resolver = SingleCertAndKey::from(certified.clone());
    let mut config = builder.with_cert_resolver(Arc::new(resolver));
    // A resumed session would not be verified again. Connections are few and long, so a full handshake each costs little.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.alpn_protocols = vec![protocol.to_vec()];
    Ok(config)
}

fn unix(time: SystemTime) -> Duration {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}
