//! All policy data at one revision, in memory.
//!
//! Persistent maps: a clone is O(1) and shares everything, so that a decision reads one revision while the next is built.
//! Knows entities and finds them; who they are for a decision is [`crate::subject`]'s.

mod organization;
mod resource_policies;

use std::collections::BTreeMap;
use std::sync::Arc;

use countersign_policy::Document;
use countersign_policy::arn::AccountId;
use countersign_policy::principal::IamArn;
use imbl::OrdMap;

use crate::compiled::Program;
pub use crate::entities::Name;
use crate::entities::{Entities, Entity, Names};
use crate::policies::{Attached, PolicyType};
use crate::principal::Realm;

pub use organization::{
    FULL_ACCESS, FULL_ACCESS_DOCUMENT, GuardrailEntry, GuardrailKind, Level, ROOT, UnitEntry,
};
pub use resource_policies::{Pattern, ResourcePolicyEntry};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountEntry {
    pub account: AccountId,
    /// The first account; no guardrail holds for it.
    pub is_management: bool,
    /// The unit that it is in; `None` for [`organization::ROOT`].
    pub parent: Option<Arc<str>>,
    /// What is attached to the account itself.
    pub level: Level,
}

impl AccountEntry {
    /// An account right under the root, with nothing attached.
    #[must_use]
    pub fn new(account: AccountId) -> Self {
        Self { account, is_management: false, parent: None, level: Level::default() }
    }
}

/// There may be a million of them: no field has room to grow.
#[derive(Debug, Clone)]
pub struct UserEntry {
    pub account: AccountId,
    /// `aws`
    pub partition: Name,
    /// `/`, or `/team/`.
    pub path: Name,
    pub name: Box<str>,
    /// `AIDA…`
    pub unique_id: Box<str>,
    pub inline: Box<[Attached]>,
    /// ARNs of managed policies. Users with the same ones share the list.
    pub attached: Arc<[Name]>,
    /// ARN of the boundary's managed policy.
    pub boundary: Option<Name>,
    pub tags: BTreeMap<String, String>,
    /// The unique ids of the groups that it is in.
    pub groups: Box<[Name]>,
}

impl Entity for UserEntry {
    fn account(&self) -> AccountId {
        self.account
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn unique_id(&self) -> &str {
        &self.unique_id
    }
}

/// A group: what its members have besides their own.
#[derive(Debug, Clone)]
pub struct GroupEntry {
    /// `AGPA…`
    pub unique_id: Arc<str>,
    pub inline: Vec<Attached>,
    /// ARNs of managed policies.
    pub attached: Vec<Name>,
}

impl UserEntry {
    #[must_use]
    pub fn arn(&self) -> IamArn {
        IamArn::User {
            partition: self.partition.to_string(),
            account: self.account,
            path: self.path.to_string(),
            name: self.name.to_string(),
        }
    }
}

#[derive(Debug, Clone)]
pub struct RoleEntry {
    pub account: AccountId,
    /// `aws`
    pub partition: Name,
    /// `/`, or `/team/`.
    pub path: Name,
    pub name: String,
    /// `AROA…`
    pub unique_id: String,
    pub inline: Vec<Attached>,
    /// ARNs of managed policies.
    pub attached: Vec<Name>,
    /// ARN of the boundary's managed policy.
    pub boundary: Option<Name>,
    pub tags: BTreeMap<String, String>,
    /// Of type [`PolicyType::Trust`].
    pub trust: Attached,
    /// Seconds, 3600 to 43200.
    pub max_session_duration: u32,
    /// Epoch seconds; sessions that began then or before are over.
    pub sessions_revoked_before: Option<i64>,
}

impl RoleEntry {
    #[must_use]
    pub fn arn(&self) -> IamArn {
        IamArn::Role {
            partition: self.partition.to_string(),
            account: self.account,
            path: self.path.to_string(),
            name: self.name.clone(),
        }
    }
}

impl Entity for RoleEntry {
    fn account(&self) -> AccountId {
        self.account
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn unique_id(&self) -> &str {
        &self.unique_id
    }
}

/// A managed policy's default version; AWS's own (`arn:aws:iam::aws:policy/…`) are like all others.
#[derive(Debug, Clone)]
pub struct PolicyEntry {
    pub arn: Arc<str>,
    pub version_id: Arc<str>,
    pub document: Arc<Document>,
}

impl PolicyEntry {
    #[must_use]
    pub fn as_attached(&self, policy_type: PolicyType) -> Attached {
        Attached {
            policy_type,
            name: Arc::clone(&self.arn),
            version_id: Some(Arc::clone(&self.version_id)),
            document: Arc::clone(&self.document),
            resolved: None,
        }
    }
}

/// The key of an identity that may speak for a service principal.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallerKey {
    pub realm: Realm,
    pub partition: String,
    pub account: AccountId,
    pub unique_id: String,
}

/// `BindServicePrincipal`: for this role alone, the caller speaks for the service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BindingEntry {
    pub caller: CallerKey,
    /// `ec2.amazonaws.com`
    pub service_principal: String,
    pub role_arn: IamArn,
    /// The role's unique id when it was bound.
    pub role_id: String,
}

