//! The mapping file: which HTTP request is which action on which resource. TOML; each rule is a method, a host and a path template.
//!
//! ```toml
//! # The audience that bearer tokens must be for: this service's own name.
//! audience = "orders"
//!
//! [[rule]]
//! method = "GET"
//! path = "/orders/{id}"
//! action = "orders:GetOrder"
//! resource = "arn:aws:orders:eu-west-1:111122223333:order/{id}"
//! ```
//!
//! The first rule that fits decides; a request that fits none is denied. Whoever sends a request chooses what stands in its path, so
//! captured names may fill in an ARN's last part alone, and never an action.

use std::{collections::BTreeMap, ops::Range, path::Path};

use countersign_policy::{action::Action, arn::Arn};
use serde::Deserialize;
use toml::Spanned;

use super::path::{Captures, Segments, Template, is_name};
use crate::convert;

/// A mapping file, read.
#[derive(Clone, Debug)]
pub struct Mapping {
    /// The audience that bearer tokens must be for.
    pub audience: String,
    rules: Vec<Rule>,
    spiffe: BTreeMap<String, String>,
}

#[derive(Clone, Debug)]
struct Rule {
    methods: Vec<String>,
    host: Option<String>,
    path: Template,
    action: String,
    resource: Text,
    resource_account: String,
    context: Vec<(String, Text)>,
}

/// What a rule makes of a request.
#[derive(Debug, PartialEq, Eq)]
pub struct Mapped {
    /// `service:Action`.
    pub action: String,
    /// An ARN.
    pub resource: String,
    /// May be empty.
    pub resource_account: String,
    /// Condition keys.
    pub context: BTreeMap<String, String>,
}

