//! What a user does, one gRPC call each, with what it came to in words.

use countersign_proto::{
    decision::v1::{
        AuthorizeRequest, AuthorizeResponse, Decision as Answer, DecisionReason, ExplainRequest,
        StatementExplanation, authorize_request, explain_request,
    },
    policy::v1::{
        AttachRolePolicyRequest, BindServicePrincipalRequest, CreateAccessKeyRequest,
        CreatePolicyRequest, CreateRoleRequest, CreateUserRequest, DetachRolePolicyRequest,
        PutRolePolicyRequest,
    },
    token::v1::ExchangeRequest,
};
use countersign_sigv4::{Credentials, key::SecretKey};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::{ACCOUNT, cases::Call};
use crate::{
    clients::{self, Bearer, Decision, Gateway, PolicyStore},
    proof::{self, Ask, Form, Place},
    up::Running,
};

/// What a step came to: something for the next one, and words.
pub type Outcome<T> = Result<(T, String), String>;

/// The service that asks for decisions in this demo. A token is for one audience.
pub const AUDIENCE: &str = "platform";

/// A user of Countersign, with the administrator's token.
pub struct User {
    pub store: PolicyStore,
    pub decision: Decision,
    pub gateway: Gateway,
    policy_store_origin: String,
    place: Place,
}

/// A workload's stand-in.
pub struct Workload {
    pub name: String,
    pub unique_id: String,
    credentials: Credentials,
}

impl User {
    /// With what `up` left in its data folder.
    pub fn new(running: &Running) -> Result<Self, String> {
        let admin = Bearer::from_file(&running.admin_token_path)
            .map_err(|error| format!("cannot read admin.token: {error}"))?;
        let no_client = |error: tonic::transport::Error| error.to_string();
        let endpoints = &running.endpoints;
        Ok(Self {
            store: clients::policy_store(&endpoints.policy_store, &admin).map_err(no_client)?,
            decision: clients::decision(&endpoints.decision, &admin).map_err(no_client)?,
            // An exchange is authenticated by its proof.
            gateway: clients::gateway(&endpoints.gateway, &Bearer::nobody()).map_err(no_client)?,
            policy_store_origin: endpoints.policy_store.clone(),
            place: Place::own(running.issuer.clone(), running.region.clone()),
        })
    }

    pub async fn create_role(
        &self,
        name: &str,
        trust_policy: String,
        trusts: &str,
    ) -> Outcome<String> {
        let request = CreateRoleRequest {
            role_name: name.to_owned(),
            assume_role_policy_document: trust_policy,
            ..Default::default()
        };
        let answer = self.store.clone().create_role(request).await.map_err(told)?.into_inner();
        let role = answer.role.ok_or("an answer without the role")?;
        Ok((role.arn.clone(), format!("{}, trusts {trusts}", role.arn)))
    }

    pub async fn create_policy(&self, name: &str, document: &str) -> Outcome<()> {
        let request = CreatePolicyRequest {
            policy_name: name.to_owned(),
            policy_document: document.to_owned(),
            ..Default::default()
        };
        let answer = self.store.clone().create_policy(request).await.map_err(told)?.into_inner();
        let policy = answer.policy.ok_or("an answer without the policy")?;
        Ok(((), policy.arn))
    }

    pub async fn attach(&self, role_name: &str, policy_arn: &str) -> Outcome<()> {
        let request = AttachRolePolicyRequest {
            role_name: role_name.to_owned(),
            policy_arn: policy_arn.to_owned(),
            ..Default::default()
        };
        self.store.clone().attach_role_policy(request).await.map_err(told)?;
        Ok(((), policy_arn.to_owned()))
    }

    /// Gives the revision.
    pub async fn detach(&self, role_name: &str, policy_arn: &str) -> Outcome<String> {
        let request = DetachRolePolicyRequest {
            role_name: role_name.to_owned(),
            policy_arn: policy_arn.to_owned(),
            ..Default::default()
        };
        let answer = self.store.clone().detach_role_policy(request).await.map_err(told)?;
        let revision = answer.into_inner().revision;
        Ok((revision.clone(), format!("{policy_arn}, at revision {}", short(&revision))))
    }

