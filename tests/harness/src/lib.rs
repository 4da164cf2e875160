//! The whole system on free ports, for tests: `countersign up` as a library, with the administrator's clients at hand, users with
//! access keys, exchanges, and all that was logged.
//!
//! It starts what users start and calls what users call. What cannot go on panics, with the place of the test that asked.

#![expect(clippy::expect_used, clippy::panic, reason = "a test that cannot go on stops here")]

mod logs;
mod rpcs;
pub mod sts_stand_in;

use countersign::{
    clients::{self, Decision, Gateway, PolicyStore},
    credentials,
    demo::ACCOUNT,
    proof::{self, Form, Place},
    up::{self, UpOptions},
};
use countersign_proto::{
    policy::v1::{
        AttachRolePolicyRequest, CreateAccessKeyRequest, CreateRoleRequest, CreateUserRequest,
        PutRolePolicyRequest,
    },
    token::v1::{ExchangeRequest, ExchangeResponse},
};
use countersign_sigv4::{Credentials, key::SecretKey};
use tempfile::TempDir;
use tonic::Status;
use tonic_types::StatusExt;

pub use countersign::{clients::Bearer, proof::Ask, up::Running};
pub use logs::logs;
pub use rpcs::{Rpc, call_empty, rpcs};

/// A system that runs. Dropped, it ends with its test; [`System::shutdown`] drains it.
#[derive(Debug)]
pub struct System {
    /// What runs.
    pub running: Running,
    /// The administrator.
    pub admin: Bearer,
    // Removed when the test is over.
    _folder: TempDir,
}

/// A user, and what it signs with.
#[derive(Clone, Debug)]
pub struct User {
    /// Its name.
    pub user_name: String,
    /// `AIDA…`.
    pub user_id: String,
    /// Its ARN.
    pub arn: String,
    /// Its access key.
    pub credentials: Credentials,
    /// Its secret, for tests that look for it where it must not be.
    pub secret: SecretKey,
}

impl System {
    /// With account 123456789012, and nothing special.
    pub async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// With other options. The data folder is the harness's own.
    pub async fn with(change: impl FnOnce(&mut UpOptions)) -> Self {
        logs::capture();
        let folder = tempfile::tempdir().expect("a temporary folder");
        let account = ACCOUNT.parse().expect("an account");
        let mut options = UpOptions::on_free_ports(account, folder.path().join("data"));
        change(&mut options);
        let running = up::start(options).await.unwrap_or_else(|error| panic!("up: {error}"));
        let admin = Bearer::from_file(&running.admin_token_path).expect("admin.token");
        Self { running, admin, _folder: folder }
    }

    /// Drains it.
    pub async fn shutdown(self) {
        self.running.shutdown().await;
    }

    /// The policy store, as the administrator.
    pub fn policy_store(&self) -> PolicyStore {
        self.policy_store_as(&self.admin)
    }

    /// The policy store, as somebody.
    pub fn policy_store_as(&self, bearer: &Bearer) -> PolicyStore {
        clients::policy_store(&self.running.endpoints.policy_store, bearer).expect("an origin")
    }

    /// The decision service, as the administrator.
    pub fn decision(&self) -> Decision {
        self.decision_as(&self.admin)
    }

    /// The decision service, as somebody.
    pub fn decision_as(&self, bearer: &Bearer) -> Decision {
        clients::decision(&self.running.endpoints.decision, bearer).expect("an origin")
    }

    /// The token gateway without credentials, as an exchange has it.
    pub fn gateway(&self) -> Gateway {
        self.gateway_as(&Bearer::nobody())
    }

    /// The token gateway, as somebody.
    pub fn gateway_as(&self, bearer: &Bearer) -> Gateway {
        clients::gateway(&self.running.endpoints.gateway, bearer).expect("an origin")
    }

    /// Countersign's own STS.
    pub fn own_sts(&self) -> Place {
        Place::own(self.running.issuer.clone(), self.running.region.clone())
    }

    /// Another STS, at `origin` without a slash at the end, of region us-east-1.
    pub fn sts_at(&self, origin: &str) -> Place {
        Place {
            sts_origin: origin.to_owned(),
            sts_region: "us-east-1".to_owned(),
            ..self.own_sts()
        }
    }

