//! What is asked of a session beside its role: session policies, a scope, tags, a source identity. Each is held to STS's own bounds
//! here; whether the managed policies exist is asked where they are read.
//!
//! Source: <https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html>

use std::collections::{BTreeMap, BTreeSet};

use countersign_policy::{
    action::ActionPattern,
    findings::{self, DocumentKind},
    principal,
};
use countersign_proto::decision::v1::SessionTag;
use serde_json::{Value, json};

use super::question::shown;
use crate::error::Refusal;

const MAX_POLICY_ARNS: usize = 10;
const MAX_TAGS: usize = 50;
const MAX_KEY_CHARACTERS: usize = 128;
const MAX_VALUE_CHARACTERS: usize = 256;
/// Each pattern stands twice in the document, and the whole token has 4 KiB.
const MAX_SCOPE_BYTES: usize = 1024;
/// White space does not count, but it is read all the same.
const MAX_POLICY_BYTES: usize = 16 * 1024;

/// What a session is to be, beside its role.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wished {
    /// The inline session policy, without white space.
    pub policy: Option<String>,
    /// Managed session policies.
    pub policy_arns: Vec<String>,
    /// What alone the session may do.
    pub scope: Option<Scope>,
    /// By key; no two differ by case alone.
    pub tags: BTreeMap<String, String>,
    /// Of `tags`.
    pub transitive_tag_keys: BTreeSet<String>,
    /// `sts:SourceIdentity`.
    pub source_identity: Option<String>,
}

/// As the request has them.
pub struct WishedFields {
    pub policy: String,
    pub policy_arns: Vec<String>,
    pub scope: String,
    pub tags: Vec<SessionTag>,
    pub transitive_tag_keys: Vec<String>,
    pub source_identity: String,
}

impl Wished {
    /// Reads the fields.
    pub fn parse(fields: WishedFields) -> Result<Self, Refusal> {
        let WishedFields { policy, policy_arns, scope, tags, transitive_tag_keys, source_identity } =
            fields;
        let tags = self::tags(tags)?;
        Ok(Self {
            policy: inline(&policy)?,
            policy_arns: arns(policy_arns)?,
            scope: (!scope.is_empty()).then(|| Scope::parse(&scope)).transpose()?,
            transitive_tag_keys: transitive(transitive_tag_keys, &tags)?,
            tags,
            source_identity: self::source_identity(source_identity)?,
        })
    }
}

/// The actions that alone a session may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope(Vec<String>);

impl Scope {
    fn parse(text: &str) -> Result<Self, Refusal> {
        let refused = |message: String| Err(Refusal::invalid("scope", message));
        if text.len() > MAX_SCOPE_BYTES {
            return refused(format!("longer than {MAX_SCOPE_BYTES} bytes"));
        }
        let patterns: Vec<String> = text.split(' ').map(str::to_owned).collect();
        for pattern in &patterns {
            let parsed: ActionPattern = pattern.parse().map_err(|_| {
                let message = format!(
                    "`{}`: expected action patterns such as `orders:Get*`, separated by single spaces",
                    shown(pattern)
                );
                Refusal::invalid("scope", message)
            })?;
            // As in a policy (RULES.md X12).
            if parsed.service().is_some_and(|service| service.contains(['*', '?'])) {
                return refused(format!("`{}`: a wildcard in the service", shown(pattern)));
            }
        }
        Ok(Self(patterns))
    }

    /// The scope as a session policy. Several session policies are a union among themselves, so one that allowed the scope would widen
    /// what another one allows: it is a Deny of all else, which nothing undoes (RULES.md 26), not even a resource policy that names
    /// the session. The Allow stands there only where no other session policy says what is allowed.
    #[must_use]
    pub fn document(&self, alone: bool) -> String {
        let Self(patterns) = self;
        let deny =
            json!({"Sid": "Scope", "Effect": "Deny", "NotAction": patterns, "Resource": "*"});
        let allow = json!({"Effect": "Allow", "Action": patterns, "Resource": "*"});
        let statements: Vec<Value> = if alone { vec![allow, deny] } else { vec![deny] };
        json!({"Version": "2012-10-17", "Statement": statements}).to_string()
    }
}

fn inline(text: &str) -> Result<Option<String>, Refusal> {
    if text.is_empty() {
        return Ok(None);
    }
    if text.len() > MAX_POLICY_BYTES {
        return Err(Refusal::invalid("policy", format!("longer than {MAX_POLICY_BYTES} bytes")));
    }
    findings::check(text, DocumentKind::SessionPolicy)
        .map_err(|malformed| Refusal::Document { field: "policy", malformed })?;
    Ok(Some(packed(text)))
}

