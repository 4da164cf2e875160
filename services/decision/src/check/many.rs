//! The verbs of BatchAuthorize and FilterResources: many questions of one subject, all at one revision. Each is asked and decided as
//! Authorize would; a caller that may not put one of them is told so, and which.

use std::sync::Arc;

use countersign_evaluator::Decision;
use countersign_proto::decision::v1::{BatchAuthorizeResponse, FilterResourcesResponse};
use countersign_replica::View;

use super::{Depth, Judgement, Matter, Posed, Who, answer, consider, sessions_alone, who};
use crate::{
    authn::Call,
    convert::{Batch, Check},
    decider::{self, Decider},
    effort,
    error::Refusal,
};

/// Answers BatchAuthorize.
pub async fn batch(
    decider: &Decider,
    call: &Call,
    batch: Batch,
) -> Result<BatchAuthorizeResponse, Refusal> {
    let mut answers = Vec::with_capacity(batch.checks.len());
    each(decider, call, batch, |posed, judgement| {
        answers.push(answer(decider, call, posed, judgement)?);
        Ok(())
    })
    .await?;
    Ok(BatchAuthorizeResponse { answers })
}

/// Answers FilterResources: of `resources`, which the batch asks about one by one, those that are allowed.
pub async fn filter(
    decider: &Decider,
    call: &Call,
    batch: Batch,
    resources: Vec<String>,
) -> Result<FilterResourcesResponse, Refusal> {
    let mut allowed = Vec::with_capacity(resources.len());
    let view = each(decider, call, batch, |_, judgement| {
        allowed.push(judgement.decision == Decision::Allow);
        Ok(())
    })
    .await?;
    let kept = resources.into_iter().zip(allowed).filter(|(_, allowed)| *allowed);
    Ok(FilterResourcesResponse {
        resources: kept.map(|(resource, _)| resource).collect(),
        revision: view.revision().to_string(),
    })
}

/// Decides each, and hands it on in order; the view is the one that all were decided at.
async fn each(
    decider: &Decider,
    call: &Call,
    batch: Batch,
    mut take: impl FnMut(&Posed, Judgement) -> Result<(), Refusal>,
) -> Result<Arc<View>, Refusal> {
    let Batch { subject, checks, at_least_revision } = batch;
    if let Some((_, first)) = checks.first() {
        sessions_alone(call, Depth::Answer, &first.resource)?;
    }
    let now = decider::now();
    let (view, who) = who(decider, subject, &at_least_revision, now, call.deadline).await?;
    let mut budget = effort::Budget::of_a_batch();
    for (place, check) in checks {
        let posed =
            posed(&view, call, &who, check, now).map_err(|refusal| refusal.within(&place))?;
        if let Matter::Open(matter) = &posed.matter {
            let (request, policies) = matter.as_ref();
            let is_large = budget.spend(request, policies).map_err(|r| r.within(&place))?;
            // Others wait for this thread.
            if is_large {
                tokio::task::yield_now().await;
            }
        }
        let judgement = posed.matter.judge();
        take(&posed, judgement)?;
    }
    Ok(view)
}

fn posed(
    view: &Arc<View>,
    call: &Call,
    who: &Who,
    check: Check,
    now: i64,
) -> Result<Posed, Refusal> {
    let (action, resource) = (check.action.to_string(), check.resource.to_string());
    let matter = consider(view.world(), call, who, check, Depth::Answer, now)?;
    Ok(Posed { view: Arc::clone(view), principal: who.name(), action, resource, matter })
}
