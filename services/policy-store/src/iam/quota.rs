//! How much an account may hold: IAM's default quotas, and those that an operator may change.
//!
//! Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html>.

use std::str::FromStr;

use countersign_policy::arn::AccountId;

use crate::{
    error::Error,
    layout::{self, Count},
    view::{Plan, View},
};

/// Versions of a managed policy.
pub const POLICY_VERSIONS: usize = 5;
/// Access keys of a user.
pub const ACCESS_KEYS: usize = 2;
/// Characters of all inline policies of a user, without white space.
pub const USER_INLINE_CHARACTERS: usize = 2_048;
/// Characters of all inline policies of a role, without white space.
pub const ROLE_INLINE_CHARACTERS: usize = 10_240;
/// Characters of all inline policies of a group, without white space.
pub const GROUP_INLINE_CHARACTERS: usize = 5_120;
/// Characters of a managed policy, without white space.
pub const POLICY_CHARACTERS: usize = 6_144;
/// Characters of a trust policy, without white space.
pub const TRUST_CHARACTERS: usize = 2_048;
/// Bytes of one document as it is kept, white space included: five of them and a record stay under the store's 64 KB.
pub const DOCUMENT_BYTES: usize = 24 << 10;
/// Service principals bound to one role.
pub const BINDINGS: usize = 100;
/// Tags of one user, role or policy.
pub const TAGS: usize = 50;

/// The quotas that an operator may change; IAM's own by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quotas {
    /// Users of an account.
    pub users: usize,
    /// Groups of an account.
    pub groups: usize,
    /// Roles of an account.
    pub roles: usize,
    /// Managed policies of an account.
    pub policies: usize,
    /// Versions of all managed policies of an account together.
    pub policy_versions_in_use: usize,
    /// Groups that one user is in.
    pub groups_per_user: usize,
    /// Managed policies attached to one user, group or role.
    pub attached_policies: usize,
}

impl Default for Quotas {
    fn default() -> Self {
        Self {
            users: 5_000,
            groups: 300,
            roles: 1_000,
            policies: 1_500,
            policy_versions_in_use: 10_000,
            groups_per_user: 10,
            attached_policies: 10,
        }
    }
}

/// One quota, as an operator sets it: `users=20000`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuotaSetting {
    name: &'static str,
    value: usize,
}

/// A setting that is none.
#[derive(Debug, thiserror::Error)]
#[error(
    "`{0}`: NAME=NUMBER is expected, NAME one of users, groups, roles, policies, policy-versions-in-use, groups-per-user, \
     attached-policies; the last two at most 20, since they are part of one record"
)]
pub struct NoQuota(String);

const NAMES: [&str; 7] = [
    "users",
    "groups",
    "roles",
    "policies",
    "policy-versions-in-use",
    "groups-per-user",
    "attached-policies",
];

impl FromStr for QuotaSetting {
    type Err = NoQuota;

    fn from_str(text: &str) -> Result<Self, NoQuota> {
        let refused = || NoQuota(text.to_owned());
        let (name, value) = text.split_once('=').ok_or_else(refused)?;
        let name = NAMES.into_iter().find(|known| *known == name).ok_or_else(refused)?;
        let value: usize = value.parse().map_err(|_| refused())?;
        // IAM itself goes up to 20 attached policies; a principal's record has a bounded size.
        let most = match name {
            "groups-per-user" | "attached-policies" => 20,
            _ => 100_000_000,
        };
        if value == 0 || value > most { Err(refused()) } else { Ok(Self { name, value }) }
    }
}

impl Quotas {
    /// These, with one set anew.
    #[must_use]
    pub fn with(mut self, QuotaSetting { name, value }: QuotaSetting) -> Self {
        match name {
            "users" => self.users = value,
            "groups" => self.groups = value,
            "roles" => self.roles = value,
            "policies" => self.policies = value,
            "policy-versions-in-use" => self.policy_versions_in_use = value,
            "groups-per-user" => self.groups_per_user = value,
            _ => self.attached_policies = value,
        }
        self
    }
}

/// What is counted in each account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    Users,
    Groups,
    Roles,
    Policies,
    PolicyVersions,
}

