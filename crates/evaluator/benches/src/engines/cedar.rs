//! cedar-policy: no schema, no entities; the request's facts stand in its context.
//!
//! "whole" is one policy set of N; "sliced" is one a principal, which Cedar leaves to the application.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::str::FromStr;

use cedar_policy::{
    Authorizer, Context, Decision, Entities, EntityId, EntityTypeName, EntityUid, PolicySet,
    Request, RestrictedExpression,
};

use crate::engine::{Engine, Stopped};
use crate::workload::{ACTIONS, Policy, Query, Workload};

pub const WHOLE: &str = "cedar-policy, whole";
pub const SLICED: &str = "cedar-policy, sliced";
pub const SLICED_FROM_TEXT: &str = "cedar-policy, sliced, building the Request";

pub fn whole(workload: &Workload) -> Box<dyn Engine> {
    let all: Vec<&Policy> = workload.policies.iter().collect();
    let sets = HashMap::new();
    Box::new(Cedar::new(workload, Sets { whole: Some(policy_set(&all)), by_principal: sets }))
}

pub fn sliced(workload: &Workload) -> Box<dyn Engine> {
    Box::new(Cedar::new(workload, slices(workload)))
}

pub fn sliced_from_text(workload: &Workload) -> Box<dyn Engine> {
    let queries = workload.queries.clone();
    Box::new(FromText { sets: slices(workload), names: Names::new(), queries, asker: Asker::new() })
}

fn slices(workload: &Workload) -> Sets {
    let named = |(i, policies): (usize, Vec<&Policy>)| (format!("u{i}"), policy_set(&policies));
    let by_principal = workload.by_principal().into_iter().enumerate().map(named).collect();
    Sets { whole: None, by_principal }
}

fn policy_set(policies: &[&Policy]) -> PolicySet {
    let mut text = String::new();
    for policy in policies {
        let effect = if policy.allows { "permit" } else { "forbid" };
        let actions: Vec<String> =
            policy.actions.iter().map(|a| format!("Action::\"{}\"", ACTIONS[*a])).collect();
        writeln!(
            text,
            "{effect}(principal == User::\"u{}\", action in [{}], resource) when {{ \
             context.path like \"{}\" && context.ip.isInRange(ip(\"{}\")) && context.{} == \"{}\" }};",
            policy.principal,
            actions.join(", "),
            policy.pattern,
            policy.cidr,
            policy.key,
            policy.value
        )
        .expect("a String takes all that is written");
    }
    PolicySet::from_str(&text).expect("the workload's policies are sound Cedar")
}

struct Sets {
    whole: Option<PolicySet>,
    by_principal: HashMap<String, PolicySet>,
}

impl Sets {
    fn of(&self, principal: &str) -> Option<&PolicySet> {
        self.whole.as_ref().or_else(|| self.by_principal.get(principal))
    }
}

/// Cedar's own authorizer, and no entities.
pub struct Asker {
    authorizer: Authorizer,
    entities: Entities,
}

impl Asker {
    pub fn new() -> Self {
        Self { authorizer: Authorizer::new(), entities: Entities::empty() }
    }

    pub fn is_allowed(&self, request: &Request, policies: &PolicySet) -> bool {
        let response = self.authorizer.is_authorized(request, policies, &self.entities);
        response.decision() == Decision::Allow
    }
}

impl Default for Asker {
    fn default() -> Self {
        Self::new()
    }
}

/// Type names, parsed once.
struct Names {
    user: EntityTypeName,
    action: EntityTypeName,
    order: EntityTypeName,
}

impl Names {
    fn new() -> Self {
        let name = |text: &str| text.parse().expect("a type name");
        Self { user: name("User"), action: name("Action"), order: name("Order") }
    }

    fn request(&self, query: &Query) -> Request {
        let uid = |name: &EntityTypeName, id: &str| {
            EntityUid::from_type_name_and_id(name.clone(), EntityId::new(id))
        };
        let text = |value: &str| RestrictedExpression::new_string(value.to_owned());
        let context = Context::from_pairs([
            ("path".to_owned(), text(&query.resource)),
            ("ip".to_owned(), RestrictedExpression::new_ip(&query.ip)),
            ("team".to_owned(), text(&query.team)),
            ("hold".to_owned(), text(&query.hold)),
        ])
        .expect("four keys, all different");
        Request::new(
            uid(&self.user, &query.principal),
            uid(&self.action, query.action),
            uid(&self.order, "o"),
            context,
            None,
        )
        .expect("no schema refuses it")
    }
}

struct Cedar {
    sets: Sets,
    requests: Vec<(String, Request)>,
    asker: Asker,
}

impl Cedar {
    fn new(workload: &Workload, sets: Sets) -> Self {
        let names = Names::new();
        let prepare = |query: &Query| (query.principal.clone(), names.request(query));
        let requests = workload.queries.iter().map(prepare).collect();
        Self { sets, requests, asker: Asker::new() }
    }
}

impl Engine for Cedar {
    fn decide(&mut self, index: usize) -> Result<bool, Stopped> {
        let (principal, request) = &self.requests[index];
        let policies = self.sets.of(principal);
        Ok(policies.is_some_and(|policies| self.asker.is_allowed(request, policies)))
    }
}

struct FromText {
    sets: Sets,
    names: Names,
    queries: Vec<Query>,
    asker: Asker,
}

impl Engine for FromText {
    fn decide(&mut self, index: usize) -> Result<bool, Stopped> {
        let query = &self.queries[index];
        let request = self.names.request(query);
        let policies = self.sets.of(&query.principal);
        Ok(policies.is_some_and(|policies| self.asker.is_allowed(&request, policies)))
    }
}
