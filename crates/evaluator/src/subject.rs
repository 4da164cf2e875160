//! A principal with its own policies and the context keys that Countersign alone sets.
//!
//! Source of the keys: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-keys.html>, RULES.md X10.

use std::collections::BTreeMap;
use std::sync::Arc;

use countersign_policy::Document;
use countersign_policy::arn::AccountId;
use countersign_policy::principal::IamArn;
use countersign_policy::provider::OidcProvider;
use thiserror::Error;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::compiled::Program;
use crate::context::{Context, DuplicateKey};
use crate::policies::{Attached, PolicySet, PolicyType};
use crate::principal::{Principal, Session};
use crate::snapshot::{Name, Snapshot};

const FEDERATED_PROVIDER: &str = "aws:FederatedProvider";

/// Who asks, what is attached to them, and what is known of them.
#[derive(Debug, Clone)]
pub struct Subject {
    pub principal: Principal,
    pub identity: Vec<Attached>,
    /// `Some` and empty if the boundary's policy is gone.
    pub boundary: Option<Vec<Attached>>,
    pub session: Option<Vec<Attached>>,
    /// As [`PolicySet::narrowings`].
    pub narrowings: Vec<Vec<Attached>>,
    /// Attached policies that the snapshot does not have.
    pub missing: Vec<Arc<str>>,
    /// What the attached documents were compiled to, as [`PolicySet::programs`].
    pub programs: Vec<Program>,
    /// Principal keys.
    pub keys: Context,
}

/// What a verified token says of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionFacts {
    pub account: AccountId,
    pub partition: String,
    pub role_name: String,
    /// The role's `AROA…` when the session began.
    pub role_id: String,
    pub session_name: String,
    /// Epoch seconds.
    pub issued_at: i64,
    /// A union among themselves; none at all if empty.
    pub session_policies: Vec<Arc<Document>>,
    /// What each narrowing of the token added; each must allow.
    pub narrowings: Vec<Vec<Arc<Document>>>,
    pub session_tags: BTreeMap<String, String>,
    pub source_identity: Option<String>,
    /// Of a session that began with a web identity.
    pub federated: Option<Box<FederatedBy>>,
}

/// The web identity that a session began with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FederatedBy {
    pub provider: OidcProvider,
    pub subject: String,
}

/// Why nobody is there.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SubjectError {
    #[error("there is no user `{0}`")]
    NoSuchUser(String),
    #[error("there is no role `{0}`")]
    NoSuchRole(String),
    #[error("the role `{0}` was deleted and made anew since the session began")]
    RoleRecreated(String),
    #[error("the sessions of the role `{0}` that began before were revoked")]
    SessionRevoked(String),
    #[error("the account `{0}` is not local")]
    NoSuchAccount(AccountId),
    /// A tag whose key differs from another's by case alone.
    #[error(transparent)]
    DuplicateKey(#[from] DuplicateKey),
    #[error("`{0}` seconds since the epoch is no time")]
    InvalidTime(i64),
}

impl Subject {
    /// The request's whole context: the subject's keys, time, the resource's account, and what the caller brings.
    /// `now` is epoch seconds. Whether the caller may bring it is [`crate::context::assertable`]'s.
    ///
    /// # Errors
    /// [`SubjectError::DuplicateKey`] if the caller brings a key that is set here, in any case.
    pub fn context(
        &self,
        brought: &Context,
        now: i64,
        resource_account: Option<AccountId>,
    ) -> Result<Context, SubjectError> {
        let mut context = self.keys.clone();
        context.insert("aws:CurrentTime", iso_8601(now)?)?;
        context.insert("aws:EpochTime", now.to_string())?;
        if let Some(account) = resource_account {
            context.insert("aws:ResourceAccount", account.as_str())?;
        }
        for (key, value) in brought.iter() {
            context.insert(key, value.clone())?;
        }
        Ok(context)
    }

