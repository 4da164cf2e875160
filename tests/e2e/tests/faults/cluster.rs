//! A policy store, decision replicas and a gateway, each a process of its own with a certificate; on loopback, or each in a network of its
//! own ([`Network`]).

use std::{
    fs::{self, File},
    path::PathBuf,
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use countersign_e2e::{
    program::{Running, free_port, run},
    system::{ACCOUNT, binary},
};
use countersign_proto::{
    decision::v1::{
        AuthorizeRequest, AuthorizeResponse, authorize_request::Subject,
        decision_service_client::DecisionServiceClient,
    },
    policy::v1::{
        CreateRoleRequest, PutRolePolicyRequest,
        policy_store_service_client::PolicyStoreServiceClient,
    },
    token::v1::{ExchangeRequest, token_exchange_service_client::TokenExchangeServiceClient},
};
use countersign_serve::{
    dial::{Trust, channel},
    tls::trusting,
};
use serde_json::Value;
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};

use crate::network::{Addresses, Network};

const DOMAIN: &str = "example.org";
const PATIENCE: Duration = Duration::from_secs(60);

/// Sends a bearer token with every call.
#[derive(Clone)]
pub struct Bearer(MetadataValue<Ascii>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

type Authenticated = InterceptedService<Channel, Bearer>;
pub type Store = PolicyStoreServiceClient<Authenticated>;
pub type Decision = DecisionServiceClient<Authenticated>;

/// Everything that runs. The processes end before the network and the folder do.
pub struct Cluster {
    processes: Vec<Running>,
    addresses: Addresses,
    token: String,
    folder: tempfile::TempDir,
    pub network: Network,
}

impl Cluster {
    /// Starts it with so many decision replicas, each with these settings more.
    pub async fn start(network: Network, settings_of_replicas: &[&[(&str, &str)]]) -> Self {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let addresses = network.addresses(settings_of_replicas.len());
        let mut cluster =
            Self { processes: Vec::new(), addresses, token: String::new(), folder, network };
        cluster.certify();
        let at = |host: &str| format!("{host}:{}", free_port());
        let listen = cluster.addresses.store_listens.clone();
        let data = cluster.path("data").display().to_string();
        cluster.run(
            "policy-store",
            None,
            &[
                ("listen", &listen),
                ("account", ACCOUNT),
                ("data_dir", &data),
                ("health_listen", &at("127.0.0.1")),
            ],
        );
        for (number, more) in settings_of_replicas.iter().enumerate() {
            let replica = cluster.addresses.replicas[number].clone();
            let mut settings = vec![
                ("listen", replica.listens.as_str()),
                ("policy_store", replica.store.as_str()),
                ("health_listen", "127.0.0.1:0"),
            ];
            settings.extend_from_slice(more);
            cluster.run("decision", Some(number), &settings);
        }
        let (store, decision) =
            (cluster.addresses.store.clone(), cluster.addresses.replicas[0].origin.clone());
        let (gateway, http) = (cluster.addresses.gateway.clone(), cluster.addresses.http.clone());
        cluster.run(
            "gateway",
            None,
            &[
                ("listen", &gateway),
                ("http_listen", &http),
                ("policy_store", &store),
                ("decision", &decision),
                ("health_listen", &at("127.0.0.1")),
            ],
        );
        cluster.token = cluster.admin_token().await;
        cluster
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn certify(&self) {
        let mut command = Command::new(binary());
        command.args(["certificates", "--trust-domain", DOMAIN, "--out"]).arg(self.path("tls"));
        for part in ["policy-store", "decision", "gateway"] {
            let names = self.addresses.names.join(",");
            command.args(["--part", &format!("{part}={names}")]);
        }
        let made = run(&mut command, "");
        assert!(made.status.success(), "{}", made.stderr);
    }

    fn run(&mut self, part: &str, replica: Option<usize>, own: &[(&str, &str)]) {
        let program = binary().with_file_name(format!("countersign-{part}"));
        assert!(program.exists(), "there is no {}: run tests/run build", program.display());
        let tls = |name: &str| self.path("tls").join(part).join(name).display().to_string();
        let issuer = format!("https://{}", self.addresses.http);
        let shared = [
            ("tls_certificate", tls("tls.crt")),
            ("tls_key", tls("tls.key")),
            ("tls_ca", tls("ca.crt")),
            ("trust_domain", DOMAIN.to_owned()),
            ("issuer", issuer),
            ("drain_seconds", "1".to_owned()),
        ];
        let shared = shared.iter().map(|(key, value)| (*key, value.as_str()));
        let lines: String = shared
            .chain(own.iter().copied())
            .map(|(key, value)| format!("{key} = {value:?}\n"))
            .collect();
        let name = format!("{part}{}", replica.unwrap_or_default());
        let file = self.path(&format!("{name}.toml"));
        fs::write(&file, lines).expect("the file can be written");
        let mut command = self.network.command(&program, part, replica);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("COUNTERSIGN_") {
                command.env_remove(name);
            }
        }
        let log = File::create(self.path(&format!("{name}.log"))).expect("a file can be made");
        command.arg("--config").arg(file);
        let started = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        self.processes.push(Running(started.expect("the program starts")));
    }

    fn channel(&self, origin: &str) -> Channel {
        let ca = self.path("tls/ca.crt");
        let trust = Trust::Name(Arc::new(trusting(&ca).expect("ca.crt is there")));
        channel(origin, trust).expect("an address")
    }

    fn bearer(&self) -> Bearer {
        Bearer(format!("Bearer {}", self.token).parse().expect("a token is ASCII"))
    }

    /// The policy store, as the administrator.
    pub fn store(&self) -> Store {
        let channel = self.channel(&self.addresses.store);
        PolicyStoreServiceClient::with_interceptor(channel, self.bearer())
    }

    /// Each decision replica, as the administrator.
    pub fn replicas(&self) -> Vec<Decision> {
        let replicas = self.addresses.replicas.iter();
        let client = |origin: &str| {
            DecisionServiceClient::with_interceptor(self.channel(origin), self.bearer())
        };
        replicas.map(|replica| client(&replica.origin)).collect()
    }

    /// The administrator's token: asked for until everything is there.
    async fn admin_token(&self) -> String {
        let began = Instant::now();
        loop {
            let refused = match self.proof() {
                Ok(request) => match self.gateway().exchange(request).await {
                    Ok(answer) => return answer.into_inner().access_token,
                    Err(status) => status.to_string(),
                },
                Err(error) => error,
            };
            assert!(began.elapsed() < PATIENCE, "{refused}\n{}", self.logs());
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }

    fn gateway(&self) -> TokenExchangeServiceClient<Channel> {
        let origin = format!("https://{}", self.addresses.gateway);
        TokenExchangeServiceClient::new(self.channel(&origin))
    }

    fn proof(&self) -> Result<ExchangeRequest, String> {
        let role = format!("arn:aws:iam::{ACCOUNT}:role/CountersignAdministrator");
        let issuer = format!("https://{}", self.addresses.http);
        let mut command = Command::new(binary());
        command.args(["proof", "--role-session-name", "faults", "--audience", "countersign"]);
        command.args(["--role-arn", &role, "--issuer", &issuer, "--credentials"]);
        let proof = run(command.arg(self.path("data/root-credentials.json")), "");
        if !proof.status.success() {
            return Err(proof.stderr);
        }
        let json: Value = serde_json::from_str(&proof.stdout).expect("proof prints JSON");
        let field = |name: &str| json[name].as_str().unwrap_or_default().to_owned();
        Ok(ExchangeRequest {
            subject_token: field("subject_token"),
            subject_token_type: field("subject_token_type"),
            role_arn: field("role_arn"),
            role_session_name: field("role_session_name"),
            audience: field("audience"),
            ..Default::default()
        })
    }

    /// A session of a role, for the service `orders`, from the administrator's own token.
    pub async fn session(&self, role_arn: &str) -> String {
        let request = ExchangeRequest {
            subject_token: self.token.clone(),
            subject_token_type: "urn:ietf:params:oauth:token-type:access_token".to_owned(),
            role_arn: role_arn.to_owned(),
            role_session_name: "faults".to_owned(),
            audience: "orders".to_owned(),
            ..Default::default()
        };
        self.gateway().exchange(request).await.expect("it is granted").into_inner().access_token
    }

    /// A role that whoever the account allows may assume, with one inline policy; gives the revision of it.
    pub async fn role(&self, role_name: &str, policy_name: &str, policy: &str) -> String {
        let mut store = self.store();
        let request = CreateRoleRequest {
            role_name: role_name.to_owned(),
            assume_role_policy_document: format!(
                r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Principal":{{"AWS":"{ACCOUNT}"}},"Action":"sts:AssumeRole"}}]}}"#
            ),
            ..Default::default()
        };
        store.create_role(request).await.expect("the role is made");
        put(&mut store, role_name, policy_name, policy).await
    }

    /// What the processes complained of.
    pub fn logs(&self) -> String {
        let files = fs::read_dir(self.folder.path()).expect("it is there");
        let logs = files.filter_map(|file| Some(file.ok()?.path()));
        let logs = logs.filter(|path| path.extension().is_some_and(|end| end == "log"));
        logs.map(|path| {
            let text = fs::read_to_string(&path).unwrap_or_default();
            let last: Vec<&str> = text.lines().rev().take(20).collect();
            format!(
                "{}\n{}\n",
                path.display(),
                last.into_iter().rev().collect::<Vec<_>>().join("\n")
            )
        })
        .collect()
    }
}

/// Writes an inline policy; gives the revision.
pub async fn put(store: &mut Store, role_name: &str, policy_name: &str, policy: &str) -> String {
    let request = PutRolePolicyRequest {
        role_name: role_name.to_owned(),
        policy_name: policy_name.to_owned(),
        policy_document: policy.to_owned(),
        ..Default::default()
    };
    store.put_role_policy(request).await.expect("the policy is put").into_inner().revision
}

/// A policy with one statement on one resource.
pub fn statement(effect: &str, resource: &str) -> String {
    format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"{effect}","Action":"orders:*","Resource":"{resource}"}}]}}"#
    )
}

