//! The STS GetCallerIdentity proof: a request that a workload signed for AWS, read here as a closed form.
//!
//! There are two forms, a header-signed POST and a presigned GET, each with its own strict parser; whatever is not in the
//! form is refused by name. What a proof claims (audience, binding, challenge) is only ever compared: the request that
//! goes to STS is rebuilt from constants, from the parsed fields and from the gateway's own values, so AWS's signature
//! fails unless the client signed exactly those.
//!
//! A parsed proof shows nothing about who sent it: only STS's answer does ([`crate::answer`]). It does not know whether it
//! was spent before, nor which endpoints an operator configured.

mod envelope;
mod error;
mod make;
mod outgoing;
mod post;
mod presigned;
#[cfg(test)]
mod tests;

use std::fmt;

use zeroize::Zeroizing;

pub use error::ProofError;
pub use make::ProofRequest;
pub use outgoing::OutgoingRequest;

use crate::date::AmzDate;
use crate::fields::{CredentialScope, Signature, SignedHeaderNames, is_region};
use crate::sts_hosts::{StsHost, lookup};
use crate::url::Url;

/// The largest `subject_token`, in characters, checked before anything is decoded (ATTACKS 84).
pub const MAX_PROOF: usize = 16 * 1024;
/// The only body, and the only request, that is ever sent to STS.
pub const BODY: &str = "Action=GetCallerIdentity&Version=2011-06-15";
/// The longest `X-Amz-Expires` a presigned proof may ask for, in seconds. STS ignores it; [`StsProof::check_time`] counts.
pub const MAX_EXPIRES: u32 = 60;
/// How old a proof may be, in seconds. STS itself would take it for 15 minutes (ATTACKS 32).
pub const MAX_AGE: i64 = 60;
/// How far in the future a proof may be dated, in seconds (ATTACKS 33).
pub const MAX_LEAD: i64 = 5;

pub(crate) const AUDIENCE: &str = "x-countersign-audience";
pub(crate) const BINDING: &str = "x-countersign-binding";
pub(crate) const CHALLENGE: &str = "x-countersign-challenge";

/// A proof in its closed form. [`StsProof::parse`] alone makes one.
#[derive(Clone)]
pub struct StsProof {
    url: Url,
    form: Form,
    credential: CredentialScope,
    date: AmzDate,
    signed_headers: SignedHeaderNames,
    signature: Signature,
    session_token: Option<Zeroizing<String>>,
    claims: Claims,
}

/// What only one of the two forms has.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Post { content_type: Option<ContentType> },
    Presigned { expires: u32 },
}

/// The two spellings of a form's content type that signers use.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ContentType {
    Bare,
    Utf8,
}

/// The values the client signed for Countersign. Never sent on.
#[derive(Clone)]
struct Claims {
    audience: String,
    binding: String,
    challenge: Option<String>,
}

impl StsProof {
    /// Reads a `subject_token`: base64url without padding of the JSON object of DESIGN.md section 3.
    pub fn parse(subject_token: &str) -> Result<StsProof, ProofError> {
        let envelope = envelope::open(subject_token)?;
        match envelope.method.as_str() {
            "POST" => post::parse(&envelope),
            "GET" => presigned::parse(&envelope),
            method => Err(ProofError::MethodNotAllowed(crate::verify::shown(method))),
        }
    }

    /// For the audit trail alone: an access key id is not an identity (ATTACKS 16).
    pub fn access_key_id(&self) -> &str {
        &self.credential.access_key_id
    }

    /// `scheme://host[:port]`, to compare byte for byte with an operator's own endpoint.
    pub fn origin(&self) -> String {
        self.url.origin()
    }

    pub fn host(&self) -> &str {
        self.url.host()
    }

    /// `X-Amz-Date`, in seconds since 1970.
    pub fn amz_date(&self) -> i64 {
        self.date.epoch()
    }

    /// `X-Amz-Expires` of the presigned form, in seconds.
    pub fn expires(&self) -> Option<u32> {
        match self.form {
            Form::Post { .. } => None,
            Form::Presigned { expires } => Some(expires),
        }
    }

    /// The region in the credential scope: the client's word until compared with the endpoint's.
    pub fn scope_region(&self) -> &str {
        &self.credential.region
    }

    /// The audience that the client signed.
    pub fn audience(&self) -> &str {
        &self.claims.audience
    }

    /// The binding that the client signed.
    pub fn binding(&self) -> &str {
        &self.claims.binding
    }

    /// The challenge that the client signed, in an exchange with one.
    pub fn challenge(&self) -> Option<&str> {
        self.claims.challenge.as_deref()
    }

    /// 64 lower-case hexadecimal digits. Not for logs.
    pub fn signature(&self) -> String {
        self.signature.to_hex()
    }

    /// What a spent proof is remembered by: access key id, date and signature, each in its one spelling (ATTACKS 37).
    pub fn replay_key(&self) -> String {
        format!("{}/{}/{}", self.credential.access_key_id, self.date, self.signature.to_hex())
    }

