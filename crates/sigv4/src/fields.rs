//! The parts of a SigV4 signature, each in its one spelling: credential, signed-header list, signature, authorization
//! header. It knows grammar alone; which headers must be in the list is `verify`'s and `proof`'s to say.

use std::fmt;

use thiserror::Error;

use crate::canonical::ALGORITHM;
use crate::date::is_day;
use crate::encoding::{hex, parse_hex_32};

/// Why a request's signature is refused. Messages name headers and parameters, never values.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SignatureError {
    #[error("the request carries no signature")]
    MissingAuthenticationToken,
    #[error("the request is signed both in the authorization header and in the query")]
    TwoSignatures,
    #[error("the algorithm must be AWS4-HMAC-SHA256")]
    AlgorithmNotAllowed,
    #[error(
        "the authorization header must be `AWS4-HMAC-SHA256 Credential=…, SignedHeaders=…, Signature=…`"
    )]
    AuthorizationMalformed,
    #[error("the credential must be `<access key id>/<YYYYMMDD>/<region>/<service>/aws4_request`")]
    CredentialMalformed,
    #[error("the list of signed headers must be lower-case, sorted and free of duplicates")]
    SignedHeadersMalformed,
    #[error("the signature must be 64 lower-case hexadecimal digits")]
    SignatureMalformed,
    #[error("the date must be `YYYYMMDDTHHMMSSZ`")]
    DateMalformed,
    #[error("the request has both `date` and `x-amz-date`")]
    TwoDates,
    #[error("the credential's day is not the day of the request's date")]
    ScopeDayMismatch,
    #[error("X-Amz-Expires must be a number of seconds within the limit")]
    ExpiresNotAllowed,
    #[error("header `{0}` is missing")]
    MissingHeader(String),
    #[error("header `{0}` is repeated")]
    RepeatedHeader(String),
    #[error("header `{0}` has a value that cannot be signed unambiguously")]
    HeaderMalformed(String),
    #[error("header `{0}` must be signed")]
    MissingSignedHeader(String),
    #[error("header `{0}` is signed but absent")]
    SignedHeaderAbsent(String),
    #[error("the path is not in its normal form")]
    PathNotNormal,
    #[error("the query is not strictly percent-encoded")]
    QueryMalformed,
    #[error("parameter `{0}` is missing")]
    MissingParameter(&'static str),
    #[error("parameter `{0}` is repeated")]
    RepeatedParameter(String),
    #[error("parameter `{0}` is not allowed")]
    ParameterNotAllowed(String),
    #[error("x-amz-content-sha256 is not the hash of the body")]
    PayloadHashMismatch,
    #[error("the request has expired")]
    RequestExpired,
    #[error("the request is dated in the future")]
    RequestNotYetValid,
    #[error("the signature does not match the request")]
    SignatureDoesNotMatch,
}

