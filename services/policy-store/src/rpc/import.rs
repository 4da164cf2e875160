//! The counterpart of the export: an account's entities from one request, in one commit where they fit, and else in several.
//!
//! First everything is tried in one view, and whatever is wrong is named by its place; nothing is written before that. Then each part is
//! an operation like any other: its own preconditions, its own permit, its own audit event. A part that fails, since others wrote meanwhile,
//! says what was done before it. What is there already as it should be is left alone, so the same request goes on from there.

use std::collections::BTreeMap;

use countersign_policy::{arn::AccountId, findings::Severity};
use countersign_proto::policy::v1::*;
use countersign_serve::Fault;
use prost::Message;

use super::{Call, PolicyStore, Written};
use crate::{
    authz::{self, Ask, On},
    convert,
    error::Error,
    iam::{
        import::{
            Content, Outcome, Principal, Step,
            parse::{self, Import, Refusal},
        },
        name,
    },
    request,
    view::{self, Mode, Plan, View},
};

const ACTION: &str = "countersign:ImportAccountAuthorizationDetails";
/// An import looks at so many records at most.
const MOST_READS: usize = 500_000;
/// So many steps are tried for one commit.
const STEPS_AT_ONCE: usize = 64;
/// So much of what is wrong is named.
const NAMED: usize = 50;
/// Bytes of findings in an answer; a retry's answer is kept in one record with them.
const FINDINGS_BYTES: usize = 24 << 10;

type Request = ImportAccountAuthorizationDetailsRequest;
type Response = ImportAccountAuthorizationDetailsResponse;

/// What trying everything came to.
enum Foreseen {
    /// The answer of the first time, and its revision.
    Retry(Response, u64),
    /// Whether it goes into one commit; the numbers of the steps that do something; how many entities they make, and how many are there.
    New { in_one: bool, steps: Vec<usize>, created: usize, unchanged: usize },
}

/// One commit.
struct Part {
    steps: usize,
    answer: Response,
}

impl PolicyStore {
    pub async fn import_account_authorization_details(
        &self,
        call: Call,
        request: Request,
    ) -> Result<Response, Error> {
        request::check(&call)?;
        let account = call.account()?;
        let import = parse::import(&request, account).map_err(refused)?;
        let foreseen = self.foresee_import(&call, account, &import).await;
        if let Err(error) = &foreseen {
            let own = Ask::new(ACTION, On::Anything);
            self.note_refusal(&call, &[own], error).await;
        }
        let foreseen = foreseen?;
        let (in_one, steps, created, unchanged) = match foreseen {
            Foreseen::Retry(mut answer, revision) => {
                *answer.revision() = format!("{}:{revision}", self.store.id());
                return Ok(answer);
            }
            Foreseen::New { in_one, steps, created, unchanged } => {
                (in_one, steps, created, unchanged)
            }
        };
        if call.options.validate_only && !in_one {
            let head = self.store.head().await?;
            let revision = format!("{}:{head}", self.store.id());
            // How many commits it would take is seen only by making them.
            let counted = Response { revision, ..counted(created, unchanged, 0) };
            return Ok(with_findings(counted, &import));
        }
        let begun = with_findings(counted(0, unchanged, 0), &import);
        let steps = steps.into_iter().filter_map(|index| import.steps.get(index)).collect();
        self.import_parts(&call, account, &Groups::of(account, &import.steps), steps, begun).await
    }

