//! What a caller may assert, and no more (DESIGN.md section 3). Principal keys and time are Countersign's own.

use std::collections::HashMap;

use countersign_evaluator::{Context, ContextValue, context::assertable};
use countersign_proto::decision::v1::{self as proto, StringSet, context_value};

use super::question::shown;
use crate::error::Refusal;

const MAX_KEYS: usize = 256;
const MAX_VALUES: usize = 1000;
const MAX_KEY_CHARS: usize = 256;
const MAX_VALUE_BYTES: usize = 4096;
/// Of all names and values together, resource tags among them: a policy may compare each of its own with each of these.
const MAX_BYTES: usize = 16 * 1024;
const RESOURCE_TAG: &str = "aws:ResourceTag/";

/// The condition keys of a question.
pub fn context(
    asserted: HashMap<String, proto::ContextValue>,
    resource_tags: HashMap<String, String>,
) -> Result<Context, Refusal> {
    if asserted.len() + resource_tags.len() > MAX_KEYS {
        return Err(Refusal::invalid(
            "context",
            format!("more than {MAX_KEYS} keys, resource tags among them"),
        ));
    }
    if bytes(&asserted, &resource_tags) > MAX_BYTES {
        return Err(Refusal::invalid(
            "context",
            format!("more than {MAX_BYTES} bytes of names and values, resource tags among them"),
        ));
    }
    let mut context = Context::default();
    let mut values = 0;
    for (key, value) in sorted(asserted) {
        let field = field("context", &key);
        check_key(&field, &key)?;
        if !assertable(&key) || is_resource_tag(&key) {
            return Err(Refusal::invalid(field, not_assertable(&key)));
        }
        let value = context_value(&field, value)?;
        values += count(&value);
        check_values(&field, &value)?;
        insert(&mut context, &field, &key, value)?;
    }
    for (tag, value) in sorted(resource_tags) {
        let field = field("resource_tags", &tag);
        check_key(&field, &tag)?;
        let value = ContextValue::One(value);
        values += count(&value);
        check_values(&field, &value)?;
        insert(&mut context, &field, &format!("{RESOURCE_TAG}{tag}"), value)?;
    }
    if values > MAX_VALUES {
        return Err(Refusal::invalid(
            "context",
            format!("more than {MAX_VALUES} values, resource tags among them"),
        ));
    }
    Ok(context)
}

/// Whether a caller may set this key.
pub fn assertable_key(key: &str) -> Result<(), Refusal> {
    let field = field("context", key);
    check_key(&field, key)?;
    if assertable(key) && !is_resource_tag(key) {
        return Ok(());
    }
    Err(Refusal::invalid(field, not_assertable(key)))
}

fn bytes(
    asserted: &HashMap<String, proto::ContextValue>,
    resource_tags: &HashMap<String, String>,
) -> usize {
    let of_value = |value: &proto::ContextValue| match &value.kind {
        None => 0,
        Some(context_value::Kind::Value(value)) => value.len(),
        Some(context_value::Kind::Values(set)) => set.items.iter().map(String::len).sum(),
    };
    let context: usize = asserted.iter().map(|(key, value)| key.len() + of_value(value)).sum();
    let tags: usize = resource_tags.iter().map(|(tag, value)| tag.len() + value.len()).sum();
    context + tags
}

/// A map has no order; of two wrong keys the same one is always named.
fn sorted<T>(map: HashMap<String, T>) -> Vec<(String, T)> {
    let mut entries: Vec<(String, T)> = map.into_iter().collect();
    entries.sort_by(|(a, _), (b, _)| a.cmp(b));
    entries
}

fn field(map: &str, key: &str) -> String {
    format!("{map}[\"{}\"]", shown(key))
}

fn check_key(field: &str, key: &str) -> Result<(), Refusal> {
    if key.is_empty() {
        return Err(Refusal::invalid(field, "an empty key"));
    }
    if key.chars().count() > MAX_KEY_CHARS {
        return Err(Refusal::invalid(
            field,
            format!("a key of more than {MAX_KEY_CHARS} characters"),
        ));
    }
    if key.chars().any(char::is_control) {
        return Err(Refusal::invalid(field, "a key with a control character"));
    }
    Ok(())
}

