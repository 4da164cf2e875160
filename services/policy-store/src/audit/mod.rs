//! The audit trail: each write leaves a record in its own transaction, so that there is none without the other.
//!
//! A record has CloudTrail's form (<https://docs.aws.amazon.com/awscloudtrail/latest/userguide/cloudtrail-event-reference-record-contents.html>).
//! It is made from the request and the answer by their descriptors, less what is secret, and less what would make it long. Newest come
//! first in the order of keys. [`trail`] writes records on to files, chained by their digests.
//!
//! Not events: ConsumeProof, of which there is one for each exchange (the gateway's own trail has those), and PublishSigningKey and PinPrincipal,
//! which are the gateway's own housekeeping. Nor are reads. A write that is refused for want of a right is one, with an `errorCode`
//! ([`refused`]), as far as their number is bounded; any other that fails is in the log.

pub mod refused;
pub mod trail;

use std::sync::LazyLock;

use countersign_proto::FILE_DESCRIPTOR_SET;
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};
use prost_types::Timestamp;
use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{
    authn::Caller,
    digest::sha256_hex,
    error::Error,
    layout::{self, Key},
    rpc::Call,
    view::{Plan, View},
};

/// A text of a request or an answer that is longer is cut, and its digest given.
const LONGEST_TEXT: usize = 2_048;
/// So much of it is kept.
const KEPT: usize = 256;
/// An event that is still longer says so, and leaves its parameters out.
const LONGEST_EVENT: usize = 32 << 10;
/// A message that is longer is not looked into.
const LONGEST_MESSAGE: usize = 256 << 10;
/// Fields that hold secrets, by their JSON names.
const SECRET: [&str; 2] = ["secretAccessKey", "derivedKey"];

/// An event, as the store keeps it.
#[derive(Clone, PartialEq, Message)]
pub struct AuditRecord {
    /// A UUID.
    #[prost(string, tag = "1")]
    pub event_id: String,
    /// The RPC.
    #[prost(string, tag = "2")]
    pub event_name: String,
    /// When.
    #[prost(message, optional, tag = "3")]
    pub event_time: Option<Timestamp>,
    /// The service that AWS would have called.
    #[prost(string, tag = "4")]
    pub event_source: String,
    /// The caller's account; empty for a service.
    #[prost(string, tag = "5")]
    pub account_id: String,
    /// The name of the session, or of the service.
    #[prost(string, tag = "6")]
    pub username: String,
    /// The caller's ARN; empty for a service.
    #[prost(string, tag = "7")]
    pub principal_arn: String,
    /// What it is about: ARNs.
    #[prost(string, repeated, tag = "8")]
    pub resources: Vec<String>,
    /// The whole event: JSON, one line.
    #[prost(string, tag = "9")]
    pub event: String,
    /// Which store process wrote it.
    #[prost(string, tag = "10")]
    pub process: String,
}

static POOL: LazyLock<Option<DescriptorPool>> =
    LazyLock::new(|| DescriptorPool::decode(FILE_DESCRIPTOR_SET).ok());

/// Whether a call's writes are events.
pub fn is_event(event_name: &str) -> bool {
    !["ConsumeProof", "PublishSigningKey", "PinPrincipal"].contains(&event_name)
}

/// Adds the record of a write to what the write wants.
pub fn record(
    view: &View,
    plan: &mut Plan,
    call: &Call,
    resources: Vec<String>,
    answer: &[u8],
    process: &str,
) -> Result<(), Error> {
    if is_event(call.event_name) {
        let record = event(view.now(), call, resources, &Outcome::Done { answer }, process)?;
        plan.put(&key(view.now(), &record.event_id), &record);
    }
    Ok(())
}

/// How a call ended.
pub enum Outcome<'a> {
    /// With this answer, a message of the contract.
    Done { answer: &'a [u8] },
    /// It was refused, and nothing was written.
    Refused {
        /// By the name that IAM has for it.
        code: &'static str,
        message: String,
        /// So many refusals since the last event of one have none of their own.
        unrecorded: u64,
    },
}