impl Counted {
    fn key(self) -> &'static str {
        match self {
            Self::Users => "users",
            Self::Groups => "groups",
            Self::Roles => "roles",
            Self::Policies => "policies",
            Self::PolicyVersions => "versions",
        }
    }

    fn limit(self, quotas: &Quotas) -> usize {
        match self {
            Self::Users => quotas.users,
            Self::Groups => quotas.groups,
            Self::Roles => quotas.roles,
            Self::Policies => quotas.policies,
            Self::PolicyVersions => quotas.policy_versions_in_use,
        }
    }

    fn noun(self) -> &'static str {
        match self {
            Self::Users => "users in this account",
            Self::Groups => "groups in this account",
            Self::Roles => "roles in this account",
            Self::Policies => "managed policies in this account",
            Self::PolicyVersions => "versions of all managed policies in this account",
        }
    }
}

/// A count is kept in so many records, so that two who create at once seldom meet in one.
const SHARDS: u8 = 16;
/// So far below its limit a count is summed up from shards that may be changing. To slip past the limit, as many writes would have to
/// be on their way at one moment, each between its reading and its commit; nearer to the limit all shards are preconditions, and the
/// limit is exact.
const MARGIN: i64 = 256;

/// Counts one more, unless that is too many. `unique_id` is the new entity's.
pub fn add(
    view: &View,
    plan: &mut Plan,
    account: &AccountId,
    what: Counted,
    unique_id: &str,
    quotas: &Quotas,
) -> Result<(), Error> {
    add_some(view, plan, account, what, unique_id, 1, quotas)
}

/// Counts so many more.
pub fn add_some(
    view: &View,
    plan: &mut Plan,
    account: &AccountId,
    what: Counted,
    unique_id: &str,
    more: i64,
    quotas: &Quotas,
) -> Result<(), Error> {
    let limit = what.limit(quotas);
    let most = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut sum = loosely(view, account, what)?;
    if sum + more + MARGIN > most {
        sum = 0;
        for shard in 0..SHARDS {
            sum += view.find(&layout::count(account, what.key(), shard))?.map_or(0, |c| c.number);
        }
    }
    if sum + more > most {
        return Err(Error::LimitExceeded { what: what.noun().to_owned(), limit });
    }
    change(view, plan, account, what, unique_id, more)
}

/// Counts one less.
pub fn remove(
    view: &View,
    plan: &mut Plan,
    account: &AccountId,
    what: Counted,
    unique_id: &str,
) -> Result<(), Error> {
    change(view, plan, account, what, unique_id, -1)
}

/// About how many there are.
pub fn loosely(view: &View, account: &AccountId, what: Counted) -> Result<i64, Error> {
    let keys: Vec<_> = (0..SHARDS).map(|shard| layout::count(account, what.key(), shard)).collect();
    Ok(view.peek_all(&keys)?.into_iter().flatten().map(|count| count.number).sum())
}

fn change(
    view: &View,
    plan: &mut Plan,
    account: &AccountId,
    what: Counted,
    unique_id: &str,
    by: i64,
) -> Result<(), Error> {
    let shard = unique_id.bytes().fold(0_u8, |sum, byte| sum.wrapping_mul(31) ^ byte) % SHARDS;
    let key = layout::count(account, what.key(), shard);
    let number = view.find(&key)?.map_or(0, |count| count.number) + by;
    plan.put(&key, &Count { number });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings() {
        let quotas = |text: &str| text.parse().map(|setting| Quotas::default().with(setting));
        assert_eq!(quotas("users=7").unwrap().users, 7);
        assert_eq!(quotas("policy-versions-in-use=7").unwrap().policy_versions_in_use, 7);
        assert_eq!(quotas("attached-policies=20").unwrap().attached_policies, 20);
        for name in NAMES {
            assert_ne!(quotas(&format!("{name}=11")).unwrap(), Quotas::default(), "{name}");
        }
        for bad in ["", "users", "users=", "users=0", "users=-1", "user=7", "attached-policies=21"]
        {
            assert!(quotas(bad).is_err(), "{bad}");
        }
    }
}
