//! What IAM's policy simulator asks: of a user, group or role, or of the documents in the request.

use std::{collections::BTreeMap, sync::Arc};

use countersign_evaluator::{
    Attached, Context, PolicyType, ResourceArn, Snapshot, Subject, context::DuplicateKey,
    reference::is_role_assumption_action,
};
use countersign_policy::{
    action::Action,
    arn::AccountId,
    findings::{self, DocumentKind},
    principal::IamArn,
    scalar,
};
use countersign_proto::policy::v1::*;
use countersign_replica::records;
use countersign_serve::Fault;

use super::{Call, PolicyStore};
use crate::{
    authz::{self, Ask, On, damaged, put_organization},
    convert::{self, Paging},
    error::Error,
    iam::{group, name, user},
    layout,
    simulate::{self, Guardrails, Judge, OF_REQUEST, Questions},
    view::View,
};

/// Documents of one list; IAM has no number.
const MOST_DOCUMENTS: usize = 20;
/// Levels of an organization, from the root to the account.
const MOST_LEVELS: usize = 7;
/// Roles whose trust policies are read.
const MOST_ROLES: usize = 100;

/// What both requests ask.
struct Asked {
    action_names: Vec<String>,
    resource_arns: Vec<String>,
    resource_owner: String,
    context_entries: Vec<ContextEntry>,
}

/// By what both requests want it judged besides.
struct Given {
    policies: Vec<Attached>,
    boundary: Option<Vec<Attached>>,
    resource: Option<Attached>,
    /// Whom to judge as.
    caller: Option<IamArn>,
}

impl PolicyStore {
    /// By the policies that a user, group or role has, and those in the request besides. Guardrails of the caller's account count;
    /// stored resource policies do not, as in IAM: send one along.
    pub async fn simulate_principal_policy(
        &self,
        call: Call,
        request: SimulatePrincipalPolicyRequest,
    ) -> Result<SimulatePrincipalPolicyResponse, Error> {
        let SimulatePrincipalPolicyRequest {
            policy_source_arn,
            policy_input_list,
            permissions_boundary_policy_input_list,
            action_names,
            resource_arns,
            resource_policy,
            resource_owner,
            caller_arn,
            context_entries,
            resource_handling_option,
            max_items,
            marker,
        } = request;
        no_scenario(&resource_handling_option)?;
        let paging = convert::paging(marker, max_items)?;
        let account = call.account()?;
        let source = Source::read(&account, &policy_source_arn)?;
        let questions =
            questions(Asked { action_names, resource_arns, resource_owner, context_entries })?;
        let given = Given {
            policies: documents(
                "policy_input_list",
                "PolicyInputList",
                &policy_input_list,
                Use::identity(),
            )?,
            boundary: boundary(&permissions_boundary_policy_input_list)?,
            resource: resource_policy_of(&resource_policy)?,
            caller: caller(&account, &caller_arn)?,
        };
        if given.resource.is_some() && given.caller.is_none() && matches!(source, Source::Group(_))
        {
            let rule =
                "is required with `resource_policy`: a group is nobody that the policy could name";
            return Err(Error::validation("caller_arn", rule));
        }
        let asks = [Ask::new("iam:SimulatePrincipalPolicy", source.on())];
        let judge = self
            .read(&call, &asks, |view, permit| {
                stored(view, *permit.account(), &source, &policy_source_arn, &given, &questions)
            })
            .await?;
        let (evaluation_results, marker) = simulate::answers(&judge, &questions, &paging)?;
        Ok(SimulatePrincipalPolicyResponse {
            evaluation_results,
            is_truncated: marker.is_some(),
            marker: marker.unwrap_or_default(),
        })
    }

