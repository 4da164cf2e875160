//! The verb of WhoCan: which users and roles of the caller's own account may do something, a page at a time.
//!
//! Each is decided as Authorize would decide it, so that the two cannot disagree, and looked at again for what may still come
//! ([`countersign_evaluator::outlook`]). A page is a bounded amount of work, and says where it ended: nobody is left out silently.

use std::sync::Arc;

use countersign_evaluator::{Resource, ResourceArn, outlook::outlook};
use countersign_policy::{arn::AccountId, principal::IamArn};
use countersign_proto::decision::v1::{Decision, WhoCanPrincipal, WhoCanResponse};
use countersign_replica::{View, World};

use crate::{
    authn::{Call, Caller},
    check::{self, AUTHORIZE, AUTHORIZE_PRINCIPAL, EXPLAIN},
    convert::{self, After, Check, Owner, WhoCanQuestion},
    decider::{self, Decider},
    effort::{Page, Toll},
    error::Refusal,
};

/// So many are looked at for one page, whoever may.
const MAX_EXAMINED: usize = 1000;
/// So many are passed for one page, other accounts' among them: the snapshot is in no account's order.
const MAX_PASSED: usize = 50_000;
/// A client takes an answer of 4 MiB.
const MAX_BYTES: usize = 1 << 20;

/// Answers WhoCan.
pub async fn who_can(
    decider: &Decider,
    call: &Call,
    question: WhoCanQuestion,
) -> Result<WhoCanResponse, Refusal> {
    let WhoCanQuestion { check, max_items, after, at_least_revision } = question;
    let account = own_account(call, &check)?;
    let view = decider.view(&at_least_revision, call.deadline).await?;
    let now = decider::now();
    let resource = Resource { arn: check.resource.clone(), account: owner(&check, account)? };
    let world = view.world();
    check::require(world, call, AUTHORIZE, &resource, now)?;
    check::require(world, call, AUTHORIZE_PRINCIPAL, &resource, now)?;
    let may_see = check::require(world, call, EXPLAIN, &resource, now).is_ok();
    let asked = Asked { check, resource, may_see, now };
    page(&view, &asked, account, max_items, after).await
}

/// What is asked of each.
struct Asked {
    check: Check,
    resource: Resource,
    may_see: bool,
    now: i64,
}

async fn page(
    view: &Arc<View>,
    asked: &Asked,
    account: AccountId,
    max_items: usize,
    after: After,
) -> Result<WhoCanResponse, Refusal> {
    let passed = passed(view.world(), account, &after);
    let next = passed.get(MAX_PASSED).map(|(place, _)| place.clone());
    let (mut principals, mut budget, mut bytes) = (Vec::new(), Page::new(), 0);
    let (mut ended, mut examined, mut is_truncated) = (after, 0, next.is_some());
    for (place, arn) in passed {
        if next.as_ref() == Some(&place) {
            break;
        }
        let Some(arn) = arn else {
            ended = place;
            continue;
        };
        // Two in one place are never parted.
        let is_full =
            principals.len() >= max_items || bytes > MAX_BYTES || examined >= MAX_EXAMINED;
        if is_full && place != ended {
            is_truncated = true;
            break;
        }
        let name = arn.to_string();
        let found = match examine(view.world(), asked, arn, &mut budget)? {
            Seen::Found(found, toll) => {
                // Others wait for this thread.
                if toll == Toll::Large {
                    tokio::task::yield_now().await;
                }
                found
            }
            Seen::NextPage if place == ended => Some(convert::who_can_undecided(name)),
            Seen::NextPage => {
                is_truncated = true;
                break;
            }
        };
        bytes += found.as_ref().map_or(0, size);
        principals.extend(found);
        (ended, examined) = (place, examined + 1);
    }
    let allowed = |one: &&WhoCanPrincipal| one.decision == i32::from(Decision::Allow);
    Ok(WhoCanResponse {
        principal_arns: principals
            .iter()
            .filter(allowed)
            .map(|one| one.principal_arn.clone())
            .collect(),
        is_truncated,
        marker: if is_truncated { ended.marker() } else { String::new() },
        principals,
        revision: view.revision().to_string(),
    })
}

