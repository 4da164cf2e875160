//! A token of ours is exchanged for a narrower one: for no more rights, time, audiences or senders than came in.

use countersign_proto::{
    decision::v1::{AuthorizeExchangeResponse, Decision, DecisionReason},
    token::v1::{ExchangeRequest, ExchangeResponse, Tag},
};
use countersign_token::{Claims, MayAct};
use tonic::{Code, Status};

use crate::{
    decision::allow_exchange,
    granted::verified,
    proofs::{STS_PROOF, Workload, request},
    system::{Refused, System},
};

const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";

pub fn narrowing(token: &str) -> ExchangeRequest {
    ExchangeRequest {
        subject_token: token.into(),
        subject_token_type: ACCESS_TOKEN.into(),
        audience: "orders".into(),
        ..ExchangeRequest::default()
    }
}

pub async fn first(system: &System, change: impl FnOnce(&mut ExchangeRequest)) -> String {
    let mut asked = request();
    change(&mut asked);
    let local = Workload::local(&system.gateway.issuer);
    system.exchange(local.sign(asked)).await.unwrap().access_token
}

async fn claims(system: &System, response: &ExchangeResponse, audience: &str) -> Claims {
    verified(system, response, audience).await.claims().clone()
}

/// What an exchange is refused with.
async fn check(
    system: &System,
    token: &str,
    change: impl FnOnce(&mut ExchangeRequest),
    code: Code,
    reason: &str,
) -> Refused {
    let mut asked = narrowing(token);
    change(&mut asked);
    let refused = system.exchange(asked).await.unwrap_err();
    assert_eq!((refused.code, refused.reason.as_str()), (code, reason), "{refused:?}");
    refused
}

// ATTACKS 72, 73, 75.
#[tokio::test]
async fn it_is_the_same_session_with_less() {
    let system = System::start().await;
    system.ready().await;
    let token = first(&system, |asked| {
        asked.scope = "orders:Get* orders:List*".into();
        asked.tags = vec![Tag { key: "Team".into(), value: "a".into() }];
        asked.source_identity = "alice".into();
    })
    .await;
    let (consumed, asked_before) = (system.store.calls("ConsumeProof"), system.decision.asked());
    let old = {
        let response = ExchangeResponse { access_token: token.clone(), ..Default::default() };
        claims(&system, &response, "orders").await
    };
    let mut asked = narrowing(&token);
    asked.scope = "orders:GetOrder orders:DeleteOrder".into();
    asked.policy = "{\"a policy\":1}".into();
    asked.duration_seconds = 60;
    let response = system.exchange(asked).await.unwrap();
    assert_eq!(response.scope, "orders:GetOrder");
    assert!((59..=60).contains(&response.expires_in), "{}", response.expires_in);
    assert_eq!(response.token_type, "Bearer");
    let new = claims(&system, &response, "orders").await;
    assert_eq!((&new.sub, &new.client_id, new.iat), (&old.sub, &old.client_id, old.iat));
    assert_ne!(new.jti, old.jti);
    assert_eq!(new.session.parents, std::slice::from_ref(&old.jti));
    assert_eq!(new.session.session_policies, old.session.session_policies);
    let limits = ["limit:{\"a policy\":1}", "limit:orders:GetOrder"];
    assert_eq!(new.session.narrowings, [limits]);
    assert_eq!(new.session.session_tags, old.session.session_tags);
    assert_eq!(new.session.source_identity.as_deref(), Some("alice"));
    assert_eq!(new.session.caller, old.session.caller);
    assert!(new.exp <= old.exp && new.cnf.is_none() && new.act.is_none());

    // And once more: each narrowing stays, and a scope that is not asked for is the one there was.
    let response = system
        .exchange(ExchangeRequest {
            policy_arns: vec!["arn:aws:iam::aws:policy/P".into()],
            duration_seconds: 43_200,
            ..narrowing(&response.access_token)
        })
        .await
        .unwrap();
    assert_eq!(response.scope, "orders:GetOrder");
    let last = claims(&system, &response, "orders").await;
    assert_eq!(last.exp, new.exp, "for no longer than what came in");
    assert_eq!(last.session.parents, [old.jti, new.jti]);
    let limit = vec!["limit:arn:aws:iam::aws:policy/P".to_owned()];
    assert_eq!(last.session.narrowings, [limits.map(str::to_owned).to_vec(), limit]);
    // Nobody is asked who it is, there is nothing to spend, and no role is assumed.
    assert_eq!(system.store.calls("ConsumeProof"), consumed);
    assert_eq!(system.decision.asked().len(), asked_before.len());
    let question = system.decision.exchanges().pop().unwrap();
    assert_eq!((question.scope.as_str(), question.audience.as_str()), ("", "orders"));
    assert!(!question.source_address.is_empty() && !question.at_least_revision.is_empty());
}

