//! A realistic world: a role's session with ten managed policies of AWS's own length, five conditions a statement, a permissions
//! boundary, control policies at two levels and a session policy; and Cedar with the same ten policies, and nothing else.
//!
//! The limits allow all that is asked, so that the ten policies alone decide, and both give the same answer.

use std::str::FromStr;

use cedar_policy::{
    Context, EntityId, EntityTypeName, EntityUid, PolicySet as CedarPolicies,
    Request as CedarRequest, RestrictedExpression,
};
use countersign_evaluator::compiled::{
    self, CompiledSet, Layer, Policies, Query as Question, Value,
};
use countersign_evaluator::{Decision, PolicySet, PolicyType, Principal, Session};

use crate::engine::{Engine, Stopped};
use crate::engines::cedar::Asker;
use crate::engines::ours::{self, Text, attached};
use crate::rng::SplitMix64;

const SERVICES: [&str; 5] = ["order", "cart", "stock", "bill", "mail"];
const VERBS: [&str; 6] = ["Get", "List", "Create", "Update", "Delete", "Tag"];
const NOUNS: [&str; 4] = ["Item", "Batch", "Report", "Rule"];
const POLICIES: usize = 10;
const REQUESTS: usize = 4_096;

pub const CEDAR: &str = "cedar-policy, the ten policies alone";
pub const CEDAR_FROM_TEXT: &str = "cedar-policy, the ten policies alone, building the Request";
pub const REFERENCE: &str = "Countersign (reference), all policies";
pub const COMPILED: &str = "Countersign (compiled), all policies";

/// One statement, before it is written in either language. Five conditions follow from its numbers.
struct Statement {
    allows: bool,
    service: &'static str,
    /// `Get*`, or whole names.
    names: Vec<String>,
    /// After `arn:cs:SERVICE:eu-central-1:111122223333:`.
    resources: Vec<String>,
    cidr: String,
    team: String,
    stage: String,
    most: usize,
}

/// What is asked.
struct Facts {
    service: &'static str,
    name: String,
    resource: String,
    ip: String,
    team: String,
    stage: String,
    secure: bool,
    size: usize,
}

pub struct World {
    policies: Vec<Vec<Statement>>,
    facts: Vec<Facts>,
}

impl World {
    pub fn new() -> Self {
        let policies: Vec<Vec<Statement>> =
            (0..POLICIES).map(|p| (0..10).map(|s| statement(p, s)).collect()).collect();
        let mut rng = SplitMix64::new(0x5EED);
        let facts = (0..REQUESTS).map(|k| ask(&policies, k, &mut rng)).collect();
        Self { policies, facts }
    }

    pub fn requests(&self) -> usize {
        self.facts.len()
    }

    /// Characters of the longest of the ten.
    pub fn longest(&self) -> usize {
        self.documents().iter().map(String::len).max().unwrap_or_default()
    }

    fn documents(&self) -> Vec<String> {
        self.policies.iter().map(|statements| document(statements)).collect()
    }

    fn cedar_text(&self) -> String {
        self.policies.iter().flatten().map(cedar).collect()
    }

    pub fn reference(&self) -> Box<dyn Engine> {
        let texts = self.facts.iter().map(text).collect();
        Box::new(Reference { principal: session(), policies: self.policy_set(), texts })
    }

    pub fn compiled(&self) -> Box<dyn Engine> {
        let one = |text: &str| CompiledSet::new(vec![ours::compile(text)]);
        let documents = self.documents();
        Box::new(Compiled {
            principal: session(),
            identity: CompiledSet::new(documents.iter().map(|text| ours::compile(text)).collect()),
            boundary: one(BOUNDARY),
            session: one(SESSION),
            scps: [one(FULL_ACCESS), one(REGIONS)],
            texts: self.facts.iter().map(text).collect(),
        })
    }

    pub fn cedar(&self) -> Box<dyn Engine> {
        let requests = self.facts.iter().map(cedar_request).collect();
        Box::new(Cedar { policies: self.cedar_policies(), requests, asker: Asker::new() })
    }

    pub fn cedar_from_text(self) -> Box<dyn Engine> {
        let policies = self.cedar_policies();
        Box::new(CedarFromText { policies, facts: self.facts, asker: Asker::new() })
    }

    fn cedar_policies(&self) -> CedarPolicies {
        CedarPolicies::from_str(&self.cedar_text()).expect("sound Cedar")
    }

