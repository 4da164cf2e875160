//! Where each record stands in the store: its key, its kind, and whether Watch carries it.
//!
//! A key is text: the kind, then the parts of the name with slashes between. Names hold no slash and are lower-cased, since
//! IAM's are unique without regard to case.

use std::{fmt, marker::PhantomData};

use countersign_policy::arn::AccountId;
use countersign_proto::policy::v1::{
    AccessKeyRecord, AccountRecord, GroupRecord, GuardrailRecord, ManagedPolicyRecord,
    OrganizationalUnitRecord, PinnedPrincipalRecord, PolicyVersionRecord, Realm, Record,
    RecordKind, ResourcePolicyRecord, RevokedTokenRecord, RoleRecord,
    ServicePrincipalBindingRecord, SigningKeyRecord, UserRecord, record,
};
use prost::{DecodeError, Message};

use crate::{audit::AuditRecord, digest::sha256_hex, error::Error, request::DoneRequest};

/// The account under which AWS's own managed policies stand.
pub const AWS: &str = "aws";

/// The key of a record of type `R`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key<R> {
    text: String,
    record: PhantomData<fn() -> R>,
}

impl<R> Key<R> {
    fn new(text: String) -> Self {
        Self { text, record: PhantomData }
    }

    /// As the store has it.
    pub fn as_bytes(&self) -> &[u8] {
        self.text.as_bytes()
    }
}

impl<R> fmt::Display for Key<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A fact that is nothing but its key.
#[derive(Clone, PartialEq, Message)]
pub struct Mark {}

/// A secret, sealed. Never in the Watch.
#[derive(Clone, PartialEq, Message)]
pub struct SealedSecret {
    /// Nonce and ciphertext.
    #[prost(bytes = "vec", tag = "1")]
    pub sealed: Vec<u8>,
}

/// How many there are of something: a shard of it.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Count {
    /// Less than nothing in a shard that saw more ends than beginnings.
    #[prost(sint64, tag = "1")]
    pub number: i64,
}

/// A proof that was used.
#[derive(Clone, PartialEq, Message)]
pub struct SpentProof {
    /// Seconds since 1970, after which the record may be dropped.
    #[prost(int64, tag = "1")]
    pub expires: i64,
}

/// The last use of an access key or a role.
#[derive(Clone, PartialEq, Message)]
pub struct LastUse {
    /// Seconds since 1970.
    #[prost(int64, tag = "1")]
    pub seconds: i64,
    /// Of an access key.
    #[prost(string, tag = "2")]
    pub service_name: String,
    #[prost(string, tag = "3")]
    pub region: String,
}

/// Where the entity with a unique id stands.
#[derive(Clone, PartialEq, Message)]
pub struct UniqueId {
    /// The entity's key.
    #[prost(string, tag = "1")]
    pub key: String,
}

pub fn account(account: &str) -> Key<AccountRecord> {
    Key::new(format!("account/{account}"))
}

pub fn users(account: &AccountId) -> String {
    format!("user/{account}/")
}

pub fn user(account: &AccountId, name: &str) -> Key<UserRecord> {
    Key::new(format!("{}{}", users(account), name.to_lowercase()))
}

pub fn roles(account: &AccountId) -> String {
    format!("role/{account}/")
}

pub fn role(account: &AccountId, name: &str) -> Key<RoleRecord> {
    Key::new(format!("{}{}", roles(account), name.to_lowercase()))
}

/// `account` is twelve digits or [`AWS`].
pub fn policies(account: &str) -> String {
    format!("policy/{account}/")
}

pub fn policy(account: &str, name: &str) -> Key<ManagedPolicyRecord> {
    Key::new(format!("{}{}", policies(account), name.to_lowercase()))
}

pub fn access_key(access_key_id: &str) -> Key<AccessKeyRecord> {
    Key::new(format!("key/{access_key_id}"))
}

pub fn bindings(role_id: &str) -> String {
    format!("binding/{role_id}/")
}

pub fn binding(record: &ServicePrincipalBindingRecord) -> Key<ServicePrincipalBindingRecord> {
    let realm = match record.caller_realm() {
        Realm::Countersign => "countersign",
        Realm::Aws => "aws",
        Realm::Unspecified => "unspecified",
    };
    Key::new(format!(
        "{}{}/{realm}/{}/{}",
        bindings(&record.role_id),
        record.service_principal,
        record.caller_account_id,
        record.caller_unique_id
    ))
}

pub const SIGNING_KEYS: &str = "signing/";

pub fn signing_key(kid: &str) -> Key<SigningKeyRecord> {
    Key::new(format!("{SIGNING_KEYS}{kid}"))
}

pub fn pinned(partition: &str, account: &AccountId, name: &str) -> Key<PinnedPrincipalRecord> {
    Key::new(format!("pinned/{partition}/{account}/{name}"))
}

