//! scratchstack-aspen: IAM's own JSON, one policy after the other, until the first Deny.

use std::collections::HashMap;
use std::str::FromStr;

use scratchstack_arn::Arn;
use scratchstack_aspen::{Context, Decision, Policy};
use scratchstack_aws_principal::{Principal, SessionData, SessionValue, User};

use super::ours::{document, resource};
use crate::engine::{Engine, Stopped};
use crate::workload::{Query, Workload};

pub const NAME: &str = "scratchstack-aspen";

pub fn engine(workload: &Workload) -> Box<dyn Engine> {
    let parse = |text: String| Policy::from_str(&text).expect("IAM's JSON");
    let by_principal = workload
        .by_principal()
        .into_iter()
        .enumerate()
        .map(|(i, own)| (format!("u{i}"), own.into_iter().map(document).map(parse).collect()))
        .collect();
    let requests =
        workload.queries.iter().map(|query| (query.principal.clone(), context(query))).collect();
    Box::new(Aspen { by_principal, requests })
}

fn context(query: &Query) -> Context {
    let user = User::from_str(&format!("arn:aws:iam::111122223333:user/{}", query.principal))
        .expect("a user's ARN");
    let mut session = SessionData::new();
    session.insert("aws:SourceIp", SessionValue::IpAddr(query.ip.parse().expect("an address")));
    session.insert("order:team", SessionValue::String(query.team.clone()));
    session.insert("order:hold", SessionValue::String(query.hold.clone()));
    Context::builder()
        .service("order")
        .api(query.action)
        .actor(Principal::from(vec![user.into()]))
        .resources(vec![Arn::from_str(&resource(&query.resource)).expect("an ARN")])
        .session_data(session)
        .build()
        .expect("nothing is missing")
}

struct Aspen {
    by_principal: HashMap<String, Vec<Policy>>,
    requests: Vec<(String, Context)>,
}

impl Engine for Aspen {
    fn decide(&mut self, index: usize) -> Result<bool, Stopped> {
        let (principal, context) = &self.requests[index];
        let mut is_allowed = false;
        for policy in self.by_principal.get(principal).into_iter().flatten() {
            match policy.evaluate(context).map_err(|error| Stopped(error.to_string()))? {
                Decision::Deny => return Ok(false),
                Decision::Allow => is_allowed = true,
                Decision::DefaultDeny => {}
            }
        }
        Ok(is_allowed)
    }
}
