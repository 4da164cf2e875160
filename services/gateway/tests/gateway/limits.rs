//! What a session is asked to be beside its role: it reaches the decision service, comes back in the token, and an answer that forgot it
//! mints nothing.

use std::collections::{BTreeMap, BTreeSet};

use countersign_proto::{
    decision::v1::{AuthorizeAssumeRoleResponse, SessionTag},
    token::v1::{ExchangeRequest, Tag},
};
use tonic::Code;

use crate::{
    decision::allow,
    granted::verified,
    proofs::{Form, Workload, request},
    system::System,
};

fn marked() -> ExchangeRequest {
    let tag = |key: &str, value: &str| Tag { key: key.into(), value: value.into() };
    ExchangeRequest {
        policy: "{}".into(),
        policy_arns: vec!["arn:aws:iam::aws:policy/A".into(), "arn:aws:iam::aws:policy/B".into()],
        scope: "orders:Get* orders:List*".into(),
        tags: vec![tag("Team", "größe"), tag("Cost", "")],
        transitive_tag_keys: vec!["Team".into()],
        source_identity: "alice".into(),
        ..request()
    }
}

#[tokio::test]
async fn a_session_is_what_was_asked_for() {
    let system = System::start().await;
    system.ready().await;
    for form in [Form::Post, Form::Presigned] {
        let local = Workload::local(&system.gateway.issuer).with(|workload| workload.form = form);
        let response = system.exchange(local.sign(marked())).await.unwrap();
        assert_eq!(response.scope, "orders:Get* orders:List*");
        let token = verified(&system, &response, "orders").await;
        let session = &token.claims().session;
        assert_eq!(
            session.session_policies,
            [
                "limit:{}",
                "limit:orders:Get* orders:List*",
                "limit:arn:aws:iam::aws:policy/A",
                "limit:arn:aws:iam::aws:policy/B"
            ]
        );
        let tags =
            BTreeMap::from([("Team".into(), "größe".into()), ("Cost".into(), String::new())]);
        assert_eq!(session.session_tags, tags);
        assert_eq!(session.transitive_tag_keys, BTreeSet::from(["Team".into()]));
        assert_eq!(session.source_identity.as_deref(), Some("alice"));
    }
    let asked = system.decision.asked().pop().unwrap();
    assert_eq!((asked.policy.as_str(), asked.policy_arns.len()), ("{}", 2));
    assert_eq!(asked.source_identity, "alice");
}

/// ATTACKS 72: a session that asked for limits is not made without them.
#[tokio::test]
async fn an_answer_that_forgot_what_was_asked_mints_nothing() {
    let system = System::start().await;
    system.ready().await;
    let local = Workload::local(&system.gateway.issuer);
    let check = async |asked: ExchangeRequest, change: fn(&mut AuthorizeAssumeRoleResponse)| {
        system.decision.answers(move |request| {
            let mut answer = allow(request);
            change(&mut answer);
            Ok(answer)
        });
        let refused = system.exchange(local.sign(asked)).await.unwrap_err();
        assert_eq!((refused.code, refused.reason.as_str()), (Code::Internal, "ServiceFailure"));
    };
    check(marked(), |a| a.session_policies.clear()).await;
    check(marked(), |a| drop(a.session_policies.pop())).await;
    check(marked(), |a| a.session_policies[0].clear()).await;
    check(marked(), |a| a.session_tags.clear()).await;
    check(marked(), |a| a.session_tags[0].value.push('x')).await;
    check(marked(), |a| a.transitive_tag_keys.clear()).await;
    check(marked(), |a| a.source_identity = "bob".into()).await;
    check(marked(), |a| a.source_identity.clear()).await;
    // Nor with what was not asked for.
    check(request(), |a| {
        a.session_tags = vec![SessionTag { key: "Admin".into(), value: "1".into() }]
    })
    .await;
    check(request(), |a| a.source_identity = "bob".into()).await;
    check(request(), |a| a.session_policies = vec!["{}".into()]).await;
    assert_eq!(system.store.calls("ConsumeProof"), 0);

    // What does not fit the token has STS's name.
    system.decision.answers(|request| {
        let mut answer = allow(request);
        answer.session_policies = vec!["p".repeat(4000); answer.session_policies.len()];
        Ok(answer)
    });
    let refused = system.exchange(local.sign(marked())).await.unwrap_err();
    assert_eq!(
        (refused.code, refused.reason.as_str()),
        (Code::InvalidArgument, "PackedPolicyTooLarge")
    );
}
