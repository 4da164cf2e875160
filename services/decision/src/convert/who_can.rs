//! WhoCan: who may do something, and on what that still depends.

use countersign_evaluator::{
    Verdict,
    outlook::{OpenCondition, Outlook, Remaining},
};
use countersign_proto::decision::v1::{
    Decision, DecisionReason, RemainingCondition, RemainingStatement, WhoCanPrincipal,
    WhoCanRequest,
};

use super::{
    answer::{clip, count, decision, reason, statement},
    context,
    question::{self, Check, shown},
};
use crate::error::Refusal;

const MAX_ITEMS: i32 = 1000;
const DEFAULT_ITEMS: usize = 100;
const MAX_STATEMENTS: usize = 16;
const MAX_CONDITIONS: usize = 16;
const MAX_VALUES: usize = 8;

/// A WhoCanRequest, parsed.
#[derive(Debug)]
pub struct WhoCanQuestion {
    /// What is to be done.
    pub check: Check,
    /// At most so many principals.
    pub max_items: usize,
    /// Where the page before ended.
    pub after: After,
    /// The least revision to answer at; may be empty.
    pub at_least_revision: String,
}

/// Where a page ended: behind a place in the snapshot's own order. Users come first, then roles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum After {
    /// Nowhere: the first page.
    Nothing,
    /// Behind this user.
    User(u64),
    /// Behind this role.
    Role(u64),
}

impl After {
    /// As the next request brings it.
    pub fn marker(&self) -> String {
        match self {
            Self::Nothing => String::new(),
            Self::User(place) => format!("user/{place:016x}"),
            Self::Role(place) => format!("role/{place:016x}"),
        }
    }

    fn parse(marker: &str) -> Result<Self, Refusal> {
        let wrong = || {
            let shown = shown(marker);
            Refusal::invalid("marker", format!("`{shown}` is none; send the page before's"))
        };
        if marker.is_empty() {
            return Ok(Self::Nothing);
        }
        let (kind, place) = marker.split_once('/').ok_or_else(wrong)?;
        let is_plain = place.len() == 16 && place.bytes().all(|byte| byte.is_ascii_hexdigit());
        let place = u64::from_str_radix(place, 16).ok().filter(|_| is_plain).ok_or_else(wrong)?;
        match kind {
            "user" => Ok(Self::User(place)),
            "role" => Ok(Self::Role(place)),
            _ => Err(wrong()),
        }
    }
}

/// Parses a WhoCanRequest.
pub fn who_can_question(request: WhoCanRequest) -> Result<WhoCanQuestion, Refusal> {
    let WhoCanRequest {
        action,
        resource,
        max_items,
        marker,
        resource_account,
        context,
        resource_tags,
        resource_policy_document,
        at_least_revision,
    } = request;
    let mut check = question::check(&action, &resource, &resource_account)?;
    check.resource_policy = question::resource_policy(&check.action, &resource_policy_document)?;
    check.context = context::context(context, resource_tags)?;
    Ok(WhoCanQuestion {
        check,
        max_items: items(max_items)?,
        after: After::parse(&marker)?,
        at_least_revision,
    })
}

fn items(asked: i32) -> Result<usize, Refusal> {
    match asked {
        0 => Ok(DEFAULT_ITEMS),
        1..=MAX_ITEMS => Ok(usize::try_from(asked).unwrap_or(DEFAULT_ITEMS)),
        _ => Err(Refusal::invalid("max_items", format!("`{asked}`: expected 1 to {MAX_ITEMS}"))),
    }
}

/// One that may, or might; none for one that may not, whatever comes. What it depends on is shown to those who may see policy.
pub fn who_can_principal(
    principal_arn: String,
    outlook: Outlook,
    may_see: bool,
) -> Option<WhoCanPrincipal> {
    let (Verdict { decision: decided, reason: because, determining: _ }, remaining) = match outlook
    {
        Outlook::Denied(_) => return None,
        Outlook::Allowed(verdict) => (verdict, Vec::new()),
        Outlook::Open { now, remaining } => (now, remaining),
    };
    let is_conditional = !remaining.is_empty();
    let shown = if may_see { remaining } else { Vec::new() };
    Some(WhoCanPrincipal {
        principal_arn,
        decision: decision(decided).into(),
        reason: reason(because).into(),
        is_conditional,
        remaining_count: count(shown.len()),
        remaining: shown.into_iter().take(MAX_STATEMENTS).map(remaining_statement).collect(),
    })
}

/// One whose policies take too long to compare.
pub fn who_can_undecided(principal_arn: String) -> WhoCanPrincipal {
    WhoCanPrincipal {
        principal_arn,
        decision: Decision::Unspecified.into(),
        reason: DecisionReason::CannotEvaluate.into(),
        ..WhoCanPrincipal::default()
    }
}

fn remaining_statement(remaining: Remaining) -> RemainingStatement {
    let Remaining { statement: determining, effect, conditions } = remaining;
    RemainingStatement {
        statement: Some(statement(determining)),
        effect: effect.to_string(),
        condition_count: count(conditions.len()),
        conditions: conditions.into_iter().take(MAX_CONDITIONS).map(condition).collect(),
    }
}

fn condition(condition: OpenCondition) -> RemainingCondition {
    let OpenCondition { key, operator, values } = condition;
    RemainingCondition {
        key: clip(&key),
        operator,
        value_count: count(values.len()),
        values: values.iter().take(MAX_VALUES).map(|value| clip(value)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(change: impl FnOnce(&mut WhoCanRequest)) -> Result<WhoCanQuestion, Refusal> {
        let mut request = WhoCanRequest {
            action: "orders:GetOrder".into(),
            resource: "arn:aws:orders:eu-west-1:111122223333:order/42".into(),
            ..Default::default()
        };
        change(&mut request);
        who_can_question(request)
    }

    #[test]
    fn what_is_wrong_is_named() {
        fn check(change: impl FnOnce(&mut WhoCanRequest), field: &str) {
            let refusal = asked(change).unwrap_err().to_string();
            assert!(refusal.starts_with(field), "{refusal}, not {field}");
        }
        check(|request| request.action.clear(), "action");
        check(|request| request.resource.clear(), "resource");
        check(|request| request.max_items = -1, "max_items");
        check(|request| request.max_items = 1001, "max_items");
        check(|request| request.resource_account = "1".into(), "resource_account");
        check(|request| request.resource_policy_document = "{".into(), "resource_policy_document");
        for marker in
            ["x", "user/", "user", "group/0000000000000001", "/", "user/1", "role/+000000000000001"]
        {
            check(|request| request.marker = marker.into(), "marker");
        }
        check(|request| request.marker = format!("user/{}", "0".repeat(124)), "marker");
    }

    #[test]
    fn markers_come_back() {
        for after in [After::Nothing, After::User(7), After::Role(u64::MAX)] {
            assert_eq!(asked(|request| request.marker = after.marker()).unwrap().after, after);
        }
        assert_eq!(asked(|_| {}).unwrap().max_items, 100);
        assert_eq!(asked(|request| request.max_items = 1000).unwrap().max_items, 1000);
    }
}
