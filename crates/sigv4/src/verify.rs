//! The server's side of SigV4, for Countersign's own AWS face.
//!
//! Two steps, so that the derived key can be fetched between them: [`ParsedSignature::from_request`] reads the signature
//! and fixes the string to sign (nothing of the request can change afterwards); [`ParsedSignature::verify`] checks time
//! and signature and returns a [`Verified`], which nothing else can make. It does not know whose key it is, nor which
//! region or service is served: the caller compares [`ParsedSignature::credential`] with its own.

use std::fmt;

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::canonical::{
    ALGORITHM, canonical_headers, canonical_query, canonical_request, canonical_uri,
    normalize_path, query_pairs, sha256_hex, string_to_sign,
};
use crate::date::AmzDate;
use crate::fields::{Authorization, CredentialScope, Signature, SignatureError, SignedHeaderNames};
use crate::key::DerivedKey;

/// A request as it came. `path` and `query` are the wire's text (no `?`), header names may have any case.
#[derive(Clone, Copy)]
pub struct ReceivedRequest<'a> {
    pub method: &'a str,
    pub path: &'a str,
    pub query: &'a str,
    pub headers: &'a [(&'a str, &'a [u8])],
    pub body: &'a [u8],
}

/// How far a request's date may be from `now`, in seconds, to either side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockWindow {
    pub past: i64,
    pub future: i64,
}

impl ClockWindow {
    /// AWS's own: 15 minutes to either side.
    pub const AWS: ClockWindow = ClockWindow { past: 900, future: 900 };
}

/// The longest life AWS gives a presigned URL: seven days.
const MAX_EXPIRES: u32 = 604_800;

/// A request's signature, read but not yet checked.
pub struct ParsedSignature {
    credential: CredentialScope,
    date: AmzDate,
    /// In the presigned form, how many seconds after `date` it ends.
    expires: Option<u32>,
    signed_headers: SignedHeaderNames,
    signature: Signature,
    session_token: Option<Zeroizing<String>>,
    string_to_sign: String,
}

/// Proof that a request was signed with the key it names. Only [`ParsedSignature::verify`] makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    credential: CredentialScope,
    date: AmzDate,
    signed_headers: SignedHeaderNames,
}

impl Verified {
    pub fn access_key_id(&self) -> &str {
        &self.credential.access_key_id
    }

    pub fn credential(&self) -> &CredentialScope {
        &self.credential
    }

    pub fn date(&self) -> AmzDate {
        self.date
    }

    /// Whether the signature covers this header (lower-case name).
    pub fn covers(&self, header: &str) -> bool {
        self.signed_headers.contains(header)
    }
}

impl ParsedSignature {
    /// Reads the header form or the presigned form, whichever the request has; both at once are refused.
    pub fn from_request(request: &ReceivedRequest<'_>) -> Result<ParsedSignature, SignatureError> {
        let headers = Headers(request.headers);
        let pairs = query_pairs(request.query).ok_or(SignatureError::QueryMalformed)?;
        check_parameters(&pairs)?;
        let in_query = pairs.iter().any(|(name, _)| is_signature_parameter(name));
        let in_header = headers.one("authorization")?;
        match (in_header, in_query) {
            (None, false) => Err(SignatureError::MissingAuthenticationToken),
            (Some(_), true) => Err(SignatureError::TwoSignatures),
            (Some(authorization), false) => header_form(request, &headers, &pairs, authorization),
            (None, true) => presigned_form(request, &headers, pairs),
        }
    }

    pub fn credential(&self) -> &CredentialScope {
        &self.credential
    }

    pub fn date(&self) -> AmzDate {
        self.date
    }

    /// The session token that came with the signature, for temporary keys. Not for logs.
    pub fn session_token(&self) -> Option<&str> {
        self.session_token.as_deref().map(String::as_str)
    }

    /// A key for replay memory: access key id, date and signature, each in its one spelling.
    pub fn replay_key(&self) -> String {
        format!("{}/{}/{}", self.credential.access_key_id, self.date, self.signature.to_hex())
    }

    /// Checks the date to both sides of `now`; a presigned request ends when it says so, within AWS's seven days.
    pub fn check_time(&self, now: i64, window: ClockWindow) -> Result<(), SignatureError> {
        let date = self.date.epoch();
        let life = self.expires.map_or(window.past, i64::from);
        if date > now.saturating_add(window.future) {
            return Err(SignatureError::RequestNotYetValid);
        }
        if now > date.saturating_add(life) {
            return Err(SignatureError::RequestExpired);
        }
        Ok(())
    }

