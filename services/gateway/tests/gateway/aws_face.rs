//! The AWS face: GetCallerIdentity for whoever signs, and AWS's own words for everybody else.

use bytes::Bytes;
use countersign_sigv4::{Credentials, SecretKey, UnsignedRequest, presign, sign_headers};
use http::Request;
use http_body_util::Full;

use crate::{
    proofs::{INACTIVE_KEY, LOCAL_KEY, LOCAL_SECRET},
    system::{System, now},
};

struct Call {
    body: &'static str,
    key: &'static str,
    secret: &'static str,
    session_token: Option<&'static str>,
    region: &'static str,
    service: &'static str,
    now: i64,
    extra: Option<(&'static str, &'static str)>,
}

impl Default for Call {
    fn default() -> Self {
        Self {
            body: "Action=GetCallerIdentity&Version=2011-06-15",
            key: LOCAL_KEY,
            secret: LOCAL_SECRET,
            session_token: None,
            region: "us-east-1",
            service: "sts",
            now: now(),
            extra: None,
        }
    }
}

impl Call {
    fn credentials(&self) -> Credentials {
        Credentials::new(
            self.key,
            SecretKey::new(self.secret),
            self.session_token.map(str::to_owned),
        )
    }

    fn post(&self, issuer: &str) -> Request<Full<Bytes>> {
        let url = format!("{issuer}/");
        let headers = [("content-type", "application/x-www-form-urlencoded; charset=utf-8")];
        let unsigned = UnsignedRequest {
            method: "POST",
            url: &url,
            headers: &headers,
            body: self.body.as_bytes(),
        };
        let signed =
            sign_headers(&unsigned, &self.credentials(), self.region, self.service, self.now)
                .unwrap();
        let mut request = Request::post(&url).header(headers[0].0, headers[0].1);
        for (name, value) in signed.into_pairs() {
            request = request.header(name, value);
        }
        if let Some((name, value)) = self.extra {
            request = request.header(name, value);
        }
        request.body(Full::from(self.body)).unwrap()
    }

    fn presigned(&self, issuer: &str) -> Request<Full<Bytes>> {
        let url = format!("{issuer}/?{}", self.body);
        let unsigned = UnsignedRequest { method: "GET", url: &url, headers: &[], body: b"" };
        let url = presign(&unsigned, &self.credentials(), self.region, self.service, self.now, 60)
            .unwrap();
        Request::get(url).body(Full::default()).unwrap()
    }
}

#[tokio::test]
async fn get_caller_identity() {
    let system = System::start().await;
    system.ready().await;
    let issuer = system.gateway.issuer.as_str();
    for request in [Call::default().post(issuer), Call::default().presigned(issuer)] {
        let (status, headers, body) = system.gateway.http(request).await;
        assert_eq!((status, headers["content-type"].to_str().unwrap()), (200, "text/xml"));
        let id = headers["x-amzn-requestid"].to_str().unwrap();
        assert_eq!(
            body,
            format!(
                "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><GetCallerIdentityResult>\
                 <Arn>arn:aws:iam::000000000000:user/team/alice</Arn><UserId>AIDALOCAL123456789012</UserId>\
                 <Account>000000000000</Account></GetCallerIdentityResult><ResponseMetadata><RequestId>{id}</RequestId>\
                 </ResponseMetadata></GetCallerIdentityResponse>"
            )
        );
    }
}

/// The store gives out few derivations of a key, and whoever knows its id can ask for them.
#[tokio::test]
async fn a_stranger_uses_up_one_derivation() {
    let system = System::start().await;
    system.ready().await;
    let issuer = system.gateway.issuer.as_str();
    let strange = Call { secret: "x", ..Call::default() };
    for _ in 0..20 {
        assert_eq!(system.gateway.http(strange.post(issuer)).await.0, 403);
        assert_eq!(system.gateway.http(strange.presigned(issuer)).await.0, 403);
    }
    assert_eq!(system.store.calls("DeriveSigningKey"), 1);
    // The owner's standing is asked for each time all the same.
    for more in 1..=3 {
        assert_eq!(system.gateway.http(Call::default().post(issuer)).await.0, 200);
        assert_eq!(system.store.calls("DeriveSigningKey"), 1 + more);
    }
}

