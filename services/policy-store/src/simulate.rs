//! IAM's policy simulator, by the evaluator that decides for everybody: what some policies would say to some questions. It reads
//! nothing of the store: `rpc::simulation` brings the policies here.
//!
//! Source: <https://docs.aws.amazon.com/IAM/latest/APIReference/API_SimulatePrincipalPolicy.html>

use std::collections::{BTreeMap, BTreeSet};

use countersign_evaluator::{
    Attached, Context, ContextValue, Decision, Determining, Explanation, PolicySet, PolicyType,
    Principal, Request, Resource, ResourceArn, Snapshot, Subject, effort, explain,
    reference::is_role_assumption_action,
};
use countersign_policy::{
    action::Action,
    arn::AccountId,
    document::{Document, Version},
    json,
};
use countersign_proto::policy::v1::{
    EvaluationResult, OrganizationsDecisionDetail, PermissionsBoundaryDecisionDetail,
    PolicyEvaluationDecisionType, PolicySourceType, Position, ResourceSpecificResult, Statement,
};

use crate::{convert::Paging, error::Error};

/// What one call may cost, as [`effort::cost`] counts.
const MOST: u64 = 80_000_000;
/// Stands after the name of a document of the request, so that no stored policy has the same: names hold no blanks.
pub const OF_REQUEST: &str = " of the request";
/// Stands between the name of a group's inline policy and the group's: what the replica's records say of it.
const OF_GROUP: &str = " of group ";

/// What is asked, about every action on every resource.
pub struct Questions {
    pub actions: Vec<Action>,
    /// At least one.
    pub resources: Vec<ResourceArn>,
    /// Whose they are, where they do not say.
    pub owner: Option<AccountId>,
    /// What the request says of its context. It is believed, as nothing comes of it.
    pub context: Context,
}

/// By which policies it is judged.
pub struct Judge {
    pub subject: Subject,
    /// The account that the caller acts in.
    pub account: AccountId,
    /// The resource's policy, from the request.
    pub resource: Option<Attached>,
    /// Of the roles among the resources, by ARN.
    pub trusts: BTreeMap<String, Attached>,
    pub guardrails: Guardrails,
    /// Epoch seconds.
    pub now: i64,
}

/// What stands over the account.
pub enum Guardrails {
    /// What the store has.
    Stored(Box<Snapshot>),
    /// What the request says, from the root down; none at all if empty.
    Given(Vec<Vec<Attached>>),
}

/// A page of answers, one for each action, and where the next begins.
pub fn answers(
    judge: &Judge,
    questions: &Questions,
    paging: &Paging,
) -> Result<(Vec<EvaluationResult>, Option<String>), Error> {
    let begin = match paging.marker.as_str() {
        "" => 0,
        text => text
            .parse()
            .map_err(|_| Error::validation("marker", "send back what the page before answered"))?,
    };
    let mut left = MOST;
    let mut results = Vec::new();
    for (number, action) in questions.actions.iter().enumerate().skip(begin) {
        if results.len() == paging.limit {
            return Ok((results, Some(number.to_string())));
        }
        match answer(judge, questions, action, &mut left)? {
            Some(result) => results.push(result),
            None if results.is_empty() => {
                return Err(Error::validation(
                    "resource_arns",
                    "one action on all of them would take too long; ask about fewer, or send fewer and shorter values",
                ));
            }
            // The rest comes with the next page.
            None => return Ok((results, Some(number.to_string()))),
        }
    }
    Ok((results, None))
}

/// The answer for one action; `None` when what is left is not enough for it.
fn answer(
    judge: &Judge,
    questions: &Questions,
    action: &Action,
    left: &mut u64,
) -> Result<Option<EvaluationResult>, Error> {
    let mut each = Vec::new();
    for resource in &questions.resources {
        let (request, policies) = question(judge, questions, action, resource)?;
        match left.checked_sub(effort::cost(&request, &policies, true)) {
            None => return Ok(None),
            Some(rest) => *left = rest,
        }
        each.push(judged(&request, &policies));
    }
    Ok(Some(gathered(action, each)))
}

