//! Principals: the ARNs of users, roles and sessions, and what a document's Principal element may hold.
//!
//! Knows how they are written. Whether one exists, and which unique id it has, is for those who resolve them.
//! Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_principal.html>

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::arn::{AccountId, Arn, InvalidArn};

/// The ARN of somebody who may act.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IamArn {
    /// `arn:aws:iam::111122223333:root`
    Root { partition: String, account: AccountId },
    /// `arn:aws:iam::111122223333:user/path/alice`. A path begins and ends with `/`; without one it is `/`.
    User { partition: String, account: AccountId, path: String, name: String },
    /// `arn:aws:iam::111122223333:role/path/App`
    Role { partition: String, account: AccountId, path: String, name: String },
    /// `arn:aws:sts::111122223333:assumed-role/App/session`. The role's path is not in it.
    AssumedRole { partition: String, account: AccountId, role: String, session: String },
    /// `arn:aws:sts::111122223333:federated-user/bob`
    FederatedUser { partition: String, account: AccountId, name: String },
}

impl IamArn {
    #[must_use]
    pub fn partition(&self) -> &str {
        match self {
            IamArn::Root { partition, .. }
            | IamArn::User { partition, .. }
            | IamArn::Role { partition, .. }
            | IamArn::AssumedRole { partition, .. }
            | IamArn::FederatedUser { partition, .. } => partition,
        }
    }

    #[must_use]
    pub fn account(&self) -> AccountId {
        match self {
            IamArn::Root { account, .. }
            | IamArn::User { account, .. }
            | IamArn::Role { account, .. }
            | IamArn::AssumedRole { account, .. }
            | IamArn::FederatedUser { account, .. } => *account,
        }
    }
}

impl TryFrom<&Arn> for IamArn {
    type Error = InvalidIamArn;

    fn try_from(arn: &Arn) -> Result<Self, Self::Error> {
        let invalid = || InvalidIamArn::Shape(arn.to_string());
        let account = arn.account_id().ok_or_else(invalid)?;
        let partition = arn.partition().to_owned();
        let sound_partition =
            partition.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if !arn.region().is_empty() || !sound_partition {
            return Err(invalid());
        }
        let (kind, rest) = arn.resource().split_once('/').unwrap_or((arn.resource(), ""));
        match (arn.service(), kind) {
            ("iam", "root") if arn.resource() == "root" => Ok(IamArn::Root { partition, account }),
            ("iam", "user") => {
                let (path, name) = path_and_name(rest).ok_or_else(invalid)?;
                Ok(IamArn::User { partition, account, path, name })
            }
            ("iam", "role") => {
                let (path, name) = path_and_name(rest).ok_or_else(invalid)?;
                Ok(IamArn::Role { partition, account, path, name })
            }
            ("sts", "assumed-role") => {
                let (role, session) = rest.split_once('/').ok_or_else(invalid)?;
                if !is_name(role) || !is_name(session) {
                    return Err(invalid());
                }
                Ok(IamArn::AssumedRole {
                    partition,
                    account,
                    role: role.to_owned(),
                    session: session.to_owned(),
                })
            }
            ("sts", "federated-user") if is_name(rest) => {
                Ok(IamArn::FederatedUser { partition, account, name: rest.to_owned() })
            }
            (_, _) => Err(invalid()),
        }
    }
}

impl FromStr for IamArn {
    type Err = InvalidIamArn;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        IamArn::try_from(&text.parse::<Arn>()?)
    }
}

impl fmt::Display for IamArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            IamArn::Root { partition, account } => write!(f, "arn:{partition}:iam::{account}:root"),
            IamArn::User { partition, account, path, name } => {
                write!(f, "arn:{partition}:iam::{account}:user{path}{name}")
            }
            IamArn::Role { partition, account, path, name } => {
                write!(f, "arn:{partition}:iam::{account}:role{path}{name}")
            }
            IamArn::AssumedRole { partition, account, role, session } => {
                write!(f, "arn:{partition}:sts::{account}:assumed-role/{role}/{session}")
            }
            IamArn::FederatedUser { partition, account, name } => {
                write!(f, "arn:{partition}:sts::{account}:federated-user/{name}")
            }
        }
    }
}

/// Names of users, roles and sessions: `[\w+=,.@-]{1,64}`, ASCII alone.
#[must_use]
pub fn is_name(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|b| {
            b.is_ascii_alphanumeric() || matches!(b, b'_' | b'+' | b'=' | b',' | b'.' | b'@' | b'-')
        })
}

/// `teams/a/Deploy` → (`/teams/a/`, `Deploy`).
fn path_and_name(text: &str) -> Option<(String, String)> {
    let (path, name) = match text.rsplit_once('/') {
        Some((folders, name)) => (format!("/{folders}/"), name),
        None => ("/".to_owned(), text),
    };
    // AWS allows ! to ~ in a path. Wildcards are refused: a principal's ARN takes none (RULES.md 31).
    let sound = path.len() <= 512
        && path.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'*' | b'?' | b':'));
    (sound && is_name(name)).then(|| (path, name.to_owned()))
}

