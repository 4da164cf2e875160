//! `application/x-www-form-urlencoded`, read strictly: each parameter once, none that is not known, none in the URL.

use std::collections::BTreeMap;

use countersign_proto::token::v1::{ExchangeRequest, Tag};

use super::fault::OAuthFault;

/// RFC 8693 section 2.1.
pub const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";

/// Those that may be there several times, once for each value.
const LISTS: [&str; 2] = ["policy_arns", "transitive_tag_keys"];

/// The parameters of a form, by name.
#[derive(Default)]
pub struct Form(BTreeMap<String, Vec<String>>);

impl Form {
    /// Reads a body.
    ///
    /// # Errors
    /// `invalid_request` for what is no form, and for a parameter that is there twice (RFC 6749 section 3.2).
    pub fn parse(body: &[u8]) -> Result<Self, OAuthFault> {
        let malformed = || {
            OAuthFault::invalid_request(
                "the body is no form: `name=value` pairs, joined by `&`, percent-encoded UTF-8",
            )
        };
        let body = std::str::from_utf8(body).map_err(|_| malformed())?;
        let mut form = Self::default();
        for pair in body.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').ok_or_else(malformed)?;
            let (name, value) = (decoded(name), decoded(value));
            let (Some(name), Some(value)) = (name, value) else { return Err(malformed()) };
            let values = form.0.entry(name.clone()).or_default();
            if !values.is_empty() && !LISTS.contains(&name.as_str()) {
                return Err(OAuthFault::invalid_request(format!(
                    "`{}` is there twice",
                    shown(&name)
                )));
            }
            values.push(value);
        }
        Ok(form)
    }

    /// A parameter's one value; empty is as good as none.
    pub fn take(&mut self, name: &str) -> String {
        self.take_all(name).pop().unwrap_or_default()
    }

    fn take_all(&mut self, name: &str) -> Vec<String> {
        self.0.remove(name).unwrap_or_default()
    }

    /// That nothing is left.
    ///
    /// # Errors
    /// `invalid_request` that names a parameter which nothing here reads: it might have narrowed what was asked for.
    pub fn finish(self) -> Result<(), OAuthFault> {
        match self.0.into_keys().next() {
            None => Ok(()),
            Some(name) => Err(OAuthFault::invalid_request(format!(
                "`{}` is not known here; leave it out",
                shown(&name)
            ))),
        }
    }
}

/// The exchange that a form asks for: RFC 8693's parameters, and an `ExchangeRequest`'s other fields under their own names.
///
/// # Errors
/// `unsupported_grant_type`; `invalid_request` for what cannot be read.
pub fn exchange_request(mut form: Form) -> Result<ExchangeRequest, OAuthFault> {
    match form.take("grant_type").as_str() {
        GRANT_TYPE => {}
        "" => return Err(OAuthFault::invalid_request("`grant_type` is missing")),
        _ => return Err(OAuthFault::unsupported_grant_type()),
    }
    let request = ExchangeRequest {
        subject_token: form.take("subject_token"),
        subject_token_type: form.take("subject_token_type"),
        actor_token: form.take("actor_token"),
        actor_token_type: form.take("actor_token_type"),
        role_arn: form.take("role_arn"),
        role_session_name: form.take("role_session_name"),
        audience: form.take("audience"),
        scope: form.take("scope"),
        duration_seconds: integer("duration_seconds", &form.take("duration_seconds"))?,
        policy: form.take("policy"),
        policy_arns: form.take_all("policy_arns"),
        tags: tags(&form.take("tags"))?,
        transitive_tag_keys: form.take_all("transitive_tag_keys"),
        external_id: form.take("external_id"),
        source_identity: form.take("source_identity"),
        requested_token_type: form.take("requested_token_type"),
        client_key_thumbprint: form.take("client_key_thumbprint"),
        may_act: form.take("may_act"),
    };
    form.finish()?;
    Ok(request)
}

fn integer(name: &str, text: &str) -> Result<i32, OAuthFault> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let is_plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    match (text.is_empty(), is_plain.then(|| text.parse().ok()).flatten()) {
        (true, _) => Ok(0),
        (false, Some(number)) => Ok(number),
        (false, None) => {
            Err(OAuthFault::invalid_request(format!("`{name}` must be a whole number")))
        }
    }
}

