//! Roles: their life, their trust, their policies.

use countersign_proto::policy::v1::*;

use super::{Call, PolicyStore};
use crate::{
    authz::{Ask, On},
    convert,
    error::Error,
    iam::{
        attachment::{self, To},
        etag, inline, name, policy, role, tags,
    },
    layout, view,
};

impl PolicyStore {
    pub async fn create_role(
        &self,
        call: Call,
        request: CreateRoleRequest,
    ) -> Result<CreateRoleResponse, Error> {
        let CreateRoleRequest {
            path,
            role_name,
            assume_role_policy_document,
            description,
            max_session_duration,
            permissions_boundary,
            tags,
            validate_only: _,
            request_id: _,
        } = request;
        name::name("role_name", &role_name, 64)?;
        let account = call.account()?;
        let arn = name::role_arn(account, name::path("path", &path)?, &role_name);
        tags::check(&tags)?;
        let mut asks = vec![Ask::new("iam:CreateRole", On::Arn(arn.clone())).tagged(&tags)];
        // As in IAM, whoever makes a role with tags must be allowed to tag it.
        if !tags.is_empty() {
            asks.push(Ask::new("iam:TagRole", On::Arn(arn)).tagged(&tags));
        }
        let asks = convert::bounded(asks, &permissions_boundary)?;
        let new = role::NewRole {
            path,
            role_name,
            assume_role_policy_document,
            description,
            max_session_duration,
            permissions_boundary,
            tags,
        };
        self.write(&call, &asks, |view, plan, permit| {
            let (record, findings) =
                role::create(view, plan, permit.account(), &new, &self.quotas)?;
            let findings = convert::findings(findings);
            Ok(CreateRoleResponse {
                role: Some(convert::role(record)),
                revision: String::new(),
                findings,
            })
        })
        .await
    }

    pub async fn get_role(
        &self,
        call: Call,
        request: GetRoleRequest,
    ) -> Result<GetRoleResponse, Error> {
        let GetRoleRequest { role_name } = request;
        let asks = [Ask::new("iam:GetRole", On::Role(&role_name))];
        self.read(&call, &asks, |view, permit| {
            let record = role::find(view, permit.account(), &role_name)?;
            let last_use = view.peek(&layout::last_use(&record.role_id))?;
            let role_last_used = convert::role_last_used(last_use);
            Ok(GetRoleResponse { role: Some(Role { role_last_used, ..convert::role(record) }) })
        })
        .await
    }

    pub async fn list_roles(
        &self,
        call: Call,
        request: ListRolesRequest,
    ) -> Result<ListRolesResponse, Error> {
        let ListRolesRequest { path_prefix, marker, max_items } = request;
        let paging = convert::paging(marker, max_items)?;
        let path_prefix = convert::path_prefix(&path_prefix)?;
        let asks = [Ask::new("iam:ListRoles", On::Anything)];
        let account = self.read(&call, &asks, |_, permit| Ok(*permit.account())).await?;
        let prefix = layout::roles(&account);
        let keep = |role: &RoleRecord| role.path.starts_with(path_prefix);
        let page =
            view::page(self.store.as_ref(), &prefix, &paging.marker, paging.limit, keep).await?;
        Ok(ListRolesResponse {
            roles: page.records.into_iter().map(convert::role).collect(),
            is_truncated: page.marker.is_some(),
            marker: page.marker.unwrap_or_default(),
        })
    }

    pub async fn update_role(
        &self,
        call: Call,
        request: UpdateRoleRequest,
    ) -> Result<UpdateRoleResponse, Error> {
        let UpdateRoleRequest {
            role_name,
            description,
            max_session_duration,
            validate_only: _,
            request_id: _,
        } = request;
        let asks = [Ask::new("iam:UpdateRole", On::Role(&role_name))];
        self.write(&call, &asks, |view, plan, permit| {
            let description = description.as_deref();
            let account = permit.account();
            role::update(view, plan, account, &role_name, description, max_session_duration)?;
            Ok(UpdateRoleResponse::default())
        })
        .await
    }

    pub async fn update_assume_role_policy(
        &self,
        call: Call,
        request: UpdateAssumeRolePolicyRequest,
    ) -> Result<UpdateAssumeRolePolicyResponse, Error> {
        let UpdateAssumeRolePolicyRequest {
            role_name,
            policy_document,
            validate_only: _,
            request_id: _,
            etag,
        } = request;
        let asks = [Ask::new("iam:UpdateAssumeRolePolicy", On::Role(&role_name))];
        self.write(&call, &asks, |view, plan, permit| {
            etag::trust(view, permit.account(), &role_name, &etag)?;
            let findings =
                role::update_trust(view, plan, permit.account(), &role_name, &policy_document)?;
            let findings = convert::findings(findings);
            let etag = etag::of(&policy_document);
            Ok(UpdateAssumeRolePolicyResponse { revision: String::new(), findings, etag })
        })
        .await
    }

    pub async fn delete_role(
        &self,
        call: Call,
        request: DeleteRoleRequest,
    ) -> Result<DeleteRoleResponse, Error> {
        let DeleteRoleRequest { role_name, validate_only: _, request_id: _, etag } = request;
        let asks = [Ask::new("iam:DeleteRole", On::Role(&role_name))];
        self.write(&call, &asks, |view, plan, permit| {
            etag::trust(view, permit.account(), &role_name, &etag)?;
            role::delete(view, plan, permit.account(), &role_name)?;
            Ok(DeleteRoleResponse::default())
        })
        .await
    }

