//! What the decision service promises, over real gRPC.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test"
)]

#[path = "service/anonymous.rs"]
mod anonymous;
#[path = "service/bound.rs"]
mod bound;
#[path = "service/entities.rs"]
mod entities;
#[path = "service/envoy.rs"]
mod envoy;
#[path = "service/guardrails.rs"]
mod guardrails;
mod harness;
#[path = "service/kept.rs"]
mod kept;
#[path = "service/log.rs"]
mod log;
#[path = "service/many.rs"]
mod many;
#[path = "service/revisions.rs"]
mod revisions;
#[path = "service/who_can.rs"]
mod who_can;

use std::time::{Duration, Instant};

use countersign_decision::SERVICE_NAME;
use countersign_proto::{
    decision::v1::{
        AuthorizeAssumeRoleRequest, AuthorizeExchangeRequest, AuthorizeRequest,
        AuthorizeStreamRequest, BatchAuthorizeRequest, Decision, DecisionReason, ExplainRequest,
        FilterResourcesRequest, GetStatusRequest, GetStatusResponse, PolicyType, WhoCanRequest,
        authorize_request::Subject, explain_request,
    },
    policy::v1::record::Record as Kind,
};
use countersign_serve::{ServiceCredential, ServiceSecret, grpc::wait_until_serving};
use countersign_token::{SigningKey, mint};
use harness::{
    ORDER, OURS, Store, System, THEIRS, app, assume, by, eventually, now, question, record,
    refused, role, signing_key,
};
use tonic::{Code, Request, Status, service::Interceptor};

/// Every RPC, with the metadata of `request`.
async fn every_rpc(
    system: &System,
    request: &Request<()>,
) -> Vec<(&'static str, Result<(), Status>)> {
    fn with<T>(request: &Request<()>, message: T) -> Request<T> {
        let mut new = Request::new(message);
        *new.metadata_mut() = request.metadata().clone();
        new
    }
    let mut client = system.client.clone();
    vec![
        ("Authorize", client.authorize(with(request, AuthorizeRequest::default())).await.map(drop)),
        (
            "BatchAuthorize",
            client.batch_authorize(with(request, BatchAuthorizeRequest::default())).await.map(drop),
        ),
        (
            "AuthorizeStream",
            client
                .authorize_stream(with(
                    request,
                    tokio_stream::iter([AuthorizeStreamRequest::default()]),
                ))
                .await
                .map(drop),
        ),
        ("Explain", client.explain(with(request, ExplainRequest::default())).await.map(drop)),
        (
            "AuthorizeAssumeRole",
            client
                .authorize_assume_role(with(request, AuthorizeAssumeRoleRequest::default()))
                .await
                .map(drop),
        ),
        (
            "AuthorizeExchange",
            client
                .authorize_exchange(with(request, AuthorizeExchangeRequest::default()))
                .await
                .map(drop),
        ),
        ("WhoCan", client.who_can(with(request, WhoCanRequest::default())).await.map(drop)),
        (
            "FilterResources",
            client
                .filter_resources(with(request, FilterResourcesRequest::default()))
                .await
                .map(drop),
        ),
        ("GetStatus", client.get_status(with(request, GetStatusRequest {})).await.map(drop)),
    ]
}

#[tokio::test]
async fn strangers_are_refused_by_every_rpc() {
    async fn check(system: &System, request: Request<()>, reason: &str) {
        for (rpc, outcome) in every_rpc(system, &request).await {
            let (code, found, _) = refused(outcome);
            assert_eq!((code, found.as_str()), (Code::Unauthenticated, reason), "{rpc}");
        }
    }
    let system = System::start().await;
    check(&system, Request::new(()), "MissingAuthenticationToken").await;
    check(&system, by("garbage", ()), "InvalidToken").await;
    check(&system, by(&system.token("Checker", "orders"), ()), "WrongAudience").await;
    let expired = system.minted("Checker", "countersign", |claims| {
        claims.iat -= 1000;
        claims.exp = now() - 1;
    });
    check(&system, by(&expired, ()), "ExpiredToken").await;
    let foreign =
        system.minted("Checker", "countersign", |claims| claims.iss = "http://elsewhere".into());
    check(&system, by(&foreign, ()), "WrongIssuer").await;
    let forged =
        mint(&system.claims("Checker", "countersign", |_| {}), &SigningKey::generate().unwrap())
            .unwrap();
    check(&system, by(&forged, ()), "UnknownKey").await;
    let gone = system.token("Gone", "countersign");
    check(&system, by(&gone, ()), "InvalidToken").await;
    let stranger =
        ServiceCredential::new(&ServiceSecret::generate().unwrap()).call(Request::new(())).unwrap();
    check(&system, stranger, "InvalidServiceIdentity").await;
    let mut both = system.by_gateway(());
    let bearer = system.by_checker(()).metadata().get("authorization").unwrap().clone();
    both.metadata_mut().insert("authorization", bearer);
    check(&system, both, "InvalidToken").await;
}

