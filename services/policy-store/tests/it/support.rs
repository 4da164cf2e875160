//! One policy store, its service identities, and tokens for its roles.

use std::{collections::HashMap, path::Path, time::SystemTime};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign_policy_store::{
    Config, EtcdPlace, Place, Quotas, SERVICE_NAME, SealingKeys, serve,
};
use countersign_proto::policy::v1::{
    Record, WatchRequest, WatchStart, policy_store_service_client::PolicyStoreServiceClient,
    record, watch_request, watch_response, *,
};
use countersign_serve::{
    ServiceCredential, ServiceIdentities, ServiceName, ServiceSecret, grpc, listener,
    shutdown::{self, Trigger},
    telemetry,
};
use countersign_token::{Caller, Claims, Realm, Session, key::SigningKey, mint};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tonic::{
    Code, Request, Status,
    metadata::MetadataValue,
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};
use tonic_types::StatusExt;

pub const ACCOUNT: &str = "123456789012";
pub const ISSUER: &str = "http://127.0.0.1:7400";

pub type Client<I> = PolicyStoreServiceClient<InterceptedService<Channel, I>>;

/// In the folder; or, when COUNTERSIGN_TEST_ETCD names an etcd (`http://127.0.0.1:2379`), in that, under a prefix of the test's own.
fn place(folder: &Path) -> Place {
    match std::env::var("COUNTERSIGN_TEST_ETCD") {
        Err(_) => Place::DataFolder,
        Ok(endpoints) => Place::Etcd(EtcdPlace {
            endpoints: endpoints.split(',').map(str::to_owned).collect(),
            prefix: Some(format!("test{}/", folder.file_name().unwrap().display())),
            ..EtcdPlace::default()
        }),
    }
}

/// Sends a token with every call.
#[derive(Clone)]
pub struct Bearer(pub String);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let value = MetadataValue::try_from(format!("Bearer {}", self.0)).unwrap();
        request.metadata_mut().insert("authorization", value);
        Ok(request)
    }
}

pub struct TestStore {
    pub folder: TempDir,
    pub place: Place,
    pub origin: String,
    pub signing_key: SigningKey,
    /// Of the key's publication.
    pub revision: String,
    /// Of the next start.
    pub quotas: Quotas,
    /// Of the next start.
    pub sealing: SealingKeys,
    /// Of the last start.
    pub metrics: telemetry::Metrics,
    gateway: ServiceSecret,
    decision: ServiceSecret,
    trigger: Option<Trigger>,
    task: Option<JoinHandle<Result<(), countersign_policy_store::Error>>>,
}

