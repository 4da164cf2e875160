//! A workload's side: requests, proofs, and ways to spoil them.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign_proto::token::v1::ExchangeRequest;
use countersign_sigv4::{Credentials, ProofRequest, SecretKey};
use countersign_token::{Binding, BoundRequest, BoundTag};
use serde_json::Value;

use crate::{sts, system::now};

pub const STS_PROOF: &str = "urn:countersign:proof:sts-get-caller-identity";
pub const ROLE: &str = "arn:aws:iam::000000000000:role/R";
pub const LOCAL_KEY: &str = "AKIALOCAL00000000001";
pub const LOCAL_SECRET: &str = "local-secret-access-key-0123456789";
pub const INACTIVE_KEY: &str = "AKIALOCAL00000000002";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Post,
    Presigned,
}

/// Whose proof, for which gateway, when, in which form.
#[derive(Clone)]
pub struct Workload {
    pub origin: String,
    pub region: String,
    pub audience: String,
    pub access_key: String,
    pub secret: String,
    pub session_token: Option<String>,
    pub now: i64,
    pub form: Form,
    pub challenge: Option<String>,
}

impl Workload {
    pub fn local(issuer: &str) -> Self {
        Self {
            origin: issuer.into(),
            region: "us-east-1".into(),
            audience: issuer.into(),
            access_key: LOCAL_KEY.into(),
            secret: LOCAL_SECRET.into(),
            session_token: None,
            now: now(),
            form: Form::Post,
            challenge: None,
        }
    }

    pub fn external(issuer: &str, origin: &str) -> Self {
        Self {
            origin: origin.into(),
            access_key: sts::ACCESS_KEY.into(),
            secret: sts::SECRET.into(),
            session_token: Some(sts::SESSION_TOKEN.into()),
            ..Self::local(issuer)
        }
    }

    pub fn with(&self, change: impl FnOnce(&mut Self)) -> Self {
        let mut other = self.clone();
        change(&mut other);
        other
    }

    /// `request` with a proof that is bound to it.
    pub fn sign(&self, request: ExchangeRequest) -> ExchangeRequest {
        let binding = Binding::of_subject(&bound(&request)).to_string();
        let secret = SecretKey::new(self.secret.clone());
        let credentials =
            Credentials::new(self.access_key.clone(), secret, self.session_token.clone());
        let proof = ProofRequest {
            origin: &self.origin,
            region: &self.region,
            audience: &self.audience,
            binding: &binding,
            challenge: self.challenge.as_deref(),
        };
        let subject_token = match self.form {
            Form::Post => proof.sign_post(&credentials, self.now),
            Form::Presigned => proof.sign_presigned(&credentials, self.now),
        };
        ExchangeRequest { subject_token: subject_token.unwrap(), ..request }
    }
}

/// A plain request. Each call asks for another session, so that no two proofs of one second are the same.
pub fn request() -> ExchangeRequest {
    static NEXT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    ExchangeRequest {
        subject_token_type: STS_PROOF.into(),
        role_arn: ROLE.into(),
        role_session_name: format!("session-{number}"),
        audience: "orders".into(),
        duration_seconds: 900,
        external_id: "external-id".into(),
        ..ExchangeRequest::default()
    }
}

fn bound(request: &ExchangeRequest) -> BoundRequest {
    BoundRequest {
        subject_token_type: request.subject_token_type.clone(),
        actor_token_type: request.actor_token_type.clone(),
        role_arn: request.role_arn.clone(),
        role_session_name: request.role_session_name.clone(),
        audience: request.audience.clone(),
        scope: request.scope.clone(),
        duration_seconds: request.duration_seconds,
        policy: request.policy.clone(),
        policy_arns: request.policy_arns.clone(),
        tags: request
            .tags
            .iter()
            .map(|tag| BoundTag { key: tag.key.clone(), value: tag.value.clone() })
            .collect(),
        transitive_tag_keys: request.transitive_tag_keys.clone(),
        external_id: request.external_id.clone(),
        source_identity: request.source_identity.clone(),
        requested_token_type: request.requested_token_type.clone(),
        client_key_thumbprint: request.client_key_thumbprint.clone(),
        may_act: request.may_act.clone(),
    }
}

/// Changes the JSON inside a proof.
pub fn spoil(mut request: ExchangeRequest, change: impl FnOnce(&mut Value)) -> ExchangeRequest {
    let mut envelope = open(&request);
    change(&mut envelope);
    request.subject_token = URL_SAFE_NO_PAD.encode(envelope.to_string());
    request
}

pub fn open(request: &ExchangeRequest) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(&request.subject_token).unwrap()).unwrap()
}
