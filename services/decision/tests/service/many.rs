//! Many questions at once, over real gRPC: BatchAuthorize, FilterResources, AuthorizeStream.

use countersign_proto::decision::v1::{
    AuthorizeRequest, AuthorizeStreamRequest, AuthorizeStreamResponse, BatchAuthorizeRequest,
    Check, ContextValue, Decision, FilterResourcesRequest,
    authorize_stream_response::Result as Outcome, batch_authorize_request::Subject as BatchSubject,
    context_value, filter_resources_request::Subject as FilterSubject,
};
use countersign_proto::policy::v1::record::Record as Kind;
use tokio_stream::StreamExt;
use tonic::Code;

use super::harness::{
    ORDER, OURS, System, app, by, eventually, now, question, record, refused, role,
};

const READ: &str = "orders:GetOrder";

fn check(action: &str, resource: &str) -> Check {
    Check { action: action.into(), resource: resource.into(), ..Default::default() }
}

fn batch(token: String, checks: Vec<Check>) -> BatchAuthorizeRequest {
    BatchAuthorizeRequest {
        subject: Some(BatchSubject::Token(token)),
        audience: "orders".into(),
        checks,
        ..Default::default()
    }
}

fn value(text: &str) -> ContextValue {
    ContextValue { kind: Some(context_value::Kind::Value(text.into())) }
}

/// What Authorize says, one by one.
async fn alone(system: &System, checks: &[Check]) -> Vec<i32> {
    let mut decisions = Vec::new();
    for one in checks {
        let Check { action, resource, .. } = one.clone();
        let request =
            AuthorizeRequest { action, resource, ..question(system.token("App", "orders")) };
        decisions.push(system.authorize(request).await.unwrap().decision);
    }
    decisions
}

#[tokio::test]
async fn a_batch_says_what_each_question_alone_would() {
    let system = System::start().await;
    let checks = vec![
        check(&question(String::new()).action, ORDER),
        check("dynamodb:GetItem", "arn:aws:dynamodb:eu-west-1:111122223333:table/T"),
        check(READ, ORDER),
        check("iam:GetUser", "arn:aws:iam::111122223333:user/x"),
    ];
    let request = batch(system.token("App", "orders"), checks.clone());
    let answers = system
        .client
        .clone()
        .batch_authorize(system.by_checker(request))
        .await
        .unwrap()
        .into_inner()
        .answers;
    let decisions: Vec<i32> = answers.iter().map(|answer| answer.decision).collect();
    assert_eq!(decisions, alone(&system, &checks).await);
    assert!(decisions.contains(&Decision::Allow.into()), "{decisions:?}");
    assert!(decisions.contains(&Decision::ImplicitDeny.into()), "{decisions:?}");
    assert!(answers.iter().all(|answer| answer.revision == system.store.revision()));
    let mut ids: Vec<_> = answers.iter().map(|answer| answer.decision_id.clone()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), answers.len());
}