impl TestStore {
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let place = place(folder.path());
        let mut store = Self::prepared(folder, place);
        store.run(ACCOUNT).await.unwrap();
        store.publish_key().await;
        store
    }

    /// One that does not run yet.
    pub fn prepared(folder: TempDir, place: Place) -> Self {
        Self {
            folder,
            place,
            origin: String::new(),
            signing_key: SigningKey::generate().unwrap(),
            revision: String::new(),
            quotas: Quotas::default(),
            sealing: SealingKeys::DataFolder,
            metrics: telemetry::Metrics::default(),
            gateway: ServiceSecret::generate().unwrap(),
            decision: ServiceSecret::generate().unwrap(),
            trigger: None,
            task: None,
        }
    }

    /// The key that its tokens are signed with.
    pub async fn publish_key(&mut self) {
        let jwk = self.signing_key.public().to_jwk();
        let request = PublishSigningKeyRequest { jwk };
        let published = self.gateway().publish_signing_key(request).await.unwrap();
        self.revision = published.into_inner().revision;
    }

    /// Starts the service on what is in the folder.
    pub async fn run(&mut self, account: &str) -> Result<(), String> {
        let socket = listener::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        self.origin = grpc::origin(&socket).unwrap();
        self.metrics = telemetry::Metrics::default();
        let config = Config {
            secrets_dir: None,
            seeding: countersign_policy_store::Seeding::Here,
            data_dir: self.folder.path().to_owned(),
            place: self.place.clone(),
            account: account.parse().unwrap(),
            issuer: ISSUER.to_owned(),
            region: "us-east-1".to_owned(),
            quotas: self.quotas,
            sealing: self.sealing.clone(),
            process: "test".to_owned(),
            metrics: self.metrics.clone(),
            identities: ServiceIdentities::default()
                .accept(ServiceName::Gateway, self.gateway.clone())
                .accept(ServiceName::Decision, self.decision.clone()),
        };
        let (trigger, shutdown) = shutdown::channel();
        let mut task = tokio::spawn(serve(config, socket, shutdown));
        let patience = std::time::Duration::from_secs(120);
        tokio::select! {
            ended = &mut task => return Err(ended.unwrap().unwrap_err().to_string()),
            serving = grpc::wait_until_serving(&self.origin, SERVICE_NAME, patience) => serving.unwrap(),
        }
        self.trigger = Some(trigger);
        self.task = Some(task);
        Ok(())
    }

    /// Stops the service and waits until its folder is free.
    pub async fn stop(&mut self) {
        self.trigger.take().unwrap().fire();
        self.task.take().unwrap().await.unwrap().unwrap();
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn gateway(&self) -> Client<ServiceCredential> {
        self.client(self.gateway_credential())
    }

    pub fn decision(&self) -> Client<ServiceCredential> {
        self.client(self.decision_credential())
    }

    pub fn gateway_credential(&self) -> ServiceCredential {
        ServiceCredential::new(&self.gateway)
    }

    pub fn decision_credential(&self) -> ServiceCredential {
        ServiceCredential::new(&self.decision)
    }

    pub fn client<I: Interceptor>(&self, interceptor: I) -> Client<I> {
        let channel = grpc::channel(&self.origin).unwrap();
        PolicyStoreServiceClient::with_interceptor(channel, interceptor)
    }

    /// Everything that Watch carries, by key.
    pub async fn records(&self) -> HashMap<String, Record> {
        let start = WatchStart { follower_name: "test".to_owned(), ..Default::default() };
        let request = WatchRequest { request: Some(watch_request::Request::Start(start)) };
        let requests = tokio_stream::iter([request]);
        // The stream is kept open by the server's side until the snapshot has been read.
        let requests = tokio_stream::StreamExt::chain(requests, tokio_stream::pending());
        let mut events = self.decision().watch(requests).await.unwrap().into_inner();
        let mut records = HashMap::new();
        loop {
            let event = events.message().await.unwrap().unwrap().event.unwrap();
            let watch_response::Event::SnapshotChunk(chunk) = event else { panic!("{event:?}") };
            records.extend(chunk.records.into_iter().map(|record| (record.key.clone(), record)));
            if chunk.last {
                return records;
            }
        }
    }

    pub async fn role_id(&self, account: &str, role_name: &str) -> String {
        let key = format!("role/{account}/{}", role_name.to_lowercase());
        match self.records().await.remove(&key).and_then(|record| record.record) {
            Some(record::Record::Role(role)) => role.role_id,
            other => panic!("no role at {key}: {other:?}"),
        }
    }

    /// A client with a session of a role, as the gateway would have made it.
    pub async fn session(&self, account: &str, role_name: &str) -> Client<Bearer> {
        let role_id = self.role_id(account, role_name).await;
        self.client(self.token(account, role_name, &role_id, "countersign", 900))
    }

    /// The same, of a token that was exchanged on.
    pub async fn session_with(
        &self,
        account: &str,
        role_name: &str,
        change: impl FnOnce(&mut Claims),
    ) -> Client<Bearer> {
        let role_id = self.role_id(account, role_name).await;
        let revision = self.revision.clone();
        let mut claims = claims(account, role_name, &role_id, "countersign", 900, &revision);
        change(&mut claims);
        self.client(Bearer(mint(&claims, &self.signing_key).unwrap()))
    }

    /// The same, and the token's `jti`.
    pub async fn session_with_id(
        &self,
        account: &str,
        role_name: &str,
    ) -> (Client<Bearer>, String) {
        let role_id = self.role_id(account, role_name).await;
        let bearer = self.token(account, role_name, &role_id, "countersign", 900);
        let payload = URL_SAFE_NO_PAD.decode(bearer.0.split('.').nth(1).unwrap()).unwrap();
        let claims: serde_json::Value = serde_json::from_slice(&payload).unwrap();
        let jti = claims["jti"].as_str().unwrap().to_owned();
        (self.client(bearer), jti)
    }

    pub async fn admin(&self) -> Client<Bearer> {
        self.session(ACCOUNT, "CountersignAdministrator").await
    }

    pub fn token(
        &self,
        account: &str,
        role_name: &str,
        role_id: &str,
        audience: &str,
        lifetime: i64,
    ) -> Bearer {
        self.sign(account, role_name, role_id, audience, lifetime, &self.revision)
    }

    /// A token that says it needs another revision.
    pub fn token_at(
        &self,
        account: &str,
        role_name: &str,
        role_id: &str,
        revision: &str,
    ) -> Bearer {
        self.sign(account, role_name, role_id, "countersign", 900, revision)
    }

    fn sign(
        &self,
        account: &str,
        role_name: &str,
        role_id: &str,
        audience: &str,
        lifetime: i64,
        revision: &str,
    ) -> Bearer {
        let claims = claims(account, role_name, role_id, audience, lifetime, revision);
        Bearer(mint(&claims, &self.signing_key).unwrap())
    }
}

