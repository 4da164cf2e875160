//! The rows of the authorization matrix: what each RPC is asked, and which action on which resource it needs, written down a second
//! time and apart from the code that asks for it.

#![allow(clippy::needless_update, reason = "some requests have no other field")]

use countersign_proto::policy::v1::*;

use crate::{
    matrix::{Fixture, Row},
    support::{allow, trust},
};

const USER: &str = "arn:aws:iam::123456789012:user/alice";
const ROLE: &str = "arn:aws:iam::123456789012:role/Deploy";
const GROUP: &str = "arn:aws:iam::123456789012:group/Staff";
const POLICY: &str = "arn:aws:iam::123456789012:policy/Rules";
const RESOURCE: &str = "arn:aws:orders:us-east-1:123456789012:order/1";

/// An RPC that only reads, or that knows no `validate_only`.
macro_rules! read {
    ($actions:expr, $resource:expr, $rpc:ident($request:ident { $($field:ident: $value:expr),* $(,)? })) => {{
        let request = $request { $($field: $value,)* ..Default::default() };
        Row {
            rpc: stringify!($request).strip_suffix("Request").unwrap(),
            actions: $actions,
            resource: $resource,
            call: Box::new(move |mut client| {
                let request = request.clone();
                Box::pin(async move { client.$rpc(request).await.map(drop) })
            }),
        }
    }};
}

/// A write, checked and not done.
macro_rules! write {
    ($actions:expr, $resource:expr, $rpc:ident($request:ident { $($field:ident: $value:expr),* $(,)? })) => {
        read!($actions, $resource, $rpc($request { $($field: $value,)* validate_only: true }))
    };
}

fn s(text: &str) -> String {
    text.to_owned()
}

fn tag() -> Tag {
    Tag { key: s("k"), value: s("v") }
}

fn open_to_all() -> String {
    s(
        r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"orders:Get","Resource":"*"}]}"#,
    )
}

fn watch() -> Row {
    Row {
        rpc: "Watch",
        actions: &["countersign:Watch"],
        resource: "*",
        call: Box::new(|mut client| {
            let start = watch_request::Request::Start(WatchStart::default());
            let requests = tokio_stream::iter([WatchRequest { request: Some(start) }]);
            Box::pin(async move { client.watch(requests).await.map(drop) })
        }),
    }
}

