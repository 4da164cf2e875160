//! What a token says: RFC 9068's claims, and one object of Countersign's own that describes the session.
//!
//! Knows which claims belong together. Declines to know whether the role still exists, and what it may do.

use std::collections::{BTreeMap, BTreeSet};

use aws_lc_rs::rand;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::mint::MintError;

mod actor;

pub use actor::{Actor, MAX_ACTORS, MayAct};

/// The claims of a token. Times are whole seconds since 1970. What is unknown is refused: a claim that a reader ignored
/// could have been the one that narrows the session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claims {
    /// The issuer's URL, without a slash at the end.
    pub iss: String,
    /// The session's ARN: `arn:PARTITION:sts::ACCOUNT:assumed-role/ROLE/SESSION`.
    pub sub: String,
    /// The one service that the token is for. Never a list.
    pub aud: String,
    /// From this moment on the token is worthless.
    pub exp: i64,
    /// When the session began: `aws:TokenIssueTime`.
    pub iat: i64,
    /// The token's own name, for revocation.
    pub jti: String,
    /// The session's unique form, `ROLE_ID:SESSION` (`aws:userid`). A re-created role has another role id.
    pub client_id: String,
    /// The action patterns that the session was narrowed to, as RFC 9068 section 2.2.3 has them. For people and for the next narrowing:
    /// what limits the session stands in its policies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// The key whose holder alone may show the token (RFC 7800). Without one, whoever has the token may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cnf: Option<Confirmation>,
    /// Who acts for the session (RFC 8693 section 4.1); for the record, and never a right.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub act: Option<Actor>,
    /// Who alone may act for the session (RFC 8693 section 4.4).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub may_act: Option<MayAct>,
    #[serde(rename = "countersign")]
    pub session: Session,
}

/// The session that a token carries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Session {
    /// The role's account: 12 digits.
    pub account: String,
    /// The role's partition: `aws`, `aws-cn`, …
    pub partition: String,
    /// The role's name, without its path.
    pub role_name: String,
    /// The role's unique id (`AROA…`).
    pub role_id: String,
    pub session_name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_identity: Option<String>,
    /// `aws:PrincipalTag/*` given at the exchange. Keys differ by more than case.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub session_tags: BTreeMap<String, String>,
    /// The keys of those that the session hands on when it chains.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub transitive_tag_keys: BTreeSet<String>,
    /// Session policy documents, as text: a union. None of them means that no session policy limits the session.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub session_policies: Vec<String>,
    /// What each narrowing added: documents that are a union among themselves. Of several narrowings each must allow.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub narrowings: Vec<Vec<String>>,
    /// The names (`jti`) of the tokens that this one was exchanged for, the first one first: revoking one of them revokes it too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parents: Vec<String>,
    /// How the caller showed who it is (`countersign:ProofType`).
    pub proof_type: String,
    pub caller: Caller,
    /// The least revision at which the token may be judged, `store_id:number`.
    pub revision: String,
}

/// How the holder of a token shows that it is the one it was made for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Confirmation {
    /// By a DPoP proof of the key with this RFC 7638 thumbprint (RFC 9449 section 6.1).
    #[serde(rename = "jkt")]
    Key(String),
    /// By a TLS client certificate with this SHA-256 thumbprint (RFC 8705 section 3.1).
    #[serde(rename = "x5t#S256")]
    Certificate(String),
}

impl Confirmation {
    /// From the request's `client_key_thumbprint`: a key's thumbprint, or a certificate's after `x5t#S256:`.
    ///
    /// # Errors
    /// None when it is neither: a SHA-256 in base64url without padding has 43 characters.
    pub fn parse(text: &str) -> Option<Confirmation> {
        let (make, thumbprint): (fn(String) -> Confirmation, &str) =
            match text.strip_prefix("x5t#S256:") {
                Some(thumbprint) => (Confirmation::Certificate, thumbprint),
                None => (Confirmation::Key, text),
            };
        is_sha256(thumbprint).then(|| make(thumbprint.to_owned()))
    }

