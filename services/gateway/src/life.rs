//! What becomes of tokens once they are made: whether one is good (RFC 7662), and how one ends before its time (RFC 7009).
//!
//! Both are for callers that show a token of their own, and neither is an oracle (ATTACKS 82): of a token that is not good, and of one that
//! the caller may not ask about, the answer is the same. Whether the caller may, and whether the token stands, the decision service says.

use std::{collections::HashMap, fmt, net::IpAddr, sync::Arc};

use countersign_proto::{
    decision::v1::{
        AuthorizeExchangeRequest, AuthorizeRequest, ContextValue, ProofOfPossession,
        authorize_request::Subject, context_value,
    },
    policy::v1::RevokeTokenRequest,
    token::v1::IntrospectResponse,
};
use countersign_token::{Claims, Confirmation, Expected, VerifiedToken, check_signature};
use tonic::Code;

use crate::{
    authn::{AUDIENCE, Caller, LEEWAY},
    clock, convert,
    error::Refusal,
    exchange::{DECISION, Exchange, STORE, failed, known},
};

const INTROSPECT: &str = "countersign:IntrospectToken";
const REVOKE: &str = "countersign:RevokeToken";

/// A session that calls, and its token, which the decision service wants to see.
#[derive(Clone)]
pub struct SessionCaller {
    /// As it was at the door.
    pub verified: Arc<VerifiedToken>,
    /// A secret.
    pub token: Arc<str>,
    /// What it showed that it may, if the token is bound to a key: the decision service looks again.
    pub possession: Option<ProofOfPossession>,
}

impl fmt::Debug for SessionCaller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let claims = self.verified.claims();
        write!(f, "SessionCaller({}, {}, token redacted)", claims.sub, claims.jti)
    }
}

impl SessionCaller {
    fn is_of(&self, claims: &Claims) -> bool {
        self.verified.claims().client_id == claims.client_id
    }
}

impl Exchange {
    /// Answers Introspect: None for a token that is not good, or that is not this caller's to ask about.
    ///
    /// # Errors
    /// When it is not a session that asks, and when nobody could say.
    pub async fn introspect(
        &self,
        caller: &Caller,
        token: &str,
        source: Option<IpAddr>,
    ) -> Result<Option<Claims>, Refusal> {
        let caller = session(caller, INTROSPECT)?;
        let Some(claims) = self.look_at(token) else { return Ok(None) };
        let may = caller.is_of(&claims) || {
            let audience = [("countersign:Audience", claims.aud.clone())];
            self.may(caller, INTROSPECT, "*", &audience, source).await?
        };
        let is_active = may && self.stands(token, &claims, source).await?;
        tracing::debug!(
            caller = caller.verified.claims().sub,
            token = claims.jti,
            may,
            is_active,
            "introspected"
        );
        Ok(is_active.then_some(claims))
    }

    /// Answers Revoke. A token that is none, or over, is as good as revoked.
    ///
    /// # Errors
    /// When it is not a session that asks, when that may not, and when the token could not be ended.
    pub async fn revoke(
        &self,
        caller: &Caller,
        token: &str,
        source: Option<IpAddr>,
    ) -> Result<(), Refusal> {
        let caller = session(caller, REVOKE)?;
        let Some(claims) = self.look_at(token) else { return Ok(()) };
        if !caller.is_of(&claims) && !self.may(caller, REVOKE, &claims.sub, &[], source).await? {
            return Err(Refusal::TokenDenied {
                caller: caller.verified.claims().sub.clone(),
                action: REVOKE,
                resource: claims.sub,
            });
        }
        let request = RevokeTokenRequest {
            token_id: claims.jti.clone(),
            expire_time: Some(prost_types::Timestamp { seconds: claims.exp, nanos: 0 }),
            ..RevokeTokenRequest::default()
        };
        let outcome = self.store.clone().revoke_token(request).await;
        outcome.map_err(|status| failed(STORE, status.code(), &status))?;
        tracing::info!(
            caller = caller.verified.claims().sub,
            source = source.map(|address| address.to_canonical().to_string()).unwrap_or_default(),
            token = claims.jti,
            session = claims.sub,
            "token revoked"
        );
        Ok(())
    }

