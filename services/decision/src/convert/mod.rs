//! From the contract's messages to what the verbs need, and back. Each message is taken apart field by field, so that a new field
//! breaks the build here instead of being ignored.

mod answer;
mod assume_role;
mod context;
mod exchange;
mod instance;
mod many;
mod possession;
mod question;
mod web_identity;
mod who_can;
mod wished;

pub use answer::{
    assume_role_response, authorize_response, decision, decision_name, duration, explain_response,
    policy_type, reason, resource_policy_attached,
};
pub use assume_role::{AssumeRoleQuestion, Identity, Proven, SubjectToken, assume_role_question};
pub use context::assertable_key as assertable;
pub use exchange::{ExchangeQuestion, exchange_question, exchange_response};
pub use instance::Instance;
pub use many::{Batch, batch_question, filter_question};
pub use possession::Possession;
pub use question::{
    Asked, Check, Owner, Question, authorize_question, check as question_of, explain_question,
    gateways_question, is_own_action, principal,
};
pub use web_identity::WebIdentity;
pub use who_can::{After, WhoCanQuestion, who_can_principal, who_can_question, who_can_undecided};
pub use wished::{Wished, packed};
