//! An STS of an external account: it checks signatures as STS does, and answers well or badly.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::State,
    http::{Request, StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};
use countersign_sigv4::{ClockWindow, ParsedSignature, ReceivedRequest, SecretKey, derive};
use tokio::net::TcpListener;

use crate::system::now;

pub const ACCOUNT: &str = "123456789012";
pub const ACCESS_KEY: &str = "ASIAEXTERNAL00000001";
pub const SECRET: &str = "external-secret-access-key-0123456789";
pub const SESSION_TOKEN: &str = "external-session-token-0123456789";
pub const ARN: &str = "arn:aws:sts::123456789012:assumed-role/App/i-0abc";
pub const USER_ID: &str = "AROAEXTERNAL123456789:i-0abc";

/// What it answers to a good signature.
#[derive(Clone)]
pub enum Answer {
    Identity { arn: String, user_id: String, account: String },
    Raw { status: u16, content_type: &'static str, body: String },
    Redirect(String),
    Silence,
}

pub struct Sts {
    answer: Mutex<Answer>,
    pub asked: AtomicUsize,
    pub origin: String,
}

pub fn identity(arn: &str, user_id: &str) -> Answer {
    let account = arn.split(':').nth(4).unwrap().to_owned();
    Answer::Identity { arn: arn.into(), user_id: user_id.into(), account }
}

pub fn raw(status: u16, content_type: &'static str, body: impl Into<String>) -> Answer {
    Answer::Raw { status, content_type, body: body.into() }
}

pub fn xml(arn: &str, user_id: &str, account: &str) -> String {
    format!(
        "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\n  <GetCallerIdentityResult>\n    \
         <Arn>{arn}</Arn>\n    <UserId>{user_id}</UserId>\n    <Account>{account}</Account>\n  </GetCallerIdentityResult>\n  \
         <ResponseMetadata>\n    <RequestId>00000000-0000-0000-0000-000000000000</RequestId>\n  </ResponseMetadata>\n\
         </GetCallerIdentityResponse>\n"
    )
}

pub fn error(status: u16, code: &str) -> Answer {
    raw(status, "text/xml", error_body(code))
}

fn error_body(code: &str) -> String {
    format!(
        "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error><Type>Sender</Type><Code>{code}</Code>\
         <Message>no</Message></Error><RequestId>r</RequestId></ErrorResponse>"
    )
}

impl Sts {
    pub async fn start() -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let sts = Arc::new(Self {
            answer: Mutex::new(identity(ARN, USER_ID)),
            asked: AtomicUsize::new(0),
            origin,
        });
        let router = Router::new().route("/", get(answer).post(answer)).with_state(sts.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        sts
    }

    pub fn answers(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }

    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

async fn answer(State(sts): State<Arc<Sts>>, request: Request<Body>) -> Response {
    sts.asked.fetch_add(1, Ordering::SeqCst);
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, 1 << 20).await.unwrap();
    let headers: Vec<_> =
        parts.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
    let received = ReceivedRequest {
        method: parts.method.as_str(),
        path: parts.uri.path(),
        query: parts.uri.query().unwrap_or_default(),
        headers: &headers,
        body: &body,
    };
    if let Err(code) = check(&received) {
        return (StatusCode::FORBIDDEN, [(CONTENT_TYPE, "text/xml")], error_body(code))
            .into_response();
    }
    let json = parts.headers.get("accept").is_some_and(|accept| accept == "application/json");
    let answer = sts.answer.lock().unwrap().clone();
    match answer {
        Answer::Identity { arn, user_id, account } if json => {
            let body = format!(
                r#"{{"GetCallerIdentityResponse":{{"GetCallerIdentityResult":{{"Account":"{account}","Arn":"{arn}","UserId":"{user_id}"}},"ResponseMetadata":{{"RequestId":"r"}}}}}}"#
            );
            ([(CONTENT_TYPE, "application/json")], body).into_response()
        }
        Answer::Identity { arn, user_id, account } => {
            ([(CONTENT_TYPE, "text/xml")], xml(&arn, &user_id, &account)).into_response()
        }
        Answer::Raw { status, content_type, body } => {
            (StatusCode::from_u16(status).unwrap(), [(CONTENT_TYPE, content_type)], body)
                .into_response()
        }
        Answer::Redirect(to) => {
            (StatusCode::TEMPORARY_REDIRECT, [("location", to)]).into_response()
        }
        Answer::Silence => std::future::pending().await,
    }
}

fn check(received: &ReceivedRequest<'_>) -> Result<(), &'static str> {
    let signature = ParsedSignature::from_request(received).map_err(|error| error.aws_code())?;
    let credential = signature.credential();
    if credential.access_key_id != ACCESS_KEY || signature.session_token() != Some(SESSION_TOKEN) {
        return Err("InvalidClientTokenId");
    }
    let key =
        derive(&SecretKey::new(SECRET), &credential.day, &credential.region, &credential.service);
    signature.verify(&key, now(), ClockWindow::AWS).map(|_| ()).map_err(|error| error.aws_code())
}