fn question(
    judge: &Judge,
    questions: &Questions,
    action: &Action,
    resource: &ResourceArn,
) -> Result<(Request, PolicySet), Error> {
    let owner = owner(judge, questions, resource)?;
    let mut policies = judge.subject.policy_set();
    policies.resource.clone_from(&judge.resource);
    // A role may be assumed only as its trust policy says.
    if is_role_assumption_action(action) && policies.resource.is_none() {
        policies.resource = judge.trusts.get(&resource.to_string()).cloned();
    }
    match &judge.guardrails {
        Guardrails::Stored(snapshot) => {
            let principal = &judge.subject.principal;
            snapshot.add_guardrails(&mut policies, principal, action, Some(owner));
        }
        Guardrails::Given(levels) => policies.scps.clone_from(levels),
    }
    let request = Request {
        principal: judge.subject.principal.clone(),
        action: action.clone(),
        resource: Resource { arn: resource.clone(), account: Some(owner) },
        context: context(judge, questions, owner)?,
    };
    Ok((request, policies))
}

/// "If the ResourceOwner is not specified", it is the caller's account; an ARN says for itself whose it is.
fn owner(judge: &Judge, questions: &Questions, resource: &ResourceArn) -> Result<AccountId, Error> {
    let own = match resource {
        ResourceArn::Any => None,
        ResourceArn::Arn(arn) => arn.account_id(),
    };
    match (questions.owner, own) {
        (Some(stated), Some(own)) if stated != own => Err(Error::validation(
            "resource_owner",
            format!("`{stated}` contradicts `{resource}`; leave it out"),
        )),
        (Some(owner), _) | (None, Some(owner)) => Ok(owner),
        (None, None) => Ok(judge.account),
    }
}

/// What the request says stands before what Countersign knows of the subject.
fn context(judge: &Judge, questions: &Questions, owner: AccountId) -> Result<Context, Error> {
    let unclear = |error: String| Error::validation("context_entries", error);
    let known = judge
        .subject
        .context(&Context::new(), judge.now, Some(owner))
        .map_err(|error| unclear(error.to_string()))?;
    let mut context = questions.context.clone();
    for (key, value) in known.iter() {
        if context.get(key).is_none() {
            context.insert(key, value.clone()).map_err(|error| unclear(error.to_string()))?;
        }
    }
    Ok(context)
}

/// The answer on one resource, and the organization's part in it.
type Judged = (ResourceSpecificResult, Option<OrganizationsDecisionDetail>);

fn judged(request: &Request, policies: &PolicySet) -> Judged {
    let explanation = explain(request, policies);
    let matched = explanation.verdict.determining.iter();
    let answer = ResourceSpecificResult {
        eval_resource_name: request.resource.arn.to_string(),
        eval_resource_decision: decision(explanation.verdict.decision).into(),
        matched_statements: matched.map(|found| statement(found, request, policies)).collect(),
        missing_context_values: missing(request, policies),
        eval_decision_details: details(request, &explanation),
        permissions_boundary_decision_detail: policies.boundary.as_ref().map(|_| {
            PermissionsBoundaryDecisionDetail {
                allowed_by_permissions_boundary: allows(&explanation, PolicyType::Boundary),
            }
        }),
    };
    (answer, organizations(&explanation))
}

/// Over several resources an action is allowed if it is on each.
fn gathered(action: &Action, judged: Vec<Judged>) -> EvaluationResult {
    use PolicyEvaluationDecisionType::{Allowed, ExplicitDeny, ImplicitDeny};
    let (mut each, organizations): (Vec<_>, Vec<_>) = judged.into_iter().unzip();
    let has = |wanted: PolicyEvaluationDecisionType| {
        each.iter().any(|one| one.eval_resource_decision() == wanted)
    };
    let overall = if has(ExplicitDeny) {
        ExplicitDeny
    } else if each.iter().all(|one| one.eval_resource_decision() == Allowed) {
        Allowed
    } else {
        ImplicitDeny
    };
    let mut result = EvaluationResult {
        eval_action_name: action.to_string(),
        eval_resource_name: "*".to_owned(),
        eval_decision: overall.into(),
        organizations_decision_detail: organizations
            .into_iter()
            .flatten()
            .min_by_key(|detail| detail.allowed_by_organizations),
        ..Default::default()
    };
    if each.len() == 1
        && let Some(one) = each.pop()
    {
        result.eval_resource_name = one.eval_resource_name;
        result.matched_statements = one.matched_statements;
        result.missing_context_values = one.missing_context_values;
        result.eval_decision_details = one.eval_decision_details;
        result.permissions_boundary_decision_detail = one.permissions_boundary_decision_detail;
    } else {
        let missing: BTreeSet<&String> =
            each.iter().flat_map(|one| &one.missing_context_values).collect();
        result.missing_context_values = missing.into_iter().cloned().collect();
        result.resource_specific_results = each;
    }
    result
}