    /// Gives the revision.
    pub async fn put_inline(
        &self,
        role_name: &str,
        policy_name: &str,
        document: &str,
    ) -> Outcome<String> {
        let request = PutRolePolicyRequest {
            role_name: role_name.to_owned(),
            policy_name: policy_name.to_owned(),
            policy_document: document.to_owned(),
            ..Default::default()
        };
        let answer = self.store.clone().put_role_policy(request).await.map_err(told)?;
        Ok((answer.into_inner().revision, format!("inline policy {policy_name}")))
    }

    pub async fn create_workload(&self, name: &str) -> Outcome<Workload> {
        let request = CreateUserRequest { user_name: name.to_owned(), ..Default::default() };
        let user = self.store.clone().create_user(request).await.map_err(told)?.into_inner().user;
        let user = user.ok_or("an answer without the user")?;
        let request = CreateAccessKeyRequest { user_name: name.to_owned(), ..Default::default() };
        let key = self.store.clone().create_access_key(request).await.map_err(told)?;
        let key = key.into_inner().access_key.ok_or("an answer without the access key")?;
        let detail = format!("user {} with access key {}", user.user_id, key.access_key_id);
        let credentials =
            Credentials::new(key.access_key_id, SecretKey::new(key.secret_access_key), None);
        Ok((Workload { name: name.to_owned(), unique_id: user.user_id, credentials }, detail))
    }

    /// Gives the revision.
    pub async fn bind(
        &self,
        workload: &Workload,
        service: &str,
        role_arn: &str,
    ) -> Outcome<String> {
        let request = binding(workload, service, role_arn);
        let answer = self.store.clone().bind_service_principal(request).await.map_err(told)?;
        let revision = answer.into_inner().revision;
        Ok((revision, format!("{} speaks for {service}, towards this role alone", workload.name)))
    }

    /// The same, as the bearer of `token`.
    pub async fn bind_as(
        &self,
        token: &str,
        workload: &Workload,
        service: &str,
        role_arn: &str,
    ) -> Result<(), Box<Status>> {
        let bearer = Bearer::new(token).map_err(|error| Status::internal(error.to_string()))?;
        let mut store = clients::policy_store(&self.policy_store_origin, &bearer)
            .map_err(|error| Status::internal(error.to_string()))?;
        let request = binding(workload, service, role_arn);
        store.bind_service_principal(request).await.map(drop).map_err(Box::new)
    }

    /// May a role do that, before anybody has assumed it? Waits for `revision`, so that what was just written is seen.
    pub async fn ask_about_role(&self, role_arn: &str, call: Call, revision: &str) -> Outcome<()> {
        let request = AuthorizeRequest {
            subject: Some(authorize_request::Subject::PrincipalArn(role_arn.to_owned())),
            at_least_revision: revision.to_owned(),
            ..question(call)
        };
        let answer = self.decision.clone().authorize(request).await.map_err(told)?.into_inner();
        expect(&answer, Answer::Allow, DecisionReason::AllowedByIdentityPolicy)
            .map(|detail| ((), detail))
    }

    pub fn prove(&self, workload: &Workload, ask: &Ask) -> Outcome<ExchangeRequest> {
        let request = proof::exchange_request(
            ask,
            &self.place,
            &workload.credentials,
            Form::Headers,
            proof::now(),
        )
        .map_err(|error| error.to_string())?;
        let detail =
            format!("GetCallerIdentity, signed for {} and this one request", self.place.issuer);
        Ok((request, detail))
    }

    /// Gives the token.
    pub async fn exchange(&self, request: ExchangeRequest) -> Outcome<String> {
        let answer = self.gateway.clone().exchange(request).await.map_err(told)?.into_inner();
        let session = answer.assumed_role_user.ok_or("an answer without the session")?;
        let detail = format!("{}, {} s", session.arn, answer.expires_in);
        Ok((answer.access_token, detail))
    }

    /// A workload's call, as the service that was called asks about it.
    pub async fn authorize(
        &self,
        token: &str,
        call: Call,
        expected: (Answer, DecisionReason),
        revision: &str,
    ) -> Outcome<()> {
        let request = AuthorizeRequest {
            subject: Some(authorize_request::Subject::Token(token.to_owned())),
            audience: AUDIENCE.to_owned(),
            at_least_revision: revision.to_owned(),
            ..question(call)
        };
        let answer = self.decision.clone().authorize(request).await.map_err(told)?.into_inner();
        expect(&answer, expected.0, expected.1).map(|detail| ((), detail))
    }