#[tokio::test]
async fn what_comes_later_says_so() {
    let system = System::start().await;
    let outcomes = every_rpc(&system, &system.by_checker(())).await;
    let unimplemented: Vec<&str> = outcomes
        .iter()
        .filter(|(_, outcome)| {
            outcome.as_ref().is_err_and(|status| status.code() == Code::Unimplemented)
        })
        .map(|(rpc, _)| *rpc)
        .collect();
    assert_eq!(unimplemented, [""; 0]);
}

#[tokio::test]
async fn it_serves_from_the_first_snapshot_on() {
    let system = System::begin(Duration::from_millis(100)).await;
    let early = wait_until_serving(&system.origin, SERVICE_NAME, Duration::from_millis(200)).await;
    assert!(early.unwrap_err().to_string().contains("NOT_SERVING"));
    let (code, _, _) = refused(system.authorize(question(system.token("App", "orders"))).await);
    assert_eq!(code, Code::Unavailable);
    // A service may ask how it stands.
    let status = system
        .client
        .clone()
        .get_status(system.by_gateway(GetStatusRequest {}))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(status.revision, "");
    system.store.open();
    wait_until_serving(&system.origin, SERVICE_NAME, Duration::from_secs(5)).await.unwrap();
}

#[tokio::test]
async fn allowed_denied_and_denied_at_once_after_a_detach() {
    let system = System::start().await;
    let token = system.token("App", "orders");
    let answer = system.authorize(question(token.clone())).await.unwrap();
    assert_eq!((answer.decision(), answer.allowed), (Decision::Allow, true));
    assert_eq!(answer.reason(), DecisionReason::AllowedByIdentityPolicy);
    assert_eq!(
        answer.message,
        "allowed by statement Read of policy arn:aws:iam::111122223333:policy/Orders"
    );
    assert_eq!(answer.principal_arn, "arn:aws:sts::111122223333:assumed-role/App/s1");
    assert_eq!(answer.revision, system.store.revision());
    assert!(answer.decision_id.starts_with("d-") && answer.snapshot_age.is_some());
    let determining = &answer.determining_statements[0];
    assert_eq!(
        (determining.policy_type(), determining.version_id.as_str()),
        (PolicyType::Identity, "v2")
    );
    assert_eq!(
        (determining.sid.as_str(), determining.index, answer.determining_statement_count),
        ("Read", 0, 1)
    );

    let other = AuthorizeRequest { action: "dynamodb:GetItem".into(), ..question(token.clone()) };
    let answer = system.authorize(other).await.unwrap();
    assert_eq!(
        (answer.decision(), answer.allowed, answer.reason()),
        (Decision::ImplicitDeny, false, DecisionReason::NoIdentityAllow)
    );
    assert!(
        answer
            .message
            .starts_with("no identity policy of role App allows dynamodb:GetItem on arn:"),
        "{}",
        answer.message
    );

    let revision = system.store.put(app(false));
    let again = AuthorizeRequest { at_least_revision: revision.clone(), ..question(token) };
    let answer = system.authorize(again).await.unwrap();
    assert_eq!((answer.decision(), answer.revision), (Decision::ImplicitDeny, revision));
}