    /// By the documents in the request alone.
    pub async fn simulate_custom_policy(
        &self,
        call: Call,
        request: SimulateCustomPolicyRequest,
    ) -> Result<SimulateCustomPolicyResponse, Error> {
        let SimulateCustomPolicyRequest {
            policy_input_list,
            permissions_boundary_policy_input_list,
            ordered_organization_policy_input_list,
            action_names,
            resource_arns,
            resource_policy,
            resource_owner,
            caller_arn,
            context_entries,
            resource_handling_option,
            max_items,
            marker,
        } = request;
        no_scenario(&resource_handling_option)?;
        let paging: Paging = convert::paging(marker, max_items)?;
        let account = call.account()?;
        let questions =
            questions(Asked { action_names, resource_arns, resource_owner, context_entries })?;
        let given = Given {
            policies: documents(
                "policy_input_list",
                "PolicyInputList",
                &policy_input_list,
                Use::identity(),
            )?,
            boundary: boundary(&permissions_boundary_policy_input_list)?,
            resource: resource_policy_of(&resource_policy)?,
            caller: caller(&account, &caller_arn)?,
        };
        if given.resource.is_some() && given.caller.is_none() {
            let rule = "is required with `resource_policy`: whom the policy could name";
            return Err(Error::validation("caller_arn", rule));
        }
        let levels = levels(&ordered_organization_policy_input_list)?;
        let asks = [Ask::new("iam:SimulateCustomPolicy", On::Anything)];
        let judge = self
            .read(&call, &asks, |view, permit| {
                let account = *permit.account();
                let subject = with_given(simulate::nobody(account), &given);
                let subject = judged_as(view, account, subject, &given)?;
                Ok(Judge {
                    subject,
                    account,
                    resource: given.resource.clone(),
                    trusts: trusts(view, account, &questions)?,
                    guardrails: Guardrails::Given(levels.clone()),
                    now: view.now().seconds,
                })
            })
            .await?;
        let (evaluation_results, marker) = simulate::answers(&judge, &questions, &paging)?;
        Ok(SimulateCustomPolicyResponse {
            evaluation_results,
            is_truncated: marker.is_some(),
            marker: marker.unwrap_or_default(),
        })
    }
}

/// EC2's scenarios are not implemented.
fn no_scenario(resource_handling_option: &str) -> Result<(), Error> {
    if resource_handling_option.is_empty() {
        return Ok(());
    }
    Err(Fault::field_not_implemented("resource_handling_option").into())
}

/// Whose policies.
enum Source {
    User(IamArn, String),
    Role(IamArn, String),
    Group(String),
}

impl Source {
    fn read(account: &AccountId, arn: &str) -> Result<Self, Error> {
        const FIELD: &str = "policy_source_arn";
        let expected = || Error::validation(FIELD, "the ARN of a user, group or role is expected");
        let foreign =
            || Error::validation(FIELD, format!("it is not of your account, `{account}`"));
        if arn.len() > 2_048 {
            return Err(expected());
        }
        let group = arn.strip_prefix("arn:aws:iam::").and_then(|rest| rest.split_once(":group/"));
        if let Some((owner, path)) = group {
            let name = path.rsplit('/').next().unwrap_or_default();
            name::name(FIELD, name, 128)?;
            return if owner == account.as_str() {
                Ok(Self::Group(name.to_owned()))
            } else {
                Err(foreign())
            };
        }
        let parsed: IamArn = arn.parse().map_err(|_| expected())?;
        if parsed.partition() != "aws" || parsed.account() != *account {
            return Err(foreign());
        }
        match &parsed {
            IamArn::User { name, .. } => Ok(Self::User(parsed.clone(), name.clone())),
            IamArn::Role { name, .. } => Ok(Self::Role(parsed.clone(), name.clone())),
            IamArn::Root { .. } | IamArn::AssumedRole { .. } | IamArn::FederatedUser { .. } => {
                Err(expected())
            }
        }
    }

    fn on(&self) -> On<'_> {
        match self {
            Self::User(_, name) => On::User(name),
            Self::Role(_, name) => On::Role(name),
            Self::Group(name) => On::Group(name),
        }
    }
}

