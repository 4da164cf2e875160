//! Ending sessions and tokens before their time.

use countersign_proto::policy::v1::*;
use countersign_serve::ServiceName;

use super::{Call, Done, PolicyStore};
use crate::{
    authn::Caller,
    authz::{self, Ask, On},
    error::Error,
    iam::role,
    keys::revoked,
    layout, request,
};

impl PolicyStore {
    /// Sessions that began in this very second are over too: of two in one second it is not known which came first.
    pub async fn revoke_role_sessions(
        &self,
        call: Call,
        request: RevokeRoleSessionsRequest,
    ) -> Result<RevokeRoleSessionsResponse, Error> {
        let RevokeRoleSessionsRequest { role_name, validate_only: _, request_id: _ } = request;
        let asks = [Ask::new("countersign:RevokeRoleSessions", On::Role(&role_name))];
        self.write(&call, &asks, |view, plan, permit| {
            let mut record = role::find(view, permit.account(), &role_name)?;
            record.sessions_revoked_before = Some(view.now());
            plan.put(&layout::role(permit.account(), &role_name), &record);
            Ok(RevokeRoleSessionsResponse::default())
        })
        .await
    }

    /// Gateways, and the operator's account: whoever holds a token asks a gateway.
    pub async fn revoke_token(
        &self,
        call: Call,
        request: RevokeTokenRequest,
    ) -> Result<RevokeTokenResponse, Error> {
        let RevokeTokenRequest { token_id, expire_time, validate_only: _, request_id: _ } = request;
        request::check(&call)?;
        let asks = [Ask::new("countersign:RevokeToken", On::Anything)];
        let finished = self.finish(&call, |view, plan| {
            match &call.caller {
                Caller::Service(ServiceName::Gateway) => {}
                Caller::Service(ServiceName::Decision) | Caller::Session(_) => {
                    view.permit(|| authz::permit(view, &call, &asks))?.of_operator_account(view)?;
                }
            }
            if let Some(done) = self.retried(view, &call)? {
                return Ok(done);
            }
            revoked::revoke(view, plan, &token_id, expire_time)?;
            let answer = RevokeTokenResponse::default();
            self.leave_traces(view, plan, &call, Vec::new(), &answer)?;
            Ok(Done { answer, revision: None })
        });
        let finished = finished.await;
        if let Err(error) = &finished {
            self.note_refusal(&call, &asks, error).await;
        }
        finished
    }
}