/// By area; one line a row, to be read as a table.
#[rustfmt::skip]
pub fn rows(f: &Fixture) -> Vec<Row> {
    vec![
        write!(&["iam:CreateUser"], "arn:aws:iam::123456789012:user/New", create_user(CreateUserRequest { user_name: s("New") })),
        read!(&["iam:GetUser"], USER, get_user(GetUserRequest { user_name: s("alice") })),
        read!(&["iam:ListUsers"], "*", list_users(ListUsersRequest {})),
        write!(&["iam:UpdateUser"], USER, update_user(UpdateUserRequest { user_name: s("alice"), new_path: s("/") })),
        write!(&["iam:DeleteUser"], USER, delete_user(DeleteUserRequest { user_name: s("alice") })),
        write!(&["iam:TagUser"], USER, tag_user(TagUserRequest { user_name: s("alice"), tags: vec![tag()] })),
        write!(&["iam:UntagUser"], USER, untag_user(UntagUserRequest { user_name: s("alice"), tag_keys: vec![s("k")] })),
        read!(&["iam:ListUserTags"], USER, list_user_tags(ListUserTagsRequest { user_name: s("alice") })),
        write!(&["iam:AttachUserPolicy"], USER, attach_user_policy(AttachUserPolicyRequest { user_name: s("alice"), policy_arn: s(POLICY) })),
        write!(&["iam:DetachUserPolicy"], USER, detach_user_policy(DetachUserPolicyRequest { user_name: s("alice"), policy_arn: s(POLICY) })),
        read!(&["iam:ListAttachedUserPolicies"], USER, list_attached_user_policies(ListAttachedUserPoliciesRequest { user_name: s("alice") })),
        write!(&["iam:PutUserPolicy"], USER, put_user_policy(PutUserPolicyRequest { user_name: s("alice"), policy_name: s("Inline"), policy_document: allow("s3:GetObject", "*") })),
        read!(&["iam:GetUserPolicy"], USER, get_user_policy(GetUserPolicyRequest { user_name: s("alice"), policy_name: s("Inline") })),
        write!(&["iam:DeleteUserPolicy"], USER, delete_user_policy(DeleteUserPolicyRequest { user_name: s("alice"), policy_name: s("Inline") })),
        read!(&["iam:ListUserPolicies"], USER, list_user_policies(ListUserPoliciesRequest { user_name: s("alice") })),
        write!(&["iam:PutUserPermissionsBoundary"], USER, put_user_permissions_boundary(PutUserPermissionsBoundaryRequest { user_name: s("alice"), permissions_boundary: s(POLICY) })),
        write!(&["iam:DeleteUserPermissionsBoundary"], USER, delete_user_permissions_boundary(DeleteUserPermissionsBoundaryRequest { user_name: s("alice") })),
        write!(&["iam:CreateAccessKey"], USER, create_access_key(CreateAccessKeyRequest { user_name: s("alice") })),
        read!(&["iam:ListAccessKeys"], USER, list_access_keys(ListAccessKeysRequest { user_name: s("alice") })),
        write!(&["iam:UpdateAccessKey"], USER, update_access_key(UpdateAccessKeyRequest { user_name: s("alice"), access_key_id: f.access_key_id.clone(), status: AccessKeyStatus::Inactive.into() })),
        write!(&["iam:DeleteAccessKey"], USER, delete_access_key(DeleteAccessKeyRequest { user_name: s("alice"), access_key_id: f.access_key_id.clone() })),
        read!(&["iam:GetAccessKeyLastUsed"], USER, get_access_key_last_used(GetAccessKeyLastUsedRequest { access_key_id: f.access_key_id.clone() })),
        write!(&["iam:CreateGroup"], "arn:aws:iam::123456789012:group/New", create_group(CreateGroupRequest { group_name: s("New") })),
        read!(&["iam:GetGroup"], GROUP, get_group(GetGroupRequest { group_name: s("Staff") })),
        read!(&["iam:ListGroups"], "*", list_groups(ListGroupsRequest {})),
        write!(&["iam:UpdateGroup"], GROUP, update_group(UpdateGroupRequest { group_name: s("Staff"), new_path: s("/") })),
        write!(&["iam:DeleteGroup"], GROUP, delete_group(DeleteGroupRequest { group_name: s("Staff") })),
        write!(&["iam:AddUserToGroup"], GROUP, add_user_to_group(AddUserToGroupRequest { group_name: s("Staff"), user_name: s("alice") })),
        write!(&["iam:RemoveUserFromGroup"], GROUP, remove_user_from_group(RemoveUserFromGroupRequest { group_name: s("Staff"), user_name: s("alice") })),
        read!(&["iam:ListGroupsForUser"], USER, list_groups_for_user(ListGroupsForUserRequest { user_name: s("alice") })),
        write!(&["iam:AttachGroupPolicy"], GROUP, attach_group_policy(AttachGroupPolicyRequest { group_name: s("Staff"), policy_arn: s(POLICY) })),
        write!(&["iam:DetachGroupPolicy"], GROUP, detach_group_policy(DetachGroupPolicyRequest { group_name: s("Staff"), policy_arn: s(POLICY) })),
        read!(&["iam:ListAttachedGroupPolicies"], GROUP, list_attached_group_policies(ListAttachedGroupPoliciesRequest { group_name: s("Staff") })),
        write!(&["iam:PutGroupPolicy"], GROUP, put_group_policy(PutGroupPolicyRequest { group_name: s("Staff"), policy_name: s("Inline"), policy_document: allow("s3:GetObject", "*") })),
        read!(&["iam:GetGroupPolicy"], GROUP, get_group_policy(GetGroupPolicyRequest { group_name: s("Staff"), policy_name: s("Inline") })),
        write!(&["iam:DeleteGroupPolicy"], GROUP, delete_group_policy(DeleteGroupPolicyRequest { group_name: s("Staff"), policy_name: s("Inline") })),
        read!(&["iam:ListGroupPolicies"], GROUP, list_group_policies(ListGroupPoliciesRequest { group_name: s("Staff") })),
        write!(&["iam:CreateRole"], "arn:aws:iam::123456789012:role/New", create_role(CreateRoleRequest { role_name: s("New"), assume_role_policy_document: trust(r#"{"Service":"ec2.amazonaws.com"}"#) })),
        read!(&["iam:GetRole"], ROLE, get_role(GetRoleRequest { role_name: s("Deploy") })),
        read!(&["iam:ListRoles"], "*", list_roles(ListRolesRequest {})),
        write!(&["iam:UpdateRole"], ROLE, update_role(UpdateRoleRequest { role_name: s("Deploy"), description: Some(s("d")) })),
        write!(&["iam:UpdateAssumeRolePolicy"], ROLE, update_assume_role_policy(UpdateAssumeRolePolicyRequest { role_name: s("Deploy"), policy_document: trust(r#"{"Service":"ec2.amazonaws.com"}"#) })),
        write!(&["iam:DeleteRole"], ROLE, delete_role(DeleteRoleRequest { role_name: s("Deploy") })),
        write!(&["iam:TagRole"], ROLE, tag_role(TagRoleRequest { role_name: s("Deploy"), tags: vec![tag()] })),
        write!(&["iam:UntagRole"], ROLE, untag_role(UntagRoleRequest { role_name: s("Deploy"), tag_keys: vec![s("k")] })),
        read!(&["iam:ListRoleTags"], ROLE, list_role_tags(ListRoleTagsRequest { role_name: s("Deploy") })),
        write!(&["iam:AttachRolePolicy"], ROLE, attach_role_policy(AttachRolePolicyRequest { role_name: s("Deploy"), policy_arn: s(POLICY) })),
        write!(&["iam:DetachRolePolicy"], ROLE, detach_role_policy(DetachRolePolicyRequest { role_name: s("Deploy"), policy_arn: s(POLICY) })),
        read!(&["iam:ListAttachedRolePolicies"], ROLE, list_attached_role_policies(ListAttachedRolePoliciesRequest { role_name: s("Deploy") })),
        write!(&["iam:PutRolePolicy"], ROLE, put_role_policy(PutRolePolicyRequest { role_name: s("Deploy"), policy_name: s("Inline"), policy_document: allow("s3:GetObject", "*") })),
        read!(&["iam:GetRolePolicy"], ROLE, get_role_policy(GetRolePolicyRequest { role_name: s("Deploy"), policy_name: s("Inline") })),
        write!(&["iam:DeleteRolePolicy"], ROLE, delete_role_policy(DeleteRolePolicyRequest { role_name: s("Deploy"), policy_name: s("Inline") })),
        read!(&["iam:ListRolePolicies"], ROLE, list_role_policies(ListRolePoliciesRequest { role_name: s("Deploy") })),
        write!(&["iam:PutRolePermissionsBoundary"], ROLE, put_role_permissions_boundary(PutRolePermissionsBoundaryRequest { role_name: s("Deploy"), permissions_boundary: s(POLICY) })),
        write!(&["iam:DeleteRolePermissionsBoundary"], ROLE, delete_role_permissions_boundary(DeleteRolePermissionsBoundaryRequest { role_name: s("Deploy") })),
        write!(&["iam:CreatePolicy"], "arn:aws:iam::123456789012:policy/New", create_policy(CreatePolicyRequest { policy_name: s("New"), policy_document: allow("s3:GetObject", "*") })),
        read!(&["iam:GetPolicy"], POLICY, get_policy(GetPolicyRequest { policy_arn: s(POLICY) })),
        read!(&["iam:ListPolicies"], "*", list_policies(ListPoliciesRequest {})),
        write!(&["iam:DeletePolicy"], POLICY, delete_policy(DeletePolicyRequest { policy_arn: s(POLICY) })),
        write!(&["iam:CreatePolicyVersion"], POLICY, create_policy_version(CreatePolicyVersionRequest { policy_arn: s(POLICY), policy_document: allow("s3:GetObject", "*") })),
        read!(&["iam:GetPolicyVersion"], POLICY, get_policy_version(GetPolicyVersionRequest { policy_arn: s(POLICY), version_id: s("v2") })),
        read!(&["iam:ListPolicyVersions"], POLICY, list_policy_versions(ListPolicyVersionsRequest { policy_arn: s(POLICY) })),
        write!(&["iam:DeletePolicyVersion"], POLICY, delete_policy_version(DeletePolicyVersionRequest { policy_arn: s(POLICY), version_id: s("v2") })),
        write!(&["iam:SetDefaultPolicyVersion"], POLICY, set_default_policy_version(SetDefaultPolicyVersionRequest { policy_arn: s(POLICY), version_id: s("v2") })),
        write!(&["iam:TagPolicy"], POLICY, tag_policy(TagPolicyRequest { policy_arn: s(POLICY), tags: vec![tag()] })),
        write!(&["iam:UntagPolicy"], POLICY, untag_policy(UntagPolicyRequest { policy_arn: s(POLICY), tag_keys: vec![s("k")] })),
        read!(&["iam:ListPolicyTags"], POLICY, list_policy_tags(ListPolicyTagsRequest { policy_arn: s(POLICY) })),
        read!(&["iam:ListEntitiesForPolicy"], POLICY, list_entities_for_policy(ListEntitiesForPolicyRequest { policy_arn: s(POLICY) })),
        write!(&["countersign:CreateAccount"], "*", create_account(CreateAccountRequest { account_id: s("333333333333") })),
        read!(&["countersign:ListAccounts"], "*", list_accounts(ListAccountsRequest {})),
        read!(&["iam:GetAccountSummary"], "*", get_account_summary(GetAccountSummaryRequest {})),
        read!(&["iam:GetAccountAuthorizationDetails"], "*", get_account_authorization_details(GetAccountAuthorizationDetailsRequest {})),
        write!(&["countersign:ImportAccountAuthorizationDetails"], "*", import_account_authorization_details(ImportAccountAuthorizationDetailsRequest {})),
        read!(&["iam:SimulatePrincipalPolicy"], USER, simulate_principal_policy(SimulatePrincipalPolicyRequest { policy_source_arn: s(USER), action_names: vec![s("s3:GetObject")] })),
        read!(&["iam:SimulateCustomPolicy"], "*", simulate_custom_policy(SimulateCustomPolicyRequest { policy_input_list: vec![allow("s3:GetObject", "*")], action_names: vec![s("s3:GetObject")] })),
        write!(&["countersign:PutResourcePolicy"], RESOURCE, put_resource_policy(PutResourcePolicyRequest { resource_arn: s(RESOURCE), policy: open_to_all() })),
        read!(&["countersign:GetResourcePolicy"], RESOURCE, get_resource_policy(GetResourcePolicyRequest { resource_arn: s(RESOURCE) })),
        write!(&["countersign:DeleteResourcePolicy"], RESOURCE, delete_resource_policy(DeleteResourcePolicyRequest { resource_arn: s(RESOURCE) })),
        write!(&["organizations:CreateOrganizationalUnit"], "*", create_organizational_unit(CreateOrganizationalUnitRequest { name: s("Test") })),
        write!(&["organizations:UpdateOrganizationalUnit"], "*", update_organizational_unit(UpdateOrganizationalUnitRequest { organizational_unit_id: f.unit_id.clone(), name: s("Live") })),
        write!(&["organizations:DeleteOrganizationalUnit"], "*", delete_organizational_unit(DeleteOrganizationalUnitRequest { organizational_unit_id: f.unit_id.clone() })),
        read!(&["organizations:ListOrganizationalUnitsForParent"], "*", list_organizational_units_for_parent(ListOrganizationalUnitsForParentRequest {})),
        write!(&["organizations:MoveAccount"], "*", move_account(MoveAccountRequest { account_id: s("222222222222"), source_parent_id: s("r-root"), destination_parent_id: f.unit_id.clone() })),
        write!(&["organizations:CreatePolicy"], "*", create_guardrail(CreateGuardrailRequest { name: s("New"), content: allow("*", "*"), r#type: GuardrailType::ServiceControlPolicy.into() })),
        read!(&["organizations:DescribePolicy"], "*", get_guardrail(GetGuardrailRequest { guardrail_id: f.guardrail_id.clone() })),
        write!(&["organizations:UpdatePolicy"], "*", update_guardrail(UpdateGuardrailRequest { guardrail_id: f.guardrail_id.clone(), name: Some(s("Wall")) })),
        write!(&["organizations:DeletePolicy"], "*", delete_guardrail(DeleteGuardrailRequest { guardrail_id: f.guardrail_id.clone() })),
        read!(&["organizations:ListPolicies"], "*", list_guardrails(ListGuardrailsRequest { filter: GuardrailType::ServiceControlPolicy.into() })),
        write!(&["organizations:AttachPolicy"], "*", attach_guardrail(AttachGuardrailRequest { guardrail_id: f.guardrail_id.clone(), target_id: f.unit_id.clone() })),
        write!(&["organizations:DetachPolicy"], "*", detach_guardrail(DetachGuardrailRequest { guardrail_id: f.guardrail_id.clone(), target_id: f.unit_id.clone() })),
        read!(&["organizations:ListTargetsForPolicy"], "*", list_targets_for_guardrail(ListTargetsForGuardrailRequest { guardrail_id: f.guardrail_id.clone() })),
        read!(&["cloudtrail:LookupEvents"], "*", lookup_events(LookupEventsRequest {})),
        write!(&["countersign:BindServicePrincipal", "iam:PassRole"], ROLE, bind_service_principal(BindServicePrincipalRequest { role_arn: s(ROLE), service_principal: s("ec2.amazonaws.com"), caller_unique_id: f.user_id.clone() })),
        read!(&["countersign:ListServicePrincipalBindings"], ROLE, list_service_principal_bindings(ListServicePrincipalBindingsRequest { role_arn: s(ROLE) })),
        write!(&["countersign:DeleteServicePrincipalBinding"], ROLE, delete_service_principal_binding(DeleteServicePrincipalBindingRequest { role_arn: s(ROLE), service_principal: s("ec2.amazonaws.com"), caller_unique_id: f.user_id.clone() })),
        read!(&["countersign:PublishSigningKey"], "*", publish_signing_key(PublishSigningKeyRequest { jwk: f.jwk.clone() })),
        read!(&["countersign:ListSigningKeys"], "*", list_signing_keys(ListSigningKeysRequest {})),
        write!(&["countersign:RevokeSigningKey"], "*", revoke_signing_key(RevokeSigningKeyRequest { kid: "A".repeat(43) })),
        read!(&["countersign:DeriveSigningKey"], "*", derive_signing_key(DeriveSigningKeyRequest { access_key_id: f.access_key_id.clone(), date: f.today.clone(), region: s("us-east-1"), service_name: s("sts") })),
        read!(&["countersign:ConsumeProof"], "*", consume_proof(ConsumeProofRequest { replay_key: s("matrix"), expire_time: Some(f.soon) })),
        read!(&["countersign:RecordUses"], "*", record_uses(RecordUsesRequest {})),
        read!(&["countersign:PinPrincipal"], "*", pin_principal(PinPrincipalRequest { partition: s("aws"), account_id: s("999999999999"), principal_name: s("role/Matrix"), unique_id: s("AROAMATRIX") })),
        write!(&["countersign:UnpinPrincipal"], "*", unpin_principal(UnpinPrincipalRequest { partition: s("aws"), account_id: s("999999999999"), principal_name: s("role/Nobody") })),
        write!(&["countersign:RevokeRoleSessions"], ROLE, revoke_role_sessions(RevokeRoleSessionsRequest { role_name: s("Deploy") })),
        write!(&["countersign:RevokeToken"], "*", revoke_token(RevokeTokenRequest { token_id: s("none"), expire_time: Some(f.soon) })),
        watch(),
    ]
}
