//! Somebody else's STS: good answers of either format lead to a token, hostile ones to a refusal and to no token.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops here")]

use countersign::proof::Form;
use countersign_harness::{
    Ask, System, reason,
    sts_stand_in::{Identity, Mode, StsStandIn},
};
use countersign_sigv4::{Credentials, key::SecretKey};
use tonic::Code;

const ACCOUNT: &str = "111122223333";

fn identity() -> Identity {
    Identity {
        account: ACCOUNT.to_owned(),
        arn: format!("arn:aws:sts::{ACCOUNT}:assumed-role/Worker/i-1"),
        user_id: "AROAEXAMPLEEXAMPLE001:i-1".to_owned(),
    }
}

async fn check(format: &str) {
    let sts = StsStandIn::start(identity()).await;
    let endpoint = sts.endpoint(format).parse().unwrap();
    let system = System::with(|options| options.sts_endpoints.push(endpoint)).await;
    let principal = format!(r#"{{"AWS":"arn:aws:iam::{ACCOUNT}:role/Worker"}}"#);
    let role = system.create_role("ForWorkers", &principal, &[], "").await;
    let credentials =
        Credentials::new("ASIAEXAMPLE", SecretKey::new("anything"), Some("token".to_owned()));
    let place = system.sts_at(&sts.origin());
    let ask = Ask::new(&role, "worker", "orders");

    // AWS's presigned form has no body to answer in another format than asked.
    for form in [Form::Headers, Form::Presigned] {
        let request = system.request_at(&place, &credentials, &ask, form);
        let granted = system.gateway().exchange(request).await.unwrap().into_inner();
        assert!(!granted.access_token.is_empty());
        // Each proof is of its own second, so that the next is another.
        tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
    }
    for mode in Mode::HOSTILE {
        sts.answer_with(mode);
        let before = sts.requests();
        let ask = Ask::new(&role, format!("{mode:?}"), "orders");
        let request = system.request_at(&place, &credentials, &ask, Form::Headers);
        let refused = system.gateway().exchange(request).await.unwrap_err();
        let (code, reason) = (refused.code(), reason(&refused));
        match mode {
            Mode::Refuse => assert_eq!(
                (code, reason.as_str()),
                (Code::Unauthenticated, "SignatureDoesNotMatch")
            ),
            Mode::Broken | Mode::Slow => {
                assert_eq!(code, Code::Unavailable, "{mode:?}: {refused:?}")
            }
            Mode::Good
            | Mode::Redirect
            | Mode::Huge
            | Mode::TwoResults
            | Mode::WrongContentType
            | Mode::WrongAccount => {
                assert!(
                    !matches!(code, Code::Ok | Code::Internal | Code::Unknown),
                    "{mode:?}: {refused:?}"
                );
                assert!(!reason.is_empty(), "{mode:?}: {refused:?}");
            }
        }
        // A redirect is not followed: one request each, whatever the answer.
        assert_eq!(sts.requests(), before + 1, "{mode:?}");
    }
    // The same name with another unique id is somebody else.
    sts.answer_with(Mode::Good);
    sts.say(Identity { user_id: "AROAEXAMPLEEXAMPLE002:i-1".to_owned(), ..identity() });
    let request = system.request_at(
        &place,
        &credentials,
        &Ask::new(&role, "changed", "orders"),
        Form::Headers,
    );
    let refused = system.gateway().exchange(request).await.unwrap_err();
    assert_eq!(reason(&refused), "PrincipalIdChanged", "{refused:?}");
    // An account that the endpoint may not speak for.
    let other = "444455556666";
    sts.say(Identity {
        account: other.to_owned(),
        arn: format!("arn:aws:sts::{other}:assumed-role/Worker/i-1"),
        user_id: "AROAEXAMPLEEXAMPLE003:i-1".to_owned(),
    });
    let request = system.request_at(
        &place,
        &credentials,
        &Ask::new(&role, "foreign", "orders"),
        Form::Headers,
    );
    let refused = system.gateway().exchange(request).await.unwrap_err();
    assert_eq!(reason(&refused), "AccountNotAllowed", "{refused:?}");
    system.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_sts_that_speaks_xml() {
    check("xml").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_sts_that_speaks_json() {
    check("json").await;
}