#[tokio::test]
async fn faults_in_awss_words() {
    let system = System::start().await;
    system.ready().await;
    let issuer = system.gateway.issuer.as_str();
    let check = async |name: &str, request: Request<Full<Bytes>>, status: u16, code: &str| {
        let (found, headers, body) = system.gateway.http(request).await;
        assert_eq!(found, status, "{name}: {body}");
        assert_eq!(headers["content-type"], "text/xml", "{name}");
        assert!(body.contains(&format!("<Code>{code}</Code>")), "{name}: {body}");
        assert!(
            body.starts_with("<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">"),
            "{name}: {body}"
        );
    };
    let plain =
        |body: &'static str| Request::post(format!("{issuer}/")).body(Full::from(body)).unwrap();
    let post = |change: fn(&mut Call)| {
        let mut call = Call::default();
        change(&mut call);
        call.post(issuer)
    };
    let presigned = |change: fn(&mut Call)| {
        let mut call = Call::default();
        change(&mut call);
        call.presigned(issuer)
    };
    check(
        "unsigned",
        plain("Action=GetCallerIdentity&Version=2011-06-15"),
        403,
        "MissingAuthenticationToken",
    )
    .await;
    check("empty", plain(""), 403, "MissingAuthenticationToken").await;
    check("wrong secret", post(|c| c.secret = "x"), 403, "SignatureDoesNotMatch").await;
    check("wrong secret", presigned(|c| c.secret = "x"), 403, "SignatureDoesNotMatch").await;
    check("unknown key", post(|c| c.key = "AKIANOBODY0000000001"), 403, "InvalidClientTokenId")
        .await;
    check("inactive key", post(|c| c.key = INACTIVE_KEY), 403, "InvalidClientTokenId").await;
    check("session token", post(|c| c.session_token = Some("t")), 403, "InvalidClientTokenId")
        .await;
    check("region", post(|c| c.region = "eu-west-1"), 403, "SignatureDoesNotMatch").await;
    check("service", post(|c| c.service = "iam"), 403, "SignatureDoesNotMatch").await;
    check("old", post(|c| c.now -= 901), 400, "RequestExpired").await;
    check("old", presigned(|c| c.now -= 61), 400, "RequestExpired").await;
    check("future", post(|c| c.now += 910), 403, "SignatureDoesNotMatch").await;
    check(
        "other action",
        post(|c| c.body = "Action=AssumeRole&Version=2011-06-15"),
        400,
        "InvalidAction",
    )
    .await;
    check(
        "other version",
        post(|c| c.body = "Action=GetCallerIdentity&Version=2010-05-08"),
        400,
        "InvalidAction",
    )
    .await;
    check("no action", post(|c| c.body = "Version=2011-06-15"), 400, "MissingAction").await;
    check(
        "unknown parameter",
        post(|c| c.body = "Action=GetCallerIdentity&Version=2011-06-15&X=1"),
        400,
        "InvalidQueryParameter",
    )
    .await;
    check(
        "twice",
        post(|c| c.body = "Action=GetCallerIdentity&Action=AssumeRole&Version=2011-06-15"),
        404,
        "MalformedQueryString",
    )
    .await;
    // ATTACKS 23
    check(
        "unsigned header",
        post(|c| c.extra = Some(("x-countersign-audience", "x"))),
        400,
        "IncompleteSignature",
    )
    .await;
    check(
        "unsigned header",
        post(|c| c.extra = Some(("x-amz-target", "x"))),
        400,
        "IncompleteSignature",
    )
    .await;
    let long: &'static str = Box::leak("x".repeat(65 * 1024).into_boxed_str());
    check("too long", plain(long), 413, "RequestEntityTooLarge").await;
    let (status, _, _) = system.gateway.http_get("/nowhere").await;
    assert_eq!(status, 404);
}
