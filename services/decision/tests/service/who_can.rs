//! WhoCan over real gRPC: a page at a time, one's own account alone, and on what it still depends.

use countersign_proto::decision::v1::{
    AuthorizeRequest, ContextValue, Decision, WhoCanPrincipal, WhoCanRequest, WhoCanResponse,
    authorize_request::Subject, context_value,
};
use countersign_proto::policy::v1::record::Record as Kind;
use tonic::{Code, Status};

use super::harness::{ORDER, OURS, System, by, eventually, record, refused, role};

fn question() -> WhoCanRequest {
    WhoCanRequest { action: "orders:GetOrder".into(), resource: ORDER.into(), ..Default::default() }
}

async fn ask(
    system: &System,
    role: &str,
    question: WhoCanRequest,
) -> Result<WhoCanResponse, Status> {
    let request = by(&system.token(role, "countersign"), question);
    system.client.clone().who_can(request).await.map(tonic::Response::into_inner)
}

/// Puts a role with this statement; the revision at which it is there.
fn put(system: &System, name: &str, statement: &str) -> String {
    system.store.put(record(&format!("r/{name}"), Kind::Role(role(OURS, name, Some(statement)))))
}

fn found<'a>(answer: &'a WhoCanResponse, name: &str) -> Option<&'a WhoCanPrincipal> {
    answer.principals.iter().find(|one| one.principal_arn.ends_with(&format!("/{name}")))
}

const IN_VPC: &str = r#"{"Sid":"InVpc","Effect":"Allow","Action":"orders:*","Resource":"*","Condition":{"StringEquals":{"aws:SourceVpc":["vpc-1","vpc-2"]}}}"#;
const UNRELATED: &str = r#"{"Effect":"Allow","Action":"billing:*","Resource":"*"}"#;

#[tokio::test]
async fn who_may_and_who_might() {
    let system = System::start().await;
    put(&system, "Vpc", IN_VPC);
    let at_least_revision = put(&system, "Billing", UNRELATED);
    let asked = WhoCanRequest { at_least_revision: at_least_revision.clone(), ..question() };
    let answer = ask(&system, "Checker", asked.clone()).await.unwrap();
    assert_eq!(answer.principal_arns, [format!("arn:aws:iam::{OURS}:role/App")]);
    assert_eq!(answer.revision, at_least_revision);
    assert!(!answer.is_truncated && answer.marker.is_empty());
    let app = found(&answer, "App").unwrap();
    assert_eq!((app.decision(), app.is_conditional), (Decision::Allow, false));
    let vpc = found(&answer, "Vpc").unwrap();
    assert_eq!((vpc.decision(), vpc.is_conditional), (Decision::ImplicitDeny, true));
    assert_eq!((vpc.remaining.len(), vpc.remaining_count), (1, 1));
    let remaining = &vpc.remaining[0];
    assert_eq!(remaining.effect, "Allow");
    assert_eq!(remaining.statement.as_ref().unwrap().sid, "InVpc");
    let condition = &remaining.conditions[0];
    assert_eq!(
        (condition.key.as_str(), condition.operator.as_str()),
        ("aws:SourceVpc", "StringEquals")
    );
    assert_eq!(condition.values, ["vpc-1", "vpc-2"]);
    // Neither another account's, nor who may not whatever comes.
    assert_eq!(answer.principals.len(), 2, "{answer:?}");

    // The key is brought: it is settled, one way or the other.
    let with = |vpc: &str| {
        let value = ContextValue { kind: Some(context_value::Kind::Value(vpc.into())) };
        let context = [("aws:SourceVpc".to_owned(), value)].into();
        WhoCanRequest { context, ..asked.clone() }
    };
    let answer = ask(&system, "Checker", with("vpc-2")).await.unwrap();
    let vpc = found(&answer, "Vpc").unwrap();
    assert_eq!((vpc.decision(), vpc.is_conditional), (Decision::Allow, false));
    let answer = ask(&system, "Checker", with("vpc-3")).await.unwrap();
    assert!(found(&answer, "Vpc").is_none());
}

#[tokio::test]
async fn it_says_what_authorize_says() {
    let system = System::start().await;
    let deny = r#"{"Effect":"Deny","Action":"orders:*","Resource":"*"}"#;
    put(&system, "Denied", deny);
    let at_least_revision = put(&system, "Vpc", IN_VPC);
    let asked = WhoCanRequest { at_least_revision, ..question() };
    let answer = ask(&system, "Checker", asked).await.unwrap();
    for name in ["App", "Checker", "Denied", "Powerless", "Vpc", "CountersignAdministrator"] {
        let arn = format!("arn:aws:iam::{OURS}:role/{name}");
        let alone = AuthorizeRequest {
            subject: Some(Subject::PrincipalArn(arn.clone())),
            action: "orders:GetOrder".into(),
            resource: ORDER.into(),
            ..Default::default()
        };
        let alone = system.authorize(alone).await.unwrap();
        assert_eq!(answer.principal_arns.contains(&arn), alone.allowed, "{name}");
    }
}

