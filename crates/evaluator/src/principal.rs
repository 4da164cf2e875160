//! Who asks.
//!
//! An identity is (realm, partition, account, unique id). Names are for people: what grants by name also compares the realm,
//! and the unique id where it was resolved.

use countersign_policy::arn::AccountId;
use countersign_policy::principal::IamArn;
use countersign_policy::provider::OidcProvider;
use thiserror::Error;

/// Who vouches for an identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Realm {
    /// The entity lives in the store.
    Countersign,
    /// AWS vouches; there are no identity policies here.
    Aws,
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Principal {
    /// `arn` is an [`IamArn::User`].
    User {
        arn: IamArn,
        unique_id: Option<String>,
    },
    /// A role that is asked about by its ARN, without a session. `arn` is an [`IamArn::Role`].
    Role {
        arn: IamArn,
        unique_id: Option<String>,
    },
    Session(Session),
    /// `arn` is an [`IamArn::FederatedUser`].
    FederatedUser {
        arn: IamArn,
    },
    /// A local account's root.
    AccountRoot {
        partition: String,
        account: AccountId,
    },
    /// `ec2.amazonaws.com`, or one of your own.
    Service {
        name: String,
    },
    External(ExternalPrincipal),
    /// Somebody whom an OIDC provider vouches for, while assuming a role. Who it is stands in the provider's condition keys.
    WebIdentity {
        /// In the account of the role that is assumed.
        provider: OidcProvider,
    },
}

impl Principal {
    #[must_use]
    pub fn realm(&self) -> Realm {
        match self {
            Principal::User { .. }
            | Principal::Role { .. }
            | Principal::Session(_)
            | Principal::FederatedUser { .. }
            | Principal::AccountRoot { .. }
            | Principal::Service { .. }
            // No name of AWS's or ours means it: its provider does.
            | Principal::WebIdentity { .. } => Realm::Countersign,
            Principal::External(_) => Realm::Aws,
        }
    }

    /// None for a service and for a web identity, which are of no account.
    #[must_use]
    pub fn account(&self) -> Option<AccountId> {
        match self {
            Principal::User { arn, .. }
            | Principal::Role { arn, .. }
            | Principal::FederatedUser { arn } => Some(arn.account()),
            Principal::Session(session) => Some(session.account),
            Principal::AccountRoot { account, .. } => Some(*account),
            Principal::Service { .. } | Principal::WebIdentity { .. } => None,
            Principal::External(external) => Some(external.arn.account()),
        }
    }

    /// None for a service and for a web identity.
    #[must_use]
    pub fn partition(&self) -> Option<&str> {
        match self {
            Principal::User { arn, .. }
            | Principal::Role { arn, .. }
            | Principal::FederatedUser { arn } => Some(arn.partition()),
            Principal::Session(session) => Some(&session.partition),
            Principal::AccountRoot { partition, .. } => Some(partition),
            Principal::Service { .. } | Principal::WebIdentity { .. } => None,
            Principal::External(external) => Some(external.arn.partition()),
        }
    }

    /// The ARN, as STS would show it; a service's name; a web identity's provider.
    #[must_use]
    pub fn arn(&self) -> String {
        match self {
            Principal::User { arn, .. }
            | Principal::Role { arn, .. }
            | Principal::FederatedUser { arn } => arn.to_string(),
            Principal::Session(session) => session.arn().to_string(),
            Principal::AccountRoot { partition, account } => {
                IamArn::Root { partition: partition.clone(), account: *account }.to_string()
            }
            Principal::Service { name } => name.clone(),
            Principal::External(external) => external.arn.to_string(),
            Principal::WebIdentity { provider } => provider.to_string(),
        }
    }

    /// `AIDA…`, or the role's `AROA…`.
    #[must_use]
    pub fn unique_id(&self) -> Option<&str> {
        match self {
            Principal::User { unique_id, .. } | Principal::Role { unique_id, .. } => {
                unique_id.as_deref()
            }
            Principal::Session(session) => session.role_id.as_deref(),
            Principal::FederatedUser { .. }
            | Principal::AccountRoot { .. }
            | Principal::Service { .. }
            | Principal::WebIdentity { .. } => None,
            Principal::External(external) => Some(&external.unique_id),
        }
    }
}

