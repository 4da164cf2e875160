//! Generated worlds: policies of every type and requests that touch them, from one number.
//!
//! The pools are small and full of near misses, so that elements match often; values are odd more often than in life.
#![allow(dead_code, reason = "each test file uses its own part")]

mod pools;

use std::sync::Arc;

use countersign_evaluator::{
    Attached, Context, ContextValue, ExternalPrincipal, PolicySet, PolicyType, Principal, Realm,
    Request, Resolved, Resource, Session,
};
use countersign_policy::condition::Comparison;
use countersign_policy::parse::parse;

use pools::*;

/// SplitMix64.
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = self.0;
        let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }

    pub fn shuffle<T>(&mut self, list: &mut [T]) {
        for i in (1..list.len()).rev() {
            list.swap(i, self.below(i + 1));
        }
    }
}

fn values_for(comparison: Comparison) -> &'static [&'static str] {
    use Comparison as C;
    match comparison {
        C::StringEquals
        | C::StringNotEquals
        | C::StringEqualsIgnoreCase
        | C::StringNotEqualsIgnoreCase
        | C::StringLike
        | C::StringNotLike => TEXTS,
        C::NumericEquals
        | C::NumericNotEquals
        | C::NumericLessThan
        | C::NumericLessThanEquals
        | C::NumericGreaterThan
        | C::NumericGreaterThanEquals => NUMBERS,
        C::DateEquals
        | C::DateNotEquals
        | C::DateLessThan
        | C::DateLessThanEquals
        | C::DateGreaterThan
        | C::DateGreaterThanEquals => DATES,
        C::Bool | C::Null => BOOLS,
        C::BinaryEquals => BINARIES,
        C::IpAddress | C::NotIpAddress => ADDRESSES,
        C::ArnEquals | C::ArnLike | C::ArnNotEquals | C::ArnNotLike => ARNS,
    }
}

const ALL_VALUES: &[&[&str]] = &[TEXTS, NUMBERS, DATES, BOOLS, ADDRESSES, BINARIES, ARNS];

fn key_for(rng: &mut Rng, comparison: Comparison) -> &'static str {
    let values = values_for(comparison);
    let fits: &[(&[&str], &[&str])] = &[
        (NUMBERS, &["a:n", "A:N"]),
        (DATES, &["a:d"]),
        (BOOLS, &["a:b", "a:k", "a:none"]),
        (BINARIES, &["a:bin"]),
        (ADDRESSES, &["a:ip", "aws:SourceIp"]),
        (ARNS, &["a:arn"]),
        (TEXTS, &["a:k", "a:name", "aws:TagKeys"]),
    ];
    let own = fits.iter().find(|(pool, _)| std::ptr::eq(*pool, values));
    match own {
        Some((_, keys)) if !rng.one_in(6) => rng.pick(keys),
        _ => rng.pick(KEYS),
    }
}

fn list(rng: &mut Rng, most: usize, mut one: impl FnMut(&mut Rng) -> String) -> String {
    let count = 1 + rng.below(most);
    let items: Vec<String> = (0..count).map(|_| format!("{:?}", one(rng))).collect();
    if count == 1 { items[0].clone() } else { format!("[{}]", items.join(",")) }
}

fn resource_pattern(rng: &mut Rng) -> String {
    if rng.one_in(5) {
        return "*".to_owned();
    }
    let mut text = rng.pick(PREFIXES).to_owned();
    for _ in 0..1 + rng.below(4) {
        text.push_str(rng.pick(PIECES));
    }
    text
}