pub fn role_arn(role_name: &str) -> String {
    format!("arn:aws:iam::{ACCOUNT}:role/{role_name}")
}

pub fn order(number: usize) -> String {
    format!("arn:aws:orders:eu-west-1:{ACCOUNT}:order/{number}")
}

/// May the subject have the order?
pub fn question(subject: Subject, resource: &str, at_least_revision: &str) -> AuthorizeRequest {
    let audience = match subject {
        Subject::Token(_) => "orders".to_owned(),
        Subject::PrincipalArn(_) => String::new(),
    };
    AuthorizeRequest {
        subject: Some(subject),
        audience,
        action: "orders:GetOrder".to_owned(),
        resource: resource.to_owned(),
        at_least_revision: at_least_revision.to_owned(),
        ..Default::default()
    }
}

/// The number of the revision that an answer was made at.
pub fn number(answer: &AuthorizeResponse) -> u64 {
    let number = answer.revision.rsplit(':').next().expect("a revision");
    number.parse().expect("a revision has a number")
}

/// How many in CI, or as the environment says.
pub fn size(variable: &str, in_ci: usize) -> usize {
    std::env::var(variable).map_or(in_ci, |text| {
        text.parse().unwrap_or_else(|_| panic!("{variable}=`{text}` is no number"))
    })
}
