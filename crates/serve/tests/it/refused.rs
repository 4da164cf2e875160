//! Certificates that a process does not start with, and what it says of them.

use std::fs;

use countersign_serve::{
    Tls,
    tls::{ClientCertificates, Part, TlsFiles, TlsSettings},
};

use crate::authority::{Authority, Wish, settings, write};

const ID: &str = "spiffe://example.org/countersign/policy-store";

#[test]
fn what_is_wrong_with_certificates_is_said() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let folder = tempfile::tempdir().unwrap();
    let good = Wish::of(ID);
    let check = |wish: Wish<'_>, change: &dyn Fn(&TlsFiles, &mut TlsSettings), expected: &str| {
        let files = write(folder.path(), ours.issue(wish), &ours.pem);
        let mut settings = settings(files.clone(), Part::PolicyStore, ClientCertificates::Required);
        change(&files, &mut settings);
        match Tls::load(settings) {
            Ok(_) => assert_eq!(expected, ""),
            Err(error) => {
                let error = error.to_string();
                assert!(!expected.is_empty() && error.contains(expected), "{error} / {expected}");
                assert!(
                    error.contains(&folder.path().display().to_string())
                        || expected.contains("authority"),
                    "{error}"
                );
            }
        }
    };
    let same = |_: &TlsFiles, _: &mut TlsSettings| {};
    check(good, &same, "");
    check(good, &|_, settings| settings.names = vec!["localhost".to_owned()], "");
    check(good, &|files, _| fs::remove_file(&files.key).unwrap(), "cannot read");
    check(good, &|files, _| fs::write(&files.certificate, "x").unwrap(), "holds no certificate");
    check(good, &|files, _| fs::write(&files.key, "x").unwrap(), "holds no private key");
    check(
        good,
        &|files, _| fs::write(files.ca.as_ref().unwrap(), "").unwrap(),
        "holds no certificate",
    );
    let other_key = |files: &TlsFiles, _: &mut TlsSettings| {
        fs::write(&files.key, ours.issue(good).1).unwrap();
    };
    check(good, &other_key, "is not the one of the certificate");
    check(Wish { years: (2020, 2021), ..good }, &same, "expired");
    check(Wish { years: (3000, 4000), ..good }, &same, "is good only in");
    check(Wish { id: None, ..good }, &same, "and names none");
    let gateway = Wish::of("spiffe://example.org/countersign/gateway");
    check(gateway, &same, "names `spiffe://example.org/countersign/gateway`");
    check(
        good,
        &|_, settings| settings.names = vec!["other.example.org".to_owned()],
        "is not for `other.example.org`",
    );
    let other_ca = |files: &TlsFiles, _: &mut TlsSettings| {
        fs::write(files.ca.as_ref().unwrap(), &theirs.pem).unwrap();
    };
    check(good, &other_ca, "would be refused by those who trust");
    let client_alone = &[rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    check(Wish { usages: client_alone, ..good }, &same, "would be refused by those who trust");
    check(good, &|_, settings| settings.files.ca = None, "certificates of one authority");
    let public = |_: &TlsFiles, settings: &mut TlsSettings| {
        settings.files.ca = None;
        settings.identity = None;
    };
    check(Wish { id: None, ..good }, &public, "");
}

#[test]
fn no_error_shows_a_key() {
    let ours = Authority::new("ours");
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = ours.issue(Wish::of(ID));
    let half: String = key.chars().take(90).collect();
    let files = write(folder.path(), (certificate, half.clone()), &ours.pem);
    let error =
        Tls::load(settings(files, Part::PolicyStore, ClientCertificates::Optional)).unwrap_err();
    let shown = format!("{error} {error:?}");
    let secret: String = half.lines().nth(1).unwrap().chars().take(16).collect();
    assert!(!shown.contains(&secret), "{shown}");
}
