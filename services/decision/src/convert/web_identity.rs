//! Whom a web identity token has shown, checked once more.

use countersign_evaluator::{Context, context::DuplicateKey};
use countersign_policy::{arn::AccountId, principal::IamArn, provider::OidcProvider};
use countersign_proto::decision::v1::{self as proto, SessionTag};

use super::question::{own_partition, shown};
use crate::error::Refusal;

const MAX_TEXT: usize = 2048;
const MAX_TAGS: usize = 50;
const MAX_METHODS: usize = 16;

/// Whom a configured issuer vouches for.
#[derive(Clone, Debug)]
pub struct WebIdentity {
    /// The issuer's URL without its scheme.
    pub provider: String,
    /// `<provider>:sub`.
    pub subject: String,
    /// `<provider>:aud`.
    pub audience: String,
    /// The AWS account that the token speaks of; never a local one.
    pub aws_account: Option<AccountId>,
    /// What AWS says of its principal.
    pub keys: Context,
}

impl WebIdentity {
    /// Reads what a gateway says.
    ///
    /// # Errors
    /// The first field that is wrong.
    pub fn parse(shown: proto::WebIdentity) -> Result<Self, Refusal> {
        let proto::WebIdentity { provider, subject, audience, aws_principal, amr } = shown;
        if !OidcProvider::is_provider(&provider) {
            let message = format!("`{}` is no issuer without its scheme", self::shown(&provider));
            return Err(Refusal::invalid("web_identity.provider", message));
        }
        text("web_identity.subject", &subject, 255)?;
        text("web_identity.audience", &audience, MAX_TEXT)?;
        let (aws_account, mut keys) = match aws_principal {
            Some(principal) => {
                let (account, keys) = aws_keys(principal)?;
                (Some(account), keys)
            }
            None => (None, Context::new()),
        };
        if amr.len() > MAX_METHODS {
            return Err(Refusal::invalid("web_identity.amr", format!("at most {MAX_METHODS}")));
        }
        for method in &amr {
            text("web_identity.amr", method, 255)?;
        }
        if !amr.is_empty() {
            let twice = |error: DuplicateKey| Refusal::invalid("web_identity", error.to_string());
            keys.insert(format!("{provider}:amr"), amr).map_err(twice)?;
        }
        Ok(Self { provider, subject, audience, aws_account, keys })
    }
}

fn text(field: &'static str, value: &str, most: usize) -> Result<(), Refusal> {
    if (1..=most).contains(&value.len()) {
        return Ok(());
    }
    Err(Refusal::invalid(field, format!("expected 1 to {most} bytes")))
}

/// The keys that AWS maps its claims to.
/// Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_providers_outbound_token_claims.html>
fn aws_keys(principal: proto::AwsPrincipal) -> Result<(AccountId, Context), Refusal> {
    let proto::AwsPrincipal {
        account_id,
        arn,
        org_id,
        org_path,
        principal_tags,
        source_identity,
        lambda_source_function_arn,
        ec2_source_instance_arn,
        ec2_instance_source_vpc,
    } = principal;
    let invalid = |field, error: String| Refusal::invalid(field, error);
    let account: AccountId = account_id
        .parse()
        .map_err(|error| invalid("web_identity.aws_principal.account_id", format!("{error}")))?;
    check_arn(&arn, account)?;
    let mut keys = Context::new();
    let twice =
        |error: DuplicateKey| Refusal::invalid("web_identity.aws_principal", error.to_string());
    keys.insert("aws:PrincipalAccount", account.as_str()).map_err(twice)?;
    keys.insert("aws:PrincipalArn", arn).map_err(twice)?;
    if !org_path.is_empty() {
        keys.insert("aws:PrincipalOrgPaths", vec![org_path]).map_err(twice)?;
    }
    let single = [
        ("aws:PrincipalOrgID", org_id),
        ("aws:SourceIdentity", source_identity),
        ("lambda:SourceFunctionArn", lambda_source_function_arn),
        ("ec2:SourceInstanceArn", ec2_source_instance_arn),
        ("aws:Ec2InstanceSourceVpc", ec2_instance_source_vpc),
    ];
    for (key, value) in single.into_iter().filter(|(_, value)| !value.is_empty()) {
        text("web_identity.aws_principal", &value, MAX_TEXT)?;
        keys.insert(key, value).map_err(twice)?;
    }
    if principal_tags.len() > MAX_TAGS {
        let message = format!("at most {MAX_TAGS}");
        return Err(Refusal::invalid("web_identity.aws_principal.principal_tags", message));
    }
    for SessionTag { key, value } in principal_tags {
        text("web_identity.aws_principal.principal_tags", &key, 4 * 128)?;
        keys.insert(format!("aws:PrincipalTag/{key}"), value).map_err(twice)?;
    }
    Ok((account, keys))
}

