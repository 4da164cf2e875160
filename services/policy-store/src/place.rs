//! Where policy data is kept: which engine, and what it takes to reach it.
//!
//! The engine on etcd is a feature of the build. Its options are read and checked in every build, so that one without it can say what is
//! missing before anything starts.

#[cfg(feature = "etcd")]
use std::fs;
use std::{
    io,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
};

#[cfg(feature = "etcd")]
use countersign_store::{EtcdCredentials, EtcdOptions, EtcdTls, EtcdUser};
use countersign_store::{SledOptions, SledStore, Store, StoreError};

/// Where policy data is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the folder `store` of the data folder, by the embedded engine.
    DataFolder,
    /// In this folder, by the embedded engine.
    Sled(PathBuf),
    /// In an etcd cluster, which other policy stores may share.
    Etcd(EtcdPlace),
}

/// A cluster, and who this process is to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EtcdPlace {
    /// `http://host:2379` or `https://host:2379`.
    pub endpoints: Vec<String>,
    /// What every key begins with; `countersign/` without.
    pub prefix: Option<String>,
    /// The user, and a file that holds the password.
    pub user: Option<(String, PathBuf)>,
    /// The authority of the members' certificates, PEM.
    pub ca: Option<PathBuf>,
    /// This process's certificate and key, PEM.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Revisions that are kept; 0 leaves compaction to the cluster; without, 100,000.
    pub keep_revisions: Option<u64>,
}

/// Why the place cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// No engine is named so.
    #[error(
        "`{0}` is no place for policy data: give `sled:FOLDER` or `etcd:http://HOST:2379[,http://HOST:2379...]`"
    )]
    Unknown(String),
    /// The build has no etcd.
    #[error(
        "this build has no etcd: build one that has with `cargo build --release -p countersign --features etcd` (it needs protoc, Debian's package protobuf-compiler)"
    )]
    NotBuilt,
    /// A password, certificate or key.
    #[error("cannot read `{}`: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's word.
        error: io::Error,
    },
    /// An option that the engine refuses.
    #[cfg(feature = "etcd")]
    #[error(transparent)]
    Etcd(#[from] countersign_store::InvalidEtcdOptions),
    /// The engine.
    #[error("cannot open the store: {0}")]
    Open(#[from] StoreError),
    /// A cluster that does not answer, or refuses.
    #[error(
        "cannot open the store in etcd at {endpoints}: {error}. See that it runs, and that it knows what is shown to it and the other way \
         round: --etcd-ca, --etcd-cert and --etcd-key, --etcd-user (deploy/ETCD.md)"
    )]
    Cluster {
        /// Where it was looked for.
        endpoints: String,
        /// Its word, or the connection's.
        error: StoreError,
    },
}

impl FromStr for Place {
    type Err = PlaceError;

    fn from_str(text: &str) -> Result<Self, PlaceError> {
        let unknown = || PlaceError::Unknown(text.to_owned());
        match text.split_once(':').ok_or_else(unknown)? {
            ("sled", folder) if !folder.is_empty() => Ok(Self::Sled(folder.into())),
            ("etcd", endpoints) if !endpoints.is_empty() => Ok(Self::Etcd(EtcdPlace {
                endpoints: endpoints.split(',').map(str::to_owned).collect(),
                ..EtcdPlace::default()
            })),
            _ => Err(unknown()),
        }
    }
}

impl Place {
    /// Holds the place to the rules, and reads its files; nothing is opened.
    ///
    /// # Errors
    /// See [`PlaceError`].
    pub fn check(&self) -> Result<(), PlaceError> {
        match self {
            Self::DataFolder | Self::Sled(_) => Ok(()),
            Self::Etcd(place) => place.check(),
        }
    }

    /// The embedded engine's folder, if it is the one.
    #[must_use]
    pub fn folder(&self, data_dir: &Path) -> Option<PathBuf> {
        match self {
            Self::DataFolder => Some(data_dir.join("store")),
            Self::Sled(folder) => Some(folder.clone()),
            Self::Etcd(_) => None,
        }
    }

    /// Whether other processes may be working on the same data.
    #[must_use]
    pub fn shared(&self) -> bool {
        matches!(self, Self::Etcd(_))
    }

    /// Opens the store, or makes it.
    ///
    /// # Errors
    /// See [`PlaceError`].
    pub async fn open(&self, data_dir: &Path) -> Result<Arc<dyn Store>, PlaceError> {
        match self {
            Self::DataFolder => open_sled(&data_dir.join("store")),
            Self::Sled(folder) => open_sled(folder),
            Self::Etcd(place) => place.open().await,
        }
    }
}

fn open_sled(folder: &Path) -> Result<Arc<dyn Store>, PlaceError> {
    Ok(Arc::new(SledStore::open(folder, SledOptions::default())?))
}

#[cfg(not(feature = "etcd"))]
impl EtcdPlace {
    fn check(&self) -> Result<(), PlaceError> {
        Err(PlaceError::NotBuilt)
    }

    async fn open(&self) -> Result<Arc<dyn Store>, PlaceError> {
        Err(PlaceError::NotBuilt)
    }
}

