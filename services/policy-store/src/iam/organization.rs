//! The organization: units, which accounts are in them, and what is attached to each.
//!
//! Units never move (as in AWS), so there are no circles; what a unit or account is put into is read, and so must still be there when it
//! is written. Source: <https://docs.aws.amazon.com/organizations/latest/APIReference/Welcome.html>.

use countersign_evaluator::snapshot::{FULL_ACCESS, ROOT};
use countersign_proto::policy::v1::{
    AccountRecord, GuardrailKind, OrganizationalUnit, OrganizationalUnitRecord,
};

use super::{guardrail, name};
use crate::{
    error::Error,
    layout::{self, Mark, UniqueId},
    view::{Plan, View},
};

/// Units stand so deep at most.
const DEEPEST: usize = 5;
/// Guardrails of one kind on one target, `p-FullAWSAccess` among them.
const MOST_ATTACHED: usize = 5;
/// So many of what stands in the way of a deletion are named.
const NAMED: usize = 20;

fn not_found(reason: &'static str, what: &str, id: &str) -> Error {
    let shown: String = id.chars().take(80).collect();
    Error::named(reason, format!("there is no {what} `{}`", shown.escape_default()))
}

/// The root or a unit. The root is there before anything was attached to it.
pub fn find(view: &View, id: &str) -> Result<Option<OrganizationalUnitRecord>, Error> {
    let shape = |rest: &str| {
        !rest.is_empty()
            && rest.len() <= 64
            && rest
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    if id == ROOT {
        let root = || OrganizationalUnitRecord {
            id: ROOT.to_owned(),
            name: "Root".to_owned(),
            ..Default::default()
        };
        return Ok(Some(view.find(&layout::unit(ROOT))?.unwrap_or_else(root)));
    }
    match id.strip_prefix("ou-") {
        Some(rest) if shape(rest) => view.find(&layout::unit(id)),
        Some(_) | None => Ok(None),
    }
}

/// A unit; the root is none.
fn unit(view: &View, id: &str) -> Result<OrganizationalUnitRecord, Error> {
    let missing = || not_found("OrganizationalUnitNotFound", "organizational unit", id);
    find(view, id)?.filter(|unit| unit.id != ROOT).ok_or_else(missing)
}

/// What new units and accounts go into; empty means the root.
pub fn parent(
    view: &View,
    reason: &'static str,
    id: &str,
) -> Result<OrganizationalUnitRecord, Error> {
    let id = if id.is_empty() { ROOT } else { id };
    find(view, id)?.ok_or_else(|| not_found(reason, "root or organizational unit", id))
}

/// `arn:aws:organizations::<account>:ou/<unit>`, or `…:root/<root>`.
pub fn arn(operator: &str, id: &str) -> String {
    let kind = if id == ROOT { "root" } else { "ou" };
    format!("arn:aws:organizations::{operator}:{kind}/{id}")
}

/// As the API has it.
pub fn shown(operator: &str, record: OrganizationalUnitRecord) -> OrganizationalUnit {
    OrganizationalUnit { arn: arn(operator, &record.id), id: record.id, name: record.name }
}

/// Makes a unit.
pub fn create(
    view: &View,
    plan: &mut Plan,
    parent_id: &str,
    unit_name: &str,
) -> Result<OrganizationalUnitRecord, Error> {
    name::label("name", unit_name, 128)?;
    let above = parent(view, "ParentNotFound", parent_id)?;
    if depth(view, &above)? >= DEEPEST {
        let message = format!("parent_id: units stand at most {DEEPEST} deep");
        return Err(Error::named("ConstraintViolation", message));
    }
    let random = view.unique_id("").to_lowercase();
    let id = format!("ou-{}", random.chars().take(12).collect::<String>());
    take_name(view, plan, &above.id, unit_name, &id)?;
    let record = OrganizationalUnitRecord {
        id: id.clone(),
        parent_id: above.id.clone(),
        name: unit_name.to_owned(),
        create_date: Some(view.now()),
        guardrail_ids: Vec::new(),
        full_aws_access_detached: false,
    };
    plan.put(&layout::unit(&id), &record);
    plan.put(&layout::child(&above.id, &id), &Mark {});
    Ok(record)
}

/// How many units stand over this one, itself included.
fn depth(view: &View, unit: &OrganizationalUnitRecord) -> Result<usize, Error> {
    let (mut deep, mut at) = (0, unit.clone());
    while at.id != ROOT && deep <= DEEPEST {
        deep += 1;
        at = parent(view, "ParentNotFound", &at.parent_id)?;
    }
    Ok(deep)
}

fn take_name(
    view: &View,
    plan: &mut Plan,
    parent_id: &str,
    unit_name: &str,
    id: &str,
) -> Result<(), Error> {
    let key = layout::unit_name(parent_id, unit_name);
    if view.find(&key)?.is_some_and(|holder| holder.key != id) {
        let message = format!("name: there is a unit `{unit_name}` in `{parent_id}` already");
        return Err(Error::named("DuplicateOrganizationalUnit", message));
    }
    plan.put(&key, &UniqueId { key: id.to_owned() });
    Ok(())
}

/// Renames a unit.
pub fn rename(
    view: &View,
    plan: &mut Plan,
    id: &str,
    new_name: &str,
) -> Result<OrganizationalUnitRecord, Error> {
    name::label("name", new_name, 128)?;
    let mut record = unit(view, id)?;
    let old = layout::unit_name(&record.parent_id, &record.name);
    if old != layout::unit_name(&record.parent_id, new_name) {
        plan.delete(&old);
    }
    take_name(view, plan, &record.parent_id, new_name, id)?;
    new_name.clone_into(&mut record.name);
    plan.put(&layout::unit(id), &record);
    Ok(record)
}

/// Deletes a unit that nothing is in. What is attached to it goes with it, as in AWS.
pub fn delete(view: &View, plan: &mut Plan, id: &str) -> Result<(), Error> {
    let record = unit(view, id)?;
    let children = layout::children(id);
    if !view.is_empty(&children)? {
        let keys = view.keys(&children, NAMED)?;
        let names: Vec<String> = keys
            .iter()
            .filter_map(|key| key.get(children.len()..))
            .map(|child| String::from_utf8_lossy(child).into_owned())
            .collect();
        let message = format!("cannot delete `{id}`: it still holds {}", names.join(", "));
        return Err(Error::named("OrganizationalUnitNotEmpty", message));
    }
    for guardrail_id in &record.guardrail_ids {
        plan.delete(&layout::guarded(guardrail_id, id));
    }
    plan.delete(&layout::unit_name(&record.parent_id, &record.name));
    plan.delete(&layout::child(&record.parent_id, id));
    plan.delete(&layout::unit(id));
    Ok(())
}

/// Moves an account.
pub fn move_account(
    view: &View,
    plan: &mut Plan,
    account_id: &str,
    source_parent_id: &str,
    destination_parent_id: &str,
) -> Result<(), Error> {
    let mut account = account(view, account_id).and_then(|found| {
        found.ok_or_else(|| not_found("AccountNotFound", "account", account_id))
    })?;
    let source = parent(view, "SourceParentNotFound", source_parent_id)?;
    let destination = parent(view, "DestinationParentNotFound", destination_parent_id)?;
    let at = if account.parent_id.is_empty() { ROOT } else { &account.parent_id };
    if at != source.id {
        let message = format!("source_parent_id: the account is in `{at}`");
        return Err(Error::named("AccountNotFound", message));
    }
    if source.id == destination.id {
        let message = format!("destination_parent_id: the account is in `{at}` already");
        return Err(Error::named("DuplicateAccount", message));
    }
    plan.delete(&layout::child(&source.id, account_id));
    plan.put(&layout::child(&destination.id, account_id), &Mark {});
    account.parent_id = if destination.id == ROOT { String::new() } else { destination.id };
    plan.put(&layout::account(account_id), &account);
    Ok(())
}

fn account(view: &View, account_id: &str) -> Result<Option<AccountRecord>, Error> {
    let is_number = account_id.len() == 12 && account_id.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { view.find(&layout::account(account_id)) } else { Ok(None) }
}

/// What guardrails are attached to.
pub enum Target {
    Unit(OrganizationalUnitRecord),
    Account(AccountRecord),
}

impl Target {
    /// The root, a unit or an account, by its id.
    pub fn find(view: &View, target_id: &str) -> Result<Self, Error> {
        if let Some(account) = account(view, target_id)? {
            return Ok(Self::Account(account));
        }
        let unit = find(view, target_id)?.map(Self::Unit);
        unit.ok_or_else(|| {
            not_found("TargetNotFound", "root, organizational unit or account", target_id)
        })
    }

    fn level(&mut self) -> (&mut Vec<String>, &mut bool) {
        match self {
            Self::Unit(unit) => (&mut unit.guardrail_ids, &mut unit.full_aws_access_detached),
            Self::Account(account) => {
                (&mut account.guardrail_ids, &mut account.full_aws_access_detached)
            }
        }
    }

    fn put(&self, plan: &mut Plan) {
        match self {
            Self::Unit(unit) => plan.put(&layout::unit(&unit.id), unit),
            Self::Account(account) => plan.put(&layout::account(&account.account_id), account),
        }
    }

    fn id(&self) -> &str {
        match self {
            Self::Unit(unit) => &unit.id,
            Self::Account(account) => &account.account_id,
        }
    }
}

/// Attaches a guardrail.
pub fn attach(
    view: &View,
    plan: &mut Plan,
    guardrail_id: &str,
    target_id: &str,
) -> Result<(), Error> {
    let kind = guardrail::kind(view, guardrail_id)?;
    let mut target = Target::find(view, target_id)?;
    let duplicate = || {
        let message = format!("`{guardrail_id}` is attached to `{target_id}` already");
        Error::named("DuplicatePolicyAttachment", message)
    };
    let count = count(view, &mut target, kind)?;
    let (ids, full_access_detached) = target.level();
    if guardrail_id == FULL_ACCESS {
        if !*full_access_detached {
            return Err(duplicate());
        }
        *full_access_detached = false;
    } else {
        if ids.iter().any(|id| id == guardrail_id) {
            return Err(duplicate());
        }
        ids.push(guardrail_id.to_owned());
        plan.put(&layout::guarded(guardrail_id, target_id), &Mark {});
    }
    if count >= MOST_ATTACHED {
        let message = format!(
            "target_id: `{target_id}` has {MOST_ATTACHED} of this kind already, which is the most"
        );
        return Err(Error::named("ConstraintViolation", message));
    }
    target.put(plan);
    Ok(())
}

/// Detaches a guardrail. The last service control policy of a target stays: with none, nothing below would be allowed.
pub fn detach(
    view: &View,
    plan: &mut Plan,
    guardrail_id: &str,
    target_id: &str,
) -> Result<(), Error> {
    let kind = guardrail::kind(view, guardrail_id)?;
    let mut target = Target::find(view, target_id)?;
    let absent = || {
        let message = format!("`{guardrail_id}` is not attached to `{target_id}`");
        Error::named("PolicyNotAttached", message)
    };
    let count = count(view, &mut target, kind)?;
    let (ids, full_access_detached) = target.level();
    if guardrail_id == FULL_ACCESS {
        if *full_access_detached {
            return Err(absent());
        }
        *full_access_detached = true;
    } else {
        let before = ids.len();
        ids.retain(|id| id != guardrail_id);
        if ids.len() == before {
            return Err(absent());
        }
        plan.delete(&layout::guarded(guardrail_id, target.id()));
    }
    if kind == GuardrailKind::ServiceControlPolicy && count == 1 {
        let message = format!(
            "`{target_id}` would be left without a service control policy; attach another one first, such as {FULL_ACCESS}"
        );
        return Err(Error::named("ConstraintViolation", message));
    }
    target.put(plan);
    Ok(())
}

/// How many guardrails of a kind a target has.
fn count(view: &View, target: &mut Target, kind: GuardrailKind) -> Result<usize, Error> {
    let (ids, full_access_detached) = target.level();
    let full = kind == GuardrailKind::ServiceControlPolicy && !*full_access_detached;
    let mut count = usize::from(full);
    for id in ids.iter() {
        count += usize::from(guardrail::kind(view, id)? == kind);
    }
    Ok(count)
}
