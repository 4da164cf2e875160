//! Signing, in the header form and the presigned form. It signs exactly the headers it is given, with `host` and
//! SigV4's own; what a caller does not hand over, it does not sign (an SDK's `x-amz-user-agent`, say).

use std::fmt;

use thiserror::Error;
use zeroize::Zeroizing;

use crate::canonical::{
    ALGORITHM, canonical_headers, canonical_query, canonical_request, canonical_uri, query_pairs,
    sha256_hex, string_to_sign,
};
use crate::date::AmzDate;
use crate::encoding::percent_encode;
use crate::fields::{Authorization, CredentialScope, Signature, SignedHeaderNames, is_lower_token};
use crate::key::{SecretKey, derive};
use crate::url::{Url, UrlError};

/// Why a request cannot be signed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SignError {
    #[error(transparent)]
    Url(#[from] UrlError),
    #[error("the url's query is not strictly percent-encoded")]
    QueryMalformed,
    #[error("parameter `{0}` is the signer's own")]
    ReservedParameter(String),
    #[error("header `{0}` is the signer's own")]
    ReservedHeader(String),
    #[error("header `{0}` is repeated")]
    RepeatedHeader(String),
    #[error("header `{0}` has a name or a value that cannot be sent")]
    HeaderMalformed(String),
    #[error("the time cannot be spelled in SigV4's date")]
    TimeOutOfRange,
    #[error("the access key id, region or service is malformed")]
    CredentialMalformed,
}

/// What to sign. `url` is the URL as it will be sent; header names may have any case.
#[derive(Clone, Copy, Debug)]
pub struct UnsignedRequest<'a> {
    pub method: &'a str,
    pub url: &'a str,
    pub headers: &'a [(&'a str, &'a str)],
    pub body: &'a [u8],
}

/// An access key, with its session token if it is temporary.
#[derive(Clone)]
pub struct Credentials {
    access_key_id: String,
    secret: SecretKey,
    session_token: Option<Zeroizing<String>>,
}

impl Credentials {
    pub fn new(
        access_key_id: impl Into<String>,
        secret: SecretKey,
        session_token: Option<String>,
    ) -> Credentials {
        Credentials {
            access_key_id: access_key_id.into(),
            secret,
            session_token: session_token.map(Zeroizing::new),
        }
    }

    pub fn access_key_id(&self) -> &str {
        &self.access_key_id
    }

    fn session_token(&self) -> Option<&str> {
        self.session_token.as_deref().map(String::as_str)
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({}, <redacted>)", self.access_key_id)
    }
}

/// The headers to add to the request. Together they can be replayed, so they are not printed.
#[derive(Clone)]
pub struct SignedHeaders {
    pub authorization: String,
    pub x_amz_date: String,
    pub x_amz_security_token: Option<String>,
}

impl SignedHeaders {
    /// As lower-case name and value.
    pub fn into_pairs(self) -> Vec<(&'static str, String)> {
        let mut pairs =
            vec![("authorization", self.authorization), ("x-amz-date", self.x_amz_date)];
        pairs.extend(self.x_amz_security_token.map(|token| ("x-amz-security-token", token)));
        pairs
    }
}

impl fmt::Debug for SignedHeaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SignedHeaders({}, <redacted>)", self.x_amz_date)
    }
}

