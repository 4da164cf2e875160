//! The decision service over real gRPC, behind a policy store that does as the test says.

mod store;

use std::{
    future::Future,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use countersign_decision::{Config, SERVICE_NAME};
use countersign_proto::{
    decision::v1::{
        AuthorizeAssumeRoleRequest, AuthorizeRequest, AuthorizeResponse, ProvenIdentity,
        authorize_request::Subject, decision_service_client::DecisionServiceClient,
    },
    policy::v1::{
        AccountRecord, InlinePolicy, ManagedPolicyRecord, Realm, Record, ResolvedPrincipal,
        RoleRecord, ServicePrincipalBindingRecord, SigningKeyRecord, UserRecord,
        record::Record as Kind,
    },
};
use countersign_serve::{
    ServiceCredential, ServiceIdentities, ServiceName, ServiceSecret,
    grpc::{channel, origin, wait_until_serving},
    shutdown::{self, Trigger},
};
use countersign_token::{Caller, Claims, Realm as TokenRealm, Session, SigningKey, mint};
use tokio::net::TcpListener;
use tonic::{
    Code, Request, Status, metadata::MetadataValue, service::Interceptor, transport::Channel,
};
use tonic_types::StatusExt;

pub use store::Store;

pub const ISSUER: &str = "http://127.0.0.1:7400";
pub const OURS: &str = "111122223333";
pub const THEIRS: &str = "444455556666";
pub const ORDER: &str = "arn:aws:orders:eu-west-1:111122223333:order/42";

pub struct System {
    pub store: Store,
    pub client: DecisionServiceClient<Channel>,
    pub origin: String,
    pub key: SigningKey,
    pub gateway: ServiceCredential,
    _trigger: Trigger,
}

impl System {
    /// Serving.
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// Serving, with another configuration.
    pub async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let system = Self::begin_with(|config| {
            config.patience = Duration::from_millis(500);
            change(config);
        })
        .await;
        system.store.open();
        wait_until_serving(&system.origin, SERVICE_NAME, Duration::from_secs(10)).await.unwrap();
        system
    }

    /// Started, while the store keeps its followers waiting.
    pub async fn begin(patience: Duration) -> Self {
        Self::begin_with(|config| config.patience = patience).await
    }

    /// Started, with another configuration, while the store keeps its followers waiting.
    pub async fn begin_with(change: impl FnOnce(&mut Config)) -> Self {
        let key = SigningKey::generate().unwrap();
        let mut records = records();
        records.push(signing_key(&key, false));
        let store = Store::new(records);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let policy_store = origin(&listener).unwrap();
        tokio::spawn(store.clone().serve(listener));

        let (ours, gateway) =
            (ServiceSecret::generate().unwrap(), ServiceSecret::generate().unwrap());
        let identities = ServiceIdentities::default().accept(ServiceName::Gateway, gateway.clone());
        let mut config =
            Config::new(ISSUER, policy_store, ServiceCredential::new(&ours), identities);
        change(&mut config);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = origin(&listener).unwrap();
        let (trigger, shutdown) = shutdown::channel();
        tokio::spawn(countersign_decision::serve(config, listener, shutdown));
        Self {
            store,
            client: DecisionServiceClient::new(channel(&origin).unwrap()),
            origin,
            key,
            gateway: ServiceCredential::new(&gateway),
            _trigger: trigger,
        }
    }

    /// A good token of `role`, whose id is AROA and its name in capitals.
    pub fn token(&self, role: &str, audience: &str) -> String {
        self.minted(role, audience, |_| {})
    }

    pub fn minted(&self, role: &str, audience: &str, change: impl FnOnce(&mut Claims)) -> String {
        mint(&self.claims(role, audience, change), &self.key).unwrap()
    }

    pub fn claims(&self, role: &str, audience: &str, change: impl FnOnce(&mut Claims)) -> Claims {
        let account = if role == "Foreign" { THEIRS } else { OURS };
        let session = Session {
            account: account.into(),
            partition: "aws".into(),
            role_name: role.into(),
            role_id: format!("AROA{}", role.to_uppercase()),
            session_name: "s1".into(),
            source_identity: None,
            session_tags: Default::default(),
            transitive_tag_keys: Default::default(),
            session_policies: Vec::new(),
            narrowings: Vec::new(),
            parents: Vec::new(),
            proof_type: "urn:countersign:proof:sts-get-caller-identity".into(),
            caller: Caller {
                realm: TokenRealm::Countersign,
                account: OURS.into(),
                unique_id: "AIDAALICE".into(),
                arn: format!("arn:aws:iam::{OURS}:user/alice"),
            },
            revision: self.store.revision(),
        };
        let mut claims =
            Claims::for_session(ISSUER.into(), audience.into(), now(), now() + 900, session)
                .unwrap();
        change(&mut claims);
        claims
    }

    /// A call by the role that may ask everything of its account.
    pub fn by_checker<T>(&self, message: T) -> Request<T> {
        by(&self.token("Checker", "countersign"), message)
    }

    pub fn by_gateway<T>(&self, message: T) -> Request<T> {
        let (metadata, _, ()) = self.gateway.clone().call(Request::new(())).unwrap().into_parts();
        let mut request = Request::new(message);
        *request.metadata_mut() = metadata;
        request
    }

    pub async fn authorize(&self, question: AuthorizeRequest) -> Result<AuthorizeResponse, Status> {
        let request = self.by_checker(question);
        self.client.clone().authorize(request).await.map(tonic::Response::into_inner)
    }
}

