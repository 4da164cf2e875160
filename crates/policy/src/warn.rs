//! Warnings: what can be stored, and grants more than its author may think.

use crate::condition::{Comparison, SetOperator};
use crate::document::{Document, Effect, Position, Statement};
use crate::findings::{DocumentKind, Finding, Severity};
use crate::principal::PrincipalElement;

pub(crate) fn document(document: &Document, kind: DocumentKind) -> Vec<Finding> {
    let mut warnings = Vec::new();
    if !document.has_version() {
        let message =
            "the document has no Version, and so is of 2008-10-17: `${…}` is literal text"
                .to_owned();
        warnings.push(Finding {
            fix: Some("write \"Version\": \"2012-10-17\"".to_owned()),
            ..warning(Severity::Suggestion, "MissingVersion", Position::START, "", message)
        });
    }
    for statement in document.statements() {
        for_all_values_without_guard(statement, &mut warnings);
        wildcards_before_the_resource_id(statement, &mut warnings);
        if statement.effect == Effect::Allow {
            broad_grants(statement, &mut warnings);
            if kind.has_principals() {
                anybody_without_condition(statement, &mut warnings);
            }
        }
    }
    warnings
}

fn warning(
    severity: Severity,
    code: &'static str,
    at: Position,
    pointer: &str,
    message: String,
) -> Finding {
    Finding { severity, ..Finding::error(code, at, pointer.to_owned(), message) }
}

fn broad_grants(statement: &Statement, warnings: &mut Vec<Finding>) {
    if statement.actions.negated {
        let message =
            "Allow with NotAction grants every other action, those of services to come included"
                .to_owned();
        let clause = &statement.actions;
        warnings.push(warning(
            Severity::SecurityWarning,
            "AllowWithNotAction",
            clause.at,
            &clause.pointer,
            message,
        ));
    }
    if let Some(clause) = statement.principals.as_ref().filter(|clause| clause.negated) {
        let message = "Allow with NotPrincipal grants to everybody else".to_owned();
        warnings.push(warning(
            Severity::SecurityWarning,
            "AllowWithNotPrincipal",
            clause.at,
            &clause.pointer,
            message,
        ));
    }
    let Some(resources) = statement.resources.as_ref().filter(|clause| !clause.negated) else {
        return;
    };
    let on_anything = resources.elements.iter().any(|resource| resource.value.is_any());
    let Ok(pass_role) = "iam:PassRole".parse() else { return };
    if !on_anything || statement.actions.negated {
        return;
    }
    for action in
        statement.actions.elements.iter().filter(|action| action.value.matches(&pass_role))
    {
        if action.value.name().is_some() {
            let message = format!(
                "`{}` on `*` lets every role be passed to a service",
                action.value.as_str()
            );
            warnings.push(warning(
                Severity::SecurityWarning,
                "PassRoleOnAnyResource",
                action.at,
                &action.pointer,
                message,
            ));
        }
    }
}

fn anybody_without_condition(statement: &Statement, warnings: &mut Vec<Finding>) {
    let Some(clause) = statement.principals.as_ref().filter(|clause| !clause.negated) else {
        return;
    };
    if !statement.conditions.is_empty() {
        return;
    }
    for element in clause.elements.iter().filter(|element| element.value == PrincipalElement::Any) {
        let message = "Principal `*` without a Condition grants to everybody".to_owned();
        warnings.push(warning(
            Severity::SecurityWarning,
            "AnybodyWithoutCondition",
            element.at,
            &element.pointer,
            message,
        ));
    }
}

/// RULES.md 5: `ForAllValues` is true for a missing key and for an empty set.
fn for_all_values_without_guard(statement: &Statement, warnings: &mut Vec<Finding>) {
    if statement.effect != Effect::Allow {
        return;
    }
    for condition in &statement.conditions {
        if condition.operator.set != Some(SetOperator::ForAllValues) {
            continue;
        }
        let guarded = statement.conditions.iter().any(|other| {
            other.operator.comparison == Comparison::Null
                && other.key.eq_ignore_ascii_case(&condition.key)
                && other.values.iter().all(|value| value.value.text.eq_ignore_ascii_case("false"))
        });
        if !guarded {
            let message =
                format!("ForAllValues is true where `{}` is missing or empty", condition.key);
            warnings.push(Finding {
                fix: Some(format!("add \"Null\": {{\"{}\": \"false\"}}", condition.key)),
                ..warning(
                    Severity::SecurityWarning,
                    "ForAllValuesWithoutNullGuard",
                    condition.at,
                    &condition.pointer,
                    message,
                )
            });
        }
    }
}

/// K7: AWS's page forbids a wildcard in the resource's type, live AWS matches it. Here such an Allow does not match a resource
/// that has a type.
fn wildcards_before_the_resource_id(statement: &Statement, warnings: &mut Vec<Finding>) {
    let Some(resources) = &statement.resources else { return };
    for resource in &resources.elements {
        let Some(part) = resource.value.as_str().splitn(6, ':').nth(5) else { continue };
        if part == "*" {
            continue;
        }
        let before_separator = part.split(['/', ':']).next().unwrap_or_default();
        if before_separator.replace("${*}", "").replace("${?}", "").contains(['*', '?']) {
            let message = format!(
                "`{}` has a wildcard before the first `/` or `:` of the resource: in an Allow it matches no resource of the \
                 form type/id",
                resource.value.as_str()
            );
            warnings.push(Finding {
                fix: Some("name the resource's type before the wildcard, or write \"*\" as the whole resource".to_owned()),
                ..warning(Severity::Warning, "WildcardInResourceType", resource.at, &resource.pointer, message)
            });
        }
    }
}
