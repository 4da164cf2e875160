//! The one shape of every error: `google.rpc.Status` with `ErrorInfo`, field violations and a retry hint.

use std::{collections::HashMap, time::Duration};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt};

/// The `domain` of every `ErrorInfo`.
pub const DOMAIN: &str = "countersign";

/// hyper's header list holds 16 KiB, other stacks' 8 KiB, and the details travel in a header, in base64.
const MAX_DETAILS_BYTES: usize = 4096;
/// The message travels in a header too, percent-encoded: this counts the bytes that it has there.
const MAX_MESSAGE_BYTES: usize = 2048;

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
    fn from(mut fault: Fault) -> Self {
        fault.message = clip(&fault.message);
        // A first cut, so that what follows encodes a bounded number of them however many there are.
        let mut bytes = 0;
        let fitting = fault.violations.iter().take_while(|violation| {
            bytes += violation.field.len() + violation.description.len() + 4;
            bytes <= MAX_DETAILS_BYTES
        });
        let fitting = fitting.count();
        fault.violations.truncate(fitting);
        loop {
            let status = fault.status();
            if status.details().len() <= MAX_DETAILS_BYTES || fault.violations.pop().is_none() {
                return status;
            }
        }
    }
}

impl Fault {
    fn status(&self) -> Status {
        let mut details = ErrorDetails::new();
        details.set_error_info(self.reason.clone(), DOMAIN, HashMap::<String, String>::new());
        if !self.violations.is_empty() {
            details.set_bad_request(self.violations.clone());
        }
        if let Some(delay) = self.retry_after {
            details.set_retry_info(Some(delay));
        }
        Status::with_error_details(self.code, self.message.clone(), details)
    }
}

fn clip(message: &str) -> String {
    const MORE: char = '…';
    let room = MAX_MESSAGE_BYTES - encoded_bytes(MORE);
    let (mut bytes, mut end) = (0, 0);
    for (at, c) in message.char_indices() {
        bytes += encoded_bytes(c);
        if bytes <= room {
            end = at + c.len_utf8();
        }
        if bytes > MAX_MESSAGE_BYTES {
            return message.get(..end).unwrap_or_default().chars().chain([MORE]).collect();
        }
    }
    message.to_owned()
}

/// Of one character in `grpc-message`: three for each byte that is not a plain one. A few more are counted as encoded here than are.
/// Source: <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md#responses>
fn encoded_bytes(c: char) -> usize {
    let plain = c.is_ascii_alphanumeric() || "-._~!$&'()*+,/:;=@[]".contains(c);
    if plain { 1 } else { 3 * c.len_utf8() }
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
        let check = |message: String, expected: usize| {
            let status = Status::from(Fault::new(Code::Internal, "R", message.clone()));
            let shown = status.message();
            assert_eq!(shown.chars().count(), expected, "{message}");
            let is_whole = shown == message;
            let kept = shown.strip_suffix('…').unwrap_or(shown);
            assert!(is_whole || (shown.ends_with('…') && message.starts_with(kept)), "{shown}");
        };
        check("x".repeat(2048), 2048);
        check("x".repeat(2049), 2040);
        check(" ".repeat(682), 682);
        check(" ".repeat(683), 680);
        check("é".repeat(5000), 340);
        check("𝄞".repeat(170), 170);
        check("𝄞".repeat(171), 170);
    }

    #[test]
    fn l6_the_header_list_stays_small() {
        // As RFC 9113, section 6.5.2 counts it: 32 bytes more for each field.
        let check = |character: &str| {
            let mut fault = Fault::invalid("policy_document", character.repeat(100_000));
            for n in 0..5000 {
                fault =
                    fault.violation(format!("policy_document:{n}:1"), character.repeat(n % 300));
            }
            let response =
                Status::from(fault.retry_after(Duration::from_secs(1))).into_http::<()>();
            let sizes = response
                .headers()
                .iter()
                .map(|(name, value)| name.as_str().len() + value.len() + 32);
            let bytes: usize = sizes.sum();
            assert!(bytes < 8 << 10, "{character}: {bytes}");
        };
        for character in ["x", " ", "%", "\n", "é", "€", "𝄞"] {
            check(character);
        }
    }

    /// A document may have thousands of errors.
    #[test]
    fn h2_many_violations_are_cut_at_once() {
        let mut fault = Fault::invalid("f", "bad");
        for n in 0..100_000 {
            fault = fault.violation(format!("f:{n}"), "");
        }
        let begun = std::time::Instant::now();
        let status = Status::from(fault);
        assert!(status.details().len() <= MAX_DETAILS_BYTES);
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    }
}
