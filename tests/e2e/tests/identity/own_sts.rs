//! Countersign's own STS: botocore signs, it verifies.

use countersign_e2e::{
    operator::{Operator, reason, unproven, user_arn},
    program::python,
    system::{ACCOUNT, Countersign},
};
use serde_json::{Value, json};
use tonic::Code;

use crate::{Place, credentials, proven};

const REGION: &str = "us-east-1";

#[tokio::test]
async fn botocore_signs_and_our_sts_verifies() {
    let system = Countersign::up(&[]);
    let mut operator = Operator::of(&system).await;
    let key = credentials(&operator.user("worker").await);
    let role = operator.role("OrdersReader", &user_arn("worker")).await;
    let request = unproven(&role, "orders");
    let sts_url = format!("{}/", system.issuer());
    let place = Place { sts_url: &sts_url, region: REGION, audience: system.issuer() };

    for form in ["post", "presigned"] {
        let granted = operator.exchange(proven(place, &key, form, &request)).await;
        let granted = granted.unwrap_or_else(|status| panic!("{form}: {status:?}"));
        let session = granted.assumed_role_user.expect("there is a session");
        assert_eq!(
            session.arn,
            format!("arn:aws:sts::{ACCOUNT}:assumed-role/OrdersReader/journey")
        );
        assert_eq!(granted.expires_in, 900);
    }

    let mut wrong_key = key.clone();
    wrong_key["secret_access_key"] = json!("0123456789012345678901234567890123456789");
    let mut unknown_key = key.clone();
    unknown_key["access_key_id"] = json!("AKIA2222222222222222");
    let elsewhere = Place { audience: "https://gateway.example.com", ..place };
    let other_region = Place { region: "eu-west-1", ..place };
    let other_host = Place { sts_url: "https://sts.example.com/", ..place };
    for form in ["post", "presigned"] {
        let refusals = [
            (place, &wrong_key, "SignatureDoesNotMatch"),
            (place, &unknown_key, "InvalidClientTokenId"),
            (elsewhere, &key, "WrongAudience"),
            (other_region, &key, "RegionMismatch"),
            (other_host, &key, "HostNotAllowed"),
        ];
        for (place, key, expected) in refusals {
            let refused =
                operator.exchange(proven(place, key, form, &request)).await.expect_err(expected);
            assert_eq!(
                (refused.code(), reason(&refused).as_str()),
                (Code::Unauthenticated, expected),
                "{form}"
            );
        }
        // What is asked for is under the signature too.
        let mut altered = proven(place, &key, form, &request);
        altered.role_session_name = "somebody-else".to_owned();
        let refused =
            operator.exchange(altered).await.expect_err("the binding is of another request");
        assert_eq!(
            (refused.code(), reason(&refused).as_str()),
            (Code::Unauthenticated, "BindingMismatch"),
            "{form}"
        );
    }
}

#[tokio::test]
async fn boto3_asks_who_it_is() {
    let system = Countersign::up(&[]);
    let mut operator = Operator::of(&system).await;
    let key = operator.user("worker").await;
    let ask = |who: (&str, Value)| {
        let mut input = json!({"url": system.issuer(), "region": REGION});
        input[who.0] = who.1;
        python("get_caller_identity.py", &input)
    };

    let caller = ask(("credentials", credentials(&key))).expect("the user is known");
    assert_eq!((&caller["arn"], &caller["account"]), (&json!(user_arn("worker")), &json!(ACCOUNT)));
    assert!(caller["user_id"].as_str().is_some_and(|id| id.starts_with("AIDA")), "{caller}");

    // root-credentials.json is what `credential_process` prints.
    let process = format!("cat {}", system.root_credentials().display());
    let root = ask(("credential_process", json!(process))).expect("the root is known");
    let expected = json!({"arn": format!("arn:aws:iam::{ACCOUNT}:root"), "user_id": ACCOUNT, "account": ACCOUNT});
    assert_eq!(root, expected);

    let check = |credentials: Value, code: &str| {
        let refused = ask(("credentials", credentials)).expect_err(code);
        assert_eq!(refused, json!({"code": code, "http_status": 403}));
    };
    let wrong = json!({"access_key_id": key.access_key_id, "secret_access_key": "wrong"});
    check(wrong, "SignatureDoesNotMatch");
    check(
        json!({"access_key_id": "AKIA2222222222222222", "secret_access_key": "any"}),
        "InvalidClientTokenId",
    );
}
