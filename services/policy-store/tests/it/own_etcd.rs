//! An etcd of a test's own: no space, no trust, and a store of another version.

use std::{
    fs,
    io::{Read, Write as _},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use countersign_policy_store::{EtcdPlace, Place, transfer::make_store};
use countersign_proto::policy::v1::*;
use countersign_store::{CommitError, Store, StoreError, Write};
use tempfile::TempDir;
use tonic::Code;
use tonic_health::pb::health_check_response::ServingStatus;

use crate::{
    full::{until, writes},
    program::{Authority, Program, put_later_form},
    support::{ACCOUNT, TestStore, new_user, refused},
};

const PATIENCE: Duration = Duration::from_secs(30);

/// One member, which ends with this.
pub struct Etcd {
    folder: TempDir,
    client: u16,
    peer: u16,
    server: Option<Child>,
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Etcd {
    pub fn new() -> Self {
        let sockets = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let [client, peer] = sockets.map(|socket| socket.local_addr().unwrap().port());
        Self { folder: tempfile::tempdir().unwrap(), client, peer, server: None }
    }

    pub fn start(&mut self, scheme: &str, arguments: &[String]) {
        let client = format!("{scheme}://127.0.0.1:{}", self.client);
        let peer = format!("http://127.0.0.1:{}", self.peer);
        let log = fs::File::create(self.folder.path().join("log")).unwrap();
        let server = Command::new("etcd")
            .env_clear()
            .arg("--data-dir")
            .arg(self.folder.path().join("data"))
            .args(["--logger", "zap", "--log-level", "error"])
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("default={peer}")])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("etcd of Debian's package etcd-server: {error}"));
        self.server = Some(server);
        let started = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.client)).is_err() {
            assert!(started.elapsed() < PATIENCE, "etcd does not come up");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub fn kill(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.kill().unwrap();
            server.wait().unwrap();
        }
    }

    pub fn place(&self, scheme: &str) -> EtcdPlace {
        EtcdPlace {
            endpoints: vec![format!("{scheme}://127.0.0.1:{}", self.client)],
            ..EtcdPlace::default()
        }
    }

    /// Asks etcd's own JSON over HTTP, as an operator would ask etcdctl.
    fn ask(&self, path: &str, body: &str) -> serde_json::Value {
        let mut stream = TcpStream::connect(("127.0.0.1", self.client)).unwrap();
        let length = body.len();
        write!(
            stream,
            "POST {path} HTTP/1.1\r\nHost: etcd\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200"), "{answer}");
        serde_json::from_str(body).unwrap()
    }

    /// What deploy/ETCD.md says under "Room", after something was deleted.
    fn make_room(&self, prefix: &str) {
        let end = prefix.replace('/', "0");
        let (key, end) = (STANDARD.encode(prefix), STANDARD.encode(end));
        let range = format!(r#"{{"key":"{key}","range_end":"{end}"}}"#);
        let deleted = self.ask("/v3/kv/deleterange", &range);
        let revision = deleted["header"]["revision"].as_str().unwrap();
        let compact = format!(r#"{{"revision":{revision},"physical":true}}"#);
        self.ask("/v3/kv/compaction", &compact);
        self.ask("/v3/maintenance/defragment", "{}");
        let alarms = self.ask("/v3/maintenance/alarm", r#"{"action":"GET"}"#);
        let member = alarms["alarms"][0]["memberID"].as_str().unwrap();
        let disarm = format!(r#"{{"action":"DEACTIVATE","memberID":{member},"alarm":"NOSPACE"}}"#);
        self.ask("/v3/maintenance/alarm", &disarm);
    }
}

/// Commits large values until there is no room.
async fn fill(place: EtcdPlace) {
    let place = Place::Etcd(EtcdPlace { prefix: Some("filler/".to_owned()), ..place });
    let store = make_store(&place, Path::new("")).await.unwrap();
    for number in 0..10_000 {
        let put = Write::Put {
            key: format!("{number}").into(),
            value: vec![b'x'; countersign_store::MAX_VALUE_BYTES].into(),
        };
        match store.commit(Vec::new(), vec![put]).await {
            Ok(_) => {}
            Err(CommitError::Store(StoreError::Full)) => return,
            Err(error) => panic!("{error}"),
        }
    }
    panic!("etcd never filled up");
}

/// FAULTS.md F11: a clear answer, reads and the Watch that go on, readiness and metrics that say it; and it heals without a start.
#[tokio::test(flavor = "multi_thread")]
async fn an_etcd_without_space() {
    let mut etcd = Etcd::new();
    etcd.start("http", &[format!("--quota-backend-bytes={}", 16 << 20)]);
    let place = etcd.place("http");
    let folder = tempfile::tempdir().unwrap();
    let mut store = TestStore::prepared(folder, Place::Etcd(place.clone()));
    store.run(ACCOUNT).await.unwrap();
    store.publish_key().await;
    let mut iam = store.admin().await;
    iam.create_user(new_user("first")).await.unwrap();
    until(&store, ServingStatus::Serving).await;
    assert!(store.metrics.page().contains("countersign_store_full 0"));
    fill(place.clone()).await;
    for _ in 0..3 {
        let answer = iam.create_user(new_user("second")).await;
        assert!(
            tonic_types::StatusExt::get_details_retry_info(&answer.as_ref().unwrap_err().clone())
                .is_some()
        );
        let message = refused(answer, Code::ResourceExhausted, "LimitExceeded");
        assert!(message.contains("nothing was written"), "{message}");
    }
    until(&store, ServingStatus::NotServing).await;
    assert!(store.metrics.page().contains("countersign_store_full 1"));
    let asked = |user_name: &str| GetUserRequest { user_name: user_name.into() };
    iam.get_user(asked("first")).await.unwrap();
    refused(iam.get_user(asked("second")).await, Code::NotFound, "NoSuchEntity");
    assert!(store.records().await.contains_key(&format!("user/{ACCOUNT}/first")));
    etcd.make_room("filler/");
    until(&store, ServingStatus::Serving).await;
    iam.create_user(new_user("second")).await.unwrap();
    iam.get_user(asked("second")).await.unwrap();
    assert_eq!(writes(&store).await, ServingStatus::Serving);
    store.stop().await;
}

/// Certificates, in files.
struct Files {
    ca: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
}

impl Files {
    fn new(folder: &Path, name: &str) -> Self {
        let at = |kind: &str| folder.join(format!("{name}.{kind}"));
        Self { ca: at("ca"), certificate: at("crt"), key: at("key") }
    }

    fn write(&self, believed: &Authority, of: &Authority) {
        let (certificate, key) = of.issue("urn:test");
        fs::write(&self.ca, &believed.pem).unwrap();
        fs::write(&self.certificate, certificate).unwrap();
        fs::write(&self.key, key).unwrap();
    }

    fn arguments(&self) -> Vec<String> {
        let flag = |name: &str, path: &Path| format!("--{name}={}", path.display());
        vec![
            flag("cert-file", &self.certificate),
            flag("key-file", &self.key),
            flag("trusted-ca-file", &self.ca),
            "--client-cert-auth".to_owned(),
        ]
    }
}

/// Opens a store until it opens: etcd takes connections before it answers.
async fn opened(place: &EtcdPlace) -> std::sync::Arc<dyn Store> {
    let place = Place::Etcd(place.clone());
    let started = Instant::now();
    loop {
        match make_store(&place, Path::new("")).await {
            Ok(store) => return store,
            Err(error) => assert!(started.elapsed() < PATIENCE, "{error}"),
        }
    }
}

/// The authority of all certificates is exchanged: who runs goes on with the files as they are by then.
#[tokio::test(flavor = "multi_thread")]
async fn renewed_certificates_are_used_without_a_start() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (Authority::new(), Authority::new());
    let (ours, theirs) = (Files::new(folder.path(), "ours"), Files::new(folder.path(), "theirs"));
    ours.write(&old, &old);
    theirs.write(&old, &old);
    let mut etcd = Etcd::new();
    etcd.start("https", &theirs.arguments());
    let place = EtcdPlace {
        ca: Some(ours.ca.clone()),
        identity: Some((ours.certificate.clone(), ours.key.clone())),
        ..etcd.place("https")
    };
    let store = opened(&place).await;
    let put = |value: &str| Write::Put { key: "a".into(), value: value.to_owned().into() };
    store.commit(Vec::new(), vec![put("old")]).await.unwrap();

    etcd.kill();
    theirs.write(&new, &new);
    etcd.start("https", &theirs.arguments());
    // With what it has it is nobody, and believes nobody.
    assert!(store.get(b"a").await.is_err());
    ours.write(&new, &new);
    let started = Instant::now();
    while store.commit(Vec::new(), vec![put("new")]).await.is_err() {
        assert!(started.elapsed() < PATIENCE, "the new certificates are not used");
    }
    assert_eq!(store.get(b"a").await.unwrap().unwrap().value, "new");
    let head = store.head().await.unwrap();
    store.watch_head().wait_for(|seen| *seen >= head).await.unwrap();
}

/// An etcd that refuses is said before anything listens, and what it refuses.
#[tokio::test(flavor = "multi_thread")]
async fn what_an_etcd_refuses_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let (known, stranger) = (Authority::new(), Authority::new());
    let theirs = Files::new(folder.path(), "theirs");
    theirs.write(&known, &known);
    let mut etcd = Etcd::new();
    etcd.start("https", &theirs.arguments());
    let ours = Files::new(folder.path(), "ours");
    ours.write(&known, &known);
    let mut program = Program::new();
    let path = |path: &Path| path.display().to_string();
    program.settings.extend([
        ("store", format!("etcd:https://127.0.0.1:{}", etcd.client)),
        ("etcd_ca", path(&ours.ca)),
        ("etcd_cert", path(&ours.certificate)),
        ("etcd_key", path(&ours.key)),
    ]);
    program.init(&[]);
    program.ends(&[], 4, "already in use");
    let place = EtcdPlace {
        ca: Some(ours.ca.clone()),
        identity: Some((ours.certificate.clone(), ours.key.clone())),
        ..etcd.place("https")
    };
    // It is not believed; it does not believe; the settings name nothing.
    ours.write(&stranger, &known);
    program.ends(&[], 5, "certificate");
    ours.write(&known, &stranger);
    program.ends(&[], 5, "--etcd-cert and --etcd-key");
    ours.write(&known, &known);
    program.settings.insert("etcd_ca", "/nowhere".to_owned());
    program.ends(&[], 2, "/nowhere");
    program.settings.insert("etcd_ca", path(&ours.ca));
    // No such user, on a cluster that asks for one or not.
    fs::write(folder.path().join("password"), "wrong").unwrap();
    program.settings.insert("etcd_user", "nobody".to_owned());
    program.settings.insert("etcd_password_file", path(&folder.path().join("password")));
    program.ends(&[], 5, "authentication");
    program.settings.remove("etcd_user");
    program.settings.remove("etcd_password_file");
    program.ends(&[], 4, "already in use");

    put_later_form(&Place::Etcd(place), Path::new("")).await;
    program.ends(
        &[],
        6,
        "its records are of form 3, and this version reads forms up to 2. Run that",
    );
    etcd.kill();
    program.ends(&[], 5, "127.0.0.1");
}
