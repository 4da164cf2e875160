//! TLS with certificates on both sides, and etcd's own users.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use countersign_store::conformance::put;
use countersign_store::{EtcdOptions, EtcdStore, EtcdTls, EtcdUser, Store};
use etcd_client::Permission;
use tempfile::TempDir;

use crate::cluster::{Certificates, Cluster, Setup};

fn openssl(arguments: &[&str]) {
    let output = Command::new("openssl").args(arguments).output().expect("openssl");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// An authority, and a certificate for a server on loopback and one for a client.
fn certificates(folder: &Path) -> Certificates {
    let at = |name: &str| folder.join(name);
    let text = |path: &PathBuf| path.display().to_string();
    let (ca, ca_key) = (at("ca.pem"), at("ca.key"));
    let new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc"];
    let made = |name: &str, kind: &[&str]| {
        let (certificate, key) = (at(&format!("{name}.pem")), at(&format!("{name}.key")));
        let (certificate_text, key_text) = (text(&certificate), text(&key));
        let subject = format!("/CN={name}");
        let mut arguments = vec!["req", "-x509", "-days", "2", "-subj", &subject];
        arguments.extend(["-keyout", &key_text, "-out", &certificate_text]);
        arguments.extend(new_key);
        arguments.extend(kind);
        openssl(&arguments);
        (certificate, key)
    };
    made("ca", &["-addext", "keyUsage=critical,keyCertSign"]);
    let (ca_text, ca_key_text) = (text(&ca), text(&ca_key));
    let signed = ["-CA", &ca_text, "-CAkey", &ca_key_text, "-addext", "basicConstraints=CA:FALSE"];
    let server = [&signed[..], &["-addext", "subjectAltName=IP:127.0.0.1"]].concat();
    let client = [&signed[..], &["-addext", "extendedKeyUsage=clientAuth"]].concat();
    Certificates {
        ca: ca.clone(),
        server: made("server", &server),
        client: made("client", &client),
    }
}

/// Turns authentication on, with a root and a user who may do everything under the store's prefix and nothing else.
async fn turn_authentication_on(cluster: &Cluster) {
    let mut client = cluster.client_as(0, None).await.unwrap();
    client.user_add("root", "root's password", None).await.unwrap();
    client.user_grant_role("root", "root").await.unwrap();
    client.role_add("countersign").await.unwrap();
    let all = Permission::read_write("mine/").with_prefix();
    client.role_grant_permission("countersign", all).await.unwrap();
    client.user_add("ann", "ann's password", None).await.unwrap();
    client.user_grant_role("ann", "countersign").await.unwrap();
    client.auth_enable().await.unwrap();
}

async fn refused(options: EtcdOptions, part: &str) {
    let options = EtcdOptions { request_timeout: Duration::from_secs(1), ..options };
    let error = EtcdStore::open(options).await.err().expect("refused").to_string();
    assert!(error.to_lowercase().contains(part), "{error}");
    assert!(!error.contains("password of"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn tls_and_users() {
    let folder = TempDir::new().unwrap();
    let certificates = certificates(folder.path());
    let setup = Setup { members: 3, certificates: Some(certificates), ..Setup::default() };
    let mut cluster = Cluster::start_with(setup).await;
    turn_authentication_on(&cluster).await;
    let ann =
        |password: &str| Some(EtcdUser { name: "ann".to_owned(), password: password.to_owned() });
    let right = EtcdOptions { user: ann("ann's password"), ..cluster.options("mine/") };

    let store = EtcdStore::open(right.clone()).await.unwrap();
    let number = store.commit(vec![], vec![put("a", "1")]).await.unwrap().number;
    store.watch_head().wait_for(|head| *head >= number).await.unwrap();
    assert_eq!(store.changes_since(0, 9).await.unwrap().len(), 1);
    let late = EtcdStore::open(right.clone()).await.unwrap();
    assert_eq!(late.changes_since(0, 9).await.unwrap().len(), 1, "from etcd's history");

    // Who is nobody, or another, or elsewhere.
    refused(EtcdOptions { user: None, ..right.clone() }, "permission denied").await;
    refused(EtcdOptions { user: ann("wrong"), ..right.clone() }, "authentication failed").await;
    refused(EtcdOptions { prefix: "theirs/".to_owned(), ..right.clone() }, "permission denied")
        .await;
    // A member that no authority vouches for, and a client without a certificate.
    let tls = EtcdTls { ca: None, ..right.tls.clone() };
    refused(EtcdOptions { tls, ..right.clone() }, "certificate").await;
    let tls = EtcdTls { identity: None, ..right.tls.clone() };
    refused(EtcdOptions { tls, ..right.clone() }, "unavailable").await;

    // Tokens do not outlive a member, and a member that is down does not matter.
    for member in 0..3 {
        cluster.members[member].kill();
        while store.commit(vec![], vec![put("a", "2")]).await.is_err() {}
        cluster.members[member].start();
        cluster.healthy().await;
        while store.commit(vec![], vec![put("a", "3")]).await.is_err() {}
    }
    let head = store.head().await.unwrap();
    store.watch_head().wait_for(|seen| *seen >= head).await.unwrap();
    let expected = store.changes_since(0, 100).await.unwrap();
    assert!(expected.len() >= 7, "{}", expected.len());
    let late = EtcdStore::open(right.clone()).await.unwrap();
    assert_eq!(late.changes_since(0, 100).await.unwrap(), expected);

    // A user whose permission is taken is refused from then on.
    let mut root = cluster.client_as(0, Some(("root", "root's password"))).await.unwrap();
    root.user_revoke_role("ann", "countersign").await.unwrap();
    let after = store.commit(vec![], vec![put("a", "4")]).await.unwrap_err().to_string();
    assert!(after.contains("permission denied") || after.contains("unavailable"), "{after}");
    let read = store.get(b"a").await.unwrap_err().to_string();
    assert!(read.contains("permission denied"), "{read}");
}