impl SignatureError {
    /// A stable name for the reason.
    pub fn code(&self) -> &'static str {
        match self {
            SignatureError::MissingAuthenticationToken => "MissingAuthenticationToken",
            SignatureError::TwoSignatures => "TwoSignatures",
            SignatureError::AlgorithmNotAllowed => "AlgorithmNotAllowed",
            SignatureError::AuthorizationMalformed => "AuthorizationMalformed",
            SignatureError::CredentialMalformed => "CredentialMalformed",
            SignatureError::SignedHeadersMalformed => "SignedHeadersMalformed",
            SignatureError::SignatureMalformed => "SignatureMalformed",
            SignatureError::DateMalformed => "DateMalformed",
            SignatureError::TwoDates => "TwoDates",
            SignatureError::ScopeDayMismatch => "ScopeDayMismatch",
            SignatureError::ExpiresNotAllowed => "ExpiresNotAllowed",
            SignatureError::MissingHeader(_) => "MissingHeader",
            SignatureError::RepeatedHeader(_) => "RepeatedHeader",
            SignatureError::HeaderMalformed(_) => "HeaderMalformed",
            SignatureError::MissingSignedHeader(_) => "MissingSignedHeader",
            SignatureError::SignedHeaderAbsent(_) => "SignedHeaderAbsent",
            SignatureError::PathNotNormal => "PathNotNormal",
            SignatureError::QueryMalformed => "QueryMalformed",
            SignatureError::MissingParameter(_) => "MissingParameter",
            SignatureError::RepeatedParameter(_) => "RepeatedParameter",
            SignatureError::ParameterNotAllowed(_) => "ParameterNotAllowed",
            SignatureError::PayloadHashMismatch => "PayloadHashMismatch",
            SignatureError::RequestExpired => "RequestExpired",
            SignatureError::RequestNotYetValid => "RequestNotYetValid",
            SignatureError::SignatureDoesNotMatch => "SignatureDoesNotMatch",
        }
    }

    /// The code AWS's Query services answer with. Source: IAM API Reference, "Common Errors".
    pub fn aws_code(&self) -> &'static str {
        match self {
            SignatureError::MissingAuthenticationToken => "MissingAuthenticationToken",
            SignatureError::RequestExpired => "RequestExpired",
            SignatureError::RequestNotYetValid
            | SignatureError::SignatureDoesNotMatch
            | SignatureError::PayloadHashMismatch => "SignatureDoesNotMatch",
            SignatureError::TwoSignatures
            | SignatureError::AlgorithmNotAllowed
            | SignatureError::AuthorizationMalformed
            | SignatureError::CredentialMalformed
            | SignatureError::SignedHeadersMalformed
            | SignatureError::SignatureMalformed
            | SignatureError::DateMalformed
            | SignatureError::TwoDates
            | SignatureError::ScopeDayMismatch
            | SignatureError::ExpiresNotAllowed
            | SignatureError::MissingHeader(_)
            | SignatureError::RepeatedHeader(_)
            | SignatureError::HeaderMalformed(_)
            | SignatureError::MissingSignedHeader(_)
            | SignatureError::SignedHeaderAbsent(_)
            | SignatureError::PathNotNormal
            | SignatureError::QueryMalformed
            | SignatureError::MissingParameter(_)
            | SignatureError::RepeatedParameter(_)
            | SignatureError::ParameterNotAllowed(_) => "IncompleteSignature",
        }
    }
}

/// `<access key id>/<YYYYMMDD>/<region>/<service>/aws4_request`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialScope {
    pub access_key_id: String,
    /// `YYYYMMDD`.
    pub day: String,
    pub region: String,
    pub service: String,
}

impl CredentialScope {
    pub fn parse(text: &str) -> Result<CredentialScope, SignatureError> {
        let mut parts = text.split('/');
        let mut part = || parts.next().ok_or(SignatureError::CredentialMalformed);
        let (access_key_id, day, region, service, terminator) =
            (part()?, part()?, part()?, part()?, part()?);
        let well_formed = parts.next().is_none()
            && is_access_key_id(access_key_id)
            && is_day(day)
            && is_scope_word(region)
            && is_scope_word(service)
            && terminator == "aws4_request";
        if !well_formed {
            return Err(SignatureError::CredentialMalformed);
        }
        Ok(CredentialScope {
            access_key_id: access_key_id.to_owned(),
            day: day.to_owned(),
            region: region.to_owned(),
            service: service.to_owned(),
        })
    }

    /// What the string to sign holds: the scope without the access key id.
    pub fn scope(&self) -> String {
        format!("{}/{}/{}/aws4_request", self.day, self.region, self.service)
    }
}

impl fmt::Display for CredentialScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.access_key_id, self.scope())
    }
}

