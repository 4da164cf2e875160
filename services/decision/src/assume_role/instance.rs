//! EC2 instances: they speak for `ec2.amazonaws.com`, as AWS attests, towards roles that mean them.
//!
//! At AWS a role that trusts the service is one of an instance profile, which somebody with `iam:PassRole` gave to the instance. Here an
//! instance chooses the role itself, so trust in the service alone is not enough: every instance of every account would be meant. The
//! statement that allows must name the instance's account or the instance; or else a service principal binding must name it.

use countersign_evaluator::{
    Context, PolicyType, Realm, Subject, Verdict,
    context::DuplicateKey,
    snapshot::{CallerKey, RoleEntry, Snapshot},
    subject::service_subject,
};
use countersign_policy::{
    condition::{Comparison, Condition, Operator},
    document::Statement,
};
use countersign_proto::decision::v1::DecisionReason;

use crate::{
    check::{self, Judgement},
    convert::Instance,
};

/// Whom every instance speaks for.
pub const SERVICE: &str = "ec2.amazonaws.com";

const UNNAMED: &str = "the trust policy trusts ec2.amazonaws.com without saying whose instances: name them by `aws:SourceAccount` or \
    `ec2:SourceInstanceArn` in the statement, or bind the instance to the role (BindServicePrincipal)";

/// The service, as which an instance asks. It has no policies of its own.
///
/// # Errors
/// When the account is local: a number is a local account or an external one, never both.
pub fn subject(snapshot: &Snapshot, instance: &Instance) -> Result<Subject, Judgement> {
    if snapshot.is_local(instance.account) {
        let message = format!(
            "realm conflict: account {} is local, and AWS does not speak for it",
            instance.account
        );
        return Err(Judgement::denied(DecisionReason::ExternalPrincipal, message));
    }
    service_subject(SERVICE).map_err(|error| check::absent(&error, SERVICE))
}

/// What the trust policy may ask about the instance.
/// Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-keys.html>
///
/// # Errors
/// None that a caller can cause.
pub fn add_keys(keys: &mut Context, instance: &Instance) -> Result<(), DuplicateKey> {
    keys.insert("aws:SourceAccount", instance.account.as_str())?;
    keys.insert("aws:SourceArn", instance.arn())?;
    keys.insert("ec2:SourceInstanceArn", instance.arn())
}

/// Whether the role, which the verdict allows, means this instance and not just any.
///
/// # Errors
/// The denial, when it does not.
pub fn meant(
    snapshot: &Snapshot,
    instance: &Instance,
    verdict: &Verdict,
    role: &RoleEntry,
) -> Result<(), Judgement> {
    if names_instance(verdict, role) || is_bound(snapshot, instance, role) {
        return Ok(());
    }
    Err(Judgement::denied(DecisionReason::NoTrustAllow, UNNAMED.to_owned()))
}

/// Whether one of the statements that allowed says in so many words whose instance it means.
fn names_instance(verdict: &Verdict, role: &RoleEntry) -> bool {
    let statements = role.trust.document.statements();
    verdict
        .determining
        .iter()
        .filter(|determining| determining.policy_type == PolicyType::Trust)
        .filter_map(|determining| {
            statements.iter().find(|statement| statement.index == determining.index)
        })
        .any(statement_names_instance)
}

fn statement_names_instance(statement: &Statement) -> bool {
    statement.conditions.iter().any(|condition| {
        let key = condition.key.to_ascii_lowercase();
        let Operator { set: None, comparison, if_exists: false } = condition.operator else {
            return false;
        };
        match key.as_str() {
            "aws:sourceaccount" => {
                comparison == Comparison::StringEquals && every_value(condition, is_account)
            }
            "aws:sourcearn" | "ec2:sourceinstancearn" => {
                let compares = matches!(
                    comparison,
                    Comparison::ArnEquals
                        | Comparison::ArnLike
                        | Comparison::StringEquals
                        | Comparison::StringLike
                );
                compares && every_value(condition, arn_names_account)
            }
            _ => false,
        }
    })
}

/// One value of several that means everybody is enough to mean everybody.
fn every_value(condition: &Condition, good: fn(&str) -> bool) -> bool {
    !condition.values.is_empty() && condition.values.iter().all(|value| good(&value.value.text))
}

fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Six parts, the fifth of them digits alone: an instance's ARN has as many colons, so that no wildcard of the others can stand for one.
fn arn_names_account(text: &str) -> bool {
    let parts: Vec<&str> = text.split(':').collect();
    matches!(parts.as_slice(), ["arn", _, "ec2", _, account, resource]
        if is_account(account) && resource.starts_with("instance/"))
}

/// Whether somebody with `iam:PassRole` on the role gave it to this instance, as with an instance profile.
fn is_bound(snapshot: &Snapshot, instance: &Instance, role: &RoleEntry) -> bool {
    let caller = CallerKey {
        realm: Realm::Aws,
        partition: instance.partition.clone(),
        account: instance.account,
        unique_id: instance.instance_id.clone(),
    };
    snapshot
        .bindings(&caller, &role.arn())
        .any(|binding| binding.role_id == role.unique_id && binding.service_principal == SERVICE)
}