    /// Countersign's own window, to both sides; a presigned proof may end sooner.
    pub fn check_time(&self, now: i64) -> Result<(), ProofError> {
        let date = self.date.epoch();
        let life = self.expires().map_or(MAX_AGE, |expires| MAX_AGE.min(i64::from(expires)));
        if now > date.saturating_add(life) {
            return Err(ProofError::ProofExpired);
        }
        if date > now.saturating_add(MAX_LEAD) {
            return Err(ProofError::ProofNotYetValid);
        }
        Ok(())
    }

    /// AWS's endpoint that this proof is for: `https`, no port, a row of the table, signed for that row's region.
    pub fn aws_endpoint(&self) -> Result<StsHost, ProofError> {
        let row =
            lookup(self.url.host()).ok_or_else(|| ProofError::HostNotAllowed(self.origin()))?;
        if self.origin() != format!("https://{}", row.host) {
            return Err(ProofError::HostNotAllowed(self.origin()));
        }
        self.check_region(row.region)?;
        Ok(row)
    }

    /// The scope's region must be the endpoint's (ATTACKS 11).
    pub fn check_region(&self, region: &str) -> Result<(), ProofError> {
        if self.credential.region == region { Ok(()) } else { Err(ProofError::RegionMismatch) }
    }

    /// Compares the signed claims with the gateway's own values, before STS is asked. `challenge` is `None` in a one-shot
    /// exchange, where a signed challenge is refused.
    pub fn check_claims(
        &self,
        audience: &str,
        binding: &str,
        challenge: Option<&str>,
    ) -> Result<(), ProofError> {
        if self.claims.audience != audience {
            return Err(ProofError::AudienceMismatch);
        }
        if self.claims.binding != binding {
            return Err(ProofError::BindingMismatch);
        }
        match (self.claims.challenge.as_deref(), challenge) {
            (None, None) => Ok(()),
            (Some(signed), Some(expected)) if signed == expected => Ok(()),
            (Some(_), Some(_)) => Err(ProofError::ChallengeMismatch),
            (None, Some(_)) => Err(ProofError::MissingChallengeHeader),
            (Some(_), None) => Err(ProofError::ChallengeNotExpected),
        }
    }
}

impl fmt::Debug for StsProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StsProof")
            .field("origin", &self.origin())
            .field("credential", &self.credential.to_string())
            .field("date", &self.date.to_string())
            .field("expires", &self.expires())
            .field("signed_headers", &self.signed_headers.to_string())
            .field("audience", &self.claims.audience)
            .field("signature", &"<redacted>")
            .field("session_token", &self.session_token.as_ref().map(|_| "<redacted>"))
            .finish_non_exhaustive()
    }
}

impl ContentType {
    fn parse(text: &str) -> Option<ContentType> {
        [ContentType::Bare, ContentType::Utf8].into_iter().find(|known| known.as_str() == text)
    }

    fn as_str(self) -> &'static str {
        match self {
            ContentType::Bare => "application/x-www-form-urlencoded",
            ContentType::Utf8 => "application/x-www-form-urlencoded; charset=utf-8",
        }
    }
}

/// What both forms demand of the credential: STS's scope, AWS's spelling of a region, the date's own day.
fn check_credential(credential: &CredentialScope, date: AmzDate) -> Result<(), ProofError> {
    if credential.service != "sts" {
        return Err(ProofError::ServiceNotAllowed);
    }
    if !is_region(&credential.region) {
        return Err(ProofError::RegionMalformed);
    }
    if credential.day != date.day() {
        return Err(ProofError::ScopeDayMismatch);
    }
    Ok(())
}

/// The headers that both forms must have signed, each missing one under its own name.
fn check_signed(signed_headers: &SignedHeaderNames, claims: &Claims) -> Result<(), ProofError> {
    if !signed_headers.contains("host") {
        return Err(ProofError::UnsignedHeader("host"));
    }
    if !signed_headers.contains(AUDIENCE) {
        return Err(ProofError::UnsignedAudienceHeader);
    }
    if !signed_headers.contains(BINDING) {
        return Err(ProofError::UnsignedBindingHeader);
    }
    match (&claims.challenge, signed_headers.contains(CHALLENGE)) {
        (Some(_), true) | (None, false) => Ok(()),
        (Some(_), false) => Err(ProofError::UnsignedHeader(CHALLENGE)),
        (None, true) => Err(ProofError::SignedHeaderAbsent(CHALLENGE)),
    }
}

impl Claims {
    fn from_envelope(envelope: &envelope::Envelope) -> Result<Claims, ProofError> {
        Ok(Claims {
            audience: envelope
                .header(AUDIENCE)?
                .ok_or(ProofError::MissingAudienceHeader)?
                .to_owned(),
            binding: envelope.header(BINDING)?.ok_or(ProofError::MissingBindingHeader)?.to_owned(),
            challenge: envelope.header(CHALLENGE)?.map(str::to_owned),
        })
    }
}