/// Names are unique without case.
type EntityKey = (AccountId, String);
/// Role, caller, service.
type BindingKey = (String, CallerKey, String);

fn entity_key(account: AccountId, name: &str) -> EntityKey {
    (account, name.to_ascii_lowercase())
}

fn compiled<'a>(attached: impl IntoIterator<Item = &'a Attached>) -> Arc<[Program]> {
    attached.into_iter().map(|attached| Program::new(Arc::clone(&attached.document))).collect()
}

/// A group, and its inline policies compiled.
#[derive(Debug)]
struct CompiledGroup {
    entry: GroupEntry,
    programs: Arc<[Program]>,
}

/// Tells one state of the policies from every other: equal marks are of one state, which nobody changed since.
#[derive(Debug, Clone, Default)]
pub struct Mark(Arc<()>);

impl PartialEq for Mark {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Mark {}

/// Policy data at one revision.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    mark: Mark,
    accounts: OrdMap<AccountId, AccountEntry>,
    users: Entities<UserEntry>,
    roles: Entities<RoleEntry>,
    /// Those that users, roles and groups hold.
    names: Names,
    policies: OrdMap<Arc<str>, Arc<PolicyEntry>>,
    /// Managed policies, compiled: once each, whoever has them.
    programs: OrdMap<Arc<str>, Program>,
    /// Inline policies, compiled. None for who has none.
    user_programs: OrdMap<EntityKey, Arc<[Program]>>,
    /// The same, and the trust policy.
    role_programs: OrdMap<EntityKey, Arc<[Program]>>,
    bindings: OrdMap<BindingKey, Arc<BindingEntry>>,
    /// By unique id.
    groups: OrdMap<Arc<str>, Arc<CompiledGroup>>,
    /// The organization's root among them, once something was attached to it.
    units: OrdMap<Arc<str>, Arc<UnitEntry>>,
    guardrails: OrdMap<Arc<str>, Arc<organization::Guardrail>>,
    resource_policies: OrdMap<resource_policies::Key, Arc<resource_policies::ResourcePolicy>>,
    /// Records that could not be read, and that may deny: of one account, or of any.
    unreadable: OrdMap<Arc<str>, Option<AccountId>>,
}

/// How many entities a snapshot has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    pub accounts: usize,
    pub users: usize,
    pub roles: usize,
    pub policies: usize,
    pub bindings: usize,
}

impl Snapshot {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Of everything that bears on a principal beside its own record: managed policies, groups, accounts, units and guardrails, and what
    /// cannot be read. A clone has the same mark until one of the two is changed. Stored resource policies are not among it.
    #[must_use]
    pub fn policies_mark(&self) -> &Mark {
        &self.mark
    }

    pub fn put_account(&mut self, entry: AccountEntry) {
        self.mark = Mark::default();
        self.accounts.insert(entry.account, entry);
    }

    /// Something that may deny was there, and cannot be read: nothing is allowed in its account (or in any) until it can.
    pub fn put_unreadable(&mut self, key: Arc<str>, account: Option<AccountId>) {
        self.mark = Mark::default();
        self.unreadable.insert(key, account);
    }