    /// The thumbprint, of whichever it is.
    pub fn thumbprint(&self) -> &str {
        match self {
            Confirmation::Key(thumbprint) | Confirmation::Certificate(thumbprint) => thumbprint,
        }
    }
}

/// How many times a token may be exchanged on, each result for the next.
pub const MAX_PARENTS: usize = 8;

/// Who exchanged a proof for the session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Caller {
    pub realm: Realm,
    pub account: String,
    pub unique_id: String,
    pub arn: String,
}

/// Who vouches for an identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Realm {
    Countersign,
    Aws,
    /// A configured issuer of web identities: `arn` is the provider's, `unique_id` the subject.
    #[serde(rename = "web-identity")]
    WebIdentity,
}

impl Realm {
    pub fn as_str(self) -> &'static str {
        match self {
            Realm::Countersign => "countersign",
            Realm::Aws => "aws",
            Realm::WebIdentity => "web-identity",
        }
    }
}

impl Claims {
    /// The claims of `session`, with `sub` and `client_id` derived from it and a fresh `jti`.
    ///
    /// # Errors
    /// `MintError::Random` if there is no randomness for the `jti`.
    pub fn for_session(
        iss: String,
        aud: String,
        iat: i64,
        exp: i64,
        session: Session,
    ) -> Result<Claims, MintError> {
        let (sub, client_id) = (session.arn(), session.unique_form());
        let jti = jti()?;
        let (scope, cnf, act, may_act) = (None, None, None, None);
        Ok(Claims { iss, sub, aud, exp, iat, jti, client_id, scope, cnf, act, may_act, session })
    }

    /// Whether the token may be exchanged by `actor`, or, without one, by whoever holds it: a token that says who may act for it is
    /// nobody else's to exchange (RFC 8693 section 4.4).
    pub fn may_be_exchanged_by(&self, actor: Option<&Claims>) -> bool {
        match (&self.may_act, actor) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(may_act), Some(actor)) => may_act.is(actor),
        }
    }

    /// The name of the first claim that is empty, or that contradicts another. Minting and verifying both ask.
    pub(crate) fn contradiction(&self) -> Option<&'static str> {
        let session = &self.session;
        let rules = [
            ("iss", !self.iss.is_empty()),
            ("aud", !self.aud.is_empty()),
            ("jti", !self.jti.is_empty()),
            (
                "account",
                session.account.len() == 12
                    && session.account.bytes().all(|byte| byte.is_ascii_digit()),
            ),
            ("partition", !session.partition.is_empty() && !session.partition.contains(':')),
            ("role_name", is_arn_segment(&session.role_name)),
            ("role_id", is_arn_segment(&session.role_id)),
            ("session_name", is_arn_segment(&session.session_name)),
            ("sub", self.sub == session.arn()),
            ("client_id", self.client_id == session.unique_form()),
            ("scope", self.scope.as_deref().is_none_or(is_scope)),
            ("cnf", self.cnf.as_ref().is_none_or(|cnf| is_sha256(cnf.thumbprint()))),
            ("act", self.act.as_ref().is_none_or(Actor::is_well_formed)),
            ("may_act", self.may_act.as_ref().is_none_or(MayAct::is_well_formed)),
            (
                "narrowings",
                session.narrowings.len() <= MAX_PARENTS
                    && session.narrowings.iter().all(|narrowing| !narrowing.is_empty()),
            ),
            (
                "parents",
                session.parents.len() <= MAX_PARENTS
                    && session.parents.iter().all(|parent| !parent.is_empty()),
            ),
            ("source_identity", session.source_identity.as_deref() != Some("")),
            ("session_tags", differ_by_more_than_case(session.session_tags.keys())),
            (
                "transitive_tag_keys",
                session
                    .transitive_tag_keys
                    .iter()
                    .all(|key| session.session_tags.contains_key(key)),
            ),
            ("proof_type", !session.proof_type.is_empty()),
            (
                "caller",
                !session.caller.account.is_empty()
                    && !session.caller.unique_id.is_empty()
                    && !session.caller.arn.is_empty(),
            ),
            ("revision", is_revision(&session.revision)),
        ];
        rules.into_iter().find(|(_, holds)| !holds).map(|(name, _)| name)
    }
}

