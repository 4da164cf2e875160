//! Proofs and callers that are refused, each with its own reason.

use countersign_proto::{
    decision::v1::{
        AuthorizeAssumeRoleRequest, AuthorizeAssumeRoleResponse, Decision, DecisionReason,
    },
    token::v1::ExchangeRequest,
};
use countersign_serve::{Fault, grpc::wait_until_serving};
use std::time::Duration;
use tonic::Code;

use crate::{
    decision::{allow, deny},
    proofs::{INACTIVE_KEY, Workload, request, spoil},
    store::CONSUMED_AT,
    sts,
    system::{SERVICE, System, now},
};

#[tokio::test]
async fn proofs() {
    let system = System::start().await;
    system.ready().await;
    let issuer = system.gateway.issuer.clone();
    let local = Workload::local(&issuer);
    let check = async |name: &str, signed: ExchangeRequest, code: Code, reason: &str| {
        let refused = system.exchange(signed).await.expect_err(name);
        assert_eq!((refused.code, refused.reason.as_str()), (code, reason), "{name}: {refused:?}");
    };
    let sign = |change: fn(&mut Workload)| local.with(change).sign(request());
    let bad = Code::Unauthenticated;
    check("nothing", ExchangeRequest::default(), bad, "MissingAuthenticationToken").await;
    check("wrong secret", sign(|w| w.secret.push('x')), bad, "SignatureDoesNotMatch").await;
    check(
        "unknown key",
        sign(|w| w.access_key = "AKIANOBODY0000000001".into()),
        bad,
        "InvalidClientTokenId",
    )
    .await;
    check(
        "inactive key",
        sign(|w| w.access_key = INACTIVE_KEY.into()),
        bad,
        "InvalidClientTokenId",
    )
    .await;
    // ATTACKS 22
    let without = spoil(sign(|_| {}), |proof| {
        proof["headers"].as_object_mut().unwrap().remove("x-countersign-audience");
    });
    check("no audience header", without, bad, "MissingAudienceHeader").await;
    check(
        "another gateway's",
        sign(|w| w.audience = "https://other.example".into()),
        bad,
        "WrongAudience",
    )
    .await;
    check("our name with a slash", sign(|w| w.audience.push('/')), bad, "WrongAudience").await;
    // ATTACKS 1, 5, 8, 10, 11
    check(
        "another host",
        sign(|w| w.origin = "https://attacker.example".into()),
        bad,
        "HostNotAllowed",
    )
    .await;
    check(
        "AWS in the clear",
        sign(|w| w.origin = "http://sts.amazonaws.com".into()),
        bad,
        "HostNotAllowed",
    )
    .await;
    check("metadata", sign(|w| w.origin = "http://169.254.169.254".into()), bad, "HostNotAllowed")
        .await;
    check(
        "our own policy store",
        sign(|w| w.origin = "http://127.0.0.1:1".into()),
        bad,
        "HostNotAllowed",
    )
    .await;
    let china = sign(|w| {
        w.origin = "https://sts.cn-north-1.amazonaws.com.cn".into();
        w.region = "cn-north-1".into();
    });
    check("another partition", china, bad, "PartitionNotAllowed").await;
    check("another region", sign(|w| w.region = "eu-west-1".into()), bad, "RegionMismatch").await;
    // ATTACKS 32, 33
    check("old", sign(|w| w.now -= 120), bad, "ProofExpired").await;
    check("of the future", sign(|w| w.now += 120), bad, "ProofNotYetValid").await;
    assert_eq!(system.store.calls("ConsumeProof"), 0);
    assert!(system.decision.asked().is_empty(), "nobody was proven");
}