fn is_resource_tag(key: &str) -> bool {
    key.get(..RESOURCE_TAG.len()).is_some_and(|start| start.eq_ignore_ascii_case(RESOURCE_TAG))
}

fn not_assertable(key: &str) -> &'static str {
    let prefix = key.split_once(':').map(|(prefix, _)| prefix.to_ascii_lowercase());
    match prefix.as_deref() {
        _ if is_resource_tag(key) => "a resource's tags are sent in `resource_tags`",
        Some("aws" | "sts" | "countersign") => {
            "no caller may set this key: Countersign sets the keys of principals and of time itself. A caller may set aws:SourceIp, \
             aws:SourceVpc, aws:SourceVpce, aws:VpcSourceIp, aws:SecureTransport, aws:UserAgent, aws:Referer, aws:RequestedRegion, \
             aws:RequestTag/*, aws:TagKeys, and keys of its own services"
        }
        Some(_) | None => "no condition key: expected `service:Name`, such as `orders:Amount`",
    }
}

fn context_value(field: &str, value: proto::ContextValue) -> Result<ContextValue, Refusal> {
    let proto::ContextValue { kind } = value;
    match kind {
        None => Err(Refusal::invalid(field, "no value; send `value`, or `values` for a set")),
        Some(context_value::Kind::Value(value)) => Ok(ContextValue::One(value)),
        Some(context_value::Kind::Values(StringSet { items })) => Ok(ContextValue::Many(items)),
    }
}

fn count(value: &ContextValue) -> usize {
    match value {
        ContextValue::One(_) => 1,
        ContextValue::Many(items) => items.len(),
    }
}

fn check_values(field: &str, value: &ContextValue) -> Result<(), Refusal> {
    let too_long = |text: &String| text.len() > MAX_VALUE_BYTES;
    let refused = match value {
        ContextValue::One(text) => too_long(text),
        ContextValue::Many(items) => items.iter().any(too_long),
    };
    if refused {
        return Err(Refusal::invalid(
            field,
            format!("a value of more than {MAX_VALUE_BYTES} bytes"),
        ));
    }
    Ok(())
}

