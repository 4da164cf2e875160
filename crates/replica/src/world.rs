//! All that a follower has been told, at one revision.

use std::{collections::HashMap, sync::Arc};

use countersign_evaluator::snapshot::{
    BindingEntry, Pattern, ROOT, RoleEntry, Snapshot, UserEntry,
};
use countersign_policy::arn::AccountId;
use countersign_proto::policy::v1::{
    AccessKeyRecord, PinnedPrincipalRecord, Record, SigningKeyRecord, record,
};
use countersign_token::keyset::KeySet;

use crate::{
    Digest,
    records::{self, Shared, Unreadable},
};

/// All that a follower has been told. Cloning shares structure.
#[derive(Clone, Default)]
pub struct World {
    snapshot: Snapshot,
    keys: KeySet,
    signing_keys: Arc<HashMap<String, SigningKeyRecord>>,
    access_keys: imbl::HashMap<String, Arc<AccessKeyRecord>>,
    pinned: imbl::HashMap<String, Arc<PinnedPrincipalRecord>>,
    /// The `jti` of each.
    revoked: imbl::HashSet<String>,
    /// What each stored key stands for, so that a deletion, which names the key alone, takes the right thing away.
    held: imbl::OrdMap<Box<str>, Told>,
    /// Over the keys and versions of `held`.
    digest: Digest,
}

#[derive(Clone)]
struct Told {
    held: Held,
    version: u64,
}

/// There may be a million of them: what is large stands elsewhere.
#[derive(Clone)]
enum Held {
    Account(AccountId),
    User(Arc<UserEntry>),
    Role(Arc<RoleEntry>),
    Policy(Arc<str>),
    AccessKey(Box<str>),
    Binding(Arc<BindingEntry>),
    SigningKey(Box<str>),
    Pinned(Box<str>),
    Group(Arc<str>),
    Unit(Arc<str>),
    Guardrail(Arc<str>),
    ResourcePolicy(Box<(AccountId, Pattern)>),
    RevokedToken(Box<str>),
    Unreadable(Arc<str>),
    /// It cannot be read, and is missed where it matters.
    Nothing,
}

impl World {
    /// Policies and principals.
    #[must_use]
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// The keys that tokens may be signed with.
    #[must_use]
    pub fn keys(&self) -> &KeySet {
        &self.keys
    }

    /// The signing keys as they are stored, in no order.
    pub fn signing_keys(&self) -> impl Iterator<Item = &SigningKeyRecord> {
        self.signing_keys.values()
    }

    /// The owner of an access key.
    #[must_use]
    pub fn access_key(&self, access_key_id: &str) -> Option<&AccessKeyRecord> {
        self.access_keys.get(access_key_id).map(AsRef::as_ref)
    }

    /// The unique id that an external principal is pinned to.
    #[must_use]
    pub fn pinned(&self, partition: &str, account_id: &str, principal_name: &str) -> Option<&str> {
        self.pinned
            .get(&pin_key(partition, account_id, principal_name))
            .map(|record| record.unique_id.as_str())
    }

    /// Whether a token was revoked before its time.
    #[must_use]
    pub fn is_revoked(&self, jti: &str) -> bool {
        self.revoked.contains(jti)
    }

    /// Of all that was told, read or not.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Takes in users that were read already, with the keys and versions of their records, in the order of the keys. None of the keys is
    /// held.
    pub(crate) fn put_users(&mut self, records: Vec<(Box<str>, u64)>, users: Vec<Arc<UserEntry>>) {
        self.snapshot.put_users(&users);
        let mut between = Vec::with_capacity(records.len() / 2);
        for (number, ((key, version), user)) in records.into_iter().zip(users).enumerate() {
            self.digest.add(version, key.as_bytes());
            let told = Told { held: Held::User(user), version };
            // A tree to whose end is added leaves every leaf half full; those between go into the other halves.
            if number % 2 == 0 {
                self.held.insert(key, told);
            } else {
                between.push((key, told));
            }
        }
        for (key, told) in between {
            self.held.insert(key, told);
        }
    }

    /// Takes these as the one copy of each name and list of names that users hold.
    pub(crate) fn share(&mut self, shared: &Shared) {
        self.snapshot.share(shared.names(), shared.lists());
    }

    /// Takes a record in, in place of what was held under its key.
    ///
    /// # Errors
    /// When the record cannot be read. What was held under its key is then gone: an old policy must not outlive its change.
    pub fn put(&mut self, record: &Record) -> Result<(), Unreadable> {
        self.delete(&record.key);
        let (held, put) = match self.read(record) {
            Ok(held) => (held, Ok(())),
            Err(error) => (self.beware(record), Err(error)),
        };
        self.digest.add(record.version, record.key.as_bytes());
        self.held.insert(record.key.as_str().into(), Told { held, version: record.version });
        put
    }

    /// What cannot be read and may deny is not as if it were not there. Without its user or role nothing is allowed; a missing managed
    /// policy, group, unit or guardrail is missed where it is attached. A resource policy would be missed by nobody, nor the root (which
    /// need not be there), nor the RCPs over an account's resources without the account, nor what is of a kind that this version does
    /// not know.
    fn beware(&mut self, record: &Record) -> Held {
        let account = match &record.record {
            Some(record::Record::ResourcePolicy(policy)) => policy.account_id.parse().ok(),
            Some(record::Record::Account(account)) => account.account_id.parse().ok(),
            Some(record::Record::OrganizationalUnit(unit)) if unit.id == ROOT => None,
            // Without it a revoked token would be good again.
            Some(record::Record::RevokedToken(_)) | None => None,
            Some(
                record::Record::User(_)
                | record::Record::Role(_)
                | record::Record::Group(_)
                | record::Record::ManagedPolicy(_)
                | record::Record::OrganizationalUnit(_)
                | record::Record::Guardrail(_)
                | record::Record::AccessKey(_)
                | record::Record::ServicePrincipalBinding(_)
                | record::Record::SigningKey(_)
                | record::Record::PinnedPrincipal(_),
            ) => return Held::Nothing,
        };
        let key: Arc<str> = record.key.as_str().into();
        self.snapshot.put_unreadable(Arc::clone(&key), account);
        Held::Unreadable(key)
    }

