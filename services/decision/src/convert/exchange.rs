//! AuthorizeExchange's request, and its answer.

use std::{fmt, net::IpAddr};

use countersign_evaluator::Decision;
use countersign_proto::decision::v1::{AuthorizeExchangeRequest, AuthorizeExchangeResponse};
use countersign_replica::Revision;

use super::{
    answer::decision,
    assume_role::{SubjectToken, address},
    possession::Possession,
    question::short,
    wished::{Wished, WishedFields},
};
use crate::{check::Judgement, error::Refusal};

const MAX_AUDIENCE_BYTES: usize = 256;

/// May this token be exchanged for a narrower one?
#[derive(Clone)]
pub struct ExchangeQuestion {
    /// What comes in.
    pub subject_token: SubjectToken,
    /// Who is to act.
    pub actor_token: Option<SubjectToken>,
    /// What came beside the two.
    pub possession: Possession,
    /// Whether nothing is exchanged.
    pub is_introspection: bool,
    /// What the new token is for.
    pub audience: String,
    /// `aws:SourceIp`.
    pub source_address: IpAddr,
    /// What narrows it; without marks.
    pub wished: Wished,
    /// The least revision to answer at; may be empty.
    pub at_least_revision: String,
}

impl fmt::Debug for ExchangeQuestion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExchangeQuestion")
            .field("audience", &self.audience)
            .field("wished", &self.wished)
            .finish_non_exhaustive()
    }
}

/// Parses an AuthorizeExchangeRequest.
pub fn exchange_question(request: AuthorizeExchangeRequest) -> Result<ExchangeQuestion, Refusal> {
    let AuthorizeExchangeRequest {
        subject_token,
        actor_token,
        audience,
        policy,
        policy_arns,
        scope,
        source_address,
        at_least_revision,
        proof_of_possession,
        is_introspection,
    } = request;
    for (field, text) in [("subject_token", &subject_token), ("audience", &audience)] {
        if text.is_empty() {
            return Err(Refusal::invalid(field, "missing"));
        }
    }
    short("audience", &audience, MAX_AUDIENCE_BYTES)?;
    Ok(ExchangeQuestion {
        subject_token: SubjectToken(subject_token),
        actor_token: (!actor_token.is_empty()).then_some(SubjectToken(actor_token)),
        possession: Possession::parse(proof_of_possession)?,
        is_introspection,
        audience,
        source_address: address(&source_address)?,
        wished: Wished::parse(WishedFields {
            policy,
            policy_arns,
            scope,
            tags: Vec::new(),
            transitive_tag_keys: Vec::new(),
            source_identity: String::new(),
        })?,
        at_least_revision,
    })
}

/// Renders the answer; there are documents for what is allowed alone.
pub fn exchange_response(
    judgement: Judgement,
    documents: Vec<String>,
    revision: &Revision,
    decision_id: String,
) -> AuthorizeExchangeResponse {
    let Judgement { decision: decided, reason, message, determining: _ } = judgement;
    AuthorizeExchangeResponse {
        decision: decision(decided).into(),
        allowed: decided == Decision::Allow,
        reason: reason.into(),
        message,
        session_policies: documents,
        revision: revision.to_string(),
        decision_id,
    }
}
