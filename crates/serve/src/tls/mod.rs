//! TLS between the parts and towards the world: one certificate, its key, and the authorities that are believed, all of them read again
//! when their files change.
//!
//! Connections that are open go on as they were made; every new one, in and out, uses what was read last. New files that are not good
//! change nothing, and are named in the log until they are.

mod material;
mod spiffe;
mod validity;
mod verify;

use std::{
    fmt,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

pub use material::{ClientCertificates, TlsError, TlsFiles, TlsSettings};
pub use spiffe::{NoTrustDomain, Part, TrustDomain, id_in};

use material::Material;
use verify::{Expected, Roots};

/// The files are looked at so often.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// What a port speaks inside TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/2.
    Grpc,
    /// HTTP/1.1.
    Http,
}

/// A certificate and whom it believes, as they are at the moment. Cheap to clone.
#[derive(Clone)]
pub struct Tls(Arc<Shared>);

struct Shared {
    settings: TlsSettings,
    material: ArcSwap<Material>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("files", &self.0.settings.files).finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads and checks everything.
    ///
    /// # Errors
    /// See [`TlsError`].
    pub fn load(settings: TlsSettings) -> Result<Self, TlsError> {
        let material = ArcSwap::from_pointee(Material::load(&settings, SystemTime::now())?);
        Ok(Self(Arc::new(Shared { settings, material })))
    }

    /// Reads the files again, if they changed. Returns whether they did.
    ///
    /// # Errors
    /// See [`TlsError`]. What was read before stays.
    pub fn reload(&self) -> Result<bool, TlsError> {
        self.0.reload()
    }

    /// Reads the files again whenever they change, until the last clone is gone.
    pub fn keep_fresh(&self) {
        let shared = Arc::downgrade(&self.0);
        tokio::spawn(async move {
            let mut told = String::new();
            loop {
                tokio::time::sleep(LOOK_EVERY).await;
                let Some(shared) = shared.upgrade() else { return };
                // The files may be on a network.
                let looked = tokio::task::spawn_blocking(move || shared.reload()).await;
                match looked {
                    Ok(Ok(false)) => told.clear(),
                    Ok(Ok(true)) => tracing::info!("the certificates were read again"),
                    Ok(Err(error)) => {
                        let error = error.to_string();
                        if error != told {
                            tracing::error!(%error, "the new certificates are not good; going on with those from before");
                        }
                        told = error;
                    }
                    Err(error) => tracing::error!(%error, "reading the certificates panicked"),
                }
            }
        });
    }

    /// What we are, where services are known by certificates.
    #[must_use]
    pub fn identity(&self) -> Option<&(TrustDomain, Part)> {
        self.0.settings.identity.as_ref()
    }

    /// The certificate's file, for messages.
    #[must_use]
    pub fn certificate_file(&self) -> &Path {
        &self.0.settings.files.certificate
    }

    /// What a port is configured with at the moment.
    #[must_use]
    pub fn server(&self, protocol: Protocol) -> Arc<ServerConfig> {
        let material = self.current();
        match protocol {
            Protocol::Grpc => material.grpc.clone(),
            Protocol::Http => material.http.clone(),
        }
    }

    /// What the next connection to `part` is configured with. Where services have no SPIFFE ids, the server is believed by its name.
    ///
    /// # Errors
    /// When the library refuses.
    pub fn client(&self, part: Part) -> Result<ClientConfig, rustls::Error> {
        let material = self.current();
        let (expected, shown) = match self.identity() {
            Some((domain, _)) => {
                (Expected::Id(domain.id_of(part).into()), Some(material.certified.clone()))
            }
            None => (Expected::HostName, None),
        };
        let mut config = verify::client(Roots::Fixed(material.roots.clone()), expected, shown)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(config)
    }

    /// For HTTPS to hosts that `public` authorities vouch for, or ours, which may change meanwhile. No certificate is shown.
    ///
    /// # Errors
    /// When the library refuses.
    pub fn https_client(&self, public: RootCertStore) -> Result<ClientConfig, rustls::Error> {
        let roots = Roots::Reloading(Arc::new(public), self.clone());
        verify::client(roots, Expected::HostName, None)
    }

    /// When our certificate ends, in seconds since 1970.
    #[must_use]
    pub fn not_after(&self) -> i64 {
        self.current().not_after
    }

    fn current(&self) -> Arc<Material> {
        self.0.material.load_full()
    }
}

impl Shared {
    fn reload(&self) -> Result<bool, TlsError> {
        let material = Material::load(&self.settings, SystemTime::now())?;
        if material.digest == self.material.load().digest {
            return Ok(false);
        }
        self.material.store(Arc::new(material));
        Ok(true)
    }
}

/// For a client that shows no certificate: believes the authorities in `ca`, PEM, and the name that it connects to.
///
/// # Errors
/// When the file holds no authority.
pub fn trusting(ca: &Path) -> Result<ClientConfig, TlsError> {
    let roots = material::read_authorities(ca)?;
    let unusable =
        |error: rustls::Error| TlsError::Unusable { path: ca.to_owned(), error: error.to_string() };
    let mut config = verify::client(Roots::Fixed(Arc::new(roots)), Expected::HostName, None)
        .map_err(unusable)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}
