//! From the records that the store keeps to the entries that the evaluator reads. This is the only such place, for the store's own
//! authorization too: two readings of one record would be two policies.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::Arc,
};

use countersign_evaluator::{
    Attached, PolicyType, Realm, Resolved, ResolvedPrincipals,
    snapshot::{
        AccountEntry, BindingEntry, CallerKey, GroupEntry, GuardrailEntry, GuardrailKind, Level,
        Name, Pattern, PolicyEntry, ResourcePolicyEntry, RoleEntry, UnitEntry, UserEntry,
    },
};
use countersign_policy::{arn::AccountId, document::Document, parse};
use countersign_proto::policy::v1::{self as proto};
use countersign_token::{key::PublicKey, keyset::KeyRecord};

use crate::plain::UserFields;

/// A record that the evaluator cannot read. The store parses every document on the way in, so it means damage, or a newer store.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// A document does not parse.
    #[error("the document of `{owner}` does not parse: {error}")]
    Document {
        /// Whose document.
        owner: String,
        /// What is wrong with it.
        error: String,
    },
    /// A field holds what it may not.
    #[error("the record `{owner}` has a bad `{field}`: `{value}`")]
    Field {
        /// Whose record.
        owner: String,
        /// Which field.
        field: &'static str,
        /// What it holds.
        value: String,
    },
    /// A record in a form that this version does not read.
    #[error("the record `{key}` is in form {format}, and this version reads forms up to {FORMAT}")]
    Newer {
        /// The record's key.
        key: String,
        /// Its form.
        format: u32,
    },
    /// A record without content, or of a kind that this version does not know.
    #[error("the record `{key}` is of a kind that this version does not know")]
    UnknownKind {
        /// The record's key.
        key: String,
    },
}

/// The newest form of records that is read here.
pub const FORMAT: u32 = 2;

const PARTITION: &str = "aws";

/// Whose record it is, as an error says it: made a text only then.
#[derive(Clone, Copy)]
struct Owner<'a>(&'static str, &'a str);

impl fmt::Display for Owner<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0, self.1)
    }
}

fn field(owner: impl fmt::Display, field: &'static str, value: &str) -> Unreadable {
    Unreadable::Field { owner: owner.to_string(), field, value: value.to_owned() }
}

fn account_id(owner: impl fmt::Display, text: &str) -> Result<AccountId, Unreadable> {
    text.parse().map_err(|_| field(owner, "account_id", text))
}

fn document(owner: &str, text: &str) -> Result<Arc<Document>, Unreadable> {
    parse::parse(text)
        .map(Arc::new)
        .map_err(|error| Unreadable::Document { owner: owner.to_owned(), error: error.to_string() })
}

fn inline(
    owner: impl fmt::Display,
    policies: &[proto::InlinePolicy],
) -> Result<Vec<Attached>, Unreadable> {
    policies
        .iter()
        .map(|policy| {
            let owner = format!("{owner}, inline policy {}", policy.policy_name);
            Ok(Attached {
                policy_type: PolicyType::Identity,
                name: policy.policy_name.as_str().into(),
                version_id: None,
                document: document(&owner, &policy.policy_document)?,
                resolved: None,
            })
        })
        .collect()
}

/// One copy of each name, and of each list of names, that many users hold: for as long as many are read.
#[derive(Default)]
pub struct Shared {
    names: HashMap<Box<str>, Name>,
    /// Each text's length and the text, one after the other.
    lists: HashMap<Box<[u8]>, Arc<[Name]>>,
    looked_for: Vec<u8>,
}

/// Lists that are kept; what is attached together to one user alone need not be looked for again.
const LISTS: usize = 65_536;

impl Shared {
    /// Every name, once.
    pub fn names(&self) -> impl Iterator<Item = &Name> {
        self.names.values()
    }

    /// The lists.
    pub fn lists(&self) -> impl Iterator<Item = &Arc<[Name]>> {
        self.lists.values()
    }

    fn name(&mut self, text: &str) -> Name {
        if let Some(known) = self.names.get(text) {
            return known.clone();
        }
        let name = Name::from(text);
        self.names.insert(text.into(), name.clone());
        name
    }

    fn list(&mut self, texts: &[&str]) -> Arc<[Name]> {
        self.looked_for.clear();
        for text in texts {
            self.looked_for.extend_from_slice(&text.len().to_le_bytes());
            self.looked_for.extend_from_slice(text.as_bytes());
        }
        if let Some(known) = self.lists.get(self.looked_for.as_slice()) {
            return Arc::clone(known);
        }
        let list: Arc<[Name]> = texts.iter().map(|text| self.name(text)).collect();
        if self.lists.len() < LISTS {
            self.lists.insert(self.looked_for.as_slice().into(), Arc::clone(&list));
        }
        list
    }
}

fn attached(arns: &[String]) -> Vec<Name> {
    arns.iter().map(|arn| Name::from(arn.as_str())).collect()
}