/// Why a text names no principal.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InvalidIamArn {
    #[error(transparent)]
    Arn(#[from] InvalidArn),
    #[error(
        "`{0}` names no principal: expected an account's root, a user, a role, `assumed-role/ROLE/SESSION` or `federated-user/NAME`"
    )]
    Shape(String),
}

/// One entry of a Principal or NotPrincipal element.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PrincipalElement {
    /// `"*"` or `{"AWS": "*"}`.
    Any,
    /// Twelve digits, or the account's root ARN.
    Account { text: String, partition: Option<String>, account: AccountId },
    /// A user, a role, a role session or a federated user; never `Root`.
    Arn { text: String, arn: IamArn },
    /// `{"Service": "ec2.amazonaws.com"}`
    Service(String),
    /// `{"Federated": "…"}`: a provider of web identities or of SAML.
    Federated(String),
    /// Text under `AWS` that names nobody: a partial wildcard, another case, a deleted entity's id. It never matches
    /// (RULES.md 31), and is refused on write.
    Nobody { text: String, reason: String },
}

impl PrincipalElement {
    /// What stands under `AWS`.
    #[must_use]
    pub fn from_aws(text: &str) -> Self {
        if text == "*" {
            return PrincipalElement::Any;
        }
        if let Ok(account) = text.parse() {
            return PrincipalElement::Account { text: text.to_owned(), partition: None, account };
        }
        match text.parse::<IamArn>() {
            Ok(IamArn::Root { partition, account }) => PrincipalElement::Account {
                text: text.to_owned(),
                partition: Some(partition),
                account,
            },
            Ok(arn) => PrincipalElement::Arn { text: text.to_owned(), arn },
            Err(error) => {
                PrincipalElement::Nobody { text: text.to_owned(), reason: error.to_string() }
            }
        }
    }

    /// As the document has it; `*` for anybody.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            PrincipalElement::Any => "*",
            PrincipalElement::Account { text, .. }
            | PrincipalElement::Arn { text, .. }
            | PrincipalElement::Nobody { text, .. } => text,
            PrincipalElement::Service(name) | PrincipalElement::Federated(name) => name,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn principal_arns_read_and_written() {
        fn check(text: &str, expected: bool) {
            match text.parse::<IamArn>() {
                Ok(arn) => {
                    assert!(expected, "{text}");
                    assert_eq!(arn.to_string(), text);
                }
                Err(_) => assert!(!expected, "{text}"),
            }
        }
        check("arn:aws:iam::111122223333:root", true);
        check("arn:aws:iam::111122223333:user/alice", true);
        check("arn:aws:iam::111122223333:user/a/b/alice", true);
        check("arn:aws-cn:iam::111122223333:role/App", true);
        check("arn:aws:sts::111122223333:assumed-role/App/s@1", true);
        check("arn:aws:sts::111122223333:federated-user/erin@corp", true);
        check("arn:aws:iam::111122223333:root/x", false);
        check("arn:aws:iam::111122223333:root/", false);
        check("arn:aws:iam::111122223333:user/", false);
        check("arn:aws:iam::111122223333:user/*", false);
        check("arn:aws:iam::111122223333:user", false);
        check("arn:aws:iam::111122223333:role/a*/App", false);
        check("arn:aws:iam::111122223333:group/g", false);
        check("arn:aws:iam:us-east-1:111122223333:user/alice", false);
        check("arn:aws:iam::11112222333:user/alice", false);
        check("arn:aws:iam::*:user/alice", false);
        check("arn:aws:iam::111122223333:assumed-role/App/s", false);
        check("arn:aws:sts::111122223333:assumed-role/App", false);
        check("arn:aws:sts::111122223333:assumed-role/App/s/t", false);
        check("arn:aws:sts::111122223333:assumed-role/App/", false);
        check("arn:aws:sts::111122223333:user/alice", false);
        check("ARN:AWS:IAM::111122223333:USER/ALICE", false);
        check("arn:AWS:iam::111122223333:user/alice", false);
        check("arn:aws:iam::111122223333:user/élise", false);
    }

    #[test]
    fn elements_under_aws() {
        fn check(text: &str, expected: &str) {
            let found = match PrincipalElement::from_aws(text) {
                PrincipalElement::Any => "any",
                PrincipalElement::Account { .. } => "account",
                PrincipalElement::Arn { .. } => "arn",
                PrincipalElement::Service(_) | PrincipalElement::Federated(_) => "other",
                PrincipalElement::Nobody { .. } => "nobody",
            };
            assert_eq!(found, expected, "{text}");
        }
        check("*", "any");
        check("111122223333", "account");
        check("arn:aws:iam::111122223333:root", "account");
        check("arn:aws:iam::111122223333:role/App", "arn");
        check("arn:aws:iam::111122223333:user/*", "nobody");
        check("AROAEXAMPLE", "nobody");
    }
}