    /// What a token of ours says that is for whomever, and over for nobody. What the gateway does not know of is in the decision service's
    /// answer.
    fn look_at(&self, token: &str) -> Option<Claims> {
        let keys = self.keys.known();
        let signed = check_signature(token, &keys).ok()?;
        let audience = signed.audience();
        let expected = Expected { issuer: &self.issuer, audience, leeway: LEEWAY };
        signed.look_at(clock::now(), &expected, &keys).ok().cloned()
    }

    /// Whether the caller's own policies allow it.
    pub(crate) async fn may(
        &self,
        caller: &SessionCaller,
        action: &str,
        resource: &str,
        more: &[(&str, String)],
        source: Option<IpAddr>,
    ) -> Result<bool, Refusal> {
        let source = known(source.map(|address| address.to_canonical()))?;
        let keys = more.iter().cloned().chain([("aws:SourceIp", source)]);
        let context: HashMap<String, ContextValue> = keys
            .map(|(key, value)| {
                (key.to_owned(), ContextValue { kind: Some(context_value::Kind::Value(value)) })
            })
            .collect();
        let message = AuthorizeRequest {
            subject: Some(Subject::Token(caller.token.to_string())),
            audience: AUDIENCE.to_owned(),
            action: action.to_owned(),
            resource: resource.to_owned(),
            context,
            at_least_revision: self.floor(),
            proof_of_possession: caller.possession.clone(),
            ..Default::default()
        };
        match self.decision.clone().authorize(message).await {
            Ok(answer) => Ok(answer.into_inner().allowed),
            // Of a caller whose own token has ended meanwhile nothing is allowed.
            Err(status) if status.code() == Code::InvalidArgument => Ok(false),
            Err(status) => Err(failed(DECISION, status.code(), &status)),
        }
    }

    /// Whether the token is neither revoked nor its role gone.
    async fn stands(
        &self,
        token: &str,
        claims: &Claims,
        source: Option<IpAddr>,
    ) -> Result<bool, Refusal> {
        let message = AuthorizeExchangeRequest {
            subject_token: token.to_owned(),
            audience: claims.aud.clone(),
            source_address: known(source.map(|address| address.to_canonical()))?,
            at_least_revision: self.floor(),
            is_introspection: true,
            ..Default::default()
        };
        match self.decision.clone().authorize_exchange(message).await {
            Ok(answer) => Ok(answer.into_inner().allowed),
            Err(status) => match status.code() {
                Code::InvalidArgument | Code::FailedPrecondition => Ok(false),
                code => Err(failed(DECISION, code, &status)),
            },
        }
    }

    fn floor(&self) -> String {
        self.keys.heard().map(|heard| heard.to_string()).unwrap_or_default()
    }
}

/// Sessions alone: a part of Countersign has no policies that could say for which audience it asks.
pub(crate) fn session<'a>(
    caller: &'a Caller,
    action: &'static str,
) -> Result<&'a SessionCaller, Refusal> {
    let who = match caller {
        Caller::Session(session) => return Ok(session),
        Caller::Service(name) => format!("the {name}"),
        Caller::Unproven => "a caller without credentials".to_owned(),
    };
    Err(Refusal::TokenDenied { caller: who, action, resource: "*".to_owned() })
}

/// The answer to Introspect.
#[must_use]
pub fn introspected(claims: Option<&Claims>) -> IntrospectResponse {
    let Some(claims) = claims else { return IntrospectResponse::default() };
    let at = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
    IntrospectResponse {
        active: true,
        sub: claims.sub.clone(),
        aud: claims.aud.clone(),
        exp: at(claims.exp),
        iat: at(claims.iat),
        iss: claims.iss.clone(),
        jti: claims.jti.clone(),
        client_id: claims.client_id.clone(),
        scope: claims.scope.clone().unwrap_or_default(),
        token_type: convert::token_type(claims).to_owned(),
        client_key_thumbprint: match &claims.cnf {
            None => String::new(),
            Some(Confirmation::Key(thumbprint)) => thumbprint.clone(),
            Some(Confirmation::Certificate(thumbprint)) => format!("x5t#S256:{thumbprint}"),
        },
        actor: claims.act.as_ref().map(|actor| actor.sub.clone()).unwrap_or_default(),
        may_act: claims.may_act.as_ref().map(|it| it.name().to_owned()).unwrap_or_default(),
    }
}
