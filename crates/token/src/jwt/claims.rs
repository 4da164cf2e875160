//! What a JWT says, once its signature holds.

use serde_json::{Map, Value};

use super::aws::AwsPrincipal;
use super::{IssuerKind, IssuerRules, JwtError, WebIdentity};
use crate::MAX_LEEWAY_SECONDS;

/// OIDC Core section 2: "It MUST NOT exceed 255 ASCII characters in length."
const MAX_SUBJECT: usize = 255;
const MAX_JTI: usize = 255;
/// Of `amr`.
const MAX_METHODS: usize = 16;
const MAX_METHOD_BYTES: usize = 255;
/// What EKS puts into tokens that are meant for AWS's own STS.
const AUDIENCE_OF_AWS: &str = "sts.amazonaws.com";
/// AWS would take session tags and a source identity from these. To pass them over would leave marks out that a policy relies on.
/// Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/id_session-tags.html#id_session-tags_adding-assume-role-idp>
///
/// The last three say that the token is not for whoever merely holds it: it is bound to a key (RFC 7800), somebody acts already, or only the
/// one who is named may act (RFC 8693 section 4). Nobody is asked for a proof of that key here, and nobody acts.
const UNSUPPORTED: [&str; 6] = [
    "https://aws.amazon.com/tags",
    "https://aws.amazon.com/transitive_tag_keys",
    "https://aws.amazon.com/source_identity",
    "cnf",
    "act",
    "may_act",
];

pub(super) fn identity(
    claims: &Map<String, Value>,
    rules: &IssuerRules,
    now: i64,
) -> Result<WebIdentity, JwtError> {
    let expires_at = times(claims, rules.max_lifetime, now)?;
    audience(claims.get("aud"), &rules.audience)?;
    let subject = text(claims, "sub")?;
    let printable = subject.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    if subject.len() > MAX_SUBJECT || !printable {
        let must = "must be 1 to 255 printable ASCII characters";
        return Err(JwtError::InvalidClaim { name: "sub", must });
    }
    let jti = jti(claims, rules.requires_jti)?;
    if let Some(name) = UNSUPPORTED.into_iter().find(|name| claims.contains_key(*name)) {
        return Err(JwtError::UnsupportedClaim { name });
    }
    let aws = match &rules.kind {
        IssuerKind::AwsSts { account, partition } => {
            Some(AwsPrincipal::read(claims, subject, partition, account)?)
        }
        IssuerKind::Eks | IssuerKind::Oidc => None,
    };
    Ok(WebIdentity {
        provider: provider(&rules.issuer).to_owned(),
        subject: subject.to_owned(),
        audience: rules.audience.clone(),
        amr: amr(claims)?,
        jti,
        expires_at,
        aws,
    })
}

/// "The name of the provider is its URL without the scheme."
/// Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_iam-condition-keys.html#condition-keys-wif>
fn provider(issuer: &str) -> &str {
    issuer.split_once("://").map_or(issuer, |(_, rest)| rest)
}

/// A member that is a text with something in it.
pub(super) fn text<'c>(
    claims: &'c Map<String, Value>,
    name: &'static str,
) -> Result<&'c str, JwtError> {
    let text = claims.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    text.ok_or(JwtError::MissingClaim { name })
}

/// Whole seconds: RFC 7519 allows fractions, no issuer here writes them, and readers differ in what they make of them.
fn seconds(claims: &Map<String, Value>, name: &'static str) -> Result<i64, JwtError> {
    let seconds = claims.get(name).and_then(Value::as_i64).filter(|seconds| *seconds >= 0);
    seconds.ok_or(JwtError::MissingClaim { name })
}

/// `exp`, when all times hold. An `exp` has no leeway.
fn times(claims: &Map<String, Value>, most: i64, now: i64) -> Result<i64, JwtError> {
    let (iat, exp) = (seconds(claims, "iat")?, seconds(claims, "exp")?);
    if !(1..=most).contains(&exp.saturating_sub(iat)) {
        return Err(JwtError::Lifetime { iat, exp, most });
    }
    let latest = now.saturating_add(MAX_LEEWAY_SECONDS);
    if iat > latest {
        return Err(JwtError::IssuedInTheFuture { iat });
    }
    if claims.contains_key("nbf") {
        let nbf = seconds(claims, "nbf")?;
        if nbf > latest {
            return Err(JwtError::NotYetValid { nbf });
        }
    }
    if now >= exp {
        return Err(JwtError::Expired { exp });
    }
    Ok(exp)
}

/// Ours, and none beside it: a token for two audiences is in the hands of both. Kubernetes always writes a list.
fn audience(found: Option<&Value>, expected: &str) -> Result<(), JwtError> {
    let one = match found {
        Some(Value::String(one)) => Some(one.as_str()),
        Some(Value::Array(list)) => match list.as_slice() {
            [Value::String(one)] => Some(one.as_str()),
            [_] | [] | [_, _, ..] => None,
        },
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) | None => {
            return Err(JwtError::MissingClaim { name: "aud" });
        }
    };
    match one {
        Some(one) if one == expected => Ok(()),
        Some(AUDIENCE_OF_AWS) => Err(JwtError::AudienceOfAws { expected: expected.to_owned() }),
        Some(_) | None => Err(JwtError::WrongAudience { expected: expected.to_owned() }),
    }
}

fn jti(claims: &Map<String, Value>, required: bool) -> Result<Option<String>, JwtError> {
    if !required && !claims.contains_key("jti") {
        return Ok(None);
    }
    let jti = text(claims, "jti")?;
    if jti.len() > MAX_JTI {
        let must = "must be 1 to 255 bytes";
        return Err(JwtError::InvalidClaim { name: "jti", must });
    }
    Ok(Some(jti.to_owned()))
}

/// OIDC Core section 2: "JSON array of strings". A policy may ask for one of them, so that none is passed over.
fn amr(claims: &Map<String, Value>) -> Result<Vec<String>, JwtError> {
    let must = "must be a list of at most 16 texts of 1 to 255 bytes";
    let invalid = || JwtError::InvalidClaim { name: "amr", must };
    let methods = match claims.get("amr") {
        None => return Ok(Vec::new()),
        Some(Value::Array(methods)) if methods.len() <= MAX_METHODS => methods,
        Some(_) => return Err(invalid()),
    };
    let text = |method: &Value| match method {
        Value::String(text) if (1..=MAX_METHOD_BYTES).contains(&text.len()) => Ok(text.clone()),
        _ => Err(invalid()),
    };
    methods.iter().map(text).collect()
}