#[tokio::test]
async fn tokens_that_are_refused() {
    async fn check(system: &System, request: AuthorizeRequest, expected: &str) {
        let (code, reason, message) = refused(system.authorize(request).await);
        assert_eq!((code, reason.as_str()), (Code::InvalidArgument, expected), "{message}");
        assert!(message.starts_with("token: "), "{message}");
    }
    let system = System::start().await;
    check(&system, question("garbage".into()), "InvalidToken").await;
    check(&system, question(system.token("App", "payments")), "WrongAudience").await;
    check(
        &system,
        AuthorizeRequest { audience: "payments".into(), ..question(system.token("App", "orders")) },
        "WrongAudience",
    )
    .await;
    let expired = system.minted("App", "orders", |claims| {
        claims.iat -= 1000;
        claims.exp = now() - 1;
    });
    check(&system, question(expired), "ExpiredToken").await;
    check(
        &system,
        question(system.minted("App", "orders", |claims| claims.iss.push('/'))),
        "WrongIssuer",
    )
    .await;
    let forged =
        mint(&system.claims("App", "orders", |_| {}), &SigningKey::generate().unwrap()).unwrap();
    check(&system, question(forged), "UnknownKey").await;
    let unreadable = system
        .minted("App", "orders", |claims| claims.session.session_policies = vec!["{}".into()]);
    check(&system, question(unreadable), "InvalidToken").await;
}

