//! Callers without credentials, where the operator lets them ask.

use countersign_proto::decision::v1::{
    AuthorizeAssumeRoleRequest, AuthorizeRequest, ExplainRequest, GetStatusRequest,
    authorize_request::Subject, explain_request,
};
use tonic::{Code, Request};

use super::harness::{ORDER, System, question, refused};

#[tokio::test]
async fn they_may_ask_about_a_bearer_and_nothing_else() {
    let system = System::start_with(|config| config.anonymous_callers = true).await;
    let mut client = system.client.clone();
    let token = || system.token("App", "orders");
    let answer = client.authorize(Request::new(question(token()))).await.unwrap().into_inner();
    assert!(answer.allowed);

    let arn = "arn:aws:iam::111122223333:role/App";
    let named = AuthorizeRequest {
        subject: Some(Subject::PrincipalArn(arn.into())),
        audience: String::new(),
        ..question(String::new())
    };
    let denied = Code::PermissionDenied;
    assert_eq!(refused(client.authorize(Request::new(named)).await).0, denied);
    let why = ExplainRequest {
        subject: Some(explain_request::Subject::Token(token())),
        audience: "orders".into(),
        action: "orders:GetOrder".into(),
        resource: ORDER.into(),
        ..Default::default()
    };
    assert_eq!(refused(client.explain(Request::new(why)).await).0, denied);
    assert_eq!(refused(client.get_status(Request::new(GetStatusRequest {})).await).0, denied);
    let assume = AuthorizeAssumeRoleRequest::default();
    assert_eq!(refused(client.authorize_assume_role(Request::new(assume)).await).0, denied);
    // A bad credential is not none.
    let mut bad = Request::new(question(token()));
    bad.metadata_mut().insert("authorization", "Bearer x".parse().unwrap());
    assert_eq!(refused(client.authorize(bad).await).0, Code::Unauthenticated);
}
