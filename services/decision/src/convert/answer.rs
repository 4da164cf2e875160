//! From decisions to the contract's answers.

use std::{sync::Arc, time::Duration};

use countersign_evaluator::{
    Attached, Decision, Determining, Explanation, PolicySet, PolicyType, Reason,
    StatementExplanation, explain::Stop,
};
use countersign_policy::{Document, document::Effect};
use countersign_proto::decision::v1::{
    self as proto, AuthorizeAssumeRoleResponse, AuthorizeResponse, DecisionReason,
    DeterminingStatement, ExplainResponse, PolicyTypeVerdict, SessionTag,
};
use countersign_replica::Revision;

use crate::{
    assume_role::{Grant, Marks},
    check::Judgement,
};

const MAX_DETERMINING: usize = 16;
const MAX_STATEMENTS: usize = 1000;
const MAX_SHOWN_CHARS: usize = 512;

/// Renders the answer to Authorize.
pub fn authorize_response(
    judgement: Judgement,
    principal_arn: String,
    revision: &Revision,
    age: Duration,
    decision_id: String,
) -> AuthorizeResponse {
    let Judgement { decision: decided, reason, message, determining } = judgement;
    AuthorizeResponse {
        decision: decision(decided).into(),
        allowed: decided == Decision::Allow,
        reason: reason.into(),
        message,
        determining_statement_count: count(determining.len()),
        determining_statements: determining
            .into_iter()
            .take(MAX_DETERMINING)
            .map(statement)
            .collect(),
        principal_arn,
        revision: revision.to_string(),
        snapshot_age: Some(duration(age)),
        decision_id,
    }
}

/// Renders the answer to AuthorizeAssumeRole. What the session would be is told only when it is allowed.
pub fn assume_role_response(
    judgement: Judgement,
    grant: Option<Grant>,
    revision: &Revision,
    decision_id: String,
) -> AuthorizeAssumeRoleResponse {
    let Judgement { decision: decided, reason, message, determining } = judgement;
    let answer = AuthorizeAssumeRoleResponse {
        decision: decision(decided).into(),
        allowed: decided == Decision::Allow,
        reason: reason.into(),
        message,
        determining_statement_count: count(determining.len()),
        determining_statements: determining
            .into_iter()
            .take(MAX_DETERMINING)
            .map(statement)
            .collect(),
        revision: revision.to_string(),
        decision_id,
        ..Default::default()
    };
    match grant {
        None => answer,
        Some(Grant {
            role,
            duration_seconds,
            service_principal,
            pin_required,
            marks,
            session_policies,
        }) => {
            let Marks { tags, transitive_tag_keys, source_identity } = marks;
            AuthorizeAssumeRoleResponse {
                role_id: role.unique_id.clone(),
                account_id: role.account.to_string(),
                role_name: role.name.clone(),
                duration_seconds: i32::try_from(duration_seconds).unwrap_or(i32::MAX),
                service_principal: service_principal.unwrap_or_default(),
                pin_required,
                session_policies,
                session_tags: tags
                    .into_iter()
                    .map(|(key, value)| SessionTag { key, value })
                    .collect(),
                transitive_tag_keys: transitive_tag_keys.into_iter().collect(),
                source_identity: source_identity.unwrap_or_default(),
                ..answer
            }
        }
    }
}

/// Renders the answer to Explain.
pub fn explain_response(
    answer: AuthorizeResponse,
    explanation: &Explanation,
    policies: &PolicySet,
) -> ExplainResponse {
    let render = |explained: &StatementExplanation| explained_statement(explained, policies);
    ExplainResponse {
        answer: Some(answer),
        policy_types: TYPES
            .iter()
            .map(|policy_type| type_verdict(*policy_type, explanation, policies))
            .collect(),
        statements: explanation.statements.iter().take(MAX_STATEMENTS).map(render).collect(),
        nearest_misses: explanation
            .nearest_misses
            .iter()
            .filter_map(|index| explanation.statements.get(*index))
            .take(MAX_STATEMENTS)
            .map(render)
            .collect(),
    }
}

/// A resource policy that a caller brings. Its principals are compared by name, in this store's realm.
pub fn resource_policy_attached(document: Arc<Document>) -> Attached {
    Attached {
        policy_type: PolicyType::Resource,
        name: "resource policy".into(),
        version_id: None,
        document,
        resolved: None,
    }
}

/// The contract's name of a decision.
pub fn decision_name(decided: Decision) -> &'static str {
    decision(decided).as_str_name()
}

/// The contract's duration.
pub fn duration(duration: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(duration.subsec_nanos()).unwrap_or(0),
    }
}

/// The contract's reason for the evaluator's.
pub fn reason(reason: Reason) -> DecisionReason {
    match reason {
        Reason::AllowedByIdentityPolicy => DecisionReason::AllowedByIdentityPolicy,
        Reason::AllowedByResourcePolicy => DecisionReason::AllowedByResourcePolicy,
        Reason::AllowedByTrustPolicy => DecisionReason::AllowedByTrustPolicy,
        Reason::AllowedAsAccountRoot => DecisionReason::AllowedAsAccountRoot,
        Reason::DeniedByIdentityPolicy => DecisionReason::DeniedByIdentityPolicy,
        Reason::DeniedByResourcePolicy => DecisionReason::DeniedByResourcePolicy,
        Reason::DeniedByTrustPolicy => DecisionReason::DeniedByTrustPolicy,
        Reason::DeniedByBoundary => DecisionReason::DeniedByBoundary,
        Reason::DeniedBySessionPolicy => DecisionReason::DeniedBySessionPolicy,
        Reason::DeniedByScp => DecisionReason::DeniedByScp,
        Reason::DeniedByRcp => DecisionReason::DeniedByRcp,
        Reason::NoIdentityAllow => DecisionReason::NoIdentityAllow,
        Reason::NoResourceAllow => DecisionReason::NoResourceAllow,
        Reason::NoTrustAllow => DecisionReason::NoTrustAllow,
        Reason::NotAllowedByBoundary => DecisionReason::NoBoundaryAllow,
        Reason::NotAllowedBySession => DecisionReason::NoSessionAllow,
        Reason::NotAllowedByScp => DecisionReason::NoScpAllow,
        Reason::ExternalPrincipal => DecisionReason::ExternalPrincipal,
        Reason::CannotEvaluate => DecisionReason::CannotEvaluate,
    }
}