    pub fn remove_unreadable(&mut self, key: &str) {
        self.mark = Mark::default();
        self.unreadable.remove(key);
    }

    pub fn remove_account(&mut self, account: AccountId) {
        self.mark = Mark::default();
        self.accounts.remove(&account);
    }

    /// Replaces the user of that name, if there is one.
    pub fn put_user(&mut self, mut entry: UserEntry) -> Arc<UserEntry> {
        let key = entity_key(entry.account, &entry.name);
        if entry.inline.is_empty() {
            self.user_programs.remove(&key);
        } else {
            self.user_programs.insert(key, compiled(&entry.inline));
        }
        self.names.share([&mut entry.partition, &mut entry.path]);
        self.names.share_list(&mut entry.attached);
        self.names.share(&mut entry.boundary);
        self.names.share(&mut entry.groups);
        self.users.put(entry)
    }

    /// Puts all of them, as if one after the other, and faster where there are none yet. What they share among themselves has to be shared
    /// already, as far as it matters; see [`Self::share`].
    pub fn put_users(&mut self, entries: &[Arc<UserEntry>]) {
        for entry in entries {
            let key = || entity_key(entry.account, &entry.name);
            if !entry.inline.is_empty() {
                self.user_programs.insert(key(), compiled(&entry.inline));
            } else if !self.user_programs.is_empty() {
                self.user_programs.remove(&key());
            }
        }
        self.users.put_all(entries);
    }

