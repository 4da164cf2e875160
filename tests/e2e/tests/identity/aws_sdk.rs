//! A proof made by the AWS SDK for Rust, which has no presigning for GetCallerIdentity: the request is customized, signed by the SDK
//! itself, and caught before it leaves.

use std::sync::{Arc, Mutex};

use aws_credential_types::Credentials;
use aws_sdk_sts::{
    config::{
        BehaviorVersion, ConfigBag, Intercept, Region, RuntimeComponents,
        interceptors::{BeforeTransmitInterceptorContextMut, BeforeTransmitInterceptorContextRef},
        retry::RetryConfig,
    },
    error::BoxError,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use countersign_e2e::{
    moto::{self, Moto},
    operator::{Operator, reason, unproven, user_arn},
    system::Countersign,
};
use countersign_proto::token::v1::ExchangeRequest;
use countersign_token::{Binding, BoundRequest};
use serde_json::{Map, Value, json};
use tonic::Code;

use crate::{Place, credentials};

/// What a header-signed proof may hold; the SDK signs more, for itself.
const KEPT: [&str; 3] = ["content-type", "content-length", "x-amz-security-token"];
/// What of a signed request goes into the proof: the HTTP client that sends it on knows the rest.
const LEFT_OUT: [&str; 2] = ["content-length", "host"];

/// Adds Countersign's headers, takes the SDK's own away, and keeps the signed request instead of letting it go.
#[derive(Clone, Debug)]
struct Catch {
    claims: [(&'static str, String); 2],
    caught: Arc<Mutex<Option<Value>>>,
}

impl Intercept for Catch {
    fn name(&self) -> &'static str {
        "Catch"
    }

    fn modify_before_signing(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let headers = context.request_mut().headers_mut();
        let names: Vec<String> = headers.iter().map(|(name, _)| name.to_owned()).collect();
        for name in names.into_iter().filter(|name| !KEPT.contains(&name.as_str())) {
            headers.remove(name);
        }
        for (name, value) in &self.claims {
            headers.try_insert(*name, value.clone())?;
        }
        Ok(())
    }

    fn read_after_signing(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let request = context.request();
        let headers = request.headers().iter().filter(|(name, _)| !LEFT_OUT.contains(name));
        let headers: Map<String, Value> =
            headers.map(|(name, value)| (name.to_owned(), json!(value))).collect();
        let body = request.body().bytes().ok_or("the body is not in memory")?;
        *self.caught.lock().map_err(|_| "poisoned")? = Some(json!({
            "method": request.method(), "url": request.uri(), "headers": headers,
            "body": std::str::from_utf8(body)?,
        }));
        Err("caught".into())
    }
}

/// `request` with a proof that the SDK signed.
async fn proven(
    place: Place<'_>,
    credentials: &Value,
    request: &ExchangeRequest,
) -> ExchangeRequest {
    let bound = BoundRequest {
        subject_token_type: request.subject_token_type.clone(),
        role_arn: request.role_arn.clone(),
        role_session_name: request.role_session_name.clone(),
        audience: request.audience.clone(),
        duration_seconds: request.duration_seconds,
        ..BoundRequest::default()
    };
    let binding = Binding::of_subject(&bound).as_str().to_owned();
    let claims =
        [("x-countersign-audience", place.audience.to_owned()), ("x-countersign-binding", binding)];
    let catch = Catch { claims, caught: Arc::default() };

    let text = |name: &str| credentials[name].as_str().map(str::to_owned);
    let key = Credentials::new(
        text("access_key_id").expect("there is a key"),
        text("secret_access_key").expect("there is a secret"),
        text("session_token"),
        None,
        "test",
    );
    let config = aws_sdk_sts::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new(place.region.to_owned()))
        .endpoint_url(place.sts_url)
        .credentials_provider(key)
        .retry_config(RetryConfig::disabled())
        .build();
    let client = aws_sdk_sts::Client::from_conf(config);
    let stopped = client.get_caller_identity().customize().interceptor(catch.clone()).send().await;
    assert!(stopped.is_err(), "the request has left");

    let envelope =
        catch.caught.lock().expect("nobody panicked").take().expect("a request was caught");
    let subject_token = URL_SAFE_NO_PAD.encode(envelope.to_string());
    ExchangeRequest { subject_token, ..request.clone() }
}

#[tokio::test]
async fn the_sdk_signs_and_moto_verifies() {
    let moto = Moto::start();
    let system = Countersign::up(&["--sts-endpoint", &moto.sts_endpoint()]);
    let mut operator = Operator::of(&system).await;
    let place = Place { sts_url: moto.url(), region: moto::REGION, audience: system.issuer() };
    for (principal, role_name) in [("user", "ForUser"), ("session", "ForSession")] {
        let role = operator.role(role_name, moto.arn(principal)).await;
        let request = proven(place, &moto.credentials(principal), &unproven(&role, "orders")).await;
        let granted = operator.exchange(request).await;
        assert!(granted.is_ok(), "{principal}: {granted:?}");
    }
}

#[tokio::test]
async fn the_sdk_signs_and_our_sts_verifies() {
    let system = Countersign::up(&[]);
    let mut operator = Operator::of(&system).await;
    let key = credentials(&operator.user("worker").await);
    let role = operator.role("OrdersReader", &user_arn("worker")).await;
    let sts_url = format!("{}/", system.issuer());
    let place = Place { sts_url: &sts_url, region: "us-east-1", audience: system.issuer() };
    let request = proven(place, &key, &unproven(&role, "orders")).await;
    let altered = ExchangeRequest { audience: "payments".to_owned(), ..request.clone() };
    let refused =
        operator.exchange(altered).await.expect_err("the audience was changed after signing");
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::Unauthenticated, "BindingMismatch")
    );
    operator.exchange(request).await.expect("the exchange is granted");
}
