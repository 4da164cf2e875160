//! Workload "orders": N policies of one statement each, and 4,096 requests of which exactly half are allowed.
//!
//! Policies use no randomness (but for the values of `wide-random`), requests one stream; so every engine sees the same.

use std::fmt;
use std::str::FromStr;

use crate::rng::SplitMix64;

pub const ACTIONS: [&str; 12] = [
    "GetOrder",
    "ListOrders",
    "CreateOrder",
    "UpdateOrder",
    "DeleteOrder",
    "CancelOrder",
    "ShipOrder",
    "RefundOrder",
    "TagOrder",
    "UntagOrder",
    "ExportOrders",
    "ArchiveOrder",
];

pub const REQUESTS: usize = 4_096;
const REQUEST_SEED: u64 = 0x5EED;
const VALUE_SEED: u64 = 0xC0_FFEE;

/// Who has the policies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Every principal has 9 or 10.
    Sharded,
    /// One principal has them all.
    Wide,
    /// As wide, and no two statements are the same.
    WideRandom,
}

impl Shape {
    pub const ALL: [Shape; 3] = [Shape::Sharded, Shape::Wide, Shape::WideRandom];
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Shape::Sharded => "sharded",
            Shape::Wide => "wide",
            Shape::WideRandom => "wide-random",
        })
    }
}

impl FromStr for Shape {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Shape::ALL
            .into_iter()
            .find(|shape| shape.to_string() == text)
            .ok_or_else(|| format!("unknown shape `{text}`: expected sharded, wide or wide-random"))
    }
}

/// One policy, of one statement.
#[derive(Debug, Clone)]
pub struct Policy {
    pub allows: bool,
    /// Of the principal `u{principal}`.
    pub principal: usize,
    /// Indexes of [`ACTIONS`], in the policy's own order.
    pub actions: [usize; 3],
    /// `order/tenant-7/*`
    pub pattern: String,
    pub cidr: String,
    /// `team` or `hold`.
    pub key: &'static str,
    pub value: String,
}

/// One question, as an application has it: text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    pub principal: String,
    /// `GetOrder`
    pub action: &'static str,
    /// `order/tenant-7/o-12`
    pub resource: String,
    pub ip: String,
    pub team: String,
    pub hold: String,
    pub is_allowed: bool,
}

#[derive(Debug)]
pub struct Workload {
    pub shape: Shape,
    pub principals: usize,
    pub policies: Vec<Policy>,
    pub queries: Vec<Query>,
}

impl Workload {
    pub fn new(shape: Shape, n: usize) -> Self {
        let principals = match shape {
            Shape::Sharded if n > 10 => n / 10 + 1,
            Shape::Sharded | Shape::Wide | Shape::WideRandom => 1,
        };
        let mut values = SplitMix64::new(VALUE_SEED);
        let policies: Vec<Policy> =
            (0..n).map(|i| policy(i, principals, shape, &mut values)).collect();
        let queries = Questions::new(&policies, principals).ask();
        Self { shape, principals, policies, queries }
    }

    /// Policies by principal, in id order.
    pub fn by_principal(&self) -> Vec<Vec<&Policy>> {
        let mut lists = vec![Vec::new(); self.principals];
        for policy in &self.policies {
            lists[policy.principal].push(policy);
        }
        lists
    }
}

fn policy(i: usize, principals: usize, shape: Shape, values: &mut SplitMix64) -> Policy {
    let actions = [i % 12, (i + 1) % 12, (i + 5) % 12];
    let principal = i % principals;
    let value = match shape {
        Shape::WideRandom => Some(values.below(1_000_000)),
        Shape::Sharded | Shape::Wide => None,
    };
    if i % 100 == 99 {
        return Policy {
            allows: false,
            principal,
            actions,
            pattern: "order/*".to_owned(),
            cidr: "10.0.0.0/8".to_owned(),
            key: "hold",
            value: value.map_or("true".to_owned(), |t| format!("true-{t}")),
        };
    }
    // Every tenth has a wildcard before the text that tells it apart, which no index of prefixes finds.
    let pattern =
        if i % 10 == 3 { format!("order/*-{i}/*") } else { format!("order/tenant-{i}/*") };
    Policy {
        allows: true,
        principal,
        actions,
        pattern,
        cidr: format!("10.{}.0.0/16", i % 256),
        key: "team",
        value: value.map_or_else(|| format!("team-{}", i % 16), |t| format!("team-{t}")),
    }
}

/// How a request differs from what its policy allows; the numbers are the workload's.
const NOTHING: usize = 9;
const OTHER_ACTION: usize = 0;
const OTHER_RESOURCE: usize = 1;
const OTHER_ADDRESS: usize = 2;
const OTHER_TEAM: usize = 3;
const HELD: usize = 4;

struct Questions<'a> {
    policies: &'a [Policy],
    by_principal: Vec<Vec<usize>>,
    denies: Vec<usize>,
    rng: SplitMix64,
}

