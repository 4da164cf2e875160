//! Role chaining: a token of ours is traded for another role's session. Never for more time, and only by whom it is for.

use countersign_proto::token::v1::{ExchangeRequest, Tag};
use countersign_token::Realm;
use tonic::Code;

use crate::{
    decision::{ROLE_ID, allow, deny},
    granted::verified,
    proofs::{Workload, request},
    system::System,
};

const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

/// What a session with `token` asks.
fn chaining(token: &str) -> ExchangeRequest {
    ExchangeRequest {
        subject_token: token.into(),
        subject_token_type: ACCESS_TOKEN.into(),
        role_arn: "arn:aws:iam::000000000000:role/Next".into(),
        ..request()
    }
}

async fn first(system: &System, change: impl FnOnce(&mut ExchangeRequest)) -> String {
    let mut asked = ExchangeRequest { audience: "countersign".into(), ..request() };
    change(&mut asked);
    let local = Workload::local(&system.gateway.issuer);
    system.exchange(local.sign(asked)).await.unwrap().access_token
}

// ATTACKS 73, 75: no longer than what came in, and the session is who called.
#[tokio::test]
async fn a_session_assumes_the_next_role() {
    let system = System::start().await;
    system.ready().await;
    let token = first(&system, |asked| asked.duration_seconds = 900).await;
    let (consumed, sts) =
        (system.store.calls("ConsumeProof"), system.store.calls("DeriveSigningKey"));
    let asked = ExchangeRequest { duration_seconds: 3600, ..chaining(&token) };
    let response = system.exchange(asked).await.unwrap();
    assert!((1..=900).contains(&response.expires_in), "{}", response.expires_in);
    let next = verified(&system, &response, "orders").await;
    let claims = next.claims();
    assert_eq!(claims.session.role_name, "Next");
    assert_eq!(claims.session.proof_type, ACCESS_TOKEN);
    let caller = &claims.session.caller;
    assert_eq!((caller.realm, caller.unique_id.as_str()), (Realm::Countersign, ROLE_ID));
    assert!(caller.arn.starts_with("arn:aws:sts::000000000000:assumed-role/R/session-"));
    let question = system.decision.asked().pop().unwrap();
    assert_eq!((question.subject_token, question.identity), (token, None));
    assert_eq!((question.proof_bound, question.proof_challenged), (false, false));
    assert_eq!(question.proof_type, ACCESS_TOKEN);
    // Nobody is asked who it is, and there is nothing to spend.
    assert_eq!(system.store.calls("ConsumeProof"), consumed);
    assert_eq!(system.store.calls("DeriveSigningKey"), sts);
}

// ATTACKS 58, 62, 70, 72, 77, 78, 88.
#[tokio::test]
async fn tokens_that_do_not_chain() {
    let system = System::start().await;
    system.ready().await;
    let other = System::start().await;
    other.ready().await;
    let own = first(&system, |_| {}).await;
    let orders = first(&system, |asked| asked.audience = "orders".into()).await;
    let strange = first(&other, |_| {}).await;
    let before = system.decision.asked().len();
    let proof = Workload::local(&system.gateway.issuer).sign(request()).subject_token;
    let signature = own.rsplit('.').next().unwrap().to_owned();
    for (name, token, reason) in [
        ("for another audience", orders.clone(), "WrongAudience"),
        ("of another gateway", strange, "UnknownKey"),
        ("a proof", proof, "InvalidToken"),
        ("unsigned", own.replace(&signature, ""), "InvalidToken"),
        (
            "of another's signature",
            own.replace(&signature, orders.rsplit('.').next().unwrap()),
            "InvalidSignature",
        ),
        ("with more", format!("{own}A"), "InvalidToken"),
    ] {
        let refused = system.exchange(chaining(&token)).await.unwrap_err();
        assert_eq!(refused.code, Code::Unauthenticated, "{name}: {refused:?}");
        if reason != "InvalidToken" && reason != "InvalidSignature" {
            assert_eq!(refused.reason, reason, "{name}");
        }
    }
    // A token is no proof, and a type is what it says.
    let lying =
        ExchangeRequest { subject_token_type: crate::proofs::STS_PROOF.into(), ..chaining(&own) };
    assert_eq!(system.exchange(lying).await.unwrap_err().code, Code::Unauthenticated);
    let acting = ExchangeRequest { actor_token: own.clone(), ..chaining(&own) };
    assert_eq!(system.exchange(acting).await.unwrap_err().reason, "ValidationError");
    let typed = ExchangeRequest { actor_token_type: ACCESS_TOKEN.into(), ..chaining(&own) };
    assert_eq!(system.exchange(typed).await.unwrap_err().reason, "ValidationError");
    assert_eq!(system.decision.asked().len(), before, "nobody was asked");

    system
        .decision
        .answers(|_| Ok(deny(countersign_proto::decision::v1::DecisionReason::RoleRecreated)));
    let refused = system.exchange(chaining(&own)).await.unwrap_err();
    assert_eq!((refused.code, refused.reason.as_str()), (Code::PermissionDenied, "AccessDenied"));
    // Nobody speaks for a service, or is pinned, by a token.
    system.decision.answers(|request| {
        let mut answer = allow(request);
        answer.service_principal = "ec2.amazonaws.com".into();
        Ok(answer)
    });
    assert_eq!(system.exchange(chaining(&own)).await.unwrap_err().reason, "ServiceFailure");
}

// RULES.md X3, X4.
#[tokio::test]
async fn what_is_handed_on_must_come_back() {
    let system = System::start().await;
    system.ready().await;
    let tag = |key: &str, value: &str| Tag { key: key.into(), value: value.into() };
    let token = first(&system, |asked| {
        asked.tags = vec![tag("Team", "a"), tag("Cost", "1")];
        asked.transitive_tag_keys = vec!["Team".into()];
        asked.source_identity = "alice".into();
    })
    .await;
    // The stand-in hands nothing on: no token.
    assert_eq!(system.exchange(chaining(&token)).await.unwrap_err().reason, "ServiceFailure");
    for key in ["Team", "tEAM"] {
        let again = ExchangeRequest { tags: vec![tag(key, "b")], ..chaining(&token) };
        assert_eq!(system.exchange(again).await.unwrap_err().reason, "ValidationError");
    }
    system.decision.answers(|request| {
        let mut answer = allow(request);
        answer.session_tags.push(countersign_proto::decision::v1::SessionTag {
            key: "Team".into(),
            value: "a".into(),
        });
        answer.transitive_tag_keys.push("Team".into());
        answer.source_identity = "alice".into();
        Ok(answer)
    });
    let response = system.exchange(chaining(&token)).await.unwrap();
    let next = verified(&system, &response, "orders").await;
    let session = &next.claims().session;
    assert_eq!(session.session_tags.keys().collect::<Vec<_>>(), ["Team"]);
    assert_eq!(session.source_identity.as_deref(), Some("alice"));
}
