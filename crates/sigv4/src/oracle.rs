//! The aws-sigv4 crate as a second opinion: on any request its signature is ours, and our verifier takes it.

use std::time::{Duration, SystemTime};

use aws_sigv4::http_request::{
    SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign,
};
use aws_sigv4::sign::v4;
use proptest::prelude::*;

use crate::encoding::percent_encode;
use crate::key::{SecretKey, derive};
use crate::sign::{Credentials, UnsignedRequest, presign, sign_headers};
use crate::verify::{ClockWindow, ParsedSignature, ReceivedRequest};

const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

#[derive(Clone, Debug)]
struct Sample {
    method: String,
    url: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    token: Option<String>,
    now: i64,
}

impl Sample {
    fn headers(&self) -> Vec<(&str, &str)> {
        self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
    }

    fn credentials(&self) -> Credentials {
        Credentials::new("AKIDEXAMPLE", SecretKey::new(SECRET), self.token.clone())
    }

    /// The request with its signature, as aws-sigv4 makes it: its url and headers.
    fn signed_by_aws(&self, location: SignatureLocation) -> (String, Vec<(String, String)>) {
        let credentials = aws_credential_types::Credentials::new(
            "AKIDEXAMPLE",
            SECRET,
            self.token.clone(),
            None,
            "sample",
        );
        let identity = credentials.into();
        let mut settings = SigningSettings::default();
        settings.signature_location = location;
        if location == SignatureLocation::QueryParams {
            settings.expires_in = Some(Duration::from_secs(60));
        }
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region("eu-west-1")
            .name("sts")
            .time(SystemTime::UNIX_EPOCH + Duration::from_secs(self.now.unsigned_abs()))
            .settings(settings)
            .build()
            .unwrap()
            .into();
        let body = SignableBody::Bytes(&self.body);
        let request =
            SignableRequest::new(&self.method, &self.url, self.headers().into_iter(), body)
                .unwrap();
        let (instructions, _) = sign(request, &params).unwrap().into_parts();
        let builder = http::Request::builder().method(self.method.as_str()).uri(&self.url);
        let mut request = builder.body(()).unwrap();
        for (name, value) in &self.headers {
            let name = http::HeaderName::from_bytes(name.as_bytes()).unwrap();
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        instructions.apply_to_request_http1x(&mut request);
        let header = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
            (name.to_string(), value.to_str().unwrap().to_owned())
        };
        (request.uri().to_string(), request.headers().iter().map(header).collect())
    }

    /// Our verifier on the request as a server would get it.
    fn verify(&self, url: &str, headers: &[(String, String)]) -> Result<(), TestCaseError> {
        let target = url.strip_prefix("https://sts.eu-west-1.amazonaws.com").unwrap();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut received: Vec<(&str, &[u8])> =
            headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        received.push(("host", b"sts.eu-west-1.amazonaws.com"));
        let request = ReceivedRequest {
            method: &self.method,
            path,
            query,
            headers: &received,
            body: &self.body,
        };
        let parsed = ParsedSignature::from_request(&request);
        prop_assert!(parsed.is_ok(), "{:?}", parsed);
        let parsed = parsed.unwrap();
        let key = derive(&SecretKey::new(SECRET), &parsed.credential().day, "eu-west-1", "sts");
        let verified = parsed.verify(&key, self.now, ClockWindow::AWS);
        prop_assert!(verified.is_ok(), "{:?}", verified);
        prop_assert_eq!(parsed.session_token(), self.token.as_deref());
        Ok(())
    }
}

prop_compose! {
    fn samples()(
        method in "GET|POST",
        path in "(/[A-Za-z0-9._~-]{1,6}[a-z]){0,3}/",
        query in prop::collection::btree_map("[A-Za-z][A-Za-z0-9 é/-]{0,6}", "[ -~é]{0,8}", 0..4),
        headers in prop::collection::btree_map("x-(a|b|countersign)-[a-z]{1,5}", "[!-~]{1,8}(  ?[!-~]{1,8})?", 0..4),
        content_type in prop::option::of(Just("application/x-www-form-urlencoded".to_owned())),
        body in prop::collection::vec(any::<u8>(), 0..40),
        token in prop::option::of("[A-Za-z0-9+/=]{1,40}"),
        now in 0_i64..4_000_000_000,
    ) -> Sample {
        let query: Vec<String> =
            query.iter().map(|(name, value)| format!("{}={}", percent_encode(name), percent_encode(value))).collect();
        let mark = if query.is_empty() { "" } else { "?" };
        let url = format!("https://sts.eu-west-1.amazonaws.com{path}{mark}{}", query.join("&"));
        let mut headers: Vec<(String, String)> = headers.into_iter().collect();
        headers.extend(content_type.map(|value| ("content-type".to_owned(), value)));
        Sample { method, url, headers, body, token, now }
    }
}

proptest! {
    #[test]
    fn header_form_is_awss(sample in samples()) {
        let (url, headers) = sample.signed_by_aws(SignatureLocation::Headers);
        let own = sample.headers();
        let request =
            UnsignedRequest { method: &sample.method, url: &sample.url, headers: &own, body: &sample.body };
        let signed = sign_headers(&request, &sample.credentials(), "eu-west-1", "sts", sample.now).unwrap();
        for (name, value) in signed.into_pairs() {
            let theirs = headers.iter().find(|(found, _)| found == name);
            prop_assert_eq!(theirs.map(|(_, theirs)| theirs), Some(&value), "{}", name);
        }
        sample.verify(&url, &headers)?;
    }

    #[test]
    fn presigned_form_is_awss(sample in samples()) {
        let (url, headers) = sample.signed_by_aws(SignatureLocation::QueryParams);
        let own = sample.headers();
        let request =
            UnsignedRequest { method: &sample.method, url: &sample.url, headers: &own, body: &sample.body };
        let ours = presign(&request, &sample.credentials(), "eu-west-1", "sts", sample.now, 60).unwrap();
        let signature = |url: &str| url.split("X-Amz-Signature=").nth(1).unwrap().chars().take(64).collect::<String>();
        prop_assert_eq!(signature(&ours), signature(&url));
        sample.verify(&ours, &sample.headers)?;
        sample.verify(&url, &headers)?;
    }
}
