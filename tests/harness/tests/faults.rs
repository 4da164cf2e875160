//! FAULTS.md, F4 and F5, against the real system: what was revoked is denied at its revision, and a grant never outruns the deny that was
//! written before it. `COUNTERSIGN_FAULTS=full` asks as often as that page says. Each prints its figures.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops here")]

use std::time::{Duration, Instant};

use countersign_harness::System;
use countersign_proto::{
    decision::v1::{AuthorizeRequest, AuthorizeResponse, Decision, authorize_request::Subject},
    policy::v1::{
        AttachRolePolicyRequest, CreatePolicyRequest, CreateRoleRequest, DetachRolePolicyRequest,
        PutRolePolicyRequest,
    },
};

const TRUST: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"ec2.amazonaws.com"},"Action":"sts:AssumeRole"}]}"#;

fn times(in_ci: usize, in_full: usize) -> usize {
    let is_full = std::env::var("COUNTERSIGN_FAULTS").is_ok_and(|size| size == "full");
    if is_full { in_full } else { in_ci }
}

/// A role that somebody asks about.
struct Asked {
    system: System,
    role_arn: String,
    account: String,
    last: u64,
}

impl Asked {
    async fn new() -> Self {
        let system = System::start().await;
        let request = CreateRoleRequest {
            role_name: "App".to_owned(),
            assume_role_policy_document: TRUST.to_owned(),
            ..Default::default()
        };
        let role = system.policy_store().create_role(request).await.unwrap().into_inner();
        let role_arn = role.role.unwrap().arn;
        let account = role_arn.split(':').nth(4).unwrap().to_owned();
        Self { system, role_arn, account, last: 0 }
    }

    fn order(&self, number: usize) -> String {
        format!("arn:aws:orders:eu-west-1:{}:order/{number}", self.account)
    }

    /// The answer; revisions never go back.
    async fn ask(&mut self, resource: String, at_least_revision: &str) -> AuthorizeResponse {
        let request = AuthorizeRequest {
            subject: Some(Subject::PrincipalArn(self.role_arn.clone())),
            action: "orders:GetOrder".to_owned(),
            resource,
            at_least_revision: at_least_revision.to_owned(),
            ..Default::default()
        };
        let answer = self.system.decision().authorize(request).await.unwrap().into_inner();
        let number = answer.revision.rsplit(':').next().unwrap().parse().unwrap();
        assert!(self.last <= number, "{} after {}", answer.revision, self.last);
        self.last = number;
        answer
    }
}

/// F4: a policy is detached and attached again; asked at the write's revision, the answer is never the old one. Asked without, it is
/// soon the new one.
#[tokio::test]
async fn f4_what_was_revoked_is_denied_at_its_revision() {
    let mut asked = Asked::new().await;
    let request = CreatePolicyRequest {
        policy_name: "Orders".to_owned(),
        policy_document: r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"orders:*","Resource":"*"}]}"#.to_owned(),
        ..Default::default()
    };
    let mut store = asked.system.policy_store();
    let policy = store.create_policy(request).await.unwrap().into_inner().policy.unwrap();
    let (role_name, policy_arn) = ("App".to_owned(), policy.arn);
    let count = times(60, 3_000);
    let (mut stale, mut visible) = (0, Vec::new());
    for turn in 0..count {
        let is_attached = turn % 2 == 0;
        let revision = if is_attached {
            let request = AttachRolePolicyRequest {
                role_name: role_name.clone(),
                policy_arn: policy_arn.clone(),
                ..Default::default()
            };
            store.attach_role_policy(request).await.unwrap().into_inner().revision
        } else {
            let request = DetachRolePolicyRequest {
                role_name: role_name.clone(),
                policy_arn: policy_arn.clone(),
                ..Default::default()
            };
            store.detach_role_policy(request).await.unwrap().into_inner().revision
        };
        let acknowledged = Instant::now();
        let order = asked.order(turn);
        // By turns: at the revision; and at whatever is there, until it is new.
        if turn % 4 < 2 {
            let answer = asked.ask(order, &revision).await;
            stale += usize::from(answer.allowed != is_attached);
        } else {
            while asked.ask(order.clone(), "").await.allowed != is_attached {
                assert!(acknowledged.elapsed() < Duration::from_secs(10), "it does not come");
            }
            visible.push(acknowledged.elapsed());
        }
    }
    visible.sort_unstable();
    let at = |percent: usize| visible.get((visible.len() - 1) * percent / 100).unwrap();
    println!(
        "F4: {count} writes, {stale} stale answers at their revision; acknowledged to visible: p50 {:.1?}, p99 {:.1?}, at most {:.1?}",
        at(50),
        at(99),
        at(100)
    );
    assert_eq!(stale, 0);
}

/// F5, the new enemy: first a deny of an order is written, then a grant of it. Whoever knows of the grant never gets in.
#[tokio::test]
async fn f5_a_grant_never_outruns_the_deny_before_it() {
    let mut asked = Asked::new().await;
    let mut store = asked.system.policy_store();
    let count = times(60, 100_000);
    let (mut violations, began) = (0, Instant::now());
    for turn in 0..count {
        let order = asked.order(turn);
        let mut revision = String::new();
        for effect in ["Deny", "Allow"] {
            let request = PutRolePolicyRequest {
                role_name: "App".to_owned(),
                policy_name: effect.to_owned(),
                policy_document: format!(
                    r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"{effect}","Action":"orders:*","Resource":"{order}"}}]}}"#
                ),
                ..Default::default()
            };
            revision = store.put_role_policy(request).await.unwrap().into_inner().revision;
        }
        let answer = asked.ask(order, &revision).await;
        violations += usize::from(answer.decision != i32::from(Decision::ExplicitDeny));
    }
    println!("F5: {count} histories in {:.1?}, {violations} violations", began.elapsed());
    assert_eq!(violations, 0);
}
