//! Groups: their life, their members, their policies.

use countersign_proto::policy::v1::*;

use super::{Call, PolicyStore};
use crate::{
    authz::{Ask, On},
    convert,
    error::Error,
    iam::{
        attachment::{self, To},
        etag, group, inline, name, policy,
    },
    layout, view,
};

impl PolicyStore {
    pub async fn create_group(
        &self,
        call: Call,
        request: CreateGroupRequest,
    ) -> Result<CreateGroupResponse, Error> {
        let CreateGroupRequest { path, group_name, validate_only: _, request_id: _ } = request;
        name::name("group_name", &group_name, 128)?;
        let account = call.account()?;
        let arn = name::group_arn(account, name::path("path", &path)?, &group_name);
        let asks = [Ask::new("iam:CreateGroup", On::Arn(arn))];
        self.write(&call, &asks, |view, plan, permit| {
            let account = permit.account();
            let record = group::create(view, plan, account, &path, &group_name, &self.quotas)?;
            Ok(CreateGroupResponse { group: Some(convert::group(record)), revision: String::new() })
        })
        .await
    }

    /// The members come in the order of their unique ids.
    pub async fn get_group(
        &self,
        call: Call,
        request: GetGroupRequest,
    ) -> Result<GetGroupResponse, Error> {
        let GetGroupRequest { group_name, marker, max_items } = request;
        let paging = convert::paging(marker, max_items)?;
        let asks = [Ask::new("iam:GetGroup", On::Group(&group_name))];
        let (account, record) = self
            .read(&call, &asks, |view, permit| {
                let account = *permit.account();
                Ok((account, group::find(view, &account, &group_name)?))
            })
            .await?;
        let prefix = layout::members(&record.group_id);
        let store = self.store.as_ref();
        let after = format!("{prefix}{}", paging.marker);
        let after = (!paging.marker.is_empty()).then_some(after.as_bytes());
        let marks = store.range(prefix.as_bytes(), after, paging.limit + 1).await?;
        let is_truncated = marks.len() > paging.limit;
        let mut answer = GetGroupResponse {
            group: Some(convert::group(record)),
            is_truncated,
            ..Default::default()
        };
        for mark in marks.iter().take(paging.limit) {
            let key = String::from_utf8_lossy(&mark.key).into_owned();
            let user_id = key.strip_prefix(&prefix).unwrap_or_default();
            if is_truncated {
                user_id.clone_into(&mut answer.marker);
            }
            // A user that has left since is left out.
            let found = self.look(|view| group::member(view, &account, user_id)).await?;
            answer.users.extend(found.map(convert::user));
        }
        Ok(answer)
    }

    pub async fn list_groups(
        &self,
        call: Call,
        request: ListGroupsRequest,
    ) -> Result<ListGroupsResponse, Error> {
        let ListGroupsRequest { path_prefix, marker, max_items } = request;
        let paging = convert::paging(marker, max_items)?;
        let path_prefix = convert::path_prefix(&path_prefix)?;
        let asks = [Ask::new("iam:ListGroups", On::Anything)];
        let account = self.read(&call, &asks, |_, permit| Ok(*permit.account())).await?;
        let prefix = layout::groups(&account);
        let keep = |group: &GroupRecord| group.path.starts_with(path_prefix);
        let page =
            view::page(self.store.as_ref(), &prefix, &paging.marker, paging.limit, keep).await?;
        Ok(ListGroupsResponse {
            groups: page.records.into_iter().map(convert::group).collect(),
            is_truncated: page.marker.is_some(),
            marker: page.marker.unwrap_or_default(),
        })
    }

    /// Moving or renaming a group needs iam:UpdateGroup on the group as it is and as it will be.
    pub async fn update_group(
        &self,
        call: Call,
        request: UpdateGroupRequest,
    ) -> Result<UpdateGroupResponse, Error> {
        let UpdateGroupRequest {
            group_name,
            new_path,
            new_group_name,
            validate_only: _,
            request_id: _,
        } = request;
        let moved = On::MovedGroup {
            group_name: &group_name,
            new_path: &new_path,
            new_group_name: &new_group_name,
        };
        let asks = [
            Ask::new("iam:UpdateGroup", On::Group(&group_name)),
            Ask::new("iam:UpdateGroup", moved),
        ];
        self.write(&call, &asks, |view, plan, permit| {
            let account = permit.account();
            group::update(view, plan, account, &group_name, &new_path, &new_group_name)?;
            Ok(UpdateGroupResponse::default())
        })
        .await
    }

