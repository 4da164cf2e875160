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
    authz::{self, Ask, Permit},
    error::Error,
    layout,
    seal::Sealer,
    view::{self, Plan, View},
    watch::Followers,
};

/// The policy store, as its RPCs see it.
#[derive(Clone)]
pub struct PolicyStore {
    pub store: Arc<dyn Store>,
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
            Caller::Session(session) => session.claims.session.account.parse().map_err(|_| {
                Error::AccessDenied { message: format!("{}: no account", session.claims.sub) }
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
    /// Runs an operation that only reads, for a caller that may do all that is asked.
    pub async fn read<T>(
        &self,
        call: &Call,
        asks: &[Ask<'_>],
        operation: impl Fn(&View, &Permit) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.look(|view| operation(view, &authz::permit(view, call, asks)?)).await
    }

    /// Runs an operation that writes, for a caller that may do all that is asked.
    async fn write<T>(
        &self,
        call: &Call,
        asks: &[Ask<'_>],
        operation: impl Fn(&View, &mut Plan, &Permit) -> Result<T, Error>,
    ) -> Result<(T, String), Error> {
        self.commit(|view, plan| operation(view, plan, &authz::permit(view, call, asks)?)).await
    }

    /// Runs an operation that only reads, for whom the caller has been found to be already.
    async fn look<T>(&self, operation: impl Fn(&View) -> Result<T, Error>) -> Result<T, Error> {
        view::read(self.store.as_ref(), crate::now(), operation).await
    }

    /// Runs an operation that writes, for whom the caller has been found to be already.
    async fn commit<T>(
        &self,
        operation: impl Fn(&View, &mut Plan) -> Result<T, Error>,
    ) -> Result<(T, String), Error> {
        let (value, revision): (T, Revision) =
            view::write(&self.store, crate::now(), operation).await?;
        Ok((value, revision.to_string()))
    }

    /// How many users and roles of an account have a policy; a thousand at most are counted.
    async fn attachment_count(&self, policy_id: &str, account: &AccountId) -> Result<usize, Error> {
        let prefix = layout::attachments_in(policy_id, account);
        Ok(self.store.range(prefix.as_bytes(), None, 1_000).await?.len())
    }
}
