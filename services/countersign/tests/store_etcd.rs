//! `countersign store` between engines, by the command itself: sled to etcd and back, the same by count and digest, each another store.
#![allow(clippy::unwrap_used, clippy::panic, reason = "this is a test")]

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use countersign_policy_store::{
    Config, EtcdPlace, Place, Quotas, SealingKeys, Seeding, open, transfer::make_store,
};
use countersign_serve::{ServiceIdentities, telemetry::Metrics};
use tempfile::TempDir;

const ACCOUNT: &str = "123456789012";

struct Stores {
    folder: TempDir,
    etcd: String,
    prefix: String,
}

impl Stores {
    fn new() -> Self {
        let etcd = env::var("COUNTERSIGN_TEST_ETCD").unwrap_or_else(|_| {
            panic!("set COUNTERSIGN_TEST_ETCD to an etcd's address, as tests/run does")
        });
        let folder = tempfile::tempdir().unwrap();
        let prefix = format!("cli{}/", folder.path().file_name().unwrap().display());
        Self { folder, etcd, prefix }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// The arguments that name the store in etcd.
    fn in_etcd(&self) -> [String; 4] {
        [
            "--store".into(),
            format!("etcd:{}", self.etcd),
            "--etcd-prefix".into(),
            self.prefix.clone(),
        ]
    }

    fn place(&self) -> Place {
        Place::Etcd(EtcdPlace {
            endpoints: vec![self.etcd.clone()],
            prefix: Some(self.prefix.clone()),
            ..EtcdPlace::default()
        })
    }

    /// What a policy store says of the place: its id, if it would serve it.
    async fn opened(&self, data_dir: &Path, place: Place) -> Result<String, String> {
        let config = Config {
            data_dir: data_dir.to_owned(),
            place: place.clone(),
            account: ACCOUNT.parse().unwrap(),
            issuer: "http://127.0.0.1:7400".to_owned(),
            region: "us-east-1".to_owned(),
            identities: ServiceIdentities::default(),
            process: "test".to_owned(),
            sealing: SealingKeys::DataFolder,
            quotas: Quotas::default(),
            metrics: Metrics::default(),
            secrets_dir: None,
            seeding: Seeding::Here,
        };
        open(config).await.map(drop).map_err(|error| error.to_string())?;
        Ok(make_store(&place, data_dir).await.unwrap().id().to_string())
    }
}

/// Runs the command; what it printed, or said.
fn store(arguments: &[&str], more: &[String]) -> Result<String, String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
    let output = command.arg("store").args(arguments).args(more).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

/// The lines that count and digest.
fn contents(report: &str) -> Vec<&str> {
    let lines = report.lines().skip_while(|line| !line.starts_with("sha256 "));
    let is_one = |line: &&str| line.starts_with("sha256 ") || line.starts_with(' ');
    let lines: Vec<&str> = lines.take_while(is_one).collect();
    assert!(lines.len() > 5, "{report}");
    lines
}

/// Of what store it is, and of which it became.
fn between<'a>(report: &'a str, before: &str, after: &str) -> &'a str {
    let rest = report.split_once(before).unwrap_or_else(|| panic!("{report}")).1;
    rest.split_once(after).unwrap_or_else(|| panic!("{report}")).0
}

#[tokio::test(flavor = "multi_thread")]
async fn from_sled_to_etcd_and_back() {
    let stores = Stores::new();
    let (first, third) = (stores.path("first"), stores.path("third"));
    let first_id = stores.opened(&first, Place::DataFolder).await.unwrap();
    let key = stores.text("first/sealing.key");
    let etcd = stores.in_etcd();

    let (monday, tuesday, wednesday) =
        (stores.text("monday.cse"), stores.text("tuesday.cse"), stores.text("wednesday.cse"));
    let backup = store(&["backup", &monday, "--data-dir", &stores.text("first")], &[]).unwrap();
    assert_eq!(between(&backup, "of store ", " at revision"), first_id);
    let digest = contents(&backup)[0].to_owned();
    assert_eq!(digest.len(), "sha256 ".len() + 64, "{backup}");

    // The wrong key is said before anything is made.
    fs::write(stores.path("wrong.key"), [7; 32]).unwrap();
    let second = stores.text("second");
    let restore = ["restore", &monday, "--data-dir", &second, "--sealing-key"];
    let wrong = stores.text("wrong.key");
    let refused = store(&[&restore[..], &[wrong.as_str()]].concat(), &etcd).unwrap_err();
    assert!(refused.contains("is not the one"), "{refused}");
    let restored = store(&[&restore[..], &[key.as_str()]].concat(), &etcd).unwrap();
    let second_id = between(&restored, "the new store is ", ":").to_owned();
    assert_ne!(second_id, first_id);
    assert_eq!(contents(&restored), contents(&backup));
    // Never into one that holds something.
    let refused = store(&["import", &monday, "--sealing-key", &key], &etcd).unwrap_err();
    assert!(refused.contains("the store is not empty"), "{refused}");

    // It is served from etcd, with the keys of the first; and from there it goes on.
    let missing = stores.opened(&stores.path("second"), stores.place()).await.unwrap_err();
    assert!(missing.contains("root-credentials.json"), "{missing}");
    let credentials = "root-credentials.json";
    fs::copy(first.join(credentials), stores.path("second").join(credentials)).unwrap();
    let served = stores.opened(&stores.path("second"), stores.place()).await.unwrap();
    assert_eq!(served, second_id);

    let backup = store(&["backup", &tuesday, "--data-dir", &second], &etcd).unwrap();
    let exported = store(&["export", &wednesday, "--sealing-key", &key], &etcd).unwrap();
    for report in [&backup, &exported] {
        assert_eq!(between(report, "of store ", " at revision"), second_id);
        assert_eq!(contents(report)[0], digest, "{report}");
    }
    let into = format!("sled:{}", third.join("store").display());
    let import = ["import", &wednesday, "--sealing-key", &key, "--store", &into];
    let imported = store(&import, &[]).unwrap();
    let third_id = between(&imported, "the new store is ", ":").to_owned();
    assert!(third_id != first_id && third_id != second_id);
    assert_eq!(contents(&imported), contents(&exported));
    for name in ["sealing.key", credentials] {
        fs::copy(first.join(name), third.join(name)).unwrap();
    }
    assert_eq!(stores.opened(&third, Place::DataFolder).await.unwrap(), third_id);
    let report = store(&["verify", &wednesday, "--sealing-key", &key], &[]).unwrap();
    assert_eq!(contents(&report)[0], digest);
}
