//! The header-signed POST: url `origin + "/"`, one constant body, seven headers at most.

use zeroize::Zeroizing;

use super::envelope::Envelope;
use super::{
    AUDIENCE, BINDING, BODY, CHALLENGE, Claims, ContentType, Form, ProofError, StsProof,
    check_credential, check_signed,
};
use crate::date::AmzDate;
use crate::fields::{Authorization, SignatureError, SignedHeaderNames};
use crate::url::Url;
use crate::verify::shown;

const HEADERS: [&str; 7] = [
    "authorization",
    "content-type",
    "x-amz-date",
    "x-amz-security-token",
    AUDIENCE,
    BINDING,
    CHALLENGE,
];

pub(super) fn parse(envelope: &Envelope) -> Result<StsProof, ProofError> {
    let url = Url::parse(&envelope.url)?;
    if url.path() != "/" {
        return Err(ProofError::PathNotAllowed);
    }
    if url.query().is_some() {
        return Err(ProofError::QueryNotAllowed);
    }
    // The client's body is compared, never sent: this was CVE-2020-16250 (ATTACKS 12).
    match envelope.body.as_deref() {
        Some(BODY) => {}
        Some(_) => return Err(ProofError::ActionNotAllowed),
        None => return Err(ProofError::MissingMember("body")),
    }
    envelope.allow_headers(&HEADERS)?;
    let claims = Claims::from_envelope(envelope)?;
    let authorization =
        envelope.header("authorization")?.ok_or(ProofError::MissingHeader("authorization"))?;
    let Authorization { credential, signed_headers, signature } =
        Authorization::parse(authorization)?;
    let date = envelope.header("x-amz-date")?.ok_or(ProofError::MissingHeader("x-amz-date"))?;
    let date = AmzDate::parse(date).ok_or(SignatureError::DateMalformed)?;
    check_credential(&credential, date)?;
    let session_token =
        envelope.header("x-amz-security-token")?.map(|token| Zeroizing::new(token.to_owned()));
    let content_type = match envelope.header("content-type")? {
        Some(text) => Some(ContentType::parse(text).ok_or(ProofError::ContentTypeNotAllowed)?),
        None => None,
    };
    check_signed(&signed_headers, &claims)?;
    check_own_signed(&signed_headers, session_token.is_some(), content_type.is_some())?;
    let form = Form::Post { content_type };
    Ok(StsProof { url, form, credential, date, signed_headers, signature, session_token, claims })
}

/// What this form alone must have signed, and may have: everything else named is a header that Countersign does not send.
fn check_own_signed(
    signed_headers: &SignedHeaderNames,
    has_token: bool,
    has_content_type: bool,
) -> Result<(), ProofError> {
    if !signed_headers.contains("x-amz-date") {
        return Err(ProofError::UnsignedHeader("x-amz-date"));
    }
    if has_token && !signed_headers.contains("x-amz-security-token") {
        return Err(ProofError::UnsignedHeader("x-amz-security-token"));
    }
    for name in signed_headers.iter() {
        match name {
            // The HTTP client sends host and content-length, as our own request has them.
            "host" | "content-length" | "x-amz-date" | AUDIENCE | BINDING | CHALLENGE => {}
            "x-amz-security-token" if has_token => {}
            "x-amz-security-token" => {
                return Err(ProofError::SignedHeaderAbsent("x-amz-security-token"));
            }
            "content-type" if has_content_type => {}
            "content-type" => return Err(ProofError::SignedHeaderAbsent("content-type")),
            other => return Err(ProofError::SignedHeaderNotAllowed(shown(other))),
        }
    }
    Ok(())
}
