//! The audit of exchanges: each one, granted or refused, is on disk before it is answered. An exchange that cannot be written down grants
//! nothing.
//!
//! An event has CloudTrail's form. It says who asked, how that was shown, for which role and session, from where, and what came of it; it
//! holds no proof, no token and no key. Callers that hang up are written down too, as far as the process lives to do it. Those that are
//! turned away for asking too often are not: their number is no longer theirs to choose.
//!
//! Source: <https://docs.aws.amazon.com/awscloudtrail/latest/userguide/cloudtrail-event-reference-record-contents.html>

use std::{io, path::Path};

use countersign_serve::chain::Chain;
use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::sync::{mpsc, oneshot};

use crate::clock;

/// Events that wait to be written.
const WAITING: usize = 1024;
/// So many share one sync.
const AT_ONCE: usize = 256;
/// What a caller wrote, or what is said of it, is cut here.
const LONGEST_TEXT: usize = 1024;

/// What is written of one exchange.
#[derive(Clone, Debug, Default)]
pub struct Event {
    /// `AssumeRole`, `AssumeRoleWithWebIdentity`, `ExchangeToken`, or `RotateSigningKey`.
    pub name: &'static str,
    /// `subject_token_type`, if it is one that there is.
    pub proof: &'static str,
    /// Who asked, as far as it was shown: an ARN, or a provider and its subject.
    pub principal: String,
    /// The role.
    pub role: String,
    /// The session's name.
    pub session: String,
    /// Whom the token is for.
    pub audience: String,
    /// The address that it came from.
    pub source: String,
    /// The decision, if one was made.
    pub decision_id: String,
    /// Whom the caller spoke for.
    pub service_principal: String,
    /// What came of it.
    pub end: End,
}

/// What came of an exchange.
#[derive(Clone, Debug, Default)]
pub enum End {
    /// A token.
    Granted {
        /// `jti`.
        token_id: String,
        /// The session's ARN.
        session_arn: String,
        /// How long it lasts.
        seconds: i32,
    },
    /// None.
    Refused {
        /// `ErrorInfo.reason`.
        reason: String,
        /// What the caller was told.
        message: String,
    },
    /// Another signing key.
    Rotated {
        /// Its name.
        kid: String,
    },
    /// The caller hung up.
    #[default]
    Abandoned,
}

/// Writes events down, in a thread of its own; by default none are kept. Cheap to clone.
#[derive(Clone, Default)]
pub struct Audit(Option<mpsc::Sender<Waiting>>);

struct Waiting {
    event: String,
    written: oneshot::Sender<()>,
}

/// An event is not on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the exchange cannot be written into the audit trail")]
pub struct NotWritten;

impl Audit {
    /// Goes on with the trail in `folder`, which is made if it is not there.
    ///
    /// # Errors
    /// When the folder cannot be used, or what is in it is no trail.
    pub fn open(folder: &Path) -> io::Result<Self> {
        let chain = Chain::open(folder, "exchanges")?;
        let (sender, receiver) = mpsc::channel(WAITING);
        // Files are written by a thread of their own: a slow disk keeps exchanges waiting, and nothing else.
        std::thread::Builder::new()
            .name("exchange-audit".to_owned())
            .spawn(move || write(chain, receiver))?;
        Ok(Self(Some(sender)))
    }

    /// Returns once the event is on disk.
    ///
    /// # Errors
    /// [`NotWritten`] when it will not be.
    pub async fn write(&self, event: &Event) -> Result<(), NotWritten> {
        let Some(sender) = &self.0 else { return Ok(()) };
        let (written, on_disk) = oneshot::channel();
        let waiting = Waiting { event: text(event, clock::now()), written };
        sender.send(waiting).await.map_err(|_| NotWritten)?;
        on_disk.await.map_err(|_| NotWritten)
    }

    /// Hands the event on without waiting for it; it is lost when too many wait already.
    pub fn note(&self, event: &Event) {
        let Some(sender) = &self.0 else { return };
        let (written, _) = oneshot::channel();
        if sender.try_send(Waiting { event: text(event, clock::now()), written }).is_err() {
            tracing::warn!("an exchange that was abandoned is not in the audit trail");
        }
    }
}