// ATTACKS 35, 36, 40.
#[tokio::test]
async fn two_identical_proofs_mint_one_token() {
    let system = System::start().await;
    system.ready().await;
    let signed = Workload::external(&system.gateway.issuer, &system.sts.origin).sign(request());
    let at_once: Vec<_> = (0..8).map(|_| system.exchange(signed.clone())).collect();
    let outcomes = join_all(at_once).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1, "{outcomes:?}");
    for refused in outcomes.into_iter().filter_map(Result::err) {
        assert_eq!(
            (refused.code, refused.reason.as_str()),
            (Code::Unauthenticated, "ProofAlreadyUsed")
        );
    }
    assert_eq!(system.sts.asked(), 1, "the others did not reach STS");
    let again = system.exchange(signed.clone()).await.unwrap_err();
    assert_eq!(again.reason, "ProofAlreadyUsed");

    // A restarted gateway, or another one of the same name, has no memory of it; the store has.
    system.store.with(|inner| assert_eq!(inner.consumed.len(), 1));
    let fresh = Workload::external(&system.gateway.issuer, &system.sts.origin).sign(request());
    let key = {
        let proof = countersign_sigv4::StsProof::parse(&fresh.subject_token).unwrap();
        proof.replay_key()
    };
    system.store.with(|inner| inner.consumed.insert(key));
    let refused = system.exchange(fresh).await.unwrap_err();
    assert_eq!(
        (refused.code, refused.reason.as_str()),
        (Code::Unauthenticated, "ProofAlreadyUsed")
    );
}

async fn join_all<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let mut pending: Vec<_> = futures.into_iter().map(Box::pin).map(Some).collect();
    let mut done: Vec<Option<F::Output>> = pending.iter().map(|_| None).collect();
    std::future::poll_fn(move |context| {
        for (slot, output) in pending.iter_mut().zip(&mut done) {
            if let Some(future) = slot
                && let std::task::Poll::Ready(value) = future.as_mut().poll(context)
            {
                *output = Some(value);
                *slot = None;
            }
        }
        if pending.iter().any(Option::is_some) {
            return std::task::Poll::Pending;
        }
        std::task::Poll::Ready(done.iter_mut().map(|output| output.take().unwrap()).collect())
    })
    .await
}

#[tokio::test]
async fn what_the_decision_service_denies() {
    let system = System::start().await;
    system.ready().await;
    let local = Workload::local(&system.gateway.issuer);
    let external = Workload::external(&system.gateway.issuer, &system.sts.origin);
    let other_account =
        || ExchangeRequest { role_arn: "arn:aws:iam::999999999999:role/R".into(), ..request() };
    let check =
        async |signed: ExchangeRequest, reason: &str, told: bool| {
            let refused = system.exchange(signed).await.unwrap_err();
            assert_eq!(
                (refused.code, refused.reason.as_str()),
                (Code::PermissionDenied, reason),
                "{refused:?}"
            );
            assert_eq!(refused.message.contains("words-of-the-decision"), told, "{refused:?}");
            assert!(refused.message.contains(
                " is not authorized to perform: sts:AssumeRole on resource: arn:aws:iam::"
            ));
            assert!(refused.message.contains("decision d-2"), "{refused:?}");
        };
    system.decision.answers(|_| Ok(deny(DecisionReason::NoTrustAllow)));
    check(local.sign(request()), "AccessDenied", true).await;
    check(local.sign(other_account()), "AccessDenied", false).await;
    check(external.sign(request()), "AccessDenied", false).await;
    // Whether there is such a role is told to its own account alone.
    system.decision.answers(|_| Ok(deny(DecisionReason::RoleNotFound)));
    check(local.sign(request()), "RoleNotFound", true).await;
    check(local.sign(other_account()), "AccessDenied", false).await;
    check(external.sign(request()), "AccessDenied", false).await;

    system.decision.answers(|_| Err(Fault::invalid("duration_seconds", "at most 3600").into()));
    let refused = system.exchange(local.sign(request())).await.unwrap_err();
    assert_eq!((refused.code, refused.reason.as_str()), (Code::InvalidArgument, "ValidationError"));
    assert_eq!(system.store.calls("ConsumeProof"), 0, "nothing is spent for who is denied");
}

