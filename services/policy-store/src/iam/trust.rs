//! Whom a trust policy names: resolved when it is written, as AWS does, so that a name made again later inherits nothing.
//!
//! Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_principal.html>

use std::collections::BTreeMap;

use countersign_policy::{
    arn::AccountId,
    document::Document,
    principal::{IamArn, PrincipalElement},
    provider::OidcProvider,
};
use countersign_proto::policy::v1::{Realm, ResolvedPrincipal};

use crate::{error::Error, layout, view::View};

/// A trust policy's principals.
#[derive(Debug, Default)]
pub struct Trusted {
    /// Each of them, resolved, in the order of their text.
    pub principals: Vec<ResolvedPrincipal>,
    /// The accounts among them that are not local.
    pub externals: Vec<AccountId>,
}

/// Whose document it is.
#[derive(Clone, Copy)]
pub enum Whose<'a> {
    /// A role's of this account, which a web identity may be trusted with.
    Role(&'a AccountId),
    /// A resource's, which no web identity asks about.
    Resource,
}

/// Resolves every principal that the document names.
pub fn resolve(
    view: &View,
    field: &'static str,
    document: &Document,
    whose: Whose<'_>,
) -> Result<Trusted, Error> {
    let mut trusted = Trusted::default();
    let mut resolved = BTreeMap::new();
    for clause in document.statements().iter().filter_map(|s| s.principals.as_ref()) {
        for element in &clause.elements {
            let Some(principal) = resolve_element(view, field, &element.value, whose)? else {
                continue;
            };
            if principal.realm() == Realm::Aws {
                trusted.externals.extend(principal.account_id.parse::<AccountId>().ok());
            }
            resolved.insert(principal.principal.clone(), principal);
        }
    }
    trusted.externals.sort();
    trusted.externals.dedup();
    trusted.principals = resolved.into_values().collect();
    Ok(trusted)
}

fn resolve_element(
    view: &View,
    field: &'static str,
    element: &PrincipalElement,
    whose: Whose<'_>,
) -> Result<Option<ResolvedPrincipal>, Error> {
    let invalid = |message: String| Error::InvalidPrincipal { field, message };
    match element {
        // Nobody in particular; and a service principal has no account to look in.
        PrincipalElement::Any | PrincipalElement::Service(_) => Ok(None),
        PrincipalElement::Account { text, partition, account } => {
            if let Some(partition) = partition {
                only_aws(field, text, partition)?;
            }
            let realm = realm(view, account)?;
            Ok(Some(resolved(text, realm, account, String::new())))
        }
        PrincipalElement::Arn { text, arn } => {
            only_aws(field, text, arn.partition())?;
            let account = arn.account();
            let realm = realm(view, &account)?;
            let unique_id = match realm {
                Realm::Countersign => local_unique_id(view, field, text, arn)?,
                Realm::Aws | Realm::Unspecified => {
                    external_shape(field, text, arn)?;
                    String::new()
                }
            };
            Ok(Some(resolved(text, realm, &account, unique_id)))
        }
        // There is no entity to look for: which issuers there are, the gateways know.
        PrincipalElement::Federated(name) => provider(field, name, whose).map(|()| None),
        PrincipalElement::Nobody { text, reason } => Err(invalid(format!("`{text}`: {reason}"))),
    }
}

/// A provider of the role's own account; another could never match.
/// Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_principal.html#principal-federated-web-identity>
fn provider(field: &'static str, name: &str, whose: Whose<'_>) -> Result<(), Error> {
    let invalid = |message: String| Error::InvalidPrincipal { field, message };
    let account = match whose {
        Whose::Role(account) => account,
        Whose::Resource => {
            let message = format!("`{name}`: a federated principal stands in trust policies alone");
            return Err(invalid(message));
        }
    };
    let provider: OidcProvider = name.parse().map_err(|error| invalid(format!("{error}")))?;
    only_aws(field, name, &provider.partition)?;
    if provider.account != *account {
        let message = format!(
            "`{name}`: a provider is of the role's own account; write arn:aws:iam::{account}:oidc-provider/{}",
            provider.provider
        );
        return Err(invalid(message));
    }
    Ok(())
}

fn only_aws(field: &'static str, text: &str, partition: &str) -> Result<(), Error> {
    if partition == "aws" {
        return Ok(());
    }
    let message = format!("`{text}`: only the partition `aws` is served");
    Err(Error::InvalidPrincipal { field, message })
}

/// An account is local if it is in this store, and external otherwise. Reading it here makes its absence a precondition of the
/// write, so that no account comes to be while a trust policy is written that calls it external.
fn realm(view: &View, account: &AccountId) -> Result<Realm, Error> {
    let local = view.find(&layout::account(account.as_str()))?.is_some();
    Ok(if local { Realm::Countersign } else { Realm::Aws })
}

/// STS does not show an external role's path, so an ARN with one could never match.
fn external_shape(field: &'static str, text: &str, arn: &IamArn) -> Result<(), Error> {
    match arn {
        IamArn::Role { path, name, account, .. } if path != "/" => Err(Error::InvalidPrincipal {
            field,
            message: format!(
                "`{text}`: AWS STS does not show a role's path; write arn:aws:iam::{account}:role/{name}, and name the \
                     role's unique id in an `aws:userid` condition if others could have that name"
            ),
        }),
        IamArn::Role { .. }
        | IamArn::User { .. }
        | IamArn::Root { .. }
        | IamArn::AssumedRole { .. }
        | IamArn::FederatedUser { .. } => Ok(()),
    }
}

fn local_unique_id(
    view: &View,
    field: &'static str,
    text: &str,
    arn: &IamArn,
) -> Result<String, Error> {
    let missing = || Error::InvalidPrincipal { field, message: format!("`{text}` does not exist") };
    match arn {
        IamArn::User { account, path, name, .. } => {
            let user = view.find(&layout::user(account, name))?.ok_or_else(missing)?;
            let same = user.path == *path && user.user_name == *name;
            if same { Ok(user.user_id) } else { Err(missing()) }
        }
        IamArn::Role { account, path, name, .. } => {
            let role = view.find(&layout::role(account, name))?.ok_or_else(missing)?;
            let same = role.path == *path && role.role_name == *name;
            if same { Ok(role.role_id) } else { Err(missing()) }
        }
        // A session has no path.
        IamArn::AssumedRole { account, role, .. } => {
            let found = view.find(&layout::role(account, role))?.ok_or_else(missing)?;
            if found.role_name == *role { Ok(found.role_id) } else { Err(missing()) }
        }
        IamArn::Root { .. } => Ok(String::new()),
        IamArn::FederatedUser { .. } => Err(Error::InvalidPrincipal {
            field,
            message: format!("`{text}`: federated users are not implemented yet"),
        }),
    }
}

fn resolved(text: &str, realm: Realm, account: &AccountId, unique_id: String) -> ResolvedPrincipal {
    ResolvedPrincipal {
        principal: text.to_owned(),
        realm: realm.into(),
        account_id: account.to_string(),
        unique_id,
    }
}