pub fn claims(
    account: &str,
    role_name: &str,
    role_id: &str,
    audience: &str,
    lifetime: i64,
    revision: &str,
) -> Claims {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let now = i64::try_from(now).unwrap();
    let session = Session {
        account: account.to_owned(),
        partition: "aws".to_owned(),
        role_name: role_name.to_owned(),
        role_id: role_id.to_owned(),
        session_name: "test".to_owned(),
        source_identity: None,
        session_tags: Default::default(),
        transitive_tag_keys: Default::default(),
        session_policies: Vec::new(),
        narrowings: Vec::new(),
        parents: Vec::new(),
        proof_type: "test".to_owned(),
        caller: Caller {
            realm: Realm::Countersign,
            account: account.to_owned(),
            unique_id: account.to_owned(),
            arn: format!("arn:aws:iam::{account}:root"),
        },
        revision: revision.to_owned(),
    };
    Claims::for_session(ISSUER.to_owned(), audience.to_owned(), now, now + lifetime, session)
        .unwrap()
}

/// The gRPC code and IAM's reason of an error.
pub fn reason(status: &Status) -> (Code, String) {
    let reason = status.get_details_error_info().map(|info| info.reason).unwrap_or_default();
    (status.code(), reason)
}

/// Holds an answer to a code and a reason; returns the message.
pub fn refused<T: std::fmt::Debug>(
    answer: Result<tonic::Response<T>, Status>,
    code: Code,
    expected: &str,
) -> String {
    let status = answer.unwrap_err();
    assert_eq!(reason(&status), (code, expected.to_owned()), "{status:?}");
    status.message().to_owned()
}

pub fn trust(principal: &str) -> String {
    format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Principal":{principal},"Action":"sts:AssumeRole"}}]}}"#
    )
}

pub fn allow(action: &str, resource: &str) -> String {
    format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Action":"{action}","Resource":"{resource}"}}]}}"#
    )
}

pub fn new_role(role_name: &str, assume_role_policy_document: &str) -> CreateRoleRequest {
    CreateRoleRequest {
        role_name: role_name.to_owned(),
        assume_role_policy_document: assume_role_policy_document.to_owned(),
        ..Default::default()
    }
}

pub fn new_user(user_name: &str) -> CreateUserRequest {
    CreateUserRequest { user_name: user_name.to_owned(), ..Default::default() }
}