    pub async fn delete_group(
        &self,
        call: Call,
        request: DeleteGroupRequest,
    ) -> Result<DeleteGroupResponse, Error> {
        let DeleteGroupRequest { group_name, validate_only: _, request_id: _ } = request;
        let asks = [Ask::new("iam:DeleteGroup", On::Group(&group_name))];
        self.write(&call, &asks, |view, plan, permit| {
            group::delete(view, plan, permit.account(), &group_name)?;
            Ok(DeleteGroupResponse::default())
        })
        .await
    }

    pub async fn add_user_to_group(
        &self,
        call: Call,
        request: AddUserToGroupRequest,
    ) -> Result<AddUserToGroupResponse, Error> {
        let AddUserToGroupRequest { group_name, user_name, validate_only: _, request_id: _ } =
            request;
        let asks = [Ask::new("iam:AddUserToGroup", On::Group(&group_name))];
        self.write(&call, &asks, |view, plan, permit| {
            let account = permit.account();
            group::add_user(view, plan, account, &group_name, &user_name, &self.quotas)?;
            Ok(AddUserToGroupResponse::default())
        })
        .await
    }

    pub async fn remove_user_from_group(
        &self,
        call: Call,
        request: RemoveUserFromGroupRequest,
    ) -> Result<RemoveUserFromGroupResponse, Error> {
        let RemoveUserFromGroupRequest { group_name, user_name, validate_only: _, request_id: _ } =
            request;
        let asks = [Ask::new("iam:RemoveUserFromGroup", On::Group(&group_name))];
        self.write(&call, &asks, |view, plan, permit| {
            group::remove_user(view, plan, permit.account(), &group_name, &user_name)?;
            Ok(RemoveUserFromGroupResponse::default())
        })
        .await
    }

    pub async fn list_groups_for_user(
        &self,
        call: Call,
        request: ListGroupsForUserRequest,
    ) -> Result<ListGroupsForUserResponse, Error> {
        let ListGroupsForUserRequest { user_name, marker, max_items } = request;
        let paging = convert::paging(marker, max_items)?;
        let asks = [Ask::new("iam:ListGroupsForUser", On::User(&user_name))];
        let groups = self
            .read(&call, &asks, |view, permit| group::of_user(view, permit.account(), &user_name))
            .await?;
        let (page, marker) = convert::cut(groups, &paging, |group| &group.group_name);
        Ok(ListGroupsForUserResponse {
            groups: page.into_iter().map(convert::group).collect(),
            is_truncated: marker.is_some(),
            marker: marker.unwrap_or_default(),
        })
    }

    pub async fn attach_group_policy(
        &self,
        call: Call,
        request: AttachGroupPolicyRequest,
    ) -> Result<AttachGroupPolicyResponse, Error> {
        let AttachGroupPolicyRequest { group_name, policy_arn, validate_only: _, request_id: _ } =
            request;
        name::parse_policy_arn("policy_arn", &policy_arn)?;
        let asks = [Ask::new("iam:AttachGroupPolicy", On::Group(&group_name))
            .with("iam:PolicyARN", policy_arn.as_str())];
        self.write(&call, &asks, |view, plan, permit| {
            let (account, to) = (permit.account(), To::Group(&group_name));
            attachment::attach(view, plan, account, to, &policy_arn, &self.quotas)?;
            Ok(AttachGroupPolicyResponse::default())
        })
        .await
    }

    pub async fn detach_group_policy(
        &self,
        call: Call,
        request: DetachGroupPolicyRequest,
    ) -> Result<DetachGroupPolicyResponse, Error> {
        let DetachGroupPolicyRequest { group_name, policy_arn, validate_only: _, request_id: _ } =
            request;
        name::parse_policy_arn("policy_arn", &policy_arn)?;
        let asks = [Ask::new("iam:DetachGroupPolicy", On::Group(&group_name))
            .with("iam:PolicyARN", policy_arn.as_str())];
        self.write(&call, &asks, |view, plan, permit| {
            let (account, from) = (permit.account(), To::Group(&group_name));
            attachment::detach(view, plan, account, from, &policy_arn)?;
            Ok(DetachGroupPolicyResponse::default())
        })
        .await
    }

