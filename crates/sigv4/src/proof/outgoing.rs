//! The request that goes to STS, rebuilt: constants, the parsed fields of the signature, and the gateway's own audience,
//! binding and challenge. No text of the client's is copied but what the signature itself is made of.

use std::fmt;

use super::{AUDIENCE, BINDING, BODY, CHALLENGE, ContentType, Form, StsProof};
use crate::answer::AnswerFormat;
use crate::canonical::{ALGORITHM, canonical_query};
use crate::fields::Authorization;

/// A request for the endpoint that the caller has chosen. `host` and `content-length` are the HTTP client's to send (the
/// latter always, for a body). It holds a session token and a signature: its own `Debug` shows neither.
#[derive(Clone, PartialEq, Eq)]
pub struct OutgoingRequest {
    pub method: &'static str,
    pub path_and_query: String,
    /// Lower-case names, each once.
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl fmt::Debug for OutgoingRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OutgoingRequest({} /, <redacted>)", self.method)
    }
}

impl StsProof {
    /// The request to send. `audience` and `binding` are the gateway's own values, not the proof's: if the client signed
    /// others, STS refuses.
    pub fn rebuild(&self, audience: &str, binding: &str, accept: AnswerFormat) -> OutgoingRequest {
        self.rebuild_with(audience, binding, None, accept)
    }

    /// The same in an exchange with a challenge, which is the gateway's own too.
    pub fn rebuild_with(
        &self,
        audience: &str,
        binding: &str,
        challenge: Option<&str>,
        accept: AnswerFormat,
    ) -> OutgoingRequest {
        let own = [
            Some((AUDIENCE, audience)),
            Some((BINDING, binding)),
            challenge.map(|nonce| (CHALLENGE, nonce)),
        ];
        let mut headers = vec![("accept".to_owned(), accept.content_type().to_owned())];
        headers.extend(
            own.into_iter().flatten().map(|(name, value)| (name.to_owned(), value.to_owned())),
        );
        match self.form {
            Form::Post { content_type } => {
                self.post(headers, content_type.unwrap_or(ContentType::Bare))
            }
            Form::Presigned { expires } => self.presigned(headers, expires),
        }
    }

    fn post(
        &self,
        mut headers: Vec<(String, String)>,
        content_type: ContentType,
    ) -> OutgoingRequest {
        let authorization = Authorization {
            credential: self.credential.clone(),
            signed_headers: self.signed_headers.clone(),
            signature: self.signature.clone(),
        };
        let mut add = |name: &str, value: String| headers.push((name.to_owned(), value));
        add("authorization", authorization.to_header());
        add("content-type", content_type.as_str().to_owned());
        add("x-amz-date", self.date.to_string());
        if let Some(token) = &self.session_token {
            add("x-amz-security-token", token.to_string());
        }
        OutgoingRequest {
            method: "POST",
            path_and_query: "/".to_owned(),
            headers,
            body: BODY.to_owned(),
        }
    }

    fn presigned(&self, headers: Vec<(String, String)>, expires: u32) -> OutgoingRequest {
        let (credential, date) = (self.credential.to_string(), self.date.to_string());
        let (expires, signed_headers) = (expires.to_string(), self.signed_headers.to_string());
        let signature = self.signature.to_hex();
        let mut pairs = vec![
            ("Action", "GetCallerIdentity"),
            ("Version", "2011-06-15"),
            ("X-Amz-Algorithm", ALGORITHM),
            ("X-Amz-Credential", &credential),
            ("X-Amz-Date", &date),
            ("X-Amz-Expires", &expires),
            ("X-Amz-Signature", &signature),
            ("X-Amz-SignedHeaders", &signed_headers),
        ];
        pairs.extend(
            self.session_token.as_deref().map(|token| ("X-Amz-Security-Token", token.as_str())),
        );
        let path_and_query = format!("/?{}", canonical_query(pairs));
        OutgoingRequest { method: "GET", path_and_query, headers, body: String::new() }
    }
}