    /// The subject's own policies; the resource's and the guardrails are the caller's to add.
    #[must_use]
    pub fn policy_set(&self) -> PolicySet {
        PolicySet {
            identity: self.identity.clone(),
            boundary: self.boundary.clone(),
            session: self.session.clone(),
            narrowings: self.narrowings.clone(),
            missing: self.missing.clone(),
            programs: self.programs.clone(),
            ..PolicySet::default()
        }
    }
}

impl Snapshot {
    /// # Errors
    /// [`SubjectError::NoSuchUser`] unless a user has exactly this ARN.
    pub fn user_subject(&self, arn: &IamArn) -> Result<Subject, SubjectError> {
        let no_such_user = || SubjectError::NoSuchUser(arn.to_string());
        let IamArn::User { account, name, .. } = arn else { return Err(no_such_user()) };
        let user =
            self.user(*account, name).filter(|user| user.arn() == *arn).ok_or_else(no_such_user)?;
        let mut keys = principal_keys(arn.to_string(), *account, "User", &user.unique_id)?;
        keys.insert("aws:username", &*user.name)?;
        add_tags(&mut keys, &user.tags)?;
        let (mut identity, mut missing) = self.identity(&user.inline, &user.attached);
        let inline = self.user_programs(*account, name);
        let mut programs = self.programs(inline, &user.attached, user.boundary.as_ref());
        for group_id in &user.groups {
            // What a group that is not at hand would deny is unknown.
            let Some((group, inline)) = self.group(group_id) else {
                missing.push(Arc::from(group_id));
                continue;
            };
            let (policies, absent) = self.identity(&group.inline, &group.attached);
            identity.extend(policies);
            missing.extend(absent);
            programs.extend(self.programs(inline, &group.attached, None));
        }
        Ok(Subject {
            principal: Principal::User {
                arn: arn.clone(),
                unique_id: Some(user.unique_id.to_string()),
            },
            identity,
            boundary: self.boundary(user.boundary.as_ref()),
            session: None,
            narrowings: Vec::new(),
            missing,
            programs,
            keys,
        })
    }

    /// A role that is asked about without a session.
    ///
    /// # Errors
    /// [`SubjectError::NoSuchRole`] unless a role has exactly this ARN.
    pub fn role_subject(&self, arn: &IamArn) -> Result<Subject, SubjectError> {
        let no_such_role = || SubjectError::NoSuchRole(arn.to_string());
        let IamArn::Role { account, name, .. } = arn else { return Err(no_such_role()) };
        let role =
            self.role(*account, name).filter(|role| role.arn() == *arn).ok_or_else(no_such_role)?;
        // The session's name is not known; what stands before it is.
        let mut keys = principal_keys(
            arn.to_string(),
            *account,
            "AssumedRole",
            &format!("{}:", role.unique_id),
        )?;
        add_tags(&mut keys, &role.tags)?;
        let (identity, missing) = self.identity(&role.inline, &role.attached);
        let inline = self.role_programs(*account, name);
        let programs = self.programs(inline, &role.attached, role.boundary.as_ref());
        Ok(Subject {
            principal: Principal::Role {
                arn: arn.clone(),
                unique_id: Some(role.unique_id.clone()),
            },
            identity,
            boundary: self.boundary(role.boundary.as_ref()),
            session: None,
            narrowings: Vec::new(),
            missing,
            programs,
            keys,
        })
    }

