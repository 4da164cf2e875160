//! The issuers of web identities that an operator has configured: whose tokens are believed, for which audience, by which keys.
//!
//! Nothing of a token ever adds to them, and nothing of it leads to a fetch: an issuer that is not listed here is nobody.

use std::{
    fmt,
    net::IpAddr,
    path::{Path, PathBuf},
};

use countersign_policy::{arn::AccountId, provider::OidcProvider};
use countersign_sigv4::{Url, url::Scheme};
use countersign_token::jwt::{IssuerKind, IssuerRules, Jwks, JwtAlgorithm, KeySetError};
use serde::Deserialize;

use crate::endpoints::Network;

/// An hour: what AWS STS and a projected service account token give at most by themselves.
const DEFAULT_LIFETIME: i64 = 3600;
/// The longest that an operator may allow: a token that is good for days is a password.
const MAX_LIFETIME: i64 = 43_200;
const MAX_ISSUERS: usize = 200;
/// EKS writes it into tokens that are for AWS.
const AUDIENCE_OF_AWS: &str = "sts.amazonaws.com";

/// What `--jwt-issuers` says, checked.
#[derive(Clone, Debug, Default)]
pub struct JwtIssuers(pub(super) Vec<Configured>);

/// One issuer.
#[derive(Clone, Debug)]
pub(super) struct Configured {
    /// The audience is empty where it is to be the gateway's own name.
    pub rules: IssuerRules,
    pub algorithms: Vec<JwtAlgorithm>,
    pub network: Network,
    /// Its keys, when a file has them; else they are asked for.
    pub keys: Option<Jwks>,
}

/// Why a file of issuers is refused.
#[derive(Debug, thiserror::Error)]
pub enum IssuersError {
    /// It cannot be read.
    #[error("the issuers' file `{path}` cannot be read: {error}")]
    Read {
        /// Which.
        path: String,
        /// Why.
        error: std::io::Error,
    },
    /// It is not of the form; the text says at which line, and what was expected.
    #[error("the issuers' file `{path}` is malformed: {message}")]
    Form {
        /// Which.
        path: String,
        /// The parser's words.
        message: String,
    },
    /// A field is wrong.
    #[error("the issuers' file `{path}`, issuer {number} (`{url}`): `{field}` {message}")]
    Field {
        /// Which file.
        path: String,
        /// Which issuer, from 1.
        number: usize,
        /// Its URL.
        url: String,
        /// Which field.
        field: &'static str,
        /// What it must be.
        message: String,
    },
    /// Too many.
    #[error("the issuers' file `{0}` lists more than {MAX_ISSUERS} issuers")]
    TooMany(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    issuer: Vec<Row>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    url: String,
    kind: Kind,
    account: Option<String>,
    audience: Option<String>,
    algorithms: Option<Vec<String>>,
    max_lifetime_seconds: Option<i64>,
    jwks_file: Option<PathBuf>,
    requires_jti: Option<bool>,
    private_network: Option<bool>,
}

#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    AwsSts,
    Eks,
    Oidc,
}