    /// Tries everything at once, and writes nothing.
    async fn foresee_import(
        &self,
        call: &Call,
        account: AccountId,
        import: &Import,
    ) -> Result<Foreseen, Error> {
        let groups = Groups::of(account, &import.steps);
        let asks = asks(account, &groups, import.steps.iter());
        let store = self.store.as_ref();
        view::foresee(store, crate::now(), MOST_READS, |view| {
            view.permit(|| authz::permit(view, call, &asks))?;
            if let Some((answer, revision)) = request::done(view, call, &self.sealer)? {
                return Ok(Foreseen::Retry(answer, revision));
            }
            view.need(keys(account, import.steps.iter()))?;
            let (mut created, mut unchanged) = (0, 0);
            let (mut steps, mut refusals) = (Vec::new(), Vec::new());
            for (index, step) in import.steps.iter().enumerate() {
                match step.run(view, &account, &self.quotas) {
                    Ok(Outcome::Created) => {
                        created += 1;
                        steps.push(index);
                    }
                    Ok(Outcome::Completed) => steps.push(index),
                    Ok(Outcome::Unchanged) => unchanged += 1,
                    Ok(Outcome::Nothing) => {}
                    Err(Error::Need(need)) => return Err(Error::Need(need)),
                    Err(error) => refusals.push(Refusal { at: step.at.clone(), error }),
                }
            }
            if refusals.is_empty() {
                Ok(Foreseen::New { in_one: view.fits(), steps, created, unchanged })
            } else {
                Err(refused(refusals))
            }
        })
        .await
    }

    async fn import_parts(
        &self,
        call: &Call,
        account: AccountId,
        groups: &Groups,
        steps: Vec<&Step>,
        mut answer: Response,
    ) -> Result<Response, Error> {
        let mode = if call.options.validate_only { Mode::Validate } else { Mode::Write };
        let mut done = 0;
        loop {
            let rest = steps.get(done..).unwrap_or_default();
            let before = &answer;
            let written =
                view::write_many(&self.store, crate::now(), mode, MOST_READS, |view, plan| {
                    self.import_part(view, plan, call, (account, groups), rest, before)
                });
            let written = written.await;
            if mode == Mode::Write {
                self.space.saw(&written);
            }
            let (part, revision) = written.map_err(|error| match done {
                0 => error,
                _ => broken_off(error, before, rest),
            })?;
            done += part.steps;
            answer = Response { revision: revision.to_string(), ..part.answer };
            if done >= steps.len() {
                return Ok(answer);
            }
        }
    }

    /// As many steps as go into one commit: one at least, so that it goes on.
    fn import_part(
        &self,
        view: &View,
        plan: &mut Plan,
        call: &Call,
        (account, groups): (AccountId, &Groups),
        rest: &[&Step],
        before: &Response,
    ) -> Result<Part, Error> {
        let tried = rest.get(..STEPS_AT_ONCE).unwrap_or(rest);
        let asks = asks(account, groups, tried.iter().copied());
        view.permit(|| authz::permit(view, call, &asks))?;
        view.need(keys(account, tried.iter().copied()))?;
        let (mut steps, mut created, mut unchanged) = (0, 0, 0);
        for step in tried {
            let point = view.point();
            let outcome = step.run(view, &account, &self.quotas).map_err(|error| match error {
                Error::Need(need) => Error::Need(need),
                error => refused(vec![Refusal { at: step.at.clone(), error }]),
            })?;
            if !view.fits() && steps > 0 {
                view.back_to(point);
                break;
            }
            steps += 1;
            created += usize::from(outcome == Outcome::Created);
            unchanged += usize::from(outcome == Outcome::Unchanged);
        }
        view.take_staged(plan);
        self.space.check_trail()?;
        let counted = counted(created, unchanged, 1);
        let answer = Response {
            created_count: before.created_count + counted.created_count,
            unchanged_count: before.unchanged_count + counted.unchanged_count,
            commit_count: before.commit_count + 1,
            revision: String::new(),
            ..before.clone()
        };
        let bytes = answer.encode_to_vec();
        if steps == rest.len() {
            request::remember(view, plan, call, &bytes, &self.sealer)?;
        }
        let made = tried.get(..steps).unwrap_or_default();
        let asks = self::asks(account, groups, made.iter().copied());
        let about = authz::about_what(view, account, &asks)?;
        crate::audit::record(view, plan, call, about, &bytes, &self.process)?;
        Ok(Part { steps, answer })
    }
}

fn counted(created: usize, unchanged: usize, commits: i32) -> Response {
    let number = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
    Response {
        created_count: number(created),
        unchanged_count: number(unchanged),
        commit_count: commits,
        ..Response::default()
    }
}