/// The contract's decision for the evaluator's.
pub fn decision(decision: Decision) -> proto::Decision {
    match decision {
        Decision::Allow => proto::Decision::Allow,
        Decision::ExplicitDeny => proto::Decision::ExplicitDeny,
        Decision::ImplicitDeny => proto::Decision::ImplicitDeny,
    }
}

/// The contract's policy type for the evaluator's.
pub fn policy_type(policy_type: PolicyType) -> proto::PolicyType {
    match policy_type {
        PolicyType::Identity => proto::PolicyType::Identity,
        PolicyType::Trust => proto::PolicyType::Trust,
        PolicyType::Resource => proto::PolicyType::Resource,
        PolicyType::Boundary => proto::PolicyType::Boundary,
        PolicyType::Session => proto::PolicyType::Session,
        PolicyType::Scp => proto::PolicyType::Scp,
        PolicyType::Rcp => proto::PolicyType::Rcp,
    }
}

pub(super) fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

pub(super) fn statement(determining: Determining) -> DeterminingStatement {
    let Determining { policy_type: of, policy, version_id, sid, index, pointer } = determining;
    DeterminingStatement {
        policy_type: policy_type(of).into(),
        policy: policy.to_string(),
        version_id: version_id.map(|version_id| version_id.to_string()).unwrap_or_default(),
        sid: sid.unwrap_or_default(),
        index: count(index),
        pointer,
    }
}

/// In the contract's own order.
const TYPES: [PolicyType; 7] = [
    PolicyType::Identity,
    PolicyType::Trust,
    PolicyType::Resource,
    PolicyType::Boundary,
    PolicyType::Session,
    PolicyType::Scp,
    PolicyType::Rcp,
];

fn type_verdict(
    of: PolicyType,
    explanation: &Explanation,
    policies: &PolicySet,
) -> PolicyTypeVerdict {
    let of_this_type = explanation.policy_types.iter().filter(|verdict| verdict.policy_type == of);
    let decisions: Vec<Decision> = of_this_type.map(|verdict| verdict.decision).collect();
    let decided = if decisions.contains(&Decision::ExplicitDeny) {
        Decision::ExplicitDeny
    } else if !decisions.is_empty() && decisions.iter().all(|decision| *decision == Decision::Allow)
    {
        // Of guardrails, every level must allow.
        Decision::Allow
    } else {
        Decision::ImplicitDeny
    };
    let present = match of {
        PolicyType::Identity => !policies.identity.is_empty(),
        PolicyType::Trust
        | PolicyType::Resource
        | PolicyType::Boundary
        | PolicyType::Session
        | PolicyType::Scp
        | PolicyType::Rcp => !decisions.is_empty(),
    };
    PolicyTypeVerdict {
        policy_type: policy_type(of).into(),
        decision: decision(decided).into(),
        present,
    }
}

fn explained_statement(
    explained: &StatementExplanation,
    policies: &PolicySet,
) -> proto::StatementExplanation {
    let StatementExplanation {
        policy_type: of,
        name,
        sid,
        index,
        pointer,
        effect,
        matched,
        stopped_by,
        failed_elements,
    } = explained;
    let statement = DeterminingStatement {
        policy_type: policy_type(*of).into(),
        policy: name.to_string(),
        version_id: version_of(*of, name, policies),
        sid: sid.clone().unwrap_or_default(),
        index: count(*index),
        pointer: pointer.clone(),
    };
    let shown = proto::StatementExplanation {
        statement: Some(statement),
        effect: match effect {
            Effect::Allow => "Allow".to_owned(),
            Effect::Deny => "Deny".to_owned(),
        },
        matched: *matched,
        failed_elements: i32::try_from(*failed_elements).unwrap_or(i32::MAX),
        ..Default::default()
    };
    match stopped_by {
        None => shown,
        Some(Stop { element, operator, key, expected, actual, message }) => {
            proto::StatementExplanation {
                element: (*element).to_owned(),
                operator: operator.clone().unwrap_or_default(),
                key: key.clone().unwrap_or_default(),
                expected: clip(expected),
                actual: clip(actual),
                message: clip(message),
                ..shown
            }
        }
    }
}

/// There are up to a thousand of them, and a client takes an answer of 4 MiB.
pub(super) fn clip(text: &str) -> String {
    match text.char_indices().nth(MAX_SHOWN_CHARS) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
    }
}

fn version_of(of: PolicyType, name: &str, policies: &PolicySet) -> String {
    let attached = match of {
        PolicyType::Identity => policies.identity.as_slice(),
        PolicyType::Boundary => policies.boundary.as_deref().unwrap_or_default(),
        // These have no versions.
        PolicyType::Trust
        | PolicyType::Resource
        | PolicyType::Session
        | PolicyType::Scp
        | PolicyType::Rcp => &[],
    };
    let version = attached
        .iter()
        .find(|attached| &*attached.name == name)
        .and_then(|attached| attached.version_id.as_deref());
    version.unwrap_or_default().to_owned()
}
