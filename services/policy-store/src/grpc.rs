//! The wire: unwraps a request, hands it to its RPC in `rpc`, and wraps the answer.

use std::{future::Future, pin::Pin, sync::Arc};

use countersign_proto::policy::v1::{policy_store_service_server::PolicyStoreService, *};
use prost::Message;
use tonic::{Request, Response, Status, Streaming, transport::server::TcpConnectInfo};

use crate::{
    authn::Caller,
    rpc::{Call, PolicyStore, WriteOptions, WriteRequest, Written},
    watch,
};

/// What tonic's service traits return.
type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<Response<T>, Status>> + Send + 'a>>;

/// Who calls, as the door wrote it down. Without the door there is nobody, and nobody may do anything.
fn open<T>(
    event_name: &'static str,
    (options, bytes): (WriteOptions, Arc<[u8]>),
    request: Request<T>,
) -> Result<(Call, T), Status> {
    let caller = request
        .extensions()
        .get::<Caller>()
        .cloned()
        .ok_or_else(|| Status::from(countersign_serve::authn::missing_credentials()))?;
    let source = request
        .extensions()
        .get::<TcpConnectInfo>()
        .and_then(TcpConnectInfo::remote_addr)
        .map(|address| address.ip());
    Ok((Call { caller, source, event_name, options, request: bytes }, request.into_inner()))
}

fn log(rpc: &'static str, caller: &Caller, outcome: Result<(), &crate::error::Error>) {
    let caller: &dyn std::fmt::Display = match caller {
        Caller::Service(name) => name,
        Caller::Session(session) => &session.claims.sub,
    };
    match outcome {
        Ok(()) => tracing::debug!(rpc, %caller, "done"),
        Err(error) => tracing::info!(rpc, %caller, %error, "refused"),
    }
}

