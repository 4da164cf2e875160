//! Who a server takes its callers for, and which servers a caller talks to.

use std::sync::Arc;

use countersign_serve::{
    Tls,
    dial::Trust,
    tls::{ClientCertificates, Part, trusting},
};
use rustls::{
    ClientConfig,
    crypto::aws_lc_rs::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use crate::{
    authority::{Authority, Wish, part, settings, write},
    server::{ask, serve},
};

/// A caller that checks nothing about its own certificate, as a stranger's program may be.
fn careless(server_ca: &Authority, (certificate, key): (String, String)) -> Trust {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(server_ca.pem.as_bytes()).unwrap()).unwrap();
    let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Trust::Name(Arc::new(config))
}

#[tokio::test]
async fn callers_are_who_their_certificate_says() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let store = part(folder.path(), &ours, Part::PolicyStore, &ours.pem);
    let origin = &serve(Some(store)).await;
    let check = async |trust: Trust, expected: Option<&str>| {
        let found = ask(origin, trust).await;
        assert_eq!(found.as_deref().ok(), expected, "{found:?}");
    };
    let gateway = part(folder.path(), &ours, Part::Gateway, &ours.pem);
    let decision = part(folder.path(), &ours, Part::Decision, &ours.pem);
    check(Trust::Part(Part::PolicyStore, gateway), Some("gateway")).await;
    check(Trust::Part(Part::PolicyStore, decision), Some("decision")).await;
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, &ours.pem).unwrap();
    check(Trust::Name(Arc::new(trusting(&ca).unwrap())), Some("nobody")).await;

    let id = "spiffe://example.org/countersign/gateway";
    let check = async |authority: &Authority, wish: Wish<'_>, expected: Option<&str>| {
        check(careless(&ours, authority.issue(wish)), expected).await;
    };
    check(&ours, Wish::of(id), Some("gateway")).await;
    check(&theirs, Wish::of(id), None).await;
    check(&ours, Wish { years: (2020, 2021), ..Wish::of(id) }, None).await;
    check(&ours, Wish { years: (3000, 4000), ..Wish::of(id) }, None).await;
    let server_alone = &[rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    check(&ours, Wish { usages: server_alone, ..Wish::of(id) }, None).await;
    check(&ours, Wish::of("spiffe://example.com/countersign/gateway"), Some("nobody")).await;
    check(&ours, Wish::of("spiffe://example.org/countersign/policy-store"), Some("nobody")).await;
    check(&ours, Wish::of("spiffe://example.org/countersign/Gateway"), Some("nobody")).await;
    check(&ours, Wish { id: None, name: "countersign.gateway", ..Wish::of(id) }, Some("nobody"))
        .await;
}

#[tokio::test]
async fn without_a_certificate_nobody_is_spoken_to_where_it_is_required() {
    let folder = tempfile::tempdir().unwrap();
    let ours = Authority::new("ours");
    let id = "spiffe://example.org/countersign/policy-store";
    let files = write(&folder.path().join("store"), ours.issue(Wish::of(id)), &ours.pem);
    let ca = files.ca.clone().unwrap();
    let store = Tls::load(settings(files, Part::PolicyStore, ClientCertificates::Required));
    let origin = serve(Some(store.unwrap())).await;
    let gateway = part(folder.path(), &ours, Part::Gateway, &ours.pem);
    let asked = ask(&origin, Trust::Part(Part::PolicyStore, gateway)).await;
    assert_eq!(asked.as_deref(), Ok("gateway"));
    let asked = ask(&origin, Trust::Name(Arc::new(trusting(&ca).unwrap()))).await;
    assert!(asked.is_err(), "{asked:?}");
}

#[tokio::test]
async fn servers_are_believed_by_authority_and_id() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let both = format!("{}{}", ours.pem, theirs.pem);
    let gateway = part(folder.path(), &ours, Part::Gateway, &ours.pem);
    let store = serve(Some(part(folder.path(), &ours, Part::PolicyStore, &ours.pem))).await;
    let foreign = part(&folder.path().join("foreign"), &theirs, Part::PolicyStore, &both);
    let foreign = serve(Some(foreign)).await;
    let clear = serve(None).await;
    let check = async |origin: &str, expected: Part, outcome: Result<&str, &str>| {
        let found = ask(origin, Trust::Part(expected, gateway.clone())).await;
        match (&found, outcome) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected),
            (Err(found), Err(expected)) => assert!(found.contains(expected), "{found}"),
            (found, expected) => panic!("{origin}: {found:?} {expected:?}"),
        }
    };
    check(&store, Part::PolicyStore, Ok("gateway")).await;
    let other = "expected the server `spiffe://example.org/countersign/decision`";
    check(&store, Part::Decision, Err(other)).await;
    check(&foreign, Part::PolicyStore, Err("UnknownIssuer")).await;
    check(&clear.replace("http:", "https:"), Part::PolicyStore, Err("InvalidContentType")).await;
    check(&store.replace("https:", "http:"), Part::PolicyStore, Err("")).await;
}

#[tokio::test]
async fn one_address_that_is_gone_leaves_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let ours = Authority::new("ours");
    let gateway = part(folder.path(), &ours, Part::Gateway, &ours.pem);
    let store = serve(Some(part(folder.path(), &ours, Part::PolicyStore, &ours.pem))).await;
    // Port 9 is `discard`, where nobody listens; whichever address is tried first, the answer is the same.
    let origins = format!("https://localhost:9,{store},https://127.0.0.1:9");
    for _ in 0..8 {
        let asked = ask(&origins, Trust::Part(Part::PolicyStore, gateway.clone())).await;
        assert_eq!(asked.as_deref(), Ok("gateway"));
    }
}
