//! Managed policies, their versions, and who has them.

use countersign_policy::arn::AccountId;
use countersign_proto::policy::v1::*;

use super::{Call, PolicyStore};
use crate::{
    authz::{Ask, On},
    convert::{self, Paging, Uses},
    error::Error,
    iam::{etag, name, policy, tags},
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
        name::name("policy_name", &policy_name, 128)?;
        let account = call.account()?;
        let arn = name::policy_arn(account, name::path("path", &path)?, &policy_name);
        tags::check(&tags)?;
        let mut asks = vec![Ask::new("iam:CreatePolicy", On::Arn(arn.clone())).tagged(&tags)];
        // As in IAM, whoever makes a policy with tags must be allowed to tag it.
        if !tags.is_empty() {
            asks.push(Ask::new("iam:TagPolicy", On::Arn(arn)).tagged(&tags));
        }
        let new = policy::NewPolicy { policy_name, path, policy_document, description, tags };
        self.write(&call, &asks, |view, plan, permit| {
            let (record, findings) =
                policy::create(view, plan, permit.account(), &new, &self.quotas)?;
            Ok(CreatePolicyResponse {
                policy: Some(convert::policy(record, Uses::default())),
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
        let uses = self.uses(&record.policy_id, &account).await?;
        Ok(GetPolicyResponse { policy: Some(convert::policy(record, uses)) })
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
        let usage = convert::usage(policy_usage_filter)?;
        let is_filtered = only_attached || policy_usage_filter != 0;
        let paging = convert::paging(marker, max_items)?;
        let path_prefix = convert::path_prefix(&path_prefix)?;
        let asks = [Ask::new("iam:ListPolicies", On::Anything)];
        let account = self.read(&call, &asks, |_, permit| Ok(*permit.account())).await?;
        let scopes = convert::policy_scopes(&account, scope)?;
        let page = self.policy_page(&scopes, &paging, path_prefix).await?;
        let mut policies = Vec::new();
        for record in page.records {
            let uses = self.uses(&record.policy_id, &account).await?;
            // As in IAM, `only_attached` keeps what is attached; a usage keeps what is used so.
            let is_used = (usage.attached && uses.attachments > 0)
                || (usage.boundary && !only_attached && uses.boundaries > 0);
            if is_used || !is_filtered {
                policies.push(convert::policy(record, uses));
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
        let DeletePolicyRequest { policy_arn, validate_only: _, request_id: _, etag } = request;
        let asks = [Ask::new("iam:DeletePolicy", On::Policy(&policy_arn))];
        self.write(&call, &asks, |view, plan, permit| {
            etag::policy(view, permit.account(), &policy_arn, &etag)?;
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
            etag,
        } = request;
        let asks = [Ask::new("iam:CreatePolicyVersion", On::Policy(&policy_arn))];
        self.write(&call, &asks, |view, plan, permit| {
            let account = permit.account();
            let document = &policy_document;
            etag::policy(view, account, &policy_arn, &etag)?;
            let before = policy::find_own(view, account, &policy_arn)?;
            let (summary, is_default_version, findings) = policy::create_version(
                view,
                plan,
                account,
                &policy_arn,
                document,
                set_as_default,
                &self.quotas,
            )?;
            let etag = match is_default_version {
                true => etag::of_policy(&with_default(before, &summary.version_id)),
                false => etag::of_policy(&before),
            };
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
                etag,
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
        let DeletePolicyVersionRequest {
            policy_arn,
            version_id,
            validate_only: _,
            request_id: _,
            etag,
        } = request;
        let asks = [Ask::new("iam:DeletePolicyVersion", On::Policy(&policy_arn))];
        self.write(&call, &asks, |view, plan, permit| {
            let account = permit.account();
            etag::policy(view, account, &policy_arn, &etag)?;
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
            etag,
        } = request;
        let asks = [Ask::new("iam:SetDefaultPolicyVersion", On::Policy(&policy_arn))];
        self.write(&call, &asks, |view, plan, permit| {
            let account = permit.account();
            etag::policy(view, account, &policy_arn, &etag)?;
            policy::set_default_version(view, plan, account, &policy_arn, &version_id)?;
            let before = policy::find_own(view, account, &policy_arn)?;
            let etag = etag::of_policy(&with_default(before, &version_id));
            Ok(SetDefaultPolicyVersionResponse { revision: String::new(), etag })
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
        let filter = EntityFilter::of(entity_filter)?;
        let usage = convert::usage(policy_usage_filter)?;
        let path_prefix = convert::path_prefix(&path_prefix)?;
        let paging = convert::paging(marker, max_items)?;
        let asks = [Ask::new("iam:ListEntitiesForPolicy", On::Policy(&policy_arn))];
        let (account, policy) = self
            .read(&call, &asks, |view, permit| {
                let account = *permit.account();
                Ok((account, policy::find_visible(view, &account, &policy_arn)?))
            })
            .await?;
        let mut prefixes = Vec::new();
        if usage.attached {
            prefixes.push(("a/", layout::attachments_in(&policy.policy_id, &account)));
        }
        if usage.boundary {
            prefixes.push(("b/", layout::boundaries_in(&policy.policy_id, &account)));
        }
        let mut answer = ListEntitiesForPolicyResponse::default();
        let mut left = paging.limit;
        for (name, prefix) in prefixes {
            // The marker is whether attachments or boundaries were listed, and the last unique id.
            if paging.marker.as_str() >= name && !paging.marker.starts_with(name) {
                continue;
            }
            let after = paging.marker.strip_prefix(name).map(|id| format!("{prefix}{id}"));
            let after = after.as_ref().map(String::as_bytes);
            let marks = self.store.range(prefix.as_bytes(), after, left + 1).await?;
            for mark in &marks {
                if left == 0 {
                    answer.is_truncated = true;
                    return Ok(answer);
                }
                left -= 1;
                let key = String::from_utf8_lossy(&mark.key);
                let unique_id = key.strip_prefix(&prefix).unwrap_or_default();
                answer.marker = format!("{name}{unique_id}");
                let entity = self.entity(&account, unique_id).await?;
                filter.add(&mut answer, entity, path_prefix);
            }
        }
        answer.marker.clear();
        Ok(answer)
    }

    /// The entity with a unique id, if it is still there.
    async fn entity(&self, account: &AccountId, unique_id: &str) -> Result<Option<Entity>, Error> {
        self.look(|view| {
            let key = view.find(&layout::unique_id(unique_id))?.map(|id| id.key);
            let key = key.unwrap_or_default();
            let name = |prefix: String| key.strip_prefix(prefix.as_str()).map(str::to_owned);
            if let Some(name) = name(layout::users(account)) {
                return Ok(view.find(&layout::user(account, &name))?.map(Entity::User));
            }
            if let Some(name) = name(layout::roles(account)) {
                return Ok(view.find(&layout::role(account, &name))?.map(Entity::Role));
            }
            match name(layout::groups(account)) {
                Some(name) => Ok(view.find(&layout::group(account, &name))?.map(Entity::Group)),
                None => Ok(None),
            }
        })
        .await
    }
}

/// The policy as it is with this version in force.
fn with_default(policy: ManagedPolicyRecord, version_id: &str) -> ManagedPolicyRecord {
    ManagedPolicyRecord { default_version_id: version_id.to_owned(), ..policy }
}

/// What a managed policy can be attached to.
enum Entity {
    User(UserRecord),
    Role(RoleRecord),
    Group(GroupRecord),
}

/// Which entities are asked for.
#[derive(Clone, Copy)]
struct EntityFilter {
    users: bool,
    roles: bool,
    groups: bool,
}

impl EntityFilter {
    /// All, unless one kind is asked for.
    fn of(number: i32) -> Result<Self, Error> {
        let only = |users, roles, groups| Ok(Self { users, roles, groups });
        match EntityType::try_from(number) {
            Ok(EntityType::Unspecified) => only(true, true, true),
            Ok(EntityType::User) => only(true, false, false),
            Ok(EntityType::Role) => only(false, true, false),
            Ok(EntityType::Group) => only(false, false, true),
            Ok(EntityType::LocalManagedPolicy | EntityType::AwsManagedPolicy) => {
                let message = "a policy is attached to users, roles and groups";
                Err(Error::validation("entity_filter", message))
            }
            Err(_) => Err(Error::validation("entity_filter", format!("`{number}` is no kind"))),
        }
    }

    fn add(
        self,
        answer: &mut ListEntitiesForPolicyResponse,
        entity: Option<Entity>,
        path_prefix: &str,
    ) {
        match entity {
            Some(Entity::User(user)) if self.users && user.path.starts_with(path_prefix) => {
                let UserRecord { user_name, user_id, .. } = user;
                answer.policy_users.push(PolicyUser { user_name, user_id });
            }
            Some(Entity::Role(role)) if self.roles && role.path.starts_with(path_prefix) => {
                let RoleRecord { role_name, role_id, .. } = role;
                answer.policy_roles.push(PolicyRole { role_name, role_id });
            }
            Some(Entity::Group(group)) if self.groups && group.path.starts_with(path_prefix) => {
                let GroupRecord { group_name, group_id, .. } = group;
                answer.policy_groups.push(PolicyGroup { group_name, group_id });
            }
            Some(Entity::User(_) | Entity::Role(_) | Entity::Group(_)) | None => {}
        }
    }
}
