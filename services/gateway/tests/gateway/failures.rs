//! What happens when others fail: STS answers badly or not at all, a service is away. It never ends in a token.

use std::time::Duration;

use tonic::{Code, Status};

use crate::{
    decision::allow,
    proofs::{Workload, request},
    sts::{self, Answer, raw},
    system::System,
};

// ATTACKS 7, 27, 41 to 44, 50.
#[tokio::test]
async fn an_sts_that_answers_badly() {
    let system = System::start().await;
    system.ready().await;
    let external = Workload::external(&system.gateway.issuer, &system.sts.origin);
    let good = sts::xml(sts::ARN, sts::USER_ID, sts::ACCOUNT);
    let twice = good.replace(
        "</GetCallerIdentityResponse>",
        "<GetCallerIdentityResult/></GetCallerIdentityResponse>",
    );
    let bad = Code::Unauthenticated;
    let away = Code::Unavailable;
    let rows: Vec<(&str, Answer, Code, &str)> = vec![
        ("redirect", Answer::Redirect(system.sts.origin.clone()), bad, "AnswerRedirected"),
        (
            "redirect to metadata",
            Answer::Redirect("http://169.254.169.254/".into()),
            bad,
            "AnswerRedirected",
        ),
        ("error page with an identity", raw(404, "text/xml", &*good), bad, "StsRefused"),
        ("created", raw(201, "text/xml", &*good), bad, "UnexpectedStatus"),
        ("wrong type", raw(200, "text/html", &*good), bad, "AnswerTypeMismatch"),
        ("JSON unasked", raw(200, "application/json", "{}"), bad, "AnswerTypeMismatch"),
        ("empty", raw(200, "text/xml", ""), bad, "AnswerMalformed"),
        ("two results", raw(200, "text/xml", twice), bad, "AnswerMalformed"),
        ("junk before", raw(200, "text/xml", format!("x{good}")), bad, "AnswerMalformed"),
        ("junk after", raw(200, "text/xml", format!("{good}<x/>")), bad, "AnswerMalformed"),
        (
            "doctype",
            raw(200, "text/xml", format!("<!DOCTYPE x [<!ENTITY a \"b\">]>{good}")),
            bad,
            "AnswerMalformed",
        ),
        (
            "namespace",
            raw(200, "text/xml", good.replace("2011-06-15", "2010-05-08")),
            bad,
            "AnswerMalformed",
        ),
        (
            "huge",
            raw(200, "text/xml", format!("{good}{}", " ".repeat(1 << 20))),
            bad,
            "AnswerTooLarge",
        ),
        (
            "account",
            raw(200, "text/xml", sts::xml(sts::ARN, sts::USER_ID, "210987654321")),
            bad,
            "AccountMismatch",
        ),
        (
            "user id",
            raw(200, "text/xml", sts::xml(sts::ARN, "AROAEXTERNAL123456789:other", sts::ACCOUNT)),
            bad,
            "UserIdMismatch",
        ),
        (
            "kind",
            raw(200, "text/xml", sts::xml(sts::ARN, "AIDAEXTERNAL123456789", sts::ACCOUNT)),
            bad,
            "UserIdMismatch",
        ),
        (
            "arn",
            raw(
                200,
                "text/xml",
                sts::xml("arn:aws:sts::123456789012:assumed-role/x", sts::USER_ID, sts::ACCOUNT),
            ),
            bad,
            "ArnMalformed",
        ),
        ("expired", sts::error(403, "ExpiredToken"), bad, "ExpiredToken"),
        ("unknown", sts::error(403, "InvalidClientTokenId"), bad, "InvalidClientTokenId"),
        ("throttled", sts::error(400, "Throttling"), away, "StsUnavailable"),
        ("throttled", raw(429, "text/plain", ""), away, "StsUnavailable"),
        ("down", raw(500, "text/plain", ""), away, "StsUnavailable"),
        ("down, with an identity", raw(503, "text/xml", &*good), away, "StsUnavailable"),
        ("silent", Answer::Silence, away, "StsUnavailable"),
    ];
    for (name, answer, code, reason) in rows {
        system.sts.answers(answer);
        let asked = system.sts.asked();
        let started = std::time::Instant::now();
        let refused = system
            .exchange(external.with(|w| w.now = crate::system::now()).sign(request()))
            .await
            .expect_err(name);
        assert_eq!((refused.code, refused.reason.as_str()), (code, reason), "{name}: {refused:?}");
        assert_eq!(refused.retry, code == away, "{name}");
        assert_eq!(system.sts.asked(), asked + 1, "{name}: asked once");
        assert!(started.elapsed() < Duration::from_secs(7), "{name}");
    }
    assert!(system.decision.asked().is_empty(), "nobody was proven");
    assert_eq!(system.store.calls("ConsumeProof"), 0);
}

