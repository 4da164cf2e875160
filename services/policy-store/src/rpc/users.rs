//! Users: their life and their policies.

use countersign_proto::policy::v1::*;

use super::{Call, PolicyStore};
use crate::{
    authz::{Ask, On},
    convert,
    error::Error,
    iam::{
        attachment::{self, To},
        etag, inline, name, policy, tags, user,
    },
    layout, view,
};

impl PolicyStore {
    pub async fn create_user(
        &self,
        call: Call,
        request: CreateUserRequest,
    ) -> Result<CreateUserResponse, Error> {
        let CreateUserRequest {
            path,
            user_name,
            permissions_boundary,
            tags,
            validate_only: _,
            request_id: _,
        } = request;
        name::name("user_name", &user_name, 64)?;
        let account = call.account()?;
        let arn = name::user_arn(account, name::path("path", &path)?, &user_name);
        tags::check(&tags)?;
        let mut asks = vec![Ask::new("iam:CreateUser", On::Arn(arn.clone())).tagged(&tags)];
        // As in IAM, whoever makes a user with tags must be allowed to tag it.
        if !tags.is_empty() {
            asks.push(Ask::new("iam:TagUser", On::Arn(arn)).tagged(&tags));
        }
        let asks = convert::bounded(asks, &permissions_boundary)?;
        let new = user::NewUser { path, user_name, permissions_boundary, tags };
        self.write(&call, &asks, |view, plan, permit| {
            let record = user::create(view, plan, permit.account(), &new, &self.quotas)?;
            Ok(CreateUserResponse { user: Some(convert::user(record)), revision: String::new() })
        })
        .await
    }

    pub async fn get_user(
        &self,
        call: Call,
        request: GetUserRequest,
    ) -> Result<GetUserResponse, Error> {
        let GetUserRequest { user_name } = request;
        let asks = [Ask::new("iam:GetUser", On::User(&user_name))];
        let record = self
            .read(&call, &asks, |view, permit| user::find(view, permit.account(), &user_name))
            .await?;
        Ok(GetUserResponse { user: Some(convert::user(record)) })
    }

    pub async fn list_users(
        &self,
        call: Call,
        request: ListUsersRequest,
    ) -> Result<ListUsersResponse, Error> {
        let ListUsersRequest { path_prefix, marker, max_items } = request;
        let paging = convert::paging(marker, max_items)?;
        let path_prefix = convert::path_prefix(&path_prefix)?;
        let asks = [Ask::new("iam:ListUsers", On::Anything)];
        let account = self.read(&call, &asks, |_, permit| Ok(*permit.account())).await?;
        let prefix = layout::users(&account);
        let keep = |user: &UserRecord| user.path.starts_with(path_prefix);
        let page =
            view::page(self.store.as_ref(), &prefix, &paging.marker, paging.limit, keep).await?;
        Ok(ListUsersResponse {
            users: page.records.into_iter().map(convert::user).collect(),
            is_truncated: page.marker.is_some(),
            marker: page.marker.unwrap_or_default(),
        })
    }

    /// Moving or renaming a user needs iam:UpdateUser on the user as it is and as it will be.
    pub async fn update_user(
        &self,
        call: Call,
        request: UpdateUserRequest,
    ) -> Result<UpdateUserResponse, Error> {
        let UpdateUserRequest {
            user_name,
            new_path,
            new_user_name,
            validate_only: _,
            request_id: _,
        } = request;
        let moved = On::MovedUser {
            user_name: &user_name,
            new_path: &new_path,
            new_user_name: &new_user_name,
        };
        let asks =
            [Ask::new("iam:UpdateUser", On::User(&user_name)), Ask::new("iam:UpdateUser", moved)];
        self.write(&call, &asks, |view, plan, permit| {
            let _ =
                user::update(view, plan, permit.account(), &user_name, &new_path, &new_user_name)?;
            Ok(UpdateUserResponse { revision: String::new() })
        })
        .await
    }

    pub async fn delete_user(
        &self,
        call: Call,
        request: DeleteUserRequest,
    ) -> Result<DeleteUserResponse, Error> {
        let DeleteUserRequest { user_name, validate_only: _, request_id: _ } = request;
        let asks = [Ask::new("iam:DeleteUser", On::User(&user_name))];
        self.write(&call, &asks, |view, plan, permit| {
            user::delete(view, plan, permit.account(), &user_name)?;
            Ok(DeleteUserResponse::default())
        })
        .await
    }

    pub async fn attach_user_policy(
        &self,
        call: Call,
        request: AttachUserPolicyRequest,
    ) -> Result<AttachUserPolicyResponse, Error> {
        let AttachUserPolicyRequest { user_name, policy_arn, validate_only: _, request_id: _ } =
            request;
        name::parse_policy_arn("policy_arn", &policy_arn)?;
        let asks = [Ask::new("iam:AttachUserPolicy", On::User(&user_name))
            .with("iam:PolicyARN", policy_arn.as_str())];
        self.write(&call, &asks, |view, plan, permit| {
            let (account, to) = (permit.account(), To::User(&user_name));
            attachment::attach(view, plan, account, to, &policy_arn, &self.quotas)?;
            Ok(AttachUserPolicyResponse::default())
        })
        .await
    }