/// The operation of a request: IAM's name for it.
const fn operation(request: &'static str) -> &'static str {
    match request.split_at_checked(request.len().saturating_sub("Request".len())) {
        Some((name, _)) => name,
        None => request,
    }
}

/// What a write's request and answer have in common with every other's.
macro_rules! writes {
    ($($request:ty => $response:ty;)*) => {$(
        impl WriteRequest for $request {
            fn options(&self) -> WriteOptions {
                WriteOptions {
                    validate_only: self.validate_only,
                    request_id: self.request_id.clone(),
                }
            }
        }

        impl Written for $response {
            fn revision(&mut self) -> &mut String {
                &mut self.revision
            }
        }
    )*};
}

/// Writes that know neither `validate_only` nor `request_id`: a service's own, or one that is the same when it is done twice.
macro_rules! plain_writes {
    ($($request:ty => $response:ty;)*) => {$(
        impl WriteRequest for $request {
            fn options(&self) -> WriteOptions {
                WriteOptions::default()
            }
        }

        impl Written for $response {
            fn revision(&mut self) -> &mut String {
                &mut self.revision
            }
        }
    )*};
}

macro_rules! reads {
    ($($rpc:ident($request:ty) -> $response:ty;)*) => {
        $(rpc!($rpc($request) -> $response, |_| Default::default());)*
    };
}

macro_rules! writing {
    ($($rpc:ident($request:ty) -> $response:ty;)*) => {
        $(rpc!($rpc($request) -> $response, |request: &$request| {
            (request.options(), request.encode_to_vec().into())
        });)*
    };
}

macro_rules! rpc {
    ($rpc:ident($request:ty) -> $response:ty, $options:expr) => {
        fn $rpc<'a, 'b>(&'a self, request: Request<$request>) -> Answer<'b, $response>
        where
            'a: 'b,
            Self: 'b,
        {
            Box::pin(async move {
                let options: fn(&$request) -> (WriteOptions, Arc<[u8]>) = $options;
                let options = options(request.get_ref());
                let (call, message) = open(operation(stringify!($request)), options, request)?;
                let (caller, event_name) = (call.caller.clone(), call.event_name);
                let answer = PolicyStore::$rpc(self, call, message).await;
                log(event_name, &caller, answer.as_ref().map(|_| ()));
                Ok(Response::new(answer?))
            })
        }
    };
}

writes! {
    CreateUserRequest => CreateUserResponse;
    UpdateUserRequest => UpdateUserResponse;
    DeleteUserRequest => DeleteUserResponse;
    AttachUserPolicyRequest => AttachUserPolicyResponse;
    DetachUserPolicyRequest => DetachUserPolicyResponse;
    PutUserPolicyRequest => PutUserPolicyResponse;
    DeleteUserPolicyRequest => DeleteUserPolicyResponse;
    CreateAccessKeyRequest => CreateAccessKeyResponse;
    UpdateAccessKeyRequest => UpdateAccessKeyResponse;
    DeleteAccessKeyRequest => DeleteAccessKeyResponse;
    CreateRoleRequest => CreateRoleResponse;
    UpdateRoleRequest => UpdateRoleResponse;
    UpdateAssumeRolePolicyRequest => UpdateAssumeRolePolicyResponse;
    DeleteRoleRequest => DeleteRoleResponse;
    AttachRolePolicyRequest => AttachRolePolicyResponse;
    DetachRolePolicyRequest => DetachRolePolicyResponse;
    PutRolePolicyRequest => PutRolePolicyResponse;
    DeleteRolePolicyRequest => DeleteRolePolicyResponse;
    CreatePolicyRequest => CreatePolicyResponse;
    DeletePolicyRequest => DeletePolicyResponse;
    CreatePolicyVersionRequest => CreatePolicyVersionResponse;
    DeletePolicyVersionRequest => DeletePolicyVersionResponse;
    SetDefaultPolicyVersionRequest => SetDefaultPolicyVersionResponse;
    CreateAccountRequest => CreateAccountResponse;
    BindServicePrincipalRequest => BindServicePrincipalResponse;
    DeleteServicePrincipalBindingRequest => DeleteServicePrincipalBindingResponse;
    TagUserRequest => TagUserResponse;
    UntagUserRequest => UntagUserResponse;
    PutUserPermissionsBoundaryRequest => PutUserPermissionsBoundaryResponse;
    DeleteUserPermissionsBoundaryRequest => DeleteUserPermissionsBoundaryResponse;
    CreateGroupRequest => CreateGroupResponse;
    UpdateGroupRequest => UpdateGroupResponse;
    DeleteGroupRequest => DeleteGroupResponse;
    AddUserToGroupRequest => AddUserToGroupResponse;
    RemoveUserFromGroupRequest => RemoveUserFromGroupResponse;
    AttachGroupPolicyRequest => AttachGroupPolicyResponse;
    DetachGroupPolicyRequest => DetachGroupPolicyResponse;
    PutGroupPolicyRequest => PutGroupPolicyResponse;
    DeleteGroupPolicyRequest => DeleteGroupPolicyResponse;
    TagRoleRequest => TagRoleResponse;
    UntagRoleRequest => UntagRoleResponse;
    PutRolePermissionsBoundaryRequest => PutRolePermissionsBoundaryResponse;
    DeleteRolePermissionsBoundaryRequest => DeleteRolePermissionsBoundaryResponse;
    TagPolicyRequest => TagPolicyResponse;
    UntagPolicyRequest => UntagPolicyResponse;
    PutResourcePolicyRequest => PutResourcePolicyResponse;
    DeleteResourcePolicyRequest => DeleteResourcePolicyResponse;
    CreateOrganizationalUnitRequest => CreateOrganizationalUnitResponse;
    UpdateOrganizationalUnitRequest => UpdateOrganizationalUnitResponse;
    DeleteOrganizationalUnitRequest => DeleteOrganizationalUnitResponse;
    MoveAccountRequest => MoveAccountResponse;
    CreateGuardrailRequest => CreateGuardrailResponse;
    UpdateGuardrailRequest => UpdateGuardrailResponse;
    DeleteGuardrailRequest => DeleteGuardrailResponse;
    AttachGuardrailRequest => AttachGuardrailResponse;
    DetachGuardrailRequest => DetachGuardrailResponse;
    RevokeRoleSessionsRequest => RevokeRoleSessionsResponse;
    RevokeSigningKeyRequest => RevokeSigningKeyResponse;
    UnpinPrincipalRequest => UnpinPrincipalResponse;
    RevokeTokenRequest => RevokeTokenResponse;
    ImportAccountAuthorizationDetailsRequest => ImportAccountAuthorizationDetailsResponse;
}

plain_writes! {
    PublishSigningKeyRequest => PublishSigningKeyResponse;
    ConsumeProofRequest => ConsumeProofResponse;
    PinPrincipalRequest => PinPrincipalResponse;
}

#[tonic::async_trait]
impl PolicyStoreService for PolicyStore {
    writing! {
        put_resource_policy(PutResourcePolicyRequest) -> PutResourcePolicyResponse;
        delete_resource_policy(DeleteResourcePolicyRequest) -> DeleteResourcePolicyResponse;
        create_organizational_unit(CreateOrganizationalUnitRequest) -> CreateOrganizationalUnitResponse;
        update_organizational_unit(UpdateOrganizationalUnitRequest) -> UpdateOrganizationalUnitResponse;
        delete_organizational_unit(DeleteOrganizationalUnitRequest) -> DeleteOrganizationalUnitResponse;
        move_account(MoveAccountRequest) -> MoveAccountResponse;
        create_guardrail(CreateGuardrailRequest) -> CreateGuardrailResponse;
        update_guardrail(UpdateGuardrailRequest) -> UpdateGuardrailResponse;
        delete_guardrail(DeleteGuardrailRequest) -> DeleteGuardrailResponse;
        attach_guardrail(AttachGuardrailRequest) -> AttachGuardrailResponse;
        detach_guardrail(DetachGuardrailRequest) -> DetachGuardrailResponse;
        revoke_role_sessions(RevokeRoleSessionsRequest) -> RevokeRoleSessionsResponse;
        revoke_token(RevokeTokenRequest) -> RevokeTokenResponse;
        tag_user(TagUserRequest) -> TagUserResponse;
        untag_user(UntagUserRequest) -> UntagUserResponse;
        put_user_permissions_boundary(PutUserPermissionsBoundaryRequest) -> PutUserPermissionsBoundaryResponse;
        delete_user_permissions_boundary(DeleteUserPermissionsBoundaryRequest) -> DeleteUserPermissionsBoundaryResponse;
        create_group(CreateGroupRequest) -> CreateGroupResponse;
        update_group(UpdateGroupRequest) -> UpdateGroupResponse;
        delete_group(DeleteGroupRequest) -> DeleteGroupResponse;
        add_user_to_group(AddUserToGroupRequest) -> AddUserToGroupResponse;
        remove_user_from_group(RemoveUserFromGroupRequest) -> RemoveUserFromGroupResponse;
        attach_group_policy(AttachGroupPolicyRequest) -> AttachGroupPolicyResponse;
        detach_group_policy(DetachGroupPolicyRequest) -> DetachGroupPolicyResponse;
        put_group_policy(PutGroupPolicyRequest) -> PutGroupPolicyResponse;
        delete_group_policy(DeleteGroupPolicyRequest) -> DeleteGroupPolicyResponse;
        tag_role(TagRoleRequest) -> TagRoleResponse;
        untag_role(UntagRoleRequest) -> UntagRoleResponse;
        put_role_permissions_boundary(PutRolePermissionsBoundaryRequest) -> PutRolePermissionsBoundaryResponse;
        delete_role_permissions_boundary(DeleteRolePermissionsBoundaryRequest) -> DeleteRolePermissionsBoundaryResponse;
        tag_policy(TagPolicyRequest) -> TagPolicyResponse;
        untag_policy(UntagPolicyRequest) -> UntagPolicyResponse;
        create_user(CreateUserRequest) -> CreateUserResponse;
        update_user(UpdateUserRequest) -> UpdateUserResponse;
        delete_user(DeleteUserRequest) -> DeleteUserResponse;
        attach_user_policy(AttachUserPolicyRequest) -> AttachUserPolicyResponse;
        detach_user_policy(DetachUserPolicyRequest) -> DetachUserPolicyResponse;
        put_user_policy(PutUserPolicyRequest) -> PutUserPolicyResponse;
        delete_user_policy(DeleteUserPolicyRequest) -> DeleteUserPolicyResponse;
        create_access_key(CreateAccessKeyRequest) -> CreateAccessKeyResponse;
        update_access_key(UpdateAccessKeyRequest) -> UpdateAccessKeyResponse;
        delete_access_key(DeleteAccessKeyRequest) -> DeleteAccessKeyResponse;
        create_role(CreateRoleRequest) -> CreateRoleResponse;
        update_role(UpdateRoleRequest) -> UpdateRoleResponse;
        update_assume_role_policy(UpdateAssumeRolePolicyRequest) -> UpdateAssumeRolePolicyResponse;
        delete_role(DeleteRoleRequest) -> DeleteRoleResponse;
        attach_role_policy(AttachRolePolicyRequest) -> AttachRolePolicyResponse;
        detach_role_policy(DetachRolePolicyRequest) -> DetachRolePolicyResponse;
        put_role_policy(PutRolePolicyRequest) -> PutRolePolicyResponse;
        delete_role_policy(DeleteRolePolicyRequest) -> DeleteRolePolicyResponse;
        create_policy(CreatePolicyRequest) -> CreatePolicyResponse;
        delete_policy(DeletePolicyRequest) -> DeletePolicyResponse;
        create_policy_version(CreatePolicyVersionRequest) -> CreatePolicyVersionResponse;
        delete_policy_version(DeletePolicyVersionRequest) -> DeletePolicyVersionResponse;
        set_default_policy_version(SetDefaultPolicyVersionRequest) -> SetDefaultPolicyVersionResponse;
        create_account(CreateAccountRequest) -> CreateAccountResponse;
        bind_service_principal(BindServicePrincipalRequest) -> BindServicePrincipalResponse;
        delete_service_principal_binding(DeleteServicePrincipalBindingRequest) -> DeleteServicePrincipalBindingResponse;
        publish_signing_key(PublishSigningKeyRequest) -> PublishSigningKeyResponse;
        revoke_signing_key(RevokeSigningKeyRequest) -> RevokeSigningKeyResponse;
        consume_proof(ConsumeProofRequest) -> ConsumeProofResponse;
        pin_principal(PinPrincipalRequest) -> PinPrincipalResponse;
        unpin_principal(UnpinPrincipalRequest) -> UnpinPrincipalResponse;
        import_account_authorization_details(ImportAccountAuthorizationDetailsRequest) -> ImportAccountAuthorizationDetailsResponse;
    }

    reads! {
        lookup_events(LookupEventsRequest) -> LookupEventsResponse;
        get_resource_policy(GetResourcePolicyRequest) -> GetResourcePolicyResponse;
        list_organizational_units_for_parent(ListOrganizationalUnitsForParentRequest) -> ListOrganizationalUnitsForParentResponse;
        get_guardrail(GetGuardrailRequest) -> GetGuardrailResponse;
        list_guardrails(ListGuardrailsRequest) -> ListGuardrailsResponse;
        list_targets_for_guardrail(ListTargetsForGuardrailRequest) -> ListTargetsForGuardrailResponse;
        get_account_summary(GetAccountSummaryRequest) -> GetAccountSummaryResponse;
        list_user_tags(ListUserTagsRequest) -> ListUserTagsResponse;
        get_group(GetGroupRequest) -> GetGroupResponse;
        list_groups(ListGroupsRequest) -> ListGroupsResponse;
        list_groups_for_user(ListGroupsForUserRequest) -> ListGroupsForUserResponse;
        list_attached_group_policies(ListAttachedGroupPoliciesRequest) -> ListAttachedGroupPoliciesResponse;
        get_group_policy(GetGroupPolicyRequest) -> GetGroupPolicyResponse;
        list_group_policies(ListGroupPoliciesRequest) -> ListGroupPoliciesResponse;
        list_role_tags(ListRoleTagsRequest) -> ListRoleTagsResponse;
        list_policy_tags(ListPolicyTagsRequest) -> ListPolicyTagsResponse;
        get_user(GetUserRequest) -> GetUserResponse;
        list_users(ListUsersRequest) -> ListUsersResponse;
        list_attached_user_policies(ListAttachedUserPoliciesRequest) -> ListAttachedUserPoliciesResponse;
        get_user_policy(GetUserPolicyRequest) -> GetUserPolicyResponse;
        list_user_policies(ListUserPoliciesRequest) -> ListUserPoliciesResponse;
        list_access_keys(ListAccessKeysRequest) -> ListAccessKeysResponse;
        get_role(GetRoleRequest) -> GetRoleResponse;
        list_roles(ListRolesRequest) -> ListRolesResponse;
        list_attached_role_policies(ListAttachedRolePoliciesRequest) -> ListAttachedRolePoliciesResponse;
        get_role_policy(GetRolePolicyRequest) -> GetRolePolicyResponse;
        list_role_policies(ListRolePoliciesRequest) -> ListRolePoliciesResponse;
        get_policy(GetPolicyRequest) -> GetPolicyResponse;
        list_policies(ListPoliciesRequest) -> ListPoliciesResponse;
        get_policy_version(GetPolicyVersionRequest) -> GetPolicyVersionResponse;
        list_policy_versions(ListPolicyVersionsRequest) -> ListPolicyVersionsResponse;
        list_entities_for_policy(ListEntitiesForPolicyRequest) -> ListEntitiesForPolicyResponse;
        list_accounts(ListAccountsRequest) -> ListAccountsResponse;
        list_service_principal_bindings(ListServicePrincipalBindingsRequest) -> ListServicePrincipalBindingsResponse;
        list_signing_keys(ListSigningKeysRequest) -> ListSigningKeysResponse;
        simulate_principal_policy(SimulatePrincipalPolicyRequest) -> SimulatePrincipalPolicyResponse;
        simulate_custom_policy(SimulateCustomPolicyRequest) -> SimulateCustomPolicyResponse;
        get_account_authorization_details(GetAccountAuthorizationDetailsRequest) -> GetAccountAuthorizationDetailsResponse;
        derive_signing_key(DeriveSigningKeyRequest) -> DeriveSigningKeyResponse;
        get_access_key_last_used(GetAccessKeyLastUsedRequest) -> GetAccessKeyLastUsedResponse;
        record_uses(RecordUsesRequest) -> RecordUsesResponse;
    }

    type WatchStream = watch::Events;

    async fn watch(
        &self,
        request: Request<Streaming<WatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let (call, mut requests) = open("Watch", Default::default(), request)?;
        let watcher = watch::Watcher::new(self.clone(), call);
        watcher.may_follow().await?;
        let start = watch::start(&mut requests).await?;
        let kinds = watch::kinds(&start)?;
        let (out, events) = watch::channel();
        let feed = watch::Feed {
            store: self.store.clone(),
            followers: self.followers.clone(),
            shutdown: self.shutdown.clone(),
            watcher,
        };
        tokio::spawn(watch::follow(feed, start, kinds, requests, out));
        Ok(Response::new(events))
    }
}