/// A region as AWS spells them, `eu-west-1`: `^[a-z]{2}(-[a-z]+)+-\d$` (ATTACKS 11).
pub fn is_region(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let [area, middle @ .., number] = parts.as_slice() else { return false };
    let letters =
        |part: &&str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_lowercase());
    area.len() == 2
        && letters(area)
        && !middle.is_empty()
        && middle.iter().all(letters)
        && number.len() == 1
        && number.bytes().all(|byte| byte.is_ascii_digit())
}

/// The names in `SignedHeaders`: lower-case, strictly ascending (so sorted and free of duplicates).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedHeaderNames(Vec<String>);

impl SignedHeaderNames {
    pub fn parse(text: &str) -> Result<SignedHeaderNames, SignatureError> {
        let names: Vec<String> = text.split(';').map(str::to_owned).collect();
        let ascending = names.is_sorted_by(|one, next| one < next);
        if !ascending || !names.iter().all(|name| is_lower_token(name)) {
            return Err(SignatureError::SignedHeadersMalformed);
        }
        Ok(SignedHeaderNames(names))
    }

    pub fn contains(&self, name: &str) -> bool {
        self.0.iter().any(|signed| signed == name)
    }

    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

impl fmt::Display for SignedHeaderNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(";"))
    }
}

/// A signature: 32 bytes, spelled as 64 lower-case hexadecimal digits. Whoever holds one can replay it, so it is not
/// printed.
#[derive(Clone)]
pub struct Signature([u8; 32]);

impl Signature {
    pub fn parse(text: &str) -> Result<Signature, SignatureError> {
        parse_hex_32(text).map(Signature).ok_or(SignatureError::SignatureMalformed)
    }

    pub fn from_bytes(bytes: [u8; 32]) -> Signature {
        Signature(bytes)
    }

    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    pub fn to_hex(&self) -> String {
        hex(&self.0)
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signature(<redacted>)")
    }
}

/// The `authorization` header's value: these three parts, in this order, with `, ` between them.
#[derive(Clone, Debug)]
pub struct Authorization {
    pub credential: CredentialScope,
    pub signed_headers: SignedHeaderNames,
    pub signature: Signature,
}

impl Authorization {
    pub fn parse(text: &str) -> Result<Authorization, SignatureError> {
        let (algorithm, rest) =
            text.split_once(' ').ok_or(SignatureError::AuthorizationMalformed)?;
        if algorithm != ALGORITHM {
            return Err(SignatureError::AlgorithmNotAllowed);
        }
        let mut parts = rest.split(", ");
        let mut part = |label: &str| {
            let value = parts.next().and_then(|part| part.strip_prefix(label));
            value.ok_or(SignatureError::AuthorizationMalformed)
        };
        let (credential, signed_headers, signature) =
            (part("Credential=")?, part("SignedHeaders=")?, part("Signature=")?);
        if parts.next().is_some() {
            return Err(SignatureError::AuthorizationMalformed);
        }
        Ok(Authorization {
            credential: CredentialScope::parse(credential)?,
            signed_headers: SignedHeaderNames::parse(signed_headers)?,
            signature: Signature::parse(signature)?,
        })
    }

    /// The header's value. It holds the signature: not for logs.
    pub fn to_header(&self) -> String {
        let signature = self.signature.to_hex();
        format!(
            "{ALGORITHM} Credential={}, SignedHeaders={}, Signature={signature}",
            self.credential, self.signed_headers
        )
    }
}

fn is_access_key_id(text: &str) -> bool {
    // IAM API Reference, AccessKey: pattern `[\w]+`, at most 128.
    (1..=128).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn is_scope_word(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=64).contains(&text.len()) && text.bytes().all(plain)
}