/// Signs in the header form. `now` is in seconds since 1970.
pub fn sign_headers(
    request: &UnsignedRequest<'_>,
    credentials: &Credentials,
    region: &str,
    service: &str,
    now: i64,
) -> Result<SignedHeaders, SignError> {
    let url = Url::parse(request.url)?;
    let date = AmzDate::from_epoch(now).ok_or(SignError::TimeOutOfRange)?;
    let credential = scope(credentials, date, region, service)?;
    let (authority, x_amz_date) = (url.authority(), date.to_string());
    let mut headers = own_headers(request)?;
    headers.push(("host", &authority));
    headers.push(("x-amz-date", &x_amz_date));
    headers.extend(credentials.session_token().map(|token| ("x-amz-security-token", token)));
    check_values(&headers)?;

    let pairs = query_pairs(url.query().unwrap_or_default()).ok_or(SignError::QueryMalformed)?;
    let query = canonical_query(pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    let canonical = canonical_headers(headers);
    let payload_hash = sha256_hex(request.body);
    let canonical_text = canonical_request(
        request.method,
        &canonical_uri(url.path()),
        &query,
        &canonical,
        &payload_hash,
    );
    let key = derive(&credentials.secret, &credential.day, region, service);
    let signature = Signature::from_bytes(key.sign(&string_to_sign(
        date,
        &credential.scope(),
        &canonical_text,
    )));
    let signed_headers = signed_names(&canonical.names)?;
    let authorization = Authorization { credential, signed_headers, signature }.to_header();
    let x_amz_security_token = credentials.session_token().map(str::to_owned);
    Ok(SignedHeaders { authorization, x_amz_date, x_amz_security_token })
}

/// Signs in the query: the URL to call, within `expires` seconds, with exactly the request's headers.
pub fn presign(
    request: &UnsignedRequest<'_>,
    credentials: &Credentials,
    region: &str,
    service: &str,
    now: i64,
    expires: u32,
) -> Result<String, SignError> {
    let url = Url::parse(request.url)?;
    let date = AmzDate::from_epoch(now).ok_or(SignError::TimeOutOfRange)?;
    let credential = scope(credentials, date, region, service)?;
    let authority = url.authority();
    let mut headers = own_headers(request)?;
    headers.push(("host", &authority));
    check_values(&headers)?;
    let canonical = canonical_headers(headers);

    let mut pairs =
        query_pairs(url.query().unwrap_or_default()).ok_or(SignError::QueryMalformed)?;
    if let Some((name, _)) =
        pairs.iter().find(|(name, _)| name.to_ascii_lowercase().starts_with("x-amz-"))
    {
        return Err(SignError::ReservedParameter(name.clone()));
    }
    let mut add = |name: &str, value: String| pairs.push((name.to_owned(), value));
    add("X-Amz-Algorithm", ALGORITHM.to_owned());
    add("X-Amz-Credential", credential.to_string());
    add("X-Amz-Date", date.to_string());
    add("X-Amz-Expires", expires.to_string());
    add("X-Amz-SignedHeaders", canonical.names.clone());
    if let Some(token) = credentials.session_token() {
        add("X-Amz-Security-Token", token.to_owned());
    }
    let query = canonical_query(pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    let payload_hash = sha256_hex(request.body);
    let canonical_text = canonical_request(
        request.method,
        &canonical_uri(url.path()),
        &query,
        &canonical,
        &payload_hash,
    );
    let key = derive(&credentials.secret, &credential.day, region, service);
    let signature = Signature::from_bytes(key.sign(&string_to_sign(
        date,
        &credential.scope(),
        &canonical_text,
    )));
    let path = if url.path().is_empty() { "/" } else { url.path() };
    Ok(format!(
        "{}{path}?{query}&X-Amz-Signature={}",
        url.origin(),
        percent_encode(&signature.to_hex())
    ))
}

fn scope(
    credentials: &Credentials,
    date: AmzDate,
    region: &str,
    service: &str,
) -> Result<CredentialScope, SignError> {
    let text =
        format!("{}/{}/{region}/{service}/aws4_request", credentials.access_key_id, date.day());
    CredentialScope::parse(&text).map_err(|_| SignError::CredentialMalformed)
}

fn own_headers<'a>(request: &UnsignedRequest<'a>) -> Result<Vec<(&'a str, &'a str)>, SignError> {
    let mut seen: Vec<String> = Vec::new();
    for (name, _) in request.headers {
        let lower = name.to_ascii_lowercase();
        if matches!(
            lower.as_str(),
            "host" | "authorization" | "x-amz-date" | "x-amz-security-token"
        ) {
            return Err(SignError::ReservedHeader(lower));
        }
        if !is_lower_token(&lower) {
            return Err(SignError::HeaderMalformed(lower));
        }
        if seen.contains(&lower) {
            return Err(SignError::RepeatedHeader(lower));
        }
        seen.push(lower);
    }
    Ok(request.headers.to_vec())
}

fn check_values(headers: &[(&str, &str)]) -> Result<(), SignError> {
    match headers.iter().find(|(_, value)| value.chars().any(char::is_control)) {
        Some((name, _)) => Err(SignError::HeaderMalformed((*name).to_owned())),
        None => Ok(()),
    }
}

fn signed_names(names: &str) -> Result<SignedHeaderNames, SignError> {
    SignedHeaderNames::parse(names).map_err(|_| SignError::HeaderMalformed(names.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(url: &str, headers: &[(&str, &str)], expected: SignError) {
        let credentials = Credentials::new("AKIDEXAMPLE", SecretKey::new("s"), None);
        let request = UnsignedRequest { method: "GET", url, headers, body: b"" };
        assert_eq!(
            sign_headers(&request, &credentials, "us-east-1", "sts", 0).unwrap_err(),
            expected
        );
        assert_eq!(
            presign(&request, &credentials, "us-east-1", "sts", 0, 60).unwrap_err(),
            expected
        );
    }

    #[test]
    fn what_cannot_be_signed_is_named() {
        let url = "https://sts.amazonaws.com/";
        check("ftp://sts.amazonaws.com/", &[], SignError::Url(UrlError::SchemeNotAllowed));
        check("https://sts.amazonaws.com/?a=%2", &[], SignError::QueryMalformed);
        check(url, &[("Host", "x")], SignError::ReservedHeader("host".into()));
        check(url, &[("X-Amz-Date", "x")], SignError::ReservedHeader("x-amz-date".into()));
        check(url, &[("a", "1"), ("A", "2")], SignError::RepeatedHeader("a".into()));
        check(url, &[("a;b", "1")], SignError::HeaderMalformed("a;b".into()));
        check(url, &[("a", "1\r\nb: 2")], SignError::HeaderMalformed("a".into()));
    }

    #[test]
    fn secrets_are_not_printed() {
        let credentials =
            Credentials::new("AKIDEXAMPLE", SecretKey::new("hush"), Some("mum".into()));
        let request = UnsignedRequest {
            method: "GET",
            url: "https://sts.amazonaws.com/",
            headers: &[],
            body: b"",
        };
        let signed = sign_headers(&request, &credentials, "us-east-1", "sts", 0).unwrap();
        assert_eq!(format!("{credentials:?}"), "Credentials(AKIDEXAMPLE, <redacted>)");
        assert_eq!(format!("{signed:?}"), "SignedHeaders(19700101T000000Z, <redacted>)");
    }
}