/// A JSON list, as the binding has them: `[{"key":"Team","value":"blue"}]`.
fn tags(text: &str) -> Result<Vec<Tag>, OAuthFault> {
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Pair {
        key: String,
        value: String,
    }
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let pairs: Vec<Pair> = serde_json::from_str(text).map_err(|_| {
        OAuthFault::invalid_request(r#"`tags` must be JSON such as `[{"key":"Team","value":"a"}]`"#)
    })?;
    Ok(pairs.into_iter().map(|Pair { key, value }| Tag { key, value }).collect())
}

/// None for a broken escape, and for what is no UTF-8.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'+' => b' ',
            b'%' => hex(bytes.next()?)? * 16 + hex(bytes.next()?)?,
            plain => plain,
        });
    }
    String::from_utf8(out).ok()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

fn shown(text: &str) -> String {
    text.chars().filter(char::is_ascii_graphic).take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<ExchangeRequest, String> {
        Form::parse(body.as_bytes())
            .and_then(exchange_request)
            .map_err(|fault| format!("{}: {}", fault.error, fault.description))
    }

    fn form(rest: &str) -> String {
        format!("grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange{rest}")
    }

    #[test]
    fn forms() {
        fn check(rest: &str, expected: ExchangeRequest) {
            assert_eq!(read(&form(rest)), Ok(expected), "{rest}");
        }
        let none = ExchangeRequest::default;
        check("", none());
        check("&scope=a+b%2Bc", ExchangeRequest { scope: "a b+c".into(), ..none() });
        check(
            "&scope=a%20b%2bc&source_identity=",
            ExchangeRequest { scope: "a b+c".into(), ..none() },
        );
        check("&duration_seconds=900", ExchangeRequest { duration_seconds: 900, ..none() });
        check("&duration_seconds=-1", ExchangeRequest { duration_seconds: -1, ..none() });
        check(
            "&policy_arns=a&policy_arns=b&transitive_tag_keys=k",
            ExchangeRequest {
                policy_arns: vec!["a".into(), "b".into()],
                transitive_tag_keys: vec!["k".into()],
                ..none()
            },
        );
        check(
            "&tags=%5B%7B%22key%22%3A%22Team%22%2C%22value%22%3A%22%C3%B6%22%7D%5D",
            ExchangeRequest {
                tags: vec![Tag { key: "Team".into(), value: "ö".into() }], ..none()
            },
        );
    }

    #[test]
    fn what_is_no_request() {
        fn check(body: &str, expected: &str) {
            let refused = read(body).unwrap_err();
            assert!(refused.starts_with(expected), "{body}: {refused}");
        }
        check("", "invalid_request: `grant_type` is missing");
        check("grant_type=password", "unsupported_grant_type:");
        check("grant_type=a&grant_type=b", "invalid_request: `grant_type` is there twice");
        check(&form("&audience=a&audience=b"), "invalid_request: `audience` is there twice");
        check(&form("&tags=[]&tags=[]"), "invalid_request: `tags` is there twice");
        check(&form("&resource=x"), "invalid_request: `resource` is not known here");
        check(&form("&Scope=x"), "invalid_request: `Scope` is not known here");
        check(&form("&scope"), "invalid_request: the body is no form");
        check(&form("&scope=%zz"), "invalid_request: the body is no form");
        check(&form("&scope=%2"), "invalid_request: the body is no form");
        check(&form("&scope=%ff"), "invalid_request: the body is no form");
        check("{\"a\":1}", "invalid_request: the body is no form");
        for number in ["x", "1.5", "+1", "--1", "-", "99999999999", "1e3", " 1"] {
            check(
                &form(&format!("&duration_seconds={}", number.replace('+', "%2B"))),
                "invalid_request: `duration_seconds` must be",
            );
        }
        for tags in ["x", "{}", "[{}]", r#"[{"key":"k","value":"v","more":1}]"#, r#"[["k","v"]]x"#]
        {
            check(&form(&format!("&tags={tags}")), "invalid_request: `tags` must be JSON");
        }
    }
}
