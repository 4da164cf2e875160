//! Managed policies, their versions, and who has them.

use countersign_policy::arn::AccountId;
use countersign_proto::policy::v1::*;

use super::{Call, PolicyStore};
use crate::{
    authz::{Ask, On},
    convert::{self, Paging},
    error::Error,
    iam::{name, policy},
    layout,
    view::{self, Page},
};

impl PolicyStore {
    pub async fn create_policy(
        &self,
        call: Call,
        request: CreatePolicyRequest,
    ) -> Result<CreatePolicyResponse, Error> {
        let CreatePolicyRequest {
            policy_name,
            path,
            policy_document,
            description,
            tags,
            validate_only: _,
            request_id: _,
        } = request;
        convert::refuse("tags", !tags.is_empty())?;
        name::name("policy_name", &policy_name, 128)?;
        let account = call.account()?;
        let arn = name::policy_arn(account, name::path("path", &path)?, &policy_name);
        let asks = [Ask::new("iam:CreatePolicy", On::Arn(arn))];
        let new = policy::NewPolicy { policy_name, path, policy_document, description };
        self.write(&call, &asks, |view, plan, permit| {
            let (record, findings) = policy::create(view, plan, permit.account(), &new)?;
            Ok(CreatePolicyResponse {
                policy: Some(convert::policy(record, 0)),
                revision: String::new(),
                findings: convert::findings(findings),
            })
        })
        .await
    }

    pub async fn get_policy(
        &self,
        call: Call,
        request: GetPolicyRequest,
    ) -> Result<GetPolicyResponse, Error> {
        let GetPolicyRequest { policy_arn } = request;
        let asks = [Ask::new("iam:GetPolicy", On::Policy(&policy_arn))];
        let (account, record) = self
            .read(&call, &asks, |view, permit| {
                let account = *permit.account();
                Ok((account, policy::find_visible(view, &account, &policy_arn)?))
            })
            .await?;
        let count = self.attachment_count(&record.policy_id, &account).await?;
        Ok(GetPolicyResponse { policy: Some(convert::policy(record, count)) })
    }

    pub async fn list_policies(
        &self,
        call: Call,
        request: ListPoliciesRequest,
    ) -> Result<ListPoliciesResponse, Error> {
        let ListPoliciesRequest {
            scope,
            only_attached,
            path_prefix,
            policy_usage_filter,
            marker,
            max_items,
        } = request;
        convert::refuse("policy_usage_filter", policy_usage_filter != 0)?;
        let paging = convert::paging(marker, max_items)?;
        let path_prefix = convert::path_prefix(&path_prefix)?;
        let asks = [Ask::new("iam:ListPolicies", On::Anything)];
        let account = self.read(&call, &asks, |_, permit| Ok(*permit.account())).await?;
        let scopes = convert::policy_scopes(&account, scope)?;
        let page = self.policy_page(&scopes, &paging, path_prefix).await?;
        let mut policies = Vec::new();
        for record in page.records {
            let count = self.attachment_count(&record.policy_id, &account).await?;
            if count > 0 || !only_attached {
                policies.push(convert::policy(record, count));
            }
        }
        Ok(ListPoliciesResponse {
            policies,
            is_truncated: page.marker.is_some(),
            marker: page.marker.unwrap_or_default(),
        })
    }

    /// One page over the scopes in turn. The marker is the scope, a slash, and the key in it.
    async fn policy_page(
        &self,
        scopes: &[String],
        paging: &Paging,
        path_prefix: &str,
    ) -> Result<Page<ManagedPolicyRecord>, Error> {
        let (from, mut after) = match paging.marker.split_once('/') {
            None => ("", String::new()),
            Some((scope, after)) => (scope, after.to_owned()),
        };
        let mut records = Vec::new();
        for scope in scopes.iter().skip_while(|scope| !from.is_empty() && *scope != from) {
            let keep = |policy: &ManagedPolicyRecord| policy.path.starts_with(path_prefix);
            let limit = paging.limit - records.len();
            let store = self.store.as_ref();
            let page = view::page(store, &layout::policies(scope), &after, limit, keep).await?;
            records.extend(page.records);
            if let Some(marker) = page.marker {
                return Ok(Page { records, marker: Some(format!("{scope}/{marker}")) });
            }
            after = String::new();
            if records.len() == paging.limit && scopes.last() != Some(scope) {
                let next = scopes.iter().skip_while(|other| *other != scope).nth(1);
                return Ok(Page { records, marker: next.map(|next| format!("{next}/")) });
            }
        }
        Ok(Page { records, marker: None })
    }

