//! Warnings: what can be stored, and says more, less or something else than its author may think.
//!
//! Nothing is claimed that is not so: where a pattern or a condition depends on the request, there is no remark. The README has
//! the list.

mod cover;
mod dead;
mod spelled;

use crate::condition::{Comparison, SetOperator};
use crate::document::{Document, Effect, Position, Statement};
use crate::findings::{DocumentKind, Finding, Severity};
use crate::principal::PrincipalElement;
use cover::{Budget, Pattern, Prepared};

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
        spelled::statement(statement, document.version(), &mut warnings);
        deny_with_not_principal(statement, &mut warnings);
        if statement.effect == Effect::Allow {
            broad_grants(statement, &mut warnings);
            if kind.has_principals() {
                anybody_without_condition(statement, &mut warnings);
            }
        }
    }
    needless(document, &mut warnings);
    warnings
}

/// Statements and elements that change no answer.
fn needless(document: &Document, warnings: &mut Vec<Finding>) {
    let budget = Budget::new();
    let statements = Prepared::all(document);
    for own in &statements {
        let statement = own.statement;
        if let Some(dead) = dead::reason(statement) {
            let message = format!("this {} never matches: {}", statement.effect, dead.reason);
            warnings.push(warning(
                Severity::Warning,
                "NeverMatches",
                dead.at,
                dead.pointer,
                message,
            ));
            continue;
        }
        if let Some((code, message)) = said_elsewhere(own, &statements, &budget) {
            warnings.push(warning(
                Severity::Warning,
                code,
                statement.at,
                &statement.pointer,
                message,
            ));
            continue;
        }
        needless_elements(own, &budget, warnings);
    }
}

/// An Allow that a Deny of the same document always overrules; a statement that another of the same effect makes needless.
fn said_elsewhere(
    own: &Prepared<'_>,
    statements: &[Prepared<'_>],
    budget: &Budget,
) -> Option<(&'static str, String)> {
    let statement = own.statement;
    for other in statements.iter().filter(|other| !std::ptr::eq(*other, own)) {
        let by = &other.statement.pointer;
        match (other.statement.effect, statement.effect) {
            (Effect::Deny, Effect::Allow) => {
                if dead::reason(other.statement).is_none() && other.covers(own, budget) {
                    let message = format!(
                        "this Allow never allows: the Deny at {by} applies wherever it does"
                    );
                    return Some(("ShadowedAllow", message));
                }
            }
            (Effect::Allow, Effect::Allow) | (Effect::Deny, Effect::Deny) => {
                if dead::reason(other.statement).is_some() || !other.covers(own, budget) {
                    continue;
                }
                let is_first = statement.index < other.statement.index;
                let mutual = own.covers(other, budget);
                if mutual && is_first {
                    continue; // the later of two equals is the one too many
                }
                let (code, message) = if mutual {
                    ("DuplicateStatement", format!("the statement at {by} says the same"))
                } else {
                    (
                        "RedundantStatement",
                        format!("the statement at {by} applies wherever this one does"),
                    )
                };
                return Some((code, message));
            }
            (Effect::Allow, Effect::Deny) => {}
        }
    }
    None
}

fn needless_elements(own: &Prepared<'_>, budget: &Budget, warnings: &mut Vec<Finding>) {
    let actions = &own.statement.actions;
    let mut remark = |code, at, pointer: &str, text: &str, by: &str| {
        let message = format!("`{by}` in the same list covers `{text}`");
        warnings.push(Finding {
            fix: Some(format!("leave `{text}` out")),
            ..warning(Severity::Suggestion, code, at, pointer, message)
        });
    };
    for (index, by) in covered(&own.actions, budget) {
        let pair = (actions.elements.get(index), actions.elements.get(by));
        if let (Some(action), Some(by)) = pair {
            let (text, by) = (action.value.as_str(), by.value.as_str());
            remark("RedundantAction", action.at, &action.pointer, text, by);
        }
    }
    let resources = own.statement.resources.iter().flat_map(|clause| &clause.elements);
    let resources: Vec<_> = resources.collect();
    for (index, by) in covered(&own.resources, budget) {
        if let (Some(resource), Some(by)) = (resources.get(index), resources.get(by)) {
            let (text, by) = (resource.value.as_str(), by.value.as_str());
            remark("RedundantResource", resource.at, &resource.pointer, text, by);
        }
    }
    for condition in &own.statement.conditions {
        let mut seen = std::collections::HashSet::new();
        for value in &condition.values {
            if !seen.insert(value.value.text.as_str()) {
                let message =
                    format!("`{}` stands twice under `{}`", value.value.text, condition.operator);
                warnings.push(warning(
                    Severity::Suggestion,
                    "RedundantConditionValue",
                    value.at,
                    &value.pointer,
                    message,
                ));
            }
        }
    }
}

/// Elements that another element of the list makes needless, and which one that is. Of two equals the later one.
fn covered(patterns: &[Pattern], budget: &Budget) -> Vec<(usize, usize)> {
    let is_covered = |(index, own): (usize, &Pattern)| {
        let by = patterns.iter().enumerate().find(|(other_index, other)| {
            *other_index != index
                && other.covers(own, budget)
                && (*other_index < index || !own.covers(other, budget))
        })?;
        Some((index, by.0))
    };
    patterns.iter().enumerate().filter_map(is_covered).collect()
}

/// RULES.md 37: a Deny with NotPrincipal denies every principal with a permissions boundary, whomever it lists.
fn deny_with_not_principal(statement: &Statement, warnings: &mut Vec<Finding>) {
    let Some(clause) = statement.principals.as_ref().filter(|clause| clause.negated) else {
        return;
    };
    if statement.effect == Effect::Deny {
        let message =
            "Deny with NotPrincipal denies whoever has a permissions boundary, even those it lists"
                .to_owned();
        let fix = "write Principal `*`, and a condition ArnNotEquals on aws:PrincipalArn";
        warnings.push(Finding {
            fix: Some(fix.to_owned()),
            ..warning(
                Severity::Warning,
                "DenyWithNotPrincipal",
                clause.at,
                &clause.pointer,
                message,
            )
        });
    }
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
