//! A JWT of a configured issuer, through the whole system: trust policy, exchange, decision, and the same after the trust is gone.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops here")]

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign_harness::{System, reason};
use countersign_proto::{
    decision::v1::{AuthorizeRequest, authorize_request::Subject},
    policy::v1::{CreateRoleRequest, PutRolePolicyRequest, UpdateAssumeRolePolicyRequest},
    token::v1::ExchangeRequest,
};
use serde_json::{Value, json};
use tonic::Code;

const ISSUER: &str = "https://11111111-2222-3333-4444-555555555555.tokens.sts.global.api.aws";
const PROVIDER: &str = "11111111-2222-3333-4444-555555555555.tokens.sts.global.api.aws";
const FOREIGN: &str = "210987654321";
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";

fn signed(pair: &EcdsaKeyPair, audience: &str, change: impl FnOnce(&mut Value)) -> String {
    let now = countersign::proof::now();
    let header = json!({"kid": "EC384_0", "typ": "JWT", "alg": "ES384"});
    let mut claims = json!({
        "iss": ISSUER, "aud": audience, "sub": format!("arn:aws:iam::{FOREIGN}:role/Worker"),
        "iat": now - 5, "exp": now + 295, "jti": "6f1",
        "https://sts.amazonaws.com/": {
            "aws_account": FOREIGN, "principal_tags": {"team": "data"}, "request_tags": {"team": "root"},
        },
    });
    change(&mut claims);
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let input = format!("{}.{}", part(&header), part(&claims));
    let signature = pair.sign(&SystemRandom::new(), input.as_bytes()).unwrap();
    format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn trust(account: &str, team: &str) -> String {
    json!({"Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Action": "sts:AssumeRoleWithWebIdentity",
        "Principal": {"Federated": format!("arn:aws:iam::{account}:oidc-provider/{PROVIDER}")},
        "Condition": {"StringEquals": {
            format!("{PROVIDER}:sub"): format!("arn:aws:iam::{FOREIGN}:role/Worker"),
            "aws:PrincipalTag/team": team, "aws:PrincipalAccount": FOREIGN,
        }},
    }]})
    .to_string()
}

/// Its name, what is changed in the claims, and how it is refused.
type Case = (&'static str, fn(&mut Value), Code, &'static str);

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_at_aws_assumes_a_role_here() {
    let pair = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap();
    let (x, y) = pair.public_key().as_ref().get(1..).unwrap().split_at(48);
    let keys = json!({"keys": [{
        "kty": "EC", "crv": "P-384", "alg": "ES384", "use": "sig", "kid": "EC384_0",
        "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y),
    }]});
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("keys.json"), keys.to_string()).unwrap();
    let issuers = format!(
        "[[issuer]]\nurl = \"{ISSUER}\"\nkind = \"aws-sts\"\naccount = \"{FOREIGN}\"\njwks_file = \"keys.json\"\n"
    );
    let file = folder.path().join("issuers.toml");
    std::fs::write(&file, issuers).unwrap();
    let system = System::with(|options| options.jwt_issuers = Some(file)).await;
    let own = system.running.account.to_string();
    let audience = system.running.issuer.clone();

    let mut store = system.policy_store();
    let role = |document: String| CreateRoleRequest {
        role_name: "FromAws".into(),
        assume_role_policy_document: document,
        ..Default::default()
    };
    // A provider of another account could never match.
    let refused = store.create_role(role(trust(FOREIGN, "data"))).await.unwrap_err();
    assert_eq!(reason(&refused), "MalformedPolicyDocument", "{refused:?}");
    store.create_role(role(trust(&own, "data"))).await.unwrap();
    let inline = json!({"Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Action": "orders:*", "Resource": "*",
        "Condition": {"StringEquals": {
            format!("{PROVIDER}:sub"): format!("arn:aws:iam::{FOREIGN}:role/Worker"),
            "aws:FederatedProvider": format!("arn:aws:iam::{own}:oidc-provider/{PROVIDER}"),
        }},
    }]});
    let put = PutRolePolicyRequest {
        role_name: "FromAws".into(),
        policy_name: "Orders".into(),
        policy_document: inline.to_string(),
        ..Default::default()
    };
    let revision = store.put_role_policy(put).await.unwrap().into_inner().revision;
    system.reached(&revision).await;

    let asked = |token: String| ExchangeRequest {
        subject_token: token,
        subject_token_type: JWT.into(),
        role_arn: format!("arn:aws:iam::{own}:role/FromAws"),
        role_session_name: "worker".into(),
        audience: "countersign-test".into(),
        ..Default::default()
    };
    let exchange = async |token: String| {
        let answer = system.gateway().exchange(asked(token)).await;
        answer.map(tonic::Response::into_inner)
    };
    let granted = exchange(signed(&pair, &audience, |_| {})).await.unwrap();
    let authorize = AuthorizeRequest {
        subject: Some(Subject::Token(granted.access_token)),
        audience: "countersign-test".into(),
        action: "orders:GetOrder".into(),
        resource: format!("arn:aws:orders:eu-west-1:{own}:order/1"),
        ..Default::default()
    };
    let decided = system.decision().authorize(authorize).await.unwrap().into_inner();
    assert!(decided.allowed, "{decided:?}");

    // Another role of the account, another tag, what the caller says of itself, and a stranger.
    let cases: [Case; 4] = [
        (
            "another role",
            |c| c["sub"] = json!(format!("arn:aws:iam::{FOREIGN}:role/Other")),
            Code::PermissionDenied,
            "AccessDenied",
        ),
        (
            "another tag",
            |c| c["https://sts.amazonaws.com/"]["principal_tags"] = json!({}),
            Code::PermissionDenied,
            "AccessDenied",
        ),
        (
            "for AWS",
            |c| c["aud"] = json!("sts.amazonaws.com"),
            Code::Unauthenticated,
            "WrongAudience",
        ),
        (
            "expired",
            |c| c["exp"] = json!(c["iat"].as_i64().unwrap() + 1),
            Code::Unauthenticated,
            "ExpiredTokenException",
        ),
    ];
    for (name, change, code, expected) in cases {
        let refused = exchange(signed(&pair, &audience, change)).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (code, expected), "{name}");
    }
    let stranger = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap();
    let refused = exchange(signed(&stranger, &audience, |_| {})).await.unwrap_err();
    assert_eq!(reason(&refused), "InvalidSignature");

    // The trust is changed: the next exchange sees it, since the gateway has heard of it or waits.
    let update = UpdateAssumeRolePolicyRequest {
        role_name: "FromAws".into(),
        policy_document: trust(&own, "other"),
        ..Default::default()
    };
    let revision = store.update_assume_role_policy(update).await.unwrap().into_inner().revision;
    system.reached(&revision).await;
    let refused = exchange(signed(&pair, &audience, |_| {})).await.unwrap_err();
    assert_eq!(reason(&refused), "AccessDenied");
    system.shutdown().await;
}