    pub async fn delete_policy(
        &self,
        call: Call,
        request: DeletePolicyRequest,
    ) -> Result<DeletePolicyResponse, Error> {
        let DeletePolicyRequest { policy_arn, validate_only: _, request_id: _ } = request;
        let asks = [Ask::new("iam:DeletePolicy", On::Policy(&policy_arn))];
        self.write(&call, &asks, |view, plan, permit| {
            policy::delete(view, plan, permit.account(), &policy_arn)?;
            Ok(DeletePolicyResponse::default())
        })
        .await
    }

    pub async fn create_policy_version(
        &self,
        call: Call,
        request: CreatePolicyVersionRequest,
    ) -> Result<CreatePolicyVersionResponse, Error> {
        let CreatePolicyVersionRequest {
            policy_arn,
            policy_document,
            set_as_default,
            validate_only: _,
            request_id: _,
        } = request;
        let asks = [Ask::new("iam:CreatePolicyVersion", On::Policy(&policy_arn))];
        self.write(&call, &asks, |view, plan, permit| {
            let account = permit.account();
            let document = &policy_document;
            let (summary, is_default_version, findings) =
                policy::create_version(view, plan, account, &policy_arn, document, set_as_default)?;
            // As in IAM, the answer does not repeat the document.
            let version = PolicyVersion {
                document: String::new(),
                version_id: summary.version_id,
                is_default_version,
                create_date: summary.create_date,
            };
            Ok(CreatePolicyVersionResponse {
                policy_version: Some(version),
                revision: String::new(),
                findings: convert::findings(findings),
            })
        })
        .await
    }

    pub async fn get_policy_version(
        &self,
        call: Call,
        request: GetPolicyVersionRequest,
    ) -> Result<GetPolicyVersionResponse, Error> {
        let GetPolicyVersionRequest { policy_arn, version_id } = request;
        let asks = [Ask::new("iam:GetPolicyVersion", On::Policy(&policy_arn))];
        let (record, summary, document) = self
            .read(&call, &asks, |view, permit| {
                policy::find_version(view, permit.account(), &policy_arn, &version_id)
            })
            .await?;
        let version = convert::policy_version(&record.default_version_id, summary, document);
        Ok(GetPolicyVersionResponse { policy_version: Some(version) })
    }

    pub async fn list_policy_versions(
        &self,
        call: Call,
        request: ListPolicyVersionsRequest,
    ) -> Result<ListPolicyVersionsResponse, Error> {
        let ListPolicyVersionsRequest { policy_arn, marker, max_items } = request;
        let paging = convert::paging(marker, max_items)?;
        let asks = [Ask::new("iam:ListPolicyVersions", On::Policy(&policy_arn))];
        let record = self
            .read(&call, &asks, |view, permit| {
                policy::find_visible(view, permit.account(), &policy_arn)
            })
            .await?;
        let default = record.default_version_id;
        // Newest first, as in IAM; five at most, so a page is a part of what is at hand.
        let mut versions = record.versions;
        versions.reverse();
        let done = versions.iter().position(|version| version.version_id == paging.marker);
        let rest = versions.split_off(done.map_or(0, |at| at + 1));
        let is_truncated = rest.len() > paging.limit;
        let page: Vec<_> = rest
            .into_iter()
            .take(paging.limit)
            .map(|summary| convert::policy_version(&default, summary, String::new()))
            .collect();
        let last = page.last().filter(|_| is_truncated).map(|version| version.version_id.clone());
        Ok(ListPolicyVersionsResponse {
            versions: page,
            is_truncated,
            marker: last.unwrap_or_default(),
        })
    }