// ATTACKS 72, 73.
#[tokio::test]
async fn never_more_than_what_came_in() {
    let system = System::start().await;
    system.ready().await;
    let token = first(&system, |asked| asked.scope = "orders:Get*".into()).await;
    let invalid = Code::InvalidArgument;
    check(&system, &token, |r| r.scope = "orders:Put*".into(), invalid, "InvalidScope").await;
    // For a new audience somebody must answer, and nobody gets at Countersign with a service's token.
    let audience = "AudienceNotAllowed";
    for other in ["billing", "countersign", "Orders"] {
        check(&system, &token, |r| r.audience = other.into(), Code::PermissionDenied, audience)
            .await;
    }
    let before = system.decision.exchanges().len();
    let own = first(&system, |asked| asked.audience = "countersign".into()).await;
    let response = system.exchange(narrowing(&own)).await.unwrap();
    assert_eq!(claims(&system, &response, "orders").await.aud, "orders");
    assert_eq!(system.decision.exchanges().len(), before + 1);
    system.decision.exchange_answers(|_| {
        Ok(AuthorizeExchangeResponse {
            decision: Decision::ImplicitDeny.into(),
            allowed: false,
            reason: DecisionReason::NoIdentityAllow.into(),
            message: "words-of-the-decision".into(),
            ..allow_exchange(&Default::default())
        })
    });
    let refused = check(&system, &own, |_| {}, Code::PermissionDenied, "AccessDenied").await;
    assert!(!refused.message.contains("words-of-the-decision"), "{}", refused.message);

    // Answers that contradict themselves, or that lost a limit.
    let broken: [fn(&mut AuthorizeExchangeResponse); 7] = [
        |a| a.allowed = false,
        |a| a.decision = Decision::ExplicitDeny.into(),
        |a| a.decision = 0,
        |a| a.session_policies.clear(),
        |a| a.session_policies[0].clear(),
        |a| a.session_policies.push("{}".into()),
        |a| a.revision = "x".into(),
    ];
    for change in broken {
        system.decision.exchange_answers(move |request| {
            let mut answer = allow_exchange(request);
            change(&mut answer);
            Ok(answer)
        });
        let policy = |r: &mut ExchangeRequest| r.policy = "p".into();
        let refused = system.exchange({
            let mut asked = narrowing(&token);
            policy(&mut asked);
            asked
        });
        let reason = refused.await.unwrap_err().reason;
        assert!(["ServiceFailure", "AccessDenied"].contains(&reason.as_str()), "{reason}");
    }
    system.decision.exchange_answers(|_| Err(Status::unavailable("away")));
    let refused = check(&system, &token, |_| {}, Code::Unavailable, "ServiceUnavailable").await;
    assert!(refused.retry);

    // A chain of eight, and no ninth.
    system.decision.exchange_answers(|request| Ok(allow_exchange(request)));
    let mut token = token;
    for _ in 0..8 {
        token = system.exchange(narrowing(&token)).await.unwrap().access_token;
    }
    check(&system, &token, |_| {}, invalid, "ValidationError").await;
}