    /// # Errors
    /// [`SubjectError::RoleRecreated`] if the role of that name has another unique id now.
    pub fn session_subject(&self, facts: &SessionFacts) -> Result<Subject, SubjectError> {
        let role = self
            .role(facts.account, &facts.role_name)
            .filter(|role| role.name == facts.role_name && *role.partition == *facts.partition)
            .ok_or_else(|| SubjectError::NoSuchRole(facts.role_name.clone()))?;
        if role.unique_id != facts.role_id {
            return Err(SubjectError::RoleRecreated(role.arn().to_string()));
        }
        // Of two in one second it is not known which came first; the one that can be had again gives way.
        if role.sessions_revoked_before.is_some_and(|moment| facts.issued_at <= moment) {
            return Err(SubjectError::SessionRevoked(role.arn().to_string()));
        }
        let user_id = format!("{}:{}", role.unique_id, facts.session_name);
        // The role's ARN with its path, not the session's (X10).
        let mut keys =
            principal_keys(role.arn().to_string(), facts.account, "AssumedRole", &user_id)?;
        keys.insert("aws:TokenIssueTime", iso_8601(facts.issued_at)?)?;
        if let Some(source_identity) = &facts.source_identity {
            keys.insert("aws:SourceIdentity", source_identity.as_str())?;
        }
        if let Some(FederatedBy { provider, subject }) = facts.federated.as_deref() {
            keys.insert(FEDERATED_PROVIDER, provider.to_string())?;
            keys.insert(format!("{}:sub", provider.provider), subject.as_str())?;
        }
        add_tags(&mut keys, &facts.session_tags)?;
        // A session tag overrides a role tag with the same key (X4).
        let is_overridden = |tag: &str| {
            facts.session_tags.keys().any(|session_tag| session_tag.eq_ignore_ascii_case(tag))
        };
        let role_tags = role.tags.iter().filter(|(tag, _)| !is_overridden(tag));
        add_tags(&mut keys, role_tags)?;
        let (identity, missing) = self.identity(&role.inline, &role.attached);
        let inline = self.role_programs(facts.account, &facts.role_name);
        let programs = self.programs(inline, &role.attached, role.boundary.as_ref());
        Ok(Subject {
            principal: Principal::Session(Session::new(
                &*facts.partition,
                facts.account,
                &*role.name,
                Some(role.arn()),
                &*facts.session_name,
                Some(role.unique_id.clone()),
            )),
            identity,
            boundary: self.boundary(role.boundary.as_ref()),
            session: session_policies("session policy", &facts.session_policies),
            narrowings: narrowings(&facts.narrowings),
            missing,
            programs,
            keys,
        })
    }

    /// # Errors
    /// [`SubjectError::NoSuchAccount`] unless the account is local.
    pub fn root_subject(
        &self,
        partition: &str,
        account: AccountId,
    ) -> Result<Subject, SubjectError> {
        if !self.is_local(account) {
            return Err(SubjectError::NoSuchAccount(account));
        }
        let principal = Principal::AccountRoot { partition: partition.to_owned(), account };
        let keys = principal_keys(principal.arn(), account, "Account", account.as_str())?;
        Ok(without_policies(principal, keys))
    }

    fn identity(&self, inline: &[Attached], attached: &[Name]) -> (Vec<Attached>, Vec<Arc<str>>) {
        let (mut identity, mut missing) = (inline.to_vec(), Vec::new());
        for arn in attached {
            match self.policy(arn) {
                Some(policy) => identity.push(policy.as_attached(PolicyType::Identity)),
                None => missing.push(Arc::from(arn)),
            }
        }
        (identity, missing)
    }

    /// Of the inline policies, the attached ones and the boundary.
    fn programs(
        &self,
        inline: &[Program],
        attached: &[Name],
        boundary: Option<&Name>,
    ) -> Vec<Program> {
        let managed = attached.iter().chain(boundary).filter_map(|arn| self.program(arn));
        inline.iter().chain(managed).cloned().collect()
    }

    /// A boundary that is named, and gone, allows nothing.
    fn boundary(&self, arn: Option<&Name>) -> Option<Vec<Attached>> {
        arn.map(|arn| {
            self.policy(arn)
                .map(|policy| policy.as_attached(PolicyType::Boundary))
                .into_iter()
                .collect()
        })
    }
}

/// A service principal: it has no account and no policies of its own.
///
/// # Errors
/// None that a caller can cause.
pub fn service_subject(name: &str) -> Result<Subject, SubjectError> {
    let mut keys = Context::new();
    keys.insert("aws:PrincipalIsAWSService", "true")?;
    keys.insert("aws:PrincipalServiceName", name)?;
    Ok(without_policies(Principal::Service { name: name.to_owned() }, keys))
}

