//! Sessions that ask for limits, tags and a source identity, and that chain: against the real system, by what they may then do.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops here")]

use countersign_harness::{Ask, System, User, reason};
use countersign_proto::{
    decision::v1::{AuthorizeRequest, authorize_request::Subject},
    policy::v1::UpdateAssumeRolePolicyRequest,
    token::v1::{ExchangeRequest, ExchangeResponse, Tag},
};
use countersign_sigv4::ProofRequest;
use countersign_token::{Binding, BoundRequest, BoundTag};
use tonic::{Code, Status};

const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
const ORDERS: &str = r#"{"Version":"2012-10-17","Statement":[
    {"Effect":"Allow","Action":["orders:*","sts:*"],"Resource":"*"},
    {"Effect":"Allow","Action":"billing:*","Resource":"*","Condition":{"StringEquals":{"aws:PrincipalTag/Team":"a"}}},
    {"Effect":"Allow","Action":"audit:*","Resource":"*","Condition":{"StringEquals":{"aws:SourceIdentity":"carol"}}}]}"#;

/// Signs `request`, all of it.
fn signed(system: &System, user: &User, mut request: ExchangeRequest) -> ExchangeRequest {
    request.subject_token_type = countersign::proof::STS_PROOF.to_owned();
    let tags =
        request.tags.iter().map(|tag| BoundTag { key: tag.key.clone(), value: tag.value.clone() });
    let bound = BoundRequest {
        subject_token_type: request.subject_token_type.clone(),
        role_arn: request.role_arn.clone(),
        role_session_name: request.role_session_name.clone(),
        audience: request.audience.clone(),
        scope: request.scope.clone(),
        duration_seconds: request.duration_seconds,
        policy: request.policy.clone(),
        policy_arns: request.policy_arns.clone(),
        tags: tags.collect(),
        transitive_tag_keys: request.transitive_tag_keys.clone(),
        source_identity: request.source_identity.clone(),
        ..BoundRequest::default()
    };
    let (place, binding) = (system.own_sts(), Binding::of_subject(&bound));
    let proof = ProofRequest {
        origin: &place.sts_origin,
        region: &place.sts_region,
        audience: &place.issuer,
        binding: binding.as_str(),
        challenge: None,
    };
    request.subject_token = proof.sign_post(&user.credentials, countersign::proof::now()).unwrap();
    request
}

async fn exchange(system: &System, request: ExchangeRequest) -> Result<ExchangeResponse, Status> {
    system.gateway().exchange(request).await.map(tonic::Response::into_inner)
}

/// Which of the actions the token's session may do.
async fn may(
    system: &System,
    token: &str,
    audience: &str,
    actions: &[&'static str],
) -> Vec<&'static str> {
    let mut allowed = Vec::new();
    for action in actions {
        let question = AuthorizeRequest {
            subject: Some(Subject::Token(token.to_owned())),
            audience: audience.to_owned(),
            action: (*action).to_owned(),
            resource: "*".to_owned(),
            ..Default::default()
        };
        if system.decision().authorize(question).await.unwrap().into_inner().allowed {
            allowed.push(*action);
        }
    }
    allowed
}

/// `role` trusts `principal` with all three actions.
async fn trusted(system: &System, role: &str, principal: &str, actions: &str) -> String {
    let principal = format!(r#"{{"AWS":"{principal}"}}"#);
    let arn = system.create_role(role, &principal, &[], ORDERS).await;
    let trust = format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Principal":{principal},"Action":[{actions}]}}]}}"#
    );
    let request = UpdateAssumeRolePolicyRequest {
        role_name: role.to_owned(),
        policy_document: trust,
        ..Default::default()
    };
    let updated = system.policy_store().update_assume_role_policy(request).await.unwrap();
    system.reached(&updated.into_inner().revision).await;
    arn
}

const ALL: &str = r#""sts:AssumeRole","sts:TagSession","sts:SetSourceIdentity""#;
const ACTIONS: [&str; 4] = ["orders:GetOrder", "orders:PutOrder", "billing:Pay", "audit:Read"];

fn ask(role: &str, session: &str, audience: &str) -> ExchangeRequest {
    let Ask { role_arn, role_session_name, audience, .. } = Ask::new(role, session, audience);
    ExchangeRequest { role_arn, role_session_name, audience, ..ExchangeRequest::default() }
}