#[cfg(feature = "etcd")]
impl EtcdPlace {
    fn check(&self) -> Result<(), PlaceError> {
        Ok(self.options()?.check()?)
    }

    async fn open(&self) -> Result<Arc<dyn Store>, PlaceError> {
        use countersign_store::{EtcdOpenError, EtcdStore};
        match EtcdStore::open(self.options()?).await {
            Ok(store) => Ok(Arc::new(store)),
            Err(EtcdOpenError::Options(error)) => Err(error.into()),
            Err(EtcdOpenError::Store(error @ StoreError::Later { .. })) => Err(error.into()),
            Err(EtcdOpenError::Store(error)) => {
                Err(PlaceError::Cluster { endpoints: self.endpoints.join(","), error })
            }
        }
    }

    fn options(&self) -> Result<EtcdOptions, PlaceError> {
        let mut options = EtcdOptions::new(self.endpoints.iter().cloned());
        if let Some(prefix) = &self.prefix {
            options.prefix.clone_from(prefix);
        }
        (options.tls, options.user) = self.shown()?;
        let place = self.clone();
        options.renewed = Some(EtcdCredentials::new(move || match place.shown() {
            Ok(shown) => Some(shown),
            Err(error) => {
                tracing::warn!(%error, "what is shown to etcd cannot be read anew");
                None
            }
        }));
        if let Some(keep) = self.keep_revisions {
            options.keep_revisions = (keep > 0).then_some(keep);
        }
        Ok(options)
    }

    /// The certificates and the user, as their files have them now.
    fn shown(&self) -> Result<(EtcdTls, Option<EtcdUser>), PlaceError> {
        let user = self.user.as_ref().map(|(name, file)| {
            let password = zeroize::Zeroizing::new(read(file)?);
            let password =
                String::from_utf8_lossy(&password).trim_end_matches(['\r', '\n']).to_owned();
            Ok::<_, PlaceError>(EtcdUser { name: name.clone(), password })
        });
        let identity = self
            .identity
            .as_ref()
            .map(|(certificate, key)| Ok::<_, PlaceError>((read(certificate)?, read(key)?)));
        let tls = EtcdTls {
            ca: self.ca.as_deref().map(read).transpose()?,
            identity: identity.transpose()?,
        };
        Ok((tls, user.transpose()?))
    }
}

#[cfg(feature = "etcd")]
fn read(path: &Path) -> Result<Vec<u8>, PlaceError> {
    fs::read(path).map_err(|error| PlaceError::File { path: path.to_owned(), error })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<Place>) {
        let parsed = text.parse::<Place>();
        match expected {
            Some(place) => assert_eq!(parsed.unwrap(), place),
            None => {
                let message = parsed.unwrap_err().to_string();
                assert!(message.contains("sled:FOLDER"), "{message}");
            }
        }
    }

    #[test]
    fn places_are_named_by_their_engine() {
        check("sled:/var/lib/countersign", Some(Place::Sled("/var/lib/countersign".into())));
        check("sled:a:b", Some(Place::Sled("a:b".into())));
        let endpoints = vec!["http://a:1".to_owned(), "http://b:2".to_owned()];
        let etcd = Place::Etcd(EtcdPlace { endpoints, ..EtcdPlace::default() });
        check("etcd:http://a:1,http://b:2", Some(etcd));
        for broken in ["", "sled", "sled:", "etcd:", "http://a:1", "/var/lib", "SLED:x", "redis:x"]
        {
            check(broken, None);
        }
    }

    #[cfg(not(feature = "etcd"))]
    #[tokio::test]
    async fn a_build_without_etcd_says_how_to_make_one_with_it() {
        let place: Place = "etcd:http://127.0.0.1:2379".parse().unwrap();
        let opened = place.open(Path::new("/nowhere")).await.err().unwrap();
        for error in [place.check().unwrap_err(), opened] {
            assert!(error.to_string().contains("--features etcd"), "{error}");
        }
    }

    #[cfg(feature = "etcd")]
    #[test]
    fn files_and_options_are_checked_before_anything_is_opened() {
        let folder = tempfile::tempdir().unwrap();
        let password = folder.path().join("password");
        let place = |endpoint: &str| EtcdPlace {
            endpoints: vec![endpoint.to_owned()],
            user: Some(("ann".to_owned(), password.clone())),
            ..EtcdPlace::default()
        };
        let message = |place: EtcdPlace| Place::Etcd(place).check().unwrap_err().to_string();
        assert!(message(place("https://a:1")).contains("password"));
        fs::write(&password, "hunter2\n").unwrap();
        Place::Etcd(place("https://a:1")).check().unwrap();
        assert!(message(place("http://10.0.0.1:1")).contains("in clear"));
        assert!(message(place("a:1")).contains("no endpoint of etcd"));
        let options =
            EtcdPlace { keep_revisions: Some(0), ..place("https://a:1") }.options().unwrap();
        assert_eq!(options.user.map(|user| user.password).as_deref(), Some("hunter2"));
        assert_eq!(options.keep_revisions, None);
    }
}
