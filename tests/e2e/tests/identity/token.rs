//! The minted token, verified by a library that nobody here wrote, from the key set that the gateway publishes.

use countersign_e2e::{
    operator::{Operator, unproven, user_arn},
    program::python,
    system::{ACCOUNT, Countersign},
};
use serde_json::{Value, json};

use crate::{Place, credentials, proven};

#[tokio::test]
async fn pyjwt_verifies_the_token_from_the_key_set() {
    let system = Countersign::up(&[]);
    let mut operator = Operator::of(&system).await;
    let key = credentials(&operator.user("worker").await);
    let role = operator.role("OrdersReader", &user_arn("worker")).await;
    let sts_url = format!("{}/", system.issuer());
    let place = Place { sts_url: &sts_url, region: "us-east-1", audience: system.issuer() };
    let granted = operator.exchange(proven(place, &key, "post", &unproven(&role, "orders"))).await;
    let token = granted.expect("the exchange is granted").access_token;

    let verify = |token: &str, issuer: &str, audience: &str| {
        let input = json!({"token": token, "jwks_of": system.issuer(), "issuer": issuer, "audience": audience});
        python("verify_token.py", &input)
    };
    let verified = verify(&token, system.issuer(), "orders").expect("the token is good");
    assert_eq!(
        (&verified["header"]["typ"], &verified["header"]["alg"]),
        (&json!("at+jwt"), &json!("ES256"))
    );
    let claims = &verified["claims"];
    assert_eq!(
        claims["sub"],
        format!("arn:aws:sts::{ACCOUNT}:assumed-role/OrdersReader/journey").as_str()
    );
    assert_eq!((&claims["iss"], &claims["aud"]), (&json!(system.issuer()), &json!("orders")));
    let seconds = |name: &str| {
        claims[name].as_i64().unwrap_or_else(|| panic!("`{name}` is no number: {claims}"))
    };
    assert_eq!(seconds("exp") - seconds("iat"), 900);

    let check = |result: Result<Value, Value>, error: &str| {
        assert_eq!(result.expect_err(error), json!({"error": error}));
    };
    check(verify(&token, system.issuer(), "payments"), "InvalidAudienceError");
    check(verify(&token, "https://gateway.example.com", "orders"), "InvalidIssuerError");
    check(verify(&altered(&token), system.issuer(), "orders"), "InvalidSignatureError");
    // The operator's own token is of the same keys, and for Countersign alone.
    let admin = system.admin_token();
    assert!(verify(&admin, system.issuer(), "countersign").is_ok());
    check(verify(&admin, system.issuer(), "orders"), "InvalidAudienceError");
}

/// The token with another first letter of its signature.
fn altered(token: &str) -> String {
    let (signed, signature) = token.rsplit_once('.').expect("a token has three parts");
    let first = if signature.starts_with('A') { 'B' } else { 'A' };
    format!("{signed}.{first}{}", signature.get(1..).expect("a signature is ASCII"))
}