pub fn by<T>(token: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    let value: MetadataValue<_> = format!("Bearer {token}").parse().unwrap();
    request.metadata_mut().insert("authorization", value);
    request
}

pub fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap()
}

/// `orders:GetOrder` on an order, by the token, for the audience `orders`.
pub fn question(token: String) -> AuthorizeRequest {
    AuthorizeRequest {
        subject: Some(Subject::Token(token)),
        audience: "orders".into(),
        action: "orders:GetOrder".into(),
        resource: ORDER.into(),
        ..Default::default()
    }
}

pub fn assume(realm: &str, arn: &str, unique_id: &str, role: &str) -> AuthorizeAssumeRoleRequest {
    AuthorizeAssumeRoleRequest {
        identity: Some(ProvenIdentity {
            realm: realm.into(),
            partition: "aws".into(),
            account_id: arn.split(':').nth(4).unwrap().into(),
            unique_id: unique_id.into(),
            arn: arn.into(),
        }),
        proof_type: "urn:countersign:proof:sts-get-caller-identity".into(),
        proof_bound: true,
        role_arn: format!("arn:aws:iam::{OURS}:role/{role}"),
        role_session_name: "s1".into(),
        source_address: "10.1.2.3".into(),
        ..Default::default()
    }
}

/// The code and the reason of an error.
pub fn refused<T>(outcome: Result<T, Status>) -> (Code, String, String) {
    let status = outcome.err().expect("a refusal");
    let details = status.get_error_details();
    let info = details.error_info().expect("ErrorInfo");
    assert_eq!(info.domain, "countersign");
    (status.code(), info.reason.clone(), status.message().to_owned())
}

