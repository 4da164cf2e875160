//! `countersign certificates`: an authority of one's own, and a certificate for each part of a cluster, as files.
//!
//! For compose, tests and small places; where there is a cert-manager, SPIRE or a company's own authority, those make better ones. The
//! authority's key stays in `ca.key`: who has it can be any part of Countersign.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
};

use clap::Args;
use countersign_policy_store::write_private;
use countersign_serve::tls::{Part, TrustDomain};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
};
use time::{Duration, OffsetDateTime};

use crate::exit::Exit;

/// An authority's certificate is good for so long.
const AUTHORITY_DAYS: u16 = 3650;
/// So are the others', unless told otherwise.
const DAYS: u16 = 90;
/// Clocks differ.
const BEFORE: Duration = Duration::minutes(5);

/// `countersign certificates`.
#[derive(Args, Debug)]
pub struct CertificatesArgs {
    /// The folder: ca.crt, ca.key, and one folder for each part with tls.crt, tls.key and ca.crt
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// The trust domain: certificates name services as spiffe://NAME/countersign/SERVICE
    #[arg(long, value_name = "NAME")]
    pub trust_domain: TrustDomain,
    /// A part, and the names that it is called by: `policy-store=store-1.example.org,10.0.0.7`; may be repeated. Any other word than
    /// policy-store, decision and gateway gets a certificate without a SPIFFE id, as etcd needs one
    #[arg(long = "part", value_name = "PART=NAME[,NAME...]", required = true, value_parser = named)]
    pub parts: Vec<Named>,
    /// How long the certificates are good
    #[arg(long, value_name = "DAYS", default_value_t = DAYS, value_parser = clap::value_parser!(u16).range(1..=825))]
    pub days: u16,
    /// The user that the files are for, by number; without, who runs this
    #[arg(long, value_name = "UID")]
    pub owner: Option<u32>,
}

/// A part, and the names that it is called by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    part: String,
    names: Vec<String>,
}

fn named(text: &str) -> Result<Named, String> {
    let (part, names) =
        text.split_once('=').ok_or("give a part and its names: `gateway=tokens.example.org`")?;
    let is_folder = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if part.is_empty() || !part.chars().all(is_folder) {
        return Err("a part is named by lower-case letters, digits and dashes".to_owned());
    }
    let names: Vec<String> = names.split(',').map(str::to_owned).collect();
    if names.iter().any(String::is_empty) {
        return Err("a name is empty".to_owned());
    }
    Ok(Named { part: part.to_owned(), names })
}

/// Why there are no certificates.
#[derive(Debug, thiserror::Error)]
pub enum CertificatesError {
    /// A file or a folder.
    #[error("cannot use `{}`: {error}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// The system's word.
        error: io::Error,
    },
    /// A certificate without its key, or a key without its certificate.
    #[error("`{}` is there without `{}`: put both back, or take both away for a new authority", there.display(), missing.display())]
    HalfAnAuthority {
        /// The file that is there.
        there: PathBuf,
        /// The one that is not.
        missing: PathBuf,
    },
    /// The library refuses.
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
}

/// The certificates of all three services, each for `names`, in `folder`, whose authority is made if there is none.
///
/// # Errors
/// When a file cannot be used, or a name is none.
pub fn make_all(
    folder: &Path,
    trust_domain: TrustDomain,
    names: &[String],
) -> Result<(), CertificatesError> {
    let all = [Part::PolicyStore, Part::Decision, Part::Gateway];
    let parts = all.map(|part| Named { part: part.to_string(), names: names.to_owned() });
    let args = CertificatesArgs {
        out: folder.to_owned(),
        trust_domain,
        parts: parts.into(),
        days: DAYS,
        owner: None,
    };
    make(&args, OffsetDateTime::now_utc())
}

/// Makes what is asked for. An authority that is there is used again, and every certificate is made anew.
pub fn run(args: &CertificatesArgs) -> Exit {
    match make(args, OffsetDateTime::now_utc()) {
        Ok(()) => {
            println!("certificates for {} parts are in {}", args.parts.len(), args.out.display());
            Exit::Done
        }
        Err(error) => Exit::failed(error),
    }
}

fn make(args: &CertificatesArgs, now: OffsetDateTime) -> Result<(), CertificatesError> {
    let writer = Writer { owner: args.owner };
    writer.folder(&args.out)?;
    let (authority, ca) = authority(&writer, &args.out, &args.trust_domain, now)?;
    for Named { part, names } in &args.parts {
        let mut params = CertificateParams::new(names.clone())?;
        params.distinguished_name.push(DnType::CommonName, format!("countersign {part}"));
        let known = [Part::PolicyStore, Part::Decision, Part::Gateway];
        if let Some(known) = known.into_iter().find(|known| known.to_string() == *part) {
            let id = args.trust_domain.id_of(known);
            params.subject_alt_names.push(SanType::URI(id.try_into()?));
        }
        params.not_before = now - BEFORE;
        params.not_after = now + Duration::days(args.days.into());
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let certificate = params.signed_by(&key, &authority)?;
        let folder = args.out.join(part);
        writer.folder(&folder)?;
        writer.file(&folder.join("tls.key"), key.serialize_pem().as_bytes())?;
        writer.file(&folder.join("tls.crt"), certificate.pem().as_bytes())?;
        writer.file(&folder.join("ca.crt"), ca.as_bytes())?;
    }
    Ok(())
}