pub fn groups(account: &AccountId) -> String {
    format!("group/{account}/")
}

pub fn group(account: &AccountId, name: &str) -> Key<GroupRecord> {
    Key::new(format!("{}{}", groups(account), name.to_lowercase()))
}

/// Who is in a group, by the members' unique ids.
pub fn members(group_id: &str) -> String {
    format!("x/member/{group_id}/")
}

pub fn member(group_id: &str, user_id: &str) -> Key<Mark> {
    Key::new(format!("{}{user_id}", members(group_id)))
}

pub const UNITS: &str = "unit/";

/// The root or a unit of the organization.
pub fn unit(id: &str) -> Key<OrganizationalUnitRecord> {
    Key::new(format!("{UNITS}{id}"))
}

/// What stands right below the root or a unit: units and accounts, by id. Accounts right below the root are not listed until they were
/// moved there.
pub fn children(parent_id: &str) -> String {
    format!("x/child/{parent_id}/")
}

pub fn child(parent_id: &str, id: &str) -> Key<Mark> {
    Key::new(format!("{}{id}", children(parent_id)))
}

/// Who holds a unit's name, which is unique within its parent. The digest keeps slashes and the like out of keys.
pub fn unit_name(parent_id: &str, name: &str) -> Key<UniqueId> {
    Key::new(format!("x/unit-name/{parent_id}/{}", sha256_hex(name.to_lowercase().as_bytes())))
}

/// Who holds a guardrail's name.
pub fn guardrail_name(name: &str) -> Key<UniqueId> {
    Key::new(format!("x/guardrail-name/{}", sha256_hex(name.to_lowercase().as_bytes())))
}

/// What a guardrail is attached to.
pub fn targets(guardrail_id: &str) -> String {
    format!("x/guarded/{guardrail_id}/")
}

pub fn guarded(guardrail_id: &str, target_id: &str) -> Key<Mark> {
    Key::new(format!("{}{target_id}", targets(guardrail_id)))
}

/// Whoever adds a resource policy to an account counts here, and so comes after everybody else who did.
pub fn resource_policy_turn(account: &AccountId) -> Key<Count> {
    Key::new(format!("x/resource-turn/{account}"))
}

pub const GUARDRAILS: &str = "guardrail/";

pub fn guardrail(id: &str) -> Key<GuardrailRecord> {
    Key::new(format!("{GUARDRAILS}{id}"))
}

pub fn resource_policies(account: &AccountId) -> String {
    format!("resource/{account}/")
}

/// By the ARN or pattern as it was given: ARNs hold no line ends, and so the key is text.
pub fn resource_policy(account: &AccountId, resource_arn: &str) -> Key<ResourcePolicyRecord> {
    Key::new(format!("{}{resource_arn}", resource_policies(account)))
}

pub const REVOKED_TOKENS: &str = "revoked/";

pub fn revoked_token(jti: &str) -> Key<RevokedTokenRecord> {
    Key::new(format!("{REVOKED_TOKENS}{jti}"))
}

/// The document of one version; keyed by the policy's unique id, so that a new policy never finds an old one's versions.
pub fn policy_version(policy_id: &str, version_id: &str) -> Key<PolicyVersionRecord> {
    Key::new(format!("x/version/{policy_id}/{version_id}"))
}

pub const SECRETS: &str = "x/secret/";

pub fn secret(access_key_id: &str) -> Key<SealedSecret> {
    Key::new(format!("{SECRETS}{access_key_id}"))
}

/// When an access key or a role was last used. Not in the Watch, and gone with what was used.
pub fn last_use(id: &str) -> Key<LastUse> {
    Key::new(format!("x/used/{id}"))
}

/// Where the entity with a unique id stands; also what makes unique ids unique.
pub fn unique_id(unique_id: &str) -> Key<UniqueId> {
    Key::new(format!("x/id/{unique_id}"))
}

/// Who has a managed policy attached, in whatever account.
pub fn attachments(policy_id: &str) -> String {
    format!("x/attached/{policy_id}/")
}

/// Who of one account has a managed policy attached: AWS's are attached in many.
pub fn attachments_in(policy_id: &str, account: &AccountId) -> String {
    format!("{}{account}/", attachments(policy_id))
}

pub fn attachment(policy_id: &str, account: &AccountId, unique_id: &str) -> Key<Mark> {
    Key::new(format!("{}{unique_id}", attachments_in(policy_id, account)))
}

/// Whose permissions boundary a managed policy is, in whatever account.
pub fn boundaries(policy_id: &str) -> String {
    format!("x/boundary/{policy_id}/")
}

/// Whose of one account.
pub fn boundaries_in(policy_id: &str, account: &AccountId) -> String {
    format!("{}{account}/", boundaries(policy_id))
}