/// Waits for what the replica will have learnt in a moment.
pub async fn eventually<T, F: Future<Output = Option<T>>>(ask: impl Fn() -> F) -> T {
    for _ in 0..200 {
        if let Some(found) = ask().await {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("it did not come about");
}

pub fn document(statement: &str) -> String {
    format!(r#"{{"Version":"2012-10-17","Statement":[{statement}]}}"#)
}

pub fn role(account: &str, name: &str, statement: Option<&str>) -> RoleRecord {
    let policy =
        |statement| InlinePolicy { policy_name: "p".into(), policy_document: document(statement) };
    RoleRecord {
        account_id: account.into(),
        path: "/".into(),
        role_name: name.into(),
        role_id: format!("AROA{}", name.to_uppercase()),
        assume_role_policy_document: document(
            r#"{"Effect":"Allow","Principal":{"Service":"ec2.amazonaws.com"},"Action":"sts:AssumeRole"}"#,
        ),
        inline_policies: statement.map(policy).into_iter().collect(),
        max_session_duration: 3600,
        ..Default::default()
    }
}

/// The role that most questions are about; with or without its one policy.
pub fn app(attached: bool) -> Record {
    let mut role = role(OURS, "App", None);
    if attached {
        role.attached_policy_arns.push(format!("arn:aws:iam::{OURS}:policy/Orders"));
    }
    record("r/App", Kind::Role(role))
}

pub fn record(key: &str, kind: Kind) -> Record {
    Record { key: key.into(), record: Some(kind), format: 1, version: 0 }
}

pub fn signing_key(key: &SigningKey, revoked: bool) -> Record {
    let at = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
    let kind = SigningKeyRecord {
        kid: key.kid().to_owned(),
        jwk: key.public().to_jwk(),
        publisher: "gateway".into(),
        publish_date: at(now()),
        signs_until: at(now() + 3600),
        accept_until: at(now() + 86_400),
        revoked,
    };
    record(&format!("k/{}", key.kid()), Kind::SigningKey(kind))
}

fn records() -> Vec<Record> {
    let everything = r#"{"Effect":"Allow","Action":"countersign:*","Resource":"*"}"#;
    let root = format!("arn:aws:iam::{OURS}:root");
    let administrator = RoleRecord {
        assume_role_policy_document: document(&format!(
            r#"{{"Effect":"Allow","Principal":{{"AWS":"{root}"}},"Action":"sts:AssumeRole"}}"#
        )),
        resolved_principals: vec![ResolvedPrincipal {
            principal: root,
            realm: Realm::Countersign.into(),
            account_id: OURS.into(),
            unique_id: String::new(),
        }],
        ..role(OURS, "CountersignAdministrator", None)
    };
    let orders = ManagedPolicyRecord {
        account_id: OURS.into(),
        policy_name: "Orders".into(),
        arn: format!("arn:aws:iam::{OURS}:policy/Orders"),
        default_version_id: "v2".into(),
        document: document(
            r#"{"Sid":"Read","Effect":"Allow","Action":"orders:Get*","Resource":"*"}"#,
        ),
        ..Default::default()
    };
    let alice = UserRecord {
        account_id: OURS.into(),
        path: "/".into(),
        user_name: "alice".into(),
        user_id: "AIDAALICE".into(),
        ..Default::default()
    };
    let binding = ServicePrincipalBindingRecord {
        account_id: OURS.into(),
        role_arn: format!("arn:aws:iam::{OURS}:role/App"),
        role_id: "AROAAPP".into(),
        service_principal: "ec2.amazonaws.com".into(),
        caller_realm: Realm::Countersign.into(),
        caller_account_id: OURS.into(),
        caller_unique_id: "AIDAALICE".into(),
        create_date: None,
    };
    vec![
        record(
            "a/ours",
            Kind::Account(AccountRecord { account_id: OURS.into(), ..Default::default() }),
        ),
        record(
            "a/theirs",
            Kind::Account(AccountRecord { account_id: THEIRS.into(), ..Default::default() }),
        ),
        record("p/Orders", Kind::ManagedPolicy(orders)),
        record("r/Administrator", Kind::Role(administrator)),
        record("r/Checker", Kind::Role(role(OURS, "Checker", Some(everything)))),
        record("r/Foreign", Kind::Role(role(THEIRS, "Foreign", Some(everything)))),
        record("r/Powerless", Kind::Role(role(OURS, "Powerless", None))),
        app(true),
        record("u/alice", Kind::User(alice)),
        record("b/1", Kind::ServicePrincipalBinding(binding)),
    ]
}