    /// The same token at a service that it is not for.
    pub async fn authorize_elsewhere(&self, token: &str, call: Call) -> Outcome<()> {
        let request = AuthorizeRequest {
            subject: Some(authorize_request::Subject::Token(token.to_owned())),
            audience: "another-service".to_owned(),
            ..question(call)
        };
        let answer = self.decision.clone().authorize(request).await;
        refused(answer, Code::InvalidArgument, "WrongAudience")
    }

    /// Gives the nearest misses, in words.
    pub async fn explain(&self, token: &str, call: Call) -> Outcome<Vec<String>> {
        let AuthorizeRequest { action, resource, resource_account, .. } = question(call);
        let request = ExplainRequest {
            subject: Some(explain_request::Subject::Token(token.to_owned())),
            audience: AUDIENCE.to_owned(),
            action,
            resource,
            resource_account,
            ..Default::default()
        };
        let answer = self.decision.clone().explain(request).await.map_err(told)?.into_inner();
        let misses: Vec<_> = answer.nearest_misses.iter().map(miss).collect();
        if misses.is_empty() {
            return Err("no nearest misses".to_owned());
        }
        Ok((misses, format!("statements looked at: {}; nearest misses:", answer.statements.len())))
    }
}

fn binding(workload: &Workload, service: &str, role_arn: &str) -> BindServicePrincipalRequest {
    BindServicePrincipalRequest {
        role_arn: role_arn.to_owned(),
        service_principal: service.to_owned(),
        caller_unique_id: workload.unique_id.clone(),
        ..Default::default()
    }
}

fn question(call: Call) -> AuthorizeRequest {
    // An S3 ARN names no account; whose bucket it is, the asking service knows.
    let unowned = call.resource.starts_with("arn:aws:s3:::");
    AuthorizeRequest {
        action: call.action.to_owned(),
        resource: call.resource.to_owned(),
        resource_account: if unowned { ACCOUNT.to_owned() } else { String::new() },
        ..Default::default()
    }
}

fn miss(explanation: &StatementExplanation) -> String {
    let statement = explanation.statement.clone().unwrap_or_default();
    let place =
        if statement.sid.is_empty() { format!("#{}", statement.index) } else { statement.sid };
    format!("{} statement {place}: {}", statement.policy, explanation.message)
}

/// What an answer came to, if it is the expected one.
pub fn expect(
    answer: &AuthorizeResponse,
    decision: Answer,
    reason: DecisionReason,
) -> Result<String, String> {
    let found = format!("{}: {}", name(answer.decision()), answer.message);
    let good = answer.decision() == decision
        && answer.reason() == reason
        && answer.allowed == (decision == Answer::Allow);
    if good {
        return Ok(if answer.allowed { found } else { format!("{found} [{}]", why(reason)) });
    }
    Err(format!(
        "{found} [{}], expected {} [{}]",
        why(answer.reason()),
        name(decision),
        why(reason)
    ))
}

/// A refusal that was expected: code and reason must be these.
pub fn refused<T>(answer: Result<T, Status>, code: Code, reason: &str) -> Outcome<()> {
    match answer {
        Ok(_) => Err(format!("it was accepted, expected {reason}")),
        Err(status) => {
            let found = told_with_reason(&status);
            if status.code() == code && reason_of(&status).as_deref() == Some(reason) {
                Ok(((), found))
            } else {
                Err(format!("{found}, expected {reason}"))
            }
        }
    }
}

fn name(decision: Answer) -> &'static str {
    decision.as_str_name().trim_start_matches("DECISION_")
}

fn why(reason: DecisionReason) -> &'static str {
    reason.as_str_name().trim_start_matches("DECISION_REASON_")
}

fn reason_of(status: &Status) -> Option<String> {
    status.get_error_details().error_info().map(|info| info.reason.clone())
}

fn told_with_reason(status: &Status) -> String {
    match reason_of(status) {
        Some(reason) => format!("{reason}: {}", status.message()),
        None => format!("{:?}: {}", status.code(), status.message()),
    }
}

fn told(status: Status) -> String {
    told_with_reason(&status)
}

/// A store's id is long.
fn short(revision: &str) -> &str {
    revision.rsplit_once(':').map_or(revision, |(_, number)| number)
}