    /// Checks time and signature, the latter in constant time.
    pub fn verify(
        &self,
        key: &DerivedKey,
        now: i64,
        window: ClockWindow,
    ) -> Result<Verified, SignatureError> {
        self.check_time(now, window)?;
        let expected = key.sign(&self.string_to_sign);
        if !bool::from(expected.ct_eq(self.signature.as_bytes())) {
            return Err(SignatureError::SignatureDoesNotMatch);
        }
        Ok(Verified {
            credential: self.credential.clone(),
            date: self.date,
            signed_headers: self.signed_headers.clone(),
        })
    }
}

impl fmt::Debug for ParsedSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ParsedSignature({} {}, <redacted>)", self.credential, self.date)
    }
}

fn header_form(
    request: &ReceivedRequest<'_>,
    headers: &Headers<'_>,
    pairs: &[(String, String)],
    authorization: &str,
) -> Result<ParsedSignature, SignatureError> {
    let Authorization { credential, signed_headers, signature } =
        Authorization::parse(authorization)?;
    let date = headers
        .one("x-amz-date")?
        .ok_or_else(|| SignatureError::MissingHeader("x-amz-date".to_owned()))?;
    let date = AmzDate::parse(date).ok_or(SignatureError::DateMalformed)?;
    if headers.one("date")?.is_some() {
        return Err(SignatureError::TwoDates);
    }
    require_signed(&signed_headers, "x-amz-date")?;
    let session_token =
        headers.one("x-amz-security-token")?.map(|token| Zeroizing::new(token.to_owned()));
    let query = canonical_query(pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    let string_to_sign = covered(request, headers, &query, &credential, date, &signed_headers)?;
    Ok(ParsedSignature {
        credential,
        date,
        expires: None,
        signed_headers,
        signature,
        session_token,
        string_to_sign,
    })
}

fn presigned_form(
    request: &ReceivedRequest<'_>,
    headers: &Headers<'_>,
    mut pairs: Vec<(String, String)>,
) -> Result<ParsedSignature, SignatureError> {
    if parameter(&pairs, "X-Amz-Algorithm")? != ALGORITHM {
        return Err(SignatureError::AlgorithmNotAllowed);
    }
    let credential = CredentialScope::parse(parameter(&pairs, "X-Amz-Credential")?)?;
    let date =
        AmzDate::parse(parameter(&pairs, "X-Amz-Date")?).ok_or(SignatureError::DateMalformed)?;
    let expires = parse_expires(parameter(&pairs, "X-Amz-Expires")?, MAX_EXPIRES)?;
    let signed_headers = SignedHeaderNames::parse(parameter(&pairs, "X-Amz-SignedHeaders")?)?;
    let signature = Signature::parse(parameter(&pairs, "X-Amz-Signature")?)?;
    // A header may not stand beside the parameter of the same name: two readers would take two values.
    for name in ["x-amz-date", "x-amz-security-token", "date"] {
        if headers.one(name)?.is_some() {
            return Err(SignatureError::TwoSignatures);
        }
    }
    let session_token = parameter(&pairs, "X-Amz-Security-Token")
        .ok()
        .map(|token| Zeroizing::new(token.to_owned()));
    pairs.retain(|(name, _)| name != "X-Amz-Signature");
    let query = canonical_query(pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    let string_to_sign = covered(request, headers, &query, &credential, date, &signed_headers)?;
    let expires = Some(expires);
    Ok(ParsedSignature {
        credential,
        date,
        expires,
        signed_headers,
        signature,
        session_token,
        string_to_sign,
    })
}

/// The string to sign of the request as received, once everything that must be covered is.
fn covered(
    request: &ReceivedRequest<'_>,
    headers: &Headers<'_>,
    query: &str,
    credential: &CredentialScope,
    date: AmzDate,
    signed_headers: &SignedHeaderNames,
) -> Result<String, SignatureError> {
    if credential.day != date.day() {
        return Err(SignatureError::ScopeDayMismatch);
    }
    // What is signed is the normal form; what is routed is the text: they must be one.
    if normalize_path(request.path) != request.path {
        return Err(SignatureError::PathNotNormal);
    }
    headers.require_coverage(signed_headers)?;
    let mut signed = Vec::new();
    for name in signed_headers.iter() {
        let value = headers
            .one(name)?
            .ok_or_else(|| SignatureError::SignedHeaderAbsent(name.to_owned()))?;
        signed.push((name, value));
    }
    let payload_hash = sha256_hex(request.body);
    // Where the hash is also sent, it must be the body's: `UNSIGNED-PAYLOAD` and streaming are S3's.
    if headers.one("x-amz-content-sha256")?.is_some_and(|claimed| claimed != payload_hash) {
        return Err(SignatureError::PayloadHashMismatch);
    }
    let canonical = canonical_headers(signed);
    let text = canonical_request(
        request.method,
        &canonical_uri(request.path),
        query,
        &canonical,
        &payload_hash,
    );
    Ok(string_to_sign(date, &credential.scope(), &text))
}

fn check_parameters(pairs: &[(String, String)]) -> Result<(), SignatureError> {
    let mut seen: Vec<&str> = Vec::new();
    for (name, _) in pairs {
        if seen.contains(&name.as_str()) {
            return Err(SignatureError::RepeatedParameter(shown(name)));
        }
        seen.push(name);
        // `x-amz-credential` beside `X-Amz-Credential` is CVE-2022-2385: only AWS's own spelling is known (ATTACKS 15).
        if name.to_ascii_lowercase().starts_with("x-amz-") && !is_signature_parameter(name) {
            return Err(SignatureError::ParameterNotAllowed(shown(name)));
        }
    }
    Ok(())
}

fn is_signature_parameter(name: &str) -> bool {
    matches!(
        name,
        "X-Amz-Algorithm"
            | "X-Amz-Credential"
            | "X-Amz-Date"
            | "X-Amz-Expires"
            | "X-Amz-SignedHeaders"
            | "X-Amz-Signature"
            | "X-Amz-Security-Token"
    )
}

fn parameter<'a>(
    pairs: &'a [(String, String)],
    name: &'static str,
) -> Result<&'a str, SignatureError> {
    let found = pairs.iter().find(|(found, _)| found == name);
    found.map(|(_, value)| value.as_str()).ok_or(SignatureError::MissingParameter(name))
}

