//! What the decision service answered: a permission to mint, a denial, or something that contradicts itself or the question, which is
//! no permission.

use countersign_proto::decision::v1::{AuthorizeAssumeRoleResponse, Decision, DecisionReason};
use countersign_replica::Revision;
use countersign_token::Realm;

use crate::{convert::Asked, error::Refusal, proof::ProvenCaller, session::Marks};

/// What the decision service answered.
pub enum Answered {
    /// Yes.
    Granted(Granted),
    /// No.
    Denied(Denied),
    /// Something that contradicts itself or the question, which is no permission.
    Broken(&'static str),
}

/// A permission to mint. Only [`Answered::parse`] makes one.
pub struct Granted {
    /// The role's account.
    pub account: String,
    /// The role's unique id.
    pub role_id: String,
    /// The role's name, in its own spelling.
    pub role_name: String,
    /// How long the session lasts.
    pub duration_seconds: i32,
    /// Whom the caller spoke for; empty if for itself.
    pub service_principal: String,
    /// Whether the caller's unique id must be pinned.
    pub pin_required: bool,
    /// The decision's revision.
    pub revision: Revision,
    /// What the session is marked with.
    pub marks: Marks,
    /// What limits the session.
    pub session_policies: Vec<String>,
}

/// A denial.
pub struct Denied {
    reason: DecisionReason,
    message: String,
    decision_id: String,
}

impl Answered {
    /// Reads `answer` to what was `asked`, for a session that must be marked with `marks`.
    #[must_use]
    pub fn parse(answer: AuthorizeAssumeRoleResponse, asked: &Asked, marks: &Marks) -> Self {
        let AuthorizeAssumeRoleResponse {
            decision,
            allowed,
            reason,
            message,
            determining_statements: _,
            determining_statement_count: _,
            role_id,
            account_id,
            role_name,
            duration_seconds,
            service_principal,
            pin_required,
            revision,
            decision_id,
            session_policies,
            session_tags,
            transitive_tag_keys,
            source_identity,
        } = answer;
        match (Decision::try_from(decision), allowed) {
            (Ok(Decision::Allow), true) => {}
            (Ok(Decision::ExplicitDeny | Decision::ImplicitDeny), false) => {
                let reason = DecisionReason::try_from(reason).unwrap_or_default();
                return Self::Denied(Denied { reason, message, decision_id });
            }
            (Ok(Decision::Allow), false)
            | (Ok(Decision::ExplicitDeny | Decision::ImplicitDeny), true)
            | (Ok(Decision::Unspecified) | Err(_), _) => {
                return Self::Broken("`decision` and `allowed` contradict each other");
            }
        }
        let Ok(revision) = revision.parse() else {
            return Self::Broken("`revision` is none");
        };
        if account_id != asked.role_account.as_str()
            || !role_name.eq_ignore_ascii_case(&asked.role_name)
        {
            return Self::Broken("the role is not the one asked about");
        }
        if role_id.is_empty() {
            return Self::Broken("`role_id` is empty");
        }
        let longest = if asked.duration_seconds == 0 { 43_200 } else { asked.duration_seconds };
        if !(1..=longest).contains(&duration_seconds) {
            return Self::Broken("`duration_seconds` is not within what was asked for");
        }
        if Marks::answered(session_tags, transitive_tag_keys, source_identity).as_ref()
            != Some(marks)
        {
            return Self::Broken(
                "the session's tags or its source identity are not those asked for",
            );
        }
        // One for each limit: a session that asked for limits and got none would be free of them.
        let limits = usize::from(!asked.policy.is_empty())
            + asked.policy_arns.len()
            + usize::from(!asked.scope.is_empty());
        if session_policies.len() != limits || session_policies.iter().any(String::is_empty) {
            return Self::Broken("the session policies are not as many as were asked for");
        }
        Self::Granted(Granted {
            account: account_id,
            role_id,
            role_name,
            duration_seconds,
            service_principal,
            pin_required,
            revision,
            marks: marks.clone(),
            session_policies,
        })
    }
}

impl Denied {
    /// What `caller` may know of it. Somebody of the role's own account learns why, and whether there is such a role; anybody else
    /// learns a decision's id to ask about, as with AWS: else whoever has an AWS account could list the roles of every tenant.
    #[must_use]
    pub fn refusal(self, asked: &Asked, caller: &ProvenCaller) -> Refusal {
        let Self { reason, message, decision_id } = self;
        let reason_name = reason.as_str_name().trim_start_matches("DECISION_REASON_");
        let role = asked.role_arn.clone();
        let own_account = match caller.realm() {
            Realm::Countersign => caller.account() == asked.role_account.as_str(),
            Realm::Aws | Realm::WebIdentity => false,
        };
        let detail = if own_account {
            format!("{message}; {reason_name}, decision {decision_id}")
        } else {
            format!("decision {decision_id}")
        };
        let (caller, action) = (caller.name(), asked.shown.action());
        if own_account && reason == DecisionReason::RoleNotFound {
            return Refusal::RoleNotFound { caller, action, role, detail };
        }
        Refusal::Denied { caller, action, role, detail, cause: format!("{reason_name}: {message}") }
    }
}