/// A decision service that lagged at first: the grant was taken back before the proof was spent.
#[tokio::test]
async fn m5_an_old_grant_is_not_used() {
    let system = System::start().await;
    system.ready().await;
    for workload in [
        Workload::local(&system.gateway.issuer),
        Workload::external(&system.gateway.issuer, &system.sts.origin),
    ] {
        let before = system.decision.asked().len();
        system.decision.answers(|request| {
            Ok(if request.at_least_revision != CONSUMED_AT {
                AuthorizeAssumeRoleResponse { pin_required: true, ..allow(request) }
            } else {
                deny(DecisionReason::NoTrustAllow)
            })
        });
        let refused = system.exchange(workload.sign(request())).await.unwrap_err();
        assert_eq!(
            (refused.code, refused.reason.as_str()),
            (Code::PermissionDenied, "AccessDenied"),
            "{refused:?}"
        );
        let asked = system.decision.asked().split_off(before);
        let [first, second] = asked.as_slice() else { panic!("{asked:?}") };
        assert_eq!(second.at_least_revision, CONSUMED_AT);
        let floor = first.at_least_revision.clone();
        assert_eq!(
            first,
            &AuthorizeAssumeRoleRequest { at_least_revision: floor, ..second.clone() },
            "the same question"
        );
    }
    assert_eq!(system.store.calls("ConsumeProof"), 2);
    assert_eq!(system.store.calls("PinPrincipal"), 0, "nobody is pinned for who is denied");
}

/// What is minted is what the second answer says.
#[tokio::test]
async fn m5_the_second_answer_counts() {
    let system = System::start().await;
    system.ready().await;
    let local = Workload::local(&system.gateway.issuer);
    system.decision.answers(|request| {
        Ok(if request.at_least_revision != CONSUMED_AT {
            // Nothing is pinned of the first answer: for a local caller that would be refused.
            AuthorizeAssumeRoleResponse { pin_required: true, ..allow(request) }
        } else {
            AuthorizeAssumeRoleResponse { duration_seconds: 900, ..allow(request) }
        })
    });
    let asked = ExchangeRequest { duration_seconds: 0, ..request() };
    assert_eq!(system.exchange(local.sign(asked)).await.unwrap().expires_in, 900);

    let check = async |revision: &'static str, code: Code, reason: &str| {
        system.decision.answers(move |request| {
            let mut answer = allow(request);
            if request.at_least_revision == CONSUMED_AT {
                answer.revision = revision.into();
            }
            Ok(answer)
        });
        let refused = system.exchange(local.sign(request())).await.unwrap_err();
        assert_eq!((refused.code, refused.reason.as_str()), (code, reason), "{refused:?}");
    };
    check("teststore:8", Code::Internal, "ServiceFailure").await;
    check("otherstore:9", Code::Unavailable, "OtherStore").await;
    // It follows another store, or is not there yet.
    for (code, expected) in [
        (Code::FailedPrecondition, (Code::Unavailable, "OtherStore")),
        (Code::Unavailable, (Code::Unavailable, "ServiceUnavailable")),
    ] {
        system.decision.answers(move |request| {
            if request.at_least_revision != CONSUMED_AT {
                Ok(allow(request))
            } else {
                Err(Fault::new(code, "R", "words").into())
            }
        });
        let refused = system.exchange(local.sign(request())).await.unwrap_err();
        assert_eq!((refused.code, refused.reason.as_str()), expected, "{refused:?}");
    }
}

