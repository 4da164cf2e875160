//! What must be refused, each with its own reason, against the real system: nothing here stands in for anything.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops here")]

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign::proof::{Form, exchange_request, now};
use countersign_harness::{Ask, Bearer, System, User, reason};
use countersign_proto::{
    decision::v1::{AuthorizeRequest, authorize_request::Subject},
    policy::v1::ListRolesRequest,
    token::v1::ExchangeRequest,
};
use tokio::task::JoinSet;
use tonic::Code;

/// A user, and a role that trusts it.
async fn reader(system: &System) -> (User, String) {
    let user = system.create_user("alice").await;
    let principal = format!(r#"{{"AWS":"{}"}}"#, user.arn);
    let managed = ["arn:aws:iam::aws:policy/AmazonS3FullAccess"];
    let role = system.create_role("Reader", &principal, &managed, "").await;
    (user, role)
}

/// The request with one text of its proof's JSON replaced by another.
fn edited(mut request: ExchangeRequest, from: &str, to: &str) -> ExchangeRequest {
    let envelope = URL_SAFE_NO_PAD.decode(&request.subject_token).unwrap();
    let envelope = String::from_utf8(envelope).unwrap();
    assert!(envelope.contains(from), "{from} is not in {envelope}");
    request.subject_token = URL_SAFE_NO_PAD.encode(envelope.replacen(from, to, 1));
    request
}

#[tokio::test(flavor = "multi_thread")]
async fn exchanges() {
    let system = System::start().await;
    let (user, role) = reader(&system).await;
    let stranger = system.create_user("mallory").await;
    let place = system.own_sts();
    let (root, alice, mallory) = (system.root(), &user.credentials, &stranger.credentials);

    // Each row has a session name of its own, so that no proof is another's.
    let signed =
        |row: &str, credentials| system.request(credentials, &Ask::new(&role, row, "orders"));
    let presigned = |row: &str, credentials| {
        system.request_at(&place, credentials, &Ask::new(&role, row, "orders"), Form::Presigned)
    };
    let at = |row: &str, seconds: i64| {
        exchange_request(
            &Ask::new(&role, row, "orders"),
            &place,
            alice,
            Form::Headers,
            now() + seconds,
        )
        .unwrap()
    };
    let other_role = |name: &str| {
        let arn = format!("arn:aws:iam::123456789012:role/{name}");
        system.request(alice, &Ask::new(arn, "other-role", "orders"))
    };
    let audience = format!("\"x-countersign-audience\":\"{}\",", place.issuer);
    let signature = |request: ExchangeRequest, first: &str, second: &str| {
        let envelope =
            String::from_utf8(URL_SAFE_NO_PAD.decode(&request.subject_token).unwrap()).unwrap();
        let (_, rest) = envelope.split_once("Signature=").unwrap();
        let digit = rest.chars().next().unwrap();
        let other = if digit.to_string() == first { second } else { first };
        edited(request, &format!("Signature={digit}"), &format!("Signature={other}"))
    };
    let host = place.issuer.replace("127.0.0.1", "localhost");
    let unauthenticated = Code::Unauthenticated;

    let rows: Vec<(ExchangeRequest, Code, &str)> = vec![
        (ExchangeRequest::default(), unauthenticated, "MissingAuthenticationToken"),
        (
            signature(signed("wrong-signature", alice), "0", "1"),
            unauthenticated,
            "SignatureDoesNotMatch",
        ),
        (
            signature(presigned("wrong-presigned", alice), "0", "1"),
            unauthenticated,
            "SignatureDoesNotMatch",
        ),
        (
            edited(signed("no-audience", alice), &audience, ""),
            unauthenticated,
            "MissingAudienceHeader",
        ),
        (
            edited(
                signed("other-action", alice),
                "Action=GetCallerIdentity",
                "Action=GetSessionToken",
            ),
            unauthenticated,
            "ActionNotAllowed",
        ),
        (
            edited(
                presigned("other-action", alice),
                "Action=GetCallerIdentity",
                "Action=GetSessionToken",
            ),
            unauthenticated,
            "ActionNotAllowed",
        ),
        (
            edited(
                signed("other-host", alice),
                &format!("\"url\":\"{}/", place.issuer),
                &format!("\"url\":\"{host}/"),
            ),
            unauthenticated,
            "HostNotAllowed",
        ),
        (at("too-old", -120), unauthenticated, "ProofExpired"),
        (at("too-early", 120), unauthenticated, "ProofNotYetValid"),
        (
            ExchangeRequest { audience: "payments".to_owned(), ..signed("other-audience", alice) },
            unauthenticated,
            "BindingMismatch",
        ),
        (other_role("Nobody"), Code::PermissionDenied, "RoleNotFound"),
        (other_role("path/Reader"), Code::PermissionDenied, "RoleNotFound"),
        // The trust policy names alice; the root's door is another.
        (signed("not-named", mallory), Code::PermissionDenied, "AccessDenied"),
        (signed("root", &root), Code::PermissionDenied, "AccessDenied"),
    ];
    for (request, code, expected) in rows {
        let shown = format!("{} {}", request.role_session_name, request.role_arn);
        let refused = system.gateway().exchange(request).await.unwrap_err();
        assert_eq!(
            (refused.code(), reason(&refused).as_str()),
            (code, expected),
            "{shown}: {refused:?}"
        );
    }
    // So the rows above are refused for what they say.
    for request in [signed("good", alice), presigned("good", alice)] {
        assert!(system.gateway().exchange(request).await.is_ok());
    }
    system.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn identical_proofs_at_once_mint_one_token() {
    let system = System::start().await;
    let (user, role) = reader(&system).await;
    for form in [Form::Headers, Form::Presigned] {
        let ask = Ask::new(&role, format!("{form:?}"), "orders");
        let request = system.request_at(&system.own_sts(), &user.credentials, &ask, form);
        let mut all = JoinSet::new();
        for _ in 0..16 {
            let (mut gateway, request) = (system.gateway(), request.clone());
            all.spawn(async move { gateway.exchange(request).await.map(drop) });
        }
        let mut granted = 0;
        for outcome in all.join_all().await {
            match outcome {
                Ok(()) => granted += 1,
                Err(refused) => assert_eq!(reason(&refused), "ProofAlreadyUsed", "{refused:?}"),
            }
        }
        assert_eq!(granted, 1, "{form:?}");
    }
    system.shutdown().await;
}

/// A token is good for its audience, at its own system, while its role is there.
#[tokio::test(flavor = "multi_thread")]
async fn tokens() {
    let (system, foreign) = (System::start().await, System::start().await);
    let (user, role) = reader(&system).await;
    let (foreign_user, foreign_role) = reader(&foreign).await;
    let token = |answer: countersign_proto::token::v1::ExchangeResponse| answer.access_token;
    let orders = token(
        system.exchange(&user.credentials, &Ask::new(&role, "for-orders", "orders")).await.unwrap(),
    );
    let own = token(
        system
            .exchange(&user.credentials, &Ask::new(&role, "for-itself", "countersign"))
            .await
            .unwrap(),
    );
    let strange = token(
        foreign
            .exchange(&foreign_user.credentials, &Ask::new(&foreign_role, "foreign", "countersign"))
            .await
            .unwrap(),
    );

    let question = |token: &str, audience: &str| AuthorizeRequest {
        subject: Some(Subject::Token(token.to_owned())),
        audience: audience.to_owned(),
        action: "s3:GetObject".to_owned(),
        resource: "arn:aws:s3:::b/k".to_owned(),
        resource_account: "123456789012".to_owned(),
        ..Default::default()
    };
    let good = system.decision().authorize(question(&orders, "orders")).await.unwrap().into_inner();
    assert!(good.allowed, "{good:?}");
    // As what is asked about.
    for (asked, expected) in [
        (question(&orders, "payments"), "WrongAudience"),
        (question(&strange, "countersign"), "UnknownKey"),
        (question(&format!("{orders}AAAA"), "orders"), "InvalidToken"),
        (question("x", "orders"), "InvalidToken"),
    ] {
        let refused = system.decision().authorize(asked).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{expected}: {refused:?}");
        assert!(!reason(&refused).is_empty());
        if expected != "InvalidToken" {
            assert_eq!(reason(&refused), expected, "{refused:?}");
        }
    }
    // As a caller's own credentials, everywhere.
    for (bearer, expected) in [(&orders, "WrongAudience"), (&strange, "UnknownKey")] {
        let bearer = Bearer::new(bearer).unwrap();
        let store = system.policy_store_as(&bearer).list_roles(ListRolesRequest::default()).await;
        let decision = system.decision_as(&bearer).authorize(question(&orders, "orders")).await;
        for refused in [store.map(drop).unwrap_err(), decision.map(drop).unwrap_err()] {
            assert_eq!(
                (refused.code(), reason(&refused).as_str()),
                (Code::Unauthenticated, expected),
                "{refused:?}"
            );
        }
    }
    // A good session without the right.
    let bearer = Bearer::new(&own).unwrap();
    let refused =
        system.policy_store_as(&bearer).list_roles(ListRolesRequest::default()).await.unwrap_err();
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::PermissionDenied, "AccessDenied")
    );
    let refused =
        system.decision_as(&bearer).authorize(question(&orders, "orders")).await.unwrap_err();
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::PermissionDenied, "AccessDenied")
    );
    system.shutdown().await;
    foreign.shutdown().await;
}
