//! A decision service that answers as it is told, and remembers what it was asked.

use std::sync::{Arc, Mutex};

use countersign_proto::decision::v1::{
    AuthorizeAssumeRoleRequest, AuthorizeAssumeRoleResponse, AuthorizeExchangeRequest,
    AuthorizeExchangeResponse, AuthorizeRequest, AuthorizeResponse, Decision, DecisionReason,
};
use countersign_serve::{ServiceIdentities, ServiceName};
use http::Request;
use tonic::{Status, body::Body};

use crate::{
    rpc::{self, Answer, Rpcs},
    store::STORE_ID,
};

pub type Verdict = Result<AuthorizeAssumeRoleResponse, Status>;
type Judge = Box<dyn Fn(&AuthorizeAssumeRoleRequest) -> Verdict + Send + Sync>;

pub type ExchangeVerdict = Result<AuthorizeExchangeResponse, Status>;
type ExchangeJudge = Box<dyn Fn(&AuthorizeExchangeRequest) -> ExchangeVerdict + Send + Sync>;

pub type Permission = Result<AuthorizeResponse, Status>;
type PermissionJudge = Box<dyn Fn(&AuthorizeRequest) -> Permission + Send + Sync>;

pub struct DecisionService {
    permission_judge: Mutex<PermissionJudge>,
    permissions: Mutex<Vec<AuthorizeRequest>>,
    exchange_judge: Mutex<ExchangeJudge>,
    exchanges: Mutex<Vec<AuthorizeExchangeRequest>>,
    identities: ServiceIdentities,
    judge: Mutex<Judge>,
    asked: Mutex<Vec<AuthorizeAssumeRoleRequest>>,
}

pub const ROLE_ID: &str = "AROAROLE1234567890ABC";

pub fn allow(request: &AuthorizeAssumeRoleRequest) -> AuthorizeAssumeRoleResponse {
    let duration = request.duration_seconds;
    AuthorizeAssumeRoleResponse {
        decision: Decision::Allow.into(),
        allowed: true,
        reason: DecisionReason::AllowedByTrustPolicy.into(),
        message: "allowed".into(),
        role_id: ROLE_ID.into(),
        account_id: request.role_arn.split(':').nth(4).unwrap().into(),
        role_name: request.role_arn.rsplit('/').next().unwrap().into(),
        duration_seconds: if duration == 0 { 3600 } else { duration },
        revision: format!("{STORE_ID}:1000"),
        decision_id: "d-1".into(),
        session_policies: limits(request),
        session_tags: request.tags.clone(),
        transitive_tag_keys: request.transitive_tag_keys.clone(),
        source_identity: request.source_identity.clone(),
        pin_required: request.instance.is_some(),
        service_principal: request
            .instance
            .as_ref()
            .map(|_| "ec2.amazonaws.com".into())
            .unwrap_or_default(),
        ..AuthorizeAssumeRoleResponse::default()
    }
}

pub fn allow_exchange(request: &AuthorizeExchangeRequest) -> AuthorizeExchangeResponse {
    let one = [&request.policy].into_iter().chain(&request.policy_arns).chain([&request.scope]);
    let texts = one.filter(|text| !text.is_empty()).map(|text| format!("limit:{text}"));
    AuthorizeExchangeResponse {
        decision: Decision::Allow.into(),
        allowed: true,
        reason: DecisionReason::AllowedAsNarrowing.into(),
        message: "allowed".into(),
        session_policies: texts.collect(),
        revision: format!("{STORE_ID}:1000"),
        decision_id: "d-3".into(),
    }
}

/// One text for each limit that was asked for.
pub fn limits(request: &AuthorizeAssumeRoleRequest) -> Vec<String> {
    let one = [&request.policy, &request.scope];
    let texts = one.into_iter().filter(|text| !text.is_empty()).chain(&request.policy_arns);
    texts.map(|text| format!("limit:{text}")).collect()
}

pub fn deny(reason: DecisionReason) -> AuthorizeAssumeRoleResponse {
    AuthorizeAssumeRoleResponse {
        decision: Decision::ImplicitDeny.into(),
        reason: reason.into(),
        message: "words-of-the-decision".into(),
        revision: format!("{STORE_ID}:1000"),
        decision_id: "d-2".into(),
        ..AuthorizeAssumeRoleResponse::default()
    }
}

impl DecisionService {
    pub fn new(identities: ServiceIdentities) -> Arc<Self> {
        let judge: Judge = Box::new(|request| Ok(allow(request)));
        let exchange_judge: ExchangeJudge = Box::new(|request| Ok(allow_exchange(request)));
        Arc::new(Self {
            identities,
            judge: Mutex::new(judge),
            asked: Mutex::default(),
            exchange_judge: Mutex::new(exchange_judge),
            exchanges: Mutex::default(),
            permission_judge: Mutex::new(Box::new(|_| Ok(AuthorizeResponse::default()))),
            permissions: Mutex::default(),
        })
    }

    pub fn answers(
        &self,
        judge: impl Fn(&AuthorizeAssumeRoleRequest) -> Verdict + Send + Sync + 'static,
    ) {
        *self.judge.lock().unwrap() = Box::new(judge);
    }

    pub fn exchange_answers(
        &self,
        judge: impl Fn(&AuthorizeExchangeRequest) -> ExchangeVerdict + Send + Sync + 'static,
    ) {
        *self.exchange_judge.lock().unwrap() = Box::new(judge);
    }

    /// What callers of the gateway may do; nothing, at first.
    pub fn permits(&self, judge: impl Fn(&AuthorizeRequest) -> Permission + Send + Sync + 'static) {
        *self.permission_judge.lock().unwrap() = Box::new(judge);
    }

    pub fn permissions(&self) -> Vec<AuthorizeRequest> {
        self.permissions.lock().unwrap().clone()
    }

    pub fn exchanges(&self) -> Vec<AuthorizeExchangeRequest> {
        self.exchanges.lock().unwrap().clone()
    }

    pub fn asked(&self) -> Vec<AuthorizeAssumeRoleRequest> {
        self.asked.lock().unwrap().clone()
    }
}

impl Rpcs for DecisionService {
    const NAME: &'static str = "countersign.decision.v1.DecisionService";

    fn call(self: Arc<Self>, rpc: &str, request: Request<Body>) -> Answer {
        match (self.identities.identify(request.headers(), None), rpc) {
            (Ok(Some(ServiceName::Gateway)), "AuthorizeAssumeRole") => {
                rpc::unary(request, move |ask| {
                    let verdict = self.judge.lock().unwrap()(&ask);
                    self.asked.lock().unwrap().push(ask);
                    verdict
                })
            }
            (Ok(Some(ServiceName::Gateway)), "Authorize") => rpc::unary(request, move |ask| {
                let verdict = self.permission_judge.lock().unwrap()(&ask);
                self.permissions.lock().unwrap().push(ask);
                verdict
            }),
            (Ok(Some(ServiceName::Gateway)), "AuthorizeExchange") => {
                rpc::unary(request, move |ask| {
                    let verdict = self.exchange_judge.lock().unwrap()(&ask);
                    self.exchanges.lock().unwrap().push(ask);
                    verdict
                })
            }
            _ => rpc::status(Status::unauthenticated("not the gateway")),
        }
    }
}