/// The source's own policies, as they are in this view, and what is given besides.
fn stored(
    view: &View,
    account: AccountId,
    source: &Source,
    source_arn: &str,
    given: &Given,
    questions: &Questions,
) -> Result<Judge, Error> {
    let mut snapshot = Snapshot::new();
    put_organization(view, account, &mut snapshot)?;
    let missing = |kind: &'static str| Error::no_such(kind, source_arn);
    let subject = match source {
        Source::User(arn, name) => {
            put_user(view, account, name, &mut snapshot)?;
            snapshot.user_subject(arn).map_err(|_| missing("user"))?
        }
        Source::Role(arn, name) => {
            authz::put_role(view, account, name, &mut snapshot)?;
            snapshot.role_subject(arn).map_err(|_| missing("role"))?
        }
        Source::Group(name) => {
            let record = group::find(view, &account, name).map_err(|_| missing("group"));
            let record = record.ok().filter(|record| convert::group_arn(record) == source_arn);
            group_subject(view, account, record.ok_or_else(|| missing("group"))?, &mut snapshot)?
        }
    };
    let subject = judged_as(view, account, with_given(subject, given), given)?;
    Ok(Judge {
        subject,
        account,
        resource: given.resource.clone(),
        trusts: trusts(view, account, questions)?,
        guardrails: Guardrails::Stored(Box::new(snapshot)),
        now: view.now().seconds,
    })
}

/// The user with its groups, and all policies that they have.
fn put_user(
    view: &View,
    account: AccountId,
    user_name: &str,
    snapshot: &mut Snapshot,
) -> Result<(), Error> {
    let Some(record) = view.find(&layout::user(&account, user_name))? else { return Ok(()) };
    let boundary = Some(&record.permissions_boundary_arn).filter(|arn| !arn.is_empty());
    authz::put_policies(view, record.attached_policy_arns.iter().chain(boundary), snapshot)?;
    for group_id in &record.group_ids {
        if let Some(group) = group::by_id(view, &account, group_id)? {
            authz::put_policies(view, group.attached_policy_arns.iter(), snapshot)?;
            snapshot.put_group(records::group(&group).map_err(damaged)?);
        }
    }
    snapshot.put_user(records::user(&record).map_err(damaged)?);
    Ok(())
}

/// A group by itself: nobody with the group's policies.
fn group_subject(
    view: &View,
    account: AccountId,
    record: GroupRecord,
    snapshot: &mut Snapshot,
) -> Result<Subject, Error> {
    authz::put_policies(view, record.attached_policy_arns.iter(), snapshot)?;
    let entry = records::group(&record).map_err(damaged)?;
    let mut subject = simulate::nobody(account);
    subject.identity = entry.inline;
    for arn in entry.attached {
        match snapshot.policy(&arn) {
            Some(policy) => subject.identity.push(policy.as_attached(PolicyType::Identity)),
            None => subject.missing.push(Arc::from(&arn)),
        }
    }
    Ok(subject)
}

fn with_given(mut subject: Subject, given: &Given) -> Subject {
    subject.identity.extend(given.policies.iter().cloned());
    // "the policy … overrides the boundary that the user or role has"
    if given.boundary.is_some() {
        subject.boundary.clone_from(&given.boundary);
    }
    subject
}

/// The same policies, as if this user had them.
fn judged_as(
    view: &View,
    account: AccountId,
    subject: Subject,
    given: &Given,
) -> Result<Subject, Error> {
    let Some(arn) = &given.caller else { return Ok(subject) };
    let IamArn::User { name, .. } = arn else { return Ok(subject) };
    let mut snapshot = Snapshot::new();
    let record = user::find(view, &account, name)?;
    snapshot.put_user(records::user(&record).map_err(damaged)?);
    let caller = snapshot.user_subject(arn).map_err(|_| Error::no_such("user", arn.to_string()))?;
    Ok(Subject { principal: caller.principal, keys: caller.keys, ..subject })
}

