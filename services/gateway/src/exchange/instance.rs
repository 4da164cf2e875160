//! An exchange of an EC2 instance's identity document. The document has no expiry, no nonce and no audience, and everybody on the instance
//! can read it: so it is worth something only with a key beside it, and is bound to the first one (ATTACKS 56).

use countersign_proto::{policy::v1::PinPrincipalRequest, token::v1::ExchangeResponse};
use countersign_token::instance::InstanceDocument;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::{Account, DECISION, Exchange, Question, STORE, failed};
use crate::{
    clock,
    convert::Asked,
    error::Refusal,
    proof::{ProvenCaller, instance::SERVICE},
};

impl Exchange {
    /// The key of the DPoP proof is the instance's at its first use, and ever after; and the token is bound to it.
    pub(super) async fn by_instance(
        &self,
        asked: &Asked,
        envelope: &str,
        source: &str,
        account: &mut Account,
    ) -> Result<ExchangeResponse, Refusal> {
        let now = clock::now();
        let key = asked.beside.key(now)?.ok_or(Refusal::NoPossession)?;
        let document = self.instances.verify(envelope, now)?;
        let caller = ProvenCaller::of_instance(document, &self.partition);
        account.principal = caller.name();
        self.keys.signer(now)?;
        let question = Question::of(asked, &caller, source);
        let heard = self.keys.heard();
        let granted = self.authorize(&question, heard.as_ref(), account).await?;
        if !granted.pin_required || granted.service_principal != SERVICE {
            let cause = "an instance speaks for EC2, and its key is always pinned".to_owned();
            return Err(Refusal::ServiceBroken { service: DECISION, cause });
        }
        account.service_principal.clone_from(&granted.service_principal);
        // Only now, so that who is denied writes nothing.
        self.pin_instance(&caller, key.thumbprint()).await?;
        self.answer(asked, &caller, &granted, None, account)
    }

    /// Of two keys that come at once for the first time the store takes one.
    async fn pin_instance(&self, caller: &ProvenCaller, thumbprint: &str) -> Result<(), Refusal> {
        let launched = caller.instance().map(InstanceDocument::launched).unwrap_or_default();
        let request = PinPrincipalRequest {
            partition: caller.partition().to_owned(),
            account_id: caller.account().to_owned(),
            principal_name: format!("instance/{}", caller.unique_id()),
            unique_id: thumbprint.to_owned(),
            launch_time: Some(prost_types::Timestamp { seconds: launched, nanos: 0 }),
            first_use_within_seconds: self.instances.first_use_within(),
        };
        let Err(status) = self.store.clone().pin_principal(request).await else { return Ok(()) };
        Err(match (status.code(), reason(&status).as_str()) {
            (Code::FailedPrecondition, "DocumentSuperseded") => {
                Refusal::DocumentSuperseded { arn: caller.arn().to_owned() }
            }
            (Code::FailedPrecondition, "FirstUseTooLate") => {
                Refusal::FirstUseTooLate { arn: caller.arn().to_owned() }
            }
            (Code::FailedPrecondition, _) => {
                Refusal::InstanceKeyChanged { arn: caller.arn().to_owned() }
            }
            (code, _) => failed(STORE, code, &status),
        })
    }
}

fn reason(status: &Status) -> String {
    status.get_details_error_info().map(|info| info.reason).unwrap_or_default()
}