fn condition(rng: &mut Rng) -> String {
    let mut operators: Vec<String> = Vec::new();
    let mut blocks = Vec::new();
    for _ in 0..1 + rng.below(2) {
        let comparison = if rng.one_in(4) {
            Comparison::StringEquals
        } else {
            Comparison::ALL[rng.below(Comparison::ALL.len())]
        };
        let is_null = comparison == Comparison::Null;
        let set = match rng.below(6) {
            0 if !is_null => "ForAllValues:",
            1 if !is_null => "ForAnyValue:",
            _ => "",
        };
        let if_exists = if !is_null && rng.one_in(4) { "IfExists" } else { "" };
        let operator = format!("{set}{}{if_exists}", comparison.name());
        if operators.contains(&operator) {
            continue;
        }
        let key = key_for(rng, comparison);
        let pool = values_for(comparison);
        let values = list(rng, 2, |rng| rng.pick(pool).to_owned());
        blocks.push(format!("\"{operator}\":{{\"{key}\":{values}}}"));
        operators.push(operator);
    }
    format!(",\"Condition\":{{{}}}", blocks.join(","))
}

const USER: &str = "arn:aws:iam::111122223333:user/alice";
const USER_WITH_PATH: &str = "arn:aws:iam::111122223333:user/team/alice";
const ROLE: &str = "arn:aws:iam::111122223333:role/team/App";
const SESSION: &str = "arn:aws:sts::111122223333:assumed-role/App/s1";
const EXTERNAL_USER: &str = "arn:aws:iam::999988887777:user/eve";
const PROVIDER: &str = "arn:aws:iam::111122223333:oidc-provider/idp.example.com/a";
const EXTERNAL_SESSION: &str = "arn:aws:sts::999988887777:assumed-role/Ext/s1";
const EXTERNAL_ROLE: &str = "arn:aws:iam::999988887777:role/Ext";

const NAMED: &[&str] = &[
    "*",
    "111122223333",
    "444455556666",
    "999988887777",
    "arn:aws:iam::111122223333:root",
    "arn:aws:iam::999988887777:root",
    USER,
    USER,
    USER_WITH_PATH,
    ROLE,
    ROLE,
    SESSION,
    "arn:aws:iam::111122223333:role/App",
    "arn:aws:sts::111122223333:assumed-role/App/s2",
    EXTERNAL_USER,
    EXTERNAL_SESSION,
    EXTERNAL_ROLE,
    "arn:aws:iam::999988887777:role/p/Ext",
    "arn:aws:sts::111122223333:federated-user/alice",
    "AIDAGONE",
];

fn principal(rng: &mut Rng) -> String {
    let not = if rng.one_in(5) { "Not" } else { "" };
    if rng.one_in(6) && not.is_empty() {
        return ",\"Principal\":\"*\"".to_owned();
    }
    let mut members = vec![format!("\"AWS\":{}", list(rng, 3, |rng| rng.pick(NAMED).to_owned()))];
    if rng.one_in(3) {
        let services = ["orders.amazonaws.com", "ec2.amazonaws.com", "Orders.amazonaws.com"];
        members.push(format!("\"Service\":{}", list(rng, 1, |rng| rng.pick(&services).to_owned())));
    }
    if rng.one_in(12) {
        let providers = [
            "cognito-identity.amazonaws.com",
            PROVIDER,
            "arn:aws:iam::777788889999:oidc-provider/idp.example.com/a",
        ];
        members.push(format!("\"Federated\":\"{}\"", rng.pick(&providers)));
    }
    format!(",\"{not}Principal\":{{{}}}", members.join(","))
}

pub fn statement(rng: &mut Rng, policy_type: PolicyType) -> String {
    let effect = if rng.one_in(5) { "Deny" } else { "Allow" };
    let not_action = if rng.one_in(6) { "Not" } else { "" };
    let mut text = format!("{{\"Effect\":\"{effect}\",\"{not_action}Action\":");
    let most = if rng.one_in(40) { 20 } else { 3 };
    text.push_str(&list(rng, most, |rng| rng.pick(ACTIONS).to_owned()));
    let has_principal =
        matches!(policy_type, PolicyType::Resource | PolicyType::Trust | PolicyType::Rcp);
    let (is_odd, is_bare) = (rng.one_in(30), rng.one_in(30));
    if (policy_type != PolicyType::Trust || rng.one_in(5)) && !is_bare {
        let not_resource = if rng.one_in(6) { "Not" } else { "" };
        text.push_str(&format!(",\"{not_resource}Resource\":"));
        text.push_str(&list(rng, 2, resource_pattern));
    }
    if has_principal != is_odd {
        text.push_str(&principal(rng));
    }
    if rng.one_in(2) {
        text.push_str(&condition(rng));
    }
    text.push('}');
    text
}