/// Trust policies of the account's roles among the resources, where roles are to be assumed.
fn trusts(
    view: &View,
    account: AccountId,
    questions: &Questions,
) -> Result<BTreeMap<String, Attached>, Error> {
    let mut trusts = BTreeMap::new();
    if !questions.actions.iter().any(is_role_assumption_action) {
        return Ok(trusts);
    }
    for resource in &questions.resources {
        let ResourceArn::Arn(arn) = resource else { continue };
        let Ok(role @ IamArn::Role { .. }) = IamArn::try_from(arn) else { continue };
        let IamArn::Role { name, .. } = &role else { continue };
        if role.account() != account {
            continue;
        }
        if trusts.len() == MOST_ROLES {
            let rule = format!("at most {MOST_ROLES} roles are asked about at once");
            return Err(Error::validation("resource_arns", rule));
        }
        let Some(record) = view.find(&layout::role(&account, name))? else { continue };
        let entry = records::role(&record).map_err(damaged)?;
        if entry.arn() == role {
            trusts.insert(arn.to_string(), entry.trust);
        }
    }
    Ok(trusts)
}

fn questions(asked: Asked) -> Result<Questions, Error> {
    let Asked { action_names, resource_arns, resource_owner, context_entries } = asked;
    if action_names.is_empty() {
        return Err(Error::validation("action_names", "at least one is expected"));
    }
    let actions = action_names.iter().map(|text| {
        let parsed: Result<Action, _> = text.parse();
        parsed.map_err(|error| Error::validation("action_names", format!("{error}")))
    });
    let actions = actions.collect::<Result<Vec<_>, _>>()?;
    let resources = resource_arns.iter().map(|text| {
        let parsed: Result<ResourceArn, _> = text.parse();
        parsed.map_err(|error| Error::validation("resource_arns", format!("{error}, nor `*`")))
    });
    let mut resources = resources.collect::<Result<Vec<_>, _>>()?;
    if resources.is_empty() {
        resources.push(ResourceArn::Any);
    }
    Ok(Questions {
        actions,
        resources,
        owner: owner(&resource_owner)?,
        context: context(&context_entries)?,
    })
}

fn owner(text: &str) -> Result<Option<AccountId>, Error> {
    if text.is_empty() {
        return Ok(None);
    }
    let rest = text.strip_prefix("arn:aws:iam::").and_then(|rest| rest.strip_suffix(":root"));
    let rule = "an account's ARN is expected, arn:aws:iam::<12 digits>:root";
    let parsed = rest.and_then(|number| number.parse().ok());
    parsed.map(Some).ok_or_else(|| Error::validation("resource_owner", rule))
}

fn context(entries: &[ContextEntry]) -> Result<Context, Error> {
    let refused = |message: String| Error::validation("context_entries", message);
    let mut context = Context::new();
    for entry in entries {
        let key = entry.context_key_name.as_str();
        if !(5..=256).contains(&key.len()) || !key.contains(':') {
            return Err(refused("a key has 5 to 256 characters, with its prefix".to_owned()));
        }
        let is_list = is_list(entry)?;
        if !is_list && entry.context_key_values.len() != 1 {
            return Err(refused(format!("`{key}`: one value is expected; or a list's type")));
        }
        if let Some(bad) = entry.context_key_values.iter().find(|text| !is_of_type(entry, text)) {
            return Err(refused(format!("`{key}`: `{bad}` is not of the type given")));
        }
        let value = simulate::value(&entry.context_key_values, is_list);
        context.insert(key, value).map_err(|error: DuplicateKey| refused(error.to_string()))?;
    }
    Ok(context)
}

fn is_list(entry: &ContextEntry) -> Result<bool, Error> {
    use ContextKeyType as T;
    match T::try_from(entry.context_key_type) {
        Ok(T::String | T::Numeric | T::Boolean | T::Ip | T::Binary | T::Date) => Ok(false),
        Ok(
            T::StringList
            | T::NumericList
            | T::BooleanList
            | T::IpList
            | T::BinaryList
            | T::DateList,
        ) => Ok(true),
        Ok(T::Unspecified) | Err(_) => {
            let rule = format!("`{}`: context_key_type is required", entry.context_key_name);
            Err(Error::validation("context_entries", rule))
        }
    }
}