fn decision(decision: Decision) -> PolicyEvaluationDecisionType {
    match decision {
        Decision::Allow => PolicyEvaluationDecisionType::Allowed,
        Decision::ExplicitDeny => PolicyEvaluationDecisionType::ExplicitDeny,
        Decision::ImplicitDeny => PolicyEvaluationDecisionType::ImplicitDeny,
    }
}

/// Whether each of a type's levels allows, and none denies.
fn allows(explanation: &Explanation, policy_type: PolicyType) -> bool {
    let mut of_type = explanation.policy_types.iter().filter(|one| one.policy_type == policy_type);
    of_type.all(|one| one.decision == Decision::Allow)
}

/// The organization's part; absent where no SCP stands over the account.
fn organizations(explanation: &Explanation) -> Option<OrganizationsDecisionDetail> {
    let is_scp = |policy_type: PolicyType| policy_type == PolicyType::Scp;
    explanation.policy_types.iter().any(|one| is_scp(one.policy_type)).then(|| {
        OrganizationsDecisionDetail {
            allowed_by_organizations: allows(explanation, PolicyType::Scp),
        }
    })
}

/// Across accounts, what each side says.
fn details(request: &Request, explanation: &Explanation) -> std::collections::HashMap<String, i32> {
    if request.resource.account == request.principal.account() {
        return Default::default();
    }
    let sides = explanation.policy_types.iter().filter_map(|one| {
        let side = match one.policy_type {
            PolicyType::Identity => "IAM Policy",
            PolicyType::Resource | PolicyType::Trust => "Resource Policy",
            PolicyType::Boundary | PolicyType::Session | PolicyType::Scp | PolicyType::Rcp => {
                return None;
            }
        };
        Some((side.to_owned(), decision(one.decision).into()))
    });
    sides.collect()
}

fn every(policies: &PolicySet) -> impl Iterator<Item = &Attached> {
    let PolicySet {
        identity,
        boundary,
        session,
        narrowings,
        resource,
        scps,
        rcps,
        missing: _,
        programs: _,
    } = policies;
    identity
        .iter()
        .chain(resource)
        .chain(boundary.iter().flatten())
        .chain(session.iter().flatten())
        .chain(narrowings.iter().flatten())
        .chain(scps.iter().flatten())
        .chain(rcps.iter().flatten())
}

fn statement(found: &Determining, request: &Request, policies: &PolicySet) -> Statement {
    let own = match request.principal {
        Principal::Role { .. } | Principal::Session(_) => PolicySourceType::Role,
        Principal::User { .. }
        | Principal::FederatedUser { .. }
        | Principal::AccountRoot { .. }
        | Principal::Service { .. }
        | Principal::External(_)
        | Principal::WebIdentity { .. } => PolicySourceType::User,
    };
    let (source_policy_id, source_policy_type) = source(found.policy_type, &found.policy, own);
    let document = every(policies)
        .find(|one| one.policy_type == found.policy_type && one.name == found.policy)
        .map(|one| &one.document);
    let places = document.and_then(|document| {
        let at = document.statements().iter().find(|one| one.index == found.index)?.at;
        Some((at, end(document, &found.pointer)))
    });
    let position = |line: u32, column: u32| Position {
        line: i32::try_from(line).unwrap_or(i32::MAX),
        column: i32::try_from(column).unwrap_or(i32::MAX),
    };
    Statement {
        source_policy_id,
        source_policy_type: source_policy_type.into(),
        start_position: places.map(|(at, _)| position(at.line, at.column)),
        end_position: places.and_then(|(_, end)| end).map(|(line, column)| position(line, column)),
    }
}