/// The record of a call.
pub fn event(
    now: Timestamp,
    call: &Call,
    resources: Vec<String>,
    outcome: &Outcome<'_>,
    process: &str,
) -> Result<AuditRecord, Error> {
    let event_id = uuid()?;
    let event_source = source(call.event_name);
    let (account_id, username, principal_arn) = match &call.caller {
        Caller::Service(name) => (String::new(), name.to_string(), String::new()),
        Caller::Session(session) => {
            let claims = &session.claims;
            (
                claims.session.account.clone(),
                claims.session.session_name.clone(),
                claims.sub.clone(),
            )
        }
    };
    let parameters = shown(&format!("{}Request", call.event_name), &call.request);
    let (elements, error_code, error_message, additional) = match outcome {
        Outcome::Done { answer } => {
            (shown(&format!("{}Response", call.event_name), answer), None, None, None)
        }
        Outcome::Refused { code, message, unrecorded } => {
            let message: String = message.chars().take(LONGEST_TEXT).collect();
            let lost = json!({"refusedAndNotRecorded": unrecorded});
            (Value::Null, Some(*code), Some(message), (*unrecorded > 0).then_some(lost))
        }
    };
    let event = |parameters: Value, elements: Value| {
        let mut event = json!({
            "eventVersion": "1.11",
            "userIdentity": identity(&call.caller),
            "eventTime": text_of(now),
            "eventSource": event_source,
            "eventName": call.event_name,
            "sourceIPAddress": call.source.map(|address| address.to_string()),
            "requestParameters": parameters,
            "responseElements": elements,
            "requestID": call.options.request_id,
            "eventID": event_id,
            "readOnly": false,
            "resources": resources.iter().map(|arn| json!({"ARN": arn})).collect::<Vec<_>>(),
            "eventType": "AwsApiCall",
            "managementEvent": true,
            "recipientAccountId": account_id,
        });
        // As in CloudTrail, they are there only if there is something to say.
        let optional = [
            ("errorCode", error_code.map(Value::from)),
            ("errorMessage", error_message.clone().map(Value::from)),
            ("additionalEventData", additional.clone()),
        ];
        if let Value::Object(fields) = &mut event {
            let said =
                optional.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
            fields.extend(said);
        }
        event.to_string()
    };
    let mut text = event(parameters, elements);
    if text.len() > LONGEST_EVENT {
        let cut = || json!({"cut": "the event would have been too long"});
        text = event(cut(), cut());
    }
    Ok(AuditRecord {
        event_id,
        event_name: call.event_name.to_owned(),
        event_time: Some(now),
        event_source: event_source.to_owned(),
        account_id,
        username,
        principal_arn,
        resources,
        event: text,
        process: process.to_owned(),
    })
}

/// Where an event of this time stands: the newer, the earlier.
pub fn key(time: Timestamp, event_id: &str) -> Key<AuditRecord> {
    layout::audit(&order(time), event_id)
}

/// What keys of events of this time begin with; of an earlier time, it is greater.
pub fn order(time: Timestamp) -> String {
    let nanos = u64::try_from(time.nanos).unwrap_or_default();
    let since = u64::try_from(time.seconds).unwrap_or_default();
    let since = since.saturating_mul(1_000_000_000).saturating_add(nanos);
    format!("{:020}", u64::MAX - since)
}

fn uuid() -> Result<String, Error> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| Error::NoRandomness)?;
    // RFC 9562, version 4.
    let number = u128::from_be_bytes(bytes);
    let number = (number & !(0xf << 76) | (0x4 << 76)) & !(0x3 << 62) | (0x2 << 62);
    let hex = format!("{number:032x}");
    let part = |range: std::ops::Range<usize>| hex.get(range).unwrap_or_default().to_owned();
    Ok(format!("{}-{}-{}-{}-{}", part(0..8), part(8..12), part(12..16), part(16..20), part(20..32)))
}

/// RFC 3339, in seconds, as CloudTrail has it.
fn text_of(time: Timestamp) -> String {
    OffsetDateTime::from_unix_timestamp(time.seconds)
        .ok()
        .and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_default()
}

