//! A cluster of real etcd servers on loopback ports and in folders that go with it.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use countersign_store::{EtcdOptions, EtcdStore, EtcdTls, EtcdUser, Store};
use etcd_client::{Certificate, Client, ConnectOptions, Identity, TlsOptions};
use tempfile::TempDir;
use tokio::sync::{Mutex, MutexGuard};

/// One cluster at a time: several on few cores elect leaders instead of writing.
static TURN: Mutex<()> = Mutex::const_new(());
const PATIENCE: Duration = Duration::from_secs(30);

pub struct Member {
    pub endpoint: String,
    arguments: Vec<String>,
    server: Option<Child>,
    log: PathBuf,
}

impl Member {
    pub fn start(&mut self) {
        let log = std::fs::OpenOptions::new().append(true).create(true).open(&self.log).unwrap();
        let server = Command::new("etcd")
            .args(&self.arguments)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("etcd of Debian's package etcd-server");
        self.server = Some(server);
    }

    /// Kill -9.
    pub fn kill(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.kill().unwrap();
            server.wait().unwrap();
        }
    }

    /// SIGSTOP: it keeps its connections, and says nothing.
    pub fn stop(&self) {
        self.signal("-STOP");
    }

    pub fn resume(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let id = self.server.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What a cluster is started with, and what its clients need.
#[derive(Clone, Default)]
pub struct Setup {
    pub members: usize,
    pub arguments: Vec<String>,
    pub user: Option<EtcdUser>,
    pub certificates: Option<Certificates>,
}

#[derive(Clone)]
pub struct Certificates {
    pub ca: PathBuf,
    pub server: (PathBuf, PathBuf),
    pub client: (PathBuf, PathBuf),
}

pub struct Cluster {
    pub members: Vec<Member>,
    pub setup: Setup,
    _folder: TempDir,
    _turn: MutexGuard<'static, ()>,
}

impl Cluster {
    pub async fn start() -> Self {
        Self::start_with(Setup { members: 3, ..Setup::default() }).await
    }

    pub async fn start_with(setup: Setup) -> Self {
        let turn = TURN.lock().await;
        let folder = TempDir::new().unwrap();
        let members = members(&setup, folder.path());
        let mut cluster = Self { members, setup, _folder: folder, _turn: turn };
        for member in &mut cluster.members {
            member.start();
        }
        cluster.healthy().await;
        cluster
    }

    pub fn options(&self, prefix: &str) -> EtcdOptions {
        let read = |path: &PathBuf| std::fs::read(path).unwrap();
        let tls = self.setup.certificates.as_ref().map(|certificates| EtcdTls {
            ca: Some(read(&certificates.ca)),
            identity: Some((read(&certificates.client.0), read(&certificates.client.1))),
        });
        EtcdOptions {
            prefix: prefix.to_owned(),
            keep_revisions: None,
            user: self.setup.user.clone(),
            tls: tls.unwrap_or_default(),
            ..EtcdOptions::new(self.members.iter().map(|member| member.endpoint.clone()))
        }
    }

    pub async fn open(&self, prefix: &str) -> Arc<dyn Store> {
        Arc::new(EtcdStore::open(self.options(prefix)).await.unwrap())
    }

    /// For what the conformance suite makes without waiting.
    pub fn open_now(&self, prefix: &str) -> Arc<dyn Store> {
        tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(self.open(prefix))
        })
    }

    /// etcd's own client to one member, as its user `user`.
    pub async fn client_as(
        &self,
        member: usize,
        user: Option<(&str, &str)>,
    ) -> Result<Client, etcd_client::Error> {
        let mut options = ConnectOptions::new()
            .with_timeout(Duration::from_secs(10))
            .with_connect_timeout(Duration::from_secs(2));
        if let Some(Certificates { ca, client, .. }) = &self.setup.certificates {
            let read = |path: &PathBuf| std::fs::read(path).unwrap();
            options = options.with_tls(
                TlsOptions::new()
                    .ca_certificate(Certificate::from_pem(read(ca)))
                    .identity(Identity::from_pem(read(&client.0), read(&client.1))),
            );
        }
        if let Some((name, password)) = user {
            options = options.with_user(name, password);
        }
        Client::connect([&self.members[member].endpoint], Some(options)).await
    }

    pub async fn client(&self, member: usize) -> Client {
        let user = self.setup.user.as_ref();
        self.client_as(member, user.map(|user| (user.name.as_str(), user.password.as_str())))
            .await
            .unwrap()
    }

    /// Waits until every member knows a leader and answers.
    pub async fn healthy(&self) {
        let until = Instant::now() + PATIENCE;
        for member in 0..self.members.len() {
            loop {
                let client = self.client_as(member, None).await;
                if let Ok(mut client) = client
                    && let Ok(status) = client.status().await
                    && status.leader() != 0
                {
                    break;
                }
                assert!(Instant::now() < until, "member {member} does not come up");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }

    /// Which member leads.
    pub async fn leader(&self) -> usize {
        let until = Instant::now() + PATIENCE;
        loop {
            for member in 0..self.members.len() {
                if let Ok(mut client) = self.client_as(member, None).await
                    && let Ok(status) = client.status().await
                    && status.header().is_some_and(|header| header.member_id() == status.leader())
                {
                    return member;
                }
            }
            assert!(Instant::now() < until, "no member leads");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn members(setup: &Setup, folder: &Path) -> Vec<Member> {
    // All sockets are held until all ports are known, so that none is given twice.
    let sockets: Vec<TcpListener> =
        (0..setup.members * 2).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let port = |place: usize| sockets[place].local_addr().unwrap().port();
    let scheme = if setup.certificates.is_some() { "https" } else { "http" };
    let peer = |member: usize| format!("http://127.0.0.1:{}", port(member * 2 + 1));
    let all: Vec<String> =
        (0..setup.members).map(|member| format!("m{member}={}", peer(member))).collect();
    (0..setup.members)
        .map(|member| {
            let endpoint = format!("{scheme}://127.0.0.1:{}", port(member * 2));
            let data = folder.join(format!("m{member}"));
            let mut arguments: Vec<String> = [
                ("name", format!("m{member}")),
                ("data-dir", data.display().to_string()),
                ("listen-client-urls", endpoint.clone()),
                ("advertise-client-urls", endpoint.clone()),
                ("listen-peer-urls", peer(member)),
                ("initial-advertise-peer-urls", peer(member)),
                ("initial-cluster", all.join(",")),
                ("initial-cluster-state", "new".to_owned()),
            ]
            .into_iter()
            .map(|(name, value)| format!("--{name}={value}"))
            .collect();
            if let Some(Certificates { ca, server, .. }) = &setup.certificates {
                arguments.extend([
                    format!("--cert-file={}", server.0.display()),
                    format!("--key-file={}", server.1.display()),
                    format!("--trusted-ca-file={}", ca.display()),
                    "--client-cert-auth".to_owned(),
                ]);
            }
            arguments.extend(setup.arguments.iter().cloned());
            let log = folder.join(format!("m{member}.log"));
            Member { endpoint, arguments, server: None, log }
        })
        .collect()
}
