//! Conditions whose spelling says something else than it seems to: keys, values and operators that do not fit.

use super::warning;
use crate::condition::{Comparison, Condition, ConditionValue};
use crate::document::{Located, Statement, Version};
use crate::findings::{Finding, Severity};
use crate::pattern::{Filled, Looked, Token};
use crate::spelling::nearest;

/// Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-keys.html>
const GLOBAL_KEYS: &[&str] = &[
    "aws:AssumedRoot",
    "aws:CalledVia",
    "aws:CalledViaFirst",
    "aws:CalledViaLast",
    "aws:ChatbotSourceArn",
    "aws:CurrentTime",
    "aws:Ec2InstanceSourcePrivateIPv4",
    "aws:Ec2InstanceSourceVpc",
    "aws:EpochTime",
    "aws:FederatedProvider",
    "aws:MultiFactorAuthAge",
    "aws:MultiFactorAuthPresent",
    "aws:PrincipalAccount",
    "aws:PrincipalArn",
    "aws:PrincipalIsAWSService",
    "aws:PrincipalOrgID",
    "aws:PrincipalOrgPaths",
    "aws:PrincipalServiceName",
    "aws:PrincipalServiceNamesList",
    "aws:PrincipalTag/",
    "aws:PrincipalType",
    "aws:Referer",
    "aws:RequestTag/",
    "aws:RequestedRegion",
    "aws:ResourceAccount",
    "aws:ResourceOrgID",
    "aws:ResourceOrgPaths",
    "aws:ResourceTag/",
    "aws:SecureTransport",
    "aws:SourceAccount",
    "aws:SourceArn",
    "aws:SourceIdentity",
    "aws:SourceIp",
    "aws:SourceOrgID",
    "aws:SourceOrgPaths",
    "aws:SourceVpc",
    "aws:SourceVpcArn",
    "aws:SourceVpce",
    "aws:TagKeys",
    "aws:TokenIssueTime",
    "aws:UserAgent",
    "aws:UserId",
    "aws:Username",
    "aws:ViaAWSService",
    "aws:VpcSourceIp",
    "aws:VpceAccount",
    "aws:VpceOrgID",
    "aws:VpceOrgPaths",
];

/// The multivalued ones.
/// Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-single-vs-multi-valued-context-keys.html>
const SETS: &[&str] = &[
    "aws:CalledVia",
    "aws:PrincipalOrgPaths",
    "aws:PrincipalServiceNamesList",
    "aws:ResourceOrgPaths",
    "aws:SourceOrgPaths",
    "aws:TagKeys",
    "aws:VpceOrgPaths",
];

pub(super) fn statement(statement: &Statement, version: Version, warnings: &mut Vec<Finding>) {
    for condition in &statement.conditions {
        misspelled_key(condition, warnings);
        plain_operator_on_a_set(condition, warnings);
        for value in &condition.values {
            wildcard_without_like(condition, value, warnings);
            assumed_role_as_principal_arn(condition, value, warnings);
            if version == Version::V2008_10_17 {
                old_variable(&value.value.text, value, warnings);
            }
        }
    }
    if version == Version::V2008_10_17 {
        for resource in statement.resources.iter().flat_map(|clause| &clause.elements) {
            old_variable(resource.value.as_str(), resource, warnings);
        }
    }
}

fn is_one_of(key: &str, keys: &[&str]) -> bool {
    keys.iter().any(|known| known.eq_ignore_ascii_case(key))
}

fn misspelled_key(condition: &Condition, warnings: &mut Vec<Finding>) {
    let key = condition.key.as_str();
    let is_global = key.get(..4).is_some_and(|prefix| prefix.eq_ignore_ascii_case("aws:"));
    // Tags have names of their own behind the slash.
    let (head, tag) = match key.find('/').and_then(|slash| key.split_at_checked(slash + 1)) {
        Some((head, tag)) => (head, tag),
        None => (key, ""),
    };
    if !is_global || is_one_of(head, GLOBAL_KEYS) {
        return;
    }
    let Some(meant) = nearest(head, GLOBAL_KEYS.iter().copied()) else { return };
    let message = format!("`{key}` is none of the global condition keys");
    warnings.push(Finding {
        fix: Some(format!("did you mean \"{meant}{tag}\"?")),
        ..warning(Severity::Warning, "MisspelledKey", condition.at, &condition.pointer, message)
    });
}