/// Somebody acting under a local role for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    pub partition: String,
    pub account: AccountId,
    pub role_name: String,
    /// With its path; [`IamArn::Role`]. Without it no statement that names the role allows.
    pub role_arn: Option<IamArn>,
    pub session_name: String,
    /// `AROA…`
    pub role_id: Option<String>,
    role_by_name: bool,
}

impl Session {
    #[must_use]
    pub fn new(
        partition: impl Into<String>,
        account: AccountId,
        role_name: impl Into<String>,
        role_arn: Option<IamArn>,
        session_name: impl Into<String>,
        role_id: Option<String>,
    ) -> Self {
        Self {
            partition: partition.into(),
            account,
            role_name: role_name.into(),
            role_arn,
            session_name: session_name.into(),
            role_id,
            role_by_name: false,
        }
    }

    /// In `simulate` alone, where `aws:PrincipalArn` is not given: the role is matched by account and name.
    pub(crate) fn with_role_by_name(self) -> Self {
        Self { role_by_name: true, ..self }
    }

    /// `arn:aws:sts::111122223333:assumed-role/App/session`
    #[must_use]
    pub fn arn(&self) -> IamArn {
        IamArn::AssumedRole {
            partition: self.partition.clone(),
            account: self.account,
            role: self.role_name.clone(),
            session: self.session_name.clone(),
        }
    }

    /// Whether this is [`Session::arn`], which need not be made for it.
    pub(crate) fn is_named(&self, arn: &IamArn) -> bool {
        matches!(
            arn,
            IamArn::AssumedRole { partition, account, role, session }
                if *partition == self.partition
                    && *account == self.account
                    && *role == self.role_name
                    && *session == self.session_name
        )
    }

    /// Whether this ARN of a role, path included, is this session's.
    pub(crate) fn is_of_role(&self, arn: &IamArn) -> bool {
        match &self.role_arn {
            Some(own) => own == arn,
            None => self.role_by_name && self.is_of_role_named(arn),
        }
    }

    /// The same, without the path where the session's own is not known.
    pub(crate) fn may_be_of_role(&self, arn: &IamArn) -> bool {
        match &self.role_arn {
            Some(own) => own == arn,
            None => self.is_of_role_named(arn),
        }
    }

    fn is_of_role_named(&self, arn: &IamArn) -> bool {
        is_role_named(arn, &self.partition, self.account, &self.role_name)
    }
}

pub(crate) fn is_role_named(arn: &IamArn, partition: &str, account: AccountId, name: &str) -> bool {
    matches!(arn, IamArn::Role { partition: p, account: a, name: n, .. } if p == partition && *a == account && n == name)
}

/// A principal that AWS vouches for: a user, or a role session whose role's path STS does not tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExternalPrincipal {
    arn: IamArn,
    unique_id: String,
}

impl ExternalPrincipal {
    /// `unique_id` is `AIDA…`, or the role's `AROA…` without the session.
    ///
    /// # Errors
    /// [`NotExternal`] for an ARN that STS gives to no user and no role session.
    pub fn new(arn: IamArn, unique_id: impl Into<String>) -> Result<Self, NotExternal> {
        match arn {
            IamArn::User { .. } | IamArn::AssumedRole { .. } => {
                Ok(Self { arn, unique_id: unique_id.into() })
            }
            IamArn::Root { .. } | IamArn::Role { .. } | IamArn::FederatedUser { .. } => {
                Err(NotExternal(arn.to_string()))
            }
        }
    }

    /// As STS shows it.
    #[must_use]
    pub fn arn(&self) -> &IamArn {
        &self.arn
    }

    #[must_use]
    pub fn unique_id(&self) -> &str {
        &self.unique_id
    }

    /// `role/Name`, or `user/path/Name`: what is known of its name.
    #[must_use]
    pub fn name_form(&self) -> String {
        match &self.arn {
            IamArn::User { path, name, .. } => format!("user{path}{name}"),
            IamArn::AssumedRole { role, .. } => format!("role/{role}"),
            IamArn::Root { .. } | IamArn::Role { .. } | IamArn::FederatedUser { .. } => {
                String::new()
            }
        }
    }
}

/// An external root, a bare role, and a federated user are refused as principals.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{0}` cannot be an external principal: expected a user or a role session")]
pub struct NotExternal(pub String);
