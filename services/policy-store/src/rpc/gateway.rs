//! What gateways ask of the store, service principals' bindings, and signing keys.

use std::time::Duration;

use countersign_proto::policy::v1::*;
use countersign_serve::Fault;
use countersign_sigv4::key::{SecretKey, derive};
use tonic::Code;

use super::{Call, PolicyStore, milliseconds};
use crate::{
    authn::Caller,
    authz::{Ask, On, gateway},
    convert,
    error::Error,
    keys::{
        binding::{self, Binding},
        derive as derived, pin, proof, signing, used,
    },
    layout,
    view::{self, Mode},
};

const BARRED: &str = "the administrator role is barred from key operations: use another role of the first account \
    that has countersign:RevokeSigningKey";

impl PolicyStore {
    /// Needs countersign:BindServicePrincipal on the role, and iam:PassRole on it to that service: whoever may not hand the role over
    /// may not say who speaks for the service either.
    pub async fn bind_service_principal(
        &self,
        call: Call,
        request: BindServicePrincipalRequest,
    ) -> Result<BindServicePrincipalResponse, Error> {
        let BindServicePrincipalRequest {
            role_arn,
            service_principal,
            caller_unique_id,
            caller_account_id,
            validate_only: _,
            request_id: _,
        } = request;
        binding::service_principal(&service_principal)?;
        let account = call.account()?;
        binding::well_formed(&account, &role_arn)?;
        let asks = [
            Ask::new("countersign:BindServicePrincipal", On::Arn(role_arn.clone())),
            Ask::new("iam:PassRole", On::Arn(role_arn.clone()))
                .with("iam:PassedToService", service_principal.as_str()),
        ];
        let new = Binding { role_arn, service_principal, caller_unique_id, caller_account_id };
        self.write(&call, &asks, |view, plan, permit| {
            let record = binding::bind(view, plan, permit.account(), &new)?;
            Ok(BindServicePrincipalResponse { binding: Some(record), revision: String::new() })
        })
        .await
    }

    pub async fn list_service_principal_bindings(
        &self,
        call: Call,
        request: ListServicePrincipalBindingsRequest,
    ) -> Result<ListServicePrincipalBindingsResponse, Error> {
        let ListServicePrincipalBindingsRequest { role_arn, max_items, marker } = request;
        let paging = convert::paging(marker, max_items)?;
        binding::well_formed(&call.account()?, &role_arn)?;
        let on = On::Arn(role_arn.clone());
        let asks = [Ask::new("countersign:ListServicePrincipalBindings", on)];
        let role = self
            .read(&call, &asks, |view, permit| binding::role(view, permit.account(), &role_arn))
            .await?;
        let prefix = layout::bindings(&role.role_id);
        let store = self.store.as_ref();
        let page = view::page(store, &prefix, &paging.marker, paging.limit, |_| true).await?;
        Ok(ListServicePrincipalBindingsResponse {
            bindings: page.records,
            is_truncated: page.marker.is_some(),
            marker: page.marker.unwrap_or_default(),
        })
    }

    pub async fn delete_service_principal_binding(
        &self,
        call: Call,
        request: DeleteServicePrincipalBindingRequest,
    ) -> Result<DeleteServicePrincipalBindingResponse, Error> {
        let DeleteServicePrincipalBindingRequest {
            role_arn,
            service_principal,
            caller_unique_id,
            caller_account_id,
            validate_only: _,
            request_id: _,
        } = request;
        binding::well_formed(&call.account()?, &role_arn)?;
        let on = On::Arn(role_arn.clone());
        let asks = [Ask::new("countersign:DeleteServicePrincipalBinding", on)];
        let old = Binding { role_arn, service_principal, caller_unique_id, caller_account_id };
        self.write(&call, &asks, |view, plan, permit| {
            binding::delete(view, plan, permit.account(), &old)?;
            Ok(DeleteServicePrincipalBindingResponse::default())
        })
        .await
    }

    pub async fn publish_signing_key(
        &self,
        call: Call,
        request: PublishSigningKeyRequest,
    ) -> Result<PublishSigningKeyResponse, Error> {
        let PublishSigningKeyRequest { jwk } = request;
        let publisher = gateway(&call.caller, "PublishSigningKey")?.to_string();
        self.commit(&call, |view, plan| {
            let record = signing::publish(view, plan, &publisher, &jwk)?;
            Ok(PublishSigningKeyResponse { signing_key: Some(record), revision: String::new() })
        })
        .await
    }

    pub async fn list_signing_keys(
        &self,
        call: Call,
        request: ListSigningKeysRequest,
    ) -> Result<ListSigningKeysResponse, Error> {
        let ListSigningKeysRequest { max_items, marker } = request;
        match &call.caller {
            Caller::Service(_) => {}
            Caller::Session(session) => {
                return Err(Error::AccessDenied {
                    message: format!(
                        "ListSigningKeys is for services alone, not for {}; the keys are public at \
                         /.well-known/jwks.json",
                        session.claims.sub
                    ),
                });
            }
        }
        let paging = convert::paging(marker, max_items)?;
        let store = self.store.as_ref();
        let (prefix, limit) = (layout::SIGNING_KEYS, paging.limit);
        let keep = |_: &SigningKeyRecord| true;
        let page = view::page(store, prefix, &paging.marker, limit, keep).await?;
        let mut signing_keys = Vec::new();
        for record in page.records {
            let key = layout::signing_key(&record.kid);
            // Its version is the revision that wrote it.
            let number = store.get(key.as_bytes()).await?.map_or(0, |entry| entry.version);
            signing_keys.push(SigningKeyStatus {
                signing_key: Some(record),
                revision: format!("{}:{number}", store.id()),
                acknowledged: self.followers.acknowledged(RecordKind::SigningKey, number),
            });
        }
        Ok(ListSigningKeysResponse {
            signing_keys,
            is_truncated: page.marker.is_some(),
            marker: page.marker.unwrap_or_default(),
        })
    }

