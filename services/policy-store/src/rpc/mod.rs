//! The RPCs, by area. Each reads downward: the fields, the permit, the one operation, the answer.

pub mod access_keys;
pub mod accounts;
pub mod gateway;
pub mod policies;
pub mod roles;
pub mod users;

use std::{net::IpAddr, sync::Arc};

use countersign_policy::arn::AccountId;
use countersign_serve::{ServiceName, Shutdown};
use countersign_store::{Revision, Store};

use crate::{
    authn::Caller,
    authz::{Ask, Authorizer, Permit},
    error::Error,
    iam::name,
    layout,
    seal::Sealer,
    view::{self, Plan, View},
    watch::Followers,
};

/// The policy store, as its RPCs see it.
#[derive(Clone)]
pub struct PolicyStore {
    pub store: Arc<dyn Store>,
    pub authorizer: Authorizer,
    pub sealer: Arc<Sealer>,
    pub followers: Followers,
    pub region: Arc<str>,
    pub shutdown: Shutdown,
}

/// Who calls, and from where.
#[derive(Clone)]
pub struct Call {
    pub caller: Caller,
    pub source: Option<IpAddr>,
}

impl Call {
    /// The account that the caller acts in: its own.
    pub fn account(&self) -> Result<AccountId, Error> {
        match &self.caller {
            Caller::Session(claims) => claims.session.account.parse().map_err(|_| {
                Error::AccessDenied { message: format!("{}: no account", claims.sub) }
            }),
            Caller::Service(name @ (ServiceName::Gateway | ServiceName::Decision)) => {
                Err(Error::AccessDenied {
                    message: format!("the service `{name}` has no account to act in"),
                })
            }
        }
    }
}

impl PolicyStore {
    async fn permit(&self, call: &Call, asks: &[Ask]) -> Result<Permit, Error> {
        self.authorizer.permit(&call.caller, call.source, asks).await
    }

    async fn read<T>(&self, operation: impl Fn(&View) -> Result<T, Error>) -> Result<T, Error> {
        view::read(self.store.as_ref(), crate::now(), operation).await
    }

    async fn write<T>(
        &self,
        operation: impl Fn(&View, &mut Plan) -> Result<T, Error>,
    ) -> Result<(T, String), Error> {
        let (value, revision): (T, Revision) =
            view::write(&self.store, crate::now(), operation).await?;
        Ok((value, revision.to_string()))
    }

    /// The ARN of a user that may or may not be there: policies speak of paths, requests do not.
    async fn user_arn(&self, account: &AccountId, user_name: &str) -> Result<String, Error> {
        name::name("user_name", user_name, 64)?;
        let found = self.read(|view| view.find(&layout::user(account, user_name))).await?;
        Ok(found.map_or_else(
            || name::user_arn(account, "/", user_name),
            |user| crate::convert::user_arn(&user),
        ))
    }

    /// The ARN of a role that may or may not be there.
    async fn role_arn(&self, account: &AccountId, role_name: &str) -> Result<String, Error> {
        name::name("role_name", role_name, 64)?;
        let found = self.read(|view| view.find(&layout::role(account, role_name))).await?;
        Ok(found.map_or_else(
            || name::role_arn(account, "/", role_name),
            |role| crate::convert::role_arn(&role),
        ))
    }

    /// How many users and roles have a policy; a thousand at most are counted.
    async fn attachment_count(&self, policy_id: &str) -> Result<usize, Error> {
        let prefix = layout::attachments(policy_id);
        Ok(self.store.range(prefix.as_bytes(), None, 1_000).await?.len())
    }
}
