//! Countersign's engines. They are timed from text: nothing of a request is prepared.

use std::collections::HashMap;
use std::sync::Arc;

use countersign_evaluator::compiled::{
    self, CompiledSet, Layer, Policies, Query as Question, Value,
};
use countersign_evaluator::{
    Attached, Context, PolicySet, PolicyType, Principal, Request, Resource,
};
use countersign_policy::arn::AccountId;
use countersign_policy::parse::parse;

use crate::engine::{Engine, Stopped};
use crate::workload::{ACTIONS, Policy, Query, Workload};

pub const REFERENCE: &str = "Countersign (reference)";
pub const COMPILED: &str = "Countersign (compiled)";

const ACCOUNT: &str = "111122223333";

/// The policy as IAM's JSON.
pub fn document(policy: &Policy) -> String {
    let effect = if policy.allows { "Allow" } else { "Deny" };
    let actions = policy.actions.map(|action| format!("\"order:{}\"", ACTIONS[action]));
    format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"{effect}","Action":[{}],"Resource":"{}","Condition":{{"IpAddress":{{"aws:SourceIp":"{}"}},"StringEquals":{{"order:{}":"{}"}}}}}}]}}"#,
        actions.join(","),
        resource(&policy.pattern),
        policy.cidr,
        policy.key,
        policy.value
    )
}

pub fn resource(path: &str) -> String {
    format!("arn:cs:order:::{path}")
}

/// As the raw text of a request comes in.
pub struct Text {
    pub principal: String,
    /// `order:GetOrder`
    pub action: String,
    /// An ARN.
    pub resource: String,
    /// Keys and values.
    pub context: Vec<(&'static str, String)>,
}

impl From<&Query> for Text {
    fn from(query: &Query) -> Self {
        Self {
            principal: query.principal.clone(),
            action: format!("order:{}", query.action),
            resource: resource(&query.resource),
            context: vec![
                ("aws:SourceIp", query.ip.clone()),
                ("order:team", query.team.clone()),
                ("order:hold", query.hold.clone()),
            ],
        }
    }
}

/// A user of the workload's account.
pub fn principal(name: &str) -> Principal {
    let arn = format!("arn:aws:iam::{ACCOUNT}:user/{name}").parse().expect("a user's ARN");
    Principal::User { arn, unique_id: Some(format!("AIDA{name}")) }
}

pub fn attached(policy_type: PolicyType, name: &str, text: &str) -> Attached {
    Attached {
        policy_type,
        name: Arc::from(name),
        version_id: None,
        document: Arc::new(parse(text).expect("a sound document")),
        resolved: None,
    }
}

/// What the store has of one principal.
pub struct Entry {
    pub principal: Principal,
    pub policies: PolicySet,
}

pub fn entries(workload: &Workload) -> HashMap<String, Entry> {
    let entry = |(i, own): (usize, Vec<&Policy>)| {
        let name = format!("u{i}");
        let identity = own
            .into_iter()
            .enumerate()
            .map(|(k, policy)| attached(PolicyType::Identity, &format!("p{k}"), &document(policy)))
            .collect();
        let entry = Entry {
            principal: principal(&name),
            policies: PolicySet { identity, ..PolicySet::default() },
        };
        (name, entry)
    };
    workload.by_principal().into_iter().enumerate().map(entry).collect()
}

/// Parses everything a request has.
pub fn request(text: &Text, principal: &Principal) -> Option<Request> {
    let mut context = Context::new();
    for (key, value) in &text.context {
        context.insert(*key, value.as_str()).ok()?;
    }
    Some(Request {
        principal: principal.clone(),
        action: text.action.parse().ok()?,
        resource: Resource { arn: text.resource.parse().ok()?, account: ACCOUNT.parse().ok() },
        context,
    })
}

pub fn reference(workload: &Workload) -> Box<dyn Engine> {
    let texts = workload.queries.iter().map(Text::from).collect();
    Box::new(Reference { entries: entries(workload), texts })
}

struct Reference {
    entries: HashMap<String, Entry>,
    texts: Vec<Text>,
}

impl Engine for Reference {
    fn decide(&mut self, index: usize) -> Result<bool, Stopped> {
        let text = &self.texts[index];
        let Some(entry) = self.entries.get(&text.principal) else { return Ok(false) };
        let request = request(text, &entry.principal)
            .ok_or_else(|| Stopped("the request cannot be read".to_owned()))?;
        Ok(countersign_evaluator::reference::decide(&request, &entry.policies).is_allow())
    }
}

pub fn compiled(workload: &Workload) -> Box<dyn Engine> {
    let by_principal = workload
        .by_principal()
        .into_iter()
        .enumerate()
        .map(|(i, own)| {
            let name = format!("u{i}");
            let policies = own.into_iter().map(|policy| compile(&document(policy))).collect();
            let identity = CompiledSet::new(policies);
            (name.clone(), CompiledEntry { principal: principal(&name), identity })
        })
        .collect();
    let texts = workload.queries.iter().map(Text::from).collect();
    Box::new(Compiled { by_principal, texts, account: account() })
}

pub fn account() -> AccountId {
    ACCOUNT.parse().expect("twelve digits")
}

/// The document is dropped: only what it was compiled to is kept.
pub fn compile(text: &str) -> Arc<compiled::CompiledPolicy> {
    Arc::new(compiled::compile(&parse(text).expect("a sound document")))
}

struct CompiledEntry {
    principal: Principal,
    identity: CompiledSet,
}

struct Compiled {
    by_principal: HashMap<String, CompiledEntry>,
    texts: Vec<Text>,
    account: AccountId,
}

impl Engine for Compiled {
    fn decide(&mut self, index: usize) -> Result<bool, Stopped> {
        let text = &self.texts[index];
        let Some(entry) = self.by_principal.get(&text.principal) else { return Ok(false) };
        let [(a, x), (b, y), (c, z)] = text.context.as_slice() else {
            return Err(Stopped("a request of orders has three keys".to_owned()));
        };
        let context = [(*a, Value::One(x)), (*b, Value::One(y)), (*c, Value::One(z))];
        let question = Question {
            principal: &entry.principal,
            action: &text.action,
            resource: &text.resource,
            resource_account: Some(self.account),
            context: &context,
        };
        let identity = Layer::Set(PolicyType::Identity, &entry.identity);
        let policies = Policies { identity, ..Policies::default() };
        let outcome = compiled::evaluate(&question, &policies)
            .map_err(|invalid| Stopped(invalid.to_string()))?;
        Ok(outcome.decision == countersign_evaluator::Decision::Allow)
    }
}