#[tokio::test]
async fn an_answer_that_contradicts_itself_is_no_permission() {
    let system = System::start().await;
    system.ready().await;
    let local = Workload::local(&system.gateway.issuer);
    type Change = fn(&mut AuthorizeAssumeRoleResponse);
    let changes: [(&str, Change); 12] = [
        ("not allowed", |a| a.allowed = false),
        ("denied, and allowed", |a| a.decision = Decision::ImplicitDeny.into()),
        ("no decision", |a| a.decision = Decision::Unspecified.into()),
        ("unknown decision", |a| a.decision = 77),
        ("another account", |a| a.account_id = "999999999999".into()),
        ("another role", |a| a.role_name = "Other".into()),
        ("no role id", |a| a.role_id.clear()),
        ("longer than asked", |a| a.duration_seconds = 901),
        ("no duration", |a| a.duration_seconds = 0),
        ("no revision", |a| a.revision.clear()),
        ("nothing to pin", |a| a.pin_required = true),
        ("another store", |a| a.revision = "otherstore:1".into()),
    ];
    for (name, change) in changes {
        system.decision.answers(move |request| {
            let mut answer = allow(request);
            change(&mut answer);
            Ok(answer)
        });
        let refused = system.exchange(local.sign(request())).await.expect_err(name);
        let expected = if name == "another store" {
            (Code::Unavailable, "OtherStore")
        } else {
            (Code::Internal, "ServiceFailure")
        };
        assert_eq!((refused.code, refused.reason.as_str()), expected, "{name}: {refused:?}");
    }
}

#[tokio::test]
async fn principals_that_an_endpoint_may_not_name() {
    let system = System::start().await;
    system.ready().await;
    let external = Workload::external(&system.gateway.issuer, &system.sts.origin);
    let user = "AIDAEXTERNAL123456789";
    let rows = [
        ("arn:aws:iam::210987654321:user/bob", user, Code::Unauthenticated, "AccountNotAllowed"),
        (
            "arn:aws:iam::000000000000:user/team/alice",
            user,
            Code::Unauthenticated,
            "AccountNotAllowed",
        ),
        ("arn:aws-cn:iam::123456789012:user/bob", user, Code::Unauthenticated, "PartitionMismatch"),
        (
            "arn:aws:iam::123456789012:root",
            "123456789012",
            Code::PermissionDenied,
            "RootNotAllowed",
        ),
        (
            "arn:aws:sts::123456789012:federated-user/bob",
            "123456789012:bob",
            Code::PermissionDenied,
            "FederatedUserNotAllowed",
        ),
    ];
    for (arn, user_id, code, reason) in rows {
        system.sts.answers(sts::identity(arn, user_id));
        let refused = system.exchange(external.sign(request())).await.expect_err(arn);
        assert_eq!((refused.code, refused.reason.as_str()), (code, reason), "{arn}");
    }
    assert!(system.decision.asked().is_empty());
}

#[tokio::test]
async fn without_a_lease_nothing_is_signed() {
    let system = System::start_with(|store| store.with(|inner| inner.lease = 3), "").await;
    system.ready().await;
    system.store.with(|inner| inner.away.insert("PublishSigningKey"));
    let local = Workload::local(&system.gateway.issuer);
    let deadline = now() + 15;
    let refused = loop {
        match system.exchange(local.with(|w| w.now = now()).sign(request())).await {
            Ok(_) => assert!(now() < deadline, "the lease never ends"),
            Err(refused) => break refused,
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    assert_eq!(
        (refused.code, refused.reason.as_str(), refused.retry),
        (Code::Unavailable, "KeyLeaseExpired", true)
    );
    assert_eq!(system.gateway.http_get("/healthz").await.0, 503);

    // The store is back, and the lease with it.
    system.store.with(|inner| {
        inner.lease = 3600;
        inner.away.remove("PublishSigningKey")
    });
    tokio::time::sleep(Duration::from_secs(3)).await;
    wait_until_serving(&system.gateway.origin, SERVICE, Duration::from_secs(10)).await.unwrap();
    system.exchange(local.with(|w| w.now = now()).sign(request())).await.unwrap();

    system.store.revoke_all_keys();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let refused = system.exchange(local.with(|w| w.now = now()).sign(request())).await.unwrap_err();
    assert_eq!((refused.code, refused.reason.as_str()), (Code::Unavailable, "SigningKeyRevoked"));
    assert_eq!(system.gateway.http_get("/.well-known/jwks.json").await.2, r#"{"keys":[]}"#);
}
