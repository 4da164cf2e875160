//! Whether a Principal or NotPrincipal element names the principal, and how directly.
//!
//! An Allow is matched strictly: in its realm, by unique id where it was resolved. A Deny is matched broadly: by name or by
//! unique id, in any realm.
//! Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_principal.html>

use countersign_policy::document::Clause;
use countersign_policy::principal::{IamArn, PrincipalElement};
use countersign_policy::provider::OidcProvider;

use crate::policies::ResolvedPrincipals;
use crate::principal::{Principal, Realm, is_role_named};

/// How directly an Allow reaches the principal; this decides which implicit denies it overcomes (RULES.md 28 to 31).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Grant {
    /// The account only delegates: an identity policy must allow too.
    Account,
    /// The role: boundary and session policy still limit it.
    Role,
    /// The user, the session, or everybody.
    Direct,
}

/// The most direct grant of an Allow's element; `None` if it does not name the principal.
pub(crate) fn granted(
    clause: &Clause<PrincipalElement>,
    principal: &Principal,
    resolved: Option<&ResolvedPrincipals>,
) -> Option<Grant> {
    if clause.negated {
        return granted_by_exclusion(clause, principal, resolved);
    }
    clause.elements.iter().filter_map(|element| grant(&element.value, principal, resolved)).max()
}

/// Allow with NotPrincipal: everybody local who is not listed, and no more than an account's delegation (AWS advises against it).
fn granted_by_exclusion(
    clause: &Clause<PrincipalElement>,
    principal: &Principal,
    resolved: Option<&ResolvedPrincipals>,
) -> Option<Grant> {
    let is_listed =
        clause.elements.iter().any(|element| may_name(&element.value, principal, resolved));
    (!is_listed && is_anybody(principal)).then_some(Grant::Account)
}

/// Whether a Deny's element names the principal.
pub(crate) fn denied(
    clause: &Clause<PrincipalElement>,
    principal: &Principal,
    resolved: Option<&ResolvedPrincipals>,
    has_boundary: bool,
) -> bool {
    if clause.negated {
        // "NotPrincipal with Deny always denies a principal that has a permissions boundary" (RULES.md 37).
        return has_boundary || !is_exempt(clause, principal, resolved);
    }
    clause.elements.iter().any(|element| may_name(&element.value, principal, resolved))
}

/// Deny with NotPrincipal spares whom it lists together with the account, and a session also with its role (RULES.md 36, K8).
fn is_exempt(
    clause: &Clause<PrincipalElement>,
    principal: &Principal,
    resolved: Option<&ResolvedPrincipals>,
) -> bool {
    let lists = |wanted: fn(&PrincipalElement) -> bool, as_what: Option<Grant>| {
        clause.elements.iter().map(|element| &element.value).any(|element| {
            let found = grant(element, principal, resolved);
            wanted(element) && found.is_some() && as_what.is_none_or(|wanted| found == Some(wanted))
        })
    };
    let account = || lists(|element| matches!(element, PrincipalElement::Account { .. }), None);
    let role =
        || lists(|element| matches!(element, PrincipalElement::Arn { .. }), Some(Grant::Role));
    let own =
        || lists(|element| matches!(element, PrincipalElement::Arn { .. }), Some(Grant::Direct));
    let service = || lists(|element| matches!(element, PrincipalElement::Service(_)), None);
    match principal {
        Principal::User { .. } | Principal::FederatedUser { .. } => account() && own(),
        Principal::Role { .. } => account() && role(),
        Principal::Session(_) => account() && role() && own(),
        Principal::AccountRoot { .. } => account(),
        Principal::Service { .. } => service(),
        Principal::WebIdentity { .. } => {
            lists(|element| matches!(element, PrincipalElement::Federated(_)), None)
        }
        Principal::External(external) => match external.arn() {
            IamArn::AssumedRole { .. } => account() && role() && own(),
            IamArn::User { .. }
            | IamArn::Root { .. }
            | IamArn::Role { .. }
            | IamArn::FederatedUser { .. } => account() && own(),
        },
    }
}

