//! What `up` leaves behind, and what it does when it is started again.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops here")]

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use countersign::{
    endpoints::Endpoints,
    up::{UpOptions, start},
};
use countersign_harness::{Ask, System};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_the_data_folder() {
    let system = System::start().await;
    let running = &system.running;
    assert_eq!(mode(&running.data_dir), 0o700);
    assert_eq!(mode(&running.admin_token_path), 0o600);
    assert_eq!(mode(&running.root_credentials_path), 0o600);
    assert_eq!(Endpoints::read(&running.data_dir).unwrap(), running.endpoints);
    assert_eq!(running.issuer, running.endpoints.http);
    let root: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(&running.root_credentials_path).unwrap()).unwrap();
    assert_eq!(root["Version"], 1);
    assert!(root["AccessKeyId"].is_string() && root["SecretAccessKey"].is_string());
    system.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn started_again_it_has_what_it_had() {
    let folder = tempfile::tempdir().unwrap();
    let options = || UpOptions::on_free_ports("123456789012".parse().unwrap(), folder.path());
    let running = start(options()).await.unwrap();
    let key = fs::read(&running.root_credentials_path).unwrap();
    let (admin, endpoints) = (running.admin_token_path.clone(), running.endpoints.clone());
    // While it runs, the folder is its own.
    assert!(start(options()).await.is_err());
    assert!(admin.exists());
    assert_eq!(Endpoints::read(folder.path()).unwrap(), endpoints);
    running.shutdown().await;
    // What says that it is up is gone with it.
    assert!(!admin.exists());
    assert!(Endpoints::read(folder.path()).is_err());

    let mut other = options();
    other.account = "210987654321".parse().unwrap();
    let error = start(other).await.unwrap_err().to_string();
    assert!(error.contains("--account 123456789012"), "{error}");

    let running = start(options()).await.unwrap();
    assert_eq!(fs::read(&running.root_credentials_path).unwrap(), key);
    running.shutdown().await;
}

/// The root may become the administrator of its account, and nobody else.
#[tokio::test(flavor = "multi_thread")]
async fn the_root_is_the_administrator_alone() {
    let system = System::start().await;
    let principal = r#"{"AWS":"arn:aws:iam::123456789012:root"}"#;
    let role = system.create_role("Trusting", principal, &[], "").await;
    let administrator = "arn:aws:iam::123456789012:role/CountersignAdministrator";
    let root = system.root();
    assert!(system.exchange(&root, &Ask::new(administrator, "again", "countersign")).await.is_ok());
    let refused = system.exchange(&root, &Ask::new(role, "root", "countersign")).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::PermissionDenied, "{refused:?}");
    let user = system.create_user("alice").await;
    let refused =
        system.exchange(&user.credentials, &Ask::new(administrator, "alice", "countersign")).await;
    assert_eq!(refused.unwrap_err().code(), tonic::Code::PermissionDenied);
    system.shutdown().await;
}
