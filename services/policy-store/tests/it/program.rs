//! The policy store as a program: what it does not start with, said before anything listens, each kind with its exit status.

use std::{
    collections::BTreeMap,
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use countersign_policy_store::{Place, transfer::make_store};
use countersign_store::Write;
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType,
};
use tempfile::TempDir;

use crate::support::{ACCOUNT, ISSUER};

/// A certificate authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub pem: String,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// A certificate for both sides of a connection on this machine, and its key, PEM.
    pub fn issue(&self, uri: &str) -> (String, String) {
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let mut params = CertificateParams::new(names).unwrap();
        params.subject_alt_names.push(SanType::URI(uri.try_into().unwrap()));
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}

/// A folder with certificates and settings that are good.
pub struct Program {
    pub folder: TempDir,
    pub settings: BTreeMap<&'static str, String>,
    /// Held, so that a program that listens would be told that the port is taken.
    taken: TcpListener,
}

impl Program {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let authority = Authority::new();
        let (certificate, key) = authority.issue("spiffe://example.org/countersign/policy-store");
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let settings = BTreeMap::from([
            ("tls_certificate", file("tls.crt", &certificate)),
            ("tls_key", file("tls.key", &key)),
            ("tls_ca", file("ca.crt", &authority.pem)),
            ("trust_domain", "example.org".to_owned()),
            ("listen", taken.local_addr().unwrap().to_string()),
            ("account", ACCOUNT.to_owned()),
            ("issuer", ISSUER.to_owned()),
            ("data_dir", folder.path().join("data").display().to_string()),
        ]);
        Self { folder, settings, taken }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn store(&self) -> PathBuf {
        self.path("data/store")
    }

    pub fn run(&self, flags: &[&str], environment: &[(&str, &str)]) -> Output {
        self.command(flags, environment).output().unwrap()
    }

    pub fn command(&self, flags: &[&str], environment: &[(&str, &str)]) -> Command {
        let lines = self.settings.iter().map(|(key, value)| format!("{key} = {value:?}\n"));
        fs::write(self.path("settings.toml"), lines.collect::<String>()).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_countersign-policy-store"));
        command.env_clear().envs(environment.iter().copied());
        command.arg("--config").arg(self.path("settings.toml")).args(flags);
        command
    }

    /// Runs it to the end that it comes to by itself.
    pub fn ends(&self, environment: &[(&str, &str)], status: i32, part: &str) {
        let output = self.run(&[], environment);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(status), "{said}");
        assert!(said.contains(part), "{said}");
        assert!(self.taken.local_addr().is_ok());
    }

    pub fn init(&self, environment: &[(&str, &str)]) {
        let output = self.run(&["--init"], environment);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

/// What a version of the next form leaves at its start.
pub async fn put_later_form(place: &Place, data_dir: &Path) {
    let store = make_store(place, data_dir).await.unwrap();
    let put = Write::Put { key: "x/form".into(), value: vec![3, 0x08, 3].into() };
    store.commit(Vec::new(), vec![put]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_a_later_version_is_refused_before_anything_listens() {
    let program = Program::new();
    program.init(&[]);
    // All that is left is the port.
    program.ends(&[], 4, "already in use");
    let root = program.store().join("store");
    let text = fs::read_to_string(&root).unwrap();
    fs::write(&root, text.replace("format 2", "format 3")).unwrap();
    program.ends(&[], 6, "it is of format 3, and this version reads format 2. Run that version");
    fs::write(&root, &text).unwrap();
    program.ends(&[], 4, "already in use");

    put_later_form(&Place::DataFolder, &program.path("data")).await;
    program.ends(
        &[],
        6,
        "its records are of form 3, and this version reads forms up to 2. Run that",
    );

    // One that does not say so, and has but a record of a later form.
    let other = Program::new();
    other.init(&[]);
    let store = make_store(&Place::DataFolder, &other.path("data")).await.unwrap();
    let role = store.range(b"role/", None, 1).await.unwrap().remove(0);
    let value = [&[3], &role.value[1..]].concat();
    let put = Write::Put { key: role.key, value: value.into() };
    store.commit(Vec::new(), vec![put]).await.unwrap();
    drop(store);
    other.ends(&[], 6, "its records are of form 3");
}

#[test]
fn the_sealing_key_comes_from_the_environment() {
    const KEY: &str = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";
    const OTHER: &str = "CAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAg=";
    let program = Program::new();
    let given = [("COUNTERSIGN_SEALING_KEY", KEY)];
    program.init(&given);
    assert!(!program.path("data/sealing.key").exists());
    program.ends(&given, 4, "already in use");
    program.ends(&[("COUNTERSIGN_SEALING_KEY", OTHER)], 5, "the sealing key is not the one");
    program.ends(&[], 5, "sealing.key");
    program.ends(&[("COUNTERSIGN_SEALING_KEY", "short")], 2, "COUNTERSIGN_SEALING_KEY: `***`");
    let both = [("COUNTERSIGN_SEALING_KEY", OTHER), ("COUNTERSIGN_SEALING_KEY_PREVIOUS", KEY)];
    program.ends(&both, 4, "already in use");
    let printed = program.run(&["--print-config"], &both);
    let printed = String::from_utf8(printed.stdout).unwrap();
    assert!(printed.contains("# sealing_key = ***") && !printed.contains(KEY), "{printed}");
    assert!(!printed.contains(OTHER), "{printed}");
}
