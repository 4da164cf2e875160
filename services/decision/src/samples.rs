//! The world that this crate's tests begin with: two local accounts, and everybody who lives in them.

use std::sync::Arc;

use countersign_evaluator::SessionFacts;
use countersign_proto::policy::v1::{
    AccountRecord, InlinePolicy, ManagedPolicyRecord, Realm, Record, ResolvedPrincipal, RoleRecord,
    ServicePrincipalBindingRecord, UserRecord, record::Record as Kind,
};
use countersign_replica::World;

use crate::{authn::Caller, session::Session};

pub const NOW: i64 = 1_800_000_000;
/// The account that most of it happens in.
pub const OURS: &str = "111122223333";
/// Another tenant.
pub const THEIRS: &str = "444455556666";
/// AWS's, not local.
pub const AWS: &str = "999988887777";

pub fn world() -> World {
    let mut world = World::default();
    for record in records() {
        world.put(&record).unwrap();
    }
    world
}

pub fn put(world: &mut World, key: &str, kind: Kind) {
    world.put(&record(key, kind)).unwrap();
}

pub fn record(key: &str, kind: Kind) -> Record {
    Record { key: key.to_owned(), record: Some(kind), format: 1, version: 0 }
}

fn records() -> Vec<Record> {
    let ask = r#"{"Effect":"Allow","Action":"countersign:*","Resource":"*"}"#;
    let ask_little = r#"{"Effect":"Allow","Action":"countersign:Authorize","Resource":"arn:aws:orders:*:*:order/4*"}"#;
    let assume = r#"{"Effect":"Allow","Action":"sts:AssumeRole","Resource":"*"}"#;
    let no_assume = r#"{"Effect":"Deny","Action":"sts:AssumeRole","Resource":"*"}"#;
    let no_deletes =
        r#"{"Sid":"NoDeletes","Effect":"Deny","Action":"orders:Delete*","Resource":"*"}"#;
    let users = [
        user(OURS, "alice", &[("assume", assume)]),
        user(OURS, "carol", &[("assume", assume), ("never", no_assume)]),
        user(OURS, "dave", &[]),
        user(THEIRS, "eve", &[("assume", assume)]),
    ];
    let roles = [
        role(OURS, "Service", &[("ask", ask)]),
        role(OURS, "Little", &[("ask", ask_little)]),
        RoleRecord {
            attached_policy_arns: vec![format!("arn:aws:iam::{OURS}:policy/Orders")],
            ..role(OURS, "App", &[("deletes", no_deletes)])
        },
        trusting(
            OURS,
            "Target",
            &target_trust(),
            &[
                (format!("arn:aws:iam::{OURS}:user/alice"), Realm::Countersign, "AIDAALICE"),
                (format!("arn:aws:iam::{OURS}:user/carol"), Realm::Countersign, "AIDACAROL"),
                (format!("arn:aws:iam::{AWS}:user/bob"), Realm::Aws, ""),
                (format!("arn:aws:iam::{AWS}:role/Deploy"), Realm::Aws, ""),
            ],
        ),
        trusting(
            OURS,
            "Machine",
            r#"{"Effect":"Allow","Principal":{"Service":"ec2.amazonaws.com"},"Action":"sts:AssumeRole",
            "Condition":{"StringEquals":{"aws:SourceAccount":"111122223333"}}}"#,
            &[],
        ),
        trusting(
            OURS,
            "CountersignAdministrator",
            &trust_root(OURS),
            &[(format!("arn:aws:iam::{OURS}:root"), Realm::Countersign, "")],
        ),
        trusting(
            OURS,
            "TrustsRoot",
            &trust_root(OURS),
            &[(format!("arn:aws:iam::{OURS}:root"), Realm::Countersign, "")],
        ),
        role(THEIRS, "Foreign", &[("ask", ask)]),
    ];
    let orders = ManagedPolicyRecord {
        account_id: OURS.into(),
        policy_name: "Orders".into(),
        arn: format!("arn:aws:iam::{OURS}:policy/Orders"),
        default_version_id: "v2".into(),
        document: document(&[
            r#"{"Sid":"AllOrders","Effect":"Allow","Action":"orders:*","Resource":"*"}"#,
        ]),
        ..Default::default()
    };
    let mut records = vec![
        record(
            "a/ours",
            Kind::Account(AccountRecord { account_id: OURS.into(), ..Default::default() }),
        ),
        record(
            "a/theirs",
            Kind::Account(AccountRecord { account_id: THEIRS.into(), ..Default::default() }),
        ),
        record("p/Orders", Kind::ManagedPolicy(orders)),
    ];
    records.extend(users.map(|user| record(&format!("u/{}", user.user_name), Kind::User(user))));
    records.extend(roles.map(|role| record(&format!("r/{}", role.role_name), Kind::Role(role))));
    records
}

