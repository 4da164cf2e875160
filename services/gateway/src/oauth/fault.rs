//! What goes wrong, as OAuth says it (RFC 6749 section 5.2, RFC 8693 section 2.2.2, RFC 9449 section 5). What a refusal means, and what of
//! it a caller may know, is `error.rs`'s to say.

use axum::{
    http::{
        HeaderValue, StatusCode,
        header::{CACHE_CONTROL, PRAGMA, RETRY_AFTER, WWW_AUTHENTICATE},
    },
    response::{IntoResponse, Response},
};
use countersign_serve::Fault;
use serde_json::json;
use tonic::Code;

use crate::error::Refusal;

/// An error answer.
#[derive(Debug)]
pub struct OAuthFault {
    pub(super) status: StatusCode,
    pub(super) error: &'static str,
    pub(super) description: String,
    /// The reason that gRPC's `ErrorInfo` has.
    pub(super) reason: String,
    /// Whether the caller's own token is asked for, or refused (RFC 6750 section 3).
    pub(super) challenge: bool,
}

impl OAuthFault {
    fn new(
        status: StatusCode,
        error: &'static str,
        reason: impl Into<String>,
        description: impl Into<String>,
    ) -> Self {
        let (reason, description) = (reason.into(), description.into());
        Self { status, error, description, reason, challenge: false }
    }

    /// The request is wrong.
    pub fn invalid_request(description: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request", "ValidationError", description)
    }

    /// Another grant than the one there is.
    #[must_use]
    pub fn unsupported_grant_type() -> Self {
        let description = format!("`grant_type` must be `{}`", super::form::GRANT_TYPE);
        let status = StatusCode::BAD_REQUEST;
        Self::new(status, "unsupported_grant_type", "ValidationError", description)
    }

    /// The body is too long.
    #[must_use]
    pub fn too_large() -> Self {
        let status = StatusCode::PAYLOAD_TOO_LARGE;
        Self::new(
            status,
            "invalid_request",
            "RequestEntityTooLarge",
            "the body is too long, or broke off",
        )
    }

    /// The caller took too long to say it.
    #[must_use]
    pub fn too_slow() -> Self {
        let status = StatusCode::REQUEST_TIMEOUT;
        Self::new(status, "invalid_request", "RequestTimeout", "the request took too long")
    }

    /// The caller's own credentials are missing, or no good.
    #[must_use]
    pub fn of_caller(fault: &Fault) -> Self {
        let status = StatusCode::UNAUTHORIZED;
        Self {
            challenge: true,
            ..Self::new(status, "invalid_client", fault.reason(), fault.message())
        }
    }
}

/// RFC 8693 section 2.2.2: whatever is wrong with a token that is shown, or with what policies say of it, is `invalid_request`.
impl From<&Refusal> for OAuthFault {
    fn from(refusal: &Refusal) -> Self {
        let fault = Fault::from(refusal);
        let (status, error) = match fault.code() {
            Code::Unavailable | Code::DeadlineExceeded => {
                (StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable")
            }
            Code::ResourceExhausted => (StatusCode::TOO_MANY_REQUESTS, "temporarily_unavailable"),
            Code::InvalidArgument | Code::Unauthenticated | Code::PermissionDenied => {
                (StatusCode::BAD_REQUEST, of_the_request(refusal))
            }
            Code::Ok
            | Code::Cancelled
            | Code::Unknown
            | Code::NotFound
            | Code::AlreadyExists
            | Code::FailedPrecondition
            | Code::Aborted
            | Code::OutOfRange
            | Code::Unimplemented
            | Code::Internal
            | Code::DataLoss => (StatusCode::INTERNAL_SERVER_ERROR, "server_error"),
        };
        Self::new(status, error, fault.reason(), fault.message())
    }
}

fn of_the_request(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::Possession(_) => "invalid_dpop_proof",
        Refusal::TokenDenied { .. } => "unauthorized_client",
        Refusal::NothingInScope { .. } | Refusal::Invalid { field: "scope", .. } => "invalid_scope",
        Refusal::AudienceNotAllowed { .. }
        | Refusal::ExchangeDenied { .. }
        | Refusal::Invalid { field: "audience", .. } => "invalid_target",
        Refusal::InvalidByDecision { message, .. } if message.starts_with("scope:") => {
            "invalid_scope"
        }
        // Only the name of a refusal is chosen here.
        _ => "invalid_request",
    }
}

impl IntoResponse for OAuthFault {
    fn into_response(self) -> Response {
        let Self { status, error, description, reason, challenge } = self;
        tracing::debug!(error, reason, description, "an OAuth call was refused");
        let body = json!({
            "error": error,
            "error_description": in_charset(&description),
            "reason": reason,
        });
        let mut response = (status, no_store(), axum::Json(body)).into_response();
        let headers = response.headers_mut();
        if matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if challenge {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            // RFC 9449 section 7.1.
            headers.append(WWW_AUTHENTICATE, HeaderValue::from_static("DPoP algs=\"ES256\""));
        }
        response
    }
}

/// RFC 6749 section 5.1: of answers with tokens, and of errors with what was in them.
#[must_use]
pub fn no_store() -> [(axum::http::HeaderName, &'static str); 2] {
    [(CACHE_CONTROL, "no-store"), (PRAGMA, "no-cache")]
}

/// RFC 6749 section 5.2: %x20-21 / %x23-5B / %x5D-7E.
fn in_charset(text: &str) -> String {
    let plain = |c| match c {
        '"' => '\'',
        '\\' => '/',
        ' '..='~' => c,
        _ => '?',
    };
    text.chars().map(plain).take(1024).collect()
}

#[cfg(test)]
mod tests {
    use countersign_token::{DpopError, TokenError};

    use super::*;

    #[test]
    fn refusals() {
        fn check(refusal: Refusal, status: u16, error: &str) {
            let fault = OAuthFault::from(&refusal);
            assert_eq!((fault.status.as_u16(), fault.error), (status, error), "{refusal:?}");
        }
        let text = || "x".to_owned();
        check(Refusal::MissingProof, 400, "invalid_request");
        check(Refusal::BindingMismatch, 400, "invalid_request");
        check(Refusal::SubjectToken(TokenError::WrongIssuer), 400, "invalid_request");
        check(Refusal::UnsupportedTokenType { found: text() }, 400, "invalid_request");
        check(Refusal::Invalid { field: "scope", message: text() }, 400, "invalid_scope");
        check(Refusal::Invalid { field: "audience", message: text() }, 400, "invalid_target");
        check(Refusal::Invalid { field: "policy", message: text() }, 400, "invalid_request");
        check(Refusal::NothingInScope { asked: text(), own: text() }, 400, "invalid_scope");
        check(
            Refusal::AudienceNotAllowed { own: text(), asked: text(), why: "x" },
            400,
            "invalid_target",
        );
        check(Refusal::Possession(DpopError::WrongUri), 400, "invalid_dpop_proof");
        check(Refusal::Possession(DpopError::Busy), 429, "temporarily_unavailable");
        check(Refusal::Busy, 429, "temporarily_unavailable");
        check(
            Refusal::StsUnavailable { origin: text(), cause: text() },
            503,
            "temporarily_unavailable",
        );
        check(Refusal::TimedOut, 503, "temporarily_unavailable");
        check(Refusal::ServiceBroken { service: "x", cause: text() }, 500, "server_error");
    }

    #[test]
    fn descriptions_keep_to_the_charset() {
        assert_eq!(in_charset("a \"b\" \\ ö\n"), "a 'b' / ??");
        assert_eq!(in_charset(&"a".repeat(2000)).len(), 1024);
    }
}
