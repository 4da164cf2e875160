//! Accounts: the operator's alone.

use countersign_policy::arn::AccountId;
use countersign_proto::policy::v1::*;

use super::{Call, PolicyStore, access_keys::NewAccessKey};
use crate::{
    account,
    authz::{Ask, On},
    convert,
    error::Error,
    iam::quota::{self, Counted},
    view,
};

impl PolicyStore {
    pub async fn create_account(
        &self,
        call: Call,
        request: CreateAccountRequest,
    ) -> Result<CreateAccountResponse, Error> {
        let CreateAccountRequest {
            account_id,
            account_name,
            description,
            validate_only,
            request_id: _,
        } = request;
        let asks = [Ask::new("countersign:CreateAccount", On::Anything)];
        let account: AccountId = account_id
            .parse()
            .map_err(|_| Error::validation("account_id", "twelve digits are expected"))?;
        let root = NewAccessKey::generate(&self.sealer)?;
        self.write(&call, &asks, |view, plan, permit| {
            permit.of_operator(view)?;
            let new = account::NewAccount {
                account,
                account_name: &account_name,
                description: &description,
                operator: false,
                root_access_key_id: &root.id,
                root_sealed: &root.sealed,
            };
            let record = account::create(view, plan, &new)?;
            // A key that is only considered has no secret.
            let secret = if validate_only { String::new() } else { root.secret.to_string() };
            let root_access_key = AccessKey {
                user_name: String::new(),
                access_key_id: root.id.clone(),
                status: AccessKeyStatus::Active.into(),
                secret_access_key: secret,
                create_date: record.create_date,
            };
            Ok(CreateAccountResponse {
                account: Some(convert::account_of(record)),
                revision: String::new(),
                root_access_key: Some(root_access_key),
            })
        })
        .await
    }

    /// Under IAM's keys. Counts may be a moment old; quotas are this store's.
    pub async fn get_account_summary(
        &self,
        call: Call,
        request: GetAccountSummaryRequest,
    ) -> Result<GetAccountSummaryResponse, Error> {
        let GetAccountSummaryRequest {} = request;
        let asks = [Ask::new("iam:GetAccountSummary", On::Anything)];
        let counted = [
            ("Users", Counted::Users),
            ("Groups", Counted::Groups),
            ("Roles", Counted::Roles),
            ("Policies", Counted::Policies),
            ("PolicyVersionsInUse", Counted::PolicyVersions),
        ];
        let counts = self
            .read(&call, &asks, |view, permit| {
                let count = |(name, what)| {
                    quota::loosely(view, permit.account(), what).map(|count| (name, count))
                };
                counted.into_iter().map(count).collect::<Result<Vec<_>, Error>>()
            })
            .await?;
        let quotas = &self.quotas;
        let quotas = [
            ("UsersQuota", quotas.users),
            ("GroupsQuota", quotas.groups),
            ("RolesQuota", quotas.roles),
            ("PoliciesQuota", quotas.policies),
            ("PolicyVersionsInUseQuota", quotas.policy_versions_in_use),
            ("GroupsPerUserQuota", quotas.groups_per_user),
            ("AttachedPoliciesPerUserQuota", quotas.attached_policies),
            ("AttachedPoliciesPerGroupQuota", quotas.attached_policies),
            ("AttachedPoliciesPerRoleQuota", quotas.attached_policies),
            ("AccessKeysPerUserQuota", quota::ACCESS_KEYS),
            ("VersionsPerPolicyQuota", quota::POLICY_VERSIONS),
            ("PolicySizeQuota", quota::POLICY_CHARACTERS),
            ("AssumeRolePolicySizeQuota", quota::TRUST_CHARACTERS),
            ("UserPolicySizeQuota", quota::USER_INLINE_CHARACTERS),
            ("GroupPolicySizeQuota", quota::GROUP_INLINE_CHARACTERS),
            ("RolePolicySizeQuota", quota::ROLE_INLINE_CHARACTERS),
        ];
        let quotas = quotas
            .into_iter()
            .map(|(name, quota)| (name, i64::try_from(quota).unwrap_or(i64::MAX)));
        let number = |number: i64| i32::try_from(number).unwrap_or(i32::MAX);
        let summary_map = counts
            .into_iter()
            .chain(quotas)
            .map(|(name, value)| (name.to_owned(), number(value)))
            .collect();
        Ok(GetAccountSummaryResponse { summary_map })
    }

    pub async fn list_accounts(
        &self,
        call: Call,
        request: ListAccountsRequest,
    ) -> Result<ListAccountsResponse, Error> {
        let ListAccountsRequest { marker, max_items } = request;
        let paging = convert::paging(marker, max_items)?;
        let asks = [Ask::new("countersign:ListAccounts", On::Anything)];
        self.read(&call, &asks, |view, permit| permit.of_operator(view)).await?;
        let store = self.store.as_ref();
        let page =
            view::page(store, "account/", &paging.marker, paging.limit, |_: &AccountRecord| true)
                .await?;
        Ok(ListAccountsResponse {
            accounts: page.records.into_iter().map(convert::account_of).collect(),
            is_truncated: page.marker.is_some(),
            marker: page.marker.unwrap_or_default(),
        })
    }
}
