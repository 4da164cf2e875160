//! The RPCs, by area. Each reads downward: the fields, the permit, the one operation, the answer.

pub mod access_keys;
pub mod accounts;
pub mod gateway;
pub mod groups;
pub mod organization;
pub mod policies;
pub mod resource_policies;
pub mod revocation;
pub mod roles;
pub mod tags;
pub mod users;

use std::{net::IpAddr, sync::Arc};

use countersign_policy::arn::AccountId;
use countersign_serve::{ServiceName, Shutdown};
use countersign_store::Store;

use crate::{
    authn::Caller,
    authz::{self, Ask, Permit},
    convert::{self, Uses},
    error::Error,
    iam::quota::Quotas,
    layout,
    seal::Sealer,
    view::{self, Mode, Plan, View},
    watch::Followers,
};

/// The policy store, as its RPCs see it.
#[derive(Clone)]
pub struct PolicyStore {
    pub store: Arc<dyn Store>,
    pub sealer: Arc<Sealer>,
    pub followers: Followers,
    pub region: Arc<str>,
    pub quotas: Quotas,
    pub shutdown: Shutdown,
}

/// Who calls, from where, and how.
#[derive(Clone)]
pub struct Call {
    pub caller: Caller,
    pub source: Option<IpAddr>,
    /// The operation, by IAM's name: `CreateRole`.
    pub event_name: &'static str,
    /// What every write may be asked besides.
    pub options: WriteOptions,
}

/// What every write may be asked besides; a read has none of it.
#[derive(Clone, Default)]
pub struct WriteOptions {
    /// Check everything, and write nothing.
    pub validate_only: bool,
    /// The caller's own name for this write; may be empty.
    pub request_id: String,
}

/// The request of a write.
pub trait WriteRequest {
    /// What it asks besides.
    fn options(&self) -> WriteOptions;
}

/// The answer to a write.
pub trait Written: prost::Message + Default {
    /// Where the revision goes, once there is one. An operation leaves it empty.
    fn revision(&mut self) -> &mut String;
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

    /// Runs an operation that writes, for a caller that may do all that is asked. The operation leaves the answer's revision empty.
    async fn write<A: Written>(
        &self,
        call: &Call,
        asks: &[Ask<'_>],
        operation: impl Fn(&View, &mut Plan, &Permit) -> Result<A, Error>,
    ) -> Result<A, Error> {
        self.commit(call, |view, plan| operation(view, plan, &authz::permit(view, call, asks)?))
            .await
    }

    /// Runs an operation that only reads, for whom the caller has been found to be already.
    async fn look<T>(&self, operation: impl Fn(&View) -> Result<T, Error>) -> Result<T, Error> {
        view::read(self.store.as_ref(), crate::now(), operation).await
    }

    /// Runs an operation that writes, for whom the caller has been found to be already.
    async fn commit<A: Written>(
        &self,
        call: &Call,
        operation: impl Fn(&View, &mut Plan) -> Result<A, Error>,
    ) -> Result<A, Error> {
        let WriteOptions { validate_only, request_id } = &call.options;
        convert::refuse("request_id", !request_id.is_empty())?;
        let mode = if *validate_only { Mode::Validate } else { Mode::Write };
        let (mut answer, revision) =
            view::write(&self.store, crate::now(), mode, operation).await?;
        *answer.revision() = revision.to_string();
        Ok(answer)
    }

    /// In how many places of an account a policy is used; a thousand of each at most are counted.
    async fn uses(&self, policy_id: &str, account: &AccountId) -> Result<Uses, Error> {
        let attachments = layout::attachments_in(policy_id, account);
        let boundaries = layout::boundaries_in(policy_id, account);
        Ok(Uses {
            attachments: self.store.range(attachments.as_bytes(), None, 1_000).await?.len(),
            boundaries: self.store.range(boundaries.as_bytes(), None, 1_000).await?.len(),
        })
    }
}