/// A web identity, with what its provider says of it: `sub` and `aud` under the provider's own name.
/// Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_iam-condition-keys.html#condition-keys-wif>
///
/// # Errors
/// [`SubjectError::DuplicateKey`] if `keys` has one of these, in any case.
pub fn web_identity_subject(
    provider: OidcProvider,
    subject: &str,
    audience: &str,
    mut keys: Context,
) -> Result<Subject, SubjectError> {
    keys.insert(format!("{}:sub", provider.provider), subject)?;
    keys.insert(format!("{}:aud", provider.provider), audience)?;
    keys.insert(FEDERATED_PROVIDER, provider.to_string())?;
    keys.insert("aws:PrincipalIsAWSService", "false")?;
    Ok(without_policies(Principal::WebIdentity { provider }, keys))
}

/// An external principal: AWS vouches, and it has no policies here. A role's path is not known, so `aws:PrincipalArn` is the
/// role's ARN without one.
///
/// # Errors
/// None that a caller can cause.
pub fn external_subject(
    external: crate::principal::ExternalPrincipal,
) -> Result<Subject, SubjectError> {
    let (arn, kind, user_id) = match external.arn() {
        IamArn::AssumedRole { partition, account, role, session } => (
            IamArn::Role {
                partition: partition.clone(),
                account: *account,
                path: "/".to_owned(),
                name: role.clone(),
            },
            "AssumedRole",
            format!("{}:{session}", external.unique_id()),
        ),
        own @ (IamArn::User { .. }
        | IamArn::Root { .. }
        | IamArn::Role { .. }
        | IamArn::FederatedUser { .. }) => (own.clone(), "User", external.unique_id().to_owned()),
    };
    let mut keys = principal_keys(arn.to_string(), arn.account(), kind, &user_id)?;
    if let IamArn::User { name, .. } = &arn {
        keys.insert("aws:username", name.as_str())?;
    }
    Ok(without_policies(Principal::External(external), keys))
}

fn without_policies(principal: Principal, keys: Context) -> Subject {
    Subject {
        principal,
        identity: Vec::new(),
        boundary: None,
        session: None,
        narrowings: Vec::new(),
        missing: Vec::new(),
        programs: Vec::new(),
        keys,
    }
}

/// A narrowing without a document allows nothing.
fn narrowings(all: &[Vec<Arc<Document>>]) -> Vec<Vec<Attached>> {
    let narrowing = |(index, documents): (usize, &Vec<Arc<Document>>)| {
        let name = format!("narrowing {}, policy", index + 1);
        session_policies(&name, documents).unwrap_or_default()
    };
    all.iter().enumerate().map(narrowing).collect()
}

fn session_policies(name: &str, documents: &[Arc<Document>]) -> Option<Vec<Attached>> {
    let attached = |(index, document): (usize, &Arc<Document>)| Attached {
        policy_type: PolicyType::Session,
        name: Arc::from(format!("{name} {}", index + 1)),
        version_id: None,
        document: Arc::clone(document),
        resolved: None,
    };
    (!documents.is_empty()).then(|| documents.iter().enumerate().map(attached).collect())
}

fn principal_keys(
    arn: String,
    account: AccountId,
    kind: &str,
    user_id: &str,
) -> Result<Context, DuplicateKey> {
    let mut keys = Context::new();
    keys.insert("aws:PrincipalArn", arn)?;
    keys.insert("aws:PrincipalAccount", account.as_str())?;
    keys.insert("aws:PrincipalType", kind)?;
    keys.insert("aws:userid", user_id)?;
    keys.insert("aws:PrincipalIsAWSService", "false")?;
    Ok(keys)
}

fn add_tags<'a>(
    keys: &mut Context,
    tags: impl IntoIterator<Item = (&'a String, &'a String)>,
) -> Result<(), DuplicateKey> {
    for (tag, value) in tags {
        keys.insert(format!("aws:PrincipalTag/{tag}"), value.as_str())?;
    }
    Ok(())
}

/// `2026-06-15T02:00:00Z`
fn iso_8601(seconds: i64) -> Result<String, SubjectError> {
    let invalid = || SubjectError::InvalidTime(seconds);
    OffsetDateTime::from_unix_timestamp(seconds)
        .map_err(|_| invalid())?
        .format(&Rfc3339)
        .map_err(|_| invalid())
}