#[tokio::test]
async fn a_wrong_question_names_its_place_and_none_is_answered() {
    let system = System::start().await;
    let good = || check(&question(String::new()).action, ORDER);
    let refuse = async |request: BatchAuthorizeRequest, code: Code, said: &str| {
        let outcome = system.client.clone().batch_authorize(system.by_checker(request)).await;
        let (found, _, message) = refused(outcome);
        assert_eq!(found, code, "{message}");
        assert!(message.contains(said), "{message} should say {said}");
    };
    let token = || system.token("App", "orders");
    let invalid = Code::InvalidArgument;
    refuse(batch(token(), vec![good(), check("GetOrder", ORDER)]), invalid, "checks[1].action")
        .await;
    refuse(
        batch(token(), vec![good(), good(), check(READ, "order/42")]),
        invalid,
        "checks[2].resource",
    )
    .await;
    refuse(
        batch(token(), vec![check(READ, "arn:aws:s3:::bucket")]),
        invalid,
        "checks[0].resource_account",
    )
    .await;
    refuse(batch(token(), vec![]), invalid, "checks: empty").await;
    refuse(batch(token(), vec![good(); 1001]), invalid, "at most 1000").await;
    refuse(batch("x".into(), vec![good()]), invalid, "token").await;
    let nobody = BatchAuthorizeRequest { subject: None, ..batch(String::new(), vec![good()]) };
    refuse(nobody, invalid, "subject: missing").await;
    let mut twice = batch(token(), vec![good()]);
    twice.context.insert("orders:Colour".into(), value("red"));
    twice.checks[0].context.insert("orders:Colour".into(), value("blue"));
    refuse(twice, invalid, "checks[0].context").await;
    let mut twin = batch(token(), vec![good()]);
    twin.context.insert("orders:Colour".into(), value("red"));
    twin.checks[0].context.insert("orders:COLOUR".into(), value("blue"));
    refuse(twin, invalid, "checks[0].context").await;
    let mut forged = batch(token(), vec![good()]);
    forged.context.insert("aws:PrincipalArn".into(), value("x"));
    refuse(forged, invalid, "checks[0].context").await;
    // Another account's resource: the caller has no right to ask about it.
    let foreign = check(READ, "arn:aws:orders:eu-west-1:444455556666:order/1");
    refuse(batch(token(), vec![good(), foreign]), Code::PermissionDenied, "444455556666").await;
}

#[tokio::test]
async fn a_filter_keeps_what_is_allowed_in_order() {
    let system = System::start().await;
    let some = r#"{"Effect":"Allow","Action":"orders:*","Resource":"arn:aws:orders:*:*:order/4?"}"#;
    let revision = system.store.put(record("r/App", Kind::Role(role(OURS, "App", Some(some)))));
    let resources: Vec<String> = [
        ORDER,
        "arn:aws:orders:eu-west-1:111122223333:order/7",
        "arn:aws:orders:eu-west-1:111122223333:order/43",
    ]
    .map(str::to_owned)
    .to_vec();
    let action = question(String::new()).action;
    let request = FilterResourcesRequest {
        subject: Some(FilterSubject::Token(system.token("App", "orders"))),
        audience: "orders".into(),
        action: action.clone(),
        resources: resources.clone(),
        at_least_revision: revision,
        ..Default::default()
    };
    let ask = async |request: FilterResourcesRequest| {
        system.client.clone().filter_resources(system.by_checker(request)).await
    };
    let answer = ask(request.clone()).await.unwrap().into_inner();
    let checks: Vec<Check> = resources.iter().map(|resource| check(&action, resource)).collect();
    let allowed = alone(&system, &checks).await;
    let expected: Vec<String> = resources
        .iter()
        .zip(&allowed)
        .filter(|(_, decision)| **decision == i32::from(Decision::Allow))
        .map(|(resource, _)| resource.clone())
        .collect();
    assert_eq!(answer.resources, expected);
    assert_eq!(expected.len(), 2, "{expected:?}");
    assert_eq!(answer.revision, system.store.revision());
    let bad = FilterResourcesRequest { resources: vec![ORDER.into(), "x".into()], ..request };
    let (code, _, message) = refused(ask(bad).await);
    assert_eq!(code, Code::InvalidArgument);
    assert!(message.contains("resources[1]"), "{message}");
}

fn asked(id: &str, question: AuthorizeRequest) -> AuthorizeStreamRequest {
    AuthorizeStreamRequest { id: id.into(), question: Some(question) }
}

