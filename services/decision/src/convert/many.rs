//! Many questions of one subject: BatchAuthorize and FilterResources. What is wrong with one of them is named by its place.

use countersign_proto::decision::v1::{
    BatchAuthorizeRequest, Check as CheckMessage, FilterResourcesRequest, batch_authorize_request,
    filter_resources_request,
};

use super::{
    context,
    question::{Asked, Check, asked, check},
};
use crate::error::Refusal;

/// More than this is a page too many: ask again with the rest.
pub const MAX_CHECKS: usize = 1000;

/// Many questions, parsed.
#[derive(Debug)]
pub struct Batch {
    /// Who wants to act.
    pub subject: Asked,
    /// What they want to do, each with the name of its place in the request.
    pub checks: Vec<(String, Check)>,
    /// The least revision to answer at; may be empty.
    pub at_least_revision: String,
}

/// Parses a BatchAuthorizeRequest.
pub fn batch_question(request: BatchAuthorizeRequest) -> Result<Batch, Refusal> {
    let BatchAuthorizeRequest {
        subject,
        audience,
        context: shared,
        checks,
        at_least_revision,
        proof_of_possession,
    } = request;
    bounded("checks", checks.len())?;
    let subject = subject.map(|subject| match subject {
        batch_authorize_request::Subject::Token(token) => Ok(token),
        batch_authorize_request::Subject::PrincipalArn(arn) => Err(arn),
    });
    let subject = asked(subject, audience, proof_of_possession)?;
    let mut parsed = Vec::with_capacity(checks.len());
    for (index, one) in checks.into_iter().enumerate() {
        let place = format!("checks[{index}]");
        let CheckMessage { action, resource, resource_account, context: own, resource_tags } = one;
        let one = || {
            let mut one = check(&action, &resource, &resource_account)?;
            // The shared keys and its own are one context: a key in both, in any case, is refused as it would be in one.
            if let Some(key) = own.keys().find(|key| shared.contains_key(*key)) {
                let message = format!("`{key}` is in the shared `context` as well; send it once");
                return Err(Refusal::invalid("context", message));
            }
            let all = shared.clone().into_iter().chain(own).collect();
            one.context = context::context(all, resource_tags)?;
            Ok(one)
        };
        parsed.push((place.clone(), one().map_err(|refusal: Refusal| refusal.within(&place))?));
    }
    Ok(Batch { subject, checks: parsed, at_least_revision })
}

/// Parses a FilterResourcesRequest; the resources come back beside it, as they were given.
pub fn filter_question(request: FilterResourcesRequest) -> Result<(Batch, Vec<String>), Refusal> {
    let FilterResourcesRequest {
        subject,
        audience,
        action,
        resources,
        at_least_revision,
        resource_account,
        context: asserted,
        proof_of_possession,
    } = request;
    bounded("resources", resources.len())?;
    let subject = subject.map(|subject| match subject {
        filter_resources_request::Subject::Token(token) => Ok(token),
        filter_resources_request::Subject::PrincipalArn(arn) => Err(arn),
    });
    let subject = asked(subject, audience, proof_of_possession)?;
    let context = context::context(asserted, Default::default())?;
    let mut checks = Vec::with_capacity(resources.len());
    for (index, resource) in resources.iter().enumerate() {
        let mut one = check(&action, resource, &resource_account).map_err(|refusal| {
            // Only what is about the resource is one of many.
            refusal.renamed("resource", &format!("resources[{index}]"))
        })?;
        one.context = context.clone();
        checks.push((format!("resources[{index}]"), one));
    }
    Ok((Batch { subject, checks, at_least_revision }, resources))
}

fn bounded(field: &str, count: usize) -> Result<(), Refusal> {
    match count {
        0 => Err(Refusal::invalid(field, "empty; send at least one")),
        1..=MAX_CHECKS => Ok(()),
        more => Err(Refusal::invalid(
            field,
            format!("{more}; at most {MAX_CHECKS}, send the rest in another call"),
        )),
    }
}