#[tokio::test]
async fn a_proof_that_nobody_could_judge_may_come_again() {
    let system = System::start().await;
    system.ready().await;
    let external = Workload::external(&system.gateway.issuer, &system.sts.origin);
    system.sts.answers(raw(500, "text/plain", ""));
    let signed = external.sign(request());
    let refused = system.exchange(signed.clone()).await.unwrap_err();
    assert_eq!(
        (refused.code, refused.reason.as_str(), refused.retry),
        (Code::Unavailable, "StsUnavailable", true)
    );
    // Once it was judged, it may not.
    system.sts.answers(sts::error(403, "ExpiredToken"));
    assert_eq!(system.exchange(signed.clone()).await.unwrap_err().reason, "ExpiredToken");
    system.sts.answers(sts::identity(sts::ARN, sts::USER_ID));
    assert_eq!(system.exchange(signed).await.unwrap_err().reason, "ProofAlreadyUsed");
}

#[tokio::test]
async fn services_that_are_away() {
    let system = System::start().await;
    system.ready().await;
    let local = Workload::local(&system.gateway.issuer);
    let check = async |signed| {
        let refused = system.exchange(signed).await.unwrap_err();
        assert_eq!((refused.code, refused.retry), (Code::Unavailable, true), "{refused:?}");
        assert!(!refused.message.contains("secret-cause"), "{refused:?}");
        refused.reason
    };
    let signed = local.sign(request());
    system.decision.answers(|_| Err(Status::unavailable("secret-cause")));
    assert_eq!(check(signed.clone()).await, "ServiceUnavailable");
    system.decision.answers(|request| Ok(allow(request)));
    system.store.with(|inner| inner.away.insert("ConsumeProof"));
    assert_eq!(check(signed.clone()).await, "ServiceUnavailable");
    system.store.with(|inner| inner.away.remove("ConsumeProof"));
    system.store.with(|inner| inner.away.insert("DeriveSigningKey"));
    assert_eq!(check(signed.clone()).await, "StsUnavailable");
    system.store.with(|inner| inner.away.clear());
    system.exchange(signed).await.unwrap();

    // A service that refuses the gateway is misconfigured: that is nobody's turn to try again.
    system.decision.answers(|_| Err(Status::permission_denied("secret-cause")));
    let refused = system.exchange(local.sign(request())).await.unwrap_err();
    assert_eq!((refused.code, refused.reason.as_str()), (Code::Internal, "ServiceFailure"));
    assert!(!refused.message.contains("secret-cause"));
}

#[tokio::test]
async fn a_gateway_waits_for_the_store() {
    let system = System::start_with(
        |store| {
            store.with(|inner| {
                inner.away.insert("PublishSigningKey");
            })
        },
        "",
    )
    .await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let local = Workload::local(&system.gateway.issuer);
    let refused = system.exchange(local.sign(request())).await.unwrap_err();
    assert_eq!((refused.code, refused.reason.as_str()), (Code::Unavailable, "NoSigningKey"));
    assert_eq!(system.gateway.http_get("/healthz").await.0, 503);
    system.store.with(|inner| inner.away.clear());
    system.ready().await;
    system.exchange(local.with(|w| w.now = crate::system::now()).sign(request())).await.unwrap();
    system.stop().await;
}
