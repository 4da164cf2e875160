//! The presigned GET: nine query parameters in AWS's exact spelling, no body, Countersign's headers alone.

use zeroize::Zeroizing;

use super::envelope::Envelope;
use super::{
    AUDIENCE, BINDING, CHALLENGE, Claims, Form, MAX_EXPIRES, ProofError, StsProof,
    check_credential, check_signed,
};
use crate::canonical::{ALGORITHM, query_pairs};
use crate::date::AmzDate;
use crate::encoding::percent_encode;
use crate::fields::{CredentialScope, Signature, SignatureError, SignedHeaderNames};
use crate::url::Url;
use crate::verify::{parse_expires, shown};

const PARAMETERS: [&str; 9] = [
    "Action",
    "Version",
    "X-Amz-Algorithm",
    "X-Amz-Credential",
    "X-Amz-Date",
    "X-Amz-Expires",
    "X-Amz-Security-Token",
    "X-Amz-Signature",
    "X-Amz-SignedHeaders",
];

pub(super) fn parse(envelope: &Envelope) -> Result<StsProof, ProofError> {
    let url = Url::parse(&envelope.url)?;
    if url.path() != "/" {
        return Err(ProofError::PathNotAllowed);
    }
    if envelope.body.as_deref().is_some_and(|body| !body.is_empty()) {
        return Err(ProofError::BodyNotAllowed);
    }
    let query = Query::parse(url.query().unwrap_or_default())?;
    if query.required("Action")? != "GetCallerIdentity" {
        return Err(ProofError::ActionNotAllowed);
    }
    if query.required("Version")? != "2011-06-15" {
        return Err(ProofError::VersionNotAllowed);
    }
    if query.required("X-Amz-Algorithm")? != ALGORITHM {
        return Err(SignatureError::AlgorithmNotAllowed.into());
    }
    envelope.allow_headers(&[AUDIENCE, BINDING, CHALLENGE])?;
    let claims = Claims::from_envelope(envelope)?;
    let credential = CredentialScope::parse(query.required("X-Amz-Credential")?)?;
    let date =
        AmzDate::parse(query.required("X-Amz-Date")?).ok_or(SignatureError::DateMalformed)?;
    check_credential(&credential, date)?;
    let expires = parse_expires(query.required("X-Amz-Expires")?, MAX_EXPIRES)?;
    let signed_headers = SignedHeaderNames::parse(query.required("X-Amz-SignedHeaders")?)?;
    let signature = Signature::parse(query.required("X-Amz-Signature")?)?;
    let session_token =
        query.optional("X-Amz-Security-Token").map(|token| Zeroizing::new(token.to_owned()));
    check_signed(&signed_headers, &claims)?;
    for name in signed_headers.iter() {
        if !matches!(name, "host" | AUDIENCE | BINDING | CHALLENGE) {
            return Err(ProofError::SignedHeaderNotAllowed(shown(name)));
        }
    }
    let form = Form::Presigned { expires };
    Ok(StsProof {
        url: without_query(&url)?,
        form,
        credential,
        date,
        signed_headers,
        signature,
        session_token,
        claims,
    })
}

/// The query held credentials, and is rebuilt from the parsed fields: it is not kept.
fn without_query(url: &Url) -> Result<Url, ProofError> {
    Ok(Url::parse(&format!("{}/", url.origin()))?)
}

/// The parameters, each at most once, under the nine names alone.
struct Query(Vec<(String, String)>);

impl Query {
    fn parse(text: &str) -> Result<Query, ProofError> {
        let pairs = query_pairs(text).ok_or(ProofError::QueryNotCanonical)?;
        let mut seen: Vec<&str> = Vec::new();
        for (name, value) in &pairs {
            // Compared with case: `x-amz-credential` beside `X-Amz-Credential` was CVE-2022-2385 (ATTACKS 15).
            if !PARAMETERS.contains(&name.as_str()) {
                return Err(ProofError::ParameterNotAllowed(shown(name)));
            }
            if seen.contains(&name.as_str()) {
                return Err(ProofError::RepeatedParameter(shown(name)));
            }
            if value.is_empty() {
                return Err(ProofError::QueryNotCanonical);
            }
            seen.push(name);
        }
        // Decoded once and encoded again, it must be what came (ATTACKS 18).
        let pieces: Vec<String> = pairs
            .iter()
            .map(|(name, value)| format!("{}={}", percent_encode(name), percent_encode(value)))
            .collect();
        if pieces.join("&") != text {
            return Err(ProofError::QueryNotCanonical);
        }
        Ok(Query(pairs))
    }

    fn optional(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    fn required(&self, name: &'static str) -> Result<&str, ProofError> {
        self.optional(name).ok_or(ProofError::MissingParameter(name))
    }
}