#[tokio::test]
async fn fields_of_another_exchange() {
    let system = System::start().await;
    system.ready().await;
    let token = first(&system, |_| {}).await;
    let before = system.decision.exchanges().len();
    type Change = (&'static str, fn(&mut ExchangeRequest));
    let changes: [Change; 13] = [
        ("role_session_name", |r| r.role_session_name = "other".into()),
        ("tags", |r| r.tags = vec![Tag { key: "k".into(), value: "v".into() }]),
        ("transitive_tag_keys", |r| r.transitive_tag_keys = vec!["k".into()]),
        ("external_id", |r| r.external_id = "e-1".into()),
        ("source_identity", |r| r.source_identity = "alice".into()),
        ("requested_token_type", |r| {
            r.requested_token_type = "urn:ietf:params:oauth:token-type:id_token".into();
        }),
        ("audience", |r| r.audience.clear()),
        ("duration_seconds", |r| r.duration_seconds = -1),
        ("duration_seconds", |r| r.duration_seconds = 43_201),
        ("scope", |r| r.scope = "x".repeat(1025)),
        ("policy", |r| r.policy = "x".repeat(16 * 1024 + 1)),
        ("client_key_thumbprint", |r| r.client_key_thumbprint = "x".into()),
        // ATTACKS 77.
        ("actor_token", |r| r.actor_token_type = ACCESS_TOKEN.into()),
    ];
    for (field, change) in changes {
        let refused =
            check(&system, &token, change, Code::InvalidArgument, "ValidationError").await;
        assert!(refused.message.starts_with(field), "{field}: {}", refused.message);
    }
    let nothing = Code::Unauthenticated;
    check(&system, "", |_| {}, nothing, "MissingAuthenticationToken").await;
    check(&system, "a.b.c", |_| {}, nothing, "InvalidToken").await;
    // ATTACKS 78: a type is what it says, and there is no id token here.
    let proof = Workload::local(&system.gateway.issuer).sign(request()).subject_token;
    check(&system, &proof, |_| {}, nothing, "InvalidToken").await;
    let lying = |r: &mut ExchangeRequest| r.subject_token_type = STS_PROOF.into();
    check(&system, &token, lying, Code::InvalidArgument, "ValidationError").await;
    assert_eq!(system.decision.exchanges().len(), before, "nobody was asked");
}

// ATTACKS 75 to 77.
#[tokio::test]
async fn who_acts_is_in_the_token() {
    let system = System::start().await;
    system.ready().await;
    let subject = first(&system, |_| {}).await;
    let mut actors = Vec::new();
    for _ in 0..5 {
        actors.push(first(&system, |asked| asked.audience = "countersign".into()).await);
    }
    let acting = |subject: &str, actor: &str| ExchangeRequest {
        actor_token: actor.into(),
        actor_token_type: ACCESS_TOKEN.into(),
        audience: "billing".into(),
        ..narrowing(subject)
    };
    let response = system.exchange(acting(&subject, &actors[0])).await.unwrap();
    let claims_of = claims(&system, &response, "billing").await;
    let act = claims_of.act.clone().unwrap();
    assert!(act.sub.starts_with("arn:aws:sts::000000000000:assumed-role/R/session-"));
    assert_ne!(act.sub, claims_of.sub);
    assert_eq!(act.act, None);
    // Revoking either of the two ends it.
    assert_eq!(claims_of.session.parents.len(), 2);
    let question = system.decision.exchanges().pop().unwrap();
    assert_eq!(
        (question.subject_token, question.actor_token),
        (subject.clone(), actors[0].clone())
    );
    // What it is narrowed to further says so too.
    let kept = ExchangeRequest { audience: "billing".into(), ..narrowing(&response.access_token) };
    let kept = system.exchange(kept).await.unwrap();
    assert_eq!(claims(&system, &kept, "billing").await.act, Some(act));

    // Who acted before is kept whole; a fifth is too many.
    let mut token = subject.clone();
    for (index, actor) in actors.iter().enumerate() {
        let outcome = system.exchange(acting(&token, actor)).await;
        if index == 4 {
            assert_eq!(outcome.unwrap_err().reason, "ValidationError");
            break;
        }
        let response = outcome.unwrap();
        let act = claims(&system, &response, "billing").await.act.unwrap();
        assert_eq!(act.depth(), index + 1);
        token = response.access_token;
    }

    let (invalid, bad) = (Code::InvalidArgument, Code::Unauthenticated);
    let asked = |change: fn(&mut ExchangeRequest)| {
        let mut asked = acting(&subject, &actors[0]);
        change(&mut asked);
        asked
    };
    let itself = first(&system, |asked| asked.audience = "countersign".into()).await;
    let of_itself = system
        .exchange(ExchangeRequest { audience: "countersign".into(), ..narrowing(&itself) })
        .await
        .unwrap()
        .access_token;
    let delegated =
        ExchangeRequest { audience: "countersign".into(), ..acting(&itself, &actors[1]) };
    let delegated = system.exchange(delegated).await.unwrap().access_token;
    for (name, asked, code, reason) in [
        ("no type", asked(|r| r.actor_token_type.clear()), invalid, "ValidationError"),
        ("no token", asked(|r| r.actor_token.clear()), invalid, "ValidationError"),
        ("a proof", asked(|r| r.actor_token_type = STS_PROOF.into()), invalid, "ValidationError"),
        ("the same token", acting(&itself, &itself), invalid, "ValidationError"),
        ("the same session", acting(&itself, &of_itself), invalid, "ValidationError"),
        ("for a service", acting(&itself, &subject), bad, "WrongAudience"),
        ("acting already", acting(&itself, &delegated), invalid, "ValidationError"),
        ("no token at all", acting(&itself, "a.b.c"), bad, "InvalidToken"),
        (
            "to Countersign",
            asked(|r| r.audience = "countersign".into()),
            Code::PermissionDenied,
            "AudienceNotAllowed",
        ),
    ] {
        let refused = system.exchange(asked).await.unwrap_err();
        assert_eq!((refused.code, refused.reason.as_str()), (code, reason), "{name}: {refused:?}");
    }
    // Nor longer than the actor.
    let brief = ExchangeRequest {
        duration_seconds: 30,
        audience: "countersign".into(),
        ..narrowing(&actors[2])
    };
    let brief = system.exchange(brief).await.unwrap().access_token;
    let response = system.exchange(acting(&subject, &brief)).await.unwrap();
    assert!(response.expires_in <= 30, "{}", response.expires_in);
}

// ATTACKS 76.
#[tokio::test]
async fn who_may_act_is_in_the_token() {
    let system = System::start().await;
    system.ready().await;
    let actor = first(&system, |asked| asked.audience = "countersign".into()).await;
    let other = first(&system, |asked| asked.audience = "countersign".into()).await;
    let of_actor = {
        let response = ExchangeResponse { access_token: actor.clone(), ..Default::default() };
        claims(&system, &response, "countersign").await
    };
    for name in [of_actor.sub.clone(), of_actor.client_id.clone()] {
        let token = first(&system, |asked| asked.may_act = name.clone()).await;
        let acting = |actor: &str| ExchangeRequest {
            actor_token: actor.into(),
            actor_token_type: ACCESS_TOKEN.into(),
            ..narrowing(&token)
        };
        let before = system.decision.exchanges().len();
        let chained = ExchangeRequest {
            subject_token: first(&system, |asked| {
                asked.may_act = name.clone();
                asked.audience = "countersign".into();
            })
            .await,
            subject_token_type: ACCESS_TOKEN.into(),
            ..request()
        };
        let changed = ExchangeRequest { may_act: "AROAOTHER:s".into(), ..acting(&actor) };
        for (which, asked) in [
            ("another", acting(&other)),
            ("nobody", narrowing(&token)),
            ("nobody, to a role", chained),
        ] {
            let refused = system.exchange(asked).await.unwrap_err();
            assert_eq!(refused.reason, "ActorNotAllowed", "{which}: {refused:?}");
            assert_eq!(refused.code, Code::PermissionDenied, "{which}");
        }
        assert_eq!(system.decision.exchanges().len(), before, "nobody was asked");
        assert_eq!(system.exchange(changed).await.unwrap_err().reason, "ActorNotAllowed");
        // Whom it names may act, and stays the only one who may: also for the token that comes out.
        let response = system.exchange(acting(&actor)).await.unwrap();
        let out = claims(&system, &response, "orders").await;
        assert_eq!(out.act.unwrap().sub, of_actor.sub);
        assert_eq!(out.may_act.as_ref().map(MayAct::name), Some(name.as_str()));
        assert_eq!(out.may_act.unwrap().iss, system.gateway.issuer);
        let again = ExchangeRequest { subject_token: response.access_token, ..acting(&other) };
        assert_eq!(system.exchange(again).await.unwrap_err().reason, "ActorNotAllowed");
    }
    // The same name of a role that was made again is not that unique form.
    let token =
        first(&system, |asked| asked.may_act = format!("AROAOLD{}", of_actor.client_id)).await;
    let acting = ExchangeRequest {
        actor_token: actor.clone(),
        actor_token_type: ACCESS_TOKEN.into(),
        ..narrowing(&token)
    };
    assert_eq!(system.exchange(acting).await.unwrap_err().reason, "ActorNotAllowed");
    for bad in [
        "x",
        "arn:aws:iam::000000000000:role/R",
        "arn:aws:sts::000000000000:assumed-role/R",
        "a:b:c",
        ":s",
        "r:",
    ] {
        let mut asked = narrowing(&actor);
        asked.may_act = bad.into();
        let refused = system.exchange(asked).await.unwrap_err();
        assert_eq!(refused.reason, "ValidationError", "{bad}");
        assert!(refused.message.starts_with("may_act"), "{bad}: {}", refused.message);
    }
}