/// A mapping file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MappingError {
    /// It cannot be read.
    #[error("{path}: {error}")]
    Unreadable {
        /// The file.
        path: String,
        /// Why not.
        error: std::io::Error,
    },
    /// It is wrong.
    #[error("{path}:{line}: {message}")]
    Wrong {
        /// The file.
        path: String,
        /// From 1.
        line: usize,
        /// What is wrong, and what to write.
        message: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    audience: Spanned<String>,
    #[serde(default)]
    rule: Vec<Spanned<RuleTable>>,
    /// SPIFFE ids and the principals that they stand for.
    #[serde(default)]
    spiffe: BTreeMap<Spanned<String>, Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleTable {
    method: Option<Spanned<OneOrMore>>,
    host: Option<Spanned<String>>,
    path: Spanned<String>,
    action: Spanned<String>,
    resource: Spanned<String>,
    resource_account: Option<Spanned<String>>,
    #[serde(default)]
    context: BTreeMap<Spanned<String>, Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

/// What is wrong, and where in the file.
struct Fault {
    span: Range<usize>,
    message: String,
}

fn at<T>(spanned: &Spanned<T>, message: impl Into<String>) -> Fault {
    Fault { span: spanned.span(), message: message.into() }
}

impl Mapping {
    /// Reads a file.
    ///
    /// # Errors
    /// [`MappingError`], with the line.
    pub fn read(path: &Path) -> Result<Self, MappingError> {
        let shown = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|error| MappingError::Unreadable { path: shown.clone(), error })?;
        Self::parse(&text).map_err(|Fault { span, message }| {
            let before = text.get(..span.start).unwrap_or(&text);
            let line = 1 + before.matches('\n').count();
            MappingError::Wrong { path: shown, line, message }
        })
    }

    fn parse(text: &str) -> Result<Self, Fault> {
        let file: File = toml::from_str(text).map_err(|error| Fault {
            span: error.span().unwrap_or(0..0),
            message: error.message().to_owned(),
        })?;
        let File { audience, rule, spiffe } = file;
        if audience.get_ref().is_empty() {
            return Err(at(&audience, "audience: empty; name the service that tokens must be for"));
        }
        if rule.is_empty() {
            let message = "there is no [[rule]]: every request would be denied";
            return Err(Fault { span: 0..0, message: message.to_owned() });
        }
        let rules = rule.into_iter().map(|table| self::rule(table.into_inner()));
        let mut principals = BTreeMap::new();
        for (id, arn) in spiffe {
            if !id.get_ref().starts_with("spiffe://") {
                let message = format!("spiffe: `{}` does not begin with `spiffe://`", id.get_ref());
                return Err(at(&id, message));
            }
            convert::principal(arn.get_ref())
                .map_err(|error| at(&arn, format!("spiffe: {error}")))?;
            principals.insert(id.into_inner(), arn.into_inner());
        }
        Ok(Self {
            audience: audience.into_inner(),
            rules: rules.collect::<Result<_, _>>()?,
            spiffe: principals,
        })
    }

    /// What the first rule that fits makes of a request; `None` where none fits.
    pub fn map(
        &self,
        method: &str,
        host: &str,
        path: &Segments,
        header: impl Fn(&str) -> Option<String>,
    ) -> Option<Mapped> {
        let host = host.split_once(':').map_or(host, |(host, _)| host).to_ascii_lowercase();
        self.rules.iter().find_map(|rule| {
            let fits = rule.methods.iter().any(|one| one == method)
                && rule.host.as_ref().is_none_or(|wanted| is_host(wanted, &host));
            let captures = fits.then(|| rule.path.captures(path))??;
            let fill = |text: &Text| text.fill(&captures, &header);
            // A header that a key is made of and that was not sent leaves the key out: what is not known is not asserted.
            let context = rule
                .context
                .iter()
                .filter_map(|(key, text)| Some((key.clone(), fill(text)?)))
                .collect();
            Some(Mapped {
                action: rule.action.clone(),
                resource: fill(&rule.resource)?,
                resource_account: rule.resource_account.clone(),
                context,
            })
        })
    }

    /// The principal that a SPIFFE id stands for.
    pub fn spiffe(&self, id: &str) -> Option<&str> {
        self.spiffe.get(id).map(String::as_str)
    }
}

/// `*.example.com` is any name under it.
fn is_host(wanted: &str, host: &str) -> bool {
    match wanted.strip_prefix("*.") {
        None => wanted == host,
        Some(domain) => host.strip_suffix(domain).is_some_and(|name| {
            name.strip_suffix('.').is_some_and(|name| !name.is_empty() && !name.ends_with('.'))
        }),
    }
}

fn rule(table: RuleTable) -> Result<Rule, Fault> {
    let RuleTable { method, host, path, action, resource, resource_account, context } = table;
    let methods = method.ok_or_else(|| at(&path, "method: missing; such as \"GET\""))?;
    let span = methods.span();
    let methods = match methods.into_inner() {
        OneOrMore::One(method) => vec![method],
        OneOrMore::More(methods) => methods,
    };
    if methods.is_empty() || methods.iter().any(|one| !is_method(one)) {
        let message = "method: upper-case names such as \"GET\" or [\"GET\", \"HEAD\"]".to_owned();
        return Err(Fault { span, message });
    }
    let template =
        Template::parse(path.get_ref()).map_err(|error| at(&path, format!("path: {error}")))?;
    let host = host.map(|host| checked_host(&host)).transpose()?;
    action.get_ref().parse::<Action>().map_err(|error| at(&action, format!("action: {error}")))?;
    if action.get_ref().contains(['*', '?', '{']) {
        return Err(at(&action, "action: one action, without wildcards and names"));
    }
    let names: Vec<&str> = template.names().collect();
    let arn = Text::parse(&resource, "resource", &names)?;
    // The parts before the resource are the author's to say, not the request's.
    let head: Vec<&str> = resource.get_ref().splitn(6, ':').collect();
    if head.iter().take(5).any(|part| part.contains('{')) {
        let message = "resource: names may stand in an ARN's last part alone: whoever sends the request chooses them";
        return Err(at(&resource, message));
    }
    if resource.get_ref() != "*" {
        let sample = resource.get_ref().replace(['{', '}'], "");
        sample.parse::<Arn>().map_err(|error| at(&resource, format!("resource: {error}")))?;
    }
    let account = resource_account.as_ref().map_or("", |account| account.get_ref().as_str());
    let sample = resource.get_ref().replace(['{', '}'], "");
    if let Err(error) = convert::question_of(action.get_ref(), &sample, account) {
        let place = resource_account.as_ref().unwrap_or(&resource);
        return Err(at(place, error.to_string()));
    }
    let mut keys = Vec::new();
    for (key, value) in context {
        convert::assertable(key.get_ref()).map_err(|error| at(&key, error.to_string()))?;
        let text = Text::parse(&value, key.get_ref(), &names)?;
        keys.push((key.into_inner(), text));
    }
    Ok(Rule {
        methods,
        host,
        path: template,
        action: action.into_inner(),
        resource: arn,
        resource_account: account.to_owned(),
        context: keys,
    })
}

fn is_method(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-')
}

fn checked_host(host: &Spanned<String>) -> Result<String, Fault> {
    let name = host.get_ref().strip_prefix("*.").unwrap_or(host.get_ref());
    let sound =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
    if name.is_empty() || !name.bytes().all(sound) {
        let message = "host: a lower-case name without a port, or `*.` and one";
        return Err(at(host, message));
    }
    Ok(host.get_ref().clone())
}

/// A text with names in braces: of the path, or `{header:x-tenant}`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Text(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Literal(String),
    Captured(String),
    Header(String),
}

