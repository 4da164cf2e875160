//! Tags and permissions boundaries of users and roles, and tags of policies.

use countersign_proto::policy::v1::*;

use super::{Call, PolicyStore};
use crate::{
    authz::{Ask, On},
    convert,
    error::Error,
    iam::{
        boundary::{self, Of},
        name, policy, role, tags as rules, user,
    },
    layout,
};

impl PolicyStore {
    pub async fn tag_user(
        &self,
        call: Call,
        request: TagUserRequest,
    ) -> Result<TagUserResponse, Error> {
        let TagUserRequest { user_name, tags, validate_only: _, request_id: _ } = request;
        rules::check(&tags)?;
        let asks = [Ask::new("iam:TagUser", On::User(&user_name)).tagged(&tags)];
        self.write(&call, &asks, |view, plan, permit| {
            if tags.is_empty() {
                return Err(Error::validation("tags", "at least one is expected"));
            }
            let mut record = user::find(view, permit.account(), &user_name)?;
            record.tags = rules::merged(record.tags, &tags)?;
            plan.put(&layout::user(permit.account(), &user_name), &record);
            Ok(TagUserResponse::default())
        })
        .await
    }

    pub async fn untag_user(
        &self,
        call: Call,
        request: UntagUserRequest,
    ) -> Result<UntagUserResponse, Error> {
        let UntagUserRequest { user_name, tag_keys, validate_only: _, request_id: _ } = request;
        rules::check_keys(&tag_keys)?;
        let asks =
            [Ask::new("iam:UntagUser", On::User(&user_name)).with("aws:TagKeys", tag_keys.clone())];
        self.write(&call, &asks, |view, plan, permit| {
            let mut record = user::find(view, permit.account(), &user_name)?;
            record.tags = rules::without(record.tags, &tag_keys)?;
            plan.put(&layout::user(permit.account(), &user_name), &record);
            Ok(UntagUserResponse::default())
        })
        .await
    }

    pub async fn list_user_tags(
        &self,
        call: Call,
        request: ListUserTagsRequest,
    ) -> Result<ListUserTagsResponse, Error> {
        let ListUserTagsRequest { user_name, marker, max_items } = request;
        let paging = convert::paging(marker, max_items)?;
        let asks = [Ask::new("iam:ListUserTags", On::User(&user_name))];
        let record = self
            .read(&call, &asks, |view, permit| user::find(view, permit.account(), &user_name))
            .await?;
        let (tags, marker) = convert::cut(record.tags, &paging, |tag| &tag.key);
        Ok(ListUserTagsResponse {
            tags,
            is_truncated: marker.is_some(),
            marker: marker.unwrap_or_default(),
        })
    }

    pub async fn tag_role(
        &self,
        call: Call,
        request: TagRoleRequest,
    ) -> Result<TagRoleResponse, Error> {
        let TagRoleRequest { role_name, tags, validate_only: _, request_id: _ } = request;
        rules::check(&tags)?;
        let asks = [Ask::new("iam:TagRole", On::Role(&role_name)).tagged(&tags)];
        self.write(&call, &asks, |view, plan, permit| {
            if tags.is_empty() {
                return Err(Error::validation("tags", "at least one is expected"));
            }
            let mut record = role::find(view, permit.account(), &role_name)?;
            record.tags = rules::merged(record.tags, &tags)?;
            plan.put(&layout::role(permit.account(), &role_name), &record);
            Ok(TagRoleResponse::default())
        })
        .await
    }

    pub async fn untag_role(
        &self,
        call: Call,
        request: UntagRoleRequest,
    ) -> Result<UntagRoleResponse, Error> {
        let UntagRoleRequest { role_name, tag_keys, validate_only: _, request_id: _ } = request;
        rules::check_keys(&tag_keys)?;
        let asks =
            [Ask::new("iam:UntagRole", On::Role(&role_name)).with("aws:TagKeys", tag_keys.clone())];
        self.write(&call, &asks, |view, plan, permit| {
            let mut record = role::find(view, permit.account(), &role_name)?;
            record.tags = rules::without(record.tags, &tag_keys)?;
            plan.put(&layout::role(permit.account(), &role_name), &record);
            Ok(UntagRoleResponse::default())
        })
        .await
    }

    pub async fn list_role_tags(
        &self,
        call: Call,
        request: ListRoleTagsRequest,
    ) -> Result<ListRoleTagsResponse, Error> {
        let ListRoleTagsRequest { role_name, marker, max_items } = request;
        let paging = convert::paging(marker, max_items)?;
        let asks = [Ask::new("iam:ListRoleTags", On::Role(&role_name))];
        let record = self
            .read(&call, &asks, |view, permit| role::find(view, permit.account(), &role_name))
            .await?;
        let (tags, marker) = convert::cut(record.tags, &paging, |tag| &tag.key);
        Ok(ListRoleTagsResponse {
            tags,
            is_truncated: marker.is_some(),
            marker: marker.unwrap_or_default(),
        })
    }