    pub async fn revoke_signing_key(
        &self,
        call: Call,
        request: RevokeSigningKeyRequest,
    ) -> Result<RevokeSigningKeyResponse, Error> {
        let RevokeSigningKeyRequest { kid, validate_only: _, request_id: _ } = request;
        let asks = [Ask::new("countersign:RevokeSigningKey", On::Anything)];
        self.write(&call, &asks, |view, plan, permit| {
            permit.of_operator_account(view)?;
            // Barred in code as well as by its policy, which it could change.
            if permit.is_administrator() {
                return Err(Error::AccessDenied { message: BARRED.to_owned() });
            }
            signing::revoke(view, plan, &kid)?;
            Ok(RevokeSigningKeyResponse::default())
        })
        .await
    }

    pub async fn derive_signing_key(
        &self,
        call: Call,
        request: DeriveSigningKeyRequest,
    ) -> Result<DeriveSigningKeyResponse, Error> {
        let DeriveSigningKeyRequest { access_key_id, date, region, service_name } = request;
        gateway(&call.caller, "DeriveSigningKey")?;
        let scope = derived::Scope { date: &date, region: &region, service_name: &service_name };
        scope.check(&self.region, crate::now().seconds)?;
        let (access_key, arn, sealed) =
            self.look(|view| derived::owner(view, &access_key_id)).await?;
        self.limits.take(&access_key_id, milliseconds(crate::now())).map_err(too_fast)?;
        let secret = self.sealer.open(&access_key_id, &sealed.sealed)?;
        let secret = std::str::from_utf8(&secret).map_err(|_| Error::Unsealed)?;
        let key = derive(&SecretKey::new(secret), &date, &region, &service_name);
        Ok(DeriveSigningKeyResponse {
            derived_key: key.as_bytes().to_vec(),
            access_key: Some(access_key),
            arn,
        })
    }

    pub async fn consume_proof(
        &self,
        call: Call,
        request: ConsumeProofRequest,
    ) -> Result<ConsumeProofResponse, Error> {
        let ConsumeProofRequest { replay_key, expire_time } = request;
        gateway(&call.caller, "ConsumeProof")?;
        self.commit(&call, |view, plan| {
            proof::consume(view, plan, &replay_key, expire_time)?;
            Ok(ConsumeProofResponse::default())
        })
        .await
    }

    /// No audit event: it is housekeeping, and of the gateway's own.
    pub async fn record_uses(
        &self,
        call: Call,
        request: RecordUsesRequest,
    ) -> Result<RecordUsesResponse, Error> {
        let RecordUsesRequest { uses } = request;
        gateway(&call.caller, "RecordUses")?;
        used::check(&uses)?;
        let mut recorded_count = 0;
        for some in uses.chunks(used::AT_ONCE) {
            let operation = |view: &_, plan: &mut _| used::record(view, plan, some, &self.region);
            let (recorded, _) =
                view::write(&self.store, crate::now(), Mode::Write, operation).await?;
            recorded_count += recorded;
        }
        Ok(RecordUsesResponse { recorded_count })
    }

    pub async fn pin_principal(
        &self,
        call: Call,
        request: PinPrincipalRequest,
    ) -> Result<PinPrincipalResponse, Error> {
        let PinPrincipalRequest {
            partition,
            account_id,
            principal_name,
            unique_id,
            launch_time,
            first_use_within_seconds,
        } = request;
        gateway(&call.caller, "PinPrincipal")?;
        self.commit(&call, |view, plan| {
            let principal = pin::Pin {
                partition: &partition,
                account_id: &account_id,
                principal_name: &principal_name,
                unique_id: &unique_id,
                launch_time,
                first_use_within_seconds,
            };
            let newly_pinned = pin::pin(view, plan, &principal)?;
            Ok(PinPrincipalResponse { revision: String::new(), newly_pinned })
        })
        .await
    }

    /// The first account's: what is pinned is pinned for all accounts.
    pub async fn unpin_principal(
        &self,
        call: Call,
        request: UnpinPrincipalRequest,
    ) -> Result<UnpinPrincipalResponse, Error> {
        let UnpinPrincipalRequest {
            partition,
            account_id,
            principal_name,
            validate_only: _,
            request_id: _,
        } = request;
        let asks = [Ask::new("countersign:UnpinPrincipal", On::Anything)];
        self.write(&call, &asks, |view, plan, permit| {
            permit.of_operator_account(view)?;
            pin::unpin(view, plan, &partition, &account_id, &principal_name)?;
            Ok(UnpinPrincipalResponse::default())
        })
        .await
    }
}

fn too_fast(wait: Duration) -> Fault {
    let message = "keys are derived too fast; wait, and ask again";
    Fault::new(Code::ResourceExhausted, "Throttling", message).retry_after(wait)
}