    fn policy_set(&self) -> PolicySet {
        let identity = self
            .documents()
            .iter()
            .enumerate()
            .map(|(i, text)| attached(PolicyType::Identity, &format!("p{i}"), text))
            .collect();
        let one = |policy_type, text: &str| vec![attached(policy_type, "limit", text)];
        PolicySet {
            identity,
            boundary: Some(one(PolicyType::Boundary, BOUNDARY)),
            session: Some(one(PolicyType::Session, SESSION)),
            scps: vec![one(PolicyType::Scp, FULL_ACCESS), one(PolicyType::Scp, REGIONS)],
            ..PolicySet::default()
        }
    }
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

const FULL_ACCESS: &str =
    r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}"#;

/// After AWS's example of a control policy for regions.
const REGIONS: &str = r#"{"Version":"2012-10-17","Statement":[
  {"Effect":"Allow","Action":"*","Resource":"*"},
  {"Sid":"OtherRegions","Effect":"Deny","NotAction":["iam:*","sts:*","support:*"],"Resource":"*",
   "Condition":{"StringNotEquals":{"aws:RequestedRegion":["eu-central-1","eu-west-1"]},
                "ArnNotLike":{"aws:PrincipalArn":["arn:aws:iam::*:role/Break-Glass"]}}},
  {"Sid":"Trail","Effect":"Deny","Action":["audit:Stop*","audit:Delete*"],"Resource":"*"}]}"#;

const BOUNDARY: &str = r#"{"Version":"2012-10-17","Statement":[
  {"Sid":"Own","Effect":"Allow","Action":["order:*","cart:*","stock:*","bill:*","mail:*"],
   "Resource":"arn:cs:*:*:111122223333:*"},
  {"Sid":"NoIdentities","Effect":"Deny","Action":["iam:*","organizations:*"],"Resource":"*"},
  {"Sid":"OverTls","Effect":"Deny","Action":"*","Resource":"arn:cs:vault:*:111122223333:*",
   "Condition":{"Bool":{"aws:SecureTransport":"false"}}}]}"#;

const SESSION: &str = r#"{"Version":"2012-10-17","Statement":[
  {"Effect":"Allow","Action":["order:*","cart:*","stock:*","bill:*","mail:*"],"Resource":"*"}]}"#;

fn statement(p: usize, s: usize) -> Statement {
    let service = SERVICES[(p + s) % SERVICES.len()];
    let k = p * 10 + s;
    let name = |i: usize| format!("{}{}", VERBS[i % 6], NOUNS[(i / 2 + p) % 4]);
    let names = if s.is_multiple_of(3) {
        vec![format!("{}*", VERBS[k % 6]), name(k + 1), name(k + 2)]
    } else {
        (0..6).map(|i| name(k + i)).collect()
    };
    Statement {
        allows: s != 9,
        service,
        names,
        resources: vec![
            format!("item/p{k}-*"),
            format!("item/*/archive-{k}/*"),
            format!("batch/{k}/*/part-*"),
        ],
        cidr: format!("10.{k}.0.0/16"),
        team: if s == 9 { "nobody".to_owned() } else { format!("team-{}", k % 4) },
        stage: format!("prod-{}-*", k % 3),
        most: 1_000 + k,
    }
}