/// A policy's id and type, by the name that it is judged under; `own` is the type of the principal's inline policies.
fn source(
    policy_type: PolicyType,
    name: &str,
    own: PolicySourceType,
) -> (String, PolicySourceType) {
    if let Some(name) = name.strip_suffix(OF_REQUEST) {
        return (name.to_owned(), PolicySourceType::None);
    }
    match policy_type {
        PolicyType::Resource | PolicyType::Trust => (name.to_owned(), PolicySourceType::Resource),
        PolicyType::Scp | PolicyType::Rcp | PolicyType::Session => {
            (name.to_owned(), PolicySourceType::None)
        }
        PolicyType::Identity | PolicyType::Boundary => {
            if name.starts_with("arn:aws:iam::aws:") {
                return (name.to_owned(), PolicySourceType::AwsManaged);
            }
            if name.starts_with("arn:") {
                return (name.to_owned(), PolicySourceType::UserManaged);
            }
            match name.split_once(OF_GROUP) {
                Some((name, _)) => (name.to_owned(), PolicySourceType::Group),
                None => (name.to_owned(), own),
            }
        }
    }
}

/// The line and column after the statement's last brace.
fn end(document: &Document, pointer: &str) -> Option<(u32, u32)> {
    let text = document.source();
    let root = json::read(&text, json::MAX_DEPTH).ok()?;
    let member = |value: &json::Value, key: &str| match &value.node {
        json::Node::Object(members) => {
            members.iter().find(|member| member.key == key).map(|member| member.value.clone())
        }
        _ => None,
    };
    let statements = member(&root, "Statement")?;
    let value = match pointer.strip_prefix("/Statement/") {
        None => statements,
        Some(index) => match statements.node {
            json::Node::Array(items) => items.get(index.parse::<usize>().ok()?)?.clone(),
            _ => return None,
        },
    };
    let before = text.get(..value.bytes.end)?;
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    Some((u32::try_from(line).ok()?, u32::try_from(column).ok()?))
}

/// Keys that the policies ask for, in conditions or as variables, and that the context does not have; in their order.
fn missing(request: &Request, policies: &PolicySet) -> Vec<String> {
    let mut keys: BTreeMap<String, String> = BTreeMap::new();
    let mut ask = |key: &str| {
        if request.context.get(key).is_none() {
            keys.entry(key.to_ascii_lowercase()).or_insert_with(|| key.to_owned());
        }
    };
    for attached in every(policies) {
        let has_variables = attached.document.version() == Version::V2012_10_17;
        for statement in attached.document.statements() {
            for condition in &statement.conditions {
                ask(&condition.key);
                let values = condition.values.iter().filter(|_| has_variables);
                values.for_each(|value| variables(&value.value.text, &mut ask));
            }
            let resources = statement.resources.iter().filter(|_| has_variables);
            for resource in resources.flat_map(|clause| &clause.elements) {
                variables(resource.value.as_str(), &mut ask);
            }
        }
    }
    keys.into_values().collect()
}

/// The keys in `${…}`; one with a default does without. `${*}`, `${?}` and `${$}` are characters.
fn variables(text: &str, ask: &mut impl FnMut(&str)) {
    for after in text.split("${").skip(1) {
        let Some((name, _)) = after.split_once('}') else { continue };
        if name.contains(':') && !name.contains(',') {
            ask(name.trim());
        }
    }
}

/// The one value, or the list of them, as conditions compare it.
pub fn value(values: &[String], is_list: bool) -> ContextValue {
    match (values, is_list) {
        ([one], false) => ContextValue::One(one.clone()),
        _ => ContextValue::Many(values.to_vec()),
    }
}

/// A user that stands for nobody: the one whom documents without an owner are judged for.
pub fn nobody(account: AccountId) -> Subject {
    let arn = countersign_policy::principal::IamArn::User {
        partition: "aws".to_owned(),
        account,
        path: "/".to_owned(),
        name: "Simulated".to_owned(),
    };
    Subject {
        principal: Principal::User { arn, unique_id: None },
        identity: Vec::new(),
        boundary: None,
        session: None,
        narrowings: Vec::new(),
        missing: Vec::new(),
        programs: Vec::new(),
        keys: Context::new(),
    }
}
