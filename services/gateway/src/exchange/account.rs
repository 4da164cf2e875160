//! What is said of an exchange when it is over: one event in the audit trail, and one line in the log.

use std::time::Duration;

use countersign_proto::token::v1::ExchangeResponse;
use countersign_serve::Fault;
use tokio::sync::OwnedSemaphorePermit;

use super::counts::Counts;
use crate::{
    audit::{Audit, End, Event},
    error::Refusal,
};

/// For the audit trail's disk.
const DEADLINE: Duration = Duration::from_secs(5);

/// What the one log line of an exchange says, as far as it came. No token, signature or key is ever in it.
#[derive(Default)]
pub(crate) struct Account {
    pub(super) audit: Audit,
    /// None before it began.
    pub(super) counts: Option<Counts>,
    pub(crate) action: &'static str,
    pub(super) source: String,
    pub(crate) proof: &'static str,
    pub(super) role: String,
    pub(crate) session: String,
    pub(crate) audience: String,
    pub(crate) principal: String,
    pub(crate) decision_id: String,
    pub(super) service_principal: String,
    pub(crate) token_id: String,
    /// Until it is over.
    pub(super) room: Option<OwnedSemaphorePermit>,
    closed: bool,
}

impl Account {
    /// After any exchange, of whatever kind: written down, and said in the log.
    ///
    /// # Errors
    /// [`Refusal::NotAudited`] in place of a grant that cannot be written down, and every refusal that came in.
    pub(super) async fn end(
        &mut self,
        outcome: Result<ExchangeResponse, Refusal>,
    ) -> Result<ExchangeResponse, Refusal> {
        let outcome = self.write(outcome).await;
        if let Some(counts) = &self.counts {
            counts.ended(&outcome);
        }
        self.close(&outcome);
        outcome
    }

    /// On disk before it is answered. What is not written down is not granted.
    async fn write(
        &self,
        outcome: Result<ExchangeResponse, Refusal>,
    ) -> Result<ExchangeResponse, Refusal> {
        let end = match &outcome {
            // Their number is the caller's to choose.
            Err(Refusal::TooOften { .. } | Refusal::Busy) => return outcome,
            Err(refusal) => End::Refused {
                reason: Fault::from(refusal).reason().to_owned(),
                message: refusal.to_string(),
            },
            Ok(response) => End::Granted {
                token_id: self.token_id.clone(),
                session_arn: response
                    .assumed_role_user
                    .as_ref()
                    .map(|user| user.arn.clone())
                    .unwrap_or_default(),
                seconds: response.expires_in,
            },
        };
        let event = self.event(end);
        let written = tokio::time::timeout(DEADLINE, self.audit.write(&event)).await;
        match (written, outcome) {
            (Ok(Ok(())), outcome) => outcome,
            (Ok(Err(_)) | Err(_), Ok(_)) => Err(Refusal::NotAudited),
            (Ok(Err(_)) | Err(_), Err(refusal)) => Err(refusal),
        }
    }

    fn event(&self, end: End) -> Event {
        Event {
            name: self.action.split_once(':').map_or("AssumeRole", |(_, name)| name),
            proof: self.proof,
            principal: self.principal.clone(),
            role: self.role.clone(),
            session: self.session.clone(),
            audience: self.audience.clone(),
            source: self.source.clone(),
            decision_id: self.decision_id.clone(),
            service_principal: self.service_principal.clone(),
            end,
        }
    }

    fn close(&mut self, outcome: &Result<ExchangeResponse, Refusal>) {
        self.closed = true;
        let Self {
            audit: _,
            counts: _,
            action: _,
            source,
            proof,
            role,
            session,
            audience,
            principal,
            decision_id,
            service_principal,
            token_id,
            room: _,
            closed: _,
        } = self;
        match outcome {
            Ok(response) => tracing::info!(
                proof,
                principal,
                role,
                session,
                audience,
                source,
                service_principal,
                decision = decision_id,
                token = token_id,
                seconds = response.expires_in,
                "exchange granted"
            ),
            Err(refusal) => tracing::info!(
                proof,
                principal,
                role,
                session,
                audience,
                source,
                decision = decision_id,
                reason = Fault::from(refusal).reason(),
                error = %refusal,
                cause = refusal.cause().unwrap_or_default(),
                "exchange refused"
            ),
        }
    }
}

/// A caller that hangs up ends its exchange wherever it was. That too is one line.
impl Drop for Account {
    fn drop(&mut self) {
        if !self.closed {
            self.audit.note(&self.event(End::Abandoned));
            if let Some(counts) = &self.counts {
                counts.abandoned();
            }
            let Self { proof, role, session, audience, principal, decision_id, .. } = self;
            tracing::info!(
                proof,
                principal,
                role,
                session,
                audience,
                decision = decision_id,
                "exchange abandoned by the caller"
            );
        }
    }
}
