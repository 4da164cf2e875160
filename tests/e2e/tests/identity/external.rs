//! Somebody else's STS, which speaks for accounts that are not ours: a real moto server with the checking of signatures on.

use countersign_e2e::{
    moto::{self, Moto},
    operator::{Operator, reason, unproven},
    system::Countersign,
};
use serde_json::json;
use tonic::Code;

use crate::{Place, proven};

#[tokio::test]
async fn moto_vouches_for_its_users_and_roles() {
    let moto = Moto::start();
    let system = Countersign::up(&["--sts-endpoint", &moto.sts_endpoint()]);
    let mut operator = Operator::of(&system).await;
    let place = Place { sts_url: moto.url(), region: moto::REGION, audience: system.issuer() };

    for (principal, role_name) in [("user", "ForUser"), ("session", "ForSession")] {
        let role = operator.role(role_name, moto.arn(principal)).await;
        let mut request = unproven(&role, "orders");
        // Twice: what the first exchange has pinned, the second must show again. Two equal requests of one second would be one proof.
        for session in ["first", "second"] {
            request.role_session_name = session.to_owned();
            let granted = operator
                .exchange(proven(place, &moto.credentials(principal), "post", &request))
                .await;
            let granted = granted.unwrap_or_else(|status| panic!("{principal}: {status:?}"));
            assert!(
                granted.assumed_role_user.is_some_and(|session| session.arn.contains(role_name))
            );
        }
        // The other one is a stranger to this role.
        let other = if principal == "user" { "session" } else { "user" };
        let refused =
            operator.exchange(proven(place, &moto.credentials(other), "post", &request)).await;
        let refused = refused.expect_err("the trust policy does not name it");
        assert_eq!(
            (refused.code(), reason(&refused).as_str()),
            (Code::PermissionDenied, "AccessDenied")
        );
    }

    let request = unproven(&operator.role("ForUserToo", moto.arn("user")).await, "orders");
    let mut wrong_key = moto.credentials("user");
    wrong_key["secret_access_key"] = json!("0123456789012345678901234567890123456789");
    let refused = operator.exchange(proven(place, &wrong_key, "post", &request)).await;
    let refused = refused.expect_err("the signature is wrong");
    // moto refuses in another form than STS, so its code may be unknown; that it refused is not.
    assert_eq!(refused.code(), Code::Unauthenticated, "{refused:?}");
    assert!(!reason(&refused).is_empty());
}

#[tokio::test]
async fn an_endpoint_speaks_for_its_accounts_alone() {
    let moto = Moto::start();
    let request = |role: &str| unproven(role, "orders");

    // Not listed at all: the proof goes nowhere.
    let system = Countersign::up(&[]);
    let mut operator = Operator::of(&system).await;
    let place = Place { sts_url: moto.url(), region: moto::REGION, audience: system.issuer() };
    let role = operator.role("ForUser", moto.arn("user")).await;
    let refused =
        operator.exchange(proven(place, &moto.credentials("user"), "post", &request(&role))).await;
    let refused = refused.expect_err("the endpoint is not listed");
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::Unauthenticated, "HostNotAllowed")
    );

    // Listed for another account than the one it names.
    let endpoint = moto.sts_endpoint().replace(moto::ACCOUNT, "999999999999");
    let system = Countersign::up(&["--sts-endpoint", &endpoint]);
    let mut operator = Operator::of(&system).await;
    let place = Place { audience: system.issuer(), ..place };
    let role = operator.role("ForUser", moto.arn("user")).await;
    let refused =
        operator.exchange(proven(place, &moto.credentials("user"), "post", &request(&role))).await;
    let refused = refused.expect_err("the endpoint may not speak for this account");
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::Unauthenticated, "AccountNotAllowed")
    );
}