/// K1: "Multivalued context keys require a condition set operator."
fn plain_operator_on_a_set(condition: &Condition, warnings: &mut Vec<Finding>) {
    let operator = condition.operator;
    if operator.set.is_some()
        || operator.comparison == Comparison::Null
        || !is_one_of(&condition.key, SETS)
    {
        return;
    }
    let message = format!(
        "`{}` holds a set: where it has several values, `{operator}` cannot be evaluated (an Allow does not allow, a Deny denies)",
        condition.key
    );
    warnings.push(Finding {
        fix: Some(format!("write \"ForAnyValue:{operator}\" or \"ForAllValues:{operator}\"")),
        ..warning(
            Severity::Warning,
            "PlainOperatorOnSet",
            condition.at,
            &condition.pointer,
            message,
        )
    });
}

fn wildcard_without_like(
    condition: &Condition,
    value: &Located<ConditionValue>,
    warnings: &mut Vec<Finding>,
) {
    use Comparison as C;
    let fix = match condition.operator.comparison {
        C::StringEquals => Some("write StringLike if it is to match other texts"),
        C::StringNotEquals => Some("write StringNotLike if it is to match other texts"),
        C::StringEqualsIgnoreCase | C::StringNotEqualsIgnoreCase => None,
        _ => return,
    };
    let has_wildcard = match value.value.template.pattern(|_| Looked::One("")) {
        Filled::Glob(glob) => {
            glob.tokens().iter().any(|token| matches!(token, Token::One | Token::Many))
        }
        Filled::NoValue(_) | Filled::Unclear(_) => false,
    };
    if has_wildcard {
        let message = format!(
            "`{}`: `*` and `?` stand for themselves under `{}`",
            value.value.text, condition.operator
        );
        warnings.push(Finding {
            fix: fix.map(str::to_owned),
            ..warning(
                Severity::Suggestion,
                "WildcardWithoutLike",
                value.at,
                &value.pointer,
                message,
            )
        });
    }
}

/// X10: a session's `aws:PrincipalArn` is its role's ARN. Principals' ARNs have five colons, so no wildcard reaches past one.
fn assumed_role_as_principal_arn(
    condition: &Condition,
    value: &Located<ConditionValue>,
    warnings: &mut Vec<Finding>,
) {
    let name = condition.operator.comparison.name();
    let compares_text = name.starts_with("String") || name.starts_with("Arn");
    if !compares_text
        || !condition.key.eq_ignore_ascii_case("aws:PrincipalArn")
        || value.value.template.has_variables()
    {
        return;
    }
    let mut parts = value.value.text.splitn(6, ':').skip(2);
    let (service, resource) = (parts.next(), parts.nth(2));
    if service == Some("sts")
        && resource.is_some_and(|resource| resource.starts_with("assumed-role/"))
    {
        let message = format!(
            "`{}` is never equal to `aws:PrincipalArn`, which is the role's ARN for a session",
            value.value.text
        );
        warnings.push(Finding {
            fix: Some("write the role's ARN, arn:aws:iam::ACCOUNT:role/PATH/NAME".to_owned()),
            ..warning(
                Severity::Warning,
                "AssumedRoleAsPrincipalArn",
                value.at,
                &value.pointer,
                message,
            )
        });
    }
}

/// RULES.md 24.
fn old_variable<T>(text: &str, at: &Located<T>, warnings: &mut Vec<Finding>) {
    if text.contains("${") {
        let message = format!("`{text}`: in the version 2008-10-17 `${{` opens no variable");
        warnings.push(Finding {
            fix: Some("write \"Version\": \"2012-10-17\"".to_owned()),
            ..warning(Severity::Warning, "VariableInOldVersion", at.at, &at.pointer, message)
        });
    }
}
