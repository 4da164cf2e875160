//! OIDC providers, as trust policies name them: `arn:aws:iam::<account>:oidc-provider/<provider>`, where the provider is its issuer's URL
//! without the scheme.
//!
//! Declines to know which issuers there are.
//! Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_principal.html#principal-federated-web-identity>

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::arn::AccountId;

/// IAM's limit to a provider's URL.
const MAX_PROVIDER: usize = 255;

/// The ARN of an OIDC provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OidcProvider {
    pub partition: String,
    pub account: AccountId,
    /// Such as `oidc.eks.eu-west-1.amazonaws.com/id/EXAMPLE`: what the provider's condition keys begin with.
    pub provider: String,
}

impl OidcProvider {
    /// Whether `text` is its ARN, as [`fmt::Display`] writes it. Allocates nothing.
    #[must_use]
    pub fn is_written(&self, text: &str) -> bool {
        let Self { partition, account, provider } = self;
        let rest = text.strip_prefix("arn:").and_then(|rest| rest.strip_prefix(partition.as_str()));
        let rest = rest.and_then(|rest| rest.strip_prefix(":iam::"));
        let rest = rest.and_then(|rest| rest.strip_prefix(account.as_str()));
        rest.and_then(|rest| rest.strip_prefix(":oidc-provider/")) == Some(provider.as_str())
    }
}

/// Why a text names no OIDC provider.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "`{0}` is no OIDC provider: expected `arn:aws:iam::<12 digits>:oidc-provider/<the issuer's URL without https://>`"
)]
pub struct InvalidProvider(pub String);

impl OidcProvider {
    /// Whether a text can be a provider's: a host, perhaps a port, perhaps a path.
    #[must_use]
    pub fn is_provider(text: &str) -> bool {
        let sound = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~:/".contains(&byte);
        (1..=MAX_PROVIDER).contains(&text.len())
            && text.bytes().all(sound)
            && !text.starts_with('/')
            && !text.contains("//")
    }
}

impl FromStr for OidcProvider {
    type Err = InvalidProvider;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidProvider(text.to_owned());
        let parts: Vec<&str> = text.splitn(6, ':').collect();
        let ["arn", partition, "iam", "", account, resource] = parts.as_slice() else {
            return Err(invalid());
        };
        let provider = resource.strip_prefix("oidc-provider/").ok_or_else(invalid)?;
        if partition.is_empty() || !Self::is_provider(provider) {
            return Err(invalid());
        }
        Ok(Self {
            partition: (*partition).to_owned(),
            account: account.parse().map_err(|_| invalid())?,
            provider: provider.to_owned(),
        })
    }
}

impl fmt::Display for OidcProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { partition, account, provider } = self;
        write!(f, "arn:{partition}:iam::{account}:oidc-provider/{provider}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_and_written() {
        let check = |text: &str, expected: Option<&str>| match text.parse::<OidcProvider>() {
            Ok(arn) => {
                assert_eq!(Some(arn.provider.as_str()), expected, "{text}");
                assert_eq!(arn.to_string(), text);
                assert!(arn.is_written(text) && !arn.is_written(&format!("{text}x")));
                assert!(!arn.is_written(&text.to_ascii_uppercase()));
            }
            Err(_) => assert_eq!(None, expected, "{text}"),
        };
        let of = |provider: &str| format!("arn:aws:iam::111122223333:oidc-provider/{provider}");
        check(
            &of("oidc.eks.eu-west-1.amazonaws.com/id/EXAMPLE"),
            Some("oidc.eks.eu-west-1.amazonaws.com/id/EXAMPLE"),
        );
        check(&of("127.0.0.1:7000"), Some("127.0.0.1:7000"));
        check(&of("tenant.auth0.com/"), Some("tenant.auth0.com/"));
        check(&of(""), None);
        check(&of("/x"), None);
        check(&of("https://x"), None);
        check(&of("*.example.com"), None);
        check(&of("a b"), None);
        check(&of(&"x".repeat(256)), None);
        check("arn:aws:iam::111122223333:saml-provider/x", None);
        check("arn:aws:iam::11112222333:oidc-provider/x", None);
        check("arn::iam::111122223333:oidc-provider/x", None);
        check("arn:aws:iam:us-east-1:111122223333:oidc-provider/x", None);
        check("cognito-identity.amazonaws.com", None);
        check("", None);
    }
}