fn keys<'a>(account: AccountId, steps: impl Iterator<Item = &'a Step>) -> Vec<Vec<u8>> {
    let of = |step: &Step| step.key(&account).into_iter().chain(step.references(&account));
    steps.flat_map(of).collect()
}

/// The answer with what a reviewer would say, as much of it as an answer may hold.
fn with_findings(mut answer: Response, import: &Import) -> Response {
    let mut bytes = 0;
    let administrator = import.administrator.iter().map(|at| Finding {
        severity: FindingSeverity::Suggestion.into(),
        code: "AdministratorStays".to_owned(),
        pointer: at.clone(),
        message: "the account's own CountersignAdministrator stays as it is".to_owned(),
        ..Finding::default()
    });
    let severe = |severity: &Severity| match severity {
        Severity::Error | Severity::SecurityWarning => 0,
        Severity::Warning => 1,
        Severity::Suggestion => 2,
    };
    let mut found: Vec<_> = import.findings.iter().collect();
    found.sort_by_key(|(_, finding)| severe(&finding.severity));
    let found = found.into_iter().flat_map(|(at, finding)| {
        let found = convert::findings(vec![finding.clone()]).into_iter();
        found.map(move |finding| Finding { pointer: format!("{at}{}", finding.pointer), ..finding })
    });
    for finding in administrator.chain(found) {
        bytes += finding.encoded_len();
        if bytes <= FINDINGS_BYTES {
            answer.findings.push(finding);
        } else {
            answer.findings_left_out += 1;
        }
    }
    answer
}

/// The ARNs of the groups that are made, by their names in lower case: until they are, the store does not know their paths.
struct Groups(BTreeMap<String, String>);

impl Groups {
    fn of(account: AccountId, steps: &[Step]) -> Self {
        let arn = |step: &Step| match &step.content {
            Content::Group(it) => {
                let arn = name::group_arn(account, or_root(&it.path), &it.name);
                Some((it.name.to_lowercase(), arn))
            }
            Content::AwsPolicy(_)
            | Content::Policy(_)
            | Content::User(_)
            | Content::Role(_)
            | Content::Trust { .. } => None,
        };
        Self(steps.iter().filter_map(arn).collect())
    }

    fn on<'a>(&self, name: &'a str) -> On<'a> {
        let made = self.0.get(&name.to_lowercase());
        made.map_or(On::Group(name), |arn| On::Arn(arn.clone()))
    }
}

/// What making each entity by itself would ask, and the import's own action: so an import allows nobody more than its parts do.
fn asks<'a>(
    account: AccountId,
    groups: &Groups,
    steps: impl Iterator<Item = &'a Step>,
) -> Vec<Ask<'a>> {
    let own = Ask::new(ACTION, On::Anything);
    let mut asks = vec![own];
    for step in steps {
        match &step.content {
            Content::AwsPolicy(_) => {}
            Content::Policy(policy) => {
                let new = &policy.new;
                let arn = name::policy_arn(account, or_root(&new.path), &new.policy_name);
                asks.push(Ask::new("iam:CreatePolicy", On::Arn(arn.clone())).tagged(&new.tags));
                if !new.tags.is_empty() {
                    asks.push(Ask::new("iam:TagPolicy", On::Arn(arn.clone())).tagged(&new.tags));
                }
                if policy.versions.len() > 1 {
                    asks.push(resource_tags(
                        Ask::new("iam:CreatePolicyVersion", On::Arn(arn)),
                        &new.tags,
                    ));
                }
            }
            Content::Group(it) => {
                let arn = name::group_arn(account, or_root(&it.path), &it.name);
                furnish(&mut asks, GROUP, arn, it);
            }
            Content::User(it) => {
                let arn = name::user_arn(account, or_root(&it.path), &it.name);
                furnish(&mut asks, USER, arn, it);
                let join = |name| Ask::new("iam:AddUserToGroup", groups.on(name));
                asks.extend(it.groups.iter().map(|name| join(name.as_str())));
            }
            Content::Role(it) => {
                let arn = name::role_arn(account, or_root(&it.path), &it.name);
                furnish(&mut asks, ROLE, arn, it);
            }
            // Part of making the role.
            Content::Trust { .. } => {}
        }
    }
    asks
}