/// A plain positive integer, no sign, no leading zero, at most `limit`.
pub(crate) fn parse_expires(text: &str, limit: u32) -> Result<u32, SignatureError> {
    let expires: u32 = text.parse().map_err(|_| SignatureError::ExpiresNotAllowed)?;
    let plain = expires.to_string() == text && (1..=limit).contains(&expires);
    plain.then_some(expires).ok_or(SignatureError::ExpiresNotAllowed)
}

fn require_signed(signed_headers: &SignedHeaderNames, name: &str) -> Result<(), SignatureError> {
    if signed_headers.contains(name) {
        Ok(())
    } else {
        Err(SignatureError::MissingSignedHeader(name.to_owned()))
    }
}

/// A name as an error may show it: a caller's text, kept short.
pub(crate) fn shown(name: &str) -> String {
    name.chars().take(64).collect()
}

struct Headers<'a>(&'a [(&'a str, &'a [u8])]);

impl<'a> Headers<'a> {
    /// The only value under a name; a second one is refused, since joined by a comma it would sign alike.
    fn one(&self, name: &str) -> Result<Option<&'a str>, SignatureError> {
        let mut found = self.0.iter().filter(|(header, _)| header.eq_ignore_ascii_case(name));
        let Some((_, value)) = found.next() else { return Ok(None) };
        if found.next().is_some() {
            return Err(SignatureError::RepeatedHeader(shown(name)));
        }
        let text =
            std::str::from_utf8(value).ok().filter(|text| !text.chars().any(char::is_control));
        text.map(Some).ok_or_else(|| SignatureError::HeaderMalformed(shown(name)))
    }

    /// `host` and all that speaks to AWS or Countersign must be signed.
    fn require_coverage(&self, signed_headers: &SignedHeaderNames) -> Result<(), SignatureError> {
        require_signed(signed_headers, "host")?;
        for (name, _) in self.0 {
            let lower = name.to_ascii_lowercase();
            if lower.starts_with("x-amz-") || lower.starts_with("x-countersign-") {
                require_signed(signed_headers, &lower)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