impl Session {
    /// `arn:PARTITION:sts::ACCOUNT:assumed-role/ROLE/SESSION`; the role's path is not in it, as with STS.
    pub fn arn(&self) -> String {
        let Session { partition, account, role_name, session_name, .. } = self;
        format!("arn:{partition}:sts::{account}:assumed-role/{role_name}/{session_name}")
    }

    /// `ROLE_ID:SESSION`, what STS calls the assumed role's id.
    pub fn unique_form(&self) -> String {
        format!("{}:{}", self.role_id, self.session_name)
    }
}

/// A fresh token name: 128 random bits, 22 base64url characters.
///
/// # Errors
/// `MintError::Random` if the library has no randomness to give.
pub fn jti() -> Result<String, MintError> {
    let mut bytes = [0; 16];
    rand::fill(&mut bytes).map_err(|_| MintError::Random)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// Nothing that would move the borders between an ARN's parts: two sessions must never share a `sub`.
fn is_arn_segment(text: &str) -> bool {
    !text.is_empty() && !text.contains(['/', ':'])
}

/// RFC 6749 section 3.3: words with single spaces between them.
fn is_scope(text: &str) -> bool {
    text.split(' ').all(|word| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_graphic()))
}

/// A SHA-256 in base64url without padding.
fn is_sha256(text: &str) -> bool {
    text.len() == 43 && URL_SAFE_NO_PAD.decode(text).is_ok_and(|bytes| bytes.len() == 32)
}

fn differ_by_more_than_case<'a>(keys: impl Iterator<Item = &'a String>) -> bool {
    let mut seen = BTreeSet::new();
    keys.into_iter().all(|key| !key.is_empty() && seen.insert(key.to_lowercase()))
}