/// The actions of one kind.
struct Actions {
    create: &'static str,
    /// Groups have no tags.
    tag: Option<&'static str>,
    attach: &'static str,
    put: &'static str,
}

const USER: Actions = Actions {
    create: "iam:CreateUser",
    tag: Some("iam:TagUser"),
    attach: "iam:AttachUserPolicy",
    put: "iam:PutUserPolicy",
};
const GROUP: Actions = Actions {
    create: "iam:CreateGroup",
    tag: None,
    attach: "iam:AttachGroupPolicy",
    put: "iam:PutGroupPolicy",
};
const ROLE: Actions = Actions {
    create: "iam:CreateRole",
    tag: Some("iam:TagRole"),
    attach: "iam:AttachRolePolicy",
    put: "iam:PutRolePolicy",
};

fn furnish<'a>(asks: &mut Vec<Ask<'a>>, actions: Actions, arn: String, it: &'a Principal) {
    let ask = |action: &'static str| {
        let ask = Ask::new(action, On::Arn(arn.clone()));
        match it.boundary.as_str() {
            "" => ask,
            boundary => ask.with("iam:PermissionsBoundary", boundary),
        }
    };
    asks.push(ask(actions.create).tagged(&it.tags));
    if let Some(tag) = actions.tag.filter(|_| !it.tags.is_empty()) {
        asks.push(ask(tag).tagged(&it.tags));
    }
    for policy in &it.attached {
        let attach = ask(actions.attach).with("iam:PolicyARN", policy.as_str());
        asks.push(resource_tags(attach, &it.tags));
    }
    if !it.inline.is_empty() {
        asks.push(resource_tags(ask(actions.put), &it.tags));
    }
}

/// What a policy may ask of an entity that has these tags by then.
fn resource_tags<'a>(mut ask: Ask<'a>, tags: &[Tag]) -> Ask<'a> {
    for Tag { key, value } in tags {
        for prefix in ["aws:ResourceTag", "iam:ResourceTag"] {
            ask = ask.with(format!("{prefix}/{key}"), value.as_str());
        }
    }
    ask
}

fn or_root(path: &str) -> &str {
    if path.is_empty() { "/" } else { path }
}

/// Everything that is wrong, by its place; the first gives the reason.
fn refused(refusals: Vec<Refusal>) -> Error {
    let count = refusals.len();
    let mut fault: Option<Fault> = None;
    for Refusal { at, error } in refusals.into_iter().take(NAMED) {
        let places = places(&at, &error);
        let cause = Fault::from(error);
        let begun = fault.take().unwrap_or_else(|| {
            let more = if count > 1 { format!(" (and {} more)", count - 1) } else { String::new() };
            Fault::new(cause.code(), cause.reason(), format!("{at}: {}{more}", cause.message()))
        });
        let named = places
            .into_iter()
            .fold(begun, |fault, (place, message)| fault.violation(place, message));
        fault = Some(named);
    }
    fault.map_or(Error::ConcurrentModification, Error::from)
}

/// Where it is wrong, and how; in a document, by line and column.
fn places(at: &str, error: &Error) -> Vec<(String, String)> {
    match error {
        Error::MalformedPolicyDocument { malformed, .. } => {
            let place = |finding: &countersign_policy::findings::Finding| {
                (format!("{at}:{}:{}", finding.line, finding.column), finding.message.clone())
            };
            malformed.findings.iter().map(place).collect()
        }
        other => vec![(at.to_owned(), other.to_string())],
    }
}

/// What was done before a part failed.
fn broken_off(error: Error, before: &Response, rest: &[&Step]) -> Error {
    let cause = Fault::from(error);
    let next = rest.first().map(|step| step.at.as_str()).unwrap_or_default();
    let message = format!(
        "broken off before `{next}`: {} entities were made in {} commits, and {} were there; send the same request again to go on: {}",
        before.created_count,
        before.commit_count,
        before.unchanged_count,
        cause.message()
    );
    Fault::new(cause.code(), cause.reason(), message).into()
}