impl Text {
    fn parse(text: &Spanned<String>, field: &str, names: &[&str]) -> Result<Self, Fault> {
        let mut pieces = Vec::new();
        let mut rest = text.get_ref().as_str();
        while let Some((before, after)) = rest.split_once('{') {
            let (name, tail) = after
                .split_once('}')
                .ok_or_else(|| at(text, format!("{field}: `{{` without `}}`")))?;
            if !before.is_empty() {
                pieces.push(Piece::Literal(before.to_owned()));
            }
            pieces.push(match name.strip_prefix("header:") {
                Some(header) if is_header(header) && field != "resource" => {
                    Piece::Header(header.to_owned())
                }
                Some(_) => {
                    let message = format!(
                        "{field}: `{{{name}}}`: a lower-case header name, and in a context value alone"
                    );
                    return Err(at(text, message));
                }
                None if is_name(name) && names.contains(&name) => Piece::Captured(name.to_owned()),
                None => {
                    let message = format!("{field}: `{{{name}}}` is not in the path");
                    return Err(at(text, message));
                }
            });
            rest = tail;
        }
        if rest.contains('}') {
            return Err(at(text, format!("{field}: `}}` without `{{`")));
        }
        if !rest.is_empty() {
            pieces.push(Piece::Literal(rest.to_owned()));
        }
        Ok(Self(pieces))
    }

    fn fill(
        &self,
        captures: &Captures,
        header: &impl Fn(&str) -> Option<String>,
    ) -> Option<String> {
        let mut text = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Literal(literal) => text.push_str(literal),
                Piece::Captured(name) => text.push_str(captures.get(name)?),
                Piece::Header(name) => text.push_str(&header(name)?),
            }
        }
        Some(text)
    }
}

