//! The operator's work over gRPC, as the administrator whose token `up` leaves: users, keys, roles; and exchanges as anybody.

use std::time::{Duration, Instant};

use countersign_proto::{
    decision::v1::{GetStatusRequest, decision_service_client::DecisionServiceClient},
    policy::v1::{
        AccessKey, CreateAccessKeyRequest, CreateRoleRequest, CreateUserRequest,
        PutRolePolicyRequest, policy_store_service_client::PolicyStoreServiceClient,
    },
    token::v1::{
        ExchangeRequest, ExchangeResponse,
        token_exchange_service_client::TokenExchangeServiceClient,
    },
};
use serde_json::{Value, json};
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};
use tonic_types::StatusExt;

use crate::system::{ACCOUNT, Countersign};

/// A replica that is alive is never as far behind.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a proof of GetCallerIdentity is called in an exchange.
pub const STS_PROOF: &str = "urn:countersign:proof:sts-get-caller-identity";

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

/// Clients of one system.
pub struct Operator {
    store: PolicyStoreServiceClient<Authenticated>,
    decision: DecisionServiceClient<Authenticated>,
    gateway: TokenExchangeServiceClient<Channel>,
}

impl Operator {
    /// Connects to `system`.
    ///
    /// # Panics
    /// When it cannot be reached.
    pub async fn of(system: &Countersign) -> Self {
        let bearer = format!("Bearer {}", system.admin_token());
        let bearer = Bearer(bearer.parse().expect("a token is ASCII"));
        let store = channel(system.endpoint("policy_store")).await;
        let decision = channel(system.endpoint("decision")).await;
        let gateway = channel(system.endpoint("gateway")).await;
        Self {
            store: PolicyStoreServiceClient::with_interceptor(store, bearer.clone()),
            decision: DecisionServiceClient::with_interceptor(decision, bearer),
            gateway: TokenExchangeServiceClient::new(gateway),
        }
    }

    /// A user of the local account, with an access key.
    ///
    /// # Panics
    /// When the store refuses.
    pub async fn user(&mut self, user_name: &str) -> AccessKey {
        let request = CreateUserRequest { user_name: user_name.to_owned(), ..Default::default() };
        self.store.create_user(request).await.expect("the user is created");
        let request =
            CreateAccessKeyRequest { user_name: user_name.to_owned(), ..Default::default() };
        let answer = self.store.create_access_key(request).await.expect("the key is created");
        answer.into_inner().access_key.expect("the answer has the key")
    }

    /// A role that `principal` (an ARN) may assume; its ARN. The decision service knows it when this returns.
    ///
    /// # Panics
    /// When the store refuses, or the decision service does not follow.
    pub async fn role(&mut self, role_name: &str, principal: &str) -> String {
        let trust = json!({"Version": "2012-10-17", "Statement": [
            {"Effect": "Allow", "Principal": {"AWS": principal}, "Action": "sts:AssumeRole"},
        ]});
        let request = CreateRoleRequest {
            role_name: role_name.to_owned(),
            assume_role_policy_document: trust.to_string(),
            ..Default::default()
        };
        let answer =
            self.store.create_role(request).await.expect("the role is created").into_inner();
        self.followed(&answer.revision).await;
        answer.role.expect("the answer has the role").arn
    }

    /// Allows a role what `statement` says. The decision service knows it when this returns.
    ///
    /// # Panics
    /// When the store refuses, or the decision service does not follow.
    pub async fn allow(&mut self, role_name: &str, statement: &Value) {
        let document = json!({"Version": "2012-10-17", "Statement": [statement]});
        let request = PutRolePolicyRequest {
            role_name: role_name.to_owned(),
            policy_name: "allowed".to_owned(),
            policy_document: document.to_string(),
            ..Default::default()
        };
        let answer = self.store.put_role_policy(request).await.expect("the policy is put");
        self.followed(&answer.into_inner().revision).await;
    }

    /// Waits until the decision service has reached `revision`.
    async fn followed(&mut self, revision: &str) {
        let started = Instant::now();
        loop {
            let answer = self.decision.get_status(GetStatusRequest::default()).await;
            let reached = answer.expect("the administrator may ask").into_inner().revision;
            if number(&reached) >= number(revision) {
                return;
            }
            assert!(
                started.elapsed() < PATIENCE,
                "the decision service stays at {reached}, before {revision}"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Exchanges `request`, as anybody: the proof is the only credential.
    ///
    /// # Errors
    /// As the gateway answers.
    pub async fn exchange(&mut self, request: ExchangeRequest) -> Result<ExchangeResponse, Status> {
        self.gateway.exchange(request).await.map(tonic::Response::into_inner)
    }
}

/// The ARN of a user of the local account.
#[must_use]
pub fn user_arn(user_name: &str) -> String {
    format!("arn:aws:iam::{ACCOUNT}:user/{user_name}")
}

/// An exchange still without its proof, and without a duration of its own.
#[must_use]
pub fn unproven(role_arn: &str, audience: &str) -> ExchangeRequest {
    ExchangeRequest {
        subject_token_type: STS_PROOF.to_owned(),
        role_arn: role_arn.to_owned(),
        role_session_name: "journey".to_owned(),
        audience: audience.to_owned(),
        duration_seconds: 900,
        ..Default::default()
    }
}

/// The fields that [`unproven`] sets, under their proto names.
#[must_use]
pub fn fields(request: &ExchangeRequest) -> Value {
    json!({
        "subject_token_type": request.subject_token_type,
        "role_arn": request.role_arn,
        "role_session_name": request.role_session_name,
        "audience": request.audience,
        "duration_seconds": request.duration_seconds,
    })
}

/// `reason` of the ErrorInfo that every refusal carries.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn reason(status: &Status) -> String {
    let info =
        status.get_details_error_info().unwrap_or_else(|| panic!("no ErrorInfo: {status:?}"));
    assert_eq!(info.domain, "countersign", "{status:?}");
    info.reason
}

async fn channel(origin: &str) -> Channel {
    let endpoint = Channel::from_shared(origin.to_owned()).expect("it is a URI");
    endpoint.connect().await.unwrap_or_else(|error| panic!("{origin}: {error}"))
}

/// The number of a revision, `store_id:number`; the store is one and the same in all of a journey.
fn number(revision: &str) -> u64 {
    let number = revision.rsplit_once(':').and_then(|(_, number)| number.parse().ok());
    number.unwrap_or_else(|| panic!("`{revision}` is no revision"))
}