/// A JSON text without the white space between its tokens: the token has little room.
#[must_use]
pub fn packed(text: &str) -> String {
    let (mut in_string, mut escaped) = (false, false);
    let keep = |c: &char| {
        let c = *c;
        if in_string {
            match (escaped, c) {
                (true, _) => escaped = false,
                (false, '\\') => escaped = true,
                (false, '"') => in_string = false,
                (false, _) => {}
            }
            return true;
        }
        in_string = c == '"';
        !matches!(c, ' ' | '\t' | '\n' | '\r')
    };
    text.chars().filter(keep).collect()
}

fn arns(arns: Vec<String>) -> Result<Vec<String>, Refusal> {
    if arns.len() > MAX_POLICY_ARNS {
        let message = format!("{} of them: at most {MAX_POLICY_ARNS}", arns.len());
        return Err(Refusal::invalid("policy_arns", message));
    }
    match arns.iter().find(|arn| arn.is_empty() || arn.len() > 2048) {
        Some(arn) => Err(Refusal::invalid(
            "policy_arns",
            format!("`{}`: no ARN of a managed policy", shown(arn)),
        )),
        None => Ok(arns),
    }
}

/// Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/id_session-tags.html>, RULES.md X5.
fn tags(given: Vec<SessionTag>) -> Result<BTreeMap<String, String>, Refusal> {
    let refused = |message: String| Err(Refusal::invalid("tags", message));
    if given.len() > MAX_TAGS {
        return refused(format!("{} of them: at most {MAX_TAGS}", given.len()));
    }
    let (mut tags, mut seen) = (BTreeMap::new(), BTreeSet::new());
    for SessionTag { key, value } in given {
        let name = shown(&key).to_owned();
        if !(1..=MAX_KEY_CHARACTERS).contains(&key.chars().count()) || !is_tag_text(&key) {
            return refused(format!(
                "`{name}`: a key is 1 to {MAX_KEY_CHARACTERS} letters, digits, spaces and `_.:/=+-@`"
            ));
        }
        if value.chars().count() > MAX_VALUE_CHARACTERS || !is_tag_text(&value) {
            return refused(format!(
                "`{name}`: a value is at most {MAX_VALUE_CHARACTERS} letters, digits, spaces and `_.:/=+-@`"
            ));
        }
        let folded = key.to_lowercase();
        if folded.starts_with("aws:") {
            return refused(format!("`{name}`: keys that begin with `aws:` are reserved"));
        }
        if !seen.insert(folded) {
            return refused(format!("`{name}`: given twice (case does not count)"));
        }
        tags.insert(key, value);
    }
    Ok(tags)
}

/// `[\p{L}\p{Z}\p{N}_.:/=+\-@]*`
fn is_tag_text(text: &str) -> bool {
    text.chars().all(|c| c.is_alphanumeric() || " _.:/=+-@".contains(c))
}

fn transitive(
    keys: Vec<String>,
    tags: &BTreeMap<String, String>,
) -> Result<BTreeSet<String>, Refusal> {
    if let Some(key) = keys.iter().find(|key| !tags.contains_key(*key)) {
        let message = format!("`{}`: no key of `tags`, in its spelling there", shown(key));
        return Err(Refusal::invalid("transitive_tag_keys", message));
    }
    let count = keys.len();
    let set: BTreeSet<String> = keys.into_iter().collect();
    if set.len() < count {
        return Err(Refusal::invalid("transitive_tag_keys", "one is given twice"));
    }
    Ok(set)
}