/// Until nobody can send any more. What cannot be written is dropped unanswered, so that whoever waits for it learns that.
fn write(mut chain: Chain, mut receiver: mpsc::Receiver<Waiting>) {
    let mut batch = Vec::with_capacity(AT_ONCE);
    while receiver.blocking_recv_many(&mut batch, AT_ONCE) > 0 {
        // An exchange is no write of the store's.
        let events = batch.iter().map(|waiting| (0, waiting.event.as_str()));
        match chain.append(events, clock::now()) {
            Ok(()) => {
                for Waiting { event: _, written } in batch.drain(..) {
                    // A caller that has gone needs no answer.
                    let _ = written.send(());
                }
            }
            Err(error) => {
                tracing::error!(%error, events = batch.len(), "the audit of exchanges cannot be written");
                batch.clear();
            }
        }
    }
}

fn text(event: &Event, now: i64) -> String {
    let Event {
        name,
        proof,
        principal,
        role,
        session,
        audience,
        source,
        decision_id,
        service_principal,
        end,
    } = event;
    let (error_code, error_message, elements) = match end {
        End::Granted { token_id, session_arn, seconds } => {
            let elements = json!({
                "assumedRoleUser": {"arn": session_arn}, "tokenId": token_id, "expiresIn": seconds,
            });
            (None, None, elements)
        }
        End::Refused { reason, message } => {
            (Some(reason.as_str()), Some(cut(message)), Value::Null)
        }
        End::Rotated { kid } => (None, None, json!({ "kid": kid })),
        End::Abandoned => (Some("Abandoned"), None, Value::Null),
    };
    json!({
        "eventVersion": "1.11",
        "eventTime": time_of(now),
        // AWS has no such operation.
        "eventSource": match *name {
            "ExchangeToken" | "RotateSigningKey" => "countersign",
            _ => "sts.amazonaws.com",
        },
        "eventName": name,
        "userIdentity": {"type": "Unknown", "principalId": cut(principal)},
        "sourceIPAddress": source,
        "requestParameters": {
            "roleArn": cut(role), "roleSessionName": cut(session), "audience": cut(audience),
        },
        "responseElements": elements,
        "errorCode": error_code,
        "errorMessage": error_message,
        "additionalEventData": {
            "proofType": proof, "decisionId": decision_id, "servicePrincipal": service_principal,
        },
        "readOnly": false,
        "eventType": "AwsApiCall",
        "managementEvent": true,
    })
    .to_string()
}

fn cut(text: &str) -> String {
    text.chars().take(LONGEST_TEXT).collect()
}

/// RFC 3339, in seconds, as CloudTrail has it.
fn time_of(now: i64) -> String {
    OffsetDateTime::from_unix_timestamp(now)
        .ok()
        .and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_say_what_came_of_it() {
        let check = |end: End, expected: [Value; 3]| {
            let event = Event { name: "AssumeRole", end, ..Event::default() };
            let text = text(&event, 0);
            let event: Value = serde_json::from_str(&text).unwrap();
            let found =
                ["errorCode", "errorMessage", "responseElements"].map(|name| event[name].clone());
            assert_eq!(found, expected, "{text}");
            assert_eq!(event["eventTime"], "1970-01-01T00:00:00Z");
        };
        let granted = End::Granted { token_id: "j".into(), session_arn: "a".into(), seconds: 900 };
        let elements = json!({"assumedRoleUser": {"arn": "a"}, "tokenId": "j", "expiresIn": 900});
        check(granted, [Value::Null, Value::Null, elements]);
        let refused = |message: &str| End::Refused { reason: "R".into(), message: message.into() };
        check(refused("m"), [json!("R"), json!("m"), Value::Null]);
        check(refused(&"é".repeat(5000)), [json!("R"), json!("é".repeat(1024)), Value::Null]);
        check(End::Abandoned, [json!("Abandoned"), Value::Null, Value::Null]);
    }

    #[tokio::test]
    async fn an_event_that_cannot_be_written_is_said_not_to_be() {
        let (sender, receiver) = mpsc::channel(1);
        drop(receiver);
        assert_eq!(Audit(Some(sender)).write(&Event::default()).await, Err(NotWritten));
        assert_eq!(Audit::default().write(&Event::default()).await, Ok(()));
    }

    #[tokio::test]
    async fn many_at_once_are_all_written() {
        let folder = std::env::temp_dir().join(format!("countersign-audit-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        let audit = Audit::open(&folder).unwrap();
        let event = Event { name: "AssumeRole", ..Event::default() };
        let tasks: Vec<_> = (0..500)
            .map(|_| {
                let (audit, event) = (audit.clone(), event.clone());
                tokio::spawn(async move { audit.write(&event).await })
            })
            .collect();
        for task in tasks {
            task.await.unwrap().unwrap();
        }
        drop(audit);
        let lines: usize = std::fs::read_dir(&folder)
            .unwrap()
            .map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap().lines().count())
            .sum();
        assert_eq!(lines, 500);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
