//! The rules of writing: what IAM refuses to store although it could be read (RULES.md X8, X12, X13).

use std::collections::HashSet;

use base64::Engine as _;

use crate::condition::{Comparison, Condition};
use crate::document::{
    Clause, Document, Effect, Located, Position, ResourcePattern, Statement, Version,
};
use crate::findings::{DocumentKind, Finding, counted_characters};
use crate::principal::PrincipalElement;
use crate::scalar;

/// No document is longer than this, white space included.
const MAX_BYTES: usize = 128 * 1024;

pub(crate) fn size(text: &str, kind: DocumentKind) -> Option<Finding> {
    let (found, limit) = (counted_characters(text), kind.max_characters());
    if text.len() > MAX_BYTES {
        let message = format!(
            "the document has {} bytes: no document may have more than {MAX_BYTES}",
            text.len()
        );
        return Some(Finding::error("DocumentTooLong", Position::START, String::new(), message));
    }
    (found > limit).then(|| {
        let message = format!(
            "{} may have {limit} characters without white space: found {found}",
            kind.noun()
        );
        Finding::error("DocumentTooLong", Position::START, String::new(), message)
    })
}

pub(crate) fn document(document: &Document, kind: DocumentKind) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut sids = HashSet::new();
    if document.statements().is_empty() {
        let message = "the document has no statements: expected at least one".to_owned();
        findings.push(Finding::error(
            "EmptyList",
            Position::START,
            "/Statement".to_owned(),
            message,
        ));
    }
    for statement in document.statements() {
        if let Some(sid) = &statement.sid {
            if !sids.insert(sid.value.as_str()) && !sid.value.is_empty() {
                findings.push(refused(
                    "DuplicateSid",
                    sid,
                    format!("the Sid `{}` stands twice", sid.value),
                ));
            }
            sid_characters(sid, kind, &mut findings);
        }
        principals(statement, kind, &mut findings);
        actions(statement, kind, &mut findings);
        resources(statement, kind, &mut findings);
        conditions(statement, document.version(), &mut findings);
        if kind == DocumentKind::ResourceControlPolicy && statement.effect == Effect::Allow {
            let message =
                "a resource control policy may only deny: expected Effect `Deny`".to_owned();
            findings.push(Finding::error(
                "AllowNotPermitted",
                statement.at,
                statement.pointer.clone(),
                message,
            ));
        }
    }
    findings
}

fn refused<T>(code: &'static str, found: &Located<T>, message: String) -> Finding {
    Finding::error(code, found.at, found.pointer.clone(), message)
}

fn refused_clause<T>(code: &'static str, clause: &Clause<T>, message: String) -> Finding {
    Finding::error(code, clause.at, clause.pointer.clone(), message)
}

/// IAM allows letters and digits in a Sid; resource policies of other services also blanks and more.
fn sid_characters(sid: &Located<String>, kind: DocumentKind, findings: &mut Vec<Finding>) {
    let sound = match kind {
        DocumentKind::ResourcePolicy => sid.value.chars().all(|c| c.is_ascii_graphic() || c == ' '),
        DocumentKind::ManagedPolicy
        | DocumentKind::InlineUserPolicy
        | DocumentKind::InlineRolePolicy
        | DocumentKind::InlineGroupPolicy
        | DocumentKind::TrustPolicy
        | DocumentKind::PermissionsBoundary
        | DocumentKind::SessionPolicy
        | DocumentKind::ServiceControlPolicy
        | DocumentKind::ResourceControlPolicy => {
            sid.value.chars().all(|c| c.is_ascii_alphanumeric())
        }
    };
    if !sound {
        let message = format!("the Sid `{}` may hold only letters A-Z, a-z and digits", sid.value);
        let kept: String = sid.value.chars().filter(char::is_ascii_alphanumeric).collect();
        findings.push(Finding {
            fix: Some(format!("write \"{kept}\"")),
            ..refused("InvalidSid", sid, message)
        });
    }
}

fn principals(statement: &Statement, kind: DocumentKind, findings: &mut Vec<Finding>) {
    let Some(clause) = &statement.principals else {
        if kind.has_principals() {
            let message =
                format!("{} says who may act: the statement has no Principal", kind.noun());
            findings.push(Finding::error(
                "MissingPrincipal",
                statement.at,
                statement.pointer.clone(),
                message,
            ));
        }
        return;
    };
    if !kind.has_principals() {
        let message =
            format!("{} is attached to who acts: its statements have no Principal", kind.noun());
        findings.push(refused_clause("PrincipalNotPermitted", clause, message));
        return;
    }
    if clause.negated && kind == DocumentKind::ResourceControlPolicy {
        let message =
            "a resource control policy has no NotPrincipal: expected Principal `*`".to_owned();
        findings.push(refused_clause("PrincipalNotPermitted", clause, message));
    }
    // AWS: "NotPrincipal must be used with "Effect":"Deny"" (reference_policies_elements_notprincipal.html, trust policies).
    if clause.negated && kind == DocumentKind::TrustPolicy && statement.effect == Effect::Allow {
        let message =
            "a trust policy may not allow everybody but some: expected Principal".to_owned();
        findings.push(refused_clause("PrincipalNotPermitted", clause, message));
    }
    for element in &clause.elements {
        principal(element, kind, findings);
    }
}

