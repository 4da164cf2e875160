//! Ending sessions and tokens before their time.

use countersign_proto::policy::v1::*;
use countersign_serve::ServiceName;

use super::{Call, PolicyStore};
use crate::{
    authn::Caller,
    authz::{self, Ask, On},
    error::Error,
    iam::role,
    keys::revoked,
    layout,
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
        let RevokeTokenRequest { token_id, expire_time } = request;
        let asks = [Ask::new("countersign:RevokeToken", On::Anything)];
        self.commit(&call, |view, plan| {
            match &call.caller {
                Caller::Service(ServiceName::Gateway) => {}
                Caller::Service(ServiceName::Decision) | Caller::Session(_) => {
                    authz::permit(view, &call, &asks)?.of_operator_account(view)?;
                }
            }
            revoked::revoke(view, plan, &token_id, expire_time)?;
            Ok(RevokeTokenResponse::default())
        })
        .await
    }
}