/// A policy as texts, so that its statements can be put in another order.
#[derive(Clone)]
pub struct Policy {
    pub policy_type: PolicyType,
    pub version: &'static str,
    pub statements: Vec<String>,
    pub resolved: Vec<(String, Resolved)>,
}

impl Policy {
    pub fn new(rng: &mut Rng, policy_type: PolicyType, most: usize) -> Self {
        let version = if rng.one_in(12) { "" } else { "\"Version\":\"2012-10-17\"," };
        // What the reader refuses never becomes a policy.
        let mut statements: Vec<String> =
            (0..1 + rng.below(most)).map(|_| statement(rng, policy_type)).collect();
        statements.retain(|one| read(version, std::slice::from_ref(one)).is_some());
        let has_principals =
            matches!(policy_type, PolicyType::Resource | PolicyType::Trust | PolicyType::Rcp);
        let resolved = if has_principals && rng.one_in(2) { resolutions(rng) } else { Vec::new() };
        Self { policy_type, version, statements, resolved }
    }

    pub fn attached(&self, name: &str) -> Attached {
        let document = read(self.version, &self.statements).unwrap();
        let resolved =
            (!self.resolved.is_empty()).then(|| Arc::new(self.resolved.iter().cloned().collect()));
        Attached {
            policy_type: self.policy_type,
            name: Arc::from(name),
            version_id: None,
            document: Arc::new(document),
            resolved,
        }
    }
}

fn read(version: &str, statements: &[String]) -> Option<countersign_policy::Document> {
    parse(&format!("{{{version}\"Statement\":[{}]}}", statements.join(","))).ok()
}

fn resolutions(rng: &mut Rng) -> Vec<(String, Resolved)> {
    let ids = ["AIDAALICE", "AROAAPP", "AIDAEVE", "AROAEXT", "AIDAOTHER"];
    let mut found = Vec::new();
    for text in NAMED {
        if rng.one_in(4) {
            continue;
        }
        let is_external = text.contains("999988887777") != rng.one_in(10);
        let unique_id = match () {
            () if rng.one_in(6) => None,
            () if rng.one_in(6) => Some(rng.pick(&ids)),
            () if text.contains("alice") => Some("AIDAALICE"),
            () if text.contains("App") => Some("AROAAPP"),
            () if text.contains("eve") => Some("AIDAEVE"),
            () if text.contains("Ext") => Some("AROAEXT"),
            () => None,
        };
        let realm = if is_external { Realm::Aws } else { Realm::Countersign };
        found.push((
            (*text).to_owned(),
            Resolved { realm, unique_id: unique_id.map(str::to_owned) },
        ));
    }
    found
}

/// All policies of a world.
#[derive(Clone)]
pub struct World {
    pub identity: Vec<Policy>,
    pub boundary: Option<Vec<Policy>>,
    pub session: Option<Vec<Policy>>,
    pub narrowings: Vec<Vec<Policy>>,
    pub resource: Option<Policy>,
    pub scps: Vec<Vec<Policy>>,
    pub rcps: Vec<Vec<Policy>>,
    pub missing: bool,
}

fn policies(rng: &mut Rng, policy_type: PolicyType, most: usize) -> Vec<Policy> {
    (0..rng.below(most + 1)).map(|_| Policy::new(rng, policy_type, 3)).collect()
}