fn is_header(text: &str) -> bool {
    let sound = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !text.is_empty() && text.bytes().all(sound)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: &str = r#"audience = "orders"
[[rule]]
method = "GET"
path = "/orders/{id}"
action = "orders:GetOrder"
resource = "arn:aws:orders:eu-west-1:111122223333:order/{id}"
"#;

    fn map(mapping: &Mapping, method: &str, host: &str, path: &str) -> Option<Mapped> {
        let header = |name: &str| (name == "x-tenant").then(|| "acme".to_owned());
        mapping.map(method, host, &Segments::of(path).unwrap(), header)
    }

    #[test]
    fn the_first_rule_that_fits_decides() {
        let text = RULE.to_owned()
            + r#"
[[rule]]
method = ["PUT", "PATCH"]
host = "*.example.com"
path = "/orders/{id}"
action = "orders:UpdateOrder"
resource = "arn:aws:orders:eu-west-1:111122223333:order/{id}"
[rule.context]
"orders:Tenant" = "t-{header:x-tenant}"
"orders:Trace" = "{header:x-trace}"
"orders:Kind" = "order {id}"

[[rule]]
method = "GET"
path = "/{all=**}"
action = "orders:Browse"
resource = "*"
"#;
        let mapping = Mapping::parse(&text).map_err(|fault| fault.message).unwrap();
        let found = map(&mapping, "GET", "anything:8080", "/orders/7").unwrap();
        assert_eq!(found.action, "orders:GetOrder");
        assert_eq!(found.resource, "arn:aws:orders:eu-west-1:111122223333:order/7");
        let found = map(&mapping, "PATCH", "Shop.Example.com:443", "/orders/7").unwrap();
        assert_eq!(found.action, "orders:UpdateOrder");
        let context: Vec<_> = found.context.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(context, [("orders:Kind", "order 7"), ("orders:Tenant", "t-acme")]);
        for host in ["example.com", "evil-example.com", "shop.example.com.evil.org", ".example.com"]
        {
            assert_eq!(map(&mapping, "PUT", host, "/orders/7"), None, "{host}");
        }
        assert_eq!(map(&mapping, "GET", "x", "/orders/7/8").unwrap().action, "orders:Browse");
        assert_eq!(map(&mapping, "DELETE", "x", "/orders/7"), None);
        assert_eq!(map(&mapping, "get", "x", "/orders/7"), None);
    }

    #[test]
    fn errors_name_the_line() {
        fn check(change: (&str, &str), line: usize, said: &str) {
            let text = RULE.replace(change.0, change.1);
            assert_ne!(text, RULE, "{change:?}");
            let fault = Mapping::parse(&text).unwrap_err();
            let found = 1 + text[..fault.span.start].matches('\n').count();
            assert_eq!(found, line, "{change:?}: {}", fault.message);
            assert!(fault.message.contains(said), "{change:?}: {}", fault.message);
        }
        check(("\"orders\"", "\"\""), 1, "audience");
        check(("[[rule]]", "[[rules]]"), 2, "rules");
        check(("\"GET\"", "\"get\""), 3, "method");
        check(("\"GET\"", "[]"), 3, "method");
        check(("\"GET\"", "7"), 3, "");
        check(("/orders/{id}\"\n", "orders/{id}\"\n"), 4, "path");
        check(("/orders/{id}\"\n", "/orders/{id}/../x\"\n"), 4, "path");
        check(("orders:GetOrder", "GetOrder"), 5, "action");
        check(("orders:GetOrder", "orders:*"), 5, "action");
        check(("order/{id}", "order/{name}"), 6, "`{name}` is not in the path");
        check(("order/{id}", "order/{header:x}"), 6, "context value alone");
        check(("order/{id}", "order/{id"), 6, "without");
        check(("111122223333", "{id}"), 6, "last part alone");
        check(("arn:aws:orders", "orders"), 6, "resource");
        check((":111122223333:", "::"), 6, "resource_account");
        check(("arn:aws:", "arn:aws-cn:"), 6, "partition");
        check(("method = ", "colour = 1\nmethod = "), 3, "colour");
        let forged = RULE.to_owned() + "[rule.context]\n\"aws:PrincipalArn\" = \"x\"\n";
        let fault = Mapping::parse(&forged).unwrap_err();
        assert!(fault.message.contains("aws:PrincipalArn"), "{}", fault.message);
        let spiffe = RULE.to_owned() + "[spiffe]\n\"x\" = \"arn:aws:iam::111122223333:role/R\"\n";
        assert!(Mapping::parse(&spiffe).unwrap_err().message.contains("spiffe://"));
    }
}
