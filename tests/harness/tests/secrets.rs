//! No secret is in any log, be it ever so talkative: a whole day of a system is logged at its most verbose level, and searched.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops here")]

use std::fs;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign::proof::Form;
use countersign_harness::{Ask, Bearer, System, logs};
use countersign_proto::decision::v1::{AuthorizeRequest, authorize_request::Subject};
use countersign_proto::token::v1::GetJwksRequest;

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_logged() {
    let system = System::start().await;
    let user = system.create_user("alice").await;
    let principal = format!(r#"{{"AWS":"{}"}}"#, user.arn);
    let role = system
        .create_role("Reader", &principal, &["arn:aws:iam::aws:policy/AmazonS3FullAccess"], "")
        .await;
    let mut looked_for = vec![
        user.secret.expose().to_owned(),
        fs::read_to_string(&system.running.admin_token_path).unwrap(),
    ];
    let root: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(&system.running.root_credentials_path).unwrap())
            .unwrap();
    looked_for.push(root["SecretAccessKey"].as_str().unwrap().to_owned());

    for (form, audience) in [(Form::Headers, "orders"), (Form::Presigned, "countersign")] {
        let ask = Ask::new(&role, "alice", audience);
        let request = system.request_at(&system.own_sts(), &user.credentials, &ask, form);
        looked_for.push(request.subject_token.clone());
        looked_for.push(signature(&request.subject_token));
        let granted = system.gateway().exchange(request.clone()).await.unwrap().into_inner();
        let token = granted.access_token;
        looked_for.extend(token.split('.').skip(1).map(str::to_owned));
        looked_for.push(token.clone());
        // Refused ones are logged too.
        assert!(system.gateway().exchange(request).await.is_err());
        let question = AuthorizeRequest {
            subject: Some(Subject::Token(token.clone())),
            audience: audience.to_owned(),
            action: "s3:GetObject".to_owned(),
            resource: "arn:aws:s3:::b/k".to_owned(),
            resource_account: "123456789012".to_owned(),
            ..Default::default()
        };
        assert!(system.decision().authorize(question.clone()).await.unwrap().into_inner().allowed);
        // As bearers: of a good token for another audience, and of a broken one.
        for text in [token.clone(), format!("{token}A")] {
            let bearer = Bearer::new(&text).unwrap();
            let _ = system
                .policy_store_as(&bearer)
                .list_roles(countersign_proto::policy::v1::ListRolesRequest::default())
                .await;
            let _ = system.decision_as(&bearer).authorize(question.clone()).await;
            let _ = system.gateway_as(&bearer).get_jwks(GetJwksRequest {}).await;
        }
    }
    let mut wrong = system.request(&user.credentials, &Ask::new(&role, "alice", "orders"));
    wrong.audience = "payments".to_owned();
    looked_for.push(wrong.subject_token.clone());
    assert!(system.gateway().exchange(wrong).await.is_err());
    system.shutdown().await;

    let logs = logs();
    assert!(logs.contains("exchange granted") && logs.contains("exchange refused"), "{logs}");
    for secret in looked_for {
        assert!(secret.len() >= 16, "{secret}");
        assert!(!logs.contains(&secret), "`{secret}` is in the log");
    }
    assert!(!logs.contains("x-countersign-service: "), "a service secret may be in the log");
}

/// The signature of a proof, of either form.
fn signature(subject_token: &str) -> String {
    let envelope = String::from_utf8(URL_SAFE_NO_PAD.decode(subject_token).unwrap()).unwrap();
    let (_, rest) = envelope.split_once("Signature=").unwrap();
    rest.chars().take_while(char::is_ascii_hexdigit).collect()
}