/// Whom `*` means in an Allow: every local principal; neither external ones, services nor web identities, which must be named.
fn is_anybody(principal: &Principal) -> bool {
    match principal {
        Principal::User { .. }
        | Principal::Role { .. }
        | Principal::Session(_)
        | Principal::FederatedUser { .. }
        | Principal::AccountRoot { .. } => true,
        Principal::Service { .. } | Principal::External(_) | Principal::WebIdentity { .. } => false,
    }
}

/// Strict: how an element of an Allow reaches the principal.
fn grant(
    element: &PrincipalElement,
    principal: &Principal,
    resolved: Option<&ResolvedPrincipals>,
) -> Option<Grant> {
    match element {
        PrincipalElement::Any => is_anybody(principal).then_some(Grant::Direct),
        PrincipalElement::Account { text, partition, account } => {
            let same_account = principal.account() == Some(*account)
                && partition
                    .as_deref()
                    .is_none_or(|partition| principal.partition() == Some(partition));
            let granted = match principal {
                Principal::AccountRoot { .. } => Grant::Direct,
                Principal::User { .. }
                | Principal::Role { .. }
                | Principal::Session(_)
                | Principal::FederatedUser { .. }
                | Principal::Service { .. }
                | Principal::External(_)
                | Principal::WebIdentity { .. } => Grant::Account,
            };
            (same_account && is_account_of_realm(text, principal, resolved)).then_some(granted)
        }
        PrincipalElement::Arn { text, arn } => grant_by_name(arn, principal)
            .filter(|_| is_same_identity(text, arn, principal, resolved)),
        PrincipalElement::Service(name) => {
            matches!(principal, Principal::Service { name: own } if own == name)
                .then_some(Grant::Direct)
        }
        // By the whole ARN: a provider is of the role's own account. SAML assertions are no principals here.
        PrincipalElement::Federated(name) => {
            matches!(principal, Principal::WebIdentity { provider } if provider.is_written(name))
                .then_some(Grant::Direct)
        }
        PrincipalElement::Nobody { .. } => None,
    }
}

fn grant_by_name(arn: &IamArn, principal: &Principal) -> Option<Grant> {
    match principal {
        Principal::User { arn: own, .. } => (own == arn).then_some(Grant::Direct),
        // A grant to the user reaches the federated sessions of that name, as a role's reaches the role's: within boundary and
        // session policy. It holds for unresolved names alone, as a federated session has no unique id.
        Principal::FederatedUser { arn: own } if own == arn => Some(Grant::Direct),
        Principal::FederatedUser { arn: own } => {
            (is_federated_by(own, arn) && !has_path(arn)).then_some(Grant::Role)
        }
        Principal::Role { arn: own, .. } => (own == arn).then_some(Grant::Role),
        Principal::Session(session) => {
            if session.is_named(arn) {
                Some(Grant::Direct)
            } else {
                session.is_of_role(arn).then_some(Grant::Role)
            }
        }
        Principal::External(external) => match external.arn() {
            own if own == arn => Some(Grant::Direct),
            IamArn::AssumedRole { partition, account, role, .. } => {
                is_role_named(arn, partition, *account, role).then_some(Grant::Role)
            }
            IamArn::User { .. }
            | IamArn::Root { .. }
            | IamArn::Role { .. }
            | IamArn::FederatedUser { .. } => None,
        },
        Principal::AccountRoot { .. }
        | Principal::Service { .. }
        | Principal::WebIdentity { .. } => None,
    }
}

fn is_federated_by(federated: &IamArn, user: &IamArn) -> bool {
    match (federated, user) {
        (
            IamArn::FederatedUser { partition: p, account: a, name: n },
            IamArn::User { partition, account, name, .. },
        ) => p == partition && a == account && n == name,
        (_, _) => false,
    }
}

fn has_path(arn: &IamArn) -> bool {
    match arn {
        IamArn::User { path, .. } | IamArn::Role { path, .. } => path != "/",
        IamArn::Root { .. } | IamArn::AssumedRole { .. } | IamArn::FederatedUser { .. } => false,
    }
}