#[tokio::test]
async fn roles_that_are_gone_or_made_again() {
    let system = System::start().await;
    let token = system.token("App", "orders");
    let ask = |revision: String| {
        let request = AuthorizeRequest { at_least_revision: revision, ..question(token.clone()) };
        async { system.authorize(request).await.unwrap() }
    };
    let deleted = ask(system.store.delete("r/App")).await;
    assert_eq!(
        (deleted.decision(), deleted.reason()),
        (Decision::ImplicitDeny, DecisionReason::PrincipalNotFound)
    );
    let mut again = role(OURS, "App", Some(r#"{"Effect":"Allow","Action":"*","Resource":"*"}"#));
    again.role_id = "AROAAGAIN".into();
    let recreated = ask(system.store.put(record("r/App", Kind::Role(again)))).await;
    assert_eq!(
        (recreated.decision(), recreated.reason()),
        (Decision::ImplicitDeny, DecisionReason::RoleRecreated)
    );
    assert_eq!(recreated.principal_arn, "arn:aws:sts::111122223333:assumed-role/App/s1");
}

#[tokio::test]
async fn principals_by_name() {
    let system = System::start().await;
    let ask = |arn: &str| {
        system.authorize(AuthorizeRequest {
            subject: Some(Subject::PrincipalArn(arn.into())),
            audience: String::new(),
            ..question(String::new())
        })
    };
    let answer = ask("arn:aws:iam::111122223333:role/App").await.unwrap();
    assert!(answer.allowed);
    assert_eq!(answer.principal_arn, "arn:aws:iam::111122223333:role/App");
    for (arn, reason) in [
        ("arn:aws:iam::111122223333:user/alice", DecisionReason::NoIdentityAllow),
        ("arn:aws:iam::111122223333:user/nobody", DecisionReason::PrincipalNotFound),
        ("arn:aws:iam::999988887777:role/App", DecisionReason::ExternalPrincipal),
        ("ec2.amazonaws.com", DecisionReason::NoResourceAllow),
    ] {
        let answer = ask(arn).await.unwrap();
        assert_eq!((answer.decision(), answer.reason()), (Decision::ImplicitDeny, reason), "{arn}");
    }
    let (code, _, message) = refused(ask("arn:aws:sts::111122223333:assumed-role/App/s1").await);
    assert_eq!(code, Code::InvalidArgument);
    assert!(message.contains("a session is its token"), "{message}");
    // Another tenant's principals, whether they exist or not.
    for name in ["role/Foreign", "role/Nothing"] {
        let (code, reason, _) = refused(ask(&format!("arn:aws:iam::{THEIRS}:{name}")).await);
        assert_eq!((code, reason.as_str()), (Code::PermissionDenied, "AccessDenied"));
    }
}

#[tokio::test]
async fn a_caller_needs_a_right_to_ask() {
    let system = System::start().await;
    let mut client = system.client.clone();
    let asked = question(system.token("App", "orders"));
    let powerless = system.token("Powerless", "countersign");
    let (code, reason, message) = refused(client.authorize(by(&powerless, asked.clone())).await);
    assert_eq!((code, reason.as_str()), (Code::PermissionDenied, "AccessDenied"));
    assert_eq!(
        message,
        format!(
            "arn:aws:sts::{OURS}:assumed-role/Powerless/s1 is not authorized to perform: countersign:Authorize on resource: {ORDER}"
        )
    );
    // Another account's caller has no say over our resources.
    let foreign = system.token("Foreign", "countersign");
    assert_eq!(
        refused(client.authorize(by(&foreign, asked.clone())).await).0,
        Code::PermissionDenied
    );
    assert_eq!(
        refused(client.get_status(by(&powerless, GetStatusRequest {})).await).0,
        Code::PermissionDenied
    );
    // A service identity asks about roles, tokens and its own callers alone.
    assert_eq!(refused(client.authorize(system.by_gateway(asked)).await).0, Code::PermissionDenied);
    let by_session = system.by_checker(assume(
        "countersign",
        "arn:aws:iam::111122223333:user/alice",
        "AIDAALICE",
        "App",
    ));
    assert_eq!(refused(client.authorize_assume_role(by_session).await).0, Code::PermissionDenied);
    let by_session = system.by_checker(AuthorizeExchangeRequest::default());
    assert_eq!(refused(client.authorize_exchange(by_session).await).0, Code::PermissionDenied);
}

#[tokio::test]
async fn a_bad_resource_policy_is_told_where() {
    let system = System::start().await;
    let request = AuthorizeRequest {
        resource_policy_document:
            "{\n \"Version\": \"2012-10-17\",\n \"Statement\": [{\"Effect\": \"Perhaps\"}]\n}"
                .into(),
        ..question(system.token("App", "orders"))
    };
    let status = system.authorize(request).await.unwrap_err();
    let details = tonic_types::StatusExt::get_error_details(&status);
    assert_eq!(details.error_info().unwrap().reason, "MalformedPolicyDocument");
    let violations = &details.bad_request().unwrap().field_violations;
    assert!(
        violations
            .iter()
            .any(|violation| violation.field.starts_with("resource_policy_document:3:")),
        "{violations:?}"
    );
}

#[tokio::test]
async fn explanations() {
    let system = System::start().await;
    let ask = |action: &str| {
        let request = ExplainRequest {
            subject: Some(explain_request::Subject::Token(system.token("App", "orders"))),
            audience: "orders".into(),
            action: action.into(),
            resource: ORDER.into(),
            ..Default::default()
        };
        let mut client = system.client.clone();
        let request = system.by_checker(request);
        async move { client.explain(request).await.unwrap().into_inner() }
    };
    let allowed = ask("orders:GetOrder").await;
    assert!(allowed.answer.as_ref().unwrap().allowed && allowed.nearest_misses.is_empty());
    assert!(allowed.statements[0].matched);
    let identity = &allowed.policy_types[0];
    assert_eq!(
        (identity.policy_type(), identity.decision(), identity.present),
        (PolicyType::Identity, Decision::Allow, true)
    );
    assert!(allowed.policy_types[1..].iter().all(|verdict| !verdict.present));

    let denied = ask("orders:DeleteOrder").await;
    assert_eq!(denied.answer.as_ref().unwrap().reason(), DecisionReason::NoIdentityAllow);
    let [near] = denied.nearest_misses.as_slice() else { panic!("{denied:?}") };
    let statement = near.statement.as_ref().unwrap();
    assert_eq!((statement.sid.as_str(), statement.version_id.as_str()), ("Read", "v2"));
    assert_eq!(
        (near.effect.as_str(), near.matched, near.element.as_str(), near.failed_elements),
        ("Allow", false, "Action", 1)
    );
    assert!(
        near.expected.contains("orders:Get*") && near.actual.contains("orders:DeleteOrder"),
        "{near:?}"
    );
}

#[tokio::test]
async fn roles_assumed() {
    let system = System::start().await;
    let ask = |request| {
        let mut client = system.client.clone();
        let request = system.by_gateway(request);
        async move { client.authorize_assume_role(request).await.map(tonic::Response::into_inner) }
    };
    let alice = "arn:aws:iam::111122223333:user/alice";
    let root = "arn:aws:iam::111122223333:root";
    let granted = ask(assume("countersign", alice, "AIDAALICE", "App")).await.unwrap();
    assert_eq!(
        (granted.decision(), granted.allowed, granted.reason()),
        (Decision::Allow, true, DecisionReason::AllowedByTrustPolicy)
    );
    assert_eq!(
        (granted.role_id.as_str(), granted.role_name.as_str(), granted.account_id.as_str()),
        ("AROAAPP", "App", OURS)
    );
    assert_eq!(
        (granted.service_principal.as_str(), granted.duration_seconds, granted.pin_required),
        ("ec2.amazonaws.com", 3600, false)
    );
    assert_eq!(granted.revision, system.store.revision());
    let granted = ask(assume("countersign", root, OURS, "CountersignAdministrator")).await.unwrap();
    assert_eq!((granted.allowed, granted.role_name.as_str()), (true, "CountersignAdministrator"));

    for (request, reason) in [
        (assume("countersign", alice, "AIDAALICE", "Checker"), DecisionReason::NoTrustAllow),
        (assume("countersign", alice, "AIDAALICE", "Nothing"), DecisionReason::RoleNotFound),
        (assume("countersign", alice, "AIDABEFORE", "App"), DecisionReason::PrincipalNotFound),
        (assume("countersign", root, OURS, "App"), DecisionReason::NoTrustAllow),
        (assume("aws", alice, "AIDAALICE", "App"), DecisionReason::ExternalPrincipal),
        (
            assume("countersign", "arn:aws:iam::999988887777:user/bob", "AIDABOB", "App"),
            DecisionReason::ExternalPrincipal,
        ),
        (
            assume("aws", "arn:aws:iam::999988887777:user/bob", "AIDABOB", "App"),
            DecisionReason::NoTrustAllow,
        ),
    ] {
        let answer = ask(request).await.unwrap();
        assert_eq!(
            (answer.decision(), answer.reason(), answer.allowed),
            (Decision::ImplicitDeny, reason, false),
            "{}",
            answer.message
        );
        assert_eq!((answer.role_id.as_str(), answer.duration_seconds), ("", 0));
    }

    let too_long = AuthorizeAssumeRoleRequest {
        duration_seconds: 3601,
        ..assume("countersign", alice, "AIDAALICE", "App")
    };
    let (code, reason, message) = refused(ask(too_long).await);
    assert_eq!((code, reason.as_str()), (Code::InvalidArgument, "ValidationError"));
    assert!(message.starts_with("duration_seconds") && message.contains("3600"), "{message}");

    let revision = system.store.delete("b/1");
    let unbound = AuthorizeAssumeRoleRequest {
        at_least_revision: revision,
        ..assume("countersign", alice, "AIDAALICE", "App")
    };
    assert!(!ask(unbound).await.unwrap().allowed);
}

#[tokio::test]
async fn status_is_told() {
    let system = System::start().await;
    let mut client = system.client.clone();
    let status = client.get_status(system.by_gateway(GetStatusRequest {})).await;
    let status = status.unwrap().into_inner();
    assert_eq!(status.revision, system.store.revision());
    assert_eq!((status.account_count, status.user_count, status.role_count), (2, 1, 5));
    assert_eq!((status.policy_count, status.signing_key_count), (1, 1));
    assert!(status.resident_memory_bytes > 1 << 20 && status.snapshot_age.is_some());
}

#[tokio::test]
async fn l3_a_session_is_told_nothing_of_other_accounts() {
    let system = System::start().await;
    let mut client = system.client.clone();
    let status = client.get_status(system.by_checker(GetStatusRequest {})).await;
    let status = status.unwrap().into_inner();
    assert!(status.snapshot_age.is_some());
    let expected = GetStatusResponse {
        revision: system.store.revision(),
        snapshot_age: status.snapshot_age,
        ..Default::default()
    };
    assert_eq!(status, expected);
}

/// The conditions of a caller's own policies see where the call came from, and that it came in the clear.
#[tokio::test]
async fn m4_a_callers_policies_see_its_address() {
    let system = System::start().await;
    let check = async |effect: &str, condition: &str, allowed: bool| {
        let mut statement = format!(
            r#"{{"Effect":"{effect}","Action":"countersign:*","Resource":"*","Condition":{condition}}}"#
        );
        if effect == "Deny" {
            statement += r#",{"Effect":"Allow","Action":"countersign:*","Resource":"*"}"#;
        }
        let revision = system
            .store
            .put(record("r/Checker", Kind::Role(role(OURS, "Checker", Some(&statement)))));
        let caller =
            system.minted("Checker", "countersign", |claims| claims.session.revision = revision);
        let mut client = system.client.clone();
        let asked = question(system.token("App", "orders"));
        let status = client.get_status(by(&caller, GetStatusRequest {})).await;
        let outcome = client.authorize(by(&caller, asked)).await;
        assert_eq!(status.is_ok(), allowed, "{effect} {condition}");
        match outcome {
            Ok(_) => assert!(allowed, "{effect} {condition}"),
            Err(status) => {
                assert!(!allowed, "{effect} {condition}");
                assert_eq!(refused::<()>(Err(status)).0, Code::PermissionDenied);
            }
        }
    };
    let here = r#"{"aws:SourceIp":"127.0.0.0/8"}"#;
    let elsewhere = r#"{"aws:SourceIp":"10.0.0.0/8"}"#;
    check("Allow", &format!(r#"{{"IpAddress":{here}}}"#), true).await;
    check("Allow", &format!(r#"{{"IpAddress":{elsewhere}}}"#), false).await;
    check("Allow", &format!(r#"{{"NotIpAddress":{here}}}"#), false).await;
    check("Allow", &format!(r#"{{"NotIpAddress":{elsewhere}}}"#), true).await;
    check("Deny", &format!(r#"{{"IpAddress":{here}}}"#), false).await;
    check("Deny", &format!(r#"{{"NotIpAddress":{here}}}"#), true).await;
    check("Deny", r#"{"Bool":{"aws:SecureTransport":"false"}}"#, false).await;
    check("Allow", r#"{"Bool":{"aws:SecureTransport":"true"}}"#, false).await;
    check("Allow", r#"{"Bool":{"aws:SecureTransport":"false"}}"#, true).await;
}

#[tokio::test]
async fn decisions_go_on_without_the_store() {
    let system = System::start().await;
    let token = system.token("App", "orders");
    system.store.close();
    let old = eventually(|| async {
        let answer = system.authorize(question(token.clone())).await.unwrap();
        assert!(answer.allowed);
        let age = answer.snapshot_age.unwrap();
        (age.seconds >= 1).then_some(answer.revision)
    })
    .await;
    assert_eq!(old, system.store.revision());
    wait_until_serving(&system.origin, SERVICE_NAME, Duration::from_millis(100)).await.unwrap();
}

#[tokio::test]
async fn an_import_ends_the_old_revisions_and_tokens() {
    let system = System::start().await;
    let (old_token, old_revision) = (system.token("App", "orders"), system.store.revision());
    let old_caller = system.token("Checker", "countersign");
    let revision = Store::import(&system.store);
    let request = |token: String| question(token);
    let answer = eventually(|| async {
        system.authorize(request(system.token("App", "orders"))).await.ok()
    })
    .await;
    assert_eq!(answer.revision, revision);
    let asked = AuthorizeRequest {
        at_least_revision: old_revision,
        ..request(system.token("App", "orders"))
    };
    assert_eq!(refused(system.authorize(asked).await).0, Code::FailedPrecondition);
    assert_eq!(refused(system.authorize(request(old_token)).await).0, Code::FailedPrecondition);
    let outcome = system.client.clone().get_status(by(&old_caller, GetStatusRequest {})).await;
    assert_eq!(refused(outcome).0, Code::Unauthenticated);
}