#[tokio::test]
async fn a_stream_answers_in_order_and_outlives_a_wrong_question() {
    let system = System::start().await;
    let token = system.token("App", "orders");
    let other = AuthorizeRequest { action: "dynamodb:GetItem".into(), ..question(token.clone()) };
    let wrong = AuthorizeRequest { action: "nothing".into(), ..question(token.clone()) };
    let questions = [
        asked("a", question(token.clone())),
        asked("b", wrong),
        asked("c", other),
        AuthorizeStreamRequest { id: "d".into(), question: None },
        asked("e", question(token)),
    ];
    let request = system.by_checker(tokio_stream::iter(questions));
    let answers: Vec<AuthorizeStreamResponse> = system
        .client
        .clone()
        .authorize_stream(request)
        .await
        .unwrap()
        .into_inner()
        .map(Result::unwrap)
        .collect()
        .await;
    let said: Vec<(String, String)> = answers
        .into_iter()
        .map(|answer| {
            let result = match answer.result.unwrap() {
                Outcome::Answer(answer) => answer.decision().as_str_name().to_owned(),
                Outcome::Error(error) => {
                    let field = error.message.split(':').next().unwrap_or_default().to_owned();
                    format!("{} {} {field}", error.code, error.reason)
                }
            };
            (answer.id, result)
        })
        .collect();
    let expected = [
        ("a", "DECISION_ALLOW"),
        ("b", "3 ValidationError action"),
        ("c", "DECISION_IMPLICIT_DENY"),
        ("d", "3 ValidationError question"),
        ("e", "DECISION_ALLOW"),
    ];
    assert_eq!(said, expected.map(|(id, result)| (id.to_owned(), result.to_owned())));
}

/// A stream that is open, with one question answered already.
async fn open(
    system: &System,
    caller: &str,
) -> (tokio::sync::mpsc::Sender<AuthorizeStreamRequest>, tonic::Streaming<AuthorizeStreamResponse>)
{
    let (sender, receiver) = tokio::sync::mpsc::channel(4);
    sender.send(asked("1", question(system.token("App", "orders")))).await.unwrap();
    let questions = tokio_stream::wrappers::ReceiverStream::new(receiver);
    let mut answers =
        system.client.clone().authorize_stream(by(caller, questions)).await.unwrap().into_inner();
    let first = answers.message().await.unwrap().unwrap();
    assert!(matches!(first.result, Some(Outcome::Answer(_))), "{first:?}");
    (sender, answers)
}

#[tokio::test]
async fn a_stream_sees_each_change_and_ends_with_its_caller() {
    let system = System::start().await;
    let ask = || asked("2", question(system.token("App", "orders")));

    // What is asked next is answered by the newest policies.
    let (sender, mut answers) = open(&system, &system.token("Checker", "countersign")).await;
    let revision = system.store.put(app(false));
    let mut next = ask();
    next.question.as_mut().unwrap().at_least_revision = revision.clone();
    sender.send(next).await.unwrap();
    match answers.message().await.unwrap().unwrap().result {
        Some(Outcome::Answer(answer)) => {
            assert_eq!((answer.decision(), answer.revision), (Decision::ImplicitDeny, revision));
        }
        other => panic!("{other:?}"),
    }

    // The caller's role is made again under the same name: its session is over, and the stream with it.
    let mut again = role(OURS, "Checker", None);
    again.role_id = "AROAANOTHER".into();
    system.store.put(record("r/Checker", Kind::Role(again)));
    eventually(|| async {
        let refused = system.authorize(question(system.token("App", "orders"))).await.err()?;
        (refused.code() == Code::Unauthenticated).then_some(())
    })
    .await;
    sender.send(ask()).await.unwrap();
    let status = answers.message().await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated, "{status:?}");
    assert_eq!(answers.message().await.unwrap(), None);
}

#[tokio::test]
async fn a_stream_ends_when_its_callers_token_does() {
    let system = System::start().await;
    let short = system.minted("Checker", "countersign", |claims| {
        claims.iat = now() - 898;
        claims.exp = now() + 2;
    });
    let (sender, mut answers) = open(&system, &short).await;
    tokio::time::sleep(std::time::Duration::from_millis(2100)).await;
    sender.send(asked("2", question(system.token("App", "orders")))).await.unwrap();
    let status = answers.message().await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated, "{status:?}");
    assert!(status.message().contains("expired"), "{}", status.message());
}