/// A local account.
///
/// # Errors
/// When the number is not one.
pub fn account(record: &proto::AccountRecord) -> Result<AccountEntry, Unreadable> {
    Ok(AccountEntry {
        account: account_id("account", &record.account_id)?,
        is_management: record.operator,
        parent: unit_id(&record.parent_id),
        level: level(&record.guardrail_ids, record.full_aws_access_detached),
    })
}

fn unit_id(id: &str) -> Option<Arc<str>> {
    (!id.is_empty()).then(|| id.into())
}

fn level(guardrail_ids: &[String], full_access_detached: bool) -> Level {
    let guardrails = guardrail_ids.iter().map(|id| id.as_str().into()).collect();
    Level { guardrails, full_access_detached }
}

/// The root, or an organizational unit.
#[must_use]
pub fn unit(record: &proto::OrganizationalUnitRecord) -> UnitEntry {
    UnitEntry {
        id: record.id.as_str().into(),
        parent: unit_id(&record.parent_id),
        level: level(&record.guardrail_ids, record.full_aws_access_detached),
    }
}

/// A guardrail.
///
/// # Errors
/// When the document does not parse, or its kind is unknown.
pub fn guardrail(record: &proto::GuardrailRecord) -> Result<GuardrailEntry, Unreadable> {
    let owner = format!("guardrail {} ({})", record.name, record.id);
    Ok(GuardrailEntry {
        id: record.id.as_str().into(),
        name: format!("{} ({})", record.name, record.id).into(),
        kind: match record.kind() {
            proto::GuardrailKind::ServiceControlPolicy => GuardrailKind::ServiceControlPolicy,
            proto::GuardrailKind::ResourceControlPolicy => GuardrailKind::ResourceControlPolicy,
            proto::GuardrailKind::Unspecified => {
                return Err(field(&owner, "kind", &record.kind.to_string()));
            }
        },
        document: document(&owner, &record.content)?,
    })
}

/// A stored resource policy.
///
/// # Errors
/// When the document does not parse, or the account, the pattern or a realm is none.
pub fn resource_policy(
    record: &proto::ResourcePolicyRecord,
) -> Result<ResourcePolicyEntry, Unreadable> {
    let owner = format!("the policy of {}", record.resource_arn);
    let pattern = Pattern::new(&record.resource_arn);
    Ok(ResourcePolicyEntry {
        account: account_id(&owner, &record.account_id)?,
        pattern: pattern.ok_or_else(|| field(&owner, "resource_arn", &record.resource_arn))?,
        attached: Attached {
            policy_type: PolicyType::Resource,
            name: record.resource_arn.as_str().into(),
            version_id: None,
            document: document(&owner, &record.policy)?,
            resolved: Some(Arc::new(resolved(&owner, &record.resolved_principals)?)),
        },
    })
}

/// A user.
///
/// # Errors
/// When a document does not parse, or the account is none.
pub fn user(record: &proto::UserRecord) -> Result<UserEntry, Unreadable> {
    user_of_many(record, &mut Shared::default())
}

/// A user, whose names are those that others hold.
///
/// # Errors
/// As [`user`].
pub fn user_of_many(
    record: &proto::UserRecord,
    shared: &mut Shared,
) -> Result<UserEntry, Unreadable> {
    let fields = UserFields {
        account_id: &record.account_id,
        path: &record.path,
        user_name: &record.user_name,
        user_id: &record.user_id,
        attached_policy_arns: texts(&record.attached_policy_arns),
        group_ids: texts(&record.group_ids),
        permissions_boundary_arn: &record.permissions_boundary_arn,
    };
    let owner = Owner("user", &record.user_name);
    Ok(UserEntry {
        inline: inline(owner, &record.inline_policies)?.into(),
        tags: tags(&record.tags),
        ..plain_user(&fields, shared)?
    })
}

fn texts(list: &[String]) -> Vec<&str> {
    list.iter().map(String::as_str).collect()
}

/// A user without inline policies and tags.
///
/// # Errors
/// When the account is none.
pub(crate) fn plain_user(
    fields: &UserFields<'_>,
    shared: &mut Shared,
) -> Result<UserEntry, Unreadable> {
    let boundary = fields.permissions_boundary_arn;
    Ok(UserEntry {
        account: account_id(Owner("user", fields.user_name), fields.account_id)?,
        partition: shared.name(PARTITION),
        path: shared.name(fields.path),
        name: fields.user_name.into(),
        unique_id: fields.user_id.into(),
        inline: Box::default(),
        attached: shared.list(&fields.attached_policy_arns),
        boundary: (!boundary.is_empty()).then(|| shared.name(boundary)),
        tags: BTreeMap::new(),
        groups: fields.group_ids.iter().map(|id| shared.name(id)).collect(),
    })
}

