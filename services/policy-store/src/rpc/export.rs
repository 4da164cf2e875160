//! All that an account holds, page by page: users, then groups, roles, the account's policies, and AWS's own that are in use.
//!
//! Each entity is as it was at one moment; the pages are not of one moment. A page ends early rather than grow past what one message
//! may hold.

use countersign_policy::arn::AccountId;
use countersign_proto::policy::v1::*;
use prost::Message;

use super::{Call, PolicyStore};
use crate::{
    authz::{Ask, On},
    convert::{self, Uses},
    error::Error,
    iam::{group, policy},
    layout,
    view::{self, View},
};

/// Bytes after which a page ends; one more entity may come, of at most five documents.
const PAGE_BYTES: usize = 1 << 20;
/// So many are read at once.
const AT_ONCE: usize = 20;

const ALL: [EntityType; 5] = [
    EntityType::User,
    EntityType::Group,
    EntityType::Role,
    EntityType::LocalManagedPolicy,
    EntityType::AwsManagedPolicy,
];

/// In markers, and only there.
fn word(kind: EntityType) -> &'static str {
    match kind {
        EntityType::Unspecified => "all",
        EntityType::User => "user",
        EntityType::Group => "group",
        EntityType::Role => "role",
        EntityType::LocalManagedPolicy => "policy",
        EntityType::AwsManagedPolicy => "aws",
    }
}

/// The kinds that are wanted, in their order.
fn kinds(filter: &[i32]) -> Result<Vec<EntityType>, Error> {
    let refused = |number: i32| Error::validation("filter", format!("`{number}` is no kind"));
    let mut wanted = Vec::new();
    for number in filter {
        match EntityType::try_from(*number) {
            Ok(EntityType::Unspecified) | Err(_) => return Err(refused(*number)),
            Ok(kind) => wanted.push(kind),
        }
    }
    Ok(ALL.into_iter().filter(|kind| wanted.is_empty() || wanted.contains(kind)).collect())
}

/// A page that is being filled.
struct Export {
    page: GetAccountAuthorizationDetailsResponse,
    count: usize,
    limit: usize,
}

impl Export {
    fn is_full(&self) -> bool {
        self.count >= self.limit || self.page.encoded_len() >= PAGE_BYTES
    }

    fn room(&self) -> usize {
        (self.limit - self.count).min(AT_ONCE)
    }
}

impl PolicyStore {
    pub async fn get_account_authorization_details(
        &self,
        call: Call,
        request: GetAccountAuthorizationDetailsRequest,
    ) -> Result<GetAccountAuthorizationDetailsResponse, Error> {
        let GetAccountAuthorizationDetailsRequest { filter, max_items, marker } = request;
        let paging = convert::paging(marker, max_items)?;
        let kinds = kinds(&filter)?;
        let asks = [Ask::new("iam:GetAccountAuthorizationDetails", On::Anything)];
        let account = self.read(&call, &asks, |_, permit| Ok(*permit.account())).await?;
        let (from, mut after) = match paging.marker.split_once('/') {
            None => ("", String::new()),
            Some((from, after)) => (from, after.to_owned()),
        };
        if !from.is_empty() && !kinds.iter().any(|kind| word(*kind) == from) {
            return Err(Error::validation("marker", "send back what the page before answered"));
        }
        let mut export = Export { page: Default::default(), count: 0, limit: paging.limit };
        let rest = kinds.into_iter().skip_while(|kind| !from.is_empty() && word(*kind) != from);
        for kind in rest {
            if let Some(marker) = self.export_kind(&account, kind, after, &mut export).await? {
                export.page.is_truncated = true;
                export.page.marker = format!("{}/{marker}", word(kind));
                return Ok(export.page);
            }
            after = String::new();
        }
        Ok(export.page)
    }

    /// Fills the page with entities of one kind; where to go on with it if the page is full before.
    async fn export_kind(
        &self,
        account: &AccountId,
        kind: EntityType,
        mut after: String,
        export: &mut Export,
    ) -> Result<Option<String>, Error> {
        loop {
            if export.is_full() {
                return Ok(Some(after));
            }
            let next = self.export_some(account, kind, &after, export).await?;
            match next {
                Some(next) => after = next,
                None => return Ok(None),
            }
        }
    }

    /// A few of them; where the next few begin.
    async fn export_some(
        &self,
        account: &AccountId,
        kind: EntityType,
        after: &str,
        export: &mut Export,
    ) -> Result<Option<String>, Error> {
        let (store, room) = (self.store.as_ref(), export.room());
        match kind {
            EntityType::Unspecified => Ok(None),
            EntityType::User => {
                let page =
                    view::page(store, &layout::users(account), after, room, |_| true).await?;
                for record in page.records {
                    let detail = self.look(|view| user(view, account, &record)).await?;
                    export.page.user_detail_list.push(detail);
                    export.count += 1;
                }
                Ok(page.marker)
            }
            EntityType::Group => {
                let prefix = layout::groups(account);
                let page = view::page(store, &prefix, after, room, |_| true).await?;
                export.count += page.records.len();
                export.page.group_detail_list.extend(page.records.into_iter().map(group_detail));
                Ok(page.marker)
            }
            EntityType::Role => {
                let page =
                    view::page(store, &layout::roles(account), after, room, |_| true).await?;
                let used = |role: &RoleRecord| layout::last_use(&role.role_id);
                let used: Vec<_> = page.records.iter().map(used).collect();
                let used = self.look(|view| view.peek_all(&used)).await?;
                export.count += page.records.len();
                let details = page.records.into_iter().zip(used);
                let details = details.map(|(record, last_use)| RoleDetail {
                    role_last_used: convert::role_last_used(last_use),
                    ..role(record)
                });
                export.page.role_detail_list.extend(details);
                Ok(page.marker)
            }
            EntityType::LocalManagedPolicy => {
                self.export_policies(account, account.as_str(), after, export).await
            }
            EntityType::AwsManagedPolicy => {
                self.export_policies(account, layout::AWS, after, export).await
            }
        }
    }

