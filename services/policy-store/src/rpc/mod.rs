//! The RPCs, by area. Each reads downward: the fields, the permit, the one operation, the answer.

pub mod access_keys;
pub mod accounts;
pub mod export;
pub mod gateway;
pub mod groups;
pub mod import;
pub mod lookup;
pub mod organization;
pub mod policies;
pub mod resource_policies;
pub mod revocation;
pub mod roles;
pub mod simulation;
pub mod tags;
pub mod users;

use std::{net::IpAddr, sync::Arc};

use countersign_policy::arn::AccountId;
use countersign_serve::{ServiceName, Shutdown};
use countersign_store::Store;

use crate::{
    audit::{self, refused::Refusals},
    authn::Caller,
    authz::{self, Ask, Permit},
    convert::Uses,
    error::Error,
    iam::quota::Quotas,
    keys::limit::Limits,
    layout, request,
    seal::Sealer,
    space::Space,
    view::{self, Mode, Plan, View},
    watch::Followers,
};

/// The policy store, as its RPCs see it.
#[derive(Clone)]
pub struct PolicyStore {
    pub store: Arc<dyn Store>,
    pub sealer: Arc<Sealer>,
    pub followers: Followers,
    pub limits: Arc<Limits>,
    pub region: Arc<str>,
    pub quotas: Quotas,
    /// The name of this process in the audit trail.
    pub process: Arc<str>,
    pub shutdown: Shutdown,
    pub refusals: Arc<Refusals>,
    pub space: Arc<Space>,
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
    /// The message of a write, as it was received; of a read, nothing.
    pub request: Arc<[u8]>,
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

/// What an operation ended with.
struct Done<A> {
    answer: A,
    /// Of the first time, if this was a retry.
    revision: Option<u64>,
}

impl PolicyStore {
    /// Runs an operation that only reads, for a caller that may do all that is asked.
    pub async fn read<T>(
        &self,
        call: &Call,
        asks: &[Ask<'_>],
        operation: impl Fn(&View, &Permit) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.look(|view| operation(view, &view.permit(|| authz::permit(view, call, asks))?)).await
    }

    /// Runs an operation that writes, for a caller that may do all that is asked. The operation leaves the answer's revision empty.
    async fn write<A: Written>(
        &self,
        call: &Call,
        asks: &[Ask<'_>],
        operation: impl Fn(&View, &mut Plan, &Permit) -> Result<A, Error>,
    ) -> Result<A, Error> {
        request::check(call)?;
        let finished = self.finish(call, |view, plan| {
            let permit = view.permit(|| authz::permit(view, call, asks))?;
            if let Some(done) = self.retried(view, call)? {
                return Ok(done);
            }
            let about = authz::about_what(view, *permit.account(), asks)?;
            let answer = operation(view, plan, &permit)?;
            self.leave_traces(view, plan, call, about, &answer)?;
            Ok(Done { answer, revision: None })
        });
        let finished = finished.await;
        if let Err(error) = &finished {
            self.note_refusal(call, asks, error).await;
        }
        finished
    }

    /// The answer of the first time, if this is a retry.
    fn retried<A: Written>(&self, view: &View, call: &Call) -> Result<Option<Done<A>>, Error> {
        let first = request::done(view, call, &self.sealer)?;
        Ok(first.map(|(answer, revision)| Done { answer, revision: Some(revision) }))
    }

    /// Has a write that was refused for want of a right recorded, unless there are too many, or it was only asked about.
    async fn note_refusal(&self, call: &Call, asks: &[Ask<'_>], error: &Error) {
        let Error::AccessDenied { message } = error else { return };
        let now = crate::now();
        if call.options.validate_only || !self.refusals.may_record(call, milliseconds(now)) {
            return;
        }
        let about = match call.account() {
            Ok(account) => self.look(|view| authz::about_what(view, account, asks)).await,
            Err(error) => Err(error),
        };
        let resources = about.unwrap_or_default();
        self.refusals.record(now, call, resources, message.clone(), &self.process);
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
        self.finish(call, |view, plan| {
            let answer = operation(view, plan)?;
            self.leave_traces(view, plan, call, Vec::new(), &answer)?;
            Ok(Done { answer, revision: None })
        })
        .await
    }

    /// What every write leaves besides, in its own transaction: its audit record, and its answer if the caller named it.
    fn leave_traces<A: Written>(
        &self,
        view: &View,
        plan: &mut Plan,
        call: &Call,
        about: Vec<String>,
        answer: &A,
    ) -> Result<(), Error> {
        // A revocation that waited for a disk would leave allowed what should be over; its event is in the store until then.
        if audit::is_event(call.event_name) && !call.event_name.starts_with("Revoke") {
            self.space.check_trail()?;
        }
        let bytes = answer.encode_to_vec();
        request::remember(view, plan, call, &bytes, &self.sealer)?;
        audit::record(view, plan, call, about, &bytes, &self.process)
    }

    async fn finish<A: Written>(
        &self,
        call: &Call,
        operation: impl Fn(&View, &mut Plan) -> Result<Done<A>, Error>,
    ) -> Result<A, Error> {
        let mode = if call.options.validate_only { Mode::Validate } else { Mode::Write };
        let written = view::write(&self.store, crate::now(), mode, operation).await;
        if mode == Mode::Write {
            self.space.saw(&written);
        }
        let (done, revision) = written?;
        let Done { mut answer, revision: first } = done;
        // A retry is answered with the revision of the first.
        *answer.revision() = match first {
            Some(number) => format!("{}:{number}", self.store.id()),
            None => revision.to_string(),
        };
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

/// Since 1970.
fn milliseconds(time: prost_types::Timestamp) -> u64 {
    let milliseconds = time.seconds.saturating_mul(1_000) + i64::from(time.nanos) / 1_000_000;
    u64::try_from(milliseconds).unwrap_or_default()
}