/// A group.
///
/// # Errors
/// When a document does not parse, or the account is none.
pub fn group(record: &proto::GroupRecord) -> Result<GroupEntry, Unreadable> {
    let owner = format!("group {}", record.group_name);
    account_id(&owner, &record.account_id)?;
    let mut inline = inline(&owner, &record.inline_policies)?;
    // A verdict on a user says of which group the policy is.
    for policy in &mut inline {
        policy.name = format!("{} of group {}", policy.name, record.group_name).into();
    }
    Ok(GroupEntry {
        unique_id: record.group_id.as_str().into(),
        inline,
        attached: attached(&record.attached_policy_arns),
    })
}

fn boundary(policy_arn: &str) -> Option<Name> {
    (!policy_arn.is_empty()).then(|| Name::from(policy_arn))
}

fn tags(tags: &[proto::Tag]) -> BTreeMap<String, String> {
    tags.iter().map(|tag| (tag.key.clone(), tag.value.clone())).collect()
}

/// A role.
///
/// # Errors
/// When a document does not parse, the account is none, or a principal's realm is unknown.
pub fn role(record: &proto::RoleRecord) -> Result<RoleEntry, Unreadable> {
    let owner = format!("role {}", record.role_name);
    let trust = Attached {
        policy_type: PolicyType::Trust,
        name: "trust policy".into(),
        version_id: None,
        document: document(&owner, &record.assume_role_policy_document)?,
        resolved: Some(Arc::new(resolved(&owner, &record.resolved_principals)?)),
    };
    Ok(RoleEntry {
        account: account_id(&owner, &record.account_id)?,
        partition: Name::from(PARTITION),
        path: Name::from(record.path.as_str()),
        name: record.role_name.clone(),
        unique_id: record.role_id.clone(),
        inline: inline(&owner, &record.inline_policies)?,
        attached: attached(&record.attached_policy_arns),
        boundary: boundary(&record.permissions_boundary_arn),
        tags: tags(&record.tags),
        trust,
        max_session_duration: u32::try_from(record.max_session_duration).map_err(|_| {
            field(&owner, "max_session_duration", &record.max_session_duration.to_string())
        })?,
        sessions_revoked_before: record.sessions_revoked_before.as_ref().map(|time| time.seconds),
    })
}

fn resolved(
    owner: &str,
    principals: &[proto::ResolvedPrincipal],
) -> Result<ResolvedPrincipals, Unreadable> {
    let mut resolved = ResolvedPrincipals::default();
    for principal in principals {
        let unique_id = match principal.unique_id.as_str() {
            "" => None,
            unique_id => Some(unique_id.to_owned()),
        };
        let entry = Resolved { realm: realm(owner, principal.realm)?, unique_id };
        resolved.insert(principal.principal.as_str(), entry);
    }
    Ok(resolved)
}

fn realm(owner: &str, number: i32) -> Result<Realm, Unreadable> {
    match proto::Realm::try_from(number) {
        Ok(proto::Realm::Countersign) => Ok(Realm::Countersign),
        Ok(proto::Realm::Aws) => Ok(Realm::Aws),
        Ok(proto::Realm::Unspecified) | Err(_) => Err(field(owner, "realm", &number.to_string())),
    }
}

/// A managed policy, by its default version.
///
/// # Errors
/// When the document does not parse.
pub fn policy(record: &proto::ManagedPolicyRecord) -> Result<PolicyEntry, Unreadable> {
    Ok(PolicyEntry {
        arn: record.arn.as_str().into(),
        version_id: record.default_version_id.as_str().into(),
        document: document(&record.arn, &record.document)?,
    })
}

/// A service principal's binding.
///
/// # Errors
/// When an account or the realm is none.
pub fn binding(record: &proto::ServicePrincipalBindingRecord) -> Result<BindingEntry, Unreadable> {
    let owner = format!("binding of {} for {}", record.service_principal, record.role_arn);
    Ok(BindingEntry {
        caller: CallerKey {
            realm: realm(&owner, record.caller_realm)?,
            partition: PARTITION.into(),
            account: account_id(&owner, &record.caller_account_id)?,
            unique_id: record.caller_unique_id.clone(),
        },
        service_principal: record.service_principal.clone(),
        role_arn: record
            .role_arn
            .parse()
            .map_err(|_| field(&owner, "role_arn", &record.role_arn))?,
        role_id: record.role_id.clone(),
    })
}

/// A signing key.
///
/// # Errors
/// When the JWK is none, or the `kid` is not its thumbprint.
pub fn signing_key(record: &proto::SigningKeyRecord) -> Result<KeyRecord, Unreadable> {
    let owner = format!("signing key {}", record.kid);
    let public = PublicKey::from_jwk(&record.jwk).map_err(|_| field(&owner, "jwk", &record.jwk))?;
    if public.kid() != record.kid {
        return Err(field(&owner, "kid", public.kid()));
    }
    let accept_until = record.accept_until.as_ref().map(|time| time.seconds);
    Ok(KeyRecord {
        public,
        accept_until: accept_until.ok_or_else(|| field(&owner, "accept_until", ""))?,
        revoked: record.revoked,
    })
}