/// AWS's service of that operation.
fn source(event_name: &str) -> &'static str {
    let organizations = ["OrganizationalUnit", "Guardrail", "MoveAccount"];
    let own = ["ResourcePolicy", "Revoke", "ServicePrincipal", "CreateAccount", "ImportAccount"];
    let has = |parts: &[&str]| parts.iter().any(|part| event_name.contains(part));
    if has(&organizations) {
        "organizations.amazonaws.com"
    } else if has(&own) {
        "countersign"
    } else {
        "iam.amazonaws.com"
    }
}

fn identity(caller: &Caller) -> Value {
    match caller {
        Caller::Service(name) => json!({"type": "AWSService", "invokedBy": name.to_string()}),
        Caller::Session(session) => {
            let claims = &session.claims;
            let own = &claims.session;
            json!({
                "type": "AssumedRole",
                "principalId": format!("{}:{}", own.role_id, own.session_name),
                "arn": claims.sub,
                "accountId": own.account,
                "sessionContext": {
                    "sessionIssuer": {
                        "type": "Role",
                        "principalId": own.role_id,
                        "accountId": own.account,
                        "userName": own.role_name,
                    },
                    "attributes": {
                        "creationDate": text_of(Timestamp { seconds: claims.iat, nanos: 0 }),
                        "tokenId": claims.jti,
                    },
                    "sourceIdentity": own.source_identity,
                },
            })
        }
    }
}

/// A message of the contract as JSON, less what is secret and what is long. One that cannot be shown says so: the event is not lost.
fn shown(message: &str, bytes: &[u8]) -> Value {
    let unshown = || json!({"cut": "the message could not be shown"});
    if bytes.len() > LONGEST_MESSAGE {
        return json!({"cut": "the message is too long", "bytes": bytes.len()});
    }
    let Some(pool) = &*POOL else { return unshown() };
    let name = format!("countersign.policy.v1.{message}");
    let Some(descriptor) = pool.get_message_by_name(&name) else { return unshown() };
    let Ok(message) = DynamicMessage::decode(descriptor, bytes) else { return unshown() };
    let options = SerializeOptions::new().skip_default_fields(true);
    let serialized = message.serialize_with_options(serde_json::value::Serializer, &options);
    match serialized {
        Ok(mut value) => {
            redact(&mut value);
            value
        }
        Err(_) => unshown(),
    }
}

fn redact(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                if SECRET.contains(&name.as_str()) {
                    *value = json!("HIDDEN_DUE_TO_SECURITY_REASONS");
                } else {
                    redact(value);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(redact),
        Value::String(text) if text.len() > LONGEST_TEXT => {
            let kept: String = text.chars().take(KEPT).collect();
            let digest = sha256_hex(text.as_bytes());
            *value = json!({"beginsWith": kept, "bytes": text.len(), "sha256": digest});
        }
        Value::String(_) | Value::Number(_) | Value::Bool(_) | Value::Null => {}
    }
}

#[cfg(test)]
mod tests {
    use countersign_proto::policy::v1::{AccessKey, CreateAccessKeyResponse, PutRolePolicyRequest};

    use super::*;

    #[test]
    fn secrets_and_long_texts_are_not_shown() {
        let key = AccessKey { secret_access_key: "top-secret".into(), ..Default::default() };
        let answer = CreateAccessKeyResponse { access_key: Some(key), ..Default::default() };
        let text = shown("CreateAccessKeyResponse", &answer.encode_to_vec()).to_string();
        assert!(!text.contains("top-secret") && text.contains("HIDDEN"), "{text}");
        let long = "x".repeat(5000);
        let request = PutRolePolicyRequest { policy_document: long, ..Default::default() };
        let text = shown("PutRolePolicyRequest", &request.encode_to_vec()).to_string();
        assert!(text.len() < 600 && text.contains("\"bytes\":5000"), "{text}");
        assert!(shown("NoSuchMessage", &[]).to_string().contains("could not be shown"));
    }

    #[test]
    fn newer_events_come_first() {
        let at = |seconds: i64, nanos: i32| order(Timestamp { seconds, nanos });
        assert!(at(2, 0) < at(1, 999_999_999));
        assert!(at(1, 2) < at(1, 1));
        assert_eq!(at(1, 1).len(), at(4_000_000_000, 0).len());
    }
}
