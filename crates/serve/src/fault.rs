//! The one shape of every error: `google.rpc.Status` with `ErrorInfo`, field violations and a retry hint.

use std::{collections::HashMap, time::Duration};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt};

/// The `domain` of every `ErrorInfo`.
pub const DOMAIN: &str = "countersign";

/// hyper's header list holds 16 KiB, other stacks' 8 KiB, and the details travel in a header, in base64.
const MAX_DETAILS_BYTES: usize = 4096;

/// An error as a caller sees it. What it says is what the caller may fix; causes go to the log.
#[derive(Clone, Debug)]
pub struct Fault {
    code: Code,
    reason: String,
    message: String,
    violations: Vec<FieldViolation>,
    retry_after: Option<Duration>,
}

impl Fault {
    /// `reason` is IAM's error code where IAM has one, such as `NoSuchEntity`.
    pub fn new(code: Code, reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            code,
            reason: reason.into(),
            message: message.into(),
            violations: Vec::new(),
            retry_after: None,
        }
    }

    /// No credentials, or bad ones.
    pub fn unauthenticated(reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(Code::Unauthenticated, reason, message)
    }

    /// One field of the request is wrong.
    pub fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        let message = message.into();
        let field = field.into();
        Self::new(Code::InvalidArgument, "ValidationError", format!("{field}: {message}"))
            .violation(field, message)
    }

    /// A field that a later version reads. It is refused by name: ignoring it could allow what it was meant to deny.
    pub fn field_not_implemented(field: impl Into<String>) -> Self {
        let field = field.into();
        let message = "not implemented yet; leave it out";
        Self::new(Code::Unimplemented, "NotImplemented", format!("{field}: {message}"))
            .violation(field, message)
    }

    /// An RPC that a later version answers.
    #[must_use]
    pub fn rpc_not_implemented(rpc: &str) -> Self {
        Self::new(
            Code::Unimplemented,
            "NotImplemented",
            format!("{rpc} is not implemented yet; README.md lists what is"),
        )
    }

    /// Names another field that is wrong.
    #[must_use]
    pub fn violation(mut self, field: impl Into<String>, description: impl Into<String>) -> Self {
        self.violations.push(FieldViolation::new(field, description));
        self
    }

    /// Says when to try again.
    #[must_use]
    pub fn retry_after(mut self, delay: Duration) -> Self {
        self.retry_after = Some(delay);
        self
    }

    /// The gRPC code.
    #[must_use]
    pub fn code(&self) -> Code {
        self.code
    }

    /// The reason, as in `ErrorInfo`.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// The sentence for people.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl From<Fault> for Status {
    fn from(fault: Fault) -> Self {
        let mut violations = fault.violations;
        loop {
            let mut details = ErrorDetails::new();
            details.set_error_info(fault.reason.clone(), DOMAIN, HashMap::<String, String>::new());
            if !violations.is_empty() {
                details.set_bad_request(violations.clone());
            }
            if let Some(delay) = fault.retry_after {
                details.set_retry_info(Some(delay));
            }
            let status = Status::with_error_details(fault.code, clip(&fault.message), details);
            if status.details().len() <= MAX_DETAILS_BYTES || violations.pop().is_none() {
                return status;
            }
        }
    }
}

/// The message travels in a header too, percent-encoded.
fn clip(message: &str) -> String {
    const MAX_CHARS: usize = 1000;
    if message.chars().count() <= MAX_CHARS {
        return message.to_owned();
    }
    message.chars().take(MAX_CHARS).chain("…".chars()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_carry_the_reason_and_stay_small() {
        let mut fault = Fault::invalid("policy_document", "bad");
        for n in 0..1000 {
            fault = fault.violation(format!("policy_document:{n}"), "x".repeat(40));
        }
        let status = Status::from(fault.retry_after(Duration::from_secs(1)));
        assert!(status.details().len() <= MAX_DETAILS_BYTES);
        let details = status.get_error_details();
        let info = details.error_info().expect("ErrorInfo");
        assert_eq!((info.reason.as_str(), info.domain.as_str()), ("ValidationError", DOMAIN));
        assert!(details.bad_request().expect("BadRequest").field_violations.len() > 10);
        assert!(details.retry_info().is_some());
    }

    #[test]
    fn a_long_message_is_clipped() {
        let status = Status::from(Fault::invalid("f", "é".repeat(5000)));
        assert_eq!(status.message().chars().count(), 1001);
    }
}