    fn read(&mut self, record: &Record) -> Result<Held, Unreadable> {
        if record.format > records::FORMAT {
            return Err(Unreadable::Newer { key: record.key.clone(), format: record.format });
        }
        let unknown = || Unreadable::UnknownKind { key: record.key.clone() };
        let held = match record.record.as_ref().ok_or_else(unknown)? {
            record::Record::Account(account) => {
                let entry = records::account(account)?;
                let held = Held::Account(entry.account);
                self.snapshot.put_account(entry);
                held
            }
            record::Record::User(user) => {
                let entry = records::user(user)?;
                Held::User(self.snapshot.put_user(entry))
            }
            record::Record::Role(role) => {
                let entry = records::role(role)?;
                Held::Role(self.snapshot.put_role(entry))
            }
            record::Record::ManagedPolicy(policy) => {
                let entry = records::policy(policy)?;
                let held = Held::Policy(entry.arn.clone());
                self.snapshot.put_policy(entry);
                held
            }
            record::Record::AccessKey(key) => {
                let id = key.access_key_id.clone();
                self.access_keys.insert(id.clone(), Arc::new(key.clone()));
                Held::AccessKey(id.into())
            }
            record::Record::ServicePrincipalBinding(binding) => {
                let entry = records::binding(binding)?;
                self.snapshot.put_binding(entry.clone());
                Held::Binding(Arc::new(entry))
            }
            record::Record::SigningKey(key) => {
                self.put_signing_key(key)?;
                Held::SigningKey(key.kid.as_str().into())
            }
            record::Record::PinnedPrincipal(pinned) => {
                let key = pin_key(&pinned.partition, &pinned.account_id, &pinned.principal_name);
                self.pinned.insert(key.clone(), Arc::new(pinned.clone()));
                Held::Pinned(key.into())
            }
            record::Record::Group(group) => {
                let entry = records::group(group)?;
                let held = Held::Group(Arc::clone(&entry.unique_id));
                self.snapshot.put_group(entry);
                held
            }
            record::Record::OrganizationalUnit(unit) => {
                let entry = records::unit(unit);
                let held = Held::Unit(Arc::clone(&entry.id));
                self.snapshot.put_unit(entry);
                held
            }
            record::Record::Guardrail(guardrail) => {
                let entry = records::guardrail(guardrail)?;
                let held = Held::Guardrail(Arc::clone(&entry.id));
                self.snapshot.put_guardrail(entry);
                held
            }
            record::Record::ResourcePolicy(policy) => {
                let entry = records::resource_policy(policy)?;
                let held = Held::ResourcePolicy(Box::new((entry.account, entry.pattern.clone())));
                self.snapshot.put_resource_policy(entry);
                held
            }
            record::Record::RevokedToken(revoked) => {
                self.revoked.insert(revoked.jti.clone());
                Held::RevokedToken(revoked.jti.as_str().into())
            }
        };
        Ok(held)
    }

    /// Forgets what is held under `key`.
    pub fn delete(&mut self, key: &str) {
        let Some(Told { held, version }) = self.held.remove(key) else { return };
        self.digest.remove(version, key.as_bytes());
        match held {
            Held::Account(account) => self.snapshot.remove_account(account),
            Held::User(user) => self.snapshot.remove_user(user.account, &user.name),
            Held::Role(role) => self.snapshot.remove_role(role.account, &role.name),
            Held::Policy(arn) => self.snapshot.remove_policy(&arn),
            Held::AccessKey(id) => {
                self.access_keys.remove(&*id);
            }
            Held::Binding(entry) => {
                let BindingEntry { caller, service_principal, role_arn, role_id: _ } = &*entry;
                self.snapshot.remove_binding(caller, service_principal, role_arn);
            }
            Held::SigningKey(kid) => {
                Arc::make_mut(&mut self.signing_keys).remove(&*kid);
                self.rebuild_keys();
            }
            Held::Group(group_id) => self.snapshot.remove_group(&group_id),
            Held::Unit(id) => self.snapshot.remove_unit(&id),
            Held::Guardrail(id) => self.snapshot.remove_guardrail(&id),
            Held::ResourcePolicy(of) => {
                let (account, pattern) = *of;
                self.snapshot.remove_resource_policy(account, &pattern);
            }
            Held::RevokedToken(jti) => {
                self.revoked.remove(&*jti);
            }
            Held::Nothing => {}
            Held::Unreadable(key) => self.snapshot.remove_unreadable(&key),
            Held::Pinned(key) => {
                self.pinned.remove(&*key);
            }
        }
    }

    fn put_signing_key(&mut self, record: &SigningKeyRecord) -> Result<(), Unreadable> {
        // Read once here, so that a key that cannot be read is refused when it arrives, not when it is needed.
        records::signing_key(record)?;
        Arc::make_mut(&mut self.signing_keys).insert(record.kid.clone(), record.clone());
        self.rebuild_keys();
        Ok(())
    }

    /// There are a handful of keys, and they change daily.
    fn rebuild_keys(&mut self) {
        self.keys = self
            .signing_keys
            .values()
            .filter_map(|record| records::signing_key(record).ok())
            .collect();
    }
}

fn pin_key(partition: &str, account_id: &str, principal_name: &str) -> String {
    format!("{partition}:{account_id}:{principal_name}")
}
