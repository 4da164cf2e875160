//! Guardrails: service control policies and resource control policies. `p-FullAWSAccess` is built in, and cannot be changed.

use countersign_evaluator::snapshot::{FULL_ACCESS, FULL_ACCESS_DOCUMENT};
use countersign_policy::findings::{DocumentKind, Finding};
use countersign_proto::policy::v1::{
    Guardrail, GuardrailKind, GuardrailRecord, GuardrailSummary, GuardrailType,
};

use super::{document, etag, name};
use crate::{
    error::Error,
    layout::{self, UniqueId},
    view::{Plan, View},
};

/// A guardrail of the store's own, or the one that is built in.
pub fn find(view: &View, id: &str) -> Result<GuardrailRecord, Error> {
    if id == FULL_ACCESS {
        return Ok(full_access());
    }
    let is_id = id.strip_prefix("p-").is_some_and(|rest| {
        !rest.is_empty()
            && rest.len() <= 128
            && rest.bytes().all(|byte| byte.is_ascii_alphanumeric())
    });
    let found = if is_id { view.find(&layout::guardrail(id))? } else { None };
    found.ok_or_else(|| {
        let shown: String = id.chars().take(80).collect();
        Error::named(
            "PolicyNotFound",
            format!("there is no guardrail `{}`", shown.escape_default()),
        )
    })
}

/// What a guardrail limits.
pub fn kind(view: &View, id: &str) -> Result<GuardrailKind, Error> {
    find(view, id).map(|record| record.kind())
}

fn full_access() -> GuardrailRecord {
    GuardrailRecord {
        id: FULL_ACCESS.to_owned(),
        name: "FullAWSAccess".to_owned(),
        description: "Allows access to every operation".to_owned(),
        kind: GuardrailKind::ServiceControlPolicy.into(),
        content: FULL_ACCESS_DOCUMENT.to_owned(),
        ..Default::default()
    }
}

/// The built-in one, as the list has it.
pub fn built_in(operator: &str) -> GuardrailSummary {
    summary(operator, &full_access())
}

fn summary(operator: &str, record: &GuardrailRecord) -> GuardrailSummary {
    let (kind, word) = match record.kind() {
        GuardrailKind::ServiceControlPolicy => {
            (GuardrailType::ServiceControlPolicy, "service_control_policy")
        }
        GuardrailKind::ResourceControlPolicy => {
            (GuardrailType::ResourceControlPolicy, "resource_control_policy")
        }
        GuardrailKind::Unspecified => (GuardrailType::Unspecified, "policy"),
    };
    let aws_managed = record.id == FULL_ACCESS;
    let owner = if aws_managed { layout::AWS } else { operator };
    GuardrailSummary {
        id: record.id.clone(),
        arn: format!("arn:aws:organizations::{owner}:policy/{word}/{}", record.id),
        name: record.name.clone(),
        description: record.description.clone(),
        r#type: kind.into(),
        aws_managed,
    }
}

/// As the API has it.
pub fn shown(operator: &str, record: GuardrailRecord) -> Guardrail {
    Guardrail {
        guardrail_summary: Some(summary(operator, &record)),
        etag: etag::of(&record.content),
        content: record.content,
    }
}

/// The summary alone.
pub fn listed(operator: &str, record: GuardrailRecord) -> GuardrailSummary {
    summary(operator, &record)
}

/// The stored kind of the API's type.
pub fn kind_of(number: i32) -> Result<GuardrailKind, Error> {
    match GuardrailType::try_from(number) {
        Ok(GuardrailType::ServiceControlPolicy) => Ok(GuardrailKind::ServiceControlPolicy),
        Ok(GuardrailType::ResourceControlPolicy) => Ok(GuardrailKind::ResourceControlPolicy),
        Ok(GuardrailType::Unspecified) | Err(_) => Err(Error::validation(
            "type",
            "GUARDRAIL_TYPE_SERVICE_CONTROL_POLICY or GUARDRAIL_TYPE_RESOURCE_CONTROL_POLICY is expected",
        )),
    }
}