    pub async fn detach_user_policy(
        &self,
        call: Call,
        request: DetachUserPolicyRequest,
    ) -> Result<DetachUserPolicyResponse, Error> {
        let DetachUserPolicyRequest { user_name, policy_arn, validate_only: _, request_id: _ } =
            request;
        name::parse_policy_arn("policy_arn", &policy_arn)?;
        let asks = [Ask::new("iam:DetachUserPolicy", On::User(&user_name))
            .with("iam:PolicyARN", policy_arn.as_str())];
        self.write(&call, &asks, |view, plan, permit| {
            attachment::detach(view, plan, permit.account(), To::User(&user_name), &policy_arn)?;
            Ok(DetachUserPolicyResponse::default())
        })
        .await
    }

    pub async fn list_attached_user_policies(
        &self,
        call: Call,
        request: ListAttachedUserPoliciesRequest,
    ) -> Result<ListAttachedUserPoliciesResponse, Error> {
        let ListAttachedUserPoliciesRequest { user_name, path_prefix, marker, max_items } = request;
        let paging = convert::paging(marker, max_items)?;
        let path_prefix = convert::path_prefix(&path_prefix)?;
        let asks = [Ask::new("iam:ListAttachedUserPolicies", On::User(&user_name))];
        let record = self
            .read(&call, &asks, |view, permit| user::find(view, permit.account(), &user_name))
            .await?;
        let (page, marker) =
            policy::attached_page(record.attached_policy_arns, path_prefix, &paging);
        Ok(ListAttachedUserPoliciesResponse {
            attached_policies: page,
            is_truncated: marker.is_some(),
            marker: marker.unwrap_or_default(),
        })
    }

    pub async fn put_user_policy(
        &self,
        call: Call,
        request: PutUserPolicyRequest,
    ) -> Result<PutUserPolicyResponse, Error> {
        let PutUserPolicyRequest {
            user_name,
            policy_name,
            policy_document,
            validate_only: _,
            request_id: _,
            etag,
        } = request;
        let asks = [Ask::new("iam:PutUserPolicy", On::User(&user_name))];
        self.write(&call, &asks, |view, plan, permit| {
            let of = To::User(&user_name);
            etag::inline(view, permit.account(), of, &policy_name, &etag)?;
            let findings =
                inline::put(view, plan, permit.account(), of, &policy_name, &policy_document)?;
            Ok(PutUserPolicyResponse {
                revision: String::new(),
                findings: convert::findings(findings),
                etag: etag::of(&policy_document),
            })
        })
        .await
    }

    pub async fn get_user_policy(
        &self,
        call: Call,
        request: GetUserPolicyRequest,
    ) -> Result<GetUserPolicyResponse, Error> {
        let GetUserPolicyRequest { user_name, policy_name } = request;
        let asks = [Ask::new("iam:GetUserPolicy", On::User(&user_name))];
        let (user_name, found) = self
            .read(&call, &asks, |view, permit| {
                inline::find(view, permit.account(), To::User(&user_name), &policy_name)
            })
            .await?;
        Ok(GetUserPolicyResponse {
            user_name,
            policy_name: found.policy_name,
            etag: etag::of(&found.policy_document),
            policy_document: found.policy_document,
        })
    }

    pub async fn delete_user_policy(
        &self,
        call: Call,
        request: DeleteUserPolicyRequest,
    ) -> Result<DeleteUserPolicyResponse, Error> {
        let DeleteUserPolicyRequest {
            user_name,
            policy_name,
            validate_only: _,
            request_id: _,
            etag,
        } = request;
        let asks = [Ask::new("iam:DeleteUserPolicy", On::User(&user_name))];
        self.write(&call, &asks, |view, plan, permit| {
            let (account, owner) = (permit.account(), To::User(&user_name));
            etag::inline(view, account, owner, &policy_name, &etag)?;
            inline::delete(view, plan, account, owner, &policy_name)?;
            Ok(DeleteUserPolicyResponse::default())
        })
        .await
    }

    pub async fn list_user_policies(
        &self,
        call: Call,
        request: ListUserPoliciesRequest,
    ) -> Result<ListUserPoliciesResponse, Error> {
        let ListUserPoliciesRequest { user_name, marker, max_items } = request;
        let paging = convert::paging(marker, max_items)?;
        let asks = [Ask::new("iam:ListUserPolicies", On::User(&user_name))];
        let (_, policies) = self
            .read(&call, &asks, |view, permit| {
                inline::list(view, permit.account(), To::User(&user_name))
            })
            .await?;
        let (page, marker) = convert::cut(policies, &paging, |policy| &policy.policy_name);
        Ok(ListUserPoliciesResponse {
            policy_names: page.into_iter().map(|policy| policy.policy_name).collect(),
            is_truncated: marker.is_some(),
            marker: marker.unwrap_or_default(),
        })
    }
}