#[tokio::test]
async fn pages_leave_nobody_out() {
    let system = System::start().await;
    let allow = r#"{"Effect":"Allow","Action":"orders:GetOrder","Resource":"*"}"#;
    let mut expected = vec![format!("arn:aws:iam::{OURS}:role/App")];
    let mut at_least_revision = String::new();
    for number in 0..7 {
        at_least_revision = put(&system, &format!("Many{number}"), allow);
        expected.push(format!("arn:aws:iam::{OURS}:role/Many{number}"));
    }
    let mut asked = WhoCanRequest { max_items: 3, at_least_revision, ..question() };
    let (mut arns, mut pages) = (Vec::new(), 0);
    loop {
        let answer = ask(&system, "Checker", asked.clone()).await.unwrap();
        assert!(answer.principals.len() <= 3);
        arns.extend(answer.principal_arns);
        pages += 1;
        assert_eq!(answer.is_truncated, !answer.marker.is_empty());
        if !answer.is_truncated {
            break;
        }
        asked.marker = answer.marker;
    }
    arns.sort_unstable();
    assert_eq!(arns, expected);
    assert_eq!(pages, 3);
}

#[tokio::test]
async fn more_than_a_pages_work_is_truncated() {
    let system = System::start().await;
    for number in 0..1200 {
        let name = format!("Many{number:04}");
        let revision =
            system.store.put(record(&format!("r/{name}"), Kind::Role(role(OURS, &name, None))));
        // The store's followers have room for 64 changes.
        if number % 20 == 0 {
            eventually(async || {
                let at_least_revision = revision.clone();
                let asked = WhoCanRequest { max_items: 1, at_least_revision, ..question() };
                ask(&system, "Checker", asked).await.ok()
            })
            .await;
        }
    }
    let at_least_revision =
        put(&system, "Zoe", r#"{"Effect":"Allow","Action":"*","Resource":"*"}"#);
    let asked = WhoCanRequest { at_least_revision, ..question() };
    let first = ask(&system, "Checker", asked.clone()).await.unwrap();
    assert!(first.is_truncated);
    let next = WhoCanRequest { marker: first.marker.clone(), ..asked };
    let second = ask(&system, "Checker", next).await.unwrap();
    assert!(!second.is_truncated);
    // On one of the two.
    assert!(found(&first, "Zoe").is_some() != found(&second, "Zoe").is_some());
}

#[tokio::test]
async fn who_may_ask() {
    async fn check(system: &System, statement: &str, allowed: bool, sees: bool) {
        put(system, "Asker", statement);
        let at_least_revision = put(system, "Vpc", IN_VPC);
        let asked = WhoCanRequest { at_least_revision, ..question() };
        match ask(system, "Asker", asked).await {
            Ok(answer) => {
                assert!(allowed, "{statement}");
                let vpc = found(&answer, "Vpc").unwrap();
                assert!(vpc.is_conditional, "{statement}");
                assert_eq!(
                    (vpc.remaining.len(), vpc.remaining_count > 0),
                    (usize::from(sees), sees)
                );
            }
            Err(status) => {
                assert!(!allowed, "{statement}: {status}");
                assert_eq!(refused::<()>(Err(status)).0, Code::PermissionDenied);
            }
        }
    }
    let system = System::start().await;
    let may =
        |actions: &str| format!(r#"{{"Effect":"Allow","Action":[{actions}],"Resource":"*"}}"#);
    let (ask_all, name, explain) = (
        r#""countersign:Authorize""#,
        r#""countersign:AuthorizePrincipal""#,
        r#""countersign:Explain""#,
    );
    check(&system, &may(&format!("{ask_all},{name},{explain}")), true, true).await;
    check(&system, &may(&format!("{ask_all},{name}")), true, false).await;
    check(&system, &may(ask_all), false, false).await;
    check(&system, &may(&format!("{name},{explain}")), false, false).await;

    // Another account's resource, and a service.
    let denied = ask(&system, "Foreign", question()).await;
    assert_eq!(refused(denied).0, Code::PermissionDenied);
    let mut client = system.client.clone();
    let denied = client.who_can(system.by_gateway(question())).await;
    assert_eq!(refused(denied).0, Code::PermissionDenied);
}
