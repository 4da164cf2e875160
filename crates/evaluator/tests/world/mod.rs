//! Small worlds for tests: one request, its policies.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::sync::Arc;

use countersign_evaluator::{
    Attached, Context, PolicySet, PolicyType, Principal, Realm, Request, Resolved,
    ResolvedPrincipals, Resource, Session,
};
use countersign_policy::parse::parse;
use countersign_policy::principal::IamArn;

pub const ROLE: &str = "arn:aws:iam::111122223333:role/team/App";
pub const SESSION: &str = "arn:aws:sts::111122223333:assumed-role/App/s1";
pub const USER: &str = "arn:aws:iam::111122223333:user/alice";
pub const TARGET: &str = "arn:aws:iam::111122223333:role/Target";
pub const ORDER: &str = "arn:aws:orders:us-east-1:111122223333:order/42";

pub fn attached(policy_type: PolicyType, statements: &str) -> Attached {
    let text = format!(r#"{{"Version":"2012-10-17","Statement":{statements}}}"#);
    let document = parse(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    Attached {
        policy_type,
        name: Arc::from("p"),
        version_id: None,
        document: Arc::new(document),
        resolved: None,
    }
}

/// A statement on everything.
pub fn all(effect: &str) -> String {
    format!(r#"{{"Effect":"{effect}","Action":"*","Resource":"*"}}"#)
}

/// A statement on everything, of a resource policy.
pub fn all_for(effect: &str, principal: &str) -> String {
    format!(r#"{{"Effect":"{effect}","Action":"*","Resource":"*","Principal":{principal}}}"#)
}

pub fn trust(effect: &str, principal: &str) -> Attached {
    attached(
        PolicyType::Trust,
        &format!(r#"{{"Effect":"{effect}","Action":"sts:AssumeRole","Principal":{principal}}}"#),
    )
}

pub fn resolved(mut attached: Attached, elements: &[(&str, Realm, Option<&str>)]) -> Attached {
    let resolved: ResolvedPrincipals = elements
        .iter()
        .map(|(text, realm, id)| {
            ((*text).to_owned(), Resolved { realm: *realm, unique_id: id.map(str::to_owned) })
        })
        .collect();
    attached.resolved = Some(Arc::new(resolved));
    attached
}

pub fn arn(text: &str) -> IamArn {
    text.parse().unwrap()
}

pub fn user() -> Principal {
    Principal::User { arn: arn(USER), unique_id: Some("AIDAALICE".to_owned()) }
}

pub fn session() -> Principal {
    let account = "111122223333".parse().unwrap();
    Principal::Session(Session::new(
        "aws",
        account,
        "App",
        Some(arn(ROLE)),
        "s1",
        Some("AROAAPP".to_owned()),
    ))
}

pub fn request(principal: Principal, action: &str, resource: &str) -> Request {
    Request {
        principal,
        action: action.parse().unwrap(),
        resource: Resource { arn: resource.parse().unwrap(), account: None },
        context: Context::new(),
    }
}

pub fn with_resource(resource: Attached) -> PolicySet {
    PolicySet { resource: Some(resource), ..PolicySet::default() }
}

pub fn with_identity(statements: &str) -> PolicySet {
    PolicySet { identity: vec![attached(PolicyType::Identity, statements)], ..PolicySet::default() }
}