fn insert(
    context: &mut Context,
    field: &str,
    key: &str,
    value: ContextValue,
) -> Result<(), Refusal> {
    context.insert(key, value).map_err(|_| {
        Refusal::invalid(
            field,
            "there already, in another spelling: keys are compared without case",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> proto::ContextValue {
        proto::ContextValue { kind: Some(context_value::Kind::Value(text.into())) }
    }

    fn many(count: usize) -> proto::ContextValue {
        let items = (0..count).map(|n| n.to_string()).collect();
        proto::ContextValue { kind: Some(context_value::Kind::Values(StringSet { items })) }
    }

    fn check(keys: &[(&str, proto::ContextValue)], tags: &[(&str, &str)], refused: Option<&str>) {
        let asserted = keys.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
        let tags =
            tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        match (context(asserted, tags), refused) {
            (Ok(_), None) => {}
            (Err(refusal), Some(part)) => {
                assert!(refusal.to_string().contains(part), "{refusal}, not {part}")
            }
            (outcome, refused) => panic!("{keys:?}: {refused:?}, {outcome:?}"),
        }
    }

    #[test]
    fn what_a_caller_may_assert() {
        for key in [
            "aws:SourceIp",
            "AWS:sourceip",
            "aws:SourceVpc",
            "aws:SourceVpce",
            "aws:VpcSourceIp",
            "aws:SecureTransport",
            "aws:UserAgent",
            "aws:Referer",
            "aws:RequestedRegion",
            "aws:RequestTag/Team",
            "aws:TagKeys",
            "orders:Amount",
            "s3:prefix",
        ] {
            check(&[(key, one("x"))], &[], None);
        }
        for key in [
            "aws:PrincipalArn",
            "AWS:PrincipalArn",
            "aws:principaltag/Team",
            "aws:PrincipalAccount",
            "aws:PrincipalType",
            "aws:PrincipalIsAWSService",
            "aws:PrincipalOrgID",
            "aws:userid",
            "aws:username",
            "aws:SourceIdentity",
            "aws:TokenIssueTime",
            "aws:CurrentTime",
            "aws:EpochTime",
            "aws:SourceAccount",
            "aws:SourceArn",
            "aws:ResourceAccount",
            "aws:MultiFactorAuthPresent",
            "aws:ResourceTag/Team",
            "aws:Invented",
            "sts:ExternalId",
            "STS:RoleSessionName",
            "countersign:ProofType",
            "Countersign:ProofBound",
        ] {
            check(&[(key, one("x"))], &[], Some(&format!("context[\"{key}\"]")));
        }
        check(&[("aws:ResourceTag/Team", one("x"))], &[], Some("resource_tags"));
        check(&[("aws:userid", one("x"))], &[], Some("aws:RequestedRegion"));
        for key in ["plain", "orders:", ":Amount", "or ders:Amount"] {
            check(&[(key, one("x"))], &[], Some("expected `service:Name`"));
        }
    }

    #[test]
    fn keys_are_compared_without_case() {
        check(
            &[("orders:Amount", one("1")), ("Orders:amount", one("2"))],
            &[],
            Some("another spelling"),
        );
        check(&[], &[("Team", "a"), ("team", "b")], Some("resource_tags[\"team\"]"));
        check(&[("aws:ResourceTag/Team", one("a"))], &[("Team", "b")], Some("resource_tags"));
        check(&[("orders:Amount", one("1"))], &[("Team", "a")], None);
    }

    #[test]
    fn values() {
        check(&[("orders:Amount", proto::ContextValue { kind: None })], &[], Some("no value"));
        check(&[("aws:TagKeys", many(0))], &[], None);
        check(&[("orders:Amount", one(""))], &[], None);
    }

    #[test]
    fn limits() {
        let key = format!("k:{}", "k".repeat(254));
        check(&[(&key, one("x"))], &[], None);
        check(&[(&format!("{key}k"), one("x"))], &[], Some("256 characters"));
        check(&[("", one("x"))], &[], Some("empty key"));
        check(&[], &[("", "x")], Some("empty key"));
        check(&[("a:\u{0}b", one("x"))], &[], Some("control"));
        check(&[("k:k", one(&"v".repeat(4096)))], &[], None);
        check(&[("k:k", one(&"v".repeat(4097)))], &[], Some("4096 bytes"));
        check(&[("k:k", many(1000))], &[], None);
        check(&[("k:k", many(1000))], &[("t", "x")], Some("1000 values"));
        let names: Vec<String> = (0..257).map(|n| format!("k:{n}")).collect();
        let keys: Vec<_> = names.iter().map(|name| (name.as_str(), one("x"))).collect();
        check(&keys, &[], Some("256 keys"));
    }

    #[test]
    fn h2_names_and_values_have_16_kib_together() {
        let value = |bytes: usize| one(&"v".repeat(bytes));
        let full: Vec<(String, proto::ContextValue)> =
            (0..4).map(|n| (format!("k:{n}x"), value(4092))).collect();
        let check = |more: &[(&str, proto::ContextValue)], tags: &[(&str, &str)], sound: bool| {
            let mut keys: Vec<_> = full.iter().map(|(k, v)| (k.as_str(), v.clone())).collect();
            keys.extend(more.iter().cloned());
            super::tests::check(&keys, tags, (!sound).then_some("more than 16384 bytes"));
        };
        check(&[], &[], true);
        check(&[("k:k", one(""))], &[], false);
        check(&[], &[("t", "")], false);
        // Many short values, and long names.
        super::tests::check(
            &[(
                "k:k",
                proto::ContextValue {
                    kind: Some(context_value::Kind::Values(StringSet {
                        items: vec!["v".repeat(17); 1000],
                    })),
                },
            )],
            &[],
            Some("more than 16384 bytes"),
        );
        let names: Vec<String> = (0..70).map(|n| format!("k:{n:0>253}")).collect();
        let keys: Vec<_> = names.iter().map(|name| (name.as_str(), one(""))).collect();
        super::tests::check(&keys, &[], Some("more than 16384 bytes"));
        // Refused as a whole, before any single key is looked at.
        super::tests::check(&[("aws:userid", value(20_000))], &[], Some("more than 16384 bytes"));
    }
}
