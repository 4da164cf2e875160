//! The proof's outer form: base64url without padding of a JSON object with `method`, `url`, `headers` and `body`. It
//! knows members and the shape of header values, and nothing of what they mean.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use zeroize::Zeroizing;

use super::{MAX_PROOF, ProofError};
use crate::verify::shown;

/// The longest header value: an AWS session token has no stated limit, and other stacks take 8 KiB of headers in all.
const MAX_VALUE: usize = 8 * 1024;

/// The members as they came: each at most once, and no others.
pub(super) struct Envelope {
    pub method: String,
    pub url: Zeroizing<String>,
    headers: Vec<(String, Zeroizing<String>)>,
    pub body: Option<String>,
}

pub(super) fn open(subject_token: &str) -> Result<Envelope, ProofError> {
    if subject_token.len() > MAX_PROOF {
        return Err(ProofError::ProofTooLarge);
    }
    // The engine refuses padding, other alphabets, and bits left over after the last byte.
    let json = URL_SAFE_NO_PAD.decode(subject_token).map_err(|_| ProofError::ProofNotBase64Url)?;
    let json = Zeroizing::new(json);
    let members: Members<Member> =
        serde_json::from_slice(&json).map_err(|_| ProofError::ProofNotJson)?;
    let mut parts = Parts::default();
    for (name, member) in members.0 {
        parts.put(name, member)?;
    }
    Ok(Envelope {
        method: parts.method.ok_or(ProofError::MissingMember("method"))?,
        url: Zeroizing::new(parts.url.ok_or(ProofError::MissingMember("url"))?),
        headers: parts.headers.ok_or(ProofError::MissingMember("headers"))?,
        body: parts.body,
    })
}

impl Envelope {
    /// Refuses any header that is not in `allowed`, by name: names are lower-case or they are other names.
    pub fn allow_headers(&self, allowed: &[&str]) -> Result<(), ProofError> {
        match self.headers.iter().find(|(name, _)| !allowed.contains(&name.as_str())) {
            Some((name, _)) => Err(ProofError::HeaderNotAllowed(shown(name))),
            None => Ok(()),
        }
    }

    /// A header's value, which must survive SigV4's trimming byte for byte (ATTACKS 25).
    pub fn header(&self, name: &'static str) -> Result<Option<&str>, ProofError> {
        let Some((_, value)) = self.headers.iter().find(|(found, _)| found == name) else {
            return Ok(None);
        };
        let printable = value.bytes().all(|byte| matches!(byte, 0x20..=0x7e));
        let untrimmed = value.starts_with(' ') || value.ends_with(' ') || value.contains("  ");
        if value.is_empty() || value.len() > MAX_VALUE || !printable || untrimmed {
            return Err(ProofError::HeaderValueNotAllowed(name));
        }
        Ok(Some(value))
    }
}

/// Members while they are collected.
#[derive(Default)]
struct Parts {
    method: Option<String>,
    url: Option<String>,
    headers: Option<Vec<(String, Zeroizing<String>)>>,
    body: Option<String>,
}

impl Parts {
    fn put(&mut self, name: String, member: Member) -> Result<(), ProofError> {
        let repeated = match (name.as_str(), member) {
            ("method", Member::Text(text)) => self.method.replace(text).is_some(),
            ("url", Member::Text(text)) => self.url.replace(text).is_some(),
            ("body", Member::Text(text)) => self.body.replace(text).is_some(),
            ("headers", Member::Headers(headers)) => {
                self.headers.replace(distinct(headers)?).is_some()
            }
            ("method" | "url" | "body" | "headers", _) => return Err(ProofError::ProofNotJson),
            _ => return Err(ProofError::MemberNotAllowed(shown(&name))),
        };
        if repeated { Err(ProofError::RepeatedMember(name)) } else { Ok(()) }
    }
}

fn distinct(
    headers: Vec<(String, String)>,
) -> Result<Vec<(String, Zeroizing<String>)>, ProofError> {
    let mut kept: Vec<(String, Zeroizing<String>)> = Vec::new();
    for (name, value) in headers {
        if kept.iter().any(|(seen, _)| *seen == name) {
            return Err(ProofError::RepeatedHeader(shown(&name)));
        }
        kept.push((name, Zeroizing::new(value)));
    }
    Ok(kept)
}

/// A member's value: text, or one level of text members. Anything deeper is not a proof.
enum Member {
    Text(String),
    Headers(Vec<(String, String)>),
}

impl<'de> Deserialize<'de> for Member {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MemberVisitor;
        impl<'de> Visitor<'de> for MemberVisitor {
            type Value = Member;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a string, or an object of strings")
            }

            fn visit_str<E>(self, text: &str) -> Result<Member, E> {
                Ok(Member::Text(text.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Member, A::Error> {
                collect(map).map(Member::Headers)
            }
        }
        deserializer.deserialize_any(MemberVisitor)
    }
}

/// A JSON object that keeps repeated members, so that they can be refused.
struct Members<V>(Vec<(String, V)>);

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Members<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MembersVisitor<V>(std::marker::PhantomData<V>);
        impl<'de, V: Deserialize<'de>> Visitor<'de> for MembersVisitor<V> {
            type Value = Members<V>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Members<V>, A::Error> {
                collect(map).map(Members)
            }
        }
        deserializer.deserialize_map(MembersVisitor(std::marker::PhantomData))
    }
}

fn collect<'de, V: Deserialize<'de>, A: MapAccess<'de>>(
    mut map: A,
) -> Result<Vec<(String, V)>, A::Error> {
    let mut members = Vec::new();
    while let Some(member) = map.next_entry()? {
        members.push(member);
    }
    Ok(members)
}