fn is_revision(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(store_id, number)| {
        !store_id.is_empty()
            && number.bytes().all(|byte| byte.is_ascii_digit())
            && number.parse::<u64>().is_ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    #[test]
    fn contradictions() {
        fn check(change: fn(&mut Claims), expected: Option<&str>) {
            let mut claims = samples::claims();
            change(&mut claims);
            assert_eq!(claims.contradiction(), expected, "{claims:?}");
        }
        check(|_| {}, None);
        check(|c| c.session.source_identity = Some("alice".into()), None);
        check(|c| c.scope = Some("orders:Get* s3:*".into()), None);
        for scope in ["", " ", "a:b ", "a:b  c:d", "a:b\tc:d", "ä:b"] {
            let mut claims = samples::claims();
            claims.scope = Some(scope.to_owned());
            assert_eq!(claims.contradiction(), Some("scope"), "{scope}");
        }
        check(|c| c.cnf = Confirmation::parse(samples::THUMBPRINT), None);
        check(|c| c.cnf = Some(Confirmation::Key("x".into())), Some("cnf"));
        check(|c| c.act = Some(samples::actors(4)), None);
        check(|c| c.act = Some(samples::actors(5)), Some("act"));
        check(|c| c.act = Some(Actor { sub: String::new(), ..samples::actors(1) }), Some("act"));
        check(|c| c.session.narrowings = vec![vec!["{}".into()]; 8], None);
        check(|c| c.session.narrowings = vec![vec!["{}".into()]; 9], Some("narrowings"));
        check(|c| c.session.narrowings = vec![Vec::new()], Some("narrowings"));
        check(|c| c.session.parents = vec!["j".into(); 8], None);
        check(|c| c.session.parents = vec!["j".into(); 9], Some("parents"));
        check(|c| c.session.parents = vec![String::new()], Some("parents"));
        check(|c| drop(c.session.session_tags.insert("Empty".into(), String::new())), None);
        check(|c| c.iss.clear(), Some("iss"));
        check(|c| c.aud.clear(), Some("aud"));
        check(|c| c.jti.clear(), Some("jti"));
        check(|c| c.session.account = "111122223334".into(), Some("sub"));
        check(|c| c.session.account = "11112222333".into(), Some("account"));
        check(|c| c.session.account = "١١١١٢٢٢٢٣٣٣٣".into(), Some("account"));
        check(|c| c.session.partition.clear(), Some("partition"));
        check(|c| c.session.role_name = "a/b".into(), Some("role_name"));
        check(|c| c.session.role_name = "Other".into(), Some("sub"));
        check(|c| c.session.role_id = "AROAOTHER".into(), Some("client_id"));
        check(|c| c.session.role_id = "AROA:x".into(), Some("role_id"));
        check(|c| c.session.session_name = "s/t".into(), Some("session_name"));
        check(|c| c.session.session_name.clear(), Some("session_name"));
        check(|c| c.sub = c.sub.replace("sts", "iam"), Some("sub"));
        check(|c| c.client_id.push('x'), Some("client_id"));
        check(|c| c.session.source_identity = Some(String::new()), Some("source_identity"));
        check(
            |c| drop(c.session.session_tags.insert("TEAM".into(), "x".into())),
            Some("session_tags"),
        );
        check(
            |c| {
                c.session.transitive_tag_keys.insert("Team".into());
            },
            None,
        );
        check(
            |c| {
                c.session.transitive_tag_keys.insert("team".into());
            },
            Some("transitive_tag_keys"),
        );
        check(|c| c.session.proof_type.clear(), Some("proof_type"));
        check(|c| c.session.caller.unique_id.clear(), Some("caller"));
        for revision in ["", "7", ":7", "s:", "s:+7", "s:-7", "s:7x", "s:18446744073709551616"] {
            let mut claims = samples::claims();
            claims.session.revision = revision.to_owned();
            assert_eq!(claims.contradiction(), Some("revision"), "{revision}");
        }
    }

    #[test]
    fn absent_parts_are_not_written() {
        let mut claims = samples::claims();
        claims.session.session_tags.clear();
        claims.session.session_policies.clear();
        claims.session.source_identity = None;
        let text = serde_json::to_string(&claims.session).unwrap();
        for name in ["session_tags", "session_policies", "source_identity"] {
            assert!(!text.contains(name), "{text}");
        }
    }

    #[test]
    fn confirmations() {
        let key = samples::THUMBPRINT;
        let check = |text: &str, expected: Option<&str>| {
            let found = Confirmation::parse(text).map(|cnf| serde_json::to_string(&cnf).unwrap());
            assert_eq!(found.as_deref(), expected, "{text}");
        };
        check(key, Some(&format!(r#"{{"jkt":"{key}"}}"#)));
        check(&format!("x5t#S256:{key}"), Some(&format!(r##"{{"x5t#S256":"{key}"}}"##)));
        for text in ["", "x", "x5t#S256:", &key[1..], &format!("{key}A"), &format!("jkt:{key}")] {
            check(text, None);
        }
        // 43 characters whose last one has bits that no byte has.
        check(&format!("{}{}", &key[..42], 'B'), None);
    }

    #[test]
    fn a_realm_is_written_as_its_name() {
        for realm in [Realm::Countersign, Realm::Aws, Realm::WebIdentity] {
            assert_eq!(serde_json::to_string(&realm).unwrap(), format!("{:?}", realm.as_str()));
        }
    }

    #[test]
    fn every_jti_is_new() {
        let (a, b) = (jti().unwrap(), jti().unwrap());
        assert_ne!(a, b);
        assert_eq!((a.len(), b.len()), (22, 22));
    }
}