impl World {
    pub fn new(rng: &mut Rng) -> Self {
        let resource_type = if rng.one_in(2) { PolicyType::Resource } else { PolicyType::Trust };
        Self {
            identity: policies(rng, PolicyType::Identity, 3),
            boundary: rng.one_in(4).then(|| policies(rng, PolicyType::Boundary, 2)),
            session: rng.one_in(4).then(|| policies(rng, PolicyType::Session, 2)),
            narrowings: if rng.one_in(8) {
                (0..=rng.below(2)).map(|_| policies(rng, PolicyType::Session, 2)).collect()
            } else {
                Vec::new()
            },
            resource: rng.one_in(2).then(|| Policy::new(rng, resource_type, 4)),
            scps: (0..rng.below(8).saturating_sub(5))
                .map(|_| policies(rng, PolicyType::Scp, 2))
                .collect(),
            rcps: (0..rng.below(8).saturating_sub(5))
                .map(|_| policies(rng, PolicyType::Rcp, 1))
                .collect(),
            missing: rng.one_in(40),
        }
    }

    /// One with so many policies and statements that they are indexed.
    pub fn large(rng: &mut Rng) -> Self {
        let mut world = Self::new(rng);
        if rng.one_in(2) {
            world.identity = (0..40).map(|_| Policy::new(rng, PolicyType::Identity, 3)).collect();
            let again = world.identity[rng.below(40)].clone();
            world.identity.push(again);
        } else {
            let mut large = Policy::new(rng, PolicyType::Identity, 1);
            while large.statements.len() < 80 {
                large
                    .statements
                    .extend(Policy { ..Policy::new(rng, PolicyType::Identity, 9) }.statements);
                large
                    .statements
                    .retain(|one| read(large.version, std::slice::from_ref(one)).is_some());
            }
            world.identity.push(large);
        }
        // Few of them apply to most requests, so that what does is seen.
        for policy in &mut world.identity {
            for statement in &mut policy.statements {
                if rng.one_in(2) {
                    *statement = statement.replace("\"Deny\"", "\"Allow\"");
                }
                if statement.contains("\"Deny\"") && !rng.one_in(8) {
                    let value = rng.pick(&["x", "y", "ab", "42"]);
                    let at = statement.find(",\"Condition\"").unwrap_or(statement.len() - 1);
                    statement.truncate(at);
                    statement.push_str(&format!(
                        ",\"Condition\":{{\"StringEquals\":{{\"a:k\":\"{value}\"}}}}}}"
                    ));
                }
            }
            policy
                .statements
                .retain(|one| read(policy.version, std::slice::from_ref(one)).is_some());
        }
        world
    }

    pub fn shuffled(&self, rng: &mut Rng) -> Self {
        let mut world = self.clone();
        let mut turn = |policies: &mut Vec<Policy>| {
            rng.shuffle(policies);
            policies.iter_mut().for_each(|policy| rng.shuffle(&mut policy.statements));
        };
        turn(&mut world.identity);
        world.boundary.iter_mut().for_each(&mut turn);
        world.session.iter_mut().for_each(&mut turn);
        world.narrowings.iter_mut().for_each(&mut turn);
        world.scps.iter_mut().for_each(&mut turn);
        world.rcps.iter_mut().for_each(&mut turn);
        if let Some(resource) = &mut world.resource {
            rng.shuffle(&mut resource.statements);
        }
        world
    }

    pub fn policy_set(&self) -> PolicySet {
        let all = |list: &[Policy]| -> Vec<Attached> {
            (0..).zip(list).map(|(i, policy): (u32, _)| policy.attached(&format!("p{i}"))).collect()
        };
        PolicySet {
            identity: all(&self.identity),
            boundary: self.boundary.as_deref().map(all),
            session: self.session.as_deref().map(all),
            narrowings: self.narrowings.iter().map(|narrowing| all(narrowing)).collect(),
            resource: self.resource.as_ref().map(|policy| policy.attached("r")),
            scps: self.scps.iter().map(|level| all(level)).collect(),
            rcps: self.rcps.iter().map(|level| all(level)).collect(),
            missing: if self.missing { vec![Arc::from("gone")] } else { Vec::new() },
            programs: Vec::new(),
        }
    }
}