/// `[\w+=,.@-]{2,64}`
fn source_identity(text: String) -> Result<Option<String>, Refusal> {
    if text.is_empty() {
        return Ok(None);
    }
    if text.len() >= 2 && principal::is_name(&text) {
        return Ok(Some(text));
    }
    let message = format!("`{}`: expected 2 to 64 letters, digits and `_+=,.@-`", shown(&text));
    Err(Refusal::invalid("source_identity", message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields() -> WishedFields {
        WishedFields {
            policy: String::new(),
            policy_arns: Vec::new(),
            scope: String::new(),
            tags: Vec::new(),
            transitive_tag_keys: Vec::new(),
            source_identity: String::new(),
        }
    }

    fn tag(key: &str, value: &str) -> SessionTag {
        SessionTag { key: key.into(), value: value.into() }
    }

    fn check(change: impl FnOnce(&mut WishedFields), refused: Option<&str>) {
        let mut fields = fields();
        change(&mut fields);
        let said = Wished::parse(fields).err().map(|refusal| refusal.to_string());
        match (&said, refused) {
            (None, None) => {}
            (Some(said), Some(start)) => assert!(said.starts_with(start), "{said}"),
            (said, refused) => panic!("{refused:?}: {said:?}"),
        }
    }

    const READ: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:Get*","Resource":"*"}]}"#;

    #[test]
    fn policies() {
        check(|_| {}, None);
        check(|f| f.policy = READ.into(), None);
        check(|f| f.policy = "{}".into(), Some("policy:"));
        check(|f| f.policy = "nonsense".into(), Some("policy:"));
        check(|f| f.policy = READ.replace("s3:Get*", &"s3:G".repeat(700)), Some("policy:"));
        check(|f| f.policy = " ".repeat(20_000), Some("policy: longer"));
        // A session policy says nothing of principals.
        let with_principal = READ.replace("\"Action\"", "\"Principal\":\"*\",\"Action\"");
        check(|f| f.policy = with_principal, Some("policy:"));
        check(|f| f.policy_arns = vec!["arn:aws:iam::aws:policy/P".into(); 10], None);
        check(
            |f| f.policy_arns = vec!["arn:aws:iam::aws:policy/P".into(); 11],
            Some("policy_arns"),
        );
        check(|f| f.policy_arns = vec![String::new()], Some("policy_arns"));
    }

    #[test]
    fn scopes() {
        for text in ["s3:GetObject", "s3:Get* orders:List?rders", "*", "S3:getobject"] {
            check(|f| f.scope = text.into(), None);
        }
        let long = format!("s3:{}", "a".repeat(1022));
        for text in [
            " ",
            "s3:Get  s3:Put",
            " s3:Get",
            "s3:Get ",
            "read",
            "s*:Get",
            "s3:${x}",
            "s3:\"",
            "s3:Get\ts3:Put",
            &long,
        ] {
            check(|f| f.scope = text.into(), Some("scope:"));
        }
    }

    #[test]
    fn tags_and_source_identities() {
        check(|f| f.tags = vec![tag("Team", "größe 1"), tag("Empty", "")], None);
        check(|f| f.tags = vec![tag(&"k".repeat(128), &"v".repeat(256))], None);
        check(|f| f.tags = vec![tag("", "v")], Some("tags: ``"));
        check(|f| f.tags = vec![tag(&"k".repeat(129), "")], Some("tags:"));
        check(|f| f.tags = vec![tag("k", &"v".repeat(257))], Some("tags: `k`"));
        check(|f| f.tags = vec![tag("k", "a\nb")], Some("tags: `k`"));
        check(|f| f.tags = vec![tag("a*", "")], Some("tags: `a*`"));
        check(|f| f.tags = vec![tag("AWS:x", "")], Some("tags: `AWS:x`: keys that begin"));
        check(
            |f| f.tags = vec![tag("Team", "a"), tag("team", "a")],
            Some("tags: `team`: given twice"),
        );
        let many = |count: usize| (0..count).map(|n| tag(&format!("k{n}"), "v")).collect();
        check(|f| f.tags = many(50), None);
        check(|f| f.tags = many(51), Some("tags: 51"));
        let with = |f: &mut WishedFields, keys: &[&str]| {
            f.tags = vec![tag("Team", "a")];
            f.transitive_tag_keys = keys.iter().map(|key| (*key).to_owned()).collect();
        };
        check(|f| with(f, &["Team"]), None);
        check(|f| with(f, &["team"]), Some("transitive_tag_keys:"));
        check(|f| with(f, &["Other"]), Some("transitive_tag_keys:"));
        check(|f| with(f, &["Team", "Team"]), Some("transitive_tag_keys:"));
        for (text, good) in
            [("", true), ("alice", true), ("a", false), ("a b", false), ("a/b", false)]
        {
            check(|f| f.source_identity = text.into(), (!good).then_some("source_identity:"));
        }
        check(|f| f.source_identity = "a".repeat(65), Some("source_identity:"));
    }

    #[test]
    fn white_space_goes_and_text_stays() {
        fn check(text: &str, expected: &str) {
            assert_eq!(packed(text), expected, "{text}");
        }
        check("{ \"a b\" :\r\n\t1 }", "{\"a b\":1}");
        check(r#"{ "a\" b" : "\\" , "c" : " " }"#, r#"{"a\" b":"\\","c":" "}"#);
    }

    #[test]
    fn a_scope_is_a_document() {
        let scope = Scope::parse("s3:Get* orders:List").unwrap();
        assert_eq!(
            scope.document(false),
            r#"{"Statement":[{"Effect":"Deny","NotAction":["s3:Get*","orders:List"],"Resource":"*","Sid":"Scope"}],"Version":"2012-10-17"}"#
        );
        for alone in [true, false] {
            let document = scope.document(alone);
            assert!(findings::check(&document, DocumentKind::SessionPolicy).is_ok(), "{document}");
        }
    }
}
