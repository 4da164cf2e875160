//! A certificate authority, and the files that its certificates are kept in.

use std::{fs, path::Path};

use countersign_serve::{
    Tls,
    tls::{ClientCertificates, Part, TlsFiles, TlsSettings},
};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, date_time_ymd,
};

pub const DOMAIN: &str = "example.org";

pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub pem: String,
}

/// What a certificate says.
#[derive(Clone, Copy)]
pub struct Wish<'a> {
    pub id: Option<&'a str>,
    pub name: &'a str,
    /// The years in which it is good.
    pub years: (i32, i32),
    pub usages: &'a [ExtendedKeyUsagePurpose],
}

impl Wish<'_> {
    pub fn of(id: &str) -> Wish<'_> {
        Wish {
            id: Some(id),
            name: "localhost",
            years: (2020, 4000),
            usages: &[ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
        }
    }
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// A certificate and its key, PEM.
    pub fn issue(&self, wish: Wish<'_>) -> (String, String) {
        let mut params = CertificateParams::new(vec![wish.name.to_owned()]).unwrap();
        if let Some(id) = wish.id {
            params.subject_alt_names.push(SanType::URI(id.try_into().unwrap()));
        }
        params.not_before = date_time_ymd(wish.years.0, 1, 1);
        params.not_after = date_time_ymd(wish.years.1, 1, 1);
        params.extended_key_usages = wish.usages.to_vec();
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}

/// Three files in a folder.
pub fn write(folder: &Path, (certificate, key): (String, String), ca: &str) -> TlsFiles {
    let files = TlsFiles {
        certificate: folder.join("tls.crt"),
        key: folder.join("tls.key"),
        ca: Some(folder.join("ca.crt")),
    };
    fs::create_dir_all(folder).unwrap();
    fs::write(&files.certificate, certificate).unwrap();
    fs::write(&files.key, key).unwrap();
    fs::write(files.ca.as_ref().unwrap(), ca).unwrap();
    files
}

pub fn settings(files: TlsFiles, part: Part, clients: ClientCertificates) -> TlsSettings {
    let identity = Some((DOMAIN.parse().unwrap(), part));
    TlsSettings { files, identity, names: Vec::new(), clients }
}

/// A part with a good certificate of `authority`, which believes `ca`.
pub fn part(folder: &Path, authority: &Authority, part: Part, ca: &str) -> Tls {
    let id = format!("spiffe://{DOMAIN}/countersign/{part}");
    let files = write(&folder.join(part.to_string()), authority.issue(Wish::of(&id)), ca);
    Tls::load(settings(files, part, ClientCertificates::Optional)).unwrap()
}