    /// Takes these as the one copy of each name and list of names.
    pub fn share<'a>(
        &mut self,
        names: impl IntoIterator<Item = &'a Name>,
        lists: impl IntoIterator<Item = &'a Arc<[Name]>>,
    ) {
        self.names.keep(names, lists);
    }

    pub fn remove_user(&mut self, account: AccountId, name: &str) {
        self.user_programs.remove(&entity_key(account, name));
        self.users.remove(account, name);
    }

    /// Replaces the role of that name, if there is one.
    pub fn put_role(&mut self, mut entry: RoleEntry) -> Arc<RoleEntry> {
        let documents = entry.inline.iter().chain([&entry.trust]);
        let programs = compiled(documents);
        self.role_programs.insert(entity_key(entry.account, &entry.name), programs);
        self.names.share([&mut entry.partition, &mut entry.path]);
        self.names.share(entry.attached.iter_mut().chain(&mut entry.boundary));
        self.roles.put(entry)
    }

    pub fn remove_role(&mut self, account: AccountId, name: &str) {
        self.role_programs.remove(&entity_key(account, name));
        self.roles.remove(account, name);
    }

    /// Replaces the group of that unique id, if there is one.
    pub fn put_group(&mut self, mut entry: GroupEntry) {
        self.mark = Mark::default();
        self.names.share(&mut entry.attached);
        let programs = compiled(&entry.inline);
        let unique_id = Arc::clone(&entry.unique_id);
        self.groups.insert(unique_id, Arc::new(CompiledGroup { entry, programs }));
    }

    pub fn remove_group(&mut self, unique_id: &str) {
        self.mark = Mark::default();
        self.groups.remove(unique_id);
    }

    /// The group, and its inline policies compiled, in their order.
    #[must_use]
    pub fn group(&self, unique_id: &str) -> Option<(&GroupEntry, &[Program])> {
        self.groups.get(unique_id).map(|group| (&group.entry, &*group.programs))
    }

    pub fn put_policy(&mut self, entry: PolicyEntry) {
        self.mark = Mark::default();
        let program = Program::new(Arc::clone(&entry.document));
        self.programs.insert(Arc::clone(&entry.arn), program);
        self.policies.insert(Arc::clone(&entry.arn), Arc::new(entry));
    }

    pub fn remove_policy(&mut self, arn: &str) {
        self.mark = Mark::default();
        self.policies.remove(arn);
        self.programs.remove(arn);
    }

    pub fn put_binding(&mut self, entry: BindingEntry) {
        let key =
            (entry.role_arn.to_string(), entry.caller.clone(), entry.service_principal.clone());
        self.bindings.insert(key, Arc::new(entry));
    }

    pub fn remove_binding(
        &mut self,
        caller: &CallerKey,
        service_principal: &str,
        role_arn: &IamArn,
    ) {
        self.bindings.remove(&(role_arn.to_string(), caller.clone(), service_principal.to_owned()));
    }

    /// Whether entities of this account live in the store.
    #[must_use]
    pub fn is_local(&self, account: AccountId) -> bool {
        self.accounts.contains_key(&account)
    }

    /// The name's case does not count.
    #[must_use]
    pub fn user(&self, account: AccountId, name: &str) -> Option<&Arc<UserEntry>> {
        self.users.named(account, name)
    }

    #[must_use]
    pub fn user_by_id(&self, unique_id: &str) -> Option<&Arc<UserEntry>> {
        self.users.with_id(unique_id)
    }

    /// The name's case does not count.
    #[must_use]
    pub fn role(&self, account: AccountId, name: &str) -> Option<&Arc<RoleEntry>> {
        self.roles.named(account, name)
    }

    #[must_use]
    pub fn role_by_id(&self, unique_id: &str) -> Option<&Arc<RoleEntry>> {
        self.roles.with_id(unique_id)
    }

    #[must_use]
    pub fn policy(&self, arn: &str) -> Option<&Arc<PolicyEntry>> {
        self.policies.get(arn)
    }

    /// The managed policy, compiled.
    #[must_use]
    pub fn program(&self, arn: &str) -> Option<&Program> {
        self.programs.get(arn)
    }

    /// The user's inline policies, compiled, in their order.
    #[must_use]
    pub fn user_programs(&self, account: AccountId, name: &str) -> &[Program] {
        self.user_programs.get(&entity_key(account, name)).map_or(&[], |programs| programs)
    }

    /// The role's trust policy, compiled.
    #[must_use]
    pub fn trust_program(&self, role: &RoleEntry) -> Option<&Program> {
        self.role_programs(role.account, &role.name).last()
    }

    /// The role's inline policies, compiled, in their order, and then its trust policy.
    #[must_use]
    pub fn role_programs(&self, account: AccountId, name: &str) -> &[Program] {
        self.role_programs.get(&entity_key(account, name)).map_or(&[], |programs| programs)
    }

    /// What the caller may speak for, towards this role. A binding to a role that was made anew since does not count.
    pub fn bindings<'a>(
        &'a self,
        caller: &'a CallerKey,
        role_arn: &'a IamArn,
    ) -> impl Iterator<Item = &'a Arc<BindingEntry>> {
        let first = (role_arn.to_string(), caller.clone(), String::new());
        self.bindings
            .range(first..)
            .map(|(_, binding)| binding)
            .take_while(move |binding| binding.role_arn == *role_arn && binding.caller == *caller)
            .filter(|binding| {
                self.role_by_id(&binding.role_id).is_some_and(|role| role.arn() == binding.role_arn)
            })
    }

    pub fn accounts(&self) -> impl Iterator<Item = &AccountEntry> {
        self.accounts.values()
    }

    pub fn users(&self) -> impl Iterator<Item = &Arc<UserEntry>> {
        self.users.iter()
    }

    pub fn roles(&self) -> impl Iterator<Item = &Arc<RoleEntry>> {
        self.roles.iter()
    }

    /// All users in an order that stays the same, each with its place, from behind the place `after`.
    pub fn users_after(&self, after: Option<u64>) -> impl Iterator<Item = (u64, &Arc<UserEntry>)> {
        self.users.after(after)
    }

    /// All roles in an order that stays the same, each with its place, from behind the place `after`.
    pub fn roles_after(&self, after: Option<u64>) -> impl Iterator<Item = (u64, &Arc<RoleEntry>)> {
        self.roles.after(after)
    }

    pub fn policies(&self) -> impl Iterator<Item = &Arc<PolicyEntry>> {
        self.policies.values()
    }

    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            accounts: self.accounts.len(),
            users: self.users.len(),
            roles: self.roles.len(),
            policies: self.policies.len(),
            bindings: self.bindings.len(),
        }
    }
}