    pub async fn list_attached_group_policies(
        &self,
        call: Call,
        request: ListAttachedGroupPoliciesRequest,
    ) -> Result<ListAttachedGroupPoliciesResponse, Error> {
        let ListAttachedGroupPoliciesRequest { group_name, path_prefix, marker, max_items } =
            request;
        let paging = convert::paging(marker, max_items)?;
        let path_prefix = convert::path_prefix(&path_prefix)?;
        let asks = [Ask::new("iam:ListAttachedGroupPolicies", On::Group(&group_name))];
        let record = self
            .read(&call, &asks, |view, permit| group::find(view, permit.account(), &group_name))
            .await?;
        let (page, marker) =
            policy::attached_page(record.attached_policy_arns, path_prefix, &paging);
        Ok(ListAttachedGroupPoliciesResponse {
            attached_policies: page,
            is_truncated: marker.is_some(),
            marker: marker.unwrap_or_default(),
        })
    }

    pub async fn put_group_policy(
        &self,
        call: Call,
        request: PutGroupPolicyRequest,
    ) -> Result<PutGroupPolicyResponse, Error> {
        let PutGroupPolicyRequest {
            group_name,
            policy_name,
            policy_document,
            validate_only: _,
            request_id: _,
            etag,
        } = request;
        let asks = [Ask::new("iam:PutGroupPolicy", On::Group(&group_name))];
        self.write(&call, &asks, |view, plan, permit| {
            let of = To::Group(&group_name);
            etag::inline(view, permit.account(), of, &policy_name, &etag)?;
            let findings =
                inline::put(view, plan, permit.account(), of, &policy_name, &policy_document)?;
            Ok(PutGroupPolicyResponse {
                revision: String::new(),
                findings: convert::findings(findings),
                etag: etag::of(&policy_document),
            })
        })
        .await
    }

    pub async fn get_group_policy(
        &self,
        call: Call,
        request: GetGroupPolicyRequest,
    ) -> Result<GetGroupPolicyResponse, Error> {
        let GetGroupPolicyRequest { group_name, policy_name } = request;
        let asks = [Ask::new("iam:GetGroupPolicy", On::Group(&group_name))];
        let (group_name, found) = self
            .read(&call, &asks, |view, permit| {
                inline::find(view, permit.account(), To::Group(&group_name), &policy_name)
            })
            .await?;
        Ok(GetGroupPolicyResponse {
            group_name,
            policy_name: found.policy_name,
            etag: etag::of(&found.policy_document),
            policy_document: found.policy_document,
        })
    }

    pub async fn delete_group_policy(
        &self,
        call: Call,
        request: DeleteGroupPolicyRequest,
    ) -> Result<DeleteGroupPolicyResponse, Error> {
        let DeleteGroupPolicyRequest {
            group_name,
            policy_name,
            validate_only: _,
            request_id: _,
            etag,
        } = request;
        let asks = [Ask::new("iam:DeleteGroupPolicy", On::Group(&group_name))];
        self.write(&call, &asks, |view, plan, permit| {
            let (account, owner) = (permit.account(), To::Group(&group_name));
            etag::inline(view, account, owner, &policy_name, &etag)?;
            inline::delete(view, plan, account, owner, &policy_name)?;
            Ok(DeleteGroupPolicyResponse::default())
        })
        .await
    }

    pub async fn list_group_policies(
        &self,
        call: Call,
        request: ListGroupPoliciesRequest,
    ) -> Result<ListGroupPoliciesResponse, Error> {
        let ListGroupPoliciesRequest { group_name, marker, max_items } = request;
        let paging = convert::paging(marker, max_items)?;
        let asks = [Ask::new("iam:ListGroupPolicies", On::Group(&group_name))];
        let (_, policies) = self
            .read(&call, &asks, |view, permit| {
                inline::list(view, permit.account(), To::Group(&group_name))
            })
            .await?;
        let (page, marker) = convert::cut(policies, &paging, |policy| &policy.policy_name);
        Ok(ListGroupPoliciesResponse {
            policy_names: page.into_iter().map(|policy| policy.policy_name).collect(),
            is_truncated: marker.is_some(),
            marker: marker.unwrap_or_default(),
        })
    }
}