/// Alice and Carol, two of AWS's, and nobody else.
fn target_trust() -> String {
    format!(
        r#"{{"Effect":"Allow","Action":"sts:AssumeRole","Principal":{{"AWS":[
            "arn:aws:iam::{OURS}:user/alice","arn:aws:iam::{OURS}:user/carol",
            "arn:aws:iam::{AWS}:user/bob","arn:aws:iam::{AWS}:role/Deploy"]}}}}"#
    )
}

fn trust_root(account: &str) -> String {
    format!(
        r#"{{"Effect":"Allow","Action":"sts:AssumeRole","Principal":{{"AWS":"arn:aws:iam::{account}:root"}}}}"#
    )
}

pub fn document(statements: &[&str]) -> String {
    format!(r#"{{"Version":"2012-10-17","Statement":[{}]}}"#, statements.join(","))
}

fn inline(policies: &[(&str, &str)]) -> Vec<InlinePolicy> {
    let policy = |(name, statement): &(&str, &str)| InlinePolicy {
        policy_name: (*name).to_owned(),
        policy_document: document(&[statement]),
    };
    policies.iter().map(policy).collect()
}

/// `AIDA` and the name in capitals is its id.
pub fn user(account: &str, name: &str, policies: &[(&str, &str)]) -> UserRecord {
    UserRecord {
        account_id: account.into(),
        path: "/".into(),
        user_name: name.into(),
        user_id: format!("AIDA{}", name.to_uppercase()),
        inline_policies: inline(policies),
        ..Default::default()
    }
}

/// `AROA` and the name in capitals is its id; it trusts EC2.
pub fn role(account: &str, name: &str, policies: &[(&str, &str)]) -> RoleRecord {
    let trust = r#"{"Effect":"Allow","Principal":{"Service":"ec2.amazonaws.com"},"Action":"sts:AssumeRole"}"#;
    RoleRecord { inline_policies: inline(policies), ..trusting(account, name, trust, &[]) }
}

pub fn trusting(
    account: &str,
    name: &str,
    trust: &str,
    resolved: &[(String, Realm, &str)],
) -> RoleRecord {
    let resolve = |(principal, realm, unique_id): &(String, Realm, &str)| ResolvedPrincipal {
        principal: principal.clone(),
        realm: i32::from(*realm),
        account_id: principal.split(':').nth(4).unwrap_or_default().to_owned(),
        unique_id: (*unique_id).to_owned(),
    };
    RoleRecord {
        account_id: account.into(),
        path: "/".into(),
        role_name: name.into(),
        role_id: format!("AROA{}", name.to_uppercase()),
        assume_role_policy_document: document(&[trust]),
        resolved_principals: resolved.iter().map(resolve).collect(),
        max_session_duration: 7200,
        ..Default::default()
    }
}

/// `caller` may speak for EC2 towards a role.
pub fn binding(
    role: &str,
    realm: Realm,
    caller_account: &str,
    caller: &str,
) -> ServicePrincipalBindingRecord {
    ServicePrincipalBindingRecord {
        account_id: OURS.into(),
        role_arn: format!("arn:aws:iam::{OURS}:role/{role}"),
        role_id: format!("AROA{}", role.to_uppercase()),
        service_principal: "ec2.amazonaws.com".into(),
        caller_realm: i32::from(realm),
        caller_account_id: caller_account.into(),
        caller_unique_id: caller.into(),
        create_date: None,
    }
}

pub fn session(account: &str, role: &str) -> Session {
    Session {
        facts: SessionFacts {
            account: account.parse().unwrap(),
            partition: "aws".into(),
            role_name: role.into(),
            role_id: format!("AROA{}", role.to_uppercase()),
            session_name: "s1".into(),
            issued_at: NOW - 60,
            session_policies: Vec::new(),
            narrowings: Vec::new(),
            session_tags: Default::default(),
            source_identity: None,
            federated: None,
        },
        arn: format!("arn:aws:sts::{account}:assumed-role/{role}/s1"),
        transitive_tag_keys: Default::default(),
    }
}

pub fn caller(account: &str, role: &str) -> Caller {
    Caller::Session(Arc::new(session(account, role)))
}