pub fn boundary(policy_id: &str, account: &AccountId, unique_id: &str) -> Key<Mark> {
    Key::new(format!("{}{unique_id}", boundaries_in(policy_id, account)))
}

/// A shard of how many there are of something in an account.
pub fn count(account: &AccountId, what: &str, shard: u8) -> Key<Count> {
    Key::new(format!("x/count/{account}/{what}/{shard:02}"))
}

/// Which roles' trust policies name an account as external.
pub fn externals(account: &AccountId) -> String {
    format!("x/external/{account}/")
}

pub fn external(account: &AccountId, role_id: &str) -> Key<Mark> {
    Key::new(format!("{}{role_id}", externals(account)))
}

pub const SPENT_PROOFS: &str = "x/proof/";

/// `digest` is the SHA-256 of the replay key, in hex.
pub fn spent_proof(digest: &str) -> Key<SpentProof> {
    Key::new(format!("{SPENT_PROOFS}{digest}"))
}

pub const AUDIT: &str = "x/audit/";

/// An event of the audit trail; `order` is the time, so that the newest comes first.
pub fn audit(order: &str, event_id: &str) -> Key<AuditRecord> {
    Key::new(format!("{AUDIT}{order}/{event_id}"))
}

pub const DONE_REQUESTS: &str = "x/request/";

/// A write that its caller named; `digest` is of the caller and the name.
pub fn done_request(digest: &str) -> Key<DoneRequest> {
    Key::new(format!("{DONE_REQUESTS}{digest}"))
}

/// Where records of a kind stand: what Watch carries. Whatever is not listed here (secrets, spent proofs, indexes) is not.
pub fn prefix(kind: RecordKind) -> Option<&'static str> {
    match kind {
        RecordKind::Unspecified => None,
        RecordKind::Account => Some("account/"),
        RecordKind::User => Some("user/"),
        RecordKind::Role => Some("role/"),
        RecordKind::ManagedPolicy => Some("policy/"),
        RecordKind::AccessKey => Some("key/"),
        RecordKind::ServicePrincipalBinding => Some("binding/"),
        RecordKind::SigningKey => Some(SIGNING_KEYS),
        RecordKind::PinnedPrincipal => Some("pinned/"),
        RecordKind::Group => Some("group/"),
        RecordKind::OrganizationalUnit => Some(UNITS),
        RecordKind::Guardrail => Some(GUARDRAILS),
        RecordKind::ResourcePolicy => Some("resource/"),
        RecordKind::RevokedToken => Some(REVOKED_TOKENS),
    }
}

/// Every kind that Watch carries.
pub const KINDS: [RecordKind; 13] = [
    RecordKind::Account,
    RecordKind::User,
    RecordKind::Role,
    RecordKind::ManagedPolicy,
    RecordKind::AccessKey,
    RecordKind::ServicePrincipalBinding,
    RecordKind::SigningKey,
    RecordKind::PinnedPrincipal,
    RecordKind::Group,
    RecordKind::OrganizationalUnit,
    RecordKind::Guardrail,
    RecordKind::ResourcePolicy,
    RecordKind::RevokedToken,
];

/// The kind of the record at `key`; `None` for what Watch does not carry.
pub fn kind(key: &[u8]) -> Option<RecordKind> {
    KINDS.into_iter().find(|kind| prefix(*kind).is_some_and(|p| key.starts_with(p.as_bytes())))
}

/// The form of stored values that this version writes, and the newest that it reads: the first byte of each value, before the message.
/// A record that a newer version wrote may hold what this one would drop (a boundary, say), and so is not read at all.
/// Form 2 brought groups, boundaries, tags, guardrails and revocations.
pub const FORMAT: u8 = 2;

/// Under which everything stands that Watch does not carry.
pub const UNWATCHED: &str = "x/";

/// The access key id whose secret stands at `key`, if one does.
pub fn secret_of(key: &[u8]) -> Option<&str> {
    std::str::from_utf8(key.strip_prefix(SECRETS.as_bytes())?).ok()
}

/// What is written to see whether there is room.
pub fn space_probe() -> bytes::Bytes {
    format!("{UNWATCHED}space").into_bytes().into()
}

/// The newest form of records in the store.
pub fn form() -> Key<crate::form::Form> {
    Key::new(format!("{UNWATCHED}form"))
}

/// The mark of an import that is not done.
pub fn import_mark() -> Key<crate::transfer::Mark> {
    Key::new(format!("{UNWATCHED}import"))
}

/// The beginning of a key that says what stands there, for counts: `user`, `x/secret`.
pub fn room(key: &[u8]) -> String {
    let text = String::from_utf8_lossy(key);
    let parts = if text.starts_with(UNWATCHED) { 2 } else { 1 };
    text.split('/').take(parts).collect::<Vec<_>>().join("/")
}