    pub async fn tag_policy(
        &self,
        call: Call,
        request: TagPolicyRequest,
    ) -> Result<TagPolicyResponse, Error> {
        let TagPolicyRequest { policy_arn, tags, validate_only: _, request_id: _ } = request;
        rules::check(&tags)?;
        let asks = [Ask::new("iam:TagPolicy", On::Policy(&policy_arn)).tagged(&tags)];
        self.write(&call, &asks, |view, plan, permit| {
            if tags.is_empty() {
                return Err(Error::validation("tags", "at least one is expected"));
            }
            let mut record = policy::find_own(view, permit.account(), &policy_arn)?;
            record.tags = rules::merged(record.tags, &tags)?;
            policy::put(plan, &record);
            Ok(TagPolicyResponse::default())
        })
        .await
    }

    pub async fn untag_policy(
        &self,
        call: Call,
        request: UntagPolicyRequest,
    ) -> Result<UntagPolicyResponse, Error> {
        let UntagPolicyRequest { policy_arn, tag_keys, validate_only: _, request_id: _ } = request;
        rules::check_keys(&tag_keys)?;
        let asks = [Ask::new("iam:UntagPolicy", On::Policy(&policy_arn))
            .with("aws:TagKeys", tag_keys.clone())];
        self.write(&call, &asks, |view, plan, permit| {
            let mut record = policy::find_own(view, permit.account(), &policy_arn)?;
            record.tags = rules::without(record.tags, &tag_keys)?;
            policy::put(plan, &record);
            Ok(UntagPolicyResponse::default())
        })
        .await
    }

    pub async fn list_policy_tags(
        &self,
        call: Call,
        request: ListPolicyTagsRequest,
    ) -> Result<ListPolicyTagsResponse, Error> {
        let ListPolicyTagsRequest { policy_arn, marker, max_items } = request;
        let paging = convert::paging(marker, max_items)?;
        let asks = [Ask::new("iam:ListPolicyTags", On::Policy(&policy_arn))];
        let record = self
            .read(&call, &asks, |view, permit| {
                policy::find_visible(view, permit.account(), &policy_arn)
            })
            .await?;
        let (tags, marker) = convert::cut(record.tags, &paging, |tag| &tag.key);
        Ok(ListPolicyTagsResponse {
            tags,
            is_truncated: marker.is_some(),
            marker: marker.unwrap_or_default(),
        })
    }

    pub async fn put_user_permissions_boundary(
        &self,
        call: Call,
        request: PutUserPermissionsBoundaryRequest,
    ) -> Result<PutUserPermissionsBoundaryResponse, Error> {
        let PutUserPermissionsBoundaryRequest {
            user_name,
            permissions_boundary,
            validate_only: _,
            request_id: _,
        } = request;
        name::parse_policy_arn("permissions_boundary", &permissions_boundary)?;
        let asks = [Ask::new("iam:PutUserPermissionsBoundary", On::User(&user_name))
            .with("iam:PermissionsBoundary", permissions_boundary.as_str())];
        self.write(&call, &asks, |view, plan, permit| {
            let of = Of::User(&user_name);
            boundary::put(view, plan, permit.account(), of, &permissions_boundary)?;
            Ok(PutUserPermissionsBoundaryResponse::default())
        })
        .await
    }

    pub async fn delete_user_permissions_boundary(
        &self,
        call: Call,
        request: DeleteUserPermissionsBoundaryRequest,
    ) -> Result<DeleteUserPermissionsBoundaryResponse, Error> {
        let DeleteUserPermissionsBoundaryRequest { user_name, validate_only: _, request_id: _ } =
            request;
        let asks = [Ask::new("iam:DeleteUserPermissionsBoundary", On::User(&user_name))];
        self.write(&call, &asks, |view, plan, permit| {
            boundary::delete(view, plan, permit.account(), Of::User(&user_name))?;
            Ok(DeleteUserPermissionsBoundaryResponse::default())
        })
        .await
    }

    pub async fn put_role_permissions_boundary(
        &self,
        call: Call,
        request: PutRolePermissionsBoundaryRequest,
    ) -> Result<PutRolePermissionsBoundaryResponse, Error> {
        let PutRolePermissionsBoundaryRequest {
            role_name,
            permissions_boundary,
            validate_only: _,
            request_id: _,
        } = request;
        name::parse_policy_arn("permissions_boundary", &permissions_boundary)?;
        let asks = [Ask::new("iam:PutRolePermissionsBoundary", On::Role(&role_name))
            .with("iam:PermissionsBoundary", permissions_boundary.as_str())];
        self.write(&call, &asks, |view, plan, permit| {
            let of = Of::Role(&role_name);
            boundary::put(view, plan, permit.account(), of, &permissions_boundary)?;
            Ok(PutRolePermissionsBoundaryResponse::default())
        })
        .await
    }

    pub async fn delete_role_permissions_boundary(
        &self,
        call: Call,
        request: DeleteRolePermissionsBoundaryRequest,
    ) -> Result<DeleteRolePermissionsBoundaryResponse, Error> {
        let DeleteRolePermissionsBoundaryRequest { role_name, validate_only: _, request_id: _ } =
            request;
        let asks = [Ask::new("iam:DeleteRolePermissionsBoundary", On::Role(&role_name))];
        self.write(&call, &asks, |view, plan, permit| {
            boundary::delete(view, plan, permit.account(), Of::Role(&role_name))?;
            Ok(DeleteRolePermissionsBoundaryResponse::default())
        })
        .await
    }
}
