//! [`crate::reference::decide`] by the compiled engine: the same arguments, the same verdict.

use std::sync::Arc;

use countersign_policy::Document;

use super::compile::compile;
use super::engine::{self, CompiledAttached, Layer, LayerRef, Policies, Recorder, StatementRef};
use super::program::CompiledPolicy;
use super::request::{Prepared, Query, Scratch, Value};
use crate::context::ContextValue;
use crate::policies::{Attached, PolicySet};
use crate::reference;
use crate::request::{Request, ResourceArn};
use crate::verdict::{Decision, Determining, Verdict};

/// A document, and what it was compiled to.
#[derive(Debug, Clone)]
pub struct Program {
    pub document: Arc<Document>,
    pub policy: Arc<CompiledPolicy>,
}

impl Program {
    #[must_use]
    pub fn new(document: Arc<Document>) -> Self {
        let policy = Arc::new(compile(&document));
        Self { document, policy }
    }
}

/// Decides one request by the policies that bear on it. Documents that are not among the set's programs are compiled here.
#[must_use]
pub fn decide(request: &Request, policies: &PolicySet) -> Verdict {
    let context: Vec<(&str, Value<'_>)> = request
        .context
        .iter()
        .map(|(key, value)| match value {
            ContextValue::One(text) => (key, Value::One(text)),
            ContextValue::Many(texts) => (key, Value::Strings(texts)),
        })
        .collect();
    let query = Query {
        principal: &request.principal,
        action: request.action.as_str(),
        resource: match &request.resource.arn {
            ResourceArn::Any => "*",
            ResourceArn::Arn(arn) => arn.as_str(),
        },
        resource_account: request.resource.account,
        context: &context,
    };
    let mut scratch = Scratch::new();
    match Prepared::new(&query, &mut scratch) {
        Ok(prepared) => decide_prepared(&prepared, policies),
        // Larger than this engine takes.
        Err(_) => reference::decide(request, policies),
    }
}

fn decide_prepared(request: &Prepared<'_>, policies: &PolicySet) -> Verdict {
    let found = |list| programs(policies, list);
    let identity = found(&policies.identity);
    let boundary = policies.boundary.as_deref().map(&found);
    let session = policies.session.as_deref().map(&found);
    let narrowings: Vec<_> = policies.narrowings.iter().map(|one| found(one)).collect();
    let resource = found(policies.resource.as_slice());
    let scps: Vec<_> = policies.scps.iter().map(|level| found(level)).collect();
    let rcps: Vec<_> = policies.rcps.iter().map(|level| found(level)).collect();
    let identity = borrowed(&identity);
    let boundary = boundary.as_deref().map(borrowed);
    let session = session.as_deref().map(borrowed);
    let narrowings: Vec<_> = narrowings.iter().map(|one| borrowed(one)).collect();
    let narrowings: Vec<_> = narrowings.iter().map(|one| Layer::Attached(one)).collect();
    let resource = borrowed(&resource);
    let scps: Vec<_> = scps.iter().map(|level| borrowed(level)).collect();
    let rcps: Vec<_> = rcps.iter().map(|level| borrowed(level)).collect();
    let scps: Vec<_> = scps.iter().map(|level| Layer::Attached(level)).collect();
    let rcps: Vec<_> = rcps.iter().map(|level| Layer::Attached(level)).collect();
    let borrowed = Policies {
        identity: Layer::Attached(&identity),
        boundary: boundary.as_deref().map(Layer::Attached),
        session: session.as_deref().map(Layer::Attached),
        narrowings: &narrowings,
        resource: resource.first().copied(),
        scps: &scps,
        rcps: &rcps,
        missing: !policies.missing.is_empty(),
    };
    let mut lists = Lists::default();
    let (decision, reason) = engine::decide(request, &borrowed, &mut lists);
    let determining = match decision {
        Decision::ExplicitDeny => lists.denied,
        Decision::ImplicitDeny => Vec::new(),
        Decision::Allow => [lists.identity, lists.resource].concat(),
    };
    let determining =
        determining.iter().filter_map(|found| determining_statement(policies, found)).collect();
    Verdict { decision, reason, determining }
}

type Pair<'a> = (&'a Attached, Arc<CompiledPolicy>);

/// Each document's program: the set's, or one made now.
fn programs<'a>(policies: &PolicySet, list: &'a [Attached]) -> Vec<Pair<'a>> {
    let program = |attached: &Attached| {
        policies
            .programs
            .iter()
            .find(|program| Arc::ptr_eq(&program.document, &attached.document))
            .map_or_else(
                || Arc::new(compile(&attached.document)),
                |program| Arc::clone(&program.policy),
            )
    };
    list.iter().map(|attached| (attached, program(attached))).collect()
}

fn borrowed<'b>(pairs: &'b [Pair<'_>]) -> Vec<CompiledAttached<'b>> {
    pairs
        .iter()
        .map(|(attached, policy)| CompiledAttached {
            policy_type: attached.policy_type,
            policy,
            resolved: attached.resolved.as_deref(),
        })
        .collect()
}

#[derive(Debug, Default)]
struct Lists {
    denied: Vec<StatementRef>,
    identity: Vec<StatementRef>,
    resource: Vec<StatementRef>,
}

impl Recorder for Lists {
    fn denied(&mut self, statement: StatementRef) {
        self.denied.push(statement);
    }

    fn allowed_by_identity(&mut self, statement: StatementRef) {
        self.identity.push(statement);
    }

    fn allowed_by_resource(&mut self, statement: StatementRef) {
        self.resource.push(statement);
    }
}

fn determining_statement(policies: &PolicySet, found: &StatementRef) -> Option<Determining> {
    let list = match found.layer {
        LayerRef::Identity => policies.identity.as_slice(),
        LayerRef::Boundary => policies.boundary.as_deref()?,
        LayerRef::Session => policies.session.as_deref()?,
        LayerRef::Resource => policies.resource.as_slice(),
        LayerRef::Scp(level) => policies.scps.get(level as usize)?,
        LayerRef::Rcp(level) => policies.rcps.get(level as usize)?,
        LayerRef::Narrowing(index) => policies.narrowings.get(index as usize)?,
    };
    let attached = list.get(found.policy as usize)?;
    let statement = attached.document.statements().get(found.statement as usize)?;
    Some(Determining {
        policy_type: attached.policy_type,
        policy: Arc::clone(&attached.name),
        version_id: attached.version_id.clone(),
        sid: statement.sid.as_ref().map(|sid| sid.value.clone()),
        index: statement.index,
        pointer: statement.pointer.clone(),
    })
}