/// Turns back from a value of a form that this version does not know.
pub fn check_form(key: &[u8], value: &[u8]) -> Result<(), Error> {
    message(&String::from_utf8_lossy(key), value).map(|_message| ())
}

/// A record as it is stored.
pub fn encode<R: Message>(record: &R) -> Vec<u8> {
    let mut value = Vec::with_capacity(1 + record.encoded_len());
    value.push(FORMAT);
    value.extend(record.encode_to_vec());
    value
}

/// The message of a stored value.
fn message<'a>(key: &str, value: &'a [u8]) -> Result<&'a [u8], Error> {
    match value.split_first() {
        Some((1..=FORMAT, message)) => Ok(message),
        Some((format, _)) => Err(Error::Newer { key: key.to_owned(), format: *format }),
        None => Err(Error::Damaged { key: key.to_owned(), error: "it is empty".to_owned() }),
    }
}

/// The record stored at `key`.
pub fn decode<R: Message + Default>(key: &Key<R>, value: &[u8]) -> Result<R, Error> {
    decode_at(key.as_bytes(), value)
}

/// The same, where the key comes from the store.
pub fn decode_at<R: Message + Default>(key: &[u8], value: &[u8]) -> Result<R, Error> {
    let key = String::from_utf8_lossy(key);
    let damaged = |error: DecodeError| Error::Damaged {
        key: key.clone().into_owned(),
        error: error.to_string(),
    };
    R::decode(message(&key, value)?).map_err(damaged)
}

/// The record that revision `version` wrote at `key`, as Watch carries it; `None` for what Watch does not carry.
pub fn record(key: &[u8], value: &[u8], version: u64) -> Result<Option<Record>, Error> {
    let Some(kind) = kind(key) else { return Ok(None) };
    let content = match kind {
        RecordKind::Unspecified => return Ok(None),
        RecordKind::Account => record::Record::Account(decode_at(key, value)?),
        RecordKind::User => record::Record::User(decode_at(key, value)?),
        RecordKind::Role => record::Record::Role(decode_at(key, value)?),
        RecordKind::ManagedPolicy => record::Record::ManagedPolicy(decode_at(key, value)?),
        RecordKind::AccessKey => record::Record::AccessKey(decode_at(key, value)?),
        RecordKind::ServicePrincipalBinding => {
            record::Record::ServicePrincipalBinding(decode_at(key, value)?)
        }
        RecordKind::SigningKey => record::Record::SigningKey(decode_at(key, value)?),
        RecordKind::PinnedPrincipal => record::Record::PinnedPrincipal(decode_at(key, value)?),
        RecordKind::Group => record::Record::Group(decode_at(key, value)?),
        RecordKind::OrganizationalUnit => {
            record::Record::OrganizationalUnit(decode_at(key, value)?)
        }
        RecordKind::Guardrail => record::Record::Guardrail(decode_at(key, value)?),
        RecordKind::ResourcePolicy => record::Record::ResourcePolicy(decode_at(key, value)?),
        RecordKind::RevokedToken => record::Record::RevokedToken(decode_at(key, value)?),
    };
    Ok(Some(Record {
        key: String::from_utf8_lossy(key).into_owned(),
        record: Some(content),
        format: u32::from(FORMAT),
        version,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watch_carries_no_secret_and_no_index() {
        let account: AccountId = "123456789012".parse().unwrap();
        for key in [
            secret("AKIAX").as_bytes(),
            unique_id("AIDAX").as_bytes(),
            attachment("ANPAX", &account, "AROAX").as_bytes(),
            external(&account, "AROAX").as_bytes(),
            spent_proof("00").as_bytes(),
            policy_version("ANPAX", "v1").as_bytes(),
            last_use("AKIAX").as_bytes(),
        ] {
            assert_eq!(kind(key), None, "{}", String::from_utf8_lossy(key));
        }
        assert_eq!(kind(role(&account, "Deploy").as_bytes()), Some(RecordKind::Role));
        assert_eq!(kind(access_key("AKIAX").as_bytes()), Some(RecordKind::AccessKey));
    }

    #[test]
    fn names_differ_by_more_than_case() {
        let account: AccountId = "123456789012".parse().unwrap();
        assert_eq!(role(&account, "Deploy"), role(&account, "dePLOY"));
        assert_ne!(role(&account, "Deploy"), role(&account, "Deploy2"));
    }

    #[test]
    fn a_record_of_a_newer_version_is_not_read() {
        let key = unique_id("AIDAX");
        let mut value = encode(&UniqueId { key: "user/x".to_owned() });
        assert_eq!(decode(&key, &value).unwrap().key, "user/x");
        value[0] = FORMAT + 1;
        assert!(matches!(decode(&key, &value), Err(Error::Newer { format: 3, .. })));
        assert!(decode(&key, &[]).is_err());
    }
}
