//! An exchange of somebody else's JWT. It says who asks, and signs nothing of the request: a role may demand more (`countersign:ProofBound`).

use countersign_proto::token::v1::ExchangeResponse;

use super::{Account, DECISION, Exchange, Question};
use crate::{clock, convert::Asked, error::Refusal, proof::ProvenCaller};

impl Exchange {
    /// The token may be shown again while it lasts, as at AWS: a pod has one for an hour, and no other.
    pub(super) async fn by_jwt(
        &self,
        asked: &Asked,
        token: &str,
        source: &str,
        account: &mut Account,
    ) -> Result<ExchangeResponse, Refusal> {
        let now = clock::now();
        let shown = self.jwts.verify(token, now).await?;
        let caller = ProvenCaller::of_web_identity(shown, &self.partition, &asked.role_account);
        account.principal = caller.name();
        self.keys.signer(now)?;
        let question = Question::of(asked, &caller, source);
        let heard = self.keys.heard();
        let granted = self.authorize(&question, heard.as_ref(), account).await?;
        if granted.pin_required || !granted.service_principal.is_empty() {
            let cause = "a web identity is pinned nowhere, and speaks for nobody".to_owned();
            return Err(Refusal::ServiceBroken { service: DECISION, cause });
        }
        self.answer(asked, &caller, &granted, None, account)
    }
}
