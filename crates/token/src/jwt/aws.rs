//! What AWS STS says of the principal that asked it for a token.
//!
//! Of its namespace only what AWS or an account's administrator controls is read. `request_tags` is what the caller wrote, and is
//! never looked at (ATTACKS 67); what AWS may add one day stands for nothing until it has a meaning here.
//!
//! Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_providers_outbound_token_claims.html>

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::JwtError;

const NAMESPACE: &str = "https://sts.amazonaws.com/";
/// IAM's own: 50 tags of 128 and 256 characters.
const MAX_TAGS: usize = 50;
const MAX_TAG_KEY: usize = 128;
const MAX_TAG_VALUE: usize = 256;
const MAX_TEXT: usize = 2048;

/// The principal behind a token of AWS STS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AwsPrincipal {
    account: String,
    arn: String,
    org_id: Option<String>,
    org_path: Option<String>,
    principal_tags: BTreeMap<String, String>,
    source_identity: Option<String>,
    lambda_function: Option<String>,
    ec2_instance: Option<String>,
    ec2_vpc: Option<String>,
}

impl AwsPrincipal {
    /// Twelve digits: the account that the issuer is pinned to.
    pub fn account(&self) -> &str {
        &self.account
    }

    /// A user's, or a role's (with its path); of that account.
    pub fn arn(&self) -> &str {
        &self.arn
    }

    /// `org_id`, of AWS Organizations.
    pub fn org_id(&self) -> Option<&str> {
        self.org_id.as_deref()
    }

    /// `ou_path`, of AWS Organizations.
    pub fn org_path(&self) -> Option<&str> {
        self.org_path.as_deref()
    }

    /// Tags of the role, the user or the session. Keys differ by more than case.
    pub fn principal_tags(&self) -> &BTreeMap<String, String> {
        &self.principal_tags
    }

    /// `source_identity`, of the session that asked.
    pub fn source_identity(&self) -> Option<&str> {
        self.source_identity.as_deref()
    }

    /// `lambda_source_function_arn`.
    pub fn lambda_function(&self) -> Option<&str> {
        self.lambda_function.as_deref()
    }

    /// `ec2_source_instance_arn`.
    pub fn ec2_instance(&self) -> Option<&str> {
        self.ec2_instance.as_deref()
    }

    /// `ec2_instance_source_vpc`.
    pub fn ec2_vpc(&self) -> Option<&str> {
        self.ec2_vpc.as_deref()
    }

    /// The principal that `subject` names and the namespace describes, both of `account`.
    pub(super) fn read(
        claims: &Map<String, Value>,
        subject: &str,
        partition: &str,
        account: &str,
    ) -> Result<AwsPrincipal, JwtError> {
        let said = claims.get(NAMESPACE).and_then(Value::as_object);
        let said = said.ok_or(JwtError::MissingClaim { name: NAMESPACE })?;
        let wrong = |name| JwtError::WrongAccount { name, expected: account.to_owned() };
        if said.get("aws_account").and_then(Value::as_str) != Some(account) {
            return Err(wrong("aws_account"));
        }
        check_arn(subject, partition, account, wrong("sub"))?;
        Ok(AwsPrincipal {
            account: account.to_owned(),
            arn: subject.to_owned(),
            org_id: optional(said, "org_id")?,
            org_path: optional(said, "ou_path")?,
            principal_tags: principal_tags(said)?,
            source_identity: optional(said, "source_identity")?,
            lambda_function: optional(said, "lambda_source_function_arn")?,
            ec2_instance: optional(said, "ec2_source_instance_arn")?,
            ec2_vpc: optional(said, "ec2_instance_source_vpc")?,
        })
    }
}

/// A user or a role of the account. The root asks for no tokens.
fn check_arn(
    arn: &str,
    partition: &str,
    account: &str,
    of_another: JwtError,
) -> Result<(), JwtError> {
    let malformed = JwtError::InvalidClaim {
        name: "sub",
        must: "must be the ARN of a user or a role, `arn:aws:iam::<account>:role/<path><name>`",
    };
    let parts: Vec<&str> = arn.split(':').collect();
    let [arn, found_partition, "iam", "", found_account, resource] = parts.as_slice() else {
        return Err(malformed);
    };
    let name = resource.strip_prefix("role/").or_else(|| resource.strip_prefix("user/"));
    let named = name.is_some_and(|name| !name.is_empty() && !name.ends_with('/'));
    if *arn != "arn" || !named {
        return Err(malformed);
    }
    if *found_partition != partition || *found_account != account {
        return Err(of_another);
    }
    Ok(())
}

fn optional(said: &Map<String, Value>, name: &'static str) -> Result<Option<String>, JwtError> {
    let Some(value) = said.get(name) else { return Ok(None) };
    let sound = |text: &&str| (1..=MAX_TEXT).contains(&text.len());
    let text = value.as_str().filter(sound).ok_or(JwtError::MissingClaim { name })?;
    Ok(Some(text.to_owned()))
}

fn principal_tags(said: &Map<String, Value>) -> Result<BTreeMap<String, String>, JwtError> {
    const NAME: &str = "principal_tags";
    let malformed = || JwtError::InvalidClaim {
        name: NAME,
        must: "must be at most 50 tags, texts whose keys differ by more than case",
    };
    let Some(found) = said.get(NAME) else { return Ok(BTreeMap::new()) };
    let found = found.as_object().ok_or_else(malformed)?;
    let mut seen = BTreeSet::new();
    let mut tags = BTreeMap::new();
    for (key, value) in found {
        let value = value.as_str().ok_or_else(malformed)?;
        let sound = (1..=MAX_TAG_KEY).contains(&key.chars().count())
            && value.chars().count() <= MAX_TAG_VALUE
            && seen.insert(key.to_lowercase());
        if !sound {
            return Err(malformed());
        }
        tags.insert(key.clone(), value.to_owned());
    }
    if tags.len() > MAX_TAGS {
        return Err(malformed());
    }
    Ok(tags)
}