fn is_of_type(entry: &ContextEntry, text: &str) -> bool {
    use ContextKeyType as T;
    use base64::Engine as _;
    match entry.context_key_type() {
        T::String | T::StringList => true,
        T::Numeric | T::NumericList => scalar::Number::parse(text).is_some(),
        T::Boolean | T::BooleanList => scalar::boolean(text).is_some(),
        T::Ip | T::IpList => scalar::network(text).is_some(),
        T::Binary | T::BinaryList => base64::engine::general_purpose::STANDARD.decode(text).is_ok(),
        T::Date | T::DateList => scalar::Instant::parse(text).is_some(),
        T::Unspecified => false,
    }
}

/// As what a document of the request is read.
struct Use {
    kind: DocumentKind,
    policy_type: PolicyType,
}

impl Use {
    fn identity() -> Self {
        Self { kind: DocumentKind::ManagedPolicy, policy_type: PolicyType::Identity }
    }
}

/// Reads documents of the request; `name` is what answers call them, with their number.
fn documents(
    field: &'static str,
    name: &str,
    texts: &[String],
    Use { kind, policy_type }: Use,
) -> Result<Vec<Attached>, Error> {
    if texts.len() > MOST_DOCUMENTS {
        let rule = format!("at most {MOST_DOCUMENTS} documents are expected");
        return Err(Error::validation(field, rule));
    }
    let read = |(number, text): (usize, &String)| {
        let checked = findings::check(text, kind)
            .map_err(|malformed| Error::MalformedPolicyDocument { field, malformed })?;
        Ok(Attached {
            policy_type,
            name: format!("{name}.{}{OF_REQUEST}", number + 1).into(),
            version_id: None,
            document: Arc::new(checked.document),
            resolved: None,
        })
    };
    texts.iter().enumerate().map(read).collect()
}

fn boundary(texts: &[String]) -> Result<Option<Vec<Attached>>, Error> {
    const FIELD: &str = "permissions_boundary_policy_input_list";
    if texts.len() > 1 {
        return Err(Error::validation(FIELD, "at most one document is expected"));
    }
    let read = Use { kind: DocumentKind::PermissionsBoundary, policy_type: PolicyType::Boundary };
    let boundary = documents(FIELD, "PermissionsBoundaryPolicyInputList", texts, read)?;
    Ok((!boundary.is_empty()).then_some(boundary))
}

/// Names alone are compared: who had them when the policy was written is not known.
fn resource_policy_of(text: &str) -> Result<Option<Attached>, Error> {
    if text.is_empty() {
        return Ok(None);
    }
    let read = Use { kind: DocumentKind::ResourcePolicy, policy_type: PolicyType::Resource };
    let mut read = documents("resource_policy", "ResourcePolicy", &[text.to_owned()], read)?;
    for policy in &mut read {
        policy.name = "ResourcePolicy".into();
    }
    Ok(read.pop())
}

fn levels(given: &[OrderedOrganizationPolicyType]) -> Result<Vec<Vec<Attached>>, Error> {
    const FIELD: &str = "ordered_organization_policy_input_list";
    if given.len() > MOST_LEVELS {
        return Err(Error::validation(FIELD, format!("at most {MOST_LEVELS} levels are expected")));
    }
    let level = |(number, level): (usize, &OrderedOrganizationPolicyType)| {
        let name = format!("OrderedOrganizationPolicyInputList.{}", number + 1);
        let kind = DocumentKind::ServiceControlPolicy;
        let read = Use { kind, policy_type: PolicyType::Scp };
        documents(FIELD, &name, &level.service_control_policy_input_list, read)
    };
    given.iter().enumerate().map(level).collect()
}

/// "The ARN of the IAM user that you want to use as the simulated caller."
fn caller(account: &AccountId, arn: &str) -> Result<Option<IamArn>, Error> {
    if arn.is_empty() {
        return Ok(None);
    }
    let parsed: Option<IamArn> = arn.parse().ok();
    let own = parsed.filter(|arn| match arn {
        IamArn::User { partition, account: owner, .. } => partition == "aws" && owner == account,
        IamArn::Root { .. }
        | IamArn::Role { .. }
        | IamArn::AssumedRole { .. }
        | IamArn::FederatedUser { .. } => false,
    });
    let rule = "the ARN of a user of your own account is expected";
    own.map(Some).ok_or_else(|| Error::validation("caller_arn", rule))
}