pub(crate) fn is_lower_token(name: &str) -> bool {
    // RFC 9110 section 5.1's token, without capitals.
    let plain = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(&byte)
    };
    (1..=128).contains(&name.len()) && name.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code<T>(parsed: Result<T, SignatureError>) -> &'static str {
        parsed.map_or_else(|error| error.code(), |_| "ok")
    }

    #[test]
    fn credentials_have_five_parts() {
        let check = |text: &str, expected: &str| {
            assert_eq!(code(CredentialScope::parse(text)), expected, "{text}")
        };
        check("AKIDEXAMPLE/20150830/us-east-1/sts/aws4_request", "ok");
        check("AKIDEXAMPLE/20150830/us-east-1/sts/aws5_request", "CredentialMalformed");
        check("AKIDEXAMPLE/20150830/us-east-1/sts", "CredentialMalformed");
        check("AKIDEXAMPLE/20150830/us-east-1/sts/aws4_request/x", "CredentialMalformed");
        check("AKIDEXAMPLE/20151330/us-east-1/sts/aws4_request", "CredentialMalformed");
        check("AKID EXAMPLE/20150830/us-east-1/sts/aws4_request", "CredentialMalformed");
        check("/20150830/us-east-1/sts/aws4_request", "CredentialMalformed");
        check("AKID/20150830/evil.com/sts/aws4_request", "CredentialMalformed");
        check("AKID/20150830//sts/aws4_request", "CredentialMalformed");
    }

    #[test]
    fn regions_have_awss_shape() {
        let check = |text: &str, expected: bool| assert_eq!(is_region(text), expected, "{text}");
        check("eu-west-1", true);
        check("us-gov-east-1", true);
        check("eu-west-10", false);
        check("eu-1", false);
        check("eu--1", false);
        check("EU-west-1", false);
        check("evil.com/x", false);
        check("eu-west-１", false);
        check("", false);
    }

    #[test]
    fn signed_header_lists_are_sorted_lower_case_sets() {
        let check = |text: &str, expected: &str| {
            assert_eq!(code(SignedHeaderNames::parse(text)), expected, "{text}")
        };
        check("host", "ok");
        check("host;x-amz-date", "ok");
        check("x-amz-date;host", "SignedHeadersMalformed");
        check("host;host", "SignedHeadersMalformed");
        check("host;X-Amz-Date", "SignedHeadersMalformed");
        check("host;", "SignedHeadersMalformed");
        check("", "SignedHeadersMalformed");
        check("host; x-amz-date", "SignedHeadersMalformed");
        check("host,x-amz-date", "SignedHeadersMalformed");
    }

    #[test]
    fn authorization_is_one_grammar() {
        let check = |text: &str, expected: &str| {
            assert_eq!(code(Authorization::parse(text)), expected, "{text}")
        };
        let credential = "Credential=AKID/20150830/us-east-1/sts/aws4_request";
        let signature = format!("Signature={}", "0f".repeat(32));
        let good = format!("AWS4-HMAC-SHA256 {credential}, SignedHeaders=host, {signature}");
        check(&good, "ok");
        assert_eq!(Authorization::parse(&good).unwrap().to_header(), good);
        check(&good.replace("SHA256", "SHA1"), "AlgorithmNotAllowed");
        check(&good.replace("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256"), "AlgorithmNotAllowed");
        check(&good.replace("0f", "0F"), "SignatureMalformed");
        check(&good.replace(&signature, "Signature=00"), "SignatureMalformed");
        check(&format!("{good}, SignedHeaders=host"), "AuthorizationMalformed");
        check(&format!("{good}, "), "AuthorizationMalformed");
        check(&format!("{good} "), "SignatureMalformed");
        check(&good.replace(", ", ","), "AuthorizationMalformed");
        check(
            &good.replace("SignedHeaders=host", "SignedHeaders=host, SignedHeaders=a"),
            "AuthorizationMalformed",
        );
        check(
            &format!("AWS4-HMAC-SHA256 SignedHeaders=host, {credential}, {signature}"),
            "AuthorizationMalformed",
        );
        check("AWS4-HMAC-SHA256", "AuthorizationMalformed");
        check("Bearer abc", "AlgorithmNotAllowed");
        assert_eq!(format!("{:?}", Signature::from_bytes([7; 32])), "Signature(<redacted>)");
    }
}