// ATTACKS 72.
#[tokio::test(flavor = "multi_thread")]
async fn limits_narrow_and_marks_count() {
    let system = System::start().await;
    let user = system.create_user("alice").await;
    let role = trusted(&system, "Orders", &user.arn, ALL).await;
    let allow = |action: &str| {
        format!(
            r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Action":"{action}","Resource":"*"}}]}}"#
        )
    };
    let tag = |key: &str, value: &str| Tag { key: key.into(), value: value.into() };
    let (get, put, pay, read) = ("orders:GetOrder", "orders:PutOrder", "billing:Pay", "audit:Read");
    let rows: Vec<(ExchangeRequest, Vec<&str>)> = vec![
        (ask(&role, "plain", "orders"), vec![get, put]),
        (
            ExchangeRequest { scope: "orders:Get*".into(), ..ask(&role, "scope", "orders") },
            vec![get],
        ),
        (
            ExchangeRequest { policy: allow("orders:Put*"), ..ask(&role, "policy", "orders") },
            vec![put],
        ),
        (
            ExchangeRequest {
                scope: "orders:Get*".into(),
                policy: allow("orders:Put*"),
                ..ask(&role, "both", "orders")
            },
            vec![],
        ),
        (
            ExchangeRequest {
                policy_arns: vec!["arn:aws:iam::aws:policy/AmazonS3FullAccess".into()],
                ..ask(&role, "managed", "orders")
            },
            vec![],
        ),
        (
            ExchangeRequest { tags: vec![tag("Team", "a")], ..ask(&role, "tag", "orders") },
            vec![get, put, pay],
        ),
        (
            ExchangeRequest { tags: vec![tag("Team", "b")], ..ask(&role, "other-tag", "orders") },
            vec![get, put],
        ),
        (
            ExchangeRequest { source_identity: "carol".into(), ..ask(&role, "source", "orders") },
            vec![get, put, read],
        ),
    ];
    for (request, expected) in rows {
        let session = request.role_session_name.clone();
        let answer = exchange(&system, signed(&system, &user, request)).await.unwrap();
        let found = may(&system, &answer.access_token, "orders", &ACTIONS).await;
        assert_eq!(found, expected, "{session}");
    }
    for (request, expected) in [
        (
            ExchangeRequest { policy: "{}".into(), ..ask(&role, "malformed", "orders") },
            "MalformedPolicyDocument",
        ),
        (
            ExchangeRequest { scope: "read".into(), ..ask(&role, "no-actions", "orders") },
            "ValidationError",
        ),
        (
            ExchangeRequest {
                policy_arns: vec!["arn:aws:iam::aws:policy/Nothing".into()],
                ..ask(&role, "unknown", "orders")
            },
            "ValidationError",
        ),
        (
            ExchangeRequest { tags: vec![tag("aws:x", "")], ..ask(&role, "reserved", "orders") },
            "ValidationError",
        ),
    ] {
        let session = request.role_session_name.clone();
        let refused = exchange(&system, signed(&system, &user, request)).await.unwrap_err();
        assert_eq!(
            (refused.code(), reason(&refused).as_str()),
            (Code::InvalidArgument, expected),
            "{session}"
        );
    }
    // RULES.md X6: without sts:TagSession all of it fails.
    let role = trusted(&system, "Untagged", &user.arn, r#""sts:AssumeRole""#).await;
    let tagged =
        ExchangeRequest { tags: vec![tag("Team", "a")], ..ask(&role, "untagged", "orders") };
    let refused = exchange(&system, signed(&system, &user, tagged)).await.unwrap_err();
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::PermissionDenied, "AccessDenied")
    );
    system.shutdown().await;
}

// ATTACKS 73; RULES.md 38e, X1, X3, X4.
#[tokio::test(flavor = "multi_thread")]
async fn chaining() {
    let system = System::start().await;
    let user = system.create_user("alice").await;
    let first_role = trusted(&system, "First", &user.arn, ALL).await;
    let second_role = trusted(&system, "Second", &first_role, ALL).await;
    let tag = |key: &str, value: &str| Tag { key: key.into(), value: value.into() };
    let first = ExchangeRequest {
        tags: vec![tag("Team", "a"), tag("Cost", "1")],
        transitive_tag_keys: vec!["Team".into()],
        source_identity: "carol".into(),
        duration_seconds: 900,
        ..ask(&first_role, "first", "countersign")
    };
    let first = exchange(&system, signed(&system, &user, first)).await.unwrap().access_token;
    let chain = |role: &str, session: &str| ExchangeRequest {
        subject_token: first.clone(),
        subject_token_type: ACCESS_TOKEN.into(),
        ..ask(role, session, "orders")
    };
    let second = exchange(&system, chain(&second_role, "second")).await.unwrap();
    assert!(second.expires_in <= 900, "{}", second.expires_in);
    let found = may(&system, &second.access_token, "orders", &ACTIONS).await;
    assert_eq!(found, ACTIONS, "the tag and the source identity are handed on");

    let denied = Code::PermissionDenied;
    for (name, request, code, expected) in [
        ("not trusted", chain(&first_role, "not-trusted"), denied, "AccessDenied"),
        (
            "another source identity",
            ExchangeRequest {
                source_identity: "bob".into(),
                ..chain(&second_role, "other-source")
            },
            denied,
            "AccessDenied",
        ),
        (
            "a tag that is handed on",
            ExchangeRequest { tags: vec![tag("team", "b")], ..chain(&second_role, "other-tag") },
            Code::InvalidArgument,
            "ValidationError",
        ),
        (
            "too long",
            ExchangeRequest { duration_seconds: 3601, ..chain(&second_role, "too-long") },
            Code::InvalidArgument,
            "ValidationError",
        ),
        (
            "a token for orders",
            ExchangeRequest {
                subject_token: second.access_token.clone(),
                ..chain(&second_role, "orders")
            },
            Code::Unauthenticated,
            "WrongAudience",
        ),
    ] {
        let refused = exchange(&system, request).await.unwrap_err();
        assert_eq!(
            (refused.code(), reason(&refused).as_str()),
            (code, expected),
            "{name}: {refused:?}"
        );
    }

    // A scope that leaves chaining out leaves it out, though the next role trusts the session's role.
    let narrow =
        ExchangeRequest { scope: "orders:*".into(), ..ask(&first_role, "narrow", "countersign") };
    let narrow = exchange(&system, signed(&system, &user, narrow)).await.unwrap().access_token;
    let request = ExchangeRequest { subject_token: narrow, ..chain(&second_role, "narrow") };
    let refused = exchange(&system, request).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (denied, "AccessDenied"));
    system.shutdown().await;
}
