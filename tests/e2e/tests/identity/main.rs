//! Who vouches for whom: proofs signed by botocore and by the AWS SDK for Rust, checked by Countersign's own STS and by somebody
//! else's (moto); boto3 against the AWS face; and the minted token under PyJWT's eyes,
//! and at an Envoy's door.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "this is a test")]

mod audited;
mod aws_sdk;
mod clients;
mod envoy;
mod external;
mod own_sts;
mod token;
mod traced;

use countersign_e2e::{operator::fields, program::python};
use countersign_proto::{policy::v1::AccessKey, token::v1::ExchangeRequest};
use serde_json::{Value, json};

/// The form that the scripts take.
fn credentials(key: &AccessKey) -> Value {
    json!({"access_key_id": key.access_key_id, "secret_access_key": key.secret_access_key})
}

/// An STS, and a gateway that is to be convinced.
#[derive(Clone, Copy)]
struct Place<'a> {
    sts_url: &'a str,
    region: &'a str,
    audience: &'a str,
}

/// `request` with a proof that botocore signed, `post` or `presigned`.
fn proven(
    place: Place<'_>,
    credentials: &Value,
    form: &str,
    request: &ExchangeRequest,
) -> ExchangeRequest {
    let input = json!({
        "credentials": credentials, "request": fields(request), "sts_url": place.sts_url, "region": place.region,
        "audience": place.audience, "form": form,
    });
    let answer = python("botocore_proof.py", &input).unwrap_or_else(|error| panic!("{error}"));
    let subject_token =
        answer["subject_token"].as_str().expect("the script answers a token").to_owned();
    ExchangeRequest { subject_token, ..request.clone() }
}