fn who(rng: &mut Rng) -> Principal {
    let arn = |text: &str| text.parse().unwrap();
    let account = || "111122223333".parse().unwrap();
    let session = |role_arn: Option<&str>, role_id: Option<&str>| {
        let role_arn = role_arn.map(|text| text.parse().unwrap());
        let role_id = role_id.map(str::to_owned);
        Principal::Session(Session::new("aws", account(), "App", role_arn, "s1", role_id))
    };
    let external = |text: &str, id: &str| {
        Principal::External(ExternalPrincipal::new(text.parse().unwrap(), id).unwrap())
    };
    match rng.below(17) {
        0..5 => Principal::User { arn: arn(USER), unique_id: Some("AIDAALICE".to_owned()) },
        5 => Principal::User { arn: arn(USER), unique_id: None },
        6..9 => session(Some(ROLE), Some("AROAAPP")),
        9 => session(None, None),
        10 => Principal::Role { arn: arn(ROLE), unique_id: Some("AROAAPP".to_owned()) },
        11 => Principal::AccountRoot { partition: "aws".to_owned(), account: account() },
        12 => Principal::Service { name: "orders.amazonaws.com".to_owned() },
        13 => external(EXTERNAL_USER, "AIDAEVE"),
        14 => external(EXTERNAL_SESSION, "AROAEXT"),
        15 => Principal::WebIdentity { provider: PROVIDER.parse().unwrap() },
        _ => {
            Principal::FederatedUser { arn: arn("arn:aws:sts::111122223333:federated-user/alice") }
        }
    }
}

fn text_value(rng: &mut Rng, key: &str) -> String {
    let pool: &[&str] = match key.to_ascii_lowercase().as_str() {
        "a:n" => NUMBERS,
        "a:d" => DATES,
        "a:b" => BOOLS,
        "a:ip" | "aws:sourceip" => ADDRESSES,
        "a:arn" => ARNS,
        "a:bin" => BINARIES,
        _ => TEXTS,
    };
    let pool = if rng.one_in(8) { ALL_VALUES[rng.below(ALL_VALUES.len())] } else { pool };
    rng.pick(pool).to_owned()
}

fn context(rng: &mut Rng) -> Context {
    let mut context = Context::new();
    if rng.one_in(60) {
        for i in 0..rng.below(300) {
            context.insert(format!("a:filler-{i}"), "x").unwrap();
        }
    }
    for key in CONTEXT_KEYS {
        if rng.one_in(3) {
            continue;
        }
        let value = if rng.one_in(4) {
            ContextValue::Many((0..rng.below(4)).map(|_| text_value(rng, key)).collect())
        } else if *key == "aws:userid" {
            ContextValue::from("AROAAPP:s1")
        } else {
            ContextValue::One(text_value(rng, key))
        };
        context.insert(*key, value).unwrap();
    }
    context
}

pub fn request(rng: &mut Rng) -> Request {
    let arn = loop {
        let text = if rng.one_in(12) {
            "*".to_owned()
        } else if rng.one_in(3) {
            "arn:aws:orders:us-east-1:111122223333:order/42".to_owned()
        } else {
            let mut text = rng.pick(ASKED_PREFIXES).to_owned();
            for _ in 0..1 + rng.below(5) {
                text.push_str(rng.pick(ASKED_PIECES));
            }
            text
        };
        if let Ok(arn) = text.parse() {
            break arn;
        }
    };
    let account = match rng.below(6) {
        0 => Some("111122223333".parse().unwrap()),
        1 => Some("444455556666".parse().unwrap()),
        _ => None,
    };
    Request {
        principal: who(rng),
        action: rng.pick(ASKED_ACTIONS).parse().unwrap(),
        resource: Resource { arn, account },
        context: context(rng),
    }
}
