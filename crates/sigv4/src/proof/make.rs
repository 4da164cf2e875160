//! The client's side: a workload's credentials turned into a `subject_token`.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};

use super::{AUDIENCE, BINDING, BODY, CHALLENGE, ContentType, MAX_EXPIRES, StsProof};
use crate::sign::{Credentials, SignError, UnsignedRequest, presign, sign_headers};

/// What a proof is for. `origin` is the STS endpoint, `scheme://host[:port]`; `audience` the gateway's issuer URL;
/// `binding` as DESIGN.md section 3 defines it.
#[derive(Clone, Copy, Debug)]
pub struct ProofRequest<'a> {
    pub origin: &'a str,
    pub region: &'a str,
    pub audience: &'a str,
    pub binding: &'a str,
    pub challenge: Option<&'a str>,
}

impl ProofRequest<'_> {
    /// A header-signed POST. `now` is in seconds since 1970.
    pub fn sign_post(&self, credentials: &Credentials, now: i64) -> Result<String, SignError> {
        let url = format!("{}/", self.origin);
        let mut headers = self.claims();
        headers.push(("content-type", ContentType::Bare.as_str()));
        let request =
            UnsignedRequest { method: "POST", url: &url, headers: &headers, body: BODY.as_bytes() };
        let signed = sign_headers(&request, credentials, self.region, "sts", now)?;
        let own = headers.iter().map(|(name, value)| ((*name).to_owned(), Value::from(*value)));
        let added = signed
            .into_pairs()
            .into_iter()
            .map(|(name, value)| (name.to_owned(), Value::from(value)));
        let headers: Map<String, Value> = own.chain(added).collect();
        Ok(seal(&json!({"method": "POST", "url": url, "headers": headers, "body": BODY})))
    }

    /// A presigned GET, good for [`MAX_EXPIRES`] seconds.
    pub fn sign_presigned(&self, credentials: &Credentials, now: i64) -> Result<String, SignError> {
        let url = format!("{}/?{BODY}", self.origin);
        let headers = self.claims();
        let request = UnsignedRequest { method: "GET", url: &url, headers: &headers, body: b"" };
        let url = presign(&request, credentials, self.region, "sts", now, MAX_EXPIRES)?;
        let headers: Map<String, Value> =
            headers.iter().map(|(name, value)| ((*name).to_owned(), Value::from(*value))).collect();
        Ok(seal(&json!({"method": "GET", "url": url, "headers": headers})))
    }

    fn claims(&self) -> Vec<(&str, &str)> {
        let mut claims = vec![(AUDIENCE, self.audience), (BINDING, self.binding)];
        claims.extend(self.challenge.map(|nonce| (CHALLENGE, nonce)));
        claims
    }
}

impl StsProof {
    /// [`ProofRequest::sign_post`] without a challenge: the `subject_token`.
    pub fn sign_post(
        origin: &str,
        region: &str,
        credentials: &Credentials,
        audience: &str,
        binding: &str,
        now: i64,
    ) -> Result<String, SignError> {
        ProofRequest { origin, region, audience, binding, challenge: None }
            .sign_post(credentials, now)
    }

    /// [`ProofRequest::sign_presigned`] without a challenge: the `subject_token`.
    pub fn sign_presigned(
        origin: &str,
        region: &str,
        credentials: &Credentials,
        audience: &str,
        binding: &str,
        now: i64,
    ) -> Result<String, SignError> {
        ProofRequest { origin, region, audience, binding, challenge: None }
            .sign_presigned(credentials, now)
    }
}

fn seal(envelope: &Value) -> String {
    URL_SAFE_NO_PAD.encode(envelope.to_string())
}