/// What is wrong with a field: its name, and what it must be.
struct Wrong(&'static str, String);

impl JwtIssuers {
    /// Reads a TOML file, or a JSON one if its name ends so. Files of keys that it names are relative to it. `partition` is the one that
    /// AWS's accounts are of.
    ///
    /// # Errors
    /// See [`IssuersError`].
    pub fn read(path: &Path, partition: &str) -> Result<Self, IssuersError> {
        let shown = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|error| IssuersError::Read { path: shown.clone(), error })?;
        let is_json = path.extension().is_some_and(|extension| extension == "json");
        let parsed: Result<File, String> = if is_json {
            serde_json::from_str(&text).map_err(|error| error.to_string())
        } else {
            toml::from_str(&text).map_err(|error| error.to_string())
        };
        let file = parsed.map_err(|message| IssuersError::Form { path: shown.clone(), message })?;
        if file.issuer.len() > MAX_ISSUERS {
            return Err(IssuersError::TooMany(shown));
        }
        let folder = path.parent().unwrap_or(Path::new("."));
        let mut issuers: Vec<Configured> = Vec::new();
        for (number, row) in (1..).zip(file.issuer) {
            let url = row.url.clone();
            let wrong = |Wrong(field, message): Wrong| IssuersError::Field {
                path: shown.clone(),
                number,
                url: url.clone(),
                field,
                message,
            };
            if issuers.iter().any(|other| other.rules.issuer == row.url) {
                return Err(wrong(Wrong("url", "is listed twice".to_owned())));
            }
            issuers.push(configured(row, folder, partition).map_err(wrong)?);
        }
        Ok(Self(issuers))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn configured(row: Row, folder: &Path, partition: &str) -> Result<Configured, Wrong> {
    let Row {
        url,
        kind,
        account,
        audience,
        algorithms,
        max_lifetime_seconds,
        jwks_file,
        requires_jti,
        private_network,
    } = row;
    let network = place(&url, private_network.unwrap_or(false))?;
    let issuer_kind = issuer_kind(kind, &url, network, account, partition)?;
    let algorithms = algorithms_of(kind, algorithms)?;
    let max_lifetime = max_lifetime_seconds.unwrap_or(DEFAULT_LIFETIME);
    if !(1..=MAX_LIFETIME).contains(&max_lifetime) {
        let message = format!("must be 1 to {MAX_LIFETIME}");
        return Err(Wrong("max_lifetime_seconds", message));
    }
    if audience.as_deref() == Some(AUDIENCE_OF_AWS) {
        let message = "must not be AWS's own: such a token is good at AWS too, and whoever gets it here could use it there";
        return Err(Wrong("audience", message.to_owned()));
    }
    if audience.as_deref() == Some("") {
        return Err(Wrong(
            "audience",
            "must not be empty; leave it out for the gateway's own name".to_owned(),
        ));
    }
    let keys = jwks_file.map(|file| keys(&folder.join(file), &algorithms)).transpose()?;
    let rules = IssuerRules {
        issuer: url,
        kind: issuer_kind,
        audience: audience.unwrap_or_default(),
        max_lifetime,
        requires_jti: requires_jti.unwrap_or(true),
    };
    Ok(Configured { rules, algorithms, network, keys })
}

/// Where it may be. Clear text is for loopback alone, and addresses for those who say so (ATTACKS 66).
fn place(text: &str, private_network: bool) -> Result<Network, Wrong> {
    let wrong = |message: &str| Wrong("url", message.to_owned());
    let url = Url::parse(text).map_err(|error| Wrong("url", format!("is refused: {error}")))?;
    if url.query().is_some() {
        return Err(wrong("must have no query"));
    }
    if !OidcProvider::is_provider(text.split_once("://").map_or("", |(_, provider)| provider)) {
        return Err(wrong("must be at most 255 letters, digits and `-_.~:/` after its scheme"));
    }
    let address = url.host().trim_matches(['[', ']']).parse::<IpAddr>().ok();
    match (url.scheme(), address, private_network) {
        (Scheme::Https, None, false) => Ok(Network::Public),
        (Scheme::Https, _, true) => Ok(Network::Operator),
        (Scheme::Https, Some(_), false) => {
            Err(wrong("must have a name and no address, unless `private_network` is true"))
        }
        (Scheme::Http, Some(address), true) if address.is_loopback() => Ok(Network::Operator),
        (Scheme::Http, _, _) => Err(wrong(
            "must be https; http is for a loopback address alone, with `private_network = true`",
        )),
    }
}

fn issuer_kind(
    kind: Kind,
    url: &str,
    network: Network,
    account: Option<String>,
    partition: &str,
) -> Result<IssuerKind, Wrong> {
    match (kind, account) {
        (Kind::AwsSts, Some(account)) => {
            let account: AccountId =
                account.parse().map_err(|_| Wrong("account", "must be 12 digits".to_owned()))?;
            if network == Network::Public && !is_aws_sts(url) {
                let message = "must be `https://<id>.tokens.sts.global.api.aws`, as `aws iam get-outbound-web-identity-federation-info` prints it";
                return Err(Wrong("url", message.to_owned()));
            }
            Ok(IssuerKind::AwsSts { account: account.to_string(), partition: partition.to_owned() })
        }
        (Kind::AwsSts, None) => {
            let message = "is missing: an issuer of AWS STS speaks for one account alone";
            Err(Wrong("account", message.to_owned()))
        }
        (Kind::Eks | Kind::Oidc, Some(_)) => {
            Err(Wrong("account", "is for the kind `aws-sts` alone".to_owned()))
        }
        (Kind::Eks, None) => Ok(IssuerKind::Eks),
        // Its tokens would be read without what pins them to their account.
        (Kind::Oidc, None) if is_aws_sts(url) => {
            Err(Wrong("kind", "must be `aws-sts` for an issuer of AWS STS".to_owned()))
        }
        (Kind::Oidc, None) => Ok(IssuerKind::Oidc),
    }
}

/// <https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_providers_outbound_getting_started.html>
fn is_aws_sts(url: &str) -> bool {
    let id = url
        .strip_prefix("https://")
        .and_then(|host| host.strip_suffix(".tokens.sts.global.api.aws"));
    id.is_some_and(|id| {
        !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    })
}

/// AWS STS signs with ES384 or RS256, as the caller asks; EKS with RS256.
fn algorithms_of(kind: Kind, names: Option<Vec<String>>) -> Result<Vec<JwtAlgorithm>, Wrong> {
    let Some(names) = names else {
        return Ok(match kind {
            Kind::AwsSts => vec![JwtAlgorithm::Es384, JwtAlgorithm::Rs256],
            Kind::Eks => vec![JwtAlgorithm::Rs256],
            Kind::Oidc => JwtAlgorithm::ALL.to_vec(),
        });
    };
    let all = JwtAlgorithm::ALL.map(JwtAlgorithm::as_str).join("`, `");
    if names.is_empty() {
        return Err(Wrong("algorithms", format!("must name at least one of `{all}`")));
    }
    names
        .iter()
        .map(|name| {
            JwtAlgorithm::from_name(name)
                .ok_or_else(|| Wrong("algorithms", format!("has `{name}`; there are `{all}`")))
        })
        .collect()
}

fn keys(file: &Path, algorithms: &[JwtAlgorithm]) -> Result<Jwks, Wrong> {
    let wrong = |error: &dyn fmt::Display| {
        Wrong("jwks_file", format!("`{}` cannot be used: {error}", file.display()))
    };
    let text = std::fs::read(file).map_err(|error| wrong(&error))?;
    Jwks::parse(&text, algorithms).map_err(|error: KeySetError| wrong(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    const AWS: &str = "https://11111111-2222-3333-4444-555555555555.tokens.sts.global.api.aws";
    const EKS: &str =
        "https://oidc.eks.eu-west-1.amazonaws.com/id/EXAMPLED539D4633E53DE1B71EXAMPLE";

    fn read(text: &str, name: &str) -> Result<JwtIssuers, String> {
        let folder = std::env::temp_dir().join(format!(
            "countersign-issuers-{}-{:?}",
            std::process::id(),
            std::thread::current().id()
        ));
        std::fs::create_dir_all(&folder).unwrap();
        let jwks = r#"{"keys":[{"kty":"EC","crv":"P-256","kid":"k","use":"sig","alg":"ES256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}"#;
        std::fs::write(folder.join("keys.json"), jwks).unwrap();
        std::fs::write(folder.join(name), text).unwrap();
        let found = JwtIssuers::read(&folder.join(name), "aws");
        std::fs::remove_dir_all(&folder).unwrap();
        found.map_err(|error| error.to_string())
    }

    fn check(text: &str, expected: Result<usize, &str>) {
        match (read(text, "issuers.toml"), expected) {
            (Ok(found), expected) => assert_eq!(Ok(found.len()), expected, "{text}"),
            (Err(error), Err(part)) => assert!(error.contains(part), "{error} {part}"),
            (Err(error), Ok(_)) => panic!("{error}"),
        }
    }

    fn row(url: &str, kind: &str, more: &str) -> String {
        format!("[[issuer]]\nurl = \"{url}\"\nkind = \"{kind}\"\n{more}\n")
    }

    // ATTACKS 65, 66, 68.
    #[test]
    fn files() {
        let account = "account = \"123456789012\"";
        check("", Ok(0));
        check(&row(AWS, "aws-sts", account), Ok(1));
        check(&(row(AWS, "aws-sts", account) + &row(EKS, "eks", "")), Ok(2));
        check(&row("https://token.actions.githubusercontent.com", "oidc", ""), Ok(1));
        check(&row("https://tenant.auth0.com/", "oidc", "algorithms = [\"RS256\"]"), Ok(1));
        check(
            &row("http://127.0.0.1:7000", "aws-sts", &format!("{account}\nprivate_network = true")),
            Ok(1),
        );
        check(&row("https://idp.internal", "oidc", "private_network = true"), Ok(1));
        check(&row("https://idp.example.com", "oidc", "jwks_file = \"keys.json\""), Ok(1));

        check("[[issuers]]", Err("unknown field `issuers`"));
        check("x", Err("line 1"));
        check(&row(EKS, "eks", "colour = 1"), Err("unknown field `colour`"));
        check(&row(EKS, "ecs", ""), Err("unknown variant `ecs`"));
        check("[[issuer]]\nkind = \"eks\"", Err("missing field `url`"));
        check(
            &(row(EKS, "eks", "") + &row(EKS, "eks", "")),
            Err(
                "issuer 2 (`https://oidc.eks.eu-west-1.amazonaws.com/id/EXAMPLED539D4633E53DE1B71EXAMPLE`): `url` is listed twice",
            ),
        );
        check(&row(AWS, "aws-sts", ""), Err("`account` is missing"));
        check(&row(AWS, "oidc", ""), Err("`kind` must be `aws-sts`"));
        check(&row(AWS, "aws-sts", "account = \"1\""), Err("`account` must be 12 digits"));
        check(&row(EKS, "eks", account), Err("`account` is for the kind"));
        check(
            &row(&AWS.replace("global.api.aws", "global.api.aws.evil.com"), "aws-sts", account),
            Err("`url` must be"),
        );
        check(
            &row("https://evil.com/.tokens.sts.global.api.aws", "aws-sts", account),
            Err("`url` must be"),
        );
        check(&row("http://idp.example.com", "oidc", ""), Err("must be https"));
        check(
            &row("http://169.254.169.254", "oidc", "private_network = true"),
            Err("must be https"),
        );
        check(&row("http://127.0.0.1:7000", "oidc", ""), Err("must be https"));
        check(&row("https://169.254.169.254", "oidc", ""), Err("must have a name"));
        check(&row("https://[fd00:ec2::254]", "oidc", ""), Err("`url`"));
        check(&row("https://me@idp.example.com", "oidc", ""), Err("`url` is refused"));
        check(&row("https://idp.example.com?x=1", "oidc", ""), Err("must have no query"));
        check(&row("ftp://idp.example.com", "oidc", ""), Err("`url` is refused"));
        check(&row(EKS, "eks", "audience = \"sts.amazonaws.com\""), Err("must not be AWS's own"));
        check(&row(EKS, "eks", "audience = \"\""), Err("must not be empty"));
        check(&row(EKS, "eks", "algorithms = []"), Err("at least one"));
        check(&row(EKS, "eks", "algorithms = [\"HS256\"]"), Err("has `HS256`"));
        check(&row(EKS, "eks", "algorithms = [\"none\"]"), Err("has `none`"));
        check(&row(EKS, "eks", "max_lifetime_seconds = 43201"), Err("must be 1 to 43200"));
        check(&row(EKS, "eks", "max_lifetime_seconds = 0"), Err("must be 1 to 43200"));
        check(&row(EKS, "eks", "jwks_file = \"absent.json\""), Err("`jwks_file`"));
        check(&row(EKS, "eks", "jwks_file = \"keys.json\""), Err("no key that signs with RS256"));
    }

    #[test]
    fn json_says_the_same() {
        let text = format!(r#"{{"issuer":[{{"url":"{EKS}","kind":"eks"}}]}}"#);
        assert_eq!(read(&text, "issuers.json").unwrap().len(), 1);
        assert!(read("{\n\"issuer\": 1}", "issuers.json").unwrap_err().contains("line 2"));
    }
}