fn principal(element: &Located<PrincipalElement>, kind: DocumentKind, findings: &mut Vec<Finding>) {
    match &element.value {
        PrincipalElement::Any => {}
        PrincipalElement::Nobody { text, reason } => {
            let wildcard_account =
                text.split(':').nth(4).is_some_and(|account| account.contains(['*', '?']));
            let (code, message) = if wildcard_account {
                (
                    "WildcardAccount",
                    format!(
                        "`{text}`: a principal's account takes no wildcard; expected 12 digits"
                    ),
                )
            } else if text.contains(['*', '?']) {
                (
                    "WildcardPrincipal",
                    format!(
                        "`{text}`: a principal's ARN takes no wildcards; `*` stands alone or not at all"
                    ),
                )
            } else {
                ("InvalidPrincipal", reason.clone())
            };
            findings.push(refused(code, element, message));
        }
        PrincipalElement::Service(name) if !is_service(name) => {
            let message = format!(
                "`{name}` is no service principal: expected a name such as `ec2.amazonaws.com`"
            );
            findings.push(refused("InvalidPrincipal", element, message));
        }
        PrincipalElement::Federated(name) if name.is_empty() || name.contains(['*', '?']) => {
            let message = format!(
                "`{name}` is no identity provider: expected its ARN or host name, without wildcards"
            );
            findings.push(refused("InvalidPrincipal", element, message));
        }
        PrincipalElement::Account { .. }
        | PrincipalElement::Arn { .. }
        | PrincipalElement::Service(_)
        | PrincipalElement::Federated(_) => {}
    }
    if kind == DocumentKind::ResourceControlPolicy && element.value != PrincipalElement::Any {
        let message = "a resource control policy's Principal is always `*`".to_owned();
        findings.push(refused("PrincipalNotPermitted", element, message));
    }
}

fn is_service(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 255
        && name.split('.').all(|label| {
            !label.is_empty()
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        })
}

fn actions(statement: &Statement, kind: DocumentKind, findings: &mut Vec<Finding>) {
    for action in &statement.actions.elements {
        if action.value.service().is_some_and(|service| service.contains(['*', '?'])) {
            let message =
                format!("`{}`: the service prefix takes no wildcard", action.value.as_str());
            let fix = Some("name the service, or write \"*\"".to_owned());
            findings.push(Finding { fix, ..refused("WildcardService", action, message) });
        }
        match kind {
            DocumentKind::TrustPolicy => {
                let is_sts = action
                    .value
                    .service()
                    .is_some_and(|service| service.eq_ignore_ascii_case("sts"));
                if !is_sts {
                    let message = format!(
                        "`{}`: a trust policy's actions are of the service `sts`, such as `sts:AssumeRole`",
                        action.value.as_str()
                    );
                    findings.push(refused("ActionNotPermitted", action, message));
                }
            }
            DocumentKind::ResourceControlPolicy => {
                if action.value.is_any() {
                    let message =
                        "a resource control policy's Action may not be `*` alone: name a service"
                            .to_owned();
                    findings.push(refused("ActionNotPermitted", action, message));
                }
            }
            DocumentKind::ManagedPolicy
            | DocumentKind::InlineUserPolicy
            | DocumentKind::InlineRolePolicy
            | DocumentKind::InlineGroupPolicy
            | DocumentKind::ResourcePolicy
            | DocumentKind::PermissionsBoundary
            | DocumentKind::SessionPolicy
            | DocumentKind::ServiceControlPolicy => {}
        }
    }
    let no_negation =
        matches!(kind, DocumentKind::ResourceControlPolicy | DocumentKind::TrustPolicy);
    if no_negation && statement.actions.negated {
        let message = format!("{} has no NotAction: expected Action", kind.noun());
        findings.push(refused_clause("ActionNotPermitted", &statement.actions, message));
    }
}

fn resources(statement: &Statement, kind: DocumentKind, findings: &mut Vec<Finding>) {
    let Some(clause) = &statement.resources else {
        if kind != DocumentKind::TrustPolicy {
            let message = "the statement has neither Resource nor NotResource".to_owned();
            findings.push(Finding::error(
                "MissingElement",
                statement.at,
                statement.pointer.clone(),
                message,
            ));
        }
        return;
    };
    if kind == DocumentKind::TrustPolicy {
        let message =
            "a trust policy's resource is the role itself: its statements have no Resource"
                .to_owned();
        findings.push(refused_clause("ResourceNotPermitted", clause, message));
        return;
    }
    for resource in &clause.elements {
        resource_pattern(resource, findings);
    }
}