/// A user's or a role's, of the account.
fn check_arn(arn: &str, account: AccountId) -> Result<(), Refusal> {
    const FIELD: &str = "web_identity.aws_principal.arn";
    let parsed: IamArn =
        arn.parse().map_err(|error| Refusal::invalid(FIELD, format!("{error}")))?;
    own_partition(FIELD, parsed.partition())?;
    match &parsed {
        IamArn::User { .. } | IamArn::Role { .. } if parsed.account() == account => Ok(()),
        IamArn::User { .. }
        | IamArn::Role { .. }
        | IamArn::Root { .. }
        | IamArn::AssumedRole { .. }
        | IamArn::FederatedUser { .. } => {
            let message = format!("`{parsed}` is no user or role of account {account}");
            Err(Refusal::invalid(FIELD, message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown() -> proto::WebIdentity {
        proto::WebIdentity {
            provider: "abc.tokens.sts.global.api.aws".into(),
            subject: "arn:aws:iam::999988887777:role/App".into(),
            audience: "https://tokens.example.com".into(),
            amr: vec!["mfa".into()],
            aws_principal: Some(proto::AwsPrincipal {
                account_id: "999988887777".into(),
                arn: "arn:aws:iam::999988887777:role/App".into(),
                principal_tags: vec![SessionTag { key: "team".into(), value: "data".into() }],
                ..Default::default()
            }),
        }
    }

    #[test]
    fn fields() {
        fn check(change: impl FnOnce(&mut proto::WebIdentity), refused: Option<&str>) {
            let mut shown = shown();
            change(&mut shown);
            let said = WebIdentity::parse(shown).err().map(|refusal| refusal.to_string());
            match (&said, refused) {
                (None, None) => {}
                (Some(said), Some(field)) => {
                    assert!(said.starts_with(&format!("{field}:")), "{said}")
                }
                (said, refused) => panic!("{refused:?}: {said:?}"),
            }
        }
        fn aws(w: &mut proto::WebIdentity) -> &mut proto::AwsPrincipal {
            w.aws_principal.as_mut().unwrap()
        }
        check(|_| {}, None);
        check(|w| w.aws_principal = None, None);
        check(|w| w.provider = "https://x".into(), Some("web_identity.provider"));
        check(|w| w.provider.clear(), Some("web_identity.provider"));
        check(|w| w.subject.clear(), Some("web_identity.subject"));
        check(|w| w.subject = "x".repeat(256), Some("web_identity.subject"));
        check(|w| w.audience.clear(), Some("web_identity.audience"));
        check(|w| w.amr.clear(), None);
        check(|w| w.amr = vec!["x".into(); 17], Some("web_identity.amr"));
        check(|w| w.amr.push(String::new()), Some("web_identity.amr"));
        check(|w| aws(w).account_id.clear(), Some("web_identity.aws_principal.account_id"));
        check(
            |w| aws(w).account_id = "111122223333".into(),
            Some("web_identity.aws_principal.arn"),
        );
        check(|w| aws(w).arn = "x".into(), Some("web_identity.aws_principal.arn"));
        check(
            |w| aws(w).arn = "arn:aws:iam::999988887777:root".into(),
            Some("web_identity.aws_principal.arn"),
        );
        check(
            |w| {
                let tag = SessionTag { key: "TEAM".into(), value: "x".into() };
                aws(w).principal_tags.push(tag);
            },
            Some("web_identity.aws_principal"),
        );
    }
}
