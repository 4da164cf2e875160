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

/// A request as it comes in: one buffer, and where its texts end.
struct Message {
    buffer: Box<str>,
    ends: [u32; 6],
}

impl Message {
    fn new(text: &Text) -> Self {
        let [(_, ip), (_, team), (_, hold)] = text.context.as_slice() else {
            unreachable!("a request of orders has three keys");
        };
        let mut buffer = String::new();
        let ends = [&text.principal, &text.action, &text.resource, ip, team, hold].map(|part| {
            buffer.push_str(part);
            u32::try_from(buffer.len()).expect("a short request")
        });
        Self { buffer: buffer.into_boxed_str(), ends }
    }

    fn texts(&self) -> [&str; 6] {
        let mut start = 0;
        self.ends.map(|end| {
            let text = &self.buffer[start..end as usize];
            start = end as usize;
            text
        })
    }
}

/// A principal's name in the map itself, as the floor's keys are.
#[derive(PartialEq, Eq, Hash)]
struct Name([u8; 24]);

impl Name {
    fn new(text: &str) -> Option<Self> {
        let mut name = [0; 24];
        name.get_mut(..text.len())?.copy_from_slice(text.as_bytes());
        Some(Self(name))
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
            let entry = CompiledEntry { principal: principal(&name), identity };
            (Name::new(&name).expect("a short name"), entry)
        })
        .collect();
    let messages = workload.queries.iter().map(|query| Message::new(&Text::from(query))).collect();
    Box::new(Compiled { by_principal, messages, account: account() })
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
    by_principal: HashMap<Name, CompiledEntry>,
    messages: Vec<Message>,
    account: AccountId,
}

impl Engine for Compiled {
    fn decide(&mut self, index: usize) -> Result<bool, Stopped> {
        let [principal, action, resource, ip, team, hold] = self.messages[index].texts();
        let entry = Name::new(principal).and_then(|name| self.by_principal.get(&name));
        let Some(entry) = entry else { return Ok(false) };
        let context = [
            ("aws:SourceIp", Value::One(ip)),
            ("order:team", Value::One(team)),
            ("order:hold", Value::One(hold)),
        ];
        let question = Question {
            principal: &entry.principal,
            action,
            resource,
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