fn resource_pattern(resource: &Located<ResourcePattern>, findings: &mut Vec<Finding>) {
    let template = &resource.value.template;
    if let Some(malformed) = template.malformed() {
        findings.push(refused("InvalidVariable", resource, malformed.to_string()));
    } else if template.has_variable_before_fifth_colon() {
        let message = format!(
            "`{}`: a policy variable may stand only after the fifth colon",
            template.as_str()
        );
        findings.push(refused("VariableNotPermitted", resource, message));
    } else if !resource.value.is_any() && template.as_str().split(':').count() < 6 {
        // K7: AWS fills short ARNs up with `*` here, simulators do not; so nobody should store one.
        let message = format!("`{}` is no ARN: expected six parts", template.as_str());
        let fix = Some("write every part, `*` where any will do".to_owned());
        findings.push(Finding { fix, ..refused("InvalidResource", resource, message) });
    } else if template
        .as_str()
        .split(':')
        .nth(2)
        .is_some_and(|service| service.contains(['*', '?']))
    {
        // "You can't use a wildcard in the service segment."
        let message = format!("`{}`: the service may not hold a wildcard", template.as_str());
        let fix = Some("name the service, or write `*` for every resource".to_owned());
        findings.push(Finding { fix, ..refused("InvalidResource", resource, message) });
    }
}

fn conditions(statement: &Statement, version: Version, findings: &mut Vec<Finding>) {
    let mut seen = HashSet::new();
    for condition in &statement.conditions {
        let error =
            |code, message| Finding::error(code, condition.at, condition.pointer.clone(), message);
        if !seen.insert((condition.operator, condition.key.to_ascii_lowercase())) {
            let message = format!(
                "the key `{}` stands twice under `{}`, case apart",
                condition.key, condition.operator
            );
            findings.push(error("DuplicateConditionKey", message));
        }
        if !condition.key.contains(':') || condition.key.contains(['*', '?', '$']) {
            let message =
                format!("`{}` is no condition key: expected `prefix:Name`", condition.key);
            findings.push(error("InvalidConditionKey", message));
        }
        condition_values(condition, version, findings);
    }
}

fn condition_values(condition: &Condition, version: Version, findings: &mut Vec<Finding>) {
    let comparison = condition.operator.comparison;
    for value in &condition.values {
        let template = &value.value.template;
        if let Some(malformed) = template.malformed() {
            findings.push(refused("InvalidVariable", value, malformed.to_string()));
        } else if template.has_variables() && !comparison.takes_variables() {
            let message = format!("`{}` takes no policy variables", condition.operator);
            findings.push(refused("VariableNotPermitted", value, message));
        } else if let Some(expected) = wrong_value(comparison, &value.value.text) {
            let message = format!(
                "`{}` is no value for `{}`: expected {expected}",
                value.value.text, condition.operator
            );
            findings.push(refused("InvalidConditionValue", value, message));
        } else if comparison.name().starts_with("Arn")
            && is_short_arn(&value.value.text, version, template.has_variables())
        {
            // K5: simulators differ on what a short ARN means under ArnNotLike.
            let message = format!(
                "`{}` is no ARN: expected six parts, `*` where any will do",
                value.value.text
            );
            findings.push(refused("InvalidConditionValue", value, message));
        }
    }
}

fn is_short_arn(text: &str, version: Version, has_variables: bool) -> bool {
    let variable_may_hold_it = version == Version::V2012_10_17 && has_variables;
    text.split(':').count() < 6 && !variable_may_hold_it
}

/// What the operator expects, if the text is not that.
fn wrong_value(comparison: Comparison, text: &str) -> Option<&'static str> {
    use Comparison as C;
    let (sound, expected) = match comparison {
        C::NumericEquals
        | C::NumericNotEquals
        | C::NumericLessThan
        | C::NumericLessThanEquals
        | C::NumericGreaterThan
        | C::NumericGreaterThanEquals => {
            (scalar::Number::parse(text).is_some(), "a decimal number")
        }
        C::DateEquals
        | C::DateNotEquals
        | C::DateLessThan
        | C::DateLessThanEquals
        | C::DateGreaterThan
        | C::DateGreaterThanEquals => (
            scalar::Instant::parse(text).is_some(),
            "an ISO 8601 date (2026-01-31T12:00:00Z) or epoch seconds",
        ),
        C::Bool | C::Null => (scalar::boolean(text).is_some(), "`true` or `false`"),
        C::BinaryEquals => {
            (base64::engine::general_purpose::STANDARD.decode(text).is_ok(), "base64 text")
        }
        C::IpAddress | C::NotIpAddress => {
            (scalar::network(text).is_some(), "an address, or a range such as 10.0.0.0/8")
        }
        C::StringEquals
        | C::StringNotEquals
        | C::StringEqualsIgnoreCase
        | C::StringNotEqualsIgnoreCase
        | C::StringLike
        | C::StringNotLike
        | C::ArnEquals
        | C::ArnLike
        | C::ArnNotEquals
        | C::ArnNotLike => return None,
    };
    (!sound).then_some(expected)
}