/// One more than a page passes, so that the last page knows that it is. None is another account's.
fn passed(world: &World, account: AccountId, after: &After) -> Vec<(After, Option<IamArn>)> {
    let snapshot = world.snapshot();
    let (user, role) = match after {
        After::Nothing => (Some(None), None),
        After::User(place) => (Some(Some(*place)), None),
        After::Role(place) => (None, Some(*place)),
    };
    let users = user.into_iter().flat_map(|after| snapshot.users_after(after));
    let users = users
        .map(|(place, user)| (After::User(place), (user.account == account).then(|| user.arn())));
    let roles = snapshot
        .roles_after(role)
        .map(|(place, role)| (After::Role(place), (role.account == account).then(|| role.arn())));
    users.chain(roles).take(MAX_PASSED + 1).collect()
}

enum Seen {
    /// Who may, or might; none for who may not.
    Found(Option<WhoCanPrincipal>, Toll),
    /// The work of a page is done.
    NextPage,
}

fn examine(world: &World, asked: &Asked, arn: IamArn, budget: &mut Page) -> Result<Seen, Refusal> {
    let Asked { check, resource, may_see, now } = asked;
    let name = arn.to_string();
    let matter = check::matter_of(world, arn, check.clone(), resource.clone(), *now)?;
    let Some((request, policies)) = matter else { return Ok(Seen::Found(None, Toll::Small)) };
    let toll = budget.spend(&request, &policies);
    let found = match toll {
        Toll::NextPage => return Ok(Seen::NextPage),
        Toll::Never => Some(convert::who_can_undecided(name)),
        Toll::Small | Toll::Large => {
            convert::who_can_principal(name, outlook(&request, &policies), *may_see)
        }
    };
    Ok(Seen::Found(found, toll))
}

/// A session's. Nobody else has rights of its own.
fn own_account(call: &Call, check: &Check) -> Result<AccountId, Refusal> {
    match &call.caller {
        Caller::Session(session) => Ok(session.facts.account),
        Caller::Service(_) | Caller::Anonymous => {
            Err(check::denied(&call.caller, AUTHORIZE_PRINCIPAL, &check.resource, ""))
        }
    }
}

/// Every principal on the page is of the caller's own account.
fn owner(check: &Check, own: AccountId) -> Result<Option<AccountId>, Refusal> {
    match (check.owner, &check.resource) {
        (Owner::Account(account), ResourceArn::Arn(_) | ResourceArn::Any) => Ok(Some(account)),
        (Owner::Subject, ResourceArn::Arn(_) | ResourceArn::Any) => Ok(Some(own)),
        (Owner::SubjectIn(stated), ResourceArn::Arn(_) | ResourceArn::Any) if stated == own => {
            Ok(Some(own))
        }
        (Owner::SubjectIn(stated), ResourceArn::Arn(_) | ResourceArn::Any) => {
            let message = format!(
                "`{stated}`: an action on `*` is in the caller's own account, `{own}`; leave it out"
            );
            Err(Refusal::invalid("resource_account", message))
        }
    }
}

/// Its texts, and something for what is around them.
fn size(principal: &WhoCanPrincipal) -> usize {
    let of_statement = |remaining: &countersign_proto::decision::v1::RemainingStatement| {
        let named = remaining.statement.as_ref();
        let named = named.map_or(0, |one| one.policy.len() + one.sid.len() + one.pointer.len());
        let conditions = remaining.conditions.iter().map(|one| {
            let values: usize = one.values.iter().map(|value| value.len() + 4).sum();
            one.key.len() + one.operator.len() + values + 16
        });
        named + conditions.sum::<usize>() + 32
    };
    principal.principal_arn.len() + principal.remaining.iter().map(of_statement).sum::<usize>() + 32
}