fn document(statements: &[Statement]) -> String {
    let list = |texts: Vec<String>| format!("[\"{}\"]", texts.join("\",\""));
    let one = |(i, s): (usize, &Statement)| {
        let actions = list(s.names.iter().map(|name| format!("{}:{name}", s.service)).collect());
        let resources = list(s.resources.iter().map(|path| arn(s.service, path)).collect());
        format!(
            r#"{{"Sid":"S{i}","Effect":"{}","Action":{actions},"Resource":{resources},"Condition":{{"IpAddress":{{"aws:SourceIp":"{}"}},"StringEquals":{{"aws:PrincipalTag/team":"{}"}},"StringLike":{{"app:stage":"{}"}},"Bool":{{"aws:SecureTransport":"true"}},"NumericLessThanEquals":{{"app:size":"{}"}}}}}}"#,
            if s.allows { "Allow" } else { "Deny" },
            s.cidr,
            s.team,
            s.stage,
            s.most
        )
    };
    let all: Vec<String> = statements.iter().enumerate().map(one).collect();
    format!(r#"{{"Version":"2012-10-17","Statement":[{}]}}"#, all.join(","))
}

fn arn(service: &str, path: &str) -> String {
    format!("arn:cs:{service}:eu-central-1:111122223333:{path}")
}

/// Cedar has no wildcards in actions: they are written out.
fn cedar(s: &Statement) -> String {
    let mut actions: Vec<String> = Vec::new();
    for pattern in &s.names {
        match pattern.strip_suffix('*') {
            Some(verb) => actions.extend(NOUNS.iter().map(|noun| format!("{verb}{noun}"))),
            None => actions.push(pattern.clone()),
        }
    }
    let actions: Vec<String> =
        actions.iter().map(|name| format!("Action::\"{}:{name}\"", s.service)).collect();
    let paths: Vec<String> = s
        .resources
        .iter()
        .map(|path| format!("context.path like \"{}\"", arn(s.service, path)))
        .collect();
    format!(
        "{}(principal == Role::\"App\", action in [{}], resource) when {{ ({}) && \
         context.ip.isInRange(ip(\"{}\")) && context.team == \"{}\" && context.stage like \"{}\" && \
         context.secure == true && context.size <= {} }};\n",
        if s.allows { "permit" } else { "forbid" },
        actions.join(", "),
        paths.join(" || "),
        s.cidr,
        s.team,
        s.stage,
        s.most
    )
}

/// An even one is allowed; in an odd one a single thing is otherwise.
fn ask(policies: &[Vec<Statement>], k: usize, rng: &mut SplitMix64) -> Facts {
    let statement = &policies[rng.below(POLICIES)][rng.below(9)];
    let number = statement.most - 1_000;
    let name = match rng.pick(&statement.names).strip_suffix('*') {
        Some(verb) => format!("{verb}{}", rng.pick(&NOUNS)),
        None => statement.names[statement.names.len() - 1].clone(),
    };
    let some = rng.below(100_000);
    let path = match rng.below(3) {
        0 => format!("item/p{number}-{some}"),
        1 => format!("item/{some}/archive-{number}/x"),
        _ => format!("batch/{number}/{some}/part-7"),
    };
    let mut facts = Facts {
        service: statement.service,
        name,
        resource: arn(statement.service, &path),
        ip: format!("10.{number}.{}.{}", rng.below(256), rng.below(256)),
        team: statement.team.clone(),
        stage: statement.stage.replace('*', "blue"),
        secure: true,
        size: rng.below(1_000),
    };
    let otherwise = rng.below(7);
    if k % 2 == 1 {
        match otherwise {
            0 => facts.name = "PurgeItem".to_owned(),
            1 => facts.resource = arn(facts.service, &format!("item/q{number}-{some}")),
            2 => facts.ip = "192.168.1.1".to_owned(),
            3 => facts.team = "team-9".to_owned(),
            4 => facts.stage = "test".to_owned(),
            5 => facts.secure = false,
            _ => facts.size = 5_000,
        }
    }
    facts
}

fn text(facts: &Facts) -> Text {
    Text {
        principal: "App".to_owned(),
        action: format!("{}:{}", facts.service, facts.name),
        resource: facts.resource.clone(),
        context: vec![
            ("aws:SourceIp", facts.ip.clone()),
            ("aws:PrincipalTag/team", facts.team.clone()),
            ("app:stage", facts.stage.clone()),
            ("aws:SecureTransport", facts.secure.to_string()),
            ("app:size", facts.size.to_string()),
            ("aws:RequestedRegion", "eu-central-1".to_owned()),
            ("aws:PrincipalArn", "arn:aws:iam::111122223333:role/App".to_owned()),
        ],
    }
}

fn session() -> Principal {
    let account = "111122223333".parse().expect("an account");
    let role = "arn:aws:iam::111122223333:role/App".parse().expect("a role's ARN");
    Principal::Session(Session::new(
        "aws",
        account,
        "App",
        Some(role),
        "s1",
        Some("AROAAPP".to_owned()),
    ))
}

fn cedar_request(facts: &Facts) -> CedarRequest {
    let uid = |kind: &str, id: &str| {
        let name: EntityTypeName = kind.parse().expect("a type name");
        EntityUid::from_type_name_and_id(name, EntityId::new(id))
    };
    let text = |value: &str| RestrictedExpression::new_string(value.to_owned());
    let context = Context::from_pairs([
        ("path".to_owned(), text(&facts.resource)),
        ("ip".to_owned(), RestrictedExpression::new_ip(&facts.ip)),
        ("team".to_owned(), text(&facts.team)),
        ("stage".to_owned(), text(&facts.stage)),
        ("secure".to_owned(), RestrictedExpression::new_bool(facts.secure)),
        ("size".to_owned(), RestrictedExpression::new_long(facts.size as i64)),
    ])
    .expect("keys are all different");
    let action = format!("{}:{}", facts.service, facts.name);
    let resource = uid("Thing", "t");
    CedarRequest::new(uid("Role", "App"), uid("Action", &action), resource, context, None)
        .expect("no schema refuses it")
}

struct Reference {
    principal: Principal,
    policies: PolicySet,
    texts: Vec<Text>,
}

impl Engine for Reference {
    fn decide(&mut self, index: usize) -> Result<bool, Stopped> {
        let request = ours::request(&self.texts[index], &self.principal)
            .ok_or_else(|| Stopped("the request cannot be read".to_owned()))?;
        Ok(countersign_evaluator::reference::decide(&request, &self.policies).is_allow())
    }
}

struct Compiled {
    principal: Principal,
    identity: CompiledSet,
    boundary: CompiledSet,
    session: CompiledSet,
    scps: [CompiledSet; 2],
    texts: Vec<Text>,
}

impl Engine for Compiled {
    fn decide(&mut self, index: usize) -> Result<bool, Stopped> {
        let text = &self.texts[index];
        let mut context = [("", Value::One("")); 7];
        for (slot, (key, value)) in context.iter_mut().zip(&text.context) {
            *slot = (*key, Value::One(value));
        }
        let question = Question {
            principal: &self.principal,
            action: &text.action,
            resource: &text.resource,
            resource_account: Some(ours::account()),
            context: &context,
        };
        let scps = self.scps.each_ref().map(|level| Layer::Set(PolicyType::Scp, level));
        let policies = Policies {
            identity: Layer::Set(PolicyType::Identity, &self.identity),
            boundary: Some(Layer::Set(PolicyType::Boundary, &self.boundary)),
            session: Some(Layer::Set(PolicyType::Session, &self.session)),
            scps: &scps,
            ..Policies::default()
        };
        let outcome = compiled::evaluate(&question, &policies)
            .map_err(|invalid| Stopped(invalid.to_string()))?;
        Ok(outcome.decision == Decision::Allow)
    }
}

struct Cedar {
    policies: CedarPolicies,
    requests: Vec<CedarRequest>,
    asker: Asker,
}

impl Engine for Cedar {
    fn decide(&mut self, index: usize) -> Result<bool, Stopped> {
        Ok(self.asker.is_allowed(&self.requests[index], &self.policies))
    }
}

struct CedarFromText {
    policies: CedarPolicies,
    facts: Vec<Facts>,
    asker: Asker,
}

impl Engine for CedarFromText {
    fn decide(&mut self, index: usize) -> Result<bool, Stopped> {
        let request = cedar_request(&self.facts[index]);
        Ok(self.asker.is_allowed(&request, &self.policies))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use countersign_policy::findings::{DocumentKind, check};

    #[test]
    fn the_documents_could_be_stored() {
        for text in World::new().documents() {
            let checked = check(&text, DocumentKind::ManagedPolicy).unwrap();
            assert!(text.len() > 5_000, "{} is not AWS's length", text.len());
            assert!(
                checked.warnings.iter().all(|w| w.code == "RedundantAction"),
                "{:?}",
                checked.warnings
            );
        }
        for (text, kind) in [
            (FULL_ACCESS, DocumentKind::ServiceControlPolicy),
            (REGIONS, DocumentKind::ServiceControlPolicy),
            (BOUNDARY, DocumentKind::PermissionsBoundary),
            (SESSION, DocumentKind::SessionPolicy),
        ] {
            check(text, kind).unwrap();
        }
    }

    #[test]
    fn both_engines_agree_and_half_is_allowed() {
        let world = World::new();
        let (mut ours, mut cedar) = (world.reference(), world.cedar());
        let mut compiled = world.compiled();
        let mut allowed = 0;
        for index in 0..1_000 {
            let found = ours.decide(index).unwrap();
            assert_eq!(found, cedar.decide(index).unwrap(), "{index}");
            assert_eq!(found, compiled.decide(index).unwrap(), "{index}");
            allowed += usize::from(found);
        }
        assert_eq!(allowed, 500);
    }
}