    pub async fn delete_policy_version(
        &self,
        call: Call,
        request: DeletePolicyVersionRequest,
    ) -> Result<DeletePolicyVersionResponse, Error> {
        let DeletePolicyVersionRequest { policy_arn, version_id, validate_only: _, request_id: _ } =
            request;
        let asks = [Ask::new("iam:DeletePolicyVersion", On::Policy(&policy_arn))];
        self.write(&call, &asks, |view, plan, permit| {
            let account = permit.account();
            policy::delete_version(view, plan, account, &policy_arn, &version_id)?;
            Ok(DeletePolicyVersionResponse::default())
        })
        .await
    }

    pub async fn set_default_policy_version(
        &self,
        call: Call,
        request: SetDefaultPolicyVersionRequest,
    ) -> Result<SetDefaultPolicyVersionResponse, Error> {
        let SetDefaultPolicyVersionRequest {
            policy_arn,
            version_id,
            validate_only: _,
            request_id: _,
        } = request;
        let asks = [Ask::new("iam:SetDefaultPolicyVersion", On::Policy(&policy_arn))];
        self.write(&call, &asks, |view, plan, permit| {
            let account = permit.account();
            policy::set_default_version(view, plan, account, &policy_arn, &version_id)?;
            Ok(SetDefaultPolicyVersionResponse::default())
        })
        .await
    }

    pub async fn list_entities_for_policy(
        &self,
        call: Call,
        request: ListEntitiesForPolicyRequest,
    ) -> Result<ListEntitiesForPolicyResponse, Error> {
        let ListEntitiesForPolicyRequest {
            policy_arn,
            entity_filter,
            path_prefix,
            policy_usage_filter,
            marker,
            max_items,
        } = request;
        convert::refuse("entity_filter", entity_filter != 0)?;
        convert::refuse("path_prefix", !path_prefix.is_empty())?;
        convert::refuse("policy_usage_filter", policy_usage_filter != 0)?;
        let paging = convert::paging(marker, max_items)?;
        let asks = [Ask::new("iam:ListEntitiesForPolicy", On::Policy(&policy_arn))];
        let (account, policy) = self
            .read(&call, &asks, |view, permit| {
                let account = *permit.account();
                Ok((account, policy::find_visible(view, &account, &policy_arn)?))
            })
            .await?;
        let prefix = layout::attachments_in(&policy.policy_id, &account);
        let after = format!("{prefix}{}", paging.marker);
        let after = (!paging.marker.is_empty()).then_some(after.as_bytes());
        let entries = self.store.range(prefix.as_bytes(), after, paging.limit + 1).await?;
        let is_truncated = entries.len() > paging.limit;
        let mut answer = ListEntitiesForPolicyResponse { is_truncated, ..Default::default() };
        for entry in entries.iter().take(paging.limit) {
            let key = String::from_utf8_lossy(&entry.key).into_owned();
            let unique_id = key.strip_prefix(&prefix).unwrap_or_default();
            if is_truncated {
                unique_id.clone_into(&mut answer.marker);
            }
            self.add_entity(&mut answer, &account, unique_id).await?;
        }
        Ok(answer)
    }

    /// Adds the entity with a unique id, if it is still there.
    async fn add_entity(
        &self,
        answer: &mut ListEntitiesForPolicyResponse,
        account: &AccountId,
        unique_id: &str,
    ) -> Result<(), Error> {
        let found = self.look(|view| view.find(&layout::unique_id(unique_id))).await?;
        let key = found.map(|id| id.key).unwrap_or_default();
        let name = |prefix: &str| key.strip_prefix(prefix).map(str::to_owned);
        if let Some(name) = name(&layout::users(account)) {
            let user = self.look(|view| view.find(&layout::user(account, &name))).await?;
            answer.policy_users.extend(
                user.map(|user| PolicyUser { user_name: user.user_name, user_id: user.user_id }),
            );
        } else if let Some(name) = name(&layout::roles(account)) {
            let role = self.look(|view| view.find(&layout::role(account, &name))).await?;
            answer.policy_roles.extend(
                role.map(|role| PolicyRole { role_name: role.role_name, role_id: role.role_id }),
            );
        }
        Ok(())
    }
}