fn accept(kind: GuardrailKind, content: &str) -> Result<Vec<Finding>, Error> {
    let kind = match kind {
        GuardrailKind::ServiceControlPolicy => DocumentKind::ServiceControlPolicy,
        GuardrailKind::ResourceControlPolicy => DocumentKind::ResourceControlPolicy,
        GuardrailKind::Unspecified => return Err(Error::validation("type", "is not known")),
    };
    document::accept("content", content, kind).map(|accepted| accepted.findings)
}

/// Makes a guardrail. It limits nothing until it is attached.
pub fn create(
    view: &View,
    plan: &mut Plan,
    kind: GuardrailKind,
    guardrail_name: &str,
    description: &str,
    content: &str,
) -> Result<(GuardrailRecord, Vec<Finding>), Error> {
    name::label("name", guardrail_name, 128)?;
    name::description("description", description, 512)?;
    let findings = accept(kind, content)?;
    let random = view.unique_id("").to_lowercase();
    let id = format!("p-{}", random.chars().take(12).collect::<String>());
    take_name(view, plan, guardrail_name, &id)?;
    let record = GuardrailRecord {
        id: id.clone(),
        name: guardrail_name.to_owned(),
        description: description.to_owned(),
        kind: kind.into(),
        content: content.to_owned(),
        create_date: Some(view.now()),
        update_date: Some(view.now()),
    };
    plan.put(&layout::guardrail(&id), &record);
    Ok((record, findings))
}

fn take_name(view: &View, plan: &mut Plan, guardrail_name: &str, id: &str) -> Result<(), Error> {
    let key = layout::guardrail_name(guardrail_name);
    let is_built_in = guardrail_name.eq_ignore_ascii_case("FullAWSAccess");
    if is_built_in || view.find(&key)?.is_some_and(|holder| holder.key != id) {
        let message = format!("name: there is a guardrail `{guardrail_name}` already");
        return Err(Error::named("DuplicatePolicy", message));
    }
    plan.put(&key, &UniqueId { key: id.to_owned() });
    Ok(())
}

/// Changes what is given.
pub fn update(
    view: &View,
    plan: &mut Plan,
    id: &str,
    new_name: Option<&str>,
    description: Option<&str>,
    content: Option<&str>,
) -> Result<(GuardrailRecord, Vec<Finding>), Error> {
    let mut record = own(view, id)?;
    if let Some(new_name) = new_name {
        name::label("name", new_name, 128)?;
        if layout::guardrail_name(&record.name) != layout::guardrail_name(new_name) {
            plan.delete(&layout::guardrail_name(&record.name));
        }
        take_name(view, plan, new_name, id)?;
        new_name.clone_into(&mut record.name);
    }
    if let Some(description) = description {
        name::description("description", description, 512)?;
        description.clone_into(&mut record.description);
    }
    let mut findings = Vec::new();
    if let Some(content) = content {
        findings = accept(record.kind(), content)?;
        content.clone_into(&mut record.content);
    }
    record.update_date = Some(view.now());
    plan.put(&layout::guardrail(id), &record);
    Ok((record, findings))
}

/// Deletes a guardrail that is attached nowhere.
pub fn delete(view: &View, plan: &mut Plan, id: &str) -> Result<(), Error> {
    let record = own(view, id)?;
    let targets = layout::targets(id);
    if !view.is_empty(&targets)? {
        let keys = view.keys(&targets, 20)?;
        let names: Vec<String> = keys
            .iter()
            .filter_map(|key| key.get(targets.len()..))
            .map(|target| String::from_utf8_lossy(target).into_owned())
            .collect();
        let message = format!("cannot delete `{id}`: it is attached to {}", names.join(", "));
        return Err(Error::named("PolicyInUse", message));
    }
    plan.delete(&layout::guardrail_name(&record.name));
    plan.delete(&layout::guardrail(id));
    Ok(())
}

fn own(view: &View, id: &str) -> Result<GuardrailRecord, Error> {
    if id == FULL_ACCESS {
        let message = format!("{FULL_ACCESS} is built in, and cannot be changed");
        return Err(Error::named("ConstraintViolation", message));
    }
    find(view, id)
}