/// The authority, and its certificate in PEM.
fn authority(
    writer: &Writer,
    folder: &Path,
    trust_domain: &TrustDomain,
    now: OffsetDateTime,
) -> Result<(Issuer<'static, KeyPair>, String), CertificatesError> {
    let (certificate_file, key_file) = (folder.join("ca.crt"), folder.join("ca.key"));
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, format!("countersign {trust_domain}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = now - BEFORE;
    params.not_after = now + Duration::days(AUTHORITY_DAYS.into());
    let read = |path: &Path| {
        fs::read_to_string(path)
            .map_err(|error| CertificatesError::File { path: path.to_owned(), error })
    };
    match (certificate_file.exists(), key_file.exists()) {
        (true, true) => {
            let key = KeyPair::from_pem(&read(&key_file)?)?;
            // Of the certificate that is there, the name and the key are what others are signed with.
            Ok((Issuer::new(params, key), read(&certificate_file)?))
        }
        (false, false) => {
            let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
            let certificate = params.self_signed(&key)?.pem();
            writer.secret(&key_file, key.serialize_pem().as_bytes())?;
            writer.file(&certificate_file, certificate.as_bytes())?;
            Ok((Issuer::new(params, key), certificate))
        }
        (true, false) => {
            Err(CertificatesError::HalfAnAuthority { there: certificate_file, missing: key_file })
        }
        (false, true) => {
            Err(CertificatesError::HalfAnAuthority { there: key_file, missing: certificate_file })
        }
    }
}

struct Writer {
    owner: Option<u32>,
}

impl Writer {
    fn folder(&self, path: &Path) -> Result<(), CertificatesError> {
        let made = fs::DirBuilder::new().recursive(true).mode(0o755).create(path);
        made.map_err(|error| CertificatesError::File { path: path.to_owned(), error })
    }

    /// For whoever runs this alone.
    fn secret(&self, path: &Path, text: &[u8]) -> Result<(), CertificatesError> {
        write_private(path, text)
            .map_err(|error| CertificatesError::File { path: path.to_owned(), error })
    }

    /// For the owner alone; a certificate is no secret, and its reader needs no more than its key's.
    fn file(&self, path: &Path, text: &[u8]) -> Result<(), CertificatesError> {
        self.secret(path, text)?;
        let is_key = path.extension().is_some_and(|extension| extension == "key");
        let handed_over = || {
            if !is_key {
                fs::set_permissions(path, fs::Permissions::from_mode(0o644))?;
            }
            match self.owner {
                Some(owner) => std::os::unix::fs::chown(path, Some(owner), None),
                None => Ok(()),
            }
        };
        handed_over().map_err(|error| CertificatesError::File { path: path.to_owned(), error })
    }
}

#[cfg(test)]
mod tests {
    use countersign_serve::{
        Tls,
        tls::{ClientCertificates, TlsFiles, TlsSettings},
    };

    use super::*;

    fn args(folder: &Path) -> CertificatesArgs {
        let parts =
            ["policy-store=localhost,127.0.0.1", "gateway=tokens.example.org", "etcd=etcd-1"];
        CertificatesArgs {
            out: folder.to_owned(),
            trust_domain: "example.org".parse().unwrap(),
            parts: parts.into_iter().map(|part| named(part).unwrap()).collect(),
            days: 30,
            owner: None,
        }
    }

    fn load(folder: &Path, part: Part, name: &str) -> Result<Tls, String> {
        let folder = folder.join(part.to_string());
        let files = TlsFiles {
            certificate: folder.join("tls.crt"),
            key: folder.join("tls.key"),
            ca: Some(folder.join("ca.crt")),
        };
        let identity = Some(("example.org".parse().unwrap(), part));
        let clients = ClientCertificates::Required;
        Tls::load(TlsSettings { files, identity, names: vec![name.to_owned()], clients })
            .map_err(|error| error.to_string())
    }

    #[test]
    fn services_start_with_them_also_after_a_renewal() {
        let folder = tempfile::tempdir().unwrap();
        let mut before = String::new();
        for _ in 0..2 {
            make(&args(folder.path()), OffsetDateTime::now_utc()).unwrap();
            load(folder.path(), Part::PolicyStore, "localhost").unwrap();
            load(folder.path(), Part::PolicyStore, "127.0.0.1").unwrap();
            load(folder.path(), Part::Gateway, "tokens.example.org").unwrap();
            assert!(load(folder.path(), Part::Gateway, "localhost").is_err());
            assert!(folder.path().join("etcd/tls.key").exists());
            let authority = fs::read_to_string(folder.path().join("ca.crt")).unwrap();
            assert!(before.is_empty() || before == authority);
            before = authority;
        }
        for (file, mode) in
            [("ca.key", 0o600), ("gateway/tls.key", 0o600), ("gateway/tls.crt", 0o644)]
        {
            let permissions = fs::metadata(folder.path().join(file)).unwrap().permissions();
            assert_eq!(permissions.mode() & 0o777, mode, "{file}");
        }
        fs::remove_file(folder.path().join("ca.key")).unwrap();
        let error = make(&args(folder.path()), OffsetDateTime::now_utc()).unwrap_err().to_string();
        assert!(error.contains("put both back"), "{error}");
    }

    #[test]
    fn parts_and_names() {
        let check = |text: &str, good: bool| assert_eq!(named(text).is_ok(), good, "{text}");
        check("gateway=a,b", true);
        check("etcd-1=etcd-1", true);
        check("gateway", false);
        check("gateway=", false);
        check("gateway=a,,b", false);
        check("=a", false);
        check("../x=a", false);
    }
}