    pub async fn attach_role_policy(
        &self,
        call: Call,
        request: AttachRolePolicyRequest,
    ) -> Result<AttachRolePolicyResponse, Error> {
        let AttachRolePolicyRequest { role_name, policy_arn, validate_only: _, request_id: _ } =
            request;
        name::parse_policy_arn("policy_arn", &policy_arn)?;
        let asks = [Ask::new("iam:AttachRolePolicy", On::Role(&role_name))
            .with("iam:PolicyARN", policy_arn.as_str())];
        self.write(&call, &asks, |view, plan, permit| {
            let (account, to) = (permit.account(), To::Role(&role_name));
            attachment::attach(view, plan, account, to, &policy_arn, &self.quotas)?;
            Ok(AttachRolePolicyResponse::default())
        })
        .await
    }

    pub async fn detach_role_policy(
        &self,
        call: Call,
        request: DetachRolePolicyRequest,
    ) -> Result<DetachRolePolicyResponse, Error> {
        let DetachRolePolicyRequest { role_name, policy_arn, validate_only: _, request_id: _ } =
            request;
        name::parse_policy_arn("policy_arn", &policy_arn)?;
        let asks = [Ask::new("iam:DetachRolePolicy", On::Role(&role_name))
            .with("iam:PolicyARN", policy_arn.as_str())];
        self.write(&call, &asks, |view, plan, permit| {
            attachment::detach(view, plan, permit.account(), To::Role(&role_name), &policy_arn)?;
            Ok(DetachRolePolicyResponse::default())
        })
        .await
    }

    pub async fn list_attached_role_policies(
        &self,
        call: Call,
        request: ListAttachedRolePoliciesRequest,
    ) -> Result<ListAttachedRolePoliciesResponse, Error> {
        let ListAttachedRolePoliciesRequest { role_name, path_prefix, marker, max_items } = request;
        let paging = convert::paging(marker, max_items)?;
        let path_prefix = convert::path_prefix(&path_prefix)?;
        let asks = [Ask::new("iam:ListAttachedRolePolicies", On::Role(&role_name))];
        let record = self
            .read(&call, &asks, |view, permit| role::find(view, permit.account(), &role_name))
            .await?;
        let (page, marker) =
            policy::attached_page(record.attached_policy_arns, path_prefix, &paging);
        Ok(ListAttachedRolePoliciesResponse {
            attached_policies: page,
            is_truncated: marker.is_some(),
            marker: marker.unwrap_or_default(),
        })
    }

    pub async fn put_role_policy(
        &self,
        call: Call,
        request: PutRolePolicyRequest,
    ) -> Result<PutRolePolicyResponse, Error> {
        let PutRolePolicyRequest {
            role_name,
            policy_name,
            policy_document,
            validate_only: _,
            request_id: _,
            etag,
        } = request;
        let asks = [Ask::new("iam:PutRolePolicy", On::Role(&role_name))];
        self.write(&call, &asks, |view, plan, permit| {
            let of = To::Role(&role_name);
            etag::inline(view, permit.account(), of, &policy_name, &etag)?;
            let findings =
                inline::put(view, plan, permit.account(), of, &policy_name, &policy_document)?;
            Ok(PutRolePolicyResponse {
                revision: String::new(),
                findings: convert::findings(findings),
                etag: etag::of(&policy_document),
            })
        })
        .await
    }

    pub async fn get_role_policy(
        &self,
        call: Call,
        request: GetRolePolicyRequest,
    ) -> Result<GetRolePolicyResponse, Error> {
        let GetRolePolicyRequest { role_name, policy_name } = request;
        let asks = [Ask::new("iam:GetRolePolicy", On::Role(&role_name))];
        let (role_name, found) = self
            .read(&call, &asks, |view, permit| {
                inline::find(view, permit.account(), To::Role(&role_name), &policy_name)
            })
            .await?;
        Ok(GetRolePolicyResponse {
            role_name,
            policy_name: found.policy_name,
            etag: etag::of(&found.policy_document),
            policy_document: found.policy_document,
        })
    }

    pub async fn delete_role_policy(
        &self,
        call: Call,
        request: DeleteRolePolicyRequest,
    ) -> Result<DeleteRolePolicyResponse, Error> {
        let DeleteRolePolicyRequest {
            role_name,
            policy_name,
            validate_only: _,
            request_id: _,
            etag,
        } = request;
        let asks = [Ask::new("iam:DeleteRolePolicy", On::Role(&role_name))];
        self.write(&call, &asks, |view, plan, permit| {
            let (account, owner) = (permit.account(), To::Role(&role_name));
            etag::inline(view, account, owner, &policy_name, &etag)?;
            inline::delete(view, plan, account, owner, &policy_name)?;
            Ok(DeleteRolePolicyResponse::default())
        })
        .await
    }

    pub async fn list_role_policies(
        &self,
        call: Call,
        request: ListRolePoliciesRequest,
    ) -> Result<ListRolePoliciesResponse, Error> {
        let ListRolePoliciesRequest { role_name, marker, max_items } = request;
        let paging = convert::paging(marker, max_items)?;
        let asks = [Ask::new("iam:ListRolePolicies", On::Role(&role_name))];
        let (_, policies) = self
            .read(&call, &asks, |view, permit| {
                inline::list(view, permit.account(), To::Role(&role_name))
            })
            .await?;
        let (page, marker) = convert::cut(policies, &paging, |policy| &policy.policy_name);
        Ok(ListRolePoliciesResponse {
            policy_names: page.into_iter().map(|policy| policy.policy_name).collect(),
            is_truncated: marker.is_some(),
            marker: marker.unwrap_or_default(),
        })
    }
}