/// Whether the name means this principal: the same realm, and the unique id that it had when it was written.
fn is_same_identity(
    text: &str,
    arn: &IamArn,
    principal: &Principal,
    resolved: Option<&ResolvedPrincipals>,
) -> bool {
    let Some(resolved) = resolved else { return principal.realm() == Realm::Countersign };
    let Some(resolved) = resolved.get(text) else { return false };
    if resolved.realm != principal.realm() {
        return false;
    }
    match (resolved.realm, &resolved.unique_id, principal.unique_id()) {
        (Realm::Countersign | Realm::Aws, Some(wanted), Some(own)) => wanted == own,
        // A local name without an id is of somebody who is gone.
        (Realm::Countersign, None, _) | (Realm::Countersign | Realm::Aws, Some(_), None) => false,
        // Not pinned yet. STS does not tell a role's path, so that a name with one could be another role's.
        (Realm::Aws, None, _) => !(has_path(arn) && matches!(arn, IamArn::Role { .. })),
    }
}

/// A number is a local account or an external one, never both; an external one must be written down as such.
fn is_account_of_realm(
    text: &str,
    principal: &Principal,
    resolved: Option<&ResolvedPrincipals>,
) -> bool {
    let realm = resolved.and_then(|resolved| resolved.get(text)).map(|resolved| resolved.realm);
    match principal.realm() {
        Realm::Countersign => realm != Some(Realm::Aws),
        Realm::Aws => realm == Some(Realm::Aws),
    }
}

/// Broad: whether an element of a Deny may mean the principal.
fn may_name(
    element: &PrincipalElement,
    principal: &Principal,
    resolved: Option<&ResolvedPrincipals>,
) -> bool {
    match element {
        PrincipalElement::Any => true,
        PrincipalElement::Account { account, .. } => principal.account() == Some(*account),
        PrincipalElement::Arn { text, arn } => {
            may_be_named(arn, principal) || has_resolved_id(text, arn, principal, resolved)
        }
        PrincipalElement::Service(name) => {
            matches!(principal, Principal::Service { name: own } if own.eq_ignore_ascii_case(name))
        }
        PrincipalElement::Federated(name) => {
            matches!(principal, Principal::WebIdentity { provider } if may_be_provider(name, provider))
        }
        PrincipalElement::Nobody { .. } => false,
    }
}

/// In any account, in any case, and also without an ARN around it.
fn may_be_provider(name: &str, provider: &OidcProvider) -> bool {
    let named = name.split_once(":oidc-provider/").map_or(name, |(_, named)| named);
    named.eq_ignore_ascii_case(&provider.provider) || name.eq_ignore_ascii_case(&provider.provider)
}

fn may_be_named(arn: &IamArn, principal: &Principal) -> bool {
    match principal {
        Principal::Session(session) => session.is_named(arn) || session.may_be_of_role(arn),
        Principal::FederatedUser { arn: own } => own == arn || is_federated_by(own, arn),
        Principal::User { .. }
        | Principal::Role { .. }
        | Principal::AccountRoot { .. }
        | Principal::Service { .. }
        | Principal::External(_)
        | Principal::WebIdentity { .. } => grant_by_name(arn, principal).is_some(),
    }
}

/// The entity was renamed or moved, and is still the same one. A session's ARN also names the session.
fn has_resolved_id(
    text: &str,
    arn: &IamArn,
    principal: &Principal,
    resolved: Option<&ResolvedPrincipals>,
) -> bool {
    let wanted = resolved
        .and_then(|resolved| resolved.get(text))
        .and_then(|resolved| resolved.unique_id.as_deref());
    match arn {
        IamArn::User { .. } | IamArn::Role { .. } => {
            wanted.is_some() && wanted == principal.unique_id()
        }
        IamArn::Root { .. } | IamArn::AssumedRole { .. } | IamArn::FederatedUser { .. } => false,
    }
}
