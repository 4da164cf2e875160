//! Whether a resource pattern names the resource asked about.
//!
//! Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_resource.html>

use countersign_policy::arn::Arn;
use countersign_policy::document::{Clause, ResourcePattern};
use countersign_policy::pattern::{Filled, Glob, Looked, Token};

use crate::context::Context;
use crate::request::ResourceArn;
use crate::truth::{Truth, any};

/// The whole element: `NotResource` names all but what is listed (RULES.md 15).
pub(crate) fn clause(
    clause: &Clause<ResourcePattern>,
    resource: &ResourceArn,
    context: &Context,
) -> Truth {
    let listed = any(clause
        .elements
        .iter()
        .map(|element| pattern(&element.value, resource, context, clause.negated)));
    if clause.negated { !listed } else { listed }
}

/// One pattern of the element; whether it stands in a `NotResource` counts where it cannot be evaluated.
pub(crate) fn pattern(
    pattern: &ResourcePattern,
    resource: &ResourceArn,
    context: &Context,
    negated: bool,
) -> Truth {
    if pattern.is_any() {
        return Truth::True;
    }
    let arn = match resource {
        // An action that names no resource is granted on `*` alone.
        ResourceArn::Any => return Truth::False,
        ResourceArn::Arn(arn) => arn,
    };
    // "You can't use a variable to replace parts of the ARN before the fifth colon."
    if pattern.template.has_variable_before_fifth_colon() {
        return Truth::Unknown;
    }
    match pattern.template.pattern(|key| context.look_up(key)) {
        Filled::Glob(glob) => matches(&glob, arn),
        // K4: NotResource with a variable that has no value.
        Filled::NoValue(_) if negated => Truth::Unknown,
        Filled::NoValue(_) => Truth::False,
        Filled::Unclear(_) => Truth::Unknown,
    }
}

/// Whether the pattern could name the resource if the variables whose keys are `open` had other values: each of them stands for any
/// text. False is certain, anything else is not.
pub(crate) fn could_match(
    pattern: &ResourcePattern,
    resource: &ResourceArn,
    context: &Context,
    open: impl Fn(&str) -> bool,
) -> bool {
    const ANY_TEXT: &str = "\u{F8FF}";
    let ResourceArn::Arn(arn) = resource else { return false };
    let look_up = |key: &str| {
        if open(key) { Looked::One(ANY_TEXT) } else { context.look_up(key) }
    };
    let widened = |token: &Token| match *token {
        Token::Value(c) if ANY_TEXT.starts_with(c) => Token::Many,
        token @ (Token::Value(_) | Token::Char(_) | Token::One | Token::Many) => token,
    };
    match pattern.template.pattern(look_up) {
        Filled::Glob(glob) => {
            let glob = Glob::from_tokens(glob.tokens().iter().map(widened).collect());
            matches(&glob, arn) != Truth::False
        }
        Filled::NoValue(_) => false,
        Filled::Unclear(_) => true,
    }
}

/// Part by part, so that no `*` swallows a colon and reaches another account (RULES.md 12).
fn matches(glob: &Glob, arn: &Arn) -> Truth {
    let parts =
        ["arn", arn.partition(), arn.service(), arn.region(), arn.account(), arn.resource()];
    match glob.arn_parts(false) {
        Some(patterns) => {
            if !patterns.iter().zip(parts).all(|(pattern, part)| pattern.matches(part)) {
                return Truth::False;
            }
            let [.., resource] = &patterns;
            let quarrel = has_type(arn.service(), arn.account())
                && has_wildcard_type(resource, arn.resource());
            if quarrel { Truth::Unknown } else { Truth::True }
        }
        None => short(glob, parts),
    }
}

/// K7: "an ARN with fewer than the standard six fields" is completed with `*` by AWS, and matches nothing in simulators.
fn short(glob: &Glob, parts: [&str; 6]) -> Truth {
    let completed = glob
        .tokens()
        .split(|token| *token == Token::Char(':'))
        .map(|part| Glob::from_tokens(part.to_vec()))
        .zip(parts)
        .all(|(pattern, part)| pattern.matches(part));
    if completed { Truth::Unknown } else { Truth::False }
}

/// Whether the resource part begins with a type. A bucket's does not: `arn:aws:s3:::example?bucket/*` "identifies all objects in
/// buckets such as example1bucket" (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/s3-arn-format.html>).
pub(crate) fn has_type(service: &str, account: &str) -> bool {
    !(service == "s3" && account.is_empty())
}

/// K7: a wildcard before the first `/` or `:` of the resource part, against a resource that has a type. AWS's page forbids it,
/// live AWS matches it. A resource part that is `*` alone is nobody's quarrel.
fn has_wildcard_type(pattern: &Glob, resource: &str) -> bool {
    if pattern.tokens() == [Token::Many] {
        return false;
    }
    let separates =
        |token: &Token| matches!(token, Token::Char('/' | ':') | Token::Value('/' | ':'));
    let kind = pattern.tokens().split(separates).next().unwrap_or_default();
    resource.contains(['/', ':'])
        && kind.iter().any(|token| matches!(token, Token::One | Token::Many))
}