impl<'a> Questions<'a> {
    fn new(policies: &'a [Policy], principals: usize) -> Self {
        let mut by_principal = vec![Vec::new(); principals];
        for (i, policy) in policies.iter().enumerate() {
            by_principal[policy.principal].push(i);
        }
        let denies = (0..policies.len()).filter(|i| !policies[*i].allows).collect();
        Self { policies, by_principal, denies, rng: SplitMix64::new(REQUEST_SEED) }
    }

    fn ask(mut self) -> Vec<Query> {
        (0..REQUESTS).map(|k| self.query(k)).collect()
    }

    fn query(&mut self, k: usize) -> Query {
        let mut i = self.rng.below(self.policies.len());
        while !self.policies[i].allows {
            i = self.rng.below(self.policies.len());
        }
        let mut mode = if k.is_multiple_of(2) { NOTHING } else { self.rng.below(5) };
        let mut held = None;
        if mode == HELD {
            match self.held() {
                Some((allow, action, deny)) => {
                    i = allow;
                    held = Some((action, deny));
                }
                None => mode = OTHER_ACTION,
            }
        }
        let policy = &self.policies[i];
        let drawn = policy.actions[self.rng.below(3)];
        let order = self.rng.below(100_000);
        let (third, fourth) = (self.rng.below(256), self.rng.below(256));
        let mut query = Query {
            principal: format!("u{}", policy.principal),
            action: ACTIONS[held.map_or(drawn, |(action, _)| action)],
            resource: format!("order/tenant-{i}/o-{order}"),
            ip: format!("10.{}.{third}.{fourth}", i % 256),
            team: policy.value.clone(),
            hold: "false".to_owned(),
            is_allowed: mode == NOTHING,
        };
        match mode {
            OTHER_ACTION => query.action = ACTIONS[(i + 7) % 12],
            OTHER_RESOURCE => {
                query.resource = format!("order/tenant-x{i}/o-{}", self.rng.below(100_000));
            }
            OTHER_ADDRESS => {
                let (third, fourth) = (self.rng.below(256), self.rng.below(256));
                query.ip = format!("192.168.{third}.{fourth}");
            }
            OTHER_TEAM => query.team = "team-99".to_owned(),
            // The deny's own value: `true`, and of its own in wide-random.
            HELD => {
                query.hold =
                    held.map_or_else(String::new, |(_, deny)| self.policies[deny].value.clone());
            }
            _ => {}
        }
        query
    }

    /// An allow, an action, and the deny that shares it.
    fn held(&mut self) -> Option<(usize, usize, usize)> {
        if self.denies.is_empty() {
            return None;
        }
        let deny = self.denies[self.rng.below(self.denies.len())];
        let own = &self.by_principal[self.policies[deny].principal];
        let offset = self.rng.below(own.len());
        (0..own.len()).find_map(|step| {
            let i = own[(offset + step) % own.len()];
            let allow = &self.policies[i];
            let shares = |action: &&usize| self.policies[deny].actions.contains(action);
            let action = allow.actions.iter().find(shares).filter(|_| allow.allows)?;
            Some((i, *action, deny))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_requests_are_allowed() {
        for shape in Shape::ALL {
            for n in [10, 100, 1_000] {
                let workload = Workload::new(shape, n);
                let allowed = workload.queries.iter().filter(|query| query.is_allowed).count();
                assert_eq!((workload.queries.len(), allowed), (4_096, 2_048), "{shape} {n}");
                assert_eq!(workload.policies.len(), n);
                for policies in workload.by_principal() {
                    assert!(shape != Shape::Sharded || [9, 10].contains(&policies.len()));
                }
            }
        }
    }

    /// A plain reading of the policies gives the answers that the requests are made for.
    #[test]
    fn the_answers_follow_from_the_policies() {
        for (shape, n) in [(Shape::Sharded, 1_000), (Shape::Wide, 300), (Shape::WideRandom, 300)] {
            let workload = Workload::new(shape, n);
            let by_principal = workload.by_principal();
            for query in &workload.queries {
                let principal: usize = query.principal[1..].parse().unwrap();
                let (mut allowed, mut denied) = (false, false);
                for policy in &by_principal[principal] {
                    if applies(policy, query) {
                        *(if policy.allows { &mut allowed } else { &mut denied }) = true;
                    }
                }
                assert_eq!(allowed && !denied, query.is_allowed, "{shape} {n} {query:?}");
            }
        }
    }

    fn applies(policy: &Policy, query: &Query) -> bool {
        let value = if policy.key == "team" { &query.team } else { &query.hold };
        let octets: Vec<&str> = query.ip.split('.').collect();
        let network = policy.cidr.strip_suffix(".0.0/16").or(policy.cidr.strip_suffix(".0.0.0/8"));
        let network: Vec<&str> = network.unwrap().split('.').collect();
        let text = policy.pattern.strip_suffix('*').unwrap();
        let matches = match text.split_once('*') {
            Some((start, middle)) => {
                query.resource.strip_prefix(start).is_some_and(|rest| rest.contains(middle))
            }
            None => query.resource.starts_with(text),
        };
        policy.actions.iter().any(|action| ACTIONS[*action] == query.action)
            && octets.starts_with(&network)
            && *value == policy.value
            && matches
    }
}