    async fn export_policies(
        &self,
        account: &AccountId,
        owner: &str,
        after: &str,
        export: &mut Export,
    ) -> Result<Option<String>, Error> {
        let store = self.store.as_ref();
        let prefix = layout::policies(owner);
        // Five documents each: one at a time.
        let page = view::page(store, &prefix, after, 1, |_: &ManagedPolicyRecord| true).await?;
        for record in page.records {
            let uses = self.uses(&record.policy_id, account).await?;
            let is_used = uses.attachments + uses.boundaries > 0;
            if owner == layout::AWS && !is_used {
                continue;
            }
            let detail = self.look(|view| policy_detail(view, account, &record.arn, uses)).await?;
            export.page.policies.extend(detail);
            export.count += 1;
        }
        Ok(page.marker)
    }
}

fn inline(policies: Vec<InlinePolicy>) -> Vec<PolicyDetail> {
    let detail = |InlinePolicy { policy_name, policy_document }| PolicyDetail {
        policy_name,
        policy_document,
    };
    policies.into_iter().map(detail).collect()
}

fn attached(arns: &[String]) -> Vec<AttachedPolicy> {
    arns.iter().map(|arn| convert::attached_policy(arn)).collect()
}

/// A user, with the names of its groups.
fn user(view: &View, account: &AccountId, record: &UserRecord) -> Result<UserDetail, Error> {
    let mut group_list = Vec::new();
    for group_id in &record.group_ids {
        if let Some(group) = group::by_id(view, account, group_id)? {
            group_list.push(group.group_name);
        }
    }
    let arn = convert::user_arn(record);
    let record = record.clone();
    Ok(UserDetail {
        arn,
        attached_managed_policies: attached(&record.attached_policy_arns),
        path: record.path,
        user_name: record.user_name,
        user_id: record.user_id,
        create_date: record.create_date,
        user_policy_list: inline(record.inline_policies),
        group_list,
        permissions_boundary: convert::boundary(record.permissions_boundary_arn),
        tags: record.tags,
    })
}

fn group_detail(record: GroupRecord) -> GroupDetail {
    GroupDetail {
        arn: convert::group_arn(&record),
        attached_managed_policies: attached(&record.attached_policy_arns),
        path: record.path,
        group_name: record.group_name,
        group_id: record.group_id,
        create_date: record.create_date,
        group_policy_list: inline(record.inline_policies),
    }
}

fn role(record: RoleRecord) -> RoleDetail {
    RoleDetail {
        arn: convert::role_arn(&record),
        attached_managed_policies: attached(&record.attached_policy_arns),
        path: record.path,
        role_name: record.role_name,
        role_id: record.role_id,
        create_date: record.create_date,
        assume_role_policy_document: record.assume_role_policy_document,
        role_policy_list: inline(record.inline_policies),
        permissions_boundary: convert::boundary(record.permissions_boundary_arn),
        tags: record.tags,
        role_last_used: None,
        description: record.description,
        max_session_duration: record.max_session_duration,
    }
}

/// A policy with the documents of all its versions; `None` if it went meanwhile.
fn policy_detail(
    view: &View,
    account: &AccountId,
    arn: &str,
    uses: Uses,
) -> Result<Option<ManagedPolicyDetail>, Error> {
    let record = match policy::find_visible(view, account, arn) {
        Ok(record) => record,
        Err(Error::NoSuchEntity { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut policy_version_list = Vec::new();
    // Newest first, as in IAM.
    for summary in record.versions.iter().rev() {
        let key = layout::policy_version(&record.policy_id, &summary.version_id);
        let document = view.find(&key)?.map(|version| version.document).ok_or_else(|| {
            Error::Damaged { key: key.to_string(), error: "it is not there".to_owned() }
        })?;
        let default = &record.default_version_id;
        policy_version_list.push(convert::policy_version(default, summary.clone(), document));
    }
    let shown = convert::policy(record, uses);
    Ok(Some(ManagedPolicyDetail {
        policy_name: shown.policy_name,
        policy_id: shown.policy_id,
        arn: shown.arn,
        path: shown.path,
        default_version_id: shown.default_version_id,
        attachment_count: shown.attachment_count,
        permissions_boundary_usage_count: shown.permissions_boundary_usage_count,
        is_attachable: shown.is_attachable,
        description: shown.description,
        create_date: shown.create_date,
        update_date: shown.update_date,
        policy_version_list,
        tags: shown.tags,
    }))
}