    /// The root's access key.
    pub fn root(&self) -> Credentials {
        credentials::read(&self.running.root_credentials_path).expect("root-credentials.json")
    }

    /// A request whose proof is header-signed at Countersign's own STS, now.
    pub fn request(&self, credentials: &Credentials, ask: &Ask) -> ExchangeRequest {
        self.request_at(&self.own_sts(), credentials, ask, Form::Headers)
    }

    /// The same for any STS, in either form.
    pub fn request_at(
        &self,
        place: &Place,
        credentials: &Credentials,
        ask: &Ask,
        form: Form,
    ) -> ExchangeRequest {
        proof::exchange_request(ask, place, credentials, form, proof::now()).expect("a proof")
    }

    /// Signs at Countersign's own STS, and exchanges.
    ///
    /// # Errors
    /// The gateway's refusal.
    pub async fn exchange(
        &self,
        credentials: &Credentials,
        ask: &Ask,
    ) -> Result<ExchangeResponse, Status> {
        let request = self.request(credentials, ask);
        self.gateway().exchange(request).await.map(tonic::Response::into_inner)
    }

    /// A new user with an access key.
    pub async fn create_user(&self, user_name: &str) -> User {
        let mut store = self.policy_store();
        let request = CreateUserRequest { user_name: user_name.to_owned(), ..Default::default() };
        let user = store.create_user(request).await.expect("CreateUser").into_inner().user;
        let user = user.expect("a user");
        let request =
            CreateAccessKeyRequest { user_name: user_name.to_owned(), ..Default::default() };
        let key = store.create_access_key(request).await.expect("CreateAccessKey").into_inner();
        let key = key.access_key.expect("an access key");
        let secret = SecretKey::new(key.secret_access_key);
        User {
            user_name: user.user_name,
            user_id: user.user_id,
            arn: user.arn,
            credentials: Credentials::new(key.access_key_id, secret.clone(), None),
            secret,
        }
    }

    /// A new role that trusts `principal`, a trust policy's `Principal` as JSON; with the managed policies, and, if it is not
    /// empty, one inline policy. Gives its ARN, once the decision service knows it.
    pub async fn create_role(
        &self,
        role_name: &str,
        principal: &str,
        managed: &[&str],
        inline: &str,
    ) -> String {
        let mut store = self.policy_store();
        let trust = format!(
            r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Principal":{principal},"Action":"sts:AssumeRole"}}]}}"#
        );
        let request = CreateRoleRequest {
            role_name: role_name.to_owned(),
            assume_role_policy_document: trust,
            ..Default::default()
        };
        let created = store.create_role(request).await.expect("CreateRole").into_inner();
        let mut revision = created.revision;
        for policy_arn in managed {
            let request = AttachRolePolicyRequest {
                role_name: role_name.to_owned(),
                policy_arn: (*policy_arn).to_owned(),
                ..Default::default()
            };
            let attached = store.attach_role_policy(request).await.expect("AttachRolePolicy");
            revision = attached.into_inner().revision;
        }
        if !inline.is_empty() {
            let request = PutRolePolicyRequest {
                role_name: role_name.to_owned(),
                policy_name: "Inline".to_owned(),
                policy_document: inline.to_owned(),
                ..Default::default()
            };
            revision =
                store.put_role_policy(request).await.expect("PutRolePolicy").into_inner().revision;
        }
        self.reached(&revision).await;
        created.role.expect("a role").arn
    }

    /// Returns once the decision service has reached `revision`.
    pub async fn reached(&self, revision: &str) {
        use countersign_proto::decision::v1::{AuthorizeRequest, authorize_request::Subject};
        let request = AuthorizeRequest {
            subject: Some(Subject::PrincipalArn(format!(
                "arn:aws:iam::{}:role/None",
                self.running.account
            ))),
            action: "countersign:Nothing".to_owned(),
            resource: "*".to_owned(),
            at_least_revision: revision.to_owned(),
            ..Default::default()
        };
        self.decision().authorize(request).await.expect("the decision service keeps up");
    }
}

/// The `reason` of an error's ErrorInfo; empty if it has none.
#[must_use]
pub fn reason(status: &Status) -> String {
    status.get_error_details().error_info().map(|info| info.reason.clone()).unwrap_or_default()
}
